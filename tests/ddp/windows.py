"""Random ragged cuts of a batch over ranks and micro-batches, and what a window makes of them: data and functions.

A case follows from its number: how many samples each micro-batch of each rank has (often none), which elements count,
and the weights. Every rank makes the whole batch, so that the first can compare with it.
"""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg import LossWrapper, MultiLoss

CLASSES = 4
SIZE = (3, 2)


MODULES = {
    "ce": nn.CrossEntropyLoss,
    "weighted_ce": lambda: nn.CrossEntropyLoss(torch.tensor([0.2, 0.9, 1.4, 0.5]), label_smoothing=0.1),
    "l1": nn.L1Loss,
    "bce": nn.BCEWithLogitsLoss,
    "cosine": nn.CosineEmbeddingLoss,
}
"""Losses of each unit."""
KEYS = {
    "ce": {"pred_key": "classes", "gt_key": "labels"},
    "weighted_ce": {"pred_key": "classes", "gt_key": "labels"},
    "l1": {"pred_key": "depth", "gt_key": "depth"},
    "bce": {"pred_key": "depth", "gt_key": "share"},
    "cosine": {"inputs": ["pred.vector", "gt.vector", "gt.sign"]},
}


def case(number: int, ranks: int) -> dict[str, object]:
    """Return the case of a number for so many ranks."""
    draw = random.Random(number)
    micro_batches = draw.randint(1, 8)
    cuts = [[draw.choice([0, 0, 1, 2, 3]) for _ in range(micro_batches)] for _ in range(ranks)]
    names = draw.sample(list(MODULES), draw.randint(1, 3))
    options = {
        name: {
            "mask": draw.choice([None, "gt.has", "gt.valid", ["gt.has", "gt.valid"]]) if name != "cosine" else None,
            "sample_weight": draw.choice([None, "gt.w", ["gt.w", "gt.pixel_w"]]) if name != "cosine" else "gt.w",
            "reduction": draw.choice([None, "per_sample", "sum"]),
        }
        for name in names
    }
    return {"seed": number, "cuts": cuts, "terms": options, "ignored": draw.choice([0.0, 0.3, 1.0])}


def criterion_of(terms: dict[str, dict[str, object]], **options: object) -> MultiLoss:
    """Build the criterion of a case."""
    losses = []
    for name, own in terms.items():
        loss = LossWrapper(MODULES[name](), name, reduction=own["reduction"], **KEYS[name])
        loss.take_mask(own["mask"], own["sample_weight"])
        losses.append(loss)
    return MultiLoss(losses, [0.5 + i for i in range(len(losses))], **options).double().train()


def whole(seed: int, samples: int, ignored: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the inputs and the targets of the joined batch, float64, with NaN where nothing counts."""
    make = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=make, dtype=torch.float64)

    labels = torch.randint(0, CLASSES, (samples, *SIZE), generator=make)
    labels[rand(samples, *SIZE) < ignored] = -100
    targets = {
        "labels": labels,
        "depth": rand(samples, 1, *SIZE),
        "share": rand(samples, 1, *SIZE),
        "vector": rand(samples, 5),
        "sign": torch.where(rand(samples) < 0.5, -1.0, 1.0).double(),
        "has": (rand(samples) < 0.6).double(),
        "valid": rand(samples, *SIZE) < 0.5,
        "w": rand(samples) + 0.1,
        "pixel_w": rand(samples, 1, *SIZE) * (rand(samples, 1, *SIZE) < 0.8),
    }
    return rand(samples, 7), targets


def network(seed: int) -> nn.Linear:
    """Return a network of float64, the same on each rank."""
    torch.manual_seed(seed)
    return nn.Linear(7, CLASSES * 6 + 6 + 5).double()


def predictions(found: Tensor) -> dict[str, Tensor]:
    """Return the heads of a network's output."""
    n, at = len(found), CLASSES * 6
    return {
        "classes": found[:, :at].reshape(n, CLASSES, *SIZE),
        "depth": found[:, at : at + 6].reshape(n, 1, *SIZE),
        "vector": found[:, at + 6 :],
    }


def wrapped(model: nn.Module, wrap: str | None) -> nn.Module:
    """Return a network inside of DistributedDataParallel, or sharded by FSDP2, or as it is."""
    if wrap == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if wrap == "fsdp":
        from torch.distributed.fsdp import fully_shard

        fully_shard(model)
    return model


def synced(model: nn.Module, wrap: str | None, last: bool) -> AbstractContextManager[object]:
    """Return a context in which the ranks average their gradients at the last micro-batch alone."""
    if wrap == "fsdp":
        model.set_requires_gradient_sync(last)
    return nullcontext() if last or wrap != "ddp" else model.no_sync()


def apart(
    number: int, rank: int, ranks: int, one_each: bool = False, wrap: str | None = None, **options: object
) -> float:
    """Return the largest relative difference between the joined batch's gradient and that of the window's parts.

    Args:
        number: of the case.
        rank, ranks: this process.
        one_each: whether each rank has one micro-batch, in a forward of `reduce_over: ranks`.
        wrap: `ddp` or `fsdp`; by default gradients are averaged by hand.
        options: of the criterion.
    """
    found = case(number, ranks)
    cuts, seed = found["cuts"], found["seed"]
    cuts = [[sum(cut)] for cut in cuts] if one_each else cuts
    inputs, targets = whole(seed, sum(map(sum, cuts)), found["ignored"])
    model = network(seed)
    joined = criterion_of(found["terms"], **options)
    joined(predictions(model(inputs)), targets)[0].backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    start = sum(map(sum, cuts[:rank]))
    parts = []
    for size in cuts[rank]:
        parts.append((inputs[start : start + size], {k: v[start : start + size] for k, v in targets.items()}))
        start += size
    criterion = criterion_of(found["terms"], **options, **({"reduce_over": "ranks"} if one_each else {}))
    network_of_rank = wrapped(model, wrap)
    with nullcontext() if one_each else criterion.window([part for _, part in parts]):
        for i, (x, part) in enumerate(parts):
            with synced(network_of_rank, wrap, i == len(parts) - 1):
                criterion(predictions(network_of_rank(x)), part)[0].backward()
    gradients = [p.grad.full_tensor() if wrap == "fsdp" else p.grad for p in model.parameters()]
    gradient = torch.cat([one.flatten() for one in gradients]) * (ranks if wrap else 1)
    if ranks > 1 and not wrap:
        dist.all_reduce(gradient)  # as DistributedDataParallel does
    scale = expected.abs().max().clamp_min(1e-6)
    state = [t.double() for key, t in joined.state_dict().items() if t.is_floating_point()]
    moved = [t.double() for key, t in criterion.state_dict().items() if t.is_floating_point()]
    of_state = max((float((a - b).abs().max()) for a, b in zip(state, moved, strict=True)), default=0.0)
    return max(float((gradient / ranks - expected).abs().max() / scale), 1e-3 * of_state)


def worst(numbers: list[int], rank: int, ranks: int, **options: object) -> list[tuple[int, float]]:
    """Return the cases whose gradients differ by more than 1e-9, or whose state by more than 1e-6."""
    apart_by = [(number, apart(number, rank, ranks, **options)) for number in numbers]
    return [(number, difference) for number, difference in apart_by if not difference <= 1e-9]
