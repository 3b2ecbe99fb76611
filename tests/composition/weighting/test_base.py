"""For which values each weighting is defined: what it refuses by name, what says nothing to it, and extreme scales."""

import copy
import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lossreg
from lossreg import Loss, MultiLoss
from lossreg.composition.weighting import base
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import WeightingError


def where(promised):
    """Run a test on the strategies of which `promised` says that what it states is promised."""

    def mark(test):
        test.promised = promised
        return test

    return mark


class Given(Loss):
    """The mean of a key of the target times the mean of `pred.y`, which is 1."""

    def __init__(self, name):
        super().__init__(name)
        self.requires = ("pred.y", f"gt.{name}")

    def compute(self, pred_batch, gt_batch):
        return (pred_batch["y"] * gt_batch[self.name]).mean()


def criterion(weighting, names=("a", "b"), **options):
    multi_loss = MultiLoss([Given(name) for name in names], [1.0] * len(names), weighting=weighting, **options)
    y = torch.nn.Parameter(torch.ones(1))
    if isinstance(weighting, GradNorm):
        weighting.set_shared_parameters([y])
    return multi_loss, y


def call(multi_loss, y, values, epoch=0):
    return multi_loss({"y": y}, {name: torch.tensor([float(v)]) for name, v in values.items()}, epoch=epoch)


def weights_of(multi_loss):
    return {name: float(weight) for name, weight in multi_loss.coefficients().items()}


# --- negative values ------------------------------------------------------------------------------


@where(lambda weighting: not weighting.domain.negative)
@pytest.mark.parametrize("active", [None, [0, 2]], ids=["all there", "one absent"])
def test_a_negative_value_is_refused_by_its_term_and_nothing_moves(driver, losses, active):
    weighting = driver.make()
    driver.run(weighting, losses)
    state = driver.state(weighting)
    values = driver.values(weighting, [0.5, 0.2, -7.68] if active is None else [0.5, -7.68])
    with pytest.raises(WeightingError, match=r"expected values of 0 or more, found -7.68 for the term 't2': \w+"):
        weighting(values, active, epoch=9)
    assert all(torch.equal(value, state[name]) for name, value in weighting.state_dict().items())


@where(lambda weighting: not weighting.domain.negative)
def test_a_negative_value_in_eval_is_weighed(driver, losses):
    weighting = driver.make()
    driver.run(weighting, losses)
    weights = weighting.eval()(driver.values(weighting, losses[0]), epoch=9).weights
    assert torch.equal(weighting(driver.values(weighting, [-7.68, 0.2, 0.5]), epoch=9).weights, weights)


@where(lambda weighting: not weighting.domain.negative)
def test_where_values_are_not_looked_at_a_negative_term_stands_still_and_the_others_go_on(driver, losses):
    """On a device: the others end as if the term had been absent, and all stays finite."""
    alone, beside = driver.make(), driver.make()
    with mock.patch.object(base, "can_look", return_value=False):
        for t, row in enumerate(losses):
            driver.step(alone, row[:2], t, active=[0, 1])
            driver.step(beside, [*row[:2], -7.68], t)
    if driver.strategy != "uncertainty":  # its state moves by what the optimizer makes of gradients, the same here too
        assert all(torch.equal(value, alone.state_dict()[name]) for name, value in beside.state_dict().items())
    torch.testing.assert_close(beside.weights()[:2], alone.weights()[:2])
    assert beside.weights().isfinite().all()


@where(lambda weighting: weighting.domain.negative)
def test_negative_values_are_weighed_where_promised(driver, losses):
    weights = driver.weights(driver.make(), losses - 1.5)
    assert weights.isfinite().all()


def test_softadapt_takes_any_sign_by_its_formula():
    weighting = SoftAdapt(beta=1.0)
    weighting.bind(["psnr", "l1"])
    for values in ([-20.0, 0.5], [-20.5, 0.3]):
        weights = weighting(torch.tensor(values)).weights
    slopes = np.exp([-0.5, -0.2])
    np.testing.assert_allclose(weights, slopes / slopes.sum(), rtol=1e-5)


def test_gradnorm_without_alpha_takes_any_sign():
    multi_loss, y = criterion(GradNorm(alpha=0.0, lr=0.1))
    for _ in range(200):
        call(multi_loss, y, {"a": -8.0, "b": 2.0})
    weights = weights_of(multi_loss)
    assert weights["a"] * 8 == pytest.approx(weights["b"] * 2, rel=0.25)  # equal gradients, but for the last step


