"""Losses that the config tests name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor, nn

import lossreg

sys.path.insert(0, str(Path(__file__).parent))  # the tests import `blocks.py` from there


@pytest.fixture(autouse=True)
def local_losses() -> None:
    @lossreg.register("OffsetLoss", aliases=("offset",), targets=("old.place.OffsetLoss",))
    class OffsetLoss(lossreg.Loss):
        """The absolute offset.

        Args:
            name: the term's name.
            offset: what to add.
            mode: how.
        """

        requires = ("pred.x",)

        def __init__(
            self,
            name: str,
            offset: float = 0.0,
            mode: Literal["abs", "square"] = "abs",
            channels: list[int] | None = None,
            hook: nn.Module | None = None,
        ) -> None:
            super().__init__(name)
            if offset < 0:
                raise ValueError(f"offset must be 0 or more, got {offset}")
            self.offset, self.mode, self.channels, self.hook = offset, mode, channels, hook

        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return (self.read(pred_batch, gt_batch, "pred.x") + self.offset).abs().mean()

    @lossreg.register("Foreign", tensors=("weight",))
    class Foreign(nn.Module):
        def __init__(self, weight: Tensor | None = None, name: str = "inner") -> None:
            super().__init__()
            self.register_buffer("weight", weight)
            self.label = name

        def forward(self, pred: Tensor, target: Tensor) -> Tensor:
            return (pred - target).abs() * (1 if self.weight is None else self.weight)

    @lossreg.register("scaled_l1")
    def scaled_l1(pred: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
        return scale * (pred - target).abs().mean()

    @lossreg.register("MakeX", kind="preprocess")
    class MakeX(lossreg.Preprocess):
        requires, provides = ("pred.y",), ("pred.x",)

        def __init__(self, factor: float = 1.0) -> None:
            super().__init__()
            self.factor = factor

        def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
            return {"pred.x": pred_batch["y"] * self.factor}
