"""MixUp: mix pairs of samples, and combine their losses in the same ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta

from lossreg.errors import MissingKeyError, ShapeError


def mixup_batch(
    images: Tensor, gt_batch: Mapping[str, Any], alpha: float = 0.5, *, key: str = "gt_polygons_image"
) -> tuple[Tensor, dict[str, Any]]:
    """Return mixed images and a target batch for a loss with `use_mixup`.

    `lam ~ Beta(alpha, alpha)` is drawn once per batch from torch's global generator, and a random permutation pairs the
    samples. The images become `lam x + (1 - lam) x[permutation]`. The targets are not mixed but returned as `y_a = y`
    and `y_b = y[permutation]`; the loss is `lam L(p, y_a) + (1 - lam) L(p, y_b)`. See Zhang et al., mixup: Beyond
    Empirical Risk Minimization, ICLR 2018.

    Args:
        images: (N, ...), floating point.
        gt_batch: the batch with the target at `key`, N samples; it is not changed.
        alpha: shape of the Beta distribution, above 0; near 0 samples are hardly mixed, 1 is uniform.
        key: the key of the target.

    Returns:
        The mixed images, and a copy of `gt_batch` with `mixup_y_a`, `mixup_y_b` and `mixup_lam` (a scalar tensor,
        float32). Put the model's output for the mixed images at `pred_batch["mixup_pred"]` or `pred_batch["seg"]`.

    Raises:
        ValueError: `alpha` is not above 0.
        MissingKeyError: `gt_batch` has no `key`.
        ShapeError: images and target have different numbers of samples.
    """
    if not alpha > 0:
        raise ValueError(f"mixup_batch: alpha: expected a number above 0, found {alpha!r}")
    if key not in gt_batch:
        raise MissingKeyError(f"mixup_batch needs {key!r}; gt_batch has keys {sorted(map(str, gt_batch))}")
    target: Tensor = gt_batch[key]
    if target.dim() == 0 or images.dim() == 0 or len(target) != len(images):
        raise ShapeError(
            f"mixup_batch: images have shape {tuple(images.shape)}, {key!r} has {tuple(target.shape)}; "
            "expected the same number of samples"
        )
    drawn = Beta(alpha, alpha).sample()
    permutation = torch.randperm(len(images))
    lam = drawn.to(images.device)
    partners = images[permutation.to(images.device)]
    mixed = partners + lam.to(images.dtype) * (images - partners)
    return mixed, {
        **gt_batch,
        "mixup_y_a": target,
        "mixup_y_b": target[permutation.to(target.device)],
        "mixup_lam": lam,
    }