@pytest.mark.parametrize("weighting", [DWA(), CoV(), ReLoBRaLo(), Uncertainty(), GradNorm()], ids=repr)
def test_a_loss_that_rounding_brings_below_0_counts_as_0(weighting):
    multi_loss, y = criterion(copy.deepcopy(weighting))
    for step in range(6):
        call(multi_loss, y, {"a": -1e-7, "b": 0.36}, epoch=step)
    assert all(map(math.isfinite, weights_of(multi_loss).values()))


def test_a_refusal_leaves_the_tracked_norms_as_they_were():
    multi_loss, y = criterion(DWA(), track_norms="running", norm_momentum=0.5)
    call(multi_loss, y, {"a": 2.0, "b": 4.0})
    state = copy.deepcopy(multi_loss.state_dict())
    with pytest.raises(WeightingError, match="for the term 'a'"):
        call(multi_loss, y, {"a": -3.0, "b": 1.0})
    assert all(torch.equal(value, state[name]) for name, value in multi_loss.state_dict().items())


# --- a first value that says nothing --------------------------------------------------------------


RATIOS = {
    "dwa": lambda: DWA(temperature=0.5),
    "gradnorm": lambda: GradNorm(lr=0.1),
    "relobralo": lambda: ReLoBRaLo(alpha=0.8, beta=0.5, seed=3),
    "cov": CoV,
    "uncertainty": Uncertainty,
}


