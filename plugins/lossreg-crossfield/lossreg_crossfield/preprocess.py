"""Preprocesses of the frame-field losses: the tangent of polygons, and the slopes of the segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossreg import Preprocess
from lossreg.errors import DtypeError, ShapeError
from lossreg_crossfield.fields import EPSILON, Slopes, wide_dtype


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

    Reads `pred.seg` (N, C, H, W). Provides, computed in at least float32 and returned in the dtype of `seg`::

        pred.seg_grads         (N, C, 2, H, W)   slope downwards, slope to the right
        pred.seg_grad_norm     (N, C, H, W)      |seg_grads|
        pred.seg_grads_normed  (N, C, 2, H, W)   seg_grads / (seg_grad_norm + 1e-6)

    A term with a mask computes its own slopes; see `SegCrossfieldLoss`.

    Raises:
        MissingKeyError, ShapeError, DtypeError: `seg` is missing, or has another shape or dtype.
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


def slopes_where(seg: Tensor, kept: Tensor) -> dict[str, Tensor]:
    """Return what `SegGrads` provides, with a neighbour that does not count taken for the pixel itself.

    The weights of a slope add up to 0, so that it is the sum of their products with differences from the pixel. Those
    of some neighbours alone are `slope(seg) - seg slope(kept)`, for a `seg` that is 0 at the others.

    Args:
        seg: (N, C, H, W), 0 at pixels that do not count.
        kept: (N, H, W) bool, the pixels that count.
    """
    wide = wide_dtype(seg)
    node, values = SegGrads(), seg.to(wide)
    ours, missing = (node.compute({"seg": planes}, {})["pred.seg_grads"] for planes in (values, kept[:, None].to(wide)))
    grads = ours - values.unsqueeze(2) * missing
    norm = torch.linalg.vector_norm(grads, dim=2)
    found = (grads, norm, grads / (norm.unsqueeze(2) + EPSILON))
    return {key: planes.to(seg.dtype) for key, planes in zip(node.provides, found, strict=True)}


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
