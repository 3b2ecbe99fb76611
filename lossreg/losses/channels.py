"""Which channels of a tensor a loss reads: the forms of a channel selector, and their selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

ChannelSelector: TypeAlias = int | slice | list[int] | list[bool] | Mapping[str, int | None]


Selector: TypeAlias = int | slice | list[int] | list[bool]
"""A selector in one of its plain forms."""


def parse_selector(selector: ChannelSelector, option: str = "gt_channel_selector") -> Selector:
    """Bring a selector, as Python or YAML spells it, to one of four plain forms.

    Args:
        selector: an int, a slice, a list of ints or bools, or a mapping `{start, stop, step}`.
        option: what the selector is called, for errors.

    Raises:
        TypeError, ValueError: the selector has none of the known forms; the message lists them.
    """
    if isinstance(selector, int) and not isinstance(selector, bool):
        return selector
    if isinstance(selector, slice):
        if selector.step == 0:
            raise ValueError(f"{option}: step must not be 0; got {selector!r}")
        return slice(*(_bound(b, selector, option) for b in (selector.start, selector.stop, selector.step)))
    if isinstance(selector, Mapping):
        unknown = sorted(set(map(str, selector)) - {"start", "stop", "step"})
        if unknown or not selector:
            raise ValueError(f"{option}: a mapping may hold 'start', 'stop' and 'step'; got {dict(selector)!r}")
        return parse_selector(slice(*(selector.get(key) for key in ("start", "stop", "step"))), option)
    if isinstance(selector, Sequence) and not isinstance(selector, str) and selector:
        items = list(selector)
        if all(isinstance(i, bool) for i in items) and any(items):
            return items
        if all(isinstance(i, int) and not isinstance(i, bool) for i in items):
            return items
    raise TypeError(
        f"{option} must be an int, a slice, a list of ints, a list of bools (not all false), or a "
        f"mapping {{start, stop, step}}; got {selector!r}"
    )


def channel_indices(selector: Selector, channels: int) -> list[int]:
    """Return the channels, out of `channels`, that a parsed selector picks, in its order.

    Raises:
        IndexError: it picks a channel that is not there, or none, or has one bool too few or too many.
    """
    if isinstance(selector, slice):
        picked = list(range(channels))[selector]
    elif isinstance(selector, list) and isinstance(selector[0], bool):
        if len(selector) != channels:
            raise IndexError(f"{len(selector)} bools select from {channels} channels")
        picked = [index for index, chosen in enumerate(selector) if chosen]
    else:
        wanted = [selector] if isinstance(selector, int) else selector
        missing = [index for index in wanted if not -channels <= index < channels]
        if missing:
            raise IndexError(f"no channel {missing[0]} among {channels} channels")
        picked = [index % channels for index in wanted]
    if not picked:
        raise IndexError(f"nothing is selected from {channels} channels")
    return picked


def take_channels(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    """Return `tensor[:, indices]`, (N, len(indices), *): a view where the channels adjoin."""
    import torch  # a config's selectors are checked without it

    first = indices[0]
    if list(indices) == list(range(first, first + len(indices))):
        return tensor[:, first : first + len(indices)]
    return torch.stack([tensor[:, index] for index in indices], dim=1)


def _bound(bound: object, selector: object, option: str) -> int | None:
    if bound is None or (isinstance(bound, int) and not isinstance(bound, bool)):
        return bound
    raise TypeError(f"{option}: start, stop and step must be ints or null; got {selector!r}")
