"""Checks of the value of a loss for various batches, dtypes and sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from itertools import count, zip_longest
from typing import Any

import torch
from torch import Tensor

from lossreg.errors import BatchError
from lossreg.losses.nested import mapped, tensors_in
from lossreg.testing.contract import Broken, applies, check, require
from lossreg.testing.subject import Batches, Change, Subject, at_epoch, close, floating, gradients, imported, tensors

_CPU_NAMES = {torch.bfloat16: "BFloat16", torch.float16: "Half"}


@check("builds")
def runs(subject: Subject) -> None:
    """The example returns a pair of batches with the same numbers at each call, and the loss takes it.

    Let `example` return `(pred_batch, gt_batch)`, and seed a generator in it. Let the loss take what is in them, by its
    signature or by `wrap={"inputs": ...}` in the spec, and return a scalar tensor or a `Mean`.
    """
    first, second = (_given(subject) for _ in range(2))
    pairs = list(zip_longest(tensors(*first), tensors(*second)))
    require(all(_same(*pair) for pair in pairs), "the example returns other numbers at each call")
    subject.value(batch=(mapped(first[0], Tensor.detach), mapped(first[1], Tensor.detach)))


def _given(subject: Subject) -> Batches:
    """Return what the example returns, which must be a pair."""
    try:
        given = subject.given()
    except Exception as error:
        raise Broken(f"the example raised {type(error).__name__}: {error}") from error
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2
    require(is_pair, f"the example: expected (pred_batch, gt_batch), found a {type(given).__name__}")
    return given


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return torch.allclose(first, second, 0, 0, equal_nan=True)


@check("runs")
def batch_untouched(subject: Subject) -> None:
    """The loss does not change the keys or the values of the batches.

    Work on copies: use no in-place operation on a tensor of the batch, and add no key.
    """
    batch = tuple(mapped(side, Tensor.detach) for side in subject.batch())
    sides = [dict(side) if not isinstance(side, Tensor) else {"": side} for side in batch]
    before = [mapped(side, torch.clone) for side in sides]
    subject.value(batch=(batch[0], batch[1]))
    for name, side, old, copies in zip(("pred_batch", "gt_batch"), batch, sides, before, strict=True):
        if not isinstance(side, Tensor):
            require(list(side) == list(old), f"keys of {name}: expected {list(old)}, found {list(side)}")
            require(all(side[key] is old[key] for key in old), f"a value of {name} was replaced")
        for key, copied in copies.items():
            pairs = zip(tensors_in(old[key]), tensors_in(copied), strict=True)
            require(all(_same(*pair) for pair in pairs), f"the tensor {key!r} of {name} was changed")


@check("builds", "batch_untouched")
def value(subject: Subject) -> None:
    """The value is a finite scalar of a floating dtype, on the graph of the predictions.

    Declare a valid `example`. Compute the value from the predictions without `detach`, `item` or `torch.tensor`.
    """
    batch = subject.batch()
    actual = subject.value(batch=batch)
    require(actual.is_floating_point(), f"its dtype is {actual.dtype}")
    require(actual.isfinite(), f"on the example batch: expected a finite value, found {actual:.6g}")
    require(actual.requires_grad, "it has no gradient")
    leaves = [t for t in tensors(batch[0]) if t.requires_grad]
    reached = torch.autograd.grad(actual, leaves, allow_unused=True)
    require(any(gradient is not None for gradient in reached), "no prediction has a gradient")


@check("value")
def deterministic(subject: Subject) -> None:
    """The value of a batch is the same at every call.

    Keep no state between calls, and draw no random numbers.
    """
    loss, batch = subject.loss(), subject.batch()
    first, second = (loss(*batch, normalize=False, **at_epoch(loss))[0] for _ in range(2))
    require(torch.equal(first, second), f"two calls gave {first:.9g} and {second:.9g}")


@check("deterministic")
def dtype_follows(subject: Subject) -> None:
    """For a batch of float64 the value is float64 and close to that of float32.

    Create tensors with the dtype of the prediction (`torch.zeros_like`, `pred.new_tensor`), register constants as
    buffers, and cast only narrower dtypes to float32.
    """
    double = floating(torch.float64)
    actual, expected = subject.value(subject.loss().double(), subject.batch(double, double)), subject.value()
    require(actual.dtype == torch.float64, f"expected torch.float64, found {actual.dtype}")
    require(close(actual, expected, 1e-3), f"expected {expected:.9g} as for float32, found {actual:.9g}")


@check("value")
def no_wider(subject: Subject) -> None:
    """For a batch of float32 the value is float32.

    Use Python numbers and tensors with the prediction's dtype (`pred.new_tensor`), not NumPy numbers or `double()`.
    """
    single = floating(torch.float32)
    actual = subject.value(batch=subject.batch(single, single))
    require(actual.dtype == torch.float32, f"expected torch.float32, found {actual.dtype}")


@check("gradients_finite", "deterministic")
def half_precision(subject: Subject) -> None:
    """Under autocast, for half-precision predictions, the value is close to that of float32 and gradients are finite.

    Compute sums, exponentials and divisions in float32, and leave float64 as it is:
    `pred.to(torch.promote_types(pred.dtype, torch.float32))`. In float16, 1e-8 is zero and 65504 is the largest number.
    """
    expected = subject.value()
    for dtype in (torch.bfloat16, torch.float16):
        batch = subject.batch(floating(dtype))
        with torch.autocast("cpu", dtype):
            try:
                actual = subject.value(batch=batch)
            except RuntimeError as error:
                applies(f"not implemented for '{_CPU_NAMES[dtype]}'" not in str(error), f"no CPU kernel: {error}")
                raise
        require(
            close(actual, expected, 0.1), f"for {dtype}: expected {expected:.6g} as for float32, found {actual:.6g}"
        )
        require(_finite(gradients(actual, batch)), f"for {dtype} a gradient is not finite")


@check("half_precision")
def real_size(subject: Subject) -> None:
    """Under autocast, for 512 x 512 images of bfloat16 or float16, value and gradients are close to those of float32.

    Sum over pixels in float32, and leave float64 as it is:
    `pred.sum(dtype=torch.promote_types(pred.dtype, torch.float32))`. Such sums overflow in float16 and lose precision
    in bfloat16.
    """
    enlarged, single = _enlarged(_image_size(subject)), floating(torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        half = _after(enlarged, floating(dtype))
        batch, exact = subject.batch(half, half), subject.batch(*[_after(half, single)] * 2)
        expected = subject.value(batch=exact)
        slopes = gradients(expected, exact)
        with torch.autocast("cpu", dtype):
            actual = subject.value(batch=batch)
        require(
            close(actual, expected, 1e-2), f"for {dtype}: expected {expected:.6g} as for float32, found {actual:.6g}"
        )
        scale = min(1024.0, 1 / max(1e-30, *(float(slope.abs().max()) for slope in slopes)))  # as a GradScaler
        for found_slope, slope in zip(gradients(actual.float() * scale, batch), slopes, strict=True):
            off = (found_slope.float() / scale - slope).norm() / slope.norm().clamp_min(1e-30)
            require(off <= 0.05, f"for {dtype} the relative error of a gradient is {off:.2g}, compared with float32")


@check("gradients_finite")
def extreme_values(subject: Subject) -> None:
    """For predictions that are exactly 0 or 1, huge, all zero, or equal to the target, the value and the gradients are
    finite.

    Use the stable forms (`logsigmoid`, `log_softmax`, `logsumexp`, `softplus`), and add an epsilon inside each `log`,
    `sqrt` and division, not outside.
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
    first, target = (next(iter(tensors(side)), None) for side in subject.batch())
    if first is not None and target is not None and (first.shape, first.dtype) == (target.shape, target.dtype):
        number = count()
        _sound(subject, "with a prediction equal to the target", lambda t: target if next(number) == 0 else t)


