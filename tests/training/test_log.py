"""The log of terms: what it writes, when, and to whom."""

from __future__ import annotations

import copy
import csv
import io
import logging
import pickle
from types import ModuleType

import pytest
import torch
from torch import nn

from lossreg import LossWrapper, Monitor, MultiLoss, diagnose
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import ArgumentError
from lossreg.training.log import TermLog


def near():
    return LossWrapper(nn.L1Loss(), "near", pred_key="y", gt_key="y")


def criterion_of(**options):
    far = LossWrapper(nn.MSELoss(), "far", pred_key="y", gt_key="y")
    return MultiLoss([near(), MultiLoss([far], [0.5], name="group")], [3.0, [0.0, 4.0]], [0, 4], **options)


def forward(criterion, numbers, epoch=0):
    values = torch.tensor(numbers, requires_grad=True)
    return criterion({"y": values}, {"y": torch.zeros(len(numbers))}, epoch=epoch)[0]


class Written(list):
    def __call__(self, numbers, step):
        self.append((step, dict(numbers)))


def test_means_over_all_forwards_since_the_last_are_written_every_so_many_steps():
    criterion, written = criterion_of(), Written()
    criterion.loss_funcs[0].norm.fill_(2.0)
    log = TermLog(criterion, written, every=2)
    forward(criterion, [1.0, 3.0], epoch=0)
    assert log.step() is None
    forward(criterion, [8.0], epoch=2)
    assert log.step() == written[0][1]
    near, far = (1 + 3 + 8) / 3, (1 + 9 + 64) / 3
    total = (2 * (3 * 2 / 2) + (3 * 8 / 2 + 2 * 0.5 * 64)) / 3
    assert written == [
        (
            2,
            pytest.approx(
                {"losses/train_near": near / 2, "losses/train_group/far": far, "total/train": total}
                | {"weights/near": 3.0, "weights/group/far": 0.5, "norms/near": 2.0, "norms/group/far": 1.0}
            ),
        )
    ]


def test_coefficients_are_written_where_a_weighting_adapts():
    criterion, written = criterion_of(weighting=Uncertainty()), Written()
    with TermLog(criterion, written) as log:
        forward(criterion, [1.0])
        log.step()
    assert {"coefficients/near", "coefficients/group/far"} <= written[0][1].keys()
    assert written[0][1]["weights/near"] == pytest.approx(3 * written[0][1]["coefficients/near"])


def test_what_is_left_at_the_end_is_written():
    criterion, written = criterion_of(), Written()
    with TermLog(criterion, written, every=10) as log:
        forward(criterion, [1.0])
        log.step()
    assert [step for step, _ in written] == [1]


def test_an_evaluation_is_a_stage_of_its_own():
    criterion, written = criterion_of(), Written()
    log = TermLog(criterion, written)
    forward(criterion, [1.0])
    with torch.no_grad(), log.evaluation("val"):
        forward(criterion, [4.0, 6.0])
        forward(criterion, [20.0])
    assert written[0] == (0, pytest.approx({"losses/val_near": 10, "losses/val_group/far": 452 / 3, "total/val": 30}))
    log.step()
    assert written[1][1]["losses/train_near"] == 1


def test_a_look_at_the_terms_is_no_training():
    """A monitor and `diagnose` compute the terms once more, which must not count twice."""
    criterion, written = criterion_of(), Written()
    with TermLog(criterion, written, every=2) as log, Monitor(criterion, every=2), Monitor(criterion, every=1):
        for numbers in ([1.0, 3.0], [8.0]):
            values = torch.tensor(numbers, requires_grad=True)
            batch = {"y": values}, {"y": torch.zeros(len(numbers))}
            criterion(*batch, epoch=0)
            diagnose(criterion, *batch, [values], epoch=0)
            log.step()
    assert written[0][1]["losses/train_near"] == pytest.approx((1 + 3 + 8) / 3)


def test_forwards_without_gradients_are_no_training():
    criterion, written = criterion_of(), Written()
    log = TermLog(criterion, written)
    forward(criterion, [1.0])
    with torch.no_grad():
        forward(criterion, [100.0])
    log.step()
    assert written[0][1]["losses/train_near"] == 1


def test_a_step_has_the_number_it_is_given():
    criterion, written = criterion_of(), Written()
    log = TermLog(criterion, written, every=5)
    for step in (11, 15):
        forward(criterion, [1.0])
        log.step(step)
    assert [step for step, _ in written] == [15]


