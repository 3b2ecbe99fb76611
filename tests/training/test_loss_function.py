"""A criterion as trainers call a loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.schedules import Piecewise
from lossreg.errors import ArgumentError
from lossreg.training.loss_function import LossFunction


def criterion_of(**schedule):
    weight = Piecewise([0.0, 1.0], [0, 10], **schedule)
    return MultiLoss([LossWrapper(nn.L1Loss(), "near"), LossWrapper(nn.MSELoss(), "far")], [1.0, weight])


@pytest.mark.parametrize(("schedule", "time"), [({}, "epoch"), ({"unit": "step"}, "step")])
def test_the_total_alone_at_the_time_that_is_set(schedule, time):
    pred, target = torch.tensor([[1.0], [3.0]], requires_grad=True), torch.zeros(2, 1)
    loss = LossFunction(criterion_of(**schedule))
    setattr(loss, time, 5)
    total = loss(pred, target)
    assert float(total.detach()) == pytest.approx(2.0 + 0.5 * 5.0)
    total.backward()
    assert pred.grad is not None


def test_its_state_is_the_criterions():
    loss = LossFunction(criterion_of())
    assert {key.removeprefix("criterion.") for key in loss.state_dict()} == set(loss.criterion.state_dict())


def test_a_compiled_criterion_may_be_given_and_another_module_not():
    LossFunction(torch.compile(criterion_of(), backend="eager"))
    with pytest.raises(ArgumentError, match="criterion"):
        LossFunction(nn.L1Loss())
