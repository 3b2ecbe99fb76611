"""Example batches of embeddings, views and scores, for losses of metric and of self-supervised learning.

Each function returns `(pred_batch, gt_batch)` with the same numbers at every call.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

Example: TypeAlias = tuple[dict[str, Any], dict[str, Any]]

_N, _D = 8, 6


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def _labels() -> Tensor:
    return torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


# --- scores ---------------------------------------------------------------------------------------


def scores_and_labels() -> Example:
    """Return logits (6, 4), and 0 or 1 for each class."""
    labels = (torch.rand(6, 4, generator=Generator().manual_seed(1)) > 0.5).float()
    return {"seg": _normal(6, 4)}, {"gt_polygons_image": labels}


def scores_and_shares() -> Example:
    """Return logits (6, 4) and probabilities of classes."""
    return {"seg": _normal(6, 4)}, {"gt_polygons_image": _normal(6, 4, seed=1).softmax(1)}


def augmented_scores() -> Example:
    """Return logits (6, 4) of two images and of two augmentations of each, and their class indices."""
    return {"seg": _normal(6, 4)}, {"gt_polygons_image": torch.tensor([1, 3] * 3)}


# --- embeddings -----------------------------------------------------------------------------------


def embeddings() -> Example:
    """Return embeddings (8, 6) and the labels of four classes."""
    return {"embeddings": _normal(_N, _D)}, {"labels": _labels()}


def lone_embeddings() -> Example:
    """Return embeddings (8, 6) and no target."""
    return {"embeddings": _normal(_N, _D)}, {}


def two_embeddings() -> Example:
    """Return embeddings (8, 6) of two views."""
    return {"embeddings": _normal(_N, _D), "ref_emb": _normal(_N, _D, seed=1)}, {}


# --- views ----------------------------------------------------------------------------------------


def two_views() -> Example:
    """Return embeddings (8, 6) of two views."""
    return {"view0": _normal(_N, _D), "view1": _normal(_N, _D, seed=1)}, {}


def list_of_views() -> Example:
    """Return a list of embeddings (8, 6) of three views."""
    return {"views": [_normal(_N, _D, seed=seed) for seed in range(3)]}, {}


def whitened_views() -> Example:
    """Return embeddings (16, 4): two views of eight images, one view after the other."""
    return {"views": _normal(16, 4)}, {}


def stacked_views() -> Example:
    """Return embeddings (8, 3, 6) of three views of each image, of a network and of its teacher."""
    return {"student": _normal(_N, 3, _D), "teacher": _normal(_N, 3, _D, seed=1)}, {}


def crops() -> Example:
    """Return lists of logits (8, 6): two of the teacher, three of the student."""
    return {
        "teacher": [_normal(_N, _D, seed=seed) for seed in range(2)],
        "student": [_normal(_N, _D, seed=seed) for seed in range(2, 5)],
    }, {}


def assignments() -> Example:
    """Return lists of similarities (8, 6) to prototypes: two of large crops, one of small ones."""
    return {
        "high_resolution": [_normal(_N, _D, seed=seed).tanh() for seed in range(2)],
        "low_resolution": [_normal(_N, _D, seed=2).tanh()],
    }, {}


def prototypes() -> Example:
    """Return embeddings of two masked views (8, 6), of their target (4, 6), and prototypes (5, 6)."""
    return {"anchors": _normal(8, _D), "targets": _normal(4, _D, seed=1), "prototypes": _normal(5, _D, seed=2)}, {}


def clusters() -> Example:
    """Return logits (2, 8, 6) of clusters, of a teacher and a student."""
    return {"teacher": _normal(2, 8, _D), "student": _normal(2, 8, _D, seed=1)}, {}


def masked_patches() -> Example:
    """Return logits (4, 6) of masked patches, of a teacher and a student, and the mask (2, 2, 2)."""
    mask = torch.tensor([[[True, False], [True, False]], [[False, True], [True, False]]])
    return {"teacher": _normal(4, _D), "student": _normal(4, _D, seed=1)}, {"mask": mask}


def patches() -> Example:
    """Return logits (2, 4, 6) of all patches, of a teacher and a student, and the mask (2, 2, 2)."""
    _, gt = masked_patches()
    return {"teacher": _normal(2, 4, _D), "student": _normal(2, 4, _D, seed=1)}, gt


def patch_features() -> Example:
    """Return features (2, 4, 6) of patches, of a student and a teacher."""
    return {"student": _normal(2, 4, _D), "teacher": _normal(2, 4, _D, seed=1)}, {}


def regions() -> Example:
    """Return features (2, 3, 6) of regions of two views, and which regions (2, 3) they are."""
    masks = torch.tensor([[0, 1, 2], [0, 2, 1]])
    return {"view0": _normal(2, 3, _D), "view1": _normal(2, 3, _D, seed=1)}, {"mask0": masks, "mask1": masks.flip(1)}


def predicted_regions() -> Example:
    """Return features (2, 3, 6) of regions of two views, predicted and of the target network, and which they are."""
    pred, gt = regions()
    targets = {"target0": _normal(2, 3, _D, seed=2), "target1": _normal(2, 3, _D, seed=3)}
    return {**pred, **targets}, gt


def local_and_global() -> Example:
    """Return projections of three small (3, 8, 6) and two large crops (2, 8, 6)."""
    return {"local": _normal(3, _N, _D), "global": _normal(2, _N, _D, seed=1)}, {}


def frames() -> Example:
    """Return embeddings (2, 4, 6) of the frames of clips, and predictions and targets (2, 3, 6) of the last three."""
    every = _normal(2, 4, _D)
    return {"predicted": _normal(2, 3, _D, seed=1), "target": every[:, 1:].clone(), "embeddings": every}, {}


def view_features() -> Example:
    """Return for two views their embeddings (2, 6) and maps (2, 3, 3, 6), and the places of the maps (2, 3, 3, 2)."""
    features = [(_normal(2, _D, seed=seed), _normal(2, 3, 3, _D, seed=seed + 2)) for seed in range(2)]
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    grid = torch.stack([rows, columns], -1).expand(2, 3, 3, 2)
    return {"global_features": features}, {"global_grids": [grid.clone(), grid + 0.25]}
