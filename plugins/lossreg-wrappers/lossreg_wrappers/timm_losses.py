"""Plugin `timm`: every loss of `timm.loss`; imports neither timm nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.homes import homes
from lossreg_wrappers.timm_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_PAGES = "https://github.com/huggingface/pytorch-image-models/blob/main/"
_SCORES, _LABELS = "scores_and_classes", "lossreg_wrappers.embedding_examples:scores_and_labels"
_MULTI_LABEL = {"takes": "sigmoid logits", "target": "mask"}
_BY_REDUCTION = {**_MULTI_LABEL, "unit": (({"reduction": "batchmean"}, "samples by batchmean"), ({}, "values"))}
_INDICES_OR_SHARES = {"takes": "softmax logits", "target": "indices or distribution"}


def _loss(name: str, summary: str, wrap: dict[str, Any], **options: Any) -> LossSpec:
    return library_loss(
        "timm.loss",
        name,
        summary,
        wrap,
        facts=FACTS,
        page=f"{_PAGES}{homes('timm.loss', name)[0].replace('.', '/')}.py",
        package="timm>=1.0.31",
        **options,
    )


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `timm.loss`, sorted by name."""
    return (
        _loss(
            "AsymmetricLossMultiLabel",
            "asymmetric focal loss (ASL): easy negatives count less than positives, and very easy ones not at all",
            _BY_REDUCTION,
            tensors=("weight", "pos_weight"),
            example=_LABELS,
        ),
        _loss(
            "AsymmetricLossSingleLabel",
            "asymmetric focal loss (ASL) of the softmax, with label smoothing",
            {
                "takes": "softmax logits",
                "target": "indices",
                "unit": (({"reduction": "sum"}, "none"), ({}, "samples")),
                "unmasked": "with `reduction: sum` the library does not reduce it; leave that out",
            },
            example=_SCORES,
        ),
        _loss(
            "BinaryCrossEntropy",
            "binary cross-entropy of logits for class indices or several labels, with label smoothing",
            {
                **_INDICES_OR_SHARES,
                "takes": "sigmoid logits",
                "unit": (({"sum_classes": True}, "none"), ({}, "samples by sample")),
                "unmasked": "with `sum_classes` it returns one number; leave that out",
            },
            tensors=("weight", "pos_weight"),
            example=_SCORES,
        ),
        _loss(
            "DistributionBalancedLoss",
            "binary cross-entropy for long-tailed labels, weighted by how often each class occurs",
            # the weight of a label depends on the others of its sample
            {**_MULTI_LABEL, "unit": (({"reduction": "batchmean"}, "samples by batchmean"), ({}, "samples by sample"))},
            example=_LABELS,
            args={"class_counts": [10, 40, 5, 20], "num_samples": 50},
        ),
        _loss(
            "JsdCrossEntropy",
            "cross-entropy of clean images and the Jensen-Shannon divergence between them and their augmentations",
            {
                "takes": "softmax logits",
                "target": "indices",
                "unmasked": "its batch consists of parts that belong together, clean and augmented; leave samples out "
                "of the batch instead",
            },
            example="lossreg_wrappers.embedding_examples:augmented_scores",
        ),
        _loss(
            "LabelSmoothingCrossEntropy",
            "cross-entropy with label smoothing",
            {"takes": "softmax logits", "target": "indices", "unit": "samples by each_sample"},
            example=_SCORES,
        ),
        _loss(
            "PolyBinaryCrossEntropy",
            "PolyLoss of sigmoids: binary cross-entropy or focal loss, and a term linear in the probability",
            _BY_REDUCTION,
            example=_LABELS,
        ),
        _loss(
            "PolyCrossEntropy",
            "PolyLoss of the softmax: cross-entropy and a term linear in the probability",
            {**_INDICES_OR_SHARES, "unit": "samples"},
            example=_SCORES,
        ),
        _loss(
            "SoftTargetCrossEntropy",
            "cross-entropy from probabilities of classes, as mixup and CutMix make them",
            {"takes": "softmax logits", "target": "distribution", "unit": "samples by each_sample"},
            example="lossreg_wrappers.embedding_examples:scores_and_shares",
        ),
        _loss(
            "TwoWayLoss",
            "contrast of positive and negative logits, over the classes of a sample and the samples of a class",
            {**_MULTI_LABEL, "unmasked": "it compares every sample of the batch with the others; use timm/ZlprLoss"},
            example=_LABELS,
        ),
        _loss(
            "ZlprLoss",
            "each positive logit above each negative one, with 0 as the threshold between them",
            {**_MULTI_LABEL, "unit": "samples by each_sample"},
            example=_LABELS,
        ),
    )
