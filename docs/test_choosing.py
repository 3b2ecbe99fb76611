"""The decision guide names losses that exist, and its commands find them."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from lossreg.cli import main as program
from lossreg.registry import catalog

DOCS = Path(__file__).parent
PAGE = (DOCS / "choosing.md").read_text("utf-8").replace("<wbr>", "")
ROWS = re.findall(r"^\|.*losses/.*`([^`]+)` \|$", PAGE, re.MULTILINE)
LINK = re.compile(r"\[([\w/-]+)\]\(losses/([\w/-]+)\.md\)")


def described() -> set[str]:
    """Return the names of all losses that have a page."""
    return {entry.name for entry in runpy.run_path(str(DOCS / "generate" / "losses.py"))["described"]()}


def test_every_row_with_a_loss_has_a_command():
    assert len(ROWS) == len([line for line in PAGE.splitlines() if line.startswith("|") and LINK.search(line)]) > 15


def test_each_loss_of_the_guide_has_a_page_under_its_name():
    named = LINK.findall(PAGE)
    assert [pair for pair in named if pair[0] != pair[1]] == []
    assert len(named) > 20
    assert {name for name, _ in named} - described() == set()


@pytest.mark.parametrize("command", ROWS)
def test_the_command_of_a_row_finds_the_losses_of_the_row(command: str):
    (row,) = (line for line in PAGE.splitlines() if line.endswith(f"| `{command}` |"))
    run = CliRunner().invoke(program, ["list", *shlex.split(command), "--all", "--json"])
    assert run.exit_code == 0, run.output
    found = set(re.findall(r'"name": "([^"]+)"', run.output))
    assert {name for name, _ in LINK.findall(row)} - found == set()


def test_each_weighting_of_the_guide_exists():
    names = {name for entry in catalog().weightings for name in (entry.name, *entry.spec.aliases)}
    used = re.findall(r"`weighting: ([\w/]+)`", PAGE)
    assert len(used) > 5
    assert set(used) - names == set()
