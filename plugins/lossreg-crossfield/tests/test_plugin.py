"""The installed plugin: names, specs and old paths."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import lossreg_crossfield
import pytest
import torch

from lossreg import Loss, Preprocess, build_compound_loss_from_config, create_loss, find_loss

OLD = "pytorch_segmentation_models_trainer.custom_losses.base_loss"
NAMES = {
    "crossfield_align": "CrossfieldAlignLoss",
    "crossfield_align90": "CrossfieldAlign90Loss",
    "crossfield_smooth": "CrossfieldSmoothLoss",
    "seg_crossfield": "SegCrossfieldLoss",
    "seg_edge_interior": "SegEdgeInteriorLoss",
}


def test_describing_imports_no_torch() -> None:
    code = "import sys, lossreg_crossfield, lossreg_crossfield.plugin as p\n"
    code += "p.lossreg_losses(); p.lossreg_preprocesses(); assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_entry_point() -> None:
    (point,) = entry_points(group="lossreg", name="crossfield")
    assert point.load().__name__ == "lossreg_crossfield.plugin"


@pytest.mark.parametrize(("alias", "name"), NAMES.items())
def test_is_found_by_name_alias_and_old_path(alias: str, name: str) -> None:
    assert find_loss(alias) == find_loss(name) == find_loss(f"crossfield/{name}")
    assert find_loss(alias).targets == (f"{OLD}.{name}",)


@pytest.mark.parametrize(("alias", "name"), NAMES.items())
def test_is_made_by_name(alias: str, name: str) -> None:
    options = {"pred_channel": 1, "detach_grad_norm": True} if alias == "seg_crossfield" else {}
    loss = create_loss(alias, name="term", **options)
    assert isinstance(loss, Loss)
    assert type(loss) is getattr(lossreg_crossfield, name)
    assert "name='term'" in repr(loss)
    assert all(f"{key}={value}" in repr(loss) for key, value in options.items())


def test_preprocesses_declare_what_their_specs_do() -> None:
    from lossreg_crossfield.plugin import lossreg_preprocesses

    for spec in lossreg_preprocesses():
        made = getattr(lossreg_crossfield, spec.name)()
        assert isinstance(made, Preprocess)
        assert (tuple(made.requires), tuple(made.provides)) == (spec.requires, spec.provides)


def test_public_names() -> None:
    assert set(lossreg_crossfield.__all__) <= set(dir(lossreg_crossfield))
    assert all(hasattr(lossreg_crossfield, name) for name in lossreg_crossfield.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = lossreg_crossfield.Nothing


def test_a_preprocess_is_found_by_its_old_path() -> None:
    block = {
        "pre_processes": [{"_target_": f"{OLD}.ComputeSegGrads", "_convert_": "all"}],
        "loss_list": [{"loss": "seg_edge_interior"}],
    }
    criterion = build_compound_loss_from_config(block)
    assert [type(node) for node in criterion.pre_processes] == [lossreg_crossfield.SegGrads]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_an_angle_that_is_no_radian_says_how_to_make_it_one(dtype: torch.dtype) -> None:
    gt = {"gt_crossfield_angle": torch.zeros(1, 1, 4, 4, dtype=dtype)}
    with pytest.raises(TypeError, match=r"has dtype u?int\d+, expected .*angle\.float\(\) \* torch\.pi / 255$"):
        lossreg_crossfield.GtField()({}, gt)
