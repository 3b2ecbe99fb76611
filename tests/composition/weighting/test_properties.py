"""What every weighting promises, stated as functions and applied to all of them."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

SUM = {"DWA": 3, "GradNorm": 3, "SoftAdapt": 1, "CoV": 1}
UNEQUAL = ("Balancer", "LRAnnealing")
"""Those that the fixture gives options for one term by name, so that terms are not alike."""


def where(promised):
    """Run a test on the strategies of which `promised` says that what it states is promised."""

    def mark(test):
        test.promised = promised
        return test

    return mark


runs = st.lists(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), min_size=1, max_size=8)
no_deadline = settings(deadline=None)


def assert_same_state(weighting, state):
    found = weighting.state_dict()
    assert set(found) == set(state)
    for name, value in found.items():
        assert torch.equal(value, state[name]), name


def assert_permutation_equivariant(driver, run, order):
    run = np.asarray(run)
    contributions = driver.run(driver.make(), run)
    permuted = driver.run(driver.make(), run[:, order])
    torch.testing.assert_close(permuted, contributions[:, order], rtol=1e-4, atol=1e-5)


def assert_invariant_to_scale(driver, run, scale):
    weights = driver.weights(driver.make(), run)
    torch.testing.assert_close(driver.weights(driver.make(), np.asarray(run) * scale), weights, rtol=1e-3, atol=1e-4)


@where(lambda weighting: type(weighting).__name__ not in UNEQUAL)
@given(run=runs, order=st.permutations(range(3)))
@no_deadline
def test_the_order_of_the_terms_is_nothing(driver, run, order):
    assert_permutation_equivariant(driver, run, order)


@where(lambda weighting: weighting.domain.scale == "own")
@given(run=runs, exponents=st.lists(st.integers(-100, 100), min_size=3, max_size=3))
@no_deadline
def test_the_scale_of_a_term_is_nothing_where_promised(driver, run, exponents):
    assert_invariant_to_scale(driver, run, 2.0 ** np.array(exponents))


@where(lambda weighting: weighting.domain.scale in ("own", "common"))
@given(run=runs, exponent=st.integers(-100, 100))
@no_deadline
def test_the_scale_of_all_terms_is_nothing_where_promised(driver, run, exponent):
    assert_invariant_to_scale(driver, run, np.full(3, 2.0**exponent))


@where(lambda weighting: weighting.domain.scale == "inverse")
@given(run=runs, exponents=st.lists(st.integers(-20, 20), min_size=3, max_size=3))
@no_deadline
def test_the_scale_of_a_term_is_undone_where_promised(driver, run, exponents):
    contributions = driver.run(driver.make(), run)
    scaled = driver.run(driver.make(), np.asarray(run) * 2.0 ** np.array(exponents))
    torch.testing.assert_close(scaled, contributions, rtol=1e-4, atol=1e-6)


@given(run=runs)
@no_deadline
def test_weights_are_numbers_of_0_or_more_with_the_sum_that_is_promised(driver, run):
    weighting = driver.make()
    weights = driver.weights(weighting, run)
    assert (weights >= 0).all()
    assert weights.isfinite().all()
    promised = SUM.get(type(weighting).__name__)
    if promised is not None:
        torch.testing.assert_close(weights.sum(1), torch.full((len(run),), float(promised)))


def test_a_checkpoint_in_mid_run_goes_on_with_the_same_numbers(driver, losses):
    for stop in range(1, len(losses)):
        whole, first, resumed = driver.make(), driver.make(), driver.make()
        expected = driver.run(whole, losses)[stop:]
        driver.run(first, losses[:stop])
        resumed.load_state_dict(driver.state(first))
        assert torch.equal(driver.run(resumed, losses[stop:], start=stop), expected)
        assert_same_state(resumed, driver.state(whole))


def test_a_copy_goes_its_own_way(driver, losses):
    weighting = driver.make()
    driver.run(weighting, losses[:6])
    state, copied = driver.state(weighting), copy.deepcopy(weighting)
    driver.run(copied, losses[6:], start=6)
    assert_same_state(weighting, state)


def test_the_state_is_still_in_eval(driver, losses):
    weighting = driver.make()
    driver.run(weighting, losses)
    state = driver.state(weighting)
    weighting.eval()
    first = driver.call(weighting, driver.values(weighting, losses[0])).weights
    assert torch.equal(driver.call(weighting, driver.values(weighting, losses[0])).weights, first)
    assert_same_state(weighting, state)


@where(lambda weighting: type(weighting).__name__ != "Balancer")
def test_eval_before_any_training_is_plain(driver):
    weighting = driver.make().eval()
    weights = driver.call(weighting, driver.values(weighting, [1.0, 1.0, 1.0])).weights
    assert torch.equal(weights, weights[:1].expand(3))


def test_the_graph_goes_through_the_values(driver, losses):
    weighting = driver.make()
    driver.run(weighting, losses)
    values = driver.values(weighting, losses[0])
    coefficients = driver.call(weighting, values, epoch=4)
    (gradient,) = torch.autograd.grad(coefficients.of(values).sum(), values)
    torch.testing.assert_close(gradient, coefficients.weights)
    assert (gradient > 0).all()


def test_two_forwards_may_come_before_one_backward(driver, losses):
    weighting = driver.make()
    first, second = (driver.values(weighting, row) for row in losses[:2])
    (
        driver.call(weighting, first, epoch=0).of(first).sum()
        + driver.call(weighting, second, epoch=0).of(second).sum()
    ).backward()


def test_an_absent_term_is_left_out_and_stays_finite(driver, losses):
    weighting = driver.make()
    driver.run(weighting, losses[:6])
    for t in range(6, 9):
        assert driver.step(weighting, losses[t][[0, 2]], t, active=[0, 2]).shape == (2,)
    assert driver.step(weighting, [], 9, active=[]).shape == (0,)
    assert driver.run(weighting, losses[10:], start=10).isfinite().all()
    assert all(value.isfinite().all() for value in weighting.state_dict().values())


def test_a_term_that_comes_late_joins(driver, losses):
    weighting = driver.make()
    for t in range(6):
        driver.step(weighting, losses[t][:2], t, active=[0, 1])
    assert driver.run(weighting, losses[6:], start=6).isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_does_not_stay_in_the_state(driver, losses, bad):
    weighting = driver.make()
    driver.run(weighting, losses[:6])
    with torch.no_grad():  # no step of descent on a bad total: that is the optimizer's affair
        driver.call(weighting, torch.tensor([1.0, bad, 1.0]), epoch=2)
    assert all(value.isfinite().all() for value in weighting.state_dict().values())
    assert driver.run(weighting, losses[7:], start=7).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_state_keeps_its_precision_when_the_module_is_cast(driver, losses, dtype):
    weighting = driver.make()
    driver.run(weighting, losses)
    state = driver.state(weighting)
    weighting.to(dtype)
    assert_same_state(weighting, state)


def test_values_of_half_precision_are_weighed(driver, losses):
    weighting = driver.make()
    values = driver.values(weighting, losses[0]).bfloat16()
    assert driver.call(weighting, values, epoch=0).of(values).isfinite().all()


def test_nothing_is_read_back_to_the_host(driver):
    with FakeTensorMode():  # a fake tensor has no value to read
        weighting = driver.make()
        for epoch in range(3):
            values = torch.ones(3) * (weighting.parameter[0] if weighting.differentiates else 1.0)
            driver.call(weighting, values, epoch=epoch)
            driver.call(weighting, values[:2], active=[0, 2], epoch=epoch)


@pytest.mark.parametrize("per_epoch", [2, 2.0], ids=["whole epochs", "fractional epochs"])
@where(lambda weighting: weighting.compiles)
def test_compiles_whole_and_once(driver, losses, per_epoch):
    torch.compiler.reset()
    weighting, compiled = driver.make(), driver.make()
    function = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    limits = {"recompile_limit": 2, "fail_on_recompile_limit_hit": True}  # once static, once with any epoch
    if not hasattr(torch._dynamo.config, "recompile_limit"):  # torch 2.6 has other names
        limits = {"cache_size_limit": 2, "fail_on_cache_limit_hit": True}
    with torch._dynamo.config.patch(limits):
        for t, row in enumerate(np.tile(losses, (3, 1))):
            values = torch.tensor(row, dtype=torch.float32)
            epoch = t // per_epoch if isinstance(per_epoch, int) else t / per_epoch
            expected = driver.call(weighting, values, None, epoch=epoch)
            torch.testing.assert_close(function(values, None, epoch), expected)
    for name, value in weighting.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value)


def test_names_itself(driver):
    weighting = driver.make()
    assert type(weighting).__name__ in repr(weighting)
