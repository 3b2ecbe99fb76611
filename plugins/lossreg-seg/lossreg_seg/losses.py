"""SegLoss: cross-entropy, Dice and focal Tversky between a segmentation and rasterised polygons."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from lossreg import Loss
from lossreg.errors import DtypeError, MissingKeyError, RangeError, ShapeError
from lossreg.losses.base import can_look, holds, zero_on_graph
from lossreg.losses.channels import ChannelSelector, channel_indices, parse_selector, take_channels
from lossreg_seg.formulas import Binary, Coefficients, binary_formula, multiclass_formula, where_valid
from lossreg_seg.kernel import BinaryLoss, OutOfRangeError
from lossreg_seg.mixup import mixup_batch

_PRED, _GT, _WEIGHTS = "pred.seg", "gt.gt_polygons_image", "gt.seg_loss_weights"
_MIXUP = ("mixup_y_a", "mixup_y_b", "mixup_lam")


class SegLoss(Loss):
    """Cross-entropy, Dice and focal Tversky between a segmentation and a raster.

    The value is `bce_coef * bce + dice_coef * dice + tversky_focal_coef * tversky`.

    Binary (`n_classes` 1 or 2): each channel is a separate binary problem. `pred.seg` (N, C, H, W) contains
    probabilities, or logits if `use_mixed_precision`. `gt_channel_selector` selects the same number of channels from
    `gt.gt_polygons_image` (N, C_gt, H, W), with values in 0 to 1 and any dtype; bool and integer masks are read without
    a copy. Cross-entropy is the mean over all elements, weighted by `gt.seg_loss_weights` (N, C_gt, H, W) if the batch
    has them. Dice and focal Tversky are means over the planes (n, c) of::

        1 - (2 sum p t + 1) / (sum p + sum t + 1 + 1e-7)
        (1 - TI) ** 0.25,  TI = (TP + 1e-6) / (TP + 0.01 FP + 0.99 FN + 1e-6)
        TP = sum p t,  FP = sum p (1 - t),  FN = sum t (1 - p)

    Multi-class (`n_classes` > 2): `pred.seg` (N, n_classes, H, W) contains logits. The target is class
    indices (N, H, W) or (N, 1, H, W) of an integer dtype, or one-hot or soft (N, n_classes, H, W). If the target has
    one channel per class and the selector selects one channel, the target is treated as one-hot. Dice and Tversky
    compare `softmax(pred.seg)` with the unsmoothed target.

    Pixels with the target `ignore_index` are not part of any sum or count; in the binary case only for their channel.
    If all pixels are ignored or the batch is empty, the value is a zero on the graph. Sums are computed in float32, or
    float64 for float64 predictions, for every autocast dtype.

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
        RangeError: probabilities or targets are outside their range (checked on the CPU in eager mode).
    """

    optional = (_WEIGHTS,)
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
        # A MixUp batch may have its own keys instead of these two.
        self.requires = () if use_mixup else (_PRED, _GT)

    def mixup(self, images: Tensor, gt_batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Return `mixup_batch(images, gt_batch, self.mixup_alpha)`."""
        return mixup_batch(images, gt_batch, self.mixup_alpha)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return the scalar loss in float32, or float64 for float64 predictions."""
        mixed = self._mixup_keys(pred_batch, gt_batch)
        weights = self.read_optional(pred_batch, gt_batch, _WEIGHTS)
        if not mixed:
            pred = self.read(pred_batch, gt_batch, _PRED)
            return self._against(pred, _GT, self.read(pred_batch, gt_batch, _GT), weights)
        pred = mixed["mixup_pred"]
        lam = self._mixup_lam(mixed["mixup_lam"])
        at_a = self._against(pred, "gt.mixup_y_a", mixed["mixup_y_a"], weights)
        at_b = self._against(pred, "gt.mixup_y_b", mixed["mixup_y_b"], weights)
        return lam * at_a + (1 - lam) * at_b

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
            if key in (*_MIXUP, "mixup_pred")
        }
        if not both:
            return {}
        missing = [key for key in _MIXUP if key not in both]
        if missing:
            raise MissingKeyError(
                f"loss {self.name!r}: a MixUp batch: expected {', '.join(map(repr, _MIXUP))}, found only "
                f"{sorted(both)}; add {missing}"
            )
        if "mixup_pred" not in both:
            both["mixup_pred"] = self.read(pred_batch, gt_batch, _PRED)
        for key in ("mixup_pred", "mixup_y_a", "mixup_y_b"):
            if not isinstance(both[key], Tensor):
                raise DtypeError(f"loss {self.name!r}: {key!r}: expected a tensor, found {type(both[key]).__name__}")
        return both

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

    # --- one prediction against one target --------------------------------------------------------

    def _against(self, pred: Tensor, gt_key: str, gt: Tensor, weights: Tensor | None) -> Tensor:
        self.check_float(_PRED, pred)
        if self.n_classes > 2:
            self.check_shape(_PRED, pred, ("N", self.n_classes, "H", "W"))
            value = self._multiclass(pred, gt_key, gt, weights)
        else:
            self.check_shape(_PRED, pred, ("N", "C", "H", "W"))
            value = self._binary(pred, gt_key, gt, weights)
        return value

    def _binary(self, pred: Tensor, gt_key: str, gt: Tensor, weights: Tensor | None) -> Tensor:
        target = self._channels(gt_key, gt, pred)
        if target.shape != pred.shape:
            raise ShapeError(
                f"loss {self.name!r}: {_PRED!r} has shape {tuple(pred.shape)}, but gt_channel_selector selects "
                f"{tuple(target.shape)} from {gt_key!r} {tuple(gt.shape)}; expected equal shapes"
            )
        weights = None if weights is None else self._weights(weights, pred, target.shape[1])
        if pred.numel() == 0:
            return zero_on_graph(pred)
        self._look_for_foreground(gt_key, target)
        task = Binary(self.coefs, self.use_mixed_precision, self.smoothing, self.ignore_index)
        if BinaryLoss.applies(pred, target, weights):
            try:
                return cast(Tensor, BinaryLoss.apply(pred, target, weights, task))  # type: ignore[no-untyped-call]
            except OutOfRangeError:
                pass  # reported below, with the key
        self._check_ranges(pred, gt_key, target)
        return binary_formula(pred, target, weights, task)

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
        warnings.warn(
            f"loss {self.name!r}: {gt_key!r} holds only 0 and {self.ignore_index}, and {self.ignore_index} is "
            "ignored, so nothing is foreground; expected 1 for foreground: divide a mask of 0 and 255 by 255, or "
            "set `ignore_index: null`",
            UserWarning,
            stacklevel=2,
        )

    def _check_ranges(self, pred: Tensor, gt_key: str, target: Tensor) -> None:
        """Raise for probabilities and targets outside 0 to 1, except at ignored pixels."""
        valid = where_valid(target, self.ignore_index)
        if valid is not None:
            pred, target = torch.where(valid, pred, 0), torch.where(valid, target, 0)
        self.check_range(gt_key, target, 0, 1, hint="divide a mask of 0 and 255 by 255")
        if not self.use_mixed_precision:
            self.check_range(_PRED, pred, 0, 1, hint="for logits set use_mixed_precision: true")

    def _multiclass(self, pred: Tensor, gt_key: str, gt: Tensor, weights: Tensor | None) -> Tensor:
        self._look_for_foreground(gt_key, gt)
        target, valid = self._one_hot(gt_key, gt, pred)
        weights = None if weights is None else self._weights(weights, pred, 1, self.n_classes)
        if pred.numel() == 0:
            return zero_on_graph(pred)
        return multiclass_formula(pred, target, weights, valid, self.coefs, self.smoothing)

    # --- reading the target -----------------------------------------------------------------------

    def _channels(self, key: str, raster: Tensor, pred: Tensor) -> Tensor:
        """Return the selected channels of a raster (N, C_gt, H, W) with the size of `pred`."""
        n, _, height, width = pred.shape
        self.check_shape(key, raster, (n, "C_gt", height, width))
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

    def _one_hot(self, key: str, gt: Tensor, pred: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the multi-class target as (N, n_classes, H, W) and its valid pixels (N, 1, H, W)."""
        n, classes, height, width = pred.shape
        if gt.dim() == 3:
            self.check_shape(key, gt, (n, height, width))
            gt = gt[:, None]
        else:
            taken = self._channels(key, gt, pred)
            gt = gt if taken.shape[1] == 1 and gt.shape[1] == classes else taken
        if gt.shape[1] == classes:
            valid = where_valid(gt, self.ignore_index)
            if valid is not None:
                valid = valid.all(dim=1, keepdim=True)
                gt = torch.where(valid, gt, 0)
            self.check_range(key, gt, 0, 1, hint="a target with one channel per class must be one-hot or probabilities")
            return gt, valid
        if gt.shape[1] != 1:
            raise ShapeError(
                f"loss {self.name!r}: gt_channel_selector selects {gt.shape[1]} channels from {key!r}; "
                f"expected 1 (class indices) or {classes} (one-hot or probabilities)"
            )
        if gt.is_floating_point():
            raise DtypeError(
                f"loss {self.name!r}: {key!r} has dtype {str(gt.dtype).removeprefix('torch.')}, expected an "
                "integer dtype for class indices; convert it with .long()"
            )
        valid = where_valid(gt, self.ignore_index)
        indices = (gt if valid is None else torch.where(valid, gt, 0)).long()
        self.check_range(key, indices, 0, classes - 1, hint=f"n_classes is {classes}")
        return torch.zeros_like(pred, requires_grad=False).scatter_(1, indices, 1), valid

    def extra_repr(self) -> str:
        """Return the main options for `repr`."""
        return (
            f"name={self.name!r}, gt_channel_selector={self.gt_channel_selector!r}, "
            f"n_classes={self.n_classes}, bce={self.coefs.bce:g}, dice={self.coefs.dice:g}, "
            f"tversky={self.coefs.tversky:g}"
        )
