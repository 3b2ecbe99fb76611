"""The mistakes of a config, collected in place of raising at the first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lossreg import arguments
from lossreg.errors import ConfigError, ConfigProblem


class Problems(list[ConfigProblem]):
    """What is wrong with a config, at most one problem a path."""

    def report(self, path: str, message: str, hint: str) -> None:
        """Keep a problem, unless one at the same place is known already.

        Args:
            path: where it is; a leading dot is that of a block that is the whole file.
            message: what is wrong, such as `"expected true or false, found 3"`.
            hint: what to do about it, such as `"optional: true"`.
        """
        path = path.removeprefix(".")
        if all(problem.path != path for problem in self):
            self.append(ConfigProblem(path, message, hint))

    def take(self, others: Iterable[ConfigProblem]) -> None:
        """Report problems that were found elsewhere."""
        for problem in others:
            self.report(problem.path, problem.message, problem.hint)

    def check(self) -> None:
        """Raise a `ConfigError` with all problems, if there are any."""
        if self:
            raise ConfigError(self)


def shown(value: Any) -> str:
    """Write a value short, for a message."""
    return "nothing" if value is None else arguments.shown(value)
