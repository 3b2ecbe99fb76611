"""A line of YAML that would do: what an error about a parameter offers."""

from __future__ import annotations

import difflib
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lossreg.registry.params import Parameter

_SAMPLES: dict[Any, str] = {bool: "true", int: "1", float: "1.0", str: "some_text", None: "null", type(None): "null"}


def example_of(parameter: Parameter, value: Any = None) -> str:
    """Write `name: value` with a value that a parameter takes.

    Args:
        parameter: the parameter.
        value: what a config gives, for the nearest choice where there are choices.
    """
    if not parameter.settable:
        return f"leave {parameter.name} out"
    if parameter.required or parameter.default is None:
        return f"{parameter.name}: {_sample(parameter.type, value)}"
    near = _nearest(parameter.type, value)
    return f"{parameter.name}: {near or _flow(parameter.default) or _sample(parameter.type, value)}"


def _sample(kind: Any, value: Any) -> str:
    """Write a value of a plain type, in YAML's flow style."""
    if kind in _SAMPLES:
        return _SAMPLES[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _sample(args[0], value)
    if origin is Literal:
        return _nearest(kind, value) or _flow(args[0])
    if origin in (Union, types.UnionType):
        return _nearest(kind, value) or _sample(next(arg for arg in args if arg not in (None, type(None))), value)
    if origin is list:
        return f"[{_sample(args[0], value)}]"
    if origin is tuple:
        return f"[{', '.join(_sample(arg, value) for arg in args)}]"
    return "{}" if origin is dict else "some_value"


def _nearest(kind: Any, value: Any) -> str:
    """Write the choice that is nearest to a text; nothing where there is none near, or no choice at all."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(filter(None, (_nearest(arg, value) for arg in get_args(kind))), "")
    choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
    return next(iter(difflib.get_close_matches(str(value), choices, n=1)), "")


def _flow(value: Any) -> str:
    """Write plain data in YAML's flow style; nothing for an object of another kind."""
    import yaml

    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    except yaml.YAMLError:
        return ""
    return text.removesuffix("\n").removesuffix("\n...")
