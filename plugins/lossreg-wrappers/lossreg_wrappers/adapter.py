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
from lossreg.errors import ShapeError
from lossreg_wrappers.forms import TARGETS, Form, Rules, choose

_ROUNDING = 1e-6
"""How far above 1 a probability may come out of an interpolation."""


class LibraryLoss(LossWrapper):
    """A `LossWrapper` that knows in which form the wrapped loss takes its prediction and its target.

    Args:
        loss_func: the library's loss.
        name: the term's name.
        takes: form of the prediction, see `lossreg_wrappers.forms`.
        target: form of the target.
        axis: the prediction's class axis.
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
        if target in ("indices", "channel indices"):
            options = {"target_dtype": "long", **options}
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
        pred, *others = super()._arguments(pred_batch, gt_batch)
        self._check_prediction(pred)
        if self._convert is not None:
            pred = self._convert(pred)
        if self.inputs is None:
            others = [self._fitted(pred, gt) for gt in others]
        return tuple(tensor.clone() for tensor in (pred, *others)) if self.copies else (pred, *others)

    def _check_prediction(self, pred: Tensor) -> None:
        """Refuse numbers that cannot be what the loss takes, or what the config says that they are."""
        kind = self.input or self.takes.kind
        if kind == "probabilities":
            hints = ["if the model puts out logits, set `input: logits`"] if self.takes.activation else []
            if self.input is None:
                hints += [self.advice] if self.advice else []
            elif self.takes.kind != kind:
                hints = [f"{hints[0]} or leave `input` out"]
            hint = "; ".join(hints) or "let the model's last layer be a sigmoid or a softmax"
            self.check_range("prediction", pred, 0, 1 + _ROUNDING, hint)
        elif kind == "log-probabilities":
            hint = "set `input: logits` or `input: probabilities` if that is what the model puts out"
            self.check_range("prediction", pred, -math.inf, _ROUNDING, hint)

    # --- targets ----------------------------------------------------------------------------------

    def _fitted(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Return the target in the form that the loss takes."""
        if self.target in ("values", "indices"):
            return gt
        if self.target == "channel indices":
            return gt.unsqueeze(1) if gt.dim() == pred.dim() - 1 else gt
        if self.target == "mask without channel" and gt.dim() == pred.dim():
            gt = gt.squeeze(1)
        if self.target == "one-hot" and gt.shape != pred.shape:
            raise ShapeError(
                f"loss {self.name!r}: the target has shape {tuple(gt.shape)}, expected the prediction's own, "
                f"{tuple(pred.shape)}, one channel per class{self._advised()}"
            )
        return gt if gt.is_floating_point() else gt.to(pred.dtype)

    def _cast(self, pred: Tensor, gt: Tensor) -> Tensor:
        if self.target == "channel indices":  # the channel axis stays
            return gt.long()
        return super()._cast(pred, gt)

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
