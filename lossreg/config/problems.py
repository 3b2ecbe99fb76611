"""The mistakes of a config, collected in place of raising at the first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lossreg import arguments
from lossreg.errors import ConfigError, ConfigProblem
from lossreg.printable import MOST_SHOWN


class Problems(list[ConfigProblem]):
    """What is wrong with a config, at most one problem a path."""

    def __init__(self, problems: Iterable[ConfigProblem] = ()) -> None:
        super().__init__(problems)
        self._paths = {problem.path for problem in self}

    @property
    def crowded(self) -> bool:
        """Whether a message lists no further ones: the nearest names of these are not searched."""
        return len(self) >= MOST_SHOWN

    def report(self, path: str, message: str, hint: str) -> None:
        """Keep a problem, unless one at the same place is known already.

        Args:
            path: where it is; a leading dot is that of a block that is the whole file.
            message: what is wrong, such as `"expected true or false, found 3"`.
            hint: what to do about it, such as `"optional: true"`.
        """
        path = path.removeprefix(".")
        if path not in self._paths:
            self.append(ConfigProblem(path, message, hint))
            self._paths.add(path)

    def move(self, index: int, path: str) -> None:
        """Give a problem another path."""
        problem = self[index]
        self._paths.discard(problem.path)
        self._paths.add(path)
        self[index] = ConfigProblem(path, problem.message, problem.hint)

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
