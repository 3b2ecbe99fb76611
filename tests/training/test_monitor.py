"""The monitor finds what is planted in a run, says nothing of a clean one, and changes neither."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from planted_runs import FAULTS, batch, classes, fit, near, train
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.errors import ArgumentError
from lossreg.training.monitor import Monitor


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(fault):
    kind, terms, planted = FAULTS[fault]
    found = {(verdict.kind, verdict.terms) for verdict in train(**copy.deepcopy(planted)).verdicts}
    assert (kind, terms) in found
    assert {term for _, names in found for term in names} <= {*terms} | (
        {"fit", "near", "classes"} if kind == "not finite" else set()
    )


CLEAN = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 25))]


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("seed", CLEAN)
def test_nothing_is_said_of_a_clean_run(seed, calibrate):
    assert train(seed=seed, calibrate=calibrate).verdicts == []


def test_a_verdict_is_said_once_with_term_step_and_advice(caplog):
    with caplog.at_level(logging.WARNING, "lossreg"):
        train(weights=[1.0, 1e4, 1.0])
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("near: dominant (step 25): it has 9")
    assert "lower its weight" in message


def test_a_run_is_the_same_with_a_monitor():
    results = []
    for watched in (False, True):
        torch.manual_seed(0)
        network, generator = nn.Linear(8, 4), torch.Generator().manual_seed(0)
        dropped = LossWrapper(
            lambda p, t: (nn.functional.dropout(p) - t).abs().mean(), "dropped", pred_key="a", gt_key="a"
        )
        criterion = MultiLoss([fit(), dropped], [1.0, 2.0], track_norms="running")
        monitor = Monitor(criterion, every=2) if watched else None
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        for _ in range(5):
            x, gt = batch(generator)
            total, _, _ = criterion({"a": network(x)}, gt)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        assert monitor is None or len(monitor.samples) == 3
        results.append([*network.state_dict().values(), *criterion.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_an_open_window_counts_its_own_forwards_alone():
    criterion = MultiLoss([near()], [1.0])
    generator = torch.Generator().manual_seed(0)
    batches = [batch(generator)[1] for _ in range(3)]
    with Monitor(criterion, every=1) as monitor, criterion.window(batches):
        for gt in batches:
            criterion({"b": torch.zeros(16, 4, requires_grad=True)}, gt)
    assert len(monitor.samples) == 3


def test_numbers_of_a_look_by_hand():
    """Values, norms, lengths and cosines of two terms, worked out beside the monitor in float64."""
    criterion = MultiLoss(
        [fit(), LossWrapper(nn.L1Loss(), "small", pred_key="a", gt_key="b")], [3.0, [0.0, 4.0]], [0, 10]
    )
    criterion.loss_funcs[0].norm.fill_(2.0)
    generator = torch.Generator().manual_seed(1)
    pred = torch.randn(16, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    gt = {key: value.double() for key, value in batch(generator)[1].items() if key in "ab"}
    with Monitor(criterion, every=1) as monitor:
        criterion({"a": pred}, gt, epoch=5)
    (sample,) = monitor.samples
    first, second = 2 * (pred - gt["a"]) / 64, (pred - gt["b"]).sign() / 64
    assert sample.terms["fit"].value == pytest.approx((pred - gt["a"]).square().mean().item())
    assert (sample.terms["fit"].norm, sample.terms["small"].norm) == (2.0, 1.0)
    assert (sample.terms["fit"].factor, sample.terms["small"].factor) == (1.5, 2.0)
    assert sample.terms["fit"].length == pytest.approx(first.norm().item())
    assert sample.terms["small"].length == pytest.approx(second.norm().item())
    assert sample.cosines["fit", "small"] == pytest.approx(
        ((first * second).sum() / first.norm() / second.norm()).item()
    )
    assert sample.means == pytest.approx({path: term.value for path, term in sample.terms.items()})


def test_shares_of_the_gradient_are_written():
    criterion, written = MultiLoss([near()], [1.0]), []
    with Monitor(criterion, every=1, writer=lambda numbers, step: written.append((numbers, step))):
        criterion({"b": torch.ones(16, 4, requires_grad=True)}, batch(torch.Generator().manual_seed(0))[1])
    assert written == [({"shares/near": 1.0}, 0)]


def test_validation_and_forwards_without_gradients_are_not_looked_at():
    criterion = MultiLoss([near()], [1.0])
    gt = batch(torch.Generator().manual_seed(0))[1]
    with Monitor(criterion, every=1) as monitor:
        with torch.no_grad():
            criterion({"b": torch.zeros(16, 4)}, gt)
        criterion.eval()
        criterion({"b": torch.zeros(16, 4, requires_grad=True)}, gt)
    assert monitor.samples == []


def test_after_it_is_closed_it_looks_at_nothing():
    criterion = MultiLoss([near()], [1.0])
    Monitor(criterion, every=1).close()
    assert not criterion._forward_hooks or len(criterion._forward_hooks) == len(
        MultiLoss([near()], [1.0])._forward_hooks
    )


@pytest.mark.parametrize(("criterion", "every"), [(nn.MSELoss(), 1), (MultiLoss([classes()], [1.0]), 0)])
def test_what_it_cannot_watch_is_refused(criterion, every):
    with pytest.raises(ArgumentError, match=r"Monitor: (criterion|every): expected"):
        Monitor(criterion, every=every)
