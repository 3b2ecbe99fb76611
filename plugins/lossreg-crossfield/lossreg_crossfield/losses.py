"""The losses of Girard et al., Polygonal Building Segmentation by Frame Field Learning, CVPR 2021.

Channels of `gt_polygons_image` and of `seg` are in the order interior, edge, vertex.

Each loss is a mean over pixels, and returns it with its count. The elements of a `mask` and of a `sample_weight` are
(N, H, W), the pixels. At a masked pixel every prediction and target may be NaN. The count is the number of pixels, or
the sum of their weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossreg import Loss
from lossreg.errors import ShapeError
from lossreg.losses.mean import Count, Elements, Mean
from lossreg_crossfield.analytic import Formula
from lossreg_crossfield.fields import Alignment, EdgeInterior, Smoothness, wide_dtype
from lossreg_crossfield.preprocess import SegGrads, slopes_where

INTERIOR, EDGE, VERTEX = 0, 1, 2
CHANNELS = ("interior", "edge", "vertex")


class _Pixels:
    """What the pixels of a batch count, and the mean over them.

    Args:
        elements: the pixels (N, H, W) with their weights.
    """

    def __init__(self, elements: Elements) -> None:
        self.elements, self.weights, self.kept = elements, elements.weights, elements.kept

    def blank(self, tensor: Tensor) -> Tensor:
        """Return a tensor (N, ..., H, W) with 0 at pixels that do not count, off the graph there."""
        if self.kept is None:
            return tensor
        between = [1] * (tensor.dim() - self.kept.dim())
        return torch.where(self.kept.reshape(len(self.kept), *between, *self.kept.shape[1:]), tensor, 0)

    def weigh(self, weight: Tensor) -> Tensor:
        """Return a weight (N, H, W) times those of the pixels."""
        return weight if self.weights is None else weight * self.weights.to(wide_dtype(weight))

    def beside(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return the weights (N, H, W) in a dtype that holds them; none where all pixels count the same."""
        if self.weights is None:
            return ()
        return (self.weights.to(wide_dtype(like)).expand(self.elements.shape),)

    def mean(self, formula: Formula, *inputs: Tensor) -> Mean:
        """Return the mean of a formula that returns the mean of values times their weights."""
        if 0 in self.elements.shape:
            return Mean(sum((planes.sum(dtype=wide_dtype(planes)) for planes in inputs), torch.zeros(())), 0.0)
        (value,) = formula(*inputs)
        if self.weights is None:
            return Mean(value, self.elements.count())
        return Mean.of_sum(value * math.prod(self.elements.shape), self.elements.count())


