"""GradNorm: its step by hand, the balance that it reaches, and the parameters that it needs."""

import copy

import numpy as np
import pytest
import torch

from lossreg.composition.weighting.gradnorm import GradNorm


def bound(n=2, shared=None, **options):
    weighting = GradNorm(**options)
    weighting.bind([f"t{i}" for i in range(n)])
    if shared is not None:
        weighting.set_shared_parameters([shared])
    return weighting


def step_by_hand(w, losses, first, gradient_norms, alpha, lr):
    G = w * gradient_norms  # noqa: N806
    r = (losses / first) / (losses / first).mean()
    derivative = np.sign(G - G.mean() * r**alpha) * gradient_norms  # of sum |G - target| by w
    w = w * np.exp(-lr * np.sign(w * derivative))  # in log w: d/d log w = w d/dw
    return len(w) * w / w.sum()


@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.0, 0.3)])
def test_follows_the_formula_over_steps(alpha, lr):
    rng = np.random.default_rng(0)
    shared = torch.nn.Parameter(torch.ones(4))
    weighting = bound(3, shared, alpha=alpha, lr=lr)
    w, first = np.ones(3), None
    for _ in range(8):
        rows = rng.uniform(0.1, 3.0, size=(3, 4))  # L_i = rows_i . shared, so grad L_i = rows_i
        contributions = weighting(torch.tensor(rows, dtype=torch.float32) @ shared)
        losses = rows.sum(1)
        np.testing.assert_allclose(contributions.detach(), w * losses, rtol=1e-4)
        first = losses if first is None else first
        w = step_by_hand(w, losses, first, np.linalg.norm(rows, axis=1), alpha, lr)
        np.testing.assert_allclose(weighting.w, w, rtol=1e-4)


def test_each_step_reduces_the_loss_of_the_paper():
    rng = np.random.default_rng(1)
    rows = rng.uniform(0.1, 30.0, size=(3, 4)).astype(np.float32)
    shared = torch.nn.Parameter(torch.ones(4))
    weighting = bound(3, shared, alpha=0.0, lr=0.01)
    norms = np.linalg.norm(rows, axis=1)

    def imbalance():
        G = weighting.w.numpy() * norms  # noqa: N806
        return np.abs(G / G.mean() - 1).sum()

    before = imbalance()
    for _ in range(20):
        weighting(torch.tensor(rows) @ shared)
    assert imbalance() < before * 0.9


def test_balances_terms_of_scale_1_and_1000():
    torch.manual_seed(0)
    shared = torch.nn.Linear(8, 8)
    x, target = torch.randn(64, 8), torch.randn(64, 8)
    weighting = bound(2, alpha=1.5)
    weighting.set_shared_parameters(shared.parameters())
    optimizer = torch.optim.Adam(shared.parameters(), lr=1e-3)
    for _ in range(800):
        y = shared(x)
        values = torch.stack([(y - target).square().mean(), 1000 * (y + target).square().mean()])
        contributions = weighting(values)
        optimizer.zero_grad()
        contributions.sum().backward()
        optimizer.step()
    small, large = contributions.detach()
    assert 0.5 < (small / large).item() < 2


def test_weights_stay_above_zero_and_sum_to_n():
    shared = torch.nn.Parameter(torch.ones(1))
    weighting = bound(3, shared, lr=0.5)
    for scales in np.random.default_rng(2).choice([1e-6, 1.0, 1e6], size=(200, 3)):
        weighting(torch.tensor(scales, dtype=torch.float32) * shared)
        assert (weighting.w > 0).all()
        assert weighting.w.sum().item() == pytest.approx(3, rel=1e-5)


def test_the_scale_of_all_gradients_leaves_the_path_alone():
    shared = torch.nn.Parameter(torch.ones(1))
    one, thousand = bound(3, shared), bound(3, shared)
    for losses in np.random.default_rng(3).uniform(0.1, 2.0, size=(20, 3)):
        values = torch.tensor(losses, dtype=torch.float32) * shared
        one(values), thousand(1024 * values)
    torch.testing.assert_close(one.w, thousand.w)


def test_the_backward_of_the_total_is_left_alone():
    shared = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    weighting = bound(2, shared)
    values = torch.stack([shared.square().sum(), 3 * shared.sum()])
    weighting(values).sum().backward()
    np.testing.assert_allclose(shared.grad, 2 * shared.detach() + 3, rtol=1e-6)


def test_a_term_that_does_not_reach_the_shared_parameters_is_let_be():
    shared = torch.nn.Parameter(torch.ones(1))
    weighting = bound(3, shared)
    for _ in range(10):
        weighting(torch.stack([2 * shared.sum(), 5 * shared.sum(), torch.tensor(1.0)]))
    assert weighting.w.isfinite().all()


def test_without_a_graph_no_state_moves():
    shared = torch.nn.Parameter(torch.ones(1))
    weighting = bound(2, shared)
    before = copy.deepcopy(weighting.state_dict())
    with torch.no_grad():
        weighting(torch.tensor([1.0, 2.0]) * shared)
    assert all(torch.equal(value, before[name]) for name, value in weighting.state_dict().items())


def test_the_shared_parameters_stay_the_callers():
    shared = torch.nn.Parameter(torch.ones(1))
    weighting = bound(2, shared)
    assert list(weighting.parameters()) == []
    assert set(weighting.state_dict()) == {"w", "first", "seen"}


def test_training_without_shared_parameters_is_refused():
    with pytest.raises(RuntimeError, match="shared parameters are not set; call set_shared_parameters"):
        bound()(torch.ones(2, requires_grad=True))


@pytest.mark.parametrize("parameters", [[], [torch.nn.Parameter(torch.ones(1), requires_grad=False)]])
def test_shared_parameters_that_need_no_gradient_are_refused(parameters):
    with pytest.raises(ValueError, match=r"GradNorm.set_shared_parameters: parameters.*\(give "):
        bound().set_shared_parameters(parameters)


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"lr": 0.0}, {"alpha": float("nan")}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=f"GradNorm: {next(iter(options))}: expected"):
        GradNorm(**options)
