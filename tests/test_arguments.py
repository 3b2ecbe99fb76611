"""What Python code gives to constructors is checked as a config is: each mistake at its argument, and all at once."""
# ruff: noqa: E501

from __future__ import annotations

import inspect
import math
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lossreg import Loss, LossWrapper, MultiLoss, calibrate_norms
from lossreg.arguments import Arguments
from lossreg.composition.schedules import Cosine, as_schedule
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import ArgumentError, GraphError, LossregError
from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.values import type_of


class Mean(Loss):
    requires = ("pred.x",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> torch.Tensor:
        return self.read(pred_batch, gt_batch, "pred.x").mean()


class BareKey(Mean):
    requires = "pred.x"


class NoSide(Mean):
    optional = ("x",)


class Nameless(Mean):
    def __init__(self) -> None:
        self.factor = 1.0


class MakeX(nn.Module):
    def forward(self, batch: Any) -> Any:
        return batch


def multi(**options: Any) -> MultiLoss:
    return MultiLoss(**{"loss_funcs": [Mean("seg"), Mean("edge")], "weights": [1.0, 1.0], **options})


def wrapper(**options: Any) -> LossWrapper:
    return LossWrapper(**{"loss_func": nn.L1Loss(), **options})


def deep(**options: Any) -> DeepSupervision:
    return DeepSupervision(**{"loss": Mean("seg"), "outputs": "aux.*", **options})


def calibrate(**options: Any) -> dict[str, float]:
    return calibrate_norms(
        **{"multi_loss": multi(), "model": nn.Identity(), "loader": [], "progress": False, **options}
    )


KEY = "a key such as 'pred.seg' or 'gt.mask'"
WEIGHT = (
    "weight: expected a number, a list of numbers with epoch_thresholds, a schedule or a callable from epoch to weight"
)
MISTAKES: list[tuple[Callable[..., Any], dict[str, Any], str, str, str]] = [
    (multi, {"loss_funcs": []}, 'loss_funcs', 'range', 'give at least one loss'),
    (multi, {"loss_funcs": None}, 'loss_funcs', 'type', ''),
    (multi, {"loss_funcs": Mean("a")}, 'loss_funcs', 'type', 'give [loss]'),
    (multi, {"loss_funcs": {"a": Mean("a")}}, 'loss_funcs', 'type', 'give list(losses.values())'),
    (multi, {"loss_funcs": [nn.L1Loss, Mean("a")]}, 'loss_funcs[0]', 'type', 'give an object: L1Loss(...)'),
    (multi, {"loss_funcs": ["seg", Mean("a")]}, 'loss_funcs[0]', 'type', "make one: lossreg.create_loss('seg')"),
    (multi, {"loss_funcs": [Mean("a"), 3]}, 'loss_funcs[1]', 'type', ''),
    (multi, {"loss_funcs": [Nameless(), Mean("a")]}, 'loss_funcs[0]', 'missing', 'call super().__init__(name) in its __init__'),
    (multi, {"loss_funcs": [BareKey("a"), Mean("b")]}, 'loss_funcs[0].requires', 'type', "give a list: ['pred.x']"),
    (multi, {"loss_funcs": [NoSide("a"), Mean("b")]}, 'loss_funcs[0].optional[0]', 'range', "write 'pred.x' or 'gt.x'"),
    (multi, {"weights": 1.0}, 'weights', 'type', ''),
    (multi, {"weights": {"seg": 1}}, 'weights', 'type', 'give a list in the order of loss_funcs'),
    (multi, {"weights": torch.ones(2)}, 'weights', 'type', 'give tensor.tolist()'),
    (multi, {"weights": [1.0]}, 'weights', 'range', 'give one weight a loss'),
    (multi, {"weights": [1.0, torch.tensor(1.0)]}, 'weights[1]', 'type', ''),
    (multi, {"weights": [True, 1.0]}, 'weights[0]', 'type', ''),
    (multi, {"weights": [1.0, {"schedule": "cosine"}]}, 'weights[1]', 'type', ''),
    (multi, {"weights": [Cosine, 1.0]}, 'weights[0]', 'type', ''),
    (multi, {"weights": [math.nan, 1.0]}, 'weights[0]', 'range', ''),
    (multi, {"weights": [[0, 1], 1.0]}, 'weights[0]', 'range', ''),
    (multi, {"weights": [[0, 1], 1.0], "epoch_thresholds": [5, 0]}, 'epoch_thresholds', 'range', ''),
    (multi, {"epoch_thresholds": [0, "5"]}, 'epoch_thresholds[1]', 'type', ''),
    (multi, {"epoch_thresholds": [0, math.nan]}, 'epoch_thresholds[1]', 'range', ''),
    (multi, {"pre_processes": print}, 'pre_processes', 'type', 'give a list: [f]'),
    (multi, {"pre_processes": [MakeX]}, 'pre_processes[0]', 'type', 'give an object: MakeX(...)'),
    (multi, {"pre_processes": [lambda batch: batch]}, 'pre_processes[0]', 'type', 'it takes (batch)'),
    (multi, {"name": "a/b"}, 'name', 'range', ''),
    (multi, {"normalize": "yes"}, 'normalize', 'type', ''),
    (multi, {"unnormalized": ["segg"]}, 'unnormalized[0]', 'unknown', "did you mean 'seg'?"),
    (multi, {"optional_terms": ["mask"]}, 'optional_terms[0]', 'unknown', "the terms are 'seg', 'edge'"),
    (multi, {"unnormalized": "seg"}, 'unnormalized', 'type', "give a list: ['seg']"),
    (multi, {"weighting": "dwa"}, 'weighting', 'type', 'a name is for YAML; give an object, such as DWA()'),
    (multi, {"weighting": DWA}, 'weighting', 'type', 'give an object: DWA(...)'),
    (multi, {"weighting": Uncertainty(["edgy"])}, 'classification[0]', 'unknown', "did you mean 'edge'?"),
    (multi, {"zero_weight": "kep"}, 'zero_weight', 'choice', "did you mean 'keep'?"),
    (multi, {"on_nonfinite": "skip"}, 'on_nonfinite', 'choice', "did you mean 'skip_term'?"),
    (multi, {"track_norms": True}, 'track_norms', 'type', ''),
    (multi, {"norm_momentum": 0}, 'norm_momentum', 'range', ''),
    (multi, {"batch_keys": ["seg"]}, 'batch_keys[0]', 'range', "write 'pred.seg' or 'gt.seg'"),
    (multi, {"batch_keys": "gt.a"}, 'batch_keys', 'type', "give a list: ['gt.a']"),
    (multi, {"normalization_params": {"min_sample": 1}}, 'normalization_params.min_sample', 'unknown', "did you mean 'min_samples'?"),
    (multi, {"normalization_params": {"min_samples": 2.5}}, 'normalization_params.min_samples', 'type', 'min_samples: 10'),
    (multi, {"normalization_params": {"min_samples": 5, "max_samples": 2}}, 'normalization_params', 'conflict', 'lower min_samples, or raise max_samples'),
    (wrapper, {"loss_func": nn.L1Loss}, 'loss_func', 'type', 'give an object: L1Loss(...)'),
    (wrapper, {"loss_func": "seg"}, 'loss_func', 'type', "create it: lossreg.create_loss('seg')"),
    (wrapper, {"loss_func": None}, 'loss_func', 'type', ''),
    (wrapper, {"name": ""}, 'name', 'range', ''),
    (wrapper, {"pred_key": 3}, 'pred_key', 'type', ''),
    (wrapper, {"inputs": "pred.a"}, 'inputs', 'type', "give a list: ['pred.a']"),
    (wrapper, {"inputs": ["a"]}, 'inputs[0]', 'range', "write 'pred.a' or 'gt.a'"),
    (wrapper, {"inputs": []}, 'inputs', 'range', ''),
    (wrapper, {"inputs": ["pred.a", "gt.a"], "target_dtype": "long"}, 'target_dtype', 'conflict', 'leave out one of them'),
    (wrapper, {"pred_channels": 1.5}, 'pred_channels', 'type', ''),
    (wrapper, {"target_dtype": torch.long}, 'target_dtype', 'type', ''),
    (wrapper, {"reduction": "nothing"}, 'reduction', 'choice', ''),
    (wrapper, {"dtype": "float16"}, 'dtype', 'choice', "did you mean 'float32'?"),
    (wrapper, {"dtype": torch.float32}, 'dtype', 'type', ''),
    (deep, {"loss": nn.L1Loss()}, 'loss', 'type', 'wrap it: LossWrapper(loss)'),
    (deep, {"loss": Mean}, 'loss', 'type', 'give an object: Mean(...)'),
    (deep, {"outputs": ["a", 3]}, 'outputs[1]', 'type', ''),
    (deep, {"weights": "expo"}, 'weights', 'choice', "did you mean 'exp'?"),
    (deep, {"weights": [1, True]}, 'weights[1]', 'type', ''),
    (deep, {"resize": "cubic"}, 'resize', 'choice', ''),
    (DWA, {"temperature": "2"}, 'temperature', 'type', ''),
    (GradNorm, {"alpha": -1}, 'alpha', 'range', ''),
    (GradNorm, {"lr": torch.tensor(1.0)}, 'lr', 'type', 'give tensor.item()'),
    (ReLoBRaLo, {"beta": 2}, 'beta', 'range', ''),
    (ReLoBRaLo, {"seed": 0.5}, 'seed', 'type', ''),
    (SoftAdapt, {"order": 7}, 'order', 'type', ''),
    (SoftAdapt, {"normalized": 1}, 'normalized', 'type', ''),
    (Uncertainty, {"classification": "seg"}, 'classification', 'type', "give a list: ['seg']"),
    (GradNorm().set_shared_parameters, {"parameters": nn.Linear(1, 1)}, 'parameters', 'type', 'give module.parameters()'),
    (multi().effective_weights, {"epoch": "3"}, 'epoch', 'type', ''),
    (multi().effective_weights, {"step": torch.ones(2)}, 'step', 'type', 'give tensor.tolist()'),
    (multi().update_norm, {"pred_batch": {"x": torch.ones(1)}, "gt_batch": {}, "nums": 1.5}, 'nums', 'type', ''),
    (calibrate, {"multi_loss": Mean("a")}, 'multi_loss', 'type', ''),
    (calibrate, {"multi_loss": nn.Sequential(multi())}, 'multi_loss', 'type', 'it holds one: give .0'),
    (calibrate, {"loader": 3}, 'loader', 'type', ''),
    (calibrate, {"mode": "evaluate"}, 'mode', 'choice', "did you mean 'eval'?"),
    (calibrate, {"max_samples": 0}, 'max_samples', 'type', ''),
    (calibrate, {"min_norm": -1}, 'min_norm', 'range', ''),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "options", "path", "kind", "hint"), MISTAKES, ids=lambda item: item if isinstance(item, str) else ""
)
def test_a_mistake_has_its_path_its_kind_and_a_hint(
    call: Callable[..., Any], options: dict[str, Any], path: str, kind: str, hint: str
) -> None:
    with pytest.raises(ArgumentError) as raised:
        call(**options)
    assert [(p.path, p.kind, p.hint) for p in raised.value.problems] == [(path, kind, hint)]
    assert str(raised.value) == f"{raised.value.owner}: {raised.value.problems[0]}"


