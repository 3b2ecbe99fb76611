"""The balancer of EnCodec: the paper's formula in float64, the shares, and where it takes gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.balancer import Balancer
from lossreg.errors import WeightingError


class Distance(Loss):
    """A multiple of the mean distance of a prediction to a target, to some power."""

    def __init__(self, name, key="audio", scale=1.0, power=2):
        super().__init__(name)
        self.requires = (f"pred.{key}", f"gt.{key}")
        self.key, self.scale, self.power = key, scale, power

    def compute(self, pred_batch, gt_batch):
        return self.scale * (pred_batch[self.key] - gt_batch[self.key]).abs().pow(self.power).mean()


def criterion(weighting, weights=(1.0, 1.0, 1.0), scales=(1.0, 1.0, 1.0)):
    terms = [Distance(name, scale=s, power=p) for name, s, p in zip("abc", scales, (1, 2, 3), strict=True)]
    return MultiLoss(terms, list(weights), weighting=weighting)


def batches(steps, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(2, 5)), rng.normal(size=(2, 5))) for _ in range(steps)]


def gradient_by_hand(pred, target, power, scale):
    """Return the gradient of `scale mean |pred - target|^power`."""
    error = pred - target
    return scale * power * np.sign(error) * np.abs(error) ** (power - 1) / error.size


@pytest.mark.parametrize(("total_norm", "beta"), [(1.0, 0.999), (3.0, 0.5), (1.0, 0.0)])
def test_the_gradient_at_the_predictions_is_that_of_the_paper(total_norm, beta):
    ratios, scales = {"a": 3.0, "c": 0.5}, (1.0, 100.0, 0.01)
    multi_loss = criterion(Balancer(ratios, total_norm, beta), scales=scales)
    shares = np.array([3.0, 1.0, 0.5])
    sums, ages = np.zeros(3), 0.0
    for pred, target in batches(6):
        rows = [gradient_by_hand(pred, target, p, s) for p, s in zip((1, 2, 3), scales, strict=True)]
        norms = np.array([np.linalg.norm(row) for row in rows])
        sums, ages = beta * sums + norms, beta * ages + 1
        expected = sum(
            total_norm * share / shares.sum() * row / mean
            for share, row, mean in zip(shares, rows, sums / ages, strict=True)
        )
        x = torch.tensor(pred, requires_grad=True)
        multi_loss({"audio": x}, {"audio": torch.tensor(target)})[0].backward()
        np.testing.assert_allclose(x.grad, expected, rtol=1e-5)


@given(exponents=st.lists(st.integers(-20, 20), min_size=3, max_size=3), total_norm=st.floats(0.1, 10))
@settings(deadline=None, max_examples=25)
def test_each_term_has_its_share_whatever_its_scale(exponents, total_norm):
    """With `beta` 0 the norm of the gradient of a term is exactly its share of the total norm."""
    multi_loss = criterion(Balancer({"b": 2.0}, total_norm, beta=0.0), scales=2.0 ** np.array(exponents))
    for pred, target in batches(2):
        x = torch.tensor(pred, requires_grad=True)
        shares = multi_loss.weighted_terms({"audio": x}, {"audio": torch.tensor(target)})
        norms = [torch.autograd.grad(share, x, retain_graph=True)[0].norm() for share in shares[:3].unbind()]
        np.testing.assert_allclose(norms, total_norm * np.array([1, 2, 1]) / 4, rtol=1e-5)


def test_the_schedule_multiplies():
    pred, target = batches(1)[0]
    gradients = []
    for weights in ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0)):
        x = torch.tensor(pred, requires_grad=True)
        multi_loss = criterion(Balancer(), weights)
        shares = multi_loss.weighted_terms({"audio": x}, {"audio": torch.tensor(target)})
        gradients.append([torch.autograd.grad(share, x, retain_graph=True)[0] for share in shares[:3].unbind()])
    torch.testing.assert_close(gradients[1][0], 2 * gradients[0][0])
    torch.testing.assert_close(gradients[1][1:], gradients[0][1:])


def test_the_shares_are_among_the_terms_of_the_batch():
    weighting = Balancer(beta=0.0)
    weighting.bind("abc")
    x = torch.ones(1, requires_grad=True)
    values = x * torch.tensor([2.0, 4.0])
    np.testing.assert_allclose(weighting(values, [0, 2], predictions=x).weights, [1 / 4, 1 / 8])
    np.testing.assert_allclose(weighting.eval()(values, [0, 2]).weights, [1 / 4, 1 / 8])
    counts = torch.tensor([1.0, 0.0])  # over nothing
    np.testing.assert_allclose(weighting.train()(values, [0, 2], counts=counts, predictions=x).weights[0], 1 / 2)


def test_a_gradient_of_0_moves_no_average():
    weighting = Balancer(beta=0.5)
    weighting.bind("ab")
    x = torch.ones(1, requires_grad=True)
    weighting(x * torch.tensor([2.0, 3.0]), predictions=x)
    state = weighting.sums.clone()
    weighting(x * torch.tensor([0.0, 3.0]), predictions=x)
    assert weighting.sums[0] == state[0]
    assert weighting.sums[1] != state[1]


def test_the_norm_is_taken_at_one_output_or_at_all():
    def norm(**options):
        terms = [Distance("a"), Distance("b", "mask")]
        multi_loss = MultiLoss([*terms, Distance("c", "mask")], [1.0] * 3, weighting=Balancer(**options))
        leaves = {key: torch.full((4,), 3.0, requires_grad=True) for key in ("audio", "mask")}
        multi_loss({**leaves, "none": torch.ones(1)}, {key: torch.zeros(4) for key in leaves})
        return multi_loss.weighting.sums.tolist()

    own = 2 * 3.0 / 4 * 2  # of four elements
    assert norm() == pytest.approx([own, own, own])
    assert norm(output="pred.mask") == pytest.approx([0.0, own, own])


def test_amp_scales_the_total_and_not_the_weights():
    """The total is scaled after the forward, so the norms that are averaged are those without the scale."""
    states = []
    for scale in (1.0, 65536.0):
        multi_loss = criterion(Balancer())
        for pred, target in batches(3):
            x = torch.tensor(pred, requires_grad=True)
            (scale * multi_loss({"audio": x}, {"audio": torch.tensor(target)})[0]).backward()
        states.append(multi_loss.weighting.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_without_a_graph_no_state_moves():
    multi_loss = criterion(Balancer())
    with torch.no_grad():
        multi_loss({"audio": torch.ones(2, 5)}, {"audio": torch.zeros(2, 5)})
    assert multi_loss.weighting.ages.tolist() == [0.0, 0.0, 0.0]


def test_predictions_without_a_graph_are_refused():
    class Learned(Distance):
        def __init__(self, name):
            super().__init__(name)
            self.factor = torch.nn.Parameter(torch.ones(()))

        def compute(self, pred_batch, gt_batch):
            return super().compute(pred_batch, gt_batch) * self.factor

    multi_loss = MultiLoss([Learned("a")], [1.0], weighting=Balancer())
    with pytest.raises(WeightingError, match=r"expected a prediction with requires_grad, found \['audio'\]; call the"):
        multi_loss({"audio": torch.ones(4)}, {"audio": torch.zeros(4)})
    multi_loss = MultiLoss([Learned("a")], [1.0], weighting=Balancer(output="pred.speech"))
    with pytest.raises(WeightingError, match=r"expected 'pred.speech' with requires_grad, found \['audio'\]"):
        multi_loss({"audio": torch.ones(4, requires_grad=True)}, {"audio": torch.zeros(4)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": {"a": 0.0}}, r"ratios\.a: expected a number above 0, found 0"),
        ({"ratios": [1.0]}, "ratios: expected a mapping"),
        ({"total_norm": -1.0}, "total_norm: expected a number above 0"),
        ({"beta": 1.0}, "beta: expected a number from 0 to below 1"),
        ({"output": "audio"}, "output: expected a key such as 'pred.audio', found 'audio'"),
        ({"ratios": {"d": 1.0}}, "expected the name of a term, found 'd'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        criterion(Balancer(**options))
