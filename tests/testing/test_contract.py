"""The page on the conformance kit lists the docstrings of the checks."""

from __future__ import annotations

from pathlib import Path

from lossreg.testing import promises

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"


def test_the_page_lists_every_check_as_it_describes_itself():
    written = [f"### {name}\n\n{promise}\n\n{advice}" for name, (promise, advice) in promises().items()]
    checks = PAGE.read_text(encoding="utf-8").partition("\n## The checks\n")[2]
    assert checks[checks.index("### ") :] == "\n\n".join(written) + "\n"
