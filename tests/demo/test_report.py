"""The output of a run: a table an epoch, lines that nothing wraps, and nothing at all where it is quiet."""

from __future__ import annotations

import io
import re
from typing import Any

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
    lines = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
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


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def opened(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Terminal:
    """Return a terminal that reports print to."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    for name, value in {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}.items():
        monkeypatch.setenv(name, value)
    return terminal


def drawn(terminal: Terminal) -> list[str]:
    """Return what was drawn, line by line, without what moves the cursor."""
    return [line.rstrip() for line in re.split(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]", terminal.getvalue()) if line.strip()]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_in_a_terminal_every_line_fits_and_no_name_and_no_number_is_cut(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = opened(monkeypatch, columns)
    long = "a_term_with_a_name_of_forty_characters_"
    row = {"epoch": 0.0, "total": 4.0, "iou": 0.25}
    for i in range(3):
        row |= {f"value/{long}{i}": 0.43219 + i, f"norm/{long}{i}": 1.2345e-05, f"weight/{long}{i}": 0.005}
    with Report(epochs=1000, steps=99_999) as report:
        report.say("256 generated scenes to train on, 32 held out, 64 steps per epoch; continuing at epoch 3")
        report.step(4.0)
        report.epoch(row)
    lines = drawn(terminal)
    assert max(map(len, lines)) <= columns
    words = " ".join(lines).split()
    assert {f"{long}{i}" for i in range(3)} <= set(words)
    assert {f"{0.43219 + i:.4g}" for i in range(3)} | {"1.234e-05", "0.005", "10.1%"} <= set(words)


def test_it_is_calibrating_until_the_first_step_and_there_is_no_loss_before(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with Report(epochs=2, steps=3) as report:
        report.say("begins")
        assert drawn(terminal)[-1].startswith("calibrating")
        report.step(1.25)
        report.say("goes on")
    lines = drawn(terminal)
    assert any(re.match(r"epoch 0 .*1/6 loss 1\.250", line) for line in lines)
    assert not any("nan" in line for line in lines)


@pytest.mark.parametrize(("options", "begins"), [({"done": 1}, "epoch 1"), ({"calibrates": False}, "epoch 0")])
def test_a_run_that_does_not_calibrate_begins_with_its_epoch(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], begins: str
) -> None:
    terminal = opened(monkeypatch)
    with Report(epochs=2, steps=3, **options) as report:
        report.say("begins")
    assert drawn(terminal)[0].startswith(begins)
