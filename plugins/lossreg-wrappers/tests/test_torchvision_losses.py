"""Plugin `torchvision`: every loss of `torchvision.ops`, with its values."""

from __future__ import annotations

import torch

import lossreg

PLUGIN = "torchvision"


def _library():
    import torchvision.ops

    return torchvision.ops


def test_every_public_loss_is_offered():
    public = [name for name in _library().__all__ if name.endswith("_loss")]
    assert lossreg.list_losses("torchvision/*") == [f"torchvision/{name}" for name in sorted(public)]


def test_value_is_the_librarys(entry, example, direct):
    pred, gt = example(entry)
    value, _ = lossreg.create_loss(entry.name)(pred, gt)
    assert torch.equal(value, direct(getattr(_library(), entry.spec.name), entry, pred, gt))


def test_value_in_a_multi_loss_is_the_librarys(entry, example, direct, term):
    pred, gt = example(entry)
    criterion = term({"_target_": f"torchvision.ops.{entry.spec.name}", "reduction": "sum"})
    expected = direct(getattr(_library(), entry.spec.name), entry, pred, gt, reduction="sum")
    torch.testing.assert_close(criterion(pred, gt)[0], expected)


def test_no_box_is_a_zero_on_the_graph():
    boxes = torch.zeros(0, 4, requires_grad=True)
    value, _ = lossreg.create_loss("generalized_box_iou_loss")(boxes, torch.zeros(0, 4))
    value.backward()
    assert float(value.detach()) == 0
    assert boxes.grad.shape == (0, 4)


def test_focal_loss_takes_its_parameters_from_a_config(term):
    logits, mask = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    expected = _library().sigmoid_focal_loss(logits, mask, alpha=0.75, gamma=1.0, reduction="mean")
    built = term({"loss": "sigmoid_focal_loss", "alpha": 0.75, "gamma": 1.0, "input": "probabilities"})
    torch.testing.assert_close(built(logits.sigmoid(), mask)[0], expected)
