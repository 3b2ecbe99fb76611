"""Channel selectors: an int, a slice, a list of ints or bools, or a slice written as a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from lossreg.errors import ShapeError

ChannelSelector: TypeAlias = int | slice | list[int] | list[bool] | Mapping[str, int | None]
"""Which channels of axis 1: an int keeps the axis; a mapping is `{start, stop, step}`."""


def as_index(selector: ChannelSelector) -> slice | list[int]:
    """Turn a selector into an index of axis 1 that keeps the axis.

    Raises:
        TypeError, ValueError: it is none of the accepted forms, or selects nothing by its very form.
    """
    if isinstance(selector, slice):
        return selector
    if isinstance(selector, int) and not isinstance(selector, bool):
        return [selector]
    if isinstance(selector, Mapping):
        unknown = set(selector) - {"start", "stop", "step"}
        if unknown:
            raise ValueError(f"channel selector: expected the keys start, stop, step; got {sorted(map(str, unknown))}")
        return slice(selector.get("start"), selector.get("stop"), selector.get("step"))
    if isinstance(selector, Sequence) and not isinstance(selector, str) and len(selector) > 0:
        if all(isinstance(item, bool) for item in selector):
            chosen = [position for position, taken in enumerate(selector) if taken]
            if chosen:
                return chosen
            raise ValueError("channel selector: a list of bools must pick at least one channel")
        if all(isinstance(item, int) and not isinstance(item, bool) for item in selector):
            return list(selector)
    raise TypeError(
        "channel selector: expected an int, a slice, a list of ints, a list of bools or a mapping "
        f"{{start, stop, step}}; got {selector!r}"
    )


def select_channels(tensor: Tensor, index: slice | list[int], owner: str, key: str) -> Tensor:
    """Return the channels (axis 1) of `tensor` that an index from `as_index` picks, the axis kept.

    Raises:
        ShapeError: there are fewer channels than the index asks for, or it picks none.
    """
    if tensor.dim() < 2:
        raise ShapeError(f"loss {owner!r}: {key!r} has shape {tuple(tensor.shape)}, expected a channel axis 1")
    count = tensor.shape[1]
    if isinstance(index, slice):
        picked = range(count)[index]
        if len(picked) == 0:
            raise ShapeError(f"loss {owner!r}: {key!r} has {count} channels, of which {index} picks none")
        return tensor[:, index] if (index.step or 1) > 0 else tensor[:, list(picked)]
    beyond = [position for position in index if not -count <= position < count]
    if beyond:
        raise ShapeError(f"loss {owner!r}: {key!r} has {count} channels; channel {beyond[0]} was asked for")
    if len(index) == 1:
        return tensor.narrow(1, index[0] % count, 1)
    return tensor[:, index]
