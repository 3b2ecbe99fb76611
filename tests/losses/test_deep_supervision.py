"""Deep supervision: one term over outputs of several sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossreg import LossWrapper
from lossreg.errors import ArgumentError, DtypeError, MissingKeyError, ShapeError
from lossreg.losses.deep_supervision import DeepSupervision

SIZES = (8, 4, 2)
OUTPUTS = [torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size)) for size in SIZES]
TARGET = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def l1(**keys: Any) -> LossWrapper:
    return LossWrapper(nn.L1Loss(), "l1", **keys)


def by_hand(weights: list[float], mode: str = "nearest") -> float:
    targets = [F.interpolate(TARGET, size=(size, size), mode=mode) for size in SIZES]
    return sum(w * F.l1_loss(o, t).item() for w, o, t in zip(weights, OUTPUTS, targets, strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, by_hand([1.0, 0.5, 0.25])),
        ({"weights": "same"}, by_hand([1.0, 1.0, 1.0])),
        ({"weights": [3.0, 0.0, 1.0]}, by_hand([3.0, 0.0, 1.0])),
        ({"resize": "bilinear"}, by_hand([1.0, 0.5, 0.25], "bilinear")),
    ],
)
def test_value(options: dict[str, Any], expected: float) -> None:
    loss = DeepSupervision(l1(pred_key="seg", gt_key="mask"), "seg", **options)
    assert loss({"seg": OUTPUTS}, {"mask": TARGET})[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", ["aux.*", ["aux.0", "aux.1", "aux.2"]])
def test_outputs_at_keys(outputs: Any) -> None:
    pred = {**{f"aux.{i}": output for i, output in enumerate(OUTPUTS)}, "other": torch.zeros(1)}
    loss = DeepSupervision(l1(gt_key="mask"), outputs)
    assert loss(pred, {"mask": TARGET})[0].item() == pytest.approx(by_hand([1.0, 0.5, 0.25]), rel=1e-5)
    assert loss(OUTPUTS, TARGET)[0].item() == pytest.approx(by_hand([1.0, 0.5, 0.25]), rel=1e-5)


def test_class_indices_are_resized_by_nearest() -> None:
    indices = torch.arange(64).reshape(1, 8, 8) % 3
    outputs = [torch.zeros(1, 3, size, size, requires_grad=True) for size in (8, 4)]
    loss = DeepSupervision(LossWrapper(nn.CrossEntropyLoss(), "ce", gt_key="mask"), "seg")
    value = loss({"seg": outputs}, {"mask": indices})[0]
    value.backward()
    assert value.item() == pytest.approx(1.5 * torch.tensor(3.0).log().item())
    assert all(output.grad.abs().sum() > 0 for output in outputs)
    with pytest.raises(DtypeError, match=r"torch.int64 cannot be resized bilinearly; use nearest"):
        DeepSupervision(LossWrapper(nn.CrossEntropyLoss(), "ce", gt_key="mask"), "seg", resize="bilinear")(
            {"seg": outputs}, {"mask": indices}
        )


def test_the_term_has_one_norm_over_the_sum() -> None:
    loss = DeepSupervision(l1(gt_key="mask"), "seg")
    loss.update_norm({"seg": OUTPUTS}, {"mask": TARGET}, 2)
    assert loss({"seg": OUTPUTS}, {"mask": TARGET})[0].item() == pytest.approx(1.0)


def test_refusals() -> None:
    with pytest.raises(MissingKeyError, match=r"deep supervision over 'aux.\*'; pred_batch has \['seg'\]"):
        DeepSupervision(l1(), "aux.*")({"seg": OUTPUTS}, {"mask": TARGET})
    with pytest.raises(ShapeError, match="2 weights for 3 outputs"):
        DeepSupervision(l1(gt_key="mask"), "seg", weights=[1.0, 2.0])({"seg": OUTPUTS}, {"mask": TARGET})
    with pytest.raises(ArgumentError, match=r"reads pred.a, pred.b \(give one that reads one key of the predictions"):
        DeepSupervision(LossWrapper(nn.L1Loss(), "x", inputs=["pred.a", "pred.b"]), "seg")
