"""Windows opened from outside of the loop: what is read ahead, and what the trainer's division leaves."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import torch
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import ArgumentError, WindowError
from lossreg.training.accumulation import ReadAhead, StepWindow, average_own_gradients, default_targets


class Counted:
    """A loader that says how many batches were read from it."""

    batch_size = 7

    def __init__(self, batches):
        self.batches, self.read = batches, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            self.read += 1
            yield batch


def test_a_step_is_read_before_its_first_batch_and_no_more():
    loader = Counted([(f"x{i}", f"y{i}") for i in range(5)])
    ahead = ReadAhead(loader, 2)
    seen = []
    for batch in ahead:
        steps = [ahead.take()] if len(seen) % 2 == 0 else []
        seen.append((batch[0], loader.read, *steps))
    assert seen == [
        ("x0", 2, ["y0", "y1"]), ("x1", 2), ("x2", 4, ["y2", "y3"]), ("x3", 4), ("x4", 5, ["y4"]),
    ]  # fmt: skip
    assert (len(ahead), ahead.batch_size) == (5, 7)


def test_a_trainer_may_read_on_before_it_takes():
    ahead = ReadAhead([(i, -i) for i in range(1, 5)], 2)
    assert [x for x, _ in ahead] == [1, 2, 3, 4]
    assert [ahead.take(), ahead.take()] == [[-1, -2], [-3, -4]]
    with pytest.raises(WindowError, match="expected to be read from before a step"):
        ahead.take()


def test_a_new_iteration_forgets_the_steps_of_the_last():
    ahead = ReadAhead([(i, -i) for i in range(1, 5)], 2)
    next(iter(ahead))
    next(iter(ahead))
    assert ahead.take() == [-1, -2]
    with pytest.raises(WindowError):
        ahead.take()


def test_the_targets_of_a_batch():
    assert default_targets((1, 2)) == 2
    assert default_targets({"image": 1, "mask": 2}) == {"image": 1, "mask": 2}
    with pytest.raises(WindowError, match=re.escape("found int; pass targets(batch)")):
        default_targets(3)
    assert list(ReadAhead([3], 1, targets=lambda batch: batch)) == [3]


def test_it_may_be_copied():
    ahead = copy.deepcopy(ReadAhead([(1, 2)], 1))
    assert (list(ahead), ahead.take()) == ([(1, 2)], [2])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((3, 1), "loader"), (([], 0), "micro_batches"), (([], 2.5), "micro_batches"), (([], 1, 4), "targets")],
)
def test_arguments_of_a_wrong_kind(arguments, told):
    with pytest.raises(ArgumentError, match=told):
        ReadAhead(*arguments)


# --- the window of a step -------------------------------------------------------------------------


def make(**options):
    near = LossWrapper(nn.L1Loss(), "near", pred_key="y", gt_key="y")
    near.take_mask("gt.valid")
    far = LossWrapper(nn.MSELoss(), "far", pred_key="y", gt_key="y")
    return MultiLoss([near, far], [1.0, 0.5], **options).train()


def parts(sizes=(3, 1, 2)):
    make = torch.Generator().manual_seed(0)
    return [
        (torch.rand(n, 5, generator=make, dtype=torch.float64),
         {"y": torch.rand(n, 5, generator=make, dtype=torch.float64), "valid": torch.rand(n, 5, generator=make) < 0.6})
        for n in sizes
    ]  # fmt: skip


def joined(cut):
    return torch.cat([x for x, _ in cut]), {key: torch.cat([gt[key] for _, gt in cut]) for key in ("y", "valid")}


def gradient(total, leaf):
    return torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("divisor", [3, 4])  # 4: the last step of an epoch has fewer, and is divided all the same
def test_what_a_trainer_divides_by_the_number_of_micro_batches_adds_up_to_the_joined_batch(divisor):
    cut, factor = parts(), torch.ones((), dtype=torch.float64, requires_grad=True)
    criterion, window, found, totals = make(), None, 0.0, []
    window = StepWindow(criterion, divisor)
    window.open([targets for _, targets in cut])
    for number, (x, targets) in enumerate(cut):
        assert window.is_open
        total = criterion({"y": x * factor}, targets)[0]
        totals.append(float(criterion.last_record.total))
        found += gradient(total / divisor, factor)
        assert window.close_micro_batch() == (number == 2)
    assert not window.is_open
    x, targets = joined(cut)
    whole = make()({"y": x * factor}, targets)[0]
    assert torch.allclose(found, gradient(whole, factor), rtol=1e-12, atol=0)
    assert sum(totals) == pytest.approx(float(whole.detach()))


def test_after_a_step_the_criterion_is_as_before():
    cut, criterion = parts(), make()
    x, targets = cut[0]
    before = criterion({"y": x}, targets)[0]
    window = StepWindow(criterion, 1)
    window.open([targets])
    criterion({"y": x}, targets)
    window.close_micro_batch()
    assert torch.equal(criterion({"y": x}, targets)[0], before)


def test_an_evaluation_in_the_middle_of_a_step_has_its_own_total():
    cut, criterion = parts((2,)), make()
    x, targets = cut[0]
    window = StepWindow(criterion, 8)
    window.open([targets])
    with torch.no_grad():
        found = criterion({"y": x}, targets)[0]
    criterion({"y": x}, targets)
    window.close_micro_batch()
    assert torch.equal(found, make()({"y": x}, targets)[0])


def test_an_abandoned_step_moves_nothing_and_a_new_one_may_begin():
    cut, criterion = parts(), make(weighting=DWA())
    before = {name: value.clone() for name, value in criterion.state_dict().items()}
    window = StepWindow(criterion, 3)
    window.open([targets for _, targets in cut])
    criterion({"y": cut[0][0]}, cut[0][1], epoch=0)
    window.abandon()
    window.abandon()
    assert not window.is_open
    assert all(torch.equal(value, before[name]) for name, value in criterion.state_dict().items())
    window.open([cut[0][1]])
    criterion({"y": cut[0][0]}, cut[0][1], epoch=0)
    window.close_micro_batch()
    assert any(not torch.equal(value, before[name]) for name, value in criterion.state_dict().items())


def test_other_targets_than_those_of_the_step_are_told_of():
    cut, criterion = parts(), make()
    window = StepWindow(criterion, 1)
    window.open([cut[0][1]])
    criterion({"y": cut[1][0]}, cut[1][1])
    with pytest.raises(WindowError, match="expected forwards over"):
        window.close_micro_batch()
    assert not window.is_open


def test_targets_that_cannot_be_counted_leave_no_window_open():
    criterion = make()
    window = StepWindow(criterion, 1)
    with pytest.raises(Exception, match="valid"):
        window.open([{"y": torch.zeros(2, 5)}])
    assert not window.is_open
    with criterion.window([]):
        pass


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler, which looks at predictions
def test_a_compiled_criterion_is_divided_too():
    (x, targets), factor = parts((4,))[0], torch.ones((), dtype=torch.float64, requires_grad=True)
    criterion = torch.compile(make(), backend="eager")
    window = StepWindow(criterion, 2)
    window.open([targets])
    total = criterion({"y": x * factor}, targets)[0]
    window.close_micro_batch()
    expected = make()({"y": x * factor}, targets)[0]
    assert float(total.detach()) == pytest.approx(2 * float(expected.detach()))


@pytest.mark.parametrize(("arguments", "told"), [((nn.L1Loss(), 2), "criterion"), ((make(), 0), "micro_batches")])
def test_a_window_needs_a_criterion_and_a_number(arguments, told):
    with pytest.raises(ArgumentError, match=told):
        StepWindow(*arguments)


def test_gradients_of_losses_are_averaged_over_the_ranks_and_those_of_weightings_are_not(on_ranks):
    def gradients(own):
        scaled = LossWrapper(nn.Linear(1, 1, bias=False), "scaled", pred_key="y", gt_key="y")
        criterion = MultiLoss([scaled], [1.0], weighting=Uncertainty())
        for parameter in criterion.parameters():
            parameter.grad = torch.full_like(parameter, own)
        average_own_gradients(criterion)
        return float(scaled.loss_func.weight.grad), float(criterion.weighting.s.grad)

    assert on_ranks(partial(gradients, 1.0), partial(gradients, 3.0)) == [(2.0, 1.0), (2.0, 3.0)]
