"""Losses of `torch.nn` that return something other than a loss, made to return one."""

from __future__ import annotations

import torch
from torch import Tensor


class AdaptiveLogSoftmaxWithLoss(torch.nn.AdaptiveLogSoftmaxWithLoss):
    """`torch.nn.AdaptiveLogSoftmaxWithLoss`, returning its loss first and the log-probabilities beside it.

    It has weights of its own: give the parameters of the criterion to the optimizer too.
    """

    def forward(self, input_: Tensor, target_: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """Return `(loss, {"output": log-probability of each sample's target, shape (N,)})`."""
        output, loss = super().forward(input_, target_)
        return loss, {"output": output}
