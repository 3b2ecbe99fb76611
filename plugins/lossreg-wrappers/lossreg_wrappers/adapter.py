"""A wrapper for library losses that converts predictions and targets to the form that the loss takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossreg import LossWrapper, Mean
from lossreg.arguments import Arguments
from lossreg.errors import RangeError, ShapeError
from lossreg.losses.base import can_look, holds, is_within, zero_on_graph
from lossreg.losses.constants import register_constant
from lossreg.losses.elementwise import unit_of
from lossreg.losses.mean import Count, Elements, blanked, blanked_in, product
from lossreg.losses.nested import mapped, tensors_in
from lossreg_wrappers.forms import INDICES, RANGES, TARGETS, Form, Rules, choose
from lossreg_wrappers.readers import Overlap, Reader, reader
from lossreg_wrappers.units import parsed

_ROUNDING = 1e-6
"""How far a probability may exceed 1 after an interpolation."""
_POOLED = "it is a ratio of sums over the batch, not a mean over elements; a mask leaves pixels out of the sums"
_SCALED = "divide a mask of 0 and 255 by 255"


class _Label:
    """The key of an argument, which is looked for only where a message shows it."""

    __slots__ = ("_asked",)

    def __init__(self, loss: LossWrapper, *place: Any) -> None:
        self._asked = loss, place

    def __repr__(self) -> str:
        loss, place = self._asked
        return repr(loss.label(*place))


class LibraryLoss(LossWrapper):
    """A `LossWrapper` for a library loss with a known form of prediction and target.

    Args:
        loss_func: the loss of the library.
        name: the name of the term.
        takes: form of the prediction, see `lossreg_wrappers.forms`.
        target: form of the target.
        axis: class axis of the prediction.
        classes: the attribute of the loss with the number of classes; by default the size of the class axis.
        place: the position of the target in `inputs`; without it, no argument is checked or converted.
        compared: the number of arguments whose shapes `target_shape` checks; by default all.
        advice: what to write in a config if the forms do not fit.
        copies: whether the loss changes its arguments and therefore gets copies.
        input: what the model returns, if it differs from what the loss takes: `"logits"`, or `"probabilities"` of the
            loss's activation (sigmoid, or softmax over the classes).
        inputs: keys of all arguments, for losses without two arguments; `pred_key` and `gt_key` replace the only key
            of their side in it.
        pred_key: as for `LossWrapper`.
        gt_key: as for `LossWrapper`.
        unit: what the loss has one value for, see `lossreg_wrappers.units`; by default as for `LossWrapper`.
        unmasked: why the loss takes no mask, and what would do, for an error.
        **options: other options of `LossWrapper`.

    Raises:
        ValueError: `input` cannot be converted to the form that the loss takes; the message says how to fix it.
    """

    _reader: tuple[Reader | None]  # in a tuple, since a module would become a child

    transparent = True

    def __init__(
        self,
        loss_func: Callable[..., Any],
        name: str | None = None,
        *,
        takes: Rules,
        target: Rules = "values",
        axis: int = 1,
        classes: str = "",
        place: int | None = None,
        compared: int | None = None,
        advice: str = "",
        copies: bool = False,
        input: Literal["logits", "probabilities"] | None = None,
        inputs: Sequence[str] | Mapping[str, str] | None = None,
        pred_key: str | None = None,
        gt_key: str | None = None,
        unit: Rules = "",
        unmasked: str = "",
        **options: Any,
    ) -> None:
        _adopt_constants(loss_func)  # before a copy of the loss, which shares its buffers, is made for its elements
        target = choose(target, loss_func)
        if target not in TARGETS:
            raise ValueError(f"target: expected {'|'.join(TARGETS)}, found {target!r}")
        if inputs is None:
            place = 1 if place is None else place
            if options.get("target_shape") is None:
                own_shape = target not in (*INDICES, "mask without channel", "any")
                options["target_shape"] = "same" if own_shape else "any"
            if target in INDICES and options.setdefault("target_dtype", "long") not in ("long", None):
                raise ValueError("target_dtype: the loss takes class indices; leave it out")
        if inputs is not None:
            inputs = _renamed(inputs, {"pred": pred_key, "gt": gt_key})
            pred_key = gt_key = None
        unit, by = parsed(choose(unit, loss_func) if unit else unit_of(loss_func) or "none")
        read = reader(by, loss_func) if by else None
        found = not by or read is not None
        if found and unit not in ("pooled", "none"):
            options |= {"unit": unit, "values_of": read}
        pooled = unit == "pooled"
        self.unmasked = unmasked or (_POOLED if pooled else "")  # before the core's constructor, which may report it
        super().__init__(loss_func, name, inputs=inputs, pred_key=pred_key, gt_key=gt_key, **options)
        self.__dict__["_reader"] = (read,)
        self._shares = read is not None
        self.pooled = pooled
        self.masks = self.masks or (self.pooled and found)
        self.takes = Form.parse(choose(takes, loss_func))
        self.target: str = target
        self.advice = advice
        self.copies = copies
        self.input = input
        self.axis = axis
        self.classes = classes
        self.place = place
        self.compared = compared
        if self.takes.kind == "nothing":
            raise ValueError(
                f"loss {self.name!r}: with these arguments one part of it takes logits and the other probabilities"
                + self._advised()
            )
        self._convert = self._conversion()

    # --- elements ---------------------------------------------------------------------------------

    def _why_unmasked(self) -> str:
        return self.unmasked or super()._why_unmasked()

    def take_mask(self, mask: Any = None, sample_weight: Any = None) -> None:
        """Set which elements count and how much; see `Loss.take_mask`."""
        if sample_weight is not None and self.pooled:
            checks = Arguments(f"LibraryLoss {self.name!r}")
            checks.report("sample_weight", f"is not possible: {_POOLED}", "leave it out", "conflict")
            checks.done()
        super().take_mask(mask, sample_weight)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor | Mean | Sequence[Mean]:
        """Return the value of the wrapped loss: a mean with its count where it has values of elements."""
        (read,) = self._reader
        if not isinstance(read, Overlap) or not (self.mask or self.sample_weight):
            return super().compute(pred_batch, gt_batch)
        arguments = self.arguments(pred_batch, gt_batch)
        self._check_shapes(arguments, pred_batch, gt_batch)
        pred, target = arguments
        pixels = self.elements(pred_batch, gt_batch, self._pixels(target, pred), channels=False)
        if math.prod(pixels.shape) == 0:
            return zero_on_graph(pred) if self.pooled else Mean(zero_on_graph(pred), 0.0, self._sums)
        values: Tensor = self._called(read, arguments, {"kept": pixels.kept})
        if self.pooled:
            return values
        samples, reduction = self._samples(pixels), self.reduction or self._own_reduction
        return samples.weigh(values) if reduction == "none" else samples.mean(values, reduction)

    def counts(self, gt_batch: Any) -> Sequence[Count]:
        """Return the counts of the loss's means, from the targets alone; see `Loss.counts`."""
        (read,) = self._reader
        target = self._target_alone(gt_batch) if isinstance(read, Overlap) and not self.pooled else None
        if target is None or not (self.mask or self.sample_weight):
            return super().counts(gt_batch)
        pixels = self.elements({}, gt_batch, self._pixels(target), channels=False)
        if pixels.kept is not None:
            target = blanked(target, pixels.kept)
        self._checked_alone(self.label(1, {}, gt_batch), target, is_soft=False)
        return [self._samples(pixels).count(self.reduction or self._own_reduction)]

    @property
    def _sums(self) -> bool:
        return (self.reduction or self._own_reduction) == "sum"

    def _samples(self, pixels: Elements) -> Elements:
        """Return the samples that have a pixel which counts, with their weights."""
        weights = pixels.outer
        if pixels.inner is not None:
            if pixels.inner.dtype != torch.bool:
                raise ShapeError(
                    f"loss {self.name!r}: sample_weight: expected one weight for each sample, (N,), since an overlap "
                    "of sums over pixels has no weighted mean; use mask to leave pixels out"
                )
            present = pixels.inner.flatten(1).any(1).expand(pixels.shape[:1])
            weights = present if weights is None else product(weights, present)
        return Elements(pixels.shape[:1], outer=weights)

    def _blanked(self, arguments: Sequence[Any], pred_batch: Any, gt_batch: Any) -> Sequence[Any]:
        """Return arguments with valid values where elements do not count, before they are checked and converted."""
        if not (self.mask or self.sample_weight) or not self.masks:
            return arguments
        if not self._has_pixels:
            self._check_shapes(arguments, pred_batch, gt_batch)
        shape = self._shape_before(arguments)
        kept = self.elements(pred_batch, gt_batch, shape, channels=self._has_channel_axis).kept
        return arguments if kept is None else [blanked_in(a, kept, self.neutral(i)) for i, a in enumerate(arguments)]

    def _shape_before(self, arguments: Sequence[Any]) -> tuple[int, ...]:
        """Return the shape of the elements that a mask chooses, from arguments that are not converted yet."""
        target = self._target_in(arguments)
        if target is not None and self._has_pixels:
            return self._pixels(target, arguments[0])
        return super()._shape_in(arguments, target)

    @property
    def _has_channel_axis(self) -> bool:
        return not self._has_pixels

    @property
    def _has_pixels(self) -> bool:
        return self.unit == "positions" or isinstance(self._reader[0], Overlap)

    def _shape_in(self, arguments: Sequence[Tensor], target: Tensor | None) -> tuple[int, ...]:
        if self.unit == "positions" and target is not None:
            return self._pixels(target, arguments[0])
        return super()._shape_in(arguments, target)

    def _pixels(self, target: Tensor, pred: Tensor | None = None) -> tuple[int, ...]:
        """Return the shape of the pixels or tokens of a target, without its class axis."""
        shape = tuple(target.shape)
        channel = len(shape) > 1 and shape[1] == 1 and (pred is None or len(shape) == pred.dim())
        return (*shape[:1], *shape[2:]) if channel or self._has_channels(target, pred) else shape

    def _has_channels(self, target: Tensor, pred: Tensor | None = None) -> bool:
        """Return whether a target has one number for each class; from the target alone if it is floating."""
        (read,) = self._reader
        if self.target in INDICES:
            if self.target != "indices or distribution" or target.dim() < 2:
                return False
            if pred is None:
                return target.is_floating_point() and target.shape[1] > 1
            axis = self.axis if pred.dim() > self.axis else -1
            classes = int(getattr(self.loss_func, self.classes)) if self.classes else pred.shape[axis]
            return classes > 1 and self._has_all_classes(pred, target, axis, classes)
        return isinstance(read, Reader) and read.has_channels

    def _is_soft(self, target: Tensor) -> bool:
        return self.unit == "positions" and self._has_channels(target)

    def _target_in(self, arguments: Sequence[Any]) -> Tensor | None:
        """Return the target, class indices without a channel axis."""
        target = super()._target_in(arguments)
        single = target is not None and self._has_pixels and target.dim() == arguments[0].dim() > 1
        if target is None or not single or target.shape[1] != 1 or self._has_channels(target, arguments[0]):
            return target
        return target.squeeze(1)

    def _target_alone(self, gt_batch: Any) -> Tensor | None:
        """Return the target from the targets alone, class indices without a channel axis."""
        target = super()._target_alone(gt_batch)
        if target is None or not self._has_pixels:
            return target
        if target.dim() > 1 and target.shape[1] == 1 and not self._has_channels(target):
            return target.squeeze(1)
        return target

    def share(self, target: Tensor) -> Tensor | None:
        """Return what elements count by themselves in the loss's own mean; see `LossWrapper.share`."""
        (read,) = self._reader
        return super().share(target) if read is None else read.share(target)

    def _checked_alone(self, label: object, target: Tensor, is_soft: bool) -> Tensor:
        target = super()._checked_alone(
            label, target, is_soft and self.target in INDICES
        )  # labels need not add up to 1
        if self.target not in INDICES:
            self._check_numbers(label, target)
        elif not is_soft:
            classes = getattr(self.loss_func, self.classes) if self.classes else math.inf
            return self._checked_indices(label, target, classes - 1, "the loss has so many classes")
        return target

    # --- predictions ------------------------------------------------------------------------------

    def _conversion(self) -> Callable[[Tensor], Tensor] | None:
        """Return the function that converts the model's output for the loss; None if no conversion is needed."""
        source, taken = self.input, self.takes
        if source not in (None, "logits", "probabilities"):
            raise ValueError(f"loss {self.name!r}: input: expected 'logits' or 'probabilities', found {source!r}")
        if source is None or source == taken.kind:
            return None
        if taken.kind == "values":
            raise ValueError(
                f"loss {self.name!r}: `input: {source}` has no effect, since the loss does not take logits or "
                "probabilities; leave it out" + self._advised()
            )
        if not taken.activation:
            reason = {
                "logits": "it needs exact logits, and probabilities determine them only up to a constant",
                "probabilities": "with these arguments its activation is not known",
            }[taken.kind]
            raise ValueError(
                f"loss {self.name!r}: `input: {source}` cannot be converted to {taken.kind}: {reason}" + self._advised()
            )
        return partial(_CONVERSIONS[source, taken.kind, taken.activation], axis=self.axis)

    def arguments(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, ...]:
        """Return the checked and converted arguments for the wrapped loss."""
        arguments = list(self._blanked(super().arguments(pred_batch, gt_batch), pred_batch, gt_batch))
        for i, key in enumerate(self.inputs or ("pred",)):
            if key.startswith("pred"):
                for tensor in tensors_in(arguments[i]):
                    self._check_prediction(_Label(self, i, pred_batch, gt_batch), tensor)
                if self._convert is not None:
                    arguments[i] = mapped(arguments[i], self._convert)
        if self.place is not None and len(arguments) > 1:
            target = arguments[self.place]
            label = _Label(self, self.place, pred_batch, gt_batch)
            arguments[self.place] = self._fitted(label, arguments[0], target)
        return mapped(tuple(arguments), Tensor.clone) if self.copies else tuple(arguments)

    def _check_prediction(self, label: object, pred: Tensor) -> None:
        """Raise for predictions that do not fit the loss, or `input`."""
        kind = self.input or self.takes.kind
        one_class = pred.dim() > self.axis and pred.shape[self.axis] == 1
        if one_class and self.takes == Form("logits", "softmax"):
            raise ShapeError(
                f"loss {self.name!r}: {label!r} has shape {tuple(pred.shape)}, expected two classes or more, since the "
                "softmax of one class is always 1; add a channel for the background, or use a loss with sigmoids"
                + self._advised()
            )
        if kind == "probabilities":
            hints = ["if the model returns logits, set `input: logits`"] if self.takes.activation else []
            if self.input is None:
                hints += [self.advice] if self.advice else []
            elif self.takes.kind != kind:
                hints = [f"{hints[0]} or leave `input` out"]
            hint = "; ".join(hints) or "end the model with a sigmoid or a softmax"
            self.check_range(label, pred, 0, 1 + _ROUNDING, hint)
        elif kind == "log-probabilities":
            hint = "set `input: logits` or `input: probabilities` if the model returns them"
            self.check_range(label, pred, -math.inf, _ROUNDING, hint)

    # --- targets ----------------------------------------------------------------------------------

    def _fitted(self, label: object, pred: Tensor, gt: Tensor) -> Tensor:
        """Return the target in the form that the loss takes."""
        if self.target == "any":
            return gt
        if self.target in INDICES:
            return self._as_indices(label, pred, gt)
        if self.target == "mask without channel" and gt.dim() == pred.dim():
            gt = gt.squeeze(1)
        if self.target == "one-hot" and gt.shape != pred.shape:
            raise ShapeError(
                f"loss {self.name!r}: {label!r} has shape {tuple(gt.shape)}, expected the prediction's own, "
                f"{tuple(pred.shape)}, one channel per class{self._advised()}"
            )
        self._check_numbers(label, gt)
        return gt.to(pred.dtype) if pred.is_floating_point() and not gt.is_complex() else gt

    def _check_numbers(self, label: object, gt: Tensor) -> None:
        """Raise for a target outside the range of its form."""
        if self.target == "signs":
            self._check_signs(label, gt)
        elif self.target in RANGES:
            low, high = RANGES[self.target]
            hint = "" if high == math.inf else _SCALED if high == 1 else "use logarithms of probabilities"
            self._check_values(label, gt, low, high + _ROUNDING * (self.target not in ("mask", "one-hot")), hint)

    def _as_indices(self, label: object, pred: Tensor, gt: Tensor) -> Tensor:
        """Return class indices as int64, with or without a channel axis; or class probabilities."""
        axis = self.axis if pred.dim() > self.axis else -1
        classes = int(getattr(self.loss_func, self.classes)) if self.classes else pred.shape[axis]
        if self.target != "label lists" and classes > 1 and self._has_all_classes(pred, gt, axis, classes):
            if self.target == "indices or distribution":
                self._check_values(label, gt, 0, 1 + _ROUNDING, _SCALED)
                return gt.to(pred.dtype)
            raise ShapeError(
                f"loss {self.name!r}: {label!r} has shape {tuple(gt.shape)}, one channel per class; expected class "
                f"indices: use target.argmax({axis % pred.dim()}){self._advised()}"
            )
        if self.target == "channel indices":
            gt = gt.unsqueeze(1) if gt.dim() == pred.dim() - 1 else gt
        elif self.target != "label lists" and gt.dim() == pred.dim() > 1 and gt.shape[1] == 1:
            gt = gt.squeeze(1)
        most = max(classes - 1, 1) if self.target == "channel indices" else classes - 1  # one channel may be a mask
        return self._checked_indices(label, gt, most, f"the prediction has {classes} classes")

    def _checked_indices(self, label: object, gt: Tensor, most: float, hint: str) -> Tensor:
        """Return class indices as int64; raise for others than integers from 0, or -1 in lists, to the last class."""
        indices = gt.long()
        if gt.is_floating_point() and can_look(gt) and not holds((indices == gt).all()):
            raise RangeError(
                f"loss {self.name!r}: {label!r}: expected class indices, integers from 0"
                f"{'' if most == math.inf else f' to {most:g}'}, found fractions; undo the scaling of the mask, and "
                "resize it with nearest"
            )
        self._check_values(label, indices, -1 if self.target == "label lists" else 0, most, hint)
        return indices

    def _has_all_classes(self, pred: Tensor, gt: Tensor, axis: int, classes: int) -> bool:
        """Return whether a target has the prediction's shape with one number per class along the class axis."""
        expected = list(pred.shape)
        expected[axis] = classes
        return list(gt.shape) == expected

    def _check_values(self, label: object, gt: Tensor, low: float, high: float, hint: str) -> None:
        """Raise for target values outside a range, except for `ignore_index`."""
        if is_within(gt, low, high):
            return
        if self.ignore_index is not None:
            gt = gt[gt != self.ignore_index]
            if is_within(gt, low, high):
                return
        if hasattr(self.loss_func, "ignore_index"):
            hint += "; if a value marks elements to ignore, set it as `ignore_index`"
        self.check_range(label, gt, low, high, hint)

    def _check_signs(self, label: object, gt: Tensor) -> None:
        if can_look(gt) and not holds((gt.abs() == 1 if gt.dtype != torch.bool else gt).all()):
            raise RangeError(
                f"loss {self.name!r}: {label!r} holds values from {gt.min():g} to {gt.max():g}, expected only 1 and "
                "-1; convert a mask of 0 and 1 with 2 * mask - 1"
            )

    def cast_target(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Return class indices unchanged, and cast other targets."""
        return gt if self.target in INDICES else super().cast_target(pred, gt)  # see `_fitted`

    def _advised(self) -> str:
        return f"; {self.advice}" if self.advice else ""

    def extra_repr(self) -> str:
        """Return the options for `repr`, with `input`."""
        return super().extra_repr() + ("" if self.input is None else f", input={self.input!r}")


def _renamed(
    inputs: Sequence[str] | Mapping[str, str], keys: dict[str, str | None]
) -> tuple[str, ...] | dict[str, str]:
    """Return `inputs` with the only key of a side replaced by `pred_key` or `gt_key`."""
    if isinstance(inputs, Mapping):
        return dict(zip(inputs, _renamed(tuple(inputs.values()), keys), strict=True))
    renamed = list(inputs)
    for side, key in keys.items():
        if key is None:
            continue
        places = [place for place, old in enumerate(inputs) if old.startswith(f"{side}.")]
        if len(places) != 1:
            raise ValueError(
                f"{side}_key: expected a loss with one key of this side, found {len(places)}; list all keys in "
                f"`inputs` (default: {list(inputs)})"
            )
        renamed[places[0]] = f"{side}.{key}"
    return tuple(renamed)


def _adopt_constants(loss_func: Any) -> None:
    """Make constants of the tensor attributes of a loss, and of its buffers that are in no checkpoint."""
    for module in loss_func.modules() if isinstance(loss_func, nn.Module) else ():
        plain = {name: value for name, value in vars(module).items() if type(value) is Tensor}
        for name in plain:
            delattr(module, name)
        buffers = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        for name, value in (plain | buffers).items():
            if value is not None:
                register_constant(module, name, value)


# --- conversions of predictions -------------------------------------------------------------------


def _sigmoid(logits: Tensor, axis: int) -> Tensor:  # noqa: ARG001 (all conversions have one signature)
    return logits.sigmoid()


def _logit(probabilities: Tensor, axis: int) -> Tensor:  # noqa: ARG001
    return torch.logit(probabilities, eps=torch.finfo(probabilities.dtype).eps)


def _softmax(logits: Tensor, axis: int) -> Tensor:
    return logits.softmax(axis)


def _log_softmax(logits: Tensor, axis: int) -> Tensor:
    return F.log_softmax(logits, axis)


def _log(probabilities: Tensor, axis: int) -> Tensor:  # noqa: ARG001
    """Return the logarithm of probabilities: log-probabilities, which are also logits of the softmax."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


_CONVERSIONS: dict[tuple[str, str, str], Callable[..., Tensor]] = {
    ("logits", "probabilities", "sigmoid"): _sigmoid,
    ("logits", "probabilities", "softmax"): _softmax,
    ("logits", "log-probabilities", "softmax"): _log_softmax,
    ("probabilities", "logits", "sigmoid"): _logit,
    ("probabilities", "logits", "softmax"): _log,
    ("probabilities", "log-probabilities", "softmax"): _log,
}
