"""A forward that is compiled when first called, or runs as it is where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lossreg.errors import CompilerMissingWarning, warn

_MISSING = ("InvalidCxxCompiler", "TritonMissing", "GPUTooOldForTriton")  # the names in torch._inductor.exc


class CompiledCall:
    """Call a function through `torch.compile`; as it is, after one warning, where the machine cannot compile.

    Nothing of the compiler is imported before the first call. Every other error of the compiler is raised.

    Args:
        function: what to call.
        owner: whose call it is, for the warning.
        options: keyword arguments of `torch.compile`.
    """

    def __init__(self, function: Callable[..., Any], owner: str, options: dict[str, Any]) -> None:
        self.function, self.owner, self.options = function, owner, options
        self._run: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns."""
        if self._run is None:
            self._run = self._compile()
        if self._run is self.function:
            return self.function(*args, **kwargs)
        try:
            return self._run(*args, **kwargs)
        except RuntimeError as error:
            missing = _missing_compiler(error)
            if missing is None:
                raise
            self._run = self._plainly(missing)
        return self.function(*args, **kwargs)

    def _compile(self) -> Callable[..., Any]:
        try:
            made: Callable[..., Any] = torch.compile(self.function, **self.options)
        except RuntimeError as error:  # this Python, or this system, is not supported
            return self._plainly(error)
        return made

    def _plainly(self, reason: BaseException) -> Callable[..., Any]:
        summary = " ".join(str(reason).split("\n\n")[0].split())
        warn(
            f"{self.owner} is not compiled and runs as it is, with the same values: {summary}. Install a compiler "
            "(on Linux g++, for a GPU also triton), or leave out `compile`",
            CompilerMissingWarning,
        )
        return self.function


def _missing_compiler(error: BaseException) -> BaseException | None:
    """Return what says that there is no compiler, among an error and what it wraps."""
    wrapped = getattr(error, "inner_exception", None)
    for found in (error, wrapped, error.__cause__):
        if type(found).__name__ in _MISSING:
            return found
    return None
