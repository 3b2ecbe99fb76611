"""The pages that follow a config or a forward through the program name its functions in the order in which they run."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from types import CodeType, FrameType
from typing import Any

import pytest

PAGES = sorted(Path(__file__).parent.glob("way_of_*.md"))


def named(page: Path) -> dict[str, CodeType]:
    """Return the functions that a page lists, in its order: each begins an item, as `module.function`."""
    names = re.findall(r"^ *(?:-|\d+\.) `([\w.]+)`", page.read_text("utf-8"), re.MULTILINE)
    return {name: code_of(resolve_name(f"lossreg.{name}")) for name in names}


def code_of(function: Any) -> CodeType:
    function = function.fget if isinstance(function, property) else function
    return inspect.unwrap(function).__code__


def called(run: Callable[[], None], codes: dict[str, CodeType]) -> list[str]:
    """Return which functions a call runs, in the order of their first calls."""
    names, found = {code: name for name, code in codes.items()}, {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in names:
            found.setdefault(names[frame.f_code])

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return list(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_lists_functions_in_the_order_in_which_its_example_calls_them(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    for source, name in re.findall(r"^```yaml\n(# (\S+)\n.*?)^```", text, re.MULTILINE | re.DOTALL):
        Path(name).write_text(source, encoding="utf-8")
    source = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    codes = named(page)
    assert len(codes) > 5
    assert called(lambda: exec(compile(source, page.name, "exec"), {"__name__": page.stem}), codes) == list(codes)
