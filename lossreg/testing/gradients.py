"""What training needs: gradients that are right, no wait for the device, and one graph for the compiler."""

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
from lossreg.testing.contract import Broken, applies, check, require
from lossreg.testing.subject import Subject, close, floating, gradients, mapped, tensors

_READS = (
    "cannot be called on meta tensors",
    "Cannot copy out of meta",
    "torch.nonzero()",
    "convert meta device",
    "_unique",
)
"""What torch says where numbers are wanted of a tensor on the device `meta`, which has none."""

_UNKNOWN = ("no fake impl or Meta kernel", "unsupported scalarType", "torch.meta.")
"""What torch says of kernels and of names of tensor types (`tensor.type()`) that this device does not have."""


@check("value")
def gradients_finite(subject: Subject) -> None:
    """The gradients of all predictions are finite.

    Mind the gradients of `sqrt`, `norm` and `std` at zero, and of the branch that `torch.where` does not take.
    """
    batch = subject.batch()
    for gradient in gradients(subject.value(batch=batch), batch):
        require(gradient.isfinite().all(), f"a gradient of shape {tuple(gradient.shape)} has numbers that are not")


@check("gradients_finite", "dtype_follows")
def gradients_right(subject: Subject) -> None:
    """The gradients are those of the value, as finite differences in float64 have it.

    Correct the `backward` of the autograd function; declare an exception where a value is not differentiable.
    """
    double = floating(torch.float64)
    loss, (pred, gt) = subject.loss().double(), subject.batch(double, double)
    leaves = [t for t in tensors(pred) if t.requires_grad]

    def of(*given: Tensor) -> Tensor:
        places = {id(leaf): tensor for leaf, tensor in zip(leaves, given, strict=True)}
        return subject.value(loss, (mapped(pred, lambda t: places.get(id(t), t)), gt))

    try:
        torch.autograd.gradcheck(of, leaves, fast_mode=True)
    except GradcheckError as error:
        raise Broken(str(error).partition("\n\n")[0]) from error


@check("value")
def no_host_read(subject: Subject) -> None:
    """No number of the batch is read back to the host, and no shape depends on one.

    Replace `item`, `float(tensor)`, `if tensor:` and `tensor[mask]` by `torch.where`, products and `clamp`: each of
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
            found = _value_on_meta(subject)
    except (RuntimeError, TypeError, ValueError) as error:
        applies(not any(text in str(error) for text in _UNKNOWN), f"it cannot run on the device `meta`: {error}")
        raise Broken(f"{_line_of(error)} raised {type(error).__name__}: {error}") from error
    require(found.device.type == "meta", f"for a batch on the device `meta` it is on {found.device}")


class _OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuse operations on tensors of several devices, numbers and indices apart."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        sized = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.dim() > 0]
        devices = sorted({t.device.type for t in sized})
        moves = func in (torch.ops.aten.index.Tensor, torch.ops.aten.copy_.default)
        if len(devices) > 1 and not moves:
            raise RuntimeError(f"{func} was given tensors on {' and on '.join(devices)}")
        return func(*args, **(kwargs or {}))


def _value_on_meta(subject: Subject) -> Tensor:
    """Return the value for a batch on the device `meta`, which has shapes and dtypes and no numbers."""
    loss, (pred, gt) = subject.loss().to("meta"), subject.batch()
    found: Tensor = loss(_on_meta(pred), _on_meta(gt), normalize=False)[0]
    return found


def _on_meta(batch: Batch) -> Batch:
    return mapped(batch, lambda t: t.detach().to("meta").requires_grad_(t.requires_grad))


def _line_of(error: BaseException) -> str:
    """Return the last line outside of torch and of lossreg that led to an error."""
    ours = ("/torch/", "/lossreg/losses/", "/lossreg/testing/")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if not any(part in f.filename.replace("\\", "/") for part in ours)]
    return f"`{(lines or frames)[-1].line}`"


@check("no_host_read")
def compiles(subject: Subject) -> None:
    """It is one graph for `torch.compile(fullgraph=True)`, with the same value.

    Keep print, try, NumPy and Python's own randomness out of `compute`; `TORCH_LOGS=graph_breaks` shows where a graph
    breaks.
    """
    torch._dynamo.reset()
    loss, expected = subject.loss(), subject.value()
    compiled = torch.compile(copy.copy(loss), fullgraph=True, backend="eager")
    try:
        found = subject.value(compiled)
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {str(error).partition('Developer debug')[0]}") from error
    require(close(found, expected), f"compiled it gives {found:.6g}, else {expected:.6g}")
