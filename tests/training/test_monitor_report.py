"""What a monitor saw, as a table, JSON and a picture."""

from __future__ import annotations

import io
import json
import math

import pytest
from planted_runs import train

from lossreg.training.monitor_report import MonitorReport, shares
from lossreg.training.verdicts import Sample, TermSample, Verdict


def sampled(**changes):
    fields = {"value": 1.0, "is_labelled": True, "norm": None, "weight": 1.0, "factor": 1.0, "length": 1.0}
    return TermSample(**{**fields, "reached": True, "is_constant": False, **changes})


def test_shares_are_of_what_terms_add_to_the_gradient():
    sample = Sample(0, {"a": sampled(factor=-3.0), "b": sampled(length=0.5, factor=2.0)}, {})
    assert shares(sample) == {"a": 0.75, "b": 0.25}
    assert shares(Sample(0, {"a": sampled(length=0.0)}, {})) == {"a": 0.0}


def test_nothing_was_looked_at_yet():
    report = MonitorReport(("a",), (), ())
    assert "nothing was looked at yet" in str(report)
    assert report.shares_at_the_end() == {}


def test_a_term_that_is_absent_has_no_numbers():
    report = MonitorReport(("a", "b"), (Sample(3, {"a": sampled()}, {"a": 1.0}),), ())
    line = next(line for line in str(report).splitlines() if line.startswith("b"))
    assert line.split() == ["b", "-", "-", "-", "-", "0", "of", "1"]


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path):
    report = MonitorReport(("a",), (Sample(0, {"a": sampled(value=math.nan)}, {}),), ())
    assert json.loads(report.to_json())["samples"][0]["terms"]["a"]["value"] is None


def test_report_shows_every_term_and_verdict(tmp_path):
    report = train(weights=[1.0, 1e4, 1.0], steps=60).report()
    text = str(report)
    assert all(name in text for name in ("fit", "near", "classes", "dominant", "3 looks"))
    data = report.to_dict()
    assert [sample["step"] for sample in data["samples"]] == [0, 25, 50]
    assert data["verdicts"][0]["kind"] == "dominant"
    assert report.to_json(tmp_path / "monitor.json") + "\n" == (tmp_path / "monitor.json").read_text()


@pytest.mark.needs_plugins
def test_report_is_drawn(tmp_path):
    train(weights=[1.0, 1e4, 1.0], steps=60).report().plot(tmp_path / "monitor.png")
    assert (tmp_path / "monitor.png").stat().st_size > 5000


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_printed_in_a_terminal_every_line_fits_and_no_name_and_no_number_is_cut(columns, monkeypatch):
    names = tuple(f"a_term_with_a_name_of_forty_characters_{i}" for i in range(4))
    seen = {name: sampled(value=1e-5 * 1.2345, norm=0.4322, weight=12.25) for name in names}
    verdict = Verdict("dead", names[:1], 3, "its gradient at the predictions is 0", "look for a threshold before it")
    report = MonitorReport(names, (Sample(3, seen, dict.fromkeys(names, 1.0)),), (verdict,))
    piped = str(report)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout", Terminal())
    shown = str(report)
    assert max(map(len, shown.splitlines())) <= columns
    assert set(shown.replace("─", "").split()) == set(piped.replace("─", "").split())
