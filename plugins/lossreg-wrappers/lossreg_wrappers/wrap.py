"""The hook that turns a library's loss into a `lossreg.Loss`, shared by all the plugins here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossreg import hookimpl


@hookimpl
def lossreg_wrap(loss: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Wrap losses whose spec says in which form they take their predictions; leave all others alone."""
    if "takes" not in options:
        return None
    from lossreg_wrappers.adapter import LibraryLoss

    return LibraryLoss(loss, name, **options)
