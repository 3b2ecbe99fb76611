"""Polygons drawn as targets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, sobel
from shapely import Polygon, affinity, box

from lossreg.demo.targets import draw_targets

pytestmark = pytest.mark.needs_plugins  # needs the extra `demo`


def test_a_box_is_drawn_where_it_lies_x_along_columns_and_y_down() -> None:
    interior, edge, vertex = draw_targets([box(4, 10, 24, 20)], 32, 40)["gt_polygons_image"]
    assert interior[10:20, 4:24].all()
    assert interior.sum() == 10 * 20
    assert edge[10, 4:24].all()
    assert edge[10:20, 23].all()
    assert not edge[15, 8:20].any()
    assert [vertex[y, x] for y, x in ((10, 4), (10, 23), (19, 23), (19, 4))] == [1, 1, 1, 1]
    assert not vertex[10, 10:18].any()


def test_angles_run_from_the_row_axis_to_the_column_axis() -> None:
    angle = draw_targets([box(4, 10, 24, 20)], 32, 40)["gt_crossfield_angle"][0]
    along_columns, along_rows = angle[10, 10:18], angle[13:17, 4]
    np.testing.assert_allclose(np.abs(np.sin(along_columns)), 1, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.cos(along_rows)), 1, atol=1e-6)


@settings(max_examples=25)
@given(degrees=st.floats(0, 180), length=st.floats(24, 40), width=st.floats(16, 24))
def test_tangents_lie_across_the_gradient_of_the_interior(degrees: float, length: float, width: float) -> None:
    building = affinity.rotate(box(32 - length / 2, 32 - width / 2, 32 + length / 2, 32 + width / 2), degrees)
    targets = draw_targets([building], 64, 64)
    interior, edge, vertex = targets["gt_polygons_image"]
    smooth = gaussian_filter(interior.astype(float), 2)
    rows, columns = sobel(smooth, axis=0), sobel(smooth, axis=1)
    near_vertex = gaussian_filter(vertex, 3) > 1e-3
    picked = (edge > 0) & ~near_vertex & (np.hypot(rows, columns) > 0.1)
    angle = targets["gt_crossfield_angle"][0][picked]
    across = np.abs(np.cos(angle) * rows[picked] + np.sin(angle) * columns[picked])
    assert picked.any()
    assert (across / np.hypot(rows, columns)[picked]).max() < math.sin(math.radians(15))


def test_holes_have_edges_and_vertices_and_are_not_interior() -> None:
    yard = Polygon(box(4, 4, 28, 28).exterior, [box(12, 12, 20, 20).exterior])
    interior, edge, vertex = draw_targets([yard], 32, 32)["gt_polygons_image"]
    assert not interior[13:19, 13:19].any()
    assert edge[16, 12] == 1
    assert vertex[12, 12] == 1


def test_distances_add_the_two_nearest_buildings_over_height_plus_width() -> None:
    distances = draw_targets([box(0, 0, 4, 32), box(20, 0, 24, 32), box(60, 0, 64, 32)], 32, 64)["distances"][0]
    np.testing.assert_allclose(distances[16, 10], (7 + 10) / 96, rtol=1e-6)
    np.testing.assert_allclose(distances[16, 21], (0 + 18) / 96, rtol=1e-6)


@pytest.mark.parametrize(("buildings", "far"), [([], 2.0), ([box(8, 8, 16, 16)], 1.0)])
def test_a_missing_building_is_as_far_as_height_plus_width(buildings: list[Polygon], far: float) -> None:
    assert draw_targets(buildings, 32, 32)["distances"].min() == far


def test_sizes_are_areas_of_whole_buildings_as_fractions_of_the_image() -> None:
    sizes = draw_targets([box(4, 4, 12, 12), box(-20, 20, 10, 30)], 32, 32)["sizes"][0]
    assert sizes[8, 8] == pytest.approx(64 / 1024)
    assert sizes[25, 3] == pytest.approx(300 / 1024)  # two thirds of it lie outside
    assert sizes[16, 25] == 1


def test_without_polygons_all_targets_are_empty() -> None:
    targets = draw_targets([], 16, 24)
    assert {key: value.shape for key, value in targets.items()} == {
        "gt_polygons_image": (3, 16, 24),
        "gt_crossfield_angle": (1, 16, 24),
        "distances": (1, 16, 24),
        "sizes": (1, 16, 24),
    }
    assert not targets["gt_polygons_image"].any()
