"""Every dialect of a loss config builds the numbers of its plain form: values and gradients to the last bit."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from lossreg import LossWrapper, MultiLoss, create_loss, get_loss_function

EPOCHS = (0, 2.5, 7, 60)

# --- the plain forms ----------------------------------------------------------------------------------

COMPOUND: dict[str, Any] = {
    "normalize_losses": True,
    "normalization_params": {"min_samples": 2, "max_samples": 50},
    "epoch_thresholds": [0, 5, 10],
    "loss_list": [
        {"loss": "local/OffsetLoss", "name": "near", "offset": 0.5, "mode": "square", "weight": 2.0},
        {"loss": "local/Foreign", "name": "far", "args": {"weight": [0.5, 1.0, 1.5]}, "weight": [0.0, 1.0, 0.25]},
        {"loss": "local/scaled_l1", "name": "scaled", "scale": 3.0, "weight": 0.125, "normalize": False},
    ],
}
NEAR, FAR, SCALED = COMPOUND["loss_list"]
OLD_NEAR = {"_target_": "old.place.OffsetLoss", **{key: value for key, value in NEAR.items() if key != "loss"}}
REST = {key: value for key, value in COMPOUND.items() if key != "loss_list"}

COEFS: dict[str, Any] = {
    "epoch_thresholds": [0, 5, 10],
    "seg": 10,
    "crossfield_align": 1,
    "crossfield_align90": 0.2,
    "crossfield_smooth": 0.005,
    "seg_interior_crossfield": [0, 0, 0.2],
    "seg_edge_crossfield": [0, 0.1, 0.2],
    "seg_edge_interior": [0.1, 0.1, 0.2],
}
PLACE = "pytorch_segmentation_models_trainer.custom_losses.base_loss"
LOSS_PARAMS = {"bce_coef": 1.0, "dice_coef": 0.2, "tversky_focal_coef": 0.1}
WEIGHT_PARAMS = {"use_dist": True, "use_size": False, "w0": 50, "sigma": 10}
COUNTS = {"min_samples": 2, "max_samples": 100}
LEGACY: dict[str, Any] = {
    "compute_seg": True,
    "compute_crossfield": True,
    "seg_params": {"compute_interior": True, "compute_edge": True, "compute_vertex": False},
    "pl_trainer": {"precision": 32},
    "loss_params": {
        "multi_loss": {"coefs": COEFS, "normalization_params": COUNTS},
        "seg_loss_params": {**LOSS_PARAMS, **WEIGHT_PARAMS},
    },
}
BY_HAND: dict[str, Any] = {
    "epoch_thresholds": COEFS["epoch_thresholds"],
    "normalization_params": COUNTS,
    "pre_processes": [{"preprocess": "seg/SegLossWeights", **WEIGHT_PARAMS}],
    "losses": {
        name: {"loss": loss, "weight": COEFS[name], **arguments}
        for name, loss, arguments in (
            ("seg", "seg/SegLoss", {"gt_channel_selector": [True, True, False], **LOSS_PARAMS}),
            ("crossfield_align", "crossfield/CrossfieldAlignLoss", {}),
            ("crossfield_align90", "crossfield/CrossfieldAlign90Loss", {}),
            ("crossfield_smooth", "crossfield/CrossfieldSmoothLoss", {}),
            ("seg_interior_crossfield", "crossfield/SegCrossfieldLoss", {"pred_channel": 0}),
            ("seg_edge_crossfield", "crossfield/SegCrossfieldLoss", {"pred_channel": 1}),
            ("seg_edge_interior", "crossfield/SegEdgeInteriorLoss", {}),
        )
    },
}


# --- numbers ------------------------------------------------------------------------------------------


def small_batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.randn(4, 3, generator=generator)}, {"t": torch.randn(4, 3, generator=generator)}


def polygon_batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    size = (2, 1, 8, 8)
    pred = {
        "seg": 0.1 + 0.8 * torch.rand(2, 2, 8, 8, generator=generator),
        "crossfield": 2 * torch.rand(2, 4, 8, 8, generator=generator) - 1,
    }
    gt = {
        "gt_polygons_image": torch.rand(2, 3, 8, 8, generator=generator).round(),
        "gt_crossfield_angle": torch.pi * torch.rand(size, generator=generator),
        "class_freq": 0.1 + 0.1 * torch.rand(2, 3, generator=generator),
        "distances": torch.rand(size, generator=generator),
        "sizes": 0.1 + torch.rand(size, generator=generator),
    }
    return pred, gt


def bare_batch() -> tuple[Tensor, Tensor]:
    pred, gt = small_batch()
    return pred["x"], gt["t"]


def numbers(criterion: Any, batch: Any) -> list[Any]:
    """Return all that a criterion makes of a batch: total, values and gradients over the epochs, and its norms."""
    pred, gt = batch()
    found: list[Any] = [type(criterion)]
    if isinstance(criterion, MultiLoss):
        criterion.update_norm(pred, gt, 4)
        found += [criterion.names, criterion.normalize, criterion.normalization_params]
        found += [(path, term.loss.norm) for path, term in criterion.leaves()]
    for epoch in EPOCHS:
        leaves = pred.values() if isinstance(pred, dict) else [pred]
        for leaf in leaves:
            leaf.grad = None
            leaf.requires_grad_()
        result = criterion(pred, gt, epoch=epoch) if isinstance(criterion, MultiLoss) else criterion(pred, gt)
        total = result[0] if isinstance(result, tuple) else result
        total.backward()
        assert all(leaf.grad is not None and leaf.grad.any() for leaf in leaves), (
            "a gradient that is nothing says nothing"
        )
        values = result[1] if isinstance(criterion, MultiLoss) else {}
        found += [total.detach(), list(values), *values.values(), *(leaf.grad for leaf in leaves)]
    return found


def assert_same_numbers(one: Any, other: Any, batch: Any) -> None:
    for a, b in zip(numbers(one, batch), numbers(other, batch), strict=True):
        if isinstance(a, Tensor):
            assert torch.equal(a, b), (a, b)
        elif isinstance(a, tuple) and isinstance(a[-1], Tensor):
            assert a[0] == b[0]
            assert torch.equal(a[1], b[1]), a[0]
        else:
            assert a == b


# --- compound blocks ----------------------------------------------------------------------------------


def without(term: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in term.items() if key not in keys}


def compound(**changes: Any) -> dict[str, Any]:
    return {"loss_params": {"compound_loss": {**REST, **changes}}}


NESTED = [
    {"loss": without(term, "weight", "normalize"), **{k: term[k] for k in ("weight", "normalize") if k in term}}
    for term in (NEAR, FAR, SCALED)
]
FLAT_ARGS = [
    {**without(NEAR, "offset", "mode"), "args": {"offset": 0.5, "mode": "square"}},
    FAR,
    {**without(SCALED, "scale"), "args": {"scale": 3.0}},
]

COMPOUND_DIALECTS = {
    "losses for loss_list": compound(losses=[NEAR, FAR, SCALED]),
    "a mapping of terms": compound(loss_list={term["name"]: without(term, "name") for term in (NEAR, FAR, SCALED)}),
    "a mapping with one term removed": compound(losses={"near": NEAR, "far": FAR, "scaled": SCALED, "gone": None}),
    "nested terms": compound(loss_list=NESTED),
    "nested terms in a mapping": compound(losses={"near": NESTED[0], "far": NESTED[1], "scaled": NESTED[2]}),
    "nested old paths": compound(
        loss_list=[{"loss": without(OLD_NEAR, "weight"), "weight": 2.0}, NESTED[1], NESTED[2]]
    ),
    "old paths": compound(loss_list=[OLD_NEAR, FAR, SCALED]),
    "old paths with _recursive_": compound(loss_list=[{**OLD_NEAR, "_recursive_": False}, FAR, SCALED]),
    "old paths with _convert_": compound(
        loss_list=[
            {**OLD_NEAR, "_convert_": "all"},
            {"loss": {**without(FAR, "weight"), "_convert_": "all"}, "weight": FAR["weight"]},
            SCALED,
        ]
    ),
    "aliases": compound(
        loss_list=[{**NEAR, "loss": "offset"}, {**FAR, "loss": "Foreign"}, {**SCALED, "loss": "scaled_l1"}]
    ),
    "arguments under args": compound(loss_list=FLAT_ARGS),
    "thresholds of the terms": {
        "loss_params": {
            "compound_loss": {
                **without(REST, "epoch_thresholds"),
                "losses": [NEAR, {**FAR, "epoch_thresholds": [0, 5, 10]}, SCALED],
            }
        }
    },
    "a schedule by its name": compound(
        losses=[NEAR, {**FAR, "weight": {"schedule": "piecewise", "values": [0.0, 1.0, 0.25]}}, SCALED]
    ),
    "interpolations": {"t": [0, 5, 10], "w": 2.0, "far": FAR}
    | compound(loss_list=[{**NEAR, "weight": "${w}"}, "${far}", SCALED], epoch_thresholds="${t}"),
    "beside a loss and a legacy block": compound(loss_list=[NEAR, FAR, SCALED]) | {"loss": {"loss": "offset"}},
    "a node of Hydra": {
        "losses": {"near": NEAR, "far": FAR, "scaled_l1": {**without(SCALED, "loss"), "name": "scaled"}},
        "loss": {"_target_": "lossreg.config.hydra.compound", "_recursive_": False, "losses": "${losses}", **REST},
    },
    "switches as they are by default": compound(
        loss_list=[NEAR, FAR, SCALED], zero_weight="keep", on_nonfinite="ignore"
    ),
}


@pytest.mark.parametrize("dialect", COMPOUND_DIALECTS)
@pytest.mark.parametrize("kind", ["mapping", "DictConfig"])
def test_a_compound_block(dialect: str, kind: str) -> None:
    cfg = copy.deepcopy(COMPOUND_DIALECTS[dialect])
    if kind == "DictConfig" or "${" in str(cfg):
        cfg = OmegaConf.create(cfg)
    plain = get_loss_function({"loss_params": {"compound_loss": COMPOUND}})
    assert_same_numbers(get_loss_function(cfg), plain, small_batch)


def test_the_plain_block_is_what_python_builds() -> None:
    built = MultiLoss(
        [
            create_loss("local/OffsetLoss", name="near", offset=0.5, mode="square"),
            create_loss("local/Foreign", name="far", weight=[0.5, 1.0, 1.5]),
            create_loss("local/scaled_l1", name="scaled", scale=3.0),
        ],
        [2.0, [0.0, 1.0, 0.25], 0.125],
        epoch_thresholds=[0, 5, 10],
        unnormalized=["scaled"],
        normalization_params={"min_samples": 2, "max_samples": 50},
    )
    assert_same_numbers(get_loss_function({"loss_params": {"compound_loss": COMPOUND}}), built, small_batch)


def test_a_namespace() -> None:
    cfg = SimpleNamespace(loss_params=SimpleNamespace(compound_loss=SimpleNamespace(**COMPOUND)))
    assert_same_numbers(
        get_loss_function(cfg), get_loss_function({"loss_params": {"compound_loss": COMPOUND}}), small_batch
    )


# --- legacy blocks ------------------------------------------------------------------------------------


def legacy(spelling: str = "multi_loss", *, inside: bool = False, **compound_loss: Any) -> dict[str, Any]:
    cfg = copy.deepcopy(LEGACY)
    params = cfg["loss_params"]
    block = params.pop("multi_loss")
    if inside:
        block["seg_loss_params"] = params.pop("seg_loss_params")
    return {**cfg, "loss_params": {**params, spelling: block, **compound_loss}}


SWITCHES = {"normalize_losses": False, "normalization_params": {"min_samples": 3, "max_samples": 30}}
LEGACY_DIALECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "multi_loss": (legacy(), BY_HAND),
    "multiloss": (legacy("multiloss"), BY_HAND),
    "parameters inside the block": (legacy(inside=True), BY_HAND),
    "parameters inside the block, in its other spelling": (legacy("multiloss", inside=True), BY_HAND),
    "an empty compound block": (legacy(compound_loss={}), BY_HAND),
    "a compound block that is null": (legacy(compound_loss=None), BY_HAND),
    "a compound block without terms": (legacy(compound_loss={"loss_list": None}), BY_HAND),
    "a compound block of switches": (legacy(compound_loss=SWITCHES), {**BY_HAND, **SWITCHES}),
    "a compound block of switches, in its other spelling": (
        legacy("multiloss", compound_loss=SWITCHES),
        {**BY_HAND, **SWITCHES},
    ),
    "a compound block that goes before it": (legacy(compound_loss=BY_HAND), BY_HAND),
}


@pytest.mark.needs_plugins
@pytest.mark.parametrize("dialect", LEGACY_DIALECTS)
@pytest.mark.parametrize("kind", [dict, OmegaConf.create])
def test_a_legacy_block(dialect: str, kind: Any) -> None:
    cfg, plain = LEGACY_DIALECTS[dialect]
    by_hand = get_loss_function({"loss_params": {"compound_loss": plain}})
    assert_same_numbers(get_loss_function(kind(copy.deepcopy(cfg))), by_hand, polygon_batch)


@pytest.mark.needs_plugins
def test_the_old_paths_of_the_plugins() -> None:
    terms = {
        name: {**without(term, "loss"), "_target_": f"{PLACE}.{term['loss'].rpartition('/')[2]}"}
        for name, term in BY_HAND["losses"].items()
    }
    old, new = ({"loss_params": {"compound_loss": {**BY_HAND, "losses": t}}} for t in (terms, BY_HAND["losses"]))
    assert_same_numbers(get_loss_function(old), get_loss_function(new), polygon_batch)


# --- a single loss ------------------------------------------------------------------------------------

SINGLES = {
    "a name": {"loss": "scaled_l1"},
    "a mapping": {"loss": {"loss": "local/scaled_l1"}},
    "arguments": {"loss": {"loss": "scaled_l1", "scale": 1.0}},
    "arguments under args": {"loss": {"loss": "scaled_l1", "args": {"scale": 1.0}}},
    "a node of Hydra": {
        "loss": {"_target_": "lossreg.config.hydra.criterion", "_recursive_": False, "name": "l1", "loss": "scaled_l1"}
    },
    "beside loss_params without a block": {"loss": "scaled_l1", "loss_params": {"compound_loss": None}},
}


@pytest.mark.parametrize("dialect", SINGLES)
def test_a_single_loss(dialect: str) -> None:
    built, plain = get_loss_function(SINGLES[dialect]), get_loss_function({"loss": "scaled_l1"})
    assert_same_numbers(LossWrapper(built, "a"), LossWrapper(nn.L1Loss(), "a"), bare_batch)
    assert_same_numbers(LossWrapper(built, "a"), LossWrapper(plain, "a"), bare_batch)


@pytest.mark.parametrize("cfg", [{"loss": "old.place.OffsetLoss"}, {"loss": {"loss": "local/OffsetLoss"}}])
def test_a_single_loss_by_its_old_path(cfg: Any) -> None:
    given = {"_target_": cfg["loss"]} if isinstance(cfg["loss"], str) else cfg["loss"]
    built = get_loss_function({"loss": {**given, "offset": 0.5, "name": "o"}})
    assert_same_numbers(built, create_loss("offset", name="o", offset=0.5), small_batch)


@pytest.mark.needs_plugins
@pytest.mark.parametrize("loss", ["torch/MSELoss", {"loss": "MSELoss"}, {"_target_": "torch.nn.MSELoss"}])
def test_a_single_loss_of_torch_stays_one(loss: Any) -> None:
    assert_same_numbers(get_loss_function({"loss": loss}), nn.MSELoss(), bare_batch)
