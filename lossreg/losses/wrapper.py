"""A wrapper that makes a `Loss` of any module or function."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, zip_longest
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.errors import ConfigProblem, MissingKeyError, RangeError, ShapeError
from lossreg.keys import EPOCH, Term, Wrap
from lossreg.losses.base import Loss, can_hold, can_look, holds, zero_on_graph
from lossreg.losses.channels import ChannelSelector, Selector, channel_indices, parse_selector, take_channels
from lossreg.losses.elementwise import (
    Unit,
    entropy_of,
    inside,
    option_of,
    reduced_entropy,
    shape_of,
    uncompiled,
    unit_of,
    unreduced,
)
from lossreg.losses.mean import Count, Mean, Reduction, blanked, blanked_in, safe, valued
from lossreg.losses.nested import first_tensor, mapped, tensors_in
from lossreg.values import did_you_mean

DEFAULT_KEYS = {"pred": "seg", "gt": "gt_polygons_image"}
"""The default key of each side."""
_OF_MASKS = (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)  # torch does not check their targets
_MASK_FUNCTIONS = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)
_OF_SIGNS = (nn.CosineEmbeddingLoss, nn.HingeEmbeddingLoss, nn.SoftMarginLoss)
_SIGN_FUNCTIONS = (F.cosine_embedding_loss, F.hinge_embedding_loss, F.soft_margin_loss)
_AS_IT_IS = nullcontext()
_WITH_AUTOCAST = tuple(kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind))
_REDUCTIONS = ("mean", "sum", "none")
_EXACT = (torch.float32, torch.float64)
_DTYPES = {"long": torch.long, "float": torch.float32}


class LossWrapper(Loss):
    """A `Loss` over batches that calls a module or a function over tensors.

    The wrapped loss is called with `(pred, gt)`; with only `pred` if its signature has one parameter; or with what the
    batch has at `inputs`: tensors, or lists and tuples of tensors. Other parameters with a default other than None are
    options and not targets.

    A `Loss`, and any loss whose first parameters are `pred_batch, gt_batch`, is called with the batches, and with
    `normalize=False` if it has that parameter. A selected key, channel or dtype then replaces the only key that the
    `Loss` declares for that side. The wrapped loss keeps its norm, but values are normalised once, by the norm of the
    wrapper.

    A subclass may override `arguments` and `cast_target`, and set `compared`. One with a `compute` of its own sets
    `transparent = True` if its values are those of the wrapped loss: ranks and checkpoints then know it as that.

    Args:
        loss_func: the module or function. It returns a tensor or `(tensor, extra)`; a tensor that is not a scalar is
            reduced.
        name: the name of the term; by default the loss's `name`, else the name of its class or function.
        pred_key: key of the prediction. By default the only tensor of the batch, else `seg`.
        gt_key: key of the target. By default the only tensor of the batch, else `gt_polygons_image`.
        inputs: keys (`pred.<key>` or `gt.<key>`) of all arguments in order, for losses without two arguments; or a
            mapping of parameters to keys, which are then passed by name. `epoch` in place of a key passes the epoch of
            the forward, rounded down to an integer; norms are taken at epoch 0.
        optional_inputs: parameters in the mapping `inputs` that are passed only if the batch has their key, or the
            forward was given an epoch.
        pred_channels: the channels (axis 1) of the prediction to use.
        gt_channels: the channels (axis 1) of the target to use.
        target_dtype: the dtype to cast the target to. `"long"` means class indices: a channel axis of size 1 is
            removed if the prediction has more channels, and a floating target with the prediction's shape is not
            cast, since it contains class probabilities.
        target_shape: the target shapes that the wrapped loss accepts. `"same"`: the shape of the prediction;
            `"broadcast"`: also sizes of 1 after axis 0; `"any"`: all. By default it is an error if prediction and
            target broadcast to more elements than either has, as (2,) and (2, 1) do. Several predictions of a sample
            may share one number of its target: they are one element, with their mean as its value.
        reduction: how the values of elements are reduced: `"mean"` over those that count, `"per_sample"` (first in each
            sample), `"sum"`, or `"none"`, which leaves them as they are and makes no term of a `MultiLoss`. By default
            as the loss does it. `"per_sample"` needs the values of elements, and `"sum"` is an error if the loss
            returns a scalar. A `Loss` reduces its values itself and takes none.
        dtype: `"float32"` converts narrower tensors (float16, bfloat16) and weights of the loss to float32 and turns
            autocast off, because sums would overflow. `"input"` changes neither. Default: `"float32"`; for a `Loss`
            `"input"`, since it handles this itself.
        needs_grad: whether the wrapped loss takes derivatives of the predictions; see `Loss.needs_grad`.
        unit: what the wrapped loss has one value for with `reduction="none"`: `"values"`, each number of the target;
            `"positions"`, each pixel or token, with the classes on axis 1 of the prediction; `"planes"`, each channel
            of each sample; `"samples"`. Known for torch's own losses. Where it is known, the loss takes a mask, and its
            mean has a count.
        values_of: a function of the wrapped loss's arguments that returns the values of these elements, with their mean
            or sum equal to the loss's; by default the wrapped loss with `reduction="none"`.

    Attributes:
        compared: the number of arguments whose shapes `target_shape` checks; None for all.

    Raises:
        ArgumentError: arguments have a wrong type or value; it lists all of them. Also a TypeError and a ValueError.
            So has the wrapped loss, whose `unit` is known: a `reduction` of its own that is no mean, sum or none.
        ValueError: an option selects a key of a side of which the `Loss` reads several keys.
    """

    compared: int | None = None
    transparent: bool = False  # of a subclass with a `compute`: whether its values are those of the wrapped loss
    _unreduced: tuple[Callable[..., Any] | None]  # in a tuple, since a module would become a child
    _entropy: tuple[nn.CrossEntropyLoss | nn.NLLLoss | None]

    def __init__(
        self,
        loss_func: Callable[..., Any],
        name: str | None = None,
        *,
        pred_key: str | None = None,
        gt_key: str | None = None,
        inputs: Sequence[str] | Mapping[str, str] | None = None,
        optional_inputs: Sequence[str] | None = None,
        pred_channels: ChannelSelector | None = None,
        gt_channels: ChannelSelector | None = None,
        target_dtype: Literal["long", "float"] | None = None,
        target_shape: Literal["same", "broadcast", "any"] | None = None,
        reduction: Reduction | None = None,
        dtype: Literal["float32", "input"] | None = None,
        needs_grad: bool | None = None,
        unit: Unit | None = None,
        values_of: Callable[..., Any] | None = None,
    ) -> None:
        checks = Arguments("LossWrapper")
        if inspect.isclass(loss_func) or not callable(loss_func):
            checks.refuse("loss_func", "a module or a function", loss_func, _how(loss_func))
        super().__init__(checks.name("name", name if name is not None else _term_name(loss_func)))
        self.loss_func = loss_func
        self.pred_key: str | None = checks.declared(Term, "LossWrapper", "pred_key", pred_key)
        self.gt_key: str | None = checks.declared(Term, "LossWrapper", "gt_key", gt_key)
        wrap = functools.partial(checks.declared, Wrap, "LossWrapper")
        keys = wrap("inputs", inputs)
        named = _in_order(loss_func, keys) if isinstance(keys, Mapping) else None
        self.inputs: tuple[str, ...] | None = None if keys is None else tuple(keys if named is None else named.values())
        self.input_names: tuple[str, ...] | None = None if named is None else tuple(named)
        left_out = wrap("optional_inputs", optional_inputs)
        self.optional_inputs: tuple[str, ...] = () if left_out is None else tuple(left_out)
        self.pred_index = _selector(wrap("pred_channels", _as_mapping(pred_channels)))
        self.gt_index = _selector(wrap("gt_channels", _as_mapping(gt_channels)))
        self.target_dtype = wrap("target_dtype", target_dtype)
        self.target_shape = wrap("target_shape", target_shape)
        inherited = getattr(loss_func, "needs_grad", False) is True
        needs_grad = wrap("needs_grad", needs_grad)
        self.needs_grad = inherited if needs_grad is None else needs_grad
        self.ignore_index = option_of(loss_func, "ignore_index")
        self._takes_mask = _takes_mask(loss_func)
        self.reduction = wrap("reduction", reduction)
        if self.reduction == "none":
            self.is_reduced = False
        self._takes_batches = isinstance(loss_func, Loss) or _reads_batches(loss_func)
        self._own_dtype = "input" if isinstance(uncompiled(loss_func), Loss) else "float32"
        dtype = checks.declared(Term, "LossWrapper", "dtype", dtype)
        self.dtype = self._own_dtype if dtype is None else dtype
        if values_of is not None and not callable(values_of):
            checks.wrong("values_of", "a function", values_of)
        if keys is not None:
            self._check_inputs(checks)
        self._check_optional(checks)
        own = uncompiled(loss_func)
        without_effect = {
            "target_shape": self._takes_batches and target_shape is not None,
            "reduction": isinstance(own, Loss) and own.is_reduced and reduction is not None,
        }
        for option in (option for option, given in without_effect.items() if given):
            reads = f"{_own_name(own)} reads the batches itself"
            checks.report(option, f"has no effect, since {reads}", "leave it out", "conflict")
        checks.done()
        self._places = self._places_in(loss_func) if self._takes_batches else {}
        raw = self._takes_batches and any(p.name == "normalize" for p in _parameters(loss_func))
        self._call_options = {"normalize": False} if raw else {}
        self._one_argument = self.inputs is None and not self._takes_batches and _takes_one(loss_func)
        inner = isinstance(loss_func, Loss) and loss_func.takes_epoch
        self.takes_epoch = inner or EPOCH in (self.inputs or ())
        self.requires, self.optional = self._keys()
        self._set_elements(unit, values_of, checks)
        checks.done()

    def _set_elements(self, unit: Unit | None, values_of: Callable[..., Any] | None, checks: Arguments) -> None:
        """Find out whether the wrapped loss has values of elements, and how it reduces them by itself."""
        given, inner = self.loss_func, inside(self.loss_func)
        self.unit = unit if unit is not None else unit_of(given)
        own = option_of(given, "reduction", "mean")
        if self.unit is not None and isinstance(own, str) and own not in (*_REDUCTIONS, *_further_reductions(inner)):
            of_loss = Arguments(_own_name(given))
            of_loss.choice("reduction", own, _REDUCTIONS)
            of_loss.done()
        plainly = own in _REDUCTIONS and option_of(given, "size_average") is None
        if self.unit is None or self._takes_batches:
            found = None
        else:
            found = values_of or (unreduced(given) if plainly else None)
        self.__dict__["_unreduced"] = (found,)
        self._own_reduction = "sum" if own == "sum" else "mean"
        self.__dict__["_entropy"] = (entropy_of(given) if found is not None and values_of is None else None,)
        self._shares = False  # whether `share` may be something where elements are values
        self._reduces = plainly and self.reduction in (None, self._own_reduction)  # the wrapped loss, as is asked
        if isinstance(inner, Loss):
            self.masks, self.parts = inner.masks, inner.parts
        else:
            self.masks = found is not None
        if self.reduction == "per_sample" and found is None:
            checks.report("reduction", f"is not possible: {self._why_unmasked()}", "leave it out", "conflict")

    def _why_unmasked(self) -> str:
        own = option_of(self.loss_func, "reduction", "mean")
        if self.unit is not None and own not in _REDUCTIONS:
            return f"it has `reduction: {own}`; set it to mean or sum"
        return f"{_own_name(self.loss_func)} has no values of single elements; use a loss that has, or one that masks"

    def take_mask(self, mask: Any = None, sample_weight: Any = None) -> None:
        """Set which elements count and how much; see `Loss.take_mask`."""
        super().take_mask(mask, sample_weight)
        if isinstance(self.loss_func, Loss):
            self.loss_func.take_mask(mask, sample_weight)

    def _check_inputs(self, checks: Arguments) -> None:
        """Report empty `inputs`, `inputs` without effect, and options without effect beside them."""
        if self._takes_batches:
            reads = f"{_own_name(self.loss_func)} reads the batches itself"
            checks.report("inputs", f"has no effect, since {reads}", "leave it out", "conflict")
        elif not checks.problems and self.input_names is None:
            self._check_number(checks, len(self.inputs or ()))
        elif not checks.problems and self.input_names is not None:
            self._check_names(checks, self.input_names)
        beside = {
            "pred_key": self.pred_key,
            "gt_key": self.gt_key,
            "pred_channels": self.pred_index,
            "gt_channels": self.gt_index,
            "target_dtype": self.target_dtype,
        }
        refuse_beside_inputs(checks, beside)

    def _check_number(self, checks: Arguments, count: int) -> None:
        """Report `inputs` whose number differs from that of the wrapped loss's arguments."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = _parameters(self.loss_func)
        taken = [p for p in parameters if p.kind in kinds]
        least = sum(p.default is p.empty for p in taken)
        endless = not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if least <= count and (count <= len(taken) or endless):
            return
        names = ", ".join(p.name for p in taken)
        expected = f"{least} or more" if endless else str(least) if least == len(taken) else f"{least} to {len(taken)}"
        reads = f"{_own_name(self.loss_func)} is called with ({names})"
        problem = f"expected {expected} keys, found {count}: {reads}"
        checks.report("inputs", problem, "name the key of each argument", "range")

    def _check_names(self, checks: Arguments, names: Sequence[str]) -> None:
        """Report names in `inputs` that are no parameters of the wrapped loss, and parameters that are missing."""
        parameters = [p for p in _parameters(self.loss_func) if p.kind is not p.VAR_POSITIONAL]
        known = [p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.VAR_KEYWORD)]
        takes = f"the parameters of {_own_name(self.loss_func)} are {', '.join(known)}"
        if parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            for name in names:
                if name not in known:
                    fix = did_you_mean(name, known) or takes
                    checks.wrong(f"inputs.{name}", "the name of a parameter", name, fix, "unknown")
        missing = [p.name for p in parameters if p.name in known and p.default is p.empty and p.name not in names]
        for name in missing:
            checks.report(f"inputs.{name}", f"is missing: {takes}", f"{name}: pred.{name}", "missing")

    def _check_optional(self, checks: Arguments) -> None:
        """Report `optional_inputs` that are not in `inputs`, or have no default in the wrapped loss."""
        names = self.input_names or ()
        if self.optional_inputs and not names:
            fix = "write `inputs` as a mapping of parameter to key"
            checks.report("optional_inputs", "needs the names of parameters", fix, "conflict")
            return
        needed = {p.name for p in _parameters(self.loss_func) if p.default is p.empty}
        for i, name in enumerate(self.optional_inputs):
            if name not in names:
                fix = did_you_mean(name, names) or f"the parameters in inputs are {', '.join(names)}"
                checks.wrong(f"optional_inputs[{i}]", "a parameter in inputs", name, fix, "unknown")
            elif name in needed:
                problem = f"{name!r} has no default in {_own_name(self.loss_func)}"
                checks.report(f"optional_inputs[{i}]", problem, "leave it out", "conflict")

    def _keys(self) -> tuple[Sequence[str], Sequence[str]]:
        if self.inputs is not None:
            named = zip(self.input_names or self.inputs, self.inputs, strict=True)
            required = [key for name, key in named if name not in self.optional_inputs and key != EPOCH]
            return tuple(required), tuple(key for key in self.inputs if key not in (EPOCH, *required))
        if isinstance(self.loss_func, Loss):
            moved = self.moved_keys()
            return tuple(moved.get(key, key) for key in self.loss_func.requires), tuple(self.loss_func.optional)
        sides = {"pred": self.pred_key} if self._one_argument else {"pred": self.pred_key, "gt": self.gt_key}
        return tuple(f"{side}.{key}" for side, key in sides.items() if key is not None), ()

    def moved_keys(self) -> dict[str, str]:
        """Return the keys that a wrapped `Loss` reads, each with the key of the batch that stands in its place."""
        chosen = {"pred": self.pred_key, "gt": self.gt_key}
        return {f"{s}.{place}": f"{s}.{chosen[s] or place}" for s, place in self._places.items() if place}

    def _places_in(self, loss: Any) -> dict[str, str | None]:
        """Return for each side with a selection the key that a `Loss` reads; None if it declares no key."""
        asked = {"pred": (self.pred_key, self.pred_index), "gt": (self.gt_key, self.gt_index, self.target_dtype)}
        places: dict[str, str | None] = {}
        for side, options in asked.items():
            if any(option is not None for option in options):
                if not isinstance(loss, Loss):
                    raise ValueError(
                        f"loss {self.name!r}: {_own_name(loss)} reads the batches itself; "
                        f"a key, channels or a dtype of {side}_batch cannot be chosen for it"
                    )
                own = [key.partition(".")[2] for key in loss.requires if key.startswith(f"{side}.")]
                if len(own) > 1:
                    raise ValueError(
                        f"loss {self.name!r}: {type(loss).__name__} reads {own} of {side}_batch; "
                        "a key, channels or a dtype can be chosen only where it reads one"
                    )
                places[side] = own[0] if own else None
        return places

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor | Mean | Sequence[Mean]:
        """Return the value of the wrapped loss: a mean with its count where it has values of elements."""
        arguments = self.arguments(pred_batch, gt_batch)
        self._check_shapes(arguments, pred_batch, gt_batch)
        (unreduced_loss,) = self._unreduced
        if unreduced_loss is not None:
            return self._of_elements(unreduced_loss, arguments, pred_batch, gt_batch)
        if isinstance(self.loss_func, Loss):
            return self._of_loss(arguments)
        value: Tensor | Mean = self._value_of(self._called(self.loss_func, arguments))
        if isinstance(value, Mean) or self.reduction == "none":
            return value
        if value.numel() == 0:
            found = first_tensor(arguments)
            return zero_on_graph(value if found is None else found)
        if value.dim() == 0:
            if self.reduction == "sum" and any(a.dim() > 0 for a in tensors_in(arguments)):
                raise ShapeError(
                    f"loss {self.name!r}: reduction 'sum' has no effect, since {_own_name(self.loss_func)} reduces "
                    "its values itself; set the loss's own `reduction` to sum or none"
                )
            return value
        return Mean(value.sum(), float(value.numel()), is_sum=True) if self.reduction == "sum" else value.mean()

    def _of_loss(self, batches: tuple[Any, ...]) -> Tensor | Sequence[Mean]:
        """Return what a wrapped `Loss` comes to, with its counts."""
        means: list[Mean] = []
        options = {**self._call_options, "means": means} if self._call_options else {}
        value = self._value_of(self._called(self.loss_func, batches, options))
        return means if means and isinstance(value, Tensor) else value

    # --- values of elements -----------------------------------------------------------------------

    def _of_elements(
        self, loss_func: Callable[..., Any], arguments: tuple[Any, ...], pred_batch: Any, gt_batch: Any
    ) -> Tensor | Mean:
        """Reduce the values of the elements that count, as the wrapped loss itself would, or as `reduction` says."""
        reduction = self.reduction or self._own_reduction
        first, second = arguments[0], arguments[-1]
        alone = self._reduces and not (self.mask or self.sample_weight)
        pair = len(arguments) == 2 and isinstance(first, Tensor) and isinstance(second, Tensor)
        (entropy,) = self._entropy
        if entropy is not None and alone and pair:
            weight = entropy.weight
            if _counts_beside(weight, first, second):
                return self._of_entropy(entropy, weight, first, second)
        if self.unit == "values" and not self._shares and pair and first.shape == second.shape:
            share, shape, number = None, first.shape, first.numel()  # the commonest case, without what costs time
        else:
            target = self._target_in(arguments)
            shape = self._shape_in(arguments, target)
            number = math.prod(shape)
            share = None if target is None else self.share(target)
        if share is None and alone and number:
            value = self._value_of(self._called(self.loss_func, self._looked_at(arguments, pred_batch, gt_batch)))
            value = value.mean() if value.dim() else value  # of elements, or of planes inside of which the loss sums
            return Mean(value, float(number), reduction == "sum", float(number))
        elements = self.elements(pred_batch, gt_batch, shape, share, self._has_channel_axis)
        if number == 0:
            return Mean(zero_on_graph(_first(arguments)), 0.0, reduction == "sum")
        kept = elements.kept
        if kept is not None:
            arguments = tuple(blanked_in(a, kept, self.neutral(i)) for i, a in enumerate(arguments))
        arguments = self._looked_at(arguments, pred_batch, gt_batch)
        own = option_of(self.loss_func, "reduction")
        if self._reduces and kept is None and own != "none" and not option_of(self.loss_func, "label_smoothing"):
            mean = elements.known(self._value_of(self._called(self.loss_func, arguments)), reduction)
            if not isinstance(mean.count, Tensor):
                return mean
            return valued(mean, torch.where(mean.count == 0, 0.0, mean.value))  # a mean of nothing is NaN
        values = self._value_of(self._called(loss_func, arguments))
        if reduction != "none":
            values = _of_targets(values, shape, reduction)
        if values.shape != shape and reduction != "none":
            raise ShapeError(
                f"loss {self.name!r}: {_own_name(self.loss_func)}: expected values of shape {shape}, one for each "
                f"element, found {tuple(values.shape)}"
            )
        return elements.weigh(values) if reduction == "none" else elements.mean(values, reduction)

    def _of_entropy(
        self, entropy: nn.CrossEntropyLoss | nn.NLLLoss, weight: Tensor | None, pred: Tensor, target: Tensor
    ) -> Mean:
        """Return the mean of a cross-entropy with its count, by two launches more than the loss itself has.

        On the CPU it looks whether there is anything to divide by, which is faster.
        """
        sums, size = self._own_reduction == "sum", float(target.numel())
        with _no_autocast((pred,)):
            if not sums and can_look(target):
                value, count = reduced_entropy(entropy, weight, pred, target, mean=True)
                if holds(count):
                    return Mean(value, count, False, size)
            total, count = reduced_entropy(entropy, weight, pred, target, mean=False)
        if sums:
            return Mean(total, count, True, size)
        divisor = count.clamp_min(1) if weight is None else safe(count)
        return Mean(total / divisor, count, False, size)

    @property
    def _has_channel_axis(self) -> bool:
        """Whether axis 1 of the elements, if there is one, has channels or tokens and not pixels."""
        return self.unit != "positions"

    def _looked_at(self, arguments: tuple[Any, ...], pred_batch: Any, gt_batch: Any) -> tuple[Any, ...]:
        """Return the arguments, after a look at the target of a loss of torch that takes one of 0 to 1."""
        if type(self) is LossWrapper and self._takes_mask and len(arguments) > 1:
            label = self.label(1, pred_batch, gt_batch)
            self.check_range(label, arguments[1], 0, 1, "divide a mask of 0 and 255 by 255")
        return arguments

    def counts(self, gt_batch: Any) -> Sequence[Count]:
        """Return the counts of the loss's means, from the targets alone; see `Loss.counts`."""
        if isinstance(self.loss_func, Loss) and not self._places:
            return self.loss_func.counts(gt_batch)
        target = self._target_alone(gt_batch) if self._unreduced[0] is not None else None
        if target is None or self.unit is None:
            return super().counts(gt_batch)
        is_soft = self._is_soft(target)
        shape = shape_of(self.unit, target.shape, soft=is_soft)
        elements = self.elements({}, gt_batch, shape, channels=self._has_channel_axis)
        place = 1 if self.inputs is None else next(i for i, key in enumerate(self.inputs) if key.startswith("gt."))
        if elements.kept is not None:
            target = blanked(target, elements.kept, self.neutral(place))
        elements.share = self.share(self._checked_alone(self.label(place, {}, gt_batch), target, is_soft))
        return [elements.count(self.reduction or self._own_reduction)]

    def _checked_alone(self, label: object, target: Tensor, is_soft: bool) -> Tensor:
        """Return a target as a forward takes it; raise, on the CPU, for one that a forward refuses or reads otherwise.

        Args:
            label: its key.
            target: with a valid value where elements do not count.
            is_soft: whether it is taken to have probabilities of classes on axis 1.
        """
        if not is_soft:
            return target
        fix = "it is taken for probabilities of classes on axis 1; give class indices an integer dtype, with .long()"
        self.check_range(label, target, 0, 1 + 1e-6, fix)
        if not can_look(target):
            return target
        sums = target.sum(1)
        if not holds((target != target.round()).any() | ((sums == 0) | (sums == 1)).all()):
            raise RangeError(
                f"loss {self.name!r}: {label!r} has dtype {str(target.dtype).removeprefix('torch.')} and shape "
                f"{tuple(target.shape)} and holds 0 and 1 that do not add up to 1 over axis 1; {fix}"
            )
        return target

    def share(self, target: Tensor) -> Tensor | None:
        """Return what elements count by themselves: 0 for an ignored one, the weight of its class; None for ones.

        Args:
            target: of the wrapped loss.
        """
        if self.unit != "positions" or self._is_soft(target):
            return None
        weight = option_of(self.loss_func, "weight")
        valid = None
        if self.ignore_index is not None and can_hold(target.dtype, self.ignore_index):
            valid = target != self.ignore_index
            if can_look(valid) and holds(valid.all()):
                valid = None
        if weight is None:
            return valid
        indices = target.long().clamp(0, len(weight) - 1)
        weights: Tensor = weight.detach().to(target.device)[indices]
        return weights if valid is None else weights * valid

    def neutral(self, place: int) -> float:
        """Return a valid value for elements that do not count, of the argument at a place."""
        inner = inside(self.loss_func)
        signed = isinstance(inner, _OF_SIGNS) if isinstance(inner, nn.Module) else inner in _SIGN_FUNCTIONS
        return 1.0 if place == 2 or (place == 1 and signed) else 0.0

    def _is_soft(self, target: Tensor) -> bool:
        """Return whether a target has probabilities of classes on axis 1."""
        return self.unit == "positions" and target.is_floating_point() and target.dim() > 1 and target.shape[1] > 1

    def _target_in(self, arguments: Sequence[Any]) -> Tensor | None:
        keys = self.inputs if self.inputs is not None else ("pred", "gt")
        return first_tensor([a for key, a in zip(keys, arguments, strict=False) if key.startswith("gt")])

    def _shape_in(self, arguments: Sequence[Any], target: Tensor | None) -> tuple[int, ...]:
        pred = _first(arguments)
        if self.unit == "positions" and target is not None:
            return shape_of("positions", target.shape, soft=target.is_floating_point() and target.dim() == pred.dim())
        if self.unit in ("samples", "planes"):
            return shape_of(self.unit, pred.shape, soft=False)
        compared = arguments if target is None else (pred, target)  # a variance may lack the last axis
        shapes = [a.shape for a in tensors_in(compared)]
        if len(shapes) == 2 and shapes[0] == shapes[1]:
            return shapes[0]
        if len(shapes) == 2 and _is_shared(*shapes):
            return shapes[1]
        return tuple(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]

    def _target_alone(self, gt_batch: Any) -> Tensor | None:
        """Return the target from the targets alone; None for a loss that has none."""
        if self.inputs is not None:
            keys = [key for key in self.inputs if key.startswith("gt.")]
            return first_tensor([self.read_nested({}, gt_batch, key) for key in keys[:1]])
        if self._one_argument:
            return None
        target = self._gt(gt_batch)
        if self.unit == "positions" and not target.is_floating_point() and target.dim() > 2 and target.shape[1] == 1:
            return target.squeeze(1)
        return target

    def arguments(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, ...]:
        """Return the arguments for the wrapped loss; a subclass may convert them."""
        arguments: tuple[Any, ...]
        if self.inputs is not None:
            arguments = tuple(self._input(pred_batch, gt_batch, place) for place in range(len(self.inputs)))
        elif self._takes_batches:
            arguments = self._batches(pred_batch, gt_batch)
        else:
            pred = self._pred(pred_batch)
            arguments = (pred,) if self._one_argument else (pred, self.cast_target(pred, self._gt(gt_batch)))
        return tuple(map(_widened, arguments)) if self.dtype == "float32" else arguments

    def _input(self, pred_batch: Any, gt_batch: Any, place: int) -> Any:
        """Return what the batch has for the argument at a place; None for an optional one that it lacks."""
        assert self.inputs is not None
        key = self.inputs[place]
        if key != EPOCH:
            return self.read_nested(pred_batch, gt_batch, key)
        epoch = self.current_epoch
        if epoch is None and (self.input_names is None or self.input_names[place] not in self.optional_inputs):
            raise MissingKeyError(
                f"loss {self.name!r} needs the epoch; pass it to the criterion: forward(..., epoch=...)"
            )
        return None if epoch is None else math.floor(epoch)

    def _called(self, loss_func: Callable[..., Any], arguments: tuple[Any, ...], options: Any = None) -> Any:
        """Return the result of the wrapped loss, computed in float32 with float32 weights if `dtype` says so."""
        options = self._call_options if options is None else options
        if self.input_names is not None:
            named = dict(zip(self.input_names, arguments, strict=True))
            options = {**{name: value for name, value in named.items() if value is not None}, **options}
            return self._run(loss_func, (), options, arguments)
        return self._run(loss_func, arguments, options, arguments)

    def _run(
        self, loss_func: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any], given: Sequence[Any]
    ) -> Any:
        """Call the wrapped loss by place or by name; `given` are its tensors either way."""
        if self.dtype == "input":
            return loss_func(*arguments, **options)
        narrow = _narrow_tensors(loss_func)
        with _no_autocast(given):
            if not narrow or not isinstance(loss_func, nn.Module):
                return loss_func(*arguments, **options)
            widened = {name: tensor.float() for name, tensor in narrow.items()}
            return torch.func.functional_call(loss_func, widened, arguments, options)

    def _check_shapes(self, arguments: Sequence[Any], pred_batch: Any, gt_batch: Any) -> None:
        """Raise if the arguments would broadcast although the wrapped loss compares element by element."""
        if self.target_shape == "any" or self._takes_batches:
            return
        if self.target_shape is None and len(arguments) != 2:  # the meaning of the others is not known
            return
        if not isinstance(arguments[0], Tensor):
            return
        first = arguments[0].shape
        for i, other in enumerate(arguments[1 : self.compared], 1):
            if not isinstance(other, Tensor):
                continue
            if other.shape != first and not _may_meet(first, other.shape, self.target_shape):
                pred_key, key = (self.label(place, pred_batch, gt_batch) for place in (0, i))
                wanted = f"{tuple(first)}, the shape of {pred_key!r}"
                wanted += ", or 1 in place of a size after the first" if self.target_shape == "broadcast" else ""
                raise ShapeError(
                    f"loss {self.name!r}: {key!r} has shape {tuple(other.shape)}, expected {wanted}; the shapes would "
                    "broadcast: make them equal, for example with `pred.squeeze(1)` or `target.unsqueeze(1)`, or set "
                    "`target_shape: any` under `wrap` if the loss accepts such shapes"
                )

    def label(self, place: int, pred_batch: Any, gt_batch: Any) -> str:
        """Return the key of an argument for messages; for a bare tensor only its side."""
        if self.inputs is not None:
            return self.inputs[place]
        side, batch, key = (("pred", pred_batch, self.pred_key), ("gt", gt_batch, self.gt_key))[place]
        return side if isinstance(batch, Tensor) else f"{side}.{key or self._key_of(batch, side)}"

    def _batches(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
        """Return the batches with each selection at the key that the wrapped `Loss` reads."""
        pred, gt = pred_batch, gt_batch
        if "gt" in self._places:
            selected = self._gt(gt_batch)
            if self.target_dtype is not None:
                selected = self.cast_target(self._pred(pred_batch), selected)
            gt = _placed(gt_batch, self._places["gt"], selected)
        if "pred" in self._places:
            pred = _placed(pred_batch, self._places["pred"], self._pred(pred_batch))
        return pred, gt

    def _pred(self, batch: Any) -> Tensor:
        pred = self._pick(batch, "pred", self.pred_key or self._places.get("pred"))
        if self.pred_index is None:
            return pred
        return self._select(pred, self.pred_index, f"pred.{self.pred_key or 'seg'}")

    def _gt(self, batch: Any) -> Tensor:
        gt = self._pick(batch, "gt", self.gt_key or self._places.get("gt"))
        if self.gt_index is None:
            return gt
        return self._select(gt, self.gt_index, f"gt.{self.gt_key or 'gt_polygons_image'}")

    def _select(self, tensor: Tensor, selector: Selector, key: str) -> Tensor:
        if tensor.dim() < 2:
            raise ShapeError(f"loss {self.name!r}: {key!r} has shape {tuple(tensor.shape)}, expected a channel axis 1")
        try:
            return take_channels(tensor, channel_indices(selector, tensor.shape[1]))
        except IndexError as error:
            raise ShapeError(f"loss {self.name!r}: {key!r} has shape {tuple(tensor.shape)}: {error}") from None

    def _pick(self, batch: Any, side: str, key: str | None) -> Tensor:
        """Return the tensor of one side: bare, at `key`, the only one, or at the default key."""
        if isinstance(batch, Tensor):
            return batch
        if not isinstance(batch, Mapping):
            raise MissingKeyError(
                f"loss {self.name!r}: {side}_batch: expected a mapping of tensors or a tensor, "
                f"found {type(batch).__name__}"
            )
        if key is None:
            key = self._key_of(batch, side)
            if key not in batch:
                raise MissingKeyError(
                    f"loss {self.name!r}: {side}_batch: expected a single tensor or the key {key!r}, found "
                    f"{sorted(map(str, batch))}; set {side}_key"
                )
        value = batch.get(key)
        return value if isinstance(value, Tensor) else self.read({**batch}, {**batch}, f"{side}.{key}")

    def _key_of(self, batch: Mapping[str, Any], side: str) -> str:
        """Return the key of the only tensor of a batch beside masks and weights, else the default key."""
        beside = (*self.mask, *self.sample_weight)
        tensors = [k for k, value in batch.items() if isinstance(value, Tensor) and f"{side}.{k}" not in beside]
        return tensors[0] if len(tensors) == 1 else DEFAULT_KEYS[side]

    @property
    def wraps_norm(self) -> bool:
        """Whether the wrapped loss has its own norm, which the wrapper does not use."""
        return bool(self._call_options) and isinstance(getattr(self.loss_func, "norm", None), Tensor)

    def _fit_norm(self, state: dict[str, Any], prefix: str) -> list[ConfigProblem]:
        """Accept an older checkpoint with only one norm, of the wrapper or of the wrapped loss."""
        own, inner = f"{prefix}norm", f"{prefix}loss_func.norm"
        if self.wraps_norm and not {f"{own}_sum", f"{inner}_sum"} & state.keys():
            held = state.get(own, state.get(inner))
            if isinstance(held, Tensor):
                state.setdefault(own, held.clone())
                state.setdefault(inner, held.clone())
        return super()._fit_norm(state, prefix)

    def cast_target(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Return the target in the dtype of `target_dtype`; a subclass may convert it in another way."""
        if self.target_dtype != "long":
            return gt if self.target_dtype is None else gt.to(_DTYPES[self.target_dtype])
        if gt.is_floating_point() and gt.shape == pred.shape and pred.dim() > 1:
            return gt
        if gt.dim() == pred.dim() > 1 and gt.shape[1] == 1 and pred.shape[1] > 1:
            gt = gt.squeeze(1)
        return gt.long()

    def _value_of(self, result: Any) -> Any:
        """Return the value of a result, which may have a second part, for `extra_info`."""
        if isinstance(result, Mean):
            return result
        if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], Tensor):
            result, extra = result
            self.extra_info.update(extra if isinstance(extra, Mapping) else {"extra": extra})
        if not isinstance(result, Tensor):
            raise ShapeError(
                f"loss {self.name!r}: {_own_name(self.loss_func)}: expected a tensor or (tensor, extra), "
                f"found {type(result).__name__}"
            )
        return result

    def extra_repr(self) -> str:
        """Return the options that differ from their defaults, for `repr`."""
        options = {
            "pred_key": self.pred_key,
            "gt_key": self.gt_key,
            "inputs": self.inputs
            if self.input_names is None
            else dict(zip(self.input_names, self.inputs or (), strict=True)),
            "optional_inputs": list(self.optional_inputs) or None,
            "target_dtype": self.target_dtype,
            "target_shape": self.target_shape,
            "needs_grad": self.needs_grad or None,
            "mask": list(self.mask) or None,
            "sample_weight": list(self.sample_weight) or None,
            "reduction": self.reduction,
            "dtype": None if self.dtype == self._own_dtype else self.dtype,
        }
        shown = [f"{key}={value!r}" for key, value in options.items() if value is not None]
        if not isinstance(self.loss_func, nn.Module):
            shown.insert(0, f"loss_func={_own_name(self.loss_func)}")
        return ", ".join([super().extra_repr(), *shown])


def _own_name(loss_func: Any) -> str:
    """Return the name of a module's class, of a function, or of the function inside a partial."""
    inner = loss_func.func if isinstance(loss_func, functools.partial) else loss_func
    return str(getattr(inner, "__name__", type(inner).__name__))


def refuse_beside_inputs(checks: Arguments, options: Mapping[str, Any]) -> None:
    """Report the options that are given, none of which has an effect beside `inputs`."""
    for option, value in options.items():
        if value is not None:
            checks.report(option, "has no effect beside inputs", "leave out one of them", "conflict")


def _further_reductions(inner: Any) -> Sequence[str]:
    """Return what torch and torchmetrics know beside mean, sum and none."""
    of_batch = isinstance(inner, nn.KLDivLoss) or inner is F.kl_div
    return ("elementwise_mean", "batchmean") if of_batch else ("elementwise_mean",)


def _takes_mask(loss_func: Any) -> bool:
    """Return whether a loss is one of torch's own with targets between 0 and 1."""
    if isinstance(loss_func, functools.partial):
        return _takes_mask(loss_func.func)
    module = uncompiled(loss_func)
    return isinstance(module, _OF_MASKS) or any(loss_func is function for function in _MASK_FUNCTIONS)


def _may_meet(pred: Sequence[int], target: Sequence[int], rule: str | None) -> bool:
    """Return whether a `target_shape` rule accepts two different shapes."""
    if rule == "same":
        return False
    if rule == "broadcast":
        return _is_shared(pred, target) and all(t in (1, p) for p, t in zip(pred, target, strict=True))
    pairs = list(zip_longest(reversed(pred), reversed(target), fillvalue=1))
    if not all(p == t or 1 in (p, t) for p, t in pairs):
        return True  # they do not broadcast: the loss accepts them itself, or raises
    return not (any(p > t for p, t in pairs) and any(t > p for p, t in pairs))


def _counts_beside(weight: Tensor | None, pred: Tensor, target: Tensor) -> bool:
    """Return whether torch tells what a cross-entropy is over: not for probabilities, nor exactly in halves."""
    if target.dtype != torch.int64 or pred.dtype not in _EXACT or (weight is not None and weight.dtype != pred.dtype):
        return False
    shape = pred.shape
    return len(shape) > 1 and target.shape == (shape[0], *shape[2:]) and target.numel() > 0


def _is_shared(pred: Sequence[int], target: Sequence[int]) -> bool:
    """Return whether a target has a number for each sample, which several predictions of the sample may share."""
    return (
        len(pred) == len(target)
        and pred[:1] == target[:1]
        and all(1 in (p, t) or p == t for p, t in zip(pred, target, strict=True))
    )


def _of_targets(values: Tensor, shape: Sequence[int], reduction: str) -> Tensor:
    """Return values of a target's numbers, where several predictions share one: their mean, or their sum."""
    if values.shape == shape or values.dim() != len(shape):
        return values
    axes = [i for i, (found, size) in enumerate(zip(values.shape, shape, strict=True)) if size == 1 != found]
    if not axes:
        return values
    return values.sum(axes, keepdim=True) if reduction == "sum" else values.mean(axes, keepdim=True)


def _is_narrow(tensor: Tensor) -> bool:
    """Return whether a tensor is floating and narrower than float32."""
    return tensor.is_floating_point() and tensor.dtype.itemsize < 4


def _widened(value: Any) -> Any:
    """Return a narrow tensor as float32; a batch, or a list, with such tensors converted; other values unchanged."""
    if isinstance(value, Tensor):
        return value.float() if _is_narrow(value) else value
    return mapped(value, _widened)


def _first(arguments: Sequence[Any]) -> Tensor:
    """Return the first tensor of the arguments of a loss."""
    return next(tensors_in(arguments))


def _in_order(loss_func: Any, named: Mapping[str, str]) -> dict[str, str]:
    """Return a mapping of parameters in the order of the loss's signature; those that it lacks are last."""
    places = {parameter.name: place for place, parameter in enumerate(_parameters(loss_func))}
    return dict(sorted(named.items(), key=lambda item: places.get(item[0], len(places))))


def _narrow_tensors(loss_func: Any) -> dict[str, Tensor]:
    """Return the narrow parameters and buffers of a module by name."""
    if not isinstance(loss_func, nn.Module) or not _holds_tensors(loss_func):
        return {}
    own = chain(loss_func.named_parameters(), loss_func.named_buffers())
    return {name: tensor for name, tensor in own if _is_narrow(tensor)}


def _holds_tensors(module: nn.Module) -> bool:
    """Return whether a module may hold parameters or buffers; most losses hold none, and to list them takes long."""
    own = chain(module._modules.values(), module._parameters.values(), module._buffers.values())
    return any(member is not None for member in own)


def _no_autocast(arguments: Sequence[Any]) -> AbstractContextManager[Any]:
    """Return a context that turns autocast off, where it is on, on the device of the first tensor."""
    value = first_tensor(arguments)
    if value is None:
        return _AS_IT_IS
    device = value.device.type
    is_on = (device in _WITH_AUTOCAST or _has_autocast(device)) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if is_on else _AS_IT_IS


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_autocast(device: str) -> bool:
    """Return whether a kind of device has autocast; the compiler of torch 2.6 cannot ask."""
    return torch.amp.is_autocast_available(device)


def _term_name(loss_func: Any) -> str:
    """Return the loss's `name` if it is valid, else the name of its class or function."""
    name = getattr(loss_func, "name", None)
    return name if isinstance(name, str) and name and "/" not in name else _own_name(loss_func)


def _parameters(loss_func: Any) -> list[inspect.Parameter]:
    """Return the parameters of a loss's signature; empty if it has none."""
    loss_func = uncompiled(loss_func)
    try:
        signature = inspect.signature(loss_func.forward if isinstance(loss_func, nn.Module) else loss_func)
    except (TypeError, ValueError):
        return []
    return list(signature.parameters.values())


def _reads_batches(loss_func: Any) -> bool:
    """Return whether the first two parameters of a loss are `pred_batch` and `gt_batch`."""
    return [parameter.name for parameter in _parameters(loss_func)[:2]] == ["pred_batch", "gt_batch"]


def _placed(batch: Any, place: str | None, selected: Tensor) -> Any:
    """Return a batch with a tensor at a key, or only the tensor if there is no key."""
    return {**batch, place: selected} if place is not None and isinstance(batch, Mapping) else selected


def _takes_one(loss_func: Any) -> bool:
    """Return whether a callable has one parameter without a default, or only options after it."""
    parameters = _parameters(loss_func)
    kinds = [p.kind for p in parameters]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    options = [p for p in positional[1:] if p.default is not p.empty and p.default is not None]
    return len(positional) == 1 + len(options) and inspect.Parameter.VAR_POSITIONAL not in kinds


def _how(loss_func: Any) -> str:
    return f"create it: lossreg.create_loss({loss_func!r})" if isinstance(loss_func, str) else ""


def _as_mapping(channels: Any) -> Any:
    """Return a slice as a config writes it."""
    if not isinstance(channels, slice):
        return channels
    return {"start": channels.start, "stop": channels.stop, "step": channels.step}


def _selector(channels: Any) -> Selector | None:
    return None if channels is None else parse_selector(channels)
