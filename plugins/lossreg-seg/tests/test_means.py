"""The means of SegLoss with their counts: masks, weights, batches that are cut, and counts from the targets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossreg_seg import SegLoss
from torch import Tensor
from torch.testing import assert_close

from lossreg import Mean, MultiLoss
from lossreg.errors import CountError, MissingKeyError, RangeError, ShapeError

Make = Callable[..., SegLoss]
pytestmark = pytest.mark.filterwarnings("ignore:.*holds only 0 and 255:UserWarning")
EXACT = {"rtol": 1e-9, "atol": 1e-12}
CLASSES = 3


@dataclass
class Case:
    """A batch of a SegLoss, and what counts in it."""

    options: dict[str, Any]
    pred: Tensor
    gt: dict[str, Any]
    mask: Tensor | None = None
    weight: Tensor | None = None
    keys: dict[str, str] = field(default_factory=dict)

    def loss(self) -> SegLoss:
        loss = SegLoss("seg", **{"gt_channel_selector": slice(None), **self.options})
        loss.take_mask(**self.keys)
        return loss

    @property
    def is_class(self) -> bool:
        return self.options.get("n_classes") == CLASSES


def drawn(draw: st.DrawFn) -> Case:
    """Return a random batch in float64."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    n, c = draw(st.integers(0, 5)), draw(st.integers(1, 2))
    size = (draw(st.integers(1, 3)), draw(st.integers(2, 3)))
    kind = draw(st.sampled_from(["probabilities", "logits", "indices", "soft"]))
    is_class = kind in ("indices", "soft")
    coefs = draw(st.sampled_from([(0.5, 0.4, 0.3), (0.7, 0, 0), (0, 0.5, 0), (0, 0, 0.2), (0, 0, 0)]))
    smooth = draw(st.sampled_from([0.0, 0.1]))
    options: dict[str, Any] = dict(zip(("bce_coef", "dice_coef", "tversky_focal_coef"), coefs, strict=True))
    options |= {"use_label_smooth": smooth > 0, "smooth_factor": smooth, "use_mixed_precision": kind == "logits"}
    options["ignore_index"] = draw(st.sampled_from([255, None]))
    channels = CLASSES if is_class else c
    if is_class:
        options["n_classes"] = CLASSES

    def random(*shape: int) -> Tensor:
        return torch.rand(n, *shape, *size, dtype=torch.float64)

    def target() -> Tensor:
        t = random(channels)
        t = t.softmax(1) if kind == "soft" else t.round() if draw(st.booleans()) else t
        t = torch.randint(0, CLASSES, (n, 1, *size)) if kind == "indices" else t
        if options["ignore_index"] is not None:
            t[torch.rand(t.shape) < draw(st.sampled_from([0.0, 0.4, 0.8]))] = 255
            t[torch.rand(n) < 0.3] = 255
        return t

    pred = random(channels) if kind == "probabilities" else 4 * random(channels) - 2
    case = Case(options, pred, {"gt_polygons_image": target()})
    if draw(st.booleans()):
        case.gt["seg_loss_weights"] = 3 * random(channels)
    if draw(st.booleans()):
        options["use_mixup"] = True
        if draw(st.booleans()):
            case.gt |= {"mixup_y_a": case.gt["gt_polygons_image"], "mixup_y_b": target(), "mixup_lam": 0.3}
    planes = 1 if is_class else c
    shapes = {"samples": (n,), "planes": (n, planes), "image": (n, *size), "pixels": (n, planes, *size)}
    if is_class:
        del shapes["planes"]  # one plane holds all classes, so there are no weights of planes
    kept = draw(st.sampled_from([None, *shapes]))
    if kept is not None:
        case.mask = torch.rand(shapes[kept]) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        case.gt["valid"] = case.mask if draw(st.booleans()) else case.mask.double()
        case.keys["mask"] = "gt.valid"
    weighed = draw(st.sampled_from([None, *shapes]))
    if weighed is not None:
        case.weight = case.gt["weight"] = 2 * torch.rand(shapes[weighed], dtype=torch.float64).round(decimals=1)
        case.keys["sample_weight"] = "gt.weight"
    return case


cases = st.composite(drawn)


