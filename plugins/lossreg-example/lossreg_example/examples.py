"""Example batches for `lossreg.testing` and for the tests of this package."""

from __future__ import annotations

import torch
from torch import Tensor


def heights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return `(pred_batch, gt_batch)` of height maps (2, 1, 8, 8), the same at every call."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.rand(2, 1, 8, 8, generator=generator)

    return {"height": draw()}, {"height": draw()}


def nothing_valid() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the same batch without a valid pixel, so that there is nothing to learn."""
    pred, gt = heights()
    return pred, {**gt, "valid": torch.zeros(2, 1, 8, 8)}
