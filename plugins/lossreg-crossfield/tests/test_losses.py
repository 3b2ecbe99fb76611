"""Invariants, errors, dtypes and empty batches of each loss."""
# ruff: noqa: RUF043

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossreg_crossfield import (
    CrossfieldAlign90Loss,
    CrossfieldAlignLoss,
    CrossfieldSmoothLoss,
    GtField,
    SegCrossfieldLoss,
    SegEdgeInteriorLoss,
    SegGrads,
)
from lossreg_crossfield.fields import Alignment
from torch import Tensor

from lossreg import Loss, MultiLoss
from lossreg.errors import DtypeError, MissingKeyError, RangeError, ShapeError

seeds = st.integers(0, 10_000)
angles = st.floats(-math.pi, math.pi)


def complex_planes(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def as_field(c0: Tensor, c2: Tensor) -> Tensor:
    return torch.stack([c0.real, c0.imag, c2.real, c2.imag], 1)


def as_planes(z: Tensor) -> Tensor:
    return torch.stack([z.real, z.imag], 1)


def aligned(c0: Tensor, c2: Tensor, z: Tensor, turned: bool = False) -> Tensor:
    (value,) = Alignment(turned)(as_field(c0, c2), as_planes(z), torch.ones(z.shape, dtype=torch.float64))
    return value


# --- alignment ------------------------------------------------------------------------------------


@given(seed=seeds)
def test_alignment_is_the_polynomial_in_complex_numbers(seed: int) -> None:
    c0, c2, z = complex_planes(3, 2, 4, 5, seed=seed)
    expected = (z**4 + c2 * z**2 + c0).abs().square().mean()
    torch.testing.assert_close(aligned(c0, c2, z), expected)


@given(seed=seeds)
def test_a_root_of_the_field_is_aligned(seed: int) -> None:
    u, v = complex_planes(2, 2, 3, 4, seed=seed)
    c0, c2 = (u * v) ** 2, -(u**2 + v**2)
    for root in (u, -u, v, -v):
        torch.testing.assert_close(aligned(c0, c2, root), torch.zeros((), dtype=torch.float64))


@given(seed=seeds)
def test_turned_is_the_direction_times_i(seed: int) -> None:
    c0, c2, z = complex_planes(3, 2, 3, 4, seed=seed)
    torch.testing.assert_close(aligned(c0, c2, z, turned=True), aligned(c0, c2, 1j * z))


@given(seed=seeds)
def test_the_sign_of_a_direction_does_not_matter(seed: int) -> None:
    c0, c2, z = complex_planes(3, 2, 3, 4, seed=seed)
    torch.testing.assert_close(aligned(c0, c2, z), aligned(c0, c2, -z))


@given(seed=seeds, angle=angles)
def test_turning_field_and_direction_together_changes_nothing(seed: int, angle: float) -> None:
    c0, c2, z = complex_planes(3, 2, 3, 4, seed=seed)
    turn = complex(math.cos(angle), math.sin(angle))
    torch.testing.assert_close(aligned(c0 * turn**4, c2 * turn**2, z * turn), aligned(c0, c2, z))


# --- smoothness, coupling -------------------------------------------------------------------------


@given(levels=st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4))
def test_a_constant_field_is_smooth_inside(levels: list[float]) -> None:
    field = torch.tensor(levels).reshape(1, 4, 1, 1).expand(1, 4, 5, 6)
    mask = torch.ones(1, 2, 5, 6)
    mask[..., 1:-1, 1:-1] = 0
    value, _ = CrossfieldSmoothLoss("smooth")({"crossfield": field}, {"gt_polygons_image": mask})
    assert value == 0


def test_edges_are_left_out_of_smoothness(batch: Any) -> None:
    pred, gt = batch()
    value, _ = CrossfieldSmoothLoss("s")(pred, {"gt_polygons_image": torch.ones_like(gt["gt_polygons_image"])})
    assert value == 0


