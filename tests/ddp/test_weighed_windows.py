"""Weightings over windows of two ranks are as over the joined batch, also where a rank has none of it."""

from __future__ import annotations

import pytest

CUTS = [[[3, 2], []], [[], [4]], [[3, 2], [1, 4]], [[3, 1], [0, 0]], [[2, 1, 1], [4]]]
"""For each of two ranks the samples of its micro-batches."""


def close(found, expected, **tolerance):
    """Compare lists in lists of numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        return all(close(found[key], value, **tolerance) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(
            close(a, b, **tolerance) for a, b in zip(found, expected, strict=True)
        )
    return found == expected if expected is None else found == pytest.approx(expected, **tolerance)


def compared(groups, rank, **options):
    """Compare what two ranks come to with the joined batch of one process."""
    answers = groups(2).run("weighed_windows", **options)
    assert not any(isinstance(answer, str) for answer in answers), answers
    totals, gradients, states = rank.weighed_windows(0, 1, **options)
    mean = [sum(both) / 2 for both in zip(*(answer[0] for answer in answers), strict=True)]
    assert close(mean, totals, rel=1e-6)
    for answer in answers:
        assert close(answer[1], gradients, rel=1e-5, abs=1e-7)
        assert close(answer[2], states, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "cov"])
@pytest.mark.parametrize("place", ["outer", "inner", "both"])
@pytest.mark.parametrize(
    "cuts", [[[3, 2], []], [[], [4]], [[3, 2], [1, 4]], [[3, 1], [0, 0]], [[2, 1, 1], [4]]], ids=str
)
def test_a_weighting_takes_the_joined_batch(groups, rank, weighting, place, cuts):
    compared(groups, rank, weighting=weighting, place=place, cuts=cuts)


@pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "cov"])
def test_a_group_that_a_rank_lacks(groups, rank, weighting):
    compared(groups, rank, weighting=weighting, place="both", cuts=[[3, 2], [3, 2]], lacking=(1,))


@pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "cov"])
@pytest.mark.parametrize("group", ["deep", "from_dict"])
@pytest.mark.parametrize("cuts", [[[3, 2], []], [[3, 2], [3, 2]], [[2, 1, 1], [4]]], ids=str)
def test_groups_of_other_kinds(groups, rank, weighting, group, cuts):
    compared(groups, rank, weighting=weighting, place="both", cuts=cuts, group=group)


@pytest.mark.parametrize("place", ["outer", "inner", "both"])
@pytest.mark.parametrize("lacking", [(), (0,)])
@pytest.mark.parametrize("cuts", [[[3], [3]], [[5], [5]]], ids=str)
def test_uncertainty_over_one_forward_of_each_rank(groups, rank, place, lacking, cuts):
    compared(groups, rank, weighting="uncertainty", place=place, cuts=cuts, lacking=lacking, single=True)
