"""Output of commands: untrusted text is escaped, and a failed write is a one-line error.

Only the command writes to standard output; output of other code goes to standard error.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import IO, Any, NoReturn, ParamSpec, TextIO, TypeVar

import click

from lossreg.atomic import replacing
from lossreg.printable import printable, takes_styles

P = ParamSpec("P")
R = TypeVar("R")

_STDERR = 2  # its file descriptor
_own: TextIO | None = None


class Safe(str):
    """A text that was already escaped and is safe for a terminal."""

    __slots__ = ()


def styled(text: str, **style: Any) -> Safe:
    """Return a text in a style of `click.style`; `echo` removes the style if the stream does not support it."""
    return Safe(click.style(text if isinstance(text, Safe) else printable(text), **style))


def echo(*parts: object, err: bool = False, end: str = "\n") -> None:
    """Print parts as one text, escaped except for line breaks, and without styles if the stream has none.

    If the reader of a pipe closed it, the rest is discarded, and the exit code does not change.

    Raises:
        ClickException: the text cannot be written, for example to a full disk.
    """
    text = "".join(part if isinstance(part, Safe) else printable(str(part), keep="\n") for part in parts)
    goes_to = sys.stderr if err else stream()
    try:
        click.echo(text + end, nl=False, file=goes_to, color=takes_styles(goes_to))
    except OSError as error:
        drop(goes_to)
        if not err and not isinstance(error, BrokenPipeError):
            raise click.ClickException(f"the output cannot be written: {error.strerror or error}") from None


def drop(stream: IO[str]) -> None:
    """Redirect a stream that cannot be written, with its buffer, to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def show_json(data: Any) -> None:
    """Print data as JSON."""
    echo(json_text(data))


def json_text(data: Any, *, compact: bool = False) -> Safe:
    """Return data as valid JSON without NaN and without unprintable characters; in one line if it is compact."""
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 2}
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, **layout)
    lines = [
        line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        for line in text.split("\n")
    ]
    return Safe("\n".join(lines))


def _plain(data: Any) -> Any:
    """Return data with values that JSON cannot express converted to strings."""
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float):
        return data if math.isfinite(data) else str(data)
    return data if data is None or isinstance(data, bool | int | str) else str(data)


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """Yield a temporary file that atomically replaces `file`; a failure is an error of the command."""
    try:
        with replacing(file) as draft:
            yield draft
    except OSError as error:
        raise click.ClickException(f"{file}: cannot be written: {error.strerror or error}") from None
    echo(f"wrote {printable(str(file))}")


def refuse_suffix(output: Path, suffixes: Sequence[str]) -> NoReturn:
    """Raise a `UsageError`: the suffix of a file is none of those that say what to write."""
    raise click.UsageError(f"{output}: cannot tell what to write; write a {', '.join(suffixes[:-1])} or {suffixes[-1]}")


# --- exclusive standard output ----------------------------------------------------------------------


def stream() -> TextIO:
    """Return the stream of a command's output."""
    return _own or sys.stdout


def owning(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function during which only `echo` writes to standard output, so that plugins cannot corrupt JSON."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _owned():
            return function(*args, **kwargs)

    return call


@contextmanager
def _owned() -> Iterator[None]:
    """Reserve standard output for `echo`; prints, writes to its descriptor and child processes go to standard error."""
    global _own
    visible = sys.stdout
    if _own is not None or visible is None:
        yield
        return
    sys.stdout = sys.stderr
    try:
        with _descriptor_of(visible) as _own:
            yield
    finally:
        _own, sys.stdout = None, visible


@contextmanager
def _descriptor_of(visible: TextIO) -> Iterator[TextIO]:
    """Yield a copy of a stream while its file descriptor is redirected to standard error."""
    try:
        descriptor = visible.fileno()
        visible.flush()
        kept = os.dup(descriptor)
        os.dup2(_STDERR, descriptor)
    except OSError:  # the stream has no file, as in a test, or there is no standard error
        yield visible
        return
    copy = open(kept, "w", encoding=visible.encoding, errors=visible.errors, closefd=False)  # noqa: SIM115
    try:
        yield copy
    finally:
        visible.flush()  # output that was printed to a reference of the stream
        os.dup2(kept, descriptor)
        # runs before the exit functions of plugins, which were registered earlier
        atexit.register(_to_stderr, descriptor)
        try:
            copy.close()
        finally:
            os.close(kept)


def _to_stderr(descriptor: int) -> None:
    with suppress(OSError):
        os.dup2(_STDERR, descriptor)
