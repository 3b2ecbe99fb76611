"""The registry of checks. A check is a function that raises `Broken` if a loss breaks a promise.

The first paragraph of its docstring is the promise; the second says how to fix a loss that breaks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossreg.testing.subject import Subject

_CheckFunction = Callable[["Subject"], None]


class Broken(Exception):  # noqa: N818 (a finding, not an error of the program)
    """A loss breaks a promise; the text says how."""


class NotApplicable(Exception):  # noqa: N818
    """A check does not apply to a loss; the text says why."""


@dataclass(frozen=True)
class Check:
    """One check of the contract.

    Attributes:
        name: the name in reports and in `LossSpec.exceptions`.
        promise: what a loss promises.
        advice: how to fix a loss that breaks the promise.
        run: the function that checks it.
        after: checks that must pass first.
    """

    name: str
    promise: str
    advice: str
    run: _CheckFunction
    after: tuple[str, ...]


CHECKS: dict[str, Check] = {}
"""All checks by name."""


def check(*after: str) -> Callable[[_CheckFunction], _CheckFunction]:
    """Return a decorator that adds a check; it is skipped if one of the checks `after` fails."""

    def add(function: _CheckFunction) -> _CheckFunction:
        name = function.__name__.strip("_")
        promise, _, advice = (inspect.getdoc(function) or "").partition("\n\n")
        CHECKS[name] = Check(name, " ".join(promise.split()), " ".join(advice.split()), function, after)
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
