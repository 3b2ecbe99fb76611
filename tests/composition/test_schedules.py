"""Schedules: equal to scipy where scipy has them, held at their ends, and strict about their numbers."""

import copy
import dataclasses
import doctest
import math
import pickle
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator, interp1d

from lossreg.composition import schedules
from lossreg.composition.schedules import (
    Akima,
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    FromCallable,
    Pchip,
    Piecewise,
    Polynomial,
    Schedule,
    Sigmoid,
    Step,
    as_data,
    as_schedule,
)
from lossreg.testing import thresholds

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
positive = st.floats(1e-3, 1e3)
fractions = st.floats(0.0, 1.0)


@st.composite
def points(draw, least=1, values=numbers):
    """Draw (values, thresholds) of one length."""
    epochs = draw(thresholds(min_size=least, max_size=8, min_value=-20, max_value=400))
    return draw(st.lists(values, min_size=len(epochs), max_size=len(epochs))), epochs


@st.composite
def points_and_epoch(draw, least=1):
    """Draw points and an epoch that is before, between, at, or after the thresholds."""
    values, epochs = draw(points(least))
    around = st.floats(epochs[0] - 5, epochs[-1] + 5)
    return values, epochs, draw(around | st.sampled_from(epochs) | st.integers(-100, 100))


def ramp(kind, start, end, first, length):
    return kind(start, end, end_epoch=first + length, start_epoch=first)


ramps = st.builds(
    ramp,
    st.sampled_from([Polynomial, Cosine, Exponential, Sigmoid, Cyclic]),
    positive,
    positive,
    st.integers(-20, 20),
    st.floats(0.1, 100.0),
)
through_points = st.builds(lambda kind, p: kind(*p), st.sampled_from([Piecewise, Step, Pchip, Akima]), points())
moving = ramps | through_points


# --- against scipy --------------------------------------------------------------------------------


@given(points_and_epoch(least=2))
def test_piecewise_is_interp1d_at_every_epoch(case):
    values, thresholds, epoch = case
    reference = interp1d(thresholds, values, bounds_error=False, fill_value=(values[0], values[-1]))
    scale = max(map(abs, values))
    assert Piecewise(values, thresholds)(epoch) == pytest.approx(float(reference(epoch)), rel=1e-12, abs=1e-12 * scale)


@pytest.mark.parametrize(("kind", "reference"), [(Pchip, PchipInterpolator), (Akima, Akima1DInterpolator)])
@given(case=points_and_epoch(least=3))
def test_cubics_are_scipys_inside_their_range(kind, reference, case):
    values, thresholds, epoch = case
    epoch = min(max(epoch, thresholds[0]), thresholds[-1])
    scale = max(map(abs, values))
    with np.errstate(over="ignore"):
        expected = float(reference(thresholds, values)(epoch))
    assert kind(values, thresholds)(epoch) == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


def test_a_weight_near_the_smallest_number_fits_without_a_warning():
    assert [Pchip([0.0, 0.0, 2.3e-308], [-1, 0, 2])(e) for e in (-0.5, 0, 2)] == [0.0, 0.0, 2.3e-308]


def test_akima_through_two_points_is_a_line():
    assert [Akima([0, 4], [0, 8])(e) for e in (-1, 0, 2, 8, 9)] == [0, 0, 1, 4, 4]


# --- what every schedule through points does ------------------------------------------------------


@given(points(), st.sampled_from([Piecewise, Step, Pchip, Akima]))
def test_is_exact_at_thresholds(given_points, kind):
    values, thresholds = given_points
    schedule = kind(values, thresholds)
    assert [schedule(e) for e in thresholds] == values


@given(points_and_epoch(), st.sampled_from([Piecewise, Step, Pchip]))
def test_is_bounded_by_its_neighbours(case, kind):
    values, thresholds, epoch = case
    i = int(np.searchsorted(thresholds, epoch, side="right"))
    neighbours = values[max(i - 1, 0) : i + 1]
    assert min(neighbours) <= kind(values, thresholds)(epoch) <= max(neighbours)


def test_rounding_carries_a_piecewise_weight_not_below_its_end():
    fade = Piecewise([0.7, 0.0], [0.6, 1.9])
    assert 1e-15 > fade(math.nextafter(1.9, 0.0)) >= 0.0  # by the formula alone it would be -1.1e-16


