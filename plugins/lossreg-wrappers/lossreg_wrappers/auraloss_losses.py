"""Plugin `auraloss`: the losses of `auraloss.time` and `auraloss.freq`; imports neither auraloss nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.auraloss_facts import FACTS
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss, package="auraloss>=0.4", facts=FACTS, page="https://github.com/csteinmetz1/auraloss#{name}"
)
_time = partial(_loss, "auraloss.time", example="waveforms")
_freq = partial(_loss, "auraloss.freq", example="waveforms")

_SIGNALS = {"takes": "values", "unit": "samples by sample"}
_STFT = {
    "takes": "values",
    "unmasked": "its spectral convergence is a ratio of norms of the whole batch; leave samples out of it instead",
}
_SMALL = {"fft_size": 32, "hop_size": 8, "win_length": 32}
_RESOLUTIONS = {"fft_sizes": [32, 64], "hop_sizes": [8, 16], "win_lengths": [32, 64]}


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of auraloss."""
    return (
        _time("DCLoss", "error of the mean of a signal, relative to the power of the target", _SIGNALS),
        _time("ESRLoss", "error-to-signal ratio", _SIGNALS),
        _time("LogCoshLoss", "logarithm of the hyperbolic cosine of the error", _SIGNALS),
        _time("SDSDRLoss", "minus the scale-dependent signal-to-distortion ratio in decibels", _SIGNALS),
        _time("SISDRLoss", "minus the scale-invariant signal-to-distortion ratio in decibels", _SIGNALS),
        _time("SNRLoss", "minus the signal-to-noise ratio in decibels", _SIGNALS),
        _freq(
            "MelSTFTLoss",
            "distance of mel spectrograms; needs librosa",
            _STFT,
            target="lossreg_wrappers.auraloss_modules:MelSTFTLoss",
            args={"sample_rate": 8000, "n_mels": 4, **_SMALL},
        ),
        _freq(
            "MultiResolutionSTFTLoss",
            "distance of spectrograms, averaged over several resolutions",
            _STFT,
            args=_RESOLUTIONS,
        ),
        _freq(
            "STFTLoss",
            "distance of spectrograms: spectral convergence and log magnitudes",
            _STFT,
            hidden=("device", "output"),
            args=_SMALL,
        ),
        _freq(
            "STFTMagnitudeLoss",
            "distance of magnitudes of spectrograms, or of their logarithms",
            {"takes": "values", "unmasked": "use torch/L1Loss, after a logarithm in a preprocess"},
            example="magnitudes",
        ),
        _freq(
            "SpectralConvergenceLoss",
            "norm of the error of magnitudes of spectrograms, relative to that of the target",
            {
                "takes": "values",
                "unmasked": "it is a ratio of norms of the whole batch; leave samples out of the batch instead",
            },
            example="magnitudes",
        ),
        _freq(
            "SumAndDifferenceSTFTLoss",
            "distance of spectrograms of the sum and the difference of stereo channels",
            _STFT,
            hidden=("output",),
            args=_RESOLUTIONS,
        ),
    )
