"""The registry of checks; the page on the conformance kit lists their docstrings."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossreg.testing import contract, promises
from lossreg.testing.contract import check

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"
HEADINGS = {
    "loss": "The checks",
    "schedule": "The checks of a schedule",
    "weighting": "The checks of a weighting",
    "preprocess": "The checks of a preprocess",
}


def section(kind: str) -> str:
    """Return the checks of a kind as the page lists them; those of a loss are listed once."""
    shared = set(promises()) if kind != "loss" else set()
    same = {name for name in shared if promises(kind).get(name) == promises()[name]}
    listed = {name: texts for name, texts in promises(kind).items() if name not in same}
    return "\n\n".join(f"### {name}\n\n{promise}\n\n{advice}" for name, (promise, advice) in listed.items())


@pytest.mark.parametrize("kind", HEADINGS)
def test_the_page_lists_every_check_as_it_describes_itself(kind):
    checks = PAGE.read_text(encoding="utf-8").partition(f"\n## {HEADINGS[kind]}\n")[2].partition("\n## ")[0]
    assert checks[checks.index("### ") :].rstrip("\n") == section(kind)


def test_a_check_of_an_unknown_kind_is_refused():
    with pytest.raises(KeyError):
        check(kinds=("criterion",))(lambda part: None)


def test_a_check_is_added_to_its_kinds_under_the_name_of_its_function(monkeypatch):
    monkeypatch.setattr(contract, "CHECKS_OF", {"loss": {}, "schedule": {}})

    @check("builds", kinds=("schedule",))
    def check_something(part):
        """It does something.

        Do it.
        """

    assert contract.CHECKS_OF["loss"] == {}
    found = contract.CHECKS_OF["schedule"]["something"]
    assert (found.promise, found.advice, found.after) == ("It does something.", "Do it.", ("builds",))
