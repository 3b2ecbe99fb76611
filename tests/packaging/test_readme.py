"""On an index README stands alone: its links and pictures bear the address of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.needs_plugins

ROOT = Path(__file__).parents[2]
TARGETS = re.compile(r"""\]\(([^)\s]+)|\b(?:src|srcset|href)="([^"]+)"|^\[[^\]]+\]:\s*(\S+)""", re.MULTILINE)


def targets(text: str) -> list[str]:
    """Return the targets of all links and pictures, in Markdown and HTML, outside of code."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return ["".join(found) for found in TARGETS.findall(prose)]


def description(wheel: Path) -> str:
    archive = ZipFile(wheel)
    (path,) = (path for path in archive.namelist() if path.endswith(".dist-info/METADATA"))
    return archive.read(path).decode().partition("\n\n")[2]


@pytest.mark.parametrize("name", ["core", "seg", "crossfield", "wrappers", "example"])
def test_every_link_of_a_description_is_absolute(wheels, name):
    found = targets(description(wheels[name]))
    assert found
    assert [target for target in found if not target.startswith(("https://", "#"))] == []


def test_every_link_to_the_repository_leads_to_a_file(wheels):
    found = [re.match(r"https://github\.com/[^/]+/lossreg/(?:blob|raw)/main/([^#]+)", target) for target in
             targets(description(wheels["core"]))]  # fmt: skip
    files = [match[1] for match in found if match]
    assert {"docs/index.md", "CHANGELOG.md"} <= set(files)
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_all_forms_of_a_link_are_seen():
    text = '[a](one) ![b](two) [![c](three)](four) <img src="five"> `[d](no)`\n```\n[e](no)\n```\n[f]: six\n'
    assert sorted(targets(text)) == sorted(["one", "two", "three", "four", "five", "six"])
