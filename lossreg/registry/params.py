"""A component's parameters, read off its signature: listing, validation of config values, JSON Schema."""

from __future__ import annotations

import collections.abc
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, create_model

REQUIRED = inspect.Parameter.empty
"""Default of a parameter that has none."""

_WORDS = {
    "Input should be": "expected",
    "a valid integer": "an integer",
    "a valid array": "a list",
    "an object": "a mapping",
    "a valid ": "a ",
}
_UNSETTABLE = object()
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component.

    Attributes:
        name: its name.
        annotation: the type that a config may give, in Python's notation; empty where any plain value may.
        default: its default, or `REQUIRED`.
        doc: what the component's docstring says of it.
        settable: whether a config may set it at all: callables, modules and other objects it may not.
        type: the annotation itself, narrowed to plain data.
    """

    name: str
    annotation: str
    default: Any
    doc: str
    settable: bool
    type: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED


@dataclass(frozen=True)
class ParameterProblem:
    """One value that a component does not take: which parameter, where inside it, and why."""

    path: tuple[str | int, ...]
    message: str


def parameters(
    target: Any, *, hidden: typing.Collection[str] = (), tensors: typing.Collection[str] = ()
) -> list[Parameter]:
    """Read the parameters of a class's constructor, or of a function behind its leading tensors.

    Args:
        target: a class or a function.
        hidden: parameters to leave out.
        tensors: parameters that are tensors, which a config gives as (nested) lists of numbers.

    Returns:
        in the order of the signature; `*args` and `**kwargs` are left out.
    """
    docs = _docs(target)
    hints = _hints(target)
    found = []
    for name, parameter in _signature(target).items():
        if name in hidden:
            continue
        hint = hints.get(name, parameter.annotation)
        if name in tensors:
            plain: Any = Union[float, list[float], list[list[float]], list[list[list[float]]], None]  # noqa: UP007
        else:
            plain = _plain(hint)
        settable = plain is not _UNSETTABLE
        shown = plain if settable else hint
        found.append(
            Parameter(
                name,
                _text(shown),
                parameter.default,
                docs.get(name, ""),
                settable,
                plain if settable else None,
            )
        )
    return found


def takes_any(target: Any) -> bool:
    """Say whether a component has a `**kwargs`, so that unknown names cannot be refused."""
    return any(p.kind is p.VAR_KEYWORD for p in _raw_signature(target).values())


def check(found: list[Parameter], values: Mapping[str, Any], *, open_ended: bool = False) -> Iterator[ParameterProblem]:
    """Compare values from a config with parameters: unknown, missing, of a wrong type, out of choices.

    Args:
        found: what `parameters` returned.
        values: plain data, as a YAML file holds it.
        open_ended: whether unknown names are let through (`takes_any`).

    Yields:
        a problem for each value that does not fit; nothing where all fit.
    """
    closed = {p.name for p in found if not p.settable}
    for name in sorted(closed & set(values)):
        yield ParameterProblem((name,), "takes a Python object; a config file cannot give one")
    texts: dict[str, str] = {}
    for name in (name for name in values if name not in closed):
        try:
            texts[name] = json.dumps(values[name])
        except (TypeError, ValueError) as error:  # noqa: PERF203 (each value has its own problem)
            yield ParameterProblem((name,), f"is not plain data: {error}")
    plain = ", ".join(f"{json.dumps(str(name))}: {text}" for name, text in texts.items())
    others = [p for p in found if p.name in texts or p.name not in values]
    try:
        model(others, open_ended=open_ended).model_validate_json(f"{{{plain}}}", strict=True)
    except ValidationError as failure:
        for path, messages in _by_parameter(failure).items():
            yield ParameterProblem(path, messages)


def model(found: list[Parameter], *, open_ended: bool = False) -> type[BaseModel]:
    """Return a pydantic model of a component's settable parameters (its JSON Schema is the component's)."""
    fields: dict[str, Any] = {}
    for p in found:
        if p.settable:
            default = ... if p.required else _plain_default(p.default)
            # an alias, since pydantic keeps its own method names and a leading underscore to itself
            fields[f"p_{p.name}"] = (p.type, Field(default, alias=p.name, description=p.doc or None))
    config = ConfigDict(extra="allow" if open_ended else "forbid", protected_namespaces=())
    return create_model("Parameters", __config__=config, **fields)


def _by_parameter(failure: ValidationError) -> dict[tuple[str | int, ...], str]:
    """Merge pydantic's errors so that the branches of one union become one message at one path."""
    merged: dict[tuple[str | int, ...], list[str]] = {}
    for error in failure.errors(include_url=False):
        location = error["loc"]
        # behind the parameter's name stand list positions and, for unions, the names of branches
        path = tuple(part for i, part in enumerate(location) if i == 0 or isinstance(part, int))
        if error["type"] == "missing":
            message = "is missing"
        elif error["type"] == "extra_forbidden":
            message = "is not a parameter"
        else:
            message = error["msg"]
            for theirs, ours in _WORDS.items():
                message = message.replace(theirs, ours)
        merged.setdefault(path, []).append(message)
    whole: dict[tuple[str | int, ...], str] = {}
    for path, messages in merged.items():
        parent = path[:1]
        if len(path) > 1 and parent in merged:
            continue
        whole[path] = " or ".join(dict.fromkeys(messages)).replace(" or expected", " or")
    return whole


