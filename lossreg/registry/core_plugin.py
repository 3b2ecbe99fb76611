"""The plugin of the core: the schedules and adaptive weightings of lossreg itself."""

from __future__ import annotations

from collections.abc import Sequence

from lossreg.registry.hookspecs import hookimpl
from lossreg.registry.specs import ScheduleSpec, WeightingSpec


@hookimpl
def lossreg_schedules() -> Sequence[ScheduleSpec]:
    """Return the schedules of the core."""
    return (
        _schedule("Constant", "the same weight at every epoch"),
        _schedule("Piecewise", "linear interpolation between points"),
        _schedule("Step", "constant values between points"),
        _schedule("Polynomial", "polynomial decay from a start to an end"),
        _schedule("Cosine", "half a cosine from a start to an end"),
        _schedule("Exponential", "a constant factor per epoch"),
        _schedule("Sigmoid", "sigmoid-shaped ramp-up (Laine and Aila, 2017)"),
        _schedule("Cyclic", "cyclical annealing (Fu et al., 2019)"),
        _schedule("Pchip", "smooth monotone interpolation between points"),
        _schedule("Akima", "smooth interpolation between points, robust to outliers"),
        _schedule("Chain", "several schedules one after another"),
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
    )


def _schedule(name: str, summary: str) -> ScheduleSpec:
    return ScheduleSpec(name, f"lossreg.composition.schedules:{name}", aliases=(name.lower(),), summary=summary)


def _weighting(name: str, alias: str, summary: str) -> WeightingSpec:
    return WeightingSpec(name, f"lossreg.composition.weighting.{alias}:{name}", aliases=(alias,), summary=summary)
