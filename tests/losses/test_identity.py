"""The identity of a loss: the name by which it was created, or where it is defined."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossreg import Loss, LossWrapper, create_loss
from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.losses.identity import identity, source

L1 = "torch.nn.modules.loss.L1Loss"


class Own(Loss):
    """A loss of a user's own."""

    def compute(self, pred_batch, gt_batch):
        return (pred_batch - gt_batch).abs().mean()


class Doubled(LossWrapper):
    """A wrapper with a value of its own."""

    def compute(self, pred_batch, gt_batch):
        return 2 * super().compute(pred_batch, gt_batch)


@pytest.mark.needs_plugins
def test_a_loss_that_was_created_by_name_is_its_canonical_name():
    assert identity(create_loss("L1Loss", name="a")) == "torch/L1Loss"


@pytest.mark.needs_plugins
def test_a_loss_that_was_created_by_name_still_tells_where_it_is_defined():
    assert source(create_loss("L1Loss", name="a")) == L1


def test_a_class_of_the_users_own_is_module_and_class():
    assert identity(Own("a")) == source(Own("b")) == f"{__name__}.Own"


@pytest.mark.needs_plugins
def test_a_wrapper_is_what_it_wraps():
    assert identity(LossWrapper(nn.L1Loss(), "a")) == L1
    assert identity(LossWrapper(create_loss("torch/L1Loss"), "a")) == "torch/L1Loss"
    assert identity(LossWrapper(LossWrapper(Own("a"), "b"), "c")) == f"{__name__}.Own"


def test_a_wrapper_with_a_value_of_its_own_is_itself():
    assert identity(Doubled(nn.L1Loss(), "a")) == f"{__name__}.Doubled"


def test_a_function_is_module_and_name():
    assert identity(LossWrapper(F.l1_loss, "a")) == "torch.nn.functional.l1_loss"
    assert identity(LossWrapper(functools.partial(F.huber_loss, delta=2.0), "a")) == "torch.nn.functional.huber_loss"


def test_a_compiled_module_is_the_module():
    assert identity(LossWrapper(torch.compile(nn.L1Loss(), backend="eager"), "a")) == L1


@pytest.mark.needs_plugins
def test_deep_supervision_is_another_loss():
    deep = DeepSupervision(create_loss("L1Loss"), "outputs")
    assert identity(deep) == "DeepSupervision(torch/L1Loss)"
    assert source(deep) == f"DeepSupervision({L1})"
