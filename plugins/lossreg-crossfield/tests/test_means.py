"""The means of the losses with their counts: masks, weights, cut batches, and counts from the targets alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from lossreg_crossfield.fields import EdgeInterior, Smoothness
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from lossreg import Loss, Mean, MultiLoss
from lossreg.errors import ArgumentError, CountError, MissingKeyError

EXACT = {"rtol": 1e-9, "atol": 1e-12}
NAMES = ["align", "align90", "smooth", "interior_field", "edge_field", "edge_interior"]
Batch = dict[str, Tensor]


@dataclass
class Case:
    """A batch of all losses, and what counts in it."""

    pred: Batch
    gt: Batch
    mask: Tensor | None = None
    weight: Tensor | None = None
    keys: dict[str, str] = field(default_factory=dict)

    def leaves(self) -> Batch:
        return {key: tensor.clone().requires_grad_() for key, tensor in self.pred.items()}


def random_batch(n: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[Batch, Batch]:
    """Return all tensors that the losses read, at random."""
    size = (height, width)
    pred = {
        "crossfield": torch.randn(n, 4, *size, dtype=dtype),
        "seg": torch.rand(n, 3, *size, dtype=dtype),
        "seg_grad_norm": torch.rand(n, 3, *size, dtype=dtype),
        "seg_grads_normed": torch.randn(n, 3, 2, *size, dtype=dtype),
    }
    gt = {"gt_polygons_image": torch.rand(n, 3, *size, dtype=dtype), "gt_field": torch.randn(n, 2, *size, dtype=dtype)}
    return pred, gt


@st.composite
def cases(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    n, size = draw(st.integers(0, 5)), (draw(st.integers(1, 4)), draw(st.integers(2, 4)))
    case = Case(*random_batch(n, *size))
    shapes = {"samples": (n,), "pixels": (n, *size), "plane": (n, 1, *size)}
    kept, weighed = (draw(st.sampled_from([None, *shapes])) for _ in range(2))
    if kept is not None:
        case.mask = torch.rand(shapes[kept]) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        case.gt["valid"] = case.mask if draw(st.booleans()) else case.mask.double()
        case.keys["mask"] = "gt.valid"
    if weighed is not None:
        case.weight = case.gt["weight"] = 2 * torch.rand(shapes[weighed], dtype=torch.float64).round(decimals=1)
        case.keys["sample_weight"] = "gt.weight"
    return case


def on_pixels(weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return weights of samples, pixels or planes as (N, H, W)."""
    axes = {1: (..., None, None), 3: (), 4: (slice(None), 0)}[weights.dim()]
    return weights[axes].expand(shape)


def mean_of(make: Callable[[], Loss], case: Case, pred: Batch, gt: Batch) -> Mean:
    """Return the mean of a loss, and check that the targets tell its count."""
    loss, means = make(), []
    loss.take_mask(**case.keys)
    value, _ = loss(pred, gt, False, means)
    (mean,) = means
    assert mean.value is value
    assert value.requires_grad
    (count,) = loss.counts(gt)
    assert_close(float(count), float(mean.count), **EXACT)
    if not case.keys:
        assert isinstance(count, float)
        assert isinstance(mean.count, float)
    return mean


def slopes(value: Tensor, leaves: Batch) -> list[Tensor]:
    grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves.values(), grads, strict=True)]


def values(name: str, pred: Batch, gt: Batch, error: Callable[..., Tensor]) -> Tensor:
    """Return what each pixel comes to, (N, H, W)."""
    field, seg, slope = pred["crossfield"], pred["seg"], pred["seg_grad_norm"]
    edge, vertex, z = gt["gt_polygons_image"][:, 1], gt["gt_polygons_image"][:, 2], gt["gt_field"]
    if name == "align":
        return error(field, z) * edge
    if name == "align90":
        return error(field, torch.stack([-z[:, 1], z[:, 0]], 1)) * (edge - vertex).clamp(0, 1)
    if name == "smooth":
        kernel = torch.tensor([[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]], dtype=field.dtype) / 12
        return F.conv2d(field, kernel.expand(4, 1, 3, 3), padding=1, groups=4).abs().mean(1) * (1 - edge)
    if name in ("interior_field", "edge_field"):
        k = int(name == "edge_field")
        return error(field, pred["seg_grads_normed"][:, k]) * (slope[:, k].detach() if k else slope[:, k])
    outside, steep = (1 + torch.cos(math.pi * seg[:, 0])) / 2, (1 - torch.cos(math.pi * slope[:, 0])) / 2
    return (seg[:, 1] - slope[:, 0]).abs() * torch.maximum(outside, steep)


