"""Text that may come from a stranger, made safe to show: the one place that says what a terminal may get."""

from __future__ import annotations

import os
from typing import IO, TypeGuard

MOST_SHOWN = 50
"""Most mistakes that one message lists; it counts the rest."""
LONGEST_LINE = 1_000
"""Most characters of one mistake in a message."""

MAX_NAME = 100
"""Most characters of a name."""
A_NAME = f"a name without '/', of at most {MAX_NAME} printable characters"


def is_name(value: object) -> TypeGuard[str]:
    """Say whether a value can be the name of a term or a group: printable text, not empty, not too long, without `/`.

    >>> is_name("seg"), is_name("a/b"), is_name("a\\nb")
    (True, False, False)
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and "/" not in value and value.isprintable()


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with every character that is not printable written as an escape, such as `\x1b` or `\u202e`.

    Not printable (`str.isprintable`) are control characters, line breaks, marks of direction, characters of no width
    and lone surrogates. A tab becomes a space.

    Args:
        text: the text.
        keep: characters to leave as they are, such as `"\n"` in a message of several lines.

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
    """Return a text of at most `most` characters, with a count of what was left out."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} more characters)"


def counted(count: int, noun: str) -> str:
    """Return `1 error`, `2 errors`, `9,000 errors`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def takes_styles(stream: IO[str] | None) -> bool:
    """Say whether colour and bold may be written to a stream.

    NO_COLOR (https://no-color.org) says never, then FORCE_COLOR always; else a terminal gets them, unless TERM is
    `dumb` or `unknown`.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
