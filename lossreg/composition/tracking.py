"""Norms that go on during training: an exponential average, the same on all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from lossreg.losses.mean import Count, counted, safe
from lossreg.losses.norm import RunningNorm
from lossreg.losses.ranks import add_up

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
    if not norms:
        return
    zero = norms[0].norm.new_zeros(())
    raw = torch.stack([values[i].detach().to(zero) if i in values else zero for i in range(len(norms))])
    weights = torch.stack([counted(counts.get(i, 1.0) if i in values else 0.0, zero) for i in range(len(norms))])
    weights = torch.where(raw.isfinite() & (raw > LEAST_NORM), weights, 0.0)
    sums = add_up(torch.stack([torch.where(weights > 0, raw, 0.0) * weights, weights]), "track_norms")  # (2, n)
    move_norms(norms, sums[0] / safe(sums[1]), sums[1] > 0, momentum)


@torch.no_grad()
def move_norms(norms: Sequence[RunningNorm], means: Tensor, seen: Tensor, momentum: float) -> None:
    """Move norms toward means over all ranks.

    A norm that nothing was recorded for, and that nobody set, takes the first mean as it is.

    Args:
        norms: n norms.
        means: (n,), finite where they are seen.
        seen: (n,) bool, which of them there is a mean for.
        momentum: above 0, at most 1.
    """
    means = means.to(norms[0].norm)
    seen = seen & means.isfinite() & (means > LEAST_NORM)
    for norm, mean, there in zip(norms, means, seen, strict=True):
        unset = (norm.norm_count == 0) & (norm.norm[0] == 1.0)  # a norm without samples was set by hand
        moved = torch.where(unset, mean, norm.norm + momentum * (mean - norm.norm))
        norm.norm.copy_(torch.where(there, moved, norm.norm))
        norm.norm_count.copy_(torch.where(there, norm.norm_count.clamp_min(1), norm.norm_count))
        norm.norm_sum.copy_(norm.norm[0].to(norm.norm_sum.dtype) * norm.norm_count)
