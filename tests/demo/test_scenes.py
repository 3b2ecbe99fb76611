"""Generated scenes."""

import numpy as np
import pytest
import torch

from lossreg.demo.scenes import generate_scenes, place_buildings

pytestmark = pytest.mark.needs_plugins  # needs the extra `demo`


def test_a_seed_gives_the_same_scenes_however_many_are_asked_for() -> None:
    few, many = generate_scenes(2, 48, seed=7), generate_scenes(3, 48, seed=7)
    for key, tensor in few.tensors.items():
        assert torch.equal(tensor, many.tensors[key][:2]), key


@pytest.mark.parametrize(("seed", "stream"), [(8, 0), (7, 1)])
def test_another_seed_or_stream_gives_other_scenes(seed: int, stream: int) -> None:
    image = generate_scenes(1, 48, seed=7).tensors["image"]
    assert not torch.equal(image, generate_scenes(1, 48, seed=seed, stream=stream).tensors["image"])


def test_scenes_hold_what_the_losses_read() -> None:
    tensors = generate_scenes(2, 64, seed=0).tensors
    assert {key: tuple(t.shape) for key, t in tensors.items()} == {
        "image": (2, 3, 64, 64),
        "gt_polygons_image": (2, 3, 64, 64),
        "gt_crossfield_angle": (2, 1, 64, 64),
        "distances": (2, 1, 64, 64),
        "sizes": (2, 1, 64, 64),
    }
    assert all(t.dtype == torch.float32 for t in tensors.values())
    assert tensors["image"].min() >= 0
    assert tensors["image"].max() <= 1
    assert tensors["gt_polygons_image"].unique().tolist() == [0, 1]
    assert tensors["gt_polygons_image"][:, 0].any(dim=(1, 2)).all()


def test_buildings_do_not_touch_and_stand_at_many_angles() -> None:
    angles = []
    for seed in range(20):
        placed = place_buildings(np.random.default_rng(seed), 128)
        assert all(a.distance(b) > 4 for a in placed for b in placed if a is not b)
        for building in placed:
            x, y = np.asarray(building.minimum_rotated_rectangle.exterior.coords)[:2].T
            angles.append(np.degrees(np.arctan2(y[1] - y[0], x[1] - x[0])) % 90)
    assert np.histogram(angles, bins=6, range=(0, 90))[0].min() > 0