@check("gradients_finite")
def non_square(subject: Subject) -> None:
    """For images that are not square, the value and the gradients are finite.

    Read height and width separately from the tensor's shape.
    """
    size = _image_size(subject)
    narrow = (*size[:-1], size[-1] - 3)
    _sound(subject, f"for images of {narrow}", *[_cropped(size, narrow)] * 2)


@check("gradients_finite")
def one_pixel(subject: Subject) -> None:
    """For images of one pixel, the value and the gradients are finite, or a `lossreg.errors.ShapeError` is raised.

    Divide by counts that cannot be zero (`clamp_min(1)`, no unbiased variance), or raise a `ShapeError` that says which
    size is needed.
    """
    size = _image_size(subject)
    _sound(subject, "for images of one pixel", *[_cropped(size, (1,) * len(size))] * 2)


@check("deterministic")
def memory_layout(subject: Subject) -> None:
    """The value is the same for tensors that are not contiguous, or channels-last.

    Use `reshape` instead of `view`, and do not use strides.
    """
    expected = subject.value()
    for what, change in (("not contiguous", _strided), ("channels-last", _channels_last)):
        actual = subject.value(batch=subject.batch(change, change))
        require(close(actual, expected), f"for tensors that are {what}: expected {expected:.6g}, found {actual:.6g}")


