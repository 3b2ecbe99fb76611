"""The example's losses, by name, as a config uses them."""

from __future__ import annotations

import pytest
import torch
from lossreg_example.examples import heights
from lossreg_example.losses import LogCoshLoss

import lossreg
from lossreg.errors import ShapeError

CONFIG = {
    "epoch_thresholds": [0, 10],
    "loss_list": [
        {"loss": "LogCoshLoss", "scale": 0.5, "weight": 1.0},
        {"loss": "masked_l1", "weight": [0.0, 1.0]},
        {"loss": "SurfaceLoss", "slope_weight": 0.1, "weight": 0.5},
    ],
}


def test_both_ways_in_are_found():
    assert lossreg.list_losses("lossreg-example/*") == ["lossreg-example/LogCoshLoss"]
    assert lossreg.list_losses("example/*") == ["example/MaskedL1Loss", "example/SurfaceLoss"]


def test_a_config_trains_a_step_with_all_of_them():
    criterion = lossreg.build_compound_loss_from_config(CONFIG)
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch, gt = heights()
    losses = []
    for _ in range(2):
        total, values, extra = criterion({"height": model(batch["height"])}, gt, epoch=10)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[1] < losses[0]
    assert set(values) == {"LogCoshLoss", "masked_l1", "SurfaceLoss"}
    assert set(extra["SurfaceLoss"]) == {"height", "slope"}


@pytest.mark.parametrize("error", [0.0, 0.3, -2.0])
def test_log_cosh_is_its_formula(error):
    value = LogCoshLoss(scale=2.0)(torch.tensor(error), torch.tensor(0.0))
    torch.testing.assert_close(value, 2 * torch.tensor(error / 2).cosh().log())


def test_log_cosh_does_not_overflow():
    assert LogCoshLoss()(torch.tensor(1e4), torch.tensor(0.0)).isfinite()


def test_masked_l1_leaves_invalid_pixels_out():
    loss = lossreg.create_loss("masked_l1")
    pred = torch.tensor([1.0, 5.0]).reshape(1, 1, 1, 2)
    gt = {"height": torch.zeros(1, 1, 1, 2), "valid": torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)}
    assert float(loss({"height": pred}, gt)[0]) == 1.0


def test_masked_l1_over_nothing_is_a_zero_on_the_graph():
    pred, gt = heights()
    pred["height"].requires_grad_()
    value, _ = lossreg.create_loss("masked_l1")(pred, {**gt, "valid": torch.zeros(2, 1, 8, 8)})
    value.backward()
    assert float(value.detach()) == 0
    assert float(pred["height"].grad.abs().sum()) == 0


def test_masked_l1_names_the_key_of_a_wrong_shape():
    with pytest.raises(ShapeError, match=r"'masked_l1': 'gt.height' has shape \(2, 1, 4, 4\)"):
        lossreg.create_loss("masked_l1")({"height": torch.zeros(2, 1, 8, 8)}, {"height": torch.zeros(2, 1, 4, 4)})
