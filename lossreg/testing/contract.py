"""What a check is: a function that raises where a loss breaks its promise, with advice for the author.

The docstring's first paragraph is the promise; the second says what to change where it is broken.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossreg.testing.subject import Subject

CheckFunction = Callable[["Subject"], None]


class Broken(Exception):  # noqa: N818 (no error of a program: a finding)
    """A promise is broken; the text says what was found."""


class NotApplicable(Exception):  # noqa: N818
    """A check does not apply to a loss; the text says why."""


@dataclass(frozen=True)
class Check:
    """One check of the contract.

    Attributes:
        name: its name in reports and in `LossSpec.exceptions`.
        promise: what a loss promises.
        advice: what an author is to change where it is broken.
        run: the check itself.
        after: checks without which this one would say nothing of its own.
    """

    name: str
    promise: str
    advice: str
    run: CheckFunction
    after: tuple[str, ...]


CHECKS: dict[str, Check] = {}
"""Every check by name, in the order in which they run."""


def check(*after: str) -> Callable[[CheckFunction], CheckFunction]:
    """Add a function to the contract; it is skipped where one of `after` is broken."""

    def add(function: CheckFunction) -> CheckFunction:
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
