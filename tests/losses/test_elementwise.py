"""What one of torch's losses has a value for, its options, and the loss without its reduction."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossreg.losses.elementwise import entropy_of, inside, option_of, reduced_entropy, shape_of, unit_of, unreduced

LOSSES = {name: kind for name, kind in vars(nn).items() if inspect.isclass(kind) and name.endswith("Loss")}
LARGER = {"CTCLoss", "AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss"}
"""Losses of sequences, and losses with a layer in them, which newer releases of torch have more of."""


def test_every_loss_of_torch_that_compares_elements_has_a_unit() -> None:
    without = {name for name, kind in LOSSES.items() if unit_of(object.__new__(kind)) is None}
    assert without == LARGER & set(LOSSES)


@pytest.mark.parametrize(
    ("loss", "unit"),
    [
        (nn.MSELoss(), "values"),
        (nn.CrossEntropyLoss(), "positions"),
        (nn.TripletMarginLoss(), "samples"),
        (F.binary_cross_entropy_with_logits, "values"),
        (F.nll_loss, "positions"),
        (functools.partial(functools.partial(F.multi_margin_loss, p=1), margin=2.0), "samples"),
        (nn.CTCLoss(), None),
        (type("Own", (nn.MSELoss,), {})(), None),
        (torch.add, None),
        (3, None),
    ],
)
def test_the_unit_of_a_loss(loss: Any, unit: str | None) -> None:
    assert unit_of(loss) == unit


def test_a_compiled_module_is_what_was_compiled() -> None:
    module = nn.L1Loss(reduction="sum")
    compiled = torch.compile(module, backend="eager")
    assert inside(compiled) is module
    assert (unit_of(compiled), option_of(compiled, "reduction")) == ("values", "sum")


def test_options_are_attributes_keywords_or_defaults() -> None:
    assert option_of(nn.HuberLoss(delta=2.0), "delta") == 2.0
    assert option_of(nn.HuberLoss(), "gamma", 7) == 7
    assert option_of(F.huber_loss, "delta") == 1.0
    assert option_of(F.huber_loss, "input", 7) == 7  # it has no default
    bound = functools.partial(functools.partial(F.huber_loss, delta=3.0), reduction="sum")
    assert (option_of(bound, "delta"), option_of(bound, "reduction"), option_of(bound, "weight")) == (3.0, "sum", None)
    assert option_of(print, "no such", 7) == 7


def test_without_its_reduction_a_loss_has_a_value_for_each_element_and_shares_its_buffers() -> None:
    pred, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    module = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), reduction="sum")
    single = unreduced(module)
    assert torch.equal(single(pred, target), F.cross_entropy(pred, target, module.weight, reduction="none"))
    assert single.weight is module.weight
    assert module.reduction == "sum"
    function = unreduced(functools.partial(F.smooth_l1_loss, beta=2.0))
    assert torch.equal(function(pred, -pred), F.smooth_l1_loss(pred, -pred, beta=2.0, reduction="none"))


@pytest.mark.parametrize("loss", [nn.Identity(), nn.CosineSimilarity(), torch.abs, lambda pred, target: pred])
def test_what_has_no_reduction_cannot_be_without_it(loss: Any) -> None:
    assert unreduced(loss) is None


@pytest.mark.parametrize(
    ("unit", "soft", "shape"),
    [
        ("values", False, (2, 3, 4)),
        ("values", True, (2, 3, 4)),
        ("positions", False, (2, 3, 4)),
        ("positions", True, (2, 4)),
        ("planes", False, (2, 3)),
        ("samples", False, (2,)),
        ("samples", True, (2,)),
    ],
)
def test_the_shape_of_the_elements(unit: Any, soft: bool, shape: tuple[int, ...]) -> None:
    assert shape_of(unit, [2, 3, 4], soft=soft) == shape


@pytest.mark.parametrize(
    ("loss", "is_one"),
    [
        (nn.CrossEntropyLoss(), True),
        (nn.NLLLoss(reduction="sum"), True),
        (nn.CrossEntropyLoss(reduction="none"), False),
        (nn.CrossEntropyLoss(label_smoothing=0.1), False),
        (type("Own", (nn.CrossEntropyLoss,), {})(), False),
        (nn.L1Loss(), False),
        (F.cross_entropy, False),
    ],
)
def test_whose_count_torch_tells_beside_the_value(loss: Any, is_one: bool) -> None:
    assert entropy_of(loss) is (loss if is_one else None)


@pytest.mark.parametrize("spatial", [(), (5,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 0.0])])
@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.NLLLoss])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_cross_entropy_and_what_it_is_over(spatial: Any, weight: Any, kind: Any, reduction: str) -> None:
    torch.manual_seed(0)
    pred, target = torch.randn(6, 3, *spatial).log_softmax(1), torch.randint(3, (6, *spatial))
    target[0] = 9
    loss = kind(weight, ignore_index=9, reduction=reduction)
    ours, theirs = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    value, count = reduced_entropy(loss, weight, ours, target, mean=reduction == "mean")
    assert torch.equal(value, loss(theirs, target))
    counted = target[target != 9]
    assert float(count) == float(len(counted.flatten()) if weight is None else weight[counted].sum())
    assert torch.equal(*(torch.autograd.grad(v, x)[0] for v, x in ((value, ours), (loss(theirs, target), theirs))))
