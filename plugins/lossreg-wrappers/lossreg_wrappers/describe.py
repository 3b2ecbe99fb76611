"""From a row of a plugin's table to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossreg import LossSpec
from lossreg_wrappers.exceptions import EXCEPTIONS
from lossreg_wrappers.homes import homes


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
) -> LossSpec:
    """Describe one loss of a library.

    Args:
        module: the library's public module (`"torch.nn"`).
        name: the loss's public name there.
        summary: one line.
        wrap: in which form it takes what it takes, see `lossreg_wrappers.forms`.
        example: the function of `lossreg_wrappers.examples` that makes a batch for it.
        args: constructor arguments to try it with.
        package: the distribution, with the lowest version that has the loss; None for what is always there.
        target: what stands for the class, where it has to be adapted by more than a wrapper.
        also_in: further modules that have all losses of the library.
        also: further public names of it in `module`.
        tensors: constructor parameters that are tensors.
        hidden: parameters that configs may not set.
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
        hidden=hidden,
        package=package,
        example=f"lossreg_wrappers.examples:{example}",
        example_args=args or {},
        exceptions=EXCEPTIONS.get(module, {}).get(name, {}),
    )
