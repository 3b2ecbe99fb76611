"""SegLoss with mutually exclusive classes. The original raises for each of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lossreg_seg import SegLoss
from torch import Tensor
from torch.testing import assert_close

Make = Callable[..., SegLoss]
ValueAndGrad = Callable[..., tuple[Tensor, Tensor]]
C = 4


@pytest.fixture(autouse=True, params=[False, True], ids=["cpu", "elsewhere"])
def way(request: pytest.FixtureRequest, as_elsewhere: Callable[..., Any]) -> Iterator[None]:
    """Take the way of the CPU, then that of other devices."""
    with as_elsewhere(request.param):
        yield


@pytest.fixture
def z() -> Tensor:
    return 3 * torch.randn(2, C, 7, 5)


@pytest.fixture
def indices() -> Tensor:
    return torch.randint(0, C, (2, 7, 5))


def one_hot(indices: Tensor) -> Tensor:
    return F.one_hot(indices, C).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_is_torchs_own(
    seg: Make, value_and_grad: ValueAndGrad, z: Tensor, indices: Tensor, smoothing: float
) -> None:
    indices[0, :3] = 255
    loss = seg(n_classes=C, bce_coef=1.0, dice_coef=0.0, use_label_smooth=smoothing > 0, smooth_factor=smoothing)
    torchs = torch.nn.CrossEntropyLoss(ignore_index=255, label_smoothing=smoothing)
    for mine, other in zip(value_and_grad(loss, z, indices), value_and_grad(torchs, z, indices), strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("coefs", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_overlap_is_that_of_the_softmax_and_the_one_hot_target(
    seg: Make,
    textbook: Callable[..., Tensor],
    value_and_grad: ValueAndGrad,
    z: Tensor,
    indices: Tensor,
    coefs: tuple[float, float, float],
) -> None:
    loss = seg(
        n_classes=C,
        bce_coef=coefs[0],
        dice_coef=coefs[1],
        tversky_focal_coef=coefs[2],
        use_label_smooth=True,
        smooth_factor=0.2,
    )
    want = value_and_grad(lambda z, t: textbook(z.softmax(1), t, *coefs), z.double(), one_hot(indices))
    for mine, other in zip(value_and_grad(loss, z, indices), want, strict=True):
        assert_close(mine, other.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "form",
    [
        lambda i: i,
        lambda i: i[:, None],
        lambda i: i[:, None].to(torch.uint8),
        lambda i: one_hot(i),
        lambda i: one_hot(i).long(),
        lambda i: one_hot(i).bool(),
    ],
)
@pytest.mark.parametrize("selector", [0, slice(None), slice(0, C)])
def test_all_forms_of_the_target_agree(
    seg: Make, z: Tensor, indices: Tensor, form: Callable[[Tensor], Tensor], selector: Any
) -> None:
    loss = seg(n_classes=C, gt_channel_selector=selector, tversky_focal_coef=0.3)
    assert_close(loss(z, form(indices))[0], seg(n_classes=C, tversky_focal_coef=0.3)(z, indices)[0])


def test_the_selector_picks_the_channel_of_class_indices(seg: Make, z: Tensor, indices: Tensor) -> None:
    raster = torch.stack([torch.zeros_like(indices), indices], dim=1)
    picked = seg(n_classes=C, gt_channel_selector=1)(z, raster)[0]
    assert_close(picked, seg(n_classes=C)(z, indices)[0])


def test_soft_targets(seg: Make, value_and_grad: ValueAndGrad, z: Tensor) -> None:
    soft = torch.rand(2, C, 7, 5).softmax(1)
    loss = seg(n_classes=C, bce_coef=1.0, dice_coef=0.0)
    torchs = value_and_grad(F.cross_entropy, z, soft)
    for mine, other in zip(value_and_grad(loss, z, soft), torchs, strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("hot", [False, True])
def test_ignored_pixels_are_out_of_every_sum(
    seg: Make, value_and_grad: ValueAndGrad, z: Tensor, indices: Tensor, hot: bool
) -> None:
    loss = seg(n_classes=C, tversky_focal_coef=0.4, use_label_smooth=True, smooth_factor=0.1)
    target = one_hot(indices) if hot else indices[:, None]
    kept, slope = value_and_grad(loss, z[:, :, :4], target[:, :, :4])
    target[:, :, 4:] = 255
    z[:, :, 5] = torch.inf
    value, grad = value_and_grad(loss, z, target)
    assert_close(value, kept)
    assert_close(grad[:, :, :4], slope)
    assert not grad[:, :, 4:].any()


def test_all_ignored_is_a_zero_on_the_graph(seg: Make, value_and_grad: ValueAndGrad, z: Tensor) -> None:
    value, grad = value_and_grad(seg(n_classes=C, tversky_focal_coef=0.4), z, torch.full((2, 7, 5), 255))
    assert value == 0
    assert grad.isfinite().all()
    assert not grad.any()


def test_weights_scale_the_pixels(seg: Make, z: Tensor, indices: Tensor) -> None:
    w = torch.rand(2, 1, 7, 5)
    loss = seg(n_classes=C, bce_coef=1.0, dice_coef=0.0)
    value, _ = loss({"seg": z}, {"gt_polygons_image": indices, "seg_loss_weights": w})
    assert_close(value, (F.cross_entropy(z, indices, reduction="none") * w[:, 0]).mean())


# --- a class that a model rules out ------------------------------------------------------------------


@pytest.fixture
def ruled_out(z: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of -inf for a class that is no pixel's, and the classes."""
    z[:, 3] = -torch.inf
    return z, indices % 3


