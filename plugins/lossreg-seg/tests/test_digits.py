"""The cross-entropy of SegLoss keeps its precision for every logit and probability, compared with float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lossreg_seg import SegLoss
from lossreg_seg.formulas import Binary, Coefficients, CrossEntropy, binary_formula, cross_entropy_of_logits
from scipy.special import log_expit, xlog1py, xlogy
from torch import Tensor
from torch.testing import assert_close

Make = Callable[..., SegLoss]
ValueAndGrad = Callable[..., tuple[Tensor, Tensor]]

# What the compiler itself does and torch warns of.
ignore_scripts = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning",
    "ignore:.torch.jit.script_method. is deprecated:FutureWarning",  # in torch 2.15
)
ignore_functions = pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not:DeprecationWarning")
ignore_cache = pytest.mark.filterwarnings("ignore:Skipping serialization of")  # of inductor in torch 2.6

TARGETS = (0.0, 1.0, 1e-3, 0.3, 0.999)
SIZES = torch.cat([torch.logspace(-2, math.log10(80), 80), torch.tensor([11.5, 100.0, 120.0])])
LOGITS = torch.cat([-SIZES.flip(0), torch.zeros(1), SIZES])
SMALL = torch.logspace(-12, -0.31, 60)
PROBABILITIES = torch.cat([torch.tensor([1e-7]), SMALL, 1 - SMALL[SMALL > 1e-7]])
TINY = 1e-37  # below, float32 has fewer digits


def of_logits(z: Tensor, t: float) -> Tensor:
    """Return the cross-entropy in float64, by scipy."""
    exact = z.double().numpy()
    return torch.from_numpy(-(t * log_expit(exact) + (1 - t) * log_expit(-exact)))


def of_probabilities(p: Tensor, t: float) -> Tensor:
    exact = p.double().numpy()
    return torch.from_numpy(-(xlogy(t, exact) + xlog1py(1 - t, -exact)))


def as_given(t: float) -> float:
    """Return a target rounded to float32."""
    return float(np.float32(t))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t", TARGETS)
def test_the_loss_of_one_logit(seg: Make, dtype: torch.dtype, t: float) -> None:
    loss = seg(bce_coef=1.0, dice_coef=0.0, use_mixed_precision=True)
    given = LOGITS.to(dtype)
    found = torch.stack([loss(z.reshape(1, 1, 1, 1), torch.full((1, 1, 1, 1), t))[0] for z in given])
    assert_close(found.double(), of_logits(given, as_given(t)), rtol=1e-5, atol=TINY)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_a_weight_makes_no_digit_vanish(seg: Make, t: float) -> None:
    loss = seg(bce_coef=1.0, dice_coef=0.0, use_mixed_precision=True)
    z = torch.full((1, 1, 64, 64), 11.5 * (2 * t - 1))
    gt = {"gt_polygons_image": torch.full_like(z, t), "seg_loss_weights": torch.full_like(z, 20.0)}
    assert loss({"seg": z}, gt)[0].item() == pytest.approx(20 * math.log1p(math.exp(-11.5)), rel=1e-5)


def test_easy_pixels_keep_their_digits_beside_hard_ones(seg: Make) -> None:
    # what is small is the weighted share of a pixel, and its weight makes up for it
    z = torch.tensor([11.5, -2.0]).repeat(1, 1, 8, 4)
    weights = torch.tensor([1e4, 1e-4]).repeat(1, 1, 8, 4)
    loss = seg(bce_coef=1.0, dice_coef=0.0, use_mixed_precision=True)
    found = loss({"seg": z}, {"gt_polygons_image": torch.ones_like(z), "seg_loss_weights": weights})[0]
    expected = (1e4 * math.log1p(math.exp(-11.5)) + 1e-4 * math.log1p(math.exp(2.0))) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("t", TARGETS)
def test_the_formula_of_logits(t: float) -> None:
    found = cross_entropy_of_logits(LOGITS, torch.full_like(LOGITS, t))
    assert_close(found.double(), of_logits(LOGITS, as_given(t)), rtol=1e-5, atol=TINY)


@pytest.mark.parametrize("t", TARGETS)
def test_the_gradient_of_the_formula_of_logits(t: float) -> None:
    z = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy_of_logits(z, torch.full_like(z, t)).sum(), z, create_graph=True)
    p = torch.sigmoid(LOGITS.double())
    assert_close(slope.detach().double(), p - as_given(t), rtol=1e-5, atol=1e-7)
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    assert_close(curvature.double(), p * (1 - p), rtol=1e-5, atol=1e-7)


@ignore_scripts
@ignore_functions
@ignore_cache
def test_the_compiled_loss_of_logits() -> None:
    t = torch.tensor(TARGETS)[:, None].expand(-1, len(LOGITS)).reshape(1, 1, len(TARGETS), -1)
    z = LOGITS.expand_as(t).contiguous()
    compiled = torch.compile(cross_entropy_of_logits, fullgraph=True)(z, t)
    expected = torch.stack([of_logits(LOGITS, as_given(number)) for number in TARGETS])
    assert_close(compiled[0, 0].double(), expected, rtol=1e-5, atol=TINY)


@pytest.mark.parametrize("compute", ["kernel", "formula"])
def test_logits_of_infinity_that_are_right_add_nothing(seg: Make, value_and_grad: ValueAndGrad, compute: str) -> None:
    z = torch.tensor([-torch.inf, torch.inf, 0.0, 1.0]).reshape(1, 1, 2, 2)
    t = torch.tensor([0.0, 1.0, 0.0, 0.3]).reshape(1, 1, 2, 2)
    task = Binary(Coefficients(1.0, 0.0, 0.0), from_logits=True)
    loss = seg(bce_coef=1.0, dice_coef=0.0, use_mixed_precision=True)

    def formula(z: Tensor, t: Tensor) -> Tensor:
        return binary_formula(z, t, None, task).entropy

    value, grad = value_and_grad(loss if compute == "kernel" else formula, z, t)
    p = 1 / (1 + math.exp(-1))
    expected = (math.log(2) - 0.3 * math.log(p) - 0.7 * math.log(1 - p)) / 4
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert_close(grad.flatten(), torch.tensor([0.0, 0.0, 0.5, p - 0.3]) / 4)


# --- probabilities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("t", TARGETS)
def test_the_loss_of_one_probability(seg: Make, t: float) -> None:
    loss = seg(bce_coef=1.0, dice_coef=0.0)
    found = torch.stack([loss(p.reshape(1, 1, 1, 1), torch.full((1, 1, 1, 1), t))[0] for p in PROBABILITIES])
    assert_close(found.double(), of_probabilities(PROBABILITIES, as_given(t)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("t", TARGETS)
def test_the_formula_of_probabilities(t: float) -> None:
    found = CrossEntropy.apply(PROBABILITIES, torch.full_like(PROBABILITIES, t))
    assert_close(found.double(), of_probabilities(PROBABILITIES, as_given(t)), rtol=1e-5, atol=0)


@ignore_scripts
@ignore_functions
@ignore_cache
def test_the_compiled_loss_of_probabilities() -> None:
    t = torch.tensor(TARGETS)[:, None].expand(-1, len(PROBABILITIES)).contiguous()
    p = PROBABILITIES.expand_as(t).contiguous()
    compiled = torch.compile(CrossEntropy.apply, fullgraph=True)(p, t)
    expected = torch.stack([of_probabilities(PROBABILITIES, as_given(number)) for number in TARGETS])
    assert_close(compiled.double(), expected, rtol=1e-5, atol=0)
