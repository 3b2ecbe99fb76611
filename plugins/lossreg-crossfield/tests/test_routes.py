"""Formulas that are compiled, transformed, in forward mode, abstract, or without a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lossreg_crossfield import SegGrads
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from lossreg import Loss, MultiLoss

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def multi(losses: dict[str, Callable[[], Loss]]) -> MultiLoss:
    return MultiLoss([make() for make in losses.values()], [1.0] * len(losses))


@pytest.fixture
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# inductor's own; a FutureWarning in torch 2.15
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:Skipping serialization of")  # of inductor in torch 2.6
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", [pytest.param("aot_eager", marks=pytest.mark.slow), "inductor"])
def test_compiles_in_one_graph(multi: MultiLoss, batch: Any, backend: str) -> None:
    pred, gt = batch(2, 9, 16)
    compiled = torch.compile(multi, fullgraph=True, backend=backend)
    expected, found = multi(pred, gt), compiled(pred, gt)
    torch.testing.assert_close(found, expected, **CLOSE)  # the total, the values, and the fields in `extra_info`
    leaves = list(pred.values())
    found_slopes, slopes = (torch.autograd.grad(result[0], leaves) for result in (found, expected))
    torch.testing.assert_close(found_slopes, slopes, **CLOSE)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("kind", ["channels_last", "strided", "float64", "bfloat16"])
def test_compiles_other_planes(multi: MultiLoss, batch: Any, kind: str) -> None:
    pred, gt = batch(2, 9, 16, getattr(torch, kind, torch.float32) if "float" in kind else torch.float32)
    if kind == "channels_last":
        pred = {key: tensor.detach().to(memory_format=torch.channels_last) for key, tensor in pred.items()}
    if kind == "strided":
        pred = {key: tensor.detach()[..., ::2] for key, tensor in pred.items()}
        gt = {key: tensor[..., ::2] for key, tensor in gt.items()}
    leaves = [tensor.requires_grad_() for tensor in pred.values()]
    compiled = torch.compile(lambda pred, gt: multi(pred, gt)[0], fullgraph=True, backend="aot_eager")
    expected, found = multi(pred, gt)[0], compiled(pred, gt)
    close = {"rtol": 5e-2, "atol": 1e-2} if kind == "bfloat16" else CLOSE
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), **close)


@pytest.mark.usefixtures("fresh_compiler")
def test_does_not_compile_anew_between_batches_of_one_shape(multi: MultiLoss, batch: Any) -> None:
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(lambda pred, gt: multi(pred, gt)[0], fullgraph=True, backend=counter)
    for seed in range(3):
        compiled(*batch(seed=seed))
    assert counter.frame_count == 1


def test_functional_gradient(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    value = evaluate(loss, pred, gt)
    expected = torch.autograd.grad(value, list(pred.values()), allow_unused=True)
    found = torch.func.grad(lambda pred: evaluate(loss, pred, gt))({k: t.detach() for k, t in pred.items()})
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, **CLOSE)


def test_vmap_over_samples(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch(3)

    def one(pred: dict[str, Tensor], gt: dict[str, Tensor]) -> Tensor:
        return evaluate(loss, {k: t[None] for k, t in pred.items()}, {k: t[None] for k, t in gt.items()})

    torch.testing.assert_close(torch.vmap(one)(pred, gt).mean(), evaluate(loss, pred, gt), **CLOSE)
    stacked = {key: torch.stack([tensor, 2 * tensor]) for key, tensor in pred.items() if key == "crossfield"}
    found = torch.vmap(lambda field: evaluate(loss, {**pred, "crossfield": field}, gt))(stacked["crossfield"])
    torch.testing.assert_close(found[0], evaluate(loss, pred, gt), **CLOSE)


# of forward_ad itself
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
def test_forward_mode(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch(dtype=torch.float64)
    tangents = {key: torch.randn_like(tensor) for key, tensor in pred.items()}
    value = evaluate(loss, pred, gt)
    grads = torch.autograd.grad(value, list(pred.values()), allow_unused=True)
    expected = sum((g * t).sum() for g, t in zip(grads, tangents.values(), strict=True) if g is not None)
    with forward_ad.dual_level():
        dual = {key: forward_ad.make_dual(tensor.detach(), tangents[key]) for key, tensor in pred.items()}
        tangent = forward_ad.unpack_dual(evaluate(loss, dual, gt)).tangent
    if getattr(loss, "detach_grad_norm", False):
        return  # detach() lets no gradient through in reverse, and a tangent neither, in its own way
    torch.testing.assert_close(tangent, expected)


def test_reads_nothing_back_from_fake_tensors(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        pred, gt = batch()
        pred = {key: mode.from_tensor(torch.empty(tensor.shape)).requires_grad_() for key, tensor in pred.items()}
        gt = {key: mode.from_tensor(torch.empty(tensor.shape)) for key, tensor in gt.items()}
        value = evaluate(loss, pred, gt)
        value.backward()
    assert value.shape == ()


def test_reads_nothing_back_from_meta_tensors(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    pred = {key: tensor.detach().to("meta").requires_grad_() for key, tensor in pred.items()}
    value = evaluate(loss, pred, {key: tensor.to("meta") for key, tensor in gt.items()})
    value.backward()
    assert value.is_meta


def test_without_a_graph(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    with torch.no_grad():
        value = evaluate(loss, pred, gt)
    assert not value.requires_grad
    torch.testing.assert_close(value, evaluate(loss, pred, gt).detach())
    with torch.inference_mode():
        torch.testing.assert_close(evaluate(loss, pred, gt), value)


def test_backward_twice(loss: Loss, batch: Any, evaluate: Callable[..., Tensor]) -> None:
    pred, gt = batch()
    value = evaluate(loss, pred, gt)
    first = torch.autograd.grad(value, list(pred.values()), retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(value, list(pred.values()), allow_unused=True)
    assert all((a is None and b is None) or a.equal(b) for a, b in zip(first, second, strict=True))


def test_slopes_under_checkpointing(batch: Any) -> None:
    pred, _ = batch()
    whole, _ = SegGrads()(pred, {})
    kept = torch.utils.checkpoint.checkpoint(
        lambda seg: SegGrads()({"seg": seg}, {})[0]["seg_grads_normed"], pred["seg"], use_reentrant=False
    )
    torch.testing.assert_close(
        torch.autograd.grad(kept.sum(), pred["seg"]),
        torch.autograd.grad(whole["seg_grads_normed"].sum(), pred["seg"]),
    )
