"""Planes of pixels in blocks: on the CPU such as its caches hold, elsewhere the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.losses.base import holds
from lossreg.losses.concrete import is_concrete

_BLOCK = 1 << 17  # elements per CPU thread: smaller blocks start more operations, larger ones do not fit the caches
_BLOCK_HALF = 1 << 16  # elements on the CPU in half precision, where the float32 buffers need most of the memory


def may_apply(pred: Tensor, *constants: Tensor | None) -> bool:
    """Return whether tensors are concrete, in eager mode, and only the first needs a gradient."""
    given = [constant for constant in constants if constant is not None]
    return all(map(is_concrete, [pred, *given])) and not any(constant.requires_grad for constant in given)


def lies_within(values: Tensor, low: float, high: float) -> bool:
    """Return whether all values on the CPU are in a range, and none is NaN."""
    return holds((torch.amin(values) >= low) & (torch.amax(values) <= high))


class Blocks:
    """Planes (N, C, pixels), read block by block as float32, or float64 if they are.

    A block contains whole samples, or a part of the pixels of one sample; elsewhere than on the CPU it is the whole, as
    each operation has to be started there.

    Attributes:
        planes: (N, C, pixels).
        on_cpu: whether they are on the CPU.
        dtype: of the sums.
        groups, parts: the number of groups of samples, and of parts of their pixels.
    """

    def __init__(self, planes: Tensor, split: tuple[int, int] | None = None) -> None:
        self.planes = planes.flatten(2)
        self.on_cpu = planes.device.type == "cpu"
        self.dtype = torch.float64 if planes.dtype == torch.float64 else torch.float32
        self.groups, self.parts = split or (self._split_sizes() if self.on_cpu else (1, 1))
        self._buffers: dict[str, Tensor] = {}

    def _split_sizes(self) -> tuple[int, int]:
        """Return the number of groups of samples, and of parts of their pixels."""
        n, c, pixels = self.planes.shape
        elements = _BLOCK * torch.get_num_threads() if self.planes.dtype == self.dtype else _BLOCK_HALF
        groups = -(-n // max(1, elements // (c * pixels)))
        length = -(-pixels // -(-c * pixels // elements))
        return groups, -(-pixels // length)  # `Tensor.chunk` may return fewer parts than it is asked for

    def blocks(self, planes: Tensor, once: bool = False) -> Sequence[Tensor]:
        """Return planes (N, C, pixels) as blocks, without a copy; with `once` there is one number for a plane."""
        some = planes.chunk(self.groups)
        if self.parts == 1:
            return some
        return [part for planes in some for part in ([planes] * self.parts if once else planes.chunk(self.parts, 2))]

    def buffer(self, name: str, like: Tensor) -> Tensor:
        """Return an uninitialised block that reuses the same memory; the first block is the largest."""
        whole = self._buffers.get(name)
        if whole is None:
            whole = self._buffers[name] = torch.empty_like(like, dtype=self.dtype)
        return whole if whole.shape == like.shape else whole[: like.shape[0], :, : like.shape[2]]

    def read(self, blocks: Sequence[Tensor], i: int, name: str) -> Tensor:
        """Return a block in the dtype of the sums, converted into the buffer `name` if necessary."""
        block = blocks[i]
        if block.dtype == self.dtype:
            return block
        return self.buffer(name, block).copy_(block.view(torch.uint8) if block.dtype == torch.bool else block)
