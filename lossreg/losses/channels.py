"""Select channels of a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

ChannelSelector: TypeAlias = int | slice | list[int] | list[bool] | Mapping[str, int | None]


Selector: TypeAlias = int | slice | list[int] | list[bool]
"""A parsed selector."""


def parse_selector(selector: ChannelSelector, option: str = "gt_channel_selector") -> Selector:
    """Return a selector from Python or YAML as an int, a slice, a list of ints or a list of bools.

    Args:
        selector: an int, a slice, a list of ints or bools, or a mapping `{start, stop, step}`.
        option: the name of the selector, for errors.

    Raises:
        TypeError, ValueError: the selector has none of these forms; the message lists them.
    """
    if isinstance(selector, int) and not isinstance(selector, bool):
        return selector
    if isinstance(selector, slice):
        if selector.step == 0:
            raise ValueError(f"{option}: expected a step other than 0, found {selector!r}")
        return slice(*(_bound(b, selector, option) for b in (selector.start, selector.stop, selector.step)))
    if isinstance(selector, Mapping):
        unknown = sorted(set(map(str, selector)) - {"start", "stop", "step"})
        if unknown or not selector:
            raise ValueError(f"{option}: expected the keys 'start', 'stop' and 'step', found {dict(selector)!r}")
        return parse_selector(slice(*(selector.get(key) for key in ("start", "stop", "step"))), option)
    if isinstance(selector, Sequence) and not isinstance(selector, str) and selector:
        items = list(selector)
        if all(isinstance(i, bool) for i in items) and any(items):
            return items
        if all(isinstance(i, int) and not isinstance(i, bool) for i in items):
            return items
    raise TypeError(
        f"{option}: expected an int, a slice, a list of ints, a list of bools (not all false), or a "
        f"mapping {{start, stop, step}}, found {selector!r}"
    )


def channel_indices(selector: Selector, channels: int) -> list[int]:
    """Return the indices that a parsed selector selects from `channels` channels, in its order.

    Raises:
        IndexError: it selects a missing channel or none, or the number of bools differs from that of channels.
    """
    if isinstance(selector, slice):
        picked = list(range(channels))[selector]
    elif isinstance(selector, list) and isinstance(selector[0], bool):
        if len(selector) != channels:
            raise IndexError(f"expected {channels} bools, one for each channel, found {len(selector)}")
        picked = [index for index, chosen in enumerate(selector) if chosen]
    else:
        wanted = [selector] if isinstance(selector, int) else selector
        missing = [index for index in wanted if not -channels <= index < channels]
        if missing:
            raise IndexError(f"expected one of {channels} channels, found channel {missing[0]}")
        picked = [index % channels for index in wanted]
    if not picked:
        raise IndexError(f"expected a selection from {channels} channels, found none")
    return picked


def take_channels(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    """Return `tensor[:, indices]` with shape (N, len(indices), *); a view if the channels are adjacent."""
    import torch  # configs are checked without torch

    first = indices[0]
    if list(indices) == list(range(first, first + len(indices))):
        return tensor[:, first : first + len(indices)]
    return torch.stack([tensor[:, index] for index in indices], dim=1)


def _bound(bound: object, selector: object, option: str) -> int | None:
    if bound is None or (isinstance(bound, int) and not isinstance(bound, bool)):
        return bound
    raise TypeError(f"{option}: start, stop and step: expected ints or null, found {selector!r}")
