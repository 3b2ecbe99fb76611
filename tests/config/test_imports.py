"""`allow_import` lets Python code, but no file, name modules for `_target_`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lossreg import ConfigError, build_compound_loss_from_config, build_loss_from_config, get_loss_function, load_loss

LOSSES = "torch.nn.modules.loss"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `mine` with a module of losses, and a module that fails."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("import os\nfrom mine.losses import Huber\n")
    (folder / "losses.py").write_text(
        """
import os, subprocess
from os import path, system
from torch import nn
from torch.nn.functional import l1_loss
from lossreg import Loss

class Huber(nn.Module):
    def __init__(self, delta=1.0, options=None):
        super().__init__()
        self.delta, self.options = delta, options
        self.inner = nn.HuberLoss(delta=delta)

    def forward(self, pred, gt):
        return self.inner(pred, gt)

    class Inside:
        pass

class Named(Loss):
    requires = ("pred.x",)
    def compute(self, pred_batch, gt_batch):
        return pred_batch["x"].sum()

def scaled(pred, gt, scale: float = 1.0):
    return scale * l1_loss(pred, gt)

def lambda_maker():
    return lambda pred, gt: pred.sum()

ready = Huber()
alias = Huber.Inside
anonymous = lambda pred, gt: pred.sum()
"""
    )
    (folder / "broken.py").write_text("raise SystemExit(3)\n")
    (folder / "failing.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def build(term: dict[str, Any], *allowed: str) -> Any:
    return build_compound_loss_from_config({"losses": [term]}, allow_import=allowed).loss_funcs[0]


def test_what_a_listed_module_defines_is_built(package: Path) -> None:
    assert isinstance(build({"_target_": f"{LOSSES}.L1Loss", "reduction": "sum"}, LOSSES).loss_func, torch.nn.L1Loss)
    huber = build({"_target_": "mine.losses.Huber", "delta": 2.0, "options": {"a": [1, "x"]}}, "mine.losses").loss_func
    assert (huber.delta, huber.options) == (2.0, {"a": [1, "x"]})
    assert type(huber.options) is dict
    scaled = build({"_target_": "mine.losses.scaled", "scale": 3.0}, "mine.losses")
    assert float(scaled.loss_func(torch.ones(2), torch.zeros(2))) == 3.0
    assert build({"_target_": "mine.losses.Named", "name": "mine"}, "mine.losses").name == "mine"


def test_every_entry_point_takes_it_and_it_is_logged(
    package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    block = {"losses": [{"_target_": "mine.losses.Huber"}]}
    file = tmp_path / "loss.yaml"
    file.write_text("losses: [{_target_: mine.losses.Huber}]")
    allowed = ("mine.losses",)
    with caplog.at_level(logging.INFO, logger="lossreg.config"):
        build_compound_loss_from_config(block, allow_import=allowed)
        build_loss_from_config({"loss_params": {"compound_loss": block}}, allow_import=allowed)
        get_loss_function({"loss": {"_target_": "mine.losses.Huber"}}, allow_import=allowed)
        load_loss(file, allow_import=allowed)
    lines = [record.getMessage() for record in caplog.records if record.name == "lossreg.config"]
    assert lines == [
        f"importing mine.losses.Huber for {path}, by allow_import"
        for path in (
            "loss_params.compound_loss.losses[0]._target_",
            "loss_params.compound_loss.losses[0]._target_",
            "loss._target_",
            ".losses[0]._target_",
        )
    ]


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("mine.losses.Huber", "mine"),  # a parent allows no submodule
        ("mine.losses.Huber", "mine.losses.Huber"),  # a class is no module
        ("mine.Huber", "mine.losses"),  # nor does a submodule allow its parent
        ("mine.losses.Huber.Inside", "mine.losses"),
        ("mine.losses.os.system", "mine.losses"),
        ("mine.losses.ready.forward", "mine.losses"),
        ("mine.losses.Huber.__init__.__globals__", "mine.losses"),
        ("torch.nn.modules.module.sys.modules", "torch.nn"),
        ("torch.load", "torch.nn"),
        ("torch.nn.modules.module.Module", "torch.nn"),
        ("torch.nn.modules.module.Module", "torch.nn.modules"),
        ("torch.nn.modules.module.Module", "torch.nn.modules.module."),
        ("torch.nn.modules.module.Module", "torch.nn.modules.*"),
        ("torch.nn.modules.module.Module", ""),
        ("L1Loss", ""),
        ("mine.losses..Huber", "mine.losses."),
        ("mine.losses.Hüber ", "mine.losses"),
        ("mine.losses:Huber", "mine.losses"),
        ("subprocess.call", "torch.nn.modules.loss"),
        ("os.system", "os.path"),
    ],
)
def test_what_no_listed_module_holds_is_not_even_imported(package: Path, target: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match="never imported"):
        build({"_target_": target}, allowed)
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("mine.Huber", "is no class or function of mine's own; allow_import reaches no further"),
        ("mine.losses", "is no class or function of mine's own|Expected a callable target"),
        ("mine.losses.path", "Expected a callable target"),
        ("mine.losses.system", "blocklisted"),
        ("mine.losses.l1_loss", "is no class or function of mine.losses's own"),
        ("mine.losses.ready", "is no class or function of mine.losses's own"),
        ("mine.losses.nothing", "cannot be imported"),
        ("mine.broken.Loss", "cannot be imported"),
        ("mine.failing.Loss", "no licence"),
        ("mine.absent.Loss", "cannot be imported"),
        ("torch.load", "is no class or function of torch's own"),
        ("os.system", "blocklisted"),
        ("builtins.exec", "blocklisted"),
        ("subprocess.Popen", "blocklisted"),
    ],
)
def test_what_a_listed_module_did_not_define_itself_is_refused(package: Path, target: str, reason: str) -> None:
    allowed = target.rpartition(".")[0]
    with pytest.raises(ConfigError, match=reason) as caught:
        build({"_target_": target}, allowed)
    assert caught.value.problems[0].path.startswith("loss_params.compound_loss.losses[0]")


@pytest.mark.parametrize("key", ["_target_", "_args_", "_partial_", "_convert_", "_recursive_"])
@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: [d], lambda d: {"deep": [{"er": d}]}])
def test_its_parameters_stay_data(package: Path, key: str, wrap: Any) -> None:
    value = {key: "os.system" if key == "_target_" else ["true"]}
    with pytest.raises(ConfigError, match="is not supported inside arguments"):
        build({"_target_": "mine.losses.Huber", "options": wrap(value)}, "mine.losses")


def test_its_parameters_are_checked_against_its_signature(package: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'delta'"):
        build({"_target_": "mine.losses.Huber", "detla": 1.0}, "mine.losses")


def test_only_a_loss_may_be_imported(package: Path) -> None:
    for key, term in [
        ("pre_processes", [{"_target_": "mine.losses.Huber"}]),
        ("weighting", {"strategy": "mine.losses.Huber"}),
    ]:
        with pytest.raises(ConfigError):
            build_compound_loss_from_config(
                {"losses": [{"_target_": f"{LOSSES}.L1Loss"}], key: term}, allow_import=(LOSSES, "mine.losses")
            )
    assert "mine" not in sys.modules


def test_no_file_can_allow_an_import(package: Path) -> None:
    for key in ("allow_import", "allow_imports", "_allow_import_"):
        with pytest.raises(ConfigError):
            build_compound_loss_from_config({"losses": [{"_target_": "mine.losses.Huber"}], key: ["mine.losses"]})
        with pytest.raises(ConfigError):
            build({"_target_": "mine.losses.Huber", key: ["mine.losses"]})
    assert "mine" not in sys.modules


def test_a_text_in_place_of_a_collection_is_a_mistake_of_python() -> None:
    with pytest.raises(TypeError, match="allow_import: expected a tuple of module paths, found the string 'mine'"):
        build_compound_loss_from_config({"losses": ["x"]}, allow_import="mine")
