"""The base class of every loss: what it reads, its value, its norm, and errors that name what came."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from lossreg.arguments import Arguments, plain
from lossreg.errors import DtypeError, MissingKeyError, RangeError, ShapeError
from lossreg.losses.norm import RunningNorm, snapshot
from lossreg.losses.notes import note_loss

Batch: TypeAlias = Mapping[str, Any] | Tensor
"""A mapping of tensors, or a bare tensor where a loss reads just one key of that side."""


class _Running(threading.local):
    """The forwards that this thread is in, the innermost last: `[loss, its extra_info]` each."""

    def __init__(self) -> None:
        self.forwards: list[list[Any]] = []


_running = _Running()


class Loss(RunningNorm):
    """A named loss over `(pred_batch, gt_batch)` with a running norm.

    A subclass writes `compute` and declares what it reads::

        class Offset(lossreg.Loss):
            requires = ("pred.offset", "gt.offset")

            def compute(self, pred_batch, gt_batch):
                pred = self.read(pred_batch, gt_batch, "pred.offset")
                return (pred - self.read(pred_batch, gt_batch, "gt.offset")).abs().mean()

    Args:
        name: the term's name in logs and in `MultiLoss`; not empty, no `/` (groups nest as `group/term`).

    Attributes:
        requires: keys that must be there, each `pred.<key>` or `gt.<key>`.
        optional: keys that are used where they are there.
        needs_grad: whether `compute` takes derivatives of the predictions, as a physics residual does. Gradients are
            then on in it, and calibration calls the model with gradients on.
        ignore_index: the target value of elements to leave out, where there is one.
        registered_name: the canonical name by which it was created; empty where its class was called.
        registered_arguments: the arguments by which it was created so, as a text.
    """

    requires: Sequence[str] = ()
    optional: Sequence[str] = ()
    needs_grad: bool = False
    ignore_index: int | None = None
    registered_name: str = ""
    registered_arguments: str = ""
    _name: str
    _term_of = ""  # the `MultiLoss` that it is a term of

    def __init__(self, name: str) -> None:
        super().__init__()
        self._extra_info: dict[str, Any] = {}
        self.name = name

    @property
    def name(self) -> str:
        """The term's name in logs and in `MultiLoss`; fixed once the loss is a term of one."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        given = Arguments(type(self).__name__)
        name = given.name("name", name)
        if self._term_of and name != self._name:
            given.report(
                "name", f"{self._term_of} knows it as {self._name!r}, found {name!r}", "name a loss beforehand"
            )
        given.done()
        self._name = name

    @property
    def extra_info(self) -> dict[str, Any]:
        """What `compute` puts here is returned, detached, beside the value; each forward has its own."""
        if not torch.compiler.is_compiling():
            for loss, extra_info in reversed(_running.forwards):
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

    @abstractmethod
    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return the raw loss, a scalar on the graph of the predictions. The batches are read only."""
        raise NotImplementedError(f"{type(self).__name__} must define compute(pred_batch, gt_batch)")

    def forward(self, pred_batch: Any, gt_batch: Any, normalize: bool = True) -> tuple[Tensor, dict[str, Any]]:
        """Return `(loss, extra_info)`, the loss divided by its norm where `normalize`.

        Raises:
            ArgumentError: `normalize` is no bool.
            MissingKeyError, ShapeError, DtypeError, RangeError: a batch is not what the loss needs.
            Exception: whatever `compute` raises, with a note that names the term, its loss and the batch's tensors.
        """
        if normalize is not True and normalize is not False:
            normalize = check_normalize(normalize, self.name)
        value, extra_info = self._run(pred_batch, gt_batch)
        return (value / snapshot(self.norm)[0] if normalize else value), extra_info

    def _run(self, pred_batch: Any, gt_batch: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return what `compute` returns and what it put into `extra_info`, and keep nothing of either."""
        self._extra_info.clear()  # a graph that is kept here could be neither freed nor copied
        if torch.compiler.is_compiling():  # a compiler keeps the threads apart by itself
            try:
                return self._computed(pred_batch, gt_batch), _detached(self._extra_info)
            finally:
                self._extra_info.clear()
        forwards = _running.forwards
        forwards.append(forward := [self, {}])
        try:
            return self._computed(pred_batch, gt_batch), _detached(forward[1]) if forward[1] else {}
        except Exception as error:
            note_loss(error, self, pred_batch, gt_batch)
            raise
        finally:
            forwards.pop()

    def _computed(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return what `compute` does, a scalar, with gradients on in it where it needs them."""
        if not self.needs_grad or torch.is_grad_enabled():
            value = self.compute(pred_batch, gt_batch)
        else:
            with torch.enable_grad():
                value = _detached(self.compute(pred_batch, gt_batch))
        if not isinstance(value, Tensor) or value.dim() != 0:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"loss {self.name!r}: compute must return a scalar tensor, got {found}")
        return value

    @torch.no_grad()
    def update_norm(self, pred_batch: Any, gt_batch: Any, nums: int) -> None:
        """Add this batch, of `nums` samples, to the running average that is the norm."""
        value, _ = self(pred_batch, gt_batch, normalize=False)
        self.record(value, nums)

    # --- reading a batch --------------------------------------------------------------------------

    def read(self, pred_batch: Any, gt_batch: Any, key: str) -> Tensor:
        """Return the tensor at `pred.<key>` or `gt.<key>`; a bare tensor stands for its side's only key.

        Raises:
            MissingKeyError: the key is not there; the message lists the keys that are.
        """
        tensor = self.read_optional(pred_batch, gt_batch, key)
        if tensor is None:
            side, _, _ = key.partition(".")
            batch = pred_batch if side == "pred" else gt_batch
            found = f"keys {sorted(map(str, batch))}" if isinstance(batch, Mapping) else "a bare tensor"
            raise MissingKeyError(f"loss {self.name!r} needs {key!r}; {side}_batch has {found}")
        return tensor

    def read_optional(self, pred_batch: Any, gt_batch: Any, key: str) -> Tensor | None:
        """Return the tensor at `key`, or None where it is not there."""
        side, _, rest = key.partition(".")
        batch = pred_batch if side == "pred" else gt_batch
        if isinstance(batch, Tensor):
            alone = [k for k in self.requires if k.startswith(side + ".")] in ([key], [])
            return batch if alone and key not in self.optional else None
        if not isinstance(batch, Mapping):
            raise MissingKeyError(
                f"loss {self.name!r}: {side}_batch must be a mapping of tensors or a tensor, got {type(batch).__name__}"
            )
        value = batch.get(rest)
        if value is not None and not isinstance(value, Tensor):
            raise DtypeError(f"loss {self.name!r}: {key!r} must be a tensor, got {type(value).__name__}")
        return value

    def check_shape(self, key: str, tensor: Tensor, expected: Sequence[int | str]) -> None:
        """Compare a shape with one like `("N", 4, "H", "W")`: a number must be met, one letter is one size.

        Raises:
            ShapeError: names the loss, the key, what came and what was expected.
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
        """Refuse a tensor that is not of a floating-point dtype.

        Raises:
            DtypeError: names the loss, the key, what came and what was expected.
        """
        if not tensor.is_floating_point():
            raise DtypeError(
                f"loss {self.name!r}: {key!r} has dtype {str(tensor.dtype).removeprefix('torch.')}, "
                "expected a floating-point dtype"
            )

    def check_range(self, key: str, tensor: Tensor, low: float, high: float, hint: str = "") -> None:
        """Refuse values outside `[low, high]`, on the CPU in eager mode, where looking costs no transfer.

        Elsewhere nothing is checked: a forward never reads a tensor back from a device, and a device-side
        assertion would take the whole process down.

        Raises:
            RangeError: names the loss, the key, the range that came and the one that was expected.
        """
        if not can_look(tensor):
            return
        values = tensor.detach()
        least, most = torch.amin(values), torch.amax(values)  # `aminmax` is slower
        if not holds((least >= low) & (most <= high)):
            expected = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            expected = f"{high:g} or less" if low == -math.inf else expected
            raise RangeError(
                f"loss {self.name!r}: {key!r} holds values from {float(least):.6g} to {float(most):.6g}, "
                f"expected {expected}" + (f"; {hint}" if hint else "")
            )

    def extra_repr(self) -> str:
        """Show the term's name."""
        return f"name={self.name!r}"


def check_normalize(normalize: Any, owner: str) -> bool:
    """Take the third argument of a forward, where an epoch is soon given by mistake.

    Raises:
        ArgumentError: it is no bool.
    """
    if normalize is True or normalize is False:
        return normalize
    given = Arguments(owner)
    flag = plain(normalize)
    if not isinstance(flag, bool):
        given.wrong("normalize", "True or False", normalize, "an epoch goes by its name: pass epoch=...")
    given.done()
    return bool(flag)


def zero_on_graph(tensor: Tensor) -> Tensor:
    """Return a scalar zero that depends on `tensor`, with zero gradients whatever values it holds.

    A loss over nothing returns this, so that DistributedDataParallel sees every parameter used.
    """
    return tensor.reshape(-1)[:0].sum()


def can_look(tensor: Tensor) -> bool:
    """Say whether a tensor's values may be looked at: on the CPU, in eager mode, none of them fake or wrapped."""
    return (
        tensor.device.type == "cpu"
        and tensor.numel() > 0
        and not torch.compiler.is_compiling()
        and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__  # a subclass may be fake
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def holds(condition: Tensor) -> bool:
    """Say whether a condition on the CPU holds, without a host read."""
    try:
        torch._assert_async(condition)
    except RuntimeError:
        return False
    return True


def _detached(value: Any) -> Any:
    """Detach the tensors in a value, in mappings, lists and tuples at any depth."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _detached(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_detached(item) for item in value)
    return value
