"""Every exception that a caller of lossreg can meet, one hierarchy under `LossregError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lossreg.printable import MOST_SHOWN, clipped, printable


class LossregError(Exception):
    """Base of all errors that lossreg raises on purpose; whatever a file put into its text, a terminal can show it."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


# --- registry -------------------------------------------------------------------------------------


class PluginError(LossregError):
    """A plugin cannot be used: it does not import, raises, or offers something malformed."""


class PluginWarning(UserWarning):
    """A plugin was left out; the message says which and why."""


class NameLookupError(LossregError, LookupError):
    """A name does not mean one component.

    Attributes:
        problem: what is wrong with it.
        hint: what to write instead, or to install; may be empty.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem, self.hint = problem, hint


class UnknownNameError(NameLookupError):
    """No installed plugin offers a component of that name."""


class AmbiguousNameError(NameLookupError):
    """More than one plugin offers a component of that name; the message lists the candidates."""


# --- compiling ------------------------------------------------------------------------------------


class CompilerMissingWarning(UserWarning):
    """A loss was to be compiled and this machine cannot; the message says why. It runs as it is."""


# --- batches --------------------------------------------------------------------------------------


class BatchError(LossregError):
    """A batch is not what a loss or a preprocess needs; the message names the component and the key."""


class MissingKeyError(BatchError, KeyError):
    """A batch lacks a key that a loss or a preprocess reads."""

    def __str__(self) -> str:
        return printable(str(self.args[0]), keep="\n") if self.args else ""


class ShapeError(BatchError, ValueError):
    """A tensor has a shape that a loss cannot take."""


class DtypeError(BatchError, TypeError):
    """A tensor has a dtype that a loss cannot take."""


class RangeError(BatchError, ValueError):
    """A tensor holds values outside the range that a loss is defined on."""


# --- composition and norms ------------------------------------------------------------------------


class GraphError(LossregError, ValueError):
    """Terms and preprocesses do not form a graph: a cycle, a key nobody provides, two equal names."""


class NormError(LossregError, ValueError):
    """A norm cannot divide its loss: zero, negative, not finite, or taken over too few samples."""


class NonFiniteError(LossregError, ArithmeticError):
    """A term's value is NaN or infinite; the message names the term, the epoch and the ranges of the batch."""


class CheckpointError(LossregError, RuntimeError):
    """A checkpoint does not fit a criterion, of which nothing was loaded; `problems` holds every mistake.

    It is a `RuntimeError`, as what `load_state_dict` raises otherwise.
    """

    def __init__(self, owner: str, problems: Iterable[ConfigProblem]) -> None:
        self.owner = owner
        self.problems: tuple[ConfigProblem, ...] = tuple(problems)
        listed = _listed(self.problems, "{} mistakes:")
        super().__init__(f"{owner}: nothing was loaded, since the checkpoint does not fit: {listed}")

    def __reduce__(self) -> tuple[type[CheckpointError], tuple[str, tuple[ConfigProblem, ...]]]:
        """Let it cross to another process."""
        return type(self), (self.owner, self.problems)


class CheckpointWarning(UserWarning):
    """A checkpoint was loaded, and something of it needs your attention; the message says what."""


class RecomputedError(LossregError, RuntimeError):
    """Activation checkpointing computes a forward again whose state has moved since; the message names the state."""


class WeightingError(LossregError, ValueError, RuntimeError):
    """An adaptive weighting cannot weigh: a value it is not defined for, no epoch, no shared parameters."""


class DistributedError(LossregError, RuntimeError):
    """The ranks disagree or one of them failed; every rank raises the same message."""


# --- config ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConfigProblem:
    """One mistake in a config, or in an argument: where it is, what is wrong, and what to do about it."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{printable(self.path)}: " if self.path else ""
        return place + printable(self.message + (f" ({self.hint})" if self.hint else ""), keep="\n")


class ConfigError(LossregError, ValueError):
    """A config cannot be built; `problems` holds every mistake found in it, not the first alone."""

    def __init__(self, problems: Iterable[ConfigProblem] | str) -> None:
        self.problems: tuple[ConfigProblem, ...] = (
            (ConfigProblem("", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__(_listed(self.problems, "{} errors in the config:"))


class ConfigWarning(UserWarning):
    """A config is read in one of two ways that its writer may have meant; the message says both."""


class ArgumentError(LossregError, TypeError, ValueError):
    """What Python code gave to a constructor or a function does not fit; `problems` holds every mistake, by argument.

    It is a `TypeError` and a `ValueError` too, whichever of both a mistake is.
    """

    def __init__(self, owner: str, problems: Iterable[ConfigProblem]) -> None:
        self.owner = owner
        self.problems: tuple[ConfigProblem, ...] = tuple(problems)
        super().__init__(f"{owner}: {_listed(self.problems, '{} arguments are wrong:')}")

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, tuple[ConfigProblem, ...]]]:
        """Let it cross to another process, as a failure of a data loader's worker does."""
        return type(self), (self.owner, self.problems)


def _listed(problems: Sequence[ConfigProblem], heading: str) -> str:
    """Write the first problems, one a line, and count the rest."""
    lines = [clipped(str(problem)) for problem in problems[:MOST_SHOWN]]
    if len(problems) <= 1:
        return "".join(lines)
    listed = [heading.format(f"{len(problems):,}"), *(f"  - {line}" for line in lines)]
    if len(problems) > MOST_SHOWN:
        listed.append(f"  and {len(problems) - MOST_SHOWN:,} more")
    return "\n".join(listed)
