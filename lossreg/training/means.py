"""Means over forwards, and over ranks, of what each term of a criterion came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg.composition.multiloss import MultiLoss
from lossreg.composition.record import Record
from lossreg.losses.paths import join
from lossreg.losses.ranks import several

KINDS: Final = ("losses", "weights", "norms", "coefficients")
_NUMBERS = ("value", "norm", "weight", "coefficient")
_MOST = 64  # records that are kept before they are added up


class _Forward(NamedTuple):
    """A forward, and what its total counts: `numerator` of what adds up to a total, `denominator` of its share."""

    record: Record
    samples: int
    numerator: float
    denominator: float


class TermMeans:
    """The means of terms over the forwards since they were last asked for.

    A value is averaged over what it is a mean of: elements where the loss counts them, else samples. The other numbers
    are averaged over the forwards that had the term. The micro-batches of a window add up to one total.
    Nothing is launched or read while forwards are added, but every 64 of them are added up.

    Args:
        criterion: the criterion whose records come.
        kinds: what to average: `"losses"` (values over their norms), `"weights"` (the schedule's, times the
            coefficient), `"norms"` (of terms that are normalised), `"coefficients"` (of terms that a weighting moves),
            and `"values"` (raw).
    """

    def __init__(self, criterion: MultiLoss, kinds: Sequence[str] = KINDS) -> None:
        self._criterion, self._kinds = criterion, tuple(kinds)
        self._device = criterion.calibrated.device
        self._step: list[tuple[Record, int]] = []
        self._forwards: list[_Forward] = []
        self._sums: dict[tuple[str, str], Tensor] = {}

    def add(self, record: Record, samples: int) -> None:
        """Add a forward of a number of samples."""
        self._step.append((record, samples))

    def close_step(self) -> None:
        """Say that the forwards so far belong to one step of the optimizer."""
        windowed = sum(record.in_window for record, _ in self._step)
        for record, samples in self._step:
            weights = (1.0, 1.0 / windowed) if record.in_window else (float(samples), float(samples))
            self._forwards.append(_Forward(record, samples, *weights))
        self._step.clear()
        if len(self._forwards) >= _MOST:
            self._add_up()

    def clear(self) -> None:
        """Forget all forwards."""
        self._step.clear()
        self._forwards.clear()
        self._sums.clear()

    def take(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[tuple[str, str], float]:
        """Return the means by `(kind, path)`, of the total by `("total", "")`, and forget the forwards.

        A term that no forward had is left out. It takes one collective, and reads one tensor back to the host.

        Args:
            reduce: adds up a tensor over the ranks; every rank must call. By default this rank's means are returned.
        """
        self.close_step()
        self._add_up()
        wanted = tuple(columns(self._criterion, self._kinds))  # a group may have got members since
        nothing = self._zeros(2)
        sums = torch.stack([self._sums.get(column, nothing) for column in wanted], 1)
        self._sums.clear()
        numerators, denominators = (sums if reduce is None else reduce(sums)).tolist()
        means = zip(wanted, numerators, denominators, strict=True)
        return {column: numerator / denominator for column, numerator, denominator in means if denominator}

    def _zeros(self, *shape: int) -> Tensor:
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(shape, dtype=dtype, device=self._device)

    def _add_up(self) -> None:
        """Add the forwards to the sums of each column: a numerator and a denominator."""
        if not self._forwards:
            return
        forwards, self._forwards = self._forwards, []
        zero, paths = self._zeros(), tuple(path for path, _ in self._criterion.leaves())
        numbers = [[self._numbers_of(forward.record, path, zero) for path in paths] for forward in forwards]
        flat = torch.stack([number for rows in numbers for row in rows for number in row])
        table = flat.view(len(forwards), len(paths), len(_NUMBERS) + 2).unbind(-1)
        value, norm, weight, coefficient, count, uncounted = table
        counts = count + uncounted * zero.new_tensor([[forward.samples] for forward in forwards])
        there = (counts > 0).to(counts)
        known = {
            "values": (value * counts, counts),
            "losses": (torch.where(norm == 0, value, value / norm) * counts, counts),
            "norms": (norm * there, there),
            "weights": (weight * coefficient * there, there),
            "coefficients": (coefficient * there, there),
        }
        totals = torch.stack([forward.record.total.to(zero) for forward in forwards])
        of_totals = zero.new_tensor([(forward.numerator, forward.denominator) for forward in forwards])
        sums = {kind: torch.stack(both).sum(1).unbind(1) for kind, both in known.items()}
        total = torch.stack([(totals * of_totals[:, 0]).sum(), of_totals[:, 1].sum()])
        added = {("total", ""): total}
        added |= {(kind, path): both for kind, rows in sums.items() for path, both in zip(paths, rows, strict=True)}
        self._sums = {column: self._sums.get(column, 0) + both for column, both in added.items()}

    @staticmethod
    def _numbers_of(record: Record, path: str, zero: Tensor) -> list[Tensor]:
        """Return the numbers of a term, its count, and 1 where samples are to be counted instead."""
        term = record.get(path)
        if term is None:
            return [zero] * (len(_NUMBERS) + 2)
        count = (zero, zero + 1) if term.count is None else (term.count.to(zero), zero)
        return [*(getattr(term, name).to(zero) for name in _NUMBERS), *count]


def add_over_ranks(sums: Tensor) -> Tensor:
    """Return sums over all ranks."""
    if several():
        dist.all_reduce(sums)
    return sums


def columns(criterion: MultiLoss, kinds: Sequence[str] = KINDS) -> Iterator[tuple[str, str]]:
    """Yield `(kind, path)` of what there is to say of each term, and `("total", "")`."""
    for path, normalized, adaptive in leaves(criterion):
        for kind in kinds:
            if (kind != "norms" or normalized) and (kind != "coefficients" or adaptive):
                yield kind, path
    yield "total", ""


def leaves(
    criterion: MultiLoss, group: str = "", normalized: bool = True, adaptive: bool = False
) -> Iterator[tuple[str, bool, bool]]:
    """Yield each term's path, whether it is normalised, and whether a weighting moves it."""
    normalized, adaptive = normalized and criterion.normalize, adaptive or criterion.weighting is not None
    for term in criterion.terms:
        path = join(group, term.name)
        if isinstance(term.loss, MultiLoss):
            yield from leaves(term.loss, path, normalized, adaptive)
        else:
            yield path, normalized and term.normalize, adaptive
