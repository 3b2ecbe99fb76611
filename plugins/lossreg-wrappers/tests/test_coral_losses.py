"""Plugin `coral`: the losses of ordered classes, with their values and gradients."""

from __future__ import annotations

import pytest
import torch

import lossreg

PLUGIN = "coral"


def _library():
    from coral_pytorch import losses

    return losses


def _logits():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


CLASSES = torch.tensor([0, 1, 3, 2, 3, 1])
LEVELS = (CLASSES[:, None] > torch.arange(3)).float()


def test_every_public_loss_is_offered():
    public = {name for name, value in vars(_library()).items() if isinstance(value, type)}
    assert lossreg.list_losses("coral/*") == [f"coral/{name}" for name in sorted(public)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_coral_is_the_librarys(reduction):
    logits = _logits()
    value, _ = lossreg.create_loss("coral/CoralLoss", reduction=reduction)(logits, LEVELS)
    expected = _library().CoralLoss(reduction)(logits, LEVELS)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(some, logits)[0] for some in (value, expected)))


@pytest.mark.parametrize("classes", [CLASSES, CLASSES.float(), CLASSES[:, None].to(torch.uint8)])
def test_corn_is_the_librarys(classes):
    logits = _logits()
    value, _ = lossreg.create_loss("coral/CornLoss", num_classes=4)(logits, classes)
    expected = _library().CornLoss(4)(logits, CLASSES)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(some, logits)[0] for some in (value, expected)))


def test_a_mask_leaves_samples_out_of_coral(term):
    logits, valid = _logits(), torch.tensor([True, True, False, True, False, True])
    built = term({"loss": "coral/CoralLoss", "mask": "gt.valid", "pred_key": "age", "gt_key": "age"})
    value, _, _ = built({"age": logits}, {"age": LEVELS, "valid": valid})
    torch.testing.assert_close(value, _library().CoralLoss()(logits[valid], LEVELS[valid]))


def test_a_class_that_is_too_high_is_an_error():
    with pytest.raises(lossreg.LossregError, match=r"the loss has so many classes|expected"):
        lossreg.create_loss("coral/CornLoss", num_classes=4)(_logits(), CLASSES + 1)
