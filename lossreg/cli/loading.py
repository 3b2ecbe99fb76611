"""A file to a checked config, or a criterion, for the commands that take one; its mistakes are shown at their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import yaml

from lossreg.cli.output import echo
from lossreg.config.bounds import MAX_BYTES, RefusedError
from lossreg.config.positions import Position, Positions, error_position
from lossreg.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.config.grammar import CompoundConfig

_LONGEST = 120  # characters of a line that are shown
_SYNTAX = {  # words of a YAML error, and what to do about it
    "duplicate key": "keep one of the two",
    "cannot start any token": "indent with spaces, and quote a text that begins with such a character",
    "expected ',' or": "close the bracket, or put a comma between the items",
    "could not find expected ':'": "write `key: value`",
    "mapping values are not allowed": "begin a new line, or quote a text with `: ` in it",
    "special characters are not allowed": "leave the character out, or write it as an escape inside double quotes",
}

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Mistake:
    """One mistake in a file.

    Attributes:
        path: the config path (`loss_list[2].weight`); empty where the mistake is the file's as a whole.
        message: what is wrong.
        fix: what to do about it; may be empty.
        line, column: where, from 1; None where the file has no such place.
        text: that line.
        width: how much of the line it covers.
    """

    path: str
    message: str
    fix: str
    line: int | None = None
    column: int | None = None
    text: str = ""
    width: int = 1


def source(command: F) -> F:
    """Give a command its arguments FILE and --key."""
    command = click.option(
        "--key",
        metavar="PATH",
        help="Dotted path of the compound loss in FILE, such as loss_params.compound_loss. "
        "By default FILE is a training config, or a compound loss itself.",
    )(command)
    file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
    return click.argument("file", type=file)(command)


def load_config(file: Path, key: str | None) -> CompoundConfig:
    """Parse the compound loss of a file; nothing of it is built."""
    from lossreg.config.grammar import Component
    from lossreg.config.parsing import Permissions, parse_file

    with mistakes_shown(file):
        config = parse_file(file, key, Permissions())
    if isinstance(config, Component):
        name = config.entry.name
        raise click.ClickException(f"{file}: describes a single loss ({name}), without terms and weights to show")
    return config


def load_multi_loss(file: Path, key: str | None) -> MultiLoss:
    """Build the `MultiLoss` of a file."""
    from lossreg.config.build import build_parsed

    config = load_config(file, key)
    with mistakes_shown(file):
        return build_parsed(config)


@contextmanager
def mistakes_shown(file: Path) -> Iterator[None]:
    """Show the mistakes of a file and exit with 1."""
    try:
        yield
    except ConfigError as error:
        show_mistakes(file, mistakes(file, error))
        raise click.exceptions.Exit(1) from None


def mistakes(file: Path, error: ConfigError) -> list[Mistake]:
    """Find the place of each problem in the file, the first at each path; in the order of its lines."""
    with file.open("rb") as opened:
        text = opened.read(MAX_BYTES).decode("utf-8", errors="replace")
    if isinstance(error.__cause__, yaml.YAMLError):
        return [_syntax(error.__cause__, text)]
    positions = Positions(text)
    first = {problem.path: problem for problem in reversed(error.problems)}
    found = [_located(problem, positions) for problem in first.values()]
    return sorted(found, key=lambda mistake: (mistake.line or 0, mistake.column or 0))


def _located(problem: ConfigProblem, positions: Positions) -> Mistake:
    place = positions.find(problem.path) if problem.path else None
    path = problem.path.lstrip(".")
    return _placed(Mistake(path, problem.message, problem.hint), place, positions.lines)


def _syntax(error: yaml.YAMLError, text: str) -> Mistake:
    reason = " ".join(part for name in ("context", "problem") if (part := getattr(error, name, None)))
    message = f"is not valid YAML: {reason or getattr(error, 'reason', error)}"
    if isinstance(error, RefusedError):
        message, fix = reason.removesuffix(f"; {error.hint}"), error.hint
    else:
        fix = next((fix for words, fix in _SYNTAX.items() if words in message), "")
    return _placed(Mistake("", message, fix), error_position(error, text), text.splitlines())


def _placed(mistake: Mistake, place: Position | None, lines: list[str]) -> Mistake:
    if place is None:
        return mistake
    text = lines[place.line - 1] if place.line <= len(lines) else ""
    return Mistake(mistake.path, mistake.message, mistake.fix, place.line, place.column, text, place.width)


def as_data(mistake: Mistake) -> dict[str, Any]:
    """Return a mistake for JSON."""
    return {key: value for key, value in asdict(mistake).items() if key != "width"}


def show_mistakes(file: Path, found: list[Mistake]) -> None:
    """Print each mistake as `file:line:column: path`, what is wrong, the line itself, and the fix."""
    for mistake in found:
        place = f"{file}:{mistake.line}:{mistake.column}: " if mistake.line else f"{file}: "
        echo(click.style(printable(f"{place}{mistake.path}").rstrip(": "), bold=True))
        echo(printable(f"  error: {mistake.message.removeprefix(f'{file}: ')}"))
        if mistake.line and mistake.column:
            _show_line(mistake.line, mistake.column, mistake.text, mistake.width)
        if mistake.fix:
            echo("  fix: " + click.style(printable(mistake.fix), fg="green"))
        echo()
    echo(f"{len(found)} error{'' if len(found) == 1 else 's'} in {file}")


def _show_line(number: int, column: int, text: str, width: int) -> None:
    """Print a line with marks under what is meant; of a long line, what is around it."""
    skipped = max(column - 1 - _LONGEST // 2, 0) if len(text) > _LONGEST else 0
    shown = printable(text[skipped : skipped + _LONGEST], "?")
    before = column - 1 - skipped
    marks = max(min(width, len(shown) - before), 1)
    echo(f"  {number} | {shown}")
    echo(f"  {'':{len(str(number))}} | {'':{before}}" + click.style("^" * marks, fg="red"))


def printable(text: str, instead: str | None = None) -> str:
    """Return text of a stranger's file without what a terminal would obey: control characters escaped."""
    return "".join(
        char if char.isprintable() else " " if char == "\t" else instead or repr(char)[1:-1] for char in text
    )
