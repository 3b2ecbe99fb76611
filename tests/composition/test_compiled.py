"""MultiLoss under torch.compile: one graph, however the epoch moves."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import lossreg
from lossreg import Loss, MultiLoss, Weighting
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import CompilerMissingWarning

# of torch's own modules, met by tracing
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")


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


def make(weighting: Weighting | None = None, *, grouped: bool = True, **options: Any) -> MultiLoss:
    if not grouped:
        terms = [Power("a", 1), Power("b", 2)]
        return MultiLoss(terms, [[0.0, 1.0, 0.5], 2.0], [0, 10, 20], weighting=weighting, **options)
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


@pytest.mark.parametrize(("zero_weight", "graphs"), [("keep", 1), ("skip", 2)])
def test_thirty_epochs_are_one_graph(zero_weight: str, graphs: int) -> None:
    backend, eager = Counter(), make(zero_weight=zero_weight)
    compiled = torch.compile(make(zero_weight=zero_weight), fullgraph=True, backend=backend)
    for epoch in range(30):
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


def test_neither_epochs_nor_batches_of_one_shape_compile_again() -> None:
    eager, compiled = make(DWA()), make(DWA())
    compiled.compile(fullgraph=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for epoch in range(30):
        pred = {"x": torch.rand(4, 3, requires_grad=True)}
        with torch._dynamo.config.patch(error_on_recompile=True):
            total, values, _ = compiled(pred, GT, epoch=epoch)
        (slope,) = torch.autograd.grad(total, pred["x"])
        expected, expected_values, _ = eager(pred, GT, epoch=epoch)
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(values, expected_values)
        torch.testing.assert_close(slope, torch.autograd.grad(expected, pred["x"])[0])
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("weighting", "grouped"),
    [(DWA, True), (CoV, False), (lambda: ReLoBRaLo(0.5, 0.5), False), (SoftAdapt, False), (Uncertainty, False)],
    ids=["DWA", "CoV", "ReLoBRaLo", "SoftAdapt", "Uncertainty"],
)
def test_the_backward_sees_the_state_of_its_forward(weighting: Any, grouped: bool) -> None:
    eager, compiled = make(weighting(), grouped=grouped), make(weighting(), grouped=grouped)
    compiled.compile(fullgraph=True, backend="aot_eager_decomp_partition")
    for epoch in range(4):
        pred = {"x": torch.rand(4, 3, requires_grad=True)}
        slopes = [torch.autograd.grad(m(pred, GT, epoch=epoch)[0], pred["x"])[0] for m in (eager, compiled)]
        torch.testing.assert_close(*slopes)
    assert list(compiled.state_dict()) == list(eager.state_dict())
    torch.testing.assert_close(compiled.state_dict(), eager.state_dict())
    eager.load_state_dict(compiled.state_dict())


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_of_a_compiled_loss_runs_as_it_is(way: Any) -> None:
    compiled = MultiLoss([Power("a", 1), Power("b", 2)], [[0.0, 1.0], 2.0], [0, 10])
    backend = Counter()
    compiled.compile(backend=backend)
    expected = compiled(PRED, GT, epoch=4)[0]
    assert torch.allclose(way(compiled)(PRED, GT, epoch=4)[0], expected)
    assert backend.graphs == 1


def test_one_that_compiles_itself_can_be_part_of_a_larger_graph() -> None:
    eager, inner = make(grouped=False), make(grouped=False)
    inner.compile(backend=Counter())
    step = torch.compile(lambda pred, epoch: inner(pred, {}, epoch=epoch)[0], fullgraph=True, backend=Counter())
    for epoch in range(3):
        assert torch.allclose(step(PRED, epoch), eager(PRED, GT, epoch=epoch)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_nonfinite": "raise"}, "MultiLoss 'multi': on_nonfinite='raise' reads values in the forward"),
        ({"track_norms": "running"}, "MultiLoss 'multi': track_norms='running' writes norms in the forward"),
        ({"weighting": GradNorm()}, "MultiLoss 'multi': GradNorm takes gradients in the forward"),
    ],
)
def test_what_looks_at_values_in_the_forward_is_not_compiled(options: dict[str, Any], message: str) -> None:
    multi_loss = make(**options)
    with pytest.raises(ValueError, match=message):
        multi_loss.compile()
    group = MultiLoss([Power("e", 1)], [1.0], name="h")
    with pytest.raises(ValueError, match=message.partition("'multi': ")[2]):
        MultiLoss([group, multi_loss], [1.0, 1.0]).compile()


def test_other_errors_of_the_compiler_are_raised() -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        raise RuntimeError("no such instruction")

    multi_loss = make(grouped=False)
    multi_loss.compile(backend=broken)
    with pytest.raises(RuntimeError, match="no such instruction"):
        multi_loss(PRED, GT, epoch=3)


def test_an_error_of_a_loss_is_raised() -> None:
    multi_loss = make(grouped=False)
    multi_loss.compile(backend=Counter())
    with pytest.raises(lossreg.errors.MissingKeyError, match=r"needs 'pred\.x'"):
        multi_loss({"y": PRED["x"]}, GT, epoch=3)


def _says_that_there_is_no_compiler(line: str) -> None:
    assert line.startswith("MultiLoss 'multi' is not compiled and runs as it is, with the same values: ")
    assert "No working C++ compiler found" in line
    assert line.endswith("Install a compiler (on Linux g++, for a GPU also triton), or leave out `compile`")


def test_without_a_compiler_it_warns_once_and_runs_as_it_is(tmp_path: Path) -> None:
    def looks_for_a_compiler(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        from torch._inductor.cpp_builder import cpp_compiler_search

        return cpp_compiler_search((str(tmp_path / "g++"),))

    eager, compiled = make(grouped=False), make(grouped=False)
    compiled.compile(backend=looks_for_a_compiler)
    with pytest.warns(CompilerMissingWarning) as caught:
        found = [compiled(PRED, GT, epoch=epoch)[0] for epoch in range(3)]
    assert all(torch.equal(value, eager(PRED, GT, epoch=epoch)[0]) for epoch, value in enumerate(found))
    (warning,) = [warning for warning in caught if warning.category is CompilerMissingWarning]
    _says_that_there_is_no_compiler(str(warning.message))


WITHOUT_COMPILER = """
import warnings, torch
from lossreg import LossWrapper, MultiLoss
from lossreg.errors import CompilerMissingWarning