@check("value")
def nothing_to_learn(subject: Subject) -> None:
    """For a batch with nothing to learn, the value is a zero on the graph and the gradients are zero.

    Divide a masked sum by `mask.sum().clamp_min(1)`, and use `torch.where` instead of indexing. If the tensor is empty,
    return `lossreg.losses.base.zero_on_graph(pred)`.
    """
    applies(subject.spec.nothing, "its spec has no `nothing`")
    pred, gt = imported(str(subject.spec.nothing))()
    batch = mapped(pred, lambda t: t.detach().requires_grad_(t.is_floating_point())), gt
    actual = subject.value(batch=batch)
    require(bool(actual == 0), f"expected 0, found {actual:.6g}")
    require(actual.requires_grad, "it has no gradient, so DistributedDataParallel would wait for one")
    require(all(bool((g == 0).all()) for g in gradients(actual, batch)), "a gradient is not zero")


@check("gradients_finite")
def masked_unseen(subject: Subject) -> None:
    """Where a term's mask is 0, predictions and targets may be NaN: the value and the gradients are those without.

    Replace what is masked before you compute, with `torch.where` or `lossreg.losses.mean.blanked`: the gradient of a
    NaN is NaN, also where the weight is 0.
    """
    loss = subject.loss()
    applies(loss.masks, "it takes no mask")
    applies(loss.requires, "it is given its tensors, and the mask is applied around it")
    samples = subject.samples()
    applies(samples > 1, "its example has one sample")
    applies(all(isinstance(side, Mapping) for side in subject.batch()), "its example has tensors without keys")
    loss.take_mask("gt.counts")
    counts = torch.arange(samples) > 0
    found = []
    for hidden in (0.5, torch.nan):

        def hide(t: Tensor, hidden: float = hidden) -> Tensor:
            is_masked = t.is_floating_point() and t.dim() > 0 and len(t) == samples
            return torch.cat([torch.full_like(t[:1], hidden), t[1:]]) if is_masked else t

        pred, gt = subject.batch(hide, hide)
        batch = pred, dict(gt, counts=counts)
        value = subject.value(loss, batch)
        found.append([value, *gradients(value, batch)])
    for i, (expected, actual) in enumerate(zip(*found, strict=True)):
        what = "a gradient is not" if i else f"expected the value {expected:.6g}, found {actual:.6g}:"
        require(close(actual, expected), f"with NaN where the mask is 0 {what} that without")


def _sound(subject: Subject, when: str, pred: Change, gt: Change | None = None) -> None:
    """Require that a changed batch gives a finite value and finite gradients, or a `BatchError`."""
    batch = subject.batch(pred, gt)
    try:
        actual = subject.value(batch=batch)
    except BatchError:
        return  # the error says what the loss needs
    except Exception as error:
        raise Broken(f"{when} it raised {type(error).__name__}: {error}") from error
    require(actual.isfinite(), f"{when}: expected a finite value, found {actual:.6g}")
    require(_finite(gradients(actual, batch)), f"{when} a gradient is not finite")


def _of_floating(change: Change) -> Change:
    return lambda t: change(t) if t.is_floating_point() else t


def _cropped(size: tuple[int, ...], crop: tuple[int, ...]) -> Change:
    """Return a function that crops images of a size and does not change other tensors."""
    cut: tuple[Any, ...] = (..., *(slice(length) for length in crop))
    return lambda t: t[cut].contiguous() if tuple(t.shape[-len(size) :]) == size else t


def _finite(slopes: list[Tensor]) -> bool:
    return all(bool(slope.isfinite().all()) for slope in slopes)


def _image_size(subject: Subject) -> tuple[int, ...]:
    """Return the size of the example's images or volumes."""
    sizes = [tuple(t.shape[2:]) for t in tensors(subject.batch()[0]) if t.dim() >= 4]
    applies(sizes and min(sizes[0]) > 3, "its example has no images")
    return sizes[0]


def _enlarged(size: tuple[int, ...], pixels: int = 512 * 512) -> Change:
    """Return a function that repeats images of a size until they have at least `pixels` pixels."""
    times = math.ceil((pixels / math.prod(size)) ** (1 / len(size)))
    repeats = [times] * len(size)
    return lambda t: t.repeat(*[1] * (t.dim() - len(size)), *repeats) if tuple(t.shape[-len(size) :]) == size else t


def _after(*changes: Change) -> Change:
    """Return a function that applies several changes in order."""
    return lambda t: functools.reduce(lambda tensor, change: change(tensor), changes, t)


def _strided(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, tensor], dim=-1)[..., 0]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
