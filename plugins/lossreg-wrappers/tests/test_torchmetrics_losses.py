"""Plugin `torchmetrics`: every differentiable functional, with its values and gradients as a loss."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from inspect import signature

import pytest
import torch
from lossreg_wrappers.examples import pansharpening

import lossreg
from lossreg.registry import catalog

PLUGIN = "torchmetrics"

_OF_LABELS = "it compares cluster labels, which have no gradient"
_OF_CLUSTERS = "it judges a clustering of a whole data set, and is not defined for a batch without one of the clusters"
_SIGMOID = "whether it applies a sigmoid or a softmax depends on the values of the batch; use torch/MultiMarginLoss"
NOT_OFFERED = {
    **dict.fromkeys(["binary_hinge_loss", "multiclass_hinge_loss"], _SIGMOID),
    **dict.fromkeys(
        [
            "adjusted_mutual_info_score",
            "adjusted_rand_score",
            "completeness_score",
            "fowlkes_mallows_index",
            "homogeneity_score",
            "mutual_info_score",
            "normalized_mutual_info_score",
            "rand_score",
            "v_measure_score",
        ],
        _OF_LABELS,
    ),
    **dict.fromkeys(["calinski_harabasz_score", "davies_bouldin_score", "dunn_index"], _OF_CLUSTERS),
    "deep_image_structure_and_texture_similarity": "it builds its network anew in every call; use piq/DISTS",
    "hausdorff_distance": "it takes masks of true and false and has no gradient; use monai/HausdorffDTLoss",
    "learned_perceptual_image_patch_similarity": "it builds its network anew in every call; use lpips/LPIPS",
    "visual_information_fidelity": "its gradient fails, since it changes tensors in place; use piq/VIFLoss",
}
DOMAINS = (
    *("audio", "classification", "clustering", "detection", "image", "multimodal", "nominal", "regression"),
    *("retrieval", "segmentation", "shape", "text"),
)

OF_TORCHVISION = {"learned_perceptual_image_patch_similarity"}
"""What torchmetrics has only beside torchvision."""

# what each score is offered as; the test's own list
DECIBELS = {
    "complex_scale_invariant_signal_noise_ratio",
    "peak_signal_noise_ratio",
    "peak_signal_noise_ratio_with_blocked_effect",
    "permutation_invariant_training",
    "scale_invariant_signal_distortion_ratio",
    "scale_invariant_signal_noise_ratio",
    "signal_distortion_ratio",
    "signal_noise_ratio",
    "source_aggregated_signal_distortion_ratio",
}
SCORES = {
    "concordance_corrcoef",
    "cosine_similarity",
    "explained_variance",
    "multiscale_structural_similarity_index_measure",
    "pearson_corrcoef",
    "quality_with_no_reference",
    "r2_score",
    "spatial_correlation_coefficient",
    "structural_similarity_index_measure",
    "universal_image_quality_index",
}
# torchmetrics declares no direction for these, or the wrong one: two images of the same spectra have an index of 0
DIRECTIONS = {
    "pearson_corrcoef": True,
    "permutation_invariant_training": True,
    "spectral_distortion_index": False,
    "tweedie_deviance_score": False,
}


def _functional(metric: type) -> str:
    """Return the name of a metric's functional."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", metric.__name__).lower()
    return name.replace("corr_coef", "corrcoef").replace("multi_scale_", "multiscale_")


def _differentiable():
    """Return the metrics that torchmetrics declares differentiable, by the name of their functional."""
    from torchmetrics import Metric

    found = {}
    for domain in DOMAINS:
        module = import_module(f"torchmetrics.{domain}")
        for name in module.__all__:
            metric = getattr(module, name)
            if isinstance(metric, type) and issubclass(metric, Metric) and metric.is_differentiable:
                found[_functional(metric)] = metric
    return found


def _public(name):
    (entry,) = [e for e in catalog().losses if e.name == f"torchmetrics/{name}"]
    module, _, _ = entry.spec.targets[0].rpartition(".")
    return getattr(import_module(module), name)


def _offered():
    return {entry.spec.name for entry in catalog().losses if entry.plugin.name == "torchmetrics"}


def test_every_differentiable_functional_is_offered():
    absent = set() if find_spec("torchvision") else OF_TORCHVISION
    assert set(_differentiable()) == (_offered() | set(NOT_OFFERED)) - absent
    assert not _offered() & set(NOT_OFFERED)


def test_a_score_of_which_more_is_better_is_turned_round():
    better = {name: metric.higher_is_better for name, metric in _differentiable().items()} | DIRECTIONS
    assert {name for name in _offered() if better[name]} == DECIBELS | SCORES
    for entry in catalog().losses:
        if entry.plugin.name == "torchmetrics":
            assert entry.spec.summary.startswith("minus ") is (entry.spec.name in DECIBELS)
            assert entry.spec.summary.startswith("one minus ") is (entry.spec.name in SCORES)


