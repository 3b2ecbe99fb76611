"""Which part of a config is the loss: the compound loss before the legacy block before a single loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blocks import TERM

from lossreg import (
    MultiLoss,
    build_compound_loss_from_config,
    build_loss_from_config,
    get_loss_function,
    load_loss,
)
from lossreg.errors import ConfigError
from lossreg.keys import Lone, Term
from lossreg.values import keys_of


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

    @pytest.mark.parametrize(
        ("build", "config", "message"),
        [
            (get_loss_function, {"losses": ["offset"]}, "losses: .* goes to build_compound_loss_from_config"),
            (
                build_loss_from_config,
                {"loss_list": ["offset"]},
                "loss_list: .* goes to build_compound_loss_from_config",
            ),
            (build_loss_from_config, {"loss": "offset"}, "loss: .*get_loss_function takes a loss alone"),
            (
                build_compound_loss_from_config,
                {"loss_params": {"compound_loss": {"losses": ["offset"]}}},
                "found a config that has loss_params .get_loss_function and build_loss_from_config take",
            ),
            (
                load_loss,
                {"losses": ["offset"]},
                "expected the path of a YAML file, found .* in memory to get_loss_func",
            ),
            (
                get_loss_function,
                {"loss_params": {"compund_loss": {}}},
                "^loss_params.compund_loss: .* `compound_loss`",
            ),
            (
                get_loss_function,
                {"loss_params": None, "compound_loss": {"losses": ["offset"]}},
                r"^loss_params: .*\(it is empty: indent what belongs to it below it\)$",
            ),
            (
                build_loss_from_config,
                {"loss_params": {"compound_loss": None, "losses": ["offset"]}},
                r"^loss_params.compound_loss: .*\(it is empty: indent what belongs to it below it\)$",
            ),
            (get_loss_function, {"a": 1, "loss_param": {}}, "^loss_param: .*write `loss_params` for 'loss_param'"),
            (
                get_loss_function,
                {"loss": {"losses": ["offset"]}},
                "^loss: .*give the terms to loss_params.compound_loss",
            ),
            (load_loss, None, "path: expected the path of a YAML file, found None"),
        ],
    )
    def test_what_another_function_takes_is_told(self, build: Callable[[Any], Any], config: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            build(config)
