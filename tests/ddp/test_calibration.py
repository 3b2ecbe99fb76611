"""Calibration over real processes gives one average over all shares, or an error on every rank, and never hangs."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossreg import calibrate_norms

RANKS = [2, pytest.param(4, marks=pytest.mark.slow)]


def close(norms):
    return {path: pytest.approx(norm, rel=1e-6) for path, norm in norms.items()}


def alone(rank, shares, **options):
    """Calibrate in this process over the union of the shares."""
    criterion = rank.build()
    union = [batch for share in shares for batch in rank.batches(**share)]
    given = calibrate_norms(
        criterion, torch.nn.Identity(), union, batch_fn=lambda _, b: (*b, len(b[0])), min_samples=0, **options
    )
    return given | {"plain": 0.5}


@pytest.mark.parametrize("ranks", RANKS)
@given(data=st.data())
@settings(max_examples=15)
def test_norms_over_shares_are_the_average_over_the_union(groups, rank, ranks, data):
    sizes = st.lists(st.integers(1, 9), max_size=4)
    shares = data.draw(st.lists(sizes, min_size=ranks, max_size=ranks).filter(any))
    each = [{"sizes": share, "seed": 10 + r} for r, share in enumerate(shares)]
    answers = groups(ranks).run("calibrate", each)
    assert all(answer == answers[0] for answer in answers), "norms differ between ranks"
    assert answers[0] == close(alone(rank, each))


@pytest.mark.parametrize("ranks", RANKS)
def test_max_samples_is_shared_by_the_ranks(groups, rank, ranks):
    each = [{"sizes": [2] * 10, "seed": r} for r in range(ranks)]
    answers = groups(ranks).run("calibrate", each, max_samples=4 * ranks)
    assert answers[0] == close(alone(rank, [share | {"sizes": [2, 2]} for share in each]))


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("faulty", [0, 1])
def test_where_one_rank_fails_all_raise_with_its_reason(groups, ranks, faulty):
    each = [{"sizes": [2, 2], "seed": r, "fault": "value" if r == faulty else None} for r in range(ranks)]
    answers = groups(ranks).run("calibrate", each)
    reason = f"ValueError: bad file of rank {faulty}"
    for r, answer in enumerate(answers):
        assert answer == (reason if r == faulty else f"DistributedError: rank {faulty} failed with {reason}")
    assert groups(ranks).run("alive") == [ranks] * ranks


def test_where_all_ranks_fail_each_raises_its_own(groups):
    answers = groups(2).run("calibrate", sizes=[2], seed=0, fault="key")
    assert answers == ["KeyError: 'bad file of rank 0'", "KeyError: 'bad file of rank 1'"]


@pytest.mark.parametrize("ranks", RANKS)
def test_a_bad_number_on_one_rank_is_the_same_error_on_all(groups, ranks):
    each = [{"sizes": [2, 2], "seed": r, "fault": "nan" if r == ranks - 1 else None} for r in range(ranks)]
    answers = groups(ranks).run("calibrate", each)
    assert len(set(answers)) == 1
    assert answers[0].startswith("NormError: calibrate_norms: cannot divide by the average of 'near' (average nan), ")


def test_too_few_samples_over_all_ranks_is_the_same_error_on_all(groups):
    each = [{"sizes": [2], "seed": 0}, {"sizes": [], "seed": 1}]
    answers = groups(2).run("calibrate", each, min_samples=3)
    message = "NormError: calibrate_norms: the loader gave 2 samples, at least 3 are needed; "
    assert answers == [message + "lower min_samples or give more data"] * 2
    assert isinstance(groups(2).run("calibrate", each, min_samples=2)[0], dict)


def test_ranks_of_different_configs_raise_the_same_error(groups):
    each = [{"names": ("near", "far", "deep")}, {"names": ("near", "far", "deeper")}]
    answers = groups(2).run("calibrate", each, sizes=[2], seed=0)
    assert len(set(answers)) == 1
    assert "the list of terms of group 'group' is deep, l1 on rank 0, deeper, l1 on rank 1. " in answers[0]
    assert groups(2).run("alive") == [2, 2]


def test_where_one_rank_is_killed_the_others_end_with_an_error(short_lived):
    timeout, victim = 20, 1
    group = short_lived(3, timeout)
    each = [{"sizes": [2, 2], "seed": r, "fault": "kill" if r == victim else None} for r in range(3)]
    start = time.monotonic()
    answers = group.run("calibrate", each, dead=(victim,))
    assert time.monotonic() - start < timeout + 5
    gone = "DistributedError: calibrate_norms: another rank is gone or did not answer: "
    assert all(a.startswith(gone) for a in answers)
    assert len(answers) == 2
    group.processes[victim].join(5)
    assert group.processes[victim].exitcode == -9


# --- under DistributedDataParallel ------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["outside", "inside"])
def test_unequal_shares_of_a_wrapped_network_neither_hang_nor_mix(groups, wrap):
    each = [{"sizes": [3, 3, 3], "seed": 0}, {"sizes": [], "seed": 1}]
    answers = groups(2).run("calibrate", each, wrap=wrap)
    assert answers[0] == answers[1]
    assert isinstance(answers[0], dict)
    assert groups(2).run("alive") == [2, 2]


@pytest.mark.parametrize("wrap", ["outside", "inside"])
def test_a_rank_of_a_wrapped_network_that_fails_makes_all_raise(groups, wrap):
    each = [{"sizes": [2, 2], "seed": 0}, {"sizes": [2], "seed": 1, "fault": "value"}]
    answers = groups(2).run("calibrate", each, wrap=wrap)
    reason = "ValueError: bad file of rank 1"
    assert answers == [f"DistributedError: rank 1 failed with {reason}", reason]
    assert groups(2).run("alive") == [2, 2]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("inside", [False, True])
def test_norms_and_gradients_are_those_of_one_process_with_the_joined_batch(groups, rank, inside, mode):
    each = [{"sizes": [3, 4], "seed": 0}, {"sizes": [5], "seed": 1}]
    answers = groups(2).run("calibrate_and_train", each, inside=inside, mode=mode)
    assert answers[0] == answers[1], "ranks differ"
    calibrated, again, gradients = answers[0]
    assert again == calibrated, "a sync after the calibration changed a norm"

    criterion, model = rank.build(), rank.Network()
    union = [batch for share in each for batch in rank.batches(**share)]
    assert {"plain": 1.0} | calibrate_norms(criterion, model, union, min_samples=1, mode=mode) == close(calibrated)
    image, target = (torch.cat(parts) for parts in zip(*(rank.batches([4], 100 + r)[0] for r in range(2)), strict=True))
    criterion(model.eval()(image), target)[0].backward()
    for parameter, gradient in zip(model.linear.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, torch.tensor(gradient))


# --- under FSDP2 ------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(torch.cpu.Stream, "record_event"), reason="torch 2.6 shards no network on the CPU")
@pytest.mark.parametrize("inside", [False, True])
def test_norms_of_a_sharded_network_are_not_sharded(groups, rank, inside):
    answers = groups(2).run("shard", inside=inside)
    assert answers[0] == answers[1]
    criterion, model = rank.build(), rank.Network()
    union = rank.batches([3, 3], 0) + rank.batches([3, 3], 1)
    assert {"plain": 1.0} | calibrate_norms(criterion, model, union) == close(answers[0])
