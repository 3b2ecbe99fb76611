"""Random ragged cuts of a batch for every installed loss whose mean has a count, and what a window makes of them.

A case follows from a subject and a number. A subject is a loss with its options, and an example batch. The samples of a
case are drawn from the example; so are masks, weights, the reduction, ignored targets, and how many samples each
micro-batch of each rank has, often none. Predictions are leaves, so that every element's gradient is compared.
"""

from __future__ import annotations

import functools
import itertools
import random
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg import MultiLoss
from lossreg.losses.create import adopt
from lossreg.registry import catalog

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A loss with its options.

    Attributes:
        loss: its registered name.
        example: returns a batch of samples to draw from.
        arguments: of its constructor.
        unit: what a mask chooses: `values`, `pixels`, `channels` (pixels of each channel), `planes`, `samples`, or
            `nothing` where the targets do not tell how many there are.
        weighs: what weights are of; by default as a mask.
        reductions: what a term may set.
        ignored: the value of targets that the loss ignores.
        nodes: makes the preprocesses.
        tolerance: how far gradients may differ, relative to the largest.
    """

    loss: str
    example: Callable[[], tuple[Batch, Batch]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "samples"
    weighs: str = ""
    reductions: tuple[str | None, ...] = (None,)
    ignored: int | None = None
    nodes: Callable[[], list[Any]] = list
    tolerance: float = 1e-9


# --- losses of libraries --------------------------------------------------------------------------

IN_FLOAT32 = {"monai/BoundaryLoss", "monai/BoxGIoULoss", "monai/FocalLoss", "monai/HausdorffDTLoss", "monai/SSIMLoss"}
IN_FLOAT32 |= {"torchmetrics/cosine_similarity", "torchmetrics/spatial_correlation_coefficient"}
"""Losses that their libraries compute in part in float32."""
WITHOUT_TARGET = {
    "kornia/TotalVariation",
    "monai/BendingEnergyLoss",
    "monai/DiffusionLoss",
    "torch/TripletMarginLoss",
    "torch/TripletMarginWithDistanceLoss",
    "piq/TVLoss",
    "torchmetrics/total_variation",
}
"""Losses of predictions alone; a window takes them for means over samples where the term says `approximate: true`."""
_LINEAR = {"in_features": 6, "num_classes": 10}
_DICE = {"softmax": True, "to_onehot_y": True}
OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("torch/CrossEntropyLoss", {"ignore_index": 1}, ""),
    ("torch/CrossEntropyLoss", {"weight": [0.5, 1.0, 3.0], "ignore_index": 1, "label_smoothing": 0.1}, ""),
    ("torch/CrossEntropyLoss", {"weight": [0.5, 0.0, 3.0], "reduction": "sum"}, ""),
    ("torch/CrossEntropyLoss", {"weight": [0.5, 1.0, 3.0], "label_smoothing": 0.1}, "distributions"),
    ("torch/KLDivLoss", {"reduction": "sum"}, ""),
    ("torch/LinearCrossEntropyLoss", {**_LINEAR, "ignore_index": 3}, ""),
    ("torch/LinearCrossEntropyLoss", {**_LINEAR, "weight": [1.0, 2.0] * 5}, ""),
    ("torch/NLLLoss", {"weight": [0.5, 1.0, 3.0], "ignore_index": 2}, ""),
    ("kornia/BinaryFocalLossWithLogits", {"alpha": 0.25, "reduction": "mean", "ignore_index": 1}, ""),
    ("kornia/FocalLoss", {"alpha": 0.25, "reduction": "mean", "weight": [0.5, 1.0, 3.0]}, ""),
    ("kornia/FocalLoss", {"alpha": 0.25, "reduction": "sum", "ignore_index": 1}, ""),
    ("monai/FocalLoss", {"to_onehot_y": True, "ignore_index": 1}, ""),
    ("monai/FocalLoss", {"use_softmax": True}, "one_hot_logits"),
    ("monai/FocalLoss", {"ignore_index": 1}, "one_hot_logits"),
    ("monai/DiceLoss", {"sigmoid": True, "ignore_index": 1}, "one_hot_logits"),
    ("monai/DiceLoss", {**_DICE, "ignore_index": 1, "weight": [1.0, 2.0, 3.0]}, ""),
    ("monai/DiceLoss", {**_DICE, "reduction": "sum", "jaccard": True}, ""),
    ("monai/TverskyLoss", {**_DICE, "alpha": 0.3, "ignore_index": 9}, ""),
]
"""Options that change what counts, with the example where it is not the loss's own."""
_UNITS = {"positions": "pixels", "values": "values", "planes": "planes", "samples": "samples"}


