"""Means over the steps of an epoch and over the processes of a run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Return the number of this process; 0 where it is the only one."""
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


class StepMeans:
    """The mean total, terms and adaptive coefficients of the steps that it was given."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._keys = ["total", *sorted(f"{kind} {path}" for path in paths for kind in ("term", "coefficient"))]

    def add(self, total: Tensor, terms: Mapping[str, Tensor], coefficients: Mapping[str, Tensor]) -> None:
        """Take in a step: its total, and the values and coefficients of its terms by path."""
        self._record("total", total.item())
        for path, value in terms.items():
            self._record(f"term {path}", value.item())
            self._record(f"coefficient {path}", coefficients[path].item())

    def gather(self) -> None:
        """Join the steps of all processes; each must call it."""
        if world_size() > 1:
            both = torch.tensor([[self._sums[k], self._counts[k]] for k in self._keys], dtype=torch.float64)
            dist.all_reduce(both)
            self._sums = {key: float(both[i, 0]) for i, key in enumerate(self._keys)}
            self._counts = {key: int(both[i, 1]) for i, key in enumerate(self._keys)}

    @property
    def total(self) -> float:
        """The mean total."""
        return self._sums["total"] / self._counts["total"]

    @property
    def terms(self) -> dict[str, float]:
        """The mean of each term by path, over the steps that had it."""
        return self._means("term")

    @property
    def coefficients(self) -> dict[str, float]:
        """The mean of what adaptive weightings multiplied each term by, over the steps that had it."""
        return self._means("coefficient")

    def _means(self, kind: str) -> dict[str, float]:
        keys = [key for key, count in self._counts.items() if key.startswith(f"{kind} ") and count]
        return {key.removeprefix(f"{kind} "): self._sums[key] / self._counts[key] for key in keys}

    def _record(self, key: str, value: float) -> None:
        self._sums[key] += value
        self._counts[key] += 1
