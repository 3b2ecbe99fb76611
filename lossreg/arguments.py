"""Mistakes, collected in place of raising at the first; and the arguments of a call in Python, checked that way."""

from __future__ import annotations

import inspect
import math
import operator
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from numbers import Real
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from lossreg.errors import ArgumentError, ConfigError, ConfigProblem, ProblemKind
from lossreg.keys import BatchKey, Name
from lossreg.printable import MOST_SHOWN, is_name
from lossreg.values import Limits, Misfit, Type, did_you_mean, keys_of, type_of

T = TypeVar("T")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


class Problems(list[ConfigProblem]):
    """Mistakes, at most one a path."""

    def __init__(self, problems: Iterable[ConfigProblem] = (), null: str = "nothing") -> None:
        super().__init__(problems)
        self._null = null  # what a message calls None
        self._paths = {problem.path for problem in self}

    @property
    def crowded(self) -> bool:
        """Whether a message lists no further ones: the nearest names of these are not searched."""
        return len(self) >= MOST_SHOWN

    def report(self, path: str, message: str, hint: str = "", kind: ProblemKind = "other") -> None:
        """Keep a mistake, unless one at the same place is known already.

        Args:
            path: where it is; a leading dot is that of a block that is the whole file.
            message: what is wrong.
            hint: how to fix it, such as `"optional: true"`.
            kind: the kind of mistake.
        """
        self.add(ConfigProblem(path, message, hint, kind))

    def wrong(self, path: str, expected: str, value: object, hint: str = "", kind: ProblemKind = "type") -> None:
        """Keep that a value is not what was expected."""
        found = self._null if value is None else shown(value)
        hint = hint or how_to_give(value)
        self.add(ConfigProblem(path, f"expected {expected}, found {found}", hint, kind, expected, found))

    def misfit(self, path: str, misfit: Misfit) -> None:
        """Keep that a value does not fit."""
        where = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in misfit.path)
        hint = ("" if self.crowded else did_you_mean(misfit.found, misfit.choices)) or misfit.fix
        if misfit.kind == "missing":
            self.report(where, "is missing", hint, misfit.kind)
        elif misfit.kind == "unknown":
            self.report(where, "is not a key of this block", hint or f"expected {misfit.expected}", misfit.kind)
        else:
            self.wrong(where, misfit.expected, misfit.found, hint, misfit.kind)

    def add(self, problem: ConfigProblem) -> None:
        """Keep a mistake, unless one at the same place is known already."""
        problem = replace(problem, path=problem.path.removeprefix("."))
        if problem.path not in self._paths:
            self.append(problem)
            self._paths.add(problem.path)

    def done(self) -> None:
        """Raise what was kept.

        Raises:
            ConfigError: there is a mistake.
        """
        if self:
            raise ConfigError(self)

    def relocate(self, places: Mapping[str, str], first: int = 0) -> None:
        """Point mistakes, from one on, at the parts of a file that what was checked was made of.

        Args:
            places: for parts of what was checked, by path, where the file has what they were made of.
            first: the index of the first mistake that may be one of theirs.
        """
        for i, problem in enumerate(self[first:], first):
            for part, place in places.items():
                part = part.removeprefix(".")
                rest = problem.path[len(part) :]
                if problem.path.startswith(part) and rest[:1] in ("", ".", "["):
                    self[i] = replace(problem, path=place.removeprefix(".") + rest)
                    break
        self._paths = {problem.path for problem in self}


