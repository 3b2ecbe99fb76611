"""Gradient-conflict methods run for real on what `weighted_terms` returns: torchjd's UPGrad and PCGrad."""

import pytest
import torch

from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.uncertainty import Uncertainty

aggregation = pytest.importorskip("torchjd.aggregation", reason="the extra `torchjd` is not installed")
autojac = pytest.importorskip("torchjd.autojac")
pytest.importorskip("quadprog", reason="the extra `torchjd` is not installed: UPGrad projects with quadprog")


class Pull(Loss):
    """The squared distance of `pred.y` to a point."""

    requires = ("pred.y",)

    def __init__(self, name, point):
        super().__init__(name)
        self.point = point

    def compute(self, pred_batch, gt_batch):
        y = self.read(pred_batch, gt_batch, "pred.y")
        return (y - torch.tensor(self.point)).square().sum() / 2


def conflicting(**options):
    """Return two terms whose gradients at (0, 0) point apart: (-1, -3) and (2, 0) times its weight."""
    return MultiLoss([Pull("a", [1.0, 3.0]), Pull("b", [-2.0, 0.0])], [1.0, [0.0, 2.0]], [0, 10], **options)


def gradient(multi_loss, aggregator, epoch, chunk=None):
    y = torch.nn.Parameter(torch.zeros(2))
    terms = multi_loss.weighted_terms({"y": y}, {}, epoch=epoch)
    autojac.backward(terms, inputs=[y], parallel_chunk_size=chunk)
    autojac.jac_to_grad([y], aggregator)
    return y.grad


def projected(g, away_from):
    """Remove from g what goes against another gradient."""
    return g - min(float(g @ away_from), 0.0) / (away_from @ away_from) * away_from


@pytest.mark.parametrize("epoch", [1, 5, 10])
@pytest.mark.parametrize("chunk", [None, 1])
def test_upgrad_and_pcgrad_meet_their_formulas(epoch, chunk):
    g = torch.tensor([[-1.0, -3.0], [2.0, 0.0]])
    g[1] *= 2 * epoch / 10  # the schedule's weight
    surgery = projected(g[0], g[1]) + projected(g[1], g[0])
    pcgrad = gradient(conflicting(), aggregation.PCGrad(), epoch, chunk)
    upgrad = gradient(conflicting(), aggregation.UPGrad(), epoch, chunk)
    torch.testing.assert_close(pcgrad, surgery)
    torch.testing.assert_close(upgrad, surgery / 2, rtol=2e-2, atol=1e-3)  # it regularises a little


def test_upgrad_harms_no_term_where_the_sum_does():
    g = torch.tensor([[-1.0, -3.0], [2.0 * 0.4, 0.0]])
    assert (g @ g.sum(0)).min() < 0
    assert (g @ gradient(conflicting(), aggregation.UPGrad(), epoch=2)).min() > -1e-3


def test_the_terms_sum_to_the_total():
    multi_loss = conflicting()
    batch = {"y": torch.tensor([0.3, 0.4])}
    total, _, _ = multi_loss(batch, {}, epoch=3)
    torch.testing.assert_close(multi_loss.weighted_terms(batch, {}, epoch=3).sum(), total)


@pytest.mark.parametrize("method", ["UPGrad", "PCGrad"])
def test_trains_a_model_with_a_weighting_beside_it(method):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    multi_loss = conflicting(weighting=Uncertainty())
    optimizer = torch.optim.SGD(
        [
            {"params": model.parameters()},
            {"params": multi_loss.weighting_parameters(), "weight_decay": 0.0},
        ],
        lr=0.05,
    )
    parameters = [*model.parameters(), *multi_loss.weighting_parameters()]
    x = torch.randn(16, 4)
    seen = []
    for _ in range(60):
        optimizer.zero_grad()
        pred_batch = {"y": model(x).mean(0)}
        _, values, _ = multi_loss.eval()(pred_batch, {}, epoch=5)
        seen.append(torch.stack(list(values.values())))
        autojac.backward(multi_loss.train().weighted_terms(pred_batch, {}, epoch=5))
        autojac.jac_to_grad(parameters, getattr(aggregation, method)())
        optimizer.step()
    assert seen[-1].sum() < 0.8 * seen[0].sum()
    assert (multi_loss.weighting.s != 0).all()
