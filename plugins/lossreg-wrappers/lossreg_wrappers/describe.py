"""Create the spec of a library loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossreg import LossSpec
from lossreg_wrappers.exceptions import EXCEPTIONS
from lossreg_wrappers.homes import homes
from lossreg_wrappers.units import masking


def library_loss(
    module: str,
    name: str,
    summary: str,
    wrap: Mapping[str, Any],
    *,
    example: str,
    args: Mapping[str, Any] | None = None,
    package: str | None = None,
    target: str | None = None,
    also_in: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    tensors: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
    **facts: Any,
) -> LossSpec:
    """Return the spec of one loss of a library.

    Args:
        module: the public module of the library (`"torch.nn"`).
        name: the public name of the loss in the module.
        summary: one line for listings.
        wrap: the forms of prediction and target, see `lossreg_wrappers.forms`, and what a mask chooses, see
            `lossreg_wrappers.units`.
        example: the function of `lossreg_wrappers.examples` that returns its example batch, or `"module:function"`.
        args: constructor arguments for the example.
        package: the distribution with the lowest version that has the loss; None if it is always installed.
        target: the import path of an adapted class, if a wrapper alone is not enough.
        also_in: other modules with all losses of the library.
        also: other public names of the loss in `module`.
        tensors: constructor parameters that are tensors.
        hidden: parameters that configs cannot set.
        **facts: other fields of the spec: `tasks`, `prediction`, `ground_truth`, `words`, `formula`, `source`, `url`.
    """
    return LossSpec(
        name,
        target or f"{module}:{name}",
        summary=summary,
        aliases=also,
        targets=(
            *(f"{home}.{name}" for home in (module, *also_in, *homes(module, name))),
            *(f"{module}.{other}" for other in also),
        ),
        wrap=wrap,
        tensors=tensors,
        masking=masking(wrap),
        hidden=hidden,
        package=package,
        example=example if ":" in example else f"lossreg_wrappers.examples:{example}",
        example_args=args or {},
        exceptions=EXCEPTIONS.get(module, {}).get(name, {}),
        **facts,
    )
