"""Fixtures: process groups that are started once per session, so that a property costs milliseconds."""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import sys
import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # `rank.py` imports what lies beside it
ANSWER = 60  # seconds


def _load(file):
    spec = importlib.util.spec_from_file_location(f"lossreg_tests_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RANK = _load(FOLDER / "rank.py")


class Group:
    """Real processes under gloo; `run` has each do the same thing and returns what each answered.

    They are forks, because a new process takes seconds to import torch.
    """

    def __init__(self, ranks: int, store: Path, timeout: float = 30) -> None:
        self.ranks = ranks
        self.processes, self.orders = [], {}
        context = multiprocessing.get_context("fork")
        for rank in range(ranks):
            self.orders[rank], theirs = context.Pipe()
            self.processes.append(
                context.Process(target=RANK.main, args=(theirs, rank, ranks, store, timeout), daemon=True)
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of a fork of a process with threads
                self.processes[-1].start()
            theirs.close()

    def run(self, scenario, each=None, dead=(), **options):
        """Ask every rank; `each` has options per rank, and `dead` are the ranks that cannot answer."""
        for rank, connection in self.orders.items():
            connection.send((scenario, {**options, **(each[rank] if each is not None else {})}))
        answers = []
        for rank, connection in self.orders.items():
            if rank in dead:
                continue
            assert connection.poll(ANSWER), f"rank {rank} does not answer"
            answers.append(connection.recv())
        return answers

    def close(self):
        for rank, connection in self.orders.items():
            if self.processes[rank].is_alive():
                connection.send(("stop", {}))
        for process in self.processes:
            process.join(ANSWER)
        self.kill()

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join()
        for connection in self.orders.values():
            connection.close()


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Start a group of so many ranks."""
    started = []

    def of(ranks):
        started.append(Group(ranks, tmp_path_factory.mktemp("group") / "store"))
        return started[-1]

    yield of
    for group in started:
        group.close()


@pytest.fixture(scope="session")
def groups(start):
    """Return a group of so many ranks, the same at each call."""
    return functools.cache(start)


@pytest.fixture
def short_lived(tmp_path):
    """Return a group of one's own, for a test that breaks it."""
    made = []

    def of(ranks, timeout):
        made.append(Group(ranks, tmp_path / "store", timeout))
        return made[-1]

    yield of
    for group in made:
        group.kill()


@pytest.fixture(scope="session")
def rank():
    """What the ranks run, in this process."""
    return RANK
