"""The plugin of the core: the schedules and adaptive weightings of lossreg itself."""

from __future__ import annotations

from collections.abc import Sequence

from lossreg.registry.hookspecs import hookimpl
from lossreg.registry.specs import ScheduleSpec, WeightingSpec


@hookimpl
def lossreg_schedules() -> Sequence[ScheduleSpec]:
    """Return the schedules of the core."""
    return (
        _schedule("Constant", "the same weight at every epoch", r"w = \mathtt{value}", ("fixed",)),
        _schedule(
            "Piecewise",
            "linear interpolation between points",
            r"w(e) = v_i + \frac{v_{i + 1} - v_i}{e_{i + 1} - e_i} (e - e_i), \; e_i \leq e < e_{i + 1}",
            ("epoch_thresholds", "list", "line", "warm-up", "ramp"),
        ),
        _schedule(
            "Step",
            "constant values between points",
            r"w(e) = v_i, \; e_i \leq e < e_{i + 1}",
            ("staircase", "milestones", "switch on", "switch off"),
        ),
        _schedule(
            "Polynomial",
            "polynomial decay from a start to an end",
            r"w = \mathtt{end} + (\mathtt{start} - \mathtt{end}) (1 - t)^{\mathtt{power}}",
            ("linear", "warm-up", "ramp"),
        ),
        _schedule(
            "Cosine",
            "half a cosine from a start to an end",
            r"w = \mathtt{end} + (\mathtt{start} - \mathtt{end}) \frac{1 + \cos \pi t}{2}",
            ("annealing", "warm-up", "smooth"),
        ),
        _schedule(
            "Exponential",
            "a constant factor per epoch",
            r"w = \mathtt{start}^{1 - t} \, \mathtt{end}^t",
            ("decay", "geometric"),
        ),
        _schedule(
            "Sigmoid",
            "sigmoid-shaped ramp-up (Laine and Aila, 2017)",
            r"w = \mathtt{start} + (\mathtt{end} - \mathtt{start}) \, e^{-5 (1 - t)^2}",
            ("warm-up", "consistency", "semi-supervised", "mean teacher"),
            "Laine and Aila 2017, Temporal ensembling for semi-supervised learning, arXiv:1610.02242",
        ),
        _schedule(
            "Cyclic",
            "cyclical annealing (Fu et al., 2019)",
            r"w = \mathtt{start} + (\mathtt{end} - \mathtt{start}) \min(\tau / \mathtt{ratio}, 1)",
            ("cycles", "KL annealing", "VAE", "sawtooth"),
            "Fu et al. 2019, Cyclical annealing schedule, arXiv:1903.10145",
        ),
        _schedule(
            "Pchip",
            "smooth monotone interpolation between points",
            words=("cubic", "spline", "monotonic"),
            source="Fritsch and Butland 1984, A method for constructing local monotone piecewise cubic interpolants, "
            "doi:10.1137/0905021",
        ),
        _schedule(
            "Akima",
            "smooth interpolation between points, robust to outliers",
            words=("cubic", "spline"),
            source="Akima 1970, A new method of interpolation and smooth curve fitting, doi:10.1145/321607.321609",
        ),
        _schedule("Chain", "several schedules one after another", words=("sequence", "phases", "stages")),
    )


@hookimpl
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the adaptive weightings of the core."""
    return (
        _weighting(
            "Uncertainty",
            "uncertainty",
            "learned homoscedastic uncertainty (Kendall et al., 2018)",
            r"L = \sum_i \frac{1}{2} e^{-s_i} L_i + \frac{1}{2} s_i",
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
    )


def _schedule(
    name: str, summary: str, formula: str = "", words: tuple[str, ...] = (), source: str = ""
) -> ScheduleSpec:
    """Return a spec; in the formula `e` is the epoch, and `t` goes from 0 at `start_epoch` to 1 at `end_epoch`."""
    target = f"lossreg.composition.schedules:{name}"
    aliases = (name.lower(),)
    return ScheduleSpec(name, target, summary=summary, aliases=aliases, words=words, formula=formula, source=source)


def _weighting(name: str, alias: str, summary: str, formula: str, words: tuple[str, ...], source: str) -> WeightingSpec:
    """Return a spec; in the formula `L_i` is the value of a term, and `w_i` its weight."""
    return WeightingSpec(
        name,
        f"lossreg.composition.weighting.{alias}:{name}",
        aliases=(alias,),
        summary=summary,
        words=("multi-task", "balance", *words),
        formula=formula,
        source=source,
    )
