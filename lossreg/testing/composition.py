"""Checks of a loss in a `MultiLoss`, over batches of samples, and in several processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossreg.composition.multiloss import MultiLoss
from lossreg.errors import CountError
from lossreg.losses.base import Loss
from lossreg.losses.mean import Mean, portion
from lossreg.losses.nested import mapped
from lossreg.testing import processes
from lossreg.testing.contract import NotApplicable, applies, check, require
from lossreg.testing.subject import Batches, Subject, at_epoch, close, gradients, tensors


@check("deterministic")
def declared_keys(subject: Subject) -> None:
    """If the loss declares keys, it reads only the keys in `requires` and `optional`.

    Add the key to `requires` or `optional`, so that `MultiLoss` knows which preprocess has to run.
    """
    loss = subject.loss()
    applies(loss.requires, "it declares no keys")
    allowed = {*loss.requires, *loss.optional}
    pred, gt = subject.batch()
    applies(isinstance(pred, Mapping) and isinstance(gt, Mapping), "its example has bare tensors")
    actual = subject.value(loss, (_only(pred, "pred", allowed), _only(gt, "gt", allowed)))
    require(close(actual, subject.value()), f"with only {sorted(allowed)} its value differs")


def _only(batch: Any, side: str, keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in batch.items() if f"{side}.{key}" in keys}


class _Anchor(Loss):
    """A second term for the `MultiLoss`."""

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:  # noqa: ARG002
        total: Tensor = sum(t.float().mean() for t in tensors(pred_batch))  # type: ignore[assignment]
        return total


@check("norm", "gradients_finite")
def in_multiloss(subject: Subject) -> None:
    """In a `MultiLoss` the loss contributes weight * value / norm, and its gradients match this contribution.

    Require only keys that the loss reads. If you override `forward`, return `(value, extra_info)`.
    """
    loss, (pred, gt) = subject.loss(), subject.batch()
    maps = isinstance(pred, Mapping) and isinstance(gt, Mapping)
    keys = [f"{side}.{key}" for side, batch in (("pred", pred), ("gt", gt)) for key in batch] if maps else None
    loss.name = "loss"
    criterion = MultiLoss([loss, _Anchor("anchor")], [[0.0, 2.0], 1.0], [0, 10], batch_keys=keys)
    subject.seed()
    criterion.update_norm(pred, gt, 2)
    totals = []
    for epoch in (0, 5, 10):
        subject.seed()
        totals.append(criterion(pred, gt, epoch=epoch)[0])
    shares = [weight * subject.value(loss, (pred, gt), epoch) / loss.norm[0] for weight, epoch in ((1, 5), (2, 10))]
    actual = [float(total - totals[0]) for total in totals[1:]]
    expected = [float(share) for share in shares]
    finding = f"with the weights 1 and 2: expected {expected} more in the total than with 0, found {actual}"
    pairs = zip(totals[1:], shares, strict=True)
    require(all(close(total - totals[0], share, 1e-3) for total, share in pairs), finding)
    first, last, own = (gradients(value, (pred, gt)) for value in (totals[0], totals[2], shares[1]))
    both = zip(first, last, own, strict=True)
    require(all(close(b - a, c, 1e-3) for a, b, c in both), "its gradients do not match its contribution")


@check("deterministic")
def permutable(subject: Subject) -> None:
    """If the spec declares it, permuting the samples does not change the value.

    Treat all samples (axis 0 of every tensor) alike, or remove `permutable` from the spec's `capabilities`.
    """
    declared = {"permutable", "mean_of_samples"} & set(subject.spec.capabilities)
    applies(declared, "its spec does not declare the capability `permutable`")
    actual, expected = subject.value(batch=subject.batch(_rolled, _rolled)), subject.value()
    require(close(actual, expected), f"in another order: expected {expected:.6g}, found {actual:.6g}")


@check("permutable", "norm")
def mean_of_samples(subject: Subject) -> None:
    """If the spec declares it, the norm over batches of one sample equals the value of the whole batch.

    Average over samples and use no statistics of the whole batch, or remove `mean_of_samples` from the spec's
    `capabilities`.
    """
    applies("mean_of_samples" in subject.spec.capabilities, "its spec does not declare this capability")
    loss = subject.loss()
    for i in range(subject.samples()):

        def one(t: Tensor, i: int = i) -> Tensor:
            return t[i : i + 1]

        loss.update_norm(*subject.batch(one, one), 1)
    require(
        close(loss.norm[0], subject.value()),
        f"the norm over batches of one sample: expected {subject.value():.6g}, found {loss.norm[0]:.6g}",
    )


@check("norm", "gradients_finite")
def split_exact(subject: Subject) -> None:
    """If the loss returns means with counts, it is exact over parts of a batch: its means over one sample and over the
    others, weighted by their counts, are those of the whole batch, and so are the gradients. `counts` returns the
    counts of these means.

    Return `Mean.of(values, weights)` of all values, with a weight of 0 for what does not count, and let `counts` add up
    the same weights; or return a scalar.
    """
    loss, whole = subject.loss(), subject.batch()
    means = _means(loss, whole)
    applies(means, "it returns a scalar, which counts as a mean over samples")
    samples = subject.samples()
    applies(samples > 1, "its example has one sample")
    applies(all(len(t) == samples for t in tensors(*whole) if t.dim()), "its example has tensors without samples")
    parts = [(_part(whole[0], *ends), _part(whole[1], *ends)) for ends in ((0, 1), (1, samples))]
    found = [_means(loss, part) for part in parts]
    _check_counts(loss, [*parts, whole], [*found, means])
    for k, mean in enumerate(means):
        counts = [float(some[k].count) for some in found]
        scale = [1.0] * len(counts) if mean.is_sum else [count / (sum(counts) or 1.0) for count in counts]
        joined = sum((some[k].value * s for some, s in zip(found, scale, strict=True)), torch.zeros(()))
        finding = f"over parts of the batch: expected {mean.value:.6g}, found {joined:.6g}, with the counts {counts}"
        require(close(joined, mean.value), finding)
        pairs = zip(gradients(joined, whole), gradients(mean.value, whole), strict=True)
        require(all(close(ours, other) for ours, other in pairs), "over parts of the batch its gradients differ")


def _means(loss: Loss, batch: Batches) -> list[Mean]:
    means: list[Mean] = []
    loss(*batch, normalize=False, **({"means": means} if loss.tells_means else {}), **at_epoch(loss))
    return means


def _part(batch: Any, start: int, stop: int) -> Any:
    return mapped(batch, lambda t: t[start:stop] if t.dim() else t)


def _check_counts(loss: Loss, batches: list[Batches], means: list[list[Mean]]) -> None:
    """Compare the counts from the targets alone with those of the means."""
    for (_, gt), some in zip(batches, means, strict=True):
        try:
            counts = [float(count) for count in loss.counts(gt)]
        except CountError:
            return  # it says so by name
        actual = [float(mean.count) for mean in some]
        same = len(counts) == len(actual) and all(
            abs(a - b) <= 1e-4 * max(a, b) for a, b in zip(counts, actual, strict=True)
        )
        require(same, f"counts: expected {actual}, as compute has, found {counts}")


@check("pickles", "gradients_finite")
def two_processes(subject: Subject) -> None:
    """Two ranks get the same norm, weighted by the samples that count, and the mean of their gradients.

    Do not override `sync` or `update_norm`, and do not let `compute` depend on the rank.
    """
    loss, shares = subject.loss(), _shares(subject)
    answers = processes.ask(loss, shares)
    if isinstance(answers, str):
        raise NotApplicable(answers)
    values, slopes = zip(*(processes.value_and_slope(loss, share) for share in shares), strict=True)
    parts = [float(portion(means)) if (means := _means(loss, share)) else 1.0 for share in shares]
    samples = [n * part for n, part in zip(processes.SAMPLES, parts, strict=True)]
    norm = sum(v * n for v, n in zip(values, samples, strict=True)) / sum(samples)
    slope = sum(slopes) / len(slopes)
    for rank, (found_norm, found_slope) in enumerate(answers):
        close_norm = close(torch.tensor(found_norm), torch.tensor(norm), 1e-3)
        require(close_norm, f"norm of rank {rank}: expected {norm:.6g}, found {found_norm:.6g}")
        close_slope = close(torch.tensor(found_slope), torch.tensor(slope), 1e-3)
        require(close_slope, f"gradient of rank {rank}: expected {slope:.6g}, found {found_slope:.6g}")


def _shares(subject: Subject) -> list[Batches]:
    """Return a batch for each rank: the example, and the example with its predictions rolled by one sample."""
    batches = [subject.batch(), subject.batch(_rolled)]
    return [(mapped(pred, Tensor.detach), gt) for pred, gt in batches]


def _rolled(tensor: Tensor) -> Tensor:
    return tensor.roll(1, 0) if tensor.dim() else tensor
