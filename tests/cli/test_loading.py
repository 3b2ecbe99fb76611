"""A mistake is found at its line and column in the file, and shown with the line, marks below it, and a fix."""

from __future__ import annotations

import io

import click
import pytest

from lossreg.cli.loading import Mistake, as_data, load_config, load_multi_loss, mistakes, show_mistakes
from lossreg.config.reading import Source
from lossreg.errors import ConfigError, ConfigProblem


def source(text: str) -> Source:
    return Source.of(io.BytesIO(text.encode()), "a.yaml")


def test_problems_are_placed_sorted_and_those_of_one_path_told_once() -> None:
    problems = [
        ConfigProblem("losses[1].b", "second", "fix it", "range"),
        ConfigProblem("losses[1].b", "another"),
        ConfigProblem("losses[0]", "first"),
        ConfigProblem("", "of the whole"),
    ]
    found = mistakes(source("losses:\n  - a\n  - {b: 12}\n"), ConfigError(problems))
    assert [(m.message, m.line, m.column, m.text) for m in found] == [
        ("of the whole", None, None, ""),
        ("first", 2, 5, "  - a"),
        ("second", 3, 6, "  - {b: 12}"),
    ]
    assert as_data(found[2]) == {
        "path": "losses[1].b", "message": "second", "fix": "fix it", "kind": "range", "line": 3, "column": 6,
        "text": "  - {b: 12}",
    }  # fmt: skip


def test_of_a_long_line_the_part_around_is_shown() -> None:
    (found,) = mistakes(source(f"{{{'x' * 200}: 1, b: 2}}\n"), ConfigError([ConfigProblem("b", "wrong")]))
    assert found.column == 207
    assert found.skipped == 146
    assert found.text == "x" * 55 + ": 1, b: 2}"


def test_a_mistake_is_shown_with_its_line_marks_and_fix(capsys: pytest.CaptureFixture[str]) -> None:
    mistake = Mistake("a.b", "is wrong", "write c", "range", 3, 5, "  - \tb\x1b: 1", width=2)
    show_mistakes(source(""), [mistake])
    assert capsys.readouterr().out.splitlines() == [
        "a.yaml:3:5: a.b",
        "  error: is wrong",
        "  3 |   -  b?: 1",
        "    |     ^^",
        "  fix: write c",
        "",
        "1 error in a.yaml",
    ]


def test_the_first_fifty_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_mistakes(source(""), [Mistake("", f"m{i}", "") for i in range(52)])
    out = capsys.readouterr().out
    assert out.count("error: ") == 50
    assert out.endswith("52 errors in a.yaml; the first 50 are above\n")


@pytest.mark.parametrize(
    ("text", "line", "fix"),
    [
        ("a: [1, 2\nb: 3\n", 2, "close the bracket, or put a comma between the items"),
        ("a:\n  {b: 1\n  c: 2\n", 3, "close the bracket, or put a comma between the items"),
        ("a: b: c\n", 1, "begin a new line, or quote a text with `: ` in it"),
        ("\ta: 1\n", 1, "indent with spaces, and quote a text that begins with such a character"),
        ("a: 1\nb: @c\n", 2, "indent with spaces, and quote a text that begins with such a character"),
        ("a: 1\nb: 'c\n", 2, "close the quotes"),
        ("a: 1\nb\nc: 2\n", 3, "write `key: value`"),
        ("a: 1\nb: \x07\n", 2, "leave the character out, or write it as an escape inside double quotes"),
        ("a: 1\n---\nb: 2\n", 2, ""),
    ],
)
def test_what_is_no_yaml_has_its_place_and_a_fix(text: str, line: int, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        source(text).load()
    (found,) = mistakes(source(text), caught.value)
    assert found.kind == "syntax"
    assert found.fix == fix
    assert found.line == line


def test_a_file_that_is_refused_has_the_fix_of_the_refusal() -> None:
    with pytest.raises(ConfigError) as caught:
        source("a: 1\na: 2\n").load()
    (found,) = mistakes(source("a: 1\na: 2\n"), caught.value)
    assert (found.line, found.column) == (2, 1)
    assert "duplicate key" in found.message
    assert found.fix == "keep one of the two"


def test_a_file_is_loaded_built_or_ends_the_command_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    good = source("losses: [{loss: slope, weight: 2}]")
    assert [term.name for term in load_config(good, None).terms] == ["slope"]
    assert load_multi_loss(good, None).effective_weights() == {"slope": 2.0}
    with pytest.raises(click.exceptions.Exit) as caught:
        load_config(source("losses: [slpoe]"), None)
    assert caught.value.exit_code == 1
    assert capsys.readouterr().out.startswith("a.yaml:1:10: losses[0].loss\n")


def test_a_single_loss_has_no_terms_to_show() -> None:
    with pytest.raises(click.ClickException, match=r"describes a single loss \(local/SlopeLoss\)"):
        load_config(source("loss: {loss: slope}"), None)


@pytest.mark.parametrize(("text", "marked"), [("a: 1: 2\n", ":"), ("a: \x01\n", "\x01"), ("- a\n", "-")])
def test_a_byte_order_mark_moves_no_mark(text: str, marked: str) -> None:
    file = source("\ufeff" + text)
    with pytest.raises(ConfigError) as raised:
        file.load()
    (found,) = mistakes(file, raised.value)
    assert found.text == text.rstrip("\n")
    assert found.column is not None
    assert found.text[found.column - 1] == marked
