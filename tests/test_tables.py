"""Tables fit any width: numbers and names stay whole, prose stays readable, and columns give way by rank."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from lossreg.tables import Column, Table, rendered

COLUMNS = (
    Column("Name"),
    Column("Alias", rank=1),
    Column("Value", "number"),
    Column("Gradient norm", "number", rank=1),
    Column("Summary", "prose"),
    Column("Distribution", rank=2),
)
ROWS = [
    ("seg", "s", "0.4322", "12.5", "cross-entropy and Dice of the interior and edges", "lossreg-seg 0.1.0"),
    ("seg_interior_crossfield", "sic", "1e-05", "-0.25", "slopes along the frame field", "lossreg-crossfield 0.1.0"),
]  # fmt: skip


def shown(width: int, columns: tuple[Column, ...] = COLUMNS, rows: list[tuple[str, ...]] = ROWS) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(Table(columns, rows))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def headings(width: int) -> list[str]:
    """Return the columns that a table of a width has, whose headings may be wrapped."""
    text = " ".join(shown(width)).split("seg")[0]
    return [column.heading for column in COLUMNS if column.heading.split()[0] in text]


def test_with_room_each_row_is_a_line() -> None:
    head, rule, *rows = shown(200)
    assert head.split() == ["Name", "Alias", "Value", "Gradient", "norm", "Summary", "Distribution"]
    assert set(rule) == {"─"}
    assert [row.split()[:4] for row in rows] == [list(row[:4]) for row in ROWS]
    ends = [row.index(number) + len(number) for row, number in zip(rows, ("0.4322", "1e-05"), strict=True)]
    assert ends == [head.index("Value") + len("Value")] * 2


def test_columns_give_way_by_rank_text_before_names_and_numbers_at_the_end() -> None:
    every = ["Name", "Alias", "Value", "Gradient norm", "Summary", "Distribution"]
    assert headings(200) == every
    assert headings(100) == every[:-1]
    assert headings(80) == ["Name", "Value", "Gradient norm", "Summary"]
    assert headings(56) == ["Name", "Value", "Gradient norm", "Summary"]
    assert headings(50) == ["Name", "Value", "Summary"]


def test_prose_is_wrapped_between_words_before_anything_gives_way() -> None:
    lines = shown(118)
    assert len(lines) == 5
    assert "Distribution" in lines[0]
    start = lines[0].index("Summary")
    assert lines[3][:start].strip() == ""


def test_a_long_name_has_a_line_of_its_own_and_a_short_one_has_not() -> None:
    lines = shown(60)
    assert "seg_interior_crossfield" in lines
    row = lines[lines.index("seg_interior_crossfield") + 1]
    assert row.split()[0] == "1e-05"
    assert next(line for line in lines if line.startswith("seg ")).split()[1] == "0.4322"


def test_a_long_name_without_anything_beside_it_has_no_empty_line() -> None:
    lines = shown(20, (Column("Name"), Column("Note")), [("a_name_of_18_chars", ""), ("b", "none")])
    assert lines[2:] == ["a_name_of_18_chars", "b     none"]


def test_columns_that_must_stay_continue_in_blocks_below() -> None:
    columns = (Column("Cosine"), *(Column(str(i), "number") for i in range(1, 13)))
    rows = [(f"{i} term", *(f"0.{i:02}{j:02}" for j in range(12))) for i in range(3)]
    lines = shown(40, columns, rows)
    assert max(map(len, lines)) <= 40
    assert [line.split()[1:] for line in lines if line.startswith("Cosine")] == [
        ["1", "2", "3", "4"], ["5", "6", "7", "8"], ["9", "10", "11", "12"]
    ]  # fmt: skip
    assert all(cell in " ".join(lines).split() for row in rows for cell in row[1:])


def test_headings_are_wrapped_all_or_none() -> None:
    columns = (Column("Term"), *(Column(f"epoch {i}", "number") for i in (0, 4, 8)))
    rows = [("a_term_of_thirty_characters_ok", "1", "2", "3")]
    assert shown(57, columns, rows)[0].split() == ["Term", "epoch", "0", "epoch", "4", "epoch", "8"]
    assert shown(56, columns, rows)[0].split() == ["epoch", "epoch", "epoch"]


def test_cells_are_escaped_and_are_no_markup_and_a_text_keeps_its_style() -> None:
    table = Table((Column("[bold]h\x1b"),), [("[red]a[/red]\x1b[2J\u202e",), (Text("warm", style="red"),)])
    assert rendered(table, io.StringIO()).splitlines()[::2] == [r"[bold]h\x1b", r"[red]a[/red]\x1b[2J\u202e"]
    assert "\x1b[31mwarm" in rendered(table, io.StringIO(), styles=True)


@pytest.mark.parametrize(("encoding", "rule"), [("utf-8", "─"), ("ascii", "-"), ("latin-1", "-")])
def test_the_rule_is_one_that_the_stream_can_encode(encoding: str, rule: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    text = rendered(Table((Column("aa"), Column("bb")), [("x", "y")]), stream)
    assert text.splitlines()[1] == rule * 7
    text.encode(encoding)


NAMES = st.text("abcdefgh_/", min_size=1, max_size=40)
NUMBERS = st.floats(allow_nan=False).map(lambda number: f"{number:.4g}")
PROSE = st.lists(st.text("abcdefgh", min_size=1, max_size=12), max_size=20).map(" ".join)


@given(
    st.integers(60, 130),
    st.lists(st.tuples(NAMES, NAMES, PROSE, st.lists(NUMBERS, min_size=5, max_size=5)), min_size=1, max_size=5),
    st.integers(0, 5),
)
def test_at_any_width_no_line_is_longer_no_name_and_no_number_is_cut_and_prose_is_readable(width, rows, count):
    epochs = (Column(f"epoch {i}", "number") for i in range(count))
    columns = (Column("Term"), Column("Loss"), *epochs, Column("Notes", "prose"))
    cells = [(name, loss, *numbers[:count], prose) for name, loss, prose, numbers in rows]
    lines = shown(width, columns, cells)
    assert max(map(len, lines)) <= width
    words = list(itertools.chain.from_iterable(line.split() for line in lines))
    for name, loss, *numbers, prose in cells:
        assert all(cell in words for cell in (name, loss, *numbers, *prose.split()))
    start = next(line.index("Notes") for line in lines if "Notes" in line)
    longest = max(len(prose) for *_, prose in cells)
    assert width - start >= min(longest, 16) or longest == 0
