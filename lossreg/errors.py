"""All exceptions and warnings of lossreg; the exceptions are subclasses of `LossregError`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lossreg.printable import MOST_SHOWN, clipped, printable

_OURS = ("lossreg.", "lossreg_seg.", "lossreg_crossfield.", "lossreg_wrappers.")
_NOT_THE_USERS = (*_OURS, "torch.", "lightning.", "pytorch_lightning.", "contextlib", "functools")
"""How the names of modules begin that a user did not write."""


class LossregError(Exception):
    """Base class of all errors that lossreg raises; its text is safe to print in a terminal."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's code that led here, past the lines of lossreg, its plugins, torch and trainers."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_NOT_THE_USERS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


# --- registry -------------------------------------------------------------------------------------


class PluginError(LossregError):
    """A plugin cannot be used: its import fails, a hook raises, or it offers something malformed."""


class PluginWarning(UserWarning):
    """A plugin was skipped; the message says which and why."""


class NameLookupError(LossregError, LookupError):
    """A name does not refer to exactly one component.

    Attributes:
        problem: what is wrong with the name.
        hint: what to write or install instead; may be empty.
        near: names that may be meant; those of the hint.
    """

    def __init__(self, problem: str, hint: str = "", near: Iterable[str] = ()) -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem, self.hint, self.near = problem, hint, tuple(near)


class UnknownNameError(NameLookupError):
    """No installed plugin offers a component with this name."""


class AmbiguousNameError(NameLookupError):
    """Several plugins offer a component with this name; the message lists the candidates."""


# --- compiling ------------------------------------------------------------------------------------


class CompilerMissingWarning(UserWarning):
    """No compiler is available; the loss runs uncompiled. The message says what is missing."""


# --- batches --------------------------------------------------------------------------------------


class BatchError(LossregError):
    """A batch does not fit a loss or a preprocess; the message names the component and the key."""


class MissingKeyError(BatchError, KeyError):
    """A batch lacks a key that a loss or a preprocess reads."""

    def __str__(self) -> str:
        return printable(str(self.args[0]), keep="\n") if self.args else ""


class ShapeError(BatchError, ValueError):
    """A tensor has a shape that a loss does not accept."""


class DtypeError(BatchError, TypeError):
    """A tensor has a dtype that a loss does not accept."""


class RangeError(BatchError, ValueError):
    """A tensor has values outside the range of a loss."""


# --- composition and norms ------------------------------------------------------------------------


class GraphError(LossregError, ValueError):
    """Terms and preprocesses do not form a graph: there is a cycle, a missing key, or a duplicate name."""


class NormError(LossregError, ValueError):
    """A norm is invalid: it is zero, negative or not finite, or was computed from too few samples."""


class NonFiniteError(LossregError, ArithmeticError):
    """A term's value is NaN or infinite; the message names the term, the epoch and the ranges of the batch."""


class CheckpointError(LossregError, RuntimeError):
    """A checkpoint does not fit the criterion, and nothing was loaded; `problems` lists every mistake.

    Also a `RuntimeError`, like the other errors of `load_state_dict`.
    """

    def __init__(self, owner: str, problems: Iterable[ConfigProblem]) -> None:
        self.owner = owner
        self.problems: tuple[ConfigProblem, ...] = tuple(problems)
        listed = _listed(self.problems, "{} mistakes:")
        super().__init__(f"{owner}: nothing was loaded, since the checkpoint does not fit: {listed}")

    def __reduce__(self) -> tuple[type[CheckpointError], tuple[str, tuple[ConfigProblem, ...]]]:
        """Support pickling, so that the error can be sent to another process."""
        return type(self), (self.owner, self.problems)


class CalibrationWarning(UserWarning):
    """A criterion that divides its terms by norms is trained before anything set the norms."""


class CheckpointWarning(UserWarning):
    """A checkpoint was loaded, but needs your attention; the message says why."""


class RecomputedError(LossregError, RuntimeError):
    """Activation checkpointing repeats a forward whose state has changed since; the message names the state."""


class WeightingError(LossregError, ValueError, RuntimeError):
    """An adaptive weighting cannot compute weights: a value is invalid, or the epoch or the parameters are missing."""


class CountError(LossregError, NotImplementedError):
    """The targets of a loss do not tell how much its mean is taken over; the message names the term and says why."""


class WindowError(LossregError, RuntimeError):
    """A window over micro-batches was used in a wrong way; the message says how."""


class DistributedError(LossregError, RuntimeError):
    """The ranks differ, or one of them failed; every rank raises the same message."""


# --- config ---------------------------------------------------------------------------------------


ProblemKind: TypeAlias = Literal[
    "unknown",  # an unknown key or name
    "missing",  # a required key or value is missing
    "type",  # the value has the wrong type
    "range",  # the type is right, but the value is out of range
    "choice",  # the value is not one of the choices
    "conflict",  # two keys or values do not work together
    "reference",  # an interpolation cannot be resolved
    "limit",  # the config exceeds a size limit
    "refused",  # a constructor, the graph or a plugin raises an error
    "syntax",  # the file is not valid YAML
    "other",
]


@dataclass(frozen=True)
class ConfigProblem:
    """One mistake in a config, or in an argument.

    Attributes:
        path: where it is, such as `loss_list[2].weight`.
        message: what is wrong.
        hint: how to fix it; may be empty.
        kind: the kind of mistake, for code to compare.
        expected, found: the two parts of a message "expected ..., found ..."; empty for other messages.
    """

    path: str
    message: str
    hint: str = ""
    kind: ProblemKind = "other"
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        place = f"{printable(self.path)}: " if self.path else ""
        return place + printable(self.message + (f" ({self.hint})" if self.hint else ""), keep="\n")


class ConfigError(LossregError, ValueError):
    """A config cannot be built; `problems` lists every mistake in it."""

    def __init__(self, problems: Iterable[ConfigProblem] | str) -> None:
        self.problems: tuple[ConfigProblem, ...] = (
            (ConfigProblem("", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__(_listed(self.problems, "{} errors in the config:"))


class ConfigWarning(UserWarning):
    """A config is ambiguous; the message says how it was read and what else it could mean."""


class CardError(LossregError, ValueError):
    """A loss card cannot be written or rebuilt: it is damaged, was changed, or describes another loss here."""


class CardWarning(UserWarning):
    """A loss card is rebuilt although something differs; the message says what."""


class ArgumentError(LossregError, TypeError, ValueError):
    """An argument of a constructor or a function is wrong; `problems` lists every mistake.

    Also a `TypeError` and a `ValueError`, so either `except` catches it.
    """

    def __init__(self, owner: str, problems: Iterable[ConfigProblem]) -> None:
        self.owner = owner
        self.problems: tuple[ConfigProblem, ...] = tuple(problems)
        super().__init__(f"{owner}: {_listed(self.problems, '{} arguments are wrong:')}")

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, tuple[ConfigProblem, ...]]]:
        """Support pickling, so that the worker of a data loader can send the error."""
        return type(self), (self.owner, self.problems)


def _listed(problems: Sequence[ConfigProblem], heading: str) -> str:
    """Return the first problems, one per line, and the number of the others."""
    lines = [clipped(str(problem)) for problem in problems[:MOST_SHOWN]]
    if len(problems) <= 1:
        return "".join(lines)
    listed = [heading.format(f"{len(problems):,}"), *(f"  - {line}" for line in lines)]
    if len(problems) > MOST_SHOWN:
        listed.append(f"  and {len(problems) - MOST_SHOWN:,} more")
    return "\n".join(listed)