def test_the_same_spectra_have_no_spectral_distortion():
    image = torch.rand(2, 3, 16, 16)
    assert lossreg.create_loss("torchmetrics/spectral_distortion_index")(image, image)[0] == 0


def _of_library(name, pred, gt, arguments):
    """Return the library's own score, and the loss that it is offered as."""
    tensors = [*pred.values(), *gt.values()]
    options = {key: tuple(value) if key == "betas" else value for key, value in arguments.items()}
    if name == "permutation_invariant_training":
        from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

        options["metric_func"] = scale_invariant_signal_distortion_ratio
    if name == "cosine_similarity":
        options["reduction"] = "mean"
    result = _public(name)(*tensors, **options)
    score = (result[0] if isinstance(result, tuple) else result).mean()
    return -score if name in DECIBELS else 1 - score if name in SCORES else score


def test_value_and_gradient_are_the_librarys(entry, example):
    pred, gt = example(entry)
    (key,) = pred
    ours, own = (pred[key].clone().requires_grad_() for _ in range(2))
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)({key: ours}, gt)
    expected = _of_library(entry.spec.name, {key: own}, gt, entry.spec.example_args)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, ours)[0], torch.autograd.grad(expected, own)[0])


def test_value_in_a_multi_loss_is_the_librarys(entry, example, term):
    pred, gt = example(entry)
    public = _public(entry.spec.name)
    criterion = term({"_target_": f"{public.__module__}.{public.__name__}", **entry.spec.example_args})
    expected = _of_library(entry.spec.name, pred, gt, entry.spec.example_args)
    torch.testing.assert_close(criterion(pred, gt)[0], expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cosine_similarity", {}),
        ("spatial_correlation_coefficient", {}),
        ("structural_similarity_index_measure", {"data_range": 1.0}),
        ("universal_image_quality_index", {}),
    ],
)
@pytest.mark.parametrize("reduction", ["sum", "none", "median"])
def test_scores_of_samples_have_the_reductions_of_torch(name, arguments, reduction):
    from lossreg_wrappers import torchmetrics_modules

    shape = (4, 6) if name == "cosine_similarity" else (4, 3, 16, 16)
    function, images = getattr(torchmetrics_modules, name), (torch.rand(shape), torch.rand(shape))
    if reduction == "median":
        with pytest.raises(ValueError, match="reduction: expected mean, sum or none, found 'median'"):
            function(*images, **arguments, reduction=reduction)
        return
    values = function(*images, **arguments, reduction="none")
    each = torch.stack([function(a[None], b[None], **arguments) for a, b in zip(*images, strict=True)])
    torch.testing.assert_close(values, each)
    torch.testing.assert_close(function(*images, **arguments, reduction=reduction), _as(reduction, each))


def _as(reduction, values):
    return values.sum() if reduction == "sum" else values


def test_parameters_are_the_librarys():
    renamed = {"permutation_invariant_training": {"metric_func", "mode", "eval_func", "kwargs"}}
    without = {"peak_signal_noise_ratio": {"reduction", "dim"}, "quality_with_no_reference": {"reduction"}}
    full = {"return_full_image", "return_contrast_sensitivity"}
    without["structural_similarity_index_measure"] = full
    for name in DECIBELS | SCORES:
        adapted = catalog().losses.find(f"torchmetrics/{name}").load()
        own, ours = signature(_public(name)).parameters, signature(adapted).parameters
        if isinstance(adapted, type):
            ours = {**signature(adapted.forward).parameters, **ours}
            ours.pop("self")
        left_out = renamed.get(name, set()) | without.get(name, set())
        assert set(own) - left_out == set(ours) - {"metric"}
        for parameter in ours:
            if parameter in own and parameter != "reduction":
                assert ours[parameter].default == own[parameter].default, name


def test_the_gradient_of_visual_information_fidelity_fails():
    from torchmetrics.functional.image import visual_information_fidelity

    image = torch.rand(1, 1, 48, 48, requires_grad=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        visual_information_fidelity(image, torch.rand(1, 1, 48, 48)).backward()


@pytest.mark.parametrize("name", ["quality_with_no_reference", "spatial_distortion_index"])
def test_the_reduced_panchromatic_image_may_be_left_to_torchvision(name):
    pytest.importorskip("torchvision")
    pred, gt = pansharpening()
    del gt["pan_lr"]
    value, _ = lossreg.create_loss(f"torchmetrics/{name}")(pred, gt)
    torch.testing.assert_close(value, _of_library(name, pred, gt, {}))


@pytest.mark.parametrize("sources", [2, 3])
def test_the_order_of_sources_does_not_matter(sources):
    pred, gt = torch.randn(2, sources, 64), torch.randn(2, sources, 64)
    loss = lossreg.create_loss("torchmetrics/permutation_invariant_training", metric="signal_noise_ratio")
    torch.testing.assert_close(loss(pred, gt)[0], loss(pred.flip(1), gt)[0])
