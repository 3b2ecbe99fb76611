"""Targets of every dtype, shape and range give the right value, or an error with a fix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lossreg_wrappers.forms import INDICES, choose
from torch import Tensor, nn

import lossreg
from lossreg.errors import BatchError, RangeError, ShapeError

DTYPES = [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64]


NOT_CONSTANT = {"piq/InformationWeightedSSIMLoss"}
"""Losses that fail in their library for a target of one value."""


def _place(spec: Any, keys: tuple[str, ...]) -> int | None:
    place = spec.wrap.get("place", None if "inputs" in spec.wrap else 1)
    return None if place is None or len(keys) < 2 else place % len(keys)


def _for_the_library(form: str, gt: Tensor, pred: Tensor) -> Tensor:
    """Return a target as the library's own documentation asks for it."""
    if form in INDICES:
        gt = gt.long()
        return gt[:, None] if form == "channel indices" and gt.dim() < pred.dim() else gt
    return gt.float().squeeze(1) if form == "mask without channel" else gt.float()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_target_of_any_dtype_gives_the_librarys_value_or_is_refused_by_name(entry, example, dtype):
    spec = entry.spec
    pred, gt = example(entry)
    tensors = {**{f"pred.{k}": v for k, v in pred.items()}, **{f"gt.{k}": v for k, v in gt.items()}}
    keys = tuple(spec.wrap.get("inputs", tensors))
    place = _place(spec, keys)
    if place is None:
        pytest.skip("it has no target")
    torch.manual_seed(0)
    made = lossreg.create_loss(entry.name, **spec.example_args)
    arguments = [tensors[key] for key in keys]
    given = arguments[place].to(dtype)
    if entry.name in NOT_CONSTANT and not dtype.is_floating_point:
        pytest.skip("its target is constant in this dtype")
    form = choose(spec.wrap.get("target", "values"), made.loss_func)
    arguments[place] = _for_the_library(form, given, arguments[0])
    batch = {**gt, keys[place].partition(".")[2]: given}
    if dtype == torch.uint8 and bool((tensors[keys[place]] < 0).any()) and form in ("signs", "label lists"):
        with pytest.raises(BatchError, match=rf"'{keys[place]}' holds values .*, expected") as raised:
            made(pred, batch)  # -1 became 255
        assert raised.value.__notes__[0].startswith(f"in term {made.name!r} ({entry.name})")
        return
    value, _ = made(pred, batch)
    result = made.loss_func(*arguments)
    expected = result[0] if isinstance(result, tuple) else result
    torch.testing.assert_close(value, expected.mean(), equal_nan=True)
    assert value.dtype == torch.float32


# --- shapes -----------------------------------------------------------------------------------------

ELEMENTWISE = [
    *("torch/BCELoss", "torch/BCEWithLogitsLoss", "torch/HingeEmbeddingLoss", "torch/HuberLoss", "torch/KLDivLoss"),
    *("torch/L1Loss", "torch/MSELoss", "torch/MultiLabelSoftMarginLoss", "torch/PoissonNLLLoss", "torch/SmoothL1Loss"),
    *("torch/SoftMarginLoss", "kornia/CharbonnierLoss", "kornia/BinaryFocalLossWithLogits", "monai/BoxGIoULoss"),
    *("monai/JukeboxLoss", "kornia/js_div_loss_2d", "kornia/kl_div_loss_2d"),
]
ARGUMENTS = {"kornia/BinaryFocalLossWithLogits": {"alpha": 0.25}, "monai/JukeboxLoss": {"spatial_dims": 2}}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize(("shape", "other"), [((2, 1), (2,)), ((2,), (2, 1)), ((2, 3), (2, 1)), ((2, 3), (3,))])
def test_what_would_broadcast_in_a_comparison_of_elements_is_refused(name, shape, other):
    # zeros and ones are in every loss's range, as prediction and as target
    pred = torch.zeros(shape)
    loss = lossreg.create_loss(name, **ARGUMENTS.get(name, {}))
    with pytest.raises(ShapeError, match=r"'gt' has shape .*, the shape of 'pred'.*`target\.unsqueeze\(1\)`"):
        loss(pred, torch.ones(other))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("MarginRankingLoss", {"pred.input1": (4, 1), "pred.input2": (4, 3), "gt.target": (4, 3)}),
        ("MarginRankingLoss", {"pred.input1": (4, 3), "pred.input2": (4, 3), "gt.target": (4, 1)}),
        ("CosineEmbeddingLoss", {"pred.input1": (4, 3), "pred.input2": (1, 3), "gt.target": (4,)}),
        ("TripletMarginLoss", {"pred.anchor": (4, 3), "pred.positive": (4, 3), "pred.negative": (1, 3)}),
        ("GaussianNLLLoss", {"pred.input": (2, 1), "gt.target": (2,), "pred.var": (2, 1)}),
    ],
)
def test_losses_of_several_arguments_refuse_a_broadcast_too(name, shapes):
    batch: dict[str, dict[str, Tensor]] = {"pred": {}, "gt": {}}
    for key, shape in shapes.items():
        side, _, rest = key.partition(".")
        batch[side][rest] = torch.ones(shape)
    with pytest.raises(ShapeError, match=r"has shape .*, expected .*, the shape of 'pred\."):
        lossreg.create_loss(f"torch/{name}")(batch["pred"], batch["gt"])


