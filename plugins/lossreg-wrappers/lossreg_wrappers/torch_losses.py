"""Plugin `torch`: every loss of `torch.nn`; does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.torch_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_OBSOLETE = ("size_average", "reduce")

_loss = partial(
    library_loss,
    "torch.nn",
    also_in=("torch.nn.modules.loss",),
    hidden=_OBSOLETE,
    facts=FACTS,
    page="https://docs.pytorch.org/docs/stable/generated/torch.nn.{name}.html",
)

_VALUES = {"takes": "values", "target": "values", "unit": "values"}
_SIGNS = {"takes": "values", "target": "signs", "unit": "values"}
_CLASSES = {"takes": "softmax logits", "target": "indices or distribution", "unit": "positions"}
_TRIPLETS = {"takes": "values", "inputs": ("pred.anchor", "pred.positive", "pred.negative"), "unit": "samples"}


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `torch.nn`, sorted by name."""
    return (
        _loss(
            "AdaptiveLogSoftmaxWithLoss",
            "softmax over very many classes, with rare ones in clusters; has parameters to train",
            {"takes": "values", "target": "indices", "classes": "n_classes", "unit": "samples by adaptive_softmax"},
            target="lossreg_wrappers.torch_modules:AdaptiveLogSoftmaxWithLoss",
            hidden=("device", "dtype"),
            example="features_and_classes",
            args={"in_features": 6, "n_classes": 10, "cutoffs": [4]},
        ),
        _loss(
            "BCELoss",
            "binary cross-entropy of probabilities",
            {"takes": "sigmoid probabilities", "target": "mask", "unit": "values"},
            tensors=("weight",),
            example="mask_probabilities",
        ),
        _loss(
            "BCEWithLogitsLoss",
            "binary cross-entropy of logits",
            {"takes": "sigmoid logits", "target": "mask", "unit": "values"},
            tensors=("weight", "pos_weight"),
            example="mask_logits",
        ),
        _loss(
            "CTCLoss",
            "connectionist temporal classification of log-probabilities (T, N, C), without an alignment",
            {
                "takes": "softmax log-probabilities",
                "axis": -1,
                "inputs": ("pred.log_probs", "gt.targets", "gt.input_lengths", "gt.target_lengths"),
                "unmasked": "it aligns whole sequences, whose samples are on axis 1 of the prediction; leave sequences "
                "out of the batch instead",
            },
            hidden=(),
            example="sequences",
        ),
        _loss(
            "CosineEmbeddingLoss",
            "cosine distance of pairs of embeddings with labels 1 (similar) or -1",
            {
                "takes": "values",
                "target": "signs",
                "inputs": ("pred.input1", "pred.input2", "gt.target"),
                "place": 2,
                "target_shape": "same",
                "compared": 2,
                "unit": "samples",
            },
            example="labelled_pairs",
        ),
        _loss(
            "CrossEntropyLoss",
            "cross-entropy of logits with class indices or class probabilities",
            _CLASSES,
            tensors=("weight",),
            example="class_logits",
        ),
        _loss(
            "GaussianNLLLoss",
            "negative log-likelihood of a normal distribution with predicted mean and variance",
            {
                "takes": "values",
                "inputs": ("pred.input", "gt.target", "pred.var"),
                "place": 1,
                "target_shape": "broadcast",
                "compared": 2,  # it checks the variances itself
                "unit": "values",
            },
            hidden=(),
            example="means_and_variances",
        ),
        _loss("HingeEmbeddingLoss", "hinge of a distance, for targets 1 (similar) or -1", _SIGNS, example="signs"),
        _loss("HuberLoss", "squared near zero, absolute beyond `delta`", _VALUES, hidden=(), example="values"),
        _loss(
            "KLDivLoss",
            "Kullback-Leibler divergence of log-probabilities from a distribution",
            {
                "takes": "softmax log-probabilities",
                "target": (({"log_target": True}, "log-distribution"), ({}, "distribution")),
                "unit": (({"reduction": "batchmean"}, "samples by batchmean"), ({}, "values")),
            },
            example="distributions",
            args={"reduction": "batchmean"},
        ),
        _loss("L1Loss", "mean absolute error", _VALUES, example="values"),
        _loss(
            "LinearCrossEntropyLoss",
            "cross-entropy fused with the linear layer before it; has parameters to train",
            {
                "takes": "values",
                "target": "indices or distribution",
                "classes": "num_classes",
                "unit": (({"out_features": ()}, "positions by linear_cross_entropy"), ({}, "none")),
                "unmasked": "with `out_features` the positions of its target are not those of its features; use "
                "torch/CrossEntropyLoss after a linear layer",
            },
            tensors=("weight",),
            hidden=("device", "dtype", "options"),
            package="torch>=2.13",
            example="features_and_classes",
            args={"in_features": 6, "num_classes": 10},
        ),
        _loss("MSELoss", "mean squared error", _VALUES, example="values"),
        _loss(
            "MarginRankingLoss",
            "hinge of the difference of two scores, for targets 1 (first is higher) or -1",
            {
                "takes": "values",
                "target": "signs",
                "inputs": ("pred.input1", "pred.input2", "gt.target"),
                "place": 2,
                "target_shape": "same",
                "unit": "values",
            },
            example="ranked_scores",
        ),
        _loss(
            "MultiLabelMarginLoss",
            "multi-class hinge for several classes per sample: indices, padded with -1",
            {"takes": "values", "target": "label lists", "unit": "samples"},
            example="scores_and_label_lists",
        ),
        _loss(
            "MultiLabelSoftMarginLoss",
            "mean over classes of the binary cross-entropy of logits",
            {"takes": "sigmoid logits", "target": "mask", "unit": "values by multi_label_soft_margin"},
            tensors=("weight",),
            example="mask_logits",
        ),
        _loss(
            "MultiMarginLoss",
            "multi-class hinge of scores (N, C) with class indices",
            {"takes": "values", "target": "indices", "unit": "samples"},
            tensors=("weight",),
            example="scores_and_classes",
        ),
        _loss(
            "NLLLoss",
            "negative log-likelihood of class indices under log-probabilities",
            {"takes": "softmax log-probabilities", "target": "indices", "unit": "positions"},
            tensors=("weight",),
            example="class_log_probabilities",
        ),
        _loss(
            "PoissonNLLLoss",
            "negative log-likelihood of a Poisson distribution with predicted (log-)rate",
            {"takes": "values", "target": "counts", "unit": "values"},
            example="counts",
        ),
        _loss("SmoothL1Loss", "squared below `beta`, absolute above", _VALUES, example="values"),
        _loss("SoftMarginLoss", "logistic loss for targets 1 or -1", _SIGNS, example="signs"),
        _loss(
            "TripletMarginLoss",
            "hinge of the distances from an anchor to a positive and a negative sample",
            {**_TRIPLETS, "target_shape": "same"},
            example="triplets",
        ),
        _loss(
            "TripletMarginWithDistanceLoss",
            "triplet hinge with a custom distance (a Python function; default: Euclidean)",
            _TRIPLETS,  # its distance may take other shapes
            hidden=(),
            example="triplets",
        ),
    )
