"""A user's tile, generated here, small and in map coordinates."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.enums import ColorInterp
from shapely import Polygon, affinity, box, to_geojson

from lossreg.demo.tile import TileError, load_tile, read_polygons, read_raster

pytestmark = pytest.mark.needs_plugins  # needs the extra `demo`

HERE = Affine(0.5, 0, 733601, 0, -0.5, 3725139)  # half a metre a pixel, north up


def write_raster(path: Path, pixels: np.ndarray, transform: Affine = HERE, **profile: Any) -> Path:
    bands = pixels if pixels.ndim == 3 else pixels[None]
    profile = {
        "driver": "GTiff",
        "dtype": bands.dtype,
        "transform": transform,
        "crs": "EPSG:32616",
        **profile,
    }
    with rasterio.open(path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], **profile) as target:
        target.write(bands)
    return path


def to_map(polygon: Polygon, transform: Affine = HERE) -> dict[str, Any]:
    a, b, c, d, e, f = transform[:6]
    return dict(json.loads(to_geojson(affinity.affine_transform(polygon, [a, b, d, e, c, f]))))


def write_labels(path: Path, geometries: list[Any]) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


HOUSES = [box(x, y, x + 20, y + 12) for x in range(8, 180, 40) for y in range(10, 150, 36)]


@pytest.fixture
def tile(tmp_path: Path) -> tuple[Path, Path]:
    """A dark 16-bit tile of 192 x 160 pixels with bright houses."""
    pixels = np.random.default_rng(0).integers(100, 200, (160, 192)).astype(np.uint16)
    for house in HOUSES:
        x0, y0, x1, y1 = map(int, house.bounds)
        pixels[y0:y1, x0:x1] += 900
    return (
        write_raster(tmp_path / "tile.tif", pixels, nodata=0),
        write_labels(tmp_path / "houses.geojson", [to_map(house) for house in HOUSES]),
    )


def test_footprints_lie_on_the_pixels_of_their_buildings(tile: tuple[Path, Path]) -> None:
    for samples in load_tile(*tile, count=12, size=48, seed=0):
        image, interior = samples.tensors["image"][:, 0], samples.tensors["gt_polygons_image"][:, 0] > 0
        assert interior.any()
        assert not interior.all()
        assert image[interior].min() > 0.8
        assert image[~interior].max() < 0.3


def test_no_pixel_is_both_trained_on_and_held_out(tmp_path: Path) -> None:
    position = np.arange(160 * 192, dtype=np.float64).reshape(160, 192)
    image = write_raster(tmp_path / "position.tif", position)
    labels = write_labels(tmp_path / "houses.geojson", [to_map(house) for house in HOUSES])
    low, high = np.percentile(position, [2, 98])
    training, held_out = (
        torch.round(s.tensors["image"].double() * (high - low) + low)
        for s in load_tile(image, labels, count=200, size=32, seed=1)
    )
    inside = [part[(part > low) & (part < high)].unique().tolist() for part in (training, held_out)]
    assert not set(inside[0]) & set(inside[1])
    assert len(held_out) * 32 * 32 == len(torch.unique(held_out)) or (held_out < low).any() or (held_out > high).any()
    assert 0.15 < held_out.numel() / position.size < 0.35


def test_the_same_seed_gives_the_same_patches(tile: tuple[Path, Path]) -> None:
    first, again, other = (load_tile(*tile, count=6, size=32, seed=seed)[0].tensors["image"] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bands_are_scaled_each_by_its_own_range_and_alpha_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bands = np.stack([rng.integers(0, 60_000, (40, 40)), rng.integers(200, 300, (40, 40)), np.full((40, 40), 65535)])
    path = write_raster(tmp_path / "bands.tif", bands.astype(np.uint16))
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
    pixels, _ = read_raster(path)
    assert pixels.shape == (2, 40, 40)
    np.testing.assert_allclose(np.percentile(pixels, [2, 98], axis=(1, 2)).T, [[0, 1], [0, 1]], atol=1e-5)


@pytest.mark.parametrize("gap", [np.nan, -9999.0])
def test_pixels_without_data_are_zero_and_do_not_move_the_scale(tmp_path: Path, gap: float) -> None:
    full = np.random.default_rng(0).uniform(1, 2, (40, 40)).astype(np.float32)
    holed = full.copy()
    holed[:10] = gap
    pixels, _ = read_raster(write_raster(tmp_path / "holed.tif", holed, nodata=-9999.0))
    expected, _ = read_raster(write_raster(tmp_path / "cut.tif", full[10:]))
    assert not pixels[0, :10].any()
    np.testing.assert_allclose(pixels[0, 10:], expected[0], atol=1e-6)


def test_a_flat_band_is_finite(tmp_path: Path) -> None:
    pixels, _ = read_raster(write_raster(tmp_path / "flat.tif", np.full((16, 16), 7, np.uint8)))
    assert np.isfinite(pixels).all()


def test_a_raster_without_coordinates_takes_footprints_in_pixels(tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write_raster(tmp_path / "plain.tif", np.ones((8, 8), np.uint8), transform=None, crs=None)
    _, transform = read_raster(path)
    labels = write_labels(tmp_path / "pixels.geojson", [json.loads(to_geojson(box(1, 2, 5, 6)))])
    assert read_polygons(labels, transform)[0].bounds == (1, 2, 5, 6)


def test_geojson_of_all_kinds_is_read(tmp_path: Path) -> None:
    square, hole = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], [[3, 3], [6, 3], [6, 6], [3, 6], [3, 3]]
    geometries = [
        None,
        {"type": "Polygon", "coordinates": [square, hole]},
        {"type": "Polygon", "coordinates": [[[x, y, 5.0] for x, y in square]]},
        {"type": "MultiPolygon", "coordinates": [[square], [[[x + 20, y] for x, y in square]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]},  # crosses itself
        {"type": "Point", "coordinates": [1, 1]},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [square]}]},
    ]
    polygons = read_polygons(write_labels(tmp_path / "all.geojson", geometries), Affine.identity())
    assert [round(p.area) for p in polygons] == [72, 81, 81, 81, 4, 4, 81]
    assert all(p.is_valid and not p.has_z for p in polygons)


def test_footprints_elsewhere_are_an_error_that_gives_both_extents(tile: tuple[Path, Path], tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "degrees.geojson", [json.loads(to_geojson(box(-84.5, 33.6, -84.4, 33.7)))])
    with pytest.raises(TileError, match=r"tile covers x 733601 to 733697, y 3725059 to 3725139.*x -84.5 to -84.4"):
        load_tile(tile[0], labels, count=1, size=32, seed=0)


def test_a_tile_of_less_than_two_patches_is_an_error(tile: tuple[Path, Path]) -> None:
    with pytest.raises(TileError, match="expected room for two patches of 128 x 128 pixels, found 192 x 160 pixels"):
        load_tile(*tile, count=1, size=128, seed=0)


def test_buildings_in_one_spot_alone_cannot_be_held_out(tile: tuple[Path, Path], tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "one.geojson", [to_map(box(90, 70, 100, 80))])
    with pytest.raises(TileError, match="expected buildings at a side of the tile and in the rest"):
        load_tile(tile[0], labels, count=1, size=32, seed=0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "expected GeoJSON, found"),
        ('{"type": "Polygon", "coordinates": [[[0, 0]]]}', "expected GeoJSON, found"),
        ('{"type": "Blob"}', "expected GeoJSON, found"),
        ("[]", "expected polygons, found none"),
        ('{"type": "FeatureCollection", "features": []}', "expected polygons, found none"),
        ('{"type": "FeatureCollection", "features": [1, null]}', "expected polygons, found none"),
    ],
)
def test_labels_that_are_not_geojson_are_an_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.geojson"
    path.write_text(text)
    with pytest.raises(TileError, match=says):
        read_polygons(path, Affine.identity())


def test_a_file_that_is_no_raster_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "not.tif"
    path.write_text("no raster")
    with pytest.raises(TileError, match=r"not\.tif: expected a raster, found"):
        read_raster(path)


def test_a_raster_of_no_data_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TileError, match="expected a raster with data, found none"):
        read_raster(write_raster(tmp_path / "void.tif", np.zeros((8, 8), np.uint8), nodata=0))
