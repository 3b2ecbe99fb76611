"""A `lossreg.Loss` that reads several keys of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

import lossreg
from lossreg.losses.mean import Count, Elements, blanked, product


class MaskedL1Loss(lossreg.Loss):
    """Mean absolute error of `pred.height` over the pixels where `gt.valid` is above 0, or over all without that key.

    It is a mean over the pixels that count. A term may leave out more by a `mask`, and weigh samples or pixels by a
    `sample_weight`.

    Args:
        name: the name of the term; lossreg passes it.
        beta: exponent of the error; 1 or more.

    Shape:
        `pred.height`, `gt.height` and `gt.valid`: (N, 1, H, W). Where a pixel does not count, they may be NaN.
    """

    requires = ("pred.height", "gt.height")  # with these, MultiLoss knows which preprocesses to run
    optional = ("gt.valid",)
    masks = True  # `compute` asks `elements` what counts

    def __init__(self, name: str, beta: float = 1.0) -> None:
        super().__init__(name)
        self.beta = beta

    def compute(self, pred_batch: Any, gt_batch: Any) -> lossreg.Mean:
        """Return the mean and what it is over; lossreg applies norms, weights and schedules."""
        pred = self.read(pred_batch, gt_batch, "pred.height")
        target = self.read(pred_batch, gt_batch, "gt.height")
        self.check_shape("gt.height", target, tuple(pred.shape))
        pixels = self.pixels(pred_batch, gt_batch, target)
        if pixels.kept is not None:  # before the computation, since the gradient of a NaN is NaN
            pred, target = blanked(pred, pixels.kept), blanked(target, pixels.kept)
        # without masks and weights: `return lossreg.Mean.of((pred - target).abs() ** self.beta)`
        return pixels.mean((pred - target).abs() ** self.beta)

    def counts(self, gt_batch: Any) -> Sequence[Count]:
        """Return the count of the mean, without the predictions, so that batches can be cut in parts."""
        return [self.pixels({}, gt_batch, self.read({}, gt_batch, "gt.height")).count()]

    def pixels(self, pred_batch: Any, gt_batch: Any, target: Tensor) -> Elements:
        """Return the pixels with their weights."""
        pixels = self.elements(pred_batch, gt_batch, target.shape)
        valid = self.read_optional(pred_batch, gt_batch, "gt.valid")
        if valid is None:
            return pixels
        self.check_shape("gt.valid", valid, tuple(target.shape))
        pixels.inner = product(pixels.inner, valid > 0)
        return pixels
