"""A component's parameters: listing, and validation of config values."""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Union, get_args, get_origin

from lossreg.registry.signature import REQUIRED, Signature, signature_of
from lossreg.registry.specs import LossSpec, Spec

_UNSETTABLE = object()
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SCALARS = (bool, int, float, str, type(None))
_TENSOR = Union[float, list[float], list[list[float]], list[list[list[float]]], None]  # noqa: UP007
_QUOTED = re.compile(r"""["'`]([\w-]+)["'`]""")
_LISTED = re.compile(rf"""`*{_QUOTED.pattern}`*(?:\s*(?:\||,|,?\s*or)\s*`*{_QUOTED.pattern}`*)+""")  # 'none' | 'mean'
_LARGE = 2**53  # beyond it a number may be none that JSON readers agree on


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component; its annotation and its docstring are read where they are asked for.

    Attributes:
        name: its name.
        default: its default, or `REQUIRED`.
        hint: evaluates its annotation.
        docs: reads what the component's docstring says, by parameter.
    """

    name: str
    default: Any
    hint: Callable[[], Any]
    docs: Callable[[], Mapping[str, str]]

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED

    @cached_property
    def _plain(self) -> Any:
        return _plain(self.hint())

    @property
    def settable(self) -> bool:
        """Whether a config may set it at all: callables, modules and other objects it may not."""
        return self._plain is not _UNSETTABLE

    @property
    def type(self) -> Any:
        """The annotation, narrowed to plain data; None where it is not settable."""
        return self._plain if self.settable else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that the docstring lists for it, its default among them, where its annotation says `str` alone."""
        listed = _LISTED.search(self.doc) if self._plain is str else None
        found = tuple(_QUOTED.findall(listed[0])) if listed else ()
        return () if isinstance(self.default, str) and self.default not in found else found

    @property
    def annotation(self) -> str:
        """The type that a config may give, in Python's notation; empty where any plain value may."""
        if self.choices:
            return " | ".join(map(repr, self.choices))
        return _text(self._plain if self.settable else self.hint())

    @property
    def doc(self) -> str:
        """What the component's docstring says of it."""
        return self.docs().get(self.name, "")


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
        target: a class or a function, or the signature of one.
        hidden: parameters to leave out.
        tensors: parameters that are tensors, which a config gives as (nested) lists of numbers.

    Returns:
        in the order of the signature; `*args` and `**kwargs` are left out.
    """
    signature = target if isinstance(target, Signature) else signature_of(target)
    read: list[Mapping[str, str]] = []

    def docs() -> Mapping[str, str]:
        if not read:
            read.append(_docs(signature.doc()))
        return read[0]

    return [
        Parameter(a.name, a.default, (lambda: _TENSOR) if a.name in tensors else a.hint, docs)
        for a in signature.arguments
        if a.name not in hidden
    ]


def parameters_of(spec: Spec, signature: Signature, *, hidden: typing.Collection[str] = ()) -> list[Parameter]:
    """Read the parameters that a config meets: not those that the spec hides, nor a loss's name, its term's."""
    own = (*spec.hidden, *(("name",) if signature.is_loss else ()), *hidden)
    return parameters(signature, hidden=own, tensors=spec.tensors if isinstance(spec, LossSpec) else ())


def check(found: list[Parameter], values: Mapping[str, Any], *, open_ended: bool = False) -> Iterator[ParameterProblem]:
    """Compare values from a config with parameters: unknown, missing, of a wrong type, out of choices.

    Args:
        found: what `parameters` returned.
        values: plain data, as a YAML file holds it.
        open_ended: whether unknown names are let through (`Signature.open_ended`).

    Yields:
        a problem for each value that does not fit; nothing where all fit.
    """
    known = {p.name: p for p in found}
    closed = {name for name in values if name in known and not known[name].settable}
    for name in sorted(closed):
        yield ParameterProblem((name,), "takes a Python object, which a config file cannot give; leave it out")
    rest = {name: value for name, value in values.items() if name not in closed}
    asked = [p for p in found if p.name in rest or (p.required and p.name not in values and p.settable)]
    if all(p.name in rest and fits(rest[p.name], p.type) for p in asked) and (
        all(fits(value, Any) for name, value in rest.items() if name not in known)
        if open_ended
        else all(name in known for name in rest)
    ):
        return
    from lossreg.registry.model import problems  # pydantic words what is wrong, and takes its time to be imported

    for path, message in problems(asked, rest, open_ended=open_ended):
        yield ParameterProblem(path, message)


def fits(value: Any, kind: Any) -> bool:
    """Say whether a value is surely of a plain type; where this is False, `model` decides."""
    if kind is Any:
        if isinstance(value, dict):
            return all(isinstance(key, str) and fits(item, Any) for key, item in value.items())
        return all(fits(item, Any) for item in value) if isinstance(value, list) else _is_scalar(value)
    if kind in _SCALARS or kind is None:
        wanted = (int, float) if kind is float else (type(None) if kind is None else kind,)
        return type(value) in wanted and _is_scalar(value)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if origin in (Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is list:
        return isinstance(value, list) and all(fits(item, args[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(args) and all(map(fits, value, args))
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and fits(item, args[1]) for key, item in value.items()
        )
    return False  # an annotation with constraints


def _is_scalar(value: Any) -> bool:
    """Say whether a value is null, or a boolean, text or number on which all readers of JSON agree."""
    if isinstance(value, str):
        return value.isascii() or value.isprintable()
    if isinstance(value, (int, float)):
        return -_LARGE < value < _LARGE  # which NaN is not
    return value is None


def _docs(text: str) -> dict[str, str]:
    import docstring_parser

    found = docstring_parser.parse(text).params or docstring_parser.parse(_without_strays(text)).params
    return {p.arg_name.split(" ")[0]: " ".join((p.description or "").split()) for p in found}


def _without_strays(text: str) -> str:
    """Make lines among the arguments that begin none, at which the parser gives up, part of the one before."""
    head, section, rest = text.partition("Args:\n")
    stray = r" {4}(?! |\w+(?: \(.*\))?:)"
    rest = re.sub(rf"\A(?:{stray}.*\n|\n)+", "", rest)
    return head + section + re.sub(rf"(?m)^{stray}(?=\S)", " " * 8, rest)


def _plain(hint: Any) -> Any:
    """Narrow an annotation to what a config can hold, or return `_UNSETTABLE`."""
    if hint is REQUIRED or hint is Any or hint is object or _is_json(hint):
        return Any
    if hint is None:
        return None
    if hint in _SCALARS:
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
        return list.__class_getitem__(members[0] if members else Any)
    if origin in _MAPPINGS:
        return dict.__class_getitem__((str, members[1] if members else Any))
    return _UNSETTABLE


def _text(hint: Any) -> str:
    if hint is Any or hint is REQUIRED:
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


def _is_json(hint: Any) -> bool:
    """Say whether an annotation is pydantic's `JsonValue`."""
    return getattr(hint, "__name__", "") == "JsonValue" and getattr(hint, "__module__", "").startswith("pydantic")
