"""Run components in two processes with gloo; the processes are started once and used for all of them.

`python -m lossreg.testing.processes RANK STORE` reads pickled requests from standard input and writes pickled answers
to standard output.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.losses.base import Batch, Loss
from lossreg.losses.nested import mapped
from lossreg.testing.contract import Broken
from lossreg.testing.subject import Batches, at_epoch

SAMPLES = (3, 1)
"""The number of samples that each rank reports for its batch."""

_TIMEOUT = 180  # seconds for an answer; includes the import of torch in two processes on a busy machine


class _Pair:
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        store = Path(self.folder.name) / "store"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.ranks = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, str(rank), str(store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            for rank in range(len(SAMPLES))
        ]

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        watch = threading.Timer(_TIMEOUT, self.stop)
        watch.start()
        try:
            for rank, request in zip(self.ranks, requests, strict=True):
                assert rank.stdin is not None
                pickle.dump(request, rank.stdin)
                rank.stdin.flush()
            return [pickle.load(rank.stdout) for rank in self.ranks if rank.stdout is not None]
        finally:
            watch.cancel()

    def stop(self) -> None:
        """Kill the processes; waiting for an answer then raises EOFError."""
        for rank in self.ranks:
            rank.kill()

    def close(self) -> None:
        self.stop()
        for rank in self.ranks:
            rank.communicate()
        self.folder.cleanup()


_pairs: list[_Pair] = []


def ask(loss: Loss, shares: Sequence[Batches]) -> list[tuple[float, float]] | str:
    """Return the norm and the gradient of each rank, or a message if the loss cannot be sent to another process.

    Raises:
        Broken: a rank raised, died, or did not answer.
    """
    return call(norm_and_slope, loss, shares)


def call(function: Callable[[int, Any, Any], Any], component: Any, shares: Sequence[Any]) -> list[Any] | str:
    """Return what a function returns on each rank, or a message if a component cannot be sent to another process.

    Args:
        function: a function of a module, which is called with the rank, the component and the share of that rank.
        component: what is under test.
        shares: one for each rank.

    Raises:
        Broken: a rank raised, died, or did not answer.
    """
    if not _pairs:
        _pairs.append(_Pair())
    payload = [pickle.dumps((function, component, share)) for share in shares]
    try:
        answers = _pairs[0].ask([(sys.path, data) for data in payload])
    except (EOFError, OSError) as error:
        _end()
        raise Broken(f"one of two processes died, or did not answer within {_TIMEOUT} s") from error
    for answer in answers:
        if isinstance(answer, str):
            return answer
    failed = [f"rank {rank} raised {answer}" for rank, answer in enumerate(answers) if isinstance(answer, Exception)]
    if failed:
        _end()  # the other rank may still be waiting for this one
        raise Broken("; ".join(failed))
    return answers


@atexit.register
def _end() -> None:
    while _pairs:
        _pairs.pop().close()


class _Scale(nn.Module):
    """A network with one parameter: the predictions times 1."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, batch: Batch) -> Batch:
        scaled: Batch = mapped(batch, lambda t: t * self.factor.to(t.dtype) if t.is_floating_point() else t)
        return scaled


def value_and_slope(loss: Loss, batch: Batches, *, parallel: bool = False) -> tuple[float, float]:
    """Return the raw value and its derivative by a factor on the predictions, averaged over ranks if `parallel`."""
    network = _Scale()
    model = nn.parallel.DistributedDataParallel(network) if parallel else network
    torch.manual_seed(0)
    value: Tensor = loss(model(batch[0]), batch[1], normalize=False, **at_epoch(loss))[0]
    torch.autograd.backward(value)
    assert network.factor.grad is not None
    return float(value.detach()), float(network.factor.grad)


def norm_and_slope(rank: int, loss: Loss, batch: Batches) -> tuple[float, float]:
    """Return the norm over the ranks, and the derivative of the value by a factor on the predictions."""
    _, slope = value_and_slope(loss, batch, parallel=True)
    torch.manual_seed(0)
    loss.update_norm(*batch, SAMPLES[rank])
    loss.sync()
    return float(loss.norm), slope


def _answer(rank: int, data: bytes) -> Any:
    try:
        function, component, share = pickle.loads(data)
    except (ImportError, AttributeError) as error:
        return f"another process cannot import it: {error}"
    try:
        return function(rank, component, share)
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _serve(rank: int, store: str) -> None:
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # output of libraries must not mix with answers
    warnings.simplefilter("ignore")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks = len(SAMPLES)
    timeout = timedelta(seconds=_TIMEOUT / 3)
    dist.init_process_group("gloo", init_method=Path(store).as_uri(), rank=rank, world_size=ranks, timeout=timeout)
    while True:
        try:
            path, data = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        sys.path += [folder for folder in path if folder not in sys.path]
        pickle.dump(_answer(rank, data), answers)
        answers.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
