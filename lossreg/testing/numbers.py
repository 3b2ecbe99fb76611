"""What values a loss gives: finite ones, the same ones, and whatever batch it meets."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from lossreg.errors import BatchError
from lossreg.testing.contract import Broken, applies, check, require
from lossreg.testing.subject import Change, Subject, close, floating, gradients, imported, mapped, tensors

_CPU_NAMES = {torch.bfloat16: "BFloat16", torch.float16: "Half"}


@check("builds")
def batch_untouched(subject: Subject) -> None:
    """The batches that it is given stay as they are, keys and values.

    Work on copies: no operation with a trailing underscore on what the batch holds, and no new key in it.
    """
    batch = tuple(mapped(side, Tensor.detach) for side in subject.batch())
    sides = [dict(side) if not isinstance(side, Tensor) else {"": side} for side in batch]
    before = [{key: t.clone() for key, t in side.items() if isinstance(t, Tensor)} for side in sides]
    subject.value(batch=(batch[0], batch[1]))
    for name, side, old, copies in zip(("pred_batch", "gt_batch"), batch, sides, before, strict=True):
        if not isinstance(side, Tensor):
            require(list(side) == list(old), f"{name} had the keys {list(old)}, and afterwards {list(side)}")
            require(all(side[key] is old[key] for key in old), f"a value of {name} was replaced")
        for key, copied in copies.items():
            require(torch.allclose(old[key], copied, 0, 0, equal_nan=True), f"the tensor {key!r} of {name} was changed")


@check("builds", "batch_untouched")
def value(subject: Subject) -> None:
    """The value is a finite scalar of a floating dtype, on the graph of the predictions.

    Declare an `example` that the loss can take; return what the operations on the predictions gave, without
    `detach`, `item` or `torch.tensor` in between.
    """
    batch = subject.batch()
    found = subject.value(batch=batch)
    require(found.is_floating_point(), f"its dtype is {found.dtype}")
    require(found.isfinite(), f"it is {found:.6g} on the example batch")
    require(found.requires_grad, "it has no gradient")
    leaves = [t for t in tensors(batch[0]) if t.requires_grad]
    reached = torch.autograd.grad(found, leaves, allow_unused=True)
    require(any(gradient is not None for gradient in reached), "no prediction has a gradient of it")


@check("value")
def deterministic(subject: Subject) -> None:
    """The same batch gives the same value at every call.

    Keep nothing from one call to the next, and draw no random numbers.
    """
    loss, batch = subject.loss(), subject.batch()
    first, second = (loss(*batch, normalize=False)[0] for _ in range(2))
    require(torch.equal(first, second), f"two calls gave {first:.9g} and {second:.9g}")


@check("value")
def dtype_follows(subject: Subject) -> None:
    """A batch of float64 gives a value of float64, near that of float32.

    Create tensors with the dtype of the prediction (`torch.zeros_like`, `pred.new_tensor`), register constants as
    buffers, and cast to float32 only what is narrower.
    """
    double = floating(torch.float64)
    found, expected = subject.value(subject.loss().double(), subject.batch(double, double)), subject.value()
    require(found.dtype == torch.float64, f"it gives {found.dtype}")
    require(close(found, expected, 1e-3), f"it gives {found:.9g}, and for float32 {expected:.9g}")


@check("value")
def no_wider(subject: Subject) -> None:
    """A batch of float32 gives a value of float32.

    Use Python numbers and tensors of the prediction's dtype (`pred.new_tensor`), not NumPy's numbers or `double()`.
    """
    single = floating(torch.float32)
    found = subject.value(batch=subject.batch(single, single))
    require(found.dtype == torch.float32, f"it gives {found.dtype}")


@check("gradients_finite")
def half_precision(subject: Subject) -> None:
    """Under autocast, predictions of bfloat16 or float16 give a value near that of float32, and finite gradients.

    Take sums, exponentials and divisions in float32 (`pred.float()`), and mind that 1e-8 is zero in float16 and that
    65504 is its largest number.
    """
    expected = subject.value()
    for dtype in (torch.bfloat16, torch.float16):
        batch = subject.batch(floating(dtype))
        with torch.autocast("cpu", dtype):
            try:
                found = subject.value(batch=batch)
            except RuntimeError as error:
                applies(f"not implemented for '{_CPU_NAMES[dtype]}'" not in str(error), f"no CPU kernel: {error}")
                raise
        require(close(found, expected, 0.1), f"for {dtype} it gives {found:.6g}, for float32 {expected:.6g}")
        require(_finite(gradients(found, batch)), f"for {dtype} a gradient is not finite")


@check("half_precision")
def real_size(subject: Subject) -> None:
    """Images of 512 x 512 in bfloat16 or float16 give a value and gradients near those of float32, under autocast.

    Take sums over pixels in float32 (`pred.float().sum()`): in float16 they end at 65504, in bfloat16 they lose their
    digits.
    """
    enlarged, single = _enlarged(_image_size(subject)), floating(torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        half = _after(enlarged, floating(dtype))
        batch, exact = subject.batch(half, half), subject.batch(*[_after(half, single)] * 2)
        expected = subject.value(batch=exact)
        slopes = gradients(expected, exact)
        with torch.autocast("cpu", dtype):
            found = subject.value(batch=batch)
        require(close(found, expected, 1e-2), f"for {dtype} it gives {found:.6g}, for float32 {expected:.6g}")
        scale = min(1024.0, 1 / max(1e-30, *(float(slope.abs().max()) for slope in slopes)))  # as a GradScaler
        for found_slope, slope in zip(gradients(found.float() * scale, batch), slopes, strict=True):
            off = (found_slope.float() / scale - slope).norm() / slope.norm().clamp_min(1e-30)
            require(off <= 0.05, f"for {dtype} a gradient is {off:.2g} of its size away from that of float32")


@check("gradients_finite")
def extreme_values(subject: Subject) -> None:
    """Predictions that are certain, huge or all zero give a finite value and finite gradients.

    Use the stable forms (`logsigmoid`, `log_softmax`, `logsumexp`, `softplus`), and add an epsilon inside of each
    `log`, `sqrt` and division, not outside.
    """
    every = torch.cat([t.flatten() for t in tensors(subject.batch()[0]) if t.is_floating_point()])
    between = bool((every >= 0).all() and (every <= 1).all())
    extremes: dict[str, Change] = {"zeros": torch.zeros_like, "a thousandfold": lambda t: t * 1000}
    if between:
        extremes = {"zeros": torch.zeros_like, "ones and zeros": lambda t: t.round()}
    elif bool((every <= 0).all()):
        extremes = {"a hundredfold": lambda t: t * 100}
    for what, change in extremes.items():
        _sound(subject, f"with predictions of {what}", _of_floating(change))


@check("gradients_finite")
def non_square(subject: Subject) -> None:
    """Images that are not square give a finite value and finite gradients.

    Take height and width from the tensor's shape, each on its own.
    """
    size = _image_size(subject)
    narrow = (*size[:-1], size[-1] - 3)
    _sound(subject, f"for images of {narrow}", *[_cropped(size, narrow)] * 2)


@check("gradients_finite")
def one_pixel(subject: Subject) -> None:
    """Images of one pixel give a finite value and finite gradients, or a `lossreg.errors.ShapeError`.

    Divide by counts that cannot be zero (`clamp_min(1)`, no unbiased variance), or refuse with a `ShapeError` that
    says which size is needed.
    """
    size = _image_size(subject)
    _sound(subject, "for images of one pixel", *[_cropped(size, (1,) * len(size))] * 2)


@check("value")
def memory_layout(subject: Subject) -> None:
    """Tensors that are not contiguous, or channels-last, give the same value.

    Use `reshape` in place of `view`, and no strides.
    """
    expected = subject.value()
    for what, change in (("not contiguous", _strided), ("channels-last", _channels_last)):
        found = subject.value(batch=subject.batch(change, change))
        require(close(found, expected), f"for tensors that are {what} it gives {found:.6g}, not {expected:.6g}")


@check("value")
def nothing_to_learn(subject: Subject) -> None:
    """A batch in which nothing is to be learned gives a zero on the graph, with zero gradients.

    Divide a masked sum by `mask.sum().clamp_min(1)`, select by `torch.where` and no index, and return
    `lossreg.losses.base.zero_on_graph(pred)` where there is nothing at all.
    """
    applies(subject.spec.nothing, "its spec declares no batch of this kind in `nothing`")
    pred, gt = imported(str(subject.spec.nothing))()
    batch = mapped(pred, lambda t: t.detach().requires_grad_(t.is_floating_point())), gt
    found = subject.value(batch=batch)
    require(bool(found == 0), f"it gives {found:.6g}")
    require(found.requires_grad, "it has no gradient, so that DistributedDataParallel would wait for one")
    require(all(bool((g == 0).all()) for g in gradients(found, batch)), "a gradient is not zero")


def _sound(subject: Subject, when: str, pred: Change, gt: Change | None = None) -> None:
    """Require a finite value and finite gradients of a changed batch, or a refusal."""
    batch = subject.batch(pred, gt)
    try:
        found = subject.value(batch=batch)
    except BatchError:
        return  # it says what it needs
    except Exception as error:
        raise Broken(f"{when} it raised {type(error).__name__}: {error}") from error
    require(found.isfinite(), f"{when} it gives {found:.6g}")
    require(_finite(gradients(found, batch)), f"{when} a gradient is not finite")


def _of_floating(change: Change) -> Change:
    return lambda t: change(t) if t.is_floating_point() else t


def _cropped(size: tuple[int, ...], crop: tuple[int, ...]) -> Change:
    """Return the change that cuts images of a size, and leaves other tensors as they are."""
    cut: tuple[Any, ...] = (..., *(slice(length) for length in crop))
    return lambda t: t[cut].contiguous() if tuple(t.shape[-len(size) :]) == size else t


def _finite(found: list[Tensor]) -> bool:
    return all(bool(gradient.isfinite().all()) for gradient in found)


def _image_size(subject: Subject) -> tuple[int, ...]:
    """Return the size of the example's images or volumes."""
    sizes = [tuple(t.shape[2:]) for t in tensors(subject.batch()[0]) if t.dim() >= 4]
    applies(sizes and min(sizes[0]) > 3, "its example holds no images")
    return sizes[0]


def _enlarged(size: tuple[int, ...], pixels: int = 512 * 512) -> Change:
    """Return the change that repeats images of a size until they have so many pixels."""
    times = math.ceil((pixels / math.prod(size)) ** (1 / len(size)))
    repeats = [times] * len(size)
    return lambda t: t.repeat(*[1] * (t.dim() - len(size)), *repeats) if tuple(t.shape[-len(size) :]) == size else t


def _after(*changes: Change) -> Change:
    """Return the change that makes some changes one after the other."""
    return lambda t: functools.reduce(lambda tensor, change: change(tensor), changes, t)


def _strided(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, tensor], dim=-1)[..., 0]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
