"""Fixtures: process groups that are started once per session, so that a property costs milliseconds."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

RANK = Path(__file__).with_name("rank.py")
sys.path.insert(0, str(RANK.parent))  # `rank.py` imports what lies beside it
START, ANSWER = 120, 60  # seconds


class Group:
    """Real processes under gloo; `run` has each do the same thing and returns what each answered."""

    def __init__(self, ranks: int, store: Path, timeout: float = 30) -> None:
        self.ranks = ranks
        with Listener(("127.0.0.1", 0)) as listener:
            listener._listener._socket.settimeout(START)
            command = [sys.executable, str(RANK), str(listener.address[1])]
            path = os.pathsep.join([str(RANK.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
            self.processes = [
                subprocess.Popen([*command, str(rank), str(ranks), str(store), str(timeout)], env=environment)
                for rank in range(ranks)
            ]
            try:
                found = [listener.accept() for _ in range(ranks)]
            except BaseException:
                self.kill()
                raise
        self.orders = dict(sorted((connection.recv(), connection) for connection in found))

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
            if self.processes[rank].poll() is None:
                connection.send(("stop", {}))
        try:
            for process in self.processes:
                process.wait(ANSWER)
        finally:
            self.kill()
        for connection in self.orders.values():
            connection.close()

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def groups(tmp_path_factory):
    """Return a group of so many ranks, the same at each call."""
    started = {}

    def of(ranks):
        if ranks not in started:
            started[ranks] = Group(ranks, tmp_path_factory.mktemp("group") / "store")
        return started[ranks]

    yield of
    for group in started.values():
        group.close()


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
        for connection in group.orders.values():
            connection.close()


@pytest.fixture(scope="session")
def rank():
    """What the ranks run, in this process."""
    spec = importlib.util.spec_from_file_location("lossreg_tests_rank", RANK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
