"""YAML to MultiLoss: the parts of a block, the dispatch, and every mistake at its path."""
# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

import lossreg
from lossreg import (
    LossWrapper,
    MultiLoss,
    build_compound_loss_from_config,
    build_loss_from_config,
    get_loss_function,
    load_loss,
)
from lossreg.errors import ArgumentError, ConfigError, ConfigWarning
from lossreg.keys import Lone, Term
from lossreg.values import keys_of

PRED = {"x": torch.full((2, 3), 2.0)}
GT = {"t": torch.zeros(2, 3)}


def build(block: Any, **options: Any) -> MultiLoss:
    return build_compound_loss_from_config(block, **options)


def problems(block: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(block)
    return [str(problem).removeprefix("loss_params.compound_loss.") for problem in caught.value.problems]


def told(block: Any) -> list[tuple[str, str, str]]:
    """Return path, kind and fix of each mistake."""
    with pytest.raises(ConfigError) as caught:
        build(block)
    return [
        (problem.path.removeprefix("loss_params.compound_loss").removeprefix("."), problem.kind, problem.hint)
        for problem in caught.value.problems
    ]


TERM = {"loss": "offset", "offset": 1.0}


class TestNames:
    def test_a_term_may_be_a_bare_name(self) -> None:
        assert list(build({"losses": ["offset"]})(PRED, GT)[1]) == ["offset"]

    def test_a_term_of_a_mapping_can_be_removed_by_an_override(self) -> None:
        assert build({"losses": {"a": TERM, "b": None}}).names == ("a",)

    def test_names_default_to_what_the_file_says(self) -> None:
        block = {"losses": [{"loss": "local/OffsetLoss"}, "offset", {"loss": "Foreign"}]}
        assert build(block).names == ("OffsetLoss", "offset", "Foreign")
        assert build({"losses": [{"_target_": "old.place.OffsetLoss"}]}).names == ("offset",)

    @given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\- ]{0,20}", fullmatch=True))
    def test_names_survive_a_yaml_round_trip(self, name: str) -> None:
        text = OmegaConf.to_yaml(OmegaConf.create({"losses": [{"loss": "offset", "name": name}]}))
        assert build(OmegaConf.create(text)).names == (name,)


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


class TestDispatch:
    def test_compound_goes_before_single(self) -> None:
        cfg = {"loss_params": {"compound_loss": {"loss_list": [TERM]}}, "loss": {"loss": "Foreign"}}
        assert isinstance(get_loss_function(cfg), MultiLoss)

    def test_a_single_loss_comes_unwrapped(self) -> None:
        single = get_loss_function({"loss": {"loss": "Foreign", "args": {"weight": [1.0]}}})
        assert type(single).__name__ == "Foreign"
        assert get_loss_function({"loss": {"_target_": "old.place.OffsetLoss", "name": "n"}}).name == "n"
        assert get_loss_function(SimpleNamespace(loss="offset")).name == "offset"

    def test_a_single_loss_has_its_own_weight(self) -> None:
        for block in (
            {"loss": "Foreign", "weight": [0.2, 0.8, 1.5]},
            {"loss": "Foreign", "args": {"weight": [0.2, 0.8, 1.5]}},
        ):
            assert get_loss_function({"loss": block}).weight.tolist() == pytest.approx([0.2, 0.8, 1.5])

    @pytest.mark.parametrize("key", sorted(set(keys_of(Term)) - {*keys_of(Lone), "weight"}))
    def test_a_key_of_a_term_is_refused_on_a_single_loss(self, key: str) -> None:
        with pytest.raises(ConfigError, match=rf"^loss.{key}: is not a parameter of local/Foreign \(a lone loss is"):
            get_loss_function({"loss": {"loss": "Foreign", key: True}})

    def test_both_spellings_of_the_legacy_block_are_refused(self) -> None:
        cfg = {"loss_params": {"multi_loss": {"coefs": {"seg": 1}}, "multiloss": {"coefs": {"seg": 2}}}}
        with pytest.raises(ConfigError, match=r"^loss_params.multiloss: is there beside loss_params.multi_loss"):
            get_loss_function(cfg)

    def test_none_of_the_three_is_a_value_error_that_names_them(self) -> None:
        with pytest.raises(ValueError, match=r"expected loss_params.compound_loss, loss_params.multi_loss .* or loss"):
            get_loss_function({"loss_params": {}})

    def test_files_of_both_kinds(self, tmp_path: Path) -> None:
        whole, block = tmp_path / "whole.yaml", tmp_path / "block.yaml"
        whole.write_text("loss_params: {compound_loss: {loss_list: [offset]}}\nother: {deep: {losses: [offset]}}\n")
        block.write_text("losses: {a: offset}\n")
        assert load_loss(whole).names == ("offset",)
        assert load_loss(block).names == ("a",)
        assert load_loss(whole, "other.deep").names == ("offset",)
        with pytest.raises(ConfigError, match=r"has no key 'nowhere'; its keys are \['loss_params', 'other'\]"):
            load_loss(whole, "nowhere")


