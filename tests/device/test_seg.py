"""What SegLoss asks a device for, beside the textbook formulas of the benchmark; and that it runs there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import textbook

seg = pytest.importorskip("lossreg_seg")
pytestmark = pytest.mark.needs_plugins

Counts = Callable[..., Any]
HALVES = (torch.bfloat16, torch.float16)


def binary(device: torch.device, dtype: torch.dtype, logits: bool, n: int = 4, size: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    p, t = torch.rand(2, n, 3, size, size, generator=generator)
    p = p.clamp(0.01, 0.99)
    return (p.logit() if logits else p).to(device, dtype).requires_grad_(), t.round().to(device)


def classes(device: torch.device, dtype: torch.dtype, number: int, n: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n, number, 64, 64, generator=generator)
    y = torch.randint(0, number, (n, 64, 64), generator=generator)
    return z.to(device, dtype).requires_grad_(), y.to(device)


def grad(value: Tensor, pred: Tensor) -> Tensor:
    return torch.autograd.grad(value, pred)[0]


def both(counts_of: Counts, loss: Any, formula: Callable[[Tensor, Tensor], Tensor], pred: Tensor, gt: Tensor) -> Any:
    """Return the counts of ours and of the textbook's."""
    ours = counts_of(lambda: grad(loss({"seg": pred}, {"gt_polygons_image": gt})[0], pred))
    return ours, counts_of(lambda: grad(formula(pred, gt), pred))


@pytest.mark.parametrize(
    ("logits", "ignored", "dtype", "launches", "of_bytes"),
    [
        (False, None, torch.float32, 27, 1.06),  # looks at the range, and ends no process, in one plane more
        (False, 255, torch.float32, 38, 1.52),
        (True, None, torch.float32, 29, 0.76),
        (True, 255, torch.float32, 41, 0.96),
        (True, None, torch.bfloat16, 31, 1.4),
        (True, 255, torch.float16, 43, 1.7),
    ],
)
def test_binary_asks_for_no_more_than_this(
    counts_of: Counts,
    device: torch.device,
    logits: bool,
    ignored: int | None,
    dtype: torch.dtype,
    launches: int,
    of_bytes: float,
) -> None:
    pred, gt = binary(device, dtype, logits)
    loss = seg.SegLoss("seg", [0, 1, 2], use_mixed_precision=logits, ignore_index=ignored).to(device)
    formula = textbook.bce_dice_logits if logits else textbook.bce_dice
    ours, theirs = both(counts_of, loss, lambda p, t: formula(p, t.to(p.dtype)), pred, gt)
    assert ours.launches <= launches
    assert ours.launches <= theirs.launches or (ignored is not None and not logits)
    assert ours.bytes <= of_bytes * theirs.bytes
    assert (ours.host_reads, ours.copies) == (0, 0)


@pytest.mark.parametrize(
    ("number", "ignored", "dtype", "launches", "of_bytes"),
    [
        (19, None, torch.float32, 34, 0.55),
        (19, 255, torch.float32, 48, 0.7),
        (19, None, torch.bfloat16, 36, 0.95),
        (19, 255, torch.bfloat16, 50, 1.15),
        (3, None, torch.float32, 34, 0.8),
        (150, None, torch.float32, 34, 0.55),
    ],
)
def test_classes_ask_for_no_more_than_this(
    counts_of: Counts,
    device: torch.device,
    number: int,
    ignored: int | None,
    dtype: torch.dtype,
    launches: int,
    of_bytes: float,
) -> None:
    pred, gt = classes(device, dtype, number)
    loss = seg.SegLoss("seg", 0, n_classes=number, ignore_index=ignored).to(device)
    ours, theirs = both(counts_of, loss, textbook.class_dice, pred, gt)
    assert ours.launches <= launches
    assert ignored is not None or ours.launches <= theirs.launches
    assert ours.bytes <= of_bytes * theirs.bytes
    assert (ours.host_reads, ours.copies) == (0, 0)


def test_classes_need_the_gradient_and_one_buffer(counts_of: Counts, device: torch.device) -> None:
    pred, gt = classes(device, torch.float32, 19)
    loss = seg.SegLoss("seg", 0, n_classes=19).to(device)
    counts = counts_of(lambda: grad(loss({"seg": pred}, {"gt_polygons_image": gt})[0], pred))
    logits = pred.numel() * 4
    assert counts.peak <= 2.4 * logits  # planes of indices, of masks and of one number for each pixel


@pytest.mark.parametrize("options", [{}, {"use_mixed_precision": True}, {"n_classes": 19, "gt_channel_selector": 0}])
def test_launches_do_not_depend_on_the_number_of_samples(
    counts_of: Counts, device: torch.device, options: dict[str, Any]
) -> None:
    loss = seg.SegLoss("seg", **{"gt_channel_selector": [0, 1, 2]} | options).to(device)
    launches = set()
    for n in (1, 2, 9):
        if "n_classes" in options:
            pred, gt = classes(device, torch.bfloat16, 19, n)
        else:
            pred, gt = binary(device, torch.bfloat16, bool(options), n)
        launches.add(counts_of(lambda p=pred, t=gt: grad(loss({"seg": p}, {"gt_polygons_image": t})[0], p)).launches)
    assert len(launches) == 1


