"""The facts of the loss of lpips."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import Facts

_IMAGES = "images (N, 3, H, W) from -1 to 1, or from 0 to 1 with `normalize: true`"

FACTS: Mapping[str, Facts] = {
    "LPIPS": Facts(
        "image restoration, image quality",
        r"L = \sum_l \frac{1}{H_l W_l} \sum_i \left\| w_l \odot (\hat{x}_{l i} - \hat{y}_{l i}) \right\|^2",
        "perceptual, learned perceptual image patch similarity, deep features, AlexNet, VGG, super-resolution",
        "Zhang et al. 2018, The unreasonable effectiveness of deep features as a perceptual metric, arXiv:1801.03924",
        _IMAGES,
        _IMAGES,
    ),
}
"""The facts by name of the loss."""
