"""The gradient of a window does not depend on how its batch is cut over micro-batches and ranks."""

from __future__ import annotations

import pytest
import torch
import windows

CASES = [
    pytest.param(1, range(30)),
    pytest.param(2, range(1000, 1020)),
    pytest.param(1, range(30, 400), marks=pytest.mark.slow),
    pytest.param(2, range(1020, 1330), marks=pytest.mark.slow),
    pytest.param(4, range(2000, 2300), marks=pytest.mark.slow),
]


def differing(groups, ranks, numbers, **options):
    """Return the cases that differ, of each rank."""
    if ranks == 1:
        return [windows.worst(numbers, 0, 1, **options)]
    return groups(ranks).run("window", numbers=numbers, **options)


@pytest.mark.parametrize(("ranks", "numbers"), CASES)
def test_the_gradient_of_a_window_is_that_of_the_joined_batch(groups, ranks, numbers):
    """The ranks answer within a minute for so many cases at once."""
    numbers = list(numbers)
    for first in range(0, len(numbers), 20):
        assert differing(groups, ranks, numbers[first : first + 20]) == [[]] * ranks


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_reduce_over_ranks_makes_a_forward_a_window(groups, ranks):
    assert differing(groups, ranks, list(range(3000, 3015)), one_each=True) == [[]] * ranks


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_wrapped_networks_average_the_same_gradients(groups, wrap):
    if wrap == "fsdp" and not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip("torch 2.6 shards no network on the CPU")
    assert differing(groups, 2, list(range(5000, 5006)), wrap=wrap) == [[], []]


@pytest.mark.parametrize("one_each", [False, True])
def test_running_norms_move_once_by_the_means_of_the_window(groups, one_each):
    options = {"track_norms": "running", "norm_momentum": 0.5, "one_each": one_each}
    assert differing(groups, 2, list(range(4000, 4008)), **options) == [[], []]
