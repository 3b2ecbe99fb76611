"""SoftAdapt: slopes and weights by hand, the authors' published example, and what large scales do to it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossreg.composition.weighting.softadapt import SoftAdapt


def bound(n=3, **options):
    weighting = SoftAdapt(**options)
    weighting.bind([f"t{i}" for i in range(n)])
    return weighting


def weights_of(weighting):
    weighting.eval()
    coefficients = weighting(torch.ones(len(weighting.names))).weights
    weighting.train()
    return coefficients.numpy()


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("loss_weighted", [False, True])
def test_follows_the_formula_over_steps(normalized, loss_weighted):
    weighting = bound(beta=0.7, normalized=normalized, loss_weighted=loss_weighted)
    run = np.random.default_rng(0).uniform(0.1, 5.0, size=(7, 3))
    for t, losses in enumerate(run):
        found = weighting(torch.tensor(losses, dtype=torch.float32)).weights
        slopes = losses - run[t - 1] if t else np.zeros(3)
        if normalized and t:
            slopes = slopes / np.abs(slopes).sum()
        weights = np.exp(0.7 * slopes)
        if loss_weighted:
            weights = weights * run[max(t - 1, 0) : t + 1].mean(0)
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-4)


@pytest.mark.parametrize("order", range(1, 7))
@given(st.lists(st.floats(-1.0, 1.0), min_size=7, max_size=7))
def test_the_slope_of_a_polynomial_of_its_order_is_exact(order, coefficients):
    weighting = bound(2, beta=1.0, order=order)
    polynomial = np.polynomial.Polynomial(coefficients[: order + 1])
    for t in range(-order, 1):
        weighting(torch.tensor([polynomial(t), 0.0]))
    slope = coefficients[1]  # the derivative at 0
    np.testing.assert_allclose(weights_of(weighting), softmax(np.array([slope, 0.0])), rtol=5e-2)


def test_meets_the_authors_published_example():
    """The authors' test gives these weights for slopes at the oldest value, so time and sign are turned."""
    weighting = bound(beta=-0.1, order=4)
    components = [[1, 2, 3, 4, 5], [150, 100, 50, 10, 0.1], [1500, 1000, 500, 100, 1]]
    for losses in np.array(components, dtype=np.float32).T[::-1].copy():
        weighting(torch.from_numpy(losses))
    np.testing.assert_allclose(weights_of(weighting), [9.9343e-01, 6.5666e-03, 3.8908e-22], rtol=1e-3)


def test_weights_are_even_until_there_are_slopes():
    weighting = bound(order=3)
    for losses in np.random.default_rng(1).uniform(0, 9, size=(3, 3)):
        weighting(torch.tensor(losses, dtype=torch.float32))
        np.testing.assert_allclose(weights_of(weighting), np.full(3, 1 / 3), rtol=1e-6)


def test_the_term_that_does_worst_gains():
    weighting = bound(beta=1.0)
    weighting(torch.tensor([1.0, 1.0, 1.0]))
    weighting(torch.tensor([1.5, 1.0, 0.5]))
    rising, level, falling = weights_of(weighting)
    assert rising > level > falling


def test_a_large_scale_rules_unless_slopes_are_normalized():
    """The documented exception: slopes are absolute, so that 1000 takes the weight."""
    plain, normalized = bound(2), bound(2, normalized=True)
    for weighting in (plain, normalized):
        weighting(torch.tensor([1.0, 1000.0]))
        weighting(torch.tensor([1.1, 1100.0]))
    assert weights_of(plain)[1] > 0.9999
    assert weights_of(normalized)[1] < 0.53


@pytest.mark.parametrize("options", [{"order": 0}, {"order": 7}, {"beta": float("nan")}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=f"SoftAdapt: {next(iter(options))}: expected"):
        SoftAdapt(**options)