def test_align90_leaves_vertices_out(batch: Any) -> None:
    pred, gt = batch()
    mask = torch.zeros(2, 3, 6, 7, dtype=torch.uint8)
    mask[:, 2] = 1  # vertices without an edge: 0 - 1 is 0, in any dtype
    _, made = GtField()(pred, {**gt, "gt_polygons_image": mask})
    assert CrossfieldAlign90Loss("a")(pred, made)[0] == 0
    mask[:, 1] = 1
    assert CrossfieldAlign90Loss("a")(pred, made)[0] == 0


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
@pytest.mark.parametrize("name", ["align", "align90", "smooth"])
def test_masks_of_any_dtype(losses: Any, batch: Any, evaluate: Any, name: str, dtype: torch.dtype) -> None:
    pred, gt = batch()
    mask = gt["gt_polygons_image"].round()
    expected = evaluate(losses[name](), pred, {**gt, "gt_polygons_image": mask})
    found = evaluate(losses[name](), pred, {**gt, "gt_polygons_image": mask.to(dtype)})
    torch.testing.assert_close(found, expected)
    assert found.dtype == torch.float32


def test_edge_interior_is_zero_where_the_edge_is_the_slope() -> None:
    seg = torch.rand(1, 2, 6, 7) * 0.5
    made, _ = SegGrads()({"seg": seg}, {})
    seg[:, 1] = made["seg_grad_norm"][:, 0]
    assert SegEdgeInteriorLoss("e")({**made, "seg": seg}, {})[0] == 0


def test_detach_grad_norm_stops_the_gradient_through_the_magnitude(batch: Any) -> None:
    field, normed, norm = batch()[0]["crossfield"], torch.rand(2, 3, 2, 6, 7), torch.rand(2, 3, 6, 7)
    pred = {"crossfield": field, "seg_grads_normed": normed.requires_grad_(), "seg_grad_norm": norm.requires_grad_()}
    through, _ = SegCrossfieldLoss("c", 0)(pred, {})
    stopped, _ = SegCrossfieldLoss("c", 0, detach_grad_norm=True)(pred, {})
    torch.testing.assert_close(through, stopped)
    assert torch.autograd.grad(through, norm)[0].any()
    assert torch.autograd.grad(stopped, [norm, normed], allow_unused=True)[0] is None


def test_extra_info(batch: Any) -> None:
    made, gt = GtField()(*SegGrads()(*batch()))
    for make in (CrossfieldAlignLoss, CrossfieldAlign90Loss):
        assert make("a")(made, gt)[1]["gt_field"].equal(gt["gt_field"])
    _, extra = SegCrossfieldLoss("c", 1)(made, gt)
    assert extra["seg_slice_grads"].equal(made["seg_grads"][:, 1])
    assert not extra["seg_slice_grads"].requires_grad


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(0, 6, 7), (2, 0, 7), (2, 6, 0)])
def test_nothing_is_a_zero_on_the_graph(loss: Loss, batch: Any, evaluate: Callable[..., Tensor], size: Any) -> None:
    pred, gt = batch(*size)
    value = evaluate(loss, pred, gt)
    assert value == 0
    assert value.requires_grad
    value.backward()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_flat_and_empty_regions_have_finite_gradients(
    loss: Loss, batch: Any, evaluate: Callable[..., Tensor], level: float
) -> None:
    pred, gt = batch()
    seg = torch.full((2, 3, 6, 7), level).requires_grad_()
    value = evaluate(loss, {**pred, "seg": seg}, {**gt, "gt_polygons_image": torch.zeros(2, 3, 6, 7)})
    found = torch.autograd.grad(value, [seg, pred["crossfield"]], allow_unused=True)
    assert value.isfinite()
    assert all(grad.isfinite().all() for grad in found if grad is not None)