def test_all_mistakes_of_a_call_are_told_at_once() -> None:
    with pytest.raises(ArgumentError) as raised:
        multi(weights=[1, "x"], unnormalized=["segg"], zero_weight="drop", norm_momentum=2, batch_keys=["mask"], name=3)
    assert str(raised.value).splitlines() == [
        "MultiLoss: 6 arguments are wrong:",
        f"  - weights[1]: term 'edge': {WEIGHT}, found 'x'",
        "  - name: expected a name without '/', of at most 100 printable characters, found 3",
        "  - unnormalized[0]: expected the name of a term, found 'segg' (did you mean 'seg'?)",
        "  - zero_weight: expected 'keep' or 'skip', found 'drop'",
        f"  - batch_keys[0]: expected {KEY}, found 'mask' (write 'pred.mask' or 'gt.mask')",
        "  - norm_momentum: expected a number above 0 and at most 1, found 2",
    ]


def test_an_error_is_of_every_kind_that_a_caller_may_catch_and_crosses_processes() -> None:
    with pytest.raises(ArgumentError) as raised:
        multi(name=3)
    for kind in (TypeError, ValueError, LossregError):
        assert isinstance(raised.value, kind)
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (str(copied), copied.problems) == (str(raised.value), raised.value.problems)


def test_two_terms_of_one_name_are_no_graph() -> None:
    with pytest.raises(GraphError, match="two terms are named 'a'; names must differ: give one of them another"):
        multi(loss_funcs=[Mean("a"), Mean("a")])