def of_libraries() -> dict[str, Subject]:
    """Return the losses of libraries: each with its example's options, and some with others."""
    from lossreg_wrappers.listing import kinds

    entries = {entry.name: entry for entry in catalog().losses}
    offered = [(name, entries[name].spec.example_args, "") for name in kinds()["count"] if name in entries]
    found = {}
    for name, arguments, example in [*offered, *(some for some in OPTIONS if some[0] in entries)]:
        spec = entries[name].spec
        try:
            loss = adopt(entries[name], "term", arguments)
        except TypeError:
            if (name, arguments, example) not in OPTIONS:
                raise
            continue  # an older release of the library lacks the option
        overlap = spec.masking.startswith("pixels")
        unit = "nothing" if name in WITHOUT_TARGET else "pixels" if overlap else _UNITS[loss.unit]
        last = "mean" if arguments.get("reduction") == "mean" else "sum"  # a term may not contradict its arguments
        title = name if name not in found else "-".join([name, *map(str, arguments.values()), example])
        found[title] = Subject(
            name,
            _function(f"lossreg_wrappers.examples:{example}" if example else spec.example),
            arguments,
            unit,
            weighs="samples" if overlap else "",
            reductions=(None,) if unit == "nothing" else (None, None, "per_sample", last),
            ignored=arguments.get("ignore_index"),
            tolerance=1e-5 if name in IN_FLOAT32 else 1e-9,
        )
    return found


def _function(path: str) -> Callable[[], tuple[Batch, Batch]]:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


# --- first-party losses ---------------------------------------------------------------------------

SIZE = (3, 4)


