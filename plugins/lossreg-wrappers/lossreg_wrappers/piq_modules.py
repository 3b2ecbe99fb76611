"""Losses of piq, adapted to training."""

from __future__ import annotations

import piq  # type: ignore[import-not-found, unused-ignore]  # it need not be installed


class PieAPP(piq.PieAPP):  # type: ignore[misc, unused-ignore]
    """`piq.PieAPP` with gradients, which the library switches off by default.

    Args:
        reduction: how the values of the samples are reduced: `mean`, `sum` or `none`.
        data_range: the largest value of an image.
        stride: distance of the patches, in pixels.
    """

    def __init__(self, reduction: str = "mean", data_range: float = 1.0, stride: int = 27) -> None:
        super().__init__(reduction, data_range, stride, enable_grad=True)