def of_neighbours(seg: Tensor, kept: Tensor) -> Batch:
    """Return slopes of planes, where a masked neighbour is the pixel itself, and one outside is that of the border."""
    if not len(seg):
        return {"seg_grad_norm": seg, "seg_grads_normed": torch.stack([seg, seg], 2)}
    column = torch.tensor([[-47.0, 0, 47], [-162, 0, 162], [-47, 0, 47]], dtype=seg.dtype) / 256
    values, there = (F.pad(planes, (1, 1, 1, 1), mode="replicate") for planes in (seg, kept[:, None].to(seg.dtype)))
    height, width = seg.shape[2:]
    grads = torch.zeros_like(torch.stack([seg, seg], 2))
    for y, x in itertools.product(range(3), range(3)):
        at = (..., slice(y, y + height), slice(x, x + width))
        value = torch.where(there[at] > 0, values[at], seg)
        grads = grads + torch.stack([column[x, y] * value, column[y, x] * value], 2)
    norm = torch.linalg.vector_norm(grads, dim=2)
    return {"seg_grad_norm": norm, "seg_grads_normed": grads / (norm.unsqueeze(2) + 1e-6)}


@pytest.mark.parametrize("name", NAMES)
@given(case=cases())
def test_the_mean_is_that_of_the_pixels_that_count_whatever_the_others_hold(
    losses: dict[str, Callable[[], Loss]], textbook: Any, name: str, case: Case
) -> None:
    n, _, height, width = case.pred["seg"].shape
    weights = torch.ones(n, height, width, dtype=torch.float64)
    for some in (case.mask, case.weight):
        weights = weights if some is None else weights * on_pixels(some, weights.shape)
    kept, leaves = weights > 0, case.leaves()

    def filled(batch: Batch, value: float) -> Batch:
        masks = {key: batch[key] for key in ("valid", "weight") if key in batch}
        planes = {key: tensor for key, tensor in batch.items() if key not in masks}
        off = ~kept
        return masks | {
            key: tensor.masked_fill(off.reshape(n, *[1] * (tensor.dim() - 3), height, width), value)
            for key, tensor in planes.items()
        }

    mean = mean_of(losses[name], case, filled(leaves, torch.nan), filled(case.gt, torch.nan))
    clean = case.leaves()
    given = filled(clean, 0.0) | (of_neighbours(filled(clean, 0.0)["seg"], kept) if case.keys else {})
    counted = values(name, given, filled(case.gt, 0.0), textbook.error)[kept]
    want = (counted * weights[kept]).sum() / (weights.sum() or 1)
    assert_close(float(mean.count), float(weights.sum()), **EXACT)
    assert_close(mean.value, want, **EXACT)
    if kept.any():
        assert_close(slopes(mean.value, leaves), slopes(want, clean), **EXACT)
    else:
        assert mean.value == 0
        assert not any(slope.any() for slope in slopes(mean.value, leaves))


@pytest.mark.parametrize("name", NAMES)
@given(case=cases(), data=st.data())
def test_parts_of_a_batch_come_to_the_whole(
    losses: dict[str, Callable[[], Loss]], name: str, case: Case, data: st.DataObject
) -> None:
    n, leaves = len(case.pred["seg"]), case.leaves()
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    whole = mean_of(losses[name], case, leaves, case.gt)
    parts = [
        mean_of(losses[name], case, *({key: t[start:stop] for key, t in batch.items()} for batch in (leaves, case.gt)))
        for start, stop in zip([0, *cuts], [*cuts, n], strict=True)
    ]
    count = sum(float(part.count) for part in parts)
    assert_close(count, float(whole.count), **EXACT)
    value = torch.stack([part.value * (float(part.count) / (count or 1)) for part in parts]).sum()
    assert_close(value, whole.value, **EXACT)
    assert_close(slopes(value, leaves), slopes(whole.value, leaves), **EXACT)


