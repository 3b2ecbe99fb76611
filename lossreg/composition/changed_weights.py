"""Weights that were set at run time, as data in a tensor that a checkpoint holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lossreg.composition.schedules import Schedule, as_data, as_schedule
from lossreg.registry import catalog

KEY: Final = "changed_weights"
"""Its key in a `state_dict`."""
_BLOCK = 4096  # bytes: torch.distributed.checkpoint loads into tensors of the same size
_PYTHON = "python"  # stands for a schedule that is no data


def to_tensor(schedules: Mapping[str, Schedule]) -> Tensor:
    """Return schedules by the names of their terms as a text in a tensor, on the CPU, filled up with spaces.

    A function, or a schedule that no plugin registers, is only named there.
    """
    text = json.dumps({name: data_of(schedule) for name, schedule in schedules.items()}).encode()
    padded = text.ljust(-(-len(text) // _BLOCK) * _BLOCK)
    return torch.tensor(list(padded), dtype=torch.uint8, device="cpu")


def from_tensor(tensor: Any) -> dict[str, Any]:
    """Return the weights as data, by the names of their terms.

    Raises:
        AttributeError, RuntimeError, TypeError, ValueError: the tensor does not hold such a text.
    """
    stored = json.loads(bytes(tensor.tolist()))
    if not isinstance(stored, dict):
        raise TypeError(f"expected weights by the names of terms, found {stored!r}")
    return stored


def data_of(schedule: Schedule) -> Any:
    """Return a schedule as a config would hold it, or the name of a function or class that no config can hold."""
    data = as_data(schedule)
    try:
        if schedule_of(data) == schedule:
            return data
    except Exception:  # a third party's schedule may raise anything; then it is no data
        pass
    defined = getattr(schedule, "function", type(schedule))
    if not hasattr(defined, "__qualname__"):  # an object that is called
        defined = type(defined)
    return {_PYTHON: f"{defined.__module__}.{defined.__qualname__}"}


def python_name(data: Any) -> str:
    """Return the name that stands for a function or class which no checkpoint can hold; empty if there is data."""
    return str(data[_PYTHON]) if isinstance(data, Mapping) and _PYTHON in data else ""


def schedule_of(data: Any, epoch_thresholds: Sequence[float] | None = None, *, name: str = "") -> Schedule:
    """Return the schedule that a config would hold as such data; only registered schedules are found.

    Args:
        data: a number, a list, or a mapping `{"schedule": NAME, ...}`.
        epoch_thresholds: for values without thresholds of their own.
        name: the term, for errors.

    Raises:
        LossregError, TypeError, ValueError: there is no such schedule, or it refuses its arguments.
    """
    if not isinstance(data, Mapping):
        return as_schedule(data, epoch_thresholds, name=name)
    arguments: dict[str, Any] = {key: _inner(value, epoch_thresholds, name) for key, value in data.items()}
    if "values" in arguments and epoch_thresholds is not None:
        arguments.setdefault("epoch_thresholds", epoch_thresholds)
    kind = arguments.pop("schedule", None)
    if not isinstance(kind, str):
        raise TypeError(f"term {name!r}: weight: expected a schedule by name, found the keys {sorted(map(str, data))}")
    return as_schedule(catalog().schedules.find(kind).construct(arguments), name=name)


def _inner(value: Any, epoch_thresholds: Sequence[float] | None, name: str) -> Any:
    """Return an argument of a schedule, with the schedules in it."""
    if isinstance(value, Mapping) and "schedule" in value:
        return schedule_of(value, epoch_thresholds, name=name)
    return [_inner(item, epoch_thresholds, name) for item in value] if isinstance(value, (list, tuple)) else value
