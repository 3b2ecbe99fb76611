"""A mean with its count: what a loss returns so that batches can be masked, cut and empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lossreg.losses.nested import mapped

Count: TypeAlias = Tensor | float
"""How much a mean was taken over, 0 or more: a detached scalar, or a number where the shapes alone tell it."""
Reduction: TypeAlias = Literal["mean", "per_sample", "sum", "none"]


class Mean(NamedTuple):
    """A mean over elements (pixels, samples, tokens, planes), and how much it was taken over.

    Everything that averages such values weighs them by their counts: norms, adaptive weightings, micro-batches, ranks.
    A count of 0 means that the batch has nothing for this loss.

    Attributes:
        value: scalar on the graph; a zero on the graph where the count is 0.
        count: the number of elements, or the sum of their weights.
        is_sum: whether the value is a sum: the sums of parts of a batch add up, where means are averaged.
        size: how many elements there are, whether they count or not; None where that is not known.
    """

    value: Tensor
    count: Count  # type: ignore[assignment]  # a tuple has a method of this name
    is_sum: bool = False
    size: float | None = None

    @classmethod
    def of(cls, values: Tensor, weights: Tensor | None = None) -> Mean:
        """Return the mean of values over elements.

        Args:
            values: (...) on the graph.
            weights: 0 or more, bool or number, of as many axes as `values`, with sizes of 1 where they are the same
                along an axis. They are constants, without a gradient. An element of weight 0 is left out, also if its
                value is NaN. Where the prediction or the target is NaN, replace it before computing `values`: the
                gradient of a NaN is NaN.
        """
        return Elements(tuple(values.shape), inner=weights).mean(values)

    @classmethod
    def of_sum(cls, total: Tensor, count: Count, size: float | None = None) -> Mean:
        """Return the mean of elements from their sum, a scalar that is 0 where the count is."""
        divisor = safe(count)
        return cls(total / (divisor.to(total.dtype) if isinstance(divisor, Tensor) else divisor), count, False, size)


def safe(count: Count) -> Count:
    """Return a divisor: the count, or 1 in place of 0."""
    return torch.threshold(count, 0, 1) if isinstance(count, Tensor) else count or 1.0


def counted(count: Count, like: Tensor) -> Tensor:
    """Return a count as a detached scalar of the dtype and on the device of a tensor."""
    return count.detach().to(like) if isinstance(count, Tensor) else like.new_full((), count)


def largest(counts: Sequence[Count]) -> Count:
    """Return the largest of some counts, which is 0 only if all of them are."""
    if len(counts) == 1:
        return counts[0]
    fixed = [count for count in counts if not isinstance(count, Tensor)]
    moving = [count for count in counts if isinstance(count, Tensor)]
    most: Count = max(fixed, default=0.0)
    for count in moving:
        most = torch.maximum(most, count) if isinstance(most, Tensor) else count.clamp_min(most)
    return most


def valued(mean: Mean, value: Tensor) -> Mean:
    """Return a mean with another value; the compiler of torch 2.6 cannot trace `_replace`."""
    return Mean(value, mean.count, mean.is_sum, mean.size)


def portion(means: Sequence[Mean]) -> Count:
    """Return which portion of a batch counts, by the mean of which most does; 0 only if nothing counts for any."""
    return largest([_portion(mean) for mean in means])


def _portion(mean: Mean) -> Count:
    if mean.size:
        return mean.count / mean.size
    return (mean.count > 0).to(mean.value.dtype) if isinstance(mean.count, Tensor) else float(mean.count > 0)


@dataclass  # no tuple: the compiler of torch 2.6 cannot trace properties of one
class Elements:
    """The elements that a loss has values for, with their weights.

    Attributes:
        shape: their shape, samples first.
        inner: weights that differ inside of a sample, of as many axes as `shape`, sizes 1 or those of `shape`.
        outer: (N,) weights of the samples.
        share: what an element counts before these weights, as `inner`: 0 for one that is ignored, or the weight of its
            class. The values hold it already. None for ones.
    """

    shape: tuple[int, ...]
    inner: Tensor | None = None
    outer: Tensor | None = None
    share: Tensor | None = None

    @property
    def weighted(self) -> bool:
        """Whether elements differ in what they count."""
        return self.inner is not None or self.outer is not None or self.share is not None

    @property
    def weights(self) -> Tensor | None:
        """The product of `inner` and `outer`, with the axes of `shape`; None for ones."""
        return product(self.inner, self._samples())

    @property
    def kept(self) -> Tensor | None:
        """Which elements have a weight other than 0, as `inner`; None for all."""
        weights = self.weights
        return None if weights is None else weights if weights.dtype == torch.bool else weights != 0

    def count(self, reduction: str = "mean") -> Count:
        """Return the sum of the weights; for `per_sample` that of the samples which have an element that counts."""
        if not self.weighted:
            return float(self._number() if reduction != "per_sample" else self.shape[0] if self.shape else 1)
        if reduction != "per_sample":
            return self._sum(product(self.weights, self.share))
        return _added(self._of_samples(product(self.inner, self.share))[1])

    def mean(self, values: Tensor, reduction: str = "mean") -> Mean:
        """Reduce values (shape) of the elements, in float32 or wider.

        Args:
            values: on the graph; at elements of weight 0 they may be anything.
            reduction: `mean` over elements, `per_sample` (first in each sample), or `sum`.
        """
        if values.numel() == 0:
            return Mean(values.sum(), 0.0, reduction == "sum")
        if not self.weighted:
            total = values.sum(dtype=_wide(values)) if reduction == "sum" else values.mean(dtype=_wide(values))
            return self.known(total, reduction)
        if reduction == "per_sample":
            return self._mean_of_samples(values)
        weights = self.weights
        total, count = _times(values, weights).sum(dtype=_wide(values)), self._sum(product(weights, self.share))
        if reduction == "sum":
            return Mean(total, count, True, float(self._number()))
        return Mean.of_sum(total, count, float(self._number()))

    def known(self, value: Tensor, reduction: str = "mean") -> Mean:
        """Return a value that is reduced already, with its count."""
        size = self.shape[0] if reduction == "per_sample" and self.shape else self._number()
        return Mean(value, self.count(reduction), reduction == "sum", float(size))

    def weigh(self, values: Tensor) -> Tensor:
        """Return (shape) values times their weights, without the graph of those of weight 0."""
        return _times(values, self.weights)

    def _mean_of_samples(self, values: Tensor) -> Mean:
        rows = _times(values, self.inner)
        totals = (rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(1)).sum(1, dtype=_wide(values))
        counts, weights = self._of_samples(product(self.inner, self.share))
        means = totals / safe(counts)
        return Mean.of_sum((_times(means, self.outer) * (counts != 0)).sum(), _added(weights), float(self.shape[0]))

    def _of_samples(self, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (N,) the sums of weights in each sample, and (N,) what each sample counts."""
        inside = math.prod(self.shape[1:])
        if weights is None:
            assert self.outer is not None
            return _number_of(self.outer).new_full(self.shape[:1], float(inside)), self.outer
        weights = _number_of(weights).expand(self.shape[0], *weights.shape[1:])
        rest = weights.flatten(1) if weights.dim() > 1 else weights.unsqueeze(1)
        counts = rest.sum(1) * (inside / max(rest.shape[1], 1))
        return counts, (counts != 0) if self.outer is None else _number_of(self.outer) * (counts != 0)

    def _samples(self) -> Tensor | None:
        """Return the weights of samples with the axes of the elements."""
        return None if self.outer is None else self.outer.reshape(-1, *[1] * (len(self.shape) - 1))

    def _number(self) -> int:
        return math.prod(self.shape)

    def _sum(self, weights: Tensor | None) -> Tensor:
        assert weights is not None
        total = _added(weights)
        return total if weights.numel() == self._number() else total * (self._number() / max(weights.numel(), 1))


