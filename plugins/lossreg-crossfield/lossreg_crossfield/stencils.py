"""The two 3x3 stencils, as sums of shifted slices of planes (..., H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def laplacian(x: Tensor) -> Tensor:
    """Filter planes with `[[.5, 1, .5], [1, -6, 1], [.5, 1, .5]] / 12`, zeros around them.

    The kernel is `(b^T b - 16 id) / 24` with `b = [1, 2, 1]`, and `b` is `[1, 1]` applied twice: four
    additions of slices do it. It is symmetric and the padding is zero, so the filter is its own adjoint.

    Args:
        x: (..., H, W).

    Returns:
        (..., H, W).
    """
    box = F.pad(x, (1, 1, 1, 1))
    box = box[..., 1:, :] + box[..., :-1, :]
    box = box[..., 1:, :] + box[..., :-1, :]
    box = box[..., 1:] + box[..., :-1]
    box = box[..., 1:] + box[..., :-1]
    return (box - 16 * x) / 24


def scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return twice the Scharr gradient of planes, the border pixels repeated around them.

    Along columns the kernel is `s^T d / 256` with `s = [47, 162, 47]` and `d = [-1, 0, 1]`, applied as
    cross-correlation; along rows its transpose. A plane that rises by 1 a pixel has a slope of 2.

    Args:
        x: (..., H, W).

    Returns:
        the slopes along rows (down) and along columns (right), each (..., H, W).
    """
    tall = _repeat_border(x, dim=-2)
    down = tall[..., 2:, :] - tall[..., :-2, :]
    level = 47 * (tall[..., 2:, :] + tall[..., :-2, :]) + 162 * x
    wide = _repeat_border(down, dim=-1)
    down = 47 * (wide[..., 2:] + wide[..., :-2]) + 162 * down
    wide = _repeat_border(level, dim=-1)
    right = wide[..., 2:] - wide[..., :-2]
    return down / 256, right / 256


def _repeat_border(x: Tensor, dim: int) -> Tensor:
    size = x.shape[dim]
    return torch.cat([x.narrow(dim, 0, min(size, 1)), x, x.narrow(dim, max(size - 1, 0), min(size, 1))], dim)
