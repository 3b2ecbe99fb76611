"""Functions that a compiler leaves alone, of which nothing is noticed where there is no compiler."""

from __future__ import annotations

import sys

import pytest
import torch

from lossreg.losses.eager import outside, skip_frame

COMPILING: list[bool] = []


def look(x: torch.Tensor) -> torch.Tensor:
    """Double, and note whether a compiler traces this."""
    COMPILING.append(torch.compiler.is_compiling())
    return 2 * x


def test_without_a_compiler_a_function_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert outside(look) is look


def test_with_one_it_is_excluded_once() -> None:
    import torch._dynamo

    assert outside(look) is outside(look) is not look
    COMPILING.clear()
    excluded = outside(look)
    compiled = torch.compile(lambda x: excluded(x) + 1, backend="eager")
    assert compiled(torch.ones(2)).tolist() == [3.0, 3.0]
    assert COMPILING == [False]


def test_a_frame_that_is_skipped_runs_as_python_and_what_it_calls_is_compiled() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> object:
        graphs.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    def inner(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    def outer(x: torch.Tensor) -> torch.Tensor:
        return inner(x + 1) + 1

    assert skip_frame(outer) is outer
    assert torch.compile(outer, backend=backend)(torch.ones(1)).tolist() == [7.0]
    assert graphs == [1]  # the multiplication alone
