"""Run all checks on one component and return a report."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Literal

import torch

from lossreg.printable import paragraph, width_of
from lossreg.testing import (  # noqa: F401 (they add the checks)
    composition,
    declaration,
    gradients,
    numbers,
    preprocesses,
    schedules,
    state,
    weightings,
)
from lossreg.testing.contract import CHECKS_OF, Broken, Check, NotApplicable
from lossreg.testing.part import Part, part_of
from lossreg.testing.pytest_plugin import Component
from lossreg.testing.subject import Subject, subject_of

Outcome = Literal["passed", "failed", "skipped", "excepted"]


@dataclass(frozen=True)
class Result:
    """The result of one check.

    Attributes:
        check: the name of the check.
        outcome: `excepted` if the check fails and the spec declares an exception; `failed` if it fails without one,
            or passes with one.
        message: what was found and how to fix it, why the check was skipped, or the reason of the exception.
    """

    check: str
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """The results of all checks of one component; its `str` is a table of all checks that did not pass."""

    name: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed."""
        return self._of("failed")

    @property
    def skipped(self) -> tuple[Result, ...]:
        """The checks that do not apply, each with the reason."""
        return self._of("skipped")

    @property
    def exceptions(self) -> tuple[Result, ...]:
        """The checks that fail and have a declared exception, each with the reason."""
        return self._of("excepted")

    def _of(self, outcome: Outcome) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome == outcome)

    def __repr__(self) -> str:
        """Return one line with the names of the failed checks; pytest cuts longer texts."""
        failed = ", ".join(result.check for result in self.failures)
        return f"<Report {self._head()}{f' ({_shortened(failed, 120)})' if failed else ''}>"

    def __str__(self) -> str:
        shown = [result for outcome in ("failed", "excepted", "skipped") for result in self._of(outcome)]
        width = max((len(result.check) for result in shown), default=0)
        lines = [_line(f"  {result.outcome:8}  {result.check:{width}}  ", result.message) for result in shown]
        return "\n".join([self._head(), *lines])

    def _head(self) -> str:
        order: tuple[Outcome, ...] = ("failed", "passed", "excepted", "skipped")
        counts = {o: len(self._of(o)) for o in order}
        return f"{self.name}: " + ", ".join(f"{counts[o]} {o}" for o in order if counts[o])


def _line(start: str, message: str) -> str:
    """Return a line of a report; in a terminal it is wrapped between words."""
    width = width_of(sys.stdout)
    if width is None:
        return start + message
    indent = len(start) if width - len(start) >= 40 else 6
    return paragraph(" ".join(message.split()), width, start, " " * indent)


