"""An option that takes one of some words."""

from __future__ import annotations

from typing import Any

import click

from lossreg.values import did_you_mean, either


class Choice(click.Choice[str]):
    """One of some words; the error for another word names the nearest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word that was given."""
        if value not in self.choices:
            hint = did_you_mean(value, self.choices)
            self.fail(f"expected {either(self.choices)}, found {value!r}{hint and '; '}{hint}", param, ctx)
        return str(value)
