"""Load a config or a criterion from a file for a command, and print mistakes with their lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
import yaml
from yaml.parser import ParserError
from yaml.reader import ReaderError
from yaml.scanner import ScannerError

from lossreg.cli.console import say
from lossreg.cli.output import Safe, echo, stream, styled
from lossreg.config.bounds import RefusedError
from lossreg.config.positions import Position, Positions, error_position, lines_of
from lossreg.config.reading import Source
from lossreg.errors import ConfigError, ConfigProblem, ProblemKind
from lossreg.printable import MOST_SHOWN, clipped, counted, paragraph, printable, width_of

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.config.grammar import CompoundConfig

_LONGEST = 120  # maximum number of characters of a line to show
_FIXES = {  # of what is no YAML: the class of the error, and the character where what it is about begins
    (ParserError, "[{"): "close the bracket, or put a comma between the items",
    (ParserError, "-"): "indent it as far as the lines that belong together with it",
    (ScannerError, ":"): "begin a new line, or quote a text with `: ` in it",
    (ScannerError, "\t@`%"): "indent with spaces, and quote a text that begins with such a character",
    (ScannerError, "\"'"): "close the quotes",
}

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Mistake:
    """One mistake in a file.

    Attributes:
        path: the config path (`loss_list[2].weight`); empty for a mistake of the whole file.
        message: what is wrong.
        fix: how to fix it; may be empty.
        kind: the kind of mistake.
        line, column: the position, from 1; None if it is not known.
        text: the line; of a long line the part around the column.
        skipped: the number of characters of the line before `text`.
        width: the number of characters to mark.
    """

    path: str
    message: str
    fix: str
    kind: ProblemKind = "other"
    line: int | None = None
    column: int | None = None
    text: str = ""
    skipped: int = 0
    width: int = 1


def source(command: F) -> F:
    """Return a command with the argument FILE, which is read once, and the option --key."""
    command = click.option(
        "--key",
        metavar="PATH",
        help="Dotted path of the compound loss in FILE, such as loss_params.compound_loss. "
        "By default FILE is a training config, or a compound loss itself.",
    )(command)
    file = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True)
    return click.argument("file", type=file, callback=_read)(command)


def _read(context: click.Context, parameter: click.Parameter, file: str) -> Source:  # noqa: ARG001
    """Read a file, or standard input for `-`."""
    if file != "-":
        return Source.read(file)
    if sys.stdin is None:
        raise click.ClickException("<stdin>: cannot be read: it is closed")
    return Source.of(sys.stdin.buffer, "<stdin>")


def load_config(file: Source, key: str | None) -> CompoundConfig:
    """Return the checked compound loss of a file, without building it."""
    from lossreg.config.grammar import Component
    from lossreg.config.parsing import Permissions, parse_source

    with mistakes_shown(file):
        config = parse_source(file, key, Permissions())
    if isinstance(config, Component):
        name = config.entry.name
        raise click.ClickException(f"{file.name}: describes a single loss ({name}), without terms and weights to show")
    return config


def load_multi_loss(file: Source, key: str | None) -> MultiLoss:
    """Build and return the `MultiLoss` of a file."""
    config = load_config(file, key)
    from lossreg.config.build import build_parsed  # with torch, which a file with mistakes need not wait for

    with mistakes_shown(file):
        return build_parsed(config)


@contextmanager
def mistakes_shown(file: Source) -> Iterator[None]:
    """Print the mistakes of a `ConfigError` and exit with 1."""
    try:
        yield
    except ConfigError as error:
        show_mistakes(file, mistakes(file, error))
        raise click.exceptions.Exit(1) from None


def mistakes(file: Source, error: ConfigError) -> list[Mistake]:
    """Return the first problem of each path with its position in the file, sorted by position."""
    text = file.text
    if isinstance(error.__cause__, yaml.YAMLError):
        return [_syntax(error.__cause__, text)]
    positions = Positions(text)
    first: dict[str, ConfigProblem] = {}
    for problem in error.problems:
        first.setdefault(problem.path, problem)
    found = [_located(problem, positions) for problem in first.values()]
    return sorted(found, key=lambda mistake: (mistake.line or 0, mistake.column or 0))


def _located(problem: ConfigProblem, positions: Positions) -> Mistake:
    place = positions.find(problem.path) if problem.path else None
    path = problem.path.lstrip(".")
    return _placed(Mistake(path, problem.message, problem.hint, problem.kind), place, positions.lines)


def _syntax(error: yaml.YAMLError, text: str) -> Mistake:
    if isinstance(error, RefusedError):
        mistake = Mistake("", error.refused, error.hint, "limit")
    else:
        reason = " ".join(part for name in ("context", "problem") if (part := getattr(error, name, None)))
        message = f"is not valid YAML: {reason or getattr(error, 'reason', error)}"
        mistake = Mistake("", message, _fix(error, text), "syntax")
    return _placed(mistake, error_position(error, text), lines_of(text))


def _fix(error: yaml.YAMLError, text: str) -> str:
    """Return how to fix what is no YAML; nothing where that is not known."""
    if isinstance(error, ReaderError):
        return "leave the character out, or write it as an escape inside double quotes"
    mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
    begins = text[mark.index : mark.index + 1] if mark else ""
    known = (fix for (kind, chars), fix in _FIXES.items() if begins and type(error) is kind and begins in chars)
    is_key = isinstance(error, ScannerError) and begins.isalnum()
    return next(known, "write `key: value`" if is_key else "")


def _placed(mistake: Mistake, place: Position | None, lines: list[str]) -> Mistake:
    if place is None:
        return mistake
    text = lines[place.line - 1] if place.line <= len(lines) else ""
    skipped = max(place.column - 1 - _LONGEST // 2, 0) if len(text) > _LONGEST else 0
    shown = text[skipped : skipped + _LONGEST]
    return replace(mistake, line=place.line, column=place.column, text=shown, skipped=skipped, width=place.width)


def as_data(mistake: Mistake) -> dict[str, Any]:
    """Return a mistake as data for JSON."""
    return {key: value for key, value in asdict(mistake).items() if key not in ("width", "skipped")}


def show_mistakes(file: Source, found: list[Mistake]) -> None:
    """Print the first fifty mistakes: `file:line:column: path`, the message, the line and the fix; count the others."""
    name = printable(file.name)
    width = width_of(stream())
    for mistake in found[:MOST_SHOWN]:
        place = f"{name}:{mistake.line}:{mistake.column}: " if mistake.line else f"{name}: "
        heading = paragraph(f"{place}{mistake.path}".rstrip(": "), width, rest="  ")
        echo(styled(Safe(heading), bold=True))
        message = clipped(mistake.message.removeprefix(f"{file.name}: "))
        echo(Safe(paragraph(message, width, "  error: ", "    ")))
        if mistake.column:
            _show_line(mistake, mistake.column, width)
        if mistake.fix:
            fix = paragraph(clipped(mistake.fix), width, "  fix: ", "    ").removeprefix("  fix: ")
            echo("  fix: ", styled(Safe(fix), fg="green"))
        echo()
    more = f"; the first {MOST_SHOWN} are above" if len(found) > MOST_SHOWN else ""
    say(f"{counted(len(found), 'error')} in {name}{more}", rest="  ")


def _show_line(mistake: Mistake, column: int, width: int | None) -> None:
    """Print the line of a mistake, or the part around it that fits, with marks below the mistake."""
    shown = "".join(char if char.isprintable() else " " if char == "\t" else "?" for char in mistake.text)
    before = column - 1 - mistake.skipped
    margin = f"  {'':{len(str(mistake.line))}} | "
    if width is not None and len(shown) > (room := max(width - len(margin), 1)):
        cut = min(max(before - room // 3, 0), len(shown) - room)
        shown, before = shown[cut : cut + room], before - cut
    marks = max(min(mistake.width, len(shown) - before), 1)
    echo(f"  {mistake.line} | {shown}")
    echo(f"{margin}{'':{before}}", styled("^" * marks, fg="red"))
