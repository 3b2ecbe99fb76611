"""Exchange facts and errors between ranks, so that no rank waits for a failed one.

If only one rank raises, the others hang in their next collective. Inside `told` such an error is deferred (`deferred`)
until the next collective of that rank (`add_up`), where all ranks raise.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg.errors import DistributedError

T = TypeVar("T")

_MAX_DIFFERENCES = 5  # in a message
_WIDTH = 160  # maximum number of characters of a value in a message


def several() -> bool:
    """Return whether there are several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(share: T, owner: str) -> list[T]:
    """Return the shares of all ranks in their order, by one collective that every rank must enter.

    Raises:
        DistributedError: another rank is gone, or did not answer within the timeout of the process group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [share]
    gathered: list[Any] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(gathered, share)
    except RuntimeError as error:
        raise gone(owner, error) from error
    return gathered


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Set the gradient of each parameter to its mean over the ranks; every rank must call, with the same ones.

    It is for parameters of losses, which no DistributedDataParallel averages. A rank that has no gradient counts as 0.
    """
    if not several():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def gone(owner: str, error: BaseException) -> DistributedError:
    """Return the error for a failed collective."""
    return DistributedError(f"{owner}: another rank is gone or did not answer: {error}")


# --- errors of one rank -----------------------------------------------------------------------------


class _Forward(threading.local):
    """The state of the forward in this thread."""

    running: bool = False
    keeps: bool = False  # whether errors are deferred until the next collective
    error: Exception | None = None  # the first deferred error
    known: bool = False  # whether all ranks know the error


_forward = _Forward()


def in_forward() -> bool:
    """Return whether this thread is inside `told`."""
    return _forward.running


@contextmanager
def told(keep: bool) -> Iterator[None]:
    """Run a forward whose deferred errors are raised at the next collective, or at the end.

    Args:
        keep: whether the forward may have a collective; if not, errors are raised at once.
    """
    _forward.running, _forward.keeps, _forward.error, _forward.known = True, keep, None, False
    try:
        yield
        if _forward.error is not None:
            raise _forward.error
    finally:
        _forward.running, _forward.keeps, _forward.error = False, False, None


class deferred:  # noqa: N801 -- a context manager, as `contextlib.suppress` is
    """Defer the errors of a block: `with deferred():`."""

    def __enter__(self) -> None:
        """Start the block."""

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> bool:
        """Defer an error, or let it be raised."""
        if not isinstance(error, Exception) or not _forward.keeps or _forward.known:
            return False
        _forward.error = _forward.error or error
        return True


def add_up(numbers: Tensor, owner: str) -> Tensor:
    """Return the elementwise sum over all ranks, by one collective that every rank must enter.

    On the CPU, where a read needs no transfer, a deferred error of a rank is raised on all ranks.

    Args:
        numbers: a tensor with a floating-point dtype and the same shape on all ranks.
        owner: the name of the operation, for errors.

    Raises:
        DistributedError: another rank failed (with its reason), or is gone.
        Exception: the deferred error of this rank.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return numbers
    compiled = torch.compiler.is_compiling()
    failed = 0.0 if compiled or _forward.error is None else 1.0
    message = torch.cat([numbers.reshape(-1), numbers.new_full((1,), failed)])
    if compiled:
        dist.all_reduce(message)
        return message[:-1].view_as(numbers)
    try:
        dist.all_reduce(message)
    except RuntimeError as error:
        raise gone(owner, error) from error
    if message.device.type == "cpu" and message[-1] > 0:
        _tell(owner)
    return message[:-1].view_as(numbers)


def _tell(owner: str) -> None:
    """Raise on every rank: its own error, or a `DistributedError` with the reasons of the others."""
    error, _forward.known = _forward.error, True
    reasons = gather(None if error is None else reason_of(error), owner)
    if error is not None:
        raise error
    refuse_failures(reasons)


def reason_of(error: Exception) -> str:
    """Return an error as text for the other ranks."""
    return f"{type(error).__name__}: {error}"


def refuse_failures(reasons: Sequence[str | None]) -> None:
    """Raise if a rank failed.

    Raises:
        DistributedError: with each failed rank and its reason.
    """
    failed = {rank: reason for rank, reason in enumerate(reasons) if reason is not None}
    if failed:
        raise DistributedError("; ".join(f"rank {rank} failed with {reason}" for rank, reason in failed.items()))


# --- what is compared ---------------------------------------------------------------------------------


def digest(facts: Mapping[str, str]) -> str:
    """Return a digest of facts; it depends on their order."""
    return hashlib.sha256("\0".join(f"{key}\0{value}" for key, value in facts.items()).encode()).hexdigest()


def compare(facts: Mapping[str, str], owner: str) -> None:
    """Raise on every rank if the facts of the ranks differ; needs one collective, and two if they differ.

    Raises:
        DistributedError: with the first different facts and their values on each rank; or another rank is gone.
    """
    refuse_differences(facts, gather(digest(facts), owner), owner)


def refuse_differences(facts: Mapping[str, str], digests: Sequence[str], owner: str) -> None:
    """Raise on every rank if the digests of the ranks differ; then the facts are gathered once.

    Args:
        facts: the facts of this rank.
        digests: the digests of the facts of all ranks.
        owner: the name of the operation, for errors.

    Raises:
        DistributedError: with the first different facts and their values on each rank.
    """
    if len(set(digests)) == 1:
        return
    every = gather(dict(facts), owner)
    keys = dict.fromkeys(key for other in every for key in other)
    apart = {key: held for key in keys if len(set(held := [other.get(key) for other in every])) > 1}
    lines = [f"{key} is {_by_rank(held)}" for key, held in apart.items() if None not in held]
    lines = lines or [f"{key} is {_by_rank(held)}" for key, held in apart.items()]
    more = f"; and {len(lines) - _MAX_DIFFERENCES} more" if len(lines) > _MAX_DIFFERENCES else ""
    raise DistributedError(
        f"{owner}: expected the same criterion on every rank, found: {'; '.join(lines[:_MAX_DIFFERENCES])}{more}. "
        "Start every rank with the same config and the same checkpoint"
    )


def _by_rank(held: Sequence[str | None]) -> str:
    ranks: dict[str | None, list[int]] = {}
    for rank, value in enumerate(held):
        ranks.setdefault(value, []).append(rank)
    start = _alike([value for value in ranks if value is not None])
    return ", ".join(f"{_cut(value, start)} on rank {' and '.join(map(str, of))}" for value, of in ranks.items())


def _alike(values: Sequence[str]) -> int:
    """Return the length of the common prefix of some strings."""
    places = enumerate(zip(*values, strict=False))
    return next((place for place, characters in places if len(set(characters)) > 1), min(map(len, values)))


def _cut(value: str | None, start: int) -> str:
    """Return the part of a long value around the position where it differs."""
    if value is None:
        return "missing"
    begin = max(0, min(start - _WIDTH // 4, len(value) - _WIDTH))
    shown = value[begin : begin + _WIDTH]
    return ("..." if begin else "") + shown + ("..." if begin + _WIDTH < len(value) else "")
