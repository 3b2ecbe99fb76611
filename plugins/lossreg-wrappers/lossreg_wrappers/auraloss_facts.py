"""The facts of the losses of auraloss."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import Facts

_WRIGHT = "Wright and Välimäki 2019, Perceptual loss function for neural modelling of audio systems, arXiv:1911.08922"
_LE_ROUX = "Le Roux et al. 2018, SDR - half-baked or well done?, arXiv:1811.02508"
_ARIK = "Arik et al. 2018, Fast spectrogram inversion using multi-head convolutional networks, arXiv:1808.06719"
_YAMAMOTO = "Yamamoto et al. 2019, Parallel WaveGAN, arXiv:1910.11480"
_DISTILLATION = "Yamamoto et al. 2019, Probability density distillation, arXiv:1904.04472"
_AURALOSS = "Steinmetz and Reiss 2020, auraloss: audio-focused loss functions in PyTorch"
_STEREO = "Steinmetz et al. 2020, Automatic multitrack mixing, arXiv:2010.10291"

_SIGNALS = ("waveforms (N, C, T)", "waveforms (N, C, T)")
_MAGNITUDES = ("magnitudes (N, F, T)", "magnitudes (N, F, T)")
_SPECTRAL = "spectrogram, STFT, spectral, waveform, vocoder, music"
_RATIO = "source separation, speech enhancement, decibels, waveform"
_DISTANCE = (
    r"L = \mathtt{w\_sc} \frac{\left\| Y - X \right\|}{\left\| Y \right\|} + \mathtt{w\_log\_mag} \frac{1}{n} \sum_i "
    r"\left| \log X_i - \log Y_i \right| \qquad X = \left| \mathrm{STFT}(x) \right|, "
    r"\; Y = \left| \mathrm{STFT}(y) \right|"
)
_AVERAGED = r"L = \frac{1}{M} \sum_m L_m \qquad L_m = \mathrm{STFT\ loss\ in\ resolution} \; m"

FACTS: Mapping[str, Facts] = {
    "DCLoss": Facts(
        "audio",
        r"L = \frac{\left( \mathrm{mean}(y - x) \right)^2}{\mathrm{mean}(y^2) + \mathtt{eps}}",
        "offset, direct current, guitar amplifier, audio effects",
        _WRIGHT,
        *_SIGNALS,
    ),
    "ESRLoss": Facts(
        "audio",
        r"L = \frac{\sum_t (y_t - x_t)^2}{\sum_t y_t^2 + \mathtt{eps}}",
        "error to signal, guitar amplifier, audio effects, relative error",
        _WRIGHT,
        *_SIGNALS,
    ),
    "LogCoshLoss": Facts(
        "audio, regression",
        r"L = \frac{1}{\mathtt{a} \, n} \sum_i \log \left( \cosh \left( \mathtt{a} (x_i - y_i) \right) "
        r"+ \mathtt{eps} \right)",
        "log-cosh, robust, Huber, smooth absolute error, waveform",
        "Chen et al. 2019, Log hyperbolic cosine loss improves variational auto-encoder",
        *_SIGNALS,
    ),
    "MelSTFTLoss": Facts("audio, speech", _DISTANCE, f"{_SPECTRAL}, mel spectrogram", _AURALOSS, *_SIGNALS),
    "MultiResolutionSTFTLoss": Facts(
        "audio, speech", _AVERAGED, f"{_SPECTRAL}, multi-resolution, multi-scale", _YAMAMOTO, *_SIGNALS
    ),
    "SDSDRLoss": Facts(
        "audio, speech",
        r"L = -10 \log_{10} \frac{\left\| \alpha y \right\|^2}{\left\| x - y \right\|^2} \qquad "
        r"\alpha = \frac{x \cdot y}{\left\| y \right\|^2}",
        f"SD-SDR, scale-dependent, {_RATIO}",
        _LE_ROUX,
        *_SIGNALS,
    ),
    "SISDRLoss": Facts(
        "audio, speech",
        r"L = -10 \log_{10} \frac{\left\| \alpha y \right\|^2}{\left\| x - \alpha y \right\|^2} \qquad "
        r"\alpha = \frac{x \cdot y}{\left\| y \right\|^2}",
        f"SI-SDR, scale-invariant, {_RATIO}",
        _LE_ROUX,
        *_SIGNALS,
    ),
    "SNRLoss": Facts(
        "audio, speech",
        r"L = -10 \log_{10} \frac{\left\| y \right\|^2}{\left\| x - y \right\|^2}",
        f"SNR, signal to noise, {_RATIO}",
        "",
        *_SIGNALS,
    ),
    "STFTLoss": Facts("audio, speech", _DISTANCE, _SPECTRAL, _DISTILLATION, *_SIGNALS),
    "STFTMagnitudeLoss": Facts(
        "audio, speech",
        r"L = \frac{1}{n} \sum_i \left| \log X_i - \log Y_i \right|",
        f"{_SPECTRAL}, magnitude, log magnitude",
        _ARIK,
        *_MAGNITUDES,
    ),
    "SpectralConvergenceLoss": Facts(
        "audio, speech",
        r"L = \frac{\left\| Y - X \right\|}{\left\| Y \right\|}",
        f"{_SPECTRAL}, Frobenius norm",
        _ARIK,
        *_MAGNITUDES,
    ),
    "SumAndDifferenceSTFTLoss": Facts(
        "audio",
        r"L = \frac{1}{2} \left( \mathtt{w\_sum} \, L_{l + r} + \mathtt{w\_diff} \, L_{l - r} \right) \qquad "
        r"L_s = \mathrm{multi\ resolution\ STFT\ loss\ of} \; s",
        f"{_SPECTRAL}, stereo, mid side, mixing",
        _STEREO,
        "stereo waveforms (N, 2, T)",
        "stereo waveforms (N, 2, T)",
    ),
}
"""The facts by name of the loss."""
