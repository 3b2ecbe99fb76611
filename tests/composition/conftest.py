"""One criterion of all first-party plugins, with every schedule, and a batch for it on any device."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import MultiLoss, build_compound_loss_from_config

RAMP = {"start": 0.2, "end": 1.0, "end_epoch": 3}
POINTS = {"values": [0.2, 1.0, 0.5], "epoch_thresholds": [0, 1, 4]}
SEG = {"gt_channel_selector": {"start": 0, "stop": 3}, "tversky_focal_coef": 0.2}
BARE = {"pred_key": "height", "gt_key": "height"}

# one term for each schedule
TERMS: dict[str, dict[str, Any]] = {
    "seg": {"loss": "SegLoss", **SEG, "weight": {"schedule": "constant", "value": 2.0}},
    "align": {"loss": "CrossfieldAlignLoss", "weight": {"schedule": "piecewise", **POINTS}},
    "align90": {"loss": "CrossfieldAlign90Loss", "weight": {"schedule": "step", **POINTS}},
    "smooth": {"loss": "CrossfieldSmoothLoss", "weight": {"schedule": "polynomial", **RAMP}},
    "interior_field": {"loss": "SegCrossfieldLoss", "pred_channel": 0, "weight": {"schedule": "cosine", **RAMP}},
    "edge_field": {
        "loss": "SegCrossfieldLoss",
        "pred_channel": 1,
        "detach_grad_norm": True,
        "weight": {"schedule": "exponential", **RAMP},
    },
    "edge_interior": {"loss": "SegEdgeInteriorLoss", "weight": {"schedule": "sigmoid", **RAMP}},
    "masked": {"loss": "MaskedL1Loss", "weight": {"schedule": "cyclic", "cycles": 2, **RAMP}},
    "mse": {"loss": "torch/MSELoss", **BARE, "weight": {"schedule": "pchip", **POINTS}},
    "l1": {"loss": "torch/L1Loss", **BARE, "weight": {"schedule": "akima", **POINTS}},
    "huber": {
        "loss": "torch/HuberLoss",
        **BARE,
        "weight": {"schedule": "chain", "schedules": [1.0, {"schedule": "cosine", **RAMP}], "boundaries": [1]},
    },
}


def _build(**options: Any) -> MultiLoss:
    config = {"pre_processes": [{"preprocess": "seg_loss_weights"}], "losses": TERMS, **options}
    return build_compound_loss_from_config(config)


def _batch(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(seed)
    n, size = 2, (9, 12)
    pred = {"seg": torch.rand(n, 3, *size), "crossfield": torch.randn(n, 4, *size), "height": torch.randn(n, 1, *size)}
    gt = {
        "gt_polygons_image": torch.rand(n, 3, *size).round(),
        "gt_crossfield_angle": torch.rand(n, 1, *size) * math.pi,
        "class_freq": torch.rand(n, 3) / 8 + 0.1,
        "distances": torch.rand(n, 1, *size) + 0.1,
        "sizes": torch.rand(n, 1, *size) + 0.1,
        "height": torch.randn(n, 1, *size),
    }
    return {key: tensor.requires_grad_() for key, tensor in pred.items()}, gt


@pytest.fixture(scope="session")
def first_party() -> SimpleNamespace:
    """`build(**options of a compound loss)`, `batch(seed)` and `terms`; needs the first-party plugins."""
    return SimpleNamespace(build=_build, batch=_batch, terms=TERMS)
