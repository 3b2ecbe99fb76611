"""Untrusted text is escaped for terminals."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossreg import ConfigError, LossregError
from lossreg.errors import ConfigProblem, MissingKeyError
from lossreg.printable import clipped, counted, paragraph, printable, takes_styles, width_of

UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats (direction, zero width), surrogates, line separators


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert not any(unicodedata.category(char) in UNSAFE for char in printable(text))


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_letters_digits_and_signs_stay(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;t\x07", r"\x1b]0;t\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202eb\u2066\u200f", r"a\u202eb\u2066\u200f"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("a\nb\r\u2028", r"a\nb\r\u2028"),
        ("\ud800", r"\ud800"),
        ("a\tb", "a b"),
        ("größe 面積 ✓", "größe 面積 ✓"),
    ],
)
def test_an_escape_says_what_was_there(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_breaks_stay_where_they_are_asked_for() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a\x1b[2J"),
        ConfigError([ConfigProblem("losses.\x1b[2J", "m\u202e", "h\x07")]),
        LossregError("a\x1b[2J"),
        MissingKeyError("a\x1b[2J"),
    ],
)
def test_an_error_of_lossreg_shows_none(error: LossregError) -> None:
    assert str(error).isprintable()


def test_a_path_is_one_line() -> None:
    assert str(ConfigProblem("losses.a\nb", "is wrong")) == r"losses.a\nb: is wrong"


def test_a_message_lists_fifty_mistakes_and_counts_the_rest() -> None:
    problems = [ConfigProblem(f"losses[{i}]", "is wrong") for i in range(1_234)]
    error = ConfigError(problems)
    lines = str(error).splitlines()
    assert lines[0] == "1,234 errors in the config:"
    assert lines[1] == "  - losses[0]: is wrong"
    assert lines[50:] == ["  - losses[49]: is wrong", "  and 1,184 more"]
    assert list(error.problems) == problems


def test_one_mistake_is_cut_at_a_thousand_characters() -> None:
    error = ConfigError([ConfigProblem("a", "x" * 200_000)])
    assert len(str(error)) < 1_100
    assert str(error).endswith("... (199,003 more characters)")
    assert len(error.problems[0].message) == 200_000


def test_what_is_short_is_not_cut() -> None:
    assert clipped("abc", 3) == "abc"


def test_counts() -> None:
    assert [counted(n, "error") for n in (0, 1, 9_000)] == ["0 errors", "1 error", "9,000 errors"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "terminal", "pipe"),
    [
        ({"TERM": "xterm"}, True, False),
        ({}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "unknown"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_who_takes_styles(
    environment: dict[str, str], terminal: bool, pipe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (takes_styles(Terminal()), takes_styles(io.StringIO()), takes_styles(None)) == (terminal, pipe, pipe)


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("", 80), ("wide", 80), ("0", 80), ("-5", 80)])
def test_the_width_of_a_terminal_is_that_in_columns_where_it_is_a_number(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert width_of(Terminal()) == width  # it has no file, whose width could be asked
    assert width_of(io.StringIO()) is None
    assert width_of(None) is None


def test_the_width_of_a_terminal_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 93, 0, 0))
    with os.fdopen(ours), os.fdopen(theirs, "w") as terminal:
        assert width_of(terminal) == 93


def test_a_paragraph_breaks_no_word_and_is_a_line_without_a_width() -> None:
    text = "see https://a-page.example/with-hyphens for the rest\x1b"
    assert paragraph(text, 20, "- ", "  ").split("\n") == [
        "- see", "  https://a-page.example/with-hyphens", "  for the rest\\x1b"
    ]  # fmt: skip
    assert paragraph(text, None, "- ", "  ") == "- see https://a-page.example/with-hyphens for the rest\\x1b"