class Arguments:
    """The arguments of one call: each check keeps what is wrong, and `done` raises it all together.

    A check returns the value as plain Python (a list for a tuple or an array, a number for a numpy scalar). After a
    failed check the return value is only a placeholder.

    Args:
        owner: whose arguments they are, for the message.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.problems = Problems(null="None")
        self.report, self.wrong = self.problems.report, self.problems.wrong

    def refuse(self, path: str, expected: str, value: object, hint: str = "") -> NoReturn:
        """Raise at once, with what was kept before."""
        self.wrong(path, expected, value, hint)
        raise ArgumentError(self.owner, self.problems)

    def done(self) -> None:
        """Raise what was kept.

        Raises:
            ArgumentError: there is a mistake.
        """
        if self.problems:
            raise ArgumentError(self.owner, self.problems)

    def declared(self, block: type, owner: str, argument: str, value: Any, *, ordered: bool = True) -> Any:
        """Take an argument that a block of `lossreg.keys` declares as a key.

        Args:
            block: the block.
            owner: the class whose argument it is, as the key names it.
            argument: its name.
            value: what was given.
            ordered: whether a set is refused for a list.
        """
        key = next(key for key in keys_of(block).values() if key.argument(owner) == argument)
        return self.of(argument, value, key.type, ordered=ordered)

    def of(self, path: str, value: Any, kind: Type, *, ordered: bool = True) -> Any:
        """Take a value of a type; a set for a list where its order does not matter."""
        value = listed(value, ordered=ordered) if kind.holds([]) else plain(value)
        if isinstance(value, Mapping):
            value = {name: plain(item) for name, item in value.items()}
        found = list(kind.misfits(value))
        for misfit in found:
            self.problems.misfit(path, misfit)
        return None if found else value

    def flag(self, path: str, value: Any) -> bool:
        """Take a bool, numpy's too."""
        return bool(self.of(path, value, type_of(bool)))

    def choice(self, path: str, value: T, choices: Sequence[T], hint: str = "") -> T:
        """Take one of some choices."""
        kind = type_of(Literal.__getitem__(tuple(choices)))
        if not kind.fits(value):
            self.wrong(path, kind.words, value, hint or did_you_mean(value, choices), "choice")
        return value

    def number(self, path: str, value: Any, expected: str, fits: Callable[[float], bool] = math.isfinite) -> float:
        """Take a number in a range.

        Args:
            path: the argument.
            value: what was given.
            expected: the range in words.
            fits: says whether a number is in the range; NaN is in none.
        """
        kind = type_of(Annotated[float, Limits(expected, lambda number: not math.isnan(number) and fits(number))])
        value = plain(value)
        value = float(value) if isinstance(value, Real) and not isinstance(value, (int, float)) else value
        found = self.of(path, value, kind)
        return math.nan if found is None else float(found)

    def count(self, path: str, value: Any, expected: str, least: int = 1, most: float = math.inf) -> int:
        """Take a whole number from `least` to `most`, which `expected` puts in words; a tensor may hold it."""
        value = plain(value)
        try:
            number = operator.index(value)
        except TypeError:
            number = least - 1
        if isinstance(value, bool) or not least <= number <= most:
            self.wrong(path, expected, value)
        return number

    def name(self, path: str, value: Any) -> str:
        """Take a name, as `printable.is_name` says."""
        found = self.of(path, value, type_of(Name))
        return found if is_name(found) else "?"

    def keys(self, path: str, value: Any) -> list[str]:
        """Take a collection of keys of the batch, each with its side."""
        kind = Annotated[list[BatchKey], Limits("a list of keys such as ['pred.seg', 'gt.mask']", lambda _: True)]
        return self.of(path, value, type_of(kind), ordered=False) or []

    def items(self, path: str, value: Any, expected: str, hint: str = "", *, ordered: bool = True) -> list[Any]:
        """Take a list, or what can be gone through as one.

        Args:
            path: the argument.
            value: what was given; a text, a mapping and a tensor are no lists.
            expected: what the list holds, in words.
            hint: what to do.
            ordered: whether a set, which has no order, is refused.
        """
        value = listed(value, ordered=ordered)
        if isinstance(value, list):
            return value
        self.wrong(path, expected, value, hint or (f"give a list: [{value!r}]" if isinstance(value, str) else ""))
        return []

    def members(self, path: str, value: Any, known: Sequence[str], kind: str) -> list[str]:
        """Take a collection of names, each among the known ones, which are of a kind (`"term"`)."""
        found = self.items(path, value, f"a list of names of {kind}s", ordered=False)
        for i, name in enumerate(found):
            self.member(f"{path}[{i}]", name, known, kind)
        return found

    def member(self, path: str, name: Any, known: Sequence[str], kind: str) -> None:
        """Report a name that is not among the known ones, which are of a kind (`"term"`)."""
        if name not in known:
            others = f"the {kind}s are {', '.join(map(repr, known))}"
            self.wrong(path, f"the name of a {kind}", name, did_you_mean(name, known) or others, "unknown")


def plain(value: Any) -> Any:
    """Return numpy's arrays as lists and its scalars as numbers; all else as it is."""
    numpy = sys.modules.get("numpy")
    return value.tolist() if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) else value


def listed(value: Any, *, ordered: bool = True) -> Any:
    """Return an iterable as a list; a text, a mapping, a tensor, and a set where the order matters, as they are."""
    value = plain(value)
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) and not _is_tensor(value)
    return list(value) if is_list and not (ordered and isinstance(value, Set)) else value


def shown(value: object) -> str:
    """Say in a few words what a value is."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if _is_tensor(value):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"  # type: ignore[attr-defined]
    if value is None or isinstance(value, (str, bytes, complex, Real, list, tuple, Set, Mapping)):
        return " ".join(_short.repr(value).split())
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__name__', value)}"
    return f"an object of {type(value).__name__}"


def how_to_give(value: object) -> str:
    """Return the hint that goes with a class, or with a tensor, in place of what is expected."""
    if isinstance(value, type):
        return f"give an object: {value.__name__}(...)"
    if _is_tensor(value):
        return "give tensor.tolist()" if tuple(value.shape) else "give tensor.item()"  # type: ignore[attr-defined]
    return ""


def _is_tensor(value: object) -> bool:
    return not isinstance(value, type) and hasattr(value, "shape") and hasattr(value, "dtype")
