"""The example batch for `lossreg.testing`."""

from __future__ import annotations

import torch
from torch import Tensor

from lossreg_crossfield.preprocess import GtField, SegGrads


def frame_field() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return `(pred_batch, gt_batch)` of two 8x8 samples with every key that the losses read."""
    generator = torch.Generator().manual_seed(0)
    pred = {
        "crossfield": 2 * torch.rand(2, 4, 8, 8, generator=generator) - 1,
        "seg": torch.rand(2, 2, 8, 8, generator=generator),
    }
    gt = {
        "gt_polygons_image": torch.rand(2, 3, 8, 8, generator=generator),
        "gt_crossfield_angle": torch.pi * torch.rand(2, 1, 8, 8, generator=generator),
    }
    for preprocess in (GtField(), SegGrads()):
        for key, planes in preprocess.compute(pred, gt).items():
            side, _, name = key.partition(".")
            (pred if side == "pred" else gt)[name] = planes
    return pred, gt
