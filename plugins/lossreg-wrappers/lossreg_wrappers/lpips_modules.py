"""The loss of lpips, adapted to configs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import lpips  # type: ignore[import-not-found, unused-ignore]  # it need not be installed
from torch import Tensor

_WEIGHTS = Path(lpips.__file__).parent / "weights"


class LPIPS(lpips.LPIPS):  # type: ignore[misc, unused-ignore]
    """`lpips.LPIPS` with fixed weights, for images with values from -1 to 1, or from 0 to 1.

    It stays in evaluation mode, because its dropout would make the value random.

    Args:
        pretrained: whether the linear layers have their learned weights, which come with lpips.
        net: the feature network; its weights are downloaded at first use.
        version: version of the linear layers; 0.0 does not scale its input.
        lpips: whether to weight the features by the linear layers.
        spatial: whether to compute a value for each pixel.
        pnet_rand: whether the feature network has random weights; nothing is then downloaded.
        normalize: whether the images have values from 0 to 1.
    """

    def __init__(
        self,
        pretrained: bool = True,
        net: Literal["alex", "vgg", "squeeze"] = "alex",
        version: Literal["0.1", "0.0"] = "0.1",
        lpips: bool = True,
        spatial: bool = False,
        pnet_rand: bool = False,
        normalize: bool = False,
    ) -> None:
        weights = str(_WEIGHTS / f"v{version}" / f"{net}.pth")  # lpips looks for them beside the class
        super().__init__(pretrained, net, version, lpips, spatial, pnet_rand, model_path=weights, verbose=False)
        self.normalize = normalize
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> LPIPS:  # noqa: ARG002
        """Return the loss, in evaluation mode."""
        super().train(False)
        return self

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the distance of each sample, (N, 1, 1, 1), or of each pixel, (N, 1, H, W)."""
        value: Tensor = super().forward(prediction, target, normalize=self.normalize)
        return value
