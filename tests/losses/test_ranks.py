"""What ranks tell each other: errors, sums and what must be the same; on threads of one process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch

from lossreg.errors import DistributedError
from lossreg.losses.ranks import (
    add_up,
    average_gradients,
    compare,
    deferred,
    digest,
    gather,
    in_forward,
    reason_of,
    refuse_failures,
    several,
    told,
)

OnRanks = Callable[..., list[Any]]


def test_several_ranks_are_two_or_more(on_ranks: OnRanks) -> None:
    assert not several()
    assert on_ranks(several) == [False]
    assert on_ranks(several, several) == [True, True]


def test_shares_come_in_the_order_of_the_ranks(on_ranks: OnRanks) -> None:
    assert on_ranks(*(partial(gather, share, "here") for share in "abc")) == [["a", "b", "c"]] * 3


def test_gradients_are_averaged_over_the_ranks_also_where_a_rank_has_none(on_ranks: OnRanks) -> None:
    def gradient(own: float | None) -> float:
        parameter = torch.nn.Parameter(torch.zeros(()))
        parameter.grad = None if own is None else torch.tensor(own)
        average_gradients([parameter])
        assert parameter.grad is not None
        return float(parameter.grad)

    assert on_ranks(partial(gradient, 3.0), partial(gradient, None)) == [1.5, 1.5]
    assert on_ranks(partial(gradient, 3.0), collectives=0) == [3.0]


def test_without_a_process_group_a_share_is_alone() -> None:
    assert gather("a", "here") == ["a"]
    numbers = torch.tensor([1.0, 2.0])
    assert add_up(numbers, "here") is numbers
    compare({"the weighting": "none"}, "here")


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_added_up_element_by_element(on_ranks: OnRanks, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given = [torch.full(shape, number, dtype=dtype) for number in (1.0, 2.5, 4.0)]
    for found in on_ranks(*(partial(add_up, numbers, "here") for numbers in given)):
        torch.testing.assert_close(found, torch.full(shape, 7.5, dtype=dtype), rtol=0, atol=0)
    assert [numbers.unique().item() for numbers in given] == [1.0, 2.5, 4.0]


@pytest.mark.parametrize("collective", [partial(gather, "a"), partial(add_up, torch.ones(2))])
def test_a_rank_that_is_gone_is_an_error_with_the_owner(on_ranks: OnRanks, collective: Callable[[str], Any]) -> None:
    error, other = on_ranks(lambda: collective("MultiLoss 'm'"), lambda: "ended")
    assert isinstance(error, DistributedError)
    assert str(error) == "MultiLoss 'm': another rank is gone or did not answer: Connection closed by peer"
    assert isinstance(error.__cause__, RuntimeError)
    assert other == "ended"


# --- errors of one rank -----------------------------------------------------------------------------


def forward(*errors: Exception, keep: bool = True, then: Callable[[], Any] = lambda: None) -> list[float]:
    """Run a forward in which errors are raised, and after them a collective."""
    with told(keep=keep):
        for error in errors:
            with deferred():
                raise error
        then()
        return list(add_up(torch.tensor([1.0, 2.0]), "here"))


def test_an_error_waits_for_the_collective_and_is_raised_on_all_ranks(on_ranks: OnRanks) -> None:
    failing, waiting = on_ranks(lambda: forward(KeyError("gt.mask")), forward)
    assert repr(failing) == "KeyError('gt.mask')"
    assert isinstance(waiting, DistributedError)
    assert str(waiting) == "rank 0 failed with KeyError: 'gt.mask'"


def test_of_several_errors_the_first_is_told_and_all_ranks_that_failed(on_ranks: OnRanks) -> None:
    first, second, third = on_ranks(
        lambda: forward(ValueError("one"), TypeError("two")), forward, lambda: forward(KeyError("three"))
    )
    assert (repr(first), repr(third)) == ("ValueError('one')", "KeyError('three')")
    assert str(second) == "rank 0 failed with ValueError: one; rank 2 failed with KeyError: 'three'"


def test_where_no_rank_failed_the_sums_are_those_of_the_numbers(on_ranks: OnRanks) -> None:
    assert on_ranks(forward, forward, collectives=1) == [[2.0, 4.0]] * 2


def test_in_a_compiled_graph_numbers_are_added_up_and_nothing_is_told(
    on_ranks: OnRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert on_ranks(forward, forward, collectives=1) == [[2.0, 4.0]] * 2
    failing, other = on_ranks(lambda: forward(ValueError("late")), forward, collectives=1)
    assert repr(failing) == "ValueError('late')"
    assert other == [2.0, 4.0]


def test_an_error_that_meets_no_collective_is_raised_at_the_end() -> None:
    reached = []

    def run() -> None:
        with told(keep=True):
            with deferred():
                raise ValueError("late")
            reached.append("the end")

    with pytest.raises(ValueError, match="late"):
        run()
    assert reached == ["the end"]


def test_where_a_forward_has_no_collective_an_error_is_raised_at_once() -> None:
    with pytest.raises(ValueError, match="at once"):
        forward(ValueError("at once"), keep=False, then=lambda: pytest.fail("it went on"))


def test_outside_of_a_forward_an_error_is_raised_at_once(on_ranks: OnRanks) -> None:
    def run() -> str:
        with deferred():
            raise ValueError("at once")
        return "went on"

    assert repr(on_ranks(run)) == "[ValueError('at once')]"


def test_an_interrupt_does_not_wait() -> None:
    def run() -> None:
        with told(keep=True):
            with deferred():
                raise KeyboardInterrupt
            pytest.fail("it went on")

    with pytest.raises(KeyboardInterrupt):
        run()


def test_once_all_ranks_know_of_an_error_the_next_is_raised_at_once(on_ranks: OnRanks) -> None:
    def again() -> str:
        with told(keep=True):
            with deferred():
                raise KeyError("first")
            with suppress(KeyError):
                add_up(torch.ones(1), "here")
            with deferred():
                raise ValueError("next")
            return "went on"

    assert [str(error) for error in on_ranks(again, again)] == ["next", "next"]


def test_after_a_forward_nothing_of_it_is_left(on_ranks: OnRanks) -> None:
    def twice() -> tuple[list[float], bool]:
        with pytest.raises(ValueError, match="first"):
            forward(ValueError("first"))
        assert not in_forward()
        with pytest.raises(ValueError, match="at once"), deferred():
            raise ValueError("at once")
        return forward(), in_forward()

    assert on_ranks(twice, twice) == [([2.0, 4.0], False)] * 2


def test_inside_of_a_forward_is_inside_of_told_in_this_thread(on_ranks: OnRanks) -> None:
    assert not in_forward()
    with told(keep=False):
        assert in_forward()
        assert on_ranks(in_forward) == [False]
    assert not in_forward()


def test_failures_are_named_by_their_ranks() -> None:
    refuse_failures([None, None])
    with pytest.raises(DistributedError, match=r"^rank 1 failed with ValueError: no$"):
        refuse_failures([None, reason_of(ValueError("no"))])


# --- what is compared ---------------------------------------------------------------------------------


def compared(on_ranks: OnRanks, *facts: dict[str, str]) -> list[Any]:
    return [str(found) for found in on_ranks(*(partial(compare, of_rank, "here") for of_rank in facts))]


def test_equal_facts_are_no_error(on_ranks: OnRanks) -> None:
    assert on_ranks(*[partial(compare, {"a": "1", "b": "2"}, "here")] * 2, collectives=1) == [None, None]


def differ(told_of_them: str) -> list[str]:
    text = f"here: expected the same criterion on every rank, found: {told_of_them}. Start every rank with the same "
    return [text + "config and the same checkpoint"]


def test_different_facts_are_told_with_those_of_each_rank(on_ranks: OnRanks) -> None:
    facts = [{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2"}]
    assert compared(on_ranks, *facts) == differ("b is 2 on rank 0 and 2, 3 on rank 1") * 3


def test_a_fact_that_a_rank_lacks_is_told_only_where_no_other_differs(on_ranks: OnRanks) -> None:
    assert compared(on_ranks, {"a": "1"}, {}) == differ("a is 1 on rank 0, missing on rank 1") * 2
    assert compared(on_ranks, {"a": "1", "b": "2"}, {"b": "3"}) == differ("b is 2 on rank 0, 3 on rank 1") * 2


@pytest.mark.parametrize(("number", "more"), [(5, ""), (6, "; and 1 more"), (9, "; and 4 more")])
def test_of_many_different_facts_five_are_told(on_ranks: OnRanks, number: int, more: str) -> None:
    facts = [{f"f{i}": value for i in range(number)} for value in "xy"]
    lines = [f"f{i} is x on rank 0, y on rank 1" for i in range(5)]
    assert compared(on_ranks, *facts) == differ("; ".join(lines) + more) * 2


def cut(on_ranks: OnRanks, *values: str) -> list[str]:
    """Return how the value of each rank is shown."""
    told_of_them = compared(on_ranks, *({"a": value} for value in values))[0]
    shown = told_of_them.removeprefix(differ("a is ")[0].partition(".")[0]).partition(". Start")[0]
    return [part.rpartition(" on rank ")[0] for part in shown.split(", ")]


@pytest.mark.parametrize(
    ("start", "end"), [(0, 600), (39, 561), (41, 559), (300, 300), (560, 40), (600, 0)], ids=lambda size: str(size)
)
def test_of_long_values_the_part_is_shown_where_they_differ(on_ranks: OnRanks, start: int, end: int) -> None:
    values = ["s" * start + own + "e" * end for own in "xy"]
    for shown, own, value in zip(cut(on_ranks, *values), "xy", values, strict=True):
        part = shown.strip(".")
        assert own in part
        assert len(part) == 160
        assert shown.startswith("...") == (not value.startswith(part))
        assert shown.endswith("...") == (not value.endswith(part))
        assert value.index(part) == max(0, min(start - 40, len(value) - 160))


def test_a_value_of_160_characters_is_shown_as_it_is(on_ranks: OnRanks) -> None:
    values = [own + "e" * 159 for own in "xy"]
    assert cut(on_ranks, *values) == values


def test_of_values_of_which_one_begins_the_other_the_end_is_shown(on_ranks: OnRanks) -> None:
    short, long = cut(on_ranks, "s" * 200, "s" * 200 + "x")
    assert short == "..." + "s" * 160
    assert long == "..." + "s" * 159 + "x"


def test_a_digest_is_of_names_values_and_their_order() -> None:
    given = [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "12", "b": ""}, {"a": "1"}, {"a1": "", "b": "2"}]
    assert len({digest(facts) for facts in given}) == len(given)
    assert digest({"a": "1", "b": "2"}) == digest({"a": "1", "b": "2"})
