"""SegLoss returns the numbers of the original implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lossreg_seg import SegLoss, SegLossWeights
from torch.testing import assert_close

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("index", range(6))
def test_value_and_gradient(golden: dict[str, Any], index: int) -> None:
    case = golden["cases"][index]
    gt = {key: torch.tensor(value) for key, value in golden["gt_batch"].items()}
    pred = {"seg": torch.tensor(golden["seg"], requires_grad=True)}
    if case["weighted"]:
        _, gt = SegLossWeights()(pred, gt)
    value, _ = SegLoss("seg", **case["args"])(pred, gt)
    value.backward()
    assert_close(value.detach(), torch.tensor(case["value"]), **TOLERANCE)
    assert_close(pred["seg"].grad, torch.tensor(case["grad"]), **TOLERANCE)


def test_all_cases_are_read(golden: dict[str, Any]) -> None:
    assert len(golden["cases"]) == 6


def test_weights(golden: dict[str, Any]) -> None:
    gt = {key: torch.tensor(value) for key, value in golden["gt_batch"].items()}
    _, made = SegLossWeights(use_dist=True, use_size=True, w0=50, sigma=10)({}, gt)
    assert_close(made["seg_loss_weights"], torch.tensor(golden["seg_loss_weights"]), **TOLERANCE)
