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
        _schedule("Constant", "the same weight at every epoch", {"value": 0.5}, r"w = \mathtt{value}", ("fixed",)),
        _schedule(
            "Piecewise",
            "linear interpolation between points",
            _POINTS,
            r"w(e) = v_i + \frac{v_{i + 1} - v_i}{e_{i + 1} - e_i} (e - e_i), \; e_i \leq e < e_{i + 1}",
            ("epoch_thresholds", "list", "line", "warm-up", "ramp"),
        ),
        _schedule(
            "Step",
            "constant values between points",
            _POINTS,
            r"w(e) = v_i, \; e_i \leq e < e_{i + 1}",
            ("staircase", "milestones", "switch on", "switch off"),
        ),
        _schedule(
            "Polynomial",
            "polynomial decay from a start to an end",
            _RAMP,
            r"w = \mathtt{end} + (\mathtt{start} - \mathtt{end}) (1 - t)^{\mathtt{power}}",
            ("linear", "warm-up", "ramp"),
        ),
        _schedule(
            "Cosine",
            "half a cosine from a start to an end",
            _RAMP,
            r"w = \mathtt{end} + (\mathtt{start} - \mathtt{end}) \frac{1 + \cos \pi t}{2}",
            ("annealing", "warm-up", "smooth"),
        ),
        _schedule(
            "Exponential",
            "a constant factor per epoch",
            _RAMP,
            r"w = \mathtt{start}^{1 - t} \, \mathtt{end}^t",
            ("decay", "geometric"),
        ),
        _schedule(
            "Sigmoid",
            "sigmoid-shaped ramp-up (Laine and Aila, 2017)",
            _RAMP,
            r"w = \mathtt{start} + (\mathtt{end} - \mathtt{start}) \, e^{-5 (1 - t)^2}",
            ("warm-up", "consistency", "semi-supervised", "mean teacher"),
            "Laine and Aila 2017, Temporal ensembling for semi-supervised learning, arXiv:1610.02242",
        ),
        _schedule(
            "Cyclic",
            "cyclical annealing (Fu et al., 2019)",
            _RAMP,
            r"w = \mathtt{start} + (\mathtt{end} - \mathtt{start}) \min(\tau / \mathtt{ratio}, 1)",
            ("cycles", "KL annealing", "VAE", "sawtooth"),
            "Fu et al. 2019, Cyclical annealing schedule, arXiv:1903.10145",
        ),
        _schedule(
            "Pchip",
            "smooth monotone interpolation between points",
            _POINTS,
            words=("cubic", "spline", "monotonic"),
            source="Fritsch and Butland 1984, A method for constructing local monotone piecewise cubic interpolants, "
            "doi:10.1137/0905021",
        ),
        _schedule(
            "Akima",
            "smooth interpolation between points, robust to outliers",
            _POINTS,
            words=("cubic", "spline"),
            source="Akima 1970, A new method of interpolation and smooth curve fitting, doi:10.1145/321607.321609",
        ),
        _schedule(
            "Chain",
            "several schedules one after another",
            {"schedules": [0.5, 1.0], "boundaries": [3.0]},
            words=("sequence", "phases", "stages"),
        ),
    )


