"""The records of what was run: made from reports, shown as a table, and complete for what pyproject.toml claims."""

from __future__ import annotations

import json
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parent
record_runs = runpy.run_path(str(DOCS / "record_runs.py"))
tested_versions = runpy.run_path(str(DOCS / "generate" / "tested_versions.py"))

SUITE = """<testsuites><testsuite name="pytest" errors="{errors}" failures="1" skipped="2" tests="{tests}" time="1.5"
timestamp="2026-11-{day}T10:00:00+00:00">{more}</testsuite></testsuites>"""


TOLD = """<properties><property name="versions" value='{"torch": "9.9", "pip": "25.1"}'/></properties>"""


@pytest.fixture
def tox(tmp_path):
    """A folder as tox leaves it: two environments with a Python, of which one has two reports."""
    folder = tmp_path / ".tox"
    for name in ("core", "core-more"):
        (folder / name / "bin").mkdir(parents=True)
        python = folder / name / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    (folder / "reports").mkdir()
    for name, tests, errors, day in (
        ("core", 10, 0, 28),
        ("core-alone", 5, 1, 30),
        ("core-more", 7, 0, 29),
        ("gone", 9, 0, 29),
    ):
        more = TOLD if name == "core-more" else ""
        text = SUITE.format(tests=tests, errors=errors, day=day, more=more)
        (folder / "reports" / f"{name}.xml").write_text(text, encoding="utf-8")
    return folder


def test_a_record_adds_up_the_reports_of_an_environment(tox, tmp_path):
    records = tmp_path / "records.json"
    records.write_text(json.dumps({"core": {"date": "2020-01-01"}, "other": {"date": "2025-01-01"}}), encoding="utf-8")
    record_runs["main"](tox, [], records)
    found = json.loads(records.read_text(encoding="utf-8"))
    assert list(found) == ["core", "core-more", "other"]
    core = found["core"]
    assert (core["date"], core["passed"], core["failed"], core["skipped"]) == ("2026-11-30", 8, 3, 4)
    assert core["python"] == ".".join(map(str, sys.version_info[:3]))
    assert core["versions"]["torch"] == torch.__version__
    assert found["core-more"]["passed"] == 4
    assert found["core-more"]["versions"] == core["versions"] | {"torch": "9.9"}
    assert found["other"] == {"date": "2025-01-01"}


def test_an_environment_without_reports_is_named(tox, tmp_path):
    with pytest.raises(SystemExit, match=r"no reports of lowest in .*; run `tox run -e lowest`"):
        record_runs["main"](tox, ["lowest"], tmp_path / "records.json")
    assert not (tmp_path / "records.json").exists()


def test_the_table_has_a_row_for_each_record():
    record = {"python": "3.11.7", "versions": {"torch": "2.6.0", "numpy": "2.1"}, "date": "2026-11-30"}
    table = tested_versions["table"]({"b": record | {"passed": 5, "failed": 0, "skipped": 1}})
    assert (
        table.splitlines()[2]
        == "| `b` | 3.11.7 | torch 2.6.0, numpy 2.1 | 2026-11-30 | 5 passed, 0 failed, 1 skipped |"
    )


RECORDS = json.loads((DOCS / "tested_versions.json").read_text(encoding="utf-8"))


def test_every_python_of_the_classifiers_was_run():
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = {match[1] for line in project["classifiers"] if (match := re.search(r":: (3\.\d+)$", line))}
    assert claimed <= {record["python"].rpartition(".")[0] for record in RECORDS.values()}


def test_no_recorded_run_failed():
    assert {name: record["failed"] for name, record in RECORDS.items() if record["failed"]} == {}
