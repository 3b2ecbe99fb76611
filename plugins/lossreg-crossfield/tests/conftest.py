"""Fixtures: the golden batch, random batches, and the textbook formulas."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from lossreg_crossfield import (
    CrossfieldAlign90Loss,
    CrossfieldAlignLoss,
    CrossfieldSmoothLoss,
    GtField,
    SegCrossfieldLoss,
    SegEdgeInteriorLoss,
    SegGrads,
)
from torch import Tensor

from lossreg import Loss

settings.register_profile("lossreg-crossfield", deadline=None)
settings.load_profile("lossreg-crossfield")

LOSSES: dict[str, Callable[[], Loss]] = {
    "align": lambda: CrossfieldAlignLoss("align"),
    "align90": lambda: CrossfieldAlign90Loss("align90"),
    "smooth": lambda: CrossfieldSmoothLoss("smooth"),
    "interior_field": lambda: SegCrossfieldLoss("interior_field", 0),
    "edge_field": lambda: SegCrossfieldLoss("edge_field", 1, detach_grad_norm=True),
    "edge_interior": lambda: SegEdgeInteriorLoss("edge_interior"),
}


@pytest.fixture(params=list(LOSSES))
def loss(request: pytest.FixtureRequest) -> Loss:
    """Each of the five losses, the coupling for two channels."""
    return LOSSES[request.param]()


@pytest.fixture(scope="session")
def losses() -> dict[str, Callable[[], Loss]]:
    return LOSSES


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Return inputs, values and gradients of the original implementation."""
    return json.loads((Path(__file__).parent / "data" / "frame_field.json").read_text())


def _batch(
    n: int = 2, height: int = 6, width: int = 7, dtype: torch.dtype = torch.float32, seed: int = 0, channels: int = 3
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    size = (height, width)
    pred = {
        "seg": torch.rand(n, channels, *size, generator=generator, dtype=torch.float64),
        "crossfield": torch.randn(n, 4, *size, generator=generator, dtype=torch.float64),
    }
    gt = {
        "gt_polygons_image": torch.rand(n, 3, *size, generator=generator, dtype=torch.float64),
        "gt_crossfield_angle": torch.rand(n, 1, *size, generator=generator, dtype=torch.float64) * math.pi,
    }
    pred = {key: tensor.to(dtype).requires_grad_() for key, tensor in pred.items()}
    return pred, {key: tensor.to(dtype) for key, tensor in gt.items()}


@pytest.fixture(scope="session")
def batch() -> Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Make a random `(pred_batch, gt_batch)` whose predictions want a gradient."""
    return _batch


def _evaluate(loss: Loss, pred: dict[str, Any], gt: dict[str, Any]) -> Tensor:
    pred, gt = SegGrads()(pred, gt)  # type: ignore[assignment]
    pred, gt = GtField()(pred, gt)  # type: ignore[assignment]
    return loss(pred, gt, normalize=False)[0]


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., Tensor]:
    """Run the preprocesses, then the loss; return its value."""
    return _evaluate


def _times(a: Tensor, b: Tensor) -> Tensor:
    return torch.view_as_real(torch.complex(*a.unbind(1)) * torch.complex(*b.unbind(1))).movedim(-1, 1)


def _error(field: Tensor, z: Tensor) -> Tensor:
    square = _times(z, z)
    f = _times(square, square) + _times(field[:, 2:], square) + field[:, :2]
    return f.square().sum(1)


def _slopes(seg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, c, height, width = seg.shape
    columns = torch.tensor([[-47.0, 0, 47], [-162, 0, 162], [-47, 0, 47]], dtype=seg.dtype) / 512
    padded = F.pad(seg.reshape(n * c, 1, height, width), (1, 1, 1, 1), mode="replicate")
    grads = 2 * F.conv2d(padded, torch.stack([columns.T, columns]).unsqueeze(1)).reshape(n, c, 2, height, width)
    norm = torch.linalg.vector_norm(grads, dim=2)
    return grads, norm, grads / (norm.unsqueeze(2) + 1e-6)


def _textbook(name: str, pred: dict[str, Tensor], gt: dict[str, Tensor]) -> Tensor:
    field, seg, mask, angle = pred["crossfield"], pred["seg"], gt["gt_polygons_image"], gt["gt_crossfield_angle"]
    edge, vertex = mask[:, 1], mask[:, 2]
    z = torch.cat([angle.cos(), angle.sin()], 1)
    _, norm, normed = _slopes(seg)
    if name == "align":
        return (_error(field, z) * edge).mean()
    if name == "align90":
        return (_error(field, torch.stack([-z[:, 1], z[:, 0]], 1)) * (edge - vertex).clamp(0, 1)).mean()
    if name == "smooth":
        kernel = torch.tensor([[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]], dtype=field.dtype) / 12
        curvature = F.conv2d(field, kernel.expand(4, 1, 3, 3), padding=1, groups=4)
        return (curvature.abs() * (1 - edge.unsqueeze(1))).mean()
    if name == "interior_field":
        return (_error(field, normed[:, 0]) * norm[:, 0]).mean()
    if name == "edge_field":
        return (_error(field, normed[:, 1]) * norm[:, 1].detach()).mean()
    outside, steep = (1 + torch.cos(math.pi * seg[:, 0])) / 2, (1 - torch.cos(math.pi * norm[:, 0])) / 2
    return ((seg[:, 1] - norm[:, 0]).abs() * torch.maximum(outside, steep)).mean()


@pytest.fixture(scope="session")
def textbook() -> SimpleNamespace:
    """The formulas with convolutions and complex numbers: `loss(name, pred, gt)`, `slopes`, `error`."""
    return SimpleNamespace(loss=_textbook, slopes=_slopes, error=_error)
