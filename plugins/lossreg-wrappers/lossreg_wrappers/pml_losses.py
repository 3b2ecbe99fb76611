"""Plugin `pml`: the losses of pytorch-metric-learning; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.pml_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_MODULE = "pytorch_metric_learning.losses"
_COMPARES = "it compares every sample of the batch with the others; leave samples out of the batch instead"
_LABELS = {"embeddings": "pred.embeddings", "labels": "gt.labels"}
_PAIRS = {**_LABELS, "indices_tuple": "gt.indices_tuple", "ref_emb": "pred.ref_emb", "ref_labels": "gt.ref_labels"}
_REFERENCES = ("indices_tuple", "ref_emb", "ref_labels")


def _loss(name: str, summary: str, wrap: dict[str, Any], example: str = "embeddings", **options: Any) -> LossSpec:
    return library_loss(
        _MODULE,
        name,
        summary,
        {"takes": "values", "unmasked": _COMPARES, **wrap},
        target=f"lossreg_wrappers.pml_modules:{name}",
        facts=FACTS,
        page=f"https://kevinmusgrave.github.io/pytorch-metric-learning/losses/#{name.lower()}",
        package="pytorch-metric-learning>=2.9",
        example=f"lossreg_wrappers.embedding_examples:{example}",
        **options,
    )


def _of_pairs(name: str, summary: str, **options: Any) -> LossSpec:
    """Return the spec of a loss of pairs or triplets, which a miner may choose."""
    return _loss(name, summary, {"inputs": _PAIRS, "optional_inputs": _REFERENCES}, **options)


def _of_batch(name: str, summary: str, *, mined: bool = True, **options: Any) -> LossSpec:
    """Return the spec of a loss of a whole batch, without references."""
    if not mined:
        return _loss(name, summary, {"inputs": _LABELS}, **options)
    inputs = {**_LABELS, "indices_tuple": "gt.indices_tuple"}
    return _loss(name, summary, {"inputs": inputs, "optional_inputs": ("indices_tuple",)}, **options)


def _of_classes(name: str, summary: str, *, counts: bool = True, **options: Any) -> LossSpec:
    """Return the spec of a loss with a parameter for each class; see `lossreg_wrappers.readers.PmlClasses`."""
    wrap: dict[str, Any] = {"inputs": tuple(_LABELS.values()), "target": "indices", "classes": "classes", "place": 1}
    if counts:
        wrap["unit"] = "samples by pml_classes"
        wrap["unmasked"] = "with a miner, a regularizer or another reducer it is no mean over samples; leave that out"
    options = {"args": {"num_classes": 4, "embedding_size": 6}, **options}
    return _loss(name, f"{summary}; has parameters to train", wrap, **options)


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `pytorch_metric_learning.losses`."""
    return (*_pairs(), *_batches(), *_classes(), *_views())


def _pairs() -> Sequence[LossSpec]:
    return (
        _of_pairs("AngularLoss", "angle at the negative of each triplet"),
        _of_pairs("CircleLoss", "pairs weighted by how far their similarity is from its optimum"),
        _of_pairs("ContrastiveLoss", "positive pairs near each other, negative pairs at least a margin apart"),
        _of_pairs("GeneralizedLiftedStructureLoss", "lifted structure over all pairs of an anchor, by log-sum-exp"),
        _of_pairs(
            "IntraPairVarianceLoss",
            "variance of the similarities of positive and of negative pairs; use it beside another loss",
        ),
        _of_pairs("LiftedStructureLoss", "each positive pair against all negatives of both of its samples"),
        _of_pairs(
            "MarginLoss",
            "margin around a boundary between positive and negative distances, which may be learned (learn_beta)",
        ),
        _of_pairs("MultiSimilarityLoss", "pairs weighted by their own and their relative similarity"),
        _of_pairs(
            "NCALoss", "neighbourhood components analysis: the nearest neighbour, drawn by distance, has the same class"
        ),
        _of_pairs("NTXentLoss", "normalised temperature-scaled cross-entropy, InfoNCE with labels"),
        _of_pairs("SignalToNoiseRatioContrastiveLoss", "contrastive loss of a distance that is a ratio of variances"),
        _of_pairs("SupConLoss", "supervised contrastive learning: all samples of a class are positives"),
        _of_pairs(
            "ThresholdConsistentMarginLoss",
            "hard pairs kept to one threshold for all classes; use it beside another loss",
        ),
        _of_pairs(
            "TripletMarginLoss",
            "the positive of a triplet nearer than its negative by a margin; all triplets of the batch, or a miner's",
        ),
        _of_pairs("TupletMarginLoss", "each positive pair against all negatives of its anchor, with an angular margin"),
        _loss(
            "CrossBatchMemory",
            "another loss (`loss: {name: ContrastiveLoss}`) against embeddings of earlier batches",
            {
                "inputs": {**_LABELS, "indices_tuple": "gt.indices_tuple", "enqueue_mask": "gt.enqueue_mask"},
                "optional_inputs": ("indices_tuple", "enqueue_mask"),
            },
            args={"loss": "ContrastiveLoss", "embedding_size": 6, "memory_size": 16},
        ),
    )


