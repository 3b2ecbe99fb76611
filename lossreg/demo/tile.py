"""Cut a user's tile, a raster with building footprints, into patches."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from shapely import Polygon, affinity
from shapely.geometry.base import BaseGeometry

from lossreg.demo.samples import Samples
from lossreg.demo.targets import EDGE_WIDTH, Array, draw_targets
from lossreg.errors import LossregError

_HELD_OUT = 0.2  # share of the built area


class TileError(LossregError):
    """A tile or its labels cannot be used; the message says why."""


def load_tile(image: Path, labels: Path, *, count: int, size: int, seed: int) -> tuple[Samples, Samples]:
    """Return training and held-out patches of a tile.

    About a quarter of the tile at one of its four sides is held out: the one whose share of the built area is closest
    to a fifth. The held-out patches cover it side by side. Training patches are random positions in the rest, two of
    three on a building.

    Args:
        image: a raster that rasterio can read, with any number of bands and any dtype.
        labels: GeoJSON with polygons in the raster's coordinates.
        count: number of training patches.
        size: side of a patch in pixels.
        seed: seed for the positions of training patches; not negative.

    Raises:
        TileError: a file cannot be read, the tile is too small, or the footprints are in the wrong place.
    """
    pixels, transform = read_raster(image)
    height, width = pixels.shape[1:]
    if min(height, width) < size or max(height, width) < 2 * size:
        raise TileError(
            f"{image}: expected room for two patches of {size} x {size} pixels, found {width} x {height} pixels"
        )
    polygons = read_polygons(labels, transform)
    tree = shapely.STRtree(polygons)
    if not len(tree.query(shapely.box(0, 0, width, height), predicate="intersects")):
        raise TileError(_no_overlap(image, labels, polygons, transform, (height, width)))
    held_out, rest = _split(polygons, (height, width), size)

    def patch(row: int, column: int) -> dict[str, Array]:
        window = shapely.box(column, row, column + size, row + size)
        near = [polygons[i] for i in sorted(tree.query(window.buffer(EDGE_WIDTH)))]
        shifted = [affinity.translate(polygon, -column, -row) for polygon in near]
        cut = pixels[:, row : row + size, column : column + size]
        return {"image": cut, **draw_targets(shifted, size, size)}

    spots = _training_spots(np.random.default_rng(seed), polygons, rest, size)
    training = Samples.stack([patch(*next(spots)) for _ in range(count)])
    squares = itertools.product(
        range(held_out.top, held_out.bottom - size + 1, size),
        range(held_out.left, held_out.right - size + 1, size),
    )
    return training, Samples.stack([patch(*square) for square in squares])


class _Window(NamedTuple):
    """A rectangle of pixels; `bottom` and `right` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def box(self) -> Polygon:
        return shapely.box(self.left, self.top, self.right, self.bottom)


def _split(polygons: list[Polygon], shape: tuple[int, int], size: int) -> tuple[_Window, _Window]:
    """Return the held-out part of the tile and the rest, each at least one patch wide."""
    height, width = shape
    across, down = (max(1, round(extent / size / 4)) * size for extent in (width, height))
    choices = []
    if width >= 2 * size:
        choices += [
            (_Window(0, 0, height, across), _Window(0, across, height, width)),
            (_Window(0, width - across, height, width), _Window(0, 0, height, width - across)),
        ]
    if height >= 2 * size:
        choices += [
            (_Window(0, 0, down, width), _Window(down, 0, height, width)),
            (_Window(height - down, 0, height, width), _Window(0, 0, height - down, width)),
        ]

    def built(window: _Window) -> float:
        return float(shapely.area(shapely.intersection(polygons, window.box)).sum())

    whole = built(_Window(0, 0, height, width))

    usable = [choice for choice in choices if built(choice[0]) > 0 and built(choice[1]) > 0]
    if not usable:
        raise TileError(
            "expected buildings at a side of the tile and in the rest, found none; use a tile with more buildings, or "
            "smaller patches (--size)"
        )
    return min(usable, key=lambda choice: abs(built(choice[0]) / whole - _HELD_OUT))


