"""Norms that go on during training: an exponential average, the same on all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lossreg.losses.norm import RunningNorm
from lossreg.losses.ranks import add_up

LEAST_NORM = 1e-9
"""The smallest average that may divide a loss."""


@torch.no_grad()
def track_norms(norms: Sequence[RunningNorm], values: Mapping[int, Tensor], momentum: float) -> None:
    """Move norms toward the values of a batch: `norm += momentum * (mean over ranks - norm)`.

    A norm that nothing was recorded for, and that nobody set, takes the first mean as it is. A value that is not
    finite, or too small to divide by, leaves its norm alone. Under a process group every rank must call it (one
    collective).

    Args:
        norms: the norms, in an order that all ranks share.
        values: position among them -> raw value, for the terms that this batch has.
        momentum: above 0, at most 1.
    """
    if not norms:
        return
    zero = norms[0].norm.new_zeros(())
    raw = torch.stack([values[i].detach().to(zero) if i in values else zero for i in range(len(norms))])
    usable = raw.isfinite() & (raw > LEAST_NORM)
    sums = torch.stack([raw.where(usable, zero), usable.to(raw.dtype)])  # (2, n)
    sums = add_up(sums, "track_norms")
    means = sums[0] / sums[1].clamp_min(1.0)
    for norm, mean, seen in zip(norms, means, sums[1] > 0, strict=True):
        unset = (norm.norm_count == 0) & (norm.norm[0] == 1.0)  # a norm without samples was set by hand
        moved = torch.where(unset, mean, norm.norm + momentum * (mean - norm.norm))
        norm.norm.copy_(torch.where(seen, moved, norm.norm))
        norm.norm_count.copy_(torch.where(seen, norm.norm_count.clamp_min(1), norm.norm_count))
        norm.norm_sum.copy_(norm.norm[0].to(norm.norm_sum.dtype) * norm.norm_count)
