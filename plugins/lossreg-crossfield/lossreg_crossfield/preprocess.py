"""The fields that frame-field losses compare: the polygons' tangent, and the slopes of the segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossreg import Preprocess
from lossreg.errors import DtypeError, ShapeError
from lossreg_crossfield.fields import Slopes


class GtField(Preprocess):
    """Compute `gt_field`, the unit tangent `(cos a, sin a)` of the polygons from the tangent angle `a`.

    Reads `gt.gt_crossfield_angle` (N, 1, H, W), radians, and makes `gt.gt_field` (N, 2, H, W) of its dtype.

    Raises:
        MissingKeyError, ShapeError, DtypeError: the angle is missing, or not floating-point (N, 1, H, W).
    """

    requires = ("gt.gt_crossfield_angle",)
    provides = ("gt.gt_field",)

    def compute(
        self,
        pred_batch: Mapping[str, Any],  # noqa: ARG002
        gt_batch: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Return `{"gt.gt_field": (N, 2, H, W)}`."""
        fix = "give radians; where 0 to 255 stand for 0 to pi, angle.float() * torch.pi / 255"
        angle = _floats(self, "gt.gt_crossfield_angle", gt_batch["gt_crossfield_angle"], ("N", 1, "H", "W"), fix)
        angle = angle.squeeze(1)  # one channel is "channels last" as well, which the compiler would take it for
        return {"gt.gt_field": torch.stack([angle.cos(), angle.sin()], dim=1)}


class SegGrads(Preprocess):
    """Compute the spatial gradient of each channel of `seg`, its magnitude, and the gradient over that.

    The gradient is twice that of Scharr (Optimal Operators in Digital Image Processing, Heidelberg, 2000): a
    channel that rises by 1 from one pixel to the next has a slope of 2. The border pixels are repeated.
    Where a channel is flat the magnitude is 0 and its derivative is taken as 0.

    Reads `pred.seg` (N, C, H, W). Makes, in the dtype of `seg` and computed in at least float32::

        pred.seg_grads         (N, C, 2, H, W)   slope along rows (down), slope along columns (right)
        pred.seg_grad_norm     (N, C, H, W)      |seg_grads|
        pred.seg_grads_normed  (N, C, 2, H, W)   seg_grads / (seg_grad_norm + 1e-6)

    Raises:
        MissingKeyError, ShapeError, DtypeError: `seg` is missing, or not floating-point (N, C, H, W).
    """

    requires = ("pred.seg",)
    provides = ("pred.seg_grads", "pred.seg_grad_norm", "pred.seg_grads_normed")

    def compute(
        self,
        pred_batch: Mapping[str, Any],
        gt_batch: Mapping[str, Any],  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Return the three keys of `provides`."""
        seg = _floats(self, "pred.seg", pred_batch["seg"], ("N", "C", "H", "W"))
        return dict(zip(self.provides, Slopes()(seg), strict=True))


def _floats(node: Preprocess, key: str, tensor: Any, expected: Sequence[int | str], fix: str = "") -> Tensor:
    """Return the tensor at `key` if it is floating-point and of the expected rank and fixed sizes."""
    who = f"preprocess {type(node).__name__}: {key!r}"
    if not isinstance(tensor, Tensor):
        raise DtypeError(f"{who} must be a tensor, got {type(tensor).__name__}")
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