def _wide(values: Tensor) -> torch.dtype:
    """Return the dtype of sums: float32 for halves, whose sums would overflow."""
    return torch.float32 if values.dtype.itemsize < 4 else values.dtype


def _number_of(weights: Tensor) -> Tensor:
    """Return weights as float32, or float64 where they are."""
    return weights.detach() if weights.dtype in (torch.float32, torch.float64) else weights.float()


def _added(weights: Tensor) -> Tensor:
    """Return the sum of weights in float64, so that it does not depend on how a batch is cut; on MPS in float32."""
    exact = torch.float32 if weights.device.type == "mps" else torch.float64
    if weights.dtype == torch.bool and weights.is_cpu:  # where it is faster
        return weights.count_nonzero().to(exact)
    return weights.detach().sum(dtype=exact)


def product(*weights: Tensor | None) -> Tensor | None:
    """Return the product of those weights that are there; of bools a bool."""
    found: Tensor | None = None
    for some in weights:
        if some is not None and found is None:
            found = some.detach()
        elif some is not None and found is not None:
            both = found.dtype == some.dtype == torch.bool
            found = found & some if both else _number_of(found) * _number_of(some)
    return found


def _times(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return values times weights; the gradient of an element of weight 0 is 0, whatever its value."""
    if weights is None:
        return values
    if weights.dtype == torch.bool:
        return torch.where(weights, values, 0.0)
    return torch.where(weights != 0, values, 0.0) * weights.detach().to(values.dtype)


def aligned(weights: Tensor, shape: Sequence[int], channels: bool = True) -> Tensor | None:
    """Return weights with the axes of elements; None where they do not fit.

    The number of axes alone says what an axis of the weights is, so that no size of a batch changes it; see `fitting`.
    Sizes of 1 stand for any size, except that of axis 0.

    Args:
        weights: of any shape.
        shape: of the elements, (N, *spatial), or (N, C, *spatial) with channels or tokens.
        channels: whether axis 1 of the elements has channels or tokens.
    """
    own, axes = tuple(weights.shape), len(shape)
    if not own or not axes:
        return None
    if len(own) == axes:
        found = own
    elif len(own) == axes + 1 and own[1] == 1:
        found = (own[0], *own[2:])
    elif len(own) == 1 or (channels and len(own) == 2 < axes):
        found = (*own, *[1] * (axes - len(own)))
    elif channels and len(own) == axes - 1:
        found = (own[0], 1, *own[1:])
    else:
        return None
    # `in` compares symbolic sizes by identity when shapes are dynamic
    fits = found[:1] == tuple(shape[:1]) and all(c == 1 or c == s for c, s in zip(found, shape, strict=True))
    return weights.reshape(found) if fits else None


def fitting(shape: Sequence[int], channels: bool = True) -> list[tuple[int, ...]]:
    """Return the shapes of weights that fit elements, without those that have a 1 for another size.

    For elements (N, *spatial) these are (N,), (N, *spatial) and (N, 1, *spatial). For elements (N, C, *spatial) they
    are (N,), (N, C), (N, *spatial), (N, 1, *spatial) and (N, C, *spatial); with one spatial axis, as in a sequence
    (N, C, L), weights of two axes are (N, C), and those of positions are (N, 1, L).
    """
    if not shape:
        return []
    whole, (n, *rest) = tuple(shape), shape
    pixels = tuple(rest[1:] if channels else rest)
    of_pixels = [(n, *pixels), (n, 1, *pixels)] if pixels else []
    if not channels or not rest:
        return [(n,), *of_pixels]
    return list(dict.fromkeys([(n,), (n, rest[0]), *of_pixels[len(pixels) == 1 :], whole]))


def blanked_in(value: Any, kept: Tensor, neutral: float = 0.0) -> Any:
    """Return an argument of a loss with each of its tensors `blanked`."""
    return mapped(value, lambda tensor: blanked(tensor, kept, neutral))


def blanked(tensor: Tensor, kept: Tensor, neutral: float = 0.0) -> Tensor:
    """Return an argument of a loss with `neutral` at elements that do not count, so that NaN there has no gradient.

    Args:
        tensor: (N, ...): the elements, or with a class axis 1 beside theirs, or with further axes after theirs.
        kept: bool, of as many axes as the elements.
        neutral: a valid value.
    """
    if tensor.dim() == kept.dim() + 1 and kept.dim() > 1:
        kept = kept.unsqueeze(1)
    elif tensor.dim() > kept.dim():
        kept = kept.reshape(*kept.shape, *[1] * (tensor.dim() - kept.dim()))
    if tensor.dim() != kept.dim():
        return tensor
    return torch.where(kept, tensor, torch.full((), neutral, dtype=tensor.dtype, device=tensor.device))
