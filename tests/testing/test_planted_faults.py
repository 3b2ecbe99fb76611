"""For every check there is a loss that breaks only it, and the kit reports exactly that check."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import torch

import lossreg
from lossreg.testing import check_loss, declaration, promises

FAULTS = {
    "documented": ("Undocumented", {}),
    "parameters_match": ("Sound", {"hidden": ("factor",)}),
    "builds": ("NeedsAnArgument", {}),
    "runs": ("Unreduced", {}),
    "batch_untouched": ("Clamps", {}),
    "value": ("Detached", {}),
    "deterministic": ("Random", {}),
    "dtype_follows": ("Single", {}),
    "no_wider": ("Wide", {}),
    "half_precision": ("Overflows", {}),
    "real_size": ("Ratio", {}),
    "extreme_values": ("Logarithm", {}),
    "non_square": ("Squares", {}),
    "one_pixel": ("Unbiased", {}),
    "memory_layout": ("Views", {}),
    "nothing_to_learn": ("MeanOfNone", {"nothing": "planted:nothing_valid"}),
    "masked_unseen": ("NotANumber", {}),
    "gradients_finite": ("Root", {"example": "planted:equal_pixels"}),
    "gradients_right": ("WrongGradient", {}),
    "no_host_read": ("Reads", {}),
    "device_follows": ("OnTheCPU", {}),
    "compiles": ("Sleeps", {}),
    "norm": ("KeepsItsNorm", {}),
    "state_dict": ("GrowsABuffer", {}),
    "pickles": ("HoldsALambda", {}),
    "deepcopies": ("KeepsItsGraph", {}),
    "declared_keys": ("ReadsMore", {}),
    "in_multiloss": ("RequiresMore", {"example": "planted:equal_pixels"}),
    "permutable": ("ByPosition", {"capabilities": ("permutable",)}),
    "mean_of_samples": ("SumOfSamples", {"capabilities": ("mean_of_samples",)}),
    "split_exact": ("CountsSamples", {}),
    "two_processes": ("ByRank", {}),
}
"""Of each check: the loss of `planted.py` that breaks it, and what its spec says."""

WITH_A_TEST_OF_THEIR_OWN = {"builds_from_yaml", "described_without_torch"}  # they concern the registry


def test_every_check_has_a_planted_fault():
    assert set(promises()) == set(FAULTS) | WITH_A_TEST_OF_THEIR_OWN


def test_the_page_of_faults_has_a_row_for_each_check():
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    section = page.partition("\n## Faults in a loss\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\|[^|]+\| `(\w+)` \|", section, re.MULTILINE) == list(promises())


def test_a_sound_loss_passes(planted):
    report = check_loss(planted.Sound, capabilities=("mean_of_samples",))
    assert report.passed, report
    assert {result.check for result in report.skipped} == WITH_A_TEST_OF_THEIR_OWN | {
        "masked_unseen",
        "nothing_to_learn",
        "split_exact",
    }


@pytest.mark.parametrize("name", ["Grows", "growing"])
def test_a_loss_that_takes_the_epoch_passes(planted, name):
    inputs = {"inputs": ["pred.seg", "gt.gt_polygons_image", "epoch"]} if name == "growing" else {}
    report = check_loss(getattr(planted, name), wrap=inputs)
    assert report.passed, report


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(planted, check):
    name, fields = FAULTS[check]
    report = check_loss(getattr(planted, name), **fields)
    assert [result.check for result in report.failures] == [check], report
    promise, advice = promises()[check]
    assert report.failures[0].message.endswith(advice)
    assert promise
    assert advice


def test_a_loss_that_draws_other_numbers_is_one_finding(planted):
    lossreg.register("RandomOfPython", capabilities=("permutable",))(planted.RandomOfPython)
    report = check_loss("local/RandomOfPython")
    assert [result.check for result in report.failures] == ["deterministic"], report


def test_a_loss_that_is_said_to_draw_is_checked_with_seeds(planted):
    report = check_loss(planted.Random, exceptions={"deterministic": "it draws"})
    assert report.passed, report
    outcomes = {result.check: result.outcome for result in report.results}
    assert (outcomes["norm"], outcomes["memory_layout"]) == ("passed", "passed")


def test_a_value_of_zero_on_the_example_is_told_as_such(planted):
    (failure,) = check_loss(planted.Hinge).failures
    assert failure.check == "norm"
    assert failure.message.startswith("its value is 0 on the example; choose an example where it is not")


@pytest.mark.parametrize(
    ("example", "found"),
    [
        ("unseeded", "the example returns other numbers at each call"),
        ("alone", "the example: expected (pred_batch, gt_batch), found a dict"),
        ("unreadable", "the example raised OSError: no such file"),
    ],
)
def test_an_example_that_is_none_is_the_one_finding(planted, example, found):
    report = check_loss(planted.Sound, example=f"planted:{example}")
    assert [result.check for result in report.failures] == ["runs"], report
    assert report.failures[0].message.startswith(found)


@pytest.mark.parametrize(
    ("returned", "found"),
    [(1.0, "found float"), (None, "found NoneType"), ({"loss": torch.ones(())}, "found dict")],
)
def test_what_a_loss_returns_that_is_no_value_is_the_one_finding(returned, found):
    def loss(pred, gt):
        """Return what is no value."""
        return returned

    report = check_loss(loss)
    assert [result.check for result in report.failures] == ["runs"], report
    assert found in report.failures[0].message


def test_a_loss_of_other_arguments_is_told_of_inputs():
    def loss(pred, gt, weight):
        """Return a weighted error."""
        return ((pred - gt).square() * weight).mean()

    (failure,) = check_loss(loss).failures
    assert failure.check == "runs"
    assert "missing 1 required positional argument: 'weight'" in failure.message
    assert 'wrap={"inputs": ...}' in failure.message


def test_a_slope_that_is_infinite_at_the_target_is_found(planted):
    (failure,) = check_loss(planted.RootOfTheMean).failures
    assert failure.check == "extreme_values"
    assert failure.message.startswith("with a prediction equal to the target a gradient is not finite")


def test_a_loss_that_takes_no_name_is_one_finding(planted):
    (failure,) = check_loss(planted.TakesNoName).failures
    assert failure.check == "builds"
    assert "TakesNoName.__init__ must take `name` and pass it to super().__init__(name)" in failure.message


def test_arguments_that_yaml_cannot_hold(planted):
    lossreg.register("TakesATensor", example_args={"factor": torch.tensor(2.0)})(planted.TakesATensor)
    report = check_loss("local/TakesATensor")
    assert [result.check for result in report.failures] == ["builds_from_yaml"], report


@pytest.mark.usefixtures("planted", "heavy")
def test_a_plugin_that_imports_torch():
    report = check_loss("heavy/Sound")
    assert [result.check for result in report.failures] == ["described_without_torch"], report


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch):
    """A package of a plugin that imports torch, on the path of this process and of those that it starts."""
    (tmp_path / "heavy.py").write_text(
        "import torch\nfrom planted import Sound\nfrom lossreg import LossSpec, hookimpl\n\n"
        "@hookimpl\ndef lossreg_losses():\n"
        "    return [LossSpec('Sound', 'planted:Sound', summary='mean squared error')]\n"
    )
    metadata = tmp_path / "heavy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: heavy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lossreg]\nheavy = heavy\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parent)]))
    declaration._failing_without_torch.cache_clear()
    lossreg.refresh()
    yield
    monkeypatch.undo()
    sys.modules.pop("heavy", None)
    declaration._failing_without_torch.cache_clear()
    lossreg.refresh()
