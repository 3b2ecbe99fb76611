"""The fast kernel equals the formula, saves less, and falls back to the formula where necessary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lossreg_seg import SegLoss
from lossreg_seg.formulas import Binary, Coefficients, CrossEntropy, binary_formula
from lossreg_seg.kernel import BinaryLoss
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

Make = Callable[..., SegLoss]
ValueAndGrad = Callable[..., tuple[Tensor, Tensor]]

coefficients = st.tuples(st.sampled_from([0.0, 0.7]), st.sampled_from([0.0, 0.4]), st.sampled_from([0.0, 0.3]))
# Probabilities with the ends of their range, and what lies beside them.
ENDS = [0.0, 1.0, 1e-45, 1e-38, 1e-20, 1e-12, 1e-7, 0.5, 1 - 2**-24, 1 - 1e-5]


def total(parts: Any) -> Tensor:
    entropy, overlap, _, _ = parts
    return entropy + overlap


def oracle(pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary) -> tuple[Tensor, Tensor]:
    leaf = pred.detach().double().requires_grad_()
    value = total(binary_formula(leaf, target, None if weights is None else weights.double(), task))
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def kernel(pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary) -> tuple[Tensor, Tensor]:
    leaf = pred.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    assert BinaryLoss.applies(leaf, target, weights)
    value = total(BinaryLoss.apply(leaf, target, weights, task))
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    coefs=coefficients,
    logits=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    hard=st.booleans(),
    weighted=st.booleans(),
    ignore=st.sampled_from([255, 0, None]),
    elsewhere=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_equals_the_formula_in_float64(
    as_elsewhere: Callable[..., Any],
    seed: int,
    shape: tuple[int, ...],
    coefs: tuple[float, float, float],
    logits: bool,
    smoothing: float,
    ignored: float,
    hard: bool,
    weighted: bool,
    ignore: int | None,
    elsewhere: bool,
) -> None:
    torch.manual_seed(seed)
    pred = 4 * torch.randn(shape) if logits else torch.rand(shape)
    target = torch.rand(shape).round() if hard else torch.rand(shape)
    if ignore is not None:
        target[torch.rand(shape) < ignored] = ignore
    weights = 3 * torch.rand(shape) if weighted else None
    task = Binary(Coefficients(*coefs), logits, smoothing, ignore)
    with as_elsewhere(elsewhere):
        value, grad = kernel(pred, target, weights, task)
    expected, slope = oracle(pred, target, weights, task)
    assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    assert_close(grad.double(), slope, rtol=1e-5, atol=1e-6)


@given(
    p=st.lists(st.sampled_from(ENDS), min_size=4, max_size=4),
    t=st.lists(st.sampled_from([0.0, 1.0, 0.5, 1e-6]), min_size=4, max_size=4),
)
@settings(deadline=None, max_examples=200)
def test_cross_entropy_follows_torch_to_the_ends_of_the_range(p: list[float], t: list[float]) -> None:
    leaf, target = torch.tensor(p, requires_grad=True), torch.tensor(t)
    want = F.binary_cross_entropy(leaf, target)
    want.backward()
    shape = (1, 1, 2, 2)
    value, grad = kernel(leaf.view(shape), target.view(shape), None, Binary(Coefficients(1, 0, 0)))
    assert_close(value, want.detach(), rtol=1e-5, atol=1e-6)
    assert_close(grad.flatten(), leaf.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_formulas_cross_entropy_is_that_of_torch(dtype: torch.dtype) -> None:
    p, t = torch.cartesian_prod(torch.tensor(ENDS), torch.tensor([0.0, 1.0, 0.5, 1e-6])).to(dtype).unbind(1)
    mine, torchs = ((p.clone().requires_grad_(), t.clone().requires_grad_()) for _ in range(2))
    value, want = CrossEntropy.apply(*mine), F.binary_cross_entropy(*torchs, reduction="none")
    assert_close(value, want, rtol=1e-5, atol=1e-6)
    by_p, by_t = torch.autograd.grad(value.sum(), mine)
    want_by_p, want_by_t = torch.autograd.grad(want.sum(), torchs)
    assert_close(by_p, want_by_p, rtol=1e-5, atol=1e-6)
    assert_close(by_t, want_by_t.clamp(-100, 100), rtol=1e-5, atol=1e-6)  # torch's does not end with its logarithms


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("compute", ["kernel", "formula"])
@pytest.mark.parametrize("given_", ["perfect", "worst", "empty", "full", "saturated"])
def test_value_and_gradient_are_finite_at_the_extremes(logits: bool, compute: str, given_: str) -> None:
    half = torch.rand(2, 2, 16, 16).round()
    pred, target = {
        "perfect": (half, half),
        "worst": (1 - half, half),
        "empty": (torch.zeros_like(half), torch.zeros_like(half)),
        "full": (torch.ones_like(half), torch.ones_like(half)),
        "saturated": (half, torch.zeros_like(half)),
    }[given_]
    pred = (2 * pred - 1) * 200 if logits else pred
    task = Binary(Coefficients(0.5, 0.5, 0.5), logits)
    function: Any = kernel if compute == "kernel" else oracle
    value, grad = function(pred, target, None, task)
    assert value.isfinite()
    assert grad.isfinite().all()
    if given_ in ("perfect", "empty", "full"):
        assert value < 1e-6


@pytest.mark.parametrize("miss", [0.3, 0.06, 0.05, 1e-2, 1e-4, 1e-6])
def test_tversky_keeps_its_digits_however_near_a_perfect_prediction(miss: float) -> None:
    # Differences of sum p, sum t and TP would lose them: the fourth root is steep.
    target = torch.rand(1, 1, 256, 256).round()
    pred = (target - miss).abs()
    task = Binary(Coefficients(0, 0, 1))
    for mine, other in zip(kernel(pred, target, None, task), oracle(pred, target, None, task), strict=True):
        assert_close(mine.double(), other, rtol=2e-5, atol=0)


@pytest.mark.parametrize("confidence", [0.01, 1.0, 4.0, 12.0, 30.0, 120.0])
@pytest.mark.parametrize("wrong", [0.0, 1e-4, 0.1])
def test_cross_entropy_on_logits_keeps_its_digits(confidence: float, wrong: float) -> None:
    target = torch.rand(1, 2, 128, 128).round()
    logits = (2 * target - 1) * confidence * torch.where(torch.rand_like(target) < wrong, -1, 1)
    task = Binary(Coefficients(1, 0, 0), True)
    for mine, other in zip(kernel(logits, target, None, task), oracle(logits, target, None, task), strict=True):
        assert_close(mine.double(), other, rtol=1e-5, atol=5e-7)


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck(logits: bool, weighted: bool) -> None:
    pred = torch.empty(2, 2, 3, 3, dtype=torch.float64).uniform_(0.1, 0.9).requires_grad_()
    target = torch.rand(2, 2, 3, 3, dtype=torch.float64)
    target[0, 0, 0] = 255
    weights = torch.rand(2, 2, 3, 3, dtype=torch.float64) if weighted else None
    task = Binary(Coefficients(0.5, 0.4, 0.3), logits, 0.1, 255)
    assert torch.autograd.gradcheck(lambda p: BinaryLoss.apply(p, target, weights, task)[:2], pred)
    assert torch.autograd.gradgradcheck(lambda p: BinaryLoss.apply(p, target, weights, task)[:2], pred)


def test_several_blocks_and_what_only_a_later_one_holds(seg: Make, textbook: Callable[..., Tensor]) -> None:
    p, t = torch.rand(1, 2, 640, 640), torch.rand(1, 2, 640, 640).round()
    assert_close(seg()(p, t)[0].double(), textbook(p, t), rtol=1e-6, atol=0)
    t[0, 1, -1] = 0.25  # the last block alone is soft
    assert_close(seg()(p, t)[0].double(), textbook(p, t), rtol=1e-6, atol=0)
    t[:, :, -100:] = 255  # the last block alone ignores
    assert_close(
        seg(dice_coef=0.0)(p, t)[0].double(),
        textbook(p[:, :, :-100], t[:, :, :-100], dice=0.0),
        rtol=1e-6,
        atol=0,
    )


@pytest.mark.parametrize("threads", [(1, 2), (2, 1)])
def test_the_backward_may_have_other_threads_than_the_forward(seg: Make, threads: tuple[int, int]) -> None:
    p, t = torch.rand(4, 2, 256, 256, requires_grad=True), torch.rand(4, 2, 256, 256).round()
    t[-1] = 0.25
    (want,) = torch.autograd.grad(seg()(p, t)[0], p)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads[0])
        value, _ = seg()(p, t)
        torch.set_num_threads(threads[1])
        assert_close(torch.autograd.grad(value, p)[0], want)
    finally:
        torch.set_num_threads(before)


def test_a_value_out_of_range_in_a_later_block_is_found(seg: Make) -> None:
    p, t = torch.rand(1, 2, 640, 640), torch.rand(1, 2, 640, 640).round()
    wrong = p.clone()
    wrong[0, 1, -1, -1] = 1.5
    with pytest.raises(ValueError, match=r"'pred.seg' holds values from .* to 1.5"):
        seg()(wrong, t)
    t[0, 1, -1, -1] = -2
    with pytest.raises(ValueError, match=r"'gt.gt_polygons_image' holds values from -2 to 1"):
        seg()(p, t)


@pytest.mark.parametrize("soft", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("wrong", [-1e-6, 1 + 1e-6, 5.0, torch.nan])
@pytest.mark.parametrize("coefs", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_probability_out_of_range_gets_through(
    seg: Make, as_elsewhere: Callable[..., Any], elsewhere: bool, soft: float, wrong: float, coefs: tuple[float, float]
) -> None:
    p, t = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8).round()
    p[0, 0, 3, 3], t[0, 0, 3, 3] = wrong, soft
    with as_elsewhere(elsewhere), pytest.raises(ValueError, match=r"'pred.seg' holds values from .* use_mixed_prec"):
        seg(bce_coef=coefs[0], dice_coef=coefs[1])(p, t)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_an_ignored_prediction_need_not_be_finite(seg: Make, value_and_grad: ValueAndGrad, value: float) -> None:
    z, t = torch.randn(1, 1, 8, 8), torch.rand(1, 1, 8, 8).round()
    t[0, 0, 3, 3] = 255
    want = value_and_grad(seg(use_mixed_precision=True), z, t)
    z[0, 0, 3, 3] = value
    for mine, other in zip(value_and_grad(seg(use_mixed_precision=True), z, t), want, strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.mT.contiguous().mT,
        lambda x: torch.stack([x, x], dim=1)[:, 0],
        lambda x: x.flip(0).flip(0),
    ],
)
def test_any_layout(layout: Callable[[Tensor], Tensor]) -> None:
    pred, target = torch.rand(2, 3, 9, 11), torch.rand(2, 3, 9, 11).round()
    task = Binary(Coefficients(0.5, 0.5, 0.5))
    want = kernel(pred, target, None, task)
    for p, t in ((layout(pred), target), (pred, layout(target)), (layout(pred), layout(target))):
        for mine, other in zip(kernel(p, t, None, task), want, strict=True):
            assert_close(mine, other)


# --- memory and precision -------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
def test_nothing_is_saved_but_inputs_and_sums_of_planes(seg: Make, logits: bool) -> None:
    p, t = torch.rand(2, 3, 64, 64, requires_grad=True), torch.rand(2, 3, 64, 64).round()
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        seg(tversky_focal_coef=0.3, use_mixed_precision=logits)(p, t)
    beyond = [x for x in saved if x.data_ptr() not in (p.data_ptr(), t.data_ptr())]
    assert sum(x.numel() for x in beyond) <= 4 * 2 * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("logits", [False, True])
def test_half_precision_is_summed_in_float32(
    seg: Make, value_and_grad: ValueAndGrad, dtype: torch.dtype, logits: bool
) -> None:
    # A float16 sum would overflow at 65504 pixels, a bfloat16 one stand still at 256.
    p = torch.rand(1, 1, 1024, 1024).clamp(0.01, 0.99).to(dtype)
    t = torch.ones(1, 1, 1024, 1024, dtype=dtype)
    loss = seg(tversky_focal_coef=0.3, use_mixed_precision=logits)
    value, grad = value_and_grad(loss, p, t)
    want, slope = value_and_grad(loss, p.double(), t.double())
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    assert_close(value.double(), want, rtol=1e-5, atol=1e-6)
    assert_close(grad.double(), slope, rtol=1e-2, atol=1e-7)


def test_autocast_changes_nothing(seg: Make) -> None:
    p, t = torch.rand(1, 2, 64, 64), torch.rand(1, 2, 64, 64).round()
    for options in ({}, {"use_mixed_precision": True}, {"n_classes": 3, "gt_channel_selector": 0}):
        pred = torch.randn(1, 3, 64, 64) if options.get("n_classes") else p
        gt = t[:, :1].long() if options.get("n_classes") else t
        want = seg(**options)(pred, gt)[0]
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(seg(**options)(pred, gt)[0], want, rtol=0, atol=0)


# --- where the formula is used -------------------------------------------------------------------


def compiles(test: Callable[..., None]) -> Callable[..., None]:
    """Let a test pass although the compiler itself does what torch warns of."""
    for warning in (
        ".torch.jit.script_method. is deprecated:DeprecationWarning",
        ".torch.jit.script_method. is deprecated:FutureWarning",  # in torch 2.15
        ".*autograd.function.Function.* should not be instantiated:DeprecationWarning",
        "Skipping serialization of",  # in torch 2.6
    ):
        test = pytest.mark.filterwarnings(f"ignore:{warning}")(test)
    return test


@compiles
@pytest.mark.parametrize("options", [{}, {"use_mixed_precision": True}, {"n_classes": 3, "gt_channel_selector": 0}])
def test_compiles_whole(seg: Make, value_and_grad: ValueAndGrad, options: dict[str, Any]) -> None:
    loss = seg(tversky_focal_coef=0.3, use_label_smooth=True, smooth_factor=0.1, **options)
    pred, gt = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16).round()
    gt = torch.randint(0, 3, (2, 1, 16, 16)) if options.get("n_classes") else gt
    compiled = torch.compile(loss, fullgraph=True)
    for mine, other in zip(value_and_grad(compiled, pred, gt), value_and_grad(loss, pred, gt), strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-6)


@compiles
@pytest.mark.parametrize("wrong", [-0.5, 1.5, torch.nan])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_a_probability_out_of_range_makes_a_compiled_value_nan(seg: Make, wrong: float, truth: float) -> None:
    # compiled code does not look at values
    p, t = torch.rand(2, 1, 8, 8).requires_grad_(), torch.rand(2, 1, 8, 8).round()
    compiled = torch.compile(seg(), fullgraph=True)
    assert compiled(p, t)[0].isfinite()
    with torch.no_grad():
        p[1, 0, 3, 3], t[1, 0, 3, 3] = wrong, truth
    assert compiled(p, t)[0].isnan()


class NoHostReads(TorchDispatchMode):
    """Refuse every operation that reads a value back."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            raise AssertionError(f"{func} reads a value back")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"use_mixed_precision": True}, {"n_classes": 3}, {"use_mixup": True}])
