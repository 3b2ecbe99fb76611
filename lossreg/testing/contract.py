"""The registry of checks. A check is a function that raises `Broken` if a component breaks a promise.

The first paragraph of its docstring is the promise; the second says how to fix a component that breaks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[[Any], None])


class Broken(Exception):  # noqa: N818 (a finding, not an error of the program)
    """A component breaks a promise; the text says how."""


class NotApplicable(Exception):  # noqa: N818
    """A check does not apply to a component; the text says why."""


@dataclass(frozen=True)
class Check:
    """One check of the contract.

    Attributes:
        name: the name in reports and in the `exceptions` of a spec.
        promise: what a component promises.
        advice: how to fix a component that breaks the promise.
        run: the function that checks it.
        after: checks that must pass first.
    """

    name: str
    promise: str
    advice: str
    run: Callable[[Any], None]
    after: tuple[str, ...]


CHECKS: dict[str, Check] = {}
"""The checks of losses by name."""

CHECKS_OF: dict[str, dict[str, Check]] = {"loss": CHECKS, "schedule": {}, "weighting": {}, "preprocess": {}}
"""All checks, by the kind of component and by name."""


def check(*after: str, kinds: Sequence[str] = ("loss",)) -> Callable[[_Function], _Function]:
    """Return a decorator that adds a check; it is skipped if one of the checks `after` fails.

    Args:
        *after: names of checks.
        kinds: the kinds of components that it is for.
    """

    def add(function: _Function) -> _Function:
        name = function.__name__.strip("_").removeprefix("check_")
        promise, _, advice = (inspect.getdoc(function) or "").partition("\n\n")
        made = Check(name, " ".join(promise.split()), " ".join(advice.split()), function, after)
        for kind in kinds:
            CHECKS_OF[kind][name] = made
        return function

    return add


def require(condition: object, finding: str) -> None:
    """Raise `Broken` unless a condition holds."""
    if not condition:
        raise Broken(finding)


def applies(condition: object, reason: str) -> None:
    """Raise `NotApplicable` unless a condition holds."""
    if not condition:
        raise NotApplicable(reason)
