"""Weights that are set at run time are the same on all ranks, or refused: on real processes."""

from __future__ import annotations

import pytest

WITH_COLLECTIVES = [{"reduce_over": "ranks"}, {"on_nonfinite": "skip_term"}, {"track_norms": "running"}]
EVERY = [{}, *WITH_COLLECTIVES, {"windowed": True}]


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_ranks_that_set_the_same_go_on(groups, options):
    ramp = {"schedule": "piecewise", "values": [0.0, 1.0], "epoch_thresholds": [0, 4]}
    answers = groups(2).run("change_weights", weights=[None, 5.0, None, ramp, None], **options)
    assert [len(answer) for answer in answers] == [5, 5]
    assert [gradient for _, gradient in answers[0]] == [gradient for _, gradient in answers[1]]


def test_a_weight_means_what_it_means_in_the_constructor(groups):
    """The weight of the constructor against one that is set, and one that a checkpoint brings."""
    built = groups(2).run("change_weights", weights=[None] * 3, weight=5.0)
    assert groups(2).run("change_weights", weights=[5.0, None, None], at="a") == built
    assert groups(2).run("change_weights", weights=[5.0, None, None], at="a", checkpoint=True) == built


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_different_weights_are_refused_on_both_ranks(groups, options):
    ours, theirs = groups(2).run("change_weights", [{"weights": [None, w]} for w in (5.0, 6.0)], **options)
    assert len(ours) == len(theirs) == 2
    assert ours[-1] == theirs[-1]
    assert ours[-1].startswith(
        "DistributedError: MultiLoss 'multi': expected the same criterion on every rank, found: "
    )
    assert "the weight of 'group/b' is lossreg.composition.schedules.Constant(value=5.0) on rank 0, " in ours[-1]
    assert ours[-1].endswith("call set_weight alike on every rank")


@pytest.mark.parametrize("options", [*WITH_COLLECTIVES, {"windowed": True}], ids=str)
@pytest.mark.parametrize("setter", [0, 1])
def test_a_weight_of_one_rank_is_refused_on_both_at_the_next_forward(groups, options, setter):
    each = [{"weights": [None, 5.0 if rank == setter else None, None]} for rank in range(2)]
    ours, theirs = groups(2).run("change_weights", each, **options)
    assert len(ours) == len(theirs) == 2
    assert ours[-1] == theirs[-1]
    assert "the weight of 'group/b' is " in ours[-1]


def test_a_weight_of_one_rank_ends_both_where_forwards_exchange_nothing(short_lived):
    """The ranks meet at no collective of the criterion; the rank that set a weight waits for the other in vain."""
    ours, theirs = short_lived(2, 5).run("change_weights", [{"weights": [None, 5.0]}, {"weights": [None, None]}])
    assert len(ours) == len(theirs) == 2
    assert "another rank did not come: every rank must call set_weight, or load a checkpoint, alike" in ours[-1]
    assert "Error" in theirs[-1]
