"""The losses return the numbers of the original implementation."""

from __future__ import annotations

from typing import Any

import lossreg_crossfield
import pytest
import torch
from lossreg_crossfield import GtField, SegGrads
from torch import Tensor

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def tensors(batch: dict[str, Any], grad: bool = False) -> dict[str, Tensor]:
    return {key: torch.tensor(values).requires_grad_(grad) for key, values in batch.items()}


def test_preprocesses(golden: dict[str, Any]) -> None:
    pred, gt = SegGrads()(tensors(golden["pred_batch"]), tensors(golden["gt_batch"]))
    pred, gt = GtField()(pred, gt)
    for key, values in golden["preprocesses"].items():
        torch.testing.assert_close({**pred, **gt}[key], torch.tensor(values), **CLOSE)


@pytest.mark.parametrize("case", range(6))
def test_values_and_gradients(golden: dict[str, Any], case: int) -> None:
    expected = golden["cases"][case]
    pred = tensors(golden["pred_batch"], grad=True)
    made, gt = GtField()(*SegGrads()(pred, tensors(golden["gt_batch"])))
    value, _ = getattr(lossreg_crossfield, expected["loss"])("term", **expected["args"])(made, gt)
    torch.testing.assert_close(value, torch.tensor(expected["value"]), **CLOSE)
    value.backward()
    for key, values in expected["grads"].items():
        torch.testing.assert_close(pred[key].grad, torch.tensor(values), **CLOSE)


def test_every_golden_case_is_run(golden: dict[str, Any]) -> None:
    assert len(golden["cases"]) == 6
