"""A registered loss of each kind, for configs without a plugin; `fuzz` and `security` use them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import lossreg


def register() -> None:
    """Register them."""

    @lossreg.register("Plain", targets=("old.place.Plain",))
    class Plain(lossreg.Loss):
        """A loss with a number, a place for any data, and a module.

        Args:
            name: the term's name.
            value: a number.
            options: any data.
            hook: a module, which only Python can give.
        """

        def __init__(self, name: str, value: float = 1.0, options: Any = None, hook: nn.Module | None = None) -> None:
            super().__init__(name)

        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return self.read(pred_batch, gt_batch, "pred.x").mean()

    @lossreg.register("Foreign", tensors=("weight",))
    class Foreign(nn.Module):
        """A loss of another library."""

        def __init__(self, weight: Tensor | None = None) -> None:
            super().__init__()

        def forward(self, pred: Tensor, target: Tensor) -> Tensor:
            return (pred - target).mean()

    @lossreg.register("scaled")
    def scaled(pred: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
        """A loss that is a function."""
        return scale * (pred - target).mean()

    @lossreg.register("MakeX", kind="preprocess", targets=("old.place.MakeX",))
    class MakeX(lossreg.Preprocess):
        """A preprocess."""

        requires, provides = ("pred.y",), ("pred.x",)

        def __init__(self, factor: float = 1.0) -> None:
            super().__init__()

        def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
            return {"pred.x": pred_batch["y"]}
