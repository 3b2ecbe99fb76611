"""Plugin `piq`: every loss of piq (PyTorch Image Quality) with a gradient; imports neither piq nor torch.

If piq has a class and a function for a loss, the class is used; the function returns the score and not the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.piq_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss,
    "piq",
    package="piq>=0.8",
    facts=FACTS,
    page="https://piq.readthedocs.io/en/latest/losses.html#{name}",
    example="photos",
)

_IMAGES = {"takes": "values", "unit": "samples"}
_SCORES = {"takes": "values", "unit": "samples by piq_score"}
_DOWNLOADS = "; downloads its weights at first use"


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of piq, sorted by name."""
    return (
        _loss("BRISQUELoss", f"unnaturalness of an image, without a target{_DOWNLOADS}", _IMAGES, example="lone_photo"),
        _loss("ContentLoss", f"distance of features of a network, for style transfer{_DOWNLOADS}", _IMAGES),
        _loss("DISTS", f"distance of structure and texture in features of a network{_DOWNLOADS}", _IMAGES),
        _loss("DSSLoss", "one minus the similarity of blocks of DCT coefficients", _SCORES),
        _loss("FSIMLoss", "one minus the similarity of phase congruency and gradients", _SCORES),
        _loss("GMSDLoss", "deviation of the similarity of gradients", _IMAGES),
        _loss("HaarPSILoss", "one minus the similarity of Haar wavelet coefficients", _SCORES),
        _loss(
            "InformationWeightedSSIMLoss",
            "one minus multi-scale structural similarity, weighted by information",
            {
                "takes": "values",
                "unmasked": "a masked image, which has one colour, has no inverse covariance; leave samples out of the "
                "batch instead",
            },
            tensors=("scale_weights",),
            args={"kernel_size": 5, "scale_weights": [0.5, 0.5]},
        ),
        _loss("LPIPS", f"learned distance of features of a network{_DOWNLOADS}", _IMAGES),
        _loss("MDSILoss", "deviation of the similarity of gradients and colours", _SCORES),
        _loss(
            "MultiScaleGMSDLoss",
            "deviation of the similarity of gradients, in several scales",
            _IMAGES,
            tensors=("scale_weights",),
        ),
        _loss(
            "MultiScaleSSIMLoss",
            "one minus structural similarity in several scales",
            _IMAGES,
            tensors=("scale_weights",),
            args={"kernel_size": 3},
        ),
        _loss(
            "PieAPP",
            f"perceptual error by a network that learned from preferences{_DOWNLOADS}",
            _IMAGES,
            target="lossreg_wrappers.piq_modules:PieAPP",
        ),
        _loss(
            "SRSIMLoss",
            "one minus the similarity of spectral residuals",
            {
                "takes": "values",
                "unmasked": "its saliency is scaled over the whole batch; leave samples out of the batch instead",
            },
            example="grey_photos",
            args={"gaussian_size": 5},
        ),
        _loss("SSIMLoss", "one minus structural similarity", _IMAGES),
        _loss("StyleLoss", f"distance of correlations of features, for style transfer{_DOWNLOADS}", _IMAGES),
        _loss("TVLoss", "total variation of the prediction, without a target", _IMAGES, example="lone_photo"),
        _loss("VIFLoss", "one minus visual information fidelity", _IMAGES),
        _loss("VSILoss", "one minus the similarity of visual saliency", _SCORES),
    )
