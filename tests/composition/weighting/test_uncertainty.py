"""Uncertainty: the formula of Kendall et al., its optimum, and its place in an optimizer."""

import copy

import numpy as np
import pytest
import torch

from lossreg.composition.weighting.uncertainty import Uncertainty


def bound(names=("a", "b", "c"), **options):
    weighting = Uncertainty(**options)
    weighting.bind(names)
    return weighting


def test_follows_the_formula_over_steps_of_descent():
    weighting = bound(classification=["b"])
    optimizer = torch.optim.SGD(weighting.weighting_parameters(), lr=0.1)
    halves, s = np.array([0.5, 1.0, 0.5]), np.zeros(3)
    for losses in np.random.default_rng(0).uniform(0.1, 4.0, size=(6, 3)):
        values = torch.tensor(losses, dtype=torch.float32)
        contributions = weighting(values).of(values)
        np.testing.assert_allclose(contributions.detach(), halves * np.exp(-s) * losses + s / 2, rtol=1e-5)
        optimizer.zero_grad()
        contributions.sum().backward()
        optimizer.step()
        s -= 0.1 * (-halves * np.exp(-s) * losses + 0.5)
        np.testing.assert_allclose(weighting.s.detach(), s, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_value_is_its_coefficient():
    weighting = bound()
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    torch.nn.init.constant_(weighting.s, 2.0)
    weighting(values).of(values).sum().backward()
    np.testing.assert_allclose(values.grad, np.full(3, np.exp(-2.0) / 2), rtol=1e-6)


def test_balances_terms_of_scale_1_and_1000():
    weighting = bound(("small", "large"))
    optimizer = torch.optim.Adam(weighting.weighting_parameters(), lr=0.05, betas=(0.9, 0.95))
    values = torch.tensor([1.0, 1000.0])
    for _ in range(600):
        optimizer.zero_grad()
        weighting(values).of(values).sum().backward()
        optimizer.step()
    shares = torch.exp(-weighting.s.detach()) * values
    np.testing.assert_allclose(shares, [1.0, 1.0], rtol=1e-2)


def test_a_term_that_is_absent_keeps_its_uncertainty():
    weighting = bound()
    values = torch.tensor([5.0, 7.0])
    weighting(values, active=[0, 2]).of(values).sum().backward()
    assert weighting.s.grad[1] == 0
    assert (weighting.s.grad[[0, 2]] != 0).all()


def test_its_parameters_are_the_log_variances_alone():
    weighting = bound()
    assert [p is weighting.s for p in weighting.weighting_parameters()] == [True]
    assert list(weighting.state_dict()) == ["s"]


def test_weight_decay_would_pull_it_which_is_why_its_group_has_none():
    weighting = bound()
    torch.nn.init.constant_(weighting.s, 1.0)
    decayed = copy.deepcopy(weighting)
    for module, decay in ((weighting, 0.0), (decayed, 0.5)):
        optimizer = torch.optim.AdamW([{"params": module.weighting_parameters(), "weight_decay": decay}], lr=0.1)
        values = torch.full((3,), float(np.e))
        module(values).of(values).sum().backward()  # at its optimum: no gradient
        optimizer.step()
    np.testing.assert_allclose(weighting.s.detach(), np.ones(3), atol=0.11)
    assert (decayed.s < weighting.s - 0.01).all()


def test_an_unknown_classification_term_is_refused():
    with pytest.raises(ValueError, match=r"classification\[1\]: .* found 'd' \(the terms are 'a', 'b', 'c'\)"):
        bound(classification=["a", "d"])


def test_a_bare_name_is_no_list():
    with pytest.raises(TypeError, match=r"classification: expected a list of names of terms, found 'abc'"):
        Uncertainty(classification="abc")


def test_the_gradient_of_the_log_variances_is_the_mean_over_the_ranks(on_ranks):
    values = [[2.0, 1.0], [4.0, 7.0]]

    def gradient(own):
        weighting = Uncertainty()
        weighting.bind(["a", "b"])
        given = torch.tensor(own, requires_grad=True)
        weighting(given).of(given).sum().backward()
        return weighting.s.grad.tolist(), given.grad.tolist()

    for found, of_values in on_ranks(*(lambda own=own: gradient(own) for own in values)):
        assert found == [0.5 - (2.0 + 4.0) / 4, 0.5 - (1.0 + 7.0) / 4]
        assert of_values == [0.5, 0.5]
