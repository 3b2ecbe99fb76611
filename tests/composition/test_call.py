"""The record of the last forward belongs to its thread, is no part of a copy, and can be kept over other calls."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.call import LastRecord, records_kept

X, Y = torch.ones(2), torch.zeros(2)


@pytest.fixture
def criterion() -> MultiLoss:
    group = MultiLoss([LossWrapper(torch.nn.MSELoss(), "b")], [1.0], name="group")
    return MultiLoss([LossWrapper(torch.nn.L1Loss(), "a"), group], [1.0, 1.0])


def test_each_thread_has_its_own(criterion: MultiLoss) -> None:
    criterion(X, Y, epoch=3)
    elsewhere: list[object] = []
    thread = threading.Thread(target=lambda: elsewhere.append(criterion.last_record))
    thread.start()
    thread.join()
    assert elsewhere == [None]
    assert criterion.last_record is not None
    assert criterion.last_record.epoch == 3


def test_a_copy_begins_without_one(criterion: MultiLoss) -> None:
    criterion(X, Y)
    for copied in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert copied.last_record is None
        assert isinstance(copied._last, LastRecord)
    assert criterion.last_record is not None


def test_records_are_kept_over_other_calls_and_over_an_error(criterion: MultiLoss) -> None:
    criterion(X, Y, epoch=1)
    before = criterion.last_record

    def fail() -> None:
        with records_kept(criterion):
            criterion(X, Y, epoch=2)
            assert criterion.last_record.epoch == 2
            raise RuntimeError("other")

    with pytest.raises(RuntimeError, match="other"):
        fail()
    assert criterion.last_record is before


def test_the_time_may_stand_in_its_place(criterion: MultiLoss) -> None:
    for call in (lambda: criterion(X, Y, True, 4, 40), lambda: criterion(X, Y, epoch=4, step=40)):
        call()
        assert (criterion.last_record.epoch, criterion.last_record.step) == (4, 40)
