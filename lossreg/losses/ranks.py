"""Exchange facts and errors between ranks, so that no rank waits for a failed one.

If only one rank raises, the others hang in their next collective. Inside `told` such an error is deferred (`deferred`)
until the next collective of that rank (`add_up`), where all ranks raise.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg.errors import DistributedError

T = TypeVar("T")

_log = logging.getLogger("lossreg")

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


_PATIENCE = timedelta(seconds=30)  # before a warning


def meet(share: str, owner: str, what: str) -> list[str]:
    """Return the texts of all ranks in their order, by the store of the process group.

    It is no collective, which would mix with another that a rank without a share enters.

    Args:
        share: the text of this rank.
        owner: the name of the operation, for errors.
        what: what every rank must have done, for errors.

    Raises:
        DistributedError: a rank did not come within the timeout of the store; with what it must have done.
    """
    store = dist.distributed_c10d._get_default_store()
    own, ranks = dist.get_rank(), range(dist.get_world_size())
    meeting = store.add(f"lossreg/meetings/{own}", 1)
    keys = [f"lossreg/meeting/{meeting}/{rank}" for rank in ranks]
    store.set(keys[own], share)
    try:
        try:
            store.wait(keys, min(_PATIENCE, store.timeout))  # type: ignore[attr-defined]
        except RuntimeError:
            late = [rank for rank in ranks if not store.check([keys[rank]])]
            _log.warning("%s: waits for the ranks %s: every rank must %s", owner, late, what)
            store.wait(keys)
    except RuntimeError as error:
        raise DistributedError(f"{owner}: another rank did not come: every rank must {what}: {error}") from error
    return [store.get(key).decode() for key in keys]


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
    compare: Callable[[], None] | None = None  # compares the weights of the ranks
    changed: bool = False  # whether this rank's were set since they were compared


_forward = _Forward()


def in_forward() -> bool:
    """Return whether this thread is inside `told`."""
    return _forward.running


@contextmanager
def told(keep: bool, compare: Callable[[], None] | None = None, changed: bool = False) -> Iterator[None]:
    """Run a forward whose deferred errors are raised at the next collective, or at the end.

    Args:
        keep: whether the forward may have a collective; if not, errors are raised at once.
        compare: called on all ranks, at the next collective, where one of them has `changed`.
        changed: whether this rank has something to compare.
    """
    _forward.running, _forward.keeps, _forward.error, _forward.known = True, keep, None, False
    _forward.compare, _forward.changed = compare, changed
    try:
        yield
        if _forward.error is not None:
            raise _forward.error
    finally:
        _forward.running, _forward.keeps, _forward.error = False, False, None
        _forward.compare, _forward.changed = None, False


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

    On the CPU, where a read needs no transfer, a deferred error of a rank is raised on all ranks, and weights that one
    of them has changed are compared.

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
    flags = [0.0, 0.0] if compiled else [float(_forward.error is not None), float(_forward.changed)]
    message = torch.cat([numbers.reshape(-1), numbers.new_tensor(flags)])
    if compiled:
        dist.all_reduce(message)
        return message[:-2].view_as(numbers)
    try:
        dist.all_reduce(message)
    except RuntimeError as error:
        raise gone(owner, error) from error
    if message.device.type == "cpu":
        failed, changed = message[-2:].tolist()
        if failed:
            _tell(owner)
        if changed:
            _compare()
    return message[:-2].view_as(numbers)


def _tell(owner: str) -> None:
    """Raise on every rank: its own error, or a `DistributedError` with the reasons of the others."""
    error, _forward.known = _forward.error, True
    reasons = gather(None if error is None else reason_of(error), owner)
    if error is not None:
        raise error
    refuse_failures(reasons)


def _compare() -> None:
    """Compare the weights of the ranks, and raise on every rank alike where they differ."""
    compare, _forward.changed = _forward.compare, False
    assert compare is not None, "a rank has set a weight, and this one is in another collective"
    _forward.known = True
    compare()
    _forward.known = False


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


ADVICE = "Start every rank with the same config and the same checkpoint"


def compare(facts: Mapping[str, str], owner: str, advice: str = ADVICE) -> None:
    """Raise on every rank if the facts of the ranks differ; needs one collective, and two if they differ.

    Raises:
        DistributedError: with the first different facts and their values on each rank; or another rank is gone.
    """
    refuse_differences(facts, gather(digest(facts), owner), owner, advice)


def refuse_differences(facts: Mapping[str, str], digests: Sequence[str], owner: str, advice: str = ADVICE) -> None:
    """Raise on every rank if the digests of the ranks differ; then the facts are gathered once.

    Args:
        facts: the facts of this rank.
        digests: the digests of the facts of all ranks.
        owner: the name of the operation, for errors.
        advice: what to do about it, for errors.

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
        f"{advice}"
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
