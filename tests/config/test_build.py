"""YAML to MultiLoss: the parts of a block, the dispatch, and every mistake at its path."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from blocks import GT, PRED, TERM, build, problems, told
from omegaconf import OmegaConf
from torch import nn

import lossreg
from lossreg import (
    LossWrapper,
    build_compound_loss_from_config,
    build_loss_from_config,
)
from lossreg.errors import ArgumentError, ConfigError


class TestTerms:
    def test_foreign_losses_are_wrapped_with_their_tensors(self) -> None:
        multi_loss = build({"losses": [{"loss": "Foreign", "args": {"weight": [1.0, 2.0, 3.0], "name": "clash"}}]})
        wrapped = multi_loss.loss_funcs[0]
        assert isinstance(wrapped, LossWrapper)
        assert wrapped.loss_func.label == "clash"
        assert multi_loss(PRED, GT)[0].item() == 4.0
        assert "loss_funcs.0.loss_func.weight" in multi_loss.state_dict()

    def test_functions_take_their_options(self) -> None:
        assert build({"losses": [{"loss": "scaled_l1", "scale": 3.0}]})(PRED, GT)[0].item() == 6.0

    def test_keys_and_wrap_options_reach_the_wrapper(self) -> None:
        term = {"loss": "Foreign", "pred_key": "x", "gt_key": "t", "wrap": {"reduction": "sum"}}
        assert build({"losses": [term]})({**PRED, "z": PRED["x"]}, {**GT, "z": GT["t"]})[0].item() == 12.0

    @pytest.mark.parametrize(("dtype", "expected"), [({}, 90_000), ({"dtype": "input"}, float("inf"))])
    def test_the_dtype_in_which_a_function_computes(self, dtype: dict[str, str], expected: float) -> None:
        @lossreg.register("total")
        def total(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (pred - target).sum()

        multi_loss = build({"losses": [{"loss": "total", **dtype}]})
        pred, target = torch.ones(300, 300).half(), torch.zeros(300, 300).half()
        assert multi_loss(pred, target)[0].item() == expected

    def test_a_loss_computes_in_float32_where_the_term_says_so(self) -> None:
        pred = {"x": torch.full((2,), 1e-5).half()}
        found = [build({"losses": [{**TERM, **own}]})(pred, {})[0].item() for own in ({}, {"dtype": "float32"})]
        assert found == [1.0, pytest.approx(1 + 1e-5, abs=1e-6)]

    def test_a_parameter_of_the_name_dtype_stands_under_args(self) -> None:
        @lossreg.register("named")
        def named(pred: torch.Tensor, target: torch.Tensor, dtype: str = "a") -> torch.Tensor:
            return pred.mean() if dtype == "a" else target.mean()

        assert build({"losses": [{"loss": "named", "args": {"dtype": "b"}}]})(PRED, GT)[0].item() == 0.0
        assert problems({"losses": [{"loss": "named", "dtype": "b"}]}) == [
            "losses[0].dtype: expected 'float32' or 'input', found 'b' (dtype: input)"
        ]

    def test_normalize_false_and_optional(self) -> None:
        multi_loss = build({"losses": {"a": {**TERM, "normalize": False}, "b": {**TERM, "optional": True}}})
        assert [(t.normalize, t.optional) for t in multi_loss.terms] == [(False, False), (True, True)]

    def test_switches_over_all_terms(self) -> None:
        params = {"min_samples": 5, "max_samples": 50}
        multi_loss = build({"losses": [TERM], "normalize_losses": False, "normalization_params": params})
        assert multi_loss.normalize is False
        assert multi_loss.normalization_params == params

    def test_preprocesses_are_listed_with_options_or_put_in(self) -> None:
        listed = build({"losses": [TERM], "pre_processes": [{"preprocess": "MakeX", "factor": 2.0}]})
        put_in = build({"losses": [TERM]})
        pred = {"y": torch.full((2,), 2.0)}
        assert listed(pred, {})[0].item() == 5.0
        assert put_in(pred, {})[0].item() == 3.0

    def test_python_gives_further_preprocesses(self) -> None:
        def double(pred: Any, gt: Any) -> tuple[Any, Any]:
            return {**pred, "x": 2 * pred["x"]}, gt

        block = {"loss_list": [TERM]}
        want, _, _ = build(block)({"x": 2 * PRED["x"]}, GT)
        assert want != build(block)(PRED, GT)[0]
        for built in (
            build_compound_loss_from_config(block, pre_processes=[double]),
            build_compound_loss_from_config(block, [double]),
            build_loss_from_config({"loss_params": {"compound_loss": block}}, pre_processes=[double]),
        ):
            assert built(PRED, GT)[0] == want
        with pytest.raises(ArgumentError, match=r"pre_processes\[0\]: expected a Preprocess or a function"):
            build_compound_loss_from_config(block, pre_processes=["seg_grads"])

    def test_schedules(self) -> None:
        cosine = {"schedule": "cosine", "start": 0.0, "end": 1.0, "epochs": 10}
        block = {
            "epoch_thresholds": [0, 10],
            "losses": {
                "list": {**TERM, "weight": [0.0, 1.0]},
                "own": {**TERM, "weight": [0.0, 1.0], "epoch_thresholds": [0, 20]},
                "step": {**TERM, "weight": {"schedule": "step", "values": [1.0, 3.0]}},
                "chain": {
                    **TERM,
                    "weight": {
                        "schedule": "chain",
                        "schedules": [{"schedule": "constant", "value": 2.0}, 7],
                        "boundaries": [5],
                    },
                },
            },
        }
        del cosine
        assert build(block).effective_weights(5) == {"list": 0.5, "own": 0.25, "step": 1.0, "chain": 7.0}

    def test_weightings(self) -> None:
        multi_loss = build({"losses": {"a": TERM, "b": TERM}, "weighting": {"strategy": "dwa", "temperature": 3.0}})
        assert multi_loss.weighting.temperature == 3.0
        assert build({"losses": {"a": TERM, "b": TERM}, "weighting": "uncertainty"}).weighting.names == (
            "a",
            "b",
        )

    def test_groups_nest_with_schedules_and_switches_of_their_own(self) -> None:
        inner = {"losses": [{**TERM, "name": "deep"}], "name": "inner", "weight": 3.0}
        group = {"loss_list": [TERM, inner], "name": "g", "weight": [0.0, 2.0], "normalize": False}
        multi_loss = build({"epoch_thresholds": [0, 10], "losses": [{**TERM, "name": "top"}, group]})
        assert multi_loss.effective_weights(5) == {"top": 1.0, "g/offset": 1.0, "g/inner/deep": 3.0}
        assert multi_loss.loss_funcs[1].normalize is False


class TestAllowImport:
    def test_a_module_is_allowed_by_its_exact_path(self) -> None:
        block = {"losses": [{"_target_": "torch.nn.modules.loss.L1Loss", "name": "l1"}]}
        multi_loss = build(block, allow_import=("torch.nn.modules.loss",))
        assert isinstance(multi_loss.loss_funcs[0].loss_func, nn.L1Loss)


class TestDeepSupervision:
    def test_one_term_over_several_outputs(self) -> None:
        term = {"loss": "Foreign", "gt_key": "t", "deep_supervision": {"outputs": "aux.*", "weights": [1.0, 2.0]}}
        pred = {"aux.0": torch.full((1, 1, 4, 4), 2.0), "aux.1": torch.full((1, 1, 2, 2), 3.0)}
        result, values, _ = build({"losses": {"deep": term}})(pred, {"t": torch.zeros(1, 1, 4, 4)})
        assert result.item() == 8.0
        assert list(values) == ["deep"]
        assert build({"losses": [{**term, "deep_supervision": "aux.*"}]})(pred, {"t": torch.zeros(1, 1, 4, 4)})[
            0
        ].item() == pytest.approx(3.5)

    @pytest.mark.parametrize(
        ("given", "path", "kind"),
        [
            ({"outputs": 3}, ".outputs", "type"),
            ({"outputs": ["a", ""]}, ".outputs[1]", "range"),
            ({"outputs": "a", "weights": "log"}, ".weights", "choice"),
            ({"outputs": "a", "weights": [1, "x"]}, ".weights[1]", "type"),
            ({"outputs": "a", "resize": "cubic"}, ".resize", "choice"),
            ({"outputs": "a", "output": "a"}, ".output", "unknown"),
            ({"weights": "exp"}, ".outputs", "missing"),
            (3, "", "type"),
            ([], "", "range"),
        ],
    )
    def test_mistakes(self, given: Any, path: str, kind: str) -> None:
        ((place, found, _),) = told({"losses": [{**TERM, "deep_supervision": given}]})
        assert (place, found) == (f"losses[0].deep_supervision{path}", kind)


def test_switches_of_the_whole_reach_its_groups() -> None:
    block = {"losses": [{"losses": [TERM], "name": "g"}], "on_nonfinite": "skip_term", "track_norms": "running"}
    group = build(block).loss_funcs[0]
    assert (group.on_nonfinite, group.track_norms) == ("skip_term", "running")


class TestCompile:
    def test_is_off_unless_it_is_asked_for(self) -> None:
        assert build({"loss_list": [TERM]})._compiled_call_impl is None
        assert build({"loss_list": [TERM], "compile": False})._compiled_call_impl is None

    # of torch's own modules, met by tracing
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
    def test_gives_the_same_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quick = partial(torch.compile, backend="aot_eager")  # test_compiled.py has the compiler that users have
        monkeypatch.setattr(torch, "compile", quick)
        block = {"loss_list": [{**TERM, "weight": [0.0, 1.0]}], "epoch_thresholds": [0, 10]}
        eager, compiled = build(block), build({**block, "compile": True})
        assert compiled._compiled_call_impl is not None
        for epoch in range(3):
            assert torch.allclose(compiled(PRED, GT, epoch=epoch)[0], eager(PRED, GT, epoch=epoch)[0])
        assert list(compiled.state_dict()) == list(eager.state_dict())

    def test_takes_true_or_false_in_the_outermost_block_alone(self) -> None:
        assert problems({"loss_list": [TERM], "compile": "fast"}) == [
            "compile: expected true or false, found 'fast' (compile: false)"
        ]
        group = {"name": "g", "loss_list": [TERM], "compile": True}
        assert [p.partition(":")[0] for p in problems({"loss_list": [group]})] == ["loss_list[0].compile"]

    def test_refuses_what_reads_values(self) -> None:
        block = {"loss_list": [TERM], "compile": True}
        for key, value, why in (("on_nonfinite", "raise", "reads values"), ("track_norms", "running", "writes norms")):
            (problem,) = problems({**block, key: value})
            assert problem.startswith(f"compile: MultiLoss 'multi': {key}={value!r} {why} in the forward")


@pytest.mark.parametrize(
    ("term", "place"),
    [
        ({"mask": "gt.valid"}, "mask"),
        ({"reduction": "per_sample"}, "reduction"),
        ({"wrap": {"reduction": "per_sample"}}, "wrap.reduction"),
    ],
)
def test_what_needs_values_of_elements_is_refused_where_it_stands(term, place):
    lossreg.register("whole")(lambda pred, gt: (pred - gt).mean())
    with pytest.raises(ConfigError) as caught:
        lossreg.build_compound_loss_from_config({"losses": [{"loss": "whole", **term}]})
    (problem,) = caught.value.problems
    assert problem.path == f"loss_params.compound_loss.losses[0].{place}"
    assert "has no values of single elements" in problem.message


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_what_another_packages_weighting_refuses_is_told_at_its_block(error: type[Exception]) -> None:
    @lossreg.register("Picky", kind="weighting")
    class Picky(lossreg.Weighting):
        def bind(self, names: Any) -> None:
            raise error("it takes three terms")

    block = {"losses": [TERM], "weighting": "Picky"}
    line = "it takes three terms (`lossreg show NAME` tells what a component reads and makes)"
    assert problems(block) == [f"loss_params.compound_loss: {line}"]
    assert problems({"losses": [{**block, "name": "g"}]}) == [f"losses[0]: {line}"]


@pytest.mark.parametrize("kind", ["preprocess", "weighting"])
def test_a_part_that_cannot_be_made_is_told_where_it_stands(kind: str) -> None:
    @lossreg.register("Broken", kind=kind, **({"provides": ("gt.x",)} if kind == "preprocess" else {}))
    class Broken:
        def __init__(self) -> None:
            raise OSError("no file")

    where = {"preprocess": ("pre_processes", ["Broken"]), "weighting": ("weighting", "Broken")}
    key, value = where[kind]
    path = f"{key}[0]" if kind == "preprocess" else key
    assert problems({"losses": [TERM], key: value}) == [
        f"{path}: local/Broken refused its arguments: no file (`lossreg show local/Broken` tells what it takes)"
    ]


@pytest.mark.parametrize(
    ("weighting", "path"),
    [
        ({"strategy": "uncertainty", "classification": ["offset", "ofset"]}, "weighting.classification[1]"),
        ({"strategy": "balancer", "ratios": {"ofset": 1.0}}, "weighting.ratios.ofset"),
    ],
)
def test_a_name_of_a_term_in_a_weighting_is_told_where_it_stands(weighting: dict[str, Any], path: str) -> None:
    for config, at in (
        ({"losses": ["offset"], "weighting": weighting}, path),
        ({"losses": [{"name": "g", "losses": ["offset"], "weighting": weighting}]}, f"losses[0].{path}"),
    ):
        with pytest.raises(ConfigError, match="did you mean 'offset'") as caught:
            build_compound_loss_from_config(config, path="")
        assert [problem.path for problem in caught.value.problems] == [at]


def test_a_wrong_value_inside_of_an_argument_is_told_where_it_stands() -> None:
    @lossreg.register("Tabled")
    class Tabled(lossreg.Loss):
        """A loss with a table and rows."""

        def __init__(self, name: str, table: dict[str, float], rows: list[tuple[int, str]]) -> None:
            super().__init__(name)

    args = {"table": {"b": "heavy"}, "rows": [[1, "a"], [2, 3]]}
    with pytest.raises(ConfigError) as caught:
        build_compound_loss_from_config({"losses": [{"loss": "Tabled", "args": args}]}, path="")
    found = {problem.path for problem in caught.value.problems}
    assert found == {"losses[0].args.table.b", "losses[0].args.rows[1][1]"}


def test_why_a_resolver_failed_is_told_in_a_line() -> None:
    OmegaConf.register_new_resolver("of_nothing", lambda: 1 / 0, replace=True)
    config = {"losses": [{"loss": "offset", "weight": "${of_nothing:}"}]}
    with pytest.raises(ConfigError, match=r"cannot be resolved: ZeroDivisionError .*division by zero .correct the ref"):
        build_compound_loss_from_config(config, path="", allow_resolvers=["of_nothing"])


@pytest.mark.parametrize("path", ["", "loss_params.compound_loss"])
def test_a_loss_that_a_compound_refuses_is_told_at_its_term(path: str) -> None:
    @lossreg.register("Bare")
    class Bare(lossreg.Loss):
        requires = ("x",)

        def compute(self, pred_batch: Any, gt_batch: Any) -> torch.Tensor:
            return pred_batch["x"].mean()

    block = {"losses": {"a": TERM, "group": {"losses": {"b": "offset", "c": "Bare"}}}}
    with pytest.raises(ConfigError) as caught:
        build(block, path=path)
    (problem,) = caught.value.problems
    assert problem.path == f"{path}.losses.group.losses.c.requires[0]".lstrip(".")


def test_what_stands_inside_an_option_of_wrap_is_told_there() -> None:
    wrap = {"inputs": {"inpt": "pred.x", "target": "gt.t"}}
    found = told({"losses": {"t": {"loss": "Foreign", "wrap": wrap}}})
    assert [path for path, _, _ in found] == ["losses.t.wrap.inputs.inpt", "losses.t.wrap.inputs.pred"]


def test_the_thresholds_of_a_block_are_those_of_lists_that_are_set_later() -> None:
    """Those of a term hold for the weight in the file alone; a group has its own, or those around it."""
    own = {**TERM, "weight": [0.0, 1.0], "epoch_thresholds": [0, 100]}
    inner = {"losses": {"b": "offset"}, "epoch_thresholds": [0, 20]}
    block = {"losses": {"a": TERM, "own": own, "g": inner, "h": {"losses": {"b": "offset"}}}}
    multi_loss = build({**block, "epoch_thresholds": [0, 10]})
    assert multi_loss.effective_weights(5)["own"] == 0.05
    for name in ("a", "own", "g", "g/b", "h/b"):
        multi_loss.set_weight(name, [0.0, 1.0])
    expected = {"a": 0.5, "own": 0.5, "g/b": 0.5 * 0.25, "h/b": 0.5}
    assert multi_loss.effective_weights(5) == expected
    with pytest.raises(ArgumentError, match="expected epoch_thresholds for a list"):
        build(block).set_weight("a", [0.0, 1.0])
