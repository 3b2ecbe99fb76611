"""The hook `lossreg_wrap`, for a library whose losses are not called as `loss(prediction, target) -> scalar`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg import LossSpec, hookimpl


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the foreign loss, with an option by which the hook below knows it."""
    return (
        LossSpec(
            "SurfaceLoss",
            "lossreg_example.more.surface:SurfaceLoss",
            summary="error of heights and of their slopes, from a library with an interface of its own",
            wrap={"returns": "parts"},
            example="lossreg_example.examples:heights",
            exceptions={"one_pixel": "a slope is the difference of two pixels, and the library takes the mean of none"},
        ),
    )


@hookimpl
def lossreg_wrap(loss: Any, name: str, options: Mapping[str, Any]) -> Any:
    """Turn a foreign loss into a `lossreg.Loss`.

    lossreg asks every plugin, for every loss that is no `lossreg.Loss`, so take only what is yours. Most
    libraries need no such hook: what is called as `loss(prediction, target)` is wrapped by lossreg itself.
    """
    if options.get("returns") != "parts":
        return None
    from lossreg import LossWrapper  # imported here, since it imports torch
    from lossreg_example.more.surface import SumOfParts

    return LossWrapper(SumOfParts(loss), name, **{key: options[key] for key in options if key != "returns"})
