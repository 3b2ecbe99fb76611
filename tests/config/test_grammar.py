"""The grammar of a loss file: names, and every mistake at its path, all at once."""
# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blocks import GT, PRED, TERM, build, problems, told
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

import lossreg
from lossreg import (
    load_loss,
)
from lossreg.errors import ConfigError, ConfigWarning
from lossreg.keys import Wrap
from lossreg.values import keys_of


class TestNames:
    def test_a_term_may_be_a_bare_name(self) -> None:
        assert list(build({"losses": ["offset"]})(PRED, GT)[1]) == ["offset"]

    def test_a_term_of_a_mapping_can_be_removed_by_an_override(self) -> None:
        assert build({"losses": {"a": TERM, "b": None}}).names == ("a",)

    def test_a_target_that_is_null_is_left_out(self) -> None:
        assert build({"losses": [{**TERM, "_target_": None}]}).names == ("offset",)

    def test_names_default_to_what_the_file_says(self) -> None:
        block = {"losses": [{"loss": "local/OffsetLoss"}, "offset", {"loss": "Foreign"}]}
        assert build(block).names == ("OffsetLoss", "offset", "Foreign")
        assert build({"losses": [{"_target_": "old.place.OffsetLoss"}]}).names == ("offset",)

    @given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\- ]{0,20}", fullmatch=True))
    def test_names_survive_a_yaml_round_trip(self, name: str) -> None:
        text = OmegaConf.to_yaml(OmegaConf.create({"losses": [{"loss": "offset", "name": name}]}))
        assert build(OmegaConf.create(text)).names == (name,)


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
            ([], "", "type", "loss_list: [{loss: torch/L1Loss, weight: 1.0}]"),
            ({}, "", "missing", "loss_list: [{loss: torch/L1Loss, weight: 1.0}]"),
            ({"losses": []}, "losses", "range", "losses: [{loss: torch/L1Loss, weight: 1.0}]"),
            ({"losses": 3}, "losses", "type", "losses: [{loss: torch/L1Loss, weight: 1.0}]"),
            ({"losses": [3]}, "losses[0]", "type", "{loss: torch/L1Loss, weight: 1.0}"),
            ({"losses": [TERM], "loss_list": [TERM]}, "losses", "conflict", "leave out losses"),
            ({"losses": None}, "losses", "range", "losses: [{loss: torch/L1Loss, weight: 1.0}]"),
            ({"losses": {f"a{i}": "offset" for i in range(501)}}, "losses", "limit", "leave some out"),
            ({"losses": [TERM, TERM]}, "losses[1]", "conflict", "give one of them another name, as in `name: offset_2`"),
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
            ({"losses": [{**TERM, "weight": [1, 2]}]}, "losses[0].weight", "missing", "add `epoch_thresholds: [0, 10]`"),
            ({"losses": [{**TERM, "weight": [1, 2]}], "epoch_thresholds": [0]}, "losses[0].weight", "conflict", "give one weight for each of epoch_thresholds, as in `weight: [1]`"),
            ({"losses": [{**TERM, "normalize": "no"}]}, "losses[0].normalize", "type", "normalize: false"),
            ({"losses": [{**TERM, "weight": ["0.0", "1.0"]}], "epoch_thresholds": [0, 1]}, "losses[0].weight[0]", "type", "weight: [0.0, 1.0]"),
            ({"losses": [{**TERM, "weight": {"schedule": "chain", "schedules": ["2.0", [1, 2], {"a": 1}], "boundaries": [1, 2]}}], "epoch_thresholds": [0]}, "losses[0].weight.schedules[0]", "type", "2.0"),
            ({"losses": [{**TERM, "weight": {"schedule": "chain", "schedules": ["2.0", [1, 2], {"a": 1}], "boundaries": [1, 2]}}], "epoch_thresholds": [0]}, "losses[0].weight.schedules[1]", "conflict", "give one weight for each of epoch_thresholds, as in `[1]`"),
            ({"losses": [{**TERM, "weight": {"schedule": "chain", "schedules": ["2.0", [1, 2], {"a": 1}], "boundaries": [1, 2]}}], "epoch_thresholds": [0]}, "losses[0].weight.schedules[2]", "missing", "{schedule: cosine, start: 1.0, end: 0.0, end_epoch: 10}"),
            ({"losses": [{"loss": "from_dict", "rest": "ignore"}]}, "losses[0].rest", "type", "rest: 1.0"),
            ({"losses": [{"loss": "from_dict", "terms": {"a.*": "cosine"}}]}, "losses[0].terms.a.*", "type", "a.*: {schedule: cosine, start: 1.0, end: 1.0, end_epoch: 1.0}"),
            ({"losses": [{**TERM, "weight": {"schedule": "step", "values": [1.0, 0.5, 0.1]}}]}, "losses[0].weight.epoch_thresholds", "missing", "epoch_thresholds: [0, 10, 20]"),
            ({"losses": [{**TERM, "weight": {"schedule": "chain", "schedules": [1, 2, 3]}}]}, "losses[0].weight.boundaries", "missing", "boundaries: [10, 20]"),
            ({"losses": [{**TERM, "target_dtype": "long"}]}, "losses[0].target_dtype", "unknown", "write it under wrap: `wrap: {target_dtype: ...}`"),
            ({"losses": [{**TERM, "gt_channels": 0}]}, "losses[0].gt_channels", "unknown", "write it under wrap: `wrap: {gt_channels: ...}`"),
            ({"losses": [{**TERM, "outputs": "aux.*"}]}, "losses[0].outputs", "unknown", "write it under deep_supervision: `deep_supervision: {outputs: ...}`"),
            ({"losses": [{**TERM, "args": {"pred_key": "x"}}]}, "losses[0].args.pred_key", "unknown", "write it beside args"),
            ({"losses": [{"loss": "from_dict", "terms": {"a/b": 1, "a.b": 2}}]}, "losses[0].terms.a.b", "conflict", "leave one of them out: `/` in the name of a member becomes `.`"),
            ({"losses": [{"loss": "from_dict", "losses": {"a": 1}}]}, "losses[0].losses", "unknown", "write `terms: {MEMBER: WEIGHT}`"),
            ({"losses": [{**TERM, "normalize": "never"}]}, "losses[0].normalize", "type", "normalize: true"),
            ({"losses": [{**TERM, "optional": "true"}]}, "losses[0].optional", "type", "optional: true"),
            ({"losses": [{**TERM, "offset": "1e-3"}]}, "losses[0].offset", "type", "offset: 0.001"),
            ({"losses": [{**TERM, "offset": "nan"}]}, "losses[0].offset", "type", "offset: 0.0"),
            ({"losses": [{**TERM, "channels": ["1", 2]}]}, "losses[0].channels[0]", "type", "channels: [1, 2]"),
            ({"losses": [{"loss": "Foreign", "wrap": {"gt_channels": "2"}}]}, "losses[0].wrap.gt_channels", "type", "gt_channels: 2"),
            ({"losses": [TERM], "normalize_losses": "false"}, "normalize_losses", "type", "normalize_losses: false"),
            ({"losses": [TERM], "compile": "true"}, "compile", "type", "compile: true"),
            ({"losses": [TERM], "norm_momentum": "2"}, "norm_momentum", "type", "norm_momentum: 0.01"),
            ({"losses": [TERM], "compile": "{"}, "compile", "type", "compile: false"),
            ({"losses": [{**TERM, "offset": "much"}]}, "losses[0].offset", "type", "offset: 0.0"),
            ({"losses": [{**TERM, "mode": "cube"}]}, "losses[0].mode", "choice", "mode: abs"),
            ({"losses": [{**TERM, "ofset": 1}]}, "losses[0].ofset", "unknown", "did you mean 'offset'?"),
            ({"losses": [{**TERM, "hook": 1}]}, "losses[0].hook", "type", "leave hook out"),
            ({"losses": [{**TERM, "offset": -1.0}]}, "losses[0]", "refused", "`lossreg show local/OffsetLoss` tells what it takes"),
            ({"losses": [{"loss": "Foreign", "pred_key": "pred.height"}]}, "losses[0].pred_key", "range", "write 'height'"),
            ({"losses": [{"loss": "Foreign", "gt_key": "gt.a.b"}]}, "losses[0].gt_key", "range", "write 'a.b'"),
            ({"losses": [{"loss": "Foreign", "gt_key": "gt."}]}, "losses[0].gt_key", "range", "gt_key: height"),
            ({"losses": [{**TERM, "deep_supervision": "pred.aux.*"}]}, "losses[0].deep_supervision", "range", "write 'aux.*'"),
            ({"losses": [{**TERM, "deep_supervision": ["a", "pred.b"]}]}, "losses[0].deep_supervision[1]", "range", "write 'b'"),
            ({"losses": [{**TERM, "deep_supervision": {"outputs": "pred.a"}}]}, "losses[0].deep_supervision.outputs", "range", "write 'a'"),
            ({"losses": [{"losses": [TERM]}]}, "losses[0]", "missing", "name: my_group"),
            ({"losses": [TERM], "normalise_losses": True}, "normalise_losses", "unknown", "did you mean 'normalize_losses'?"),
            ({"losses": [TERM], "normalization_params": {"min_samples": 2, "max_samples": 1}}, "normalization_params", "conflict", "lower min_samples, or raise max_samples"),
            ({"losses": [TERM], "epoch_thresholds": [5, 0]}, "epoch_thresholds", "range", "epoch_thresholds: [0, 5]"),
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
            ("sample_weights", "did you mean 'sample_weight'?"),
        ],
    )
    def test_a_key_like_weight_is_told_from_the_weight_of_the_term(self, key: str, hint: str) -> None:
        line = f"losses[0].{key}: is not a parameter of local/Foreign ({hint})"
        assert problems({"losses": [{"loss": "Foreign", key: [0.2, 0.8]}]}) == [line]

    @pytest.mark.parametrize(("key", "name"), [("loss", "offset"), ("_target_", "old.place.OffsetLoss")])
    def test_a_loss_that_is_not_indented_below_its_name_is_refused(self, key: str, name: str) -> None:
        line = f"losses.{key}: names a loss beside near, which is empty (indent it below near, or write"
        (found,) = problems({"losses": OmegaConf.create(f"far:\nnear:\n{key}: {name}\n")})
        assert found == f"{line} `{key}: {{{key}: {name}}}` for a term of this name)"
        assert build({"losses": {"near": None, key: {key: name}}}).names == (key,)
        assert build({"losses": {"near": "offset", "far": None, "lost": {key: name}}}).names == ("near", "lost")

    @pytest.mark.parametrize(("key", "read"), [("on", "True"), ("0x10", "16"), ("1.0", "1.0")])
    def test_a_name_that_yaml_does_not_read_as_a_text_is_refused(self, key: str, read: str) -> None:
        line = f"losses.{read}: expected a text as its name, found {read} (quote it)"
        assert problems(OmegaConf.create(f"losses: {{{key}: offset}}")) == [line]
        assert build(OmegaConf.create(f"losses: {{'{key}': offset}}")).names == (key,)

    @pytest.mark.needs_plugins
    def test_a_choice_that_only_the_docstring_lists_is_held(self) -> None:
        terms = [{"loss": "torch/L1Loss", "name": how, "reduction": how} for how in ("mean", "sum", "per_sample")]
        assert build({"losses": terms}).names == ("mean", "sum", "per_sample")
        for wrong, fix in (("Sum", "did you mean 'sum'?"), ("x", "reduction: mean")):
            line = f"losses[0].reduction: expected 'none', 'mean' or 'sum', found {wrong!r} ({fix})"
            assert problems({"losses": [{"loss": "torch/L1Loss", "reduction": wrong}]}) == [line]

    @pytest.mark.parametrize("key", ["mask", "sample_weight"])
    def test_a_mask_of_a_loss_that_takes_none_is_refused_at_its_key(self, key: str) -> None:
        lossreg.register("Global", masking="no: it compares whole images")(torch.nn.L1Loss)
        line = f"losses[0].{key}: is not possible: it compares whole images (leave it out)"
        assert problems({"losses": [{"loss": "Global", key: "gt.valid"}]}) == [line]
        assert build({"losses": [{"loss": "Global", key: None}]}).names == ("Global",)

    def test_a_special_key_inside_arguments_is_refused_where_it_stands(self) -> None:
        """Beside the block's own keys and under args, at any depth."""
        term = {**TERM, "mode": {"_target_": "os.system"}, "args": {"channels": [{"_partial_": True}]}}
        found = {line.partition(":")[0] for line in problems({"losses": [term]}) if "an argument is data" in line}
        assert found == {"losses[0].mode._target_", "losses[0].args.channels[0]._partial_"}

    def test_a_list_without_thresholds_may_be_meant_for_the_loss(self) -> None:
        (line,) = problems({"losses": [{"loss": "Foreign", "weight": [0.2, 0.8]}]})
        assert line.endswith("(add `epoch_thresholds: [0, 10]`; for the loss's own, args: {weight: [0.2, 0.8]})")

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
            ({"reduction": "median"}, "reduction", "choice"),
            ({"target_dtype": "int"}, "target_dtype", "choice"),
        ],
    )
    def test_mistakes_of_a_wrapper_stand_at_their_key(self, wrap: Any, path: str, kind: str) -> None:
        ((place, found, _),) = told({"losses": [{"loss": "Foreign", "wrap": wrap}]})
        assert (place, found) == (f"losses[0].wrap.{path}", kind)

    def test_null_leaves_a_key_of_a_wrapper_out(self) -> None:
        null = dict.fromkeys(keys_of(Wrap))
        assert build({"losses": [{**TERM, "wrap": null}]}).loss_funcs[0].offset == 1.0
        lossreg.register("Summed", wrap={"reduction": "sum", "target_shape": "any"})(nn.L1Loss)
        found = build({"losses": [{"loss": "Summed", "wrap": {**null, "gt_channels": 0}}]}).loss_funcs[0]
        assert (found.reduction, found.target_shape, found.gt_index) == ("sum", "any", 0)

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

    @pytest.mark.parametrize("path", ["", "loss_params.compound_loss"])
    def test_a_mistake_in_a_nested_loss_is_told_under_loss(self, path: str) -> None:
        block = {"losses": [{"loss": {**TERM, "ofset": 1, "mode": "cube"}, "weight": "much"}]}
        with pytest.raises(ConfigError) as caught:
            build(block, path=path)
        places = ["losses[0].loss.ofset", "losses[0].loss.mode", "losses[0].weight"]
        assert {p.path for p in caught.value.problems} == {f"{path}.{place}".lstrip(".") for place in places}

    def test_targets_are_never_imported(self) -> None:
        import sys

        found = problems({"losses": [{"_target_": "antigravity.fly"}, {"_target_": "this.s"}]})
        assert all("is looked up among registered components, never imported" in line for line in found)
        assert not {"antigravity", "this"} & set(sys.modules)