def test_what_stands_for_plain_python_is_taken() -> None:
    """Arrays, numpy scalars, tuples, sets and generators: each means what its plain form means."""
    plain = multi(weights=[[0.0, 2.0], 3], epoch_thresholds=[0, 4], unnormalized=["seg"], norm_momentum=0.5)
    other = multi(
        loss_funcs=(loss for loss in (Mean("seg"), Mean("edge"))),
        weights=(np.array([0.0, 2.0]), np.float32(3)),
        epoch_thresholds=np.arange(0, 5, 4),
        unnormalized={"seg"},
        normalize=np.True_,
        norm_momentum=np.float64(0.5),
        normalization_params={"min_samples": np.int64(4), "max_samples": None},
    )
    assert other.schedules == plain.schedules
    assert other.terms[0].normalize is plain.terms[0].normalize is False
    assert (other.normalize, other.norm_momentum, other.normalization_params) == (True, 0.5, {"min_samples": 4})
    for epoch in (1, np.int64(1), np.float32(1), torch.tensor(1), torch.tensor([1.0])):
        assert other.effective_weights(epoch) == {"seg": 0.5, "edge": 3.0}
    chosen = wrapper(pred_channels=np.int64(1), gt_channels=np.array([0, 2]))
    assert (chosen.pred_index, chosen.gt_index) == (1, [0, 2])
    assert deep(weights=np.array([1.0, 0.5])).weights == [1.0, 0.5]


