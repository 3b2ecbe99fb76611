"""The state of a whole criterion travels by every usual way, and a copy goes on as the original does."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lossreg import LossWrapper, MultiLoss, calibrate_norms
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty

WEIGHTINGS = {"none": lambda: None, **{kind.__name__: kind for kind in (CoV, DWA, ReLoBRaLo, SoftAdapt, Uncertainty)}}
STEPS = 7


class Learner(nn.Module):
    """A network with its criterion inside, as a LightningModule has it."""

    def __init__(self, weighting="none", track_norms=None):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        group = MultiLoss(
            [LossWrapper(nn.L1Loss(), "l1"), LossWrapper(nn.HuberLoss(), "huber")],
            [1.0, 2.0],
            name="group",
            weighting=WEIGHTINGS[weighting](),
        )
        self.criterion = MultiLoss(
            [LossWrapper(nn.MSELoss(), "mse"), group],
            [1.0, [0.5, 1.0]],
            epoch_thresholds=[0, 3],
            weighting=WEIGHTINGS[weighting](),
            track_norms=track_norms,
        )


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)


def run(learner, start, stop):
    """Train and return what each step saw."""
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.05)
    seen = []
    for step in range(start, stop):
        torch.manual_seed(step)  # of the dropout
        image, target = batch(step)
        total, values, _ = learner.criterion(learner.network(image), target, epoch=step / 3)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seen.append((total.item(), {name: value.item() for name, value in values.items()}))
    return seen


def saved(learner):
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def loaded(learner, weighting, **options):
    other = Learner(weighting, learner.criterion.track_norms)
    other.load_state_dict(saved(learner), **options)
    return other


def loaded_onto_meta(learner, weighting):
    with torch.device("meta"):
        other = Learner(weighting, learner.criterion.track_norms)
    other.load_state_dict(saved(learner), assign=True)
    return other


WAYS = {
    "deepcopy": lambda learner, weighting: copy.deepcopy(learner),
    "pickle": lambda learner, weighting: pickle.loads(pickle.dumps(learner)),
    "state_dict": loaded,
    "assign": lambda learner, weighting: loaded(learner, weighting, assign=True),
    "assign onto meta": loaded_onto_meta,
    "averaged": lambda learner, weighting: AveragedModel(learner, use_buffers=True).module,
}


@pytest.mark.parametrize("track_norms", [None, "running"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_copy_made_in_the_middle_goes_on_as_the_original(way, weighting, track_norms):
    torch.manual_seed(0)
    original = Learner(weighting, track_norms)
    calibrate_norms(original.criterion, original.network, [batch(100), batch(101)], min_samples=1)
    run(original, 0, 4)
    twin = WAYS[way](original, weighting)
    assert bool(twin.criterion.calibrated)
    before = saved(twin)
    expected = run(original, 4, STEPS)
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in before.items()), "the original moved it"
    assert run(twin, 4, STEPS) == expected
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in original.state_dict().items())


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_of_models_has_norms_to_divide_by(use_buffers):
    learner = Learner(track_norms="running")
    calibrate_norms(learner.criterion, learner.network, [batch(100), batch(101)], min_samples=1)
    ema = AveragedModel(learner, use_buffers=use_buffers, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    seen = []
    for step in range(4):
        run(learner, step, step + 1)
        ema.update_parameters(learner)
        seen.append(learner.criterion.loss_funcs[0].norm.item())
    norm = ema.module.criterion.loss_funcs[0].norm
    assert norm.dtype == torch.float32
    assert bool(ema.module.criterion.calibrated)
    if use_buffers:
        assert min(seen) <= norm.item() <= max(seen)
    image, target = batch(9)
    assert ema.module.criterion(ema.module.network(image), target, epoch=1)[0].isfinite()
    restored = AveragedModel(Learner(track_norms="running"), use_buffers=use_buffers)
    restored.load_state_dict(ema.state_dict())
    assert torch.equal(restored.module.criterion.loss_funcs[0].norm, norm)


@pytest.mark.parametrize("assign", [False, True])
def test_a_checkpoint_of_norms_alone_loads_strictly_into_a_whole_criterion(assign):
    learner = Learner()
    state = {key: value for key, value in saved(learner).items() if "criterion" not in key or key.endswith(".norm")}
    state["criterion.loss_funcs.0.norm"] = torch.tensor([3.0])
    fresh = Learner()
    fresh.load_state_dict(state, assign=assign)
    assert fresh.criterion.loss_funcs[0].norm.item() == 3.0
    assert bool(fresh.criterion.calibrated)


def test_what_a_checkpoint_holds_is_tensors_alone():
    for key, value in Learner("ReLoBRaLo").state_dict().items():
        assert type(value) is torch.Tensor, key