@pytest.mark.parametrize("where", ["meta", "fake", "cpu"])
def test_no_value_is_read_back(seg: Make, options: dict[str, Any], where: str) -> None:
    def run() -> None:
        device = "meta" if where == "meta" else "cpu"
        pred = torch.rand(2, 3, 8, 8, device=device, requires_grad=True)
        gt = torch.rand(2, 3, 8, 8, device=device)
        batch = {"gt_polygons_image": gt, "seg_loss_weights": torch.rand(2, 3, 8, 8, device=device)}
        if options.get("use_mixup"):
            batch |= {"mixup_y_a": gt, "mixup_y_b": gt, "mixup_lam": torch.rand((), device=device)}
        loss = seg(tversky_focal_coef=0.2, **options).to(device)
        value, _ = loss({"seg": pred}, batch)
        value.backward()
        assert value.shape == ()
        assert pred.grad is not None

    if where == "fake":
        with FakeTensorMode():
            run()
    else:
        with NoHostReads():
            run()


@pytest.mark.parametrize("ignored", [None, 255, 0])
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_reads_nothing_elsewhere_than_on_the_cpu(
    ignored: int | None, logits: bool, dtype: torch.dtype
) -> None:
    pred = torch.empty(2, 3, 8, 8, device="meta", dtype=dtype, requires_grad=True)
    target, weights = torch.empty(2, 2, 3, 8, 8, device="meta")
    task = Binary(Coefficients(0.5, 0.5, 0.2), logits, 0.1, ignored)
    value = total(BinaryLoss.apply(pred, target, weights, task))
    value.backward()
    assert value.is_meta
    assert pred.grad is not None
    assert pred.grad.dtype == dtype


