"""The output of a run: a table an epoch, lines that nothing wraps, and nothing at all where it is quiet."""

from __future__ import annotations

import pytest

from lossreg.demo.report import Report

pytestmark = pytest.mark.needs_plugins  # the extra `demo`, without which nothing here is collected

ROW = {
    "epoch": 0.0, "total": 4.0, "iou": 0.25,
    "value/a": 6.0, "norm/a": 2.0, "weight/a": 1.0,
    "value/b[x]": 1.0, "norm/b[x]": 1.0, "weight/b[x]": 1.0,
}  # fmt: skip


def test_the_table_of_an_epoch_has_ratios_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(epochs=3, steps=2) as report:
        report.step(4.0)
        report.epoch(ROW)
    assert report.finished == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["epoch", "0", "(1", "of", "3):", "total", "4.0000,", "held-out", "IoU", "0.2500"]
    assert ["a", "6", "2", "3", "1", "75.0%"] in lines
    assert ["b[x]", "1", "1", "1", "1", "25.0%"] in lines


def test_where_the_total_is_0_there_are_no_shares(capsys: pytest.CaptureFixture[str]) -> None:
    Report(epochs=1, steps=1).epoch({**ROW, "weight/a": 0.0, "weight/b[x]": 0.0})
    assert "%" not in capsys.readouterr().out


def test_a_line_is_not_wrapped_and_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(epochs=1, steps=1)
    report.say("x" * 300 + "\x1b[2J[bold]")
    report.show("a table")
    assert capsys.readouterr().out == "x" * 300 + r"\x1b[2J[bold]" + "\na table\n"


def test_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(epochs=1, steps=1, quiet=True) as report:
        report.say("a")
        report.step(1.0)
        report.epoch(ROW)
    assert capsys.readouterr() == ("", "")
