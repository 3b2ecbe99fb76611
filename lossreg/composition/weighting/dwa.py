"""Weighting by how fast each term fell over the last epochs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Domain, Weighting, ratio, softmax
from lossreg.errors import WeightingError


class DWA(Weighting):
    """Dynamic weight average (Liu, Johns, Davison, CVPR 2019, https://arxiv.org/abs/1803.10704).

    In epoch t a term weighs `n softmax(r / T)`, with `r_i = L_i(t-1) / L_i(t-2)` over the means of whole
    epochs: a term that falls slowly gains. A term that has not been through two epochs has `r_i = 1`, so
    that the weights are ones in the first two. A term's scale leaves the weights alone; bring terms to one
    scale by their norms. It is defined for values of 0 or more. An epoch whose mean is 0 had nothing to learn: it is
    left out, as if the term had been absent.

    An epoch is over when the whole part of `epoch` changes. The sums of the running epoch are state, so that
    a checkpoint in the middle of an epoch goes on where it was.

    Args:
        temperature: T, above 0; a high one evens the weights out.
    """

    domain = Domain(negative=False, scale="own", reason="it weighs by the ratio of the means of two epochs")
    counters = ("counts", "closed")

    epoch: Tensor  # [] the epoch that the sums belong to
    sums: Tensor  # (n,) of the values in that epoch
    counts: Tensor  # (n,) how many values that is
    last: Tensor  # (n,) mean of the last whole epoch, L(t-1)
    before: Tensor  # (n,) mean of the one before, L(t-2)
    closed: Tensor  # (n,) how many whole epochs each term has been through

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        given = Arguments("DWA")
        self.temperature = given.number("temperature", temperature, "a number above 0", lambda t: t > 0.0)
        given.done()

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the means of two epochs."""
        super().bind(names)
        n = len(self.names)
        self.register_buffer("epoch", torch.zeros(()))
        for name in ("sums", "counts", "last", "before"):
            self.register_buffer(name, torch.zeros(n))
        self.register_buffer("closed", torch.zeros(n, dtype=torch.int64))

    def weights(self) -> Tensor:
        """Return (n,) `n softmax(r / T)`."""
        rates = torch.where(self.closed >= 2, ratio(self.last, self.before), 1.0)
        return len(self.names) * softmax(rates / self.temperature)

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:
        """Add the losses to the sums of their epoch.

        Raises:
            WeightingError: no epoch was given.
        """
        if epoch is None:
            raise WeightingError("DWA weighs by the means of epochs; call the loss with epoch=...")
        self._close_epoch(epoch)
        self.sums.add_(losses)  # 0 where a term is absent
        self.counts.add_(present)

    def _close_epoch(self, epoch: float | Tensor) -> None:
        """Where the epoch has changed, make the sums the last mean, and begin new ones."""
        now = (torch.zeros_like(self.epoch) + epoch).floor()  # of the tensor: a number would recompile
        over = self.epoch != now
        closing = over & (self.sums > 0)
        self.before.copy_(torch.where(closing, self.last, self.before))
        self.last.copy_(torch.where(closing, self.sums / self.counts.clamp_min(1.0), self.last))
        self.closed.add_(closing)
        self.sums.mul_(~over)
        self.counts.mul_(~over)
        self.epoch.copy_(now)

    def extra_repr(self) -> str:
        """Show the temperature."""
        return f"temperature={self.temperature}"
