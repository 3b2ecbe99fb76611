"""Preprocess nodes: put in by themselves, ordered, run at most once and only where needed."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import lossreg
from lossreg import Loss, MultiLoss, Preprocess
from lossreg.composition.dependencies import build_nodes
from lossreg.errors import GraphError, MissingKeyError


class Make(Preprocess):
    """Makes each of its keys as the sum of those it requires, plus one."""

    def __init__(self, provides: list[str], requires: list[str]) -> None:
        super().__init__()
        self.provides, self.requires, self.runs = provides, requires, 0

    def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
        self.runs += 1
        total = sum((gt_batch[key.partition(".")[2]] for key in self.requires), torch.tensor(1.0))
        return dict.fromkeys(self.provides, total)


class Read(Loss):
    """The sum of the keys that it requires."""

    def __init__(self, name: str, requires: list[str], optional: tuple[str, ...] = ()) -> None:
        super().__init__(name)
        self.requires, self.optional = requires, optional

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        tensors = [self.read(pred_batch, gt_batch, key) for key in self.requires]
        tensors += [t for key in self.optional if (t := self.read_optional(pred_batch, gt_batch, key)) is not None]
        return sum(tensors, torch.zeros(())) * pred_batch["x"].mean()


PRED = {"x": torch.ones(2)}


@pytest.fixture
def registered() -> None:
    @lossreg.register("MakeField", kind="preprocess")
    class MakeField(Preprocess):
        requires, provides = ("gt.angle",), ("gt.field",)

        def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
            return {"gt.field": gt_batch["angle"] * 2}


def test_a_registered_node_is_put_in_where_a_term_needs_it(registered: None) -> None:
    multi_loss = MultiLoss([Read("align", ["gt.field"])], [1.0])
    assert float(multi_loss(PRED, {"angle": torch.tensor(3.0)})[0]) == 6.0
    assert [(i["kind"], i["name"], i.get("automatic")) for i in multi_loss.plan()] == [
        ("preprocess", "MakeField", True),
        ("term", "align", None),
    ]


def test_a_key_that_the_batch_brings_is_not_computed_again(registered: None) -> None:
    multi_loss = MultiLoss([Read("align", ["gt.field"])], [1.0])
    assert float(multi_loss(PRED, {"field": torch.tensor(7.0)})[0]) == 7.0


def test_a_missing_input_of_a_node_names_node_and_key(registered: None) -> None:
    multi_loss = MultiLoss([Read("align", ["gt.field"])], [1.0])
    with pytest.raises(MissingKeyError, match=r"preprocess MakeField needs 'gt.angle' to make 'gt.field'"):
        multi_loss(PRED, {})


def test_an_optional_term_counts_what_nodes_can_make(registered: None) -> None:
    multi_loss = MultiLoss([Read("align", ["gt.field"])], [1.0], optional_terms=["align"])
    assert list(multi_loss(PRED, {"angle": torch.tensor(3.0)})[1]) == ["align"]
    assert list(multi_loss(PRED, {})[1]) == []


def test_a_group_shares_the_nodes_of_the_whole(registered: None) -> None:
    node = Make(["gt.a"], [])
    group = MultiLoss([Read("inner", ["gt.a"])], [1.0], name="g")
    multi_loss = MultiLoss([Read("outer", ["gt.a"]), group], [1.0, 1.0], pre_processes=[node])
    multi_loss(PRED, {})
    assert node.runs == 1


def test_a_chain_is_sorted_whatever_its_order_in_the_list() -> None:
    last, first = Make(["gt.b"], ["gt.a"]), Make(["gt.a"], [])
    multi_loss = MultiLoss([Read("t", ["gt.b"])], [1.0], pre_processes=[last, first])
    assert float(multi_loss(PRED, {})[0]) == 2.0


def test_a_node_that_no_term_needs_does_not_run_and_an_optional_key_is_a_need() -> None:
    idle, wanted = Make(["gt.idle"], []), Make(["gt.extra"], [])
    multi_loss = MultiLoss([Read("t", [], ("gt.extra",))], [1.0], pre_processes=[idle, wanted])
    multi_loss(PRED, {})
    assert (idle.runs, wanted.runs) == (0, 1)


def test_a_plain_function_keeps_its_place_and_always_runs() -> None:
    seen: list[list[str]] = []

    def look(pred: dict[str, Any], gt: dict[str, Any]) -> tuple[Any, Any]:
        seen.append(sorted(gt))
        return pred, {**gt, "late": torch.tensor(5.0)}

    before, after = Make(["gt.a"], []), Make(["gt.b"], ["gt.late"])
    multi_loss = MultiLoss([Read("t", ["gt.b"])], [1.0], pre_processes=[before, look, after])
    assert float(multi_loss(PRED, {})[0]) == 6.0
    assert seen == [["a"]]


def test_a_function_that_does_not_tell_its_signature_is_taken() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(torch.add)
    multi_loss = MultiLoss([Read("t", [])], [1.0], pre_processes=[torch.add])
    assert [item["name"] for item in multi_loss.plan()] == ["add", "t"]


def test_a_function_that_returns_something_else_is_a_type_error() -> None:
    def forgetful(pred: dict[str, Any], gt: dict[str, Any]) -> None: ...

    with pytest.raises(
        TypeError, match=r"preprocess 'forgetful': expected \(pred_batch, gt_batch\) from compute, found NoneType"
    ):
        MultiLoss([Read("t", [])], [1.0], pre_processes=[forgetful])(PRED, {})


def test_a_cycle_shows_its_chain() -> None:
    nodes = [Make(["gt.a"], ["gt.b"]), Make(["gt.b"], ["gt.a"])]
    with pytest.raises(GraphError, match=r"form a cycle: Make -> Make -> Make"):
        build_nodes(nodes, [])


def test_two_nodes_for_one_key() -> None:
    with pytest.raises(GraphError, match=r"both provide 'gt\.a'"):
        build_nodes([Make(["gt.a"], []), Make(["gt.a"], [])], [])


def test_a_key_from_nowhere_shows_the_chain_at_build() -> None:
    node = Make(["gt.a"], ["gt.lost"])
    expected = r"term 't' needs 'gt.a', made by preprocess 'Make', which needs 'gt.lost', which neither"
    with pytest.raises(GraphError, match=expected):
        MultiLoss([Read("t", ["gt.a"])], [1.0], pre_processes=[node], batch_keys=["pred.x"])
    MultiLoss([Read("t", ["gt.a"])], [1.0], pre_processes=[node], batch_keys=["pred.x", "gt.lost"])


@given(st.data())
def test_over_random_graphs_each_node_runs_at_most_once_and_every_term_has_its_inputs(
    data: st.DataObject,
) -> None:
    n = data.draw(st.integers(1, 6))
    nodes = []
    for i in range(n):  # a node requires keys of earlier ones alone, so that there is an order
        requires = data.draw(st.lists(st.sampled_from([f"gt.k{j}" for j in range(i)] or ["gt.given"]), unique=True))
        nodes.append(Make([f"gt.k{i}"], requires))
    keys = [f"gt.k{i}" for i in range(n)]
    wants = data.draw(st.lists(st.lists(st.sampled_from(keys), min_size=1, unique=True), min_size=1, max_size=4))
    brought = set(data.draw(st.lists(st.sampled_from(keys), unique=True)))
    shuffled = data.draw(st.permutations(nodes))
    multi_loss = MultiLoss([Read(f"t{i}", want) for i, want in enumerate(wants)], [1.0] * len(wants), None, shuffled)
    gt = {"given": torch.tensor(1.0), **{key[3:]: torch.tensor(1.0) for key in brought}}
    multi_loss(PRED, gt)

    needed, stack = set(), [key for want in wants for key in want]
    while stack:
        key = stack.pop()
        if key in brought or key in needed or key == "gt.given":
            continue
        needed.add(key)
        stack += nodes[int(key[4:])].requires
    assert {node.provides[0]: node.runs for node in nodes} == {key: int(key in needed) for key in keys}
