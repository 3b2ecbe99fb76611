"""The whole composition against numbers of the original implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import MultiLoss, build_compound_loss_from_config

pytestmark = pytest.mark.needs_plugins

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors.json").read_text())
TABLE = VECTORS["multiloss"]
LOSSES: dict[str, dict[str, Any]] = {
    "seg": {
        "loss": "SegLoss",
        "gt_channel_selector": {"start": 0, "stop": 3},
        "bce_coef": 1.0,
        "dice_coef": 0.2,
    },
    "crossfield_align": {"loss": "CrossfieldAlignLoss"},
    "crossfield_align90": {"loss": "CrossfieldAlign90Loss"},
    "crossfield_smooth": {"loss": "CrossfieldSmoothLoss"},
    "seg_interior_crossfield": {"loss": "SegCrossfieldLoss", "pred_channel": 0},
    "seg_edge_crossfield": {"loss": "SegCrossfieldLoss", "pred_channel": 1},
    "seg_edge_interior": {"loss": "SegEdgeInteriorLoss"},
}


def build() -> MultiLoss:
    multi_loss = build_compound_loss_from_config(
        {
            "epoch_thresholds": TABLE["epoch_thresholds"],
            "pre_processes": [
                {"preprocess": "seg_loss_weights", "use_dist": True, "use_size": True, "w0": 50, "sigma": 10}
            ],
            "losses": {
                name: {**LOSSES[name], "weight": weight}
                for name, weight in zip(TABLE["losses"], TABLE["weights"], strict=True)
            },
        }
    )
    for (_, term), norm in zip(multi_loss.leaves(), TABLE["norms"], strict=True):
        term.loss.norm.fill_(norm)
    return multi_loss


def batch(side: str, requires_grad: bool) -> dict[str, Tensor]:
    return {key: torch.tensor(value, requires_grad=requires_grad) for key, value in VECTORS[side].items()}


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: f"epoch {row['epoch']}")
def test_every_epoch_of_the_table(row: dict[str, Any]) -> None:
    pred = batch("pred_batch", requires_grad=True)
    total, values, _ = build()(pred, batch("gt_batch", requires_grad=False), epoch=row["epoch"])
    total.backward()
    assert total.item() == pytest.approx(row["total"], rel=1e-5, abs=1e-6)
    assert {k: v.item() for k, v in values.items()} == pytest.approx(row["individual"], rel=1e-5, abs=1e-6)
    for key in ("seg", "crossfield"):
        assert pred[key].grad.abs().double().sum().item() == pytest.approx(row[f"grad_{key}_sum_abs"], rel=1e-5)
