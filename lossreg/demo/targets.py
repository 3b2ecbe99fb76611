"""Draw polygons as targets: interior, edge and vertex channels, tangent angles, distances and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import distance_transform_edt
from shapely import LineString, MultiPoint, Polygon
from shapely.geometry.base import BaseGeometry

EDGE_WIDTH = 3.0
"""Width of the lines of the edge channel, in pixels."""
_VERTEX_RADIUS = 2.0
"""Radius of the dots of the vertex channel, in pixels."""
_ROUND = 3  # segments per quarter circle, enough for a few pixels

Array = NDArray[np.float32]


def draw_targets(polygons: Sequence[Polygon], height: int, width: int) -> dict[str, Array]:
    """Return the targets of one image for polygons in pixel coordinates (x along columns, y along rows, down).

    Polygons are clipped to the image.

    Returns:
        gt_polygons_image: (3, H, W), 0 or 1: interior, edge, vertex.
        gt_crossfield_angle: (1, H, W), radians: on the edge channel the tangent of the nearest edge, measured from the
            row axis towards the column axis. So `cos` is the component along rows and `sin` the component along
            columns, as for an image gradient. 0 elsewhere.
        distances: (1, H, W): the sum of the distances to the two nearest buildings, as a fraction of `H + W`. With
            fewer buildings each missing distance is `H + W`.
        sizes: (1, H, W): the area of the building at the pixel as a fraction of the image; 1 elsewhere.
    """
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
    edges = [edge for ring in rings for edge in _edges(np.asarray(ring.coords)[:, :2])]
    dots = [MultiPoint(np.asarray(ring.coords)[:, :2]).buffer(_VERTEX_RADIUS, quad_segs=_ROUND) for ring in rings]
    lines = [(_wider(LineString(edge)), edge) for edge in edges]
    shape = (height, width)
    return {
        "gt_polygons_image": np.stack(
            [
                _burn(((polygon, 1.0) for polygon in polygons), shape),
                _burn(((line, 1.0) for line, _ in lines), shape),
                _burn(((dot, 1.0) for dot in dots), shape),
            ]
        ),
        "gt_crossfield_angle": _burn(((line, _angle(edge)) for line, edge in lines), shape)[None],
        "distances": _distances(polygons, shape)[None],
        "sizes": _burn(
            ((polygon.buffer(EDGE_WIDTH / 2), polygon.area / (height * width)) for polygon in polygons),
            shape,
            1.0,
        )[None],
    }


def _edges(ring: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the edges of a closed ring (K, 2), each (2, 2), without edges of length 0."""
    pairs = np.stack([ring[:-1], ring[1:]], axis=1)  # (K - 1, 2, 2)
    return [pair for pair in pairs if np.any(pair[0] != pair[1])]


def _wider(geometry: BaseGeometry) -> BaseGeometry:
    return geometry.buffer(EDGE_WIDTH / 2, quad_segs=_ROUND)


def _angle(edge: NDArray[np.float64]) -> float:
    dx, dy = edge[1] - edge[0]
    return float(np.arctan2(dx, dy))


def _burn(shapes: Iterable[tuple[Any, float]], shape: tuple[int, int], fill: float = 0.0) -> Array:
    """Return an image of `shape` (H, W) with the value of the geometry that covers each pixel's centre, else `fill`.

    Later geometries cover earlier ones.
    """
    drawn = [(geometry, value) for geometry, value in shapes if not geometry.is_empty]
    if not drawn:
        return np.full(shape, fill, dtype=np.float32)
    burnt: Array = rasterize(drawn, out_shape=shape, fill=fill, dtype="float32")
    return burnt


def _distances(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Array:
    far = float(sum(shape))
    first, second = np.full(shape, far), np.full(shape, far)
    for polygon in polygons:
        outside = _burn([(polygon, 1.0)], shape) == 0
        if not outside.all():
            distance = distance_transform_edt(outside)
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
    return np.asarray((first + second) / far, dtype=np.float32)
