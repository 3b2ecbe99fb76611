"""Without the extra of the demo, no test of the demo is collected."""

from importlib.util import find_spec

if any(find_spec(name) is None for name in ("matplotlib", "rasterio", "shapely", "skimage")):
    collect_ignore_glob = ["test_*.py"]