losses = [LossWrapper(torch.nn.MSELoss(), "mse"), LossWrapper(torch.nn.L1Loss(), "l1")]
eager, compiled = (MultiLoss(losses, [[0.0, 1.0], 2.0], [0, 10]) for _ in range(2))
compiled.compile()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", CompilerMissingWarning)
    for epoch in range(3):
        pred, gt = torch.rand(4, 3, requires_grad=True), torch.rand(4, 3)
        total = compiled(pred, gt, epoch=epoch)[0]
        total.backward()
        assert torch.equal(total, eager(pred, gt, epoch=epoch)[0])
print(*(w.message for w in caught if w.category is CompilerMissingWarning), sep="\\n")
"""


@pytest.mark.slow
def test_the_same_where_inductor_itself_finds_none(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    environment = {
        **os.environ,
        "CXX": str(nothing / "g++"),
        "PATH": str(nothing),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    _says_that_there_is_no_compiler(line)


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


@pytest.mark.needs_plugins
@pytest.mark.filterwarnings("ignore:Skipping serialization of")  # of inductor in torch 2.6
@pytest.mark.parametrize("way", [pytest.param("torch.compile", marks=pytest.mark.slow), "compile: true"])
def test_all_of_the_first_party_together(first_party: SimpleNamespace, way: str) -> None:
    eager, compiled = first_party.build(), first_party.build(compile=way == "compile: true")
    if way == "torch.compile":
        compiled = torch.compile(compiled, fullgraph=True)
    torch._dynamo.utils.counters.clear()
    for seed, epoch in enumerate((0, 1.5, 100)):
        pred, gt = first_party.batch(seed)
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = compiled(pred, gt, epoch=epoch)
        expected = eager(pred, gt, epoch=epoch)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        slopes = [torch.autograd.grad(result[0], list(pred.values())) for result in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_no_value_is_read_in_a_forward() -> None:
    with torch.device("meta"):
        multi_loss = make()
    pred = {"x": torch.empty(4, 3, device="meta", requires_grad=True)}
    result, values, _ = multi_loss(pred, {}, epoch=3)
    assert result.is_meta
    assert all(value.is_meta for value in values.values())
