"""Checks of an adaptive weighting."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lossreg.composition.weighting.base import Coefficients, Weighting
from lossreg.testing import processes
from lossreg.testing.contract import NotApplicable, applies, check, require
from lossreg.testing.part import Part, from_yaml

_NAMES = ("t0", "t1", "t2")
_STEPS = 8
_OTHERS = [0, 2]  # the terms that are there where the second is absent


class Driver:
    """A weighting bound to three terms, whose values depend on one parameter, and an optimizer's step.

    Args:
        weighting: not bound to terms yet.
    """

    def __init__(self, weighting: Weighting) -> None:
        self.weighting = weighting
        self.parameter = nn.Parameter(torch.ones(1))
        weighting.bind(_NAMES)
        _share(weighting, self.parameter)

    def ask(self, losses: Tensor, t: int, active: Sequence[int] | None = None, **options: Any) -> Coefficients:
        """Return the coefficients of some values at a step; three steps are an epoch."""
        values = losses * self.parameter
        if self.weighting.differentiates:
            options["terms"] = values.unbind()
        if self.weighting.reads_predictions:
            options["predictions"] = {"x": self.parameter}
        torch.default_generator.manual_seed(t)
        return cast(Coefficients, self.weighting(values, active, float(t // 3), **options))

    def step(self, losses: Tensor, t: int, active: Sequence[int] | None = None, **options: Any) -> Coefficients:
        """Do one iteration, with a step of descent for parameters of the weighting."""
        coefficients = self.ask(losses, t, active, **options)
        learned = [p for p in self.weighting.weighting_parameters() if p.requires_grad]
        if learned and len(losses):
            there = options.get("counts", torch.ones(len(losses))) > 0
            total = coefficients.of(torch.where(there, losses, 0.0)).where(there, 0.0).sum()
            slopes = torch.autograd.grad(total, learned, allow_unused=True)
            with torch.no_grad():
                for parameter, slope in zip(learned, slopes, strict=True):
                    if slope is not None:
                        parameter.sub_(0.1 * slope)
        return coefficients

    def run(self, losses: Tensor, start: int = 0) -> Tensor:
        """Return (steps, n) the contributions of the terms."""
        return torch.stack([self.step(row, start + t).of(row).detach() for t, row in enumerate(losses)])

    def weights(self, losses: Tensor) -> Tensor:
        """Return (steps, n) the weights."""
        return torch.stack([self.step(row, t).weights.detach() for t, row in enumerate(losses)])

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state."""
        held = self.weighting.state_dict().items()
        return {name: value.clone() for name, value in held if isinstance(value, Tensor)}


def _share(weighting: Weighting, parameter: Tensor) -> None:
    """Give a weighting that compares gradients the parameter that the values depend on."""
    give = getattr(weighting, "set_shared_parameters", None)
    if give is not None:
        give([parameter])


def _driver(part: Part) -> Driver:
    return Driver(part.make())


def _losses(seed: int = 0) -> Tensor:
    return torch.rand(_STEPS, 3, generator=torch.Generator().manual_seed(seed)) * 2 + 0.2


@check(kinds=("weighting",))
def check_builds(part: Part) -> None:
    """The weighting can be built from its defaults, or from `example_args`, and is a `lossreg.Weighting`.

    Give every parameter a default, or set valid `example_args` in the spec.
    """
    made = part.make()
    require(isinstance(made, Weighting), f"expected a lossreg.Weighting, found a {type(made).__name__}")


@check("builds", kinds=("weighting",))
def check_coefficients(part: Part) -> None:
    """In training, the weights and addends of all terms are finite numbers, one per term.

    Return `Coefficients`, or write `weights` and `move`. Divide by nothing that can be 0.
    """
    driver = _driver(part)
    for t, row in enumerate(_losses()):
        found = driver.step(row, t)
        require(isinstance(found, Coefficients), f"expected Coefficients, found a {type(found).__name__}")
        for name, values in (("weights", found.weights), ("addends", found.addends)):
            if values is not None:
                good = values.shape == row.shape and bool(values.isfinite().all())
                require(good, f"{name} of step {t}: expected 3 finite numbers, found {values.tolist()}")


@check("coefficients", kinds=("weighting",))
def check_non_negative(part: Part) -> None:
    """If the spec declares it, no weight is below 0.

    Bound the weights, or remove `non_negative` from the spec's `capabilities`.
    """
    applies(part.declares("non_negative"), "its spec does not declare the capability `non_negative`")
    weights = _driver(part).weights(_losses())
    require(bool((weights >= 0).all()), f"expected weights of 0 or more, found {weights.min():.6g}")


