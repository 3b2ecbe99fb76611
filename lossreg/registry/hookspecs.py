"""The hooks that a plugin may implement, and the decorator that marks implementations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from lossreg.registry.specs import LossSpec, PreprocessSpec, ScheduleSpec, WeightingSpec

PROJECT = "lossreg"

hookimpl = pluggy.HookimplMarker(PROJECT)
_hookspec = pluggy.HookspecMarker(PROJECT)


@_hookspec
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the plugin's losses."""
    raise NotImplementedError


@_hookspec
def lossreg_preprocesses() -> Sequence[PreprocessSpec]:
    """Return the specs of the plugin's preprocesses."""
    raise NotImplementedError


@_hookspec
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the specs of the plugin's adaptive weightings."""
    raise NotImplementedError


@_hookspec
def lossreg_schedules() -> Sequence[ScheduleSpec]:
    """Return the specs of the plugin's schedules."""
    raise NotImplementedError


@_hookspec(firstresult=True)
def lossreg_wrap(loss: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Return a `lossreg.Loss` that wraps a loss object of another library, or None to leave it to another plugin.

    Args:
        loss: the object built by a registered target; it is not a `Loss`.
        name: the name of the term.
        options: the `wrap` options of the spec, updated with those of the config.
    """
    raise NotImplementedError
