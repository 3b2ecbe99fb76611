"""Textbook formulas of the losses, with which lossreg is compared, eager and compiled.

They give the values of the plugins `seg` and `crossfield`; `assert_same` holds that before anything is timed.
A frame field and a direction are pairs of planes, real and imaginary, on axis 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Batch = Mapping[str, Tensor]

TOLERANCE = 1e-4
INTERIOR, EDGE, VERTEX = 0, 1, 2


# --- SegLoss ------------------------------------------------------------------------------------------


def bce_dice(pred: Tensor, target: Tensor) -> Tensor:
    """Return half the cross-entropy plus half the Dice loss of probabilities (N, C, H, W)."""
    return 0.5 * F.binary_cross_entropy(pred, target) + 0.5 * dice(pred, target)


def bce_dice_tversky(pred: Tensor, target: Tensor) -> Tensor:
    """Return the same plus half the focal Tversky loss."""
    return bce_dice(pred, target) + 0.5 * focal_tversky(pred, target)


def bce_dice_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Return half the cross-entropy plus half the Dice loss of logits (N, C, H, W)."""
    return 0.5 * F.binary_cross_entropy_with_logits(logits, target) + 0.5 * dice(logits.sigmoid(), target)


def dice(pred: Tensor, target: Tensor) -> Tensor:
    """Return the mean Dice loss over the planes (n, c)."""
    both, p, t = (planes.sum((2, 3), dtype=torch.float32) for planes in (pred * target, pred, target))
    return (1 - (2 * both + 1) / (p + t + 1 + 1e-7)).mean()


def class_dice(logits: Tensor, classes: Tensor) -> Tensor:
    """Return half the cross-entropy plus half the Dice loss of logits (N, C, H, W) for indices (N, H, W)."""
    one_hot = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    return 0.5 * F.cross_entropy(logits, classes) + 0.5 * dice(logits.softmax(1), one_hot)


def focal_tversky(pred: Tensor, target: Tensor) -> Tensor:
    """Return the mean focal Tversky loss over the planes (n, c)."""
    hit = (pred * target).sum((2, 3))
    false_alarm = ((1 - target) * pred).sum((2, 3))
    missed = (target * (1 - pred)).sum((2, 3))
    index = (hit + 1e-6) / (hit + 0.01 * false_alarm + 0.99 * missed + 1e-6)
    return ((1 - index) ** 0.25).mean()


# --- frame fields -------------------------------------------------------------------------------------


def frame_field(pred: Batch, gt: Batch) -> Tensor:
    """Return the sum of the six terms, computed from `seg`, `crossfield` and the angle of the tangent."""
    seg, field, gt_image = pred["seg"], pred["crossfield"], gt["gt_polygons_image"]
    c0, c2 = field[:, :2], field[:, 2:]
    edge, vertex = gt_image[:, EDGE], gt_image[:, VERTEX]
    tangent = torch.cat([torch.cos(gt["gt_crossfield_angle"]), torch.sin(gt["gt_crossfield_angle"])], dim=1)
    normal = torch.stack([-tangent[:, 1], tangent[:, 0]], dim=1)
    slopes = seg_slopes(seg)
    steepness = torch.norm(slopes, dim=2)
    directions = slopes / (steepness[:, :, None] + 1e-6)
    return (
        (alignment_error(c0, c2, tangent) * edge).mean()
        + (alignment_error(c0, c2, normal) * (edge - vertex).clamp(0, 1)).mean()
        + (laplacian(field).abs() * (1 - edge[:, None])).mean()
        + (alignment_error(c0, c2, directions[:, INTERIOR]) * steepness[:, INTERIOR]).mean()
        + (alignment_error(c0, c2, directions[:, EDGE]) * steepness[:, EDGE]).mean()
        + edge_interior(seg[:, INTERIOR], seg[:, EDGE], steepness[:, INTERIOR])
    )


def alignment_error(c0: Tensor, c2: Tensor, z: Tensor) -> Tensor:
    """Return `|z^4 + c2 z^2 + c0|^2`, (N, H, W)."""
    squared = product(z, z)
    f = product(squared, squared) + product(c2, squared) + c0
    return f[:, 0] ** 2 + f[:, 1] ** 2


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the complex product, (N, 2, H, W)."""
    return torch.stack([a[:, 0] * b[:, 0] - a[:, 1] * b[:, 1], a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0]], dim=1)


def laplacian(planes: Tensor) -> Tensor:
    """Return the Laplacian of each plane (N, C, H, W), with zero padding."""
    kernel = planes.new_tensor([[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]]) / 12
    channels = planes.shape[1]
    return F.conv2d(planes, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)


def seg_slopes(seg: Tensor) -> Tensor:
    """Return twice the Scharr gradient of each channel, (N, C, 2, H, W), with border pixels repeated."""
    n, channels, height, width = seg.shape
    right = seg.new_tensor([[-47, 0, 47], [-162, 0, 162], [-47, 0, 47]]) / 512
    kernels = torch.stack([right.T, right])[:, None, None]  # (2, 1, 1, 3, 3)
    planes = F.pad(seg.reshape(n * channels, 1, height, width), [1, 1, 1, 1], mode="replicate")
    return 2 * F.conv3d(planes[:, :, None], kernels).reshape(n, channels, 2, height, width)


def edge_interior(interior: Tensor, edge: Tensor, steepness: Tensor) -> Tensor:
    """Return the difference between the edge channel and the slope of the interior, where an edge is expected."""
    outside = (torch.cos(math.pi * interior) + 1) / 2
    steep = (1 - torch.cos(math.pi * steepness)) / 2
    return ((edge - steepness).abs() * torch.maximum(outside, steep)).mean()


def assert_same(what: str, value: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Raise if two values differ by more than a relative tolerance, because then their times are not comparable."""
    ours, theirs = float(value.detach()), float(expected.detach())
    if not math.isclose(ours, theirs, rel_tol=tolerance):
        raise AssertionError(f"{what}: {ours!r}, but the textbook formula returns {theirs!r}")
