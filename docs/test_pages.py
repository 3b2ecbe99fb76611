"""Run every code block of every page in order, with one namespace and one temporary folder per page.

The language of a block says how it is tested:

- `python`: executed; with `>>>` it is a doctest. A block whose first line is `# name.py` is only saved under that name,
  so that a command below can run it.
- `yaml`: must build a loss. A block whose first line is `# name.yaml` is also saved under that name. With
  `# name.yaml, with mistakes` it must raise a `ConfigError`.
- `console`: each line after `$ ` is run and must print the lines below it (`...` matches anything).
- `toml`: must parse.
- `bash`, `text`, `mermaid`: not run; they install or draw something.
"""

from __future__ import annotations

import doctest
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from sybil import Document, Example, Region, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

import lossreg
import lossreg.registry

sys.path.insert(0, str(Path(__file__).parent))  # the processes import `run_script.py` from there

from run_script import run_command

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/README.md")
    for page in ROOT.glob(pattern)
    if not {"_build", "losses"} & set(page.parts)  # the folder `losses` is generated; docs/test_reference.py holds it
)
NEEDS = {
    "docs/accelerate.md": "accelerate",
    "docs/huggingface.md": "transformers",
    "docs/ignite.md": "ignite",
    "docs/lightning_cli.md": "jsonargparse",
}
"""Pages whose blocks need a library that not every environment has; tox's `trainers` runs them."""
LANGUAGES = {"python", "yaml", "console", "toml", "bash", "text", "mermaid"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def build_loss(example: Example) -> None:
    """Build a loss from a YAML block: a whole file, a `compound_loss` block, or a list of terms."""
    source = str(example.parsed)
    if name := re.match(r"# (\S+\.ya?ml)(, with mistakes)?\n", source):
        Path(name[1]).write_text(source, encoding="utf-8")
    config = yaml.safe_load(source)
    if name and source.startswith(f"# {name[1]}, with mistakes\n"):
        with pytest.raises(lossreg.ConfigError):
            lossreg.load_loss(name[1])
        return
    if isinstance(config, list):
        config = {"loss_list": config}
    if {"loss_params", "loss"} & set(config):
        lossreg.get_loss_function(config)
    else:
        lossreg.build_compound_loss_from_config(config)


def run_session(example: Example) -> str | None:
    """Run the commands of a console block and compare their output."""
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
    }  # tox sets it, users do not
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", str(example.parsed), re.MULTILINE):
        run = run_command(command, {**inherited, "PATH": path, "COLUMNS": "110", "NO_COLOR": "1"})
        printed = run.stdout + run.stderr
        if not expected.strip() and run.returncode:
            return f"$ {command}\nended with {run.returncode}:\n{printed}"
        if expected.strip() and not doctest.OutputChecker().check_output(expected, printed, OPTIONS):
            return f"$ {command}\nexpected:\n{expected}\nprinted (exit {run.returncode}):\n{printed}"
    return None


def parse_toml(example: Example) -> None:
    """Parse a TOML block."""
    tomllib.loads(str(example.parsed))


def save_script(example: Example) -> None:
    """Save a script under the name in its first line."""
    source = str(example.parsed)
    Path(source.split()[1]).write_text(source, encoding="utf-8")


def python_blocks(document: Document) -> Iterator[Region]:
    """Yield the Python blocks of a page; scripts are saved and not executed."""
    for region in PythonCodeBlockParser(doctest_optionflags=OPTIONS)(document):
        if re.match(r"# \S+\.py\n", str(region.parsed)):
            region.evaluator = save_script
        yield region


SYBIL = Sybil(
    parsers=[
        python_blocks,
        CodeBlockParser("yaml", build_loss),
        CodeBlockParser("console", run_session),
        CodeBlockParser("toml", parse_toml),
        SkipParser(),
    ],
    pattern="*.md",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needed = NEEDS.get(page.relative_to(ROOT).as_posix())
    if needed and find_spec(needed) is None:
        pytest.skip(f"needs {needed}; tox's `trainers` has it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lossreg.registry, "_local", {})  # registered losses must not leak into other pages
    monkeypatch.setattr(lossreg.registry, "_catalog", None)
    for example in SYBIL.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page: Path):
    fences = re.findall(r"^ *```+(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    unknown = {fence.strip() for fence in fences[::2]} - LANGUAGES
    assert {fence for fence in unknown if not fence.startswith("{")} == set()