@check("coefficients", kinds=("weighting",))
def check_permutable(part: Part) -> None:
    """If the spec declares it, another order of the terms gives the same contributions in that order.

    Treat all terms alike, or remove `permutable` from the spec's `capabilities`.
    """
    applies(part.declares("permutable"), "its spec does not declare the capability `permutable`")
    order, losses = [2, 0, 1], _losses()
    _close(_driver(part).run(losses[:, order]), _driver(part).run(losses)[:, order], "in another order")


@check("coefficients", kinds=("weighting",))
def check_scale(part: Part) -> None:
    """A constant factor on the values does to the weights what the class declares in `Domain.scale`.

    Correct `domain` of the class, or weigh by ratios (`own`), by ratios between terms (`common`), or by one over a
    norm (`inverse`).
    """
    losses, weighting = _losses(), part.make()
    scale = weighting.domain.scale
    applies(scale != "none", "its domain declares nothing about a factor on the values")
    factors = torch.full((3,), 8.0) if scale == "common" else torch.tensor([8.0, 1.0, 0.25])
    if scale == "inverse":
        _close(_driver(part).run(losses * factors), _driver(part).run(losses), "of values times a factor")
    else:
        _close(_driver(part).weights(losses * factors), _driver(part).weights(losses), "of values times a factor")


@check("coefficients", kinds=("weighting",))
def check_gradient(part: Part) -> None:
    """The gradient of a contribution by its value is the weight: weights are constants to the values.

    Compute weights from detached values, as `move` gets them.
    """
    driver = _driver(part)
    driver.run(_losses())
    losses = _losses(1)[0].requires_grad_()
    found = driver.ask(losses, _STEPS)
    (slopes,) = torch.autograd.grad(found.of(losses).sum(), losses)
    _close(slopes, found.weights.detach(), "of the gradient")


@check("coefficients", kinds=("weighting",))
def check_eval_keeps_state(part: Part) -> None:
    """In `eval()` no state moves, and the weights stay.

    Move the state in `move`, which is called in training only.
    """
    driver = _driver(part)
    driver.run(_losses())
    driver.weighting.eval()
    state, losses = driver.state(), _losses(1)
    first = driver.ask(losses[0], 9).weights.detach()
    _close(driver.ask(losses[1], 10).weights.detach(), first, "in eval()")
    _same_state(driver, state, "in eval()")


@check("coefficients", kinds=("weighting",))
def check_absent(part: Part) -> None:
    """An absent term gets no coefficient, and the other terms stay finite, also if no term is there.

    Read `present` in `move`, and let the state of absent terms stay.
    """
    driver, losses = _driver(part), _losses()
    driver.run(losses[:4])
    for t, row in enumerate(losses[4:], 4):
        found = driver.step(row[_OTHERS], t, _OTHERS).weights
        good = found.shape == (2,) and bool(found.isfinite().all())
        require(good, f"without the second term: expected 2 finite weights, found {found.tolist()}")
    found = driver.step(losses[0][:0], 8, []).weights
    require(found.shape == (0,), f"without terms: expected no weights, found {found.tolist()}")
    whole = driver.run(losses, 9)
    require(bool(whole.isfinite().all()), f"with all terms again: expected finite numbers, found {whole.tolist()}")


@check("absent", kinds=("weighting",))
def check_over_nothing(part: Part) -> None:
    """A value over nothing, which has a count of 0, counts as an absent term.

    Leave terms out that `observe` says are not there.
    """
    absent, nothing, losses = _driver(part), _driver(part), _losses()
    counts = torch.tensor([1.0, 0.0, 1.0])
    for t, row in enumerate(losses):
        if t in (0, 3, 4):
            absent.step(row[_OTHERS], t, _OTHERS, counts=counts[_OTHERS])
            nothing.step(row * counts, t, counts=counts)
        else:
            for driver in (absent, nothing):
                driver.step(row, t, counts=torch.ones(3))
    for name, value in absent.state().items():
        _close(nothing.state()[name], value, f"of the state {name!r} after values over nothing")


@check("coefficients", kinds=("weighting",))
def check_not_finite(part: Part) -> None:
    """A value that is NaN or infinite does not stay in the state.

    Use the values that `move` gets, which leave such a term out.
    """
    driver, losses = _driver(part), _losses()
    driver.run(losses[:4])
    for t, bad in enumerate((torch.nan, torch.inf), 4):
        driver.ask(torch.tensor([1.0, bad, 1.0]), t)
    held = driver.state().items()
    broken = [name for name, value in held if value.is_floating_point() and not value.isfinite().all()]
    require(not broken, f"after a value of NaN and one of infinity, the state is not finite in {broken}")


