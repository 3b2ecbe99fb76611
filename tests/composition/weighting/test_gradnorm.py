"""GradNorm: its step by hand, the balance that it reaches, and the parameters that it needs."""

import copy

import numpy as np
import pytest
import torch

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.errors import WeightingError


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
        weights = weighting(torch.tensor(rows, dtype=torch.float32) @ shared).weights
        losses = rows.sum(1)
        np.testing.assert_allclose(weights, w, rtol=1e-4)
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
        contributions = weighting(values).of(values)
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
    weighting(values).of(values).sum().backward()
    np.testing.assert_allclose(shared.grad, 2 * shared.detach() + 3, rtol=1e-6)


class Counted(torch.autograd.Function):
    """The sum, which counts how often its gradient is asked for."""

    asked = 0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sum()

    @staticmethod
    def backward(ctx, slope):
        Counted.asked += 1
        return slope.expand_as(ctx.saved_tensors[0])


@pytest.mark.parametrize("normalize", [True, False])
def test_a_step_takes_one_backward_of_each_term(normalize, monkeypatch):
    monkeypatch.setattr(Counted, "asked", 0)
    shared = torch.nn.Parameter(torch.ones(4))
    terms = [LossWrapper(lambda x, _: Counted.apply(x), name) for name in "abc"]
    criterion = MultiLoss(terms, [1.0, 1.0, 1.0], normalize=normalize, weighting=GradNorm(alpha=0.0, lr=0.1))
    criterion.weighting.set_shared_parameters([shared])
    for scale, term in zip((1.0, 2.0, 4.0), criterion.loss_funcs, strict=True):
        term.norm.fill_(scale)
    criterion({"x": shared}, {"y": torch.zeros(4)})
    assert Counted.asked == 3
    norms = np.array([2.0, 1.0, 0.5] if normalize else [2.0, 2.0, 2.0])  # of a gradient of four ones
    expected = step_by_hand(np.ones(3), np.ones(3), np.ones(3), norms, 0.0, 0.1)
    np.testing.assert_allclose(criterion.weighting.w, expected, rtol=1e-6)


def test_a_term_that_does_not_reach_the_shared_parameters_is_let_be():
    shared = torch.nn.Parameter(torch.ones(1))
    weighting = bound(3, shared)
    for _ in range(10):
        weighting(torch.stack([2 * shared.sum(), 5 * shared.sum(), torch.tensor(1.0)]))
    assert weighting.w.isfinite().all()


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_shared_parameter_that_was_frozen_is_left_out(frozen):
    shared = [torch.nn.Parameter(torch.full((2,), float(i + 1))) for i in range(2)]
    both, one = GradNorm(lr=0.1), GradNorm(lr=0.1)
    for weighting, parameters in ((both, shared), (one, [shared[1 - frozen]])):
        weighting.bind(["a", "b"])
        weighting.set_shared_parameters(parameters)
    shared[frozen].requires_grad_(False)
    for rows in torch.tensor(np.random.default_rng(5).uniform(0.1, 3.0, size=(6, 2, 4)), dtype=torch.float32):
        both(rows @ torch.cat(shared))
        one(rows @ torch.cat(shared))
    assert torch.equal(both.w, one.w)
    assert not torch.equal(both.w, torch.ones(2))


def test_shared_parameters_that_were_all_frozen_are_refused():
    shared, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    weighting = bound(2, shared)
    shared.requires_grad_(False)
    with pytest.raises(
        WeightingError, match=r"found 1 that have been frozen since set_shared_parameters; call it again"
    ):
        weighting(torch.tensor([1.0, 2.0]) * other)
    assert torch.equal(weighting.w, torch.ones(2))


def test_shared_parameters_that_were_replaced_are_refused():
    layer = torch.nn.Linear(2, 2)
    weighting = bound(2)
    weighting.set_shared_parameters(layer.parameters())
    layer.weight, layer.bias = (torch.nn.Parameter(p.detach().clone()) for p in (layer.weight, layer.bias))
    with pytest.raises(WeightingError, match=r"no term depends on the shared parameters; .* call set_shared"):
        weighting(layer(torch.ones(2)).square())


def test_one_of_the_shared_parameters_may_be_replaced():
    layer = torch.nn.Linear(2, 2)
    whole, rest = bound(2), bound(2, layer.weight)
    whole.set_shared_parameters(layer.parameters())
    layer.bias = torch.nn.Parameter(layer.bias.detach().clone())
    for weighting in (whole, rest):
        weighting(layer(torch.ones(2)).square())
    assert torch.equal(whole.w, rest.w)


def test_a_batch_of_terms_elsewhere_is_let_be():
    shared, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    weighting = bound(2, shared)
    weighting(3 * other, active=[1])
    assert torch.equal(weighting.w, torch.ones(2))


def test_a_term_that_does_not_reach_the_shared_parameters_keeps_its_weight():
    shared, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    weighting = bound(3, shared, lr=0.1)
    for _ in range(10):
        weighting(torch.cat([2 * shared, 5 * shared, 3 * other]))
    assert weighting.w[2] == 1
    assert weighting.w[:2].sum().item() == pytest.approx(2)
    assert weighting.w[0] > 1 > weighting.w[1]


def test_gradients_of_embeddings_that_are_sparse_are_measured():
    embedding = torch.nn.Embedding(4, 3, sparse=True)
    weighting = bound(2, embedding.weight, lr=0.1, alpha=0.0)
    found = embedding(torch.tensor([0, 2]))
    weighting(torch.stack([found.sum(), 2 * found.sum()]).abs())
    assert weighting.w[0] > 1 > weighting.w[1]


def test_a_weight_that_has_fallen_for_long_can_rise_again():
    shared = torch.nn.Parameter(torch.ones(1))
    weighting = bound(2, shared, lr=5.0, alpha=0.0)
    for _ in range(100):
        weighting(torch.tensor([1e-30, 1e30]) * shared)
    for _ in range(40):
        weighting(torch.tensor([1.0, 1.0]) * shared)
    assert (weighting.w > 1e-6).all()


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
