"""Run every code block of every page in order, with one namespace and one temporary folder per page.

The language of a block says how it is tested:

- `python`: executed; with `>>>` it is a doctest. A block whose first line is `# name.py` is only saved under that name,
  so that a command below can run it.
- `yaml`: must build a loss. A block whose first line is `# name.yaml` is also saved under that name. With
  `# name.yaml, with mistakes` it must raise a `ConfigError`; with `# name.yaml, read by script.py` it is only saved,
  since the script registers the losses.
- `console`: each line after `$ ` is run, in a terminal of 80 columns, and must print the lines below it. A line of
  `...` alone stands for lines that are left out, and `...` in a line for a part of it. What differs between machines
  is compared loosely, see `as_everywhere` and `alike`.
  `python docs/test_pages.py docs/page.md` writes what the commands print today into a page.
- `toml`: must parse.
- `bash`, `text`, `mermaid`: not run; they install or draw something.
"""

from __future__ import annotations

import doctest
import math
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

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
    "docs/metric_learning.md": "pytorch_metric_learning",
}
"""Pages whose blocks need a library that not every environment has; tox's `trainers` and `catalogue` run them."""
LANGUAGES = {"python", "yaml", "console", "toml", "bash", "text", "mermaid"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def build_loss(example: Example) -> None:
    """Build a loss from a YAML block: a whole file, a `compound_loss` block, or a list of terms."""
    source = str(example.parsed)
    if name := re.match(r"# (\S+\.ya?ml)(, with mistakes)?\n", source):
        Path(name[1]).write_text(source, encoding="utf-8")
    if re.match(r"# \S+\.ya?ml, read by \S+\.py\n", source):
        Path(source.split(",")[0][2:]).write_text(source, encoding="utf-8")
        return
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


SESSION = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n?)*)", re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")


def run_session(example: Example) -> str | None:
    """Run the commands of a console block and compare their output."""
    for command, expected in SESSION.findall(str(example.parsed)):
        code, printed = run(command)
        if not expected.strip() and code:
            return f"$ {command}\nended with {code}:\n{printed}"
        if expected.strip() and not alike(command, expected, printed):
            return f"$ {command}\nexpected:\n{expected}\nprinted (exit {code}):\n{printed}"
    return None


def run(command: str) -> tuple[int | None, str]:
    """Return the exit status of a command and what it printed."""
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
    }  # tox sets it, users do not
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run_command(
        command.replace("\\\n", ""), {**inherited, "PATH": path, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    )
    return done.returncode, as_everywhere(done.stdout + done.stderr)


def as_everywhere(text: str) -> str:
    """Replace what another machine prints in another way: folders, times, durations, and space at the ends of lines."""
    for folder in (str(Path.cwd().resolve()), str(Path.cwd())):
        text = text.replace(folder, "~/run")
    text = re.sub(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\]", "[2027-01-31 12:00:00,000]", text)
    text = re.sub(r"\b\d+(?:\.\d+)? (m?s|seconds?)\b", r"2 \1", text)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def alike(command: str, expected: str, printed: str) -> bool:
    """Return whether a command printed what is expected; numbers of a training run may differ by a tenth."""
    exact = command.startswith("lossreg ") and not command.startswith("lossreg demo")
    number = re.compile(r"(?!)") if exact else NUMBER
    lines = [_lines(text, spaces=exact) for text in (expected, printed)]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else f"({NUMBER.pattern})".join(map(_escaped, number.split(line))) + r"\n"
        for line in lines[0]
    )
    found = re.fullmatch(pattern, "".join(f"{line}\n" for line in lines[1]))
    if not found:
        return False
    numbers = [text for line in lines[0] for text in number.findall(line)]
    return all(
        math.isclose(float(a), float(b), rel_tol=0.1, abs_tol=0.05)
        for a, b in zip(numbers, found.groups(), strict=True)
    )


def _escaped(text: str) -> str:
    return re.escape(text).replace(re.escape("..."), ".*")


def _lines(text: str, spaces: bool) -> list[str]:
    """Return the lines to compare; columns are as wide as their numbers, so spaces and rules may differ with these."""
    lines = as_everywhere(text).rstrip().split("\n")
    return lines if spaces else [" ".join(re.sub("─+", "─", line).split()) for line in lines]


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
        pytest.skip(f"needs {needed}; tox's `trainers` or `catalogue` has it")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_of_code_is_wider_than_its_column(page: Path):
    fence, wide = "", []
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = re.match(r" *(`{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1] == fence:
            fence = ""
        elif fence and len(line) > 100:
            wide.append(line)
    assert wide == []


# --- writing --------------------------------------------------------------------------------------


def write(page: Path) -> None:
    """Write into a page what its commands print today; as many lines are left out as were."""
    text = page.read_text(encoding="utf-8")
    for example in SYBIL.parse(page).examples():
        if example.region.evaluator is None or not re.match(r"\$ ", str(example.parsed)):
            example.evaluate()
            continue
        for command, expected in SESSION.findall(str(example.parsed)):
            _, printed = run(command)
            if expected.strip() and not alike(command, expected, printed):
                before = f"$ {command}\n{expected}"
                if before not in text:
                    sys.stderr.write(f"{page}: write this by hand: {before}\n{printed}")
                    continue
                text = text.replace(before, f"$ {command}\n{shortened(printed, expected)}\n")
    page.write_text(text, encoding="utf-8")


def shortened(printed: str, expected: str) -> str:
    """Return what was printed, without the lines in the middle where `...` stands for them."""
    lines, shown = printed.rstrip().split("\n"), expected.rstrip().split("\n")
    dots = [at for at, line in enumerate(shown) if line.strip() == "..."]
    if not dots:
        return "\n".join(lines)
    head, tail = lines[: dots[0]], lines[len(lines) - (len(shown) - 1 - dots[-1]) :]
    return "\n".join([*head, "...", *tail])


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        chosen = Path(argument).resolve()
        with TemporaryDirectory() as folder:
            os.chdir(folder)
            write(chosen)
            os.chdir(ROOT)
