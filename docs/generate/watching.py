"""Draw the picture of the page `watching`, by running the blocks of the page.

`python docs/generate/watching.py [FOLDER]`
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

PAGES = Path(__file__).parents[1]


def main(folder: Path) -> None:
    """Write the picture into a folder."""
    page = (PAGES / "watching.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        Path("terms.yaml").write_text(re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0], "utf-8")
        names: dict[str, object] = {}
        for block in blocks:
            if not block.startswith(">>>"):
                exec(block, names)
        shutil.copy("monitor.svg", folder / "monitor.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else PAGES / "generated").resolve())