@pytest.mark.parametrize("first", [0.0, math.nan, math.inf], ids=str)
@pytest.mark.parametrize("name", RATIOS)
def test_a_first_value_that_says_nothing_fixes_nothing(name, first):
    """A run that begins with it ends as one in which the term came a step later."""
    rng = np.random.default_rng(1)
    run = rng.uniform(0.3, 1.5, size=(12, 2))
    absent, there = criterion(RATIOS[name](), optional_terms=["a"]), criterion(RATIOS[name]())
    for multi_loss, y in (absent, there):
        values = {"a": first, "b": 0.8} if multi_loss is there[0] else {"b": 0.8}
        call(multi_loss, y, values)
        for t, (a, b) in enumerate(run):
            call(multi_loss, y, {"a": a, "b": b}, epoch=1 + t // 3)
    for key, value in there[0].state_dict().items():
        torch.testing.assert_close(value, absent[0].state_dict()[key])


def test_dwa_takes_no_ratio_to_an_epoch_of_0():
    multi_loss, y = criterion(DWA(temperature=1.0))
    for epoch, a in enumerate([0.0, 0.8, 0.4, 0.4]):
        call(multi_loss, y, {"a": a, "b": 1.0}, epoch=epoch)
    r = np.exp([0.4 / 0.8, 1.0])
    assert list(weights_of(multi_loss).values()) == pytest.approx(2 * r / r.sum(), rel=1e-5)


def test_relobralo_takes_no_ratio_to_a_value_of_0():
    weighting = ReLoBRaLo(alpha=0.0)  # h(t, t-1) alone
    weighting.bind(["a", "b"])
    for values in ([0.5, 1.0], [0.0, 1.0], [0.25, 1.0]):
        weights = weighting(torch.tensor(values)).weights
    h = np.exp([0.25 / 0.5, 1.0])
    np.testing.assert_allclose(weights, 2 * h / h.sum(), rtol=1e-5)


def test_cov_has_zeros_among_its_values_but_not_before_the_first():
    weighting = CoV()
    weighting.bind(["a", "b"])
    run = np.array([[0.0, 1.0], [0.6, 2.0], [0.0, 1.5], [0.3, 1.0]])
    for values in run:
        weighting(torch.tensor(values, dtype=torch.float32))
    a, b = run[1:, 0], run[:, 1]
    expected = []
    for losses in (a, b):
        ratios = np.array([losses[t] / losses[:t].mean() if t else 1.0 for t in range(len(losses))])
        expected.append(np.sqrt(ratios.var() + 1e-8) / ratios.mean())
    np.testing.assert_allclose(weighting.weights(), np.array(expected) / sum(expected), rtol=1e-5)


def test_gradnorm_balances_the_others_alone_while_a_term_has_nothing_to_learn():
    """Two terms beside one that is 0 are weighed as in a run without it."""
    three, y = criterion(GradNorm(lr=0.1), names=("a", "b", "c"))
    two, z = criterion(GradNorm(lr=0.1))
    for values in np.random.default_rng(2).uniform(0.2, 2.0, size=(20, 2)):
        call(three, y, {"a": values[0], "b": values[1], "c": 0.0})
        call(two, z, {"a": values[0], "b": values[1]})
    found = weights_of(three)
    assert found == pytest.approx({**weights_of(two), "c": 1.0}, rel=1e-5)


# --- scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [[1e-30] * 3, [1e30] * 3, [1e-30, 1.0, 1e30], [1e-42] * 3], ids=str)
def test_values_of_any_scale_give_weights_that_are_numbers(driver, losses, scales):
    weights = driver.weights(driver.make(), losses * np.array(scales))
    assert weights.isfinite().all()
    assert (weights >= 0).all()


def test_a_jump_over_sixty_orders_of_magnitude_stays_finite(driver, losses):
    run = losses * np.where(np.arange(len(losses)) % 2, 1e30, 1e-30)[:, None]
    weighting = driver.make()
    assert driver.weights(weighting, run).isfinite().all()
    assert all(value.isfinite().all() for value in weighting.state_dict().values())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_gradnorm_balances_gradients_of_any_scale(scale):
    multi_loss, y = criterion(GradNorm(alpha=0.0, lr=0.05))
    for _ in range(100):
        call(multi_loss, y, {"a": scale, "b": 5 * scale})
    weights = weights_of(multi_loss)
    assert weights["a"] == pytest.approx(5 * weights["b"], rel=0.15)


@given(values=st.lists(st.floats(0.0625, 64.0, width=16), min_size=3, max_size=3))
@settings(deadline=None, max_examples=20)
def test_values_of_float16_move_the_state_as_their_numbers_do(driver, values):
    half, single = driver.make(), driver.make()
    for weighting, dtype in ((half, torch.float16), (single, torch.float32)):
        for t in range(4):
            given_values = torch.tensor(values) / (1 + t)
            given_values = given_values.half().to(dtype)
            if weighting.differentiates:
                given_values = given_values * weighting.parameter[0].to(dtype)
            driver.call(weighting, given_values, epoch=t)
    for name, value in single.state_dict().items():
        torch.testing.assert_close(half.state_dict()[name], value, rtol=1e-3, atol=1e-3)


# --- uncertainty ----------------------------------------------------------------------------------


def by_hand(run, lr, least=1e-6):
    """Descend `s` in float64: `exp(-s) L / 2 + s / 2` where L is above 0, no lower than log(least)."""
    s, totals = 0.0, []
    for loss in run:
        s = max(s, math.log(least))
        totals.append(math.exp(-s) * loss / 2 + s / 2 if loss > 0 else 0.0)
        s -= lr * (0.5 - math.exp(-s) * loss / 2) if loss > 0 else 0.0
    return s, totals


@pytest.mark.parametrize(
    "run",
    [[0.0] * 200 + [0.04], [1e-9] * 300 + [0.04], [0.5, 0.0, 0.25] * 40],
    ids=["stays 0", "stays near 0", "0 at times"],
)
def test_the_log_variance_of_uncertainty_stays_bounded(run):
    multi_loss, y = criterion(Uncertainty(), names=("a",))
    optimizer = torch.optim.SGD(multi_loss.weighting_parameters(), lr=0.1)
    s, totals = by_hand(run, 0.1)
    for value, expected in zip(run, totals, strict=True):
        total, _, _ = call(multi_loss, y, {"a": value})
        assert total.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert multi_loss.weighting.s.item() == pytest.approx(s, rel=1e-4, abs=1e-5)


def test_a_term_of_0_beside_another_leaves_its_log_variance_alone_under_adam():
    multi_loss, y = criterion(Uncertainty())
    optimizer = torch.optim.Adam(multi_loss.weighting_parameters(), lr=0.01)
    for _ in range(300):
        total, _, _ = call(multi_loss, y, {"a": 0.0, "b": 1.0})
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert call(multi_loss, y, {"a": 0.04, "b": 1.0})[0].item() == pytest.approx(0.04 / 2 + 1 / 2)


def test_a_bad_value_leaves_the_log_variance_a_number():
    multi_loss, y = criterion(Uncertainty())
    call(multi_loss, y, {"a": math.inf, "b": 1.0})[0].backward()
    assert multi_loss.weighting.s.grad.isfinite().all()


@pytest.mark.parametrize("least", [0.0, -1.0, 2.0, math.nan])
def test_a_bad_least_variance_is_refused(least):
    with pytest.raises(ValueError, match="Uncertainty: least_variance: expected a number above 0 and at most 1"):
        Uncertainty(least_variance=least)


# --- the criterion's coefficients -----------------------------------------------------------------


def test_coefficients_are_the_multipliers_by_path():
    weighting = Uncertainty()
    group = MultiLoss([Given("a"), Given("b")], [1.0, 2.0], name="group", weighting=weighting)
    outer = DWA(temperature=1.0)
    multi_loss = MultiLoss([group, Given("c")], [0.5, 1.0], weighting=outer)
    torch.nn.init.constant_(weighting.s, 2.0)
    outer.closed.fill_(2)
    outer.before.fill_(1.0)
    outer.last.copy_(torch.tensor([0.5, 1.0]))
    of_group, of_c = 2 * np.exp([0.5, 1.0]) / np.exp([0.5, 1.0]).sum()
    inner = math.exp(-2.0) / 2
    assert weights_of(multi_loss) == pytest.approx(
        {"group/a": of_group * inner, "group/b": of_group * inner, "c": of_c}
    )


def test_coefficients_without_a_weighting_are_1():
    assert weights_of(criterion(None)[0]) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("name", RATIOS)
def test_the_derivative_of_the_total_is_weight_times_coefficient(name):
    multi_loss = MultiLoss(
        [Given("a"), Given("b")], [2.0, [1.0, 0.5]], epoch_thresholds=[0, 5], weighting=RATIOS[name]()
    )
    y = torch.nn.Parameter(torch.ones(1))
    if name == "gradnorm":
        multi_loss.weighting.set_shared_parameters([y])
    for t, (a, b) in enumerate(np.random.default_rng(4).uniform(0.3, 1.5, size=(9, 2))):
        call(multi_loss, y, {"a": a, "b": b}, epoch=t // 3)
    multi_loss.eval()
    gt = {key: torch.ones(1, requires_grad=True) for key in "ab"}
    derivatives = torch.autograd.grad(multi_loss({"y": y}, gt, epoch=4)[0], list(gt.values()))
    weights = multi_loss.effective_weights(4)
    expected = {key: weights[key] * value for key, value in weights_of(multi_loss).items()}
    assert {key: d.item() for key, d in zip(gt, derivatives, strict=True)} == pytest.approx(expected, rel=1e-5)


def test_the_state_does_not_change_what_was_returned():
    multi_loss, y = criterion(GradNorm(lr=0.5))
    before = multi_loss.coefficients()
    call(multi_loss, y, {"a": 1.0, "b": 9.0})
    assert {name: value.item() for name, value in before.items()} == {"a": 1.0, "b": 1.0}


# --- a stranger's weighting -----------------------------------------------------------------------


class Halving(lossreg.Weighting):
    """Halve each weight at each step of its term."""

    def bind(self, names):
        super().bind(names)
        self.register_buffer("w", torch.ones(len(names)))

    def weights(self):
        return self.w

    def move(self, losses, present, epoch):
        self.w.mul_(torch.where(present, 0.5, 1.0))


def test_a_strangers_weighting_writes_weights_and_move():
    multi_loss, y = criterion(Halving(), optional_terms=["b"])
    assert call(multi_loss, y, {"a": 1.0, "b": -3.0})[0].item() == 0.5 * (1.0 - 3.0)
    call(multi_loss, y, {"a": 1.0})
    assert weights_of(multi_loss) == {"a": 0.25, "b": 0.5}


def test_a_weighting_that_returns_contributions_is_told_what_to_return():
    class Old(Halving):
        def forward(self, values, active=None, epoch=None):
            return self.w * values

    multi_loss, y = criterion(Old())
    with pytest.raises(TypeError, match=r"Old.forward: expected Coefficients, found Tensor; return Coefficients"):
        call(multi_loss, y, {"a": 1.0, "b": 2.0})


def test_a_declared_domain_is_held_for_a_stranger_too():
    class Roots(Halving):
        domain = base.Domain(negative=False, reason="it weighs by a square root")

    multi_loss, y = criterion(Roots())
    with pytest.raises(
        WeightingError, match=r"Roots: expected .* found -3 for the term 'b': it weighs by a square root"
    ):
        call(multi_loss, y, {"a": 1.0, "b": -3.0})
    assert weights_of(multi_loss) == {"a": 1.0, "b": 1.0}


# --- over ranks -----------------------------------------------------------------------------------


class Watching(lossreg.Weighting):
    """A weighting of values of 0 or more that does nothing."""

    domain = base.Domain(negative=False, reason="it is a test")


def watched(on_ranks, *of_ranks, weighting=Watching):
    """Return what a weighting sees on each rank, of `(values, active, counts)`, as lists; or its error."""

    def observe(values, active=None, counts=None):
        own = weighting()
        own.bind(["a", "b"])
        counts = None if counts is None else torch.tensor(counts)
        return [vector.tolist() for vector in own.observe(torch.tensor(values), active, counts)]

    return on_ranks(*(lambda own=own: observe(*own) for own in of_ranks))


def test_the_state_moves_by_the_means_over_the_ranks(on_ranks):
    assert watched(on_ranks, ([1.0, 2.0],), ([3.0, 8.0],)) == [[[2.0, 5.0], [True, True]]] * 2


def test_a_term_that_some_ranks_lack_is_the_mean_over_the_others(on_ranks):
    assert watched(on_ranks, ([1.0, 2.0],), ([8.0], [1])) == [[[1.0, 5.0], [True, True]]] * 2
    assert watched(on_ranks, ([4.0], [1]), ([], [])) == [[[0.0, 4.0], [False, True]]] * 2
    assert watched(on_ranks, ([1.0, math.nan],), ([3.0, math.inf],)) == [[[2.0, 0.0], [True, False]]] * 2


def test_the_means_are_weighed_by_what_the_values_are_means_over(on_ranks):
    found = watched(on_ranks, ([1.0, 2.0], None, [3.0, 1.0]), ([5.0, 7.0], None, [1.0, 0.0]))
    assert found == [[[2.0, 2.0], [True, True]]] * 2


class Sparse(Watching):
    """A weighting to which a value of 0 is a batch with nothing to learn."""

    domain = base.Domain(negative=False, zero="absent")


def test_a_value_of_0_is_what_the_domain_says(on_ranks):
    assert watched(on_ranks, ([0.0, 2.0],), ([3.0, 0.0],)) == [[[1.5, 1.0], [True, True]]] * 2
    assert watched(on_ranks, ([0.0, 2.0],), ([3.0, 0.0],), weighting=Sparse) == [[[3.0, 2.0], [True, True]]] * 2
    counted = ([0.0, 2.0], None, [1.0, 1.0]), ([3.0, 0.0], None, [1.0, 1.0])
    assert watched(on_ranks, *counted, weighting=Sparse) == [[[1.5, 1.0], [True, True]]] * 2


def test_a_value_outside_of_the_domain_is_refused_on_all_ranks_by_its_mean_where_it_is(on_ranks):
    for of_ranks, told in [
        (([1.0, -8.0], [1.0, 3.0]), "found -8 for the term 'b'"),
        (([1.0, -8.0], [1.0, -4.0]), "found -6 for the term 'b'"),
        (([-2.0, 1.0], [1.0, -4.0]), "found -2 for the term 'a', found -4 for the term 'b'"),
    ]:
        for error in watched(on_ranks, *((values,) for values in of_ranks)):
            assert isinstance(error, WeightingError)
            assert str(error).startswith(f"Watching: expected values of 0 or more, {told}: it is a test; ")


def test_a_value_that_rounding_brings_below_0_is_0_on_all_ranks(on_ranks):
    assert watched(on_ranks, ([-1e-3, 2.0],), ([1.0, 2.0],)) == [[[0.5, 2.0], [True, True]]] * 2
    below = [str(error) for error in watched(on_ranks, ([-1.1 * base.ROUNDING, 2.0],), ([1.0, 2.0],))]
    assert all("found -0.011 for the term 'a'" in error for error in below)


@where(lambda weighting: weighting.moves and weighting.compiles)  # the others move by gradients
def test_on_ranks_of_different_values_every_state_is_that_of_one_process_on_the_means(driver, losses, on_ranks):
    alone, ranks = driver.make(), [driver.make(), driver.make()]
    shift = np.linspace(0.0, 0.2, losses.shape[1])
    driver.run(alone, losses)
    found = on_ranks(lambda: driver.run(ranks[0], losses + shift), lambda: driver.run(ranks[1], losses - shift))
    assert not any(isinstance(error, Exception) for error in found), found
    for weighting in ranks:
        for name, value in driver.state(alone).items():
            torch.testing.assert_close(driver.state(weighting)[name], value, rtol=1e-3, atol=1e-5)
