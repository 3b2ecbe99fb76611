"""Tensors inside of lists, tuples and mappings."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lossreg.losses.nested import first_tensor, is_sequence_of_tensors, mapped, tensors_in

A, B, C = torch.zeros(1), torch.ones(2), torch.full((3,), 2.0)


class Outputs(NamedTuple):
    fine: torch.Tensor
    coarse: torch.Tensor


def test_tensors_are_found_at_any_depth_in_order():
    found = list(tensors_in({"a": A, "b": [B, ("text", None, {"c": C})]}))
    assert all(ours is other for ours, other in zip(found, [A, B, C], strict=True))
    assert first_tensor(["text", (B, C)]) is B
    assert first_tensor({"a": []}) is None


def test_a_function_is_applied_to_each_tensor_and_the_kinds_of_containers_stay():
    value = {"a": A, "b": [B, (C, "text")], "c": Outputs(A, B), "d": 3}
    doubled = mapped(value, lambda tensor: tensor.double())
    assert [tensor.dtype for tensor in tensors_in(doubled)] == [torch.float64] * 5
    assert (type(doubled["b"]), type(doubled["b"][1]), type(doubled["c"])) == (list, tuple, Outputs)
    assert (doubled["b"][1][1], doubled["d"]) == ("text", 3)
    assert value["a"].dtype == torch.float32


def test_only_lists_of_tensors_alone_are_such():
    assert is_sequence_of_tensors([A, (B, [C])])
    for other in (A, [], [A, 1.0], [A, []], {"a": A}, "text", None):
        assert not is_sequence_of_tensors(other)
