"""A component's parameters: listing, and validation of config values."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lossreg.registry.docstrings import plain_words
from lossreg.registry.signature import Signature, signature_of
from lossreg.registry.specs import LossSpec, Spec
from lossreg.values import ANYTHING, NOTHING, Choice, Misfit, Slot, Type, misfits_of, type_of

TENSOR = type_of(float | list[float] | list[list[float]] | list[list[list[float]]] | None)
"""The type of a tensor parameter in a config."""
_QUOTED = re.compile(r"""["'`]([\w-]+)["'`]""")
_LISTED = re.compile(rf"""`*{_QUOTED.pattern}`*(?:\s*(?:\||,|,?\s*or)\s*`*{_QUOTED.pattern}`*)+""")  # 'none' | 'mean'


@dataclass(frozen=True)
class Parameter(Slot):
    """One parameter of a component; its annotation and its docstring are read on first use.

    Attributes:
        name: the name.
        default: the default, or `REQUIRED`.
        hint: returns the evaluated annotation.
        docs: returns the descriptions of all parameters in the component's docstring, by name.
    """

    name: str
    default: Any
    hint: Callable[[], Any]
    docs: Callable[[], Mapping[str, str]]
    examples = ()

    @cached_property
    def type(self) -> Type:  # type: ignore[override]
        """The annotation, narrowed to plain data."""
        return type_of(self.hint())

    @property
    def settable(self) -> bool:
        """Whether a config can set the parameter; it cannot set callables, modules and other objects."""
        return self.type is not NOTHING

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that the docstring lists, if the annotation is `str` and the default is among them; else empty."""
        listed = _LISTED.search(self.doc) if self.type is type_of(str) else None
        found = tuple(_QUOTED.findall(listed[0])) if listed else ()
        return () if isinstance(self.default, str) and self.default not in found else found

    @cached_property
    def narrowed(self) -> Type:
        """The annotation, or the choices that the docstring lists."""
        return Choice(self.choices) if self.choices else self.type

    @property
    def annotation(self) -> str:
        """The type in a config, in Python's notation; empty if every plain value is valid."""
        return self.narrowed.notation if self.settable else inspect.formatannotation(self.hint())

    @property
    def doc(self) -> str:  # type: ignore[override]
        """The description in the component's docstring."""
        return self.docs().get(self.name, "")


def parameters(
    target: Any, *, hidden: typing.Collection[str] = (), tensors: typing.Collection[str] = ()
) -> list[Parameter]:
    """Return the parameters of a class's constructor, or of a function after its leading tensors.

    Args:
        target: a class or a function, or its signature.
        hidden: parameters to leave out.
        tensors: parameters that are tensors; a config sets them with (nested) lists of numbers.

    Returns:
        the parameters in the order of the signature, without `*args` and `**kwargs`.
    """
    signature = target if isinstance(target, Signature) else signature_of(target)
    read: list[Mapping[str, str]] = []

    def docs() -> Mapping[str, str]:
        if not read:
            read.append(_docs(signature.doc()))
        return read[0]

    return [
        Parameter(a.name, a.default, (lambda: TENSOR) if a.name in tensors else a.hint, docs)
        for a in signature.arguments
        if a.name not in hidden
    ]


def parameters_of(spec: Spec, signature: Signature, *, hidden: typing.Collection[str] = ()) -> list[Parameter]:
    """Return the parameters that a config can set, without hidden ones and without `name`, which is the term's."""
    own = (*spec.hidden, *(("name",) if signature.is_loss else ()), *hidden)
    return parameters(signature, hidden=own, tensors=spec.tensors if isinstance(spec, LossSpec) else ())


def check(found: Iterable[Parameter], values: Mapping[str, Any], *, open_ended: bool = False) -> Iterator[Misfit]:
    """Yield the mistakes in values from a config: unknown or missing names, wrong types and wrong choices.

    Args:
        found: the result of `parameters`.
        values: plain data, as in a YAML file.
        open_ended: whether unknown names are valid (`Signature.open_ended`).
    """
    yield from misfits_of(found, values, ANYTHING if open_ended else None)


def _docs(text: str) -> dict[str, str]:
    import docstring_parser

    found = docstring_parser.parse(text).params or docstring_parser.parse(_without_strays(text)).params
    return {p.arg_name.split(" ")[0]: plain_words(p.description or "") for p in found}


def _without_strays(text: str) -> str:
    """Join under-indented continuation lines to the entry above; the parser cannot read them."""
    head, section, rest = text.partition("Args:\n")
    stray = r" {4}(?! |\w+(?: \(.*\))?:)"
    rest = re.sub(rf"\A(?:{stray}.*\n|\n)+", "", rest)
    return head + section + re.sub(rf"(?m)^{stray}(?=\S)", " " * 8, rest)
