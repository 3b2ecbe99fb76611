"""`loss: from_dict` in a file: what it builds, what is said of mistakes, and what schema, Hydra and commands know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf
from torch import nn

from lossreg import FromDict, MultiLoss, build_compound_loss_from_config, get_loss_function
from lossreg.composition.weighting.dwa import DWA
from lossreg.config.schema import schema
from lossreg.errors import ConfigError
from lossreg.losses.base import Loss

BATCH = {"losses": {"a": torch.tensor(1.0), "b1": torch.tensor(2.0), "c": torch.tensor(4.0)}}

FILE = """
normalize_losses: false
on_nonfinite: raise
epoch_thresholds: [0, 10]
loss_list:
  - loss: from_dict
    name: det
    key: losses
    weight: 0.5
    weighting: dwa
    terms:
      a: [0.0, 1.0]
      b*: {weight: {schedule: cosine, start: 0.0, end: 1.0, end_epoch: 10}, optional: true, normalize: false}
    rest: {weight: [1.0, 3.0], epoch_thresholds: [0, 20]}
"""


def group_of(text: str) -> FromDict:
    group = build_compound_loss_from_config(yaml.safe_load(text)).loss_funcs[0]
    assert isinstance(group, FromDict)
    return group


def test_a_file_says_all_of_it() -> None:
    criterion = build_compound_loss_from_config(yaml.safe_load(FILE))
    total, values, _ = criterion(BATCH, None, epoch=5)
    assert {name: value.item() for name, value in values.items()} == {"det/a": 1.0, "det/b1": 2.0, "det/c": 4.0}
    assert total.item() == pytest.approx(0.5 * (0.5 * 1 + 0.5 * 2 + 1.5 * 4))
    group = group_of(FILE)
    assert group.on_nonfinite == "raise"
    assert isinstance(group.weighting, DWA)
    assert (group.key, group.name) == ("losses", "det")


@pytest.mark.parametrize(
    "term",
    [
        "- {loss: from_dict, key: losses, terms: {a: 2.0}, rest: 0}",
        "- {loss: from_dict, key: pred.losses, terms: {a: {weight: 2}}, rest: 0}",
        "- loss: {loss: from_dict, key: losses, terms: {a: 2.0}, rest: 0, _recursive_: false}",
        "from_dict: {loss: from_dict, key: losses, terms: {a: 2.0}, rest: 0}",
        "- {loss: from_dict, key: losses, terms: {a: '${w}'}, rest: 0}",
    ],
)
def test_the_dialects_build_the_same(term: str) -> None:
    config = {"w": 2.0, "loss_params": {"compound_loss": {"loss_list": yaml.safe_load(term)}}}
    total, values, _ = get_loss_function(OmegaConf.create(config))(BATCH, None)
    assert (total.item(), set(values)) == (2.0, {"from_dict/a"})


def test_a_group_may_hold_one() -> None:
    text = "loss_list: [{name: outer, weight: 3.0, optional: true, losses: {inner: {loss: from_dict, rest: 1.0}}}]"
    total, values, _ = build_compound_loss_from_config(yaml.safe_load(text))(BATCH["losses"], None)
    assert (total.item(), set(values)) == (21.0, {"outer/inner/a", "outer/inner/b1", "outer/inner/c"})


def test_its_switches_reach_the_members() -> None:
    group = group_of("loss_list: [{loss: from_dict, terms: {a: 1}, rest: 1, approximate: true, normalize: false}]")
    group(BATCH["losses"], None)
    losses = [loss for loss in group.loss_funcs if isinstance(loss, Loss)]
    assert [loss.approximate for loss in losses] == [True] * 3
    assert not group.normalize


MISTAKES = [
    ("{}", "", "missing"),
    ("{rest: 0}", "", "missing"),
    ("{terms: {}}", "", "missing"),
    ("{terms: [a]}", ".terms", "type"),
    ("{terms: {a: x}}", ".terms.a", "type"),
    ("{terms: {a: true}}", ".terms.a", "type"),
    ("{terms: {a: {wieght: 1}}}", ".terms.a.wieght", "unknown"),
    ("{terms: {a: {weight: x}}}", ".terms.a.weight", "type"),
    ("{terms: {a: {optional: 1}}}", ".terms.a.optional", "type"),
    ("{terms: {a: {schedule: nothing}}}", ".terms.a.schedule", "unknown"),
    ('{terms: {"": 1}}', ".terms.", "range"),
    ("{trems: {a: 1}, rest: 1}", ".trems", "unknown"),
    ("{rest: x}", ".rest", "type"),
    ("{rest: 1, key: 1}", ".key", "type"),
    ("{rest: 1, key: ''}", ".key", "range"),
    ("{rest: 1, name: a/b}", ".name", "range"),
    ("{rest: 1, mask: gt.x}", ".mask", "unknown"),
    ("{rest: 1, weighting: nothing}", ".weighting.strategy", "unknown"),
    ("{rest: 1, weight: x}", ".weight", "type"),
    ("{rest: 1, _partial_: true}", "._partial_", "unknown"),
    ("{rest: 1, args: {a: {_target_: os.system}}}", ".args", "unknown"),
]
BUILDER_ALONE = [
    ("{terms: {a: [0, 1]}}", ".terms.a", "missing"),
    ("{terms: {a: 1.0e+39}}", ".terms.a.weight", "limit"),
    ("{terms: {'*': 1}, rest: 1}", ".rest", "conflict"),
    ("{terms: {a/b: 1, a.b: 1}}", ".terms.a.b", "conflict"),
    ("{rest: 1, weighting: uncertainty}", ".weighting", "conflict"),
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


@pytest.mark.parametrize(("keys", "path", "kind"), [*MISTAKES, *BUILDER_ALONE])
def test_a_mistake_is_told_with_its_path(keys: str, path: str, kind: str) -> None:
    block = {"loss_list": [{"loss": "from_dict", **yaml.safe_load(keys)}]}
    with pytest.raises(ConfigError) as caught:
        build_compound_loss_from_config(block)
    found = {(p.path.removeprefix("loss_params.compound_loss.loss_list[0]"), p.kind) for p in caught.value.problems}
    assert (path, kind) in found
    assert all(p.hint for p in caught.value.problems)


@pytest.mark.parametrize("keys", [keys for keys, _, _ in MISTAKES])
def test_the_schema_refuses_it_too(validator: Draft202012Validator, keys: str) -> None:
    assert not validator.is_valid({"loss_list": [{"loss": "from_dict", **yaml.safe_load(keys)}]})


def test_the_schema_takes_what_builds(validator: Draft202012Validator) -> None:
    assert validator.is_valid(yaml.safe_load(FILE))
    for keys in ("{rest: 1.0}", "{terms: {a: null}, rest: 1}", "{terms: {a: '${x}'}, rest: 0, _recursive_: false}"):
        assert validator.is_valid({"loss_list": [{"loss": "from_dict", **yaml.safe_load(keys)}]}), keys


def test_a_lone_loss_is_none() -> None:
    with pytest.raises(ConfigError, match=r"loss.loss: is a group of terms \(list it in loss_params.compound_loss\)"):
        get_loss_function({"loss": {"loss": "from_dict", "rest": 1.0}})


def test_a_component_by_that_name_does_not_take_its_place() -> None:
    import lossreg

    lossreg.register("from_dict")(nn.L1Loss)
    try:
        assert isinstance(group_of("loss_list: [{loss: from_dict, rest: 1}]"), FromDict)
        other = build_compound_loss_from_config({"loss_list": ["local/from_dict"]})
        assert not isinstance(other.loss_funcs[0], MultiLoss)
    finally:
        lossreg.registry._local.pop(("", "loss", "from_dict"))
        lossreg.refresh()


def test_hydra_has_a_node_of_it() -> None:
    from hydra.core.config_store import ConfigStore

    from lossreg.config.hydra import register_configs

    register_configs()
    node = ConfigStore.instance().load("losses/from_dict.yaml").node
    node.terms = {"a": 2.0}
    node.rest = 0
    node.key = "losses"
    block = OmegaConf.create({"loss": {"_target_": "lossreg.config.hydra.compound", "losses": {"det": node}}})
    total, values, _ = get_loss_function(block)(BATCH, None)
    assert (total.item(), set(values)) == (2.0, {"det/a"})
    with pytest.raises(Exception, match="not in 'FromDict'"):
        node.wieght = 1.0


def test_commands_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from lossreg.cli import main

    file = tmp_path / "loss.yaml"
    file.write_text(FILE, encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "120")
    run: Callable[..., Any] = lambda *arguments: CliRunner().invoke(main, [*map(str, arguments)])  # noqa: E731
    checked = json.loads(run("check", file, "--json").output)
    assert [(term["name"], term["loss"], term["optional"]) for term in checked["terms"]] == [
        ("det/a", "from_dict", False),
        ("det/b*", "from_dict", True),
        ("det/*", "from_dict", True),
    ]
    assert run("check", file, "--build").exit_code == 0
    assert "term b*: from_dict, weight cosine, not normalised" in run("graph", file).output
    assert "det/b*" in run("plot", file).output
    shown = run("show", "from_dict").output
    assert "rest" in shown
    assert yaml.safe_load(shown.splitlines()[-1])[0]["loss"] == "from_dict"
    assert {key["name"] for key in json.loads(run("show", "from_dict", "--json").output)["keys"]} >= {"terms", "rest"}


def test_a_check_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "loss.yaml").write_text(FILE, encoding="utf-8")
    code = (
        "import sys; from lossreg.config.parsing import Permissions, parse_file; "
        "parse_file('loss.yaml', None, Permissions()); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
