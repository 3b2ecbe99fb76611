"""The conformance kit: checks that a loss keeps the contract of all losses, and so for the other components.

- `check_loss(loss)` returns a report; so do `check_schedule`, `check_weighting` and `check_preprocess`.
- `@parametrize_losses(plugin="my-losses")` runs a test for each loss of a package, `@parametrize_components` for each
  component.
- `pytest --pyargs lossreg.testing.suite --lossreg-plugin my-losses` does the same without any code.

For your own property tests there are Hypothesis strategies: `batches` (of `Values`), `thresholds`, `weights` and
`loss_configs`.

Names are imported at first use, so importing this package imports neither torch nor pytest nor Hypothesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossreg.testing.engine import Report as Report
    from lossreg.testing.engine import Result as Result
    from lossreg.testing.engine import check_component as check_component
    from lossreg.testing.engine import check_loss as check_loss
    from lossreg.testing.engine import check_preprocess as check_preprocess
    from lossreg.testing.engine import check_schedule as check_schedule
    from lossreg.testing.engine import check_weighting as check_weighting
    from lossreg.testing.engine import promises as promises
    from lossreg.testing.pytest_plugin import Component as Component
    from lossreg.testing.pytest_plugin import parametrize_components as parametrize_components
    from lossreg.testing.pytest_plugin import parametrize_losses as parametrize_losses
    from lossreg.testing.strategies import Values as Values
    from lossreg.testing.strategies import batches as batches
    from lossreg.testing.strategies import loss_configs as loss_configs
    from lossreg.testing.strategies import thresholds as thresholds
    from lossreg.testing.strategies import weights as weights

_HOME = {
    "check_component": "lossreg.testing.engine",
    "check_preprocess": "lossreg.testing.engine",
    "check_schedule": "lossreg.testing.engine",
    "check_weighting": "lossreg.testing.engine",
    "Component": "lossreg.testing.pytest_plugin",
    "parametrize_components": "lossreg.testing.pytest_plugin",
    "Report": "lossreg.testing.engine",
    "Result": "lossreg.testing.engine",
    "Values": "lossreg.testing.strategies",
    "batches": "lossreg.testing.strategies",
    "check_loss": "lossreg.testing.engine",
    "loss_configs": "lossreg.testing.strategies",
    "parametrize_losses": "lossreg.testing.pytest_plugin",
    "promises": "lossreg.testing.engine",
    "thresholds": "lossreg.testing.strategies",
    "weights": "lossreg.testing.strategies",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossreg.testing' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
