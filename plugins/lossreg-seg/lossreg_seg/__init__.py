"""Segmentation losses for lossreg. Names are imported at first use, so importing this package loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossreg_seg.losses import SegLoss as SegLoss
    from lossreg_seg.mixup import mixup_batch as mixup_batch
    from lossreg_seg.preprocess import SegLossWeights as SegLossWeights

_HOME = {
    "SegLoss": "lossreg_seg.losses",
    "SegLossWeights": "lossreg_seg.preprocess",
    "mixup_batch": "lossreg_seg.mixup",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossreg_seg' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
