"""The loss of auraloss that needs librosa, with the options that the library takes as `**kwargs`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias

import auraloss.freq  # type: ignore[import-not-found, unused-ignore]  # it need not be installed

Window: TypeAlias = Literal["hann_window", "bartlett_window", "blackman_window", "hamming_window", "kaiser_window"]


class MelSTFTLoss(auraloss.freq.MelSTFTLoss):  # type: ignore[misc, unused-ignore]
    """`auraloss.freq.MelSTFTLoss`.

    Args:
        sample_rate: samples in a second.
        fft_size: size of the transform, in samples.
        hop_size: distance of the frames.
        win_length: length of the window.
        window: the window.
        w_sc: weight of the spectral convergence.
        w_log_mag: weight of the logarithm of the magnitudes.
        w_lin_mag: weight of the magnitudes.
        w_phs: weight of the phases.
        n_mels: number of bands.
        perceptual_weighting: whether to weight frequencies as the ear does.
        scale_invariance: whether to scale the target to the prediction.
        eps: a small constant for stability.
        mag_distance: distance of the magnitudes.
    """

    def __init__(
        self,
        sample_rate: float,
        fft_size: int = 1024,
        hop_size: int = 256,
        win_length: int = 1024,
        window: Window = "hann_window",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        n_mels: int = 128,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
        mag_distance: Literal["L1", "L2"] = "L1",
    ) -> None:
        if find_spec("librosa") is None:
            raise ImportError("MelSTFTLoss needs librosa for its filters: pip install librosa")
        super().__init__(
            sample_rate, fft_size, hop_size, win_length, window, w_sc, w_log_mag, w_lin_mag, w_phs, n_mels,
            perceptual_weighting=perceptual_weighting, scale_invariance=scale_invariance, eps=eps,
            mag_distance=mag_distance,
        )  # fmt: skip
