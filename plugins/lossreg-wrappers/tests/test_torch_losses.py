"""Plugin `torch`: every public loss of `torch.nn`, with the values of `torch.nn`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import lossreg
from lossreg.registry import catalog

PLUGIN = "torch"


def _public():
    return [name for name in dir(nn) if name.endswith("Loss")]


def _value(result):
    return result.loss if hasattr(result, "loss") else result  # of AdaptiveLogSoftmaxWithLoss


def test_every_public_loss_is_offered():
    assert lossreg.list_losses("torch/*") == [f"torch/{name}" for name in sorted(_public())]


def test_value_is_the_librarys(entry, example, direct):
    pred, gt = example(entry)
    torch.manual_seed(0)
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)
    expected = direct(getattr(nn, entry.spec.name), entry, pred, gt, **entry.spec.example_args)
    assert torch.equal(value, _value(expected))


def test_value_in_a_multi_loss_is_the_librarys(entry, example, direct, term):
    pred, gt = example(entry)
    torch.manual_seed(0)
    built = term({"loss": entry.name, "args": dict(entry.spec.example_args), "weight": 0.5})
    total, values, _ = built(pred, gt, normalize=False)
    expected = _value(direct(getattr(nn, entry.spec.name), entry, pred, gt, **entry.spec.example_args))
    torch.testing.assert_close(total, 0.5 * expected)
    torch.testing.assert_close(values[entry.spec.name], expected.detach())


def test_gradient_reaches_every_prediction(entry, example):
    pred, gt = example(entry)
    floating = [tensor.requires_grad_() for tensor in pred.values()]
    lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)[0].backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in floating)


def test_dotted_targets_find_the_adapter(entry, term):
    name = entry.spec.name
    module = getattr(nn, name).__module__
    for dotted in (f"torch.nn.{name}", f"{module}.{name}"):
        assert catalog().losses.find_target(dotted).spec == entry.spec


@pytest.mark.parametrize("name", ["BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "NLLLoss"])
def test_the_old_copies_of_another_library_are_found(name):
    old = catalog().losses.find_target(f"segmentation_models_pytorch.utils.losses.{name}")
    assert old is catalog().losses.find(f"torch/{name}")


def test_obsolete_parameters_are_refused(term):
    with pytest.raises(lossreg.ConfigError, match="size_average: is not a parameter"):
        term({"loss": "torch/MSELoss", "size_average": True})


def test_class_weights_from_yaml_become_a_buffer(term):
    built = term({"_target_": "torch.nn.CrossEntropyLoss", "args": {"weight": [0.2, 0.8]}})
    assert torch.equal(dict(built.named_buffers())["loss_funcs.0.loss_func.weight"], torch.tensor([0.2, 0.8]))


@pytest.mark.parametrize("name", ["BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss"])
def test_per_element_values_are_averaged_in_a_config_and_left_in_python(name, example, term):
    pred, gt = example(catalog().losses.find(f"torch/{name}"))
    expected = getattr(nn, name)(reduction="none")(*pred.values(), *gt.values())
    torch.testing.assert_close(term({"loss": f"torch/{name}", "reduction": "none"})(pred, gt)[0], expected.mean())
    torch.testing.assert_close(lossreg.create_loss(f"torch/{name}", reduction="none")(pred, gt)[0], expected)


def test_a_class_mask_may_have_a_channel_axis_and_any_integer_dtype():
    logits, classes = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 1, 4, 4))
    expected = nn.functional.cross_entropy(logits, classes[:, 0])
    for dtype in (torch.uint8, torch.int32, torch.float32):
        assert torch.equal(lossreg.create_loss("torch/CrossEntropyLoss")(logits, classes.to(dtype))[0], expected)


def test_class_probabilities_are_a_target_too():
    logits, soft = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4).softmax(1)
    expected = nn.functional.cross_entropy(logits, soft)
    assert torch.equal(lossreg.create_loss("torch/CrossEntropyLoss")(logits, soft)[0], expected)


def test_a_boolean_mask_is_a_target():
    logits, mask = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4) > 0.5
    expected = nn.functional.binary_cross_entropy_with_logits(logits, mask.float())
    assert torch.equal(lossreg.create_loss("torch/BCEWithLogitsLoss")(logits, mask)[0], expected)


def test_adaptive_softmax_returns_its_output_beside_the_loss():
    made = lossreg.create_loss("torch/AdaptiveLogSoftmaxWithLoss", in_features=6, n_classes=10, cutoffs=[4])
    _, extra = made(torch.randn(4, 6), torch.randint(10, (4,)))
    assert extra["output"].shape == (4,)


def test_listing_imports_no_torch():
    code = "import sys, lossreg; assert lossreg.list_losses('torch/*'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
