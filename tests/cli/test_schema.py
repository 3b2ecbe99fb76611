"""`lossreg schema` prints and writes a JSON Schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from jsonschema import Draft202012Validator


def test_it_prints_a_schema_with_every_installed_loss(run: Callable[..., Result]) -> None:
    result = run("schema")
    assert result.exit_code == 0
    made = json.loads(result.output)
    Draft202012Validator.check_schema(made)
    assert "loss:local/HeightLoss" in made["$defs"]


def _schema(**environment: str) -> str:
    command = [sys.executable, "-m", "lossreg", "schema"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    ).stdout  # fmt: skip


@pytest.mark.needs_plugins
def test_it_is_small_enough_for_an_editor_and_has_a_definition_a_line() -> None:
    """With torch, MONAI and kornia; each loss of a further library adds less than 2,000 bytes."""
    text, whole = _schema(LOSSREG_DISABLE="auraloss,geomloss,lightly,lpips,piq,pml,timm,torchmetrics"), _schema()
    assert len(text.encode()) <= 250_000
    losses = [sum(name.startswith("loss:") for name in json.loads(some)["$defs"]) for some in (text, whole)]
    assert len(whole.encode()) - len(text.encode()) <= 2_000 * (losses[1] - losses[0])
    assert len(whole.splitlines()) == len(json.loads(whole)["$defs"]) + 2


def test_it_takes_a_key(run: Callable[..., Result]) -> None:
    validator = Draft202012Validator(json.loads(run("schema", "--key", "a.b").output))
    assert validator.is_valid({"a": {"b": {"losses": ["slope"]}}})
    assert not validator.is_valid({"losses": ["slope"]})


@pytest.mark.parametrize("key", ["", "a..b", "a."])
def test_a_key_that_is_no_path_is_refused(run: Callable[..., Result], key: str) -> None:
    result = run("schema", "--key", key)
    assert result.exit_code == 2
    assert "expected a dotted path" in result.stderr


def test_it_writes_a_file_in_place_of_another(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "lossreg.schema.json"
    file.write_text("old", encoding="utf-8")
    result = run("schema", "-o", file)
    assert (result.exit_code, result.output) == (0, f"wrote {file}\n")
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(run("schema").output)
    assert list(tmp_path.iterdir()) == [file]
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode


def test_a_file_that_cannot_be_written_is_an_error(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("schema", "--output", tmp_path / "nowhere" / "x.json")
    assert result.exit_code == 1
    assert "x.json: cannot be written" in result.output
