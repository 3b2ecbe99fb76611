"""Frame-field losses for lossreg. Names are imported at first use, so importing this package loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossreg_crossfield.losses import CrossfieldAlign90Loss as CrossfieldAlign90Loss
    from lossreg_crossfield.losses import CrossfieldAlignLoss as CrossfieldAlignLoss
    from lossreg_crossfield.losses import CrossfieldSmoothLoss as CrossfieldSmoothLoss
    from lossreg_crossfield.losses import SegCrossfieldLoss as SegCrossfieldLoss
    from lossreg_crossfield.losses import SegEdgeInteriorLoss as SegEdgeInteriorLoss
    from lossreg_crossfield.preprocess import GtField as GtField
    from lossreg_crossfield.preprocess import SegGrads as SegGrads

_HOME = {
    "CrossfieldAlign90Loss": "lossreg_crossfield.losses",
    "CrossfieldAlignLoss": "lossreg_crossfield.losses",
    "CrossfieldSmoothLoss": "lossreg_crossfield.losses",
    "GtField": "lossreg_crossfield.preprocess",
    "SegCrossfieldLoss": "lossreg_crossfield.losses",
    "SegEdgeInteriorLoss": "lossreg_crossfield.losses",
    "SegGrads": "lossreg_crossfield.preprocess",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossreg_crossfield' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
