"""What every test of the core shares."""

from __future__ import annotations

import multiprocessing
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import lossreg
from lossreg import registry

sys.path.insert(0, str(Path(__file__).parent))  # other processes import `start_rank.py` from there

from start_rank import run_as_rank

# A property's first example imports and compiles; its time says nothing about the property.
settings.register_profile("lossreg", deadline=None)
settings.register_profile("few", deadline=None, derandomize=True, database=None, max_examples=20)  # tox's `lowest`
settings.register_profile("fuzz", deadline=None, max_examples=8_000)  # `pytest tests/fuzz --hypothesis-profile=fuzz`
settings.load_profile("lossreg")


@pytest.fixture(autouse=True)
def local_registrations_end() -> Iterator[None]:
    """Let what a test registers by `lossreg.register` end with it, so that no later test sees it."""
    local = registry._local
    before = dict(local)
    yield
    if local != before:
        local.clear()
        local.update(before)
        lossreg.refresh()


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo", "lossreg.composition.multiloss"])


@pytest.fixture(scope="session")
def processes() -> multiprocessing.context.ForkServerContext:
    """Return what starts processes; they are forks of one that has imported torch, which takes seconds."""
    return PROCESSES


@pytest.fixture(scope="session")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Return a function that calls `module:function` or `file.py:function` in two processes, as torchrun does.

    It returns what each of them printed.
    """

    def call(function: str, *args: Any, **kwargs: Any) -> list[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = tmp_path_factory.mktemp("ranks")
        outputs = [folder / f"rank{rank}.txt" for rank in range(2)]
        ranks = [
            PROCESSES.Process(target=run_as_rank, args=(rank, port, output, function, args, kwargs))
            for rank, output in enumerate(outputs)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(100)
            process.kill()
        told = [output.read_text() for output in outputs]
        assert [process.exitcode for process in ranks] == [0, 0], told
        return told

    return call


@pytest.fixture
def on_ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Return a function that calls each of some functions on a rank of its own, a thread of this process.

    It returns what each returned, or the exception that it raised; `collectives` is how many there must be.
    """
    from thread_ranks import ThreadRanks  # it imports torch, which most tests do without

    def call(*calls: Callable[[], Any], collectives: int | None = None) -> list[Any]:
        ranks = ThreadRanks(len(calls))
        with monkeypatch.context() as patched:
            ranks.stand_in(patched)
            found = ranks.run(calls)
        assert collectives in (None, ranks.collectives)
        return found

    return call
