"""What the specs say about each loss: its facts are complete, and the forms of its tensors are told in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from urllib.parse import urlsplit

import pytest
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.facts import Facts
from lossreg_wrappers.forms import FORMS, INDICES
from lossreg_wrappers.homes import homes
from lossreg_wrappers.listing import specs
from lossreg_wrappers.units import texts

from lossreg.registry.params import parameters

SPECS = specs()
HOSTS = {
    "torch": "docs.pytorch.org",
    "smp": "smp.readthedocs.io",
    "monai": "docs.monai.io",
    "kornia": "kornia.readthedocs.io",
    "torchvision": "docs.pytorch.org",
    "auraloss": "github.com",
    "piq": "piq.readthedocs.io",
    "lpips": "github.com",
    "coral": "raschka-research-group.github.io",
    "geomloss": "www.kernel-operations.io",
    "torchmetrics": "lightning.ai",
    "pml": "kevinmusgrave.github.io",
    "lightly": "docs.lightly.ai",
    "timm": "github.com",
}
INPUTS = {
    "torch/GaussianNLLLoss": {"var"},
    "monai/SSIMLoss": {"k"},
    "torchmetrics/spatial_distortion_index": {"ms", "pan", "pan_lr"},
}
"""What formulas write like a parameter and is none: an input of the loss, and `k1` and `k2` as `k` with an index."""


def test_every_loss_has_facts():
    fields = ("tasks", "words", "prediction", "ground_truth", "formula")
    assert [(name, field) for name, spec in SPECS.items() for field in fields if not getattr(spec, field)] == []


def test_the_page_is_the_librarys_own():
    for name, spec in SPECS.items():
        library, _, loss = name.partition("/")
        page = urlsplit(spec.url)
        assert (page.scheme, page.netloc) == ("https", HOSTS[library]), name
        # pytorch-metric-learning writes its anchors in lower case; timm has no page, only the module's source
        told = homes("timm.loss", loss)[0].replace(".", "/") if library == "timm" else loss.lower()
        assert told in f"{page.path}#{page.fragment}".lower(), name


def test_braces_and_delimiters_of_a_formula_are_balanced():
    for name, spec in SPECS.items():
        depths = [0]
        for brace in re.findall(r"[{}]", spec.formula):
            depths.append(depths[-1] + (1 if brace == "{" else -1))
        assert (depths[-1], min(depths)) == (0, 0), name
        assert len(re.findall(r"\\left\b", spec.formula)) == len(re.findall(r"\\right\b", spec.formula)), name
        assert spec.formula.count("(") == spec.formula.count(")"), name
        assert "$" not in spec.formula, name


def test_parameters_in_a_formula_are_parameters_of_the_loss(entry):
    written = {text.replace("\\", "") for text in re.findall(r"\\mathtt\{([^}]*)\}", entry.spec.formula)}
    assert written - INPUTS.get(entry.name, set()) <= {parameter.name for parameter in parameters(entry.load())}


def test_no_facts_are_of_a_loss_that_is_not_offered():
    tables = {library: import_module(f"lossreg_wrappers.{library}_facts").FACTS for library in HOSTS}
    assert {f"{library}/{name}" for library, table in tables.items() for name in table} == set(SPECS)


def test_named_inputs_are_told_with_their_keys():
    for name, spec in SPECS.items():
        inputs = spec.wrap.get("inputs", ())
        for key in inputs.values() if isinstance(inputs, Mapping) else inputs:
            for side, told in (("pred.", spec.prediction), ("gt.", spec.ground_truth)):
                assert not key.startswith(side) or f"`{key}`" in told, name


def test_the_words_agree_with_the_declared_forms():
    for name, spec in SPECS.items():
        if set(texts(spec.wrap.get("target", "values"))) <= set(INDICES):
            assert "class indices" in spec.ground_truth, name
        kinds = {form.rpartition(" ")[2] for form in texts(spec.wrap["takes"])}
        told = re.findall(r"(?<!-)\b(?:logits|probabilities)", spec.prediction)
        assert set(told) <= kinds, name


@pytest.mark.parametrize(
    ("loss", "prediction", "ground_truth"),
    [
        ("torch/L1", "values", "values (shape of the prediction)"),
        ("torch/BCE", "probabilities", "numbers from 0 to 1 (shape of the prediction)"),
        ("torch/CrossEntropy", "logits (N, C, ...)", "class indices (N, ...) or class probabilities (N, C, ...)"),
        (
            "torch/TripletMargin",
            "triplets of embeddings (N, D), at `pred.anchor`, `pred.positive`, `pred.negative`",
            "none",
        ),
        (
            "smp/Dice",
            "logits (N, C, ...), or probabilities (N, C, ...) with `from_logits: false`",
            'numbers from 0 to 1 (shape of the prediction), or class indices (N, ...) with `mode: "multiclass"`',
        ),
        (
            "monai/Dice",
            "probabilities (N, C, ...), or logits (N, C, ...) with `sigmoid: true` or `softmax: true`",
            "one-hot (N, C, ...), or class indices (N, 1, ...) with `to_onehot_y: true`",
        ),
        (
            "monai/DiceCE",
            "logits (N, C, ...) with `sigmoid: true` or `softmax: true` or `lambda_dice: 0.0`, "
            "or probabilities (N, C, ...) with `lambda_ce: 0.0`",
            "one-hot (N, C, ...), or class indices (N, 1, ...) with `to_onehot_y: true`",
        ),
        (
            "pml/TripletMargin",
            "embeddings (N, D), at `pred.embeddings`; optionally more, at `pred.ref_emb`",
            "class indices (N), at `gt.labels`; optionally more, at `gt.indices_tuple`, `gt.ref_labels`",
        ),
        (
            "lightly/CAPI",
            "scores of a network and of its teacher (N, T, K) for clusters of patches, at `pred.teacher`, "
            "`pred.student`",
            "none; optionally which of the teacher's patches (N, T') are predicted, at `gt.teacher_index`",
        ),
        ("monai/BoxGIoU", *("boxes (N, 4), each x1, y1, x2, y2; (N, 6) in volumes",) * 2),
    ],
)
def test_forms_in_words(loss: str, prediction: str, ground_truth: str):
    spec = SPECS[f"{loss}Loss"]
    assert (spec.prediction, spec.ground_truth) == (prediction, ground_truth)


def made(**facts: str):
    return library_loss(
        "library",
        "Loss",
        "a loss",
        {"takes": FORMS[0], "unit": "values"},
        facts={"Loss": Facts("regression", "L = 0", **facts)},
        page="https://library.org/{name}.html",
        example="values",
    )


def test_facts_take_the_place_of_the_form():
    assert made().prediction == "values"
    assert made(prediction="heights").prediction == "heights"
    assert made(words="one, two").words == ("one", "two")
    assert made().words == ()
    assert made().url == "https://library.org/Loss.html"
