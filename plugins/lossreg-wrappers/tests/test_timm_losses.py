"""Plugin `timm`: every public loss of `timm.loss`, with its values."""

from __future__ import annotations

import inspect

import pytest
import torch

import lossreg
from lossreg.registry import catalog

PLUGIN = "timm"


def _library():
    import timm.loss

    return timm.loss


def test_every_public_loss_is_offered():
    public = {name for name, member in vars(_library()).items() if inspect.isclass(member)}
    assert {entry.spec.name for entry in catalog().losses if entry.plugin.name == "timm"} == public


def test_value_and_gradient_are_the_librarys(entry, example):
    pred, gt = example(entry)
    made = getattr(_library(), entry.spec.name)(**entry.spec.example_args)
    logits, target = pred["seg"].requires_grad_(), gt["gt_polygons_image"]
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)
    expected = made(logits, target)
    expected = expected.mean()  # some may return values
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (value, expected)))


def test_a_mask_leaves_samples_out(entry, example):
    made = lossreg.create_loss(entry.name, **entry.spec.example_args)
    if not made.masks:
        pytest.skip(entry.spec.unmasked)
    (pred, gt), kept = example(entry), torch.tensor([True, False, True, True, False, True])
    logits, target = pred["seg"], gt["gt_polygons_image"]
    kept = kept[: len(logits)]
    expected, _ = made({"seg": logits[kept]}, {"gt_polygons_image": target[kept]})
    made.take_mask("gt.valid")
    spoiled = torch.where(kept[:, None], logits, torch.nan).requires_grad_()
    value, _ = made({"seg": spoiled}, {**gt, "valid": kept})
    torch.testing.assert_close(value, expected)
    value.backward()
    assert not spoiled.grad[~kept].any()
    assert spoiled.grad.isfinite().all()


@pytest.mark.parametrize("name", ["BinaryCrossEntropy", "PolyCrossEntropy"])
def test_class_indices_and_probabilities_are_both_taken(name, term):
    logits, classes = torch.randn(4, 5), torch.tensor([0, 2, 4, 1])
    shares = torch.rand(4, 5).softmax(1)
    for target in (classes, shares):
        value = term({"loss": f"timm/{name}"})(logits, target)[0]
        torch.testing.assert_close(value, getattr(_library(), name)()(logits, target))


def test_a_reduction_that_the_library_does_not_know_takes_no_mask(term):
    with pytest.raises(lossreg.ConfigError, match="leave that out"):
        term({"loss": "timm/BinaryCrossEntropy", "sum_classes": True, "mask": "gt.valid"})
