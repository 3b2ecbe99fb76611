"""Print tables and paragraphs: fitted to a terminal; one line per row elsewhere."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from lossreg.cli.output import Safe, echo, stream
from lossreg.printable import paragraph, takes_styles, width_of

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(renderable: RenderableType) -> None:
    """Print a table to standard output."""
    from lossreg.tables import rendered

    echo(Safe(rendered(renderable, stream(), styles=takes_styles(stream()))))


def say(text: str, first: str = "", rest: str = "") -> None:
    """Print a paragraph that fits the terminal; elsewhere a line.

    Args:
        text: the text.
        first, rest: the beginning of the first line, and of the others.
    """
    echo(Safe(paragraph(text, width_of(stream()), first, rest)))


def lines_for(stream: IO[str] | None, text: str, first: str = "") -> str:
    """Return the lines of a message, escaped, each wrapped between words if the stream is a terminal.

    Args:
        stream: where the message goes.
        text: the message.
        first: what is printed before the first line.
    """
    wrapped = []
    for line in f"{first}{text}".split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        wrapped.append(paragraph(line.lstrip(), width_of(stream), indent, indent + "  "))
    return "\n".join(wrapped).removeprefix(first)
