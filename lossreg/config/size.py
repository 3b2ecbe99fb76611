"""How large a compound loss may be: refused before anything of it is built, drawn or listed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from lossreg.composition.schedules import FromCallable, Schedule
from lossreg.config.bounds import MAX_COMPONENTS, MAX_EPOCH, MAX_KNOTS, MAX_WEIGHT
from lossreg.errors import ProblemKind

if TYPE_CHECKING:
    from lossreg.config.grammar import CompoundConfig

Report = Callable[[str, str, str, ProblemKind], None]


def check_size(config: CompoundConfig, path: str, report: Report) -> None:
    """Report that a compound loss is beyond one of the bounds.

    Args:
        config: a compound loss without other problems.
        path: where its terms stand.
        report: takes a path, what is wrong, and what to do about it.
    """
    blocks = list(_blocks(config))
    count = sum(len(block.pre_processes) + len(block.terms) for block in blocks)
    if count > MAX_COMPONENTS:
        message = f"expected at most {MAX_COMPONENTS:,} losses, groups and preprocesses, found {count:,}"
        report(path, message, "leave some out", "limit")
        return
    terms = [term for block in blocks for term in block.terms]
    knots = {id(term.weight): knot_count(term.weight) for term in terms}
    total = sum(knots[id(schedule)] for leaf in config.leaves() for schedule in leaf.schedules)
    if total > MAX_KNOTS:
        message = f"expected weights that change their course at most {MAX_KNOTS:,} times, found {total:,} times"
        message += ", those of a group counted for each loss in it"
        report(path, message, "use fewer cycles or thresholds", "limit")
        return
    for term in terms:
        if any(abs(knot) > MAX_EPOCH for knot in term.weight.knots):
            report(f"{term.path}.weight", f"expected epochs and steps of at most {MAX_EPOCH:g}", "lower it", "limit")
    _check_weights(config, 1.0, report)


def knot_count(schedule: Schedule) -> int:
    """Return how many knots a schedule has, without listing those of a chain."""
    parts = getattr(schedule, "schedules", None)
    if parts is None:
        return len(schedule.knots)
    return len(parts) + sum(knot_count(part) for part in parts)


def _blocks(config: CompoundConfig) -> Iterator[CompoundConfig]:
    """Yield a compound loss and the groups in it, at any depth."""
    yield config
    for term in config.terms:
        if term.group is not None:
            yield from _blocks(term.group)


def _check_weights(config: CompoundConfig, around: float, report: Report) -> None:
    """Report weights that are no float32, each with the largest weights of the groups around it."""
    for term in config.terms:
        try:
            largest = around * _largest(term.weight)
        except Exception as error:  # a third party's schedule may raise anything
            message = f"cannot be computed: {type(error).__name__}: {error}"
            report(f"{term.path}.weight", message, "use another schedule", "refused")
            continue
        if not largest <= MAX_WEIGHT:
            message = f"expected weights of at most {MAX_WEIGHT:g}, those of the groups around multiplied"
            report(f"{term.path}.weight", f"{message}, found {largest:g}", "lower it", "limit")
        elif term.group is not None:
            _check_weights(term.group, largest, report)


def _largest(schedule: Schedule) -> float:
    """Return the largest absolute weight at a schedule's knots and between them; NaN where one is."""
    if isinstance(schedule, FromCallable):  # a plugin's, which is asked in training
        return 1.0
    knots = schedule.knots or (0.0,)
    weights = [abs(schedule(time)) for time in (*knots, *((a + b) / 2 for a, b in pairwise(knots)))]
    return math.nan if any(map(math.isnan, weights)) else max(weights)
