"""Example batches for the specs, one for each form of prediction and target.

Each function returns `(pred_batch, gt_batch)` with the same numbers at every call.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Generator, Tensor

Example: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor]]

_N, _C, _SIZE = 2, 3, 8


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def _uniform(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=Generator().manual_seed(seed))


def _integers(high: int, *shape: int, seed: int = 2) -> Tensor:
    return torch.randint(high, shape, generator=Generator().manual_seed(seed))


def _batch(pred: Tensor, gt: Tensor) -> Example:
    return {"seg": pred}, {"gt_polygons_image": gt}


def _one_hot() -> Tensor:
    classes = _integers(_C, _N, _SIZE, _SIZE)
    return torch.nn.functional.one_hot(classes, _C).movedim(-1, 1).float()


# --- maps and their targets -----------------------------------------------------------------------


def values() -> Example:
    """Return real numbers and targets of the same shape, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE), _normal(_N, _C, _SIZE, _SIZE, seed=3))


def counts() -> Example:
    """Return log-rates and counts, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE), _integers(5, _N, _C, _SIZE, _SIZE).float())


def signs() -> Example:
    """Return real numbers and targets 1 or -1, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE), _integers(2, _N, _C, _SIZE, _SIZE) * 2.0 - 1)


def mask_logits() -> Example:
    """Return logits and targets 0 or 1, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE), _integers(2, _N, _C, _SIZE, _SIZE).float())


def mask_probabilities() -> Example:
    """Return probabilities and targets 0 or 1, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE).sigmoid(), _integers(2, _N, _C, _SIZE, _SIZE).float())


def class_logits() -> Example:
    """Return logits (2, 3, 8, 8) of classes and class indices (2, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE), _integers(_C, _N, _SIZE, _SIZE))


def class_log_probabilities() -> Example:
    """Return log-probabilities (2, 3, 8, 8) of classes and class indices (2, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE).log_softmax(1), _integers(_C, _N, _SIZE, _SIZE))


def distributions() -> Example:
    """Return log-probabilities and probabilities of classes, (2, 3, 8, 8)."""
    shape = (_N, _C, _SIZE, _SIZE)
    return _batch(_normal(*shape).log_softmax(1), _normal(*shape, seed=3).softmax(1))


def class_probabilities() -> Example:
    """Return probabilities (2, 3, 8, 8) of classes and class indices (2, 1, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE).softmax(1), _integers(_C, _N, 1, _SIZE, _SIZE))


def one_hot_logits() -> Example:
    """Return logits of classes and one-hot targets, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE), _one_hot())


def one_hot_probabilities() -> Example:
    """Return probabilities of classes and one-hot targets, (2, 3, 8, 8)."""
    return _batch(_normal(_N, _C, _SIZE, _SIZE).softmax(1), _one_hot())


def masked_one_hot_probabilities() -> Example:
    """Return probabilities of classes and one-hot targets, (2, 3, 8, 8), with a mask (2, 1, 8, 8)."""
    return {"input": _normal(_N, _C, _SIZE, _SIZE).softmax(1)}, {
        "target": _one_hot(),
        "mask": _integers(2, _N, 1, _SIZE, _SIZE, seed=4).float(),
    }


def two_class_probabilities() -> Example:
    """Return probabilities of two classes and one-hot targets, (2, 2, 8, 8)."""
    target = _integers(2, _N, 1, _SIZE, _SIZE).float()
    return _batch(_normal(_N, 2, _SIZE, _SIZE).softmax(1), torch.cat([1 - target, target], 1))


def binary_logits() -> Example:
    """Return logits and targets 0 or 1 of one channel, (2, 1, 8, 8)."""
    return _batch(_normal(_N, 1, _SIZE, _SIZE), _integers(2, _N, 1, _SIZE, _SIZE).float())


def volume_class_probabilities() -> Example:
    """Return probabilities (2, 3, 6, 6, 6) of classes and class indices (2, 1, 6, 6, 6)."""
    return _batch(_normal(_N, _C, 6, 6, 6).softmax(1), _integers(_C, _N, 1, 6, 6, 6))


def heatmaps() -> Example:
    """Return distributions over the pixels, (2, 3, 8, 8), twice."""

    def draw(seed: int) -> Tensor:
        return _normal(_N, _C, _SIZE * _SIZE, seed=seed).softmax(-1).reshape(_N, _C, _SIZE, _SIZE)

    return _batch(draw(0), draw(3))