def test_a_refused_weighting_keeps_its_state() -> None:
    weighting = CoV()
    with pytest.raises(ArgumentError):
        multi(weighting=weighting, name="a/b")
    assert weighting.names == ()


# --- whatever is given --------------------------------------------------------------------------------

JUNK = st.sampled_from(
    [
        None, True, 0, 1, -1, 2.5, math.nan, math.inf, 10**400, 1j, "", "a", "seg", "pred.x", "a/b", b"a", [], (), {},
        set(), [None], ["seg"], ["pred.x"], [["a"]], [1, 2], (0, 1.5), {"a": 1}, {"min_samples": 1}, {"start": 0},
        range(2), slice(0, 1), Mean, nn.L1Loss, nn.L1Loss(), Mean("a"), [Mean("a"), Mean("b")], print,
        lambda a, b: (a, b), object(), torch.tensor(1.0), torch.ones(2), torch.long, np.float32(1), np.array(1.0),
        np.ones((2, 2)), np.array(["a"]), np.True_, Cosine(0, 1, 5), Cosine, DWA, nn.Linear(1, 1), math, ...,
    ]
)  # fmt: skip
GOOD: dict[Callable[..., Any], dict[str, Any]] = {
    MultiLoss: {"loss_funcs": [Mean("seg"), Mean("edge")], "weights": [1.0, 1.0]},
    LossWrapper: {"loss_func": nn.L1Loss()},
    DeepSupervision: {"loss": Mean("seg"), "outputs": "aux.*"},
    Mean: {"name": "a"},
    DWA: {},
    GradNorm: {},
    ReLoBRaLo: {},
    SoftAdapt: {},
    Uncertainty: {},
    as_schedule: {"weight": 1.0, "name": "a"},
}


@pytest.mark.parametrize("call", GOOD, ids=lambda call: call.__name__)
def test_whatever_is_given_is_taken_or_told(call: Callable[..., Any]) -> None:
    """No argument raises anything but an error that names it, first of all no AttributeError from inside."""
    names = [p.name for p in inspect.signature(call).parameters.values() if p.name != "self"]

    @settings(max_examples=300)
    @given(st.dictionaries(st.sampled_from(names), JUNK, min_size=1, max_size=2))
    def try_it(options: dict[str, Any]) -> None:
        told = GraphError if call is MultiLoss else (TypeError, ValueError) if call is as_schedule else ()
        with suppress(told):
            try:
                call(**{**GOOD[call], **options})
            except ArgumentError as error:
                named = {re.split(r"[.\[]", problem.path)[0] for problem in error.problems}
                if not named <= {*options, "weights", "loss_funcs"}:
                    raise

    try_it()


def test_what_can_be_gone_through_is_a_list_where_one_is_taken() -> None:
    given = Arguments("f")
    assert given.of("a", range(2), type_of(list[int])) == [0, 1]
    assert given.of("b", {"x"}, type_of(list[str]), ordered=False) == ["x"]
    given.done()
    assert given.of("c", {"x"}, type_of(list[str])) is None
    assert [(problem.path, problem.expected) for problem in given.problems] == [("c", "a list of texts")]
