"""Arguments given in Python, checked as a config is: every mistake at its place, with what to do about it."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import pairwise
from numbers import Real
from typing import Any, NoReturn, TypeVar

from lossreg.errors import ArgumentError, ConfigProblem
from lossreg.printable import A_NAME, is_name

T = TypeVar("T")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_SIDES = ("pred", "gt")


class Arguments:
    """The arguments of one call: each check keeps what is wrong, and `done` raises it all together.

    A check returns the value as plain Python (a list for a tuple or an array, a number for a numpy scalar). What it
    returns of a value that it refuses is good for further checks alone.

    Args:
        owner: whose arguments they are, for the message.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.problems: list[ConfigProblem] = []

    def report(self, path: str, message: str, hint: str = "") -> None:
        """Keep a mistake, as of an argument `path`."""
        self.problems.append(ConfigProblem(path, message, hint))

    def wrong(self, path: str, expected: str, value: object, hint: str = "") -> None:
        """Keep that a value is not what was expected."""
        self.report(path, f"expected {expected}, found {shown(value)}", hint or how_to_give(value))

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

    # --- one value --------------------------------------------------------------------------------

    def flag(self, path: str, value: Any) -> bool:
        """Take a bool, numpy's too."""
        value = plain(value)
        if not isinstance(value, bool):
            self.wrong(path, "True or False", value)
        return bool(value is True)

    def choice(self, path: str, value: T, choices: Sequence[T], hint: str = "") -> T:
        """Take one of some choices."""
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            self.wrong(path, _either(map(repr, choices)), value, hint or nearest(value, choices))
        return value

    def number(self, path: str, value: Any, expected: str, fits: Callable[[float], bool] = math.isfinite) -> float:
        """Take a number in a range.

        Args:
            path: the argument.
            value: what was given.
            expected: the range in words.
            fits: says whether a number is in the range; NaN is in none.
        """
        value = plain(value)
        number = _float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        if math.isnan(number) or not fits(number):
            self.wrong(path, expected, value)
        return number

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
        if is_name(value):
            return value
        self.wrong(path, A_NAME, value)
        return "?"

    def key(self, path: str, value: Any) -> str:
        """Take a key of the batch with its side: `pred.<key>` or `gt.<key>`."""
        side, _, rest = value.partition(".") if isinstance(value, str) else ("", "", "")
        if side not in _SIDES or not rest:
            bare = isinstance(value, str) and value and value not in _SIDES
            hint = f"write {' or '.join(repr(f'{side}.{value}') for side in _SIDES)}" if bare else ""
            self.wrong(path, "a key such as 'pred.seg' or 'gt.mask'", value, hint)
        return str(value)

    # --- several values ---------------------------------------------------------------------------

    def items(self, path: str, value: Any, expected: str, hint: str = "", *, ordered: bool = True) -> list[Any]:
        """Take a list, or what can be gone through as one.

        Args:
            path: the argument.
            value: what was given; a text, a mapping and a tensor are no lists.
            expected: what the list holds, in words.
            hint: what to do.
            ordered: whether a set, which has no order, is refused.
        """
        value = plain(value)
        unordered = ordered and isinstance(value, Set)
        if (
            not isinstance(value, Iterable)
            or isinstance(value, (str, bytes, Mapping))
            or unordered
            or _is_tensor(value)
        ):
            listed = f"give a list: [{value!r}]" if isinstance(value, str) else ""
            self.wrong(path, expected, value, hint or listed or ("give tensor.tolist()" if _is_tensor(value) else ""))
            return []
        return list(value)

    def ascending(self, path: str, value: Any) -> list[float] | None:
        """Take epochs (or steps) in strictly ascending order; None where they are none."""
        before = len(self.problems)
        found = self.items(path, value, "a list of epochs")
        numbers = [self.number(f"{path}[{i}]", number, "a finite number") for i, number in enumerate(found)]
        if len(self.problems) == before and any(b <= a for a, b in pairwise(numbers)):
            self.wrong(path, "epochs in strictly ascending order", found)
        return numbers if len(self.problems) == before else None

    def members(self, path: str, value: Any, known: Sequence[str], kind: str) -> list[str]:
        """Take a collection of names, each among the known ones, which are of a kind (`"term"`)."""
        found = self.items(path, value, f"a list of names of {kind}s", ordered=False)
        for i, name in enumerate(found):
            if name not in known:
                others = f"the {kind}s are {', '.join(map(repr, known))}"
                self.wrong(f"{path}[{i}]", f"the name of a {kind}", name, nearest(name, known) or others)
        return found

    def keys(self, path: str, value: Any) -> list[str]:
        """Take a collection of keys of the batch."""
        found = self.items(path, value, "a list of keys such as ['pred.seg', 'gt.mask']", ordered=False)
        return [self.key(f"{path}[{i}]", key) for i, key in enumerate(found)]

    def mapping(self, path: str, value: Any, known: Sequence[str]) -> dict[str, Any]:
        """Take a mapping of some keys, each of which may be absent or None; return those that are there."""
        if not isinstance(value, Mapping):
            self.wrong(path, f"a mapping of {' and '.join(map(repr, known))}", value)
            return {}
        for key in value:
            if key not in known:
                hint = nearest(key, known) or f"expected one of {', '.join(map(repr, known))}"
                self.report(f"{path}[{shown(key)}]", "is not a key of this mapping", hint)
        return {key: value[key] for key in known if value.get(key) is not None}


def plain(value: Any) -> Any:
    """Return numpy's arrays as lists and its scalars as numbers; all else as it is."""
    numpy = sys.modules.get("numpy")
    return value.tolist() if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) else value


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


def nearest(value: object, names: Iterable[object]) -> str:
    """Return the hint that a name was meant, or none where no name is near."""
    texts = [name for name in names if isinstance(name, str)]
    near = difflib.get_close_matches(value, texts, n=1) if isinstance(value, str) else []
    return f"did you mean {near[0]!r}?" if near else ""


def how_to_give(value: object) -> str:
    """Return the hint that goes with a class, or with a tensor of one number, in place of what is expected."""
    if isinstance(value, type):
        return f"give an object: {value.__name__}(...)"
    if _is_tensor(value) and not tuple(value.shape):  # type: ignore[attr-defined]
        return "give tensor.item()"
    return ""


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _either(choices: Iterable[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _is_tensor(value: object) -> bool:
    return not isinstance(value, type) and hasattr(value, "shape") and hasattr(value, "dtype")
