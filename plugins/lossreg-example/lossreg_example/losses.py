"""A `lossreg.Loss` that reads several keys of the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import lossreg
from lossreg.losses.base import zero_on_graph


class MaskedL1Loss(lossreg.Loss):
    """Mean absolute error of `pred.height` where `gt.valid` is above 0, or of all pixels without that key.

    Args:
        name: the name of the term; lossreg passes it.
        beta: exponent of the error; 1 or more.

    Shape:
        `pred.height`, `gt.height` and `gt.valid`: (N, 1, H, W).
    """

    requires = ("pred.height", "gt.height")  # with these, MultiLoss knows which preprocesses to run
    optional = ("gt.valid",)

    def __init__(self, name: str, beta: float = 1.0) -> None:
        super().__init__(name)
        self.beta = beta

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return the raw loss; lossreg applies norms, weights and schedules."""
        pred = self.read(pred_batch, gt_batch, "pred.height")
        target = self.read(pred_batch, gt_batch, "gt.height")
        self.check_shape("gt.height", target, tuple(pred.shape))
        error = (pred - target).abs() ** self.beta
        valid = self.read_optional(pred_batch, gt_batch, "gt.valid")
        if valid is None:
            return error.mean() if error.numel() else zero_on_graph(pred)
        # without a valid pixel this is a zero with a gradient, and no value is read back to the host;
        # `where` instead of a product, because an invalid pixel may be NaN
        return error.where(valid > 0, 0).sum() / (valid > 0).sum().clamp_min(1)