def _uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(6, *shape, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seg(kind: str, *, weighted: bool = False, mixup: bool = False) -> tuple[Batch, Batch]:
    """Return a batch of SegLoss: `probabilities`, `logits`, class `indices` or `soft` targets."""
    classes = kind in ("indices", "soft")
    channels = 3 if classes else 2
    pred = _uniform(channels) if kind == "probabilities" else 4 * _uniform(channels) - 2

    def target(seed: int) -> Tensor:
        if kind == "indices":
            return (3 * _uniform(1, seed=seed)).long()
        return _uniform(channels, seed=seed).softmax(1) if kind == "soft" else _uniform(channels, seed=seed).round()

    gt = {"gt_polygons_image": target(1)}
    if weighted:
        gt["seg_loss_weights"] = 3 * _uniform(channels, seed=2)
    if mixup:
        gt |= {"mixup_y_a": gt["gt_polygons_image"], "mixup_y_b": target(3), "mixup_lam": torch.tensor(0.3).double()}
    return {"seg": pred}, gt


def frame_field() -> tuple[Batch, Batch]:
    """Return a batch of the frame-field losses, without what preprocesses make."""
    pred = {"crossfield": 2 * _uniform(4) - 1, "seg": _uniform(2, seed=1)}
    return pred, {"gt_polygons_image": _uniform(3, seed=2), "gt_crossfield_angle": 3 * _uniform(1, seed=3)}


def heights() -> tuple[Batch, Batch]:
    """Return a batch of the example's loss."""
    return {"height": _uniform(1)}, {"height": _uniform(1, seed=1), "valid": _uniform(1, seed=2).round()}


def of_frame_field() -> list[Any]:
    """Return the preprocesses of the frame-field losses."""
    from lossreg_crossfield import GtField, SegGrads

    return [GtField(), SegGrads()]


def first_party() -> dict[str, Subject]:
    """Return the first-party losses with counts, in their variants."""
    found = {}
    coefs = {"bce_coef": 0.5, "dice_coef": 0.4, "tversky_focal_coef": 0.3}
    channels = {"gt_channel_selector": slice(None), **coefs}
    smooth = {"use_label_smooth": True, "smooth_factor": 0.1}
    of_classes = {"gt_channel_selector": 0, "n_classes": 3, **coefs}
    for name, kind, arguments, options in [
        ("probabilities", "probabilities", channels, {}),
        ("logits", "logits", {**channels, **smooth, "use_mixed_precision": True}, {}),
        ("weighted", "probabilities", channels, {"weighted": True}),
        ("ignoring nothing", "probabilities", {**channels, "ignore_index": None}, {}),
        ("mixup", "probabilities", {**channels, "use_mixup": True}, {"mixup": True}),
        ("no mixup", "probabilities", {**channels, "use_mixup": True}, {}),
        ("entropy", "logits", {**channels, "use_mixed_precision": True, "dice_coef": 0, "tversky_focal_coef": 0}, {}),
        ("overlap", "probabilities", {**channels, "bce_coef": 0}, {}),
        ("classes", "indices", of_classes, {}),
        ("soft classes", "soft", {**of_classes, "gt_channel_selector": slice(None), **smooth}, {}),
        ("weighted classes", "indices", of_classes, {"weighted": True}),
        ("mixed classes", "indices", {**of_classes, "use_mixup": True}, {"mixup": True}),
    ]:
        ignored = None if kind == "soft" or arguments.get("ignore_index", 255) is None else 255
        unit = "pixels" if "n_classes" in arguments else "channels"
        example = functools.partial(seg, kind, **options)
        found[f"seg/SegLoss {name}"] = Subject("seg/SegLoss", example, arguments, unit, ignored=ignored)
    for name, arguments in [
        ("CrossfieldAlignLoss", {}),
        ("CrossfieldAlign90Loss", {}),
        ("CrossfieldSmoothLoss", {}),
        ("SegCrossfieldLoss", {"pred_channel": 1}),
        ("SegCrossfieldLoss", {"pred_channel": 0, "detach_grad_norm": True}),
        ("SegEdgeInteriorLoss", {}),
    ]:
        title = " ".join([f"crossfield/{name}", *arguments])
        path = f"crossfield/{name}"
        found[title] = Subject(path, frame_field, arguments, "pixels", nodes=of_frame_field)
    found["example/MaskedL1Loss"] = Subject("example/MaskedL1Loss", heights, {"beta": 2.0}, "values")
    return found


@functools.cache
def subjects() -> dict[str, Subject]:
    """Return all subjects by name."""
    return {**first_party(), **of_libraries()}


# --- cases ----------------------------------------------------------------------------------------


def drawn(pred: Batch, gt: Batch, samples: int, draw: random.Random) -> tuple[Batch, Batch]:
    """Return a batch of so many samples of an example, in float64, with their pixels moved about.

    Predictions are means of two samples, which are valid wherever both are.
    """
    first = next(iter({**pred, **gt}.values()))
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    own, other = (torch.randint(len(first), (samples,), generator=generator) for _ in range(2))
    portion = torch.rand(samples, generator=generator, dtype=torch.float64)
    shifts = [draw.randrange(t) for t in first.shape[2:]]

    def moved(tensor: Tensor, of: Tensor) -> Tensor:
        tensor = tensor.double() if tensor.is_floating_point() else tensor
        if not tensor.dim():
            return tensor
        dims = range(tensor.dim() - len(shifts), tensor.dim()) if tensor.dim() > len(shifts) + 1 else ()
        return tensor[of].roll(shifts, tuple(dims)) if dims else tensor[of]

    def mixed(tensor: Tensor) -> Tensor:
        part = portion.reshape(-1, *[1] * (tensor.dim() - 1))
        return part * moved(tensor, own) + (1 - part) * moved(tensor, other)

    return {k: mixed(t) for k, t in pred.items()}, {k: moved(t, own) for k, t in gt.items()}


def shapes(unit: str, pred: Tensor) -> list[tuple[int, ...]]:
    """Return the shapes of masks and weights that fit a prediction."""
    n, *pixels = (*pred.shape[:1], *pred.shape[2:])
    whole = tuple(pred.shape)
    several = [(n,), (n, *pixels), (n, 1, *pixels)] if pixels else [(n,)]
    return {
        "samples": [(n,)],
        "nothing": [],
        "pixels": several,
        "values": [*several, whole],
        "channels": [*several, whole[:2], whole],
        "planes": [(n,), whole[:2]],
    }[unit]


@dataclass
class Case:
    """A cut batch and the options of its term."""

    cuts: list[list[int]]
    pred: Batch
    gt: Batch
    options: dict[str, Any]


def case(subject: Subject, number: int, ranks: int) -> Case:
    """Return the case of a number for so many ranks."""
    draw = random.Random(f"{subject.loss} {number}")
    micro_batches = draw.randint(1, 8)
    cuts = [[draw.choice([0, 1, 1, 2, 3]) for _ in range(micro_batches)] for _ in range(ranks)]
    n = sum(map(sum, cuts))
    pred, gt = drawn(*subject.example(), n, draw)
    generator = torch.Generator().manual_seed(number)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    if subject.ignored is not None:
        for key in [key for key in gt if key in ("gt_polygons_image", "target", "mixup_y_b")]:
            off = rand(n) < draw.choice([0.0, 0.0, 0.3, 0.3, 1.0])
            off = off.reshape(-1, *[1] * (gt[key].dim() - 1)) | (rand(*gt[key].shape) < draw.choice([0.0, 0.3]))
            if gt[key].is_floating_point() and subject.ignored != 255:
                off &= False  # of one-hot targets the class is ignored
            gt[key] = gt[key].masked_fill(off, subject.ignored)
    options: dict[str, Any] = {}
    first = next(iter(pred.values()))
    masks, weights = shapes(subject.unit, first), shapes(subject.weighs or subject.unit, first)
    for key in draw.choice([[], [], ["on"], ["on"], ["on", "too"]]) if masks else []:
        gt[key] = rand(*draw.choice(masks)) < draw.choice([0.0, 0.5, 0.5, 0.8, 0.8, 1.0])
        gt[key] = gt[key] if draw.random() < 0.5 else gt[key].double()
        options.setdefault("mask", []).append(f"gt.{key}")
    for key in draw.choice([[], ["w"], ["w", "more"]]) if weights else []:
        shape = draw.choice(weights)
        gt[key] = rand(*shape) * (rand(*shape) > 0.2)
        options.setdefault("sample_weight", []).append(f"gt.{key}")
    reduction = draw.choice(subject.reductions)
    if reduction is not None:
        options["reduction"] = reduction
    if subject.unit == "nothing":
        options["approximate"] = True
        gt["image"] = first.detach()
    off = ~gt["on"].bool() if "on" in gt and gt["on"].dim() == 1 else None
    if off is not None and draw.random() < 0.5:  # samples that do not count may be anything
        marks = {"on", "too", "w", "more"}
        pred = {key: _spoiled(t, off) for key, t in pred.items()}
        gt = {key: t if key in marks else _spoiled(t, off) for key, t in gt.items()}
    return Case(cuts, pred, gt, options)


def _spoiled(tensor: Tensor, off: Tensor) -> Tensor:
    if not tensor.is_floating_point() or not tensor.dim():
        return tensor
    return tensor.masked_fill(off.reshape(-1, *[1] * (tensor.dim() - 1)), torch.nan)


def criterion_of(subject: Subject, options: dict[str, Any], **more: Any) -> MultiLoss:
    """Build the criterion of one term."""
    torch.manual_seed(0)  # some losses have parameters
    loss = adopt(catalog().losses.find(subject.loss), "term", subject.arguments, options)
    return MultiLoss([loss], [0.7], pre_processes=subject.nodes(), **more).double().train()


def part_of(batch: Batch, start: int, stop: int) -> Batch:
    """Return some samples of a batch."""
    return {key: t[start:stop] if t.dim() else t for key, t in batch.items()}


def gradient_of(criterion: MultiLoss, leaves: Batch) -> Tensor:
    """Return the gradients of predictions and of the criterion's parameters in one vector."""
    tensors = [*leaves.values(), *criterion.parameters()]
    return torch.cat([(torch.zeros_like(t) if t.grad is None else t.grad).flatten() for t in tensors])


def leaves_of(pred: Batch) -> Batch:
    """Return predictions that collect gradients."""
    return {key: t.clone().requires_grad_() for key, t in pred.items()}


def apart(
    name: str, number: int, rank: int, ranks: int, one_each: bool = False, plain: bool = False
) -> tuple[float, bool]:
    """Return how far the window's gradient is from the joined batch's, relative to it, and whether there is one.

    Args:
        name: of the subject.
        number: of the case.
        rank, ranks: this process; the first compares.
        one_each: whether each rank has one micro-batch, in a forward of `reduce_over: ranks`.
        plain: whether the micro-batches' gradients are averaged, without a window.
    """
    subject = subjects()[name]
    found = case(subject, number, ranks)
    cuts = [[sum(cut)] for cut in found.cuts] if one_each else found.cuts
    ends = [sum(map(sum, cuts[:rank]))]
    for size in cuts[rank]:
        ends.append(ends[-1] + size)
    leaves = leaves_of(found.pred)
    criterion = criterion_of(subject, found.options, **({"reduce_over": "ranks"} if one_each else {}))
    parts = list(itertools.pairwise(ends))
    targets = [part_of(found.gt, *part) for part in parts]
    with nullcontext() if one_each or plain else criterion.window(targets):
        for part, gt in zip(parts, targets, strict=True):
            total = criterion(part_of(leaves, *part), gt)[0]
            (total / len(parts) if plain else total).backward()
    gradient = gradient_of(criterion, leaves)
    if ranks > 1:
        dist.all_reduce(gradient)
    if rank:
        return 0.0, True
    joined, whole = criterion_of(subject, found.options), leaves_of(found.pred)
    joined(whole, found.gt)[0].backward()
    expected = gradient_of(joined, whole)
    if not expected.numel():
        return 0.0, False
    scale = expected.abs().max()
    return float((gradient / ranks - expected).abs().max() / scale.clamp_min(1e-6)), bool(scale)


def worst(names: list[str], numbers: list[int], rank: int, ranks: int, **options: Any) -> dict[str, Any]:
    """Return the cases of some losses that differ by more than their tolerance, and how many have a gradient."""
    differ, learned = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries; what is compared are gradients
        for name in names:
            for number in numbers:
                try:
                    distance, learns = apart(name, number, rank, ranks, **options)
                except Exception as error:
                    error.add_note(f"case {number} of {name}")
                    raise
                learned += learns
                if not distance <= subjects()[name].tolerance:
                    differ.append((name, number, distance))
    return {"differ": differ, "learned": learned}
