"""The record of the last forward belongs to its thread, is no part of a copy, and can be kept over other calls."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lossreg import LossWrapper, MultiLoss, calibrate_norms
from lossreg.composition.call import LastRecord, records_kept
from lossreg.errors import CalibrationWarning

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


# --- norms that nothing has set -------------------------------------------------------------------


def uncalibrated(**options: Any) -> MultiLoss:
    group = MultiLoss([LossWrapper(torch.nn.MSELoss(), "b")], [1.0], name="group", **options)
    return MultiLoss([LossWrapper(torch.nn.L1Loss(), "a"), group], [1.0, 1.0], **options)


def warned(criterion: MultiLoss, *arguments: Any, **options: Any) -> list[str]:
    """Return the warnings of three forwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CalibrationWarning)
        for _ in range(3):
            criterion(X.clone().requires_grad_(), Y, *arguments, **options)
    return [str(warning.message) for warning in caught if warning.category is CalibrationWarning]


@pytest.mark.parametrize(
    "made",
    [
        uncalibrated,
        lambda: copy.deepcopy(uncalibrated()),
        lambda: pickle.loads(pickle.dumps(uncalibrated())),
        lambda: uncalibrated().double(),
        lambda: uncalibrated().eval().train(),
    ],
)
def test_a_training_on_norms_that_nothing_set_warns_once_with_what_to_do(made: Callable[[], MultiLoss]) -> None:
    (line,) = warned(made())
    assert line.startswith("MultiLoss 'multi': its terms are divided by their norms, but the norms were never set")
    assert all(way in line for way in ("calibrate_norms", "track_norms: running", "normalize_losses: false"))


def test_the_ways_that_the_warning_tells_end_it() -> None:
    assert warned(uncalibrated(track_norms="running")) == []
    assert warned(uncalibrated(normalize=False)) == []
    criterion = uncalibrated()
    batches = [(X[None], Y[None])] * 10
    calibrate_norms(criterion, torch.nn.Linear(2, 2), batches, progress=False)
    assert warned(criterion) == []


@pytest.mark.parametrize(
    "sets",
    [
        lambda criterion: criterion.update_norm(X, Y, 1),
        lambda criterion: criterion.load_state_dict(uncalibrated().state_dict()),
        lambda criterion: criterion.loss_funcs[0].norm.fill_(1.0),
    ],
)
def test_norms_that_anything_set_warn_of_nothing_in_a_copy_either(sets: Callable[[MultiLoss], Any]) -> None:
    criterion = uncalibrated()
    sets(criterion)
    assert warned(copy.deepcopy(criterion)) == warned(copy.deepcopy(criterion).double()) == warned(criterion) == []


def test_norms_that_were_reset_are_not_set() -> None:
    criterion = uncalibrated()
    criterion.update_norm(X, Y, 1)
    criterion.reset_norm()
    assert len(warned(criterion)) == 1


def test_only_a_training_that_divides_several_terms_warns() -> None:
    criterion = uncalibrated()
    assert warned(criterion.eval()) == []
    with torch.no_grad():
        assert warned(criterion.train()) == []
    assert warned(criterion, normalize=False) == []
    assert warned(criterion, False) == []
    assert len(warned(criterion)) == 1
    assert warned(MultiLoss([LossWrapper(torch.nn.L1Loss(), "a")], [1.0])) == []
    losses = [LossWrapper(torch.nn.L1Loss(), "a"), LossWrapper(torch.nn.MSELoss(), "b")]
    assert warned(MultiLoss(losses, [1.0, 1.0], unnormalized=["a"])) == []
