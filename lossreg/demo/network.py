"""A small U-Net with two heads: segmentation probabilities and a frame field."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrameFieldUNet(nn.Module):
    """A U-Net that predicts interior, edge and vertex probabilities, and a frame field.

    After Ronneberger et al., U-Net, MICCAI 2015, with the heads of Girard et al., Polygonal Building Segmentation by
    Frame Field Learning, CVPR 2021. With group norm instead of batch norm, the output for an image does not depend on
    the other images, so a batch can be split over processes.

    Args:
        channels: number of channels of the images.
        widths: number of features at each scale, from full resolution down, each a multiple of 4. The size of images
            must be divisible by `2 ** (len(widths) - 1)`.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = (8, 16, 32, 64)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in pairwise(widths))
        self.seg = nn.Conv2d(widths[0], 3, 1)
        hidden = 2 * widths[0]  # an orientation is not a linear function of edge responses, so it needs two layers
        self.crossfield = nn.Sequential(
            nn.Conv2d(widths[0] + 3, hidden, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(hidden, 4, 1),
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return `seg` (N, 3, H, W) in 0 to 1 and `crossfield` (N, 4, H, W) in -2 to 2 for images (N, C, H, W)."""
        features = image.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        skipped: list[Tensor] = []
        for block in self.down:
            features = block(F.max_pool2d(features, 2) if skipped else features)
            skipped.append(features)
        skipped.pop()
        for block in reversed(self.up):
            features = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
            features = block(torch.cat([skipped.pop(), features], dim=1))
        seg = self.seg(features).sigmoid()
        crossfield = 2 * self.crossfield(torch.cat([features, seg], dim=1)).tanh()
        return {"seg": seg, "crossfield": crossfield}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the last layer that both heads read."""
        return list(cast(nn.Sequential, self.up[0])[3].parameters())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.ReLU(),
    )
