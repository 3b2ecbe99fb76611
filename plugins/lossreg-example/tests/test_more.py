"""The two other ways to offer a loss, in one config with the first; a schedule, a weighting and a preprocess."""

from __future__ import annotations

import pytest
import torch
from lossreg_example.examples import heights
from lossreg_example.more.log_cosh import LogCoshLoss

import lossreg


def test_each_way_in_is_found():
    assert lossreg.list_losses("lossreg-example/*") == ["lossreg-example/LogCoshLoss"]
    assert lossreg.list_losses("example/*") == ["example/MaskedL1Loss"]
    assert lossreg.list_losses("example-more/*") == ["example-more/SurfaceLoss"]


def test_a_config_uses_all_three():
    criterion = lossreg.build_compound_loss_from_config(
        {
            "loss_list": [
                {"loss": "LogCoshLoss", "scale": 0.5, "weight": 1.0},
                {"loss": "masked_l1", "weight": 0.3},
                {"loss": "SurfaceLoss", "slope_weight": 0.1, "weight": 0.5},
            ]
        }
    )
    pred, gt = heights()
    criterion.update_norm(pred, gt, len(pred["height"]))
    pred["height"].requires_grad_()
    total, values, extra = criterion(pred, gt)
    total.backward()
    assert set(values) == {"LogCoshLoss", "masked_l1", "SurfaceLoss"}
    assert set(extra["SurfaceLoss"]) == {"height", "slope"}
    assert bool((pred["height"].grad != 0).any())


@pytest.mark.parametrize("error", [0.0, 0.3, -2.0])
def test_log_cosh_is_its_formula(error):
    value = LogCoshLoss(scale=2.0)(torch.tensor(error), torch.tensor(0.0))
    torch.testing.assert_close(value, 2 * torch.tensor(error / 2).cosh().log())


def test_log_cosh_does_not_overflow():
    assert LogCoshLoss()(torch.tensor(1e4), torch.tensor(0.0)).isfinite()


def test_a_config_uses_a_schedule_a_weighting_and_a_preprocess():
    criterion = lossreg.build_compound_loss_from_config(
        {
            "normalize_losses": False,
            "weighting": {"strategy": "inverse_mean", "momentum": 0.5},
            "loss_list": [
                {"loss": "masked_l1", "name": "a", "mask": "gt.known"},
                {"loss": "masked_l1", "name": "b", "weight": {"schedule": "triangle", "peak": 4.0}},
            ],
        }
    )
    pred, gt = heights()
    gt["height"][0, 0, 0, 0] = torch.nan
    assert criterion.effective_weights(epoch=2)["b"] == 0.5
    _, values, _ = criterion(pred, gt, epoch=0)
    assert values["a"].isfinite()
    expected = 1 / (0.5 + 0.5 * float(values["a"]))
    assert float(criterion.coefficients()["a"]) == pytest.approx(expected)
