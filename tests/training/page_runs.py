"""The training loops of the pages, run longer, with another seed and with a monitor."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import lossreg
from lossreg import Monitor

PAGES = Path(__file__).parents[2] / "docs"

LONGER: dict[str, tuple[list[tuple[str, str]], int]] = {
    "quickstart": ([("torch.manual_seed(0)", "torch.manual_seed({seed})"), ("range(10)", "range(25)")], 10),
    "training": (
        [
            ("    torch.manual_seed(0)", "    torch.manual_seed({seed})"),
            ("manual_seed(0))", "manual_seed({seed}))"),
            ('os.environ.get("EPOCHS", 6)', "50"),
        ],
        10,
    ),
    "counts": (
        [
            ("torch.manual_seed(0)\n    model", "torch.manual_seed({seed})\n    model"),
            ("batch(8, seed=step)", "batch(8, seed=1000 * {seed} + step)"),
            ("range(20)", "range(200)"),
        ],
        10,
    ),
    "watching": (
        [
            ("torch.manual_seed(0)\nnetwork", "torch.manual_seed({seed})\nnetwork"),
            ("manual_seed(number)", "manual_seed(number + {seed})"),
        ],
        10,
    ),
    "lightning": (
        [("seed_everything(0", "seed_everything({seed}"), ("main(int(sys.argv[1]), *sys.argv[2:])", "main(50)")],
        10,
    ),
}
"""What is changed on a page, so that it runs 200 steps from a seed; and after how many steps the monitor looks."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the blocks of a page: their language and their text."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def source_of(page: str, seed: int) -> str:
    """Return the Python of a page up to its first training loop, changed as `LONGER` says."""
    python = [text for language, text in blocks(page) if language == "python" and not text.startswith(">>>")]
    first = next(i for i, text in enumerate(python) if "backward()" in text or "trainer.fit" in text)
    source = "\n".join(python[: first + 1])
    for old, new in LONGER[page][0]:
        assert old in source, f"{page}: {old!r} is not on the page any more"
        source = source.replace(old, new.format(seed=seed))
    return source


def watched(page: str, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Monitor]:
    """Run a page in a folder; return the monitors of its criteria."""
    for language, text in blocks(page):
        name = re.match(r"# (\S+\.yaml)\n", text)
        if language == "yaml" and name:
            (folder / name[1]).write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    monitors: list[Monitor] = []
    load = lossreg.load_loss

    def load_watched(*args: Any, **options: Any) -> Any:
        criterion = load(*args, **options)
        monitors.append(Monitor(criterion, every=LONGER[page][1]))
        return criterion

    monkeypatch.setattr(lossreg, "load_loss", load_watched)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source_of(page, seed), f"{page}.md", "exec"), {"__name__": "__main__"})
    return monitors
