"""Samples: batches, shares and turns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, affinity, box

from lossreg.demo.samples import Samples, turned
from lossreg.demo.targets import draw_targets

pytestmark = pytest.mark.needs_plugins  # needs the extra `demo`


def numbered(count: int) -> Samples:
    """Return samples whose image is their number."""
    image = torch.arange(float(count))[:, None, None, None].expand(-1, 1, 4, 4)
    return Samples({"image": image, "class_freq": torch.arange(float(count))[:, None]})


def turned_polygon(polygon: Polygon, turn: int, size: int) -> Polygon:
    """Turn a polygon in a square image as `turned` turns the image."""
    centre = (size / 2, size / 2)
    if turn >= 4:
        polygon = affinity.scale(polygon, -1, 1, origin=centre)
    return affinity.rotate(polygon, -90 * (turn % 4), origin=centre)  # y runs down: counterclockwise to the eye


@settings(max_examples=30)
@given(turn=st.integers(0, 7), degrees=st.floats(0, 90), x=st.floats(16, 32), y=st.floats(16, 32))
def test_turning_the_targets_is_drawing_the_turned_polygon(turn: int, degrees: float, x: float, y: float) -> None:
    size = 48
    building = affinity.translate(affinity.rotate(box(-9, -5, 9, 5), degrees, origin=(0, 0)), x + 0.137, y + 0.171)
    drawn = {k: torch.from_numpy(v) for k, v in draw_targets([building], size, size).items()}
    expected = draw_targets([turned_polygon(building, turn, size)], size, size)
    result = {k: v.numpy() for k, v in turned(drawn, turn).items()}
    differing = (result["gt_polygons_image"] != expected["gt_polygons_image"]).mean()
    assert differing < 0.002  # a pixel centre may lie on an outline, though not with such offsets
    both = (result["gt_polygons_image"][1] > 0) & (expected["gt_polygons_image"][1] > 0)
    corners = np.maximum(result["gt_polygons_image"][2], expected["gt_polygons_image"][2]) > 0
    difference = result["gt_crossfield_angle"][0] - expected["gt_crossfield_angle"][0]
    np.testing.assert_allclose(np.sin(difference[both & ~corners]), 0, atol=1e-4)


@given(
    count=st.integers(1, 20),
    batch_size=st.integers(1, 6),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_the_shares_of_all_ranks_joined_are_the_batches_of_one(
    count: int, batch_size: int, world_size: int, epoch: int
) -> None:
    samples = numbered(count)
    alone = torch.cat(
        [torch.zeros(0), *(b["class_freq"][:, 0] for b in samples.batches(batch_size, seed=3, epoch=epoch))]
    )
    shares = [
        list(samples.batches(batch_size, seed=3, epoch=epoch, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    together = [share["class_freq"][:, 0] for rank in shares for share in rank]
    assert sorted(torch.cat([torch.zeros(0), *together]).tolist()) == sorted(alone.tolist())


def test_without_a_seed_every_sample_comes_once_in_order() -> None:
    batches = list(numbered(7).batches(3))
    assert torch.cat([b["class_freq"][:, 0] for b in batches]).tolist() == list(range(7))


def test_a_seed_and_an_epoch_fix_the_order_and_other_epochs_have_another() -> None:
    def order(epoch: int) -> list[float]:
        return torch.cat([b["class_freq"][:, 0] for b in numbered(32).batches(8, seed=5, epoch=epoch)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(32))


def test_an_incomplete_batch_of_a_training_epoch_is_left_out() -> None:
    assert [len(b["image"]) for b in numbered(10).batches(4, seed=0)] == [4, 4]


def test_class_freq_is_at_least_a_pixel() -> None:
    samples = Samples({"gt_polygons_image": torch.zeros(2, 3, 8, 8), "image": torch.zeros(2, 1, 8, 8)})
    assert samples.class_freq().tolist() == pytest.approx([1 / 128] * 3)
