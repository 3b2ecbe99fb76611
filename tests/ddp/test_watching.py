"""The log and the monitor over real processes: means and verdicts are those of the joined batch, on every rank."""

from __future__ import annotations

import math

import pytest


def test_the_log_is_that_of_the_joined_batches_and_rank_0_alone_writes(groups):
    """Batches of other sizes on each rank, and a term that one rank lacks."""
    first, second = [[1.0, 3.0], [8.0]], [[2.0], [4.0, 6.0, 6.0]]
    answers = groups(2).run("watch", [{"numbers": first, "absent": [0]}, {"numbers": second}])
    assert [len(answer["written"]) for answer in answers] == [1, 0]
    assert answers[0]["returned"] == answers[1]["returned"]
    numbers = answers[0]["returned"][1]
    assert numbers["losses/train_near"] == pytest.approx((1 + 3 + 8 + 2 + 4 + 6 + 6) / 7)
    assert numbers["losses/train_far"] == pytest.approx((64 + 4 + 16 + 36 + 36) / 5)


def test_the_monitor_looks_at_the_gradients_of_all_ranks_and_all_agree(groups):
    numbers = [[float(step + 1), -1.0] for step in range(4)]
    answers = groups(2).run("watch", [{"numbers": numbers}, {"numbers": [batch * 2 for batch in numbers]}])
    assert answers[0]["verdicts"] == answers[1]["verdicts"] == [("counted twice", ("near", "again"), 2)]
    assert answers[0]["lengths"] == answers[1]["lengths"]
    assert answers[0]["lengths"][0]["near"] == pytest.approx(math.sqrt(2 * 0.5**2 + 4 * 0.25**2))


def test_a_term_that_a_rank_lacks_is_looked_at_where_it_is(groups):
    numbers = [[1.0, 2.0]] * 2
    answers = groups(2).run("watch", [{"numbers": numbers, "absent": [0, 1]}, {"numbers": numbers}])
    assert answers[0]["lengths"] == answers[1]["lengths"]
    assert answers[0]["lengths"][0]["far"] == pytest.approx(math.sqrt(1.0**2 + 2.0**2))
