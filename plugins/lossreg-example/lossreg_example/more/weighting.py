"""An adaptive weighting: a module that sets the weights of terms from their values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg import Weighting
from lossreg.composition.weighting.base import Domain


class InverseMean(Weighting):
    """One over a running mean of each term, so that all terms contribute about 1.

    Args:
        momentum: weight of a new value in the mean, above 0 and at most 1.
    """

    domain = Domain(negative=False, zero="absent", reason="it weighs by one over the mean")
    timed = False  # it does not read the epoch

    mean: Tensor  # (n,) one number per term, so that a checkpoint can store them by name

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ValueError(f"InverseMean: momentum: expected a number above 0 and at most 1, found {momentum!r}")
        self.momentum = momentum

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the state, once the terms are known."""
        super().bind(names)
        self.register_buffer("mean", torch.ones(len(names)))

    def weights(self) -> Tensor:
        """Return (n,) the weights of all terms."""
        return 1 / self.mean

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:  # noqa: ARG002
        """Move the means of the terms that are there; `losses` are means over the ranks."""
        moved = (1 - self.momentum) * self.mean + self.momentum * losses
        self.mean.copy_(torch.where(present, moved, self.mean))
