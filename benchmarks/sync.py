"""Measure the synchronisation of norms: one collective for all terms, compared with one per term."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from composition import trivial
from measure import Effort, Times
from results import Row, timed

from lossreg.losses.norm import RunningNorm

CALLS = 5
PATIENCE = timedelta(seconds=120)


def one_a_term(norms: list[RunningNorm]) -> None:
    """Average each norm over the processes, weighted by its samples, in one collective per norm."""
    for norm in norms:
        both = torch.stack([norm.norm_sum, norm.norm_count.double()])
        dist.all_reduce(both)
        norm.norm.fill_(both[0] / both[1])


def rank_main(rank: int, ranks: int, terms: int, effort: Effort, folder: str) -> None:
    """Time both on one process of a gloo group; rank 0 writes the times."""
    torch.set_num_threads(1)
    store = (Path(folder) / "store").as_uri()
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=PATIENCE)
    try:
        multi = trivial(terms)
        norms = [term.loss for _, term in multi.leaves() if isinstance(term.loss, RunningNorm)]
        for i, norm in enumerate(norms):
            norm.record(torch.tensor(1.0 + i + rank), nums=rank + 1)
        calls = (multi.sync, lambda: one_a_term(norms))
        averages = []
        for call in calls:
            call()
            averages.append(torch.cat([norm.norm for norm in norms]))
        torch.testing.assert_close(*averages)
        times = _time(calls, effort)
        if rank == 0:
            (Path(folder) / "times").write_bytes(pickle.dumps(times))
    finally:
        dist.destroy_process_group()


def _time(calls: tuple[Callable[[], object], ...], effort: Effort) -> list[list[float]]:
    """Return the seconds per call, measured in turns; every rank makes the same number of calls."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(5 * effort.rounds):
        for call, seconds in zip(calls, times, strict=True):
            dist.barrier()
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            seconds.append((time.perf_counter() - start) / CALLS)
    return times


def compare(ranks: int, terms: int, effort: Effort) -> list[Row]:
    """Start a process group, and return its row."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank_main, (ranks, terms, effort, folder), nprocs=ranks)
        ours, theirs = (Times(tuple(s)) for s in pickle.loads((Path(folder) / "times").read_bytes()))
    setting = {"terms": terms, "processes": ranks}
    return [timed("sync", "MultiLoss.sync", "one collective a term", setting, "call", ours, theirs)]


def cases(effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the comparisons with labels for the progress bar."""
    for ranks in (2, 4) if effort.sweeps else (2,):
        for terms in (10, 100) if effort.sweeps else (10,):
            yield f"sync of {terms} terms on {ranks} processes", lambda r=ranks, t=terms: compare(r, t, effort)
