"""How commands print: tables for a terminal, one unwrapped line a row elsewhere, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lossreg.cli.output import echo, stream
from lossreg.files import replacing

_UNLIMITED = 10_000


def show(*renderables: RenderableType, width: int = _UNLIMITED) -> None:
    """Print to standard output; where that is no terminal, without colour, lines broken at `width` only."""
    console = Console(file=stream(), highlight=False)
    if not console.is_terminal:
        console = Console(file=stream(), highlight=False, width=width, no_color=True)
    for renderable in renderables:
        with console.capture() as capture:
            console.print(renderable)
        # a table pads its last column; a file or a pipe should not get that
        text = "\n".join(line.rstrip() for line in capture.get().splitlines())
        echo(text, color=console.is_terminal)


def show_json(data: Any) -> None:
    """Print data as JSON."""
    echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Lay out rows under bold headings; the text of a cell is taken as it is, never as markup.

    A column whose name begins with `>` is aligned to the right.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        heading = column.removeprefix(">")
        right = heading != column
        made.add_column(
            Text(heading),
            justify="right" if right else "left",
            no_wrap=right or i == 0,
            overflow="fold",
            header_style="bold",
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """Give a path to write to, which then replaces `file` as a whole; that it fails is an error of the command."""
    try:
        with replacing(file) as draft:
            yield draft
    except OSError as error:
        raise click.ClickException(f"{file}: cannot be written: {error.strerror or error}") from None
    echo(f"wrote {file}")