def _raw_signature(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _signature(target: Any) -> dict[str, inspect.Parameter]:
    """Return named parameters; of a function, those with a default: the others are tensors to compare."""
    named = {name: p for name, p in _raw_signature(target).items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    if not inspect.isclass(target):
        named = {name: p for name, p in named.items() if p.default is not p.empty}
    return named


def _hints(target: Any) -> dict[str, Any]:
    """Evaluate annotations one by one: a name that only the type checker knows spoils its own alone."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    known = getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(alone, globalns=known, include_extras=True)
        except Exception:  # the raw annotation has to do
            hints[name] = annotation
    return hints


def _docs(target: Any) -> dict[str, str]:
    text = f"{inspect.getdoc(target) or ''}"
    if inspect.isclass(target) and target.__init__.__doc__ and "__init__" in vars(target):
        text += "\n\n" + inspect.cleandoc(target.__init__.__doc__)
    return {
        p.arg_name.split(" ")[0]: " ".join((p.description or "").split()) for p in docstring_parser.parse(text).params
    }


def _plain(hint: Any) -> Any:
    """Narrow an annotation to what a config can hold, or return `_UNSETTABLE`."""
    if hint is inspect.Parameter.empty or hint is Any or hint is object:
        return JsonValue
    if hint is None:
        return None
    if hint in _SCALARS or hint is JsonValue:
        return hint
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        inner = _plain(args[0])
        return inner if inner is _UNSETTABLE else typing.Annotated.__class_getitem__((inner, *args[1:]))
    if origin is Literal:
        return hint
    if origin in (Union, types.UnionType):
        members = [plain for arg in args if (plain := _plain(arg)) is not _UNSETTABLE]
        solid = [m for m in members if m is not None and m is not type(None)]
        return Union[tuple(members)] if solid else _UNSETTABLE  # noqa: UP007
    return _plain_container(origin or hint, args)


def _plain_container(origin: Any, args: tuple[Any, ...]) -> Any:
    members = [Ellipsis if arg is Ellipsis else _plain(arg) for arg in args]
    if _UNSETTABLE in members:
        return _UNSETTABLE
    if origin is tuple and members and Ellipsis not in members:
        return tuple.__class_getitem__(tuple(members))
    if origin in _LISTS:
        return list.__class_getitem__(members[0] if members else JsonValue)
    if origin in _MAPPINGS:
        return dict.__class_getitem__((str, members[1] if members else JsonValue))
    return _UNSETTABLE


def _plain_default(default: Any) -> Any:
    """Return a default that JSON Schema can show; an object of another kind is shown by its text."""
    try:
        json.dumps(default)
    except (TypeError, ValueError):
        return None
    return default


def _text(hint: Any) -> str:
    if hint is JsonValue or hint is inspect.Parameter.empty:
        return ""
    if hint is None or hint is type(None):
        return "None"
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _text(args[0])
    if origin is Literal:
        return " | ".join(repr(arg) for arg in args)
    if origin in (Union, types.UnionType):
        return " | ".join(_text(arg) for arg in args)
    if origin is not None and args:
        inside = ", ".join("..." if arg is Ellipsis else _text(arg) or "Any" for arg in args)
        return f"{getattr(origin, '__name__', str(origin))}[{inside}]"
    return getattr(hint, "__name__", str(hint))
