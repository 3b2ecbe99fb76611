"""ReLoBRaLo: the formula of Bischof and Kraus over steps, its draws, and what it does not balance."""

import numpy as np
import pytest
import torch

from lossreg.composition.weighting.relobralo import ReLoBRaLo


def bound(n=3, **options):
    weighting = ReLoBRaLo(**options)
    weighting.bind([f"t{i}" for i in range(n)])
    return weighting


def h(losses, reference, tau):
    weights = np.exp(losses / (tau * reference))
    return len(losses) * weights / weights.sum()


def draws(seed, beta):
    """The generator of Park and Miller, multiplier 48271: 1 where it falls at or below beta of its range."""
    state = seed + 1
    while True:
        state = state * 48271 % (2**31 - 1)
        yield int(state <= beta * (2**31 - 1))


@pytest.mark.parametrize(
    ("alpha", "beta", "tau"), [(0.999, 0.999, 1.0), (0.6, 0.5, 0.3), (0.5, 0.0, 1.0), (0.5, 1.0, 1.0)]
)
def test_follows_the_formula_over_steps(alpha, beta, tau):
    weighting = bound(alpha=alpha, beta=beta, tau=tau, seed=7)
    run = np.random.default_rng(0).uniform(0.2, 3.0, size=(30, 3))
    w, rhos = np.ones(3), draws(7, beta)
    for t, losses in enumerate(run):
        weights = weighting(torch.tensor(losses, dtype=torch.float32)).weights
        rho = next(rhos)
        w = alpha * (rho * w + (1 - rho) * h(losses, run[0], tau)) + (1 - alpha) * h(losses, run[max(t - 1, 0)], tau)
        np.testing.assert_allclose(weights, w, rtol=1e-4)


def test_draws_are_ones_with_probability_beta():
    weighting = bound(1, beta=0.7)
    ones = sum(int(weighting._draw() <= 0.7 * (2**31 - 1)) for _ in range(4000))
    assert ones / 4000 == pytest.approx(0.7, abs=0.03)


def test_draws_differ_by_seed_and_repeat_by_seed():
    first, same, other = (bound(seed=seed) for seed in (1, 1, 2))
    states = [[int(w._draw()) for _ in range(5)] for w in (first, same, other)]
    assert states[0] == states[1] != states[2]


def test_the_first_weights_are_ones():
    weighting = bound()
    values = torch.tensor([3.0, 0.5, 70.0])
    torch.testing.assert_close(weighting(values).weights, torch.ones(3))


def test_a_term_with_less_progress_gains():
    weighting = bound(2, alpha=0.9)
    for t in range(20):
        weighting(torch.tensor([1.0, 0.8**t]))
    assert weighting.w[0] > 1 > weighting.w[1]


def test_does_not_balance_scales_but_progress():
    """The documented exception: terms 1 : 1000 that fall alike weigh alike, and contribute 1 : 1000."""
    weighting = bound(2, alpha=0.5, beta=0.5)
    for t in range(20):
        values = 0.8**t * torch.tensor([1.0, 1000.0])
        contributions = weighting(values).of(values)
    np.testing.assert_allclose(weighting.w, [1, 1], rtol=1e-4)
    assert contributions[1] / contributions[0] == pytest.approx(1000, rel=1e-4)


@pytest.mark.parametrize(
    "options", [{"alpha": 1.5}, {"alpha": -0.1}, {"beta": 1.5}, {"beta": -0.1}, {"tau": 0.0}, {"seed": -1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=f"ReLoBRaLo: {next(iter(options))}: expected"):
        ReLoBRaLo(**options)
