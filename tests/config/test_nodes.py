"""A block `loss` means a criterion, a compound loss, or what it says, by the text of its `_target_`."""

from __future__ import annotations

from typing import Any

import pytest

from lossreg.config import hydra
from lossreg.config.nodes import COMPOUND, CRITERION, loss_block, named_terms


def test_the_targets_are_the_functions_that_hydra_calls() -> None:
    for target, function in ((CRITERION, hydra.criterion), (COMPOUND, hydra.compound)):
        assert target == f"{function.__module__}.{function.__name__}"


@pytest.mark.parametrize("data", [None, 3, "seg", {"loss": "seg"}, {"_target_": "torch.nn.L1Loss", "a": 1}])
def test_any_other_block_comes_back_as_it_is(data: Any) -> None:
    assert loss_block(data) == (data, False)


def test_a_criterion_is_its_keys_without_those_of_hydra() -> None:
    data = {"_target_": CRITERION, "_recursive_": False, "_convert_": "all", "loss": "seg", "a": 1}
    assert loss_block(data) == ({"loss": "seg", "a": 1}, False)


def test_a_compound_loss_names_its_terms_by_their_keys() -> None:
    block = {"losses": {"seg": {"weight": 2}, "b": "L1Loss"}, "normalize_losses": False}
    named = {"losses": {"seg": {"loss": "seg", "weight": 2}, "b": "L1Loss"}, "normalize_losses": False}
    assert loss_block({"_target_": COMPOUND, **block}) == (named, True)
    assert block["losses"]["seg"] == {"weight": 2}


@pytest.mark.parametrize("term", [{"loss": "x"}, {"_target_": "x"}, {"losses": []}, {"loss_list": []}])
def test_a_term_that_says_what_it_is_keeps_that(term: dict[str, Any]) -> None:
    assert named_terms({"loss_list": {"a": term}}) == {"loss_list": {"a": term}}


def test_a_list_of_terms_is_left_alone() -> None:
    assert named_terms({"losses": [{"weight": 1}], "other": {"a": {}}}) == {
        "losses": [{"weight": 1}],
        "other": {"a": {}},
    }