def parts_of(case: Case, pred: Tensor, gt: dict[str, Any]) -> list[Mean]:
    """Return the means, and check that the value is their sum and that the targets tell their counts."""
    loss, means = case.loss(), []
    value, _ = loss({"seg": pred}, gt, False, means)
    assert len(means) == loss.parts
    assert_close(sum(mean.value for mean in means), value)
    counts = loss.counts(gt)
    assert len(counts) == len(means)
    for count, mean in zip(counts, means, strict=True):
        assert_close(float(count), float(mean.count), **EXACT)
        assert mean.value.requires_grad
        assert not (isinstance(mean.count, Tensor) and mean.count.requires_grad)
    if case.options["ignore_index"] is None and not case.keys:
        assert all(isinstance(count, float) for count in (*counts, *(mean.count for mean in means)))
    return means


# --- the reference: each plane by itself, without the pixels that do not count ---------------------------


def laid_out(weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return weights of samples, planes, images or pixels as (N, C, H, W)."""
    axes = {1: (..., None, None, None), 2: (..., None, None), 3: (slice(None), None), 4: ()}[weights.dim()]
    return weights[axes].expand(shape)


def terms(p: Tensor, t: Tensor, w: Tensor, options: dict[str, Any]) -> Tensor:
    tp, fp, fn = (w * p * t).sum(), (w * p * (1 - t)).sum(), (w * t * (1 - p)).sum()
    dice = 1 - (2 * tp + 1) / ((w * p).sum() + (w * t).sum() + 1 + 1e-7)
    errors = 0.01 * fp + 0.99 * fn
    off = errors / (tp + errors + 1e-6)
    tversky = off**0.25 if off > 0 else torch.zeros_like(off)
    return options["dice_coef"] * dice + options["tversky_focal_coef"] * tversky


def against(case: Case, pred: Tensor, target: Tensor) -> list[tuple[Tensor, float]]:
    """Return the two means against one target, with their counts."""
    options, smooth = case.options, case.options["smooth_factor"]
    ignored = -1 if options["ignore_index"] is None else options["ignore_index"]
    n, channels, *size = pred.shape
    if case.is_class and target.shape[1] == 1:
        one_hot = torch.zeros_like(pred).scatter(1, torch.where(target == ignored, 0, target), 1)
        target = torch.where(target == ignored, ignored, one_hot)
    shape = (n, 1 if case.is_class else channels, *size)
    kept = torch.ones(shape, dtype=torch.bool) if case.mask is None else laid_out(case.mask, shape)
    kept = kept & ~(target == ignored).any(1, keepdim=True) if case.is_class else kept
    of_pixels, of_planes = torch.ones(shape, dtype=torch.float64), torch.ones(shape[:2], dtype=torch.float64)
    if case.weight is not None:
        if case.weight.dim() < 3:
            of_planes = laid_out(case.weight, shape)[..., 0, 0]
        else:
            of_pixels = laid_out(case.weight, shape)
    factors = case.gt.get("seg_loss_weights", torch.ones_like(pred))
    entropy, overlap = torch.zeros(2, dtype=torch.float64).unbind()
    pixels = planes = 0.0
    for i in range(n):
        for k in range(shape[1]):
            counted = kept[i, k] & (of_pixels[i, k] > 0) & (of_planes[i, k] > 0)
            if not case.is_class:
                counted = counted & (target[i, k] != ignored)
            if not counted.any():
                continue
            w, plane = of_pixels[i, k][counted], of_planes[i, k]
            if case.is_class:
                z, t, f = pred[i][:, counted], target[i][:, counted], factors[i][:, counted]
                log_p = z.log_softmax(0)
                values = (-log_p * (t * (1 - smooth) + smooth / CLASSES) * f).sum(0)
                loss = sum(terms(log_p[j].exp(), t[j], w, options) for j in range(CLASSES))
            else:
                p, t, f = pred[i, k][counted], target[i, k][counted], factors[i, k][counted]
                p = p.sigmoid() if options["use_mixed_precision"] else p
                t = t * (1 - smooth) + smooth / 2
                values = torch.nn.functional.binary_cross_entropy(p, t, reduction="none") * f
                loss = terms(p, t, w, options)
            entropy, pixels = entropy + plane * (w * values).sum(), pixels + float(plane * w.sum())
            overlap, planes = overlap + plane * loss, planes + float(plane) * (CLASSES if case.is_class else 1)
    means = [(options["bce_coef"] * entropy / (pixels or 1), pixels), (overlap / (planes or 1), planes)]
    has_overlap = options["dice_coef"] or options["tversky_focal_coef"] or not options["bce_coef"]
    return means[: 1 if options["bce_coef"] else 0] + means[1:] * bool(has_overlap)


def reference(case: Case, pred: Tensor) -> list[tuple[Tensor, float]]:
    gt = case.gt
    if "mixup_lam" not in gt:
        means = against(case, pred, gt["gt_polygons_image"])
        return means + [(torch.zeros(()), 0.0) for _ in means] * bool(case.options.get("use_mixup"))
    lam = gt["mixup_lam"]
    at_a, at_b = (against(case, pred, gt[key]) for key in ("mixup_y_a", "mixup_y_b"))
    return [(lam * v, c) for v, c in at_a] + [((1 - lam) * v, c) for v, c in at_b]


def slope(value: Tensor, pred: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(value, pred, allow_unused=True)
    return torch.zeros_like(pred) if grad is None else grad


@given(case=cases())
@settings(deadline=None)
def test_each_mean_is_that_of_the_pixels_that_count_whatever_the_others_hold(case: Case) -> None:
    pred, leaf = case.pred.clone(), case.pred.clone().requires_grad_()
    gt = dict(case.gt)
    if case.mask is not None:
        planes = 1 if case.is_class else pred.shape[1]
        off = ~laid_out(case.mask, (len(pred), planes, *pred.shape[2:]))
        pred.masked_fill_(off, torch.nan)
        for key in ("gt_polygons_image", "mixup_y_a", "mixup_y_b", "seg_loss_weights"):
            if key in gt:
                fill = torch.nan if gt[key].is_floating_point() else 77
                gt[key] = gt[key].masked_fill(off, fill)
    pred.requires_grad_()
    means, expected = parts_of(case, pred, gt), reference(case, leaf)
    for mean, (value, count) in zip(means, expected, strict=True):
        assert_close(float(mean.count), count, **EXACT)
        assert_close(mean.value, value.to(mean.value.dtype), rtol=1e-9, atol=1e-10)
        if count == 0:
            assert mean.value == 0
    total = sum(mean.value for mean in means)
    want = sum(value for value, _ in expected)
    wanted = slope(want, leaf) if want.requires_grad else torch.zeros_like(leaf)
    assert_close(slope(total, pred), wanted, rtol=1e-8, atol=1e-10)


@given(case=cases(), data=st.data())
@settings(deadline=None)
def test_parts_of_a_batch_come_to_the_whole(case: Case, data: st.DataObject) -> None:
    n = len(case.pred)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    pred = case.pred.clone().requires_grad_()
    whole = parts_of(case, pred, case.gt)
    cut = []
    for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
        gt = {key: item[start:stop] if isinstance(item, Tensor) else item for key, item in case.gt.items()}
        cut.append(parts_of(case, pred[start:stop], gt))
    total = torch.zeros((), dtype=torch.float64)
    for k, mean in enumerate(whole):
        count = sum(float(part[k].count) for part in cut)
        assert_close(count, float(mean.count), **EXACT)
        value = sum(part[k].value * (float(part[k].count) / (count or 1)) for part in cut)
        assert_close(value, mean.value, **EXACT)
        total = total + value
    assert_close(slope(total, pred), slope(sum(mean.value for mean in whole), pred), **EXACT)


# --- single facts -----------------------------------------------------------------------------------------


def test_a_plane_without_a_pixel_is_not_in_the_mean_over_planes(seg: Make) -> None:
    p, t = torch.rand(2, 2, 4, 4), torch.rand(2, 2, 4, 4).round()
    t[1] = 255
    loss = seg(bce_coef=0.0, tversky_focal_coef=0.3)
    assert_close(loss(p, t)[0], loss(p[:1], t[:1])[0])
    assert [float(count) for count in loss.counts(t)] == [2]


@pytest.mark.parametrize("options", [{}, {"n_classes": 3, "gt_channel_selector": 0}])
def test_all_masked_is_a_zero_with_a_zero_gradient(seg: Make, options: dict[str, Any]) -> None:
    loss = seg(tversky_focal_coef=0.3, **options)
    loss.take_mask("gt.valid")
    pred = torch.full((2, 3, 4, 4), torch.nan, requires_grad=True)
    gt = torch.zeros(2, 3, 4, 4).long() if options else torch.zeros(2, 3, 4, 4)
    means: list[Mean] = []
    value, _ = loss({"seg": pred}, {"gt_polygons_image": gt, "valid": torch.zeros(2)}, means=means)
    value.backward()
    assert value == 0
    assert [float(mean.count) for mean in means] == [0, 0]
    assert pred.grad is not None
    assert not pred.grad.any()


@pytest.mark.parametrize(("dtype", "ignored"), [(torch.bool, 255), (torch.int8, 255), (torch.float32, None)])
def test_counts_are_numbers_where_no_pixel_can_be_ignored(seg: Make, dtype: torch.dtype, ignored: int | None) -> None:
    target = torch.rand(2, 3, 4, 5).round().to(dtype)
    loss, means = seg(ignore_index=ignored), []
    loss(torch.rand(2, 3, 4, 5), target, means=means)
    found = [*loss.counts(target), *(mean.count for mean in means)]
    assert found == [120.0, 6.0] * 2
    assert all(isinstance(count, float) for count in found)


def test_the_gradient_of_each_mean_alone(seg: Make) -> None:
    p, t = torch.rand(2, 2, 4, 4, dtype=torch.float64, requires_grad=True), torch.rand(2, 2, 4, 4).round()
    both: list[Mean] = []
    seg(bce_coef=0.7, dice_coef=0.4)(p, t, means=both)
    for mean, (bce, dice) in zip(both, ((0.7, 0.0), (0.0, 0.4)), strict=True):
        value, _ = seg(bce_coef=bce, dice_coef=dice)(p, t)
        assert_close(mean.value, value)
        found = torch.autograd.grad(mean.value, p, retain_graph=True)
        assert_close(found, torch.autograd.grad(value, p))
    for factor in (2.0, 0.0):
        scaled = factor * both[0].value + 3 * both[1].value
        each = [torch.autograd.grad(mean.value, p, retain_graph=True)[0] for mean in both]
        assert_close(torch.autograd.grad(scaled, p, retain_graph=True)[0], factor * each[0] + 3 * each[1])


def test_a_mask_through_a_criterion(seg: Make) -> None:
    loss = seg()
    loss.take_mask("gt.valid", "gt.weight")
    criterion = MultiLoss([loss], [2.0])
    p, t = torch.rand(3, 1, 4, 4, requires_grad=True), torch.rand(3, 1, 4, 4).round()
    gt = {"gt_polygons_image": t, "valid": torch.tensor([1, 0, 1]), "weight": torch.tensor([1.0, 5.0, 0.0])}
    total, values, _ = criterion({"seg": p}, gt)
    total.backward()
    assert_close(values["seg"], seg()(p[:1], t[:1])[0].detach())
    assert p.grad is not None
    assert p.grad[0].all()
    assert not p.grad[1:].any()
    with pytest.raises(MissingKeyError, match=r"needs 'gt.valid'"):
        criterion({"seg": p}, {"gt_polygons_image": t, "weight": gt["weight"]})


@pytest.mark.parametrize(
    ("mask", "error", "text"),
    [
        (torch.ones(2, 1, 3, 3), ShapeError, r"'gt.valid' has shape \(2, 1, 3, 3\), expected one that fits"),
        (torch.full((2, 4, 4), 255.0), RangeError, "divide a mask of 0 and 255 by 255"),
        (torch.full((2, 4, 4), 0.5), RangeError, "holds fractions, expected 0 and 1"),
    ],
)
def test_a_mask_that_is_none(seg: Make, mask: Tensor, error: type[Exception], text: str) -> None:
    loss = seg()
    loss.take_mask("gt.valid")
    with pytest.raises(error, match=text):
        loss({"seg": torch.rand(2, 1, 4, 4)}, {"gt_polygons_image": torch.rand(2, 1, 4, 4), "valid": mask})


def test_targets_that_do_not_tell(seg: Make) -> None:
    with pytest.raises(CountError, match="loss 'seg'"):
        seg(use_mixup=True).counts({"valid": torch.ones(2)})
    with pytest.raises(MissingKeyError, match=r"needs 'gt.gt_polygons_image'"):
        seg().counts({"valid": torch.ones(2)})


def weighed(seg: Make, options: dict[str, Any], dtype: torch.dtype) -> tuple[SegLoss, Tensor, dict[str, Tensor]]:
    loss = seg(tversky_focal_coef=0.3, **options)
    loss.take_mask(["gt.valid", "gt.has"], ["gt.weight", "gt.of_pixels"])
    pred = torch.empty(3, 3, 4, 4, dtype=dtype).uniform_(0.1, 0.9)
    classes = bool(options.get("n_classes"))
    gt = torch.randint(0, 3, (3, 1, 4, 4)) if classes else torch.rand(3, 3, 4, 4, dtype=dtype)
    gt[0, :, 0] = 255
    batch = {"gt_polygons_image": gt, "valid": torch.rand(3, 4, 4) < 0.6, "has": torch.tensor([1, 1, 0])}
    batch |= {"weight": torch.rand(3, dtype=dtype), "of_pixels": torch.rand(3, 1, 4, 4, dtype=dtype)}
    return loss, pred, batch


ROUTES = [{}, {"use_mixed_precision": True}, {"n_classes": 3, "gt_channel_selector": 0}]


@pytest.mark.parametrize("options", ROUTES)
def test_gradcheck_with_a_mask(seg: Make, options: dict[str, Any]) -> None:
    loss, pred, batch = weighed(seg, options, torch.float64)
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss({"seg": p}, batch)[0], pred)
    assert torch.autograd.gradgradcheck(lambda p: loss({"seg": p}, batch)[0], pred)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:FutureWarning")  # in torch 2.15
@pytest.mark.filterwarnings("ignore:Skipping serialization of")  # in torch 2.6
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("options", ROUTES)
def test_compiles_whole_with_a_mask(seg: Make, value_and_grad: Any, options: dict[str, Any]) -> None:
    loss, pred, batch = weighed(seg, options, torch.float32)
    compiled = torch.compile(loss, fullgraph=True)
    found, expected = (value_and_grad(lambda p, gt, f=f: f({"seg": p}, gt), pred, batch) for f in (compiled, loss))
    for mine, other in zip(found, expected, strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("options", ROUTES)
def test_compiles_with_a_mask_of_any_size(seg: Make, value_and_grad: Any, options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    loss, pred, batch = weighed(seg, options, torch.float32)
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    found, expected = (value_and_grad(lambda p, gt, f=f: f({"seg": p}, gt), pred, batch) for f in (compiled, loss))
    for mine, other in zip(found, expected, strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-6)
    torch._dynamo.reset()


@pytest.mark.parametrize("options", ROUTES)
@pytest.mark.parametrize("masked", [False, True])
def test_counts_read_nothing_back(seg: Make, options: dict[str, Any], masked: bool) -> None:
    loss, pred, batch = weighed(seg, options, torch.float32)
    if not masked:
        loss = seg(**options)
    batch = {key: tensor.to("meta") for key, tensor in batch.items()}
    pred, means = pred.to("meta").requires_grad_(), []
    loss({"seg": pred}, batch, means=means)[0].backward()
    assert pred.grad is not None
    assert all(isinstance(c, float) or c.is_meta for c in (*loss.counts(batch), *(mean.count for mean in means)))


@pytest.mark.parametrize(("n_classes", "planes"), [(1, 2), (3, 6), (4, 8)])
def test_an_overlap_counts_the_planes_of_all_classes(n_classes: int, planes: int) -> None:
    loss = SegLoss("seg", gt_channel_selector=0, n_classes=n_classes, bce_coef=0.0, dice_coef=1.0)
    assert [float(count) for count in loss.counts({"gt_polygons_image": torch.zeros(2, 1, 4, 4)})] == [planes]
