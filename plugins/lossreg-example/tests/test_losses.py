"""The losses by name, in a config."""

from __future__ import annotations

import pytest
import torch
from lossreg_example.examples import heights

import lossreg
from lossreg.errors import ShapeError

NAME = "example/MaskedL1Loss"


def test_it_is_found():
    assert NAME in lossreg.list_losses()
    assert type(lossreg.create_loss(NAME)).__name__ == "MaskedL1Loss"


def test_a_config_trains_a_step_with_it():
    criterion = lossreg.build_compound_loss_from_config(
        {
            "normalize_losses": False,
            "epoch_thresholds": [0, 10],
            "loss_list": [
                {"loss": NAME, "name": "height", "weight": 1.0},
                {"loss": NAME, "name": "squared", "beta": 2.0, "weight": [0.0, 1.0]},
            ],
        }
    )
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch, gt = heights()
    totals = []
    for _ in range(2):
        total, values, _ = criterion({"height": model(batch["height"])}, gt, epoch=10)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[1] < totals[0]
    assert set(values) == {"height", "squared"}


def test_invalid_pixels_are_left_out():
    pred = torch.tensor([1.0, 5.0]).reshape(1, 1, 1, 2)
    gt = {"height": torch.zeros(1, 1, 1, 2), "valid": torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)}
    assert float(lossreg.create_loss(NAME)({"height": pred}, gt)[0]) == 1.0


def test_nothing_valid_is_a_zero_on_the_graph():
    pred, gt = heights()
    pred["height"].requires_grad_()
    value, _ = lossreg.create_loss(NAME)(pred, {**gt, "valid": torch.zeros(2, 1, 8, 8)})
    value.backward()
    assert float(value.detach()) == 0
    assert float(pred["height"].grad.abs().sum()) == 0


@pytest.mark.parametrize("keys", [{}, {"mask": "gt.seen", "sample_weight": "gt.weight"}])
@pytest.mark.parametrize("cut", [0, 1, 2, 5])
def test_two_parts_of_a_batch_come_to_the_whole(keys, cut):
    def evaluate(part):
        loss, means = lossreg.create_loss(NAME, beta=1.5), []
        loss.take_mask(**keys)
        gt = {key: tensor[part] for key, tensor in batch.items()}
        loss({"height": pred[part]}, gt, means=means)
        (mean,), (count,) = means, loss.counts(gt)
        assert float(mean.count) == float(count)
        return mean.value, float(count)

    torch.manual_seed(0)
    pred = torch.rand(5, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    batch = {"height": torch.rand(5, 1, 4, 4), "valid": torch.rand(5, 1, 4, 4).round()}
    batch |= {"seen": torch.tensor([1, 1, 0, 1, 1]), "weight": torch.rand(5, 4, 4)}
    whole, count = evaluate(slice(None))
    parts = [evaluate(part) for part in (slice(cut), slice(cut, None))]
    joined = sum(value * (number / count) for value, number in parts)
    assert sum(number for _, number in parts) == pytest.approx(count)
    torch.testing.assert_close(joined, whole)
    torch.testing.assert_close(torch.autograd.grad(joined, pred), torch.autograd.grad(whole, pred))


def test_what_does_not_count_may_be_nan():
    pred = torch.tensor([1.0, torch.nan, 3.0, torch.nan]).reshape(1, 1, 2, 2).requires_grad_()
    gt = {
        "height": torch.tensor([0.0, 1.0, 0.0, torch.nan]).reshape(1, 1, 2, 2),
        "valid": torch.tensor([1.0, 0.0, 1.0, 1.0]).reshape(1, 1, 2, 2),
        "seen": torch.tensor([[[1, 1], [1, 0]]]),
    }
    loss = lossreg.create_loss(NAME)
    loss.take_mask(mask="gt.seen")
    value, _ = loss({"height": pred}, gt)
    value.backward()
    assert float(value.detach()) == 2.0
    assert pred.grad.flatten().tolist() == [0.5, 0.0, 0.5, 0.0]
    assert loss.counts(gt) == [2.0]


def test_a_wrong_shape_is_named_by_its_key():
    with pytest.raises(ShapeError, match=r"'gt.height' has shape \(2, 1, 4, 4\)"):
        lossreg.create_loss(NAME)({"height": torch.zeros(2, 1, 8, 8)}, {"height": torch.zeros(2, 1, 4, 4)})
