"""A loss with another interface, which returns a mapping of parts, and its adapter."""

from __future__ import annotations

from torch import Tensor, nn


class SurfaceLoss(nn.Module):
    """The errors of a height map and of its slopes, as `{"height": scalar, "slope": scalar}`.

    Args:
        slope_weight: factor of the slope error; 0 or more.

    Shape:
        prediction and target: (N, C, H, W), H and W at least 2.
    """

    def __init__(self, slope_weight: float = 1.0) -> None:
        super().__init__()
        self.slope_weight = slope_weight

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the parts."""
        error = prediction - target
        slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return {"height": error.abs().mean(), "slope": self.slope_weight * slopes}


class SumOfParts(nn.Module):
    """Calls a loss that returns parts and returns `(sum, parts)`, as `lossreg.LossWrapper` expects."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, *tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum, and the parts for `extra_info`."""
        parts: dict[str, Tensor] = self.loss(*tensors)
        total = sum(parts.values(), start=tensors[0].new_zeros(()))
        return total, parts
