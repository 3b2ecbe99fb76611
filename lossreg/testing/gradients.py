"""Checks of gradients, host reads, devices and compilation."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lossreg.losses.base import Batch
from lossreg.losses.nested import mapped
from lossreg.testing.contract import Broken, applies, check, require
from lossreg.testing.subject import Subject, at_epoch, close, floating, gradients, tensors

_READS = (
    "cannot be called on meta tensors",
    "Cannot copy out of meta",
    "torch.nonzero()",
    "aten::nonzero:",  # of torch 2.6
    "convert meta device",
    "_unique",
)
"""Parts of torch's errors for reading a number of a tensor on the device `meta`, which has none."""

_UNKNOWN = ("no fake impl or Meta kernel", "unsupported scalarType", "torch.meta.")
"""Parts of torch's errors for kernels and type names (`tensor.type()`) that the device `meta` does not have."""


@check("value")
def gradients_finite(subject: Subject) -> None:
    """The gradients of all predictions are finite.

    Check the gradients of `sqrt`, `norm` and `std` at zero, and of the branch that `torch.where` does not select.
    """
    batch = subject.batch()
    for gradient in gradients(subject.value(batch=batch), batch):
        require(gradient.isfinite().all(), f"a gradient of shape {tuple(gradient.shape)} is not finite")


@check("gradients_finite", "dtype_follows")
def gradients_right(subject: Subject) -> None:
    """The gradients agree with finite differences in float64.

    Correct the `backward` of the autograd function. If a value is not differentiable, or a part of it is detached on
    purpose, declare an exception.
    """
    double = floating(torch.float64)
    loss, (pred, gt) = subject.loss().double(), subject.batch(double, double)
    leaves = [t for t in tensors(pred) if t.requires_grad]

    def of(*inputs: Tensor) -> Tensor:
        places = {id(leaf): tensor for leaf, tensor in zip(leaves, inputs, strict=True)}
        return subject.value(loss, (mapped(pred, lambda t: places.get(id(t), t)), gt))

    try:
        torch.autograd.gradcheck(of, leaves, fast_mode=True)
    except GradcheckError as error:
        raise Broken(str(error).partition("\n\n")[0]) from error


@check("value")
def no_host_read(subject: Subject) -> None:
    """The loss reads no number of the batch back to the host, and no shape depends on a number.

    Replace `item`, `float(tensor)`, `if tensor:` and `tensor[mask]` with `torch.where`, products and `clamp`. Each of
    them makes the program wait for the GPU.
    """
    try:
        _value_on_meta(subject)
    except (RuntimeError, TypeError, ValueError) as error:
        require(not any(text in str(error) for text in _READS), f"{_line_of(error)} reads one: {error}")
        applies(not any(text in str(error) for text in _UNKNOWN), f"it cannot run on the device `meta`: {error}")


@check("no_host_read")
def device_follows(subject: Subject) -> None:
    """The value is on the device of the batch, wherever that is.

    Register constants as buffers, and create tensors with `device=pred.device` (`torch.zeros_like`,
    `pred.new_tensor`).
    """
    try:
        with _OneDevice():  # type: ignore[no-untyped-call]
            actual = _value_on_meta(subject)
    except (RuntimeError, TypeError, ValueError) as error:
        applies(not any(text in str(error) for text in _UNKNOWN), f"it cannot run on the device `meta`: {error}")
        raise Broken(f"{_line_of(error)} raised {type(error).__name__}: {error}") from error
    require(actual.device.type == "meta", f"for a batch on the device `meta` it is on {actual.device}")


class _OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises for operations on tensors of several devices, except for numbers and indices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        sized = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.dim() > 0]
        devices = sorted({t.device.type for t in sized})
        moves = func in (torch.ops.aten.index.Tensor, torch.ops.aten.copy_.default)
        if len(devices) > 1 and not moves:
            raise RuntimeError(f"{func}: expected tensors on one device, found {' and '.join(devices)}")
        return func(*args, **(kwargs or {}))


def _value_on_meta(subject: Subject) -> Tensor:
    """Return the value for a batch on the device `meta`, whose tensors have shapes and dtypes but no numbers."""
    loss, (pred, gt) = subject.loss().to("meta"), subject.batch()
    actual: Tensor = loss(_on_meta(pred), _on_meta(gt), normalize=False, **at_epoch(loss))[0]
    return actual


def _on_meta(batch: Batch) -> Batch:
    moved: Batch = mapped(batch, lambda t: t.detach().to("meta").requires_grad_(t.requires_grad))
    return moved


def _line_of(error: BaseException) -> str:
    """Return the last line of a traceback that is outside torch and lossreg."""
    ours = ("/torch/", "/lossreg/losses/", "/lossreg/testing/")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if not any(part in f.filename.replace("\\", "/") for part in ours)]
    return f"`{(lines or frames)[-1].line}`"


@check("no_host_read", "deterministic")
def compiles(subject: Subject) -> None:
    """The loss compiles with `torch.compile(fullgraph=True)` and returns the same value.

    Do not use print, try, NumPy or Python's `random` in `compute`. `TORCH_LOGS=graph_breaks` shows where the graph
    breaks.
    """
    torch._dynamo.reset()
    loss, expected = subject.loss(), subject.value()
    compiled = torch.compile(copy.copy(loss), fullgraph=True, backend="eager")
    try:
        actual = subject.value(compiled)
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {str(error).partition('Developer debug')[0]}") from error
    require(close(actual, expected), f"compiled: expected {expected:.6g}, found {actual:.6g}")
