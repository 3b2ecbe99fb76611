"""The record of a forward: each number of each term, in eager mode and compiled, for each thread its own."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lossreg import Loss, MultiLoss
from lossreg.composition.record import Record
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.uncertainty import Uncertainty


class Key(Loss):
    """The sum of the predictions at a key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.requires = (f"pred.{key}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, self.requires[0]).sum()


def batch(**values: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return {key: torch.tensor([value], requires_grad=True) for key, value in values.items()}, {}


def nested(**options: Any) -> MultiLoss:
    """Return `a`, a group `g` of `b` and of `c`, which is off, and `d`, which is off."""
    group = MultiLoss([Key("b"), Key("c")], [2.0, 0.0], name="g", weighting=options.pop("inner", None))
    criterion = MultiLoss([Key("a"), group, Key("d")], [[1.0, 3.0], 5.0, 0.0], [0, 10], **options)
    criterion.loss_funcs[0].norm.fill_(4.0)
    return criterion


def numbers(record: Record) -> dict[str, list[float]]:
    return {
        path: [float(n) for n in (t.value, t.norm, t.weight, t.coefficient, t.contribution)]
        for path, t in record.items()
    }


BATCH = batch(a=8.0, b=3.0, c=7.0, d=6.0)
BY_HAND = {"a": [8, 4, 2, 1, 4], "g/b": [3, 1, 10, 1, 30], "g/c": [7, 1, 0, 1, 0], "d": [6, 1, 0, 1, 0]}


def test_each_number_of_each_term_by_hand() -> None:
    criterion = nested()
    total, _, _ = criterion(*BATCH, epoch=5, step=70)
    record = criterion.last_record
    assert numbers(record) == BY_HAND
    assert (record.epoch, record.step, float(record.total)) == (5, 70, 34) == (5, 70, total.item())
    assert all(term.count is None and term.name == path for path, term in record.items())


def test_groups_have_numbers_of_their_own() -> None:
    criterion = nested()
    criterion(*BATCH, epoch=5)
    (group,) = criterion.last_record.groups.values()
    assert [float(n) for n in (group.value, group.norm, group.weight, group.contribution)] == [6, 1, 5, 30]
    assert numbers(criterion.loss_funcs[1].last_record) == {"b": [3, 1, 2, 1, 6], "c": [7, 1, 0, 1, 0]}


def test_weightings_multiply_and_add() -> None:
    criterion = nested(weighting=Uncertainty(), inner=Uncertainty())
    torch.nn.init.constant_(criterion.weighting.s, 1.0)
    total, _, _ = criterion(*BATCH, epoch=5)
    record, half = criterion.last_record, 0.5 * torch.tensor(-1.0).exp().item()
    assert numbers(record)["a"] == pytest.approx([8, 4, 2, half, 2 * (half * 2 + 0.5)])
    assert numbers(record)["g/b"] == pytest.approx([3, 1, 10, half * 0.5, 10 * half * 0.5 * 3])
    own = float(record["a"].contribution + record.groups["g"].contribution)
    assert own == pytest.approx(float(record.total)) == pytest.approx(total.item())


def test_without_normalization_the_norms_are_1() -> None:
    criterion = nested()
    criterion(*BATCH, False, epoch=5)
    assert numbers(criterion.last_record)["a"] == [8, 1, 2, 1, 16]


def test_a_term_that_the_batch_lacks_is_not_there() -> None:
    criterion = MultiLoss([Key("a"), Key("b")], [1.0, 2.0], optional_terms=["a"])
    criterion(*batch(b=3.0))
    assert numbers(criterion.last_record) == {"b": [3, 1, 2, 1, 6]}


def test_a_batch_that_no_term_can_use_has_an_empty_record() -> None:
    criterion = MultiLoss([Key("a")], [1.0], optional_terms=["a"])
    criterion(*batch(b=3.0))
    assert len(criterion.last_record) == 0
    assert float(criterion.last_record.total) == 0


def test_a_term_that_is_skipped_because_it_is_not_finite_is_not_there() -> None:
    criterion = MultiLoss([Key("a"), Key("b")], [1.0, 2.0], on_nonfinite="skip_term")
    criterion(*batch(a=float("nan"), b=3.0))
    assert list(criterion.last_record) == ["b"]


def test_weighted_terms_leave_a_record_too() -> None:
    criterion = nested()
    criterion.weighted_terms(*BATCH, epoch=5)
    assert numbers(criterion.last_record) == BY_HAND


def test_the_record_is_of_the_state_before_it_moved() -> None:
    criterion = MultiLoss([Key("a"), Key("b")], [1.0, 1.0], weighting=CoV(), track_norms="running", norm_momentum=1.0)
    for value in (1.0, 2.0, 5.0, 3.0):
        total, values, _ = criterion(*batch(a=value, b=2 * value * value))
        record = criterion.last_record
        assert total.item() == pytest.approx(sum(float(term.contribution) for term in record.values()))
        assert {path: float(t.value / t.norm) for path, t in record.items()} == pytest.approx(
            {path: float(value) for path, value in values.items()}
        )


@given(rows=st.lists(st.tuples(st.floats(-9, 9), st.floats(0.5, 9), st.floats(-2, 2)), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_contributions_are_weight_times_coefficient_times_value_over_norm(rows: list[tuple[float, ...]]) -> None:
    criterion = MultiLoss([Key(f"t{i}") for i in range(len(rows))], [weight for _, _, weight in rows])
    for loss, (_, norm, _) in zip(criterion.loss_funcs, rows, strict=True):
        loss.norm.fill_(norm)
    total, _, _ = criterion(*batch(**{f"t{i}": value for i, (value, _, _) in enumerate(rows)}))
    terms = criterion.last_record.values()
    for term in terms:
        expected = term.weight * term.coefficient * term.value / term.norm
        assert float(term.contribution) == pytest.approx(float(expected), rel=1e-5)
    assert sum(float(term.contribution) for term in terms) == pytest.approx(total.item(), rel=1e-4, abs=1e-4)


# --- what it holds, and whose it is -----------------------------------------------------------------


def test_it_holds_no_graph() -> None:
    criterion, (pred, gt) = MultiLoss([Key("a")], [2.0], weighting=Uncertainty()), batch(a=3.0)
    hidden = pred["a"] * 2
    gone = weakref.ref(hidden)
    criterion({"a": hidden}, gt)
    del hidden
    gc.collect()
    assert gone() is None
    assert not any(tensor.requires_grad for tensor in (criterion.last_record.total, criterion.last_record["a"].value))


def test_there_is_none_before_the_first_forward_and_in_a_copy() -> None:
    criterion = nested()
    assert criterion.last_record is None
    criterion(*BATCH, epoch=5)
    for copied in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert copied.last_record is None
        copied(*BATCH, epoch=0)
    assert numbers(criterion.last_record) == BY_HAND


def test_each_thread_has_the_record_of_its_own_forward() -> None:
    criterion, both = MultiLoss([Key("a")], [1.0]), threading.Barrier(2)

    def value(number: float) -> float:
        both.wait(timeout=10)
        criterion(*batch(a=number))
        both.wait(timeout=10)
        return float(criterion.last_record["a"].value)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(value, (3.0, 500.0))) == [3.0, 500.0]
    assert criterion.last_record is None  # this thread has made no forward


def test_nothing_is_read_back_to_the_host() -> None:
    with torch.device("meta"):
        criterion = MultiLoss([Key("a"), MultiLoss([Key("b")], [1.0], name="g")], [1.0, 2.0], weighting=CoV())
    criterion({key: torch.empty(3, device="meta") for key in "ab"}, {})
    assert all(term.contribution.is_meta for term in criterion.last_record.values())


# of torch's own modules, met by tracing
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
@pytest.mark.parametrize("way", ["torch.compile", "compile"])
def test_a_compiled_forward_leaves_the_same_record(way: str) -> None:
    torch._dynamo.reset()
    criterion = nested(weighting=Uncertainty(), inner=Uncertainty())
    eager = copy.deepcopy(criterion)
    compiled: Any = criterion
    if way == "compile":
        criterion.compile(fullgraph=True, backend="aot_eager")
    else:
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    for epoch in (5, 0, 9):
        eager(*BATCH, epoch=epoch)
        compiled(*BATCH, epoch=epoch)
        found, expected = numbers(criterion.last_record), numbers(eager.last_record)
        assert list(found) == list(expected)
        assert all(found[path] == pytest.approx(row) for path, row in expected.items())
        assert criterion.last_record.epoch == epoch