def _batches() -> Sequence[LossSpec]:
    return (
        _of_pairs("DynamicSoftMarginLoss", "triplets weighted by the histogram of their margins so far"),
        _of_batch("FastAPLoss", "average precision of the ranking by distance, by histograms"),
        _of_batch(
            "HistogramLoss", "overlap of the histograms of positive and of negative similarities", args={"n_bins": 20}
        ),
        _of_batch("InstanceLoss", "each sample a class of its own", mined=False),
        _of_batch("NPairsLoss", "one positive pair of each class against those of the others"),
        _of_batch("PNPLoss", "a penalty on negatives that are ranked before positives"),
        _of_batch(
            "RankedListLoss",
            "positives within a radius, negatives beyond it by a margin",
            mined=False,
            args={"margin": 0.4, "Tn": 1.0},
        ),
        _of_batch(
            "SmoothAPLoss",
            "average precision of the ranking, with sigmoids for steps; each class as often as the others in a batch",
            mined=False,
        ),
        _loss(
            "ManifoldLoss",
            "random walks over embeddings and proxies, without labels; has parameters to train",
            {"inputs": ("pred.embeddings",)},
            "lone_embeddings",
            args={"l": 6, "K": 3},
        ),
    )


def _classes() -> Sequence[LossSpec]:
    return (
        _of_classes("ArcFaceLoss", "cross-entropy of cosines to class centres, with a margin added to the angle"),
        _of_classes("CosFaceLoss", "cross-entropy of cosines to class centres, with a margin taken off the cosine"),
        _of_classes("LargeMarginSoftmaxLoss", "cross-entropy of products with class centres, with a multiplied angle"),
        _of_classes("NormalizedSoftmaxLoss", "cross-entropy of cosines to class centres"),
        _of_classes(
            "P2SGradLoss",
            "squared error of the cosines to class centres",
            counts=False,
            args={"descriptors_dim": 6, "num_classes": 4},
        ),
        _of_classes("ProxyAnchorLoss", "each class's proxy against all samples of the batch", counts=False),
        _of_classes(
            "ProxyNCALoss", "neighbourhood components analysis with a learned proxy for each class", counts=False
        ),
        _of_classes("SoftTripleLoss", "cross-entropy of similarities to several learned centres of each class"),
        _of_classes("SphereFaceLoss", "cross-entropy of cosines to class centres, with a multiplied angle"),
        _of_classes("SubCenterArcFaceLoss", "ArcFace with several centres for each class, for noisy labels"),
    )


def _views() -> Sequence[LossSpec]:
    views = {"inputs": {"embeddings": "pred.embeddings", "ref_emb": "pred.ref_emb"}}
    return (
        _loss(
            "SelfSupervisedLoss",
            "another loss (`loss: {name: NTXentLoss}`) whose positive pairs are two views of a sample",
            views,
            "two_embeddings",
            args={"loss": "NTXentLoss"},
        ),
        _loss(
            "VICRegLoss",
            "VICReg: two views alike, each feature with some variance, features not correlated",
            views,
            "two_embeddings",
        ),
    )
