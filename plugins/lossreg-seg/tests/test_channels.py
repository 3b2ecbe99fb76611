"""The forms of `gt_channel_selector`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossreg_seg import SegLoss
from omegaconf import OmegaConf
from torch.testing import assert_close

from lossreg.losses.channels import channel_indices, parse_selector, take_channels

Make = Callable[..., SegLoss]


@pytest.mark.parametrize(
    ("selector", "picked"),
    [
        (0, [0]),
        (-1, [3]),
        (slice(0, 2), [0, 1]),
        (slice(None), [0, 1, 2, 3]),
        (slice(None, None, 2), [0, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0], [2, 0]),
        ((1, 3), [1, 3]),
        ([True, False, False, True], [0, 3]),
        ({"start": 1, "stop": 3}, [1, 2]),
        ({"start": 0, "stop": None, "step": 3}, [0, 3]),
        (OmegaConf.create([1, 2]), [1, 2]),
        (OmegaConf.create({"start": 2, "stop": 4}), [2, 3]),
    ],
)
def test_picks(seg: Make, selector: Any, picked: list[int]) -> None:
    gt = torch.rand(2, 4, 5, 5).round()
    p = torch.rand(2, len(picked), 5, 5)
    value, _ = seg(gt_channel_selector=selector)(p, gt)
    assert_close(value, seg()(p, gt[:, picked])[0])


@given(st.integers(1, 6), st.data())
def test_equals_indexing(channels: int, data: st.DataObject) -> None:
    raster = torch.arange(channels, dtype=torch.float32).view(1, channels, 1, 1)
    inside = st.integers(-channels, channels - 1)
    selector = data.draw(
        st.one_of(
            inside,
            st.lists(inside, min_size=1, max_size=4),
            st.lists(st.booleans(), min_size=channels, max_size=channels).filter(any),
            st.slices(channels).filter(lambda s: bool(list(range(channels))[s])),
        )
    )
    taken = take_channels(raster, channel_indices(parse_selector(selector), channels))
    kept = [selector] if isinstance(selector, int) else selector
    assert taken.flatten().tolist() == torch.arange(channels).numpy()[kept].tolist()


def test_neighbours_are_a_view() -> None:
    raster = torch.rand(2, 4, 3, 3)
    assert take_channels(raster, [1, 2]).data_ptr() == raster[:, 1:].data_ptr()


@pytest.mark.parametrize(
    "selector", [True, "0", None, 1.0, [], [0, True], [0, "1"], [False, False], slice("a"), {"start": "0"}]
)
def test_other_forms_are_refused(seg: Make, selector: Any) -> None:
    with pytest.raises(TypeError, match="gt_channel_selector"):
        seg(gt_channel_selector=selector)


def test_an_unknown_key_of_the_mapping_is_named(seg: Make) -> None:
    with pytest.raises(ValueError, match=r"'start', 'stop' and 'step', found \{'end': 2\}"):
        seg(gt_channel_selector={"end": 2})


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (4, "expected one of 4 channels, found channel 4"),
        ([0, -5], "expected one of 4 channels, found channel -5"),
        ([True, False], "expected 4 bools, one for each channel, found 2"),
        (slice(4, 6), "expected a selection from 4 channels, found none"),
    ],
)
def test_a_selection_that_is_not_there_names_the_key(seg: Make, selector: Any, text: str) -> None:
    with pytest.raises(ValueError, match=rf"loss 'seg': 'gt.gt_polygons_image' has shape \(1, 4, 2, 2\).*{text}"):
        seg(gt_channel_selector=selector)(torch.rand(1, 1, 2, 2), torch.zeros(1, 4, 2, 2))
