"""Print tables: fitted to a terminal; one line per row elsewhere."""

from __future__ import annotations

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
