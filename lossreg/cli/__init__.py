"""The `lossreg` command: what is installed, what a file says, and what it will do, before a run is paid for.

Each command lives in a module that is imported when it is called, and imports torch only when it must.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from lossreg import __version__
from lossreg.cli.output import drop, echo, owning
from lossreg.errors import LossregError
from lossreg.printable import printable
from lossreg.registry.foreign import described

_COMMANDS = {
    "list": (
        "lossreg.cli.catalog:list_command",
        "List what is installed: losses, preprocesses, schedules, weightings.",
    ),
    "show": (
        "lossreg.cli.catalog:show_command",
        "Show one component: its parameters and a YAML line to paste.",
    ),
    "plugins": (
        "lossreg.cli.catalog:plugins_command",
        "List the plugins, what they offer, and which are broken.",
    ),
    "check": (
        "lossreg.cli.check:check_command",
        "Check a YAML file: every error at its line, or a table of terms.",
    ),
    "schema": ("lossreg.cli.schema:schema_command", "Print a JSON Schema, by which an editor completes a file."),
    "plot": ("lossreg.cli.plot:plot_command", "Plot each term's weight over the epochs."),
    "graph": ("lossreg.cli.graph:graph_command", "Draw the graph of preprocesses, keys, terms and groups."),
    "new": ("lossreg.cli.new:new_command", "Write a plugin package with a loss of your own."),
    "demo": (
        "lossreg.demo.command:demo_command",
        "Train a small network under a seven-term loss from a YAML file.",
    ),
}


class _Commands(click.Group):
    """A group whose commands are imported at their use, and whose errors are messages, not tracebacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        if command.callback is None or cmd_name == "demo":  # which trains, and prints as training does
            return command
        owner = copy(command)
        owner.callback = owning(command.callback)
        return owner

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
            sys.stdout.reconfigure(errors="backslashreplace")  # a file may hold what a terminal cannot show
        gc.set_threshold(100_000)  # a command soon ends: to collect what its imports leave took a tenth of `check`
        with warnings.catch_warnings(), _one_line():
            warnings.showwarning = _show_warning
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Make a message of what goes wrong, which a terminal can show; a reader that went away is nothing wrong."""
    try:
        yield
    except BrokenPipeError:  # of `--help | head -1`, which click itself prints
        drop(sys.stdout)
        raise click.exceptions.Exit(0) from None
    except (LossregError, OSError) as error:
        raise click.ClickException(printable(str(error), keep="\n")) from error
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message, keep="\n")
        raise
    except KeyboardInterrupt as error:
        echo(*(f"\n{note}" for note in getattr(error, "__notes__", ())), err=True)
        raise
    except Exception:
        raise
    except BaseException as error:  # `sys.exit` of a plugin would end the command as if all were well
        reason = printable(described(error), keep="\n")
        raise click.ClickException(f"a plugin's code stopped the command: {reason}") from error


def _finish() -> None:
    """Flush standard output, or drop what is left: Python would try again at its end, and exit with 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop(sys.stdout)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    echo(f"Warning: {message}", err=True)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: lossreg check config.yaml",
)
@click.version_option(__version__, prog_name="lossreg")
def main() -> None:
    """Find, check and picture losses that are composed in YAML.

    Exit codes: 0 all is well; 1 the file has errors, or a name is unknown; 2 the command was misused.
    """
