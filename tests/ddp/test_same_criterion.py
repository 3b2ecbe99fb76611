"""Ranks compare their criteria first: the same error on every rank, with the difference."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.needs_plugins

# what rank 0 has, what rank 1 has, and what the error says of both
DIFFERENT = [
    ("plain", "other loss", "the loss of 'a' is torch.nn.modules.loss.L1Loss(reduction='mean', "),
    ("other loss", "other argument", "HuberLoss(delta=2.0, reduction='mean', wrap.dtype='float32', "
        "wrap.needs_grad=False, wrap.takes_epoch=False) on rank 1"),
    ("registered", "registered with another argument", "the loss of 'a' is torch/HuberLoss(delta=1.0, "),
    ("class weights", "other class weights", "weight=float32[2]"),
    ("many class weights", "other many class weights", "weight=float32[50] "),
    ("partial", "other partial", "delta=2.0"),
    ("lambda", "other lambda", "the loss of 'a' is "),
    ("lambda", "other constant of a lambda", "the loss of 'a' is "),
    ("closure", "other closure", "over [2]"),
    ("default", "other default", "over [2]"),
    ("plain", "key", "wrap.pred_key='x'"),
    ("plain", "channels", "wrap.pred_index=[0, 1]"),
    ("plain", "reduction", "wrap.reduction='sum'"),
    ("deep supervision", "other scales", "weights='same'"),
    ("plain", "weight", "the weight of 'a' is lossreg.composition.schedules.Constant(value=1.0) on rank 0, "),
    ("plain", "schedule", "the weight of 'a' is "),
    ("schedule", "other thresholds", "the weight of 'a' is "),
    ("function of the epoch", "other function of the epoch", "the weight of 'a' is "),
    ("object of the epoch", "other object of the epoch", "slope=0.25"),
    ("plain", "not normalised", "normalize of 'a' is True on rank 0, False on rank 1"),
    ("plain", "none normalised", "normalize is True on rank 0, False on rank 1"),
    ("plain", "optional", "optional of 'a' is False on rank 0, True on rank 1"),
    ("plain", "optional group", "optional of 'group/b' is False on rank 0, True on rank 1"),
    ("plain", "zero weight", "zero_weight is 'keep' on rank 0, 'skip' on rank 1"),
    ("plain", "not finite", "on_nonfinite is 'ignore' on rank 0, 'raise' on rank 1"),
    ("plain", "running norms", "track_norms is None on rank 0, 'running' on rank 1"),
    ("running norms", "momentum", "norm_momentum is 0.01 on rank 0, 0.5 on rank 1"),
    ("plain", "limits", "normalization_params is {} on rank 0, {'max_samples': 100} on rank 1"),
    ("plain", "weighting", "the weighting is None on rank 0, lossreg.composition.weighting.dwa.DWA("),
    ("weighting", "other option of the weighting", "temperature=3.0"),
    ("weighting", "uncertainty", "the weighting is "),
    ("uncertainty", "classification", "classification=['a']"),
    ("plain", "weighting of a group", "the weighting of group 'group' is None on rank 0, "),
    ("plain", "preprocess", "the list of preprocesses is [] on rank 0, ["),
    ("preprocess", "other option of the preprocess", "by=2.0"),
    ("plain", "function before", "the list of preprocesses is [] on rank 0, ["),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(groups):
    """What each pair of criteria came to on both ranks, by pair."""
    both = groups(2).run("compare", [{"criteria": [pair[rank] for pair in DIFFERENT]} for rank in range(2)])
    assert all(isinstance(answer, list) for answer in both), both
    return {pair[:2]: ranks for pair, ranks in zip(DIFFERENT, zip(*both, strict=True), strict=True)}


@pytest.mark.parametrize(("first", "second", "found"), DIFFERENT)
def test_ranks_of_different_criteria_raise_the_same_error(answers, first, second, found):
    ours, theirs = answers[first, second]
    assert ours == theirs
    assert ours.startswith("sync: expected the same criterion on every rank, found: ")
    assert found in ours
    assert ours.endswith("Start every rank with the same config and the same checkpoint")


def test_equal_criteria_are_equal_in_two_processes(groups, rank):
    both = groups(2).run("compare", criteria=list(rank.CRITERIA))
    assert both[0] == both[1]
    assert [set(answer.values()) for answer in both[0]] == [{1.5}] * len(rank.CRITERIA)


def test_a_loss_alone_is_compared_too(groups):
    answers = groups(2).run("compare_losses", [{"delta": 1.0}, {"delta": 2.0}])
    assert answers[0] == answers[1]
    assert "sync: expected the same criterion on every rank, found: the loss of 'a' is " in answers[0]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"criterion": "other loss"}, "the loss of 'a' is "),
        ({"max_samples": 50}, "max_samples is 1000 on rank 0, 50 on rank 1"),
        ({"min_samples": 2}, "min_samples is 1 on rank 0, 2 on rank 1"),
        ({"min_norm": 0.5}, "min_norm is 0.0 on rank 0, 0.5 on rank 1"),
        ({"mode": "train"}, "mode of calibrate_norms is eval on rank 0, train on rank 1"),
    ],
)
def test_a_calibration_compares_its_limits_too(groups, other, found):
    answers = groups(2).run("calibrate_with", [{}, other])
    assert answers[0] == answers[1]
    assert answers[0].startswith(
        "DistributedError: calibrate_norms: expected the same criterion on every rank, found: "
    )
    assert found in answers[0]


def test_a_wrong_argument_on_one_rank_is_told_to_the_others(groups):
    answers = groups(2).run("calibrate_with", [{}, {"max_samples": "many"}])
    assert answers[1].startswith("ArgumentError: ")
    assert answers[0] == f"DistributedError: rank 1 failed with {answers[1]}"


def test_a_world_size_that_one_rank_has_wrong_is_told_to_the_others(groups):
    answers = groups(2).run("sync", [{"records": []}, {"records": [], "world_size": 3}])
    reason = "DistributedError: sync: world_size: expected 2, as in the process group, found 3"
    assert answers == [f"DistributedError: rank 1 failed with {reason}", reason]
