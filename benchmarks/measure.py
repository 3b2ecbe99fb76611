"""How the benchmark measures: times side by side, bytes saved for backward, and peaks."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read with torch: else the profiler tells of each start and stop
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

Call = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How long a run may take.

    Attributes:
        seconds: for the rounds of one comparison.
        rounds: the least number of rounds, however long they take.
        compiled: whether the compiler is tried.
        sweeps: whether sizes, batches, threads and dtypes are gone through; else the rows of the bars alone.
    """

    seconds: float = 4.0
    rounds: int = 9
    compiled: bool = True
    sweeps: bool = True


QUICK = Effort(seconds=0.0, rounds=3, compiled=False, sweeps=False)


@dataclass(frozen=True)
class Times:
    """Seconds a call of one side of a comparison, one for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """The fastest round, in seconds."""
        return min(self.seconds)


def interleaved(calls: Mapping[str, Call], effort: Effort, threads: int = 1) -> dict[str, Times]:
    """Time calls in turns by `torch.utils.benchmark`, which synchronises with a GPU.

    Before each turn it makes two calls or more that do not count: what follows another call is not charged for
    the cache that that one emptied.

    Args:
        calls: name -> what to call, without arguments.
        effort: how many rounds.
        threads: the threads of PyTorch's operators.
    """
    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in calls.items()}
    return in_turns({name: lambda number, t=t: t.timeit(number).mean * number for name, t in timers.items()}, effort)


def in_turns(timers: Mapping[str, Callable[[int], float]], effort: Effort, block: float = 0.01) -> dict[str, Times]:
    """Time in turns, A B C, B C A, ..., so that a machine that slows down slows down all of them.

    Args:
        timers: name -> function of a number of calls that makes them and returns the seconds that they took.
        effort: how many rounds.
        block: the least length of a turn, in seconds.
    """
    numbers = {name: max(1, round(block / timer(1))) for name, timer in timers.items()}
    found: dict[str, list[float]] = {name: [] for name in timers}
    order, end = list(timers), time.monotonic() + effort.seconds
    while len(found[order[0]]) < effort.rounds or time.monotonic() < end:
        for name in order:
            found[name].append(timers[name](numbers[name]) / numbers[name])
        order.append(order.pop(0))
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}


def saved_bytes(forward: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> int:
    """Return the bytes that autograd keeps from a forward for its backward, those of the inputs apart.

    Tensors that share a storage count once, with the whole storage, which is what stays in memory.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = forward()
    total = sum(kept.values())
    del value  # not before: a storage that is freed gives its address to the next
    return total


def peak_bytes(call: Call) -> int:
    """Return the most bytes that a call held at once beyond what was held before it.

    On a GPU this is the caching allocator's own figure, on the CPU the sum of the profiler's memory events.
    """
    call()  # what is made once, such as compiled code, is not the call's
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