class TestMistakes:
    def test_all_are_reported_at_once_each_at_its_path(self) -> None:
        found = problems(
            {
                "normalise_losses": True,
                "normalization_params": {"max_samples": 0},
                "epoch_thresholds": [0, 10],
                "loss_list": [
                    {"loss": "ofset"},
                    {"loss": "offset", "name": "a", "ofset": 1.0},
                    {"loss": "offset", "name": "b", "offset": "much", "mode": "cube"},
                    {"loss": "offset", "name": "c", "weight": [0.0, 1.0, 2.0]},
                    {"loss": "offset", "name": "d", "weight": "${oc.env:HOME}"},
                    {"loss": "offset", "name": "e", "channels": [0, "x"]},
                    {"loss": {"loss": "offset", "name": "f", "hook": 1}, "weight": True},
                    {"lost": "offset"},
                    {"loss": "offset", "name": "a"},
                ],
            }
        )
        assert [line.partition(": ")[0] for line in found] == [
            "loss_list[4].weight",
            "normalise_losses",
            "normalization_params.max_samples",
            "loss_list[0].loss",
            "loss_list[1].ofset",
            "loss_list[2].offset",
            "loss_list[2].mode",
            "loss_list[3].weight",
            "loss_list[5].channels[1]",
            "loss_list[6].loss.hook",
            "loss_list[6].weight",
            "loss_list[7]",
            "loss_list[8]",
        ]
        text = "\n".join(found)
        assert all(line.endswith(")") for line in found), "each says what to do"
        assert "did you mean 'normalize_losses'?" in text
        assert "did you mean 'offset'?" in text
        assert "expected a number, found 'much'" in text
        assert "expected 'abs' or 'square', found 'cube'" in text
        assert "write `loss` for 'lost'" in text

    @pytest.mark.parametrize(
        ("block", "path", "kind", "fix"),
        [
            ([], "", "type", "loss_list: [{loss: NAME, weight: 1.0}]"),
            ({}, "", "missing", "loss_list: [{loss: NAME, weight: 1.0}]"),
            ({"losses": []}, "losses", "range", "loss_list: [{loss: NAME, weight: 1.0}]"),
            ({"losses": 3}, "losses", "type", "loss_list: [{loss: NAME, weight: 1.0}]"),
            ({"losses": [3]}, "losses[0]", "type", "{loss: NAME, weight: 1.0}"),
            ({"losses": [TERM], "loss_list": [TERM]}, "", "conflict", "leave out losses"),
            ({"losses": [TERM, TERM]}, "losses[1]", "conflict", "give one of them another name"),
            ({"losses": [{"lost": "offset"}]}, "losses[0]", "missing", "write `loss` for 'lost'"),
            ({"losses": [{**TERM, "_target_": "a.b"}]}, "losses[0]", "conflict", "leave out _target_"),
            ({"losses": [{"loss": {**TERM, "name": "a"}, "name": "b"}]}, "losses[0]", "conflict", "keep one of the two"),
            ({"losses": [{**TERM, "name": "a/b"}]}, "losses[0].name", "range", "name: my_term"),
            ({"losses": {"a/b": TERM}}, "losses.a/b.name", "range", "name: my_term"),
            ({"losses": [{**TERM, "args": {"offset": 1}}]}, "losses[0].args.offset", "conflict", "keep one of the two"),
            ({"losses": [{**TERM, "args": 5}]}, "losses[0].args", "type", "args: {}"),
            ({"losses": [{**TERM, "weight": {"a": 1}}]}, "losses[0].weight", "missing", "weight: {schedule: cosine, start: 1.0, end: 0.0, end_epoch: 10}"),
            ({"losses": [{**TERM, "weight": "much"}]}, "losses[0].weight", "type", "weight: 1.0"),
            ({"losses": [{**TERM, "weight": [1, "x"]}], "epoch_thresholds": [0, 1]}, "losses[0].weight[1]", "type", "weight: 1.0"),
            ({"losses": [{**TERM, "weight": [1, 2]}]}, "losses[0].weight", "missing", "give one weight for each of epoch_thresholds"),
            ({"losses": [{**TERM, "weight": [1, 2]}], "epoch_thresholds": [0]}, "losses[0].weight", "conflict", "give one weight for each of epoch_thresholds"),
            ({"losses": [{**TERM, "normalize": "no"}]}, "losses[0].normalize", "type", "normalize: true"),
            ({"losses": [{**TERM, "offset": "much"}]}, "losses[0].offset", "type", "offset: 0.0"),
            ({"losses": [{**TERM, "mode": "cube"}]}, "losses[0].mode", "choice", "mode: abs"),
            ({"losses": [{**TERM, "ofset": 1}]}, "losses[0].ofset", "unknown", "did you mean 'offset'?"),
            ({"losses": [{**TERM, "hook": 1}]}, "losses[0].hook", "type", "leave hook out"),
            ({"losses": [{**TERM, "offset": -1.0}]}, "losses[0]", "refused", "`lossreg show local/OffsetLoss` tells what it takes"),
            ({"losses": [{"losses": [TERM]}]}, "losses[0]", "missing", "name: my_group"),
            ({"losses": [TERM], "normalise_losses": True}, "normalise_losses", "unknown", "did you mean 'normalize_losses'?"),
            ({"losses": [TERM], "normalization_params": {"min_samples": 2, "max_samples": 1}}, "normalization_params", "conflict", "lower min_samples, or raise max_samples"),
            ({"losses": [TERM], "epoch_thresholds": [5, 0]}, "epoch_thresholds", "range", "epoch_thresholds: [0, 5, 10]"),
            ({"losses": [TERM], "on_nonfinite": "drop"}, "on_nonfinite", "choice", "on_nonfinite: ignore"),
            ({"losses": [TERM], "norm_momentum": 2}, "norm_momentum", "range", "norm_momentum: 0.01"),
            ({"losses": [TERM], "track_norms": "always"}, "track_norms", "choice", "track_norms: running"),
            ({"losses": [TERM], "zero_weight": "drop"}, "zero_weight", "choice", "zero_weight: keep"),
            ({"losses": [TERM], "pre_processes": ["MakeY"]}, "pre_processes[0].preprocess", "unknown", "did you mean 'MakeX'?"),
            ({"losses": [TERM], "weighting": {"temperature": 1}}, "weighting", "missing", "{strategy: NAME}"),
            ({"losses": [TERM], "batch_keys": ["seg"]}, "batch_keys[0]", "range", "write 'pred.seg' or 'gt.seg'"),
            ({"losses": [TERM], "batch_keys": ["gt.a"]}, "", "refused", "`lossreg show NAME` tells what a component reads and makes"),
            ({"losses": [TERM], "pre_processes": [{"preprocess": "MakeX", "factor": {"_target_": "os.system"}}]}, "pre_processes[0].factor._target_", "unknown", "leave it out"),
            ({"losses": [{"_target_": "os.system", "_partial_": True}]}, "losses[0]._partial_", "unknown", "leave it out"),
        ],
    )  # fmt: skip
    def test_each_mistake_has_its_path_its_kind_and_a_fix(self, block: Any, path: str, kind: str, fix: str) -> None:
        assert (path, kind, fix) in told(block)

    @pytest.mark.parametrize(
        ("block", "line"),
        [
            ({"losses": [TERM], "zero_wait": "keep"}, "zero_wait: is not a key of this block (did you mean 'zero_weight'?)"),
            ({"losses": [{**TERM, "ofset": 1}]}, "losses[0].ofset: is not a parameter of local/OffsetLoss (did you mean 'offset'?)"),
            ({"losses": [{**TERM, "deep_supervision": {}}]}, "losses[0].deep_supervision.outputs: is missing (outputs: aux.*)"),
            ({"losses": [{**TERM, "offset": "much"}]}, "losses[0].offset: expected a number, found 'much' (offset: 0.0)"),
            ({"losses": [TERM], "norm_momentum": 2}, "norm_momentum: expected a number above 0 and at most 1, found 2 (norm_momentum: 0.01)"),
            ({"losses": [TERM], "zero_weight": "kep"}, "zero_weight: expected 'keep' or 'skip', found 'kep' (did you mean 'keep'?)"),
            ({"losses": [TERM], "normalization_params": {"min_samples": 2, "max_samples": 1}}, "normalization_params: expected min_samples of at most max_samples, which is 1, found 2 (lower min_samples, or raise max_samples)"),
            ({"losses": [{**TERM, "offset": -1.0}]}, "losses[0]: local/OffsetLoss refused its arguments: offset must be 0 or more, got -1.0 (`lossreg show local/OffsetLoss` tells what it takes)"),
            ({"losses": [{"_target_": "os.system"}]}, "losses[0]._target_: no loss is named 'os.system'; a _target_ is looked up among registered components, never imported (`lossreg list --kind loss` shows what is installed)"),
        ],
    )  # fmt: skip
    def test_the_text_of_each_kind(self, block: Any, line: str) -> None:
        assert problems(block) == [line]

    @pytest.mark.parametrize(
        ("key", "hint"),
        [
            ("class_weights", "did you mean `args: {weight: ...}`, the loss's own, or 'weight', the term's?"),
            ("weights", "did you mean `args: {weight: ...}`, the loss's own, or 'weight', the term's?"),
            ("sample_weight", "it takes weight, name"),
        ],
    )
    def test_a_key_like_weight_is_told_from_the_weight_of_the_term(self, key: str, hint: str) -> None:
        line = f"losses[0].{key}: is not a parameter of local/Foreign ({hint})"
        assert problems({"losses": [{"loss": "Foreign", key: [0.2, 0.8]}]}) == [line]

    def test_a_list_without_thresholds_may_be_meant_for_the_loss(self) -> None:
        (line,) = problems({"losses": [{"loss": "Foreign", "weight": [0.2, 0.8]}]})
        assert line.endswith("each of epoch_thresholds; for the loss's own, args: {weight: [0.2, 0.8]})")

    def test_a_list_with_thresholds_that_may_be_meant_for_the_loss_is_warned_of(self) -> None:
        term = {"loss": "Foreign", "weight": [0.2, 0.8], "epoch_thresholds": [0, 10]}
        with pytest.warns(ConfigWarning, match=r"losses\[0\].weight: .* write args: \{weight: \[0.2, 0.8\]\}"):
            assert build({"losses": [term]}).effective_weights(10) == {"Foreign": 0.8}
        for clear in (
            {**term, "args": {"weight": [1.0, 2.0]}},
            {**term, "weight": {"schedule": "piecewise", "values": [0.2, 0.8]}},
        ):
            assert build({"losses": [clear]}).effective_weights(0) == {"Foreign": 0.2}

    @pytest.mark.parametrize(
        ("wrap", "path", "kind"),
        [
            ({"gt_channels": {"begin": 1}}, "gt_channels.begin", "unknown"),
            ({"gt_channels": {}}, "gt_channels", "range"),
            ({"pred_channels": []}, "pred_channels", "range"),
            ({"pred_channels": [False]}, "pred_channels", "range"),
            ({"pred_channels": [True, 1]}, "pred_channels", "type"),
            ({"gt_channels": {"step": 0}}, "gt_channels.step", "range"),
            ({"inputs": []}, "inputs", "range"),
            ({"inputs": ["x"]}, "inputs[0]", "range"),
            ({"reduction": None}, "reduction", "type"),
            ({"target_dtype": "int"}, "target_dtype", "choice"),
        ],
    )
    def test_mistakes_of_a_wrapper_stand_at_their_key(self, wrap: Any, path: str, kind: str) -> None:
        ((place, found, _),) = told({"losses": [{"loss": "Foreign", "wrap": wrap}]})
        assert (place, found) == (f"losses[0].wrap.{path}", kind)

    def test_inputs_of_a_loss_that_reads_batches_are_refused(self) -> None:
        wrap = {"inputs": ["pred.x", "gt.t", "gt.t"]}
        (found,) = problems({"losses": [{**TERM, "wrap": wrap}]})
        assert found.startswith("losses[0].wrap.inputs: has no effect, since OffsetLoss reads the batches itself")

    @pytest.mark.parametrize(
        "keys", ["1: a, 0x1: b", "1: a, 1.0: b", "1: a, true: b", "1e3: a, 1000: b", "&k 2: a, *k : b", "x: a, x: b"]
    )
    def test_keys_that_are_equal_once_read_are_refused(self, keys: str, tmp_path: Path) -> None:
        file = tmp_path / "loss.yaml"
        file.write_text(f"losses: {{{keys}}}", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"duplicate key .*; keep one of the two"):
            load_loss(file)

    def test_targets_are_never_imported(self) -> None:
        import sys

        found = problems({"losses": [{"_target_": "antigravity.fly"}, {"_target_": "this.s"}]})
        assert all("is looked up among registered components, never imported" in line for line in found)
        assert not {"antigravity", "this"} & set(sys.modules)


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
    @pytest.mark.filterwarnings("ignore:Skipping serialization of")  # of inductor in torch 2.6
    def test_gives_the_same_values(self) -> None:
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
