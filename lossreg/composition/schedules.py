"""Schedules: frozen callables from a (fractional) epoch to the weight of a term.

Every schedule holds its end values outside its range and is plain Python at each call; scipy is imported
when a `Pchip` or an `Akima` is made. `epoch` is a global step where a schedule's `unit` is `"step"`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal, TypeAlias

from lossreg.arguments import how_to_give, plain, shown

Unit: TypeAlias = Literal["epoch", "step"]


class Schedule(ABC):
    """The weight of a term as a function of the epoch, or of the global step where `unit` is `"step"`.

    A subclass is a frozen dataclass that writes `__call__`; two schedules of equal fields are equal.
    """

    @abstractmethod
    def __call__(self, epoch: float) -> float:
        """Return the weight at `epoch`, which may be fractional, negative or beyond the last threshold."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(epoch)")

    @property
    def needs_epoch(self) -> bool:
        """Whether the weight depends on the epoch at all."""
        return True

    @property
    def unit(self) -> Unit:
        """What the argument of a call counts."""
        return "epoch"

    @property
    def knots(self) -> tuple[float, ...]:
        """The epochs at which the schedule changes its course, for the labels of a plot; ascending."""
        return ()


@dataclass(frozen=True)
class Constant(Schedule):
    """The same weight at every epoch: `w(e) = value`.

    Args:
        value: the weight; finite.

    >>> Constant(0.5)(100)
    0.5
    """

    value: float

    def __post_init__(self) -> None:
        _set(self, value=_number(self, "value", self.value))

    def __call__(self, epoch: float = 0.0) -> float:  # noqa: ARG002
        """Return the value."""
        return self.value

    @property
    def needs_epoch(self) -> bool:
        """False: a constant needs no epoch."""
        return False


@dataclass(frozen=True)
class _Moving(Schedule):
    """A schedule that depends on time, and so has a unit of time."""

    unit: Unit = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        if self.unit not in ("epoch", "step"):
            raise ValueError(f"{type(self).__name__}: unit: expected 'epoch' or 'step', found {self.unit!r}")


