"""Weighting by how much each term varies against its own mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.composition.weighting.base import Domain, Weighting, ratio

_FLOOR = 1e-8  # under the root, as published


class CoV(Weighting):
    """Coefficient of variations (Groenendijk et al., WACV 2021, https://arxiv.org/abs/2009.01717).

    With the loss ratios `l_i = L_i(t) / mean(L_i up to t-1)`, a term weighs `std(l_i) / mean(l_i)` over the
    iterations before this one, divided by the sum over the terms: what still varies, still has something to
    learn. The weights sum to 1, and are 1 / n in the first two iterations. A term's scale leaves the weights
    alone, so bring terms to one scale by their norms. Means and variances are Welford's.

    A term begins with its first value above 0; one that has been seen less than twice weighs as the mean of the
    others. It is defined for values of 0 or more: of others a ratio to their mean says nothing.
    """

    domain = Domain(negative=False, scale="own", reason="it weighs by the ratio of a value to the mean before")
    timed = False
    moves_first = False
    counters = ("counts",)

    counts: Tensor  # (n,) how often each term has been seen
    mean_loss: Tensor  # (n,) mean of L
    mean_ratio: Tensor  # (n,) mean of l
    squares: Tensor  # (n,) sum of squared deviations of l from its mean

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the running means and squares."""
        super().bind(names)
        for name in ("counts", "mean_loss", "mean_ratio", "squares"):
            self.register_buffer(name, torch.zeros(len(self.names)))

    def weights(self) -> Tensor:
        """Return (n,) the variations, divided by their sum."""
        known = self.counts >= 2
        std = torch.sqrt(self.squares / self.counts.clamp_min(1.0) + _FLOOR)
        variation = torch.where(known, std / self.mean_ratio.clamp_min(_FLOOR), 0.0)
        mean = variation.sum() / known.sum().clamp_min(1)
        variation = torch.where(known, variation, torch.where(known.any(), mean, 1.0))
        return variation / variation.sum()

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:  # noqa: ARG002
        """Take the losses into the running statistics of the terms that are there."""
        present = present & ((self.counts > 0) | (losses > 0))
        l = ratio(losses, self.mean_loss)  # noqa: E741 -- the paper's
        self.counts.add_(present)
        share = present / self.counts.clamp_min(1.0)  # 0 for an absent term, which then does not move
        deviation = l - self.mean_ratio
        self.mean_ratio.add_(share * deviation)
        self.squares.add_(present * deviation * (l - self.mean_ratio))
        self.mean_loss.add_(share * (losses - self.mean_loss))
