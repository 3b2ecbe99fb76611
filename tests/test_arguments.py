"""What Python code gives to constructors is checked as a config is: the text of each mistake, and all at once."""

from __future__ import annotations

import inspect
import math
import pickle
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
from lossreg.composition.schedules import Cosine, as_schedule
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import ArgumentError, GraphError, LossregError
from lossreg.losses.deep_supervision import DeepSupervision


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


KEYS = "a list of keys such as ['pred.seg', 'gt.mask']"
KEY = "a key such as 'pred.seg' or 'gt.mask'"
WEIGHT = (
    "weight must be a number, a list of numbers with epoch_thresholds, a schedule or a callable from epoch to weight"
)
MISTAKES: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    # MultiLoss
    (multi, {"loss_funcs": []}, "loss_funcs: is empty (give at least one loss)"),
    (multi, {"loss_funcs": None}, "loss_funcs: expected a list of losses, found None"),
    (multi, {"loss_funcs": Mean("a")}, "loss_funcs: expected a list of losses, found an object of Mean (give [loss])"),
    (
        multi,
        {"loss_funcs": {"a": Mean("a")}},
        "loss_funcs: expected a list of losses, found {'a': Mean(name='a')} (give list(losses.values()))",
    ),
    (
        multi,
        {"loss_funcs": [nn.L1Loss, Mean("a")]},
        "loss_funcs[0]: expected a loss, a module or a function, found the class L1Loss (give an object: L1Loss(...))",
    ),
    (
        multi,
        {"loss_funcs": ["seg", Mean("a")]},
        "loss_funcs[0]: expected a loss, a module or a function, found 'seg' (make one: lossreg.create_loss('seg'))",
    ),
    (multi, {"loss_funcs": [Mean("a"), 3]}, "loss_funcs[1]: expected a loss, a module or a function, found 3"),
    (
        multi,
        {"loss_funcs": [Nameless(), Mean("a")]},
        "loss_funcs[0]: Nameless has no name (call super().__init__(name) in its __init__)",
    ),
    (
        multi,
        {"loss_funcs": [BareKey("a"), Mean("b")]},
        f"loss_funcs[0].requires: expected {KEYS}, found 'pred.x' (give a list: ['pred.x'])",
    ),
    (
        multi,
        {"loss_funcs": [NoSide("a"), Mean("b")]},
        f"loss_funcs[0].optional[0]: expected {KEY}, found 'x' (write 'pred.x' or 'gt.x')",
    ),
    (multi, {"weights": 1.0}, "weights: expected a list of weights, one a loss, found 1.0"),
    (
        multi,
        {"weights": {"seg": 1}},
        "weights: expected a list of weights, one a loss, found {'seg': 1} (give a list in the order of loss_funcs)",
    ),
    (
        multi,
        {"weights": torch.ones(2)},
        "weights: expected a list of weights, one a loss, found a Tensor of shape (2,) (give tensor.tolist())",
    ),
    (
        multi,
        {"weights": [1.0]},
        "weights: there are 2 losses ['seg', 'edge'] but 1 weights (give one weight a loss)",
    ),
    (
        multi,
        {"weights": [1.0, torch.tensor(1.0)]},
        f"weights[1]: term 'edge': {WEIGHT}; got a Tensor of shape (); give tensor.item()",
    ),
    (multi, {"weights": [True, 1.0]}, f"weights[0]: term 'seg': {WEIGHT}; got True"),
    (
        multi,
        {"weights": [1.0, {"schedule": "cosine"}]},
        f"weights[1]: term 'edge': {WEIGHT}; got {{'schedule': 'cosine'}}; a mapping is for YAML: give a schedule, "
        "such as Cosine(...)",
    ),
    (
        multi,
        {"weights": [Cosine, 1.0]},
        f"weights[0]: term 'seg': {WEIGHT}; got the class Cosine; give an object: Cosine(...)",
    ),
    (multi, {"weights": [math.nan, 1.0]}, "weights[0]: term 'seg': Constant: value must be finite, got nan"),
    (
        multi,
        {"weights": [[0, 1], 1.0]},
        "weights[0]: term 'seg': a list weight needs epoch_thresholds, as many as its 2 values",
    ),
    (
        multi,
        {"weights": [[0, 1], 1.0], "epoch_thresholds": [5, 0]},
        "epoch_thresholds: expected epochs in strictly ascending order, found [5, 0]",
    ),
    (multi, {"epoch_thresholds": [0, "5"]}, "epoch_thresholds[1]: expected a finite number, found '5'"),
    (multi, {"epoch_thresholds": [0, math.nan]}, "epoch_thresholds[1]: expected a finite number, found nan"),
    (
        multi,
        {"pre_processes": print},
        "pre_processes: expected a list, each a Preprocess or a function f(pred_batch, gt_batch), "
        "found the function print (give a list: [f])",
    ),
    (
        multi,
        {"pre_processes": [MakeX]},
        "pre_processes[0]: expected a Preprocess or a function f(pred_batch, gt_batch), "
        "found the class MakeX (give an object: MakeX(...))",
    ),
    (
        multi,
        {"pre_processes": [lambda batch: batch]},
        "pre_processes[0]: expected a Preprocess or a function f(pred_batch, gt_batch), "
        "found the function <lambda> (it takes (batch))",
    ),
    (multi, {"name": "a/b"}, "name: expected a name without '/', of at most 100 printable characters, found 'a/b'"),
    (multi, {"normalize": "yes"}, "normalize: expected True or False, found 'yes'"),
    (
        multi,
        {"unnormalized": ["segg"]},
        "unnormalized[0]: expected the name of a term, found 'segg' (did you mean 'seg'?)",
    ),
    (
        multi,
        {"optional_terms": ["mask"]},
        "optional_terms[0]: expected the name of a term, found 'mask' (the terms are 'seg', 'edge')",
    ),
    (
        multi,
        {"unnormalized": "seg"},
        "unnormalized: expected a list of names of terms, found 'seg' (give a list: ['seg'])",
    ),
    (
        multi,
        {"weighting": "dwa"},
        "weighting: expected a Weighting, found 'dwa' (a name is for YAML; give an object, such as DWA())",
    ),
    (multi, {"weighting": DWA}, "weighting: expected a Weighting, found the class DWA (give an object: DWA(...))"),
    (
        multi,
        {"weighting": Uncertainty(["edgy"])},
        "classification[0]: expected the name of a term, found 'edgy' (did you mean 'edge'?)",
    ),
    (multi, {"zero_weight": "kep"}, "zero_weight: expected 'keep' or 'skip', found 'kep' (did you mean 'keep'?)"),
    (
        multi,
        {"on_nonfinite": "skip"},
        "on_nonfinite: expected 'ignore', 'raise' or 'skip_term', found 'skip' (did you mean 'skip_term'?)",
    ),
    (multi, {"track_norms": True}, "track_norms: expected None or 'running', found True"),
    (multi, {"norm_momentum": 0}, "norm_momentum: expected a number above 0 and at most 1, found 0"),
    (multi, {"batch_keys": ["seg"]}, f"batch_keys[0]: expected {KEY}, found 'seg' (write 'pred.seg' or 'gt.seg')"),
    (multi, {"batch_keys": "gt.a"}, f"batch_keys: expected {KEYS}, found 'gt.a' (give a list: ['gt.a'])"),
    (
        multi,
        {"normalization_params": {"min_sample": 1}},
        "normalization_params['min_sample']: is not a key of this mapping (did you mean 'min_samples'?)",
    ),
    (
        multi,
        {"normalization_params": {"min_samples": 2.5}},
        "normalization_params['min_samples']: expected a number of samples above 0, found 2.5",
    ),
    (
        multi,
        {"normalization_params": {"min_samples": 5, "max_samples": 2}},
        "normalization_params: min_samples 5 is more than max_samples 2",
    ),
    # LossWrapper
    (
        wrapper,
        {"loss_func": nn.L1Loss},
        "loss_func: expected a module or a function, found the class L1Loss (give an object: L1Loss(...))",
    ),
    (
        wrapper,
        {"loss_func": "seg"},
        "loss_func: expected a module or a function, found 'seg' (create it: lossreg.create_loss('seg'))",
    ),
    (wrapper, {"loss_func": None}, "loss_func: expected a module or a function, found None"),
    (wrapper, {"name": ""}, "name: expected a name without '/', of at most 100 printable characters, found ''"),
    (wrapper, {"pred_key": 3}, "pred_key: expected a key of the batch, found 3"),
    (wrapper, {"inputs": "pred.a"}, f"inputs: expected {KEYS}, found 'pred.a' (give a list: ['pred.a'])"),
    (wrapper, {"inputs": ["a"]}, f"inputs[0]: expected {KEY}, found 'a' (write 'pred.a' or 'gt.a')"),
    (wrapper, {"inputs": []}, "inputs: expected the key of each argument, found none (inputs=['pred.seg', 'gt.mask'])"),
    (
        wrapper,
        {"inputs": ["pred.a", "gt.a"], "target_dtype": "long"},
        "target_dtype: has no effect beside inputs (leave out one of them)",
    ),
    (
        wrapper,
        {"pred_channels": 1.5},
        "pred_channels: expected an int, a slice, a list of ints, a list of bools (not all false), or a mapping "
        "{start, stop, step}, found 1.5",
    ),
    (
        wrapper,
        {"target_dtype": torch.long},
        "target_dtype: expected None, 'long' or 'float', found an object of dtype (use 'long' or 'float')",
    ),
    (wrapper, {"reduction": "none"}, "reduction: expected 'mean' or 'sum', found 'none'"),
    (
        wrapper,
        {"dtype": "float16"},
        "dtype: expected None, 'float32' or 'input', found 'float16' (did you mean 'float32'?)",
    ),
    (
        wrapper,
        {"dtype": torch.float32},
        "dtype: expected None, 'float32' or 'input', found an object of dtype (use 'float32' or 'input')",
    ),
    # DeepSupervision
    (
        deep,
        {"loss": nn.L1Loss()},
        "loss: expected a Loss, found an object of L1Loss (wrap it: LossWrapper(loss))",
    ),
    (
        deep,
        {"loss": Mean},
        "loss: expected a Loss, found the class Mean (give an object: Mean(...))",
    ),
    (
        deep,
        {"outputs": ["a", 3]},
        "outputs: expected a key, a glob such as 'aux.*', or a list of keys, found ['a', 3]",
    ),
    (
        deep,
        {"weights": "expo"},
        "weights: expected 'exp', 'same' or a list of numbers, found 'expo' (did you mean 'exp'?)",
    ),
    (deep, {"weights": [1, True]}, "weights[1]: expected a finite number, found True"),
    (deep, {"resize": "cubic"}, "resize: expected 'nearest' or 'bilinear', found 'cubic'"),
    # weightings
    (DWA, {"temperature": "2"}, "temperature: expected a number above 0, found '2'"),
    (GradNorm, {"alpha": -1}, "alpha: expected a number of 0 or more, found -1"),
    (
        GradNorm,
        {"lr": torch.tensor(1.0)},
        "lr: expected a number above 0, found a Tensor of shape () (give tensor.item())",
    ),
    (ReLoBRaLo, {"beta": 2}, "beta: expected a number from 0 to 1, found 2"),
    (ReLoBRaLo, {"seed": 0.5}, "seed: expected a whole number of 0 or more, found 0.5"),
    (SoftAdapt, {"order": 7}, "order: expected a whole number from 1 to 6, found 7"),
    (SoftAdapt, {"normalized": 1}, "normalized: expected True or False, found 1"),
    (
        Uncertainty,
        {"classification": "seg"},
        "classification: expected a list of names of terms, found 'seg' (give a list: ['seg'])",
    ),
    (
        GradNorm().set_shared_parameters,
        {"parameters": nn.Linear(1, 1)},
        "parameters: expected one shared parameter or more, each with requires_grad, found an object of Linear "
        "(give module.parameters())",
    ),
    # what is called later
    (multi().effective_weights, {"epoch": "3"}, "epoch: expected a finite number, found '3'"),
    (
        multi().effective_weights,
        {"step": torch.ones(2)},
        "step: expected a finite number, found a Tensor of shape (2,)",
    ),
    (
        multi().update_norm,
        {"pred_batch": {"x": torch.ones(1)}, "gt_batch": {}, "nums": 1.5},
        "nums: expected the number of samples in the batch, an integer of 0 or more, found 1.5",
    ),
    (calibrate, {"multi_loss": Mean("a")}, "multi_loss: expected a MultiLoss, found an object of Mean"),
    (
        calibrate,
        {"multi_loss": nn.Sequential(multi())},
        "multi_loss: expected a MultiLoss, found an object of Sequential (it holds one: give .0)",
    ),
    (calibrate, {"loader": 3}, "loader: expected an iterable of batches, found 3"),
    (calibrate, {"mode": "evaluate"}, "mode: expected 'eval' or 'train', found 'evaluate' (did you mean 'eval'?)"),
    (calibrate, {"max_samples": 0}, "max_samples: expected a number of samples above 0, found 0"),
    (calibrate, {"min_norm": -1}, "min_norm: expected a finite number of 0 or more, found -1"),
]


@pytest.mark.parametrize(("call", "options", "text"), MISTAKES, ids=lambda item: item if isinstance(item, str) else "")
def test_the_text_of_a_mistake(call: Callable[..., Any], options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        call(**options)
    assert [str(problem) for problem in raised.value.problems] == [text]
    assert str(raised.value) == f"{raised.value.owner}: {text}"


def test_all_mistakes_of_a_call_are_told_at_once() -> None:
    with pytest.raises(ArgumentError) as raised:
        multi(weights=[1, "x"], unnormalized=["segg"], zero_weight="drop", norm_momentum=2, batch_keys=["mask"], name=3)
    assert str(raised.value).splitlines() == [
        "MultiLoss: 6 arguments are wrong:",
        f"  - weights[1]: term 'edge': {WEIGHT}; got 'x'",
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
                named = {problem.path.partition("[")[0] for problem in error.problems}
                if not named <= {*options, "weights", "loss_funcs"}:
                    raise

    try_it()
