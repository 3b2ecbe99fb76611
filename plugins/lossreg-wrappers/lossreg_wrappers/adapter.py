"""The adapter around a library's loss: predictions and targets brought to the form that the loss takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossreg import LossWrapper
from lossreg.errors import RangeError, ShapeError
from lossreg.losses.base import can_look, holds
from lossreg_wrappers.forms import INDICES, RANGES, TARGETS, Form, Rules, choose

_ROUNDING = 1e-6
"""How far above 1 a probability may come out of an interpolation."""
_SCALED = "divide a mask of 0 and 255 by 255"


class LibraryLoss(LossWrapper):
    """A `LossWrapper` that knows in which form the wrapped loss takes its prediction and its target.

    Args:
        loss_func: the library's loss.
        name: the term's name.
        takes: form of the prediction, see `lossreg_wrappers.forms`.
        target: form of the target.
        axis: the prediction's class axis.
        classes: the loss's attribute with the number of classes; by default the size of that axis.
        place: which of the `inputs` is the target; without, none of them is changed or looked at.
        compared: how many of the arguments `target_shape` is about; by default all.
        advice: what to write in a config where the forms do not fit.
        copies: whether the loss changes what it is given, and so has to be given copies.
        input: what the model puts out, where that is not what the loss takes: `"logits"` or
            `"probabilities"` (of the loss's own activation: a sigmoid each or a softmax over the classes).
        inputs: keys of all arguments, for losses of other than two; `pred_key` and `gt_key` stand for the
            only one of their side among them.
        pred_key: as for `LossWrapper`.
        gt_key: as for `LossWrapper`.
        **options: further options of `LossWrapper`.

    Raises:
        ValueError: `input` cannot be converted to what the loss takes; the message says what to write.
    """

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
        inputs: Sequence[str] | None = None,
        pred_key: str | None = None,
        gt_key: str | None = None,
        **options: Any,
    ) -> None:
        target = choose(target, loss_func)
        if target not in TARGETS:
            raise ValueError(f"target: expected {'|'.join(TARGETS)}; got {target!r}")
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
        super().__init__(loss_func, name, inputs=inputs, pred_key=pred_key, gt_key=gt_key, **options)
        self.takes = Form.parse(choose(takes, loss_func))
        self.target = target
        self.advice = advice
        self.copies = copies
        self.input = input
        self.axis = axis
        self.classes = classes
        self.place = place
        self._compared = compared
        if self.takes.kind == "nothing":
            raise ValueError(
                f"loss {self.name!r}: as it is configured, one part of it takes logits and another one probabilities"
                + self._advised()
            )
        self._convert = self._conversion()
        _adopt_constants(loss_func)

    # --- predictions ------------------------------------------------------------------------------

    def _conversion(self) -> Callable[[Tensor], Tensor] | None:
        """Return the function from what the model puts out to what the loss takes; None where they agree."""
        given, taken = self.input, self.takes
        if given not in (None, "logits", "probabilities"):
            raise ValueError(f"loss {self.name!r}: input must be 'logits' or 'probabilities'; got {given!r}")
        if given is None or given == taken.kind:
            return None
        if taken.kind == "values":
            raise ValueError(
                f"loss {self.name!r}: `input: {given}` has no meaning, the loss takes values as they are;"
                " leave it out" + self._advised()
            )
        if not taken.activation:
            reason = {
                "logits": "it needs the logits themselves, which probabilities give up to a constant only",
                "probabilities": "neither a sigmoid nor a softmax belongs to it as configured",
            }[taken.kind]
            raise ValueError(
                f"loss {self.name!r}: `input: {given}` cannot be converted to {taken.kind}: {reason}" + self._advised()
            )
        return partial(_CONVERSIONS[given, taken.kind, taken.activation], axis=self.axis)

    def _arguments(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, ...]:
        arguments = list(super()._arguments(pred_batch, gt_batch))
        for i, key in enumerate(self.inputs or ("pred",)):
            if key.startswith("pred"):
                self._check_prediction(self._label(i, pred_batch, gt_batch), arguments[i])
                if self._convert is not None:
                    arguments[i] = self._convert(arguments[i])
        if self.place is not None and len(arguments) > 1:
            target = arguments[self.place]
            arguments[self.place] = self._fitted(self._label(self.place, pred_batch, gt_batch), arguments[0], target)
        return tuple(tensor.clone() for tensor in arguments) if self.copies else tuple(arguments)

    def _check_prediction(self, label: str, pred: Tensor) -> None:
        """Refuse numbers that cannot be what the loss takes, or what the config says that they are."""
        kind = self.input or self.takes.kind
        one_class = pred.shape[self.axis :][:1] == (1,)
        if one_class and self.takes == Form("logits", "softmax"):
            raise ShapeError(
                f"loss {self.name!r}: {label!r} has shape {tuple(pred.shape)}, expected two classes or more, whose "
                "softmax is not 1 throughout; give a channel to the background too, or take a loss of sigmoids"
                + self._advised()
            )
        if kind == "probabilities":
            hints = ["if the model puts out logits, set `input: logits`"] if self.takes.activation else []
            if self.input is None:
                hints += [self.advice] if self.advice else []
            elif self.takes.kind != kind:
                hints = [f"{hints[0]} or leave `input` out"]
            hint = "; ".join(hints) or "let the model's last layer be a sigmoid or a softmax"
            self.check_range(label, pred, 0, 1 + _ROUNDING, hint)
        elif kind == "log-probabilities":
            hint = "set `input: logits` or `input: probabilities` if that is what the model puts out"
            self.check_range(label, pred, -math.inf, _ROUNDING, hint)

    # --- targets ----------------------------------------------------------------------------------

    def _fitted(self, label: str, pred: Tensor, gt: Tensor) -> Tensor:
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
        if self.target == "signs":
            self._check_signs(label, gt)
        elif self.target in RANGES:
            low, high = RANGES[self.target]
            hint = "" if high == math.inf else _SCALED if high == 1 else "give logarithms of probabilities"
            self._check_values(label, gt, low, high + _ROUNDING * (self.target not in ("mask", "one-hot")), hint)
        return gt.to(pred.dtype) if pred.is_floating_point() and not gt.is_complex() else gt

    def _as_indices(self, label: str, pred: Tensor, gt: Tensor) -> Tensor:
        """Return class indices as int64, with or without a channel axis; or class probabilities."""
        axis = self.axis if pred.dim() > self.axis else -1
        classes = int(getattr(self.loss_func, self.classes)) if self.classes else pred.shape[axis]
        if self.target != "label lists" and classes > 1 and self._has_all_classes(pred, gt, axis, classes):
            if self.target == "indices or distribution":
                self._check_values(label, gt, 0, 1 + _ROUNDING, _SCALED)
                return gt.to(pred.dtype)
            raise ShapeError(
                f"loss {self.name!r}: {label!r} has shape {tuple(gt.shape)}, one channel per class; expected class "
                f"indices: give target.argmax({axis % pred.dim()}){self._advised()}"
            )
        if self.target == "channel indices":
            gt = gt.unsqueeze(1) if gt.dim() == pred.dim() - 1 else gt
        elif self.target != "label lists" and gt.dim() == pred.dim() > 1 and gt.shape[1] == 1:
            gt = gt.squeeze(1)
        indices = gt.long()
        if gt.is_floating_point() and can_look(gt) and not holds((indices == gt).all()):
            raise RangeError(
                f"loss {self.name!r}: {label!r} holds fractions, expected class indices, whole numbers from 0 to "
                f"{classes - 1}; scale the mask back, and resize it by nearest"
            )
        most = max(classes - 1, 1) if self.target == "channel indices" else classes - 1  # one channel may be a mask
        low = -1 if self.target == "label lists" else 0
        self._check_values(label, indices, low, most, f"the prediction has {classes} classes")
        return indices

    def _has_all_classes(self, pred: Tensor, gt: Tensor, axis: int, classes: int) -> bool:
        """Say whether a target has one number a class: the prediction's shape, with that many along the class axis."""
        expected = list(pred.shape)
        expected[axis] = classes
        return list(gt.shape) == expected

    def _check_values(self, label: str, gt: Tensor, low: float, high: float, hint: str) -> None:
        """Refuse a target outside a range; the value that the loss leaves out may lie anywhere."""
        try:
            self.check_range(label, gt, low, high)
            return
        except RangeError:
            gt = gt if self.ignore_index is None else gt[gt != self.ignore_index]
        if hasattr(self.loss_func, "ignore_index"):
            hint += "; where a value marks elements to leave out, give it as `ignore_index`"
        self.check_range(label, gt, low, high, hint)

    def _check_signs(self, label: str, gt: Tensor) -> None:
        if can_look(gt) and not holds((gt.abs() == 1 if gt.dtype != torch.bool else gt).all()):
            raise RangeError(
                f"loss {self.name!r}: {label!r} holds values from {gt.min():g} to {gt.max():g}, expected 1 and -1 "
                "alone; make signs of a mask of 0 and 1: 2 * mask - 1"
            )

    def _cast(self, pred: Tensor, gt: Tensor) -> Tensor:
        return gt if self.target in INDICES else super()._cast(pred, gt)  # see `_fitted`

    def _advised(self) -> str:
        return f"; {self.advice}" if self.advice else ""

    def extra_repr(self) -> str:
        """Show the conversion too."""
        return super().extra_repr() + ("" if self.input is None else f", input={self.input!r}")


def _renamed(inputs: Sequence[str], given: dict[str, str | None]) -> tuple[str, ...]:
    """Put `pred_key` and `gt_key` in the place of the only key of their side."""
    renamed = list(inputs)
    for side, key in given.items():
        if key is None:
            continue
        places = [place for place, old in enumerate(inputs) if old.startswith(f"{side}.")]
        if len(places) != 1:
            raise ValueError(
                f"{side}_key: the loss reads {len(places)} keys of that side; list all its keys as `inputs`, "
                f"by default {list(inputs)}"
            )
        renamed[places[0]] = f"{side}.{key}"
    return tuple(renamed)


def _adopt_constants(loss_func: Any) -> None:
    """Make buffers of the plain tensors that a loss keeps, so that they follow it to a device."""
    for module in loss_func.modules() if isinstance(loss_func, nn.Module) else ():
        for name, value in list(vars(module).items()):
            if type(value) is Tensor:
                delattr(module, name)
                module.register_buffer(name, value, persistent=False)


# --- what a model puts out, to what a loss takes --------------------------------------------------


def _sigmoid(logits: Tensor, axis: int) -> Tensor:  # noqa: ARG001 (all conversions have one signature)
    return logits.sigmoid()


def _logit(probabilities: Tensor, axis: int) -> Tensor:  # noqa: ARG001
    return torch.logit(probabilities, eps=torch.finfo(probabilities.dtype).eps)


def _softmax(logits: Tensor, axis: int) -> Tensor:
    return logits.softmax(axis)


def _log_softmax(logits: Tensor, axis: int) -> Tensor:
    return F.log_softmax(logits, axis)


def _log(probabilities: Tensor, axis: int) -> Tensor:  # noqa: ARG001
    """Logarithm of probabilities: log-probabilities, and as good logits as any of the softmax."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


_CONVERSIONS: dict[tuple[str, str, str], Callable[..., Tensor]] = {
    ("logits", "probabilities", "sigmoid"): _sigmoid,
    ("logits", "probabilities", "softmax"): _softmax,
    ("logits", "log-probabilities", "softmax"): _log_softmax,
    ("probabilities", "logits", "sigmoid"): _logit,
    ("probabilities", "logits", "softmax"): _log,
    ("probabilities", "log-probabilities", "softmax"): _log,
}
