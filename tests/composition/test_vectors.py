"""Vectors over terms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lossreg.composition.vectors import chosen, counts_as, stacked


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.float32] * 2, torch.float32),
        ([torch.bfloat16] * 2, torch.float32),
        ([torch.float16, torch.bfloat16], torch.float32),
        ([torch.float64] * 2, torch.float64),
        ([torch.float16, torch.float64], torch.float64),
    ],
)
def test_a_stack_is_of_float32_at_least_and_on_the_graph(dtypes: list[torch.dtype], expected: torch.dtype) -> None:
    values = [torch.tensor(float(i), dtype=dtype, requires_grad=True) for i, dtype in enumerate(dtypes)]
    found = stacked(values)
    assert (found.dtype, found.tolist()) == (expected, [0.0, 1.0])
    found.sum().backward()
    assert [value.grad.item() for value in values] == [1.0, 1.0]


@pytest.mark.parametrize("positions", [[], [2], [2, 0], [0, 1, 2]])
def test_elements_are_chosen_on_the_graph(positions: list[int]) -> None:
    vector = torch.arange(3.0, requires_grad=True)
    found = chosen(vector, positions)
    assert found.tolist() == positions
    found.sum().backward()
    assert vector.grad.tolist() == [float(i in positions) for i in range(3)]


@pytest.mark.parametrize(
    "counts",
    [
        [3.0, 3.0, 0.0],
        [torch.tensor(3.0), torch.tensor(3.0, dtype=torch.float64), torch.tensor(0)],
        [3.0, torch.tensor(3.0, dtype=torch.float64, requires_grad=True), 0],
    ],
)
def test_counts_become_a_vector_without_a_graph(counts: list[Tensor | float]) -> None:
    found = counts_as(counts, torch.ones(1))
    assert (found.dtype, found.requires_grad, found.tolist()) == (torch.float32, False, [3.0, 3.0, 0.0])
