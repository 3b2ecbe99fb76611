"""Tables and paragraphs: fitted to a terminal; a line a row where there is none."""

from __future__ import annotations

import io

import pytest

from lossreg.cli.console import lines_for, say, show
from lossreg.tables import Column, Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_a_line_a_row_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(Table([Column("a"), Column("b", "prose")], [("x", " ".join(["word"] * 40))]))
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_paragraph_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 40 + "end", first="- ")
    assert capsys.readouterr().out == "- " + "word " * 40 + "end\n"


def test_a_table_and_a_paragraph_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    show(Table([Column("a"), Column("b", "prose")], [("x", " ".join(["word"] * 40))]))
    say("word " * 40, rest="  ")
    lines = terminal.getvalue().splitlines()
    assert 50 < max(map(len, lines)) <= 60
    assert lines[-1].startswith("  word")


def test_a_message_keeps_its_lines_and_their_indents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    message = "one two three four five six seven\n  a list of what is wrong with it\x1b"
    assert lines_for(Terminal(), message, "Error: ").split("\n") == [
        "one two three four five",  # "Error: " stands before it
        "  six seven",
        "  a list of what is wrong with",
        "    it\\x1b",
    ]
    assert lines_for(io.StringIO(), message, "Error: ") == message.replace("\x1b", "\\x1b")
