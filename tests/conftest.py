"""What every test of the core shares."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

import lossreg
from lossreg import registry

# A property's first example imports and compiles; its time says nothing about the property.
settings.register_profile("lossreg", deadline=None)
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


@pytest.fixture(scope="session")
def in_two_forks() -> Callable[..., None]:
    """Return what calls a function in two processes, as torchrun would start them.

    They are forks, because a new process takes seconds to import torch.
    """

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        ranks = [context.Process(target=be, args=(rank, port, function, args, kwargs)) for rank in range(2)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12, where there are threads
            for process in ranks:
                process.start()
        for process in ranks:
            process.join(100)
            process.kill()
        assert [process.exitcode for process in ranks] == [0, 0]

    def be(rank: int, port: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        warnings.resetwarnings()  # here, as in a process of its own, a warning is no error
        function(*args, **kwargs)

    return call
