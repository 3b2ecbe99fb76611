"""Plugin `pml`: the losses of pytorch-metric-learning; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_MODULE = "pytorch_metric_learning.losses"
_COMPARES = "it compares every sample of the batch with the others; leave samples out of the batch instead"
_LABELS = {"embeddings": "pred.embeddings", "labels": "gt.labels"}
_PAIRS = {
    **_LABELS,
    "indices_tuple": "gt.indices_tuple",
    "ref_emb": "pred.ref_emb",
    "ref_labels": "gt.ref_labels",
}
_REFERENCES = ("indices_tuple", "ref_emb", "ref_labels")


def _loss(name: str, summary: str, wrap: dict[str, Any], example: str = "embeddings", **options: Any) -> LossSpec:
    options = {"prediction": "embeddings (N, D)", "ground_truth": "class indices (N,)", **options}
    return library_loss(
        _MODULE,
        name,
        summary,
        {"takes": "values", "unmasked": _COMPARES, **wrap},
        target=f"lossreg_wrappers.pml_modules:{name}",
        package="pytorch-metric-learning>=2.9",
        example=f"lossreg_wrappers.embedding_examples:{example}",
        tasks=("metric learning",),
        url=f"https://kevinmusgrave.github.io/pytorch-metric-learning/losses/#{name.lower()}",
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
    wrap: dict[str, Any] = {
        "inputs": tuple(_LABELS.values()),
        "target": "indices",
        "classes": "classes",
        "place": 1,
    }
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
        _of_pairs(
            "AngularLoss",
            "angle at the negative of each triplet",
            words=("triplet",),
            source="Wang et al. 2017, Deep Metric Learning with Angular Loss, arXiv:1708.01682",
        ),
        _of_pairs(
            "CircleLoss",
            "pairs weighted by how far their similarity is from its optimum",
            words=("contrastive", "face recognition"),
            source="Sun et al. 2020, Circle Loss, arXiv:2002.10857",
        ),
        _of_pairs(
            "ContrastiveLoss",
            "positive pairs near each other, negative pairs at least a margin apart",
            words=("siamese",),
            formula=r"[d_p-m_+]_++[m_--d_n]_+",
            source="Hadsell et al. 2006, Dimensionality Reduction by Learning an Invariant Mapping, CVPR",
        ),
        _of_pairs(
            "GeneralizedLiftedStructureLoss",
            "lifted structure over all pairs of an anchor, by log-sum-exp",
            words=("lifted structure",),
            source="Hermans et al. 2017, In Defense of the Triplet Loss, arXiv:1703.07737",
        ),
        _of_pairs(
            "IntraPairVarianceLoss",
            "variance of the similarities of positive and of negative pairs; use it beside another loss",
            words=("variance",),
            source="Yu and Tao 2019, Deep Metric Learning with Tuplet Margin Loss, ICCV",
        ),
        _of_pairs(
            "LiftedStructureLoss",
            "each positive pair against all negatives of both of its samples",
            words=("lifted structure",),
            source="Song et al. 2016, Deep Metric Learning via Lifted Structured Feature Embedding, arXiv:1511.06452",
        ),
        _of_pairs(
            "MarginLoss",
            "margin around a boundary between positive and negative distances, which may be learned (learn_beta)",
            words=("triplet",),
            source="Wu et al. 2017, Sampling Matters in Deep Embedding Learning, arXiv:1706.07567",
        ),
        _of_pairs(
            "MultiSimilarityLoss",
            "pairs weighted by their own and their relative similarity",
            words=("contrastive",),
            source="Wang et al. 2019, Multi-Similarity Loss, arXiv:1904.06627",
        ),
        _of_pairs(
            "NCALoss",
            "neighbourhood components analysis: the nearest neighbour, drawn by distance, has the same class",
            words=("nearest neighbour",),
            source="Goldberger et al. 2004, Neighbourhood Components Analysis, NIPS",
        ),
        _of_pairs(
            "NTXentLoss",
            "normalised temperature-scaled cross-entropy, InfoNCE with labels",
            words=("contrastive", "SimCLR", "InfoNCE"),
            formula=r"-\log\frac{e^{s_p/\tau}}{e^{s_p/\tau}+\sum_n e^{s_n/\tau}}",
            source="van den Oord et al. 2018, Contrastive Predictive Coding, arXiv:1807.03748",
        ),
        _of_pairs(
            "SignalToNoiseRatioContrastiveLoss",
            "contrastive loss of a distance that is a ratio of variances",
            words=("contrastive", "SNR"),
            source="Yuan et al. 2019, Signal-to-Noise Ratio, arXiv:1904.02616",
        ),
        _of_pairs(
            "SupConLoss",
            "supervised contrastive learning: all samples of a class are positives",
            words=("contrastive", "supervised contrastive"),
            formula=r"\frac{-1}{|P|}\sum_{p\in P}\log\frac{e^{s_p/\tau}}{\sum_{a}e^{s_a/\tau}}",
            source="Khosla et al. 2020, Supervised Contrastive Learning, arXiv:2004.11362",
        ),
        _of_pairs(
            "ThresholdConsistentMarginLoss",
            "hard pairs kept to one threshold for all classes; use it beside another loss",
            words=("threshold", "calibration"),
            source="Zhang et al. 2024, Threshold-Consistent Margin Loss, arXiv:2307.04047",
        ),
        _of_pairs(
            "TripletMarginLoss",
            "the positive of a triplet nearer than its negative by a margin; all triplets of the batch, or a miner's",
            words=("triplet", "FaceNet"),
            formula=r"[d_{ap}-d_{an}+m]_+",
            source="Schroff et al. 2015, FaceNet, arXiv:1503.03832",
        ),
        _of_pairs(
            "TupletMarginLoss",
            "each positive pair against all negatives of its anchor, with an angular margin",
            words=("triplet",),
            source="Yu and Tao 2019, Deep Metric Learning with Tuplet Margin Loss, ICCV",
        ),
        _loss(
            "CrossBatchMemory",
            "another loss (`loss: {name: ContrastiveLoss}`) against embeddings of earlier batches",
            {
                "inputs": {
                    **_LABELS,
                    "indices_tuple": "gt.indices_tuple",
                    "enqueue_mask": "gt.enqueue_mask",
                },
                "optional_inputs": ("indices_tuple", "enqueue_mask"),
            },
            args={"loss": "ContrastiveLoss", "embedding_size": 6, "memory_size": 16},
            words=("memory bank", "XBM"),
            source="Wang et al. 2020, Cross-Batch Memory, arXiv:1912.06798",
        ),
    )


def _batches() -> Sequence[LossSpec]:
    return (
        _of_pairs(
            "DynamicSoftMarginLoss",
            "triplets weighted by the histogram of their margins so far",
            words=("triplet", "descriptors"),
            source="Zhang and Rusinkiewicz 2019, Learning Local Descriptors With a CDF-Based Dynamic Soft Margin, ICCV",
        ),
        _of_batch(
            "FastAPLoss",
            "average precision of the ranking by distance, by histograms",
            words=("ranking", "retrieval", "average precision"),
            source="Cakir et al. 2019, Deep Metric Learning to Rank, CVPR",
        ),
        _of_batch(
            "HistogramLoss",
            "overlap of the histograms of positive and of negative similarities",
            args={"n_bins": 20},
            words=("histogram",),
            source="Ustinova and Lempitsky 2016, Learning Deep Embeddings with Histogram Loss, arXiv:1611.00822",
        ),
        _of_batch(
            "InstanceLoss",
            "each sample a class of its own",
            mined=False,
            words=("retrieval",),
            source="Zheng et al. 2020, Dual-Path Convolutional Image-Text Embeddings, arXiv:1711.05535",
        ),
        _of_batch(
            "NPairsLoss",
            "one positive pair of each class against those of the others",
            words=("contrastive",),
            source="Sohn 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS",
        ),
        _of_batch(
            "PNPLoss",
            "a penalty on negatives that are ranked before positives",
            words=("ranking", "retrieval"),
            source="Li et al. 2021, Rethinking the Optimization of Average Precision, arXiv:2102.04640",
        ),
        _of_batch(
            "RankedListLoss",
            "positives within a radius, negatives beyond it by a margin",
            mined=False,
            args={"margin": 0.4, "Tn": 1.0},
            words=("ranking", "retrieval"),
            source="Wang et al. 2019, Ranked List Loss, arXiv:1903.03238",
        ),
        _of_batch(
            "SmoothAPLoss",
            "average precision of the ranking, with sigmoids for steps; each class as often as the others in a batch",
            mined=False,
            words=("ranking", "retrieval", "average precision"),
            source="Brown et al. 2020, Smooth-AP, arXiv:2007.12163",
        ),
        _loss(
            "ManifoldLoss",
            "random walks over embeddings and proxies, without labels; has parameters to train",
            {"inputs": ("pred.embeddings",)},
            "lone_embeddings",
            args={"l": 6, "K": 3},
            ground_truth="none",
            words=("proxy", "unsupervised"),
            source="Aziere and Todorovic 2019, Ensemble Deep Manifold Similarity Learning, CVPR",
        ),
    )


def _classes() -> Sequence[LossSpec]:
    face = ("face recognition", "speaker verification", "margin softmax")
    proxy = ("proxy",)
    return (
        _of_classes(
            "ArcFaceLoss",
            "cross-entropy of cosines to class centres, with a margin added to the angle",
            words=face,
            formula=r"-\log\frac{e^{s\cos(\theta_y+m)}}{e^{s\cos(\theta_y+m)}+\sum_{j\ne y}e^{s\cos\theta_j}}",
            source="Deng et al. 2019, ArcFace, arXiv:1801.07698",
        ),
        _of_classes(
            "CosFaceLoss",
            "cross-entropy of cosines to class centres, with a margin taken off the cosine",
            words=face,
            formula=r"-\log\frac{e^{s(\cos\theta_y-m)}}{e^{s(\cos\theta_y-m)}+\sum_{j\ne y}e^{s\cos\theta_j}}",
            source="Wang et al. 2018, CosFace, arXiv:1801.09414",
        ),
        _of_classes(
            "LargeMarginSoftmaxLoss",
            "cross-entropy of products with class centres, with a multiplied angle",
            words=face,
            source="Liu et al. 2016, Large-Margin Softmax Loss, arXiv:1612.02295",
        ),
        _of_classes(
            "NormalizedSoftmaxLoss",
            "cross-entropy of cosines to class centres",
            words=proxy,
            source="Zhai and Wu 2019, Classification is a Strong Baseline for Deep Metric Learning, arXiv:1811.12649",
        ),
        _of_classes(
            "P2SGradLoss",
            "squared error of the cosines to class centres",
            counts=False,
            args={"descriptors_dim": 6, "num_classes": 4},
            words=face,
            source="Zhang et al. 2019, P2SGrad, arXiv:1905.02479",
        ),
        _of_classes(
            "ProxyAnchorLoss",
            "each class's proxy against all samples of the batch",
            counts=False,
            words=proxy,
            source="Kim et al. 2020, Proxy Anchor Loss, arXiv:2003.13911",
        ),
        _of_classes(
            "ProxyNCALoss",
            "neighbourhood components analysis with a learned proxy for each class",
            counts=False,
            words=proxy,
            source="Movshovitz-Attias et al. 2017, No Fuss Distance Metric Learning using Proxies, arXiv:1703.07464",
        ),
        _of_classes(
            "SoftTripleLoss",
            "cross-entropy of similarities to several learned centres of each class",
            words=("proxy", "triplet"),
            source="Qian et al. 2019, SoftTriple Loss, arXiv:1909.05235",
        ),
        _of_classes(
            "SphereFaceLoss",
            "cross-entropy of cosines to class centres, with a multiplied angle",
            words=face,
            source="Liu et al. 2017, SphereFace, arXiv:1704.08063",
        ),
        _of_classes(
            "SubCenterArcFaceLoss",
            "ArcFace with several centres for each class, for noisy labels",
            words=face,
            source="Deng et al. 2020, Sub-center ArcFace, ECCV",
        ),
    )


def _views() -> Sequence[LossSpec]:
    views = {"inputs": {"embeddings": "pred.embeddings", "ref_emb": "pred.ref_emb"}}
    two = {"prediction": "embeddings (N, D) of two views", "ground_truth": "none"}
    return (
        _loss(
            "SelfSupervisedLoss",
            "another loss (`loss: {name: NTXentLoss}`) whose positive pairs are two views of a sample",
            views,
            "two_embeddings",
            args={"loss": "NTXentLoss"},
            words=("self-supervised", "contrastive", "SimCLR"),
            source="Chen et al. 2020, SimCLR, arXiv:2002.05709",
            **two,
        ),
        _loss(
            "VICRegLoss",
            "VICReg: two views alike, each feature with some variance, features not correlated",
            views,
            "two_embeddings",
            words=("self-supervised", "variance", "covariance"),
            source="Bardes et al. 2022, VICReg, arXiv:2105.04906",
            **two,
        ),
    )