def test_functional_transforms(seg: Make) -> None:
    loss = seg(tversky_focal_coef=0.3)
    p, t = torch.rand(3, 1, 2, 5, 5), torch.rand(3, 1, 2, 5, 5).round()
    one_by_one = torch.stack([loss(a, b)[0] for a, b in zip(p, t, strict=True)])
    assert_close(torch.vmap(lambda a, b: loss(a, b)[0])(p, t), one_by_one)
    slope = torch.func.grad(lambda a: loss(a, t[0])[0])(p[0])
    leaf = p[0].clone().requires_grad_()
    loss(leaf, t[0])[0].backward()
    assert_close(slope, leaf.grad)
    called = torch.func.functional_call(loss, dict(loss.named_buffers()), (p[0], t[0]))
    assert_close(called[0], one_by_one[0])


@pytest.mark.parametrize("logits", [False, True])
def test_a_target_that_learns_gets_its_gradient(seg: Make, logits: bool) -> None:
    p, t = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4, requires_grad=True)
    seg(use_mixed_precision=logits)(3 * p if logits else p, t)[0].backward()
    assert t.grad is not None
    assert t.grad.any()


def test_second_derivative_is_that_of_the_formula(seg: Make) -> None:
    p = torch.empty(1, 2, 4, 4, dtype=torch.float64).uniform_(0.2, 0.8).requires_grad_()
    t = torch.rand(1, 2, 4, 4).round()
    hessian = torch.autograd.functional.hessian(lambda p: seg()(p, t)[0], p.detach())
    task = Binary(Coefficients(0.5, 0.5, 0.0), ignore_index=255)
    formula = torch.autograd.functional.hessian(lambda p: total(binary_formula(p, t, None, task)), p.detach())
    assert_close(hessian, formula)
