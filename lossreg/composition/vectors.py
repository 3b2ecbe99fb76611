"""Vectors over terms: what is done to each term is done to all in one launch, and nothing is copied to the device."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.losses.mean import Count, counted


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Stack scalars of any dtypes into a vector of at least float32."""
    dtypes = {value.dtype for value in values} - {torch.float32}
    if not dtypes:
        return torch.stack(list(values))
    dtype = functools.reduce(torch.promote_types, dtypes, torch.float32)
    if len({value.dtype for value in values}) == 1:
        return torch.stack(list(values)).to(dtype)
    return torch.stack([value.to(dtype) for value in values])


def chosen(vector: Tensor, positions: Sequence[int]) -> Tensor:
    """Return (k,) the elements of a vector at some positions; an index would be copied to the device."""
    rows = vector.unbind()
    return torch.stack([rows[i] for i in positions]) if positions else vector[:0]


def counts_as(counts: Sequence[Count], like: Tensor) -> Tensor:
    """Return (n,) counts, detached, in the dtype and on the device of a tensor; a launch for each number in them."""
    if torch.compiler.is_compiling():  # which makes one launch of it; sizes may be symbols there
        return torch.stack([counted(count, like) for count in counts])
    moving = [count.detach() for count in counts if isinstance(count, Tensor)]
    rows = iter(stacked(moving).to(like).unbind() if moving else ())
    numbers = {c: like.new_full((), c) for c in {c for c in counts if not isinstance(c, Tensor)}}
    return torch.stack([next(rows) if isinstance(count, Tensor) else numbers[count] for count in counts])
