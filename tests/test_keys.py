"""Each key is declared once: schema, Hydra's nodes, the reference, the reader and Python know every field."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf, ValidationError
from torch import nn

from lossreg import LossWrapper, MultiLoss, keys
from lossreg.config.grammar import Grammar
from lossreg.config.hydra import _TERM_FIELDS
from lossreg.config.schema import schema
from lossreg.errors import ArgumentError
from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.printable import MAX_NAME
from lossreg.values import Block, Key, Read, Type, keys_of, type_of

BLOCKS = [
    block
    for block in vars(keys).values()
    if dataclasses.is_dataclass(block) and not block.__name__.startswith("_") and block.__module__ == keys.__name__
]
FIELDS = [
    pytest.param(block, key, id=f"{block.__name__}.{name}") for block in BLOCKS for name, key in keys_of(block).items()
]
OWNERS = {"MultiLoss": MultiLoss, "LossWrapper": LossWrapper, "DeepSupervision": DeepSupervision}
ARGUMENTS = [
    pytest.param(OWNERS[owner], key, id=f"{owner}.{key.argument(owner)}")
    for block in (keys.Compound, keys.Term, keys.Wrap, keys.Deep)
    for key in keys_of(block).values()
    for owner in OWNERS
    if key.argument(owner)
]


def reads(kind: Type) -> bool:
    """Say whether the reader checks a part of a type itself; tests/config/test_schema.py compares that."""
    return isinstance(kind, Read) or any(map(reads, kind.parts))


CHECKED = [
    pytest.param(key, id=f"{block.__name__}.{name}")
    for block in BLOCKS
    for name, key in keys_of(block).items()
    if not reads(key.type)
]
WRONG = [None, True, -1, 0.5, "", "nothing", [], ["nothing"], [True], {}, {"nothing": 1}, {"step": 0}]
"""Values of which each key refuses some."""


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return schema()


def accepts(made: dict[str, Any], node: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({"$defs": made["$defs"], "allOf": [node]}).is_valid(value)


@pytest.mark.needs_plugins  # the examples name losses of theirs
@pytest.mark.parametrize(("block", "key"), FIELDS)
def test_a_key_has_a_sentence_and_examples_that_fit(block: type, key: Key, made: dict[str, Any]) -> None:
    assert key.doc.endswith(".")
    assert key.examples or isinstance(key.type, Block) or key.name in ("args", "seg_params", "pl_trainer")
    for example in key.examples:
        assert key.type.fits(example)
        assert accepts(made, key.schema(), example)


@pytest.mark.parametrize("key", CHECKED)
def test_its_schema_accepts_what_its_type_takes(key: Key, made: dict[str, Any]) -> None:
    different = [value for value in WRONG if accepts(made, key.schema(), value) != key.type.fits(value)]
    assert different == []


@pytest.mark.parametrize("block", [keys.Compound, keys.Group, keys.Term, keys.Wrap, keys.Deep, keys.Normalization])
def test_the_schema_has_every_key(block: type, made: dict[str, Any]) -> None:
    inside = {
        keys.Wrap: keys_of(keys.Term)["wrap"].type.nodes()[0],
        keys.Deep: keys_of(keys.Term)["deep_supervision"].type.nodes()[2],
        keys.Normalization: keys_of(keys.Compound)["normalization_params"].type.nodes()[0],
        keys.Term: {
            "properties": {**made["$defs"]["term_keys"]["properties"], **dict.fromkeys(("loss", "_target_", "args"))}
        },
    }
    node = inside.get(block) or made["$defs"][block.__name__.lower()]
    assert set(node["properties"]) == set(keys_of(block))


def test_hydras_terms_have_every_key_of_a_term_with_its_default() -> None:
    fields = {name: default for name, _, default in _TERM_FIELDS}
    wrap = vars(fields.pop("wrap"))
    own = {name: key.default for name, key in keys_of(keys.Term).items() if name not in keys_of(keys.Lone)}
    assert fields | {"wrap": None} == own
    assert wrap == dict.fromkeys(keys_of(keys.Wrap))  # each left out


@pytest.mark.parametrize("key", keys_of(keys.Wrap).values(), ids=keys_of(keys.Wrap))
def test_hydras_wrap_takes_what_its_key_takes(key: Key) -> None:
    (kind,) = (kind for name, kind, _ in _TERM_FIELDS if name == "wrap")
    wrap = OmegaConf.structured(kind)
    for value in (None, *key.examples):
        wrap[key.name] = value
        assert wrap[key.name] == value
    if key.name not in ("inputs", "pred_channels", "gt_channels"):  # OmegaConf has no type for what these take
        with pytest.raises(ValidationError):
            wrap[key.name] = {"nothing": 1}


@pytest.mark.parametrize(("owner", "key"), ARGUMENTS)
def test_python_has_its_argument_with_its_default(owner: type, key: Key) -> None:
    parameter = inspect.signature(owner).parameters[key.argument(owner.__name__)]
    assert key.required if parameter.default is parameter.empty else parameter.default == key.default


@pytest.mark.parametrize(("owner", "key"), ARGUMENTS)
def test_python_refuses_what_a_file_may_not_give(owner: type, key: Key) -> None:
    import torch

    loss = LossWrapper(torch.nn.L1Loss(), "a")
    good: dict[str, Any] = {
        "MultiLoss": {"loss_funcs": [loss], "weights": [1.0]},
        "LossWrapper": {"loss_func": torch.nn.L1Loss()},
        "DeepSupervision": {"loss": loss, "outputs": "aux.*"},
    }[owner.__name__]
    argument = key.argument(owner.__name__)
    refused = [value for value in WRONG if not key.type.fits(value)]
    assert refused
    for value in refused:
        with pytest.raises(ArgumentError) as caught:
            owner(**{**good, argument: value})
        assert {problem.path.partition(".")[0].partition("[")[0] for problem in caught.value.problems} == {argument}


@pytest.mark.parametrize(
    ("block", "name"), [(b, n) for b in (keys.Compound, keys.Group, keys.Term) for n in keys_of(b)]
)
def test_the_reader_refuses_what_does_not_fit(block: type, name: str) -> None:
    key = keys_of(block)[name]
    refused = [value for value in WRONG if not key.type.fits(value)]
    for value in refused:
        inner: dict[str, Any] = (
            {"loss_list": ["torch/L1Loss"], "name": "a"} if block is keys.Group else {"loss": "torch/L1Loss"}
        )
        data = (
            {"loss_list": [{**inner, name: value}]}
            if block is not keys.Compound
            else {"loss_list": ["torch/L1Loss"], name: value}
        )
        grammar = Grammar()
        grammar.compound(json.loads(json.dumps(data)), "block")
        assert any(name in problem.path.replace("[", ".").split(".") for problem in grammar.problems), value


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (keys.Name, ["a", "a" * MAX_NAME], ["", "a" * (MAX_NAME + 1), "a/b"]),
        (keys.Place, ["a"], [""]),
        (keys.Target, ["a"], [""]),
        (keys.PredKey, ["a", "pred", "predicted.a", "gt.a", "${a}"], ["", "pred.a", "pred."]),
        (keys.GtKey, ["a", "gt", "a.gt.b", "pred.a"], ["", "gt.a", "gt."]),
        (keys.Outputs, ["a", ["a"], "aux.*"], ["", [], [""], "pred.a", ["a", "pred.aux.*"]]),
        (keys.BatchKey, ["pred.a", "gt.a"], ["a", "pred.", "gt"]),
        (keys.SomeKeys, [["pred.a"]], [[], ["a"]]),
        (keys.Share, [1, 1e-9], [0, 1.1, -0.1]),
        (keys.Samples, [1], [0, -1]),
        (keys.Stride, [1, -1], [0]),
        (keys.Epochs, [[0], [0.5, 1]], [[], ["a"]]),
        (keys.Channels, [0, [0], [False, True], {"start": 1}], [[], [False], {}, {"step": 0}]),
    ],
)
def test_limits_and_their_schema_agree_at_the_edges(kind: Any, inside: list[Any], outside: list[Any]) -> None:
    found = type_of(kind)
    validator = Draft202012Validator({**found.schema(), "$defs": schema()["$defs"]})
    for value, fits in [*((value, True) for value in inside), *((value, False) for value in outside)]:
        assert (found.fits(value), validator.is_valid(value)) == (fits, fits), value


def test_a_key_of_one_side_is_named_without_it_in_python_too() -> None:
    with pytest.raises(ArgumentError, match=r"pred_key: expected .* without 'pred.', found 'pred.a' \(write 'a'\)"):
        LossWrapper(nn.L1Loss(), "a", pred_key="pred.a")
    with pytest.raises(ArgumentError, match=r"gt_key: expected .* without 'gt.', found 'gt.a' \(write 'a'\)"):
        LossWrapper(nn.L1Loss(), "a", gt_key="gt.a")
    with pytest.raises(ArgumentError, match=r"outputs: expected .* without 'pred.', .* found 'pred.aux.\*' \(write"):
        DeepSupervision(LossWrapper(nn.L1Loss(), "a"), "pred.aux.*")
