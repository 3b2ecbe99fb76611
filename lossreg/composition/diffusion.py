"""Weights of the samples of a diffusion model by the signal-to-noise ratio of their timesteps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.preprocess import Preprocess
from lossreg.errors import DtypeError, RangeError, ShapeError
from lossreg.losses.base import can_look, holds
from lossreg.losses.constants import register_constant

Betas = Literal["linear", "scaled_linear", "cosine"]
Prediction = Literal["epsilon", "x0", "v"]


class MinSNR(Preprocess):
    """Min-SNR weights (Hang et al., ICCV 2023, https://arxiv.org/abs/2303.09556).

    With the signal-to-noise ratio `SNR(t) = a(t) / (1 - a(t))` of a timestep, `a` the cumulative product of
    `1 - beta`, the weight of a sample is

        min(SNR, gamma) / SNR          if the model predicts the noise (`epsilon`)
        min(SNR, gamma)                if it predicts the clean sample (`x0`)
        min(SNR, gamma) / (SNR + 1)    if it predicts the velocity (`v`)

    Use it as the weight of the samples of a term: `sample_weight: gt.snr_weight`. The weights have no gradient.

    Args:
        prediction: what the model predicts: `"epsilon"`, `"x0"` or `"v"`.
        gamma: the ratio from which samples with little noise count no more; above 0. The paper recommends 5.
        betas: how the betas follow one another: `"linear"`, from `beta_start` to `beta_end` (Ho et al., 2020);
            `"scaled_linear"`, their roots are linear (Rombach et al., 2022); `"cosine"`, `a` is a squared cosine
            (Nichol and Dhariwal, 2021), without `beta_start` and `beta_end`.
        steps: number of timesteps of training.
        beta_start: the first beta, above 0 and below 1.
        beta_end: the last beta, above 0 and below 1.
        alphas_cumprod: `a` of each timestep, each from 0 to 1; in place of `betas`, `steps`, `beta_start` and
            `beta_end`.

    Reads `gt.timesteps` (N,), whole numbers from 0 to `steps - 1`. Computes `gt.snr_weight` (N,) in float32.

    Raises:
        MissingKeyError, ShapeError, DtypeError: the timesteps are missing or malformed.
        RangeError: a timestep is out of range. This is checked on the CPU in eager mode only; elsewhere its weight is
            NaN.
    """

    requires = ("gt.timesteps",)
    provides = ("gt.snr_weight",)

    _weights: Tensor  # (steps,)

    def __init__(
        self,
        prediction: Prediction = "epsilon",
        gamma: float = 5.0,
        betas: Betas = "linear",
        steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        alphas_cumprod: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        given = Arguments("MinSNR")
        self.prediction = given.choice("prediction", prediction, ("epsilon", "x0", "v"))
        self.gamma = given.number("gamma", gamma, "a finite number above 0", lambda g: 0.0 < g < math.inf)
        self.betas = given.choice("betas", betas, ("linear", "scaled_linear", "cosine"))
        steps = given.count("steps", steps, "a whole number of 1 or more")
        ends = [
            given.number(name, value, "a number above 0 and below 1", lambda beta: 0.0 < beta < 1.0)
            for name, value in (("beta_start", beta_start), ("beta_end", beta_end))
        ]
        listed = None if alphas_cumprod is None else given.items("alphas_cumprod", alphas_cumprod, "a list of numbers")
        listed = listed and [
            given.number(f"alphas_cumprod[{i}]", a, "a number from 0 to 1", lambda a: 0.0 <= a <= 1.0)
            for i, a in enumerate(listed)
        ]
        if listed == [] and not given.problems:
            given.report("alphas_cumprod", "is empty", "give one number per timestep, or leave it out", "range")
        given.done()
        if listed is None:
            a = _cumulated(self.betas, steps, *ends)
        else:
            a = torch.tensor(listed, dtype=torch.float64, device="cpu")
        register_constant(self, "_weights", _min_snr(a, self.prediction, self.gamma).float())

    @torch.no_grad()
    def compute(
        self,
        pred_batch: Mapping[str, Any],  # noqa: ARG002
        gt_batch: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Return `{"gt.snr_weight": (N,)}`."""
        timesteps: Tensor = gt_batch["timesteps"]
        if timesteps.dim() != 1:
            raise ShapeError(
                f"preprocess MinSNR: 'gt.timesteps' has shape {tuple(timesteps.shape)}, expected (N,), one timestep "
                "per sample"
            )
        if timesteps.is_floating_point() or timesteps.is_complex() or timesteps.dtype == torch.bool:
            dtype = str(timesteps.dtype).removeprefix("torch.")
            raise DtypeError(f"preprocess MinSNR: 'gt.timesteps' has dtype {dtype}, expected an integer dtype")
        steps = len(self._weights)
        fits = (timesteps >= 0) & (timesteps < steps)
        if can_look(fits) and not holds(fits.all()):
            wrong = timesteps[~fits].tolist()
            raise RangeError(
                f"preprocess MinSNR: 'gt.timesteps': expected numbers from 0 to {steps - 1}, found {wrong[0]}; set "
                "`steps` to the number of timesteps of the scheduler"
            )
        weights = self._weights.to(timesteps.device)[timesteps.clamp(0, steps - 1).long()]
        return {"gt.snr_weight": torch.where(fits, weights, math.nan)}

    def extra_repr(self) -> str:
        """Return the options for `repr`."""
        return f"prediction={self.prediction!r}, gamma={self.gamma}, betas={self.betas!r}, steps={len(self._weights)}"


def example() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a `(pred_batch, gt_batch)` of three timesteps, for the checks of `lossreg.testing`."""
    return {}, {"timesteps": torch.tensor([0, 400, 999])}


def _cumulated(betas: Betas, steps: int, start: float, end: float) -> Tensor:
    """Return (steps,) the cumulative product of `1 - beta` in float64."""
    if betas == "cosine":
        t = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
        a = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        each = (1 - a[1:] / a[:-1]).clamp_max(0.999)
    elif betas == "scaled_linear":
        each = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64, device="cpu") ** 2
    else:
        each = torch.linspace(start, end, steps, dtype=torch.float64, device="cpu")
    return torch.cumprod(1 - each, 0)


def _min_snr(a: Tensor, prediction: Prediction, gamma: float) -> Tensor:
    """Return the weights for `SNR = a / (1 - a)`, written so that an `a` of 0 or 1 is no division by 0."""
    if prediction == "v":
        return torch.minimum(a, gamma * (1 - a))
    ratio = gamma * (1 - a)
    if prediction == "epsilon":
        return torch.where(ratio < a, ratio / a, 1.0)
    return torch.where(ratio < a, gamma, a / (1 - a))
