"""Plugin `monai`: every public loss of `monai.losses`, with its values."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

import lossreg
from lossreg.errors import RangeError, ShapeError
from lossreg.registry import catalog

PLUGIN = "monai"

AROUND_A_LOSS = {"DeepSupervisionLoss", "MaskedLoss", "MultiScaleLoss"}
SEGMENTATION = [
    "BoundaryLoss",
    "DiceLoss",
    "GeneralizedDiceLoss",
    "HausdorffDTLoss",
    "LogHausdorffDTLoss",
    "MCCLoss",
    "SoftDiceclDiceLoss",
    "SoftclDiceLoss",
    "TverskyLoss",
]


def _library():
    import monai.losses

    return monai.losses


def _offered(*names):
    return [name for name in names if f"monai/{name}" in lossreg.list_losses("monai/*")]


@pytest.fixture
def expected(direct):
    """Return the function that computes the library's value of an entry's example."""

    def compute(entry, pred, gt):
        library, name, arguments = _library(), entry.spec.name, dict(entry.spec.example_args)
        if name in AROUND_A_LOSS:
            inner = (
                nn.MSELoss()
                if arguments.pop("loss") == "torch/MSELoss"
                else library.DiceLoss(**arguments.pop("loss_args", {}))
            )
            return direct(getattr(library, name), entry, pred, gt, loss=inner, **arguments)
        if name == "PatchAdversarialLoss":
            return library.PatchAdversarialLoss()(pred["input"], target_is_real=True, for_discriminator=False)
        if name == "SURELoss":
            torch.manual_seed(0)
            return library.SURELoss()(arguments["operator"], pred["x"], gt["y_pseudo_gt"])
        if arguments.get("to_onehot_y") or name == "GeneralizedWassersteinDiceLoss":
            gt = {"gt_polygons_image": gt["gt_polygons_image"][:, None]}
        return direct(getattr(library, name), entry, pred, gt, **arguments)

    return compute


def test_every_public_loss_is_offered():
    library = _library()
    public = {name for name in dir(library) if inspect.isclass(getattr(library, name))}
    offered = [entry.spec for entry in catalog().losses if entry.plugin.name == "monai"]
    # what an older release has, but in a form that these adapters do not know
    unfit = {entry.spec.name for entry, _ in catalog().losses.absent if entry.plugin.name == "monai"}
    assert {name for spec in offered for name in (spec.name, *spec.aliases)} == public - unfit


def test_an_alias_is_the_same_class():
    for entry in catalog().losses:
        if entry.plugin.name == "monai":
            for alias in entry.spec.aliases:
                assert getattr(_library(), alias) is getattr(_library(), entry.spec.name)
                assert catalog().losses.find_target(f"monai.losses.{alias}") is entry


def test_value_is_the_librarys(entry, example, expected):
    pred, gt = example(entry)
    torch.manual_seed(0)
    made = lossreg.create_loss(entry.name, **entry.spec.example_args)
    torch.manual_seed(0) if entry.spec.name == "SURELoss" else None
    assert torch.equal(made(pred, gt)[0], expected(entry, pred, gt))


def test_value_in_a_multi_loss_is_the_librarys(entry, example, expected, term):
    if entry.spec.name == "SURELoss":
        pytest.skip("takes a Python function, which a config cannot give")
    pred, gt = example(entry)
    torch.manual_seed(0)
    criterion = term({"_target_": f"monai.losses.{entry.spec.name}", "args": dict(entry.spec.example_args)})
    torch.testing.assert_close(criterion(pred, gt)[0], expected(entry, pred, gt))


def test_a_function_is_given_from_python_alone(term):
    if not _offered("SURELoss"):
        pytest.skip("this release's is not offered")
    with pytest.raises(
        lossreg.ConfigError, match="operator: expected an object that only Python code can give, found 'net'"
    ):
        term({"loss": "monai/SURELoss", "operator": "net"})


@pytest.mark.parametrize("name", SEGMENTATION)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax", None])
@pytest.mark.parametrize("onehot", [True, False])
@pytest.mark.parametrize("given", [None, "logits", "probabilities"])
def test_every_activation_takes_either_form(name, activation, onehot, given, term):
    if not _offered(name):
        pytest.skip("this release does not have it")
    if activation is None and given == "logits":
        return  # an error, see below
    logits, classes = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 1, 8, 8))
    one_hot = nn.functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float()
    probabilities = logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)
    arguments = {"to_onehot_y": onehot} | ({activation: True} if activation else {})
    target = classes if onehot else one_hot
    own = probabilities if activation is None else logits
    expected = getattr(_library(), name)(**arguments)(own, target)
    built = term({"loss": f"monai/{name}", "input": given, **arguments})
    pred = {"logits": logits, "probabilities": probabilities, None: own}[given]
    torch.testing.assert_close(built(pred, target)[0], expected)


COMPOUND = ["DiceCELoss", "DiceFocalLoss", "GeneralizedDiceFocalLoss"]


@pytest.mark.parametrize("name", COMPOUND)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("given", [None, "logits", "probabilities"])
def test_compound_losses_take_either_form(name, activation, given, term):
    logits, classes = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 1, 8, 8))
    arguments = {"to_onehot_y": True, activation: True}
    expected = getattr(_library(), name)(**arguments)(logits, classes)
    config = {"loss": f"monai/{name}", "input": given, **arguments}
    if given == "probabilities" and activation == "softmax" and "Focal" in name:
        with pytest.raises(lossreg.ConfigError, match="it needs exact logits"):
            term(config)
        return
    probabilities = logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)
    value, _, _ = term(config)(probabilities if given == "probabilities" else logits, classes)
    torch.testing.assert_close(value, expected)


def test_logits_without_an_activation_are_an_error_at_build_that_says_what_to_set(term):
    with pytest.raises(lossreg.ConfigError, match="set `sigmoid: true` or `softmax: true`"):
        term({"loss": "monai/DiceLoss", "input": "logits"})


def test_logits_without_an_activation_are_seen_at_the_first_batch():
    with pytest.raises(RangeError, match="expected 0 to 1; set `sigmoid: true` or `softmax: true`"):
        lossreg.create_loss("monai/DiceLoss")(torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8))


def test_class_indices_without_to_onehot_y_are_seen_at_the_first_batch():
    with pytest.raises(ShapeError, match="`to_onehot_y: true` if the target contains class indices"):
        lossreg.create_loss("monai/DiceLoss", softmax=True)(torch.randn(2, 3, 8, 8), torch.zeros(2, 8, 8))


def test_class_weights_become_a_buffer(term):
    built = term({"loss": "monai/DiceCELoss", "softmax": True, "args": {"weight": [1.0, 2.0, 3.0]}})
    assert any(buffer.tolist() == [1.0, 2.0, 3.0] for buffer in built.buffers())


def test_deep_supervision_reads_its_levels_from_the_batch(term):
    fine, coarse = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    one_hot = nn.functional.one_hot(torch.randint(3, (2, 8, 8)), 3).movedim(-1, 1).float()
    expected = _library().DeepSupervisionLoss(_library().DiceLoss(softmax=True))([fine, coarse], one_hot)
    built = term(
        {
            "loss": "monai/DeepSupervisionLoss",
            "args": {"loss": "monai/DiceLoss", "loss_args": {"softmax": True}},
            "wrap": {"inputs": ["pred.fine", "pred.coarse", "gt.mask"]},
        }
    )
    torch.testing.assert_close(built({"fine": fine, "coarse": coarse}, {"mask": one_hot})[0], expected)


def test_a_multi_scale_discriminator_gives_several_outputs(term):
    outputs = [torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)]
    expected = _library().PatchAdversarialLoss(criterion="hinge")(outputs, True, True)
    built = term(
        {
            "loss": "monai/PatchAdversarialLoss",
            "criterion": "hinge",
            "for_discriminator": True,
            "wrap": {"inputs": ["pred.d0", "pred.d1"]},
        }
    )
    torch.testing.assert_close(built({"d0": outputs[0], "d1": outputs[1]}, {})[0], expected)


def test_a_loss_inside_must_be_called_with_a_prediction_and_a_target(term):
    with pytest.raises(lossreg.ConfigError, match=r"no loss is named 'torch/NoLoss'"):
        term({"loss": "monai/MaskedLoss", "args": {"loss": "torch/NoLoss"}})


def test_the_operators_weights_stay_the_models():
    if not _offered("SURELoss"):
        pytest.skip("this release's is not offered")
    network = nn.Conv2d(1, 1, 3, padding=1)
    made = lossreg.create_loss("monai/SURELoss", operator=network)
    assert list(made.parameters()) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pretrained_path", "weights.pth", "is not a parameter"),
        ("cache_dir", "cache", "is not a parameter"),
        ("is_fake_3d", False, "is not a parameter"),
        ("network_type", "medicalnet_resnet10_23datasets", "expected"),
        ("network_type", "radimagenet_resnet50", "expected"),
    ],
)
@pytest.mark.parametrize("around", [None, "MaskedLoss", "DeepSupervisionLoss", "MultiScaleLoss"])
def test_a_config_gives_a_perceptual_loss_neither_paths_nor_networks_that_are_code(key, value, message, around):
    loss = {"loss": "monai/PerceptualLoss", "spatial_dims": 3, "pretrained": False, key: value}
    if around is not None:
        loss = {"loss": f"monai/{around}", "loss_args": loss, "args": {"loss": loss.pop("loss")}}
    with pytest.raises(lossreg.ConfigError, match=message):
        lossreg.build_compound_loss_from_config({"losses": [loss]})


@pytest.mark.parametrize("name", COMPOUND)
def test_compound_losses_without_an_activation_are_refused_at_build_with_the_fix(name, term):
    with pytest.raises(
        lossreg.ConfigError, match=r"one part of it takes logits .* set `sigmoid: true` or `softmax: true`"
    ):
        term({"loss": f"monai/{name}", "to_onehot_y": True})
    with pytest.raises(ValueError, match="set `sigmoid: true` or `softmax: true`"):
        lossreg.create_loss(f"monai/{name}")


@pytest.mark.parametrize("name", COMPOUND)
def test_a_compound_loss_whose_other_part_is_off_takes_what_the_overlap_takes(name):
    off = {"lambda_ce" if name == "DiceCELoss" else "lambda_focal": 0.0}
    logits, one_hot = (
        torch.randn(2, 3, 8, 8),
        nn.functional.one_hot(torch.randint(3, (2, 8, 8)), 3).movedim(-1, 1).float(),
    )
    made = lossreg.create_loss(f"monai/{name}", **off)
    expected = getattr(_library(), name)(**off)(logits.softmax(1), one_hot)
    torch.testing.assert_close(made(logits.softmax(1), one_hot)[0], expected)
    with pytest.raises(RangeError, match="set `sigmoid: true` or `softmax: true`"):
        made(logits, one_hot)


@pytest.mark.parametrize("around", ["DeepSupervisionLoss", "MaskedLoss"])
def test_a_loss_around_a_loss_refuses_what_that_one_would(around):
    made = lossreg.create_loss(f"monai/{around}", loss="monai/DiceLoss")
    logits, one_hot = torch.randn(2, 3, 8, 8), nn.functional.one_hot(torch.randint(3, (2, 8, 8)), 3).movedim(-1, 1)
    pred = {"input": logits} if around == "MaskedLoss" else logits
    gt = {"target": one_hot, "mask": torch.ones(2, 1, 8, 8)} if around == "MaskedLoss" else one_hot
    with pytest.raises(RangeError, match="expected 0 to 1; set `sigmoid: true` or `softmax: true`"):
        made(pred, gt)
    pred = {"input": logits.softmax(1)} if around == "MaskedLoss" else logits.softmax(1)
    gt = {**gt, "target": one_hot * 255} if around == "MaskedLoss" else one_hot * 255
    with pytest.raises(RangeError, match="divide a mask of 0 and 255 by 255"):
        made(pred, gt)


def test_a_loss_around_a_loss_of_classes_takes_a_boolean_target():
    logits, classes = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 8, 8))
    one_hot = nn.functional.one_hot(classes, 3).movedim(-1, 1).bool()
    made = lossreg.create_loss("monai/DeepSupervisionLoss", loss="torch/CrossEntropyLoss")
    torch.testing.assert_close(made(logits, one_hot)[0], nn.functional.cross_entropy(logits, classes))
