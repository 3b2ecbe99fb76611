"""SegLoss: cross-entropy, Dice and focal Tversky between a segmentation and rasterised polygons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossreg import Loss
from lossreg.errors import DtypeError, MissingKeyError, RangeError, ShapeError, warn
from lossreg.losses.base import can_look, holds, is_within, zero_on_graph
from lossreg.losses.channels import ChannelSelector, channel_indices, parse_selector, take_channels
from lossreg.losses.mean import Count, Mean, aligned, product, valued
from lossreg_seg.classes import Classes, ClassLoss, Indices, class_formula
from lossreg_seg.formulas import Binary, Coefficients, Parts, Share, binary_formula, multiclass_formula, where_valid
from lossreg_seg.kernel import BinaryLoss
from lossreg_seg.mixup import mixup_batch

_PRED, _GT, _WEIGHTS = "pred.seg", "gt.gt_polygons_image", "gt.seg_loss_weights"
_MIXUP = ("mixup_y_a", "mixup_y_b", "mixup_lam")


class _Target(NamedTuple):
    """A target with its key, and the factors of the cross-entropy."""

    key: str
    tensor: Tensor
    weights: Tensor | None


class SegLoss(Loss):
    """Cross-entropy, Dice and focal Tversky between a segmentation and a raster.

    The value is `bce_coef * bce + dice_coef * dice + tversky_focal_coef * tversky`.

    Binary (`n_classes` 1 or 2): each channel is a separate binary problem. `pred.seg` (N, C, H, W) contains
    probabilities, or logits if `use_mixed_precision`. `gt_channel_selector` selects the same number of channels from
    `gt.gt_polygons_image` (N, C_gt, H, W), with values in 0 to 1 and any dtype; bool and integer masks are read without
    a copy. Cross-entropy is the mean over all elements; with `gt.seg_loss_weights` (N, C_gt, H, W) each is first
    multiplied by its weight, and the mean still divides by the number of elements. Dice and focal Tversky are means
    over the planes (n, c) of::

        1 - (2 sum p t + 1) / (sum p + sum t + 1 + 1e-7)
        (1 - TI) ** 0.25,  TI = (TP + 1e-6) / (TP + 0.01 FP + 0.99 FN + 1e-6)
        TP = sum p t,  FP = sum p (1 - t),  FN = sum t (1 - p)

    Multi-class (`n_classes` > 2): `pred.seg` (N, n_classes, H, W) contains logits. The target is class
    indices (N, H, W) or (N, 1, H, W) of an integer dtype, or one-hot or soft (N, n_classes, H, W). If the target has
    one channel per class and the selector selects one channel, the target is treated as one-hot. Dice and Tversky
    compare `softmax(pred.seg)` with the unsmoothed target.

    Pixels with the target `ignore_index` are not part of any sum or count; in the binary case only for their channel. A
    plane without any other pixel is not part of the mean over planes. If all pixels are ignored or the batch is empty,
    the value is a zero on the graph. Sums are computed in float32, or float64 for float64 predictions, for every
    autocast dtype.

    The elements of a `mask` and of a `sample_weight` are (N, C, H, W), or (N, H, W) for classes. A masked pixel is the
    same as an ignored one; there prediction, target and `gt.seg_loss_weights` may be NaN. Weights of pixels make the
    cross-entropy a weighted mean and are factors in the sums `sum p`, `sum t`, `TP`, `FP` and `FN`. Weights of samples
    (N,), and of planes (N, C), weigh both means.

    The value is the sum of up to two means. The first is the cross-entropy, with the number of pixels that count (or
    the sum of their weights) as its count; there is none with `bce_coef` 0. The second is Dice and Tversky, with the
    number of planes that have such a pixel (or the sum of their weights); there is none if both coefficients are 0 and
    `bce_coef` is not. With `use_mixup` there are those of `y_a` and then those of `y_b`; where a batch has no MixUp,
    the latter count 0.

    Dice follows Milletari et al., V-Net (3DV 2016); focal Tversky Abraham and Khan (ISBI 2019).

    Args:
        name: the name of the term in logs and in `MultiLoss`.
        gt_channel_selector: the target channels: an int, a slice, a list of ints, a list of bools, or a mapping
            `{start, stop, step}`. An int keeps the channel axis.
        n_classes: 1 or 2 for binary channels, more for mutually exclusive classes.
        bce_coef: weight of the cross-entropy; with 0 it is not computed.
        dice_coef: weight of the Dice loss; with 0 it is not computed.
        tversky_focal_coef: weight of the focal Tversky loss; with 0 it is not computed.
        use_mixed_precision: whether predictions are logits, as half precision requires.
        use_mixup: if the batch has `mixup_y_a`, `mixup_y_b` and `mixup_lam`, return
            `lam L(pred, y_a) + (1 - lam) L(pred, y_b)` for the prediction at `mixup_pred`, or else at `seg`.
        mixup_alpha: shape of the Beta distribution from which `mixup` draws `lam`, above 0.
        use_label_smooth: smooth the target: binary `t (1 - s) + s / 2`; multi-class `t (1 - s) + s / n_classes`, only
            in the cross-entropy.
        smooth_factor: the `s` of label smoothing, from 0 to 1; above 0 if and only if `use_label_smooth`.
        ignore_index: the target value of pixels to ignore; null for none. If 255 means foreground in your masks,
            divide them by 255. On the CPU a warning is given if all targets are 0 or 255.

    Raises:
        MissingKeyError, ShapeError, DtypeError: the batch is not as described above.
        RangeError: probabilities or targets are outside their range, on the CPU in eager mode. On another device a
            probability outside 0 to 1 makes the value NaN, as it does in a compiled cross-entropy. Targets outside, of
            probabilities and of classes, are an assertion of the device, as in torch's own losses.
    """

    optional = (_WEIGHTS,)
    masks = True
    _foreground_seen = False

    def __init__(
        self,
        name: str,
        gt_channel_selector: ChannelSelector,
        n_classes: int = 2,
        bce_coef: float = 0.5,
        dice_coef: float = 0.5,
        tversky_focal_coef: float = 0.0,
        use_mixed_precision: bool = False,
        use_mixup: bool = False,
        mixup_alpha: float = 0.5,
        use_label_smooth: bool = False,
        smooth_factor: float = 0.0,
        ignore_index: int | None = 255,
    ) -> None:
        super().__init__(name)
        for label, coef in (("bce", bce_coef), ("dice", dice_coef), ("tversky_focal", tversky_focal_coef)):
            if not math.isfinite(coef):
                raise ValueError(f"SegLoss {name!r}: {label}_coef: expected a finite number, found {coef!r}")
        if n_classes < 1:
            raise ValueError(f"SegLoss {name!r}: n_classes: expected 1 or more, found {n_classes!r}")
        if not mixup_alpha > 0:
            raise ValueError(f"SegLoss {name!r}: mixup_alpha: expected a number above 0, found {mixup_alpha!r}")
        if not 0 <= smooth_factor <= 1:
            raise ValueError(f"SegLoss {name!r}: smooth_factor: expected 0 to 1, found {smooth_factor!r}")
        if use_label_smooth != (smooth_factor > 0):
            fix = "set smooth_factor" if use_label_smooth else "set use_label_smooth, or leave out smooth_factor"
            raise ValueError(
                f"SegLoss {name!r}: use_label_smooth is {use_label_smooth} and smooth_factor is {smooth_factor}, "
                f"so nothing is smoothed; {fix}"
            )
        self.gt_channel_selector = parse_selector(gt_channel_selector)
        self.n_classes = n_classes
        self.coefs = Coefficients(bce_coef, dice_coef, tversky_focal_coef)
        self.use_mixed_precision = use_mixed_precision
        self.use_mixup = use_mixup
        self.mixup_alpha = mixup_alpha
        self.smoothing = smooth_factor
        self.ignore_index = ignore_index
        self.parts = (1 + use_mixup) * len(self._chosen("entropy", "overlap"))
        # A MixUp batch may have its own keys instead of these two.
        self.requires = () if use_mixup else (_PRED, _GT)

    def mixup(self, images: Tensor, gt_batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Return `mixup_batch(images, gt_batch, self.mixup_alpha)`."""
        return mixup_batch(images, gt_batch, self.mixup_alpha)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Sequence[Mean]:
        """Return the means in float32, or float64 for float64 predictions."""
        mixed = self._mixup_keys(pred_batch, gt_batch)
        weights = self.read_optional(pred_batch, gt_batch, _WEIGHTS)
        if not mixed:
            pred = self.read(pred_batch, gt_batch, _PRED)
            target = _Target(_GT, self.read(pred_batch, gt_batch, _GT), weights)
            means = self._means(self._against(pred, target, pred_batch, gt_batch))
            if self.use_mixup:
                means += [Mean(zero_on_graph(pred), 0.0) for _ in means]
            return means
        if "mixup_pred" not in mixed:
            mixed["mixup_pred"] = self.read(pred_batch, gt_batch, _PRED)
        pred = self._mixup_tensor(mixed, "mixup_pred")
        lam = self._mixup_lam(mixed["mixup_lam"])
        at_a, at_b = (
            self._means(self._against(pred, _Target(f"gt.{key}", target, weights), pred_batch, gt_batch))
            for key, target in self._mixup_targets(mixed)
        )
        mixed_a = [valued(mean, lam * mean.value) for mean in at_a]
        return mixed_a + [valued(mean, (1 - lam) * mean.value) for mean in at_b]

    def counts(self, gt_batch: Any) -> Sequence[Count]:
        """Return the numbers of pixels and of planes that count, or the sums of their weights, from the targets.

        Raises:
            CountError: a batch of a loss with `use_mixup` has no target, neither plain nor mixed.
            MissingKeyError, ShapeError: the batch is not as described for the loss.
        """
        mixed = self._mixup_keys({}, gt_batch)
        if mixed:
            targets = self._mixup_targets(mixed)
            return [count for key, target in targets for count in self._counts(f"gt.{key}", target, gt_batch)]
        if self.use_mixup and self.read_optional({}, gt_batch, _GT) is None:
            return super().counts(gt_batch)
        counts = self._counts(_GT, self.read({}, gt_batch, _GT), gt_batch)
        return [*counts, *(0.0 for _ in counts)] if self.use_mixup else counts

    def _means(self, parts: Parts) -> list[Mean]:
        both = {"entropy": Mean(parts.entropy, parts.pixels), "overlap": Mean(parts.overlap, parts.planes)}
        return self._chosen(both["entropy"], both["overlap"])

    def _counts(self, key: str, target: Tensor, gt_batch: Any) -> list[Count]:
        if self.n_classes > 2:
            pixels = self._class_planes(key, target)
            valid = self._valid_classes(pixels)
            shape = (pixels.shape[0], 1, *pixels.shape[2:])
        else:
            pixels = self._channels(key, target)
            valid = where_valid(pixels, self.ignore_index)
            shape = tuple(pixels.shape)
        share = self._share(shape, valid, {}, gt_batch)
        if math.prod(shape) == 0:
            return self._chosen(0.0, 0.0)
        return self._chosen(share.of_pixels, share.of_planes)

    def _chosen(self, entropy: Any, overlap: Any) -> list[Any]:
        """Return what there is of the two, by the coefficients."""
        has_overlap = self.coefs.dice or self.coefs.tversky or not self.coefs.bce
        return [entropy] * bool(self.coefs.bce) + [overlap] * bool(has_overlap)

    # --- MixUp ------------------------------------------------------------------------------------

    def _mixup_keys(self, pred_batch: Any, gt_batch: Any) -> dict[str, Any]:
        """Return the MixUp keys of either batch; empty for a batch without MixUp."""
        if not self.use_mixup:
            return {}
        both = {
            key: value
            for batch in (gt_batch, pred_batch)
            if isinstance(batch, Mapping)
            for key, value in batch.items()
            if key in (*_MIXUP, "mixup_pred") and value is not None
        }
        if not both:
            return {}
        missing = [key for key in _MIXUP if key not in both]
        if missing:
            raise MissingKeyError(
                f"loss {self.name!r}: a MixUp batch: expected {', '.join(map(repr, _MIXUP))}, found only "
                f"{sorted(both)}; add {missing}"
            )
        return both

    def _mixup_targets(self, mixed: dict[str, Any]) -> list[tuple[str, Tensor]]:
        return [(key, self._mixup_tensor(mixed, key)) for key in ("mixup_y_a", "mixup_y_b")]

    def _mixup_tensor(self, mixed: dict[str, Any], key: str) -> Tensor:
        tensor = mixed[key]
        if not isinstance(tensor, Tensor):
            raise DtypeError(f"loss {self.name!r}: {key!r}: expected a tensor, found {type(tensor).__name__}")
        return tensor

    def _mixup_lam(self, lam: Any) -> Tensor | float:
        if isinstance(lam, Tensor):
            if lam.numel() != 1:
                raise ShapeError(
                    f"loss {self.name!r}: 'mixup_lam' has shape {tuple(lam.shape)}, expected one number for the batch"
                )
            self.check_range("gt.mixup_lam", lam, 0.0, 1.0)
            return lam.reshape(())
        if not isinstance(lam, (int, float)):
            raise DtypeError(f"loss {self.name!r}: 'mixup_lam': expected a number, found {type(lam).__name__}")
        if not 0 <= lam <= 1:
            raise RangeError(f"loss {self.name!r}: 'mixup_lam' is {lam!r}, expected 0 to 1")
        return lam

    # --- what counts ------------------------------------------------------------------------------

    @property
    def _is_weighed(self) -> bool:
        """Whether the term has a mask or weights."""
        return bool(self.mask or self.sample_weight)

    def _share(self, shape: Sequence[int], valid: Tensor | None, pred_batch: Any, gt_batch: Any) -> Share:
        """Return what counts in planes of pixels (N, C, H, W), where C is 1 for classes."""
        pixels = planes = None
        if self._is_weighed:
            pixels, planes = self._weights_of(shape, pred_batch, gt_batch)
        return Share.of(shape, valid, pixels, planes, self.n_classes if self.n_classes > 2 else 1)

    def _weights_of(self, shape: Sequence[int], pred_batch: Any, gt_batch: Any) -> tuple[Tensor | None, Tensor | None]:
        """Return the weights of pixels (N, C, H, W) and of planes (N, C, 1, 1) by the term's mask and weights."""
        channels = self.n_classes <= 2
        of_elements = shape if channels else (shape[0], *shape[2:])
        self.elements(pred_batch, gt_batch, of_elements, channels=channels)  # checks them
        pixels = planes = None
        for key in (*self.mask, *self.sample_weight):
            weights = aligned(self.read(pred_batch, gt_batch, key), of_elements, channels)
            assert weights is not None
            weights = weights != 0 if key in self.mask else weights
            weights = weights.unsqueeze(1) if self.n_classes > 2 else weights
            if weights.shape[2:] == (1, 1):
                planes = product(planes, weights)
            else:
                pixels = product(pixels, weights)
        return pixels, planes

    # --- one prediction against one target --------------------------------------------------------

    def _against(self, pred: Tensor, target: _Target, pred_batch: Any, gt_batch: Any) -> Parts:
        self.check_float(_PRED, pred)
        if self.n_classes > 2:
            self.check_shape(_PRED, pred, ("N", self.n_classes, "H", "W"))
            return self._multiclass(pred, target, pred_batch, gt_batch)
        self.check_shape(_PRED, pred, ("N", "C", "H", "W"))
        return self._binary(pred, target, pred_batch, gt_batch)

    def _binary(self, pred: Tensor, given: _Target, pred_batch: Any, gt_batch: Any) -> Parts:
        target = self._channels(given.key, given.tensor, pred)
        if target.shape != pred.shape:
            raise ShapeError(
                f"loss {self.name!r}: {_PRED!r} has shape {tuple(pred.shape)}, but gt_channel_selector selects "
                f"{tuple(target.shape)} from {given.key!r} {tuple(given.tensor.shape)}; expected equal shapes"
            )
        weights = None if given.weights is None else self._weights(given.weights, pred, target.shape[1])
        share = None
        if self._is_weighed:
            valid = where_valid(target, self.ignore_index)
            share = self._share(pred.shape, valid, pred_batch, gt_batch)
        if pred.numel() == 0:
            return _nothing(pred)
        self._look_for_foreground(given.key, target)
        task = Binary(self.coefs, self.use_mixed_precision, self.smoothing, self.ignore_index)
        if share is None and BinaryLoss.applies(pred, target, weights):
            parts = Parts(*BinaryLoss.apply(pred, target, weights, task))  # type: ignore[no-untyped-call]
            if not can_look(pred) or holds((parts.entropy + parts.overlap).isfinite()):
                return parts
        self._check_ranges(pred, given.key, target, share)
        return binary_formula(pred, target, weights, task, share)

    def _look_for_foreground(self, gt_key: str, target: Tensor) -> None:
        """Warn if all targets so far are 0 or ignored, since an ignored 255 may mean foreground."""
        if not can_look(target) or self._foreground_seen or self.ignore_index in (None, 0, 1):
            return
        background, ignored = target == 0, target == self.ignore_index
        if not holds((background | ignored).all()):
            self._foreground_seen = True
        if self._foreground_seen or not holds(background.any() & ignored.any()):
            return
        self._foreground_seen = True  # warn only once
        warn(
            f"loss {self.name!r}: {gt_key!r} holds only 0 and {self.ignore_index}, and {self.ignore_index} is "
            "ignored, so nothing is foreground; expected 1 for foreground: divide a mask of 0 and 255 by 255, or "
            "set `ignore_index: null`",
            UserWarning,
        )

    def _check_ranges(self, pred: Tensor, gt_key: str, target: Tensor, share: Share | None) -> None:
        """Raise for probabilities and targets outside 0 to 1, except at pixels that do not count."""
        kept = where_valid(target, self.ignore_index) if share is None else share.kept
        if kept is not None:
            pred, target = torch.where(kept, pred, 0), torch.where(kept, target, 0)
        self.check_range(gt_key, target, 0, 1, hint="divide a mask of 0 and 255 by 255")
        if not self.use_mixed_precision:
            self.check_range(_PRED, pred, 0, 1, hint="for logits set use_mixed_precision: true")

    def _multiclass(self, pred: Tensor, given: _Target, pred_batch: Any, gt_batch: Any) -> Parts:
        self._look_for_foreground(given.key, given.tensor)
        target = self._class_planes(given.key, given.tensor, pred)
        weights = None if given.weights is None else self._weights(given.weights, pred, 1, self.n_classes)
        if pred.numel() == 0:
            return _nothing(pred)
        if target.shape[1] != self.n_classes:
            return self._of_indices(pred, given.key, target, weights, pred_batch, gt_batch)
        share = self._share((len(pred), 1, *pred.shape[2:]), self._valid_classes(target), pred_batch, gt_batch)
        target = target if share.kept is None else torch.where(share.kept, target, 0)
        hint = "a target with one channel per class must be one-hot or probabilities"
        self.check_range(given.key, target, 0, 1, hint=hint)
        return multiclass_formula(pred, target, weights, share, self.coefs, self.smoothing)

    def _of_indices(
        self, pred: Tensor, key: str, target: Tensor, weights: Tensor | None, pred_batch: Any, gt_batch: Any
    ) -> Parts:
        """Return the loss of class indices (N, 1, H, W)."""
        if target.is_floating_point():
            raise DtypeError(
                f"loss {self.name!r}: {key!r} has dtype {str(target.dtype).removeprefix('torch.')}, expected an "
                "integer dtype for class indices; convert it with .long()"
            )
        share, kept = None, None
        is_class = self.ignore_index is not None and 0 <= self.ignore_index < self.n_classes
        if self._is_weighed:
            shape = (len(pred), 1, *pred.shape[2:])
            share = self._share(shape, self._valid_classes(target), pred_batch, gt_batch)
            kept = share.kept
        elif is_class or not (can_look(target) and is_within(target, 0, self.n_classes - 1)):
            kept = self._valid_classes(target)
        at = target.long() if kept is None else target.long() * kept
        self.check_range(key, at, 0, self.n_classes - 1, hint=f"n_classes is {self.n_classes}")
        label = torch.where(kept, at, -1) if kept is not None and (is_class or share is not None) else target
        weights = weights if weights is None or kept is None else torch.where(kept, weights, 0)
        indices, task = Indices(at, label, kept), Classes(self.coefs, self.smoothing)
        if ClassLoss.applies(pred, indices, weights, share):
            parts = Parts(*ClassLoss.apply(pred, *indices, weights, task))  # type: ignore[no-untyped-call]
            if not can_look(pred) or holds((parts.entropy + parts.overlap).isfinite()):
                return parts
        return class_formula(pred, indices, weights, task, share)

    # --- reading the target -----------------------------------------------------------------------

    def _channels(self, key: str, raster: Tensor, pred: Tensor | None = None) -> Tensor:
        """Return the selected channels of a raster (N, C_gt, H, W) with the size of `pred`, if it is given."""
        self.check_shape(key, raster, _sized(pred, "C_gt"))
        try:
            return take_channels(raster, channel_indices(self.gt_channel_selector, raster.shape[1]))
        except IndexError as error:
            raise ShapeError(
                f"loss {self.name!r}: {key!r} has shape {tuple(raster.shape)}: "
                f"gt_channel_selector {self.gt_channel_selector!r}: {error}"
            ) from None

    def _weights(self, weights: Tensor, pred: Tensor, *channels: int) -> Tensor:
        self.check_float(_WEIGHTS, weights)
        taken = self._channels(_WEIGHTS, weights, pred)
        if taken.shape[1] not in channels:
            raise ShapeError(
                f"loss {self.name!r}: gt_channel_selector selects {taken.shape[1]} channels from {_WEIGHTS!r} "
                f"{tuple(weights.shape)}, expected {' or '.join(map(str, channels))}"
            )
        return taken

    def _class_planes(self, key: str, gt: Tensor, pred: Tensor | None = None) -> Tensor:
        """Return a multi-class target (N, 1 or n_classes, H, W): indices, or one plane for each class."""
        if gt.dim() == 3:
            self.check_shape(key, gt, _sized(pred))
            gt = gt[:, None]
        else:
            taken = self._channels(key, gt, pred)
            gt = gt if taken.shape[1] == 1 and gt.shape[1] == self.n_classes else taken
        if gt.shape[1] not in (1, self.n_classes):
            raise ShapeError(
                f"loss {self.name!r}: gt_channel_selector selects {gt.shape[1]} channels from {key!r}; "
                f"expected 1 (class indices) or {self.n_classes} (one-hot or probabilities)"
            )
        return gt

    def _valid_classes(self, gt: Tensor) -> Tensor | None:
        """Return (N, 1, H, W) which pixels of a multi-class target are not ignored; None for all."""
        valid = where_valid(gt, self.ignore_index)
        return valid if valid is None or gt.shape[1] == 1 else valid.all(dim=1, keepdim=True)

    def extra_repr(self) -> str:
        """Return the main options for `repr`."""
        return (
            f"name={self.name!r}, gt_channel_selector={self.gt_channel_selector!r}, "
            f"n_classes={self.n_classes}, bce={self.coefs.bce:g}, dice={self.coefs.dice:g}, "
            f"tversky={self.coefs.tversky:g}"
        )


def _nothing(pred: Tensor) -> Parts:
    """Return the parts of an empty batch."""
    zero = zero_on_graph(pred)
    return Parts(zero, zero, 0.0, 0.0)


def _sized(pred: Tensor | None, *channels: str) -> tuple[int | str, ...]:
    """Return the shape that a target must have beside a prediction (N, C, H, W); without one, any size."""
    n, height, width = ("N", "H", "W") if pred is None else (pred.shape[0], *pred.shape[2:])
    return n, *channels, height, width