@check("coefficients", kinds=("weighting",))
def check_state_dict(part: Part) -> None:
    """A run that stops and goes on from its `state_dict` gives the same numbers.

    Register all state as buffers or parameters in `bind`, and keep nothing else between steps.
    """
    losses = _losses()
    for stop in (1, 5):
        whole, first, second = _driver(part), _driver(part), _driver(part)
        expected = whole.run(losses)[stop:]
        first.run(losses[:stop])
        second.weighting.load_state_dict(copy.deepcopy(first.weighting.state_dict()))
        _close(second.run(losses[stop:], stop), expected, f"after a checkpoint at step {stop}", exact=True)


@check("state_dict", kinds=("weighting",))
def check_one_entry_per_term(part: Part) -> None:
    """The last axis of each tensor of the state counts the terms, or `in_order` says how the state goes by term.

    Keep one number per term on the last axis, a scalar for all terms, or write `in_order(name, value, order)`.
    """
    driver = _driver(part)
    driver.run(_losses())
    for name, value in driver.state().items():
        driver.weighting.in_order(name, value, [2, 0, 1])


@check("coefficients", kinds=("weighting",))
def check_pickles(part: Part) -> None:
    """The weighting can be pickled, also after a step, and the copy goes on with the same numbers.

    Store no lambdas or local functions, and no tensor with a graph.
    """
    driver = _driver(part)
    driver.run(_losses())
    driver.weighting = pickle.loads(pickle.dumps(driver.weighting))
    _share(driver.weighting, driver.parameter)
    other = _driver(part)
    other.run(_losses())
    _close(driver.run(_losses(1), _STEPS), other.run(_losses(1), _STEPS), "after pickling", exact=True)


@check("coefficients", kinds=("weighting",))
def check_deepcopies(part: Part) -> None:
    """`copy.deepcopy` works, also after a step, and the copy shares no state.

    Store no tensor with a graph on the object.
    """
    driver = _driver(part)
    driver.run(_losses())
    state = driver.state()
    other = copy.deepcopy(driver)
    other.run(_losses(1), _STEPS)
    _same_state(driver, state, "after steps of a copy")


@check("coefficients", kinds=("weighting",))
def check_no_host_read(part: Part) -> None:
    """The weighting reads no value back to the host, and no shape depends on a value.

    Replace `item`, `float(tensor)`, `if tensor:` and `tensor[mask]` with `torch.where`, products and `clamp`.
    """
    with FakeTensorMode():  # a fake tensor has no value to read
        driver = _driver(part)
        for t in range(4):
            driver.ask(torch.ones(3), t)
            driver.ask(torch.ones(2), t, _OTHERS)


@check("coefficients", kinds=("weighting",))
def check_builds_from_yaml(part: Part) -> None:
    """The weighting can be named in YAML, and a criterion with it gives a finite total.

    Use numbers, strings, lists and mappings as constructor parameters.
    """
    applies(part.registered, "it is not registered")
    criterion = from_yaml(weighting={"strategy": part.name, **part.spec.example_args})
    prediction = torch.ones(2, 3, requires_grad=True)
    _share(cast(Weighting, criterion.weighting), prediction)
    total = criterion({"x": prediction}, {}, epoch=0)[0]
    require(bool(total.isfinite()), f"expected a finite total, found {total:.6g}")


@check("pickles", kinds=("weighting",))
def check_two_processes(part: Part) -> None:
    """Two ranks with different values end with the same state, also if one of them lacks a term.

    Move the state by what `move` gets, which are means over the ranks, and do not let it depend on the rank.
    """
    answers = processes.call(run_on_rank, part.make(), [_losses(1), _losses(2)])
    if isinstance(answers, str):
        raise NotApplicable(answers)
    first, second = answers
    for name, value in first.items():
        same = torch.equal(value, second[name])
        require(same, f"state {name!r}: expected {value.tolist()} on rank 1, found {second[name].tolist()}")


def run_on_rank(rank: int, weighting: Weighting, losses: Tensor) -> dict[str, Tensor]:
    """Return the state of a weighting after steps on one of two ranks."""
    driver = Driver(weighting)
    torch.default_generator.manual_seed(rank)
    driver.run(losses)
    active = [None, _OTHERS][rank]
    driver.step(losses[0] if active is None else losses[0][active], _STEPS, active)
    driver.run(losses[:2], _STEPS + 1)
    return driver.state()


def _close(found: Tensor, expected: Tensor, what: str, exact: bool = False) -> None:
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-3, "atol": 1e-4}
    same = found.shape == expected.shape and torch.allclose(
        found.double(), expected.double(), equal_nan=True, **tolerance
    )
    require(same, f"{what}: expected {expected.tolist()}, found {found.tolist()}")


def _same_state(driver: Driver, state: dict[str, Tensor], how: str) -> None:
    for name, value in driver.state().items():
        require(torch.equal(value, state[name]), f"the state {name!r} has moved {how}")
