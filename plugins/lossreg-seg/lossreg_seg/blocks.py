"""Planes of pixels in blocks: on the CPU such as its caches hold, elsewhere the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lossreg.losses.concrete import is_concrete

_BLOCK = 1 << 17  # elements per CPU thread: smaller blocks start more operations, larger ones do not fit the caches
_BLOCK_HALF = 1 << 17  # elements on the CPU in half precision, where the float32 buffers need most of the memory


def may_apply(pred: Tensor, *constants: Tensor | None) -> bool:
    """Return whether tensors are concrete, in eager mode, and only the first needs a gradient."""
    given = [constant for constant in constants if constant is not None]
    return all(map(is_concrete, [pred, *given])) and not any(constant.requires_grad for constant in given)


def bits(floats: Tensor) -> Tensor:
    """Return the memory of floats as integers: times 0 these are the bits of 0, also of NaN."""
    return floats.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[floats.dtype.itemsize])


class Blocks:
    """Planes (N, C, pixels), read block by block as float32, or float64 if they are.

    A block contains whole samples, or a part of the pixels of one sample. Elsewhere than on the CPU each operation on a
    block would be a launch, so that all planes are one block.

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

    def blocks(self, planes: Tensor) -> Sequence[Tensor]:
        """Return planes (N, C, pixels) as blocks, without a copy."""
        some = planes.chunk(self.groups)
        return some if self.parts == 1 else [part for planes in some for part in planes.chunk(self.parts, 2)]

    def of_blocks(self, numbers: Tensor) -> Sequence[Tensor]:
        """Return for each block its numbers (n, C, 1), of numbers (N, C)."""
        some = numbers.to(self.dtype).unsqueeze(2).chunk(self.groups)
        return [group for group in some for _ in range(self.parts)]

    def sum_blocks(self, rows: int, sum_block: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sum of a number of each block, and sums of planes (rows, N, C).

        Args:
            rows: how many sums a plane has.
            sum_block: given a block's position, it returns the number, and writes the sums (rows, n, C).
        """
        sums = self.planes.new_empty((rows, self.parts, *self.planes.shape[:2]), dtype=self.dtype)
        places = [part for some in sums.chunk(self.groups, 2) for part in some.unbind(1)]
        totals = [sum_block(i, place) for i, place in enumerate(places)]
        if len(totals) == 1:
            return totals[0], sums[:, 0]
        return torch.stack(totals).sum(dtype=torch.float64), sums.sum(1, dtype=torch.float64)

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
