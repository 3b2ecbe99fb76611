"""What every weighting promises, stated as functions and applied to all of them."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

SUM = {"dwa": 3, "gradnorm": 3, "softadapt": 1, "softadapt-normalized": 1, "cov": 1}
SCALE_OF_A_TERM_IS_NOTHING = ("dwa", "relobralo", "cov")
SCALE_OF_ALL_TERMS_IS_NOTHING = (*SCALE_OF_A_TERM_IS_NOTHING, "gradnorm", "softadapt-normalized")

runs = st.lists(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), min_size=1, max_size=8)
fixtures_are_stateless = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


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
    run = np.asarray(run)
    scale = np.asarray(scale)
    weights = driver.run(driver.make(), run) / torch.tensor(run).float()
    scaled = driver.run(driver.make(), run * scale) / torch.tensor(run * scale).float()
    torch.testing.assert_close(scaled, weights, rtol=1e-3, atol=1e-4)


@given(run=runs, order=st.permutations(range(3)))
@fixtures_are_stateless
def test_the_order_of_the_terms_is_nothing(driver, run, order):
    assert_permutation_equivariant(driver, run, order)


@given(run=runs, exponents=st.lists(st.integers(-6, 6), min_size=3, max_size=3))
@fixtures_are_stateless
def test_the_scale_of_a_term_is_nothing_where_promised(driver, run, exponents):
    if driver.strategy in SCALE_OF_A_TERM_IS_NOTHING:
        assert_invariant_to_scale(driver, run, 2.0 ** np.array(exponents))


@given(run=runs, exponent=st.integers(-6, 6))
@fixtures_are_stateless
def test_the_scale_of_all_terms_is_nothing_where_promised(driver, run, exponent):
    if driver.strategy in SCALE_OF_ALL_TERMS_IS_NOTHING:
        assert_invariant_to_scale(driver, run, np.full(3, 2.0**exponent))


@given(run=runs)
@fixtures_are_stateless
def test_weights_are_positive_and_of_their_sum(driver, run):
    if driver.strategy == "uncertainty":
        return  # its contributions have an addend beside the weight
    weighting = driver.make()
    weights = driver.run(weighting, run) / torch.tensor(run).float()
    assert (weights >= 0).all()
    assert weights.isfinite().all()
    if driver.strategy in SUM:
        torch.testing.assert_close(weights.sum(1), torch.full((len(run),), float(SUM[driver.strategy])))


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
    first = weighting(driver.values(weighting, losses[0]))
    assert torch.equal(weighting(driver.values(weighting, losses[0])), first)
    assert_same_state(weighting, state)


def test_eval_before_any_training_is_plain(driver):
    weighting = driver.make().eval()
    contributions = weighting(driver.values(weighting, [1.0, 1.0, 1.0]))
    assert torch.equal(contributions, contributions[:1].expand(3))


def test_the_graph_goes_through_the_values(driver, losses):
    weighting = driver.make()
    driver.run(weighting, losses)
    values = driver.values(weighting, losses[0])
    contributions = weighting(values, epoch=4)
    (gradient,) = torch.autograd.grad(contributions.sum(), values)
    assert (gradient > 0).all()
    if driver.strategy != "uncertainty":
        torch.testing.assert_close(gradient * values, contributions)


def test_two_forwards_may_come_before_one_backward(driver, losses):
    weighting = driver.make()
    first, second = (driver.values(weighting, row) for row in losses[:2])
    (weighting(first, epoch=0).sum() + weighting(second, epoch=0).sum()).backward()


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
        weighting(torch.tensor([1.0, bad, 1.0]), epoch=2)
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
    contributions = weighting(driver.values(weighting, losses[0]).bfloat16(), epoch=0)
    assert contributions.isfinite().all()


def test_nothing_is_read_back_to_the_host(driver):
    with FakeTensorMode():  # a fake tensor has no value to read
        weighting = driver.make()
        for epoch in range(3):
            values = torch.ones(3) * (weighting._shared[0] if driver.strategy == "gradnorm" else 1.0)
            weighting(values, epoch=epoch)
            weighting(values[:2], active=[0, 2], epoch=epoch)


@pytest.mark.parametrize("per_epoch", [2, 2.0], ids=["whole epochs", "fractional epochs"])
def test_compiles_whole_and_once(driver, losses, per_epoch):
    if driver.strategy == "gradnorm":
        pytest.skip("takes gradients inside its forward")
    torch.compiler.reset()
    weighting, compiled = driver.make(), driver.make()
    function = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    limits = {"recompile_limit": 2, "fail_on_recompile_limit_hit": True}  # once static, once with any epoch
    with torch._dynamo.config.patch(limits):
        for t, row in enumerate(np.tile(losses, (3, 1))):
            values = torch.tensor(row, dtype=torch.float32)
            epoch = t // per_epoch if isinstance(per_epoch, int) else t / per_epoch
            expected = weighting(values, None, epoch)
            torch.testing.assert_close(function(values, None, epoch), expected)
    for name, value in weighting.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value)


def test_names_itself(driver):
    weighting = driver.make()
    assert type(weighting).__name__ in repr(weighting)
