"""Weightings from a config, inside a MultiLoss that trains, is stopped, and goes on."""

import copy

import pytest
import torch

import lossreg
from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.shared import AtSharedParameters
from lossreg.composition.weighting.uncertainty import Uncertainty

STRATEGIES = [
    "uncertainty",
    {"strategy": "dwa", "temperature": 0.5},
    {"strategy": "gradnorm", "alpha": 1.0},
    {"strategy": "softadapt", "order": 2, "normalized": True},
    {"strategy": "relobralo", "alpha": 0.9, "beta": 0.5, "seed": 3},
    "cov",
    {"strategy": "balancer", "ratios": {"near": 2.0}, "beta": 0.9},
    {"strategy": "lrannealing", "residual": "far"},
]


class Distance(Loss):
    """A multiple of the mean squared distance of `pred.y` to a key of the target."""

    def __init__(self, name, key="gt.a", scale=1.0):
        super().__init__(name)
        self.requires = ("pred.y", key)
        self.key, self.scale = key, scale

    def compute(self, pred_batch, gt_batch):
        y, target = (self.read(pred_batch, gt_batch, key) for key in self.requires)
        return self.scale * (y - target).square().mean()


@pytest.fixture(autouse=True)
def registered():
    lossreg.register("WeightedDistance")(Distance)


def config(weighting):
    terms = [
        {"loss": "WeightedDistance", "name": "near", "weight": [1.0, 0.5], "epoch_thresholds": [0, 4]},
        {"loss": "WeightedDistance", "name": "far", "key": "gt.b", "scale": 1000.0},
    ]
    return {"loss_list": terms, "weighting": weighting}


class Training:
    """A model, a criterion built from a config, and an optimizer over both."""

    def __init__(self, weighting):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(4, 2)
        self.criterion = lossreg.build_compound_loss_from_config(config(weighting))
        if isinstance(self.criterion.weighting, AtSharedParameters):
            self.criterion.weighting.set_shared_parameters(self.model.parameters())
        learned = {"params": list(self.criterion.weighting_parameters()), "weight_decay": 0.0}
        self.optimizer = torch.optim.AdamW([{"params": self.model.parameters()}, learned], lr=0.01)

    def run(self, steps):
        """Train over some steps, six an epoch, on batches that depend on the step alone."""
        for step in steps:
            batch = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(step))
            gt_batch = {"a": batch[1, :, :2], "b": batch[2, :, :2]}
            total, _, _ = self.criterion({"y": self.model(batch[0])}, gt_batch, epoch=step / 6)
            self.optimizer.zero_grad()
            total.backward()
            self.optimizer.step()
        return total

    @property
    def parts(self):
        return {"model": self.model, "criterion": self.criterion, "optimizer": self.optimizer}

    def checkpoint(self):
        return copy.deepcopy({name: part.state_dict() for name, part in self.parts.items()})


@pytest.mark.parametrize("weighting", STRATEGIES, ids=str)
@pytest.mark.parametrize("stop", [1, 15, 20])
def test_a_run_that_was_stopped_ends_with_the_same_numbers(weighting, stop):
    whole, first, resumed = (Training(weighting) for _ in range(3))
    expected = whole.run(range(30))
    first.run(range(stop))
    for name, state in first.checkpoint().items():
        resumed.parts[name].load_state_dict(state)
    assert torch.equal(resumed.run(range(stop, 30)), expected)
    for name, parameter in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], parameter)


@pytest.mark.parametrize("weighting", STRATEGIES, ids=str)
def test_the_schedule_multiplies(weighting):
    training = Training(weighting)
    training.run(range(14))
    criterion = training.criterion.eval()
    x = torch.randn(8, 4)
    batch = {"y": training.model(x)}, {"a": x[:, :2], "b": x[:, 2:]}
    at_start = criterion.weighted_terms(*batch, epoch=0)
    at_end = criterion.weighted_terms(*batch, epoch=4)
    torch.testing.assert_close(at_end, at_start * torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(criterion(*batch, epoch=4)[0], at_end.sum())


def test_values_are_reported_unweighted():
    training = Training("cov")
    y = torch.ones(2, 2)
    _, values, _ = training.criterion({"y": y}, {"a": y + 1, "b": y + 2}, epoch=0)
    assert {name: value.item() for name, value in values.items()} == {"near": 1.0, "far": 4000.0}


def test_a_group_has_a_weighting_of_its_own():
    group = MultiLoss([Distance("a"), Distance("b", "gt.b")], [1.0, 2.0], name="group", weighting=Uncertainty())
    criterion = MultiLoss([group, Distance("c")], [0.5, 1.0], weighting=DWA())
    assert [p is group.weighting.s for p in criterion.weighting_parameters()] == [True]
    y = torch.ones(2, 2)
    total, values, _ = criterion({"y": y}, {"a": y + 1, "b": y + 2}, epoch=0)
    assert set(values) == {"group/a", "group/b", "c"}
    assert total.item() == pytest.approx(0.5 * (1 * 1 / 2 + 2 * 4 / 2) + 1)  # s = 0, DWA still at ones


@pytest.mark.parametrize("weighting", STRATEGIES, ids=str)
def test_an_optional_term_may_come_and_go(weighting):
    data = config(weighting)
    data["loss_list"][1]["optional"] = True
    criterion = lossreg.build_compound_loss_from_config(data)
    y = torch.nn.Parameter(torch.ones(2, 2))
    if isinstance(criterion.weighting, AtSharedParameters):
        criterion.weighting.set_shared_parameters([y])
    for step in range(12):
        gt_batch = {"a": torch.full((2, 2), step / 4)} | ({"b": torch.zeros(2, 2)} if step % 3 else {})
        total, values, _ = criterion({"y": y}, gt_batch, epoch=step // 4)
        assert ("far" in values) == bool(step % 3)
        assert total.isfinite()
    assert criterion.state_dict().keys() >= {"weighting." + name for name in criterion.weighting.state_dict()}


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        ({"strategy": "dwa", "temperature": 0.0}, "temperature: expected a number above 0, found 0"),
        ({"strategy": "dwa", "temprature": 1.0}, "did you mean 'temperature'"),
        (
            {"strategy": "uncertainty", "classification": ["x"]},
            r"classification\[0\]: expected the name of a term, found 'x'",
        ),
        ("dwaa", "dwa"),
    ],
)
def test_a_mistake_is_reported_at_its_place(weighting, message):
    with pytest.raises(lossreg.ConfigError, match=message):
        lossreg.build_compound_loss_from_config(config(weighting))