def _training_spots(
    rng: np.random.Generator, polygons: list[Polygon], part: _Window, size: int
) -> Iterator[tuple[int, int]]:
    """Yield random upper left corners (row, column) of patches inside a part of the tile, without end."""
    inside = [polygon for polygon in polygons if polygon.intersects(part.box)]
    while True:
        x, y = rng.uniform((part.left, part.top), (part.right, part.bottom))
        if rng.random() < 2 / 3:
            building = inside[rng.integers(len(inside))].centroid
            x, y = np.array([building.x, building.y]) + rng.uniform(-size / 3, size / 3, 2)
        row = int(np.clip(y - size / 2, part.top, part.bottom - size))
        column = int(np.clip(x - size / 2, part.left, part.right - size))
        yield row, column


def read_raster(path: Path) -> tuple[Array, Affine]:
    """Return a raster as (C, H, W) and its transform; the 2nd to 98th percentile of each band is scaled to 0 to 1.

    Scaled values are clipped to -0.5 to 1.5. Pixels without data are 0. Alpha bands are not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                bands = [b for b in source.indexes if source.colorinterp[b - 1] != ColorInterp.alpha]
                pixels = source.read(bands, out_dtype="float32")
                valid = (source.read_masks(bands) > 0) & np.isfinite(pixels)
                transform = source.transform
    except RasterioError as error:
        raise TileError(f"{path}: expected a raster, found a file that cannot be read: {error}") from error
    if not valid.any():
        raise TileError(f"{path}: expected a raster with data, found none")
    return np.stack([_scaled(band, mask) for band, mask in zip(pixels, valid, strict=True)]), transform


def _scaled(band: Array, valid: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    low, high = np.percentile(band[valid], [2, 98]) if valid.any() else (0.0, 1.0)
    scaled = (band - low) / max(high - low, 1e-6)
    return np.where(valid, scaled.clip(-0.5, 1.5), 0).astype(np.float32)


def read_polygons(path: Path, transform: Affine) -> list[Polygon]:
    """Return the polygons of a GeoJSON file in pixel coordinates of a raster with a transform."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        geometries = [shapely.force_2d(shapely.from_geojson(json.dumps(g))) for g in _geometries(document)]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, shapely.errors.ShapelyError) as error:
        raise TileError(f"{path}: expected GeoJSON, found a file that cannot be read: {error}") from error
    polygons = [_mapped(p, ~transform) for g in geometries for p in _polygons(g)]
    if not polygons:
        raise TileError(f"{path}: expected polygons, found none")
    return polygons


def _mapped(polygon: Polygon, transform: Affine) -> Polygon:
    return affinity.affine_transform(polygon, [*transform[:2], *transform[3:5], transform[2], transform[5]])


def _geometries(document: Any) -> Iterator[dict[str, Any]]:
    """Yield the geometries of any GeoJSON object."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        for feature in document.get("features") or ():
            yield from _geometries(feature)
    elif kind == "Feature":
        if document.get("geometry") is not None:
            yield document["geometry"]
    elif kind is not None:
        yield document


def _polygons(geometry: BaseGeometry) -> Iterator[Polygon]:
    """Yield the polygons of a geometry; self-intersections are repaired."""
    for part in shapely.get_parts(shapely.make_valid(geometry)):
        if isinstance(part, Polygon):
            if not part.is_empty:
                yield part
        elif hasattr(part, "geoms"):
            yield from _polygons(part)


def _no_overlap(image: Path, labels: Path, polygons: list[Polygon], transform: Affine, shape: tuple[int, int]) -> str:
    def extent(polygons: list[Polygon]) -> str:
        left, bottom, right, top = shapely.total_bounds([_mapped(polygon, transform) for polygon in polygons])
        return f"x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}"

    whole = shapely.box(0, 0, shape[1], shape[0])
    return (
        f"no footprint of {labels} is on {image}: the tile covers {extent([whole])}, the footprints "
        f"{extent(polygons)}; use the same coordinates for both"
    )