def test_nothing_is_written_where_nothing_was_seen(caplog):
    written = Written()
    with caplog.at_level(logging.WARNING, "lossreg"):
        assert TermLog(criterion_of(), written).step() == {}
    assert written == []
    assert "no forward of the criterion was seen before step 1" in caplog.text


def test_after_it_is_closed_it_listens_no_more():
    criterion, written = criterion_of(), Written()
    log = TermLog(criterion, written)
    log.close()
    forward(criterion, [1.0])
    log.step()
    assert written == []


def test_a_compiled_criterion_is_listened_to():
    criterion, written = criterion_of(), Written()
    compiled = torch.compile(criterion, backend="eager")
    with TermLog(compiled, written) as log:
        forward(compiled, [1.0, 3.0])
        log.step()
    assert written[0][1]["losses/train_near"] == 2


# --- writers ----------------------------------------------------------------------------------------


def logged(writer):
    criterion = criterion_of()
    with TermLog(criterion, writer) as log:
        forward(criterion, [1.0])
        log.step()


def test_tensorboard_gets_scalars():
    scalars = {}

    class Summary:
        def add_scalar(self, name, number, step):
            scalars[name, step] = number

    logged(Summary())
    assert scalars["losses/train_near", 1] == 1


@pytest.mark.parametrize("method", ["log", "log_metrics"])
def test_a_tracker_gets_all_numbers_at_once(method):
    calls = []
    tracker = type("Tracker", (), {method: lambda self, numbers, step: calls.append((numbers, step))})()
    logged(tracker)
    ((numbers, step),) = calls
    assert (numbers["losses/train_near"], step) == (1, 1)


def test_mlflow_gets_names_that_it_takes():
    calls, mlflow = [], ModuleType("mlflow")
    mlflow.log_metrics = lambda numbers, step: calls.append(numbers)
    criterion = MultiLoss([LossWrapper(nn.L1Loss(), "near (%)", pred_key="y", gt_key="y")], [1.0])
    with TermLog(criterion, mlflow) as log:
        forward(criterion, [1.0])
        log.step()
    assert "losses/train_near ___" in calls[0]


def test_a_csv_file_gets_a_row_a_step_and_a_column_for_each_new_name(tmp_path):
    path = tmp_path / "runs" / "terms.csv"
    for _ in range(2):  # a run that goes on
        criterion = criterion_of()
        log = TermLog(criterion, path)
        forward(criterion, [1.0])
        log.step()
        with log.evaluation():
            forward(criterion, [2.0])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["losses/train_near"] for row in rows] == ["1.0", "", "1.0", ""]
    assert [row["losses/val_near"] for row in rows] == ["", "2.0", "", "2.0"]
    assert [row["step"] for row in rows] == ["1"] * 4


def as_bytes(criterion):
    return pickle.loads(pickle.dumps(criterion))


def saved(criterion):
    file = io.BytesIO()
    torch.save(criterion, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


@pytest.mark.parametrize("copied", [as_bytes, saved, copy.deepcopy])
@pytest.mark.parametrize("watch", [TermLog, lambda criterion, writer: Monitor(criterion, writer=writer, every=1)])
def test_a_copy_of_the_criterion_writes_nothing(tmp_path, copied, watch):
    criterion, path = criterion_of(), tmp_path / "terms.csv"
    own = watch(criterion, path)
    forward(criterion, [1.0])
    other = copied(criterion)
    (watching,) = [hook.__self__ for hook in other._forward_hooks.values() if hasattr(hook, "__self__")]
    assert watching is not own
    assert watching.criterion is other
    before = path.read_text() if path.exists() else ""
    forward(other, [2.0])
    if isinstance(own, TermLog):
        assert watching.step()["losses/train_near"] == 1.5  # of both forwards
    assert (path.read_text() if path.exists() else "") == before
    watching.close()
    assert len(other._forward_hooks) == len(criterion._forward_hooks) - 1
    forward(criterion, [2.0])
    if isinstance(own, TermLog):
        own.step()
    assert len(path.read_text()) > len(before)


@pytest.mark.parametrize(
    ("argument", "options"),
    [("writer", {"writer": 3}), ("every", {"every": 0}), ("criterion", {"criterion": nn.L1Loss()})],
)
def test_what_it_cannot_use_is_refused(argument, options):
    with pytest.raises(ArgumentError, match=f"TermLog: {argument}: expected"):
        TermLog(**{"criterion": criterion_of(), "writer": Written(), **options})
