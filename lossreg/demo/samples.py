"""Images and targets as tensors, and batches of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossreg.demo.targets import Array


@dataclass(frozen=True)
class Samples:
    """N images of one size with targets.

    Attributes:
        tensors: `image` (N, C, H, W), about 0 to 1, and the targets of `draw_targets` with a first axis N.
    """

    tensors: dict[str, Tensor]

    @classmethod
    def stack(cls, samples: Sequence[dict[str, Array]]) -> Samples:
        """Return single samples, each a dict of arrays, as one object."""
        return cls({key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]})

    def __len__(self) -> int:
        return len(self.tensors["image"])

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.tensors["image"].shape[1]

    def class_freq(self) -> Tensor:
        """Return the share of pixels that are interior, edge, vertex, with shape (3,); at least one pixel."""
        target = self.tensors["gt_polygons_image"]
        return target.mean(dim=(0, 2, 3)).clamp_min(target.shape[1] / target.numel())

    def with_class_freq(self, class_freq: Tensor) -> Samples:
        """Return the same samples with the target `class_freq` (N, 3)."""
        return Samples({**self.tensors, "class_freq": class_freq.expand(len(self), -1)})

    def batch(self, index: Tensor, turns: Tensor | None = None) -> dict[str, Tensor]:
        """Return the samples at `index` (B,), each turned as `turns` (B,) says; see `turned`."""
        picked = {key: tensor[index] for key, tensor in self.tensors.items()}
        if turns is None:
            return picked
        singles = [
            turned({key: tensor[i] for key, tensor in picked.items()}, int(turn)) for i, turn in enumerate(turns)
        ]
        return {key: torch.stack([single[key] for single in singles]) for key in picked}

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, rank: int = 0, world_size: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        """Yield this rank's share of each batch; the shares of all ranks together are the batch.

        With a seed, the order and the turns depend only on `(seed, epoch)` and are the same on every rank, and an
        incomplete last batch is dropped. Without a seed, all samples are returned in order and not turned.
        """
        order, turns = torch.arange(len(self)), None
        if seed is not None:
            rng = np.random.default_rng([seed, epoch])
            order = torch.from_numpy(rng.permutation(len(self)))[: len(self) // batch_size * batch_size]
            turns = torch.from_numpy(rng.integers(8, size=len(order)))
        for first in range(0, len(order), batch_size):
            share = torch.arange(first, min(first + batch_size, len(order))).tensor_split(world_size)[rank]
            if len(share):
                yield self.batch(order[share], None if turns is None else turns[share])


def turned(sample: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
    """Return a sample turned by `turn % 4` quarters, and mirrored left to right before if `turn` is 4 or more.

    A quarter turn changes the tangent `z = row + i column` to `i z`, and mirroring to its conjugate. The angles of the
    target change in the same way.
    """
    mirrored, quarters = turn >= 4, turn % 4
    result = {}
    for key, tensor in sample.items():
        if tensor.dim() == 3:  # (C, H, W)
            if mirrored:
                tensor = tensor.flip(-1)
            tensor = tensor.rot90(quarters, (-2, -1))
        if key == "gt_crossfield_angle":
            tensor = (-tensor if mirrored else tensor) + quarters * math.pi / 2
        result[key] = tensor
    return result
