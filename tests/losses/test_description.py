"""The description of an object is the same text in every process."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from torch import nn

from lossreg import Loss, LossWrapper, create_loss
from lossreg.losses.description import describe


class Options:
    """An object with attributes of every kind."""

    def __init__(self, **options):
        vars(self).update(options)


class Learned(nn.Module):
    """A loss with a parameter, a constant and what it is inside of a process."""

    def __init__(self, constant=1.0, rank=0, start=0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))
        self.register_buffer("constant", torch.tensor(constant))
        self.rank, self.device = rank, torch.device("cuda", rank)

    def forward(self, pred, gt):
        return (pred - gt).abs().mean()


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Options(inside=object(), kinds=[object(), {1: object()}]),
        functools.partial(lambda p, g: p, g=object()),
        LossWrapper(lambda p, g: (p, [lambda: g]), "a"),
        Options().__init__,
        torch.nn.functional.l1_loss,
        torch.sum,
        type("Loss", (), {}),
    ],
)
def test_it_holds_no_address(value):
    assert not re.search(r"0x[0-9a-f]{6,}", describe(value))


def test_sets_and_mappings_have_one_order():
    assert describe({"c", "a", "b"}) == "{'a', 'b', 'c'}"
    assert describe({"b": 1, "a": 2}) == describe({"a": 2, "b": 1}) == "{'a': 2, 'b': 1}"


def test_what_contains_itself_ends():
    options = Options()
    options.itself = options
    assert describe(options).endswith("Options(itself=...)")


@pytest.mark.parametrize("other", [{"rank": 1}, {"start": 2.0}])
def test_parameters_ranks_and_devices_are_left_out(other):
    assert describe(LossWrapper(Learned(), "a")) == describe(LossWrapper(Learned(**other), "a").eval())


def test_a_norm_and_a_name_are_left_out():
    one, other = LossWrapper(nn.L1Loss(), "a"), LossWrapper(nn.L1Loss(), "b")
    other.record(torch.tensor(3.0), 2)
    assert describe(one) == describe(other)


class KeepsItsLast(Loss):
    """It keeps what its last forward saw, as people do to log it."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__("keeps")
        self.factor = scale  # an argument under a name of its own
        self.last = None
        self.register_buffer("center", torch.zeros(3))

    def compute(self, pred_batch, gt_batch):
        self.last = self.factor * pred_batch["x"].mean()
        self.mean, self.calls = float(self.last), 1
        self.center = self.center + pred_batch["x"].detach()
        return self.last


def test_what_a_forward_leaves_on_a_loss_is_left_out():
    one, other = KeepsItsLast(), KeepsItsLast()
    one({"x": torch.ones(3)}, {}, normalize=False)
    assert describe(one) == describe(other)
    assert describe(one) != describe(KeepsItsLast(2.0))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Learned(), Learned(constant=2.0)),
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.arange(100), torch.arange(100).flip(0)),
        (torch.zeros(100, dtype=torch.bfloat16), torch.ones(100, dtype=torch.bfloat16)),
        (Options(a=1.0), Options(a=1.0000000000000002)),
        (Options(a=True), Options(a=False)),
        (nn.Sequential(nn.PReLU(), nn.Softmax(1)), nn.Sequential(nn.PReLU(), nn.Softmax(2))),
        (functools.partial(max, key=len), functools.partial(max, key=abs)),
    ],
)
def test_what_differs_has_another_text(one, other):
    assert describe(one) != describe(other)


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_a_tensor_without_values_at_hand_is_its_kind(kind):
    tensor = torch.zeros(3, device="meta") if kind == "meta" else torch.eye(3).to_sparse()
    assert describe(tensor) == f"float32{list(tensor.shape)}"


@pytest.mark.needs_plugins
def test_the_arguments_of_a_registered_loss_are_kept():
    loss = create_loss("torch/CrossEntropyLoss", weight=[0.25, 0.75])
    assert "registered_arguments=\"{'weight': [0.25, 0.75]}\"" in describe(loss)


def _scaled(factor):
    return lambda pred, target: factor * (pred - target).abs()


def test_functions_differ_by_their_code_and_by_what_they_hold():
    assert describe(_scaled(1.0)) == describe(_scaled(1.0))
    assert describe(_scaled(1.0)) != describe(_scaled(2.0))
    assert describe(lambda x: x + 1) != describe(lambda x: x - 1)


def test_a_function_that_holds_a_variable_without_a_value_is_described():
    def outer():
        def inner():
            return later

        text = describe(inner)
        later = 1
        return text, describe(inner)

    before, after = outer()
    assert before != after


def test_what_a_wrapper_wraps_is_told_with_its_parameters():
    assert "delta=2.0" in describe(LossWrapper(nn.HuberLoss(delta=2.0), "a"))
    assert "function=" in describe(LossWrapper(_scaled(1.0), "a"))
    assert "function=" not in describe(LossWrapper(nn.L1Loss(), "a"))


def test_the_name_of_a_module_that_is_no_loss_is_one_of_its_parameters():
    one, other = nn.L1Loss(), nn.L1Loss()
    one.name, other.name = "a", "b"
    assert describe(one) != describe(other)
