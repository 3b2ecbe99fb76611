"""The time of a forward: what is one, when it is read, and whose weights a thread gets."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensor, FakeTensorMode

from lossreg import Loss, MultiLoss
from lossreg.composition import clock
from lossreg.composition.schedules import Piecewise
from lossreg.composition.weighting.dwa import DWA
from lossreg.errors import ArgumentError


class One(Loss):
    """The value 1."""

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return pred_batch["x"].sum()


BATCH = ({"x": torch.ones(1)}, {})


def counting() -> MultiLoss:
    """Return a criterion whose total is the epoch, from 0 to 1000, and that of a group in it too."""
    ramp = Piecewise([0.0, 1000.0], [0, 1000])
    return MultiLoss([One("a"), MultiLoss([One("b")], [ramp], name="g")], [ramp, 1000.0])


def total(criterion: MultiLoss, epoch: Any) -> float:
    return float(criterion(*BATCH, epoch=epoch)[0])


@pytest.mark.parametrize("kind", [torch.tensor, lambda e: torch.tensor([e]), np.int64, np.float32, np.float64, float])
def test_a_number_of_any_kind_is_a_time(kind: Any) -> None:
    assert total(counting(), kind(7)) == 7 + 7000


@pytest.mark.parametrize("changed", ["epoch", "step"])
def test_where_one_of_both_times_changes_the_weights_are_new(changed: str) -> None:
    ramps = [Piecewise([0.0, 1000.0], [0, 1000], unit=unit) for unit in ("epoch", "step")]
    criterion = MultiLoss([One("epoch"), One("step")], ramps)
    for number in (1, 8):
        criterion(*BATCH, **{"epoch": 1, "step": 1, changed: number})
        weights = {path: float(term.weight) for path, term in criterion.last_record.items()}
        assert weights == {"epoch": 1.0, "step": 1.0, changed: number}


@pytest.mark.parametrize("time", [True, False, "3", torch.tensor(True), torch.ones(2), np.bool_(True), 1j, [3]])
@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_what_is_no_number_is_no_time(unit: str, time: Any) -> None:
    criterion = MultiLoss([One("a")], [Piecewise([0.0, 1.0], [0, 10])])
    criterion(*BATCH, epoch=1, step=1)  # True == 1, and must not pass for it
    with pytest.raises(ArgumentError, match=rf"MultiLoss 'multi': {unit}: expected a finite number, found"):
        criterion(*BATCH, **{"epoch": 1, unit: time})


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -float("inf"), torch.tensor(float("nan")), 10**400])
@pytest.mark.parametrize("weight", [1.0, [0.0, 1.0]])
def test_what_is_not_finite_is_no_time_even_where_no_term_follows_it(time: Any, weight: Any) -> None:
    with pytest.raises(ArgumentError, match="epoch: expected a finite number"):
        MultiLoss([One("a")], [weight], [0, 1])(*BATCH, epoch=time)


def test_a_tensor_that_is_changed_in_place_is_another_time() -> None:
    criterion, epoch = counting(), torch.tensor(1.0)
    assert total(criterion, epoch) == 1001
    epoch.add_(1)
    assert total(criterion, epoch) == 2002


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
@pytest.mark.parametrize("time", [True, "3"])
def test_what_is_no_time_is_refused_inside_of_a_compiled_function_too(time: Any) -> None:
    criterion = counting()
    torch._dynamo.reset()
    step = torch.compile(lambda epoch: criterion(*BATCH, epoch=epoch)[0], backend="eager")
    with pytest.raises(Exception, match="expected a finite number"):
        step(time)


# --- threads and copies ---------------------------------------------------------------------------


class Meeting(One):
    """A loss at which two forwards meet, each of another epoch."""

    meeting: Any = None

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        if self.meeting is not None:
            self.meeting.wait(timeout=10)
        return super().compute(pred_batch, gt_batch)


@pytest.mark.parametrize("place", ["first", "in_a_group"])
def test_two_threads_have_the_weights_of_their_own_epochs(place: str) -> None:
    ramp, loss = Piecewise([0.0, 1000.0], [0, 1000]), Meeting("a")
    criterion = MultiLoss([loss], [ramp])
    if place == "in_a_group":
        criterion = MultiLoss([MultiLoss([loss], [ramp], name="g")], [1.0])
    loss.meeting = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda epoch: total(criterion, epoch), (3, 500))) == [3, 500]


def test_many_threads_get_the_totals_of_one() -> None:
    criterion, epochs = counting(), [i % 7 for i in range(400)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda epoch: total(criterion, epoch), epochs)) == [1001 * epoch for epoch in epochs]


class Copying(One):
    """A loss that copies the criterion that it is in, in the middle of its forward."""

    inside: ClassVar[list[MultiLoss]] = []
    copies: ClassVar[list[MultiLoss]] = []

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        self.extra_info["graph"] = pred_batch["x"] * 2
        if self.inside:
            criterion = self.inside.pop()
            self.copies.extend([copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))])
        return super().compute(pred_batch, gt_batch)


def test_a_copy_that_is_made_during_a_forward_has_a_time_of_its_own() -> None:
    ramp = Piecewise([0.0, 1000.0], [0, 1000])
    criterion = MultiLoss([Copying("a"), One("b")], [1.0, ramp])
    Copying.inside.append(criterion)
    batch = {"x": torch.ones(1, requires_grad=True)}, {}
    assert criterion(*batch, epoch=5)[0] == 6
    deep, pickled = Copying.copies
    assert [m(*batch, epoch=9)[0].item() for m in (deep, criterion, pickled)] == [10, 10, 10]
    assert criterion(*batch, epoch=5)[0] == 6


# --- tensors ----------------------------------------------------------------------------------------


def test_constant_weights_keep_their_tensors_as_the_epoch_moves() -> None:
    criterion = MultiLoss([One("a"), MultiLoss([One("b")], [2.0], name="g")], [1.0, 3.0])
    first, later = criterion.moment(epoch=1, step=10), criterion.moment(epoch=2, step=20)
    assert (first.epoch, first.step, later.epoch, later.step) == (1, 10, 2, 20)
    assert later.inner[1].epoch == 2
    assert later.vector is first.vector
    assert later.inner[1].single is first.inner[1].single


def test_what_is_validated_first_in_inference_mode_trains() -> None:
    criterion = MultiLoss([One("a"), MultiLoss([One("b")], [2.0], name="g")], [1.0, 3.0])
    with torch.inference_mode():
        criterion(*BATCH)
    x = torch.ones(1, requires_grad=True)
    criterion({"x": x}, {})[0].backward()
    assert x.grad == 7


def test_a_trace_leaves_no_tensors_of_its_own() -> None:
    criterion = MultiLoss([One("a")], [3.0])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert isinstance(criterion({"x": mode.from_tensor(torch.ones(1))}, {})[0], FakeTensor)
    found = criterion(*BATCH)[0]
    assert type(found) is Tensor
    assert found == 3


def test_weights_that_come_to_the_same_keep_their_tensors_and_others_share_one_memory() -> None:
    step = Piecewise([1.0, 4.0], [5, 10])  # constant before its first epoch
    criterion = MultiLoss([One("a"), MultiLoss([One("b")], [step], name="g")], [1.0, 3.0])
    moments = [criterion.moment(epoch=epoch) for epoch in (2, 3, 12)]
    assert moments[0].vector is moments[1].vector
    assert moments[1].vector is not moments[2].vector
    assert [moment.inner[1].vector.item() for moment in moments] == [1, 1, 4]
    memory = {vector.untyped_storage().data_ptr() for vector in (moments[2].vector, moments[2].inner[1].vector)}
    assert len(memory) == 1


def test_the_epoch_is_a_tensor_only_where_a_weighting_is_told_it() -> None:
    assert MultiLoss([One("a")], [1.0]).moment(epoch=1).now is None
    group = MultiLoss([One("a")], [1.0], name="g", weighting=DWA())
    moments = [MultiLoss([group], [1.0]).moment(epoch=epoch) for epoch in (1, 2)]
    assert [moment.inner[0].now.item() for moment in moments] == [1, 2]


def test_a_stream_reads_only_what_was_copied_on_it_unless_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    criterion, streams = MultiLoss([One("a")], [2.0]), iter([1, 1, 2, 3, 3])
    monkeypatch.setattr(clock, "_stream_of", lambda device: next(streams))
    first, same, other = (criterion.moment(epoch=1).vector for _ in range(3))
    assert same is first
    assert other is not first
    monkeypatch.setattr(clock, "_capturing", lambda device: True)
    assert criterion.moment(epoch=1).vector is other
    assert criterion.moment(epoch=2).vector is other
