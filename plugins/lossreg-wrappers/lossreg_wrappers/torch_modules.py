"""Losses of `torch.nn` adapted to return a loss first."""

from __future__ import annotations

import torch
from torch import Tensor


class AdaptiveLogSoftmaxWithLoss(torch.nn.AdaptiveLogSoftmaxWithLoss):
    """`torch.nn.AdaptiveLogSoftmaxWithLoss` that returns the loss first and then the log-probabilities.

    It has parameters to train: pass the parameters of the criterion to the optimizer too.
    """

    def forward(self, input_: Tensor, target_: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """Return `(loss, {"output": log-probability of each sample's target, shape (N,)})`."""
        output, loss = super().forward(input_, target_)
        return loss, {"output": output}
