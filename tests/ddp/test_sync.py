"""Norms over real processes: the mean weighted by samples on every rank, or the same error on each."""

from __future__ import annotations

import struct
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

RANKS = [2, pytest.param(4, marks=pytest.mark.slow)]

VALUES = st.floats(-1e3, 1e3, width=32)
RECORDS = st.lists(st.tuples(VALUES, st.integers(0, 40)), max_size=4)


def mean(records):
    records = list(records)
    count = sum(nums for _, nums in records)
    return sum(value * nums for value, nums in records) / count if count else 1.0


def close(value, rel=1e-6):
    return pytest.approx(value, rel=rel, abs=1e-6)


def bits(norm):
    return struct.pack("<f", norm)


@pytest.mark.parametrize("ranks", RANKS)
@given(data=st.data())
@settings(max_examples=25)
def test_the_norm_is_the_sample_weighted_mean_over_all_ranks(groups, ranks, data):
    shares = data.draw(st.lists(RECORDS, min_size=ranks, max_size=ranks))
    later = data.draw(st.lists(RECORDS, min_size=ranks, max_size=ranks))
    each = [{"records": first, "later": second} for first, second in zip(shares, later, strict=True)]
    answers = groups(ranks).run("sync", each)
    for step in range(3):
        assert len({bits(answer[step][0]) for answer in answers}) == 1, "norms differ between ranks"
    once, twice, end = answers[0]
    assert once[0] == close(mean(chain(*shares)))
    assert twice[0] == once[0], "to sync twice changed something"
    assert end[0] == close(mean(chain(*shares, *later)))
    for answer, first, second in zip(answers, shares, later, strict=True):
        assert answer[1][2] == sum(nums for _, nums in first), "a rank lost its own count"
        assert answer[2][2] == sum(nums for _, nums in first + second)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_order_of_the_ranks_does_not_matter(groups, ranks):
    shares = [{"records": [(0.1 + r, 3 * r + 1)]} for r in range(ranks)]
    forward = groups(ranks).run("sync", shares)[0][0][0]
    backward = groups(ranks).run("sync", shares[::-1])[0][0][0]
    assert backward == close(forward)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_without_a_sample_takes_the_norm_of_the_others(groups, ranks):
    each = [{"records": [(4.0, 2)]}] + [{"records": []}] * (ranks - 1)
    assert [answer[0][0] for answer in groups(ranks).run("sync", each)] == [4.0] * ranks


@pytest.mark.parametrize("ranks", RANKS)
@given(data=st.data())
@settings(max_examples=10)
def test_norms_set_by_hand_become_their_plain_mean(groups, ranks, data):
    given_norms = data.draw(st.lists(st.floats(0.125, 1e3, width=32), min_size=ranks, max_size=ranks))
    answers = groups(ranks).run("sync_by_hand", [{"norm": norm} for norm in given_norms])
    assert set(map(bits, answers)) == {bits(answers[0])}
    assert answers[0] == close(sum(given_norms) / ranks)


@pytest.mark.parametrize("ranks", RANKS)
def test_with_equal_counts_it_is_the_plain_mean(groups, ranks):
    each = [{"records": [(float(r), 5)]} for r in range(ranks)]
    assert groups(ranks).run("sync", each)[0][0][0] == close((ranks - 1) / 2)


def test_a_norm_pass_resumed_in_the_middle_ends_alike(groups):
    each = [{"records": [(1.5, 3), (2.5, 4)], "later": [(9.0, 1)]}, {"records": [(7.0, 2)], "later": []}]
    for first, second in groups(2).run("resume", each):
        assert first == second == close((1.5 * 3 + 2.5 * 4 + 9.0 + 14.0) / 10)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_groups_of_a_criterion_are_synchronised_with_it(groups, rank, ranks):
    each = [{"sizes": [r + 1, 2], "seed": r} for r in range(ranks)]
    answers = groups(ranks).run("sync_group", each)
    assert all(answer == answers[0] for answer in answers)
    criterion = rank.build()
    for share in each:
        for pred, gt in rank.batches(**share):
            criterion.update_norm(pred, gt, len(pred))
    assert answers[0] == {path: close(norm) for path, norm in rank.norms(criterion).items()}
    assert answers[0]["plain"] == 1.0


# --- the same error on every rank -------------------------------------------------------------------


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("names", [("near", "other", "deep"), ("far", "near", "deep"), ("near", "far", "x" * 100)])
def test_ranks_of_different_configs_raise_the_same_error(groups, ranks, names):
    each = [{"names": ("near", "far", "deep")}] * (ranks - 1) + [{"names": names}]
    answers = groups(ranks).run("sync_names", each)
    assert len(set(answers)) == 1
    assert answers[0].startswith(
        "DistributedError: sync: expected the same criterion on every rank, found: the list of terms "
    )
    assert len(answers[0]) < 1000
    assert groups(ranks).run("alive") == [ranks] * ranks


def test_a_world_size_that_is_not_the_groups_is_refused(groups):
    answers = groups(2).run("sync", records=[], world_size=3)
    assert answers == ["DistributedError: sync: world_size: expected 2, as in the process group, found 3"] * 2
    assert groups(2).run("sync", records=[(2.0, 1)], world_size=2)[0][0][0] == 2.0
