"""Channels are chosen by a number, a list, flags or a slice, and refused where there are none of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lossreg.losses.channels import channel_indices, parse_selector, take_channels


@pytest.mark.parametrize(
    ("selector", "indices"),
    [
        (1, [1]),
        (-1, [3]),
        ([2, 0], [2, 0]),
        ((3, -4), [3, 0]),
        ([True, False, False, True], [0, 3]),
        (slice(1, 3), [1, 2]),
        ({"start": 1}, [1, 2, 3]),
        ({"stop": -1, "step": 2}, [0, 2]),
        ({"step": -1}, [3, 2, 1, 0]),
    ],
)
def test_every_form_selects_from_four_channels(selector: Any, indices: list[int]) -> None:
    assert channel_indices(parse_selector(selector), 4) == indices
    tensor = torch.arange(8.0).view(2, 4, 1)
    assert torch.equal(take_channels(tensor, indices), tensor[:, indices])


@pytest.mark.parametrize(
    ("selector", "kind", "says"),
    [
        (True, TypeError, "here: expected an int, a slice"),
        ("0", TypeError, "found '0'"),
        ([], TypeError, r"found \[\]"),
        ([0, True], TypeError, "a list of ints"),
        ([False, False], TypeError, "not all false"),
        ({}, ValueError, "expected the keys 'start', 'stop' and 'step', found {}"),
        ({"begin": 1}, ValueError, "found {'begin': 1}"),
        ({"step": 0}, ValueError, "expected a step other than 0"),
        ({"start": 0.5}, TypeError, "start, stop and step: expected ints or null"),
        (slice(True, 2), TypeError, "start, stop and step: expected ints or null"),
    ],
)
def test_what_is_no_selector_is_refused(selector: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        parse_selector(selector, "here")


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        (4, "expected one of 4 channels, found channel 4"),
        ([0, -5], "expected one of 4 channels, found channel -5"),
        ([True], "expected 4 bools, one for each channel, found 1"),
        (slice(4, None), "expected a selection from 4 channels, found none"),
    ],
)
def test_a_channel_that_is_not_there_is_refused(selector: Any, says: str) -> None:
    with pytest.raises(IndexError, match=says):
        channel_indices(parse_selector(selector), 4)


def test_neighbours_are_a_view_and_others_a_copy() -> None:
    tensor = torch.zeros(2, 4, 3)
    take_channels(tensor, [1, 2]).fill_(1.0)
    take_channels(tensor, [0, 3]).fill_(2.0)
    assert tensor.sum((0, 2)).tolist() == [0.0, 6.0, 6.0, 0.0]
