"""Draw the pictures of README with the demo of today: `python docs/images/renew.py`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

IMAGES = Path(__file__).parent
DEMO = IMAGES.parents[1] / "lossreg" / "demo"
DIGEST = IMAGES / "demo.sha256"
SHAPE_THEM = ("demo.yaml", "network.py", "pictures.py", "samples.py", "scenes.py", "targets.py", "train.py")


def digest() -> str:
    """Return the digest of the files of the demo that decide what the pictures show."""
    return hashlib.sha256(b"\0".join((DEMO / name).read_bytes() for name in SHAPE_THEM)).hexdigest()


def main() -> None:
    """Run the demo, and keep its pictures and the digest."""
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "lossreg", "demo", "--output", folder], check=True)
        for ours, theirs in (("demo-curves.png", "terms.png"), ("demo-panel.png", "panel.png")):
            shutil.copyfile(Path(folder) / theirs, IMAGES / ours)
    DIGEST.write_text(f"{digest()}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