# --- images, volumes, signals ---------------------------------------------------------------------


def images() -> Example:
    """Return two images with values in [0, 1], (2, 3, 16, 16)."""
    return _batch(_uniform(_N, _C, 16, 16), _uniform(_N, _C, 16, 16, seed=3))


def volumes() -> Example:
    """Return two volumes with values in [0, 1], (2, 1, 8, 8, 8)."""
    return _batch(_uniform(_N, 1, 8, 8, 8), _uniform(_N, 1, 8, 8, 8, seed=3))


def lone_image() -> Example:
    """Return an image with values in [0, 1], (2, 3, 16, 16), and no target."""
    return {"seg": _uniform(_N, _C, 16, 16)}, {}


def photos() -> Example:
    """Return two images with values in [0.1, 0.9], (2, 3, 48, 48)."""
    return _batch(0.1 + 0.8 * _uniform(_N, _C, 48, 48), 0.1 + 0.8 * _uniform(_N, _C, 48, 48, seed=3))


def grey_photos() -> Example:
    """Return two images of one channel with values in [0.1, 0.9], (2, 1, 24, 24)."""
    return _batch(0.1 + 0.8 * _uniform(_N, 1, 24, 24), 0.1 + 0.8 * _uniform(_N, 1, 24, 24, seed=3))


def lone_photo() -> Example:
    """Return an image with values in [0.1, 0.9], (2, 3, 48, 48), and no target."""
    return {"seg": 0.1 + 0.8 * _uniform(_N, _C, 48, 48)}, {}


def pansharpening() -> Example:
    """Return fused, and multispectral and panchromatic images; (2, 3, 32, 32), and (2, 3, 16, 16) at `ms`, `pan_lr`."""
    sizes = {"ms": 16, "pan": 32, "pan_lr": 16}
    gt = {key: _uniform(_N, _C, size, size, seed=i) + 0.1 for i, (key, size) in enumerate(sizes.items(), 3)}
    return {"preds": _uniform(_N, _C, 32, 32) + 0.1}, gt


def waveforms() -> Example:
    """Return two stereo signals, or two sources of a mixture, (2, 2, 160)."""
    return _batch(_normal(_N, 2, 160), _normal(_N, 2, 160, seed=3))


def magnitudes() -> Example:
    """Return two spectrograms of positive magnitudes, (2, 9, 12)."""
    return _batch(_uniform(_N, 9, 12) + 0.1, _uniform(_N, 9, 12, seed=3) + 0.1)


def complex_spectra() -> Example:
    """Return two spectra with real and imaginary parts, (2, 5, 6, 2)."""
    return _batch(_normal(_N, 5, 6, 2), _normal(_N, 5, 6, 2, seed=3))


def operator_input() -> Example:
    """Return an operator's input and the pseudo ground truth, one real channel, (2, 1, 8, 8)."""
    return {"x": _uniform(_N, 1, 8, 8)}, {"y_pseudo_gt": _uniform(_N, 1, 8, 8, seed=3)}


def displacement() -> Example:
    """Return a dense displacement field (2, 2, 8, 8) and no target."""
    return {"seg": _normal(_N, 2, _SIZE, _SIZE)}, {}


def inverse_depth() -> Example:
    """Return an inverse depth (2, 1, 8, 8) and the image (2, 3, 8, 8) that it belongs to."""
    return {"idepth": _uniform(_N, 1, _SIZE, _SIZE)}, {"image": _uniform(_N, 3, _SIZE, _SIZE, seed=3)}


def signals() -> Example:
    """Return two signals with values in [0, 1], (2, 32)."""
    return _batch(_uniform(_N, 32), _uniform(_N, 32, seed=3))


def lone_signal() -> Example:
    """Return a signal (8,) and no target."""
    return {"other_signal": _uniform(8)}, {}


def lone_signal_2d() -> Example:
    """Return an image (4, 8) and no target."""
    return {"other_signal": _uniform(4, 8)}, {}


def lone_signal_3d() -> Example:
    """Return a volume (4, 4, 8) and no target."""
    return {"other_signal": _uniform(4, 4, 8)}, {}


def discriminator() -> Example:
    """Return the patch outputs of a discriminator, (2, 1, 8, 8), and no target."""
    return {"input": _normal(_N, 1, _SIZE, _SIZE)}, {}