@pytest.mark.parametrize("kind", [Piecewise, Step, Pchip, Akima])
def test_two_equal_thresholds_are_not_ascending(kind):
    with pytest.raises(ValueError, match="epoch_thresholds"):
        kind([0.0, 1.0, 2.0], [0, 3, 3])


@given(
    points(values=positive),
    st.lists(fractions, min_size=2, max_size=9),
    st.sampled_from([Piecewise, Step, Pchip]),
)
def test_rises_where_its_values_rise(given_points, places, kind):
    values, thresholds = given_points
    schedule = kind(sorted(values), thresholds)
    span = thresholds[-1] - thresholds[0]
    course = [schedule(thresholds[0] + span * place) for place in sorted(places)]
    slack = 0.0 if kind is not Pchip else 1e-9 * max(values)
    assert all(after >= before - slack for before, after in pairwise(course))


@given(points_and_epoch())
def test_step_takes_the_value_of_the_last_threshold_reached(case):
    values, thresholds, epoch = case
    reached = [v for v, e in zip(values, thresholds, strict=True) if e <= epoch]
    assert Step(values, thresholds)(epoch) == (reached[-1] if reached else values[0])


# --- what every ramp does -------------------------------------------------------------------------


@given(ramps)
def test_a_ramp_ends_exactly_at_its_end(schedule):
    assert schedule(schedule.end_epoch) == schedule.end


@given(ramps)
def test_a_ramp_begins_at_its_start(schedule):
    way = math.exp(-5) if isinstance(schedule, Sigmoid) else 0.0
    expected = (1 - way) * schedule.start + way * schedule.end
    assert schedule(schedule.start_epoch) == pytest.approx(expected, rel=1e-12)


@given(ramps, fractions)
def test_a_ramp_stays_between_its_ends(schedule, place):
    epoch = schedule.start_epoch + place * (schedule.end_epoch - schedule.start_epoch)
    low, high = sorted((schedule.start, schedule.end))
    assert low <= schedule(epoch) <= high


@given(ramps, fractions, fractions)
def test_a_ramp_goes_one_way(schedule, a, b):
    assume(not isinstance(schedule, Cyclic))
    length = schedule.end_epoch - schedule.start_epoch
    first, second = (schedule(schedule.start_epoch + place * length) for place in sorted((a, b)))
    slack = 1e-12 * max(schedule.start, schedule.end)
    if schedule.start <= schedule.end:
        assert first <= second + slack
    else:
        assert first >= second - slack


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Polynomial(3, 1, 40, 20, power=0.9), lambda t: 1 + 2 * (1 - t) ** 0.9),
        (Cosine(3, 1, 40, 20), lambda t: 1 + 2 * (1 + np.cos(np.pi * t)) / 2),
        (Exponential(3, 1, 40, 20), lambda t: 3 * (1 / 3) ** t),
        (Sigmoid(3, 1, 40, 20), lambda t: 3 - 2 * np.exp(-5 * (1 - t) ** 2)),
        (Cyclic(3, 1, 40, 20, cycles=2, ratio=0.25), lambda t: 3 - 2 * min(2 * t % 1 / 0.25, 1)),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, Schedule) else "",
)
def test_a_ramp_follows_its_formula(schedule, formula):
    for epoch in np.linspace(20, 40, 33)[:-1]:
        assert schedule(float(epoch)) == pytest.approx(formula((epoch - 20) / 20), rel=1e-12)


def test_cyclic_begins_each_cycle_exactly_at_whole_epochs():
    schedule = Cyclic(0, 1, end_epoch=21, cycles=7)
    assert [schedule(epoch) for epoch in range(0, 21, 3)] == [0.0] * 7
    assert schedule.knots == (0, 3, 6, 9, 12, 15, 18, 21)


# --- every schedule -------------------------------------------------------------------------------


@given(moving, st.floats(0.0, 1e6) | st.just(math.inf))
def test_holds_its_ends_outside_its_range(schedule, beyond):
    first, last = schedule.knots[0], schedule.knots[-1]
    assert schedule(first - beyond) == schedule(first)
    assert schedule(last + beyond) == schedule(last)


@given(moving, st.floats(-200.0, 200.0))
def test_returns_a_finite_float(schedule, epoch):
    value = schedule(epoch)
    assert type(value) is float
    assert math.isfinite(value)


