"""Tests of the demo need its extra: without it there is nothing to collect."""

from importlib.util import find_spec

if any(find_spec(name) is None for name in ("matplotlib", "rasterio", "shapely", "skimage")):
    collect_ignore_glob = ["test_*.py"]