CASES: dict[str, dict[str, Any]] = {
    "probabilities": {},
    "logits": {"use_mixed_precision": True},
    "tversky": {"tversky_focal_coef": 0.3},
    "entropy": {"dice_coef": 0.0},
    "overlap": {"bce_coef": 0.0, "tversky_focal_coef": 0.3},
    "smooth": {"use_label_smooth": True, "smooth_factor": 0.1},
    "smooth logits": {"use_mixed_precision": True, "use_label_smooth": True, "smooth_factor": 0.1},
    "classes": {"n_classes": 3, "gt_channel_selector": 0},
    "classes with tversky": {"n_classes": 3, "gt_channel_selector": 0, "tversky_focal_coef": 0.3},
    "smooth classes": {"n_classes": 3, "gt_channel_selector": 0, "use_label_smooth": True, "smooth_factor": 0.1},
    "entropy of classes": {"n_classes": 3, "gt_channel_selector": 0, "dice_coef": 0.0},
    "a class to ignore": {"n_classes": 3, "gt_channel_selector": 0, "ignore_index": 0},
}


@pytest.mark.parametrize("extra", ["", "ignored", "weights", "mask", "sample_weight"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_cpu(
    counts_of: Counts, device: torch.device, case: str, extra: str, dtype: torch.dtype
) -> None:
    options = {"gt_channel_selector": [0, 1, 2]} | CASES[case]
    loss, generator = seg.SegLoss("seg", **options), torch.Generator().manual_seed(1)
    cpu = torch.device("cpu")
    if options.get("n_classes"):
        pred, gt = classes(cpu, dtype, 3)
        gt = gt.unsqueeze(1)
    else:
        pred, gt = binary(cpu, dtype, options.get("use_mixed_precision", False))
    batch = {"gt_polygons_image": gt}
    channels = gt.shape[1]
    if extra == "ignored":
        gt[torch.rand(gt.shape, generator=generator) < 0.2] = options.get("ignore_index", 255)
        gt[1] = options.get("ignore_index", 255)
    elif extra == "weights":
        batch["seg_loss_weights"] = torch.rand(4, channels, 64, 64, generator=generator)
    elif extra:
        batch["m"] = torch.rand(4, 64, 64, generator=generator).round()
        batch["m"] = batch["m"] if extra == "mask" else batch["m"] * torch.rand(4, 64, 64, generator=generator)
        loss.take_mask(**{extra: "gt.m"})
    expected = loss({"seg": pred}, batch)[0]
    want = grad(expected, pred)
    loss = loss.to(device)
    there = pred.detach().to(device).requires_grad_()
    moved = {key: tensor.to(device) for key, tensor in batch.items()}
    value = loss({"seg": there}, moved)[0]
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-5, atol=1e-6)
    close = {"rtol": 1e-4, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-7}
    torch.testing.assert_close(grad(value, there).cpu(), want, **close)
    counts = counts_of(lambda: grad(loss({"seg": there}, moved)[0], there))
    assert (counts.host_reads, counts.blocking_copies) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ignored", [None, 255])
@pytest.mark.parametrize("options", [{}, {"dice_coef": 0.0}, {"bce_coef": 0.0}])
@pytest.mark.parametrize("wrong", [-1e-6, -2.0, 1.01, -torch.inf, torch.inf, torch.nan])
def test_a_probability_outside_0_to_1_makes_the_value_nan_and_ends_no_process(
    device: torch.device, options: dict[str, Any], wrong: float, ignored: int | None, dtype: torch.dtype
) -> None:
    pred, gt = binary(device, dtype, False)
    loss = seg.SegLoss("seg", [0, 1, 2], ignore_index=ignored, **options).to(device)
    with torch.no_grad():
        pred[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    assert loss({"seg": pred}, {"gt_polygons_image": gt})[0].cpu().isfinite()
    with torch.no_grad():
        pred[1, 2, 3, 4] = wrong
    assert loss({"seg": pred}, {"gt_polygons_image": gt})[0].cpu().isnan()
    gt[1, 2, 3, 4] = 255  # also as a target it does not count
    if ignored is not None:
        assert loss({"seg": pred}, {"gt_polygons_image": gt})[0].cpu().isfinite()


@pytest.mark.parametrize("options", [{}, {"dice_coef": 0.0}, {"use_mixed_precision": True}])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_prediction_that_is_not_finite_is_seen_in_the_value(
    device: torch.device, options: dict[str, Any], wrong: float
) -> None:
    pred, gt = binary(device, torch.float32, bool(options.get("use_mixed_precision")))
    with torch.no_grad():
        pred[0, 0, 0, 0] = wrong
    gt[0, 0, 0, 0] = 0
    value = seg.SegLoss("seg", [0, 1, 2], **options).to(device)({"seg": pred}, {"gt_polygons_image": gt})[0]
    assert not value.cpu().isfinite()


@pytest.mark.parametrize("options", [{}, {"use_mixed_precision": True}, {"n_classes": 3, "gt_channel_selector": 0}])
def test_all_ignored_is_a_zero_with_a_zero_gradient(device: torch.device, options: dict[str, Any]) -> None:
    if "n_classes" in options:
        pred, gt = classes(device, torch.float32, 3)
    else:
        pred, gt = binary(device, torch.float32, bool(options))
    loss = seg.SegLoss("seg", **{"gt_channel_selector": [0, 1, 2]} | options).to(device)
    value = loss({"seg": pred}, {"gt_polygons_image": torch.full_like(gt, 255)})[0]
    assert float(value.detach()) == 0
    assert not grad(value, pred).cpu().any()


def test_a_mixup_batch_and_its_preprocess_run_there(device: torch.device) -> None:
    pred, gt = binary(device, torch.float32, False)
    loss = seg.SegLoss("seg", [0, 1, 2], use_mixup=True).to(device)
    images, batch = loss.mixup(pred.detach(), {"gt_polygons_image": gt})
    assert images.device.type == device.type
    value = loss({"seg": pred}, batch)[0]
    assert grad(value, pred).cpu().isfinite().all()
