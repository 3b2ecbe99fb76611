"""Plugin `smp`: every public loss of segmentation-models-pytorch, with its values."""

from __future__ import annotations

from inspect import signature

import pytest
import torch

import lossreg
from lossreg.registry import catalog

PLUGIN = "smp"


def _library():
    import segmentation_models_pytorch.losses as library

    return library


def test_every_public_loss_is_offered():
    public = [name for name in _library().__all__ if not name.endswith("_MODE")]
    assert lossreg.list_losses("smp/*") == [f"smp/{name}" for name in sorted(public)]


def test_value_is_the_librarys(entry, example, direct):
    pred, gt = example(entry)
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)
    expected = direct(getattr(_library(), entry.spec.name), entry, pred, gt, **entry.spec.example_args)
    assert torch.equal(value, expected)


def test_value_in_a_multi_loss_is_the_librarys(entry, example, direct, term):
    pred, gt = example(entry)
    criterion = term({"_target_": f"segmentation_models_pytorch.losses.{entry.spec.name}", **entry.spec.example_args})
    expected = direct(getattr(_library(), entry.spec.name), entry, pred, gt, **entry.spec.example_args)
    torch.testing.assert_close(criterion(pred, gt)[0], expected)


@pytest.mark.parametrize("name", ["DiceLoss", "FocalLoss", "JaccardLoss", "TverskyLoss"])
@pytest.mark.parametrize("mode", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("given", [None, "logits", "probabilities"])
def test_every_mode_takes_either_form(name, mode, from_logits, given, term):
    if "from_logits" not in signature(getattr(_library(), name)).parameters:
        pytest.skip("this release has logits only")
    logits = torch.randn(2, 1 if mode == "binary" else 3, 8, 8)
    probabilities = logits.softmax(1) if mode == "multiclass" else logits.sigmoid()
    target = torch.randint(3, (2, 8, 8)) if mode == "multiclass" else (torch.rand_like(logits) > 0.5).float()
    own = "logits" if from_logits else "probabilities"
    expected = getattr(_library(), name)(mode, from_logits=from_logits)(
        logits if from_logits else probabilities, target
    )
    config = {"loss": f"smp/{name}", "mode": mode, "from_logits": from_logits, "input": given}
    if (name, mode, own, given) == ("FocalLoss", "multiclass", "logits", "probabilities"):
        with pytest.raises(lossreg.ConfigError, match=r"it needs exact logits.*set `from_logits: false`"):
            term(config)
        return
    built = term(config)
    value, _, _ = built(logits if (given or own) == "logits" else probabilities, target)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("mode", ["binary", "multilabel", "multiclass"])
def test_lovasz_takes_logits_in_every_mode(mode, term):
    logits = torch.randn(2, 1 if mode == "binary" else 3, 8, 8)
    target = torch.randint(3, (2, 8, 8)) if mode == "multiclass" else (torch.rand_like(logits) > 0.5).float()
    expected = _library().LovaszLoss(mode)(logits, target)
    probabilities = logits.softmax(1) if mode == "multiclass" else logits.sigmoid()
    built = term({"loss": "smp/LovaszLoss", "mode": mode, "input": "probabilities"})
    torch.testing.assert_close(built(probabilities, target)[0], expected, rtol=1e-4, atol=1e-4)


def test_class_weights_follow_the_loss_to_a_dtype():
    if "class_weights" not in signature(_library().DiceLoss).parameters:
        pytest.skip("this release has none")
    made = lossreg.create_loss("smp/DiceLoss", mode="multiclass", class_weights=[1.0, 2.0, 3.0])
    assert made.double().loss_func.class_weights.dtype == torch.float64


def test_mode_is_required(term):
    with pytest.raises(lossreg.ConfigError, match="mode: is missing; smp/DiceLoss needs it"):
        term({"loss": "smp/DiceLoss"})


def test_the_library_is_imported_at_first_use_only():
    assert catalog().losses.find("smp/DiceLoss").spec.package == "segmentation-models-pytorch>=0.5"
