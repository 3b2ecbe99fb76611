"""Run the code of plugins: whatever it raises stays an error of that plugin, and one that hangs is named."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lossreg.errors import PluginError
from lossreg.printable import clipped

_log = logging.getLogger("lossreg.registry")

SLOW = 5.0
"""Seconds after which a plugin that is still loading is named."""

_LONGEST = 2_000  # characters of a message


@contextmanager
def foreign(doing: str) -> Iterator[None]:
    """Run somebody else's code, in which only a `KeyboardInterrupt` passes as it is, with a note of what was done.

    Args:
        doing: what is done, for the note (`"importing plugin 'seg'"`).

    Raises:
        PluginError: the code raised what is no `Exception`: it called `sys.exit`, or panicked.
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
    """Log what is being done where it takes long."""
    timer = threading.Timer(SLOW, _log.warning, (f"lossreg is still {doing}",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def described(error: BaseException) -> str:
    """Return an exception's class and message."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({_text(lambda: repr(error.code))})"
    message = message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def message_of(error: BaseException) -> str:
    """Return an exception's message, cut where it is very long; a plugin's exception may fail to make one."""
    return _text(lambda: str(error))


def _text(make: Callable[[], str]) -> str:
    try:
        text = make()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"(no message: {type(error).__name__})"
    return clipped(text, _LONGEST)


def kept(error: BaseException) -> Exception:
    """Return what stands for a plugin's exception: itself, where it is an `Exception` with a usable message."""
    usable = _text(lambda: "yes" if len(str(error)) <= _LONGEST else "no") == "yes"
    if usable and isinstance(error, Exception):
        return error
    made = PluginError(described(error))
    made.__cause__ = error
    return made
