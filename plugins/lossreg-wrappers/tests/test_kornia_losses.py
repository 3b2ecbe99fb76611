"""Plugin `kornia`: every public loss of `kornia.losses`, with its values."""

from __future__ import annotations

import pytest
import torch

import lossreg
from lossreg.errors import RangeError
from lossreg.registry import catalog

PLUGIN = "kornia"

NO_LOSSES = {"MIKernel", "one_hot"}  # an enum and an encoder


def _library():
    import kornia.losses

    return kornia.losses


def test_every_public_loss_is_offered():
    offered = [entry.spec for entry in catalog().losses if entry.plugin.name == "kornia"]
    names = {name for spec in offered for name in (spec.name, *spec.aliases)}
    assert names == set(_library().__all__) - NO_LOSSES


def test_a_function_is_found_as_the_class_of_the_same_loss():
    for entry in catalog().losses:
        if entry.plugin.name == "kornia":
            for alias in entry.spec.aliases:
                function, cls = getattr(_library(), alias), getattr(_library(), entry.spec.name)
                assert function.__module__ == cls.__module__
                assert catalog().losses.find_target(f"kornia.losses.{alias}") is entry


def test_value_is_the_librarys(entry, example, direct):
    pred, gt = example(entry)
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)
    own = {"gt_polygons_image": gt["gt_polygons_image"].squeeze(1)} if "LovaszHinge" in entry.name else gt
    expected = direct(getattr(_library(), entry.spec.name), entry, pred, own, **entry.spec.example_args)
    assert torch.equal(value, expected)


def test_value_in_a_multi_loss_is_the_librarys(entry, example, direct, term):
    pred, gt = example(entry)
    criterion = term({"_target_": f"kornia.losses.{entry.spec.name}", **entry.spec.example_args})
    own = {"gt_polygons_image": gt["gt_polygons_image"].squeeze(1)} if "LovaszHinge" in entry.name else gt
    expected = direct(getattr(_library(), entry.spec.name), entry, pred, own, **entry.spec.example_args)
    torch.testing.assert_close(criterion(pred, gt)[0], expected)


@pytest.mark.parametrize("name", ["DiceLoss", "LovaszSoftmaxLoss"])
def test_class_weights_follow_the_loss_to_a_dtype(name):
    made = lossreg.create_loss(f"kornia/{name}", weight=[1.0, 2.0, 3.0])
    assert made.double().loss_func.weight.dtype == torch.float64


def test_logits_for_a_heatmap_are_an_error_that_says_what_to_do(term):
    with pytest.raises(RangeError, match="normalise each map over its pixels"):
        lossreg.create_loss("kornia/js_div_loss_2d")(torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4))
    with pytest.raises(lossreg.ConfigError, match=r"cannot be converted .* normalise each map over its pixels"):
        term({"loss": "kornia/js_div_loss_2d", "input": "logits"})


def test_hausdorff_takes_class_indices_with_or_without_a_channel_axis():
    probabilities, classes = torch.rand(2, 3, 8, 8).softmax(1), torch.randint(3, (2, 8, 8))
    expected = _library().HausdorffERLoss()(probabilities, classes[:, None])
    made = lossreg.create_loss("kornia/HausdorffERLoss")
    assert torch.equal(made(probabilities, classes)[0], expected)
    assert torch.equal(made(probabilities, classes[:, None].to(torch.uint8))[0], expected)


@pytest.mark.parametrize("found", ["Sum", "avg", "batchmean"])
def test_a_reduction_that_kornia_does_not_know_is_an_error_at_build(term, found):
    with pytest.raises(lossreg.ConfigError, match=rf"args\.reduction: expected .*, found '{found}'"):
        term({"loss": "kornia/FocalLoss", "args": {"alpha": 0.5, "reduction": found}})
