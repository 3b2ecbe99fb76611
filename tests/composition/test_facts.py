"""The facts of a criterion, which ranks compare: two that differ in anything differ in a fact that names it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.facts import OPTIONS, facts
from lossreg.composition.weighting.dwa import DWA


def criterion(weight: float = 1.0, delta: float = 1.0, inner: float = 1.0, **options: Any) -> MultiLoss:
    group = MultiLoss([LossWrapper(torch.nn.HuberLoss(delta=delta), "b")], [inner], name="group")
    return MultiLoss([LossWrapper(torch.nn.L1Loss(), "a"), group], [weight, 1.0], **options)


def test_each_fact_of_a_criterion_has_its_name() -> None:
    found = facts(criterion())
    whole = {f"{option}{inside}" for option in OPTIONS for inside in ("", " of group 'group'")}
    lists = {f"the {what}{inside}" for inside in ("", " of group 'group'") for what in ("list of terms", "weighting")}
    preprocesses = {"the list of preprocesses", "the list of preprocesses of group 'group'"}
    terms = {f"{of} {path!r}" for path in ("a", "group/b") for of in ("the loss of", "normalize of", "optional of")}
    weights = {"the weight of 'a'", "the weight of 'group'", "the weight of 'group/b'"}
    assert set(found) == whole | lists | preprocesses | terms | weights
    assert next(iter(found)) == "the list of terms"
    assert found["the list of terms"] == "a, group"
    assert found["the list of terms of group 'group'"] == "b"
    assert (found["optional of 'group/b'"], found["normalize of 'a'"]) == ("False", "True")


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"weight": 2.0}, ["the weight of 'a'"]),
        ({"inner": 2.0}, ["the weight of 'group/b'"]),
        ({"delta": 2.0}, ["the loss of 'group/b'"]),
        ({"unnormalized": ["a"]}, ["normalize of 'a'"]),
        ({"optional_terms": ["a"]}, ["optional of 'a'"]),
        ({"zero_weight": "skip"}, ["zero_weight"]),
        ({"weighting": DWA()}, ["the weighting"]),
    ],
)
def test_one_change_is_one_fact(change: dict[str, Any], differs: list[str]) -> None:
    one, other = facts(criterion()), facts(criterion(**change))
    assert [name for name in one if one[name] != other[name]] == differs
