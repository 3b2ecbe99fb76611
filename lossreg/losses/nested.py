"""Tensors in lists, tuples and mappings, as a network with several outputs returns them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a value, those in mappings, lists and tuples at any depth too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return a value with a function applied to each of its tensors; mappings, lists and tuples are copied."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(item, change) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(item, change) for item in value)
    return value


def is_sequence_of_tensors(value: Any) -> bool:
    """Return whether a value is a list or tuple, not empty, of tensors or of other such lists."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(isinstance(item, Tensor) or is_sequence_of_tensors(item) for item in value)


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor of a value; None if it has none."""
    for tensor in tensors_in(value):  # the compiler of torch 2.6 has no `next` with a default
        return tensor
    return None
