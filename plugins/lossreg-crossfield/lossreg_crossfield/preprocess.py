"""Preprocesses of the frame-field losses: the tangent of polygons, and the slopes of the segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossreg import Preprocess
from lossreg.errors import DtypeError, ShapeError
from lossreg.losses.mean import aligned
from lossreg_crossfield.fields import Slopes


class GtField(Preprocess):
    """Computes `gt_field`, the unit tangent `(cos a, sin a)` of the polygons, from the tangent angle `a`.

    Reads `gt.gt_crossfield_angle` (N, 1, H, W) in radians and computes `gt.gt_field` (N, 2, H, W) in its dtype.

    Raises:
        MissingKeyError, ShapeError, DtypeError: the angle is missing, or is not floating-point (N, 1, H, W).
    """

    requires = ("gt.gt_crossfield_angle",)
    provides = ("gt.gt_field",)

    def compute(
        self,
        pred_batch: Mapping[str, Any],  # noqa: ARG002
        gt_batch: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Return `{"gt.gt_field": (N, 2, H, W)}`."""
        fix = "use radians; convert 0 to 255 with angle.float() * torch.pi / 255"
        angle = _floats(self, "gt.gt_crossfield_angle", gt_batch["gt_crossfield_angle"], ("N", 1, "H", "W"), fix)
        angle = angle.squeeze(1)  # with one channel the compiler would treat it as channels-last
        return {"gt.gt_field": torch.stack([angle.cos(), angle.sin()], dim=1)}


class SegGrads(Preprocess):
    """Computes the spatial gradient of each channel of `seg`, its magnitude, and the normalised gradient.

    The gradient is twice that of Scharr (Optimal Operators in Digital Image Processing, Heidelberg, 2000). A channel
    that rises by 1 from one pixel to the next has a slope of 2. The border pixels are repeated. In a flat channel the
    magnitude and its derivative are 0.

    Reads `pred.seg` (N, C, H, W), and `mask` if it is given. Provides, computed in at least float32 and returned in the
    dtype of `seg`::

        pred.seg_grads         (N, C, 2, H, W)   slope along rows (down), slope along columns (right)
        pred.seg_grad_norm     (N, C, H, W)      |seg_grads|
        pred.seg_grads_normed  (N, C, 2, H, W)   seg_grads / (seg_grad_norm + 1e-6)

    Args:
        mask: a key (`gt.valid`) of 0 and 1, (N,), (N, H, W) or (N, 1, H, W). Where it is 0, `seg` is taken for 0,
            whatever it is, also for the slopes of the pixels beside it.

    Raises:
        MissingKeyError, ShapeError, DtypeError: `seg` or the mask is missing, or has another shape or dtype.
    """

    requires: Sequence[str] = ("pred.seg",)
    provides = ("pred.seg_grads", "pred.seg_grad_norm", "pred.seg_grads_normed")

    def __init__(self, mask: str | None = None) -> None:
        super().__init__()
        if mask is not None and not (isinstance(mask, str) and mask.partition(".")[0] in ("pred", "gt")):
            raise ValueError(f"SegGrads: mask: expected a key `pred.<key>` or `gt.<key>`, found {mask!r}")
        self.mask = mask
        if mask is not None:
            self.requires = ("pred.seg", mask)

    def compute(self, pred_batch: Mapping[str, Any], gt_batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the three keys of `provides`."""
        seg = _floats(self, "pred.seg", pred_batch["seg"], ("N", "C", "H", "W"))
        if self.mask is not None:
            side, _, key = self.mask.partition(".")
            mask = (pred_batch if side == "pred" else gt_batch)[key]
            kept = aligned(mask, seg.shape)
            if kept is None:
                raise ShapeError(
                    f"preprocess SegGrads: {self.mask!r} has shape {tuple(mask.shape)}, expected one that fits "
                    f"'pred.seg' {tuple(seg.shape)}: (N,), (N, H, W) or (N, 1, H, W)"
                )
            seg = torch.where(kept != 0, seg, 0)
        return dict(zip(self.provides, Slopes()(seg), strict=True))


def _floats(node: Preprocess, key: str, tensor: Any, expected: Sequence[int | str], fix: str = "") -> Tensor:
    """Return the tensor at `key`, checked to be floating-point and to have the expected shape."""
    who = f"preprocess {type(node).__name__}: {key!r}"
    if not isinstance(tensor, Tensor):
        raise DtypeError(f"{who}: expected a tensor, found {type(tensor).__name__}")
    shape = tuple(tensor.shape)
    if len(shape) != len(expected) or any(
        isinstance(want, int) and size != want for size, want in zip(shape, expected, strict=True)
    ):
        raise ShapeError(f"{who} has shape {shape}, expected ({', '.join(map(str, expected))})")
    if not tensor.is_floating_point():
        raise DtypeError(
            f"{who} has dtype {str(tensor.dtype).removeprefix('torch.')}, expected a floating-point dtype"
            + (f"; {fix}" if fix else "")
        )
    return tensor
