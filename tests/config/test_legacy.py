"""The legacy block is rewritten as the compound block that means the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from omegaconf import OmegaConf

from lossreg import build_loss_from_config, get_loss_function
from lossreg.config.legacy import legacy_compound
from lossreg.errors import ConfigError

CFG: dict[str, Any] = {
    "compute_seg": True,
    "compute_crossfield": True,
    "seg_params": {"compute_interior": True, "compute_edge": True, "compute_vertex": False},
    "loss_params": {
        "multi_loss": {
            "normalization_params": {"min_samples": 10, "max_samples": 100},
            "coefs": {
                "epoch_thresholds": [0, 5, 10],
                "seg": 10,
                "crossfield_align": 1,
                "crossfield_align90": 0.2,
                "crossfield_smooth": 0.005,
                "seg_interior_crossfield": [0, 0, 0.2],
                "seg_edge_crossfield": [0, 0, 0.2],
                "seg_edge_interior": [0, 0.1, 0.2],
            },
        },
        "seg_loss_params": {
            "bce_coef": 1.0,
            "dice_coef": 0.2,
            "use_dist": True,
            "use_size": False,
            "w0": 50,
            "sigma": 10,
        },
    },
    "pl_trainer": {"precision": 32},
}


def changed(**changes: Any) -> dict[str, Any]:
    """Return CFG with the values at dotted paths (`a__b` for `a.b`) replaced, or removed where None."""
    cfg = copy.deepcopy(CFG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = cfg
        for parent in parents:
            node = node[parent]
        node.pop(last, None)
        if value is not None:
            node[last] = value
    return cfg


def terms(cfg: Any) -> dict[str, Any]:
    return {term["name"]: term for term in legacy_compound(cfg, {}).block["loss_list"]}


@pytest.mark.parametrize(
    "switch",
    [
        *(f"seg_params__compute_{channel}" for channel in ("interior", "edge", "vertex")),
        "compute_seg",
        "compute_crossfield",
        "pl_trainer__use_mixup",
    ],
)
def test_a_switch_that_is_left_out_is_off(switch: str) -> None:
    assert legacy_compound(changed(**{switch: None}), {}) == legacy_compound(changed(**{switch: False}), {})
    assert legacy_compound(changed(**{switch: True}), {}) != legacy_compound(changed(**{switch: False}), {})


def test_all_terms_with_their_weights_and_parameters() -> None:
    rewritten = legacy_compound(CFG, {})
    block = rewritten.block
    assert rewritten.path == "loss_params.multi_loss"
    assert [(t["name"], t["weight"]) for t in block["loss_list"]] == [
        (name, CFG["loss_params"]["multi_loss"]["coefs"][name])
        for name in (
            "seg", "crossfield_align", "crossfield_align90", "crossfield_smooth",
            "seg_interior_crossfield", "seg_edge_crossfield", "seg_edge_interior",
        )
    ]  # fmt: skip
    assert block["loss_list"][0] | {"weight": 0, "name": 0} == {
        "loss": "seg/SegLoss", "name": 0, "weight": 0, "gt_channel_selector": [True, True, False],
        "use_mixed_precision": False, "use_mixup": False, "bce_coef": 1.0, "dice_coef": 0.2,
    }  # fmt: skip
    assert block["pre_processes"] == [
        {"preprocess": "seg/SegLossWeights", "use_dist": True, "use_size": False, "w0": 50, "sigma": 10}
    ]
    assert block["epoch_thresholds"] == [0, 5, 10]
    assert block["normalization_params"] == {"min_samples": 10, "max_samples": 100}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"compute_crossfield": False}, {"seg", "seg_edge_interior"}),
        ({"compute_seg": False}, {"crossfield_align", "crossfield_align90", "crossfield_smooth"}),
        (
            {"seg_params__compute_interior": False},
            {"seg", "crossfield_align", "crossfield_align90", "crossfield_smooth", "seg_edge_crossfield"},
        ),
        (
            {"seg_params__compute_edge": False},
            {"seg", "crossfield_align", "crossfield_align90", "crossfield_smooth", "seg_interior_crossfield"},
        ),
    ],
)
def test_flags_choose_the_terms(changes: dict[str, Any], expected: set[str]) -> None:
    assert set(terms(changed(**changes))) == expected


def test_pred_channel_counts_the_channels_that_are_on() -> None:
    both = terms(CFG)
    assert (both["seg_interior_crossfield"]["pred_channel"], both["seg_edge_crossfield"]["pred_channel"]) == (
        0,
        1,
    )
    assert terms(changed(seg_params__compute_interior=False))["seg_edge_crossfield"]["pred_channel"] == 0


@pytest.mark.parametrize(
    ("precision", "mixed"),
    [
        (16, True),
        ("16", True),
        ("16-mixed", True),
        ("bf16-mixed", True),
        (32, False),
        ("32-true", False),
        (None, False),
    ],
)
def test_precision_decides_on_logits(precision: Any, mixed: bool) -> None:
    assert terms(changed(pl_trainer__precision=precision))["seg"]["use_mixed_precision"] is mixed


@pytest.mark.parametrize(("given", "mixup"), [(True, True), (False, False), (None, False)])
def test_the_trainer_decides_on_mixup(given: Any, mixup: bool) -> None:
    assert terms(changed(pl_trainer__use_mixup=given))["seg"]["use_mixup"] is mixup


def test_a_mixup_that_is_no_switch_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"pl_trainer.use_mixup: expected true or false, found 0.5"):
        terms(changed(pl_trainer__use_mixup=0.5))


def test_both_spellings_and_parameters_inside_the_block() -> None:
    cfg = changed()
    cfg["loss_params"]["multiloss"] = cfg["loss_params"].pop("multi_loss")
    cfg["loss_params"]["multiloss"]["seg_loss_params"] = cfg["loss_params"].pop("seg_loss_params")
    rewritten = legacy_compound(OmegaConf.create(cfg), {})
    assert rewritten.path == "loss_params.multiloss"
    assert rewritten.block == legacy_compound(CFG, {}).block


def test_every_missing_key_is_reported() -> None:
    cfg = changed(loss_params__multi_loss__coefs__seg=None, compute_seg="yes")
    with pytest.raises(ConfigError) as caught:
        legacy_compound(cfg, {})
    line = "compute_seg: expected true or false, found 'yes' (compute_seg: true)"
    assert line in [str(p) for p in caught.value.problems]
    with pytest.raises(ConfigError, match=r"loss_params.multi_loss.coefs.seg: is missing"):
        legacy_compound(changed(loss_params__multi_loss__coefs__seg=None), {})
    with pytest.raises(ConfigError, match="neither compute_seg nor compute_crossfield is on"):
        legacy_compound(changed(compute_seg=False, compute_crossfield=False), {})


@pytest.mark.needs_plugins
@pytest.mark.parametrize(
    ("changes", "place", "hint"),
    [
        (
            {"loss_params__multi_loss__coefs__seg_edge_interior": "much"},
            "multi_loss.coefs.seg_edge_interior",
            "seg_edge_interior: 1.0",
        ),
        ({"loss_params__multi_loss__coefs__seg_edge_interior": [1, 2]}, "multi_loss.coefs.seg_edge_interior", "one"),
        ({"loss_params__multi_loss__coefs__epoch_thresholds": [5, 0, 1]}, "multi_loss.coefs.epoch_thresholds", "[0"),
        ({"loss_params__multi_loss__coefs__seg_edge": 1.0}, "multi_loss.coefs.seg_edge", "'seg_edge_"),
        ({"loss_params__seg_loss_params__dice_coef": "x"}, "seg_loss_params.dice_coef", "dice_coef: 0.5"),
        ({"loss_params__seg_loss_params__sigma": "x"}, "seg_loss_params.sigma", "sigma: 10"),
    ],
)
def test_a_mistake_is_told_where_the_file_has_it(changes: dict[str, Any], place: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        get_loss_function(changed(**changes))
    (problem,) = caught.value.problems
    assert problem.path == f"loss_params.{place}"
    assert hint in problem.hint


@pytest.mark.parametrize("block", [5, "seg", [1]])
def test_a_compound_block_that_is_no_mapping_is_an_error(block: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss_params\.compound_loss: expected a mapping with a loss_list"):
        build_loss_from_config(changed(loss_params__compound_loss=block))


@pytest.mark.needs_plugins
def test_the_guides_yaml_builds_as_it_stands() -> None:
    text = """