@dataclass(frozen=True)
class FromCallable(_Moving):
    """A weight computed by a function of the caller's own: `w(e) = function(e)`.

    Args:
        function: takes an epoch and returns a finite number.
        unit: what `function` takes, `"epoch"` or `"step"`.

    >>> FromCallable(lambda epoch: 1 / (1 + epoch))(4)
    0.2
    """

    function: Callable[[float], float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise TypeError(f"FromCallable: function: expected a callable, found {shown(self.function)}")

    def __call__(self, epoch: float) -> float:
        """Return what the function returns, as a float.

        Raises:
            TypeError, ValueError: it returned no number, or one that is not finite.
        """
        value = self.function(epoch)
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{self._asked(epoch)}: expected a number, found {shown(value)}") from None
        if not math.isfinite(number):
            raise ValueError(f"{self._asked(epoch)}: expected a finite number, found {number}")
        return number

    def _asked(self, epoch: float) -> str:
        return f"FromCallable: {self.function!r} at {self.unit} {epoch:g}"


# --- through given points -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Points(_Moving):
    """A schedule given by its values at thresholds."""

    values: Sequence[float]
    epoch_thresholds: Sequence[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        values = _numbers(self, "values", self.values)
        thresholds = _ascending(self, "epoch_thresholds", self.epoch_thresholds)
        if len(values) != len(thresholds):
            raise ValueError(
                f"{type(self).__name__}: expected as many values as epoch_thresholds, "
                f"found {len(values)} values and {len(thresholds)} thresholds"
            )
        _set(self, values=values, epoch_thresholds=thresholds)

    @property
    def knots(self) -> tuple[float, ...]:
        """The thresholds."""
        return tuple(self.epoch_thresholds)


@dataclass(frozen=True)
class Piecewise(_Points):
    """Straight lines through given points; what a list weight in a config becomes.

    `w(e) = v_i + (v_{i+1} - v_i) / (e_{i+1} - e_i) * (e - e_i)` for `e_i <= e < e_{i+1}`.

    Args:
        values: the weights `v_i` at the thresholds; finite.
        epoch_thresholds: the epochs (or steps) `e_i`, strictly ascending, as many as values.
        unit: `"epoch"` or `"step"`.

    >>> warm_up = Piecewise([0.0, 1.0, 0.5], [0, 10, 20])
    >>> [warm_up(epoch) for epoch in (-1, 0, 2.5, 10, 15, 99)]
    [0.0, 0.0, 0.25, 1.0, 0.75, 0.5]
    """

    _segments: tuple[tuple[float, ...], ...] = field(init=False, repr=False, compare=False)
    _last: tuple[float, float] = field(init=False, repr=False, compare=False)  # an epoch and its weight

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, _last=(math.nan, math.nan))
        points = pairwise(zip(self.epoch_thresholds, self.values, strict=True))
        _set(
            self,
            _segments=tuple((e, v, (w - v) / (f - e), min(v, w), max(v, w)) for (e, v), (f, w) in points),
        )

    def __call__(self, epoch: float) -> float:
        """Return the weight at `epoch`."""
        last, weight = self._last
        if epoch == last:
            return weight
        weight = self._at(epoch)
        _set(self, _last=(epoch, weight))
        return weight

    def _at(self, epoch: float) -> float:
        i = bisect_right(self.epoch_thresholds, epoch)
        if i == 0:
            return self.values[0]
        if i == len(self.values):
            _refuse_nan(epoch)
            return self.values[-1]
        start, value, slope, low, high = self._segments[i - 1]
        if epoch == start:
            return value
        # Rounding must not carry a weight past its neighbours, as from 0 to below 0.
        weight = slope * (epoch - start) + value
        return low if weight < low else high if weight > high else weight


@dataclass(frozen=True)
class Step(_Points):
    """A staircase: each value holds from its threshold to the next.

    `w(e) = v_i` for `e_i <= e < e_{i+1}`, and `v_0` before `e_0`.

    Args:
        values: the weights `v_i` from each threshold on; finite.
        epoch_thresholds: the epochs (or steps) `e_i`, strictly ascending, as many as values.
        unit: `"epoch"` or `"step"`.

    >>> stairs = Step([1.0, 0.1, 0.01], [0, 30, 60])
    >>> [stairs(epoch) for epoch in (-5, 0, 29.9, 30, 100)]
    [1.0, 1.0, 1.0, 0.1, 0.01]
    """

    def __call__(self, epoch: float) -> float:
        """Return the value of the last threshold that `epoch` has reached."""
        return self.values[max(_reached(self.epoch_thresholds, epoch) - 1, 0)]


@dataclass(frozen=True)
class _Cubic(_Points):
    """A piecewise cubic; scipy gives the coefficients, highest power first, and each call is plain Python."""

    _coefficients: tuple[tuple[float, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, _coefficients=self._fit() if len(self.values) > 1 else ())

    @abstractmethod
    def _fit(self) -> tuple[tuple[float, ...], ...]:
        """Return the four coefficients of each interval, in powers of `e - e_i`."""

    def __call__(self, epoch: float) -> float:
        """Return the weight at `epoch`."""
        thresholds = self.epoch_thresholds
        i = _reached(thresholds, epoch)
        if i == 0:
            return self.values[0]
        if i == len(thresholds) or epoch == thresholds[i - 1]:
            return self.values[i - 1]
        a, b, c, d = self._coefficients[i - 1]
        x = epoch - thresholds[i - 1]
        return ((a * x + b) * x + c) * x + d


@dataclass(frozen=True)
class Pchip(_Cubic):
    """A smooth curve through given points that never leaves the range of its neighbours.

    The monotone piecewise cubic of Fritsch and Butland (1984), `scipy.interpolate.PchipInterpolator`.

    Args:
        values: the weights at the thresholds; finite.
        epoch_thresholds: the epochs (or steps), strictly ascending, as many as values.
        unit: `"epoch"` or `"step"`.

    >>> curve = Pchip([0.0, 1.0, 1.0], [0, 10, 20])
    >>> [round(curve(epoch), 4) for epoch in (-1, 0, 5, 10, 15, 99)]
    [0.0, 0.0, 0.6875, 1.0, 1.0, 1.0]
    """

    def _fit(self) -> tuple[tuple[float, ...], ...]:
        import numpy as np
        from scipy.interpolate import PchipInterpolator

        with np.errstate(over="ignore"):  # a slope near 0 has no finite inverse; scipy takes 0 for its derivative
            return _rows(PchipInterpolator(self.epoch_thresholds, self.values).c)

    def __call__(self, epoch: float) -> float:
        """Return the weight at `epoch`, between the values of its neighbours."""
        value = super().__call__(epoch)
        i = _reached(self.epoch_thresholds, epoch)
        if i == 0 or i == len(self.values):
            return value
        return _between(self.values[i - 1], value, self.values[i])


@dataclass(frozen=True)
class Akima(_Cubic):
    """A smooth curve through given points in which one outlier bends its near neighbourhood only.

    The piecewise cubic of Akima (1970), `scipy.interpolate.Akima1DInterpolator`. It may overshoot its
    points, and so turn a weight negative near a zero; `Pchip` does not. Two points give a straight line.

    Args:
        values: the weights at the thresholds; finite.
        epoch_thresholds: the epochs (or steps), strictly ascending, as many as values.
        unit: `"epoch"` or `"step"`.

    >>> curve = Akima([0.0, 1.0, 0.5, 0.5], [0, 10, 20, 30])
    >>> [round(curve(epoch), 4) for epoch in (-1, 0, 5, 10, 25, 99)]
    [0.0, 0.0, 0.7344, 1.0, 0.4531, 0.5]
    """

    def _fit(self) -> tuple[tuple[float, ...], ...]:
        if len(self.values) == 2:
            (v0, v1), (e0, e1) = self.values, self.epoch_thresholds
            return ((0.0, 0.0, (v1 - v0) / (e1 - e0), v0),)
        from scipy.interpolate import Akima1DInterpolator

        return _rows(Akima1DInterpolator(self.epoch_thresholds, self.values).c)


# --- from a start to an end -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Ramp(_Moving):
    """A course from a start weight to an end weight over an interval of epochs."""

    start: float
    end: float
    end_epoch: float
    start_epoch: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start", "end", "end_epoch", "start_epoch"):
            _set(self, **{name: _number(self, name, getattr(self, name))})
        if self.end_epoch <= self.start_epoch:
            raise ValueError(
                f"{type(self).__name__}: end_epoch: expected a number above start_epoch, {self.start_epoch:g}, "
                f"found {self.end_epoch:g}"
            )

    @abstractmethod
    def _course(self, t: float) -> float:
        """Return the weight at the fraction `t` of the way, in [0, 1)."""

    def __call__(self, epoch: float) -> float:
        """Return the weight at `epoch`."""
        _refuse_nan(epoch)
        if epoch >= self.end_epoch:
            return self.end
        elapsed = max(epoch - self.start_epoch, 0.0)
        return self._course(elapsed / (self.end_epoch - self.start_epoch))

    @property
    def knots(self) -> tuple[float, ...]:
        """The first and the last epoch of the course."""
        return (self.start_epoch, self.end_epoch)


@dataclass(frozen=True)
class Polynomial(_Ramp):
    """A power of the way that is left, as the "poly" policy of learning rates.

    `w(t) = end + (start - end) (1 - t)^power` with `t = (e - start_epoch) / (end_epoch - start_epoch)`.

    Args:
        start: the weight up to `start_epoch`.
        end: the weight from `end_epoch` on.
        end_epoch: last epoch (or step) of the course.
        start_epoch: first epoch (or step) of the course, before `end_epoch`.
        power: 1 is a straight line, more is fast at first, less is slow at first; above 0.
        unit: `"epoch"` or `"step"`.

    >>> decay = Polynomial(1.0, 0.0, end_epoch=10, power=2)
    >>> [round(decay(epoch), 4) for epoch in (-1, 0, 5, 9, 10, 99)]
    [1.0, 1.0, 0.25, 0.01, 0.0, 0.0]
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, power=_positive(self, "power", self.power))

    def _course(self, t: float) -> float:
        rest = (1.0 - t) ** self.power
        return _between(self.start, rest * self.start + (1.0 - rest) * self.end, self.end)


@dataclass(frozen=True)
class Cosine(_Ramp):
    """Half a cosine, level at both ends (Loshchilov and Hutter, 2017, without restarts).

    `w(t) = end + (start - end) (1 + cos(pi t)) / 2` with `t = (e - start_epoch) / (end_epoch - start_epoch)`.

    Args:
        start: the weight up to `start_epoch`.
        end: the weight from `end_epoch` on.
        end_epoch: last epoch (or step) of the course.
        start_epoch: first epoch (or step) of the course, before `end_epoch`.
        unit: `"epoch"` or `"step"`.

    >>> warm_up = Cosine(0.0, 1.0, end_epoch=10)
    >>> [round(warm_up(epoch), 4) for epoch in (-1, 0, 2.5, 5, 10, 99)]
    [0.0, 0.0, 0.1464, 0.5, 1.0, 1.0]
    """

    def _course(self, t: float) -> float:
        rest = (1.0 + math.cos(math.pi * t)) / 2.0
        return _between(self.start, rest * self.start + (1.0 - rest) * self.end, self.end)


@dataclass(frozen=True)
class Exponential(_Ramp):
    """A constant factor per epoch.

    `w(t) = start (end / start)^t` with `t = (e - start_epoch) / (end_epoch - start_epoch)`.

    Args:
        start: the weight up to `start_epoch`; above 0.
        end: the weight from `end_epoch` on; above 0.
        end_epoch: last epoch (or step) of the course.
        start_epoch: first epoch (or step) of the course, before `end_epoch`.
        unit: `"epoch"` or `"step"`.

    >>> decay = Exponential(1.0, 0.01, end_epoch=20)
    >>> [round(decay(epoch), 4) for epoch in (-1, 0, 10, 20, 99)]
    [1.0, 1.0, 0.1, 0.01, 0.01]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "start", self.start)
        _positive(self, "end", self.end)

    def _course(self, t: float) -> float:
        log_weight = (1.0 - t) * math.log(self.start) + t * math.log(self.end)
        return _between(self.start, math.exp(log_weight), self.end)


@dataclass(frozen=True)
class Sigmoid(_Ramp):
    """The sigmoid-shaped ramp-up of Laine and Aila (2017), https://arxiv.org/abs/1610.02242.

    `w(t) = start + (end - start) exp(-5 (1 - t)^2)` with `t = (e - start_epoch) / (end_epoch - start_epoch)`;
    the paper has `start = 0`. At `t = 0` the weight is already `exp(-5)`, 0.7 percent, of the way to `end`,
    and it holds that value before.

    Args:
        start: the weight that the course comes from.
        end: the weight from `end_epoch` on.
        end_epoch: last epoch (or step) of the course.
        start_epoch: first epoch (or step) of the course, before `end_epoch`.
        unit: `"epoch"` or `"step"`.

    >>> ramp_up = Sigmoid(0.0, 1.0, end_epoch=80)
    >>> [round(ramp_up(epoch), 4) for epoch in (-1, 0, 40, 80, 99)]
    [0.0067, 0.0067, 0.2865, 1.0, 1.0]
    """

    def _course(self, t: float) -> float:
        way = math.exp(-5.0 * (1.0 - t) ** 2)
        return _between(self.start, (1.0 - way) * self.start + way * self.end, self.end)


_MOST_CYCLES = 1_000  # each is a knot, which tables and plots go through


@dataclass(frozen=True)
class Cyclic(_Ramp):
    """Cyclical annealing of Fu et al. (2019), https://arxiv.org/abs/1903.10145.

    The interval is cut into `cycles` equal cycles. In each, the weight goes in a straight line from `start`
    to `end` over the first `ratio` of the cycle and stays at `end` for the rest:
    `w = start + (end - start) min(tau / ratio, 1)`, `tau` the fraction of the cycle that is over. The next
    cycle jumps back to `start`; after the last one the weight stays at `end`.

    Args:
        start: the weight at the beginning of each cycle.
        end: the weight that each cycle reaches, and from `end_epoch` on.
        end_epoch: last epoch (or step) of the last cycle.
        start_epoch: first epoch (or step) of the first cycle, before `end_epoch`.
        cycles: how many; from 1 to 1,000.
        ratio: the share of a cycle in which the weight moves; above 0, at most 1.
        unit: `"epoch"` or `"step"`.

    >>> beta = Cyclic(0.0, 1.0, end_epoch=40, cycles=4, ratio=0.5)
    >>> [beta(epoch) for epoch in (-1, 0, 2.5, 5, 9, 10, 12.5, 40, 99)]
    [0.0, 0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0]
    """

    cycles: int = 4
    ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, cycles=plain(self.cycles))
        if isinstance(self.cycles, bool) or not isinstance(self.cycles, int):
            raise TypeError(f"Cyclic: cycles: expected a whole number, found {shown(self.cycles)}")
        if not 1 <= self.cycles <= _MOST_CYCLES:
            raise ValueError(f"Cyclic: cycles: expected a number from 1 to {_MOST_CYCLES:,}, found {self.cycles}")
        if _positive(self, "ratio", self.ratio) > 1.0:
            raise ValueError(f"Cyclic: ratio: expected a number above 0 and at most 1, found {self.ratio:g}")
        _set(self, ratio=float(self.ratio))

    def __call__(self, epoch: float) -> float:
        """Return the weight at `epoch`."""
        _refuse_nan(epoch)
        if epoch >= self.end_epoch:
            return self.end
        # Multiplied before divided: whole epochs then meet the beginning of a cycle exactly.
        elapsed = max(epoch - self.start_epoch, 0.0) * self.cycles
        return self._course(elapsed / (self.end_epoch - self.start_epoch) % 1.0)

    def _course(self, t: float) -> float:
        way = min(t / self.ratio, 1.0)
        return _between(self.start, (1.0 - way) * self.start + way * self.end, self.end)

    @property
    def knots(self) -> tuple[float, ...]:
        """The beginning of each cycle, and the end of the last."""
        length = self.end_epoch - self.start_epoch
        starts = (self.start_epoch + length * cycle / self.cycles for cycle in range(self.cycles))
        return (*starts, self.end_epoch)