@given(moving)
def test_refuses_an_epoch_that_is_no_number(schedule):
    with pytest.raises(ValueError, match="at NaN"):
        schedule(math.nan)


@given(moving, st.floats(-200.0, 200.0))
def test_is_data(schedule, epoch):
    for copied in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert copied == schedule
        assert hash(copied) == hash(schedule)
        assert copied(epoch) == schedule(epoch)
    with pytest.raises(AttributeError):
        schedule.unit = "step"


@given(moving)
def test_knots_ascend(schedule):
    assert list(schedule.knots) == sorted(set(schedule.knots))


def test_only_a_constant_needs_no_epoch():
    assert not Constant(1.0).needs_epoch
    assert Constant(1.0).unit == "epoch"
    assert Constant(1.0).knots == ()
    assert Piecewise([1, 2], [0, 1]).needs_epoch
    assert Piecewise([1, 2], [0, 1], unit="step").unit == "step"


# --- chain ----------------------------------------------------------------------------------------


@given(st.lists(moving, min_size=1, max_size=4), st.data())
def test_a_chain_shows_each_schedule_from_its_own_beginning(parts, data):
    boundaries = data.draw(thresholds(min_size=len(parts) - 1, max_size=len(parts) - 1))
    chain = Chain(parts, boundaries)
    epoch = data.draw(st.integers(-10, 150))
    i = sum(boundary <= epoch for boundary in boundaries)
    assert chain(epoch) == parts[i](epoch - ([0, *boundaries][i]))


def test_a_chain_lists_its_boundaries_and_the_knots_between():
    chain = Chain([Piecewise([0, 1, 2], [-5, 5, 50]), 1.0, Cosine(1, 0, end_epoch=10)], [10, 50])
    assert chain.knots == (-5, 5, 10, 50, 60)


def test_a_chain_of_one_constant_needs_no_epoch():
    assert not Chain([1.0], []).needs_epoch
    assert Chain([1.0, 2.0], [3]).needs_epoch


def test_chains_nest():
    inner = Chain([1.0, 2.0], [5])
    outer = Chain([0.0, inner], [10])
    assert [outer(e) for e in (9, 10, 14, 15)] == [0, 1, 1, 2]


# --- bad numbers ----------------------------------------------------------------------------------

