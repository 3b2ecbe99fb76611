"""Ranks that are threads of one process: what needs no other process is tried in milliseconds."""

from __future__ import annotations

import pickle
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor


class ThreadRanks:
    """Threads that `torch.distributed` takes for the ranks of a process group.

    A collective that a rank never enters, since it has ended, is an error on the others, as under gloo.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.collectives = 0
        self.store = dist.HashStore()
        self.store.set_timeout(timedelta(seconds=2))
        self._own = threading.local()
        self._changed = threading.Condition()

    def run(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Call each function on a rank of its own; return what each returned, or the exception that it raised."""
        self._shares: dict[int, dict[int, Any]] = defaultdict(dict)
        self._entered = [0] * self.size
        self._ended = [False] * self.size
        found: list[Any] = [None] * self.size
        threads = [threading.Thread(target=self._run, args=(rank, call, found)) for rank, call in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def _run(self, rank: int, call: Callable[[], Any], found: list[Any]) -> None:
        self._own.rank = rank
        try:
            found[rank] = call()
        except Exception as error:
            found[rank] = error
        with self._changed:
            self._ended[rank] = True
            self._changed.notify_all()

    def exchange(self, share: Any) -> list[Any]:
        """Return the shares of all ranks, in their order."""
        rank = self._own.rank
        with self._changed:
            shares = self._shares[self._entered[rank]]
            self._entered[rank] += 1
            self.collectives = max(self._entered)
            shares[rank] = share
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(shares) == self.size or self._is_left(shares))
            if len(shares) < self.size:
                raise RuntimeError("Connection closed by peer")
            return [shares[other] for other in range(self.size)]

    def _is_left(self, shares: dict[int, Any]) -> bool:
        return any(ended and rank not in shares for rank, ended in enumerate(self._ended))

    def all_reduce(self, tensor: Tensor) -> None:
        """Add up a tensor in place."""
        with torch.no_grad():
            tensor.copy_(torch.stack(self.exchange(tensor.clone())).sum(0))

    def all_gather_object(self, gathered: list[Any], share: Any) -> None:
        """Gather objects, each of which is a copy."""
        gathered[:] = map(pickle.loads, self.exchange(pickle.dumps(share)))

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the process group of `torch.distributed`."""
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: self.size)
        monkeypatch.setattr(dist, "get_rank", lambda: self._own.rank)
        monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: self.store)
        monkeypatch.setattr(dist, "all_reduce", self.all_reduce)
        monkeypatch.setattr(dist, "all_gather_object", self.all_gather_object)