def check_loss(loss: Any, example: Any = None, **fields: Any) -> Report:
    """Run all checks on a loss and return a report.

    Args:
        loss: a registered name, a `LossSpec`, a class, a function, or an object. The checks of the registry run only
            for a registered name.
        example: a function that returns `(pred_batch, gt_batch)` with the same numbers at every call, such a pair, or
            `"package.module:function"`. Default: the example of the spec, else maps (2, 3, 8, 8) of numbers between
            0 and 1 under the keys that the loss requires.
        **fields: fields of `lossreg.LossSpec` that replace the declared ones: `example_args`, `nothing`,
            `capabilities`, `exceptions`, ...

    Returns:
        the report, with a result for each check.

    Raises:
        UnknownNameError, AmbiguousNameError: no loss has the name, or several have it.
        PluginError: a field is malformed, or the example cannot be imported.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # warnings of libraries do not matter here
        subject = subject_of(loss, example, **fields)
        return Report(subject.name, tuple(_results(subject, "loss")))


def check_schedule(schedule: Any, **fields: Any) -> Report:
    """Run all checks on a schedule and return a report.

    Args:
        schedule: a registered name, a `ScheduleSpec`, a class, a function that returns a schedule, or a schedule.
        **fields: fields of `lossreg.ScheduleSpec` that replace the declared ones: `example_args`, `capabilities`, ...

    Raises:
        UnknownNameError, AmbiguousNameError: no schedule has the name, or several have it.
        PluginError: a field is malformed.
    """
    return _check_part("schedule", schedule, fields)


def check_weighting(weighting: Any, **fields: Any) -> Report:
    """Run all checks on an adaptive weighting and return a report.

    The checks bind it to the terms `t0`, `t1` and `t2`. If it has a method `set_shared_parameters`, they give it one
    parameter, which the values depend on.

    Args:
        weighting: a registered name, a `WeightingSpec`, a class, or an object that is not bound to terms yet.
        **fields: fields of `lossreg.WeightingSpec` that replace the declared ones: `example_args`, `capabilities`, ...

    Raises:
        UnknownNameError, AmbiguousNameError: no weighting has the name, or several have it.
        PluginError: a field is malformed.
    """
    return _check_part("weighting", weighting, fields)


def check_preprocess(preprocess: Any, **fields: Any) -> Report:
    """Run all checks on a preprocess and return a report.

    Args:
        preprocess: a registered name, a `PreprocessSpec`, a class, or an object.
        **fields: fields of `lossreg.PreprocessSpec` that replace the declared ones: `example`, `example_args`, ...
            `example` may also be a function, or a pair `(pred_batch, gt_batch)`.

    Raises:
        UnknownNameError, AmbiguousNameError: no preprocess has the name, or several have it.
        PluginError: a field is malformed, or the example cannot be imported.
    """
    return _check_part("preprocess", preprocess, fields)


def check_component(component: Component) -> Report:
    """Run all checks of its kind on a component of `parametrize_components` and return a report."""
    return check_loss(component.name) if component.kind == "loss" else _check_part(component.kind, component.name, {})


def promises(kind: str = "loss") -> dict[str, tuple[str, str]]:
    """Return for each check, by name, what a component of a kind promises and how to fix one that breaks it."""
    return {check.name: (check.promise, check.advice) for check in _in_order(kind)}


def _check_part(kind: str, component: Any, fields: Mapping[str, Any]) -> Report:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # warnings of libraries do not matter here
        part = part_of(kind, component, **fields)
        return Report(part.name, tuple(_results(part, kind)))


def _results(subject: Subject | Part, kind: str) -> Iterator[Result]:
    declared: Mapping[str, str] = subject.spec.exceptions
    known = CHECKS_OF[kind]
    for name in sorted(set(declared) - set(known)):
        yield Result(name, "failed", f"exceptions: expected one of {list(known)}, found {name!r}")
    broken: set[str] = set()
    for check in _in_order(kind):
        blocked = [name for name in check.after if name in broken]
        result = Result(check.name, "skipped", f"needs {blocked[0]}") if blocked else _run(check, subject)
        drawn = check.name == "deterministic" and check.name in declared  # by torch's generator, which is seeded
        if blocked or (result.outcome == "failed" and not drawn):
            broken.add(check.name)
        yield _excepted(result, declared[check.name]) if check.name in declared else result


def _in_order(kind: str) -> list[Check]:
    """Return the checks of a kind in order, each after those that it depends on."""
    known = CHECKS_OF[kind]
    graph = {name: check.after for name, check in known.items()}
    return [known[name] for name in TopologicalSorter(graph).static_order()]


def _run(check: Check, subject: Subject | Part) -> Result:
    try:
        check.run(subject)
    except NotApplicable as reason:
        return Result(check.name, "skipped", str(reason))
    except Broken as finding:
        return Result(check.name, "failed", f"{_shortened(str(finding))}. {check.advice}")
    except Exception as error:
        return Result(
            check.name, "failed", f"{_shortened(f'it raised {type(error).__name__}: {error}')}. {check.advice}"
        )
    return Result(check.name, "passed")


def _excepted(result: Result, reason: str) -> Result:
    if result.outcome == "failed":
        return Result(result.check, "excepted", reason)
    outcome = "passes" if result.outcome == "passed" else f"is skipped ({result.message})"
    return Result(result.check, "failed", f"the check {outcome}, so remove its exception: {reason!r}")


def _shortened(text: str, most: int = 300) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= most else line[: most - 3] + "..."
