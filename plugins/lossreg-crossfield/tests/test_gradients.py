"""Analytic gradients agree with finite differences, the formulas and the textbook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lossreg_crossfield import analytic
from lossreg_crossfield.analytic import Formula
from lossreg_crossfield.fields import Alignment, EdgeInterior, Slopes, Smoothness
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

SHAPES = [(2, 4, 5), (1, 1, 1), (1, 1, 6), (1, 6, 1), (2, 2, 2)]


def random(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def inputs(n: int, height: int, width: int) -> dict[str, tuple[Formula, list[Tensor]]]:
    size = (height, width)
    field, seg = random(n, 4, *size), random(n, 3, *size, seed=1)
    direction, weight = random(n, 2, *size, seed=2), random(n, *size, seed=3)
    return {
        "align": (Alignment(), [field, direction, weight]),
        "turned": (Alignment(turned=True), [field, direction, weight]),
        "coupling": (Alignment(channel=1), [field, random(n, 3, 2, *size, seed=4), random(n, 3, *size, seed=5)]),
        "smooth": (Smoothness(), [field, random(n, 1, *size, seed=6).detach().sigmoid().requires_grad_()]),
        "edge_interior": (EdgeInterior(), [seg, random(n, 3, *size, seed=7)]),
        "slopes": (Slopes(), [seg]),
    }


NAMES = list(inputs(1, 1, 1))


def finite_slopes(formula: Formula, tensors: list[Tensor]) -> bool:
    """Say whether the formula has a derivative there: a plane of one pixel is flat in every direction."""
    return not isinstance(formula, Slopes) or bool((formula.value(*tensors)[1] > 0).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str, shape: tuple[int, int, int]) -> None:
    formula, tensors = inputs(*shape)[name]
    if finite_slopes(formula, tensors):
        assert gradcheck(formula, tensors)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name: str) -> None:
    formula, tensors = inputs(2, 3, 4)[name]
    assert gradgradcheck(formula, tensors)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_the_plain_formula(name: str, shape: tuple[int, int, int]) -> None:
    formula, tensors = inputs(*shape)[name]
    outputs, plain = formula(*tensors), formula.value(*tensors)
    slopes = [random(*out.shape, seed=9 + i, grad=False) for i, out in enumerate(plain)]
    torch.testing.assert_close(outputs, plain)
    torch.testing.assert_close(
        torch.autograd.grad(outputs, tensors, slopes), torch.autograd.grad(plain, tensors, slopes)
    )


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_samples_come_to_the_whole(name: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    formula, tensors = inputs(5, 3, 4)[name]
    whole = formula(*tensors)
    slopes = [random(*out.shape, seed=9 + i, grad=False) for i, out in enumerate(whole)]
    expected = torch.autograd.grad(whole, tensors, slopes)
    monkeypatch.setattr(analytic, "_BLOCK", samples * tensors[0][:1].numel())
    assert len(analytic.blocks(tensors[0])) == -(-5 // samples)
    found = formula(*tensors)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(torch.autograd.grad(found, tensors, slopes), expected)


@pytest.mark.parametrize("read", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_slopes_of_which_only_some_outputs_are_read(read: tuple[int, ...]) -> None:
    formula, tensors = inputs(2, 4, 5)["slopes"]
    assert gradcheck(lambda seg: tuple(formula(seg)[i] for i in read), tensors)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_gradients_that_are_needed(name: str) -> None:
    formula, tensors = inputs(2, 4, 5)[name]
    for i, tensor in enumerate(tensors):
        alone = [t if t is tensor else t.detach() for t in tensors]
        (found,) = torch.autograd.grad(sum(out.sum() for out in formula(*alone)), tensor)
        (plain,) = torch.autograd.grad(sum(out.sum() for out in formula.value(*alone)), tensor)
        torch.testing.assert_close(found, plain, msg=f"input {i}")


def test_an_input_that_is_made_of_another_counts_once() -> None:
    formula, (field, direction, _) = inputs(1, 3, 4)["align"]
    assert gradgradcheck(lambda f, z: formula(f, z, (z * z).sum(1)), (field, direction))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_the_textbook(
    losses: Any, batch: Any, evaluate: Callable[..., Tensor], textbook: Any, dtype: torch.dtype
) -> None:
    pred, gt = batch(2, 16, 17, dtype)
    exact_pred, exact_gt = batch(2, 16, 17, dtype)
    exact_pred = {key: tensor.detach().double().requires_grad_() for key, tensor in exact_pred.items()}
    exact_gt = {key: tensor.double() for key, tensor in exact_gt.items()}
    for name, make in losses.items():
        value = evaluate(make(), pred, gt)
        exact = textbook.loss(name, exact_pred, exact_gt)
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-7)
        found = torch.autograd.grad(value, list(pred.values()), allow_unused=True)
        expected = torch.autograd.grad(exact, list(exact_pred.values()), allow_unused=True)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None), name
            if one is not None:
                torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-7)


def test_nothing_but_inputs_and_signs_is_kept(losses: Any, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch(2, 32, 32)
    plane = 2 * 32 * 32 * 4
    own = {tensor.untyped_storage().data_ptr() for tensor in [*pred.values(), *gt.values()]}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        values = [evaluate(make(), pred, gt) for make in losses.values()]
    sizes = dict.fromkeys(losses, 0)
    assert len(values) == len(sizes)
    # evaluate() makes the slopes of three channels (r and z: 9 planes) for each loss, of which three read them;
    # beyond those: the tangent twice, the weight of align90, the signs of the Laplacian, and scalars
    bound = 6 * 9 * plane + 2 * 2 * plane + plane + plane + 4096
    assert sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) <= bound
