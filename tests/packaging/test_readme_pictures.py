"""The pictures of README are those of the demo of today."""

from __future__ import annotations

import runpy
from pathlib import Path

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def test_the_pictures_of_readme_are_made_by_the_demo_of_today() -> None:
    renew = runpy.run_path(str(IMAGES / "renew.py"))
    noted = renew["DIGEST"].read_text(encoding="utf-8").strip()
    assert renew["digest"]() == noted, "the demo has changed: run `python docs/images/renew.py` and look at them"
