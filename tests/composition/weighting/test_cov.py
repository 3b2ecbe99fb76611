"""CoV: the formula of Groenendijk et al. from the whole history, and what it does not balance."""

import numpy as np
import pytest
import torch

from lossreg.composition.weighting.cov import CoV


def bound(n=3):
    weighting = CoV()
    weighting.bind([f"t{i}" for i in range(n)])
    return weighting


def weights_of(weighting):
    weighting.eval()
    coefficients = weighting(torch.ones(len(weighting.names))).weights
    weighting.train()
    return coefficients.numpy()


def by_hand(run, t):
    """Return the weights of iteration t from the iterations before, with no running statistic."""
    if t < 2:
        return np.full(run.shape[1], 1 / run.shape[1])
    ratios = np.array([run[k] / run[:k].mean(0) if k else np.ones(run.shape[1]) for k in range(t)])
    variation = np.sqrt(ratios.var(0) + 1e-8) / ratios.mean(0)
    return variation / variation.sum()


def test_follows_the_formula_over_steps():
    weighting = bound()
    run = np.random.default_rng(0).uniform(0.2, 3.0, size=(40, 3))
    for t, losses in enumerate(run):
        weights = weighting(torch.tensor(losses, dtype=torch.float32)).weights
        np.testing.assert_allclose(weights, by_hand(run, t), rtol=1e-4)


def test_terms_that_do_not_vary_weigh_alike():
    weighting = bound()
    for _ in range(10):
        weighting(torch.tensor([1.0, 20.0, 300.0]))
    np.testing.assert_allclose(weights_of(weighting), np.full(3, 1 / 3), rtol=1e-3)


def test_the_term_that_varies_most_gains():
    weighting = bound(2)
    for losses in np.random.default_rng(1).uniform([0.9, 0.1], [1.1, 1.9], size=(50, 2)):
        weighting(torch.tensor(losses, dtype=torch.float32))
    steady, lively = weights_of(weighting)
    assert lively > 5 * steady


def test_does_not_balance_scales_but_variation():
    """The documented exception: terms 1 : 1000 that vary alike weigh alike, and contribute 1 : 1000."""
    weighting = bound(2)
    for factor in np.random.default_rng(2).uniform(0.5, 1.5, size=30):
        values = torch.tensor([factor, 1000 * factor], dtype=torch.float32)
        contributions = weighting(values).of(values)
    np.testing.assert_allclose(weights_of(weighting), [0.5, 0.5], rtol=1e-4)
    assert contributions[1] / contributions[0] == pytest.approx(1000, rel=1e-3)


def test_a_term_that_comes_late_weighs_as_the_mean_of_the_others():
    weighting = bound(3)
    for losses in np.random.default_rng(3).uniform(0.5, 1.5, size=(9, 2)):
        weighting(torch.tensor(losses, dtype=torch.float32), active=[0, 1])
    a, b, late = weights_of(weighting)
    assert late == pytest.approx((a + b) / 2, rel=1e-5)


@pytest.mark.slow
def test_statistics_stay_exact_over_a_long_run():
    run = np.random.default_rng(4).uniform(0.9, 1.1, size=(20000, 2)).astype(np.float32)
    weighting = bound(2)
    for losses in torch.from_numpy(run):
        weighting(losses)
    np.testing.assert_allclose(weighting.mean_loss, run.astype(float).mean(0), rtol=1e-5)
    np.testing.assert_allclose(weights_of(weighting), [0.5, 0.5], atol=0.01)
