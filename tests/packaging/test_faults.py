"""The tests that the page of tested failures names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def defined(path: Path) -> set[str]:
    """Return the names of a file's tests, those of classes as `Class::test`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_each_row_is_held_by_a_test():
    rows = re.findall(
        r"^\|(?! failure | fault |-)(.*)\|$", (ROOT / "docs/faults.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 20
    for row in rows:
        path, _, name = row.split("|")[-1].strip(" `").partition("::")
        assert name in defined(ROOT / "tests" / path), row
