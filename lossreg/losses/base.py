"""The base class of all losses: reading a batch, computing the value, and checks of tensors."""

from __future__ import annotations

import inspect
import math
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from lossreg.arguments import Arguments, plain
from lossreg.errors import BatchError, CountError, DtypeError, MissingKeyError, RangeError, ShapeError
from lossreg.keys import Term
from lossreg.losses.concrete import is_concrete
from lossreg.losses.inductor import FAULTY, stay_inside_of_buffers
from lossreg.losses.mean import Count, Elements, Mean, aligned, fitting, portion, product, valued
from lossreg.losses.nested import is_sequence_of_tensors
from lossreg.losses.norm import RunningNorm, snapshot
from lossreg.losses.notes import note_loss

Batch: TypeAlias = Mapping[str, Any] | Tensor
"""A mapping of tensors, or a bare tensor if a loss reads only one key of that side."""


class _Running(threading.local):
    """The running forwards of this thread, innermost last, each as `[loss, extra_info, epoch]`."""

    def __init__(self) -> None:
        self.forwards: list[list[Any]] = []  # each [loss, extra_info, epoch]


_running = _Running()


class Loss(RunningNorm):
    """A named loss over `(pred_batch, gt_batch)` with a running norm.

    A subclass defines `compute` and declares the keys that it reads::

        class Offset(lossreg.Loss):
            requires = ("pred.offset", "gt.offset")

            def compute(self, pred_batch, gt_batch):
                pred = self.read(pred_batch, gt_batch, "pred.offset")
                return lossreg.Mean.of((pred - self.read(pred_batch, gt_batch, "gt.offset")).abs())

    `compute` may return a scalar, which counts as a mean over the batch's samples; a `Mean`, which says what it was
    taken over; or several of them, which add up. With `counts` the loss is exact over micro-batches and ranks; with
    `masks` it takes the keys `mask` and `sample_weight` of a term.

    Args:
        name: the name of the term in logs and in `MultiLoss`; not empty, without `/` (groups nest as `group/term`).

    Attributes:
        requires: required keys, each `pred.<key>` or `gt.<key>`.
        optional: keys that are used if the batch has them.
        takes_epoch: whether `compute` reads `current_epoch`. A `MultiLoss` then passes its epoch to `forward`.
        needs_grad: whether `compute` takes derivatives of the predictions, as a physics residual does. Gradients are
            then on in `compute`, and calibration calls the model with gradients on.
        ignore_index: the target value of elements that the loss ignores, or None.
        masks: whether `compute` takes the weights of elements (`elements`), so that a term may have a mask.
        is_reduced: whether the value is a scalar, as that of a term must be.
        parts: how many means `compute` returns.
        mask: keys of the batch whose product says which elements count, set by `take_mask`.
        sample_weight: keys of the batch whose product weighs elements, set by `take_mask`.
        approximate: whether a window over micro-batches or ranks takes the loss for a mean over samples, where `counts`
            does not tell.
        registered_name: the canonical name if the loss was created by name, else empty.
        registered_arguments: the arguments if the loss was created by name, as text.
    """

    requires: Sequence[str] = ()
    optional: Sequence[str] = ()
    takes_epoch: bool = False
    needs_grad: bool = False
    ignore_index: int | None = None
    masks: bool = False
    parts: int = 1
    mask: tuple[str, ...] = ()
    sample_weight: tuple[str, ...] = ()
    approximate: bool = False
    registered_name: str = ""
    registered_arguments: str = ""
    _name: str
    is_reduced: bool = True
    _epoch: float | None = None  # of a compiled forward
    _term_of = ""  # the `MultiLoss` that has this loss as a term

    def __init__(self, name: str) -> None:
        super().__init__()
        self._extra_info: dict[str, Any] = {}
        self.name = name

    @property
    def name(self) -> str:
        """The name of the term in logs and in `MultiLoss`; read-only once the loss is a term."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        checks = Arguments(type(self).__name__)
        name = checks.name("name", name)
        if self._term_of and name != self._name:
            problem = f"expected {self._name!r}, since it is a term of {self._term_of}, found {name!r}"
            checks.report("name", problem, "name a loss before you pass it to a MultiLoss", "conflict")
        checks.done()
        self._name = name

    @property
    def tells_means(self) -> bool:
        """Whether `forward` takes `means`; one that a subclass overrides may not."""
        own = type(self).forward
        return own is Loss.forward or "means" in inspect.signature(own).parameters

    @property
    def extra_info(self) -> dict[str, Any]:
        """A dict for `compute` to fill; `forward` returns it detached. Each forward has its own."""
        if not torch.compiler.is_compiling():
            for loss, extra_info, _ in reversed(_running.forwards):
                if loss is self:
                    return cast("dict[str, Any]", extra_info)
        return self._extra_info

    @extra_info.setter
    def extra_info(self, extra_info: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling():
            for forward in reversed(_running.forwards):
                if forward[0] is self:
                    forward[1] = extra_info
                    return
        self._extra_info = extra_info

    @property
    def current_epoch(self) -> float | None:
        """The epoch that this forward, or one around it, was given; None without one."""
        if torch.compiler.is_compiling():
            return self._epoch
        return next((epoch for _, _, epoch in reversed(_running.forwards) if epoch is not None), None)

    @abstractmethod
    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor | Mean | Sequence[Mean]:
        """Return the raw loss: a scalar, a `Mean`, or several that add up; do not change the batches."""
        raise NotImplementedError(f"define {type(self).__name__}.compute(pred_batch, gt_batch)")

    def counts(self, gt_batch: Any) -> Sequence[Count]:  # noqa: ARG002
        """Return the counts of the means of `compute`, in their order, from the targets alone.

        Raises:
            CountError: the targets do not tell.
        """
        raise CountError(
            f"loss {self.name!r}: its targets do not tell how much its value is a mean over, so that it is not exact "
            "over micro-batches and ranks; set `approximate: true` for the term to take it for a mean over samples"
        )

    def forward(
        self,
        pred_batch: Any,
        gt_batch: Any,
        normalize: bool = True,
        means: list[Mean] | None = None,
        epoch: float | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return `(loss, extra_info)`; the loss is divided by its norm if `normalize`.

        Args:
            pred_batch, gt_batch: the batches.
            normalize: whether to divide.
            means: a list to which the means are added that the loss consists of, with their counts; nothing is added
                for a loss that returns a scalar.
            epoch: for a loss that takes it (`takes_epoch`).

        Raises:
            ArgumentError: `normalize` is not a bool.
            MissingKeyError, ShapeError, DtypeError, RangeError: the batch does not fit the loss.
            Exception: any exception of `compute`, with a note that names the term, its loss and the batch's tensors.
        """
        if normalize is not True and normalize is not False:
            normalize = check_normalize(normalize, self.name)
        if torch.compiler.is_compiling():  # compiled code needs no separation of threads
            if self.takes_epoch:
                self._epoch = epoch
            result, extra_info = self._compiled(pred_batch, gt_batch)
        else:
            forward = [self, {}, epoch]
            _running.forwards.append(forward)
            try:
                result = self._computed(pred_batch, gt_batch)
            except Exception as error:
                note_loss(error, self, pred_batch, gt_batch)
                raise
            finally:
                _running.forwards.pop()
            extra_info = _detached(forward[1]) if forward[1] else {}
        if isinstance(result, Tensor):
            value = result
        else:
            value = result[0].value
            for mean in result[1:]:
                value = value + mean.value
            if means is not None:
                means.extend(result)
        return (value / snapshot(self.norm)[0] if normalize else value), extra_info

    def _compiled(self, pred_batch: Any, gt_batch: Any) -> tuple[Tensor | tuple[Mean, ...], dict[str, Any]]:
        """Return what `compute` does and its `extra_info`, and keep no reference to them, as no copy could."""
        if FAULTY:
            stay_inside_of_buffers()
        self._extra_info.clear()
        try:
            return self._computed(pred_batch, gt_batch), _detached(self._extra_info)
        finally:
            self._extra_info.clear()

    def _computed(self, pred_batch: Any, gt_batch: Any) -> Tensor | tuple[Mean, ...]:
        """Return the scalar or the means of `compute`, called with gradients on if the loss needs them."""
        if not self.needs_grad or torch.is_grad_enabled():
            result = self.compute(pred_batch, gt_batch)
        else:
            with torch.enable_grad():
                result = _detached(self.compute(pred_batch, gt_batch))
        if isinstance(result, Mean):
            result = (result,)
            if isinstance(result[0].value, Tensor) and result[0].value.dim() == 0:
                return result
        elif isinstance(result, Tensor) and result.dim() == 0:
            return result
        several = isinstance(result, (tuple, list)) and result and all(isinstance(mean, Mean) for mean in result)
        for value in [mean.value for mean in result] if several else [result]:
            if not isinstance(value, Tensor) or (value.dim() != 0 and self.is_reduced):
                actual = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ShapeError(f"loss {self.name!r}: compute: expected a scalar tensor or a Mean, found {actual}")
        return result if isinstance(result, Tensor) else tuple(result)

    @torch.no_grad()
    def update_norm(self, pred_batch: Any, gt_batch: Any, nums: int) -> None:
        """Add a batch of `nums` samples to the norm, of which a portion may count; the epoch is 0."""
        means: list[Mean] = []
        value, _ = self(
            pred_batch, gt_batch, normalize=False, means=means, **({"epoch": 0} if self.takes_epoch else {})
        )
        self.record(value, nums, portion(means) if means else 1.0)

    # --- the elements that count ------------------------------------------------------------------

    def take_mask(self, mask: Any = None, sample_weight: Any = None) -> None:
        """Set which elements count and how much, by keys of the batch; the loss then requires these keys.

        Args:
            mask: a key (`gt.valid`) or a list of keys of 0 and 1, all of which must be 1.
            sample_weight: a key or a list of keys of weights of 0 or more, which are multiplied.

        Both are constants: a forward with gradients refuses one that requires a gradient.

        Raises:
            ArgumentError: the loss takes no mask, or these are no keys.
        """
        checks = Arguments(f"{type(self).__name__} {self.name!r}")
        for argument, keys in (("mask", mask), ("sample_weight", sample_weight)):
            if keys is None:
                continue
            keys = checks.declared(Term, "Loss", argument, keys)
            if not self.masks:
                checks.report(argument, f"is not possible: {self._why_unmasked()}", "leave it out", "conflict")
            elif keys is not None:
                setattr(self, argument, (keys,) if isinstance(keys, str) else tuple(keys))
        checks.done()
        more = [key for key in (*self.mask, *self.sample_weight) if key not in self.requires]
        if more and (self.requires or self.optional):
            self.__dict__["requires"] = (*self.requires, *more)  # no attribute set by a method is part of a description

    def _why_unmasked(self) -> str:
        return f"{type(self).__name__} has no values of single elements, and does not say what a mask means to it"

    def elements(
        self, pred_batch: Any, gt_batch: Any, shape: Sequence[int], share: Tensor | None = None, channels: bool = True
    ) -> Elements:
        """Return the elements of the loss with the weights that its `mask` and `sample_weight` have in a batch.

        Args:
            pred_batch, gt_batch: the batches; for a count from the targets alone an empty mapping and the targets.
            shape: of the elements, samples first.
            share: as for `Elements`.
            channels: whether axis 1 has channels or tokens; False where it is the first of the pixels' axes.

        Raises:
            MissingKeyError: a key is missing.
            BatchError: weights require a gradient, which they never get, where gradients are on.
            ShapeError: weights do not fit the elements.
            RangeError: a mask is not 0 or 1, or a weight is negative (checked on the CPU).
        """
        inner = outer = None
        for keys, is_mask in ((self.mask, True), (self.sample_weight, False)):
            for key in keys:
                weights = self._weights_at(pred_batch, gt_batch, key, shape, is_mask, channels)
                if weights.numel() == weights.shape[0]:
                    outer = product(outer, weights.reshape(-1).expand(shape[0]))
                else:
                    inner = product(inner, weights)
        return Elements(tuple(shape), inner, outer, share)

    def _weights_at(
        self, pred_batch: Any, gt_batch: Any, key: str, shape: Sequence[int], is_mask: bool, channels: bool
    ) -> Tensor:
        weights = self.read(pred_batch, gt_batch, key)
        if weights.requires_grad and torch.is_grad_enabled():
            raise BatchError(
                f"loss {self.name!r}: {key!r} requires a gradient, expected a constant, since the weights of a mean "
                "have no gradient; detach() it, or write a loss that takes it as an input (`inputs` under `wrap`)"
            )
        found = aligned(weights, shape, channels)
        if found is None:
            raise ShapeError(
                f"loss {self.name!r}: {key!r} has shape {tuple(weights.shape)}, expected one that fits the loss's "
                f"elements {tuple(shape)}: {', '.join(map(str, fitting(shape, channels)))}"
            )
        if is_mask:
            return self.which_count(key, found)
        if found.is_floating_point():
            self.check_range(key, found, 0, math.inf, "a weight is 0 or more")
        return found

    def which_count(self, key: str, mask: Tensor) -> Tensor:
        """Return a mask as bool.

        Raises:
            RangeError: it is not 0 or 1 (checked on the CPU).
        """
        if mask.dtype == torch.bool:
            return mask
        if can_look(mask) and not holds(((mask == 0) | (mask == 1)).all()):
            self.check_range(key, mask, 0, 1, "divide a mask of 0 and 255 by 255")
            raise RangeError(f"loss {self.name!r}: {key!r} holds fractions, expected 0 and 1; use sample_weight")
        return mask != 0

    # --- reading a batch --------------------------------------------------------------------------

    def read(self, pred_batch: Any, gt_batch: Any, key: str) -> Tensor:
        """Return the tensor at `pred.<key>` or `gt.<key>`; a bare tensor counts as the only key of its side.

        Raises:
            MissingKeyError: the key is missing, or has None; the message lists the keys of the batch.
        """
        tensor = self.read_optional(pred_batch, gt_batch, key)
        if tensor is None:
            raise self._missing(pred_batch, gt_batch, key)
        return tensor

    def read_optional(self, pred_batch: Any, gt_batch: Any, key: str) -> Tensor | None:
        """Return the tensor at `key`, or None if it is missing."""
        value = self._value_at(pred_batch, gt_batch, key)
        if value is not None and not isinstance(value, Tensor):
            raise DtypeError(f"loss {self.name!r}: {key!r}: expected a tensor, found {type(value).__name__}")
        return value

    def read_nested(self, pred_batch: Any, gt_batch: Any, key: str) -> Any:
        """Return the tensor at `key`, or the list or tuple of tensors, at any depth; None for a missing optional key.

        Raises:
            MissingKeyError: a key is missing that is not in `optional`.
            DtypeError: the value is neither.
        """
        value = self._value_at(pred_batch, gt_batch, key)
        if value is None and key not in self.optional:
            raise self._missing(pred_batch, gt_batch, key)
        if value is not None and not isinstance(value, Tensor) and not is_sequence_of_tensors(value):
            found = "an empty list" if value in ([], ()) else type(value).__name__
            raise DtypeError(f"loss {self.name!r}: {key!r}: expected a tensor or a list of tensors, found {found}")
        return value

    def _missing(self, pred_batch: Any, gt_batch: Any, key: str) -> MissingKeyError:
        batch = pred_batch if key.startswith("pred.") else gt_batch
        return MissingKeyError(f"loss {self.name!r} needs {key!r}; {found_at(key, batch)}")

    def _value_at(self, pred_batch: Any, gt_batch: Any, key: str) -> Any:
        side, _, rest = key.partition(".")
        batch = pred_batch if side == "pred" else gt_batch
        if isinstance(batch, Tensor):
            alone = [k for k in self.requires if k.startswith(side + ".")] in ([key], [])
            return batch if alone and key not in self.optional else None
        if not isinstance(batch, Mapping):
            raise MissingKeyError(
                f"loss {self.name!r}: {side}_batch: expected a mapping of tensors or a tensor, "
                f"found {type(batch).__name__}"
            )
        return batch.get(rest)

    def check_shape(self, key: str, tensor: Tensor, expected: Sequence[int | str]) -> None:
        """Check a shape against one like `("N", 4, "H", "W")`; equal letters mean equal sizes.

        Raises:
            ShapeError: with the loss, the key, the shape and the expected shape.
        """
        shape = tuple(tensor.shape)
        sizes: dict[str, int] = {}
        fits = len(shape) == len(expected) and all(
            size == want if isinstance(want, int) else sizes.setdefault(want, size) == size
            for size, want in zip(shape, expected, strict=False)
        )
        if not fits:
            wanted = ", ".join(str(want) for want in expected)
            raise ShapeError(f"loss {self.name!r}: {key!r} has shape {shape}, expected ({wanted})")

    def check_float(self, key: str, tensor: Tensor) -> None:
        """Check that a tensor has a floating-point dtype.

        Raises:
            DtypeError: with the loss, the key and the dtype.
        """
        if not tensor.is_floating_point():
            raise DtypeError(
                f"loss {self.name!r}: {key!r} has dtype {str(tensor.dtype).removeprefix('torch.')}, "
                "expected a floating-point dtype"
            )

    def check_range(self, key: object, tensor: Tensor, low: float, high: float, hint: str = "") -> None:
        """Check that all values are in `[low, high]`, only on the CPU in eager mode, where no transfer is needed.

        A forward never reads a tensor back from a device, and a failed device-side assertion would end the process.

        Raises:
            RangeError: with the loss, the key, the range of the values and the expected range.
        """
        if not is_within(tensor, low, high):
            expected = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            expected = f"{high:g} or less" if low == -math.inf else expected
            raise RangeError(
                f"loss {self.name!r}: {key!r} holds values from {tensor.amin().item():.6g} to "
                f"{tensor.amax().item():.6g}, expected {expected}" + (f"; {hint}" if hint else "")
            )

    def extra_repr(self) -> str:
        """Show the term's name."""
        return f"name={self.name!r}"


