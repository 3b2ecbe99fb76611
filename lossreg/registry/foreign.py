"""Run code of plugins, contain its errors, and report plugins that are slow to load."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lossreg.errors import PluginError
from lossreg.printable import clipped

_log = logging.getLogger("lossreg.registry")

SLOW = 5.0
"""Seconds after which a plugin that is still loading is reported."""

_LONGEST = 2_000  # maximum number of characters of a message


@contextmanager
def foreign(doing: str) -> Iterator[None]:
    """Run code of a plugin and convert its `BaseException`s to `PluginError`.

    An `Exception` is not changed. A `KeyboardInterrupt` gets a note.

    Args:
        doing: what the code does, for the note (`"importing plugin 'seg'"`).

    Raises:
        PluginError: the code raised a `BaseException` that is not an `Exception`, for example by `sys.exit`.
    """
    try:
        yield
    except Exception:
        raise
    except KeyboardInterrupt as error:
        error.add_note(f"stopped while {doing}")
        raise
    except BaseException as error:
        raise PluginError(f"while {doing}: {described(error)}") from error


@contextmanager
def watched(doing: str) -> Iterator[None]:
    """Log a warning if the code runs for more than `SLOW` seconds."""
    timer = threading.Timer(SLOW, _log.warning, (f"lossreg is still {doing}",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def described(error: BaseException) -> str:
    """Return the class and the message of an exception."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({_text(lambda: repr(error.code))})"
    message = message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def message_of(error: BaseException) -> str:
    """Return the message of an exception, at most 2,000 characters; also if its `__str__` raises."""
    return _text(lambda: str(error))


def _text(make: Callable[[], str]) -> str:
    try:
        text = make()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"(no message: {type(error).__name__})"
    return clipped(text, _LONGEST)


def as_exception(error: BaseException) -> Exception:
    """Return the exception if it is an `Exception` with a usable message, else a `PluginError` that describes it."""
    usable = _text(lambda: "yes" if len(str(error)) <= _LONGEST else "no") == "yes"
    if usable and isinstance(error, Exception):
        return error
    replacement = PluginError(described(error))
    replacement.__cause__ = error
    return replacement
