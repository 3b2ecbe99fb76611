"""`lossreg new`: the written files, and the errors. That the package works is tested from wheels."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from lossreg.cli import main


@pytest.fixture
def new(tmp_path):
    def run(*arguments: str):
        return CliRunner().invoke(main, ["new", *arguments, "--directory", str(tmp_path)])

    return run


def _written(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_everything_bears_the_authors_names(new, tmp_path):
    result = new("lossreg-roads", "--loss", "RoadWidthLoss")
    assert result.exit_code == 0, result.output
    written = _written(tmp_path / "lossreg-roads")
    assert sorted(written) == [
        "README.md", "lossreg_roads/__init__.py", "lossreg_roads/examples.py", "lossreg_roads/losses.py",
        "lossreg_roads/plugin.py", "lossreg_roads/py.typed", "pyproject.toml",
        "tests/test_conformance.py", "tests/test_losses.py", "tox.ini",
    ]  # fmt: skip
    whole = "\n".join(written.values())
    assert "class RoadWidthLoss(" in whole
    assert '"road_width"' in whole
    for theirs in ("lossreg-example", "lossreg_example", "masked_l1", "MaskedL1", "leaves out", "to here"):
        assert theirs not in whole
    assert 'name = "lossreg-roads"' in written["pyproject.toml"]
    assert '[project.entry-points."lossreg"]\nroads = "lossreg_roads.plugin"\n' in written["pyproject.toml"]
    assert "roads/RoadWidthLoss" in written["README.md"]


def test_the_package_has_a_version_of_its_own_and_no_address_of_ours(new, tmp_path):
    new("my-losses")
    metadata = tomllib.loads((tmp_path / "my-losses" / "pyproject.toml").read_text())
    assert metadata["project"]["version"] == "0.1.0"
    assert metadata["project"]["classifiers"] == ["Typing :: Typed"]
    assert not {"dynamic", "urls"} & set(metadata["project"])
    assert "version" not in metadata["tool"]["hatch"]


def test_it_tells_what_it_wrote_and_what_comes_next(new, tmp_path):
    output = new("my-losses").output
    assert str(tmp_path / "my-losses" / "my_losses" / "losses.py") in output
    assert "pip install -e" in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Losses", "is not a valid package name"),
        ("my losses", "is not a valid package name"),
        ("../away", "is not a valid package name"),
        ("json", "would hide"),
        ("torch", "would hide"),
        ("class", "would hide"),
        ("numpy", "would hide the installed package 'numpy'"),
        ("lossreg", "would hide the installed package 'lossreg'"),
        ("core", "the plugin's name would be 'core', which is reserved for lossreg"),
        ("lossreg-core", "the plugin's name would be 'core', which is reserved for lossreg"),
        ("local", "the plugin's name would be 'local', which is reserved for lossreg"),
        ("tests", "are in a folder 'tests'"),
        ("a" * 300, "is not a valid package name"),
        ("a" * 101, "is not a valid package name"),
        ("m\u00fcller", "is not a valid package name"),
        ("a\x1b[2J", "is not a valid package name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(new, tmp_path, name, message):
    result = new(name)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "loss", ["Edge Loss", "3D", "class", "a.b", "", "\u00dcberLoss", "Verlust\u00df", "L" * 300, "None", "a-b"]
)
def test_a_loss_that_is_no_class_name_is_refused(new, tmp_path, loss):
    result = new("my-losses", "--loss", loss)
    assert result.exit_code == 2
    assert "is not a valid class name" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loss", ["Tensor", "Loss", "lossreg", "Any", "float", "Elements", "super"])
def test_a_loss_that_would_hide_what_its_module_uses_is_refused(new, tmp_path, loss):
    result = new("my-losses", "--loss", loss)
    assert result.exit_code == 2
    assert "the generated module uses" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_a_name_and_a_loss_of_the_longest_kind_are_taken(new, tmp_path):
    assert new("a" * 100, "--loss", "L" * 100).exit_code == 0
    assert (tmp_path / ("a" * 100) / ("a" * 100) / "losses.py").is_file()


@pytest.mark.needs_plugins
def test_the_name_of_an_installed_plugin_is_refused(new, tmp_path):
    result = new("seg")
    assert result.exit_code == 2
    assert "a plugin 'seg' is already installed, from lossreg-seg" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_left_alone(new, tmp_path):
    (tmp_path / "my-losses").mkdir()
    (tmp_path / "my-losses" / "notes.txt").write_text("mine")
    result = new("my-losses")
    assert result.exit_code == 1
    assert "already exists" in result.output
    assert _written(tmp_path) == {"my-losses/notes.txt": "mine"}
