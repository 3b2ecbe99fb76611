"""SegLossWeights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossreg_seg import SegLossWeights
from torch import Tensor
from torch.testing import assert_close


@pytest.fixture
def gt() -> dict[str, Tensor]:
    return {
        "gt_polygons_image": torch.rand(2, 2, 6, 8).round(),
        "class_freq": 0.1 + 0.3 * torch.rand(2, 2),
        "distances": torch.rand(2, 1, 6, 8),
        "sizes": 0.1 + torch.rand(2, 1, 6, 8),
    }


def weights(gt: dict[str, Any], **options: Any) -> Tensor:
    return SegLossWeights(**options)({}, gt)[1]["seg_loss_weights"]


@pytest.mark.parametrize("use_dist", [False, True])
@pytest.mark.parametrize("use_size", [False, True])
def test_formula_pixel_by_pixel(gt: dict[str, Tensor], use_dist: bool, use_size: bool) -> None:
    w = weights(gt, use_dist=use_dist, use_size=use_size, w0=7.0, sigma=3.0)
    for n, c, i, j in [(0, 0, 0, 0), (1, 1, 5, 7), (1, 0, 2, 3), (0, 1, 4, 4)]:
        background = 1 - float(gt["class_freq"][n].sum())
        freq = float(gt["class_freq"][n, c]) if gt["gt_polygons_image"][n, c, i, j] > 0 else background
        want = 1 / freq
        if use_dist:
            want += 7 * math.exp(-((float(gt["distances"][n, 0, i, j]) * (6 + 8)) ** 2) / 9)
        if use_size:
            want *= 1 + 1 / (math.sqrt(6 * 8) / 2 * float(gt["sizes"][n, 0, i, j]))
        assert math.isclose(float(w[n, c, i, j]), want, rel_tol=1e-5)


@pytest.mark.parametrize(("option", "key"), [("use_dist", "distances"), ("use_size", "sizes")])
def test_a_key_is_needed_only_where_its_option_is_on(gt: dict[str, Tensor], option: str, key: str) -> None:
    del gt[key]
    assert weights(gt, **{option: False}).shape == (2, 2, 6, 8)
    with pytest.raises(KeyError, match=f"SegLossWeights needs 'gt.{key}'"):
        weights(gt)


def test_zero_frequencies_and_sizes_name_the_samples(gt: dict[str, Tensor]) -> None:
    gt["gt_polygons_image"][1, 0, 0, 0] = 1
    with pytest.raises(ValueError, match=r"'gt.class_freq' leaves a pixel.* in sample 1$"):
        weights({**gt, "class_freq": torch.tensor([[0.3, 0.3], [0.0, 0.3]])})
    with pytest.raises(ValueError, match=r"'gt.sizes' holds a size that is not above 0 in sample 0, 1$"):
        weights({**gt, "sizes": torch.zeros(2, 1, 6, 8)})
    weights({**gt, "sizes": torch.zeros(2, 1, 6, 8)}, use_size=False)


@pytest.mark.parametrize(
    ("frequencies", "rest"),
    [
        ([0.6, 0.4095], 0.4),  # real crops: the channels overlap, and sum to 1.0095
        ([0.5, 0.5], 0.5),
        ([0.9, 0.9], 0.1),
        ([1.0, 0.3], 1 / 48),
        ([0.6, 0.399], 0.001),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_overlapping_channels_leave_what_the_most_frequent_one_leaves(
    frequencies: list[float], rest: float, compiled: bool
) -> None:
    polygons = torch.zeros(1, 2, 6, 8)
    polygons[:, 0, :, :4] = 1
    preprocess = SegLossWeights(use_dist=False, use_size=False)
    run = torch.compile(preprocess, fullgraph=True, backend="eager") if compiled else preprocess
    found = run({}, {"gt_polygons_image": polygons, "class_freq": torch.tensor([frequencies])})[1]["seg_loss_weights"]
    assert_close(found[0, 0, :, :4], torch.full((6, 4), 1 / frequencies[0]))
    assert_close(found[0, 1], torch.full((6, 8), 1 / rest), rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_frequency_that_is_none_names_the_sample(gt: dict[str, Tensor], value: float) -> None:
    gt["class_freq"][1, 0] = value
    with pytest.raises(ValueError, match=r"'gt.class_freq' is not in 0 to 1 in sample 1$"):
        weights(gt)


def test_a_zero_frequency_of_a_class_that_is_absent_is_no_error(gt: dict[str, Tensor]) -> None:
    gt["gt_polygons_image"][:, 0] = 0
    gt["class_freq"][:, 0] = 0
    assert weights(gt).isfinite().all()


@given(st.integers(0, 2**31), st.floats(0, 100), st.floats(0.1, 100))
@settings(deadline=None, max_examples=40)
def test_never_below_one_over_frequency_and_falling_with_distance(seed: int, w0: float, sigma: float) -> None:
    torch.manual_seed(seed)
    gt = {
        "gt_polygons_image": torch.rand(2, 2, 4, 4).round(),
        "class_freq": 0.1 + 0.3 * torch.rand(2, 2),
        "distances": torch.rand(2, 1, 4, 4),
        "sizes": 0.1 + torch.rand(2, 1, 4, 4),
    }
    near = weights(gt, w0=w0, sigma=sigma)
    far = weights({**gt, "distances": gt["distances"] * 2}, w0=w0, sigma=sigma)
    assert (near >= weights(gt, use_dist=False, use_size=False) - 1e-4).all()
    assert (far <= near).all()


def test_carries_no_gradient_and_keeps_what_the_batch_brings(gt: dict[str, Tensor]) -> None:
    gt["class_freq"].requires_grad_()
    assert not weights(gt).requires_grad
    own = torch.ones(2, 2, 6, 8)
    assert SegLossWeights()({}, {**gt, "seg_loss_weights": own})[1]["seg_loss_weights"] is own


def test_half_precision_is_computed_in_float32(gt: dict[str, Tensor]) -> None:
    halves = {key: value.half() for key, value in gt.items()}
    assert weights(halves).dtype == torch.float32
    assert_close(weights(halves), weights({key: value.float() for key, value in halves.items()}))
    assert weights({key: value.double() for key, value in gt.items()}).dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"class_freq": torch.rand(2, 3)}, ValueError, r"'gt.class_freq' has shape \(2, 3\), expected \(2, 2\)"),
        ({"distances": torch.rand(2, 2, 6, 8)}, ValueError, r"'gt.distances' has shape .* expected \(2, 1, 6, 8\)"),
        ({"sizes": torch.ones(2, 1, 6, 8).int()}, TypeError, "'gt.sizes' has dtype int32"),
        ({"gt_polygons_image": torch.rand(2, 6, 8)}, ValueError, r"expected \(N, C, H, W\)"),
    ],
)
def test_errors(gt: dict[str, Tensor], change: dict[str, Tensor], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        weights({**gt, **change})


@pytest.mark.parametrize(("option", "value"), [("w0", float("inf")), ("sigma", 0.0)])
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        SegLossWeights(**{option: value})


def test_compiles_and_reads_nothing(gt: dict[str, Tensor]) -> None:
    meta = {key: value.to("meta") for key, value in gt.items()}
    assert weights(meta).shape == (2, 2, 6, 8)
    compiled = torch.compile(SegLossWeights(), fullgraph=True, backend="aot_eager")
    assert_close(compiled({}, gt)[1]["seg_loss_weights"], weights(gt))
