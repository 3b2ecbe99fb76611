"""What the frame field asks a device for, beside the textbook formulas of the benchmark; and that it runs there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lossreg

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import batches
import textbook

crossfield = pytest.importorskip("lossreg_crossfield")
pytestmark = pytest.mark.needs_plugins

LOSSES: dict[str, dict[str, Any]] = {
    "CrossfieldAlignLoss": {},
    "CrossfieldAlign90Loss": {},
    "CrossfieldSmoothLoss": {},
    "SegCrossfieldLoss": {"pred_channel": 1},
    "SegEdgeInteriorLoss": {},
}
LAUNCHES = 220
MORE = {"CrossfieldSmoothLoss": 4}
"""Launches above the textbook's, whose convolution is one, but not exactly 0 in a flat field on every device."""

Batch = dict[str, Tensor]


def grads(value: Tensor, *batches: Batch) -> dict[str, Tensor | None]:
    leaves = {key: tensor for batch in batches for key, tensor in batch.items() if tensor.requires_grad}
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()), allow_unused=True), strict=True))


def complete(pred: Batch, gt: Batch) -> tuple[Batch, Batch]:
    """Return copies with what the preprocesses provide, where all predictions are leaves that want a gradient."""
    for node in (crossfield.GtField(), crossfield.SegGrads()):
        pred, gt = node(pred, gt)
    return {key: tensor.detach().requires_grad_() for key, tensor in pred.items()}, gt


def moved(batch: Batch, device: torch.device) -> Batch:
    return {key: tensor.detach().to(device).requires_grad_(tensor.requires_grad) for key, tensor in batch.items()}


def textbook_of(name: str, pred: Batch, gt: Batch) -> Tensor:
    """Return one loss, from what the preprocesses provide."""
    field, seg, mask, z = pred["crossfield"], pred["seg"], gt["gt_polygons_image"], gt["gt_field"]
    c0, c2, edge, vertex = field[:, :2], field[:, 2:], mask[:, 1], mask[:, 2]
    norm, normed = pred["seg_grad_norm"], pred["seg_grads_normed"]
    if name == "CrossfieldAlignLoss":
        return (textbook.alignment_error(c0, c2, z) * edge).mean()
    if name == "CrossfieldAlign90Loss":
        normal = torch.stack([-z[:, 1], z[:, 0]], dim=1)
        return (textbook.alignment_error(c0, c2, normal) * (edge - vertex).clamp(0, 1)).mean()
    if name == "CrossfieldSmoothLoss":
        return (textbook.laplacian(field).abs() * (1 - edge[:, None])).mean()
    if name == "SegCrossfieldLoss":
        return (textbook.alignment_error(c0, c2, normed[:, 1]) * norm[:, 1]).mean()
    return textbook.edge_interior(seg[:, 0], seg[:, 1], norm[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [2, 16])
def test_six_terms_ask_for_less_than_the_textbook(
    counts_of: Callable[..., Any], device: torch.device, n: int, dtype: torch.dtype
) -> None:
    pred, gt = batches.frame_field(n, 32, dtype=dtype, device=device.type)
    loss = batches.frame_field_loss()
    ours = counts_of(lambda: grads(loss(pred, gt)[0], pred))
    theirs = counts_of(lambda: grads(textbook.frame_field(pred, gt), pred))
    assert ours.launches <= LAUNCHES < theirs.launches
    assert ours.bytes <= theirs.bytes * (1 if dtype == torch.float32 else 2)
    assert ours.host_reads == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_launches_no_more_than_its_textbook_whatever_the_number_of_samples(
    counts_of: Callable[..., Any], device: torch.device, name: str, dtype: torch.dtype
) -> None:
    loss, launches = lossreg.create_loss(f"crossfield/{name}", name=name, **LOSSES[name]), {}
    for n in (1, 5):
        pred, gt = complete(*batches.frame_field(n, 32, dtype=dtype, device=device.type))
        ours = counts_of(lambda pred=pred, gt=gt: grads(loss(pred, gt, normalize=False)[0], pred))
        theirs = counts_of(lambda pred=pred, gt=gt: grads(textbook_of(name, pred, gt), pred))
        assert (ours.host_reads, ours.copies) == (0, 0)
        assert ours.launches <= theirs.launches + MORE.get(name, 0)
        launches[n] = ours.launches
    assert launches[1] == launches[5]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_gives_the_values_and_gradients_of_the_cpu(
    counts_of: Callable[..., Any], device: torch.device, name: str, masked: bool
) -> None:
    pred, gt = complete(*batches.frame_field(3, 17))
    loss = lossreg.create_loss(f"crossfield/{name}", name=name, **LOSSES[name])
    if masked:
        generator = torch.Generator().manual_seed(1)
        gt |= {"valid": torch.rand(3, 17, 17, generator=generator) < 0.7, "weight": torch.rand(3, generator=generator)}
        loss.take_mask("gt.valid", "gt.weight")
    there = moved(pred, device), moved(gt, device)
    means: list[Any] = []
    expected, value = loss(pred, gt)[0], loss(*there, True, means)[0]
    torch.testing.assert_close(value.cpu(), expected)
    found = grads(value, there[0])
    for key, grad in grads(expected, pred).items():
        other = found[key]
        assert (grad is None) == (other is None), key
        if grad is not None and other is not None:
            torch.testing.assert_close(other.cpu(), grad, msg=lambda text, key=key: f"{key}: {text}")
    counts = counts_of(lambda: grads(loss(*there)[0], there[0]))
    assert (counts.host_reads, counts.blocking_copies) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_preprocesses_give_the_values_and_gradients_of_the_cpu(
    counts_of: Callable[..., Any], device: torch.device, dtype: torch.dtype
) -> None:
    pred, gt = batches.frame_field(3, 17, dtype=dtype)
    nodes = [crossfield.GtField(), crossfield.SegGrads()]

    def run(pred: Batch, gt: Batch) -> tuple[Batch, dict[str, Tensor | None]]:
        for node in nodes:
            pred, gt = node(pred, gt)
        made = {key: batch[key] for batch in (pred, gt) for key in batch if "grad" in key or key == "gt_field"}
        total = sum((i * made[key].float()).sum() for i, key in enumerate(sorted(made)))
        return made, grads(total, {"seg": pred["seg"]})

    there = moved(pred, device), moved(gt, device)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for one, other in zip(run(*there), run(pred, gt), strict=True):
        torch.testing.assert_close({key: tensor.cpu() for key, tensor in one.items()}, other, **close)
    counts = counts_of(lambda: run(*there))
    assert (counts.host_reads, counts.copies) == (0, 0)
