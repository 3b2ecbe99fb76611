"""Images with their targets, as tensors, and the batches that a run takes from them."""

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
    """N images with targets, all of one size.

    Attributes:
        tensors: `image` (N, C, H, W), about 0 to 1, and the targets of `draw_targets`, each with N in front.
    """

    tensors: dict[str, Tensor]

    @classmethod
    def stack(cls, samples: Sequence[dict[str, Array]]) -> Samples:
        """Put single samples, arrays by key, together."""
        return cls({key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]})

    def __len__(self) -> int:
        return len(self.tensors["image"])

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.tensors["image"].shape[1]

    def class_freq(self) -> Tensor:
        """Return (3,): the share of pixels that are interior, edge, vertex; one pixel of all at least."""
        target = self.tensors["gt_polygons_image"]
        return target.mean(dim=(0, 2, 3)).clamp_min(target.shape[1] / target.numel())

    def with_class_freq(self, class_freq: Tensor) -> Samples:
        """Return the same samples with `class_freq` (N, 3) among their targets."""
        return Samples({**self.tensors, "class_freq": class_freq.expand(len(self), -1)})

    def batch(self, index: Tensor, turns: Tensor | None = None) -> dict[str, Tensor]:
        """Return the samples at `index` (B,), each turned by its number in `turns` (B,); see `turned`."""
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
        """Yield this rank's share of each batch; the shares of all ranks, joined, are the batch.

        With a seed the order and the turns are drawn from `(seed, epoch)` alone, the same on every rank, and
        a last batch that is not full is left out. Without one all samples come in their order, as they are.
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
    """Turn a sample by `turn % 4` quarters, mirrored left to right first where `turn` is 4 or more.

    A quarter turn moves the tangent `z = row + i column` to `i z`, a mirror to its conjugate; angles follow.
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
