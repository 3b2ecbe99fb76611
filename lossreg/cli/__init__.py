"""The `lossreg` command: list losses, check and plot configs, and create plugins.

The module of a command is imported when the command is called, and imports torch only if necessary.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from lossreg import __version__
from lossreg.cli.console import lines_for
from lossreg.cli.output import Safe, drop, echo, owning
from lossreg.errors import LossregError
from lossreg.printable import printable
from lossreg.registry.foreign import described

_COMMANDS = {
    "list": (
        "lossreg.cli.catalog:list_command",
        "List losses, preprocesses, schedules and weightings, or find them by words.",
    ),
    "show": (
        "lossreg.cli.show:show_command",
        "Show what one component takes, its parameters, and YAML to copy.",
    ),
    "plugins": (
        "lossreg.cli.catalog:plugins_command",
        "List the plugins, their components and their errors.",
    ),
    "env": (
        "lossreg.cli.environment:env_command",
        "Show versions, plugins, compiler and devices, to paste into a report.",
    ),
    "check": (
        "lossreg.cli.check:check_command",
        "Check a YAML file: show every error with its line, or a table of terms.",
    ),
    "schema": ("lossreg.cli.schema:schema_command", "Print a JSON Schema for completion and checks in an editor."),
    "plot": ("lossreg.cli.plot:plot_command", "Plot the weight of each term over the epochs."),
    "graph": ("lossreg.cli.graph:graph_command", "Draw the graph of preprocesses, keys, terms and groups."),
    "card": (
        "lossreg.cli.card:card_command",
        "Describe a loss for a paper: formulas, weights, sources, versions.",
    ),
    "new": ("lossreg.cli.new:new_command", "Create a plugin package for your own loss."),
    "demo": (
        "lossreg.demo.command:demo_command",
        "Train a small network with a seven-term loss from a YAML file.",
    ),
}


class _Commands(click.Group):
    """A group that imports commands when they are used, and prints errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        if command.callback is None or cmd_name == "demo":  # the demo prints during training
            return command
        owner = copy(command)
        owner.callback = owning(command.callback)
        return owner

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; the error for another name tells the nearest one."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from lossreg.values import did_you_mean

            hint = did_you_mean(name, _COMMANDS) or f"the commands are {', '.join(_COMMANDS)}"
            raise click.UsageError(f"no command is named {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        finally:
            _finish()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
            # a file may contain characters that the terminal cannot show
            sys.stdout.reconfigure(errors="backslashreplace")
        # a command is short; collecting garbage of its imports took a tenth of the time of `check`
        gc.set_threshold(100_000)
        with warnings.catch_warnings(), _one_line():
            warnings.showwarning = _show_warning
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Convert errors to messages that are safe for a terminal; a closed pipe is not an error."""
    try:
        yield
    except BrokenPipeError:  # as in `--help | head -1`, which click prints
        drop(sys.stdout)
        raise click.exceptions.Exit(0) from None
    except (LossregError, OSError) as error:
        raise _fitted(click.ClickException(str(error))) from error
    except click.ClickException as error:
        _fitted(error)
        raise
    except KeyboardInterrupt as error:
        echo(*(f"\n{note}" for note in getattr(error, "__notes__", ())), err=True)
        raise
    except Exception:
        raise
    except BaseException as error:  # `sys.exit` in a plugin would end the command with success
        raise _fitted(click.ClickException(f"a plugin's code stopped the command: {described(error)}")) from error


def _fitted(error: click.ClickException) -> click.ClickException:
    """Return an error whose message is escaped and fits the terminal."""
    vars(error)["message"] = printable(error.message, keep="\n")
    vars(error)["format_message"] = partial(lines_for, sys.stderr, error.format_message(), "Error: ")
    return error


def _finish() -> None:
    """Flush standard output, or discard it if that fails; otherwise Python would try again at exit and return 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop(sys.stdout)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    echo("Warning: ", Safe(lines_for(sys.stderr, str(message), "Warning: ")), err=True)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: lossreg check config.yaml",
)
@click.version_option(__version__, prog_name="lossreg")
def main() -> None:
    """Find losses, and check and plot losses composed in YAML.

    Exit codes: 0 success; 1 the file has errors, or a name is unknown; 2 wrong usage.
    """
