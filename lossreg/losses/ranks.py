"""What ranks tell one another: what each of them holds, and why one failed, so that no rank waits for another.

An error on one rank alone would leave the others in their next collective. Inside of `told` such an error is kept
(`deferred`) until that rank's next collective (`add_up`), which tells all ranks, and all raise there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg.errors import DistributedError

T = TypeVar("T")

_SHOWN = 5  # differences in a message
_WIDTH = 160  # characters of a value in a message


def several() -> bool:
    """Say whether there are other ranks to agree with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(share: T, owner: str) -> list[T]:
    """Return what every rank gave, in the order of the ranks; one collective, which every rank must enter.

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


def gone(owner: str, error: BaseException) -> DistributedError:
    """Return the error of a rank whose collective failed."""
    return DistributedError(f"{owner}: another rank is gone or did not answer: {error}")


# --- errors of one rank -----------------------------------------------------------------------------


class _Forward(threading.local):
    """The forward that this thread is in."""

    running: bool = False
    keeps: bool = False  # whether an error waits for the next collective
    error: Exception | None = None  # the first that waits
    known: bool = False  # whether all ranks have been told


_forward = _Forward()


def in_forward() -> bool:
    """Say whether this thread is inside of `told`."""
    return _forward.running


@contextmanager
def told(keep: bool) -> Iterator[None]:
    """Run a forward; errors that are deferred in it are raised at the next collective, or at its end.

    Args:
        keep: whether there may be such a collective; without one, errors are raised at once.
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
        """Begin the block."""

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> bool:
        """Keep an error, or let it be raised."""
        if not isinstance(error, Exception) or not _forward.keeps or _forward.known:
            return False
        _forward.error = _forward.error or error
        return True


def add_up(numbers: Tensor, owner: str) -> Tensor:
    """Return the sums over all ranks, elementwise; one collective, which every rank must enter.

    On the CPU, where to look costs no transfer, an error that some rank has deferred is raised on all of them.

    Args:
        numbers: of a floating-point dtype and of one shape on all ranks.
        owner: who asks, for errors.

    Raises:
        DistributedError: another rank failed, with its reason; or it is gone.
        Exception: the error that this rank has deferred.
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
    """Raise on every rank: the error of this one, or the reasons of those that failed."""
    error, _forward.known = _forward.error, True
    reasons = gather(None if error is None else reason_of(error), owner)
    if error is not None:
        raise error
    refuse_failures(reasons)


def reason_of(error: Exception) -> str:
    """Return what the other ranks are told of an error."""
    return f"{type(error).__name__}: {error}"


def refuse_failures(reasons: Sequence[str | None]) -> None:
    """Raise where a rank failed, with the reason of each.

    Raises:
        DistributedError: names each rank that failed and why.
    """
    failed = {rank: reason for rank, reason in enumerate(reasons) if reason is not None}
    if failed:
        raise DistributedError("; ".join(f"rank {rank} failed with {reason}" for rank, reason in failed.items()))


# --- what is compared ---------------------------------------------------------------------------------


def digest(facts: Mapping[str, str]) -> str:
    """Return a digest of facts in their order."""
    return hashlib.sha256("\0".join(f"{key}\0{value}" for key, value in facts.items()).encode()).hexdigest()


def compare(facts: Mapping[str, str], owner: str) -> None:
    """Raise, alike on every rank, where the facts of the ranks differ; one collective, and one more where they do.

    Raises:
        DistributedError: names the first facts that differ, with what each rank holds; or another rank is gone.
    """
    refuse_differences(facts, gather(digest(facts), owner), owner)


def refuse_differences(facts: Mapping[str, str], digests: Sequence[str], owner: str) -> None:
    """Raise, alike on every rank, where the digests of the ranks differ; they then gather the facts, once.

    Args:
        facts: what this rank holds.
        digests: of the facts of every rank, as each of them has gathered them.
        owner: who compares.

    Raises:
        DistributedError: names the first facts that differ, with what each rank holds.
    """
    if len(set(digests)) == 1:
        return
    every = gather(dict(facts), owner)
    keys = dict.fromkeys(key for other in every for key in other)
    apart = {key: held for key in keys if len(set(held := [other.get(key) for other in every])) > 1}
    lines = [f"{key} is {_by_rank(held)}" for key, held in apart.items() if None not in held]
    lines = lines or [f"{key} is {_by_rank(held)}" for key, held in apart.items()]
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    raise DistributedError(
        f"{owner}: expected the same criterion on every rank, found: {'; '.join(lines[:_SHOWN])}{more}. "
        "Start every rank with the same config and the same checkpoint"
    )


def _by_rank(held: Sequence[str | None]) -> str:
    ranks: dict[str | None, list[int]] = {}
    for rank, value in enumerate(held):
        ranks.setdefault(value, []).append(rank)
    start = _alike([value for value in ranks if value is not None])
    return ", ".join(f"{_cut(value, start)} on rank {' and '.join(map(str, of))}" for value, of in ranks.items())


def _alike(values: Sequence[str]) -> int:
    """Return how many characters values have in common at their start."""
    places = enumerate(zip(*values, strict=False))
    return next((place for place, characters in places if len(set(characters)) > 1), min(map(len, values)))


def _cut(value: str | None, start: int) -> str:
    """Shorten a long value to what is around the place where it differs."""
    if value is None:
        return "missing"
    begin = max(0, min(start - _WIDTH // 4, len(value) - _WIDTH))
    shown = value[begin : begin + _WIDTH]
    return ("..." if begin else "") + shown + ("..." if begin + _WIDTH < len(value) else "")
