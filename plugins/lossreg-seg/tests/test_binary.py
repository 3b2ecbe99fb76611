"""SegLoss with binary channels: terms, logits, smoothing, ignored pixels, weights, differences from the original."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lossreg_seg import SegLoss
from torch import Tensor
from torch.testing import assert_close

from lossreg.errors import RangeError

Make = Callable[..., SegLoss]
ValueAndGrad = Callable[..., tuple[Tensor, Tensor]]
Textbook = Callable[..., Tensor]

COEFS = [(0.5, 0.5, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3, 0.6, 0.2), (0.0, 0.0, 0.0)]


def options(coefs: tuple[float, float, float], **more: Any) -> dict[str, Any]:
    return {"bce_coef": coefs[0], "dice_coef": coefs[1], "tversky_focal_coef": coefs[2], **more}


@pytest.mark.parametrize("coefs", COEFS)
@pytest.mark.parametrize("hard", [True, False])
def test_equals_the_textbook(
    seg: Make, textbook: Textbook, value_and_grad: ValueAndGrad, coefs: tuple[float, float, float], hard: bool
) -> None:
    p, t = torch.rand(3, 2, 19, 23), torch.rand(3, 2, 19, 23)
    t = t.round() if hard else t
    value, grad = value_and_grad(seg(**options(coefs)), p, t)
    expected, slope = value_and_grad(lambda p, t: textbook(p, t, *coefs), p.double(), t)
    assert value.dtype == torch.float32
    assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    assert_close(grad, slope.float(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_any_dtype_of_target_means_the_same(seg: Make, value_and_grad: ValueAndGrad, dtype: torch.dtype) -> None:
    p, t = torch.rand(2, 2, 9, 9), torch.rand(2, 2, 9, 9).round()
    for ours, theirs in zip(value_and_grad(seg(), p, t.to(dtype)), value_and_grad(seg(), p, t), strict=True):
        assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_bce_alone_is_torchs_own(seg: Make, value_and_grad: ValueAndGrad) -> None:
    p, t = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    ours = value_and_grad(seg(bce_coef=1.0, dice_coef=0.0), p, t)
    for mine, torchs in zip(ours, value_and_grad(F.binary_cross_entropy, p, t), strict=True):
        assert_close(mine, torchs, rtol=1e-5, atol=1e-7)


def test_bce_of_logits_alone_is_torchs_own(seg: Make, value_and_grad: ValueAndGrad) -> None:
    z, t = 5 * torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    ours = value_and_grad(seg(bce_coef=1.0, dice_coef=0.0, use_mixed_precision=True), z, t)
    for mine, torchs in zip(ours, value_and_grad(F.binary_cross_entropy_with_logits, z, t), strict=True):
        assert_close(mine, torchs, rtol=1e-5, atol=1e-7)


# --- departures from the original ------------------------------------------------------------------


def test_an_int_selector_keeps_the_channel_axis(seg: Make) -> None:
    # The original drops it: (N, 1, H, W) against (N, H, W) broadcasts to (N, N, H, W).
    p, gt = torch.rand(3, 1, 8, 8), torch.rand(3, 2, 8, 8).round()
    value, _ = seg(gt_channel_selector=1)(p, gt)
    assert_close(value, seg()(p, gt[:, 1:2])[0])


@pytest.mark.parametrize("coefs", COEFS[1:5])
def test_logits_reach_dice_and_tversky_through_the_sigmoid(
    seg: Make, value_and_grad: ValueAndGrad, coefs: tuple[float, float, float]
) -> None:
    # The original feeds them raw logits.
    z, t = torch.randn(2, 2, 16, 16, dtype=torch.float64), torch.rand(2, 2, 16, 16).round()
    ours = value_and_grad(seg(**options(coefs, use_mixed_precision=True)), z, t)
    want = value_and_grad(lambda z, t: seg(**options(coefs))(torch.sigmoid(z), t), z, t)
    for mine, other in zip(ours, want, strict=True):
        assert_close(mine, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("logits", [False, True])
def test_label_smoothing_is_the_loss_of_smoothed_targets(seg: Make, value_and_grad: ValueAndGrad, logits: bool) -> None:
    # The original raises.
    p, t = torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8, 8).round()
    smooth = seg(use_label_smooth=True, smooth_factor=0.2, use_mixed_precision=logits)
    plain = seg(use_mixed_precision=logits)
    for mine, other in zip(value_and_grad(smooth, p, t), value_and_grad(plain, p, t * 0.8 + 0.1), strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize(("smooth", "factor", "fix"), [(False, 0.3, "set use_label_smooth"), (True, 0.0, "set smooth")])
def test_a_label_smoothing_that_smooths_nothing_is_refused(seg: Make, smooth: bool, factor: float, fix: str) -> None:
    with pytest.raises(ValueError, match=f"so nothing is smoothed; {fix}"):
        seg(use_label_smooth=smooth, smooth_factor=factor)


# --- ignored pixels -------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("coefs", COEFS)
@pytest.mark.parametrize(("dtype", "ignore"), [(torch.float32, 255), (torch.uint8, 255), (torch.int16, -1)])
def test_ignored_pixels_are_out_of_every_sum(
    seg: Make,
    value_and_grad: ValueAndGrad,
    coefs: tuple[float, float, float],
    logits: bool,
    smooth: bool,
    dtype: torch.dtype,
    ignore: int,
) -> None:
    # The same rows are ignored in every plane, so that the loss is that of a batch without those rows.
    p, t = torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8, 8).round().to(dtype)
    t[:, :, 5:] = ignore
    loss = seg(
        **options(
            coefs, ignore_index=ignore, use_mixed_precision=logits, use_label_smooth=smooth, smooth_factor=0.1 * smooth
        )
    )
    value, grad = value_and_grad(loss, p, t)
    kept, slope = value_and_grad(loss, p[:, :, :5], t[:, :, :5])
    assert_close(value, kept)
    assert_close(grad[:, :, :5], slope)
    assert not grad[:, :, 5:].any()


def test_an_ignore_index_of_zero_ignores_the_background(seg: Make, value_and_grad: ValueAndGrad) -> None:
    p, t = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8).round()
    _, grad = value_and_grad(seg(ignore_index=0), p, t)
    assert not grad[t == 0].any()
    assert grad[t == 1].all()


def test_none_ignores_nothing(seg: Make) -> None:
    with pytest.raises(ValueError, match="holds values from 0 to 255, expected 0 to 1"):
        seg(ignore_index=None)(torch.rand(1, 1, 2, 2), torch.tensor([[[[0, 1], [0, 255]]]]))


@pytest.mark.parametrize("coefs", COEFS)
@pytest.mark.parametrize("logits", [False, True])
def test_all_ignored_is_a_zero_on_the_graph(
    seg: Make, value_and_grad: ValueAndGrad, coefs: tuple[float, float, float], logits: bool
) -> None:
    # The original returns a detached leaf, and raises before that.
    value, grad = value_and_grad(
        seg(**options(coefs, use_mixed_precision=logits)), torch.rand(2, 2, 4, 4), torch.full((2, 2, 4, 4), 255.0)
    )
    assert value == 0
    assert grad.isfinite().all()
    assert not grad.any()


@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (2, 2, 0, 4)])
def test_an_empty_batch_is_a_zero_on_the_graph(seg: Make, value_and_grad: ValueAndGrad, shape: tuple[int, ...]) -> None:
    value, grad = value_and_grad(seg(), torch.rand(shape), torch.rand(shape))
    assert value == 0
    assert grad.shape == shape


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
def test_weights_scale_each_element_of_the_cross_entropy(
    seg: Make, textbook: Textbook, value_and_grad: ValueAndGrad, logits: bool
) -> None:
    z, t, w = torch.randn(2, 2, 8, 8), torch.rand(2, 2, 8, 8).round(), 5 * torch.rand(2, 3, 8, 8)
    gt = {"gt_polygons_image": torch.cat([torch.zeros(2, 1, 8, 8), t], dim=1), "seg_loss_weights": w}
    loss = seg(gt_channel_selector=[1, 2], use_mixed_precision=logits)
    p = z if logits else torch.sigmoid(z)
    squash = torch.sigmoid if logits else (lambda p: p)
    ours = value_and_grad(loss, p, gt)
    want = value_and_grad(lambda p, t: textbook(squash(p), t, w=w[:, 1:]), p.double(), t)
    for mine, other in zip(ours, want, strict=True):
        assert_close(mine, other.float(), rtol=1e-5, atol=1e-6)


def test_weights_meet_ignored_pixels(seg: Make, value_and_grad: ValueAndGrad) -> None:
    p, t, w = torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8, 8).round(), torch.rand(2, 2, 8, 8)
    t[..., 4:] = 255
    value, grad = value_and_grad(seg(), p, {"gt_polygons_image": t, "seg_loss_weights": w})
    left = {"gt_polygons_image": t[..., :4], "seg_loss_weights": w[..., :4]}
    kept, slope = value_and_grad(seg(), p[..., :4], left)
    assert_close(value, kept)
    assert_close(grad[..., :4], slope)
    assert not grad[..., 4:].any()


# --- invariants -----------------------------------------------------------------------------------

planes = st.integers(1, 3)
sides = st.integers(1, 9)
seeds = st.integers(0, 2**31)


@given(planes, planes, sides, sides, seeds, st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_is_bounded_linear_and_symmetric(n: int, c: int, h: int, w: int, seed: int, tversky: float, hard: bool) -> None:
    torch.manual_seed(seed)
    p, t = torch.rand(n, c, h, w, dtype=torch.float64), torch.rand(n, c, h, w, dtype=torch.float64)
    t = t.round() if hard else t

    def loss(p: Tensor, t: Tensor, *coefs: float) -> Tensor:
        return SegLoss("seg", slice(None), **options(coefs))(p, t)[0]  # type: ignore[arg-type]

    parts = [loss(p, t, 1, 0, 0), loss(p, t, 0, 1, 0), loss(p, t, 0, 0, 1)]
    assert_close(loss(p, t, 0.5, 2.0, tversky), 0.5 * parts[0] + 2 * parts[1] + tversky * parts[2])
    assert parts[0] >= 0
    assert all(0 <= part <= 1 for part in parts[1:])
    whole = loss(p, t, 0.5, 0.5, tversky)
    assert_close(loss(p.flip(0), t.flip(0), 0.5, 0.5, tversky), whole)  # samples
    assert_close(loss(p.flip(1), t.flip(1), 0.5, 0.5, tversky), whole)  # channels
    assert_close(loss(p.mT.flip(2), t.mT.flip(2), 0.5, 0.5, tversky), whole)  # pixels


@given(seeds, st.integers(0, 63))
@settings(deadline=None, max_examples=40)
def test_what_an_ignored_pixel_predicts_does_not_matter(seed: int, ignored: int) -> None:
    torch.manual_seed(seed)
    p, t = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8).round()
    t.view(-1)[ignored] = 255
    other = p.clone()
    other.view(-1)[ignored] = torch.rand(())
    loss = SegLoss("seg", 0, tversky_focal_coef=0.5)
    assert loss(p, t)[0] == loss(other, t)[0]


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_moving_towards_the_target_lowers_the_loss(seed: int) -> None:
    torch.manual_seed(seed)
    p, t = torch.rand(2, 2, 6, 6), torch.rand(2, 2, 6, 6).round()
    loss = SegLoss("seg", slice(None), tversky_focal_coef=0.5)
    values = [loss(p.lerp(t, share), t)[0] for share in (0.0, 0.3, 0.6, 0.9)]
    assert values == sorted(values, reverse=True)


def test_the_batch_is_left_alone(seg: Make) -> None:
    p, t = torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8, 8).round()
    t[0, 0, 0, 0] = 255
    w = torch.rand(2, 2, 8, 8)
    before = [x.clone() for x in (p, t, w)]
    seg(use_label_smooth=True, smooth_factor=0.1)({"seg": p}, {"gt_polygons_image": t, "seg_loss_weights": w})
    for now, then in zip((p, t, w), before, strict=True):
        assert_close(now, then, rtol=0, atol=0)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pred", "gt", "error", "text"),
    [
        ({}, {"gt_polygons_image": torch.zeros(1, 2, 4, 4)}, KeyError, r"loss 'seg' needs 'pred.seg'; pred_batch"),
        ({"seg": torch.zeros(1, 2, 4, 4)}, {"mask": 1}, KeyError, r"'gt.gt_polygons_image'.*\['mask'\]"),
        (torch.zeros(1, 2, 4, 4).int(), torch.zeros(1, 2, 4, 4), TypeError, r"'pred.seg' has dtype int32"),
        (torch.zeros(2, 4, 4), torch.zeros(1, 2, 4, 4), ValueError, r"\(2, 4, 4\), expected \(N, C, H, W\)"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5), ValueError, r"'gt.gt_polygons_image' has shape"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4), ValueError, r"selects \(1, 3, 4, 4\) from .*equal shapes"),
        (
            torch.full((1, 1, 2, 2), 1.5),
            torch.zeros(1, 1, 2, 2),
            ValueError,
            r"'pred.seg' holds .* use_mixed_precision",
        ),
        (torch.full((1, 1, 2, 2), -0.5), torch.ones(1, 1, 2, 2), ValueError, r"'pred.seg' holds values from -0.5"),
        (torch.full((1, 1, 2, 2), torch.nan), torch.ones(1, 1, 2, 2), ValueError, r"'pred.seg' holds values from nan"),
        (torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0), ValueError, r"'gt.gt_polygons_image' holds .*divide"),
        (torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), -0.1), ValueError, r"from -0.1 to -0.1, expected 0 to 1"),
        (
            torch.zeros(1, 1, 2, 2),
            torch.full((1, 1, 2, 2), torch.nan),
            ValueError,
            r"'gt.gt_polygons_image' holds .*nan",
        ),
    ],
)
def test_errors_name_loss_key_what_came_and_what_was_expected(
    seg: Make, pred: Any, gt: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        seg()(pred, gt)
    assert "'seg'" in str(caught.value)


def test_weights_of_the_wrong_shape_or_dtype(seg: Make) -> None:
    pred, gt = {"seg": torch.rand(1, 2, 4, 4)}, {"gt_polygons_image": torch.zeros(1, 2, 4, 4)}
    with pytest.raises(ValueError, match=r"'gt.seg_loss_weights' has shape \(1, 2, 4, 5\)"):
        seg()(pred, {**gt, "seg_loss_weights": torch.ones(1, 2, 4, 5)})
    with pytest.raises(ValueError, match=r"selects 1 channels from 'gt.seg_loss_weights'"):
        seg()(pred, {**gt, "seg_loss_weights": torch.ones(1, 1, 4, 4)})
    with pytest.raises(TypeError, match=r"'gt.seg_loss_weights' has dtype int64"):
        seg()(pred, {**gt, "seg_loss_weights": torch.ones(1, 2, 4, 4).long()})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"bce_coef": float("nan")}, "bce_coef: expected a finite number, found nan"),
        ({"n_classes": 0}, "n_classes: expected 1 or more, found 0"),
        ({"mixup_alpha": 0.0}, "mixup_alpha: expected a number above 0"),
        ({"smooth_factor": 1.5}, "smooth_factor: expected 0 to 1, found 1.5"),
        ({"smooth_factor": -0.5}, "smooth_factor: expected 0 to 1, found -0.5"),
    ],
)
def test_options_out_of_range(seg: Make, wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        seg(**wrong)


# --- a mask of 0 and 255 ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "classes"), [(torch.uint8, 2), (torch.int64, 2), (torch.float32, 2), (torch.uint8, 3), (torch.int64, 3)]
)
def test_a_mask_whose_foreground_is_ignored_is_warned_of_once(dtype, classes):
    loss = SegLoss("seg", 0, n_classes=classes)
    mask = torch.tensor([[0, 255], [255, 0]], dtype=dtype)[None, None]
    pred = {"seg": torch.full((1, 1 if classes == 2 else 3, 2, 2), 0.5)}
    with pytest.warns(UserWarning, match=r"'gt\.gt_polygons_image' holds only 0 and 255.* divide a mask of 0 and 255"):
        loss(pred, {"gt_polygons_image": mask})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(pred, {"gt_polygons_image": mask})


@pytest.mark.parametrize(
    ("values", "ignored"),
    [([0, 1, 255], 255), ([255, 255, 255], 255), ([0, 0, 0], 255), ([0, 1, 0], 255), ([0, 1, 1], 1), ([0, 1, 1], 0)],
)
def test_masks_that_may_be_right_are_not_warned_of(values, ignored):
    mask = torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SegLoss("seg", 0, ignore_index=ignored)({"seg": torch.full((1, 1, 1, 3), 0.5)}, {"gt_polygons_image": mask})


def test_after_some_foreground_a_batch_without_is_not_warned_of():
    loss, pred = SegLoss("seg", 0), {"seg": torch.full((1, 1, 1, 3), 0.5)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in ([0, 1, 255], [0, 0, 255]):
            loss(pred, {"gt_polygons_image": torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, 3)})


def test_without_an_ignored_value_such_a_mask_is_refused():
    mask = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    with pytest.raises(RangeError, match="from 0 to 255, expected 0 to 1; divide a mask of 0 and 255 by 255"):
        SegLoss("seg", 0, ignore_index=None)({"seg": torch.full((1, 1, 1, 2), 0.5)}, {"gt_polygons_image": mask})
