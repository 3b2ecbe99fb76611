"""Measure times in turns, bytes saved for the backward, and peak memory."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# set before torch is imported; else the profiler logs each start and stop
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

Call = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """The length of a run.

    Attributes:
        seconds: time for the rounds of one comparison.
        rounds: minimum number of rounds.
        compiled: whether compiled functions are measured.
        sweeps: whether sizes, batches, threads and dtypes are varied; else only the rows for the targets are measured.
    """

    seconds: float = 4.0
    rounds: int = 9
    compiled: bool = True
    sweeps: bool = True


QUICK = Effort(seconds=0.0, rounds=3, compiled=False, sweeps=False)


@dataclass(frozen=True)
class Times:
    """Seconds per call of one side of a comparison, for each round."""

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
    """Return the times of calls, measured in turns with `torch.utils.benchmark`, which synchronises with a GPU.

    At least two warm-up calls precede each turn, so that a call is not charged for the caches that another one emptied.

    Args:
        calls: functions without arguments, by name.
        effort: the number of rounds.
        threads: number of PyTorch threads.
    """
    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in calls.items()}
    return in_turns({name: lambda number, t=t: t.timeit(number).mean * number for name, t in timers.items()}, effort)


def in_turns(timers: Mapping[str, Callable[[int], float]], effort: Effort, block: float = 0.01) -> dict[str, Times]:
    """Return times measured in turns (A B C, B C A, ...), so that a slower machine affects all of them.

    Args:
        timers: functions by name that make a number of calls and return their time in seconds.
        effort: the number of rounds.
        block: minimum length of a turn in seconds.
    """
    numbers = {name: max(1, round(block / timer(1))) for name, timer in timers.items()}
    seconds_of: dict[str, list[float]] = {name: [] for name in timers}
    order, end = list(timers), time.monotonic() + effort.seconds
    while len(seconds_of[order[0]]) < effort.rounds or time.monotonic() < end:
        for name in order:
            seconds_of[name].append(timers[name](numbers[name]) / numbers[name])
        order.append(order.pop(0))
    return {name: Times(tuple(seconds)) for name, seconds in seconds_of.items()}


def saved_bytes(forward: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> int:
    """Return the bytes that autograd saves for the backward, without the inputs.

    Tensors with a common storage count once, with the whole storage, since that stays in memory.
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
    del value  # only now, because the address of a freed storage may be reused
    return total


def peak_bytes(call: Call, device: str = "cpu") -> int:
    """Return the peak number of bytes on a device during a call, without those allocated before it.

    On a GPU the number is from the caching allocator, on the CPU from the profiler's memory events.
    """
    call()  # warm-up: one-time allocations such as compiled code do not count
    if device == "cuda":
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
