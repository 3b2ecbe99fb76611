"""The other hooks: a schedule, a weighting, a preprocess, and `lossreg_wrap` for a library with another interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg import LossSpec, PreprocessSpec, ScheduleSpec, WeightingSpec, hookimpl


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the spec of a loss of another library, with an option that the hook below recognises."""
    return (
        LossSpec(
            "SurfaceLoss",
            "lossreg_example.more.surface:SurfaceLoss",
            summary="error of heights and of their slopes, from a library with another interface",
            tasks=("regression", "depth"),
            prediction="heights (N, C, H, W)",
            ground_truth="heights (N, C, H, W)",
            words=("L1", "slope", "gradient"),
            formula=r"L = \operatorname{mean} |e| + \mathtt{slope\_weight} \left( \operatorname{mean} |\partial_x e| "
            r"+ \operatorname{mean} |\partial_y e| \right) \qquad e = x - y",
            wrap={"returns": "parts"},
            example="lossreg_example.examples:heights",
            exceptions={
                "one_pixel": "a slope is the difference of two pixels, and the library computes a mean over none"
            },
        ),
    )


@hookimpl
def lossreg_schedules() -> Sequence[ScheduleSpec]:
    """Return the spec of a schedule; it declares that it holds its end values, which the conformance kit checks."""
    return (
        ScheduleSpec(
            "Triangle",
            "lossreg_example.more.schedule:Triangle",
            summary="rises to a peak and falls to 0",
            aliases=("triangle",),
            words=("peak", "warm-up", "tent"),
            formula=r"w(e) = \mathtt{height} \max(1 - |e - \mathtt{peak}| / \mathtt{peak}, 0)",
            capabilities=("held",),
        ),
    )


@hookimpl
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the spec of an adaptive weighting, with what it promises beyond the contract."""
    return (
        WeightingSpec(
            "InverseMean",
            "lossreg_example.more.weighting:InverseMean",
            summary="one over a running mean of each term",
            aliases=("inverse_mean",),
            words=("balance", "running mean"),
            capabilities=("permutable", "non_negative"),
            formula=r"w_i = 1 / \langle L_i \rangle",
        ),
    )


@hookimpl
def lossreg_preprocesses() -> Sequence[PreprocessSpec]:
    """Return the spec of a preprocess; its keys tell lossreg when to run it."""
    return (
        PreprocessSpec(
            "KnownHeights",
            "lossreg_example.more.preprocess:KnownHeights",
            summary="1 where the height is known",
            aliases=("known_heights",),
            requires=("gt.height",),
            provides=("gt.known",),
            words=("NaN", "missing labels", "mask"),
            formula=r"m = 1 \mathrm{\;where\;} y \mathrm{\;is\;finite,\;else\;} 0",
            example="lossreg_example.examples:heights",
            capabilities=("per_sample",),
        ),
    )


@hookimpl
def lossreg_wrap(loss: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Return a `lossreg.Loss` that wraps a loss of the library, or None.

    lossreg calls this hook of every plugin for every loss that is not a `lossreg.Loss`, so return None for other
    losses. Most libraries need no hook: lossreg wraps losses that are called as `loss(prediction, target)`.
    """
    if options.get("returns") != "parts":
        return None
    from lossreg import LossWrapper  # imported here, since it imports torch
    from lossreg_example.more.surface import SumOfParts

    return LossWrapper(SumOfParts(loss), name, **{key: options[key] for key in options if key != "returns"})
