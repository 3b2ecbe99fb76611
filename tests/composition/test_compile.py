"""MultiLoss under torch.compile: one graph, however the epoch moves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss, MultiLoss, Weighting
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own modules, met by tracing


class Power(Loss):
    requires = ("pred.x",)

    def __init__(self, name: str, power: int) -> None:
        super().__init__(name)
        self.power = power

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "pred.x").pow(self.power).mean()


class Counter:
    """A backend that runs the graph as it is and counts the graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.graphs += 1
        return graph.forward


def make(weighting: Weighting | None = None, **options: Any) -> MultiLoss:
    group = MultiLoss([Power("c", 3), Power("d", 4)], [1.0, [0.0, 1.0, 3.0]], [0, 5, 10], name="g")
    return MultiLoss(
        [Power("a", 1), Power("b", 2), group],
        [[0.0, 1.0, 0.5], lambda epoch: 2.0 * epoch, 2.0],
        [0, 10, 20],
        weighting=weighting,
        **options,
    )


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


PRED, GT = {"x": torch.rand(4, 3, requires_grad=True)}, {}


@pytest.mark.parametrize(
    ("options", "graphs"),
    [({}, 1), ({"zero_weight": "skip"}, 2), ({"weighting": True}, 1)],
    ids=["keep", "skip", "weighting"],
)
def test_a_hundred_epochs_are_one_graph(options: dict[str, Any], graphs: int) -> None:
    def build() -> MultiLoss:
        return make(DWA()) if "weighting" in options else make(**options)

    backend, eager = Counter(), build()
    compiled = torch.compile(build(), fullgraph=True, backend=backend)
    for epoch in range(100):
        assert torch.allclose(compiled(PRED, GT, epoch=epoch)[0], eager(PRED, GT, epoch=epoch)[0])
    assert backend.graphs == graphs  # skip: one more where the set of zero weights changes


def test_the_backward_sees_the_coefficients_of_its_forward() -> None:
    # this backend parts forward from backward as inductor does, and needs no C++ compiler
    terms = [Power("a", 1), Power("b", 2)]
    eager, inner = (MultiLoss(copy.deepcopy(terms), [1.0, 1.0], weighting=CoV()) for _ in range(2))
    compiled = torch.compile(inner, fullgraph=True, backend="aot_eager_decomp_partition")
    for epoch in range(4):
        x = (1 + epoch) * torch.rand(4, 3)
        slopes = []
        for criterion in (eager, compiled):
            leaf = x.clone().requires_grad_()
            criterion({"x": leaf}, GT, epoch=epoch)[0].backward()
            slopes.append(leaf.grad)
        torch.testing.assert_close(slopes[1], slopes[0])


def test_the_modules_own_compile_is_one_graph_too() -> None:
    backend, eager, compiled = Counter(), make(), make()
    compiled.compile(fullgraph=True, backend=backend)
    for epoch in range(20):
        assert torch.allclose(compiled(PRED, GT, epoch=epoch)[0], eager(PRED, GT, epoch=epoch)[0])
    assert backend.graphs == 1


def test_inside_a_larger_compiled_function_the_epoch_is_a_variable_of_the_graph() -> None:
    backend, eager, inner = Counter(), make(), make()

    @torch.compile(fullgraph=True, backend=backend)
    def step(pred: dict[str, Tensor], epoch: int) -> Tensor:
        return inner(pred, {}, epoch=epoch)[0] * 2

    for epoch in range(20):
        assert torch.allclose(step(PRED, epoch), 2 * eager(PRED, GT, epoch=epoch)[0])
    assert backend.graphs == 2  # the first number is taken for a constant, every other for a variable


def test_norms_are_read_by_the_compiled_graph() -> None:
    multi_loss = make()
    compiled = torch.compile(multi_loss, fullgraph=True, backend="eager")
    before = compiled(PRED, GT, epoch=3)[0]
    multi_loss.update_norm(PRED, GT, 4)
    after = compiled(PRED, GT, epoch=3)[0]
    assert not torch.allclose(before, after)
    assert torch.allclose(after, multi_loss(PRED, GT, epoch=3)[0])


def test_no_value_is_read_in_a_forward() -> None:
    with torch.device("meta"):
        multi_loss = make()
    pred = {"x": torch.empty(4, 3, device="meta", requires_grad=True)}
    result, values, _ = multi_loss(pred, {}, epoch=3)
    assert result.is_meta
    assert all(value.is_meta for value in values.values())
