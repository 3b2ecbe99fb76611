"""Fixtures: process groups that are started once per session, so that a property costs milliseconds."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the ranks import `rank.py` from there

import rank as what_ranks_do

ANSWER = 60  # seconds


class Group:
    """Real processes under gloo; `run` has each do the same thing and returns what each answered."""

    def __init__(self, processes, ranks: int, store: Path, timeout: float = 30) -> None:
        self.ranks = ranks
        self.processes, self.orders = [], {}
        for rank in range(ranks):
            self.orders[rank], theirs = processes.Pipe()
            arguments = (theirs, rank, ranks, store, timeout)
            self.processes.append(processes.Process(target=what_ranks_do.main, args=arguments, daemon=True))
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
def start(processes, tmp_path_factory):
    """Start a group of so many ranks."""
    started = []

    def of(ranks):
        started.append(Group(processes, ranks, tmp_path_factory.mktemp("group") / "store"))
        return started[-1]

    yield of
    for group in started:
        group.close()


@pytest.fixture(scope="session")
def groups(start):
    """Return a group of so many ranks, the same at each call."""
    return functools.cache(start)


@pytest.fixture
def short_lived(processes, tmp_path):
    """Return a group of one's own, for a test that breaks it."""
    made = []

    def of(ranks, timeout):
        made.append(Group(processes, ranks, tmp_path / "store", timeout))
        return made[-1]

    yield of
    for group in made:
        group.kill()


@pytest.fixture(scope="session")
def rank():
    """What the ranks run, in this process."""
    return what_ranks_do
