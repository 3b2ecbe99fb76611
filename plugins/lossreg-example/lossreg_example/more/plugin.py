"""The hook `lossreg_wrap`, for a library whose losses are not called as `loss(prediction, target) -> scalar`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg import LossSpec, hookimpl


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
