"""The hook `lossreg_wrap` of all plugins in this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossreg import hookimpl


@hookimpl
def lossreg_wrap(loss: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Return a `LibraryLoss` if the spec declares the form of predictions (`takes`), else None."""
    if "takes" not in options:
        return None
    from lossreg_wrappers.adapter import LibraryLoss

    return LibraryLoss(loss, name, **options)
