"""Example batches for `lossreg.testing`."""

from __future__ import annotations

import torch
from torch import Tensor

Batches = tuple[dict[str, Tensor], dict[str, Tensor]]


def probabilities() -> Batches:
    """Return `(pred_batch, gt_batch)`: (2, 2, 8, 8) and masks (2, 3, 8, 8) of 0 and 1, with one ignored pixel."""
    generator = torch.Generator().manual_seed(0)
    pred = 0.1 + 0.8 * torch.rand(2, 2, 8, 8, generator=generator)
    masks = torch.rand(2, 3, 8, 8, generator=generator).round()
    masks[0, :, 2, 3] = 255
    return {"seg": pred}, {"gt_polygons_image": masks}


def frequencies() -> Batches:
    """Return `(pred_batch, gt_batch)` with every key that `SegLossWeights` reads."""
    generator = torch.Generator().manual_seed(0)
    gt = {
        "gt_polygons_image": torch.rand(2, 3, 8, 8, generator=generator).round(),
        "class_freq": 0.1 + 0.2 * torch.rand(2, 3, generator=generator),
        "distances": torch.rand(2, 1, 8, 8, generator=generator),
        "sizes": 0.1 + 0.8 * torch.rand(2, 1, 8, 8, generator=generator),
    }
    return {}, gt


def ignored() -> Batches:
    """Return the same predictions with masks in which every pixel is ignored."""
    pred, gt = probabilities()
    return pred, {key: torch.full_like(mask, 255) for key, mask in gt.items()}
