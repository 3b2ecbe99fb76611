"""What ranks tell one another: what each of them holds and why one failed, with the same error on every rank."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

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


def digest(facts: Mapping[str, str]) -> str:
    """Return a digest of facts in their order."""
    return hashlib.sha256("\0".join(f"{key}\0{value}" for key, value in facts.items()).encode()).hexdigest()


def refuse_failures(reasons: Sequence[str | None]) -> None:
    """Raise where a rank failed, with the reason of each.

    Raises:
        DistributedError: names each rank that failed and why.
    """
    failed = {rank: reason for rank, reason in enumerate(reasons) if reason is not None}
    if failed:
        raise DistributedError("; ".join(f"rank {rank} failed with {reason}" for rank, reason in failed.items()))


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
        "Start every rank with the same config"
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
