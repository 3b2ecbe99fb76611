"""`lossreg env`: versions, plugins, compiler and devices, to paste into a report."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from importlib import metadata
from typing import Any

import click

from lossreg import __version__
from lossreg.cli.catalog import as_json, blocked_names, offer_of
from lossreg.cli.output import Safe, echo, show_json, stream
from lossreg.printable import paragraph, width_of
from lossreg.registry import catalog, foreign
from lossreg.registry.packages import distribution, packages, parsed

_WIDTH = 80  # also in a pipe, since the block is pasted
_SWITCHES = ("LOSSREG_DISABLE", "LOSSREG_DISABLE_AUTOLOAD", "LOSSREG_STRICT")


@click.command("env", epilog="Example: lossreg env --json")
@as_json
def env_command(as_json: bool) -> None:
    """Show versions, plugins, compiler and devices as one block for a report.

    It imports torch to see the devices. Read it before you post it: the error of a skipped plugin may contain a path.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a plugin that is skipped says why in its line
        facts = _facts()
    if as_json:
        show_json(facts)
        return
    python, torch = facts["python"], facts["torch"]
    _line("lossreg", facts["lossreg"])
    _line("Python", f"{python['version']} ({python['implementation']}) on {facts['system']}")
    _line("torch", torch["error"] or torch["version"])
    _line("devices", "; ".join(torch["devices"]))
    _line("compiler", facts["compiler"])
    _line("requires", _versions(facts["dependencies"]))
    _line("libraries", _versions(facts["libraries"]))
    for i, plugin in enumerate(facts["plugins"]):
        origin = f" ({plugin['distribution']} {plugin['version']})" if plugin["distribution"] else ""
        _line("" if i else "plugins", f"{plugin['name']}{origin}: {plugin['state']}")
    for name, value in facts["switches"].items():
        _line("", f"{name}={value}")
    if facts["blocked"]:
        _line("blocked", ", ".join(facts["blocked"]))


def _line(title: str, text: str) -> None:
    """Print a title and a text in a column beside it."""
    width = min(width_of(stream()) or _WIDTH, _WIDTH)
    echo(Safe(paragraph(text or "none", width, f"{title:<11}", " " * 13)))


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _facts() -> dict[str, Any]:
    plugins = catalog().plugins
    libraries = {distribution(spec.package) for plugin in plugins for spec in plugin.specs if spec.package}
    libraries.discard("torch")
    return {
        "lossreg": __version__,
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "torch": _torch(),
        "compiler": _compiler(),
        "dependencies": _installed(_dependencies()),
        "libraries": _installed(libraries),
        "plugins": [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "state": f"skipped: {foreign.described(plugin.error)}" if plugin.error else offer_of(plugin),
            }
            for plugin in plugins
        ],
        "switches": {name: os.environ[name] for name in _SWITCHES if name in os.environ},
        "blocked": blocked_names()["blocked"],
    }


def _dependencies() -> set[str]:
    """Return the distributions that lossreg needs, without those of its extras; torch has a line of its own."""
    try:
        lines = metadata.requires("lossreg") or []
    except metadata.PackageNotFoundError:  # a source tree on the path
        return set()
    return {parsed(line.partition(";")[0]).name for line in lines if "extra ==" not in line} - {"torch"}


def _installed(names: set[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed, by name."""
    found = ((name, next(packages(name), None)) for name in sorted(names))
    return {name: package.release for name, package in found if package is not None}


def _torch() -> dict[str, Any]:
    """Return torch's version and devices; or why it cannot be imported, which belongs into a report."""
    try:
        import torch
    except Exception as error:
        return {"version": "", "error": f"cannot be imported: {foreign.described(error)}", "devices": []}
    threads = torch.get_num_threads()
    return {
        "version": torch.__version__,
        "error": "",
        "devices": [f"cpu, {threads} thread{'s' * (threads != 1)}", *_accelerators()],
    }


def _accelerators() -> list[str]:
    """Return the accelerators of this machine, with names if their backend knows any."""
    import torch

    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    module = torch.get_device_module(kind)
    name_of = getattr(module, "get_device_name", lambda _: "")
    names = [name_of(i) for i in range(torch.accelerator.device_count())]
    runtime = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return [f"{kind}:{i} {name}".rstrip() + runtime for i, name in enumerate(names)]


def _compiler() -> str:
    """Return the C++ compiler that `torch.compile` would use on the CPU, and triton, which it uses on a GPU."""
    program = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = shutil.which(program)
    name = os.path.basename(program)
    host = f"{name} {_version_of(found)}".rstrip() if found else f"no {name}"
    return ", ".join([host, *(f"triton {version}" for version in _installed({"triton"}).values())])


def _version_of(program: str) -> str:
    """Return the version that a compiler prints; empty if it prints none."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r"\d+(\.\d+)+", done.stdout)
    return match[0] if match else ""
