"""`env` tells what a report needs: versions, plugins with their state, compiler and devices."""

import json
import platform
import sys
from types import SimpleNamespace

import numpy
import pytest
import torch

import lossreg
from lossreg.registry import catalog
from lossreg.registry.plugins import Plugin


@pytest.fixture
def broken(monkeypatch):
    current = catalog()
    error = ImportError("the licence server of this library did not answer; \x1b[2J" * 3)
    plugin = Plugin("bad", "bad-dist", "0.3", error=error)
    monkeypatch.setattr(lossreg.registry, "_catalog", type(current)(current.manager, (*current.plugins, plugin)))


def facts(run):
    return json.loads(run("env", "--json").stdout)


def test_the_block_has_versions_plugins_and_devices_in_80_columns(run, broken):
    shown = run("env").stdout
    assert shown.startswith(f"lossreg    {lossreg.__version__}\nPython     {platform.python_version()} (")
    assert f"\ntorch      {torch.__version__}\n" in shown
    assert f"numpy {numpy.__version__}" in " ".join(shown.split())
    assert f"core (lossreg {lossreg.__version__}): 1 preprocess, 11 schedules, 8 weightings" in shown
    assert "bad (bad-dist 0.3): skipped: ImportError: the licence" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown


def test_json_has_the_same(run, broken):
    found = facts(run)
    assert found["torch"]["version"] == torch.__version__
    assert found["dependencies"]["numpy"] == numpy.__version__
    assert "pytest" not in found["dependencies"]
    states = {plugin["name"]: plugin["state"] for plugin in found["plugins"]}
    assert states["bad"].startswith("skipped: ImportError: ")
    assert states["core"] == "1 preprocess, 11 schedules, 8 weightings"


def test_switches_are_told_if_they_are_set(run, monkeypatch):
    assert facts(run)["switches"] == {}
    monkeypatch.setenv("LOSSREG_DISABLE", "core, other")
    assert facts(run)["switches"] == {"LOSSREG_DISABLE": "core, other"}
    assert "\n           LOSSREG_DISABLE=core, other\n" in run("env").stdout


def test_a_torch_that_cannot_be_imported_is_told(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = facts(run)["torch"]
    assert found["error"].startswith("cannot be imported: ModuleNotFoundError: ")
    assert found["devices"] == []
    assert "\ntorch      cannot be imported: " in run("env").stdout


def test_devices_are_named(run, monkeypatch):
    backend = SimpleNamespace(get_device_name=lambda i: f"Card {i}")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "get_device_module", lambda _: backend)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    cpu, *others = facts(run)["torch"]["devices"]
    assert cpu.startswith("cpu, ")
    assert others == ["cuda:0 Card 0, CUDA 12.6", "cuda:1 Card 1, CUDA 12.6"]


def test_a_device_without_a_name_is_listed(run, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "get_device_module", lambda _: SimpleNamespace())
    monkeypatch.setattr(torch.version, "cuda", None)
    assert facts(run)["torch"]["devices"][1:] == ["mps:0"]


def test_the_compiler_of_the_environment_is_asked_for_its_version(run, monkeypatch, tmp_path):
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\necho 'my compiler (test) 7.8.9'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert facts(run)["compiler"].split(", ")[0] == "my-c++ 7.8.9"


def test_a_compiler_that_fails_has_no_version(run, monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("not a program")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert facts(run)["compiler"].split(", ")[0] == "c++"


def test_no_compiler(run, monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts(run)["compiler"].startswith("no ")
