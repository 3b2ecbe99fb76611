"""Means over the steps of an epoch and over the processes of a run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg.composition.record import Record


def rank() -> int:
    """Return the rank of this process; 0 if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def term_columns(paths: Iterable[str]) -> list[str]:
    """Return the columns of `metrics.csv` for terms: raw value, norm, and the weight with adaptive coefficients."""
    return [f"{column}/{path}" for path in paths for column in ("value", "norm", "weight")]


class StepMeans:
    """The mean of the total, and of each term's value, norm and weight, over the steps of an epoch.

    Args:
        paths: the terms.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._keys = ["total", *sorted(term_columns(paths))]

    def add(self, record: Record) -> None:
        """Add the record of a step's forward."""
        self._add("total", record.total)
        for path, term in record.items():
            self._add(f"value/{path}", term.value)
            self._add(f"norm/{path}", term.norm)
            self._add(f"weight/{path}", term.weight * term.coefficient)

    def gather(self) -> None:
        """Add up the steps of all processes; every process must call it."""
        if world_size() > 1:
            both = torch.tensor([[self._sums[k], self._counts[k]] for k in self._keys], dtype=torch.float64)
            dist.all_reduce(both)
            self._sums = {key: float(both[i, 0]) for i, key in enumerate(self._keys)}
            self._counts = {key: int(both[i, 1]) for i, key in enumerate(self._keys)}

    def row(self) -> dict[str, float]:
        """Return the means by their columns in `metrics.csv`; a term counts only in the steps that had it."""
        return {key: self._sums[key] / self._counts[key] for key in self._keys if self._counts[key]}

    def _add(self, key: str, number: Tensor) -> None:
        self._sums[key] += number.item()
        self._counts[key] += 1