# --- what reads neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["interior_field", "edge_field", "edge_interior"])
@pytest.mark.parametrize("shape", [(2,), (2, 5, 6), (2, 1, 5, 6)])
def test_slopes_beside_a_masked_pixel_do_not_depend_on_it(
    losses: dict[str, Callable[[], Loss]], batch: Any, textbook: Any, name: str, shape: tuple[int, ...]
) -> None:
    pred, gt = batch(2, 5, 6, torch.float64)
    torch.manual_seed(0)
    mask = torch.rand(shape) < 0.6
    mask[0] = True if len(shape) == 1 else mask[0]
    mask[-1] = False if len(shape) == 1 else mask[-1]
    kept = on_pixels(mask, (2, 5, 6))
    loss = losses[name]()
    loss.take_mask("gt.valid")
    leaves = {key: torch.where(kept[:, None], t.detach(), torch.nan).requires_grad_() for key, t in pred.items()}
    total, *_ = MultiLoss([loss], [1.0])(leaves, {**gt, "valid": mask})  # which puts no shared slopes in
    clean = {key: t.detach().clone().requires_grad_() for key, t in pred.items()}
    want = values(
        name, clean | of_neighbours(clean["seg"], kept), gt | {"gt_field": gt["gt_crossfield_angle"]}, textbook.error
    )
    want = want[kept].mean()
    assert_close(total, want, **EXACT)
    assert_close(slopes(total, leaves), slopes(want, clean), **EXACT)


@pytest.mark.parametrize("name", ["interior_field", "edge_field", "edge_interior"])
def test_a_mask_of_ones_leaves_slopes_as_they_are(
    losses: dict[str, Callable[[], Loss]], batch: Any, evaluate: Any, name: str
) -> None:
    pred, gt = batch(2, 5, 6, torch.float64)
    loss = losses[name]()
    loss.take_mask("gt.valid")
    value = evaluate(loss, pred, {**gt, "valid": torch.ones(2, 5, 6)})
    plain = evaluate(losses[name](), pred, gt)
    assert_close(value, plain, **EXACT)
    assert_close(slopes(value, pred), slopes(plain, pred), **EXACT)


def test_a_loss_of_slopes_with_a_mask_reads_the_segmentation(losses: dict[str, Callable[[], Loss]]) -> None:
    loss = losses["interior_field"]()
    loss.take_mask("gt.valid")
    assert set(loss.requires) == {"pred.crossfield", "pred.seg", "gt.valid"}
    pred, gt = random_batch(2, 3, 4)
    del pred["seg"]
    with pytest.raises(MissingKeyError, match=r"loss 'interior_field' needs 'pred.seg'"):
        loss(pred, {**gt, "valid": torch.ones(2)})


# --- single facts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["interior_field", "edge_interior"])
def test_losses_of_predictions_alone_count_by_the_size_of_the_raster(
    losses: dict[str, Callable[[], Loss]], name: str
) -> None:
    loss = losses[name]()
    assert loss.counts({"gt_polygons_image": torch.empty(2, 3, 4, 5)}) == [40.0]
    with pytest.raises(CountError, match=f"loss '{name}': its targets do not tell"):
        loss.counts({"other": torch.empty(2, 3, 4, 5)})


def test_a_mask_through_a_criterion(losses: dict[str, Callable[[], Loss]], batch: Any) -> None:
    pred, gt = batch(3)
    terms = [make() for make in losses.values()]
    for term in terms:
        term.take_mask("gt.valid")
    masked, plain = MultiLoss(terms, [1.0] * 6), MultiLoss([make() for make in losses.values()], [1.0] * 6)
    total, values, _ = masked(pred, {**gt, "valid": torch.tensor([1, 0, 1])})
    few = torch.tensor([0, 2])
    want, expected, _ = plain({k: t[few] for k, t in pred.items()}, {k: t[few] for k, t in gt.items()})
    assert_close(values, expected)
    assert_close(torch.autograd.grad(total, list(pred.values())), torch.autograd.grad(want, list(pred.values())))
    with pytest.raises(ArgumentError, match="mask"):
        terms[0].take_mask("valid")


