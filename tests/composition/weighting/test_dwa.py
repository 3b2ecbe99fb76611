"""DWA: the formula of Liu et al. over epoch means, epochs that close, and what it does not balance."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossreg.composition.weighting.dwa import DWA


def bound(n=3, **options):
    weighting = DWA(**options)
    weighting.bind([f"t{i}" for i in range(n)])
    return weighting


def weights_of(weighting):
    """Read the coefficients without moving the state."""
    weighting.eval()
    ones = torch.ones(len(weighting.names))
    coefficients = weighting(ones).weights
    weighting.train()
    return coefficients.numpy()


def by_hand(epochs, temperature):
    """Return the weights in force in each epoch: epochs is (epochs, steps, n)."""
    means = epochs.mean(1)
    weights = [np.ones(means.shape[1])] * 2
    for t in range(2, len(epochs)):
        r = np.exp(means[t - 1] / means[t - 2] / temperature)
        weights.append(means.shape[1] * r / r.sum())
    return weights


@pytest.mark.parametrize("temperature", [2.0, 0.1])
def test_follows_the_formula_over_epochs(temperature):
    weighting = bound(temperature=temperature)
    epochs = np.random.default_rng(0).uniform(0.5, 2.0, size=(5, 4, 3))
    for epoch, expected in enumerate(by_hand(epochs, temperature)):
        for losses in epochs[epoch]:
            weights = weighting(torch.tensor(losses, dtype=torch.float32), epoch=epoch).weights
            np.testing.assert_allclose(weights, expected, rtol=1e-5)


@given(st.lists(st.floats(0.05, 0.6), min_size=8, max_size=60))
def test_fractional_epochs_close_with_their_whole_part(increments):
    fractional, whole = bound(), bound()
    rng = np.random.default_rng(1)
    for epoch in np.cumsum(increments):
        losses = torch.tensor(rng.uniform(0.5, 2.0, 3), dtype=torch.float32)
        assert torch.equal(fractional(losses, epoch=float(epoch)).weights, whole(losses, epoch=int(epoch)).weights)


def test_a_term_that_falls_slowly_gains():
    weighting = bound(2)
    for epoch, losses in enumerate([[1.0, 1.0], [0.9, 0.5], [0.8, 0.2]]):
        weighting(torch.tensor(losses), epoch=epoch)
    slow, fast = weights_of(weighting)
    assert slow > 1 > fast
    assert slow + fast == pytest.approx(2)


def test_does_not_balance_scales_but_rates():
    """The documented exception: terms 1 : 1000 that fall alike weigh alike, and contribute 1 : 1000."""
    weighting = bound(2)
    for epoch, factor in enumerate([1.0, 0.7, 0.5, 0.4]):
        values = factor * torch.tensor([1.0, 1000.0])
        contributions = weighting(values, epoch=epoch).of(values)
    np.testing.assert_allclose(weights_of(weighting), [1, 1], rtol=1e-5)
    assert contributions[1] / contributions[0] == pytest.approx(1000, rel=1e-5)


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_on_where_it_was():
    epochs = np.random.default_rng(2).uniform(0.5, 2.0, size=(4, 6, 3))
    whole, first = bound(), bound()
    steps = [(e, torch.tensor(losses)) for e in range(4) for losses in epochs[e]]
    for epoch, losses in steps[:15]:
        first(losses, epoch=epoch)
    resumed = bound()
    resumed.load_state_dict(first.state_dict())
    expected = [whole(losses, epoch=epoch).weights for epoch, losses in steps][15:]
    for (epoch, losses), weights in zip(steps[15:], expected, strict=True):
        assert torch.equal(resumed(losses, epoch=epoch).weights, weights)


def test_an_epoch_without_a_term_leaves_its_means():
    weighting = bound(2)
    for epoch in range(3):
        weighting(torch.tensor([1.0, 2.0**-epoch]), epoch=epoch)
    weighting(torch.tensor([1.0]), active=[0], epoch=3)
    means = weighting.last[1].item(), weighting.before[1].item()
    weighting(torch.tensor([1.0, 0.1]), epoch=4)
    assert (weighting.last[1].item(), weighting.before[1].item()) == means == (0.25, 0.5)


def test_a_term_of_zero_stays_finite():
    weighting = bound(2)
    for epoch in range(4):
        assert weighting(torch.tensor([1.0, 0.0]), epoch=epoch).weights.isfinite().all()


def test_training_without_an_epoch_is_refused():
    with pytest.raises(ValueError, match=r"DWA weighs by the means of epochs; call the loss with epoch="):
        bound()(torch.ones(3))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_bad_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="DWA: temperature: expected a number above 0"):
        DWA(temperature)
