"""`lossreg new`: create a plugin package from the first-party example."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import click

from lossreg.cli.output import echo, stream
from lossreg.printable import clipped, width_of
from lossreg.registry.plugins import RESERVED, plugin_names
from lossreg.registry.specs import LONGEST_NAME, is_name

FILES = (
    "README.md",
    "pyproject.toml",
    "tox.ini",
    "lossreg_example/__init__.py",
    "lossreg_example/examples.py",
    "lossreg_example/losses.py",
    "lossreg_example/plugin.py",
    "lossreg_example/py.typed",
    "tests/test_conformance.py",
    "tests/test_losses.py",
)
"""The files of the example that are copied; in the wheel each is `template/<file>.txt`."""

_LEFT_OUT = re.compile(r"[^\n]*`lossreg new` leaves out from here.*?to here[^\n]*\n", re.DOTALL)
_DISTRIBUTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


@click.command("new", epilog="Example: lossreg new my-losses --loss EdgeLoss")
@click.argument("name")
@click.option("--loss", default="MaskedL1Loss", show_default=True, metavar="CLASS", help="Class name of the loss.")
@click.option(
    "--directory",
    default=Path(),
    metavar="PATH",
    help="Folder for the package; default: the current one.",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
)
def new_command(name: str, loss: str, directory: Path) -> None:
    """Create a plugin package NAME with a loss, its spec, an example batch, tests and tox.ini.

    It builds, installs and passes its tests. Replace the formula of the example with yours.
    """
    _check_names(name, loss)
    package = directory / name
    if package.exists():
        raise click.ClickException(f"{package} already exists; choose another name, or remove it")
    with tempfile.TemporaryDirectory(dir=directory, prefix=f".{name}-") as unfinished:
        written = [_write(Path(unfinished) / name, file, name, loss) for file in FILES]
        shutil.move(Path(unfinished) / name, package)
    for file in written:
        echo(package / file)
    steps = (f"cd {package}", "pip install -e '.[test]'", "pytest")
    line = f"Next: {' && '.join(steps)}"
    width = width_of(stream())
    echo("\n", line if width is None or len(line) <= width else "\n  ".join(["Next:", *steps]))


def _check_names(name: str, loss: str) -> None:
    """Raise for names with which the package could not be installed, or its loss not be registered."""
    if not _DISTRIBUTION.match(name) or len(name) > LONGEST_NAME:
        raise click.BadParameter(
            f"{clipped(repr(name), 100)} is not a valid package name; expected lower-case words with '-' between them, "
            f"such as my-losses, at most {LONGEST_NAME} characters"
        )
    if taken := _taken(name):
        raise click.BadParameter(f"{taken}; choose another name")
    if not is_name(loss) or not loss.isidentifier() or keyword.iskeyword(loss):
        raise click.BadParameter(
            f"{clipped(repr(loss), 100)} is not a valid class name; expected ASCII letters and digits, such as "
            f"EdgeLoss, at most {LONGEST_NAME} characters",
            param_hint="--loss",
        )
    if loss != "MaskedL1Loss" and re.search(rf"\b{loss}\b", _template("lossreg_example/losses.py")):
        raise click.BadParameter(f"the generated module uses the name {loss!r}; choose another", param_hint="--loss")


def _taken(name: str) -> str:
    """Return what already uses the name of the package, its module or its plugin; empty if it is free."""
    module, namespace = name.replace("-", "_"), name.removeprefix("lossreg-")
    if namespace in RESERVED:
        return f"the plugin's name would be {namespace!r}, which is reserved for lossreg"
    if module == "tests":
        return "the package's tests are in a folder 'tests'"
    if module in sys.stdlib_module_names or keyword.iskeyword(module):
        return f"a package {module!r} would hide the one of Python"
    spec = find_spec(module)
    if spec is not None and spec.origin is not None:  # a folder that is not a package has no origin
        return f"it would hide the installed package {module!r}"
    owners = plugin_names()
    if namespace in owners:
        return f"a plugin {namespace!r} is already installed, from {owners[namespace]}"
    return ""


def _write(folder: Path, file: str, name: str, loss: str) -> str:
    """Write one file of the template with the new names, and return its path in the package."""
    path = file.replace("lossreg_example", name.replace("-", "_"))
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(_renamed(_template(file), name, loss), encoding="utf-8")
    return path


def _template(file: str) -> str:
    packed = files("lossreg.cli") / "template" / f"{file}.txt"
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    # an editable install has the example in the source tree
    return (Path(__file__).parents[2] / "plugins" / "lossreg-example" / file).read_text(encoding="utf-8")


def _renamed(text: str, name: str, loss: str) -> str:
    namespace = name.removeprefix("lossreg-")
    alias = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", loss.removesuffix("Loss") or loss).lower()
    text = _LEFT_OUT.sub("", text)
    text = re.sub(r"(?m)^example = ", f"{namespace} = ", text)
    text = re.sub(r'(?m)^dynamic = \["version"\]$', 'version = "0.1.0"', text)
    for theirs, ours in (
        ("example/MaskedL1Loss", f"{namespace}/{loss}"),
        ("MaskedL1Loss", loss),
        ("masked_l1", alias),
        ("lossreg-example", name),
        ("lossreg_example", name.replace("-", "_")),
    ):
        text = text.replace(theirs, ours)
    return text
