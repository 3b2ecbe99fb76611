"""Print tables: fitted to a terminal; one line per row elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lossreg.cli.output import Safe, echo, stream
from lossreg.printable import printable, takes_styles

_UNLIMITED = 10_000


def show(*renderables: RenderableType, width: int = _UNLIMITED) -> None:
    """Print to standard output; if it is not a terminal, lines are wrapped at `width`."""
    shown_on = stream()
    styles = takes_styles(shown_on)
    console = Console(
        file=shown_on,
        highlight=False,
        force_terminal=styles,
        color_system="standard" if styles else None,
        width=None if shown_on is not None and shown_on.isatty() else width,
    )
    for renderable in renderables:
        with console.capture() as capture:
            console.print(renderable)
        # remove the padding of the last column
        echo(Safe("\n".join(line.rstrip() for line in capture.get().splitlines())))


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output goes to; None if it goes elsewhere."""
    shown_on = stream()
    return Console(file=shown_on).width if shown_on is not None and shown_on.isatty() else None


def paragraph(text: str, width: int, first: str = "", rest: str = "") -> str:
    """Return a text in lines of at most `width` characters; words, such as names and addresses, are not broken.

    Args:
        text: the text, escaped in the result.
        width: the maximum, indents included.
        first, rest: the beginning of the first line, and of the others.
    """
    return textwrap.fill(
        printable(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table with bold headings; the text of cells is escaped and is not markup.

    A column whose name begins with `>` is right-aligned.
    """
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        heading = column.removeprefix(">")
        right = heading != column
        result.add_column(
            Text(printable(heading)),
            justify="right" if right else "left",
            no_wrap=right or i == 0,
            overflow="fold",
            header_style="bold",
        )
    for row in rows:
        result.add_row(*(Text(printable(cell)) for cell in row))
    return result
