"""The record of a forward: what each term came to, and what it added to the total."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from lossreg.composition.vectors import chosen
from lossreg.losses.mean import Count, counted, largest
from lossreg.losses.paths import join


@dataclass(frozen=True)
class TermRecord:
    """What one term, or one group, came to in one forward.

    All numbers are detached scalars on the device of the forward.
    `contribution` is `weight * coefficient * value / norm`, plus what `uncertainty` adds, times `weight`; in a
    window, the share of that which this forward adds.

    Attributes:
        name: its path, `group/term`.
        value: its raw value; of a group, its total.
        count: how many elements the value is a mean over, or the sum of their weights; of a loss that adds up several
            means, the largest of their counts. None where the loss does not say.
        norm: what the value was divided by; 1 where it was not normalised.
        weight: its scheduled weight, times the weights of its groups.
        coefficient: what adaptive weightings multiplied it by, those of its groups too; 1 where there is none, and
            where its weight is 0.
        contribution: what it added to the total.
    """

    name: str
    value: Tensor
    count: Tensor | None
    norm: Tensor
    weight: Tensor
    coefficient: Tensor
    contribution: Tensor


class Parts(NamedTuple):
    """What a forward leaves for its record, as it is: vectors over the terms that the batch had.

    Attributes:
        names: the names of all terms of the `MultiLoss`.
        positions: which of them the batch had: first the m that are on, then those of weight 0.
        values: (k,) raw values.
        norms: (k,) what they were divided by; None for ones.
        weights: (n,) scheduled weights of all terms.
        coefficients: (m,) what the weighting multiplied by; None for ones.
        shares: (m,) of the total.
        groups: the parts of groups by position.
        counts: of the means of each of the k terms; none where a loss has a scalar, and for groups.
        shared: (k,) what the raw values add to a window's; None outside of one.
    """

    names: tuple[str, ...]
    positions: tuple[int, ...]
    values: Tensor
    norms: Tensor | None
    weights: Tensor
    coefficients: Tensor | None
    shares: Tensor
    groups: dict[int, Parts]
    counts: tuple[tuple[Count, ...], ...]
    shared: Tensor | None


class Record(Mapping[str, TermRecord]):
    """The terms of one forward by path, those of groups as `group/term`; terms that the batch lacked are not there.

    It is made of what the forward has computed anyway, when it is first looked into. It holds no graph, reads nothing
    back from the device, and never changes.

    Attributes:
        epoch, step: the time, as it was given to the forward.
    """

    def __init__(self, parts: Parts, epoch: float | None, step: float | None) -> None:
        self._parts = parts
        self.epoch = epoch
        self.step = step

    @property
    def total(self) -> Tensor:
        """The total, a detached scalar."""
        return self._parts.shares.sum()

    @property
    def in_window(self) -> bool:
        """Whether the forward was in a window, so that its total is a share of the window's."""
        return self._parts.shared is not None

    @property
    def groups(self) -> dict[str, TermRecord]:
        """The groups by path. A group's own contribution is there too, with what its weighting in the total adds."""
        return {entry.name: entry for entry, is_group in self._entries if is_group}

    @cached_property
    def _entries(self) -> tuple[tuple[TermRecord, bool], ...]:
        one = self._parts.shares.new_ones(())
        return tuple(_entries(self._parts, "", one, one))

    @cached_property
    def _terms(self) -> dict[str, TermRecord]:
        return {entry.name: entry for entry, is_group in self._entries if not is_group}

    def __getitem__(self, path: str) -> TermRecord:
        return self._terms[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __repr__(self) -> str:
        return f"Record({', '.join(self)})"


def _entries(parts: Parts, group: str, weight: Tensor, coefficient: Tensor) -> Iterator[tuple[TermRecord, bool]]:
    """Yield the terms and groups of a `MultiLoss`, each with whether it is a group.

    Args:
        parts: what its forward has left.
        group: the path of the group that it is; empty for the whole.
        weight, coefficient: what its total is multiplied by.
    """
    size = len(parts.positions)

    def column(vector: Tensor | None, fill: float) -> Tensor:
        known = vector if vector is not None else parts.values[:0]
        return torch.cat([known, known.new_full((size - len(known),), fill)])

    values, norms = column(parts.values, 0.0), column(parts.norms, 1.0)
    weights, shares = chosen(parts.weights, parts.positions), column(parts.shares, 0.0)
    coefficients = column(parts.coefficients, 1.0).masked_fill(weights == 0, 1.0)
    order = sorted(range(size), key=lambda k: parts.positions[k])
    for k in order:
        i = parts.positions[k]
        path, inner = join(group, parts.names[i]), parts.groups.get(i)
        scheduled, adaptive = weight * weights[k], coefficient * coefficients[k]
        contribution = (weight * coefficient * shares[k]).to(values[k])
        count = counted(largest(parts.counts[k]), values) if parts.counts[k] else None
        yield TermRecord(path, values[k], count, norms[k], scheduled, adaptive, contribution), inner is not None
        if inner is not None:
            yield from _entries(inner, path, scheduled, adaptive)
