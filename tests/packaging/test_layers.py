"""The table of layers in CONTRIBUTING is that of the import contracts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_contributing_lists_the_layers_of_the_contract_in_their_order():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Layers\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"`(lossreg\.\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)]
    assert rows == [layer.split(" | ") for layer in layers]


def test_every_package_has_a_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name for layer in layers for name in layer.split(" | ")}
    found = {f"lossreg.{path.stem}" for path in (ROOT / "lossreg").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - named == {"lossreg.__init__", "lossreg.__main__", "lossreg.__pycache__"} & found
