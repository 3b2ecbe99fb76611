"""The option `--import MODULE`, which imports a module that registers losses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

import click

from lossreg import registry
from lossreg.cli.output import echo, owning
from lossreg.registry.foreign import described, foreign

F = TypeVar("F", bound=Callable[..., Any])


def importing(command: F) -> F:
    """Return a command with the option `--import`, whose modules are imported first."""
    return click.option(
        "--import",
        metavar="MODULE",
        multiple=True,
        expose_value=False,
        is_eager=True,  # before FILE is read
        callback=_import,
        help="Import your module first, which registers losses with @lossreg.register. The current directory is "
        "searched first, as with python -m. You can repeat the option.",
    )(command)


def _import(context: click.Context, parameter: click.Parameter, modules: tuple[str, ...]) -> None:  # noqa: ARG001
    if context.resilient_parsing:
        return
    for name in modules:
        known = dict(registry.registered())
        try:
            with _current_directory(), foreign(f"importing {name}"):
                owning(import_module)(name)
        except Exception as error:
            raise click.BadParameter(f"{name!r} cannot be imported: {_reason(name, error)}") from error
        if registry.registered() == known:
            echo(f"Warning: --import {name}: the module registers nothing", err=True)


def _reason(name: str, error: Exception) -> str:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        module = name.removesuffix(".py").replace(os.sep, ".").strip(".")
        return f"expected the name of a module, such as {module if module.isidentifier() else 'my_losses'}"
    return " ".join(described(error).split())


@contextmanager
def _current_directory() -> Iterator[None]:
    """Put the current directory first on the search path, and last afterwards, so it hides no installed package.

    With `python -P` or PYTHONSAFEPATH it is not on the path.
    """
    if sys.flags.safe_path:
        yield
        return
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)