@pytest.mark.parametrize("var", [(2, 3), (2, 1), (2,)])
@pytest.mark.parametrize("target", [(2, 3), (2, 1)])
def test_a_broadcast_that_torch_documents_still_works(var, target):
    pred = {"input": torch.arange(6.0).reshape(2, 3), "var": torch.full(var, 2.0)}
    gt = torch.ones(target)
    value, _ = lossreg.create_loss("torch/GaussianNLLLoss")(pred, {"target": gt})
    expected = 0.5 * (torch.log(torch.tensor(2.0)) + (pred["input"] - 1) ** 2 / 2).mean()
    torch.testing.assert_close(value, expected)


def test_weights_of_a_loss_may_still_broadcast():
    logits, mask = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    value, _ = lossreg.create_loss("torch/BCEWithLogitsLoss", pos_weight=[[1.0], [2.0], [3.0]])(logits, mask)
    torch.testing.assert_close(value, 2 * torch.log(torch.tensor(2.0)))


def test_a_term_may_allow_a_broadcast(term):
    built = term({"loss": "torch/SoftMarginLoss", "wrap": {"target_shape": "any"}})
    torch.testing.assert_close(built(torch.zeros(2, 3), torch.ones(3))[0], torch.tensor(2.0).log())


@pytest.mark.parametrize("loss", ["torch/CrossEntropyLoss", "kornia/DiceLoss", "monai/DiceCELoss"])
def test_one_channel_has_no_softmax(loss):
    arguments = {"softmax": True, "to_onehot_y": True} if "monai" in loss else {}
    with pytest.raises(ShapeError, match=r"'pred' has shape \(2, 1, 4, 4\), expected two classes or more"):
        lossreg.create_loss(loss, **arguments)(torch.randn(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))


# --- class indices and one-hot targets --------------------------------------------------------------

