"""Tables: a line a row where there is no terminal, with text that is no markup and obeys nobody."""

from __future__ import annotations

import pytest

from lossreg.cli.console import show, table


def test_columns_stand_under_bold_headings_and_numbers_at_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(("name", ">weight"), [("a", "1"), ("longer", "10.5")]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "weight"],
        ["─" * len(lines[1])],
        ["a", "1"],
        ["longer", "10.5"],
    ]
    assert len({len(line) for line in (lines[0], *lines[2:])}) == 1  # the right column ends in one place


def test_a_cell_is_no_markup_and_obeys_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(("[bold]h\x1b",), [("[red]a[/red]\x1b[2J\u202e",)]))
    heading, _, cell = capsys.readouterr().out.splitlines()
    assert heading == r"[bold]h\x1b"
    assert cell == r"[red]a[/red]\x1b[2J\u202e"


def test_a_long_line_stays_one_unless_a_width_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    long = " ".join(["word"] * 40)
    show(table(("a", "b"), [("x", long)]))
    assert len(capsys.readouterr().out.splitlines()) == 3
    show(table(("a", "b"), [("x", long)]), width=60)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 60
