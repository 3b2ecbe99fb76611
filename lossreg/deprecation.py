"""Mark what a later version removes: callers get a warning now, and a test fails when the removal is due.

`since` and `removal` are versions of lossreg, written as literals, because the test reads them from the source code.
Between them lies at least one minor version.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from typing_extensions import deprecated as _deprecated

T = TypeVar("T", bound=Callable[..., object])


def deprecated(*, since: str, removal: str, instead: str) -> Callable[[T], T]:
    """Return a decorator for a function or class, whose calls warn, as those of `warnings.deprecated` do (PEP 702).

    Args:
        since: the first version that warns ("0.2").
        removal: the version that no longer has it ("0.3").
        instead: what to use ("`lossreg.load_loss`").
    """

    def mark(target: T) -> T:
        return _deprecated(_message(f"`{target.__qualname__}`", since, removal, instead))(target)

    return mark


def warn_deprecated(what: str, *, since: str, removal: str, instead: str, stacklevel: int = 2) -> None:
    """Warn of something that is no function or class: a parameter, a key of a config, a field of a spec.

    Args:
        what: what is deprecated ("the key `epochs`").
        since, removal, instead: as for `deprecated`.
        stacklevel: as for `warnings.warn`, seen from the caller of this function.
    """
    warnings.warn(_message(what, since, removal, instead), DeprecationWarning, stacklevel=stacklevel + 1)


def _message(what: str, since: str, removal: str, instead: str) -> str:
    return f"{what} is deprecated since lossreg {since} and will be removed in {removal}; use {instead}"
