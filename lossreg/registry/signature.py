"""Read the arguments of a component's target, with defaults and annotations, from the imported object."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lossreg.errors import PluginError
from lossreg.registry.foreign import described

REQUIRED = inspect.Parameter.empty
"""The default of a parameter without a default."""

LOSS = ("lossreg.losses.base", "Loss")
"""Module and name of the class that takes the term's name."""

MODULE = ("torch.nn.modules.module", "Module")
"""Module and name of torch's class of modules."""


@dataclass(frozen=True)
class Argument:
    """A named argument.

    Attributes:
        name: the name.
        default: the default, or `REQUIRED`.
        hint: returns the evaluated annotation, or `REQUIRED` if there is none.
    """

    name: str
    default: Any
    hint: Callable[[], Any]


@dataclass(frozen=True)
class Signature:
    """The arguments of a class's constructor, or of a function after its leading tensors.

    Attributes:
        arguments: the arguments that may be passed by name, in order, without `*args` and `**kwargs`.
        open_ended: whether there is a `**kwargs`, so that every name is valid.
        is_loss: whether the target is a subclass of `lossreg.Loss`.
        doc: returns the docstring of the target, followed by that of its constructor.
    """

    arguments: tuple[Argument, ...]
    open_ended: bool
    is_loss: bool
    doc: Callable[[], str]


def signature_of(target: Any) -> Signature:
    """Return the signature of a class or a function; without arguments if Python finds none.

    Raises:
        PluginError: the target raises an error when its signature is read.
    """
    try:
        return _signature_of(target)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"the signature of {type(target).__name__} cannot be read: {described(error)}") from error


def _signature_of(target: Any) -> Signature:
    raw = {} if _is_module(target) else _raw(target)
    named = [p for p in raw.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not inspect.isclass(target):  # those without a default are the tensors to compare
        named = [p for p in named if p.default is not p.empty]
    hints = _hints(target)
    return Signature(
        tuple(Argument(p.name, p.default, _constant(hints.get(p.name, p.annotation))) for p in named),
        any(p.kind is p.VAR_KEYWORD for p in raw.values()),
        any((c.__module__, c.__name__) == LOSS for c in getattr(target, "__mro__", ())),
        lambda: _doc(target),
    )


def _is_module(target: Any) -> bool:
    """Return whether an object is a module of torch, which was built with its arguments; its call takes any names."""
    return any((c.__module__, c.__name__) == MODULE for c in type(target).__mro__)


def _raw(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _hints(target: Any) -> dict[str, Any]:
    """Evaluate annotations one by one, so that a name that only type checkers know affects only its own annotation."""
    function = inspect.unwrap(_annotated(target))
    known = getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(alone, globalns=known, include_extras=True)
        except Exception:  # the raw annotation has to do
            hints[name] = annotation
    return hints


def _annotated(target: Any) -> Any:
    """Return the function that has the annotations of a class, of a function, or of a partial one."""
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isclass(target):
        return target
    by_new = target.__init__ is object.__init__ and target.__new__ is not object.__new__
    return target.__new__ if by_new else target.__init__


def _doc(target: Any) -> str:
    try:
        return _text_of(target)
    except Exception:  # a property, or __getattr__, that raises
        return ""


def _text_of(target: Any) -> str:
    text = f"{inspect.getdoc(target) or ''}"
    if inspect.isclass(target) and target.__init__.__doc__ and "__init__" in vars(target):
        text += "\n\n" + inspect.cleandoc(target.__init__.__doc__)
    return text
