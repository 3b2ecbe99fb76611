"""Norms that go on during training: an exponential average, the same on all ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from lossreg.composition.vectors import counts_as, stacked
from lossreg.losses.mean import Count, safe
from lossreg.losses.norm import RunningNorm
from lossreg.losses.ranks import add_up, several

LEAST_NORM = 1e-9
"""The smallest average that may divide a loss."""


@torch.no_grad()
def track_norms(
    norms: Sequence[RunningNorm],
    values: Mapping[int, Tensor],
    momentum: float,
    counts: Mapping[int, Count] = MappingProxyType({}),
) -> None:
    """Move norms toward the values of a batch: `norm += momentum * (mean over ranks - norm)`.

    A value over nothing, or that is not finite or too small to divide by, leaves its norm alone. Under a process group
    every rank must call it (one collective).

    Args:
        norms: the norms, in an order that all ranks share.
        values: position among them -> raw value, for the terms that this batch has.
        momentum: above 0, at most 1.
        counts: position -> what the value is a mean over, where that is known; 1 where it is not.
    """
    if not norms or not (values or several()):
        return
    filler = norms[0].norm[0]  # of a count of 0, so that its value does not matter
    means = stacked([values[i].detach() if i in values else filler for i in range(len(norms))])
    known = [counts.get(i, 1.0) if i in values else 0.0 for i in range(len(norms))]
    seen: Tensor | None = None
    if several():
        means = means.to(filler)
        weights = torch.where(_divides(means), counts_as(known, filler), 0.0)
        sums = add_up(torch.stack([torch.where(weights > 0, means, 0.0) * weights, weights]), "track_norms")  # (2, n)
        means, seen = sums[0] / safe(sums[1]), sums[1] > 0
    elif any(isinstance(count, Tensor) or count == 0 for count in known):
        seen = counts_as(known, filler) > 0
    move_norms(norms, means, seen, momentum)


@torch.no_grad()
def move_norms(norms: Sequence[RunningNorm], means: Tensor, seen: Tensor | None, momentum: float) -> None:
    """Move norms toward means over all ranks; a mean that cannot divide leaves its norm alone.

    A norm that nothing was recorded for, and that nobody set, takes the first mean as it is.

    Args:
        norms: n norms, on one device.
        means: (n,).
        seen: (n,) bool, which of them there is a mean for; None for all.
        momentum: above 0, at most 1.
    """
    norm, count = torch.cat([n.norm for n in norms]), torch.stack([n.norm_count for n in norms])
    means = means.to(norm)
    moves = _divides(means) if seen is None else seen & _divides(means)
    unset = (count == 0) & (norm == 1.0)  # a norm without samples was set by hand
    moved = torch.where(moves, torch.where(unset, means, norm.lerp(means, momentum)), norm)
    count = torch.where(moves, count.clamp_min(1), count)
    sums = (moved * count).to(count)
    # a launch for each dtype, not one for each buffer
    torch._foreach_copy_([n.norm for n in norms], list(moved.unsqueeze(1).unbind()))
    torch._foreach_copy_(
        [*(n.norm_count for n in norms), *(n.norm_sum for n in norms)], [*count.unbind(), *sums.unbind()]
    )


def _divides(means: Tensor) -> Tensor:
    return (means > LEAST_NORM) & (means < math.inf)