def test_one_flat_half_has_finite_gradients(batch: Any, evaluate: Callable[..., Tensor], loss: Loss) -> None:
    pred, gt = batch()
    seg = torch.rand(2, 3, 6, 7)
    seg[..., 3:] = 0
    seg.requires_grad_()
    value = evaluate(loss, {**pred, "seg": seg}, gt)
    found = torch.autograd.grad(value, [seg, pred["crossfield"]], allow_unused=True)
    assert all(grad.isfinite().all() for grad in found if grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(
    loss: Loss, batch: Any, evaluate: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    half, gt = batch(3, 12, 13, dtype)
    pred = {key: tensor.detach().float().requires_grad_() for key, tensor in half.items()}
    gt = {key: tensor.float() for key, tensor in gt.items()}
    value, exact = evaluate(loss, half, gt), evaluate(loss, pred, gt)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=2e-2, atol=1e-3)
    found = torch.autograd.grad(value, list(half.values()), allow_unused=True)
    expected = torch.autograd.grad(exact, list(pred.values()), allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        if one is not None and other is not None:
            assert one.dtype == dtype
            error = (one.float() - other).norm() / other.norm()
            assert error < 0.05


def test_autocast_changes_nothing(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = evaluate(loss, pred, gt)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, evaluate(loss, pred, gt))


def test_channels_last_and_strided_planes(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    expected = evaluate(loss, pred, gt)
    last = {key: t.detach().to(memory_format=torch.channels_last).requires_grad_() for key, t in pred.items()}
    found = evaluate(loss, last, {key: t.transpose(2, 3).contiguous().transpose(2, 3) for key, t in gt.items()})
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, list(last.values()), allow_unused=True),
        torch.autograd.grad(expected, list(pred.values()), allow_unused=True),
        strict=True,
    ):
        assert (one is None and other is None) or torch.allclose(one, other, rtol=1e-4, atol=1e-7)


def test_the_batch_is_left_alone(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    before = {key: tensor.detach().clone() for key, tensor in {**pred, **gt}.items()}
    evaluate(loss, pred, gt).backward()
    assert list(before) == [*pred, *gt]
    assert all(tensor.equal(before[key]) for key, tensor in {**pred, **gt}.items())


@given(order=st.permutations(range(3)), seed=seeds)
def test_the_order_of_samples_does_not_matter(
    losses: Any, batch: Any, evaluate: Callable[..., Tensor], order: list[int], seed: int
) -> None:
    pred, gt = batch(3, seed=seed)
    for make in losses.values():
        moved = evaluate(make(), {k: t[order] for k, t in pred.items()}, {k: t[order] for k, t in gt.items()})
        torch.testing.assert_close(moved, evaluate(make(), pred, gt))


def test_multi_loss_puts_the_preprocesses_in(losses: Any, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    multi = MultiLoss([make() for make in losses.values()], [1.0] * len(losses))
    total, values, _ = multi(pred, gt)
    for name, make in losses.items():
        torch.testing.assert_close(values[name], evaluate(make(), pred, gt).detach())
    torch.testing.assert_close(total.detach(), torch.stack(list(values.values())).sum())


# --- errors ---------------------------------------------------------------------------------------


def test_a_target_without_edges(batch: Any) -> None:
    pred, gt = batch()
    _, gt = GtField()(pred, gt)
    gt = {**gt, "gt_polygons_image": gt["gt_polygons_image"][:, :1]}
    for make in (CrossfieldAlignLoss, CrossfieldSmoothLoss):
        with pytest.raises(
            ShapeError, match=r"(?m)loss 'x': 'gt.gt_polygons_image' .*at least 2 channels: interior, edge$"
        ):
            make("x")(pred, gt)


def test_align90_without_vertices(batch: Any) -> None:
    pred, gt = batch()
    _, gt = GtField()(pred, gt)
    gt = {**gt, "gt_polygons_image": gt["gt_polygons_image"][:, :2]}
    CrossfieldAlignLoss("x")(pred, gt)  # has the edge that it needs
    with pytest.raises(ShapeError, match=r"(?m)loss 'x': .* \(2, 2, 6, 7\).*at least 3 channels: .*, vertex$"):
        CrossfieldAlign90Loss("x")(pred, gt)


def test_a_segmentation_without_edges(batch: Any) -> None:
    made, _ = SegGrads()(*batch(channels=1))
    with pytest.raises(ShapeError, match=r"(?m)loss 'x': 'pred.seg' .*at least 2 channels: interior, edge$"):
        SegEdgeInteriorLoss("x")(made, {})


def test_a_channel_that_is_not_there(batch: Any) -> None:
    made, _ = SegGrads()(*batch())
    with pytest.raises(ShapeError, match=r"(?m)loss 'x': 'pred.seg_grads_normed' .* since pred_channel is 3$"):
        SegCrossfieldLoss("x", 3)(made, {})


@pytest.mark.parametrize("channel", [-1, True, 0.0, "0", None])
def test_a_channel_that_is_none(channel: Any) -> None:
    with pytest.raises(ValueError, match="loss 'x': pred_channel: expected an integer from 0"):
        SegCrossfieldLoss("x", channel)


def test_missing_keys_are_named(batch: Any) -> None:
    pred, gt = batch()
    with pytest.raises(MissingKeyError, match="loss 'x' needs 'gt.gt_field'"):
        CrossfieldAlignLoss("x")(pred, gt)
    with pytest.raises(MissingKeyError, match="loss 'x' needs 'pred.seg_grads_normed'"):
        SegCrossfieldLoss("x", 0)(pred, gt)
    with pytest.raises(MissingKeyError, match="SegGrads needs 'pred.seg'"):
        SegGrads()({}, {})


def test_shapes_that_do_not_fit_are_named(batch: Any) -> None:
    pred, gt = batch()
    _, made = GtField()(pred, gt)
    with pytest.raises(ShapeError, match=r"'pred.crossfield' has shape \(2, 3, 6, 7\), expected \(N, 4, H, W\)"):
        CrossfieldAlignLoss("x")({"crossfield": pred["crossfield"][:, :3]}, made)
    with pytest.raises(ShapeError, match=r"'gt.gt_field' has shape \(2, 2, 6, 7\), expected \(2, 2, 6, 6\)"):
        CrossfieldAlignLoss("x")({"crossfield": pred["crossfield"][..., :-1]}, made)
    with pytest.raises(ShapeError, match=r"GtField: 'gt.gt_crossfield_angle' .* expected \(N, 1, H, W\)"):
        GtField()({}, {"gt_crossfield_angle": torch.rand(2, 6, 7)})
    with pytest.raises(ShapeError, match=r"SegGrads: 'pred.seg' .* expected \(N, C, H, W\)"):
        SegGrads()({"seg": torch.rand(2, 6, 7)}, {})


def test_dtypes_that_do_not_fit_are_named(batch: Any) -> None:
    pred, gt = batch()
    _, made = GtField()(pred, gt)
    with pytest.raises(DtypeError, match="loss 'x': 'pred.crossfield' has dtype int64"):
        CrossfieldAlignLoss("x")({"crossfield": pred["crossfield"].long()}, made)
    with pytest.raises(DtypeError, match="SegGrads: 'pred.seg' has dtype uint8"):
        SegGrads()({"seg": torch.zeros(1, 1, 2, 2, dtype=torch.uint8)}, {})
    with pytest.raises(DtypeError, match="GtField: 'gt.gt_crossfield_angle': expected a tensor, found list"):
        GtField()({}, {"gt_crossfield_angle": [1.0]})


@pytest.mark.parametrize("most", [1.01, 2, 255])
def test_a_mask_of_more_than_1_is_refused(batch: Any, most: float) -> None:
    pred, gt = batch()
    gt = {**gt, "gt_polygons_image": gt["gt_polygons_image"].round() * most}
    with pytest.raises(RangeError, match="loss 'x': 'gt.gt_polygons_image' .*divide a mask of 0 and 255 by 255"):
        CrossfieldSmoothLoss("x")(pred, gt)