# --- one after another ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain(_Moving):
    """Schedules one after another; each counts its epochs from its own beginning.

    `w(e) = s_i(e - b_i)` for `b_i <= e < b_{i+1}`; the first schedule begins at 0.

    Args:
        schedules: the schedules `s_i`; a number stands for a constant.
        boundaries: the epochs (or steps) `b_1, b_2, ...` at which the next schedule takes over, strictly
            ascending, one fewer than schedules.
        unit: `"epoch"` or `"step"`; each schedule in the chain must have the same.

    >>> chain = Chain([Cosine(0, 1, end_epoch=10), 1.0, Cosine(1, 0, end_epoch=10)], [10, 50])
    >>> [round(chain(epoch), 4) for epoch in (-1, 0, 5, 10, 49, 55, 99)]
    [0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """

    schedules: Sequence[Schedule | float]
    boundaries: Sequence[float]
    _parts: tuple[Schedule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.schedules, (str, bytes)) or not isinstance(self.schedules, Sequence):
            raise TypeError(f"Chain: schedules: expected a list of schedules, found {shown(self.schedules)}")
        if not self.schedules:
            raise ValueError("Chain: schedules: expected one schedule or more, found none")
        parts = tuple(_part(i, schedule) for i, schedule in enumerate(self.schedules))
        boundaries = _ascending(self, "boundaries", self.boundaries, empty=True)
        if len(boundaries) != len(parts) - 1:
            raise ValueError(
                f"Chain: boundaries: expected {len(parts) - 1} for {len(parts)} schedules, found {len(boundaries)}"
            )
        for i, part in enumerate(parts):
            if part.needs_epoch and part.unit != self.unit:
                raise ValueError(
                    f"Chain: schedules[{i}] counts in unit {part.unit!r} and the chain in {self.unit!r}; "
                    "give both the same unit"
                )
        _set(self, schedules=parts, boundaries=boundaries, _parts=parts)

    def __call__(self, epoch: float) -> float:
        """Return what the schedule in charge at `epoch` returns."""
        i = _reached(self.boundaries, epoch)
        return self._parts[i](epoch - self.boundaries[i - 1] if i else epoch)

    @property
    def needs_epoch(self) -> bool:
        """Whether more than one schedule is chained, or the only one needs an epoch."""
        return len(self._parts) > 1 or self._parts[0].needs_epoch

    @property
    def knots(self) -> tuple[float, ...]:
        """The boundaries, and the knots of each schedule between its own."""
        starts = (0.0, *self.boundaries)
        ends = (*self.boundaries, math.inf)
        knots = set(self.boundaries)
        for i, (part, start, end) in enumerate(zip(self._parts, starts, ends, strict=True)):
            knots |= {start + k for k in part.knots if (i == 0 or k >= 0) and start + k <= end}
        return tuple(sorted(knots))