class _FrameFieldLoss(Loss):
    """Base class of the frame-field losses, with methods to read and check their tensors."""

    masks = True

    def counts(self, gt_batch: Any) -> Sequence[Count]:
        """Return the number of pixels that count, or the sum of their weights, with the size of `gt_polygons_image`.

        Raises:
            CountError: the targets have no `gt_polygons_image`, so that nothing tells the size.
        """
        planes = self.read_optional({}, gt_batch, "gt.gt_polygons_image")
        if planes is None:
            return super().counts(gt_batch)
        self.check_shape("gt.gt_polygons_image", planes, ("N", "C", "H", "W"))
        shape = (planes.shape[0], *planes.shape[2:])
        return [0.0 if 0 in shape else self.elements({}, gt_batch, shape, channels=False).count()]

    def pixels(self, pred_batch: Any, gt_batch: Any, like: Tensor) -> _Pixels:
        """Return what the pixels of planes (N, C, H, W) count."""
        shape = (like.shape[0], *like.shape[2:])
        return _Pixels(self.elements(pred_batch, gt_batch, shape, channels=False))

    def read_field(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return `pred.crossfield`, floating-point (N, 4, H, W)."""
        field = self.read(pred_batch, gt_batch, "pred.crossfield")
        self.check_shape("pred.crossfield", field, ("N", 4, "H", "W"))
        self.check_float("pred.crossfield", field)
        return field

    def read_channels(self, pred_batch: Any, gt_batch: Any, key: str, last: int) -> Tensor:
        """Return planes (N, C, H, W) with at least the channels up to `last`."""
        planes = self.read(pred_batch, gt_batch, key)
        if planes.dim() != 4 or planes.shape[1] <= last:
            needed = ", ".join(CHANNELS[: last + 1])
            raise ShapeError(
                f"loss {self.name!r}: {key!r} has shape {tuple(planes.shape)}, expected (N, C, H, W) "
                f"with at least {last + 1} channels: {needed}"
            )
        return planes

    def read_mask(self, pred_batch: Any, gt_batch: Any, last: int, like: Tensor, pixels: _Pixels) -> Tensor:
        """Return `gt.gt_polygons_image` (N, C, H, W) in 0 to 1, with the size of `like` and channels up to `last`.

        At pixels that do not count it is 0.
        """
        key = "gt.gt_polygons_image"
        mask = self.read_channels(pred_batch, gt_batch, key, last)
        self.check_shape(key, mask, _sized(like, mask.shape[1]))
        mask = pixels.blank(mask)
        self.check_range(key, mask, 0, 1, hint="divide a mask of 0 and 255 by 255")
        return mask


class CrossfieldAlignLoss(_FrameFieldLoss):
    """Alignment of a frame field with the tangents of the polygons' edges.

    `mean(|f(z)|^2 * edge)` over samples and pixels, with `f(z) = z^4 + c2 z^2 + c0` and the unit tangent `z`. It is 0
    if a direction of the field follows every edge. This is `L_align` of Girard et al., CVPR 2021
    (https://arxiv.org/abs/2004.14875).

    Reads `pred.crossfield` (N, 4, H, W), the real and imaginary parts of `c0` and then of `c2`; `gt.gt_field`
    (N, 2, H, W), which the preprocess `gt_field` computes from `gt.gt_crossfield_angle`; and `gt.gt_polygons_image`
    (N, C, H, W) in 0 to 1 with at least the channels interior and edge. Sets `extra_info["gt_field"]`.

    Args:
        name: the name of the term.

    Raises:
        MissingKeyError, ShapeError, DtypeError: a key is missing or malformed.
    """

    requires = ("pred.crossfield", "gt.gt_field", "gt.gt_polygons_image")

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Mean:
        """Return the mean alignment error on the edges, 0 or more."""
        field = self.read_field(pred_batch, gt_batch)
        tangent = self.read_tangent(pred_batch, gt_batch, field)
        pixels = self.pixels(pred_batch, gt_batch, field)
        edge = self.read_mask(pred_batch, gt_batch, EDGE, field, pixels)[:, EDGE]
        return pixels.mean(Alignment(), pixels.blank(field), pixels.blank(tangent), pixels.weigh(edge))

    def read_tangent(self, pred_batch: Any, gt_batch: Any, field: Tensor) -> Tensor:
        """Return `gt.gt_field`, floating-point (N, 2, H, W) with the size of the field."""
        tangent = self.read(pred_batch, gt_batch, "gt.gt_field")
        self.check_shape("gt.gt_field", tangent, _sized(field, 2))
        self.check_float("gt.gt_field", tangent)
        self.extra_info["gt_field"] = tangent
        return tangent


class CrossfieldAlign90Loss(CrossfieldAlignLoss):
    """Alignment of a frame field with the normals of the polygons' edges, except at vertices.

    `mean(|f(i z)|^2 * clamp(edge - vertex, 0, 1))`: a direction of the field should be at right angles to the edge,
    except at a vertex, where it follows the other edge. This is `L_align90` of Girard et al., CVPR 2021
    (https://arxiv.org/abs/2004.14875).

    Reads the same keys as `CrossfieldAlignLoss`, with all three channels interior, edge and vertex. Sets
    `extra_info["gt_field"]`.

    Args:
        name: the name of the term.

    Raises:
        MissingKeyError, ShapeError, DtypeError: a key is missing or malformed.
    """

    def compute(self, pred_batch: Any, gt_batch: Any) -> Mean:
        """Return the mean alignment error of the normal, 0 or more."""
        field = self.read_field(pred_batch, gt_batch)
        tangent = self.read_tangent(pred_batch, gt_batch, field)
        pixels = self.pixels(pred_batch, gt_batch, field)
        mask = self.read_mask(pred_batch, gt_batch, VERTEX, field, pixels)
        edge, vertex = (_floating(mask[:, channel]) for channel in (EDGE, VERTEX))
        weight = pixels.weigh((edge - vertex).clamp(0, 1))
        return pixels.mean(Alignment(turned=True), pixels.blank(field), pixels.blank(tangent), weight)


class CrossfieldSmoothLoss(_FrameFieldLoss):
    """Smoothness of a frame field away from the polygons' edges.

    `mean(|laplacian(c)| * (1 - edge))` over samples, the four real planes `c` and pixels, with the Laplacian
    `[[.5, 1, .5], [1, -6, 1], [.5, 1, .5]] / 12` and zero padding. To the Laplacian of a pixel beside it, a masked
    pixel is 0 too, as beyond the border. This is `L_smooth` of Girard et al., CVPR 2021
    (https://arxiv.org/abs/2004.14875).

    Reads `pred.crossfield` (N, 4, H, W) and `gt.gt_polygons_image` (N, C, H, W) in 0 to 1 with at least the channels
    interior and edge.

    Args:
        name: the name of the term.

    Raises:
        MissingKeyError, ShapeError, DtypeError: a key is missing or malformed.
    """

    requires = ("pred.crossfield", "gt.gt_polygons_image")

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Mean:
        """Return the mean curvature away from the edges, 0 or more."""
        field = self.read_field(pred_batch, gt_batch)
        pixels = self.pixels(pred_batch, gt_batch, field)
        edge = self.read_mask(pred_batch, gt_batch, EDGE, field, pixels)[:, EDGE : EDGE + 1]
        weights = (weight.unsqueeze(1) for weight in pixels.beside(field))
        return pixels.mean(Smoothness(), pixels.blank(field), edge, *weights)


class _OfSlopes(_FrameFieldLoss):
    """Base class of the losses that read the slopes of `pred.seg`, which know no mask: a term with one has its own."""

    def take_mask(self, mask: Any = None, sample_weight: Any = None) -> None:
        """Set which elements count and how much; see `Loss.take_mask`. The loss then requires `pred.seg`."""
        super().take_mask(mask, sample_weight)
        if self.mask or self.sample_weight:
            others = [key for key in self.requires if key not in SegGrads.provides and key != "pred.seg"]
            self.__dict__["requires"] = ("pred.seg", *others)
            self.__dict__["optional"] = ()

    def with_slopes(self, pred_batch: Any, gt_batch: Any, pixels: _Pixels) -> Any:
        """Return the predictions, with the term's own slopes where pixels may not count."""
        if pixels.kept is None:
            return pred_batch
        seg = self.read(pred_batch, gt_batch, "pred.seg")
        n, height, width = pixels.elements.shape
        self.check_shape("pred.seg", seg, (n, "C", height, width))
        self.check_float("pred.seg", seg)
        own = slopes_where(pixels.blank(seg), pixels.kept.expand(n, height, width))
        return {**pred_batch, **{key.removeprefix("pred."): planes for key, planes in own.items()}}


class SegCrossfieldLoss(_OfSlopes):
    """Alignment of the slopes of a segmentation channel with a direction of the frame field.

    `mean(|f(z)|^2 * r)` over samples and pixels, with `r = seg_grad_norm[:, k]` and `z = seg_grads_normed[:, k]` for
    the channel `k`. These are `L_int align` and `L_edge align` of Girard et al., CVPR 2021
    (https://arxiv.org/abs/2004.14875).

    Reads `pred.crossfield` (N, 4, H, W), `pred.seg_grads_normed` (N, C, 2, H, W) and `pred.seg_grad_norm` (N, C, H, W);
    the preprocess `seg_grads` computes the last two from `pred.seg`. Sets `extra_info["seg_slice_grads"]`,
    (N, 2, H, W), if the batch has `pred.seg_grads`.

    The targets tell the count only if they have `gt.gt_polygons_image` (N, C, H, W), of which only the size is read.
    With a `mask` or a `sample_weight` the loss computes the slopes itself, from `pred.seg`. A neighbour that does not
    count is then taken for the pixel itself, as the border pixels are repeated.

    Args:
        name: the name of the term.
        pred_channel: the channel `k` of the segmentation, from 0.
        detach_grad_norm: detach the magnitude `r` from the graph, as the code of the paper does.

    Raises:
        MissingKeyError, ShapeError, DtypeError: a key is missing or malformed.
    """

    requires = ("pred.crossfield", "pred.seg_grads_normed", "pred.seg_grad_norm")
    optional = ("pred.seg_grads",)

    def __init__(self, name: str, pred_channel: int, detach_grad_norm: bool = False) -> None:
        super().__init__(name)
        if isinstance(pred_channel, bool) or not isinstance(pred_channel, int) or pred_channel < 0:
            raise ValueError(f"loss {name!r}: pred_channel: expected an integer from 0, found {pred_channel!r}")
        self.pred_channel = pred_channel
        self.detach_grad_norm = detach_grad_norm

    def compute(self, pred_batch: Any, gt_batch: Any) -> Mean:
        """Return the mean alignment error over the channel's slopes, 0 or more."""
        field = self.read_field(pred_batch, gt_batch)
        pixels = self.pixels(pred_batch, gt_batch, field)
        pred_batch = self.with_slopes(pred_batch, gt_batch, pixels)
        direction = self.read_slopes(pred_batch, gt_batch, "pred.seg_grads_normed", field, 2)
        slope = self.read_slopes(pred_batch, gt_batch, "pred.seg_grad_norm", field)
        if self.read_optional(pred_batch, gt_batch, "pred.seg_grads") is not None:
            grads = self.read_slopes(pred_batch, gt_batch, "pred.seg_grads", field, 2)
            self.extra_info["seg_slice_grads"] = grads[:, self.pred_channel]
        slope = slope.detach() if self.detach_grad_norm else slope
        if pixels.kept is None:
            return pixels.mean(Alignment(channel=self.pred_channel), field, direction, slope)
        direction, slope = (pixels.blank(planes[:, self.pred_channel]) for planes in (direction, slope))
        return pixels.mean(Alignment(), pixels.blank(field), direction, pixels.weigh(slope))

    def read_slopes(self, pred_batch: Any, gt_batch: Any, key: str, field: Tensor, *axes: int) -> Tensor:
        """Return floating-point planes (N, C, *axes, H, W) with the size of the field and the channel."""
        planes = self.read(pred_batch, gt_batch, key)
        n, _, height, width = field.shape
        self.check_shape(key, planes, (n, "C", *axes, height, width))
        self.check_float(key, planes)
        if planes.shape[1] <= self.pred_channel:
            raise ShapeError(
                f"loss {self.name!r}: {key!r} has shape {tuple(planes.shape)}, expected more than "
                f"{self.pred_channel} channels, since pred_channel is {self.pred_channel}"
            )
        return planes

    def extra_repr(self) -> str:
        """Return the name and the options for `repr`."""
        options = f"pred_channel={self.pred_channel}, detach_grad_norm={self.detach_grad_norm}"
        return f"{super().extra_repr()}, {options}"


class SegEdgeInteriorLoss(_OfSlopes):
    """Difference between the edge channel and the slope of the interior channel.

    `mean(|e - g| * max((1 + cos(pi i)) / 2, (1 - cos(pi g)) / 2))` over samples and pixels. `i` and `e` are the
    predicted interior and edge, and `g = seg_grad_norm[:, 0]` is the slope of the interior. The difference counts
    outside buildings and where the interior is steep. This is `L_int edge` of Girard et al., CVPR 2021
    (https://arxiv.org/abs/2004.14875).

    Reads `pred.seg` (N, C, H, W), probabilities with at least the channels interior and edge, and
    `pred.seg_grad_norm` (N, C, H, W), which the preprocess `seg_grads` computes from it.

    The targets tell the count only if they have `gt.gt_polygons_image` (N, C, H, W), of which only the size is read.
    With a `mask` or a `sample_weight` the loss computes the slopes itself, from `pred.seg`. A neighbour that does not
    count is then taken for the pixel itself, as the border pixels are repeated.

    Args:
        name: the name of the term.

    Raises:
        MissingKeyError, ShapeError, DtypeError: a key is missing or malformed.
    """

    requires = ("pred.seg", "pred.seg_grad_norm")

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Mean:
        """Return the mean difference, 0 or more."""
        seg = self.read_channels(pred_batch, gt_batch, "pred.seg", EDGE)
        self.check_float("pred.seg", seg)
        pixels = self.pixels(pred_batch, gt_batch, seg)
        pred_batch = self.with_slopes(pred_batch, gt_batch, pixels)
        slopes = self.read_channels(pred_batch, gt_batch, "pred.seg_grad_norm", INTERIOR)
        self.check_shape("pred.seg_grad_norm", slopes, _sized(seg, slopes.shape[1]))
        self.check_float("pred.seg_grad_norm", slopes)
        return pixels.mean(EdgeInterior(), pixels.blank(seg), pixels.blank(slopes), *pixels.beside(seg))


def _floating(mask: Tensor) -> Tensor:
    return mask if mask.is_floating_point() else mask.float()


def _sized(like: Tensor, channels: int) -> tuple[int, int, int, int]:
    return like.shape[0], channels, like.shape[2], like.shape[3]