LOGITS = torch.linspace(0, 5, 96).sin().reshape(2, 3, 4, 4)
CLASSES = torch.arange(32).reshape(2, 4, 4) % 3
ONE_HOT = nn.functional.one_hot(CLASSES, 3).movedim(-1, 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_hot_targets_of_cross_entropy_may_have_any_dtype(dtype):
    value, _ = lossreg.create_loss("torch/CrossEntropyLoss")(LOGITS, ONE_HOT.to(dtype))
    torch.testing.assert_close(value, nn.functional.cross_entropy(LOGITS, CLASSES))


def test_a_one_hot_target_of_one_sample_without_a_batch_axis():
    value, _ = lossreg.create_loss("torch/CrossEntropyLoss")(torch.tensor([1.0, 2.0]), torch.tensor([0, 1]))
    torch.testing.assert_close(value, torch.log1p(torch.tensor(-1.0).exp()))


ONLY_INDICES = [
    "torch/NLLLoss",
    "kornia/DiceLoss",
    "kornia/FocalLoss",
    "kornia/TverskyLoss",
    "kornia/LovaszSoftmaxLoss",
]


@pytest.mark.parametrize("name", ONLY_INDICES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_a_one_hot_target_of_a_loss_of_indices_is_refused_with_the_fix(name, dtype):
    arguments = {"alpha": 0.5} if "Focal" in name else {"alpha": 0.5, "beta": 0.5} if "Tversky" in name else {}
    with pytest.raises(
        ShapeError, match=r"'gt' has shape \(2, 3, 4, 4\), one channel per class; .*target\.argmax\(1\)"
    ):
        lossreg.create_loss(name, **arguments)(LOGITS.log_softmax(1), ONE_HOT.to(dtype))


OF_CLASSES = [
    ("torch/CrossEntropyLoss", {}),
    ("torch/NLLLoss", {}),
    ("kornia/DiceLoss", {}),
    ("kornia/FocalLoss", {"alpha": 0.5}),
    ("monai/DiceLoss", {"softmax": True, "to_onehot_y": True}),
    ("monai/DiceCELoss", {"softmax": True, "to_onehot_y": True}),
    ("monai/NACLLoss", {"classes": 3, "dim": 2}),
]


@pytest.mark.parametrize(("name", "arguments"), OF_CLASSES)
@pytest.mark.parametrize("wrong", [3, 9, 255, -1])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_class_indices_out_of_range_are_refused_with_term_and_key(name, arguments, wrong, dtype):
    classes = CLASSES.clone()
    classes[0, 0, 0] = wrong
    loss = lossreg.create_loss(name, **arguments)
    with pytest.raises(
        RangeError, match=r"'gt\.mask' holds values from .*, expected 0 to 2; the prediction has 3 classes"
    ):
        loss({"seg": LOGITS.log_softmax(1)}, {"mask": classes.to(dtype)})


def test_the_ignored_class_may_lie_anywhere():
    classes = CLASSES.clone()
    classes[0] = 255
    value, _ = lossreg.create_loss("torch/CrossEntropyLoss", ignore_index=255)(LOGITS, classes.to(torch.uint8))
    torch.testing.assert_close(value, nn.functional.cross_entropy(LOGITS[1:], CLASSES[1:]))


def test_indices_that_were_scaled_are_refused():
    with pytest.raises(RangeError, match=r"'gt': expected class indices, .*, found fractions"):
        lossreg.create_loss("torch/CrossEntropyLoss")(LOGITS, CLASSES / 255)


# --- masks ------------------------------------------------------------------------------------------

OF_MASKS = [
    ("torch/BCELoss", {}),
    ("torch/BCEWithLogitsLoss", {}),
    ("torch/MultiLabelSoftMarginLoss", {}),
    ("kornia/BinaryFocalLossWithLogits", {"alpha": 0.25}),
    ("monai/DiceLoss", {"sigmoid": True}),
    ("monai/TverskyLoss", {"sigmoid": True}),
    ("monai/FocalLoss", {}),
    ("monai/DiceFocalLoss", {"sigmoid": True}),
    ("monai/GeneralizedDiceLoss", {"sigmoid": True}),
    ("monai/HausdorffDTLoss", {"sigmoid": True}),
]


@pytest.mark.parametrize(("name", "arguments"), OF_MASKS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float16])
def test_a_mask_of_0_and_255_is_refused_with_the_fix(name, arguments, dtype):
    loss = lossreg.create_loss(name, **arguments)
    with pytest.raises(
        RangeError, match="'gt' holds values from 0 to 255, expected 0 to 1; divide a mask of 0 and 255"
    ):
        loss(LOGITS.sigmoid(), (ONE_HOT * 255).to(dtype))


def test_a_metatensor_is_looked_at_too():
    data = pytest.importorskip("monai.data")
    with pytest.raises(RangeError, match="divide a mask of 0 and 255 by 255"):
        lossreg.create_loss("monai/DiceLoss", sigmoid=True)(LOGITS, data.MetaTensor(ONE_HOT * 255.0))


@pytest.mark.parametrize("name", ["SoftMarginLoss", "HingeEmbeddingLoss"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_a_mask_where_signs_are_taken_is_refused_with_the_fix(name, dtype):
    with pytest.raises(RangeError, match=r"expected only 1 and -1; convert a mask of 0 and 1 with 2 \* mask - 1"):
        lossreg.create_loss(f"torch/{name}")(LOGITS, ONE_HOT.to(dtype))


@pytest.mark.parametrize(
    ("name", "arguments", "gt"),
    [
        ("torch/PoissonNLLLoss", {}, torch.full((2, 3), -1.0)),
        ("torch/KLDivLoss", {}, torch.full((2, 3), 2.0)),
        ("torch/KLDivLoss", {"log_target": True}, torch.full((2, 3), 0.5)),
        ("torch/MultiLabelMarginLoss", {}, torch.full((2, 3), 5)),
        ("torch/MultiMarginLoss", {}, torch.tensor([0, 3])),
    ],
)
def test_a_target_outside_of_what_a_loss_is_defined_on_is_refused(name, arguments, gt):
    with pytest.raises(RangeError, match=r"'gt' holds values from .*, expected"):
        lossreg.create_loss(name, **arguments)(torch.full((2, 3), -1.0), gt)


def test_the_lookup_of_classes_knows_a_loss_with_a_layer_of_its_own():
    loss = lossreg.create_loss("torch/AdaptiveLogSoftmaxWithLoss", in_features=6, n_classes=10, cutoffs=[4])
    loss(torch.randn(2, 6), torch.tensor([0, 9]))
    with pytest.raises(RangeError, match="expected 0 to 9; the prediction has 10 classes"):
        loss(torch.randn(2, 6), torch.tensor([0, 10]))