def as_data(schedule: Schedule) -> Any:
    """Return a schedule as a config holds it: a number, or `{"schedule": name, ...}` with the fields that are set.

    What a config cannot hold, such as the function of a `FromCallable`, is written as text.

    >>> as_data(Constant(0.5)), as_data(Cosine(0, 1, end_epoch=10))
    (0.5, {'schedule': 'core/Cosine', 'start': 0.0, 'end': 1.0, 'end_epoch': 10.0})
    """
    if isinstance(schedule, Constant):
        return schedule.value
    kind = type(schedule)
    name = f"core/{kind.__name__}" if kind.__module__ == __name__ else f"{kind.__module__}.{kind.__qualname__}"
    found: dict[str, Any] = {}
    for entry in fields(schedule) if is_dataclass(schedule) else ():  # type: ignore[var-annotated]
        value = getattr(schedule, entry.name)
        if entry.init and value != entry.default:
            found[entry.name] = _plain_data(value)
    return {"schedule": name, **found}


def _plain_data(value: Any) -> Any:
    if isinstance(value, Schedule):
        return as_data(value)
    if isinstance(value, (list, tuple)):
        return [_plain_data(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def as_schedule(weight: object, epoch_thresholds: Sequence[float] | None = None, *, name: str) -> Schedule:
    """Turn what a caller gives as the weight of a term into a schedule.

    Args:
        weight: a number, a list of numbers (linear between `epoch_thresholds`), a `Schedule`, or any other
            callable from epoch to weight.
        epoch_thresholds: the epochs of a list weight, strictly ascending; not read for the others.
        name: the term's name, for errors.

    Raises:
        TypeError: `weight` is none of these; the message names the term, what came and what is accepted.
        ValueError: a number is not finite; a list has no thresholds, not as many as values, or they do not
            ascend. The message names the term.

    >>> as_schedule(2, name="seg")
    Constant(value=2.0)
    >>> as_schedule([0, 1], [0, 10], name="seg")(5)
    0.5
    """
    weight = plain(weight)
    if isinstance(weight, Schedule):
        return weight
    if callable(weight) and not isinstance(weight, type):
        return FromCallable(weight)
    if _is_number(weight):
        return _for_term(name, lambda: Constant(weight))  # type: ignore[arg-type]
    if not isinstance(weight, Sequence) or isinstance(weight, (str, bytes)):
        raise TypeError(
            f"term {name!r}: weight: expected a number, a list of numbers with epoch_thresholds, a schedule "
            f"or a callable from epoch to weight, found {shown(weight)}{_remedy(weight)}"
        )
    if epoch_thresholds is None:
        raise ValueError(
            f"term {name!r}: weight: expected epoch_thresholds for a list, as many as its {len(weight)} values"
        )
    return _for_term(name, lambda: Piecewise(weight, plain(epoch_thresholds)))


# --- checks ---------------------------------------------------------------------------------------


def _set(schedule: Schedule, **fields: object) -> None:
    """Set fields of a frozen dataclass while it is being made."""
    for name, value in fields.items():
        object.__setattr__(schedule, name, value)


def _reached(thresholds: Sequence[float], epoch: float) -> int:
    """Return how many thresholds `epoch` has reached."""
    _refuse_nan(epoch)
    return bisect_right(thresholds, epoch)


def _refuse_nan(epoch: float) -> None:
    """Refuse an epoch that compares with nothing and would pass for the last."""
    if epoch != epoch:
        raise ValueError("a schedule was asked for its weight at NaN; pass the epoch or step as a number")


def _between(a: float, value: float, b: float) -> float:
    low, high = (a, b) if a <= b else (b, a)
    return low if value < low else high if value > high else value


def _rows(coefficients: Any) -> tuple[tuple[float, ...], ...]:
    """Turn scipy's (4, intervals) array into four floats for each interval."""
    return tuple(tuple(row) for row in coefficients.T.tolist())


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _number(owner: Schedule, argument: str, value: Any) -> float:
    if not _is_number(value):
        raise TypeError(f"{type(owner).__name__}: {argument}: expected a number, found {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{type(owner).__name__}: {argument}: expected a finite number, found {number}")
    return number


def _positive(owner: Schedule, argument: str, value: Any) -> float:
    number = _number(owner, argument, value)
    if number <= 0.0:
        raise ValueError(f"{type(owner).__name__}: {argument}: expected a number above 0, found {number:g}")
    return number


def _numbers(owner: Schedule, argument: str, values: Any, empty: bool = False) -> tuple[float, ...]:
    values = plain(values)
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"{type(owner).__name__}: {argument}: expected a list of numbers, found {shown(values)}")
    if not values and not empty:
        raise ValueError(f"{type(owner).__name__}: {argument}: expected one number or more, found none")
    return tuple(_number(owner, f"{argument}[{i}]", value) for i, value in enumerate(values))


def _ascending(owner: Schedule, argument: str, values: Any, empty: bool = False) -> tuple[float, ...]:
    numbers = _numbers(owner, argument, values, empty)
    for before, after in pairwise(numbers):
        if after <= before:
            raise ValueError(
                f"{type(owner).__name__}: {argument}: expected strictly ascending numbers, "
                f"found {after:g} {'twice' if after == before else f'after {before:g}'}"
            )
    return numbers


def _remedy(weight: object) -> str:
    if isinstance(weight, Mapping):
        return "; a mapping is for YAML: give a schedule, such as Cosine(...)"
    return f"; {remedy}" if (remedy := how_to_give(weight)) else ""


def _part(index: int, schedule: object) -> Schedule:
    if isinstance(schedule, Schedule):
        return schedule
    if _is_number(schedule):
        return Constant(schedule)  # type: ignore[arg-type]
    raise TypeError(f"Chain: schedules[{index}]: expected a schedule or a number, found {shown(schedule)}")


def _for_term(name: str, make: Callable[[], Schedule]) -> Schedule:
    """Make a schedule and put the term's name before its errors."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise type(error)(f"term {name!r}: {error}") from None