loss_params:
  compound_loss:
    normalize_losses: true
    normalization_params:
      max_samples: 1000
    loss_list:
      - _target_: pytorch_segmentation_models_trainer.custom_losses.base_loss.SegLoss
        name: seg
        gt_channel_selector: 0
        bce_coef: 0.5
        dice_coef: 0.5
        weight: 1.0
      - _target_: pytorch_segmentation_models_trainer.custom_losses.base_loss.CrossfieldAlignLoss
        name: crossfield_align
        weight:
          - 0.0
          - 0.0
          - 1.0
          - 1.0
    epoch_thresholds: [0, 5, 10, 50]
"""
    multi_loss = get_loss_function(OmegaConf.create(text))
    assert multi_loss.effective_weights(7.5) == {"seg": 1.0, "crossfield_align": 0.5}


@pytest.mark.needs_plugins
@pytest.mark.parametrize("inside", [True, False])
def test_parameters_that_are_no_mapping_are_a_problem_at_their_path(inside):
    legacy = {"coefs": {"epoch_thresholds": [0], "seg": 1.0}}
    params = {"multi_loss": legacy}
    (legacy if inside else params)["seg_loss_params"] = True
    config = {"loss_params": params, "compute_seg": True, "seg_params": {"compute_interior": True}}
    with pytest.raises(ConfigError) as caught:
        get_loss_function(config)
    place = "loss_params.multi_loss" if inside else "loss_params"
    assert [(p.path, p.kind) for p in caught.value.problems] == [(f"{place}.seg_loss_params", "type")]


@pytest.mark.parametrize(
    ("value", "fix"), [("false", "compute_seg: false"), ("on", "compute_seg: true"), (1, "compute_seg: true")]
)
def test_the_fix_of_a_switch_means_what_was_written(value, fix):
    with pytest.raises(ConfigError) as caught:
        get_loss_function({"loss_params": {"multi_loss": {"coefs": {}}}, "compute_seg": value})
    assert [(p.path, p.hint) for p in caught.value.problems] == [("compute_seg", fix)]


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("loss_params__multi_loss__normalization_param", "normalization_params"),
        ("loss_params__multi_loss__weighting", ""),
        ("loss_params__multi_loss__coefs__sge", "seg"),
        ("loss_params__seg_loss_params__bce_coeff", "bce_coef"),
        ("seg_params__compute_edges", "compute_edge"),
    ],
)
def test_a_key_that_the_block_has_not_is_refused(place, meant):
    with pytest.raises(ConfigError) as caught:
        legacy_compound(changed(**{place: True}), {})
    (problem,) = caught.value.problems
    assert (problem.path, problem.kind) == (place.replace("__", "."), "unknown")
    assert problem.hint == f"did you mean {meant!r}?" if meant else problem.hint.startswith("expected one of coefs")


def test_parameters_inside_the_block_have_its_keys_too():
    with pytest.raises(ConfigError, match=r"^loss_params.multi_loss.seg_loss_params.w: is not a key of this block"):
        legacy_compound(changed(loss_params__multi_loss__seg_loss_params={"w": 1, "w0": 5}), {})


def test_other_keys_of_the_training_config_are_nobodys_business():
    cfg = changed(pl_trainer__max_epochs=5, loss_params__other={"a": 1}, model={"name": "unet"})
    assert legacy_compound(cfg, {}).block == legacy_compound(CFG, {}).block


@pytest.mark.needs_plugins
@pytest.mark.parametrize(
    ("weight", "place", "hint"),
    [
        ("2.0", "seg", "seg: 2.0"),
        (["0.0", 1, 2], "seg[0]", "seg: [0.0, 1, 2]"),
        ([1, 2], "seg", "give one weight for each of epoch_thresholds, as in `seg: [1, 2, 2]`"),
    ],
)
def test_the_fix_of_a_weight_has_its_key(weight, place, hint):
    with pytest.raises(ConfigError) as caught:
        build_loss_from_config(changed(loss_params__multi_loss__coefs__seg=weight))
    assert [(p.path, p.hint) for p in caught.value.problems] == [(f"loss_params.multi_loss.coefs.{place}", hint)]


@pytest.mark.needs_plugins
@pytest.mark.parametrize(
    ("switches", "place"),
    [
        ({"normalise_losses": True}, "normalise_losses"),
        ({"norm_momentum": 2}, "norm_momentum"),
        ({"pre_processes": [{"preprocess": "seg/SegLossWeights", "w0": "x"}]}, "pre_processes[0].w0"),
        ({"epoch_thresholds": [0, 1, "x"]}, "epoch_thresholds[2]"),
    ],
)
def test_a_mistake_in_the_switches_beside_the_block_is_told_there(switches, place):
    with pytest.raises(ConfigError) as caught:
        build_loss_from_config(changed(loss_params__compound_loss=switches))
    assert [p.path for p in caught.value.problems] == [f"loss_params.compound_loss.{place}"]
