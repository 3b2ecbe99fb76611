"""The plugin of the core: the schedules, adaptive weightings and preprocesses of lossreg itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg.registry.hookspecs import hookimpl
from lossreg.registry.specs import PreprocessSpec, ScheduleSpec, WeightingSpec

_POINTS: Mapping[str, Any] = {"values": [0.2, 1.0, 0.7], "epoch_thresholds": [0.0, 2.0, 5.0]}
_RAMP: Mapping[str, Any] = {"start": 0.25, "end": 1.0, "end_epoch": 6.0}
"""Arguments of the schedules for `lossreg.testing`."""


@hookimpl
def lossreg_schedules() -> Sequence[ScheduleSpec]:
    """Return the schedules of the core."""
    return (
        _schedule("Constant", "the same weight at every epoch", value=0.5),
        _schedule("Piecewise", "linear interpolation between points", **_POINTS),
        _schedule("Step", "constant values between points", **_POINTS),
        _schedule("Polynomial", "polynomial decay from a start to an end", **_RAMP),
        _schedule("Cosine", "half a cosine from a start to an end", **_RAMP),
        _schedule("Exponential", "a constant factor per epoch", **_RAMP),
        _schedule("Sigmoid", "sigmoid-shaped ramp-up (Laine and Aila, 2017)", **_RAMP),
        _schedule("Cyclic", "cyclical annealing (Fu et al., 2019)", **_RAMP),
        _schedule("Pchip", "smooth monotone interpolation between points", **_POINTS),
        _schedule("Akima", "smooth interpolation between points, robust to outliers", **_POINTS),
        _schedule("Chain", "several schedules one after another", schedules=[0.5, 1.0], boundaries=[3.0]),
    )


@hookimpl
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the adaptive weightings of the core."""
    return (
        _weighting("Uncertainty", "uncertainty", "learned homoscedastic uncertainty (Kendall et al., 2018)"),
        _weighting("DWA", "dwa", "dynamic weight average of epoch means (Liu et al., 2019)"),
        _weighting("GradNorm", "gradnorm", "balanced gradient norms at shared parameters (Chen et al., 2018)"),
        _weighting("SoftAdapt", "softadapt", "softmax over recent slopes (Heydari et al., 2019)"),
        _weighting("ReLoBRaLo", "relobralo", "relative balancing with random lookback (Bischof and Kraus, 2021)"),
        _weighting("CoV", "cov", "coefficient of variation (Groenendijk et al., 2021)"),
        _weighting(
            "Balancer",
            "balancer",
            "a fixed share of the gradient at the predictions for each term (Defossez et al., 2022)",
            words=("loss balancer", "EnCodec", "audio codec", "gradient balancing", "vocoder"),
            formula=r"w_i = \frac{R \, \lambda_i}{\sum_j \lambda_j \,"
            r" \langle \lVert \partial L_i / \partial \hat x \rVert_2 \rangle_\beta}",
            source="Defossez et al. 2022, High Fidelity Neural Audio Compression, arXiv:2210.13438",
            url="https://arxiv.org/abs/2210.13438",
        ),
        _weighting(
            "LRAnnealing",
            "lrannealing",
            "learning-rate annealing of physics-informed networks (Wang et al., 2021)",
            words=("physics-informed", "PINN", "gradient pathologies", "residual", "boundary conditions", "PDE"),
            formula=r"\lambda_i \leftarrow (1 - \alpha) \lambda_i + \alpha"
            r" \frac{\max_\theta |\nabla_\theta L_r|}{\overline{|\nabla_\theta L_i|}}",
            source="Wang, Teng and Perdikaris 2021, Understanding and mitigating gradient flow pathologies in "
            "physics-informed neural networks, arXiv:2001.04536",
            url="https://arxiv.org/abs/2001.04536",
            capabilities=("non_negative",),  # one of the terms is the residual
        ),
    )


@hookimpl
def lossreg_preprocesses() -> Sequence[PreprocessSpec]:
    """Return the preprocesses of the core."""
    return (
        PreprocessSpec(
            "MinSNR",
            "lossreg.composition.diffusion:MinSNR",
            summary="weights of samples by the signal-to-noise ratio of their timesteps (Hang et al., 2023)",
            aliases=("min_snr",),
            requires=("gt.timesteps",),
            provides=("gt.snr_weight",),
            example="lossreg.composition.diffusion:example",
            capabilities=("per_sample",),
            words=("diffusion", "min-SNR", "signal-to-noise ratio", "timesteps", "denoising", "DDPM"),
            formula=r"\frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR}} \text{ for the noise}, \quad"
            r" \min(\mathrm{SNR}, \gamma) \text{ for } x_0, \quad"
            r" \frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR} + 1} \text{ for } v",
            source="Hang et al. 2023, Efficient Diffusion Training via Min-SNR Weighting Strategy, arXiv:2303.09556",
            url="https://arxiv.org/abs/2303.09556",
        ),
    )


def _schedule(name: str, summary: str, **example_args: Any) -> ScheduleSpec:
    return ScheduleSpec(
        name,
        f"lossreg.composition.schedules:{name}",
        aliases=(name.lower(),),
        summary=summary,
        example_args=example_args,
        capabilities=("held",),
    )


def _weighting(name: str, alias: str, summary: str, **facts: Any) -> WeightingSpec:
    target = f"lossreg.composition.weighting.{alias}:{name}"
    facts.setdefault("capabilities", ("permutable", "non_negative"))
    return WeightingSpec(name, target, aliases=(alias,), summary=summary, **facts)
