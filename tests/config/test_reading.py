"""Configs of any kind become the same plain data, and nothing outside them is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from lossreg.config.build import load_loss
from lossreg.config.reading import Source, has, plain
from lossreg.errors import ConfigError

DATA = {"a": 1, "b": [0.5, {"c": None}], "d": "text"}


@dataclass
class Structured:
    a: int = 1
    b: list[Any] = field(default_factory=lambda: [0.5, {"c": None}])
    d: str = "text"


@pytest.mark.parametrize(
    "cfg",
    [
        DATA,
        OmegaConf.create(DATA),
        SimpleNamespace(a=1, b=[0.5, SimpleNamespace(c=None)], d="text"),
        OmegaConf.structured(Structured),
    ],
    ids=["dict", "DictConfig", "namespace", "structured"],
)
def test_every_kind_gives_the_same_data(cfg: Any) -> None:
    assert plain(cfg, "here") == (DATA, [])
    assert plain(cfg, "here", "d") == ("text", [])
    assert plain(cfg, "here", "nothing", "there") == (None, [])
    assert has(cfg, "a")
    assert not has(cfg, "nothing", "there")


def test_references_inside_the_config_are_resolved_from_its_root() -> None:
    cfg = OmegaConf.create({"epochs": [0, 5], "loss": {"a": "${epochs}", "b": "${.c}", "c": "${epochs[1]}"}})
    assert plain(cfg.loss, "loss")[0] == {"a": [0, 5], "b": 5, "c": 5}


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:SECRET}",
        "${oc.env:SECRET,default}",
        "x${oc.env:SECRET}y",
        "${outer}",
        "${oc.decode:'${oc.env:SECRET}'}",
        "${${name}:SECRET}",
        "${ oc.env : SECRET}",
        "${oc.${part}:SECRET}",
        "\\${oc.env:SECRET}${oc.env:SECRET}",
        "${custom:}",
    ],
)
def test_no_resolver_runs(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setenv("SECRET", "secret")
    OmegaConf.register_new_resolver("custom", lambda *a: ran.append("custom"), replace=True)
    root = OmegaConf.create({"outer": "${oc.env:SECRET}", "name": "oc.env", "part": "env", "loss": {"weight": text}})
    data, problems = plain(root.loss, "loss")
    OmegaConf.clear_resolver("custom")
    assert "secret" not in str(data)
    assert ran == []
    assert [p.path for p in problems] == ["loss.weight"]
    assert "reaches outside the config" in problems[0].message


def test_python_code_may_allow_a_resolver_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    cfg = {"a": "${oc.env:SECRET}", "b": "${oc.decode:1}"}
    data, problems = plain(cfg, "loss", allow_resolvers=("oc.env",))
    assert data["a"] == "secret"
    assert [p.path for p in problems] == ["loss.b"]


def test_a_reference_to_nowhere_and_a_loop_are_config_errors() -> None:
    for cfg in ({"a": "${nowhere}"}, {"a": "${b}", "b": "${a}"}):
        with pytest.raises(ConfigError, match=r"^loss\.a: cannot be resolved"):
            plain(cfg, "loss")


def test_a_missing_value_is_named() -> None:
    assert str(plain({"a": {"b": "???"}}, "loss")[1][0]) == "loss.a.b: is marked as missing ('???') (give it a value)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "duplicate key a"),
        ("a: [1\n", "is not a YAML file"),
        ("- 1\n", "expected a mapping at the top, found a list"),
        ("!!python/object/apply:os.system ['true']\n", "is not a YAML file"),
    ],
)
def test_files_that_are_no_config(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "loss.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Source.read(file).load()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file"):
        Source.read(tmp_path / "none.yaml")


@pytest.mark.parametrize("key", ["losses", "loss_list", "loss", "loss_params", "compute_seg"])
def test_no_resolver_runs_at_the_top_of_a_file(key: str, tmp_path: Path) -> None:
    ran: list[str] = []
    OmegaConf.register_new_resolver("custom", lambda *a: ran.append("custom"), replace=True)
    file = tmp_path / "loss.yaml"
    file.write_text(f"{key}: ${{custom:}}\n")
    with pytest.raises(ConfigError):
        load_loss(file)
    OmegaConf.clear_resolver("custom")
    assert ran == []


@pytest.mark.parametrize("text", ["a: {b: ${w}}", "a: [${w}]", "a: [1, '${x}', ${w}, 2]", "\ufeffa: {b: ${w}, c: 1}"])
def test_a_reference_without_quotes_inside_of_brackets_is_told(text: str) -> None:
    told = r"the reference \$\{w\} inside \{...\} or \[...\] without quotes; quote it: '\$\{w\}'"
    with pytest.raises(ConfigError, match=told):
        Source("loss.yaml", f"w: 1\n{text}\n".encode()).load()


@pytest.mark.parametrize("text", ["{", "{b: 1", "a: {b: {c}}}", "a: [$ {y: 1}]", "a: [x {y: 1}]"])
def test_other_brackets_are_told_as_yaml_does(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a YAML file") as caught:
        Source("loss.yaml", text.encode()).load()
    assert "reference" not in str(caught.value)