def weighed(make: Callable[[], Loss], dtype: torch.dtype = torch.float64) -> tuple[Loss, Batch, Batch]:
    torch.manual_seed(0)
    pred, gt = random_batch(2, 3, 4, dtype)
    loss = make()
    loss.take_mask("gt.valid", ["gt.weight", "gt.of_pixels"])
    gt |= {"valid": torch.rand(2, 3, 4) < 0.6, "weight": torch.rand(2), "of_pixels": torch.rand(2, 1, 3, 4)}
    return loss, {key: tensor.requires_grad_() for key, tensor in pred.items()}, gt


@pytest.mark.parametrize("name", [name for name in NAMES if name != "edge_field"])  # which detaches what it reads
def test_gradcheck_with_a_mask(losses: dict[str, Callable[[], Loss]], name: str) -> None:
    loss, pred, gt = weighed(losses[name])
    read = [key.removeprefix("pred.") for key in loss.requires if key.startswith("pred.")]

    def value(*tensors: Tensor) -> Tensor:
        return loss({**pred, **dict(zip(read, tensors, strict=True))}, gt)[0]

    assert gradcheck(value, [pred[key] for key in read])
    assert gradgradcheck(value, [pred[key] for key in read])


@pytest.mark.parametrize("needed", [(True, True, True), (True, False, False), (False, False, True)])
def test_formulas_with_weights(needed: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    pred, gt = random_batch(2, 3, 4)
    weight = torch.rand(2, 1, 3, 4, dtype=torch.float64)
    smooth = [pred["crossfield"], gt["gt_polygons_image"][:, :1], weight]
    edge_interior = [pred["seg"], pred["seg_grad_norm"], weight[:, 0]]
    for formula, tensors in ((Smoothness(), smooth), (EdgeInterior(), edge_interior)):
        inputs = [t.detach().clone().requires_grad_(need) for t, need in zip(tensors, needed, strict=True)]
        assert gradcheck(formula, inputs)
        assert gradgradcheck(formula, inputs)
        assert_close(formula(*inputs), formula.value(*inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_weights(losses: dict[str, Callable[[], Loss]], loss: Loss, dtype: torch.dtype) -> None:
    make = losses[loss.name]
    _, pred, gt = weighed(make, dtype)
    loss, _, _ = weighed(make)
    value, _ = loss(pred, gt)
    want, _ = loss({k: t.double() for k, t in pred.items()}, {k: t.double() for k, t in gt.items()})
    assert value.dtype == torch.float32
    assert_close(value.double(), want, rtol=5e-3, atol=1e-4)
    value.backward()
    assert pred["seg" if loss.name == "edge_interior" else "crossfield"].grad.dtype == dtype


def test_compiles_in_one_graph_with_a_mask(losses: dict[str, Callable[[], Loss]]) -> None:
    torch._dynamo.reset()
    made = [weighed(make, torch.float32) for make in losses.values()]
    _, pred, gt = made[0]
    multi = MultiLoss([loss for loss, _, _ in made], [1.0] * len(made))
    compiled = torch.compile(multi, fullgraph=True, backend="aot_eager")
    expected, found = multi(pred, gt)[0], compiled(pred, gt)[0]
    close = {"rtol": 1e-5, "atol": 1e-6}
    assert_close(found, expected, **close)
    assert_close(slopes(found, pred), slopes(expected, pred), **close)
    torch._dynamo.reset()


def test_reads_nothing_back_with_a_mask(losses: dict[str, Callable[[], Loss]], loss: Loss) -> None:
    loss, pred, gt = weighed(losses[loss.name])
    pred = {key: tensor.detach().to("meta").requires_grad_() for key, tensor in pred.items()}
    gt, means = {key: tensor.to("meta") for key, tensor in gt.items()}, []
    loss(pred, gt, means=means)[0].backward()
    assert means[0].count.is_meta
    assert loss.counts(gt)[0].is_meta
