"""Plugin `torchjd`: every public scalarizer of TorchJD, described without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lossreg_wrappers.torchjd_scalarizers import LEFT_OUT, lossreg_weightings

from lossreg.registry import catalog


def test_every_public_scalarizer_is_offered_or_left_out_with_a_reason():
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed")
    offered = [spec.name for spec in lossreg_weightings()]
    assert offered == sorted(offered)
    assert {*offered, *LEFT_OUT} == set(scalarization.__all__)
    assert not {*offered} & {*LEFT_OUT}
    assert all(LEFT_OUT.values())


def test_the_readme_counts_them():
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed")
    counts = re.search(r"(\d+) of the (\d+) public names", (Path(__file__).parents[1] / "README.md").read_text())
    assert [int(count) for count in counts.groups()] == [len(lossreg_weightings()), len(scalarization.__all__)]


def test_a_bare_name_of_the_core_stays_its_own():
    assert catalog().weightings.find("DWA").name == "core/DWA"


@pytest.mark.parametrize("spec", lossreg_weightings(), ids=lambda spec: spec.name)
def test_each_has_its_facts(spec):
    assert spec.package == "torchjd>=0.18"
    assert spec.summary
    assert spec.formula
    assert spec.source or spec.name in ("Constant", "Mean", "Sum")  # nobody's
    assert spec.url.startswith("https://torchjd.org/")


def test_it_is_described_without_torch():
    code = (
        "import sys, lossreg_wrappers.torchjd_scalarizers; print(*('torch' in sys.modules, 'torchjd' in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["False", "False"]
