"""The list of what a mask chooses for each loss, a part of README: `python -m lossreg_wrappers.listing README.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from lossreg import LossSpec
from lossreg.registry import catalog

_BEGIN, _END = "<!-- what masks choose: begin -->\n", "<!-- what masks choose: end -->\n"


def specs() -> dict[str, LossSpec]:
    """Return the specs of all losses of this distribution by name, also of libraries that are not installed."""
    entries = [*catalog().losses, *(entry for entry, _ in catalog().losses.absent)]
    found = {entry.name: entry.spec for entry in entries if entry.plugin.distribution == "lossreg-wrappers"}
    return dict(sorted(found.items()))


def kinds() -> dict[str, list[str]]:
    """Return the names of the losses whose mean has a count, which only take a mask, and which do neither."""
    by_kind: dict[str, list[str]] = {"count": [], "mask": [], "neither": []}
    for name, spec in specs().items():
        kind = "neither" if spec.unmasked else "mask" if spec.masking.endswith("no count") else "count"
        by_kind[kind].append(name)
    return by_kind


def _rows(names: Iterable[str]) -> list[str]:
    """Return table rows, one for each text, with all names that have it."""
    by_text: dict[str, list[str]] = {}
    for name in names:
        by_text.setdefault(specs()[name].unmasked or specs()[name].masking, []).append(name)
    return [f"| {', '.join(f'`{name}`' for name in same)} | {text} |" for text, same in sorted(by_text.items())]


def listing() -> str:
    """Return the lists as Markdown."""
    of = kinds()
    masked = [
        f"{len(of['count'])} losses have a count, {len(of['mask'])} more take a mask, {len(of['neither'])} do neither.",
        "",
        "| losses | a mask chooses |",
        "|---|---|",
        *_rows([*of["count"], *of["mask"]]),
        "",
        "| losses without a mask | why, and what would do |",
        "|---|---|",
        *_rows(of["neither"]),
    ]
    return "\n".join(masked) + "\n"


def replaced(text: str) -> str:
    """Return a page with the lists of today between its two marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{listing()}{_END}{after}"


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(replaced(page.read_text(encoding="utf-8")), encoding="utf-8")