def test_a_class_with_a_logit_of_minus_infinity_adds_nothing(seg: Make) -> None:
    logits = torch.tensor([1.0, 0.5, 0.0, -torch.inf]).reshape(1, 4, 1, 1)
    loss = seg(n_classes=4, bce_coef=1.0, dice_coef=0.0)
    expected = math.log(math.exp(1) + math.exp(0.5) + 1) - 1
    assert loss(logits, torch.zeros(1, 1, 1).long())[0].item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_and_gradient_with_a_class_ruled_out_are_torchs(
    seg: Make, value_and_grad: ValueAndGrad, ruled_out: tuple[Tensor, Tensor]
) -> None:
    logits, classes = ruled_out
    classes[0, :3] = 255
    logits[0, :, :3] = -torch.inf  # where ignored, no class is left
    logits[1, 0, 0, 0] = 1e30
    loss = seg(n_classes=C, bce_coef=1.0, dice_coef=0.0)
    torchs = torch.nn.CrossEntropyLoss(ignore_index=255)
    value, grad = value_and_grad(loss, logits, classes)
    expected, slope = value_and_grad(torchs, logits, classes)
    assert_close(value, expected, rtol=1e-5, atol=0)
    assert_close(grad, slope.nan_to_num(), rtol=1e-5, atol=1e-7)  # torch's are NaN where ignored
    assert not grad[:, 3].any()


def test_soft_targets_of_0_on_a_class_ruled_out(
    seg: Make, value_and_grad: ValueAndGrad, ruled_out: tuple[Tensor, Tensor]
) -> None:
    logits, soft = ruled_out[0], torch.rand(2, 3, 7, 5).softmax(1)
    loss = seg(n_classes=C, bce_coef=1.0, dice_coef=0.0)
    value, grad = value_and_grad(loss, logits, torch.cat([soft, torch.zeros(2, 1, 7, 5)], 1))
    expected, slope = value_and_grad(F.cross_entropy, logits[:, :3], soft)
    assert_close(value, expected, rtol=1e-5, atol=0)
    assert_close(grad[:, :3], slope, rtol=1e-5, atol=1e-7)
    assert not grad[:, 3].any()


@pytest.mark.parametrize("coefs", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_overlap_with_a_class_ruled_out(
    seg: Make,
    textbook: Callable[..., Tensor],
    value_and_grad: ValueAndGrad,
    ruled_out: tuple[Tensor, Tensor],
    coefs: tuple[float, float, float],
) -> None:
    logits, classes = ruled_out
    loss = seg(n_classes=C, bce_coef=coefs[0], dice_coef=coefs[1], tversky_focal_coef=coefs[2])
    rest = logits[:, :3].double(), one_hot(classes)[:, :3]  # a plane of zeros has no loss
    want = value_and_grad(lambda z, t: 3 / 4 * textbook(z.softmax(1), t, *coefs), *rest)
    value, grad = value_and_grad(loss, logits, classes)
    assert_close(value, want[0].float(), rtol=1e-5, atol=1e-7)
    assert_close(grad[:, :3], want[1].float(), rtol=1e-5, atol=1e-7)
    assert not grad[:, 3].any()


def test_label_smoothing_makes_a_class_ruled_out_infinite_as_torch_does(
    seg: Make, ruled_out: tuple[Tensor, Tensor]
) -> None:
    logits, classes = ruled_out
    loss = seg(n_classes=C, dice_coef=0.0, use_label_smooth=True, smooth_factor=0.1)
    assert F.cross_entropy(logits, classes, label_smoothing=0.1) == torch.inf
    assert loss(logits, classes)[0] == torch.inf


def test_a_class_ruled_out_where_it_is_right_is_infinite_as_torch_has_it(seg: Make, z: Tensor) -> None:
    z[:, 0] = -torch.inf
    classes = torch.zeros(2, 7, 5).long()
    assert F.cross_entropy(z, classes) == torch.inf
    assert seg(n_classes=C)(z, classes)[0] == torch.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(seg: Make, dtype: torch.dtype) -> None:
    z, target = torch.randn(1, 3, 512, 512), torch.randint(0, 3, (1, 512, 512))
    value, _ = seg(n_classes=3, tversky_focal_coef=0.2)(z.to(dtype), target)
    assert value.dtype == torch.float32
    assert_close(value, seg(n_classes=3, tversky_focal_coef=0.2)(z.to(dtype).float(), target)[0])


@pytest.mark.parametrize(
    ("pred", "gt", "error", "text"),
    [
        ((2, 3, 4, 4), torch.zeros(2, 4, 4).long(), ValueError, r"'pred.seg' has shape .* expected \(N, 4, H, W\)"),
        ((2, 4, 4, 4), torch.zeros(2, 4, 5).long(), ValueError, r"\(2, 4, 5\), expected \(2, 4, 4\)"),
        ((2, 4, 4, 4), torch.zeros(2, 2, 4, 4), ValueError, r"selects 2 channels .* expected 1 .* or 4"),
        ((2, 4, 4, 4), torch.zeros(2, 4, 4), TypeError, r"dtype float32, expected an integer dtype.*\.long"),
        ((2, 4, 4, 4), torch.full((2, 4, 4), 4), ValueError, r"from 4 to 4, expected 0 to 3; n_classes is 4"),
        ((2, 4, 4, 4), torch.full((2, 4, 4, 4), 1.5), ValueError, r"expected 0 to 1; .*one-hot"),
    ],
)
def test_errors(seg: Make, pred: tuple[int, ...], gt: Tensor, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        seg(n_classes=C)(torch.rand(pred), gt)
