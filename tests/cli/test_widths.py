"""What a person sees in a terminal of 60, 80 and 120 columns: every line fits, no name and no number is cut."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result

import lossreg

WIDTHS = (60, 80, 120)
LONG = "a_term_with_a_name_of_forty_characters_"
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?$")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are called by their names, as a person does."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def big(write: Callable[[str], Path]) -> Path:
    """A file with long names and schedules with many digits."""
    lossreg.register(f"{LONG.title().replace('_', '')}Loss")(lambda pred, gt: (pred - gt).mean())
    name = f"{LONG.title().replace('_', '')}Loss"
    terms = [{"loss": name, "name": f"{LONG}{i}", "weight": [1e-5 * i, 0.12345 * i, i, 0.5, 0]} for i in range(1, 6)]
    group = {"name": "group", "loss_list": [{"loss": "slope", "optional": True, "normalize": False}]}
    block = {"epoch_thresholds": [0, 5, 10, 50, 1000], "loss_list": [{"loss": "height", "scale": 1}, *terms, group]}
    return Path(write(yaml.safe_dump(block)).name)


def assert_fits(shown: str, columns: int) -> None:
    """Hold every line against the width, but commands that are to be copied."""
    assert max(len(line) for line in shown.splitlines() if not line.startswith("  pip install ")) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_check_shows_each_name_and_each_number_of_its_table(
    big: Path, run: Callable[..., Result], at_width: Callable[..., str], columns: int
) -> None:
    shown = at_width(columns, "check", "--build", big)
    assert_fits(shown, columns)
    terms = json.loads(run("check", "--json", big).stdout)["terms"]
    words = shown.split()
    for term in terms:
        assert {term["name"], term["loss"], *(f"{weight:.4g}" for _, weight in term["weights"])} <= set(words)
    assert all(NUMBER.match(word) for word in words if re.match(r"-?\d", word) and word != "7")


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("kind", ["loss", "preprocess", "schedule", "weighting"])
def test_list_shows_each_name_and_each_summary(
    run: Callable[..., Result], at_width: Callable[..., str], columns: int, kind: str
) -> None:
    shown = at_width(columns, "list", "--all", "--kind", kind)
    assert_fits(shown, columns)
    words = set(shown.split())
    for entry in json.loads(run("list", "--all", "--kind", kind, "--json").stdout):
        assert {entry["name"], *entry["summary"].split()} <= words


@pytest.mark.parametrize("columns", WIDTHS)
def test_plugins_shows_each_plugin(run: Callable[..., Result], at_width: Callable[..., str], columns: int) -> None:
    shown = at_width(columns, "plugins")
    assert_fits(shown, columns)
    assert {plugin["name"] for plugin in json.loads(run("plugins", "--json").stdout)["plugins"]} <= set(shown.split())


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", ["cosine", "piecewise", "dwa", "gradnorm", "height", "from_dict"])
def test_show_fits_and_its_yaml_can_be_copied(
    run: Callable[..., Result], at_width: Callable[..., str], columns: int, name: str
) -> None:
    shown = at_width(columns, "show", name)
    assert_fits(shown, columns)
    line = json.loads(run("show", name, "--json").stdout)["yaml"]
    assert yaml.safe_load(shown.partition("In YAML:\n")[2]) == yaml.safe_load(line)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", ["graph", "plot"])
def test_drawings_fit(
    big: Path, run: Callable[..., Result], at_width: Callable[..., str], columns: int, command: str
) -> None:
    shown = at_width(columns, command, big)
    assert_fits(shown, columns)
    assert all(f"{LONG}{i}" in re.split(r"[\s:]+", shown) for i in range(1, 6))


@pytest.mark.parametrize("columns", WIDTHS)
def test_mistakes_fit_and_the_mark_is_below_the_mistake(
    write: Callable[[str], Path], at_width: Callable[..., str], columns: int
) -> None:
    long = "n" * 70
    file = write(
        f"losses:\n  - {{loss: hieght, name: {long}, scale: 1.0}}\n  - {{loss: slope, name: {long[1:]}, wieght: 3}}\n"
    )
    shown = at_width(columns, "check", file.name)
    assert_fits(shown, columns)
    lines = shown.splitlines()
    for words in ("loss: hieght", "wieght: 3"):
        place = next(i for i, line in enumerate(lines) if words in line and " | " in line)
        assert lines[place + 1].index("^") == lines[place].index(words)
    assert "did you mean 'weight'?" in shown


@pytest.mark.parametrize("columns", WIDTHS)
def test_errors_help_and_new_fit(at_width: Callable[..., str], columns: int) -> None:
    for command in ("list", "show", "plugins", "env", "check", "schema", "plot", "graph", "new"):
        assert_fits(at_width(columns, command, "--help"), columns)
    assert_fits(at_width(columns, "env"), columns)
    assert_fits(at_width(columns, "--help"), columns)
    told = at_width(columns, "list", "--task", "cooking"), at_width(columns, "new", "Not A Name")
    for shown in (*told, at_width(columns, "schema", "-o", "a.json")):
        assert_fits(shown, columns)
    shown = at_width(columns, "new", "my-losses")
    assert_fits(shown, columns)
    assert "pip install -e '.[test]'" in shown


@pytest.mark.parametrize(
    "extra", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_output_that_is_not_utf_8_gets_text_that_it_can_encode(extra: dict[str, str], good: Path) -> None:
    for arguments in (["list", "--kind", "weighting"], ["plot", str(good)], ["plugins"]):
        command = [sys.executable, "-m", "lossreg", *arguments]
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}  # tox sets it
        env = {**inherited, "PYTHONPATH": str(good.parent), **extra}
        done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
        done.stdout.decode("ascii")
        assert b"\\u2500" not in done.stdout, "the rule of a table is one that the output can encode"
        assert b"Traceback" not in done.stderr


def test_elsewhere_than_in_a_terminal_a_row_is_a_line(run: Callable[..., Result], big: Path) -> None:
    table = run("check", big).stdout.split("\n\n")[1].splitlines()
    assert len(table) == 2 + 7
