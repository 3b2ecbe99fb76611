"""Properties of all adapted losses of all libraries."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lossreg_wrappers.forms import Form, choose
from lossreg_wrappers.listing import listing, replaced, specs

import lossreg
from lossreg.errors import UnknownNameError
from lossreg.losses.create import adopt
from lossreg.losses.nested import mapped, tensors_in
from lossreg.registry import catalog

# losses whose teacher, or target view, has no gradient
HALF_GRADIENTS = {
    f"lightly/{name}"
    for name in (
        "CAPILoss",
        "DINOLoss",
        "DetConBLoss",
        "IBOTPatchLoss",
        "IBOTPlusPlusPatchLoss",
        "LeWMLoss",
        "MSNLoss",
        "PMSNCustomLoss",
        "PMSNLoss",
        "PatchKernelAlignmentLoss",
    )
}
README = Path(__file__).parents[1] / "README.md"


def _converted(pred, form, axis):
    """Return the prediction in the other form, and that form's name."""
    if form.kind == "logits":
        return (pred.softmax(axis) if form.activation == "softmax" else pred.sigmoid()), "probabilities"
    if form.kind == "log-probabilities":
        return pred.exp(), "probabilities"
    return (pred.log() if form.activation == "softmax" else pred.logit()), "logits"


def test_the_other_form_gives_the_same_value(entry, example):
    spec = entry.spec
    made = lossreg.create_loss(entry.name, **spec.example_args)
    form = Form.parse(choose(spec.wrap["takes"], made.loss_func))
    if not form.activation:
        pytest.skip("takes one form only")
    pred, gt = example(entry)
    key = next(iter(pred))
    axis = spec.wrap.get("axis", 1)
    given, kind = _converted(pred[key], form, axis)
    other = adopt(entry, "term", spec.example_args, {"input": kind})
    torch.testing.assert_close(other({**pred, key: given}, gt)[0], made(pred, gt)[0], rtol=1e-4, atol=1e-5)


def test_the_module_that_defines_it_finds_it(entry):
    module, _, name = entry.spec.targets[0].rpartition(".")
    defined = getattr(importlib.import_module(module), name)
    assert catalog().losses.find_target(f"{defined.__module__}.{defined.__qualname__}") == entry


def test_gradient_reaches_the_prediction(entry, example):
    pred, gt = example(entry)
    pred = mapped(pred, lambda tensor: tensor.requires_grad_())
    lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)[0].backward()
    reached = [tensor.grad is not None and bool(tensor.grad.isfinite().all()) for tensor in tensors_in(pred)]
    assert any(reached) if entry.name in HALF_GRADIENTS else all(reached)


def test_the_batch_is_left_alone(entry, example):
    pred, gt = example(entry)
    before = mapped([pred, gt], torch.clone)
    lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, gt)
    assert all(map(torch.equal, tensors_in([pred, gt]), tensors_in(before)))


def test_summaries_are_one_line(entry):
    assert entry.spec.summary
    assert "\n" not in entry.spec.summary
    assert not entry.spec.summary.endswith(".")


def test_the_readme_counts_the_losses():
    rows = dict(re.findall(r"^\| `(\w+)/...` \|.*?\| (\d+) of \d+ \|", README.read_text(), re.MULTILINE))
    every = [*catalog().losses, *(entry for entry, _ in catalog().losses.absent)]
    counts = {name: sum(entry.plugin.name == name for entry in every) for name in rows}
    assert {name: int(count) for name, count in rows.items()} == counts
    assert set(counts) == {entry.plugin.name for entry in every if entry.plugin.distribution == "lossreg-wrappers"}


def test_the_readme_lists_what_masks_choose():
    text = README.read_text(encoding="utf-8")
    assert replaced(text) == text, "run `python -m lossreg_wrappers.listing README.md`"
    assert set(re.findall(r"`(\w+/\w+)`", listing())) >= set(specs())


def test_listing_imports_no_library():
    code = (
        "import sys, lossreg; assert lossreg.list_losses('torch/*'); "
        "libraries = 'torch torchvision monai kornia segmentation_models_pytorch auraloss piq lpips geomloss "
        "torchmetrics pytorch_metric_learning lightly timm'.split(); "
        "assert not set(libraries) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_losses_of_an_absent_library_are_known_and_say_how_to_get_them():
    for entry, reason in catalog().losses.absent:
        assert reason
        with pytest.raises(UnknownNameError, match="pip install"):
            catalog().losses.find(entry.name)
