"""The values of single elements, of losses that reduce them by themselves."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Unit: TypeAlias = Literal["values", "positions", "planes", "samples"]
"""What a loss has one value for: each number of its target; each pixel or token, whose classes are one axis of the
prediction; each channel of each sample; or each sample."""

_UNITS: dict[Unit, tuple[str, ...]] = {
    "values": (
        "BCELoss",
        "BCEWithLogitsLoss",
        "GaussianNLLLoss",
        "HingeEmbeddingLoss",
        "HuberLoss",
        "KLDivLoss",
        "L1Loss",
        "MSELoss",
        "MarginRankingLoss",
        "PoissonNLLLoss",
        "SmoothL1Loss",
        "SoftMarginLoss",
    ),
    "positions": ("CrossEntropyLoss", "NLLLoss"),
    "samples": (
        "CosineEmbeddingLoss",
        "MultiLabelMarginLoss",
        "MultiLabelSoftMarginLoss",
        "MultiMarginLoss",
        "TripletMarginLoss",
        "TripletMarginWithDistanceLoss",
    ),
}
_FUNCTIONS: dict[Any, Unit] = {
    F.l1_loss: "values",
    F.mse_loss: "values",
    F.smooth_l1_loss: "values",
    F.huber_loss: "values",
    F.kl_div: "values",
    F.poisson_nll_loss: "values",
    F.gaussian_nll_loss: "values",
    F.hinge_embedding_loss: "values",
    F.margin_ranking_loss: "values",
    F.soft_margin_loss: "values",
    F.binary_cross_entropy: "values",
    F.binary_cross_entropy_with_logits: "values",
    F.cross_entropy: "positions",
    F.nll_loss: "positions",
    F.cosine_embedding_loss: "samples",
    F.multi_margin_loss: "samples",
    F.multilabel_margin_loss: "samples",
    F.multilabel_soft_margin_loss: "samples",
    F.triplet_margin_loss: "samples",
    F.triplet_margin_with_distance_loss: "samples",
}
_MODULES: dict[type, Unit] = {getattr(nn, name): unit for unit, names in _UNITS.items() for name in names}


def unit_of(loss_func: Any) -> Unit | None:
    """Return what one of torch's own losses has a value for; None for any other."""
    inner = inside(loss_func)
    return _MODULES.get(type(inner)) if isinstance(inner, nn.Module) else _FUNCTIONS.get(inner)


_MEAN, _SUM = 1, 2  # the numbers of these reductions
_OF_ROWS, _OF_PIXELS = torch.ops.aten.nll_loss_forward.default, torch.ops.aten.nll_loss2d_forward.default


def entropy_of(loss_func: Any) -> nn.CrossEntropyLoss | nn.NLLLoss | None:
    """Return torch's cross-entropy inside of a loss, if `reduced_entropy` does the same; None for any other loss."""
    if type(loss_func) not in (nn.CrossEntropyLoss, nn.NLLLoss) or loss_func.reduction not in ("mean", "sum"):
        return None
    smooth = type(loss_func) is nn.CrossEntropyLoss and loss_func.label_smoothing != 0
    return None if smooth else loss_func


def reduced_entropy(
    loss_func: nn.CrossEntropyLoss | nn.NLLLoss, weight: Tensor | None, pred: Tensor, target: Tensor, *, mean: bool
) -> tuple[Tensor, Tensor]:
    """Return the mean or sum of a cross-entropy, and the sum of the weights of the targets that it does not ignore.

    These are the operations of `F.cross_entropy` and `F.nll_loss`, which drop the second. A mean over nothing is NaN.

    Args:
        loss_func: the loss.
        weight: its weights of classes.
        pred: (N, C, ...), float32 or float64.
        target: (N, ...), int64.
        mean: whether to divide the sum.
    """
    if type(loss_func) is nn.CrossEntropyLoss:
        pred = torch.log_softmax(pred, 1)
    axes = pred.dim()
    if axes not in (2, 4):
        pred, target = pred.reshape(*pred.shape[:2], 1, -1), target.reshape(target.shape[0], 1, -1)
    entropy = _OF_ROWS if axes == 2 else _OF_PIXELS
    found: tuple[Tensor, Tensor] = entropy(pred, target, weight, _MEAN if mean else _SUM, loss_func.ignore_index)
    return found


def uncompiled(module: Any) -> Any:
    """Return the module that `torch.compile` was given; anything else as it is."""
    return getattr(module, "_orig_mod", module)


def inside(loss_func: Any) -> Any:
    """Return the function inside partials, or the module before `torch.compile`."""
    while isinstance(loss_func, functools.partial):
        loss_func = loss_func.func
    return uncompiled(loss_func)


def option_of(loss_func: Any, name: str, default: Any = None) -> Any:
    """Return an option of a loss: an attribute of a module, or a keyword that is bound to a function."""
    if isinstance(loss_func, functools.partial):
        return loss_func.keywords.get(name, option_of(loss_func.func, name, default))
    module = uncompiled(loss_func)
    if isinstance(module, nn.Module):
        return getattr(module, name, default)
    parameter = _parameter(module, name)
    return default if parameter is None or parameter.default is parameter.empty else parameter.default


def unreduced(loss_func: Any) -> Callable[..., Any] | None:
    """Return the loss with `reduction="none"`, which shares parameters and buffers with it; None if it has no such."""
    inner = inside(loss_func)
    if isinstance(inner, nn.Module):
        if not isinstance(getattr(inner, "reduction", None), str):
            return None
        copied = copy.copy(inner)
        copied.reduction = "none"  # type: ignore[assignment]
        return copied
    if _parameter(inner, "reduction") is None:
        return None
    return functools.partial(loss_func, reduction="none")


def _parameter(function: Any, name: str) -> inspect.Parameter | None:
    try:
        return inspect.signature(function).parameters.get(name)
    except (TypeError, ValueError):
        return None


def shape_of(unit: Unit, target: Sequence[int], *, soft: bool) -> tuple[int, ...]:
    """Return the shape of the elements from that of a target.

    Args:
        unit: what an element is.
        target: the target's shape.
        soft: whether the target has a class axis 1.
    """
    shape = tuple(target)
    if unit == "samples":
        return shape[:1]
    if unit == "planes":
        return shape[:2]
    return (*shape[:1], *shape[2:]) if unit == "positions" and soft else shape
