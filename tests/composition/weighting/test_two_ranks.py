"""On two real processes with different data, every strategy ends with the same state on both."""

from pathlib import Path

import numpy as np
import pytest
import torch

PROGRAM = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="session")
def ranks(tmp_path_factory, in_two_processes):
    """Run the program on two ranks and return what each ended with, by strategy."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(f"{PROGRAM}:main", folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("moment", ["even", "uneven"])
def test_the_state_is_the_same_on_all_ranks(driver, ranks, moment):
    first, second = (rank[driver.strategy][moment] for rank in ranks)
    for name, value in first.items():
        assert torch.equal(second[name], value), name
        assert value.isfinite().all()


def test_a_value_that_one_rank_has_is_refused_on_both_with_the_same_words(driver, ranks):
    first, second = (rank[driver.strategy]["refused"] for rank in ranks)
    assert first == second
    if driver.make().domain.negative:
        assert first is None
    else:
        assert "found -7.68 for the term 't1'" in first


def test_the_state_is_that_of_one_process_on_the_means(driver, ranks):
    both = np.random.default_rng(5).uniform(0.2, 3.0, size=(2, 12, 3))
    alone = driver.make()
    driver.run(alone, both.mean(0))
    for name, value in driver.state(alone).items():
        torch.testing.assert_close(ranks[0][driver.strategy]["even"][name], value, rtol=1e-3, atol=1e-5)
