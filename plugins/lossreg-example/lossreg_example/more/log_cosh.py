"""An `nn.Module`, registered by one line of `pyproject.toml`; this file does not import lossreg."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


class LogCoshLoss(nn.Module):
    """Mean of `log cosh(prediction - target)`: quadratic near zero, linear far away, smooth in between.

    Args:
        scale: the error at which it changes from quadratic to linear, in the unit of the prediction; above 0.

    Shape:
        prediction and target: any, the same. Returns a scalar.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        x = (prediction - target) / self.scale
        # log cosh x = x + log(1 + exp(-2x)) - log 2, which does not overflow like cosh
        return self.scale * (x + F.softplus(-2 * x) - math.log(2)).mean()
