"""Learning-rate annealing: algorithm 1 of the paper in float64 over steps, and which term is the residual."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossreg.composition.weighting.lrannealing import LRAnnealing


def bound(shared, **options):
    weighting = LRAnnealing(**options)
    weighting.bind(["residual", "boundary", "initial"])
    weighting.set_shared_parameters(shared)
    return weighting


def run(weighting, shared, steps):
    """Put terms with the gradients `steps[t][i]` through it; return the weights."""
    theta = torch.cat(shared)
    return np.array([weighting(torch.tensor(rows, dtype=torch.float32) @ theta).weights.numpy() for rows in steps])


@pytest.mark.parametrize(("residual", "at"), [(None, 0), ("residual", 0), ("initial", 2)])
@pytest.mark.parametrize("alpha", [0.1, 0.9, 1.0])
def test_follows_algorithm_1_over_steps(residual, at, alpha):
    rng = np.random.default_rng(0)
    shared = [torch.nn.Parameter(torch.ones(size)) for size in (4, 2)]  # gradients of terms over both, as over theta
    steps = rng.normal(size=(8, 3, 6)) * np.array([1.0, 0.01, 30.0])[:, None]
    found = run(bound(shared, residual=residual, alpha=alpha), shared, steps)
    weights = np.ones(3)
    for t, rows in enumerate(steps):
        largest = np.abs(rows[at]).max()
        hat = largest / np.abs(rows).mean(1)
        weights = np.where(np.arange(3) == at, 1.0, (1 - alpha) * weights + alpha * hat)
        np.testing.assert_allclose(found[t], weights, rtol=1e-5)


@given(exponent=st.integers(-60, 60))
@settings(deadline=None, max_examples=20)
def test_the_scale_of_all_terms_is_nothing(exponent):
    shared = [torch.nn.Parameter(torch.ones(5))]
    steps = np.random.default_rng(1).normal(size=(4, 3, 5))
    expected = run(bound(shared), shared, steps)
    np.testing.assert_allclose(run(bound(shared), shared, steps * 2.0**exponent), expected, rtol=1e-5)


def test_the_scale_of_a_term_is_undone_where_nothing_is_kept():
    shared = [torch.nn.Parameter(torch.ones(5))]
    steps = np.random.default_rng(2).normal(size=(3, 3, 5))
    scale = np.array([1.0, 64.0, 0.125])
    expected = run(bound(shared, alpha=1.0), shared, steps)
    np.testing.assert_allclose(
        run(bound(shared, alpha=1.0), shared, steps * scale[:, None]), expected / scale, rtol=1e-5
    )


def test_parameters_that_a_term_does_not_reach_count_with_a_gradient_of_0():
    shared = [torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(3))]
    weighting = bound(shared, alpha=1.0)
    weighting(torch.stack([6.0 * shared[1].sum(), 2.0 * shared[0].sum(), shared[1].sum()]))
    np.testing.assert_allclose(weighting.w, [1.0, 6 / (2 / 4), 6 / (3 / 4)])


@pytest.mark.parametrize("active", [[1, 2], [0, 2]])
def test_a_weight_stays_where_its_term_or_the_residual_is_absent(active):
    shared = [torch.nn.Parameter(torch.ones(1))]
    weighting = bound(shared)
    weighting(torch.tensor([5.0, 2.0, 3.0]) * shared[0])
    before = weighting.w.clone()
    weighting(torch.tensor([7.0, 9.0]) * shared[0], active)
    assert weighting.w[1] == before[1]
    assert (weighting.w[2] == before[2]) == (0 not in active)


def test_a_term_over_nothing_keeps_its_weight():
    shared = [torch.nn.Parameter(torch.ones(1))]
    weighting = bound(shared)
    weighting(torch.tensor([5.0, 2.0, 3.0]) * shared[0], counts=torch.tensor([4.0, 0.0, 1.0]))
    assert weighting.w[1] == 1
    assert weighting.w[2] != 1


def test_weights_are_those_of_this_step():
    shared = [torch.nn.Parameter(torch.ones(1))]
    weighting = bound(shared, alpha=1.0)
    np.testing.assert_allclose(weighting(torch.tensor([6.0, 2.0, 3.0]) * shared[0]).weights, [1, 3, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha: expected a number above 0 and at most 1"),
        ({"alpha": 1.5}, "alpha: expected a number above 0 and at most 1"),
        ({"residual": "residul"}, "expected the name of a term, found 'residul'.*did you mean 'residual'"),
        ({"residual": 3}, "residual: expected"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bound([torch.nn.Parameter(torch.ones(1))], **options)
