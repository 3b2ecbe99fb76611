"""For every check of schedules, weightings and preprocesses there is one that breaks only it, and the kit finds it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

import lossreg
from lossreg.errors import UnknownNameError
from lossreg.testing import check_component, check_preprocess, check_schedule, check_weighting, promises
from lossreg.testing.part import part_of
from lossreg.testing.pytest_plugin import components_of

CHECKED = {"schedule": check_schedule, "weighting": check_weighting, "preprocess": check_preprocess}
SOUND = {"schedule": "Ramp", "weighting": "Falling", "preprocess": "Doubles"}
CAPABILITIES = {"schedule": ("held",), "weighting": ("permutable", "non_negative"), "preprocess": ("per_sample",)}
FAULTS = {
    "schedule": {
        "documented": ("UndocumentedRamp", {}),
        "parameters_match": ("Ramp", {"hidden": ("factor",)}),
        "builds": ("Silent", {}),
        "finite": ("Infinite", {}),
        "held": ("Grows", {"capabilities": ("held",)}),
        "deterministic": ("Counts", {}),
        "pickles": ("LambdaRamp", {}),
        "deepcopies": ("CopiesAnother", {}),
    },
    "weighting": {
        "documented": ("UndocumentedFalling", {}),
        "parameters_match": ("Falling", {"hidden": ("factor",)}),
        "builds": ("NoWeighting", {}),
        "coefficients": ("Divides", {}),
        "non_negative": ("Negative", {"capabilities": ("non_negative",)}),
        "permutable": ("ByPosition", {"capabilities": ("permutable",)}),
        "scale": ("NotFree", {}),
        "gradient": ("OnTheGraph", {}),
        "eval_keeps_state": ("MovesInEval", {}),
        "absent": ("ReturnsAll", {}),
        "over_nothing": ("IgnoresCounts", {}),
        "not_finite": ("KeepsNaN", {}),
        "state_dict": ("Remembers", {}),
        "one_entry_per_term": ("History", {}),
        "pickles": ("LambdaFalling", {}),
        "deepcopies": ("SharesState", {}),
        "no_host_read": ("ReadsValues", {}),
        "two_processes": ("MovesByRank", {}),
    },
    "preprocess": {
        "documented": ("UndocumentedDoubles", {}),
        "parameters_match": ("Doubles", {"hidden": ("more",)}),
        "builds": ("NoPreprocess", {}),
        "has_example": ("Doubles", {"example": lambda: ({}, {"z": torch.ones(1)})}),
        "keys_match": ("Doubles", {"provides": ("gt.z",)}),
        "provides": ("ComputesAnother", {}),
        "declared_keys": ("ReadsMoreKeys", {}),
        "batch_untouched": ("ChangesTheBatch", {}),
        "deterministic": ("Draws", {}),
        "per_sample": ("WholeBatch", {"capabilities": ("per_sample",)}),
        "no_host_read": ("ReadsBack", {}),
        "pickles": ("LambdaDoubles", {}),
        "deepcopies": ("CopiesAnotherFactor", {}),
    },
}
"""Of each check: the class of `planted_parts.py` that breaks it, and what its spec says."""

WITH_A_TEST_OF_THEIR_OWN = {"builds_from_yaml", "described_without_torch"}  # they concern the registry
EVERY = [(kind, check) for kind, faults in FAULTS.items() for check in faults]


@pytest.fixture(scope="session")
def parts(planted):
    """The module of the planted parts; `planted` has put its folder on the path."""
    return importlib.import_module("planted_parts")


def report_of(parts, kind, name, **fields):
    if kind == "preprocess":
        fields.setdefault("example", "planted_parts:numbers")
    return CHECKED[kind](getattr(parts, name), **fields)


@pytest.mark.parametrize("kind", FAULTS)
def test_every_check_has_a_planted_fault(kind):
    assert set(promises(kind)) == set(FAULTS[kind]) | WITH_A_TEST_OF_THEIR_OWN


@pytest.mark.parametrize("kind", FAULTS)
def test_the_page_of_faults_has_a_row_for_each_check(kind):
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## Faults in a {kind}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\|[^|]+\| `(\w+)` \|", section, re.MULTILINE) == list(promises(kind))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_sound_one_passes(parts, kind):
    report = report_of(parts, kind, SOUND[kind], capabilities=CAPABILITIES[kind])
    assert report.passed, report
    assert {result.check for result in report.skipped} == WITH_A_TEST_OF_THEIR_OWN | (
        {"scale"} if kind == "weighting" else set()
    )


@pytest.mark.parametrize(("kind", "check"), EVERY)
def test_a_planted_fault_is_found_and_nothing_else(parts, kind, check):
    name, fields = FAULTS[kind][check]
    report = report_of(parts, kind, name, **fields)
    assert [result.check for result in report.failures] == [check], report
    assert report.failures[0].message.endswith(promises(kind)[check][1])


@pytest.mark.parametrize(
    ("kind", "name"), [("schedule", "TensorRamp"), ("weighting", "TensorFalling"), ("preprocess", "TensorDoubles")]
)
def test_arguments_that_yaml_cannot_hold(parts, kind, name):
    fields = {"example_args": {"height" if kind == "schedule" else "factor": torch.tensor(2.0)}}
    if kind == "preprocess":
        fields |= {"requires": ("gt.x",), "provides": ("gt.y",), "example": "planted_parts:numbers"}
    lossreg.register(name, kind=kind, **fields)(getattr(parts, name))
    report = CHECKED[kind](f"local/{name}")
    assert [result.check for result in report.failures] == ["builds_from_yaml"], report


def test_an_object_is_taken_as_it_is(parts):
    for report in (
        check_schedule(parts.Ramp(3.0)),
        check_weighting(parts.Falling()),
        check_preprocess(parts.Doubles(), example=parts.numbers),
        check_preprocess(parts.Doubles(), example=parts.numbers()),
    ):
        assert report.passed, report


def test_the_same_checks_run_by_name_and_by_component():
    (component,) = [c for c in components_of("core") if c.name == "core/Cosine"]
    assert str(component) == "schedule core/Cosine"
    assert check_component(component) == check_schedule("core/Cosine")


def test_a_name_is_looked_up_among_its_kind():
    assert part_of("schedule", "cosine").name == "core/Cosine"
    with pytest.raises(UnknownNameError):
        part_of("weighting", "cosine")
