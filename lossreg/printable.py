"""Make untrusted text safe to print in a terminal."""

from __future__ import annotations

import os
import textwrap
from typing import IO, TypeGuard

MOST_SHOWN = 50
"""Maximum number of mistakes that one message lists; it counts the others."""
LONGEST_LINE = 1_000
"""Maximum number of characters of one mistake in a message."""

MAX_NAME = 100
"""Maximum number of characters of a name."""
A_NAME = f"a name without '/', of at most {MAX_NAME} printable characters"


def is_name(value: object) -> TypeGuard[str]:
    """Return whether a value is a valid name of a term or a group: short, printable, not empty, without `/`.

    >>> is_name("seg"), is_name("a/b"), is_name("a\\nb")
    (True, False, False)
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and "/" not in value and value.isprintable()


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with unprintable characters escaped, for example as `\x1b` or `\u202e`.

    Unprintable (`str.isprintable`) are control characters, line breaks, direction marks, zero-width characters and
    lone surrogates. A tab becomes a space.

    Args:
        text: the text.
        keep: characters that are not escaped, such as `"\n"` in a message of several lines.

    >>> printable("a\x1b[2Jb\u202ec")
    'a\\x1b[2Jb\\u202ec'
    """
    if text.isprintable():
        return text
    return "".join(_escaped(char, keep) for char in text)


def _escaped(char: str, keep: str) -> str:
    if char.isprintable() or char in keep:
        return char
    return " " if char == "\t" else repr(char)[1:-1]


def clipped(text: str, most: int = LONGEST_LINE) -> str:
    """Return the first `most` characters of a text and the number of the others."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} more characters)"


def counted(count: int, noun: str) -> str:
    """Return `1 error`, `2 errors`, `9,000 errors`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def takes_styles(stream: IO[str] | None) -> bool:
    """Return whether a stream supports colour and bold.

    NO_COLOR (https://no-color.org) turns them off, and FORCE_COLOR turns them on. Otherwise a terminal supports them,
    unless TERM is `dumb` or `unknown`.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def width_of(stream: IO[str] | None) -> int | None:
    """Return the width of the terminal that a stream goes to, or that in COLUMNS; None if it goes elsewhere."""
    if stream is None or not stream.isatty():
        return None
    try:
        columns = int(os.environ.get("COLUMNS", 0))
    except ValueError:
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except OSError:  # a stream without a file
            columns = 0
    return columns or 80


def paragraph(text: str, width: int | None, first: str = "", rest: str = "") -> str:
    """Return a text in lines of at most `width` characters; words, such as names and addresses, are not broken.

    Args:
        text: the text, escaped in the result.
        width: the maximum, indents included; None for one line.
        first, rest: the beginning of the first line, and of the others.
    """
    if width is None:
        return first + printable(text)
    return textwrap.fill(
        printable(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
