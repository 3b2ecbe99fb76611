"""An adapter that makes any module or function a `Loss`, norm included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossreg.errors import MissingKeyError, ShapeError
from lossreg.losses.base import Loss, zero_on_graph
from lossreg.losses.channels import ChannelSelector, as_index, select_channels

_DEFAULT_KEYS = {"pred": "seg", "gt": "gt_polygons_image"}
_DTYPES = {"long": torch.long, "float": torch.float32}


class LossWrapper(Loss):
    """Make a module or a function over tensors a `Loss` over batches.

    The wrapped loss is called with `(pred, gt)`, with `pred` alone where its signature has one parameter,
    or with the tensors at `inputs`. A `Loss` is called with the batches themselves; it keeps its norm, of
    which this wrapper makes no use: a value is normalised once, by the wrapper's own norm.

    Args:
        loss_func: what to wrap. It may return a tensor or `(tensor, extra)`; a tensor that is no scalar is
            reduced.
        name: the term's name; by default the class or function's own.
        pred_key: key of the prediction. By default the only tensor of the batch, else `seg`.
        gt_key: key of the target. By default the only tensor of the batch, else `gt_polygons_image`.
        inputs: keys (`pred.<key>` or `gt.<key>`) of all arguments in order, for losses of other than two.
        pred_channels: which channels (axis 1) of the prediction to take.
        gt_channels: which channels (axis 1) of the target to take.
        target_dtype: what to cast the target to. `"long"` means class indices: a channel axis of size 1 is
            dropped where the prediction has more, and a floating target of the prediction's own shape
            stays as it is, since it holds class probabilities.
        reduction: how per-element values become a scalar.

    Raises:
        TypeError: `loss_func` cannot be called, or is a class in place of an object.
        ValueError: an option is out of its choices.
    """

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
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        if inspect.isclass(loss_func):
            raise TypeError(f"LossWrapper: {loss_func.__name__} is a class; give an object: {loss_func.__name__}(...)")
        if not callable(loss_func):
            raise TypeError(f"LossWrapper: expected a module or a function, got {type(loss_func).__name__}")
        super().__init__(name if name is not None else _own_name(loss_func))
        _check_choice(self.name, "reduction", reduction, ("mean", "sum"))
        _check_choice(self.name, "target_dtype", target_dtype, (None, *_DTYPES))
        self.loss_func = loss_func
        self.pred_key = pred_key
        self.gt_key = gt_key
        self.inputs = tuple(inputs) if inputs is not None else None
        self.pred_index = None if pred_channels is None else as_index(pred_channels)
        self.gt_index = None if gt_channels is None else as_index(gt_channels)
        self.target_dtype = target_dtype
        self.reduction = reduction
        self._delegates = isinstance(loss_func, Loss) and pred_key is None and gt_key is None and inputs is None
        self._one_argument = self.inputs is None and _takes_one(loss_func)
        self.requires, self.optional = self._keys()

    def _keys(self) -> tuple[Sequence[str], Sequence[str]]:
        if isinstance(self.loss_func, Loss) and self._delegates:
            return self.loss_func.requires, self.loss_func.optional
        if self.inputs is not None:
            return self.inputs, ()
        sides = {"pred": self.pred_key} if self._one_argument else {"pred": self.pred_key, "gt": self.gt_key}
        return tuple(f"{side}.{key}" for side, key in sides.items() if key is not None), ()

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Call the wrapped loss and reduce what it returns to a scalar."""
        arguments = self._arguments(pred_batch, gt_batch)
        if isinstance(self.loss_func, Loss):
            result = self.loss_func(*arguments, normalize=False)
        else:
            result = self.loss_func(*arguments)
        value = self._value_of(result)
        if value.numel() == 0:
            tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
            return zero_on_graph(tensors[0] if tensors else value)
        if value.dim() == 0:
            return value
        return value.sum() if self.reduction == "sum" else value.mean()

    def _arguments(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, ...]:
        if self._delegates:
            return pred_batch, gt_batch
        if self.inputs is not None:
            return tuple(self.read(pred_batch, gt_batch, key) for key in self.inputs)
        pred = self._pick(pred_batch, "pred", self.pred_key)
        if self.pred_index is not None:
            pred = select_channels(pred, self.pred_index, self.name, f"pred.{self.pred_key or 'seg'}")
        if self._one_argument:
            return (pred,)
        gt = self._pick(gt_batch, "gt", self.gt_key)
        if self.gt_index is not None:
            gt = select_channels(gt, self.gt_index, self.name, f"gt.{self.gt_key or 'gt_polygons_image'}")
        return pred, self._cast(pred, gt)

    def _pick(self, batch: Any, side: str, key: str | None) -> Tensor:
        """Return the tensor of one side: the batch itself, the one at `key`, the only one, or the default's."""
        if isinstance(batch, Tensor):
            return batch
        if not isinstance(batch, Mapping):
            raise MissingKeyError(
                f"loss {self.name!r}: {side}_batch must be a mapping of tensors or a tensor, got {type(batch).__name__}"
            )
        if key is None:
            tensors = [name for name, value in batch.items() if isinstance(value, Tensor)]
            default = _DEFAULT_KEYS[side]
            key = tensors[0] if len(tensors) == 1 else default
            if key not in batch:
                raise MissingKeyError(
                    f"loss {self.name!r}: which key of {side}_batch to compare? It has {sorted(map(str, batch))}, "
                    f"no {default!r} among them; set {side}_key"
                )
        return self.read({**batch}, {**batch}, f"{side}.{key}")

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
            "reduction": None if self.reduction == "mean" else self.reduction,
        }
        shown = [f"{key}={value!r}" for key, value in options.items() if value is not None]
        if not isinstance(self.loss_func, nn.Module):
            shown.insert(0, f"loss_func={_own_name(self.loss_func)}")
        return ", ".join([super().extra_repr(), *shown])


def _own_name(loss_func: Any) -> str:
    """Return the name of a module's class, of a function, or of the function inside a partial."""
    inner = getattr(loss_func, "func", loss_func)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _takes_one(loss_func: Any) -> bool:
    """Say whether a callable's signature has a single positional parameter, and so takes no target."""
    if isinstance(loss_func, Loss):
        return False
    try:
        signature = inspect.signature(loss_func.forward if isinstance(loss_func, nn.Module) else loss_func)
    except (TypeError, ValueError):
        return False
    kinds = [p.kind for p in signature.parameters.values()]
    positional = [k for k in kinds if k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    return len(positional) == 1 and inspect.Parameter.VAR_POSITIONAL not in kinds


def _check_choice(name: str, option: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise ValueError(f"loss {name!r}: {option} must be one of {', '.join(map(repr, choices))}; got {value!r}")
