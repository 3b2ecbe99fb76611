"""Tables that fit a terminal: numbers and names stay whole, prose stays readable, and columns give way by rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import IO, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from lossreg.printable import printable, width_of

UNLIMITED = 10_000
"""Width of the lines where there is no terminal."""
_GAP, _WIDE_GAP = 2, 3  # columns between two columns; one of them is of the box
_INDENT = 2  # of a row whose name stands on the line before
_READABLE = 32  # width of a column of prose, at least
_RULED = (box.SIMPLE_HEAD, box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: its heading, which may be wrapped between words.
        kind: a cell is a `name` or a `number`, which stays in one line, or `prose`, which is wrapped between words.
        rank: 0 for a column that always stays; of the others that of the highest rank gives way first.
    """

    heading: str
    kind: Literal["name", "number", "prose"] = "name"
    rank: int = 0


class Table:
    """A table for a `rich` console, of the width that the console has. The first column names the rows.

    In a console that is too narrow, in this order: prose is wrapped; ranked columns of text are left out; a long name
    stands on a line of its own above its row; ranked columns of numbers are left out; the others continue in a further
    block below.

    Args:
        columns: the columns.
        rows: a cell for each column; strings are escaped and are not markup.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
        self.columns = tuple(columns)
        self.rows = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
        self._headings = [Text(printable(column.heading), style="bold") for column in columns]
        self._natural = [self._longest(i) for i in range(len(columns))]
        self._least = [self._narrowest(i) for i in range(len(columns))]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width, ruled = options.max_width, _RULED[options.ascii_only]
        if sum(self._natural) + _WIDE_GAP * (len(self.columns) - 1) <= width:
            yield from self._drawn(list(range(1, len(self.columns))), self._natural, ruled, _WIDE_GAP)
            return
        for i, block in enumerate(self._blocks(width)):
            if i:
                yield ""
            yield from self._drawn(block, self._widths(block, width), ruled, _GAP)

    def _cells(self, i: int) -> Iterator[Text]:
        return (row[i] for row in self.rows)

    def _longest(self, i: int) -> int:
        """Return the width at which no cell of a column is wrapped."""
        return max(text.cell_len for text in (self._headings[i], *self._cells(i)))

    def _narrowest(self, i: int) -> int:
        """Return the width that a column needs at least; for names the width of their heading."""
        heading = _longest_word(self._headings[i])
        if i == 0:
            return max(heading, _INDENT)
        if self.columns[i].kind == "prose":
            longest = max(map(_longest_word, self._cells(i)), default=0)
            natural = self._natural[i]
            return max(heading, longest, _READABLE if natural > _READABLE else min(natural, _READABLE // 2))
        return max([heading, *(text.cell_len for text in self._cells(i))])

    def _needed(self, columns: Iterable[int]) -> int:
        return sum(self._least[i] + _GAP for i in columns)

    def _blocks(self, width: int) -> list[list[int]]:
        """Return the columns beside the names that are shown, in blocks that fit."""
        shown = list(range(1, len(self.columns)))
        natural, least = self._natural[0], self._least[0]
        names = max(min(natural, width // 3), least)
        for i in sorted(shown, key=lambda i: -self.columns[i].rank):
            room = least if self.columns[i].kind == "number" else names
            if self.columns[i].rank and room + self._needed(shown) > width:
                shown.remove(i)
        if least + self._needed(shown) <= width:
            return [shown]
        names = max(min(natural, width // 2), least)
        blocks: list[list[int]] = [[]]
        for i in shown:
            if blocks[-1] and names + self._needed([*blocks[-1], i]) > width:
                blocks.append([])
            blocks[-1].append(i)
        return blocks

    def _widths(self, block: list[int], width: int) -> list[int]:
        """Return the widths of the names and of the columns of a block."""
        room = width - self._needed(block)
        names = max([self._least[0], *(n for text in self._cells(0) if (n := text.cell_len) <= room)])
        spare = room - names
        widths = {i: self._least[i] for i in block}
        missing = {i: self._natural[i] - widths[i] for i in block if self.columns[i].kind != "prose"}
        if sum(missing.values()) <= spare:  # all headings in one line, or none that can be wrapped
            widths |= {i: self._natural[i] for i in missing}
            spare -= sum(missing.values())
        for i in block:
            if self.columns[i].kind == "prose":
                more = max(0, min(self._natural[i] - widths[i], spare))
                widths[i] += more
                spare -= more
        return [names, *widths.values()]

    def _drawn(self, block: list[int], widths: list[int], ruled: box.Box, gap: int) -> Iterator[RenderableType]:
        """Yield the headings, and the rows with each long name on a line before its row."""
        draw = partial(self._grid, block, widths, ruled, gap)
        yield draw([], headings=True)
        for is_long, rows in groupby(self.rows, key=lambda row: row[0].cell_len > widths[0]):
            if not is_long:
                yield draw(rows)
                continue
            for row in rows:
                yield row[0]
                if any(row[i].plain for i in block):
                    yield draw([[Text(), *row[1:]]])

    def _grid(
        self,
        block: list[int],
        widths: list[int],
        ruled: box.Box,
        gap: int,
        rows: Iterable[Sequence[Text]],
        headings: bool = False,
    ) -> Grid:
        grid = Grid(box=ruled, pad_edge=False, show_edge=False, show_header=headings, padding=(0, gap - 1, 0, 0))
        for i, width in zip([0, *block], widths, strict=True):
            column = self.columns[i]
            grid.add_column(
                self._headings[i],
                width=width,
                justify="right" if column.kind == "number" else "left",
                overflow="fold",
                vertical="bottom" if headings else "top",
            )
        for row in rows:
            grid.add_row(*(row[i] for i in [0, *block]))
        return grid


def _longest_word(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=0)


def rendered(renderable: RenderableType, stream: IO[str] | None, *, styles: bool = False) -> str:
    """Return what a stream is to show: fitted to its terminal; if it has none, tables of one line per row."""
    console = Console(
        file=stream,
        highlight=False,
        markup=False,
        force_terminal=styles,
        color_system="standard" if styles else None,
        width=width_of(stream) or UNLIMITED,
        height=100,  # without a height, `rich` ignores the width of a dumb terminal
    )
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())  # without the padding of the last column
