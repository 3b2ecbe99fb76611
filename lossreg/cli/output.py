"""Standard output, which a command has for itself: what other code prints goes to standard error."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, TextIO, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

_STDERR = 2  # its file descriptor
_own: TextIO | None = None


def stream() -> TextIO:
    """Return the stream that a command prints to."""
    return _own or sys.stdout


def echo(message: Any = None, *, nl: bool = True, color: bool | None = None) -> None:
    """Print as `click.echo` does, to the command's own standard output."""
    click.echo(message, file=stream(), nl=nl, color=color)


def owning(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that has standard output for itself, so that a plugin that prints spoils no table or JSON."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _owned():
            return function(*args, **kwargs)

    return call


@contextmanager
def _owned() -> Iterator[None]:
    """Keep standard output for `echo`: prints, writes to its descriptor and child processes reach standard error."""
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
    """Yield a copy of a stream, while the stream's own file descriptor leads to standard error."""
    try:
        descriptor = visible.fileno()
        visible.flush()
        kept = os.dup(descriptor)
        os.dup2(_STDERR, descriptor)
    except OSError:  # no file behind it, as in a test, or no standard error
        yield visible
        return
    copy = open(kept, "w", encoding=visible.encoding, errors=visible.errors, closefd=False)  # noqa: SIM115
    try:
        yield copy
    finally:
        visible.flush()  # what somebody printed to a reference of it
        os.dup2(kept, descriptor)
        atexit.register(_to_stderr, descriptor)  # before the exit functions of plugins, which were registered first
        try:
            copy.close()
        finally:
            os.close(kept)


def _to_stderr(descriptor: int) -> None:
    with suppress(OSError):
        os.dup2(_STDERR, descriptor)