def found_at(key: str, batch: Any) -> str:
    """Return what a batch has in place of a key that is missing, for an error."""
    side, _, rest = key.partition(".")
    if not isinstance(batch, Mapping):
        return f"{side}_batch has a bare tensor"
    if rest in batch.keys():  # noqa: SIM118 -- an iteration over a TensorDict is one over its rows
        return f"{key!r} is None, which counts as missing"
    return f"{side}_batch has keys {sorted(map(str, batch.keys()))}"


def check_normalize(normalize: Any, owner: str) -> bool:
    """Return the third argument of a forward, which is easily confused with the epoch, as a bool.

    Raises:
        ArgumentError: it is not a bool.
    """
    if normalize is True or normalize is False:
        return normalize
    checks = Arguments(owner)
    flag = plain(normalize)
    if not isinstance(flag, bool):
        checks.wrong("normalize", "True or False", normalize, "for the epoch pass epoch=...")
    checks.done()
    return bool(flag)


def zero_on_graph(tensor: Tensor) -> Tensor:
    """Return a scalar zero on the graph of `tensor`, with zero gradients for all values, also NaN.

    Return it from a loss with nothing to learn, so that DistributedDataParallel finds every parameter used.
    """
    return tensor.reshape(-1)[:0].sum()


def can_look(tensor: Tensor) -> bool:
    """Return whether the values of a tensor may be read without a wait: concrete ones on the CPU, if there are any."""
    return tensor.is_cpu and tensor.numel() > 0 and is_concrete(tensor)


