"""A `lossreg.Loss` that reads several keys of the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import lossreg
from lossreg.losses.base import zero_on_graph


class MaskedL1Loss(lossreg.Loss):
    """Mean absolute error of `pred.height` where `gt.valid` is above 0; everywhere without that key.

    Args:
        name: the term's name; lossreg gives it.
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
        """Return the raw loss; norms, weights and schedules are lossreg's affair."""
        pred = self.read(pred_batch, gt_batch, "pred.height")
        target = self.read(pred_batch, gt_batch, "gt.height")
        self.check_shape("gt.height", target, tuple(pred.shape))
        error = (pred - target).abs() ** self.beta
        valid = self.read_optional(pred_batch, gt_batch, "gt.valid")
        if valid is None:
            return error.mean() if error.numel() else zero_on_graph(pred)
        # a batch without a valid pixel gives a zero with a gradient, and no value is read back to the host;
        # `where` and no product: an invalid pixel may hold NaN
        return error.where(valid > 0, 0).sum() / (valid > 0).sum().clamp_min(1)
