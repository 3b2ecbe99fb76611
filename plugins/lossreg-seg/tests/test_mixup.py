"""MixUp: the helper that mixes a batch, and the loss of a mixed batch. The original raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossreg_seg import SegLoss, mixup_batch
from torch import Tensor
from torch.testing import assert_close

Make = Callable[..., SegLoss]


@pytest.fixture
def batch() -> dict[str, Any]:
    y = torch.rand(3, 2, 6, 6).round()
    return {"mixup_y_a": y, "mixup_y_b": y.flip(0), "mixup_lam": torch.tensor(0.3)}


@pytest.mark.parametrize("lam", [0.3, torch.tensor(0.3), torch.tensor([0.3])])
def test_the_loss_is_the_convex_combination_of_two(seg: Make, batch: dict[str, Any], lam: Any) -> None:
    p = torch.rand(3, 2, 6, 6)
    at_a, at_b = (seg()(p, batch[key])[0] for key in ("mixup_y_a", "mixup_y_b"))
    value, _ = seg(use_mixup=True)({"mixup_pred": p}, {**batch, "mixup_lam": lam})
    assert_close(value, 0.3 * at_a + 0.7 * at_b)


def test_the_keys_may_stand_in_either_batch_and_seg_for_the_prediction(seg: Make, batch: dict[str, Any]) -> None:
    p = torch.rand(3, 2, 6, 6)
    loss = seg(use_mixup=True)
    value, _ = loss({"mixup_pred": p}, batch)
    assert loss({"mixup_pred": p, **batch}, {})[0] == value
    assert loss({"seg": p}, batch)[0] == value
    assert loss(p, batch)[0] == value


def test_without_the_keys_it_is_the_plain_loss(seg: Make, batch: dict[str, Any]) -> None:
    p, y = torch.rand(3, 2, 6, 6), batch["mixup_y_a"]
    plain = seg()(p, y)[0]
    assert seg(use_mixup=True)({"seg": p}, {"gt_polygons_image": y})[0] == plain
    assert seg(use_mixup=True)(p, y)[0] == plain
    assert seg()({"seg": p}, {"gt_polygons_image": y, **batch})[0] == plain


def test_the_selector_reaches_the_mixed_targets(seg: Make, batch: dict[str, Any]) -> None:
    p = torch.rand(3, 1, 6, 6)
    one = {key: batch[key][:, 1:] for key in ("mixup_y_a", "mixup_y_b")}
    value, _ = seg(use_mixup=True, gt_channel_selector=1)({"mixup_pred": p}, batch)
    assert_close(value, seg(use_mixup=True)({"mixup_pred": p}, {**batch, **one})[0])


def test_multiclass(seg: Make) -> None:
    z, a, b = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)), torch.randint(0, 3, (2, 4, 4))
    loss = seg(n_classes=3, use_mixup=True)
    value, _ = loss({"mixup_pred": z}, {"mixup_y_a": a, "mixup_y_b": b, "mixup_lam": 0.25})
    assert_close(value, 0.25 * loss(z, a)[0] + 0.75 * loss(z, b)[0])


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"mixup_y_b": None}, KeyError, r"'seg'.*add \['mixup_y_b'\]"),
        ({"mixup_lam": 1.5}, ValueError, "'mixup_lam' is 1.5, expected 0 to 1"),
        ({"mixup_lam": torch.tensor(-0.5)}, ValueError, "'gt.mixup_lam' holds values from -0.5"),
        ({"mixup_lam": torch.rand(3)}, ValueError, r"'mixup_lam' has shape \(3,\), expected one number"),
        ({"mixup_lam": "half"}, TypeError, "'mixup_lam': expected a number, found str"),
        ({"mixup_y_a": [1]}, TypeError, "'mixup_y_a': expected a tensor, found list"),
        ({"mixup_y_a": torch.rand(3, 2, 5, 6)}, ValueError, "'gt.mixup_y_a' has shape"),
    ],
)
def test_errors(seg: Make, batch: dict[str, Any], change: dict[str, Any], error: type[Exception], text: str) -> None:
    changed = {key: value for key, value in {**batch, **change}.items() if value is not None}
    with pytest.raises(error, match=text):
        seg(use_mixup=True)({"mixup_pred": torch.rand(3, 2, 6, 6)}, changed)


# --- the helper -----------------------------------------------------------------------------------


@given(n=st.integers(1, 6), alpha=st.floats(0.05, 5.0), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_helper_mixes_images_and_pairs_targets_alike(n: int, alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.rand(n, 3, 4, 4)
    gt = {"gt_polygons_image": images[:, :2] * 2, "other": 1}
    mixed, made = mixup_batch(images, gt, alpha)
    lam = made["mixup_lam"]
    assert lam.shape == ()
    assert 0 <= lam <= 1
    assert made["mixup_y_a"] is gt["gt_polygons_image"]
    # Targets are a linear map of the images here, so they must mix as the images do.
    assert_close(mixed[:, :2] * 2, lam * made["mixup_y_a"] + (1 - lam) * made["mixup_y_b"])
    assert made["other"] == 1
    assert set(gt) == {"gt_polygons_image", "other"}


def test_helper_draws_lam_from_the_symmetric_beta_distribution() -> None:
    gt = {"gt_polygons_image": torch.zeros(2, 1)}
    alpha = 0.5
    drawn = torch.stack([mixup_batch(torch.zeros(2, 1), gt, alpha)[1]["mixup_lam"] for _ in range(2000)])
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(drawn.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


def test_helper_follows_the_seed() -> None:
    images, gt = torch.rand(8, 1, 2, 2), {"gt_polygons_image": torch.rand(8, 1, 2, 2)}
    torch.manual_seed(3)
    one = mixup_batch(images, gt, 1.0)
    torch.manual_seed(3)
    other = mixup_batch(images, gt, 1.0)
    assert_close(one, other, rtol=0, atol=0)


def test_the_loss_draws_with_its_own_alpha(seg: Make) -> None:
    images, gt = torch.rand(4, 1, 2, 2), {"gt_polygons_image": torch.rand(4, 1, 2, 2)}
    torch.manual_seed(3)
    one = seg(use_mixup=True, mixup_alpha=0.2).mixup(images, gt)
    torch.manual_seed(3)
    assert_close(one, mixup_batch(images, gt, 0.2), rtol=0, atol=0)


def test_helper_to_loss(seg: Make) -> None:
    loss = seg(use_mixup=True)
    images = torch.rand(4, 2, 6, 6, requires_grad=True)
    mixed, gt = loss.mixup(images, {"gt_polygons_image": torch.rand(4, 2, 6, 6).round()})
    value, _ = loss({"mixup_pred": mixed}, gt)
    value.backward()
    assert images.grad is not None
    assert images.grad.any()


def test_helper_errors() -> None:
    images, gt = torch.rand(2, 1), {"gt_polygons_image": torch.rand(2, 1)}
    with pytest.raises(ValueError, match="alpha: expected a number above 0, found 0"):
        mixup_batch(images, gt, 0)
    with pytest.raises(KeyError, match=r"needs 'gt_polygons_image'; gt_batch has keys \['mask'\]"):
        mixup_batch(images, {"mask": gt}, 1.0)
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(3, 1\).*same number of samples"):
        mixup_batch(images, {"gt_polygons_image": torch.rand(3, 1)}, 1.0)
    assert isinstance(mixup_batch(images, gt, 1.0)[0], Tensor)