def is_within(tensor: Tensor, low: float, high: float) -> bool:
    """Return whether all values are in `[low, high]`; True where they may not be read."""
    if not can_look(tensor):
        return True
    values = tensor.detach() if tensor.requires_grad else tensor
    # either way is several times slower for some dtypes
    twice = values.dtype in (torch.float32, torch.float64, torch.bool)
    least, most = (values.amin(), values.amax()) if twice else torch.aminmax(values)
    return holds(least >= low) and holds(most <= high)


def holds(condition: Tensor) -> bool:
    """Return whether a bool tensor on the CPU is true, without a host read."""
    try:
        torch._assert_async(condition)
    except RuntimeError:
        return False
    return True


def can_hold(dtype: torch.dtype, number: int) -> bool:
    """Return whether tensors of a dtype can hold a whole number."""
    if dtype == torch.bool:
        return number in (0, 1)
    return dtype.is_floating_point or torch.iinfo(dtype).min <= number <= torch.iinfo(dtype).max


def _detached(value: Any) -> Any:
    """Return a value with its tensors detached, in mappings, lists and tuples at any depth."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _detached(item) for key, item in value.items()}
    if isinstance(value, Mean):
        return valued(value, value.value.detach())
    if type(value) in (list, tuple):
        return type(value)(_detached(item) for item in value)
    return value
