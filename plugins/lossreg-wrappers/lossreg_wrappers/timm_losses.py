"""Plugin `timm`: every loss of `timm.loss`; imports neither timm nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_SCORES, _LABELS = "scores_and_classes", "lossreg_wrappers.embedding_examples:scores_and_labels"
_CLASSES: dict[str, Any] = {
    "tasks": ("classification",),
    "prediction": "logits (N, C)",
    "ground_truth": "class indices (N,), or probabilities of classes (N, C)",
}
_INDICES: dict[str, Any] = {**_CLASSES, "ground_truth": "class indices (N,)"}
_SEVERAL: dict[str, Any] = {
    "tasks": ("multi-label classification",),
    "prediction": "logits (N, C)",
    "ground_truth": "0 or 1 for each class, or a number between (N, C)",
}
_loss = partial(
    library_loss,
    "timm.loss",
    package="timm>=1.0.31",
    url="https://github.com/huggingface/pytorch-image-models/tree/main/timm/loss",
)

_MULTI_LABEL = {"takes": "sigmoid logits", "target": "mask"}
_BY_REDUCTION = {**_MULTI_LABEL, "unit": (({"reduction": "batchmean"}, "samples by batchmean"), ({}, "values"))}
_INDICES_OR_SHARES = {"takes": "softmax logits", "target": "indices or distribution"}


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
            words=("ASL", "imbalance", "focal"),
            formula=r"-\frac1N\sum_{n,c} y (1-p)^{\gamma_+}\log p + (1-y)\,p_m^{\gamma_-}\log(1-p_m),"
            r"\quad p_m=\max(p-m,0)",
            source="Ridnik et al. 2021, Asymmetric Loss for Multi-Label Classification, arXiv:2009.14119",
            **_SEVERAL,
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
            words=("ASL", "imbalance", "focal"),
            source="Ridnik et al. 2021, Asymmetric Loss for Multi-Label Classification, arXiv:2009.14119",
            **_INDICES,
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
            words=("BCE", "label smoothing", "mixup"),
            source="Wightman et al. 2021, ResNet strikes back, arXiv:2110.00476",
            tasks=("multi-label classification", "classification"),
            prediction="logits (N, C)",
            ground_truth="class indices (N,), or 0 or 1 for each class (N, C)",
        ),
        _loss(
            "DistributionBalancedLoss",
            "binary cross-entropy for long-tailed labels, weighted by how often each class occurs",
            _BY_REDUCTION,
            example=_LABELS,
            args={"class_counts": [10, 40, 5, 20], "num_samples": 50},
            words=("long tail", "imbalance"),
            source="Wu et al. 2020, Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets, "
            "arXiv:2007.09654",
            **_SEVERAL,
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
            words=("AugMix", "consistency", "JSD"),
            formula=r"\mathrm{CE}(p_1,y)+\alpha\,\mathrm{JS}(p_1;\dots;p_k)",
            source="Hendrycks et al. 2020, AugMix, arXiv:1912.02781",
            tasks=("classification",),
            prediction="logits (k N, C): `num_splits` parts of N, the first of clean images",
            ground_truth="class indices (k N,)",
        ),
        _loss(
            "LabelSmoothingCrossEntropy",
            "cross-entropy with label smoothing",
            {"takes": "softmax logits", "target": "indices", "unit": "samples by each_sample"},
            example=_SCORES,
            words=("label smoothing",),
            formula=r"-(1-\epsilon)\log p_y-\frac\epsilon C\sum_c\log p_c",
            source="Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567",
            **_INDICES,
        ),
        _loss(
            "PolyBinaryCrossEntropy",
            "PolyLoss of sigmoids: binary cross-entropy or focal loss, and a term linear in the probability",
            _BY_REDUCTION,
            example=_LABELS,
            words=("PolyLoss", "focal"),
            formula=r"\mathrm{FL}_\gamma(p_t)+\epsilon(1-p_t)^{\gamma+1}",
            source="Leng et al. 2022, PolyLoss, arXiv:2204.12511",
            **_SEVERAL,
        ),
        _loss(
            "PolyCrossEntropy",
            "PolyLoss of the softmax: cross-entropy and a term linear in the probability",
            {**_INDICES_OR_SHARES, "unit": "samples"},
            example=_SCORES,
            words=("PolyLoss", "label smoothing"),
            formula=r"-\log p_t+\epsilon(1-p_t)",
            source="Leng et al. 2022, PolyLoss, arXiv:2204.12511",
            **_CLASSES,
        ),
        _loss(
            "SoftTargetCrossEntropy",
            "cross-entropy from probabilities of classes, as mixup and CutMix make them",
            {"takes": "softmax logits", "target": "distribution", "unit": "samples by each_sample"},
            example="lossreg_wrappers.embedding_examples:scores_and_shares",
            words=("mixup", "CutMix", "soft labels", "distillation"),
            formula=r"-\sum_c y_c\log p_c",
            source="Zhang et al. 2018, mixup, arXiv:1710.09412",
            tasks=("classification", "distillation"),
            prediction="logits (N, C)",
            ground_truth="probabilities of classes (N, C)",
        ),
        _loss(
            "TwoWayLoss",
            "contrast of positive and negative logits, over the classes of a sample and the samples of a class",
            {**_MULTI_LABEL, "unmasked": "it compares every sample of the batch with the others; use timm/ZlprLoss"},
            example=_LABELS,
            words=("ranking",),
            source="Kobayashi 2023, Two-Way Multi-Label Loss, CVPR",
            **_SEVERAL,
        ),
        _loss(
            "ZlprLoss",
            "each positive logit above each negative one, with 0 as the threshold between them",
            {**_MULTI_LABEL, "unit": "samples by each_sample"},
            example=_LABELS,
            words=("ranking",),
            formula=r"\log\bigl(1+\sum_{i\in P}e^{-s_i}\bigr)+\log\bigl(1+\sum_{j\in N}e^{s_j}\bigr)",
            source="Su et al. 2022, ZLPR, arXiv:2208.02955",
            **_SEVERAL,
        ),
    )
