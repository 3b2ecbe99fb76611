"""Packages with metadata and modules in a temporary folder on the path, for the tests that install some."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

import lossreg.registry
from lossreg.errors import PluginWarning

HOOKS = """
from lossreg import LossSpec, PreprocessSpec, WeightingSpec, ScheduleSpec, hookimpl
"""


def write(file, content):
    """Write text or bytes."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)


class Packages:
    """Install packages by writing what an installer writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, distribution, *, version="1.0", hooks=None, losses=None, modules=None, requires=(), text=None, info=None
    ):
        """Write one distribution.

        hooks and losses are the lines of the two entry-point groups; modules map a file to its source;
        text replaces entry_points.txt, and info METADATA; each is text or bytes.
        """
        folder = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        usual = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}"
        write(folder / "METADATA", usual if info is None else info)
        groups = {"lossreg": hooks or {}, "lossreg.losses": losses or {}}
        lines = (f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in e.items()) for group, e in groups.items() if e)
        write(folder / "entry_points.txt", "".join(lines) if text is None else text)
        for path, source in (modules or {}).items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(source))

    def hooked(self, distribution, plugin, source, module=None, **options):
        """Write a distribution of one plugin module."""
        module = module or f"{distribution.replace('-', '_')}_plugin"
        self.add(
            distribution,
            hooks={plugin: module},
            modules={f"{module}.py": HOOKS + textwrap.dedent(source)},
            **options,
        )

    def offering(self, distribution, plugin, *names, target="torch.nn:MSELoss", aliases=(), **options):
        """Write a sound plugin that offers losses by hook."""
        specs = ", ".join(f"LossSpec({name!r}, {target!r}, aliases={tuple(aliases)!r})" for name in names)
        source = f"@hookimpl\ndef lossreg_losses():\n    return [{specs}]\n"
        self.hooked(distribution, plugin, source, **options)

    def remove(self, distribution, version="1.0"):
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        for file in info.iterdir():
            file.unlink()
        info.rmdir()

    def modules(self):
        """Return which modules of these packages have been imported."""
        files = {name: getattr(module, "__file__", None) or "" for name, module in [*sys.modules.items()]}
        return {name for name, file in files.items() if file.startswith(str(self.folder))}

    def scan(self):
        """Scan again, and ignore warnings about broken plugins."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PluginWarning)
            return lossreg.refresh()

    def plugin(self, name, distribution=None):
        """Return one plugin of a new scan."""
        found = [p for p in self.scan().plugins if p.name == name and distribution in (None, p.distribution)]
        assert len(found) == 1, found
        return found[0]

    def python(self, code, **environment):
        """Run code in a new interpreter that sees these packages; return its output."""
        return self.run(sys.executable, "-c", textwrap.dedent(code), **environment)

    def environment(self):
        """Return the environment of a process that sees these packages."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOSSREG_")}
        return inherited | {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}

    def run(self, *command, **environment):
        done = subprocess.run(
            command,
            env=self.environment() | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages of this test alone; afterwards the registry is as it was."""
    for switch in ("LOSSREG_DISABLE", "LOSSREG_DISABLE_AUTOLOAD", "LOSSREG_STRICT"):
        monkeypatch.delenv(switch, raising=False)
    made = Packages(tmp_path / "site")
    made.folder.mkdir()
    monkeypatch.syspath_prepend(made.folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module rewritten in the same second is read anew
    monkeypatch.setattr(lossreg.registry, "_local", {})
    yield made
    for name in made.modules():
        del sys.modules[name]
    monkeypatch.undo()
    importlib.invalidate_caches()
    made.scan()
