"""The gradient of a window does not depend on how its batch is cut, for every installed loss that has a count."""

from __future__ import annotations

import every_loss
import pytest

pytestmark = pytest.mark.needs_plugins
CUTS = 334
"""For each number of ranks; 1,002 for each loss."""
AT_ONCE = 10
"""How many cases of a loss the ranks answer within a minute."""
SHARES = 10


def answers(groups, ranks, names, numbers, **options):
    """Return what the first rank says, or this process where there is one."""
    if ranks == 1:
        return every_loss.worst(names, numbers, 0, 1, **options)
    found = groups(ranks).run("every_loss", names=names, numbers=numbers, **options)
    assert all(isinstance(answer, dict) for answer in found), found
    return found[0]


@pytest.fixture(scope="module")
def names():
    return list(every_loss.subjects())


def test_every_installed_loss_with_a_count_is_a_subject(names):
    from lossreg_wrappers.listing import kinds

    from lossreg.registry import catalog

    installed = {entry.name for entry in catalog().losses}
    first_party = {name for name in installed if name.startswith(("seg/", "crossfield/", "example/"))}
    expected = {*(name for name in kinds()["count"] if name in installed), *first_party}
    assert {every_loss.subjects()[name].loss for name in names} == expected


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_gradient_of_a_window_is_that_of_the_joined_batch(groups, ranks, names):
    for first in range(0, len(names), 20):
        some = names[first : first + 20]
        found = answers(groups, ranks, some, [10 * ranks, 10 * ranks + 1])
        assert found["differ"] == []
        assert found["learned"] > len(some) / 2


def test_reduce_over_ranks_makes_a_forward_a_window(groups, names):
    for first in range(0, len(names), 20):
        assert answers(groups, 2, names[first : first + 20], [100], one_each=True)["differ"] == []


@pytest.mark.parametrize("name", ["torch/CrossEntropyLoss-1-", "seg/SegLoss probabilities", "torch/L1Loss"])
def test_without_a_window_it_does(name):
    numbers = range(40)
    plain = every_loss.worst([name], numbers, 0, 1, plain=True)
    assert len(plain["differ"]) > plain["learned"] / 2


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("share", range(SHARES))
def test_the_gradient_of_a_window_in_a_thousand_cuts_of_each_loss(groups, ranks, names, share):
    for name in names[share::SHARES]:
        learned = 0
        for first in range(0, CUTS, AT_ONCE):
            numbers = [1000 * ranks + i for i in range(first, min(first + AT_ONCE, CUTS))]
            found = answers(groups, ranks, [name], numbers)
            assert found["differ"] == []
            learned += found["learned"]
        assert learned > CUTS / 3
