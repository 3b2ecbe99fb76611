"""Random batches for the benchmark, and lossreg's criteria for them."""

from __future__ import annotations

import torch
from torch import Tensor

import lossreg
from lossreg import Loss, MultiLoss

Shape = tuple[int, ...]


def segmentation(
    shape: Shape, *, soft: bool = False, logits: bool = False, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Return a prediction (N, C, H, W) that requires a gradient, and its target, which is soft or only 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)
    pred = pred.logit(1e-3) if logits else pred.clamp(1e-3, 1 - 1e-3)
    target = target if soft else (target > 0.7).float()
    return pred.to(device, dtype).requires_grad_(), target.to(device, dtype)


def classes(shape: Shape, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return logits (N, C, H, W) that require a gradient, and the index of each pixel's class, (N, H, W)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    return logits.to(device, dtype).requires_grad_(), target.to(device)


def frame_field(
    n: int, size: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return `(pred_batch, gt_batch)` for the frame-field terms and their preprocesses."""
    generator = torch.Generator().manual_seed(0)

    def planes(channels: int) -> Tensor:
        return torch.rand(n, channels, size, size, generator=generator)

    pred = {"seg": planes(3), "crossfield": 2 * planes(4) - 1}
    gt = {"gt_polygons_image": (planes(3) > 0.7).float(), "gt_crossfield_angle": torch.pi * planes(1)}
    return (
        {key: tensor.to(device, dtype).requires_grad_() for key, tensor in pred.items()},
        {key: tensor.to(device, dtype) for key, tensor in gt.items()},
    )


IGNORED = 255
"""SegLoss's own `ignore_index`, which is none of the values of the targets here."""


def seg_loss(*, tversky: bool = False, logits: bool = False, ignore_index: int | None = IGNORED) -> Loss:
    """Return half the cross-entropy plus half the Dice loss over two channels, and half the focal Tversky loss."""
    return lossreg.create_loss(
        "seg/SegLoss",
        gt_channel_selector=[0, 1],
        tversky_focal_coef=0.5 if tversky else 0.0,
        use_mixed_precision=logits,
        ignore_index=ignore_index,
    )


def class_loss(n_classes: int, *, ignore_index: int | None = IGNORED) -> Loss:
    """Return half the cross-entropy plus half the Dice loss over classes that exclude each other."""
    return lossreg.create_loss("seg/SegLoss", gt_channel_selector=0, n_classes=n_classes, ignore_index=ignore_index)


def frame_field_loss() -> MultiLoss:
    """Return the six frame-field terms of Girard et al. (CVPR 2021), weight 1 each, with their preprocesses."""
    align = ("CrossfieldAlignLoss", "CrossfieldAlign90Loss", "CrossfieldSmoothLoss", "SegEdgeInteriorLoss")
    terms = [lossreg.create_loss(f"crossfield/{name}", name=name) for name in align]
    for channel in (0, 1):
        name = f"SegCrossfieldLoss{channel}"
        terms.append(lossreg.create_loss("crossfield/SegCrossfieldLoss", name=name, pred_channel=channel))
    return MultiLoss(terms, [1.0] * len(terms))
