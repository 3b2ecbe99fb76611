"""The running norm of a loss: a sample-weighted average of its raw value, the same on every rank."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.errors import DistributedError

_STATISTICS = ("norm", "norm_sum", "norm_count")


class RunningNorm(nn.Module):
    """Own the buffers `norm`, `norm_sum` and `norm_count`, and keep the first the ratio of the others.

    The buffers are part of `state_dict`; one that holds `norm` alone loads strictly, as a norm set by hand.
    They keep their own precision when the module is cast (`half()`, `bfloat16()`).
    """

    name: str
    norm: Tensor  # [1], float32: what a normalised forward divides by
    norm_sum: Tensor  # [], float64: sum of value * samples that this rank has seen
    norm_count: Tensor  # [], int64: samples that this rank has seen

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm", torch.ones(1))
        self.register_buffer("norm_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("norm_count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def reset_norm(self) -> None:
        """Forget every sample and set the norm to 1."""
        self.norm.fill_(1.0)
        self.norm_sum.zero_()
        self.norm_count.zero_()

    @torch.no_grad()
    def record(self, value: Tensor, nums: int) -> None:
        """Add a mean `value` over `nums` samples to the running average; no sample changes nothing.

        Args:
            value: scalar, the raw loss of a batch.
            nums: samples in that batch, 0 or more.
        """
        nums = operator.index(nums)
        if nums < 0:
            raise ValueError(f"loss {self.name!r}: nums is the number of samples in the batch, got {nums}")
        if nums == 0:
            return
        self.norm_sum.add_(value.detach().to(self.norm_sum) * nums)
        self.norm_count.add_(nums)
        self.norm.fill_(self.norm_sum / self.norm_count)

    def sync(self, world_size: int | None = None) -> None:
        """Set the norm to the average over all ranks; see `sync_norms`."""
        sync_norms({self.name: self}, world_size)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningNorm:
        """Let `to(device)` move the statistics, and keep casts away from them."""
        before = {name: self._buffers[name] for name in _STATISTICS}
        self._buffers.update({name: torch.empty_like(b, dtype=torch.float32) for name, b in before.items() if b is not None})
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is None or moved is None:
                continue
            dtype = torch.float32 if moved.device.type == "mps" and buffer.is_floating_point() else buffer.dtype
            if buffer.is_meta:
                self._buffers[name] = torch.empty_like(moved, dtype=dtype)
            else:
                self._buffers[name] = buffer.to(moved.device, dtype)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take a checkpoint that holds the norm alone, as older programs wrote it."""
        if f"{prefix}norm" in state_dict:
            for name in _STATISTICS[1:]:
                state_dict.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
        super()._load_from_state_dict(state_dict, prefix, *args)


def sync_norms(norms: Mapping[str, RunningNorm], world_size: int | None = None) -> None:
    """Average norms over all ranks, weighted by the samples that each has seen, in one collective.

    Every rank gathers the same numbers and adds them in the order of the ranks, so all ranks end with the
    same norms bit for bit. Where no rank has counted a sample for a term (a norm set by hand), its norm
    becomes the plain mean of the ranks. Each rank keeps its own sum and count: to sync twice changes
    nothing, and to record more samples and sync again is exact. Without a process group it does nothing.

    Args:
        norms: name of each term -> its norm; the same names in the same order on every rank.
        world_size: checked against the process group's own where given.

    Raises:
        DistributedError: the ranks hold different terms, raised alike on every rank; or `world_size` is not
            the process group's.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    ranks = dist.get_world_size()
    if world_size is not None and world_size != ranks:
        raise DistributedError(f"sync: world_size is {world_size}, but the process group has {ranks} ranks")
    own = {
        name: (float(n.norm_sum), int(n.norm_count), float(n.norm)) for name, n in norms.items()
    }
    gathered: list[Any] = [None] * ranks
    dist.all_gather_object(gathered, own)
    _check_terms(gathered)
    for name, running in norms.items():
        rows = [rank[name] for rank in gathered]
        count = sum(row[1] for row in rows)
        average = sum(row[0] for row in rows) / count if count else sum(row[2] for row in rows) / ranks
        with torch.no_grad():
            running.norm.fill_(average)


def _check_terms(gathered: Sequence[Mapping[str, object]]) -> None:
    first = list(gathered[0])
    for rank, terms in enumerate(gathered):
        if list(terms) != first:
            raise DistributedError(
                f"sync: the ranks were built from different configs: rank 0 has the terms {first}, "
                f"rank {rank} has {list(terms)}; start every rank with the same config"
            )
