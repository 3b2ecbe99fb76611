"""Means over the steps of an epoch and over the processes of a run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg import MultiLoss


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
    """The mean total, terms and adaptive coefficients of the steps inside its `with` block.

    What an adaptive weighting does to a term is what it made of its value, divided by the value.
    """

    def __init__(self, criterion: MultiLoss) -> None:
        self._weightings = list(_weightings(criterion))
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._paths = sorted(
            ["total", *(f"term {path}" for path, _ in criterion.leaves())]
            + [f"coefficient {prefix}{name}" for prefix, weighting in self._weightings for name in weighting.names]
        )

    def __enter__(self) -> StepMeans:
        self._handles = [
            weighting.register_forward_hook(self._listener(prefix)) for prefix, weighting in self._weightings
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def add(self, total: Tensor, terms: dict[str, Tensor]) -> None:
        """Take in a step: its total, and its terms by path."""
        self._record("total", total.item())
        for path, value in terms.items():
            self._record(f"term {path}", value.item())

    def gather(self) -> None:
        """Join the steps of all processes; each must call it."""
        if world_size() > 1:
            both = torch.tensor([[self._sums[p], self._counts[p]] for p in self._paths], dtype=torch.float64)
            dist.all_reduce(both)
            self._sums = {path: float(both[i, 0]) for i, path in enumerate(self._paths)}
            self._counts = {path: int(both[i, 1]) for i, path in enumerate(self._paths)}

    @property
    def total(self) -> float:
        """The mean total."""
        return self._sums["total"] / self._counts["total"]

    @property
    def terms(self) -> dict[str, float]:
        """The mean of each term by path, over the steps that had it."""
        return {
            path.removeprefix("term "): self._sums[path] / count
            for path, count in self._counts.items()
            if path.startswith("term ") and count
        }

    def coefficient(self, path: str) -> float:
        """Return what the adaptive weightings multiplied a term by: its own, its group's, and so on up."""
        product = 1.0
        parts = path.split("/")
        for i in range(len(parts)):
            key = f"coefficient {'/'.join(parts[: i + 1])}"
            if self._counts.get(key):
                product *= self._sums[key] / self._counts[key]
        return product

    def _record(self, key: str, value: float) -> None:
        self._sums[key] += value
        self._counts[key] += 1

    def _listener(self, prefix: str) -> Any:
        def listen(weighting: Any, arguments: tuple[Any, ...], contributions: Tensor) -> None:
            values, active = arguments[0].detach(), arguments[1] if len(arguments) > 1 else None
            names = weighting.names if active is None else [weighting.names[i] for i in active]
            for name, value, contribution in zip(names, values.tolist(), contributions.detach().tolist(), strict=True):
                if value != 0:
                    self._record(f"coefficient {prefix}{name}", contribution / value)

        return listen


def _weightings(criterion: MultiLoss, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the adaptive weightings of a criterion and its groups, each with its terms' prefix."""
    if criterion.weighting is not None:
        yield prefix, criterion.weighting
    for term in criterion.terms:
        if isinstance(term.loss, MultiLoss):
            yield from _weightings(term.loss, f"{prefix}{term.name}/")