BAD = [
    (lambda: Constant(math.nan), ValueError, "Constant: value: expected a finite number, found nan"),
    (lambda: Constant(10**400), ValueError, "Constant: value: expected a finite number, found inf"),
    (lambda: Constant(True), TypeError, "Constant: value: expected a number, found True"),
    (lambda: Constant("1"), TypeError, "Constant: value: expected a number, found '1'"),
    (lambda: Constant(None), TypeError, "Constant: value: expected a number, found None"),
    (
        lambda: Piecewise([1, 2], [0]),
        ValueError,
        "expected as many values as epoch_thresholds, found 2 values and 1 thresholds",
    ),
    (lambda: Piecewise([], []), ValueError, "Piecewise: values: expected one number or more, found none"),
    (
        lambda: Piecewise([1, 2], [3, 3]),
        ValueError,
        "epoch_thresholds: expected strictly ascending numbers, found 3 twice",
    ),
    (
        lambda: Piecewise([1, 2], [3, 1]),
        ValueError,
        "epoch_thresholds: expected strictly ascending numbers, found 1 after 3",
    ),
    (lambda: Piecewise([1, math.inf], [0, 1]), ValueError, r"values\[1\]: expected a finite number, found inf"),
    (lambda: Piecewise([1, True], [0, 1]), TypeError, r"values\[1\]: expected a number, found True"),
    (lambda: Piecewise("12", [0, 1]), TypeError, "values: expected a list of numbers, found '12'"),
    (lambda: Piecewise(1.0, [0, 1]), TypeError, "values: expected a list of numbers, found 1.0"),
    (
        lambda: Step([1, 2], [0, math.nan]),
        ValueError,
        r"Step: epoch_thresholds\[1\]: expected a finite number, found nan",
    ),
    (lambda: Pchip([1, 2], [1, 0]), ValueError, "Pchip: epoch_thresholds: expected strictly ascending"),
    (
        lambda: Akima([1, 2], [0, 1], unit="epochs"),
        ValueError,
        "unit: expected 'epoch' or 'step', found 'epochs'",
    ),
    (
        lambda: Cosine(0, 1, end_epoch=0),
        ValueError,
        "Cosine: end_epoch: expected a number above start_epoch, 0, found 0",
    ),
    (lambda: Cosine(0, "1", end_epoch=5), TypeError, "Cosine: end: expected a number, found '1'"),
    (lambda: Exponential(0, 1, end_epoch=5), ValueError, "Exponential: start: expected a number above 0, found 0"),
    (lambda: Exponential(1, -1, end_epoch=5), ValueError, "Exponential: end: expected a number above 0, found -1"),
    (lambda: Polynomial(0, 1, 5, power=0), ValueError, "Polynomial: power: expected a number above 0, found 0"),
    (lambda: Cyclic(0, 1, 5, cycles=0), ValueError, "Cyclic: cycles: expected a number from 1 to 1,000, found 0"),
    (
        lambda: Cyclic(0, 1, 5, cycles=10**18),
        ValueError,
        "cycles: expected a number from 1 to 1,000, found 1000000000000000000",
    ),
    (lambda: Cyclic(0, 1, 5, cycles=2.5), TypeError, "Cyclic: cycles: expected a whole number, found 2.5"),
    (
        lambda: Cyclic(0, 1, 5, ratio=1.5),
        ValueError,
        "Cyclic: ratio: expected a number above 0 and at most 1, found 1.5",
    ),
    (lambda: Chain([], []), ValueError, "Chain: schedules: expected one schedule or more, found none"),
    (lambda: Chain(Constant(1), []), TypeError, "Chain: schedules: expected a list of schedules, found "),
    (
        lambda: Chain([1, "2"], [3]),
        TypeError,
        r"Chain: schedules\[1\]: expected a schedule or a number, found '2'",
    ),
    (lambda: Chain([1, 2], []), ValueError, "Chain: boundaries: expected 1 for 2 schedules, found 0"),
    (lambda: Chain([1, 2, 3], [5, 5]), ValueError, "boundaries: expected strictly ascending numbers, found 5 twice"),
    (
        lambda: Chain([Cosine(0, 1, 5, unit="step")], []),
        ValueError,
        r"schedules\[0\] counts in unit 'step' and the chain in 'epoch'",
    ),
    (lambda: FromCallable(3), TypeError, "FromCallable: function: expected a callable, found 3"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refuses_bad_numbers_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- as_schedule ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), Fraction(2)])
def test_a_number_becomes_a_constant(number):
    assert as_schedule(number, name="seg") == Constant(2.0)


@pytest.mark.parametrize("values", [[0, 1], (0.0, 1.0), np.array([0.0, 1.0])])
@pytest.mark.parametrize("thresholds", [[0, 10], (0, 10), np.array([0, 10])])
def test_a_list_becomes_piecewise(values, thresholds):
    assert as_schedule(values, thresholds, name="seg") == Piecewise([0, 1], [0, 10])


def test_a_schedule_stays_itself():
    schedule = Cosine(0, 1, 5)
    assert as_schedule(schedule, name="seg") is schedule


def test_another_callable_is_wrapped():
    schedule = as_schedule(interp1d([0, 10], [0, 1]), name="seg")
    assert schedule(5) == 0.5
    assert schedule.needs_epoch


@pytest.mark.parametrize(("returned", "shown"), [(None, "None"), ("much", "'much'"), ([1.0], r"\[1.0\]")])
def test_a_callable_that_returns_no_number_is_told_so(returned, shown):
    with pytest.raises(TypeError, match=f"at epoch 3: expected a number, found {shown}$"):
        as_schedule(lambda epoch: returned, name="seg")(3)


def test_a_callable_that_returns_nan_is_told_so():
    with pytest.raises(ValueError, match="at epoch 3: expected a finite number, found nan"):
        as_schedule(lambda epoch: math.nan, name="seg")(3)


