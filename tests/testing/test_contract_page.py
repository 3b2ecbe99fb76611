"""The page on the contract says what the checks say of themselves."""

from __future__ import annotations

from pathlib import Path

from lossreg.testing import promises

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"


def test_the_page_lists_every_check_as_it_describes_itself():
    written = [f"### {name}\n\n{promise}\n\n{advice}" for name, (promise, advice) in promises().items()]
    assert PAGE.read_text(encoding="utf-8").partition("names causes and not their consequences.\n\n")[2] == (
        "\n\n".join(written) + "\n"
    )
