"""A deprecated name warns and says what to use, and nothing stays longer than it was said."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

import lossreg
from lossreg.deprecation import deprecated, warn_deprecated

ROOT = Path(__file__).parents[1]
SOURCES = sorted({*ROOT.glob("lossreg/**/*.py"), *ROOT.glob("plugins/*/lossreg_*/**/*.py")})
SOURCES.remove(ROOT / "lossreg" / "deprecation.py")


def marks(source: str) -> Iterator[tuple[int, Version, Version]]:
    """Yield the line, `since` and `removal` of each call that marks a deprecation; they must be literals."""
    for node in ast.walk(ast.parse(source)):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name in ("deprecated", "warn_deprecated"):
            words = {word.arg: word.value for word in node.keywords}
            since, removal = (Version(ast.literal_eval(words[name])) for name in ("since", "removal"))
            yield node.lineno, since, removal


def wrong(source: str, version: str) -> list[str]:
    """Return what is due at a version, and what was announced for less than a minor version."""
    found = []
    for line, since, removal in marks(source):
        if removal.release[:2] <= Version(version).release[:2]:
            found.append(f"line {line}: to be removed in {removal}; remove it, and say so in CHANGELOG.md")
        if removal.release[:2] <= since.release[:2]:
            found.append(f"line {line}: removed in {removal}, but deprecated only since {since}")
    return found


@deprecated(since="0.2", removal="0.3", instead="`new`")
def old(value: int) -> int:
    """Return the value."""
    return value


class Old:
    """An old class."""

    def __init__(self, value: int) -> None:
        self.value = value


def test_a_deprecated_function_warns_at_its_caller_and_works():
    message = "`old` is deprecated since lossreg 0.2 and will be removed in 0.3; use `new`"
    with pytest.warns(DeprecationWarning, match=f"^{message}$") as caught:
        assert old(3) == 3
    (warning,) = caught
    assert warning.filename == __file__
    assert old.__doc__ == "Return the value."
    assert list(inspect.signature(old).parameters) == ["value"]
    assert old.__deprecated__ == message


def test_a_deprecated_class_warns_when_it_is_made_and_not_when_it_is_defined():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        marked = deprecated(since="0.2", removal="0.3", instead="`New`")(Old)
    with pytest.warns(DeprecationWarning, match="`Old` is deprecated since lossreg 0.2"):
        assert marked(4).value == 4


def test_a_deprecated_parameter_warns_at_the_caller_of_the_function():
    def function(epochs: int | None = None) -> None:
        if epochs is not None:
            warn_deprecated("the parameter `epochs`", since="0.2", removal="0.4", instead="`epoch_thresholds`")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function()
    with pytest.warns(DeprecationWarning, match="the parameter `epochs` .* use `epoch_thresholds`") as caught:
        function(3)
    assert caught[0].filename == __file__
    assert caught[0].lineno == inspect.currentframe().f_lineno - 2


@pytest.mark.parametrize(
    ("version", "due"), [("0.2.0", False), ("0.2.9", False), ("0.3.0.dev1", True), ("0.3.0", True), ("1.0", True)]
)
def test_a_removal_is_due_when_its_minor_version_is_there(version, due):
    source = """
@deprecated(since="0.2", removal="0.3", instead="`new`")
def old(): ...
"""
    assert bool(wrong(source, version)) == due


def test_a_patch_version_is_too_short():
    source = 'warn_deprecated("it", since="0.2.0", removal="0.2.4", instead="that")'
    assert any("only since" in line for line in wrong(source, "0.1"))


def test_nothing_that_was_to_be_removed_is_still_there():
    found = {
        str(file.relative_to(ROOT)): wrong(file.read_text(encoding="utf-8"), lossreg.__version__) for file in SOURCES
    }
    assert {file: lines for file, lines in found.items() if lines} == {}