@pytest.mark.parametrize(
    "weight",
    ["1.0", True, None, {"a": 1}, torch.tensor(1.0), torch.ones(2), np.bool_(True), 1j, Cosine, {1.0}],
)
def test_anything_else_is_refused_with_the_terms_name(weight):
    with pytest.raises(TypeError, match=r"term 'seg': weight: expected a number, a list .* found "):
        as_schedule(weight, [0, 1], name="seg")


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        ({"a": 1}, "{'a': 1}; a mapping is for YAML: give a schedule, such as Cosine(...)"),
        (torch.tensor(1.0), "a Tensor of shape (); give tensor.item()"),
        (Cosine, "the class Cosine; give an object: Cosine(...)"),
        (1j, "1j"),
    ],
)
def test_a_refusal_ends_with_what_was_found_and_what_to_give(weight, found):
    with pytest.raises(TypeError) as refused:
        as_schedule(weight, name="seg")
    assert str(refused.value).partition(" or a callable from epoch to weight, found ")[2] == found


@pytest.mark.parametrize(
    ("values", "thresholds", "error", "message"),
    [
        (
            [0, 1],
            None,
            ValueError,
            "term 'seg': weight: expected epoch_thresholds for a list, as many as its 2 values",
        ),
        ([0, 1], [0], ValueError, "term 'seg': .*2 values and 1 thresholds"),
        ([0, 1], [1, 0], ValueError, "term 'seg': .*strictly ascending numbers, found 0 after 1"),
        ([0, 1], [1, 1], ValueError, "term 'seg': .*strictly ascending numbers, found 1 twice"),
        ([0, True], [0, 1], TypeError, r"term 'seg': .*values\[1\]: expected a number, found True"),
        ([0, [1]], [0, 1], TypeError, r"term 'seg': .*values\[1\]: expected a number, found \[1\]"),
        (np.eye(2), [0, 1], TypeError, r"term 'seg': .*values\[0\]: expected a number, found \[1.0, 0.0\]"),
        ([], [], ValueError, "term 'seg': .*values: expected one number or more, found none"),
        (math.nan, None, ValueError, "term 'seg': .*value: expected a finite number, found nan"),
    ],
)
def test_a_bad_weight_is_refused_with_the_terms_name(values, thresholds, error, message):
    with pytest.raises(error, match=message):
        as_schedule(values, thresholds, name="seg")


# --- the module -----------------------------------------------------------------------------------


def test_doctests():
    failures, tests = doctest.testmod(schedules)
    assert failures == 0
    assert tests >= 12


def test_importing_schedules_imports_neither_torch_nor_numpy_nor_scipy():
    program = (
        "import sys; from lossreg.composition.schedules import Cosine, Piecewise;"
        "Piecewise([0, 1], [0, 9])(3), Cosine(0, 1, 9)(3);"
        "print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_core_plugin_names_every_schedule():
    from importlib import import_module

    from lossreg.registry.core_plugin import lossreg_schedules

    specs = lossreg_schedules()
    lowered = {spec.name.lower() for spec in specs}
    assert lowered == {spec.aliases[0] for spec in specs}
    assert len(lowered) == len(specs) == 11
    for spec in specs:
        module, _, attribute = spec.target.partition(":")
        assert issubclass(getattr(import_module(module), attribute), Schedule)


# --- as data --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halving(Schedule):
    """A schedule of another package."""

    every: float = 10.0
    of: tuple[float, ...] = (1.0,)

    def __call__(self, epoch):
        return self.of[0] * 0.5 ** (epoch // self.every)


class Plain(Schedule):
    """One that is no dataclass."""

    def __call__(self, epoch):
        return epoch


def halved(epoch):
    return epoch / 2


def test_a_schedule_of_another_package_has_its_path_and_the_fields_that_are_set():
    here = Halving.__module__
    assert as_data(Halving(of=(2.0, None))) == {"schedule": f"{here}.Halving", "of": [2.0, None]}
    assert as_data(Plain()) == {"schedule": f"{here}.Plain"}


def test_what_a_config_cannot_hold_is_text():
    made = as_data(FromCallable(halved, unit="step"))
    assert made == {"schedule": "core/FromCallable", "unit": "step", "function": str(halved)}


def test_a_chain_holds_its_schedules_as_data():
    assert as_data(Chain([1, Cosine(0, 1, 5)], [3])) == {
        "schedule": "core/Chain",
        "schedules": [1.0, {"schedule": "core/Cosine", "start": 0.0, "end": 1.0, "end_epoch": 5.0}],
        "boundaries": [3.0],
    }


def test_a_schedule_that_is_shared_cannot_be_changed() -> None:
    shared = Constant(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        shared.value = 2.0  # type: ignore[misc]
    assert {shared: 1}[Constant(1.0)] == 1
