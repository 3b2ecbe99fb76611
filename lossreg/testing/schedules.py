"""Checks of a schedule."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Sequence
from numbers import Real

from lossreg.composition.schedules import Schedule, as_schedule
from lossreg.testing.contract import applies, check, require
from lossreg.testing.part import Part, from_yaml

_EPOCHS = (-1e6, -3.0, -0.5, 0.0, 0.25, 1.0, 2.0, 3.5, 7.0, 10.0, 33.3, 100.0, 1e3, 1e6)


@check(kinds=("schedule",))
def check_builds(part: Part) -> None:
    """The schedule can be built from its defaults, or from `example_args`, and is called with an epoch.

    Return an object with `__call__(epoch)`, or set valid `example_args` in the spec.
    """
    made = part.make()
    require(callable(made), f"expected a callable from epoch to weight, found a {type(made).__name__}")
    as_schedule(made, name=part.name)


@check("builds", kinds=("schedule",))
def check_finite(part: Part) -> None:
    """The weight is a finite number at every epoch, also at a fractional, negative or very large one.

    Return a Python number. Divide by nothing that can be 0, and bound what grows.
    """
    schedule = part.make()
    for epoch in _epochs(schedule):
        weight = schedule(epoch)
        is_number = isinstance(weight, Real) and not isinstance(weight, bool)
        require(is_number and math.isfinite(weight), f"at epoch {epoch:g}: expected a finite number, found {weight!r}")


@check("finite", kinds=("schedule",))
def check_held(part: Part) -> None:
    """If the spec declares it, the schedule holds its end values outside its range.

    Return the first value before the range and the last one after it, or remove `held` from the spec's `capabilities`.
    `knots` says where the range begins and ends.
    """
    applies(part.declares("held"), "its spec does not declare the capability `held`")
    schedule = part.make()
    knots = getattr(schedule, "knots", ())
    ends = ((-1e6, -1e3, *(knot - 1e-3 for knot in knots[:1])), (*knots[-1:], 1e6, 1e9))
    for epochs in ends:
        weights = [schedule(epoch) for epoch in epochs]
        same = all(math.isclose(weight, weights[0], rel_tol=1e-9, abs_tol=1e-12) for weight in weights)
        require(same, f"at the epochs {list(epochs)}: expected one weight, found {weights}")


@check("finite", kinds=("schedule",))
def check_deterministic(part: Part) -> None:
    """The weight of an epoch is the same at every call, in whatever order epochs are asked for.

    Keep no state between calls, and draw no random numbers.
    """
    schedule, epochs = part.make(), _epochs(part.make())
    expected = [schedule(epoch) for epoch in epochs]
    for order, asked in (("again", epochs), ("backward", epochs[::-1])):
        found = dict(zip(asked, map(schedule, asked), strict=True))
        _same([found[epoch] for epoch in epochs], expected, epochs, order)


@check("deterministic", kinds=("schedule",))
def check_pickles(part: Part) -> None:
    """The schedule can be pickled, and the copy has the same weights.

    Store no lambdas, local functions or open files.
    """
    _copies(part, lambda schedule: pickle.loads(pickle.dumps(schedule)), "after pickling")


@check("deterministic", kinds=("schedule",))
def check_deepcopies(part: Part) -> None:
    """`copy.deepcopy` works, and the copy has the same weights.

    Store plain data.
    """
    _copies(part, copy.deepcopy, "after copy.deepcopy")


@check("finite", kinds=("schedule",))
def check_builds_from_yaml(part: Part) -> None:
    """The schedule can be named in YAML, and the term then has its weights.

    Use numbers, strings, lists and mappings as constructor parameters.
    """
    applies(part.registered, "it is not registered")
    criterion = from_yaml(weight={"schedule": part.name, **part.spec.example_args})
    schedule, epochs = part.make(), _epochs(part.make())
    _same(list(map(criterion.terms[0].schedule, epochs)), list(map(schedule, epochs)), epochs, "from YAML")


def _epochs(schedule: Callable[[float], float]) -> list[float]:
    """Return epochs, with those at, before and after the knots of a schedule."""
    knots = schedule.knots if isinstance(schedule, Schedule) else ()
    return sorted({*_EPOCHS, *(knot + offset for knot in knots for offset in (-0.5, 0.0, 0.5))})


def _copies(part: Part, copied: Callable[[Callable[[float], float]], Callable[[float], float]], how: str) -> None:
    schedule, epochs = part.make(), _epochs(part.make())
    expected = list(map(schedule, epochs))
    _same(list(map(copied(schedule), epochs)), expected, epochs, how)


def _same(found: Sequence[float], expected: Sequence[float], epochs: Sequence[float], how: str) -> None:
    for epoch, ours, other in zip(epochs, found, expected, strict=True):
        require(ours == other, f"at epoch {epoch:g} {how}: expected {other:.6g}, found {ours:.6g}")