# --- boxes ----------------------------------------------------------------------------------------


def boxes() -> Example:
    """Return two sets of boxes (6, 4), each `x1, y1, x2, y2`."""

    def draw(seed: int) -> Tensor:
        corner = _uniform(6, 2, seed=seed)
        return torch.cat([corner, corner + 0.2 + _uniform(6, 2, seed=seed + 1)], 1)

    return _batch(draw(1), draw(3))


# --- vectors --------------------------------------------------------------------------------------


def features_and_classes() -> Example:
    """Return features (4, 6) and indices (4,) of ten classes."""
    return _batch(_normal(4, 6), _integers(10, 4))


def scores_and_classes() -> Example:
    """Return scores (4, 5) of classes and class indices (4,)."""
    return _batch(_normal(4, 5), _integers(5, 4))


def scores_and_label_lists() -> Example:
    """Return scores (2, 4) of classes and each sample's classes (2, 4), padded with -1."""
    return _batch(_normal(2, 4), torch.tensor([[3, 0, -1, 1], [2, -1, 0, 1]]))


def ranked_scores() -> Example:
    """Return two scores (4,) and targets, 1 if the first is higher, else -1."""
    return {"input1": _normal(4), "input2": _normal(4, seed=3)}, {"target": _integers(2, 4) * 2.0 - 1}


def labelled_pairs() -> Example:
    """Return two embeddings (4, 6) and labels 1 (similar) or -1, (4,)."""
    return {"input1": _normal(4, 6), "input2": _normal(4, 6, seed=3)}, {"target": _integers(2, 4) * 2.0 - 1}


def triplets() -> Example:
    """Return embeddings (4, 6) of an anchor, a positive and a negative sample; no target."""
    names = ("anchor", "positive", "negative")
    return {name: _normal(4, 6, seed=seed) for seed, name in enumerate(names)}, {}


def means_and_variances() -> Example:
    """Return predicted means and variances and observed values, (2, 3, 8, 8)."""
    shape = (_N, _C, _SIZE, _SIZE)
    return {"input": _normal(*shape), "var": _uniform(*shape) + 0.1}, {"target": _normal(*shape, seed=3)}


def sequences() -> Example:
    """Return log-probabilities (T=12, N=2, C=5) and label sequences (2, 4) of lengths 4 and 3; 0 is the blank."""
    gt = {
        "targets": _integers(4, 2, 4) + 1,
        "input_lengths": torch.tensor([12, 11]),
        "target_lengths": torch.tensor([4, 3]),
    }
    return {"log_probs": _normal(12, 2, 5).log_softmax(-1)}, gt


def views() -> Example:
    """Return embeddings (4, 6) of two views of the same samples; no target."""
    return {"input": _normal(4, 6), "target": _normal(4, 6, seed=3)}, {}


def positive_numbers() -> Example:
    """Return two times 16 numbers above 0."""
    return _batch(_uniform(16) * 4 + 0.1, _uniform(16, seed=3) * 4 + 0.1)


def positive_vectors() -> Example:
    """Return two times 4 vectors of 6 numbers above 0."""
    return _batch(_uniform(4, 6) + 0.1, _uniform(4, 6, seed=3) + 0.1)


def paired_vectors() -> Example:
    """Return two times 4 vectors of 6 numbers."""
    return _batch(_normal(4, 6), _normal(4, 6, seed=3))


def ordered_levels() -> Example:
    """Return logits of the three steps between four ordered classes, and which of them are reached, (N, 3)."""
    classes = torch.arange(_N) % 4
    return _batch(_normal(_N, 3), (classes[:, None] > torch.arange(3)).float())


def ordered_classes() -> Example:
    """Return logits of the three steps between four ordered classes, and the classes (N,)."""
    return _batch(_normal(_N, 3), torch.arange(_N) % 4)


def point_clouds() -> Example:
    """Return clouds of 6 and of 5 points in 3 dimensions, two of each."""
    return _batch(_uniform(_N, 6, 3), _uniform(_N, 5, 3, seed=3))


def meshes() -> Example:
    """Return the vertices of two sequences of meshes, (6, 10, 3)."""
    return _batch(_normal(6, 10, 3), _normal(6, 10, 3, seed=3))


def token_logits() -> Example:
    """Return logits (2, 6, 5) of classes on the last axis and class indices (2, 6)."""
    return _batch(_normal(_N, 6, 5), _integers(5, _N, 6))