@hookimpl
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the adaptive weightings of the core."""
    return (
        _weighting(
            "Uncertainty",
            "uncertainty",
            "learned homoscedastic uncertainty (Kendall et al., 2018)",
            r"L = \sum_i k_i e^{-s_i} L_i + \frac{1}{2} s_i \qquad "
            r"k_i = 1 \text{ if in } \mathtt{classification}\text{, else } \frac{1}{2}",
            ("log-variance", "trained", "automatic", "Kendall"),
            "Kendall et al. 2018, Multi-task learning using uncertainty to weigh losses, arXiv:1705.07115",
        ),
        _weighting(
            "DWA",
            "dwa",
            "dynamic weight average of epoch means (Liu et al., 2019)",
            r"w_i = n \operatorname{softmax}_i(r / \mathtt{temperature}) \qquad r_i = \frac{L_i(t - 1)}{L_i(t - 2)}",
            ("rate of descent", "epoch"),
            "Liu et al. 2019, End-to-end multi-task learning with attention, arXiv:1803.10704",
        ),
        _weighting(
            "GradNorm",
            "gradnorm",
            "balanced gradient norms at shared parameters (Chen et al., 2018)",
            r"\min_w \sum_i |G_i - \bar G \, r_i^{\mathtt{alpha}}| \qquad G_i = w_i \Vert \nabla L_i \Vert \qquad "
            r"r_i = \frac{L_i / L_i(0)}{\operatorname{mean}_j L_j / L_j(0)}",
            ("gradient normalization", "training rate", "shared layer"),
            "Chen et al. 2018, GradNorm, arXiv:1711.02257",
        ),
        _weighting(
            "SoftAdapt",
            "softadapt",
            "softmax over recent slopes (Heydari et al., 2019)",
            r"w_i = \operatorname{softmax}_i(\mathtt{beta} \, s) \qquad s_i = L_i(t) - L_i(t - 1)",
            ("finite difference", "rate of change"),
            "Heydari et al. 2019, SoftAdapt, arXiv:1912.12355",
        ),
        _weighting(
            "ReLoBRaLo",
            "relobralo",
            "relative balancing with random lookback (Bischof and Kraus, 2021)",
            r"w(t) = \mathtt{alpha} \left( \rho \, w(t - 1) + (1 - \rho) \, h(t, 0) \right) + (1 - \mathtt{alpha}) \, "
            r"h(t, t - 1) \qquad h(t, s) = n \operatorname{softmax} \left( \frac{L(t)}{\mathtt{tau} \, L(s)} \right)",
            ("physics-informed", "PINN", "progress"),
            "Bischof and Kraus 2021, Multi-objective loss balancing for physics-informed deep learning, "
            "arXiv:2110.09813",
        ),
        _weighting(
            "CoV",
            "cov",
            "coefficient of variation (Groenendijk et al., 2021)",
            r"w_i \propto \frac{\operatorname{std}(l_i)}{\operatorname{mean}(l_i)} \qquad "
            r"l_i(t) = \frac{L_i(t)}{\operatorname{mean}_{s < t} L_i(s)}",
            ("statistics", "variance", "depth"),
            "Groenendijk et al. 2021, Multi-loss weighting with coefficient of variations, arXiv:2009.01717",
        ),
        _weighting(
            "Balancer",
            "balancer",
            "a fixed share of the gradient at the predictions for each term (Defossez et al., 2022)",
            words=("loss balancer", "EnCodec", "audio codec", "gradient balancing", "vocoder"),
            formula=r"w_i = \frac{R \, \lambda_i}{\sum_j \lambda_j \,"
            r" \langle \Vert \partial L_i / \partial \hat x \Vert_2 \rangle_\beta}",
            source="Defossez et al. 2022, High Fidelity Neural Audio Compression, arXiv:2210.13438",
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


def _schedule(
    name: str,
    summary: str,
    example_args: Mapping[str, Any],
    formula: str = "",
    words: tuple[str, ...] = (),
    source: str = "",
) -> ScheduleSpec:
    """Return a spec; in the formula `e` is the epoch, and `t` goes from 0 at `start_epoch` to 1 at `end_epoch`."""
    return ScheduleSpec(
        name,
        f"lossreg.composition.schedules:{name}",
        summary=summary,
        aliases=(name.lower(),),
        words=words,
        formula=formula,
        source=source,
        example_args=example_args,
        capabilities=("held",),
    )


def _weighting(
    name: str,
    alias: str,
    summary: str,
    formula: str,
    words: tuple[str, ...],
    source: str,
    capabilities: tuple[str, ...] = ("permutable", "non_negative"),
) -> WeightingSpec:
    """Return a spec; in the formula `L_i` is the value of a term, and `w_i` its weight."""
    return WeightingSpec(
        name,
        f"lossreg.composition.weighting.{alias}:{name}",
        aliases=(alias,),
        summary=summary,
        words=("multi-task", "balance", *words),
        formula=formula,
        source=source,
        capabilities=capabilities,
    )
