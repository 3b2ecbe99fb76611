"""The hooks that a plugin may implement, and the marker for its implementations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from lossreg.registry.specs import LossSpec, PreprocessSpec, ScheduleSpec, WeightingSpec

PROJECT = "lossreg"

hookimpl = pluggy.HookimplMarker(PROJECT)
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the losses that the plugin offers."""
    raise NotImplementedError


@hookspec
def lossreg_preprocesses() -> Sequence[PreprocessSpec]:
    """Return the preprocess nodes that the plugin offers."""
    raise NotImplementedError


@hookspec
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the adaptive weightings that the plugin offers."""
    raise NotImplementedError


@hookspec
def lossreg_schedules() -> Sequence[ScheduleSpec]:
    """Return the schedules that the plugin offers."""
    raise NotImplementedError


@hookspec(firstresult=True)
def lossreg_wrap(loss: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Turn a foreign loss object into a `lossreg.Loss`, or return None to leave it to another plugin.

    Args:
        loss: the object that a registered target made; not a `Loss`.
        name: the term's name.
        options: the spec's `wrap` options overlaid with those that the config gave.
    """
    raise NotImplementedError
