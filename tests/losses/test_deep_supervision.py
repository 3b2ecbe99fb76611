"""Deep supervision: one term over outputs of several sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossreg import Loss, LossWrapper
from lossreg.errors import ArgumentError, DtypeError, MissingKeyError, RangeError, ShapeError
from lossreg.losses.deep_supervision import DeepSupervision

SIZES = (8, 4, 2)
OUTPUTS = [torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size)) for size in SIZES]
TARGET = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def l1(**keys: Any) -> LossWrapper:
    return LossWrapper(nn.L1Loss(), "l1", **keys)


def by_hand(weights: list[float], mode: str = "nearest") -> float:
    targets = [F.interpolate(TARGET, size=(size, size), mode=mode) for size in SIZES]
    return sum(w * F.l1_loss(o, t).item() for w, o, t in zip(weights, OUTPUTS, targets, strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, by_hand([1.0, 0.5, 0.25])),
        ({"weights": "same"}, by_hand([1.0, 1.0, 1.0])),
        ({"weights": [3.0, 0.0, 1.0]}, by_hand([3.0, 0.0, 1.0])),
        ({"resize": "bilinear"}, by_hand([1.0, 0.5, 0.25], "bilinear")),
    ],
)
def test_value(options: dict[str, Any], expected: float) -> None:
    loss = DeepSupervision(l1(pred_key="seg", gt_key="mask"), "seg", **options)
    assert loss({"seg": OUTPUTS}, {"mask": TARGET})[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", ["aux.*", ["aux.0", "aux.1", "aux.2"]])
def test_outputs_at_keys(outputs: Any) -> None:
    pred = {**{f"aux.{i}": output for i, output in enumerate(OUTPUTS)}, "other": torch.zeros(1)}
    loss = DeepSupervision(l1(gt_key="mask"), outputs)
    assert loss(pred, {"mask": TARGET})[0].item() == pytest.approx(by_hand([1.0, 0.5, 0.25]), rel=1e-5)
    assert loss(OUTPUTS, TARGET)[0].item() == pytest.approx(by_hand([1.0, 0.5, 0.25]), rel=1e-5)


def test_class_indices_are_resized_by_nearest() -> None:
    indices = torch.arange(64).reshape(1, 8, 8) % 3
    outputs = [torch.zeros(1, 3, size, size, requires_grad=True) for size in (8, 4)]
    loss = DeepSupervision(LossWrapper(nn.CrossEntropyLoss(), "ce", gt_key="mask"), "seg")
    value = loss({"seg": outputs}, {"mask": indices})[0]
    value.backward()
    assert value.item() == pytest.approx(1.5 * torch.tensor(3.0).log().item())
    assert all(output.grad.abs().sum() > 0 for output in outputs)
    with pytest.raises(DtypeError, match=r"found a target of torch.int64; set `resize: nearest`"):
        DeepSupervision(LossWrapper(nn.CrossEntropyLoss(), "ce", gt_key="mask"), "seg", resize="bilinear")(
            {"seg": outputs}, {"mask": indices}
        )


def test_the_term_has_one_norm_over_the_sum() -> None:
    loss = DeepSupervision(l1(gt_key="mask"), "seg")
    loss.update_norm({"seg": OUTPUTS}, {"mask": TARGET}, 2)
    assert loss({"seg": OUTPUTS}, {"mask": TARGET})[0].item() == pytest.approx(1.0)


def test_refusals() -> None:
    with pytest.raises(MissingKeyError, match=r"expected 'aux.\*' in pred_batch, found the keys \['seg'\]"):
        DeepSupervision(l1(), "aux.*")({"seg": OUTPUTS}, {"mask": TARGET})
    with pytest.raises(ShapeError, match="expected 2 outputs, one for each weight, found 3"):
        DeepSupervision(l1(gt_key="mask"), "seg", weights=[1.0, 2.0])({"seg": OUTPUTS}, {"mask": TARGET})
    with pytest.raises(ArgumentError, match=r"one key of the predictions, found pred.a, pred.b"):
        DeepSupervision(LossWrapper(nn.L1Loss(), "x", inputs=["pred.a", "pred.b"]), "seg")


# --- what a network may give ------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "first"), [("exp", 1.0), ("same", 1.0), ([3.0, 2.0, 1.0], 3.0)])
def test_one_tensor_as_in_eval_is_the_finest_output(weights: Any, first: float) -> None:
    loss = DeepSupervision(l1(pred_key="seg", gt_key="mask"), "seg", weights=weights)
    expected = first * (OUTPUTS[0] - TARGET).abs().mean().item()
    assert loss({"seg": OUTPUTS[0]}, {"mask": TARGET})[0].item() == pytest.approx(expected, rel=1e-5)
    assert loss(OUTPUTS[0], TARGET)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", [list, tuple, lambda outputs: {f"level{i}": o for i, o in enumerate(outputs)}])
@pytest.mark.parametrize("count", [1, 3])
def test_outputs_come_in_any_container(form: Any, count: int) -> None:
    loss = DeepSupervision(l1(pred_key="seg", gt_key="mask"), "seg")
    targets = [F.interpolate(TARGET, size=o.shape[2:], mode="nearest") for o in OUTPUTS[:count]]
    expected = sum(0.5**i * F.l1_loss(o, t).item() for i, (o, t) in enumerate(zip(OUTPUTS, targets, strict=False)))
    found = loss({"seg": form(OUTPUTS[:count])}, {"mask": TARGET})[0]
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("pred", "error", "message"),
    [
        ({"seg": []}, MissingKeyError, "expected 'seg' in pred_batch, found no tensor there"),
        ({"seg": {}}, MissingKeyError, "expected 'seg' in pred_batch, found no tensor there"),
        ({}, MissingKeyError, r"found the keys \[\]"),
        ({"seg": 5}, DtypeError, "expected a list of tensors or one tensor, found a int"),
        ({"seg": [OUTPUTS[0], "b"]}, DtypeError, "found a list of Tensor, str"),
        (None, MissingKeyError, "in pred_batch, found none"),
    ],
)
def test_what_is_no_output_is_named(pred: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DeepSupervision(l1(pred_key="seg", gt_key="mask"), "seg")(pred, {"mask": TARGET})


@pytest.mark.parametrize(("outputs", "keys"), [("seg", "seg"), (["seg", "aux"], "aux"), ("a*", "aux")])
def test_an_output_that_is_none_is_missing(outputs: Any, keys: str) -> None:
    pred = {"seg": OUTPUTS[0], "aux": OUTPUTS[1], keys: None}
    with pytest.raises(MissingKeyError, match=rf"in pred_batch, found the keys .*'{keys} \(None\)'"):
        DeepSupervision(l1(gt_key="mask"), outputs)(pred, {"mask": TARGET})


@pytest.mark.parametrize("given", [1, 2, 4])
def test_weights_for_other_than_the_outputs_are_refused(given: int) -> None:
    loss = DeepSupervision(l1(gt_key="mask"), "seg", weights=[1.0] * given)
    with pytest.raises(ShapeError, match=f"'seg': expected {given} outputs, one for each weight, found 3"):
        loss({"seg": OUTPUTS}, {"mask": TARGET})


def test_outputs_without_space_are_compared_as_they_are() -> None:
    loss = DeepSupervision(l1(gt_key="mask"), "seg")
    value, _ = loss({"seg": [torch.ones(2, 3), torch.ones(2, 3) * 3]}, {"mask": torch.zeros(2, 3)})
    assert value.item() == 1.0 + 0.5 * 3.0


# --- blending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "mode"), [(1, "linear"), (2, "bilinear"), (3, "trilinear")])
@pytest.mark.parametrize("resize", ["nearest", "bilinear"])
def test_sequences_images_and_volumes_are_resized(axes: int, mode: str, resize: str) -> None:
    target = torch.rand(2, 3, *(4,) * axes, generator=torch.Generator().manual_seed(1))
    outputs = [torch.zeros(2, 3, *(size,) * axes) for size in (4, 2)]
    loss = DeepSupervision(l1(gt_key="mask"), "seg", weights="same", resize=resize)  # type: ignore[arg-type]
    # halving by linear interpolation is the mean of each pair along each axis; by nearest it is each pair's first
    halved = target
    for axis in range(2, 2 + axes):
        pairs = halved.unfold(axis, 2, 2)
        halved = pairs.mean(-1) if resize == "bilinear" else pairs[..., 0]
    expected = target.mean() + halved.mean()
    torch.testing.assert_close(loss({"seg": outputs}, {"mask": target})[0], expected)


class Ignoring(nn.Module):
    """The mean over what is not ignored."""

    def __init__(self, ignore_index: int | None) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (target - pred)[target != self.ignore_index].mean()


def test_an_ignored_value_is_not_blended_into_its_neighbours() -> None:
    # pairs along the last axis: (1, 255), (255, 255), (0, 1): valid means 1, none, 0.5
    target = torch.tensor([[[[1.0, 255.0, 255.0, 255.0, 0.0, 1.0]] * 2]])
    loss = DeepSupervision(LossWrapper(Ignoring(255), "x", gt_key="mask"), ["a"], resize="bilinear")
    value, _ = loss({"a": torch.zeros(1, 1, 1, 3)}, {"mask": target})
    assert value.item() == pytest.approx((1.0 + 0.5) / 2)


def interpolated(size: int, new: int) -> np.ndarray[Any, Any]:
    """Return (new, size) the weights of linear interpolation, pixel centres at halves."""
    weights = np.zeros((new, size))
    for i in range(new):
        place = max((i + 0.5) * size / new - 0.5, 0.0)
        low = int(place)
        weights[i, low] += 1 - (place - low)
        weights[i, min(low + 1, size - 1)] += place - low
    return weights


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64])
@pytest.mark.parametrize("channels", [None, 1, 2])
def test_a_pixel_counts_where_all_that_is_blended_into_it_does(dtype: torch.dtype, channels: int | None) -> None:
    make = torch.Generator().manual_seed(3)
    target = torch.rand(2, 2, 7, 8, generator=make)
    shape = (2, 7, 8) if channels is None else (2, channels, 7, 8)
    mask = torch.rand(shape, generator=make) < 0.8
    kept = (mask.unsqueeze(1) if channels is None else mask).expand_as(target)
    outputs = [torch.rand(2, 2, *size, generator=make).requires_grad_() for size in ((7, 8), (3, 5), (9, 4), (2, 2))]
    loss = DeepSupervision(l1(pred_key="seg", gt_key="y"), "seg", weights="same", resize="bilinear")
    loss.take_mask("gt.m")
    batch = {"y": torch.where(kept, target, torch.nan), "m": mask.to(dtype)}

    expected = 0.0
    for output in outputs:
        rows, columns = (interpolated(s, n) for s, n in zip((7, 8), output.shape[2:], strict=True))
        weights = np.einsum("ih,jw->ijhw", rows, columns)
        blended = np.einsum("ijhw,nchw->ncij", weights, target.double().numpy())
        lost = np.einsum("ijhw,nchw->ncij", weights > 0, ~kept.numpy()) > 0
        assert 0 < lost.mean() < 1
        expected += np.abs(output.detach().double().numpy() - blended)[~lost].mean()

    value, _ = loss({"seg": outputs}, batch)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert all(output.grad is not None and output.grad.isfinite().all() for output in outputs)
    assert torch.equal(batch["m"], mask.to(dtype))


@pytest.mark.parametrize("size", [8, 4])
@pytest.mark.parametrize(("value", "message"), [(255.0, "divide a mask of 0 and 255 by 255"), (0.5, "holds fractions")])
def test_a_mask_of_other_numbers_is_refused_before_it_is_resized(size: int, value: float, message: str) -> None:
    loss = DeepSupervision(l1(pred_key="seg", gt_key="y"), "seg", resize="bilinear")
    loss.take_mask("gt.m")
    with pytest.raises(RangeError, match=rf"loss 'l1': 'gt\.m' .*{message}"):
        loss(
            {"seg": [torch.zeros(1, 1, size, size)]}, {"y": torch.zeros(1, 1, 8, 8), "m": torch.full((1, 8, 8), value)}
        )


def test_class_indices_of_a_floating_dtype_are_not_blended() -> None:
    loss = DeepSupervision(
        LossWrapper(nn.CrossEntropyLoss(), "ce", gt_key="mask", target_dtype="long"), ["a"], resize="bilinear"
    )
    with pytest.raises(DtypeError, match=r"'gt\.mask': expected .*, found class indices; set `resize: nearest`"):
        loss({"a": torch.zeros(1, 3, 2, 2)}, {"mask": torch.ones(1, 4, 4)})
    soft = torch.rand(1, 3, 4, 4).softmax(1)
    expected = F.cross_entropy(torch.zeros(1, 3, 2, 2), F.avg_pool2d(soft, 2))
    torch.testing.assert_close(loss({"a": torch.zeros(1, 3, 2, 2)}, {"mask": soft})[0], expected)


@pytest.mark.parametrize(
    ("loss", "hint"), [(nn.L1Loss(), "wrap it: LossWrapper(loss)"), (LossWrapper, "give an object: LossWrapper(...)")]
)
def test_what_is_no_loss_is_refused_with_the_fix(loss: Any, hint: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        DeepSupervision(loss, "seg")
    (problem,) = caught.value.problems
    assert (problem.path, problem.expected, problem.hint) == ("loss", "a Loss", hint)


def test_the_extra_info_of_each_output_has_its_width_in_its_key() -> None:
    class Telling(Loss):
        """Tell the mean of the prediction."""

        requires = ("pred.seg", "gt.mask")

        def compute(self, pred_batch: Any, gt_batch: Any) -> torch.Tensor:
            value: torch.Tensor = pred_batch["seg"].mean()
            self.extra_info["mean"] = value
            return value

    outputs = [torch.full((2, 3, 8, width), float(width), requires_grad=True) for width in (6, 4)]
    _, extra = DeepSupervision(Telling("t"), "seg")({"seg": outputs}, {"mask": torch.zeros(2, 1, 8, 6)})
    assert {key: value.item() for key, value in extra.items()} == {"mean@6": 6.0, "mean@4": 4.0}
