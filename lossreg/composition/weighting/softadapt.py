"""Weighting by the recent slope of each term."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Domain, Weighting, softmax
from lossreg.losses.constants import register_constant


class SoftAdapt(Weighting):
    """SoftAdapt (Heydari, Thompson, Mehmood, 2019, https://arxiv.org/abs/1912.12355).

    A term weighs `softmax(beta s)`, with `s_i` the slope of `L_i` over the last iterations by a backward
    finite difference: for `order = 1`, `L_i(t) - L_i(t-1)`. A term that rises, or falls more slowly, gains
    where `beta > 0`. The weights sum to 1. Slopes are absolute, so that a term of large scale rules: bring
    terms to one scale by their norms, or take `normalized`. Until a term has been seen `order + 1` times its
    slope is 0. Slopes are defined for values of any sign; the means of `loss_weighted` want values of 0 or more.

    Args:
        beta: how sharply slopes become weights; below 0 it favours the term that falls fastest.
        order: order of accuracy of the finite difference, over `order + 1` values; 1 to 6.
        normalized: divide each slope by the sum of all absolute slopes.
        loss_weighted: multiply each weight by the mean of the term over those values, then divide by the sum.
    """

    timed = False
    counters = ("counts",)

    history: Tensor  # (order + 1, n), the newest last
    counts: Tensor  # (n,) how often each term has been seen
    _stencil: Tensor  # (order + 1,) coefficients of the finite difference

    def __init__(
        self, beta: float = 0.1, order: int = 1, normalized: bool = False, loss_weighted: bool = False
    ) -> None:
        super().__init__()
        given = Arguments("SoftAdapt")
        self.beta = given.number("beta", beta, "a finite number")
        self.order = given.count("order", order, "a whole number from 1 to 6", most=6)
        self.normalized = given.flag("normalized", normalized)
        self.loss_weighted = given.flag("loss_weighted", loss_weighted)
        given.done()
        self.domain = Domain(
            negative=not self.loss_weighted,
            scale="common" if self.normalized else "none",
            reason="with loss_weighted it weighs by the means of values",
        )
        register_constant(self, "_stencil", torch.tensor(_backward_difference(self.order), device="cpu"))

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the history."""
        super().bind(names)
        self.register_buffer("history", torch.zeros(self.order + 1, len(self.names)))
        self.register_buffer("counts", torch.zeros(len(self.names), dtype=torch.int64))

    def weights(self) -> Tensor:
        """Return (n,) `softmax(beta s)`."""
        slopes = torch.where(self.counts > self.order, self._stencil @ self.history, 0.0)
        if self.normalized:
            total = slopes.abs().sum()
            slopes = torch.where(total > 0, slopes / total, 0.0)
        if not self.loss_weighted:
            return softmax(self.beta * slopes)
        return softmax(self.beta * slopes + self._means().clamp_min(torch.finfo(torch.float32).tiny).log())

    def _means(self) -> Tensor:
        """Return (n,) the means of the history; a term not seen yet has the mean of the others."""
        seen = self.counts > 0
        means = self.history.sum(0) / self.counts.clamp(1, self.order + 1)
        others = (means / seen.sum().clamp_min(1)).sum()
        return torch.where(seen, means, torch.where(seen.any(), others, 1.0))

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:  # noqa: ARG002
        """Shift the history of the terms that are there."""
        grown = torch.cat([self.history[1:], losses[None]])
        self.history.copy_(torch.where(present, grown, self.history))
        self.counts.add_(present)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"beta={self.beta}, order={self.order}, normalized={self.normalized}, loss_weighted={self.loss_weighted}"


def _backward_difference(order: int) -> list[float]:
    """Return the coefficients of the first derivative at the newest of `order + 1` values, oldest first.

    They differentiate every polynomial of that degree exactly: `(-1)^j C(order, j) / j` for the value j
    iterations ago, and the harmonic number of `order` for the newest.
    """
    past = [(-1) ** j * math.comb(order, j) / j for j in range(order, 0, -1)]
    return [*past, sum(1 / k for k in range(1, order + 1))]
