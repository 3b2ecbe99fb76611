"""An adapter that makes any module or function a `Loss`, norm included."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, zip_longest
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossreg.arguments import Arguments, plain
from lossreg.errors import ConfigProblem, MissingKeyError, ShapeError
from lossreg.losses.base import Loss, zero_on_graph
from lossreg.losses.channels import ChannelSelector, Selector, channel_indices, parse_selector, take_channels

DEFAULT_KEYS = {"pred": "seg", "gt": "gt_polygons_image"}
"""The key of each side that is taken where nothing says which."""
_OF_MASKS = (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)  # torch does not look at their targets
_MASK_FUNCTIONS = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)
_SHAPES = ("same", "broadcast", "any")
_DTYPES = {"long": torch.long, "float": torch.float32}
_WIDTHS: tuple[Literal["float32", "input"], ...] = ("float32", "input")


class LossWrapper(Loss):
    """Make a module or a function over tensors a `Loss` over batches.

    The wrapped loss is called with `(pred, gt)`, with `pred` alone where its signature has one parameter,
    or with the tensors at `inputs`. A further parameter with a default other than None is an option, no target.

    A `Loss` is called with the batches themselves, and so is any loss whose signature begins with
    `pred_batch, gt_batch`; both are asked for the raw value by `normalize=False`, where they take it. What is
    selected (a key, channels, a dtype) takes the place of the only key that a `Loss` declares of that side. The
    wrapped loss keeps its norm, but a value is normalised once, by the norm of the wrapper.

    Args:
        loss_func: what to wrap. It may return a tensor or `(tensor, extra)`; a tensor that is no scalar is
            reduced.
        name: the term's name; by default the loss's own `name`, else that of its class or function.
        pred_key: key of the prediction. By default the only tensor of the batch, else `seg`.
        gt_key: key of the target. By default the only tensor of the batch, else `gt_polygons_image`.
        inputs: keys (`pred.<key>` or `gt.<key>`) of all arguments in order, for losses of other than two.
        pred_channels: which channels (axis 1) of the prediction to take.
        gt_channels: which channels (axis 1) of the target to take.
        target_dtype: what to cast the target to. `"long"` means class indices: a channel axis of size 1 is
            dropped where the prediction has more, and a floating target of the prediction's own shape
            stays as it is, since it holds class probabilities.
        target_shape: which shapes of a target the wrapped loss takes beside a prediction. `"same"`: the prediction's
            own; `"broadcast"`: that, or 1 in place of a size; `"any"`: all, the loss sees to them itself. By default
            a target is refused that would broadcast with the prediction to something larger than both, as (2,)
            with (2, 1).
        reduction: how per-element values become a scalar; `"sum"` is an error where the loss returns a scalar.
        dtype: `"float32"` gives the wrapped loss float32 for tensors and weights of its own that are narrower
            (float16, bfloat16), and switches autocast off for it: its sums would overflow. `"input"` leaves the batch
            and autocast as they are. By default `"float32"`, and `"input"` for a `Loss`, which widens what it sums.
        needs_grad: whether the wrapped loss takes derivatives of the predictions; see `Loss.needs_grad`.

    Raises:
        ArgumentError: with every argument that is of a wrong type or out of its choices; a TypeError and a ValueError
            too.
        ValueError: an option selects for a `Loss` that reads several keys of that side.
    """

    _compared: int | None = None  # how many of the arguments `target_shape` is about; None for all

    def __init__(
        self,
        loss_func: Callable[..., Any],
        name: str | None = None,
        *,
        pred_key: str | None = None,
        gt_key: str | None = None,
        inputs: Sequence[str] | None = None,
        pred_channels: ChannelSelector | None = None,
        gt_channels: ChannelSelector | None = None,
        target_dtype: Literal["long", "float"] | None = None,
        target_shape: Literal["same", "broadcast", "any"] | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        dtype: Literal["float32", "input"] | None = None,
        needs_grad: bool | None = None,
    ) -> None:
        given = Arguments("LossWrapper")
        if inspect.isclass(loss_func) or not callable(loss_func):
            given.refuse("loss_func", "a module or a function", loss_func, _how(loss_func))
        super().__init__(given.name("name", name if name is not None else _term_name(loss_func)))
        self.loss_func = loss_func
        self.pred_key = _key(given, "pred_key", pred_key)
        self.gt_key = _key(given, "gt_key", gt_key)
        self.inputs = None if inputs is None else tuple(given.keys("inputs", inputs))
        self.pred_index = _selector(given, "pred_channels", pred_channels)
        self.gt_index = _selector(given, "gt_channels", gt_channels)
        self.target_dtype = given.choice(
            "target_dtype", target_dtype, (None, *_DTYPES), _dtype_hint(target_dtype, _DTYPES)
        )
        self.target_shape = given.choice("target_shape", target_shape, (None, *_SHAPES))
        inherited = getattr(loss_func, "needs_grad", False) is True
        self.needs_grad = inherited if needs_grad is None else given.flag("needs_grad", needs_grad)
        self.ignore_index = _ignore_index(loss_func)
        self._takes_mask = _takes_mask(loss_func)
        self.reduction = given.choice("reduction", reduction, ("mean", "sum"))
        self._takes_batches = isinstance(loss_func, Loss) or _reads_batches(loss_func)
        self._own_dtype = "input" if isinstance(getattr(loss_func, "_orig_mod", loss_func), Loss) else "float32"
        dtype = given.choice("dtype", dtype, (None, *_WIDTHS), _dtype_hint(dtype, _WIDTHS))
        self.dtype = self._own_dtype if dtype is None else dtype
        if inputs is not None:
            self._check_inputs(given)
        if self._takes_batches and target_shape is not None:
            reads = f"{_own_name(loss_func)} reads the batches itself"
            given.report("target_shape", f"has no effect: {reads}", "leave it out")
        given.done()
        self._places = self._places_in(loss_func) if self._takes_batches else {}
        raw = self._takes_batches and any(p.name == "normalize" for p in _parameters(loss_func))
        self._call_options = {"normalize": False} if raw else {}
        self._one_argument = self.inputs is None and not self._takes_batches and _takes_one(loss_func)
        self.requires, self.optional = self._keys()

    def _check_inputs(self, given: Arguments) -> None:
        """Refuse `inputs` that are none, or have no effect, and what has none beside them."""
        if self._takes_batches:
            given.report(
                "inputs", f"has no effect: {_own_name(self.loss_func)} reads the batches itself", "leave it out"
            )
        if self.inputs == () and not given.problems:
            given.report("inputs", "is empty", "name the key of each argument, as ['pred.seg', 'gt.mask']")
        elif not self._takes_batches and not given.problems:
            self._check_number(given, len(self.inputs or ()))
        beside = {
            "pred_key": self.pred_key,
            "gt_key": self.gt_key,
            "pred_channels": self.pred_index,
            "gt_channels": self.gt_index,
            "target_dtype": self.target_dtype,
        }
        for option in (option for option, value in beside.items() if value is not None):
            given.report(option, "has no effect beside inputs", "give one of both")

    def _check_number(self, given: Arguments, found: int) -> None:
        """Refuse `inputs` that are fewer, or more, than the arguments of the wrapped loss."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = _parameters(self.loss_func)
        taken = [p for p in parameters if p.kind in kinds]
        least = sum(p.default is p.empty for p in taken)
        endless = not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if least <= found and (found <= len(taken) or endless):
            return
        names = ", ".join(p.name for p in taken)
        expected = f"{least} or more" if endless else str(least) if least == len(taken) else f"{least} to {len(taken)}"
        reads = f"{_own_name(self.loss_func)} is called with ({names})"
        given.report("inputs", f"expected {expected} keys, found {found}: {reads}", "name the key of each argument")

    def _keys(self) -> tuple[Sequence[str], Sequence[str]]:
        if self.inputs is not None:
            return self.inputs, ()
        if isinstance(self.loss_func, Loss):
            given = {"pred": self.pred_key, "gt": self.gt_key}
            moved = {f"{s}.{place}": f"{s}.{given[s] or place}" for s, place in self._places.items() if place}
            return tuple(moved.get(key, key) for key in self.loss_func.requires), tuple(self.loss_func.optional)
        sides = {"pred": self.pred_key} if self._one_argument else {"pred": self.pred_key, "gt": self.gt_key}
        return tuple(f"{side}.{key}" for side, key in sides.items() if key is not None), ()

    def _places_in(self, loss: Any) -> dict[str, str | None]:
        """Say under which key, by side, a `Loss` reads what is selected; None where it declares no key."""
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

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Call the wrapped loss and reduce what it returns to a scalar."""
        arguments = self._arguments(pred_batch, gt_batch)
        self._check_shapes(arguments, pred_batch, gt_batch)
        if type(self) is LossWrapper and self._takes_mask and len(arguments) > 1:
            label = self._label(1, pred_batch, gt_batch)
            self.check_range(label, arguments[1], 0, 1, "divide a mask of 0 and 255 by 255")
        value = self._value_of(self._called(arguments))
        if value.numel() == 0:
            tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
            return zero_on_graph(tensors[0] if tensors else value)
        if value.dim() == 0:
            if self.reduction == "sum" and any(isinstance(a, Tensor) and a.dim() > 0 for a in arguments):
                raise ShapeError(
                    f"loss {self.name!r}: reduction 'sum' has no effect, since {_own_name(self.loss_func)} has reduced "
                    "its values itself; give the loss its own `reduction: sum`, or `reduction: none`"
                )
            return value
        return value.sum() if self.reduction == "sum" else value.mean()

    def _arguments(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, ...]:
        arguments: tuple[Any, ...]
        if self.inputs is not None:
            arguments = tuple(self.read(pred_batch, gt_batch, key) for key in self.inputs)
        elif self._takes_batches:
            arguments = self._batches(pred_batch, gt_batch)
        else:
            pred = self._pred(pred_batch)
            arguments = (pred,) if self._one_argument else (pred, self._cast(pred, self._gt(gt_batch)))
        return tuple(map(_widened, arguments)) if self.dtype == "float32" else arguments

    def _called(self, arguments: tuple[Any, ...]) -> Any:
        """Call the wrapped loss, in float32 where `dtype` says so, with the weights of its own too."""
        if self.dtype == "input":
            return self.loss_func(*arguments, **self._call_options)
        narrow = _narrow_tensors(self.loss_func)
        with _no_autocast(arguments):
            if not narrow or not isinstance(self.loss_func, nn.Module):
                return self.loss_func(*arguments, **self._call_options)
            widened = {name: tensor.float() for name, tensor in narrow.items()}
            return torch.func.functional_call(self.loss_func, widened, arguments, self._call_options)

    def _check_shapes(self, arguments: Sequence[Any], pred_batch: Any, gt_batch: Any) -> None:
        """Refuse shapes that would broadcast where the wrapped loss compares element by element."""
        if self.target_shape == "any" or self._takes_batches:
            return
        if self.target_shape is None and len(arguments) != 2:  # who knows what the others are
            return
        first = arguments[0].shape
        for i, other in enumerate(arguments[1 : self._compared], 1):
            if other.shape != first and not _may_meet(first, other.shape, self.target_shape):
                pred_key, key = (self._label(place, pred_batch, gt_batch) for place in (0, i))
                wanted = f"{tuple(first)}, the shape of {pred_key!r}"
                wanted += ", or 1 in place of a size" if self.target_shape == "broadcast" else ""
                raise ShapeError(
                    f"loss {self.name!r}: {key!r} has shape {tuple(other.shape)}, expected {wanted}; they would "
                    "broadcast to other elements than those to compare: bring them to one shape, as "
                    "`pred.squeeze(1)` or `target.unsqueeze(1)` does, or set `target_shape: any` under `wrap` where "
                    "the loss takes such shapes"
                )

    def _label(self, place: int, pred_batch: Any, gt_batch: Any) -> str:
        """Return the key of an argument, for messages; the side alone of a bare tensor."""
        if self.inputs is not None:
            return self.inputs[place]
        side, batch, key = (("pred", pred_batch, self.pred_key), ("gt", gt_batch, self.gt_key))[place]
        return side if isinstance(batch, Tensor) else f"{side}.{key or _key_of(batch, side)}"

    def _batches(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
        """Put what is selected where the wrapped `Loss` reads it; the rest of both batches stays as it is."""
        pred, gt = pred_batch, gt_batch
        if "gt" in self._places:
            selected = self._gt(gt_batch)
            if self.target_dtype is not None:
                selected = self._cast(self._pred(pred_batch), selected)
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
        """Return the tensor of one side: the batch itself, the one at `key`, the only one, or the default's."""
        if isinstance(batch, Tensor):
            return batch
        if not isinstance(batch, Mapping):
            raise MissingKeyError(
                f"loss {self.name!r}: {side}_batch must be a mapping of tensors or a tensor, got {type(batch).__name__}"
            )
        if key is None:
            key = _key_of(batch, side)
            if key not in batch:
                raise MissingKeyError(
                    f"loss {self.name!r}: which key of {side}_batch to compare? It has {sorted(map(str, batch))}, "
                    f"no {key!r} among them; set {side}_key"
                )
        return self.read({**batch}, {**batch}, f"{side}.{key}")

    @property
    def wraps_norm(self) -> bool:
        """Whether what it wraps has a norm of its own, which this wrapper makes no use of."""
        return bool(self._call_options) and isinstance(getattr(self.loss_func, "norm", None), Tensor)

    def _fit_norm(self, state: dict[str, Any], prefix: str) -> list[ConfigProblem]:
        """Take an older checkpoint that has either the wrapper's norm or that of the loss inside for both."""
        own, inner = f"{prefix}norm", f"{prefix}loss_func.norm"
        if self.wraps_norm and not {f"{own}_sum", f"{inner}_sum"} & state.keys():
            held = state.get(own, state.get(inner))
            if isinstance(held, Tensor):
                state.setdefault(own, held.clone())
                state.setdefault(inner, held.clone())
        return super()._fit_norm(state, prefix)

    def _cast(self, pred: Tensor, gt: Tensor) -> Tensor:
        if self.target_dtype != "long":
            return gt if self.target_dtype is None else gt.to(_DTYPES[self.target_dtype])
        if gt.is_floating_point() and gt.shape == pred.shape and pred.dim() > 1:
            return gt
        if gt.dim() == pred.dim() > 1 and gt.shape[1] == 1 and pred.shape[1] > 1:
            gt = gt.squeeze(1)
        return gt.long()

    def _value_of(self, result: Any) -> Tensor:
        if isinstance(result, (tuple, list)) and len(result) == 2 and isinstance(result[0], Tensor):
            result, extra = result
            self.extra_info.update(extra if isinstance(extra, Mapping) else {"extra": extra})
        if not isinstance(result, Tensor):
            raise ShapeError(
                f"loss {self.name!r}: the wrapped {_own_name(self.loss_func)} returned {type(result).__name__}; "
                "expected a tensor or (tensor, extra)"
            )
        return result

    def extra_repr(self) -> str:
        """Show the options that differ from their defaults."""
        options = {
            "pred_key": self.pred_key,
            "gt_key": self.gt_key,
            "inputs": self.inputs,
            "target_dtype": self.target_dtype,
            "target_shape": self.target_shape,
            "needs_grad": self.needs_grad or None,
            "reduction": None if self.reduction == "mean" else self.reduction,
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


def _takes_mask(loss_func: Any) -> bool:
    """Say whether a loss is one of torch's own whose targets lie between 0 and 1."""
    if isinstance(loss_func, functools.partial):
        return _takes_mask(loss_func.func)
    module = getattr(loss_func, "_orig_mod", loss_func)  # what torch.compile was given
    return isinstance(module, _OF_MASKS) or any(loss_func is function for function in _MASK_FUNCTIONS)


def _ignore_index(loss_func: Any) -> Any:
    """Return the target value that a loss leaves out: an attribute, or a keyword that a function is bound to."""
    if isinstance(loss_func, functools.partial):
        return loss_func.keywords.get("ignore_index", _ignore_index(loss_func.func))
    return getattr(getattr(loss_func, "_orig_mod", loss_func), "ignore_index", None)


def _key_of(batch: Mapping[str, Any], side: str) -> str:
    """Return the key of the only tensor of a batch, else the default's."""
    tensors = [name for name, value in batch.items() if isinstance(value, Tensor)]
    return tensors[0] if len(tensors) == 1 else DEFAULT_KEYS[side]


def _may_meet(pred: Sequence[int], target: Sequence[int], rule: str | None) -> bool:
    """Say whether a loss of a rule takes two shapes that differ."""
    if rule == "same":
        return False
    if rule == "broadcast":
        return len(pred) == len(target) and all(t in (1, p) for p, t in zip(pred, target, strict=True))
    pairs = list(zip_longest(reversed(pred), reversed(target), fillvalue=1))
    if not all(p == t or 1 in (p, t) for p, t in pairs):
        return True  # they do not broadcast: the loss itself has to know them, or fails
    return not (any(p > t for p, t in pairs) and any(t > p for p, t in pairs))


def _is_narrow(tensor: Tensor) -> bool:
    """Say whether a tensor is of float16, bfloat16 or less."""
    return tensor.is_floating_point() and tensor.dtype.itemsize < 4


def _widened(value: Any) -> Any:
    """Return a narrow tensor in float32, a batch with its tensors so, and all else as it is."""
    if isinstance(value, Mapping):
        return {key: _widened(item) for key, item in value.items()}
    return value.float() if isinstance(value, Tensor) and _is_narrow(value) else value


def _narrow_tensors(loss_func: Any) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module that are narrow, by their names."""
    if not isinstance(loss_func, nn.Module):
        return {}
    own = chain(loss_func.named_parameters(), loss_func.named_buffers())
    return {name: tensor for name, tensor in own if _is_narrow(tensor)}


def _no_autocast(arguments: Sequence[Any]) -> AbstractContextManager[Any]:
    """Return a context without autocast on the device of the first tensor of some arguments or batches."""
    values = chain.from_iterable(a.values() if isinstance(a, Mapping) else [a] for a in arguments)
    device = next((value.device.type for value in values if isinstance(value, Tensor)), "meta")
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _term_name(loss_func: Any) -> str:
    """Return the name that a loss has as a term, as the losses of other packages keep it too."""
    name = getattr(loss_func, "name", None)
    return name if isinstance(name, str) and name and "/" not in name else _own_name(loss_func)


def _parameters(loss_func: Any) -> list[inspect.Parameter]:
    """Return the parameters that a loss is called with; none where it has no signature."""
    loss_func = getattr(loss_func, "_orig_mod", loss_func)  # what torch.compile was given
    try:
        signature = inspect.signature(loss_func.forward if isinstance(loss_func, nn.Module) else loss_func)
    except (TypeError, ValueError):
        return []
    return list(signature.parameters.values())


def _reads_batches(loss_func: Any) -> bool:
    """Say whether a loss of another package takes whole batches, by the names of its first two parameters."""
    return [parameter.name for parameter in _parameters(loss_func)[:2]] == ["pred_batch", "gt_batch"]


def _placed(batch: Any, place: str | None, selected: Tensor) -> Any:
    """Return a batch with a tensor at a key; the tensor alone where there is none."""
    return {**batch, place: selected} if place is not None and isinstance(batch, Mapping) else selected


def _takes_one(loss_func: Any) -> bool:
    """Say whether a callable's signature has a prediction and no target: options alone follow it."""
    parameters = _parameters(loss_func)
    kinds = [p.kind for p in parameters]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    options = [p for p in positional[1:] if p.default is not p.empty and p.default is not None]
    return len(positional) == 1 + len(options) and inspect.Parameter.VAR_POSITIONAL not in kinds


def _how(loss_func: Any) -> str:
    return f"make one: lossreg.create_loss({loss_func!r})" if isinstance(loss_func, str) else ""


def _dtype_hint(dtype: Any, choices: Iterable[str]) -> str:
    return f"give {' or '.join(map(repr, choices))}" if isinstance(dtype, torch.dtype) else ""


def _key(given: Arguments, path: str, key: str | None) -> str | None:
    if key is not None and (not isinstance(key, str) or not key):
        given.wrong(path, "a key of the batch", key)
    return key


def _selector(given: Arguments, path: str, channels: Any) -> Selector | None:
    try:
        return None if channels is None else parse_selector(plain(channels), path)
    except (TypeError, ValueError) as error:
        given.report(path, str(error).removeprefix(path).removeprefix(":").lstrip())
        return None
