"""Adapted losses agree with float32 in half precision, for images of a real size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import lossreg

SIDE = 512
PIXELS = SIDE * SIDE
HALVES = (torch.float16, torch.bfloat16)

NO_SUCH_SIZE = {
    "CTCLoss": "a sequence's length is one of its targets",
    "BarlowTwinsLoss": "its correlation matrix grows with the square of the features",
    "ContrastiveLoss": "its matrix of similarities grows with the square of the samples",
    "SURELoss": "it draws noise",
    "complex_scale_invariant_signal_noise_ratio": "its last axis holds two numbers, the real and the imaginary part",
    **dict.fromkeys(
        ["quality_with_no_reference", "spatial_distortion_index"], "images of two sizes belong to one of its samples"
    ),
    "PerceptualLoss": "a network of its own",
    "JukeboxLoss": "its gradient is NaN in float32 too where an amplitude is 0, as in an image that repeats",
    **dict.fromkeys(
        [f"{kind}MILossFromRef{size}" for kind in ("", "N") for size in ("", "2D", "3D")],
        "its reference has the size of the signal",
    ),
    **dict.fromkeys(
        [f"{kind}mutual_information_loss{size}" for kind in ("", "normalized_") for size in ("", "_2d", "_3d")]
        + ["GlobalMutualInformationLoss"],
        "its histograms hold a weight for each pixel and bin: gigabytes",
    ),
    **dict.fromkeys(
        ["HausdorffERLoss", "HausdorffERLoss3D", "HausdorffDTLoss", "LogHausdorffDTLoss", "BoundaryLoss"],
        "its distances take minutes at this size",
    ),
}
"""Losses that are tried on their examples alone, and why."""


def enlarged(batch: dict[str, Tensor], samples: int, size: tuple[int, ...], times: int) -> dict[str, Tensor]:
    """Repeat images to `times` their size, of the first sample alone; without images, repeat the samples."""

    def of(tensor: Tensor) -> Tensor:
        if not size:
            return tensor.repeat(times, *[1] * (tensor.dim() - 1)) if tensor.shape[:1] == (samples,) else tensor
        if tuple(tensor.shape[-len(size) :]) != size:
            return tensor
        return tensor[:1].repeat(*[1] * (tensor.dim() - len(size)), *[times] * len(size))

    return {key: of(tensor) for key, tensor in batch.items()}


def real(pred: dict[str, Tensor], gt: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a batch of 512 x 512 pixels, or as many elements."""
    first = next(iter(pred.values()))
    size = tuple(first.shape[2:]) if first.dim() > 3 else ()
    times = math.ceil((PIXELS / math.prod(size)) ** (1 / len(size))) if size else math.ceil(PIXELS / first.numel())
    return tuple(enlarged(batch, len(first), size, times) for batch in (pred, gt))


def value_and_gradients(loss, pred, gt, dtype):
    """Return a value in float64, and the gradients of the predictions times the value of a GradScaler."""

    def cast(tensor):
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    leaves = {key: cast(tensor).detach().requires_grad_() for key, tensor in pred.items()}
    torch.manual_seed(0)
    value, _ = loss(leaves, {key: cast(tensor) for key, tensor in gt.items()}, normalize=False)
    return value, leaves


PAIRWISE = {
    "pml": "it compares all pairs of samples: gigabytes",
    "lightly": "most compare all pairs of samples, and their predictions are lists",
}
"""Plugins whose losses have no such size, and why."""


@pytest.mark.parametrize("dtype", HALVES, ids=["float16", "bfloat16"])
def test_value_and_gradient_are_those_of_float32_at_real_size(entry, example, dtype):
    if entry.plugin.name in PAIRWISE:
        pytest.skip(PAIRWISE[entry.plugin.name])
    torch.manual_seed(0)
    loss = lossreg.create_loss(entry.name, **entry.spec.example_args)
    pred, gt = example(entry)
    if entry.spec.name not in NO_SUCH_SIZE:
        pred, gt = real(pred, gt)

    def rounded(batch):
        return {k: t.to(dtype).float() if t.is_floating_point() else t for k, t in batch.items()}

    exact, leaves = value_and_gradients(loss, rounded(pred), rounded(gt), torch.float32)
    slopes = torch.autograd.grad(exact, list(leaves.values()))
    with torch.autocast("cpu", dtype):
        found, halves = value_and_gradients(loss, pred, gt, dtype)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=1e-6)
    most = max(float(slope.abs().max()) for slope in slopes)
    scale = 1 / most if most else 1.0  # as a GradScaler: a gradient of a mean is below what float16 can hold
    for half, slope in zip(torch.autograd.grad(found * scale, list(halves.values())), slopes, strict=True):
        assert (half.float() / scale - slope).norm() <= 1e-2 * slope.norm()


def test_the_losses_without_such_a_size_are_losses():
    every = {entry.spec.name for entry in [*lossreg.registry.catalog().losses]}
    every |= {entry.spec.name for entry, _ in lossreg.registry.catalog().losses.absent}
    assert set(NO_SUCH_SIZE) <= every


@pytest.mark.parametrize("mask", [torch.float32, torch.uint8])
def test_a_perfect_prediction_in_float16(mask):
    loss = pytest.importorskip("monai") and lossreg.create_loss("monai/DiceLoss")
    target = (torch.arange(512 * 512).reshape(1, 1, 512, 512) % 3 > 0).to(mask)
    pred = target.half().requires_grad_()
    value, _ = loss({"seg": pred}, {"gt_polygons_image": target}, normalize=False)
    assert value.item() == pytest.approx(0, abs=1e-6)
    (gradient,) = torch.autograd.grad(value * 2**16, pred)
    assert gradient.isfinite().all()
    assert gradient.any()
