"""The pages build without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    built = subprocess.run(
        [*command, str(Path(__file__).parent), str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    assert (tmp_path / "index.html").exists()
