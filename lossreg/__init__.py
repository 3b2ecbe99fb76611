"""A plugin registry and composition engine for PyTorch losses.

Public names are imported at first use (PEP 562), so importing lossreg does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossreg.composition.from_dict import FromDict as FromDict
    from lossreg.composition.multiloss import MultiLoss as MultiLoss
    from lossreg.composition.preprocess import Preprocess as Preprocess
    from lossreg.composition.schedules import Schedule as Schedule
    from lossreg.composition.weighting.base import Weighting as Weighting
    from lossreg.config.build import build_compound_loss_from_config as build_compound_loss_from_config
    from lossreg.config.build import build_loss_from_config as build_loss_from_config
    from lossreg.config.build import get_loss_function as get_loss_function
    from lossreg.config.build import load_loss as load_loss
    from lossreg.config.card import rebuild as rebuild
    from lossreg.errors import ConfigError as ConfigError
    from lossreg.errors import LossregError as LossregError
    from lossreg.losses.base import Loss as Loss
    from lossreg.losses.create import create_loss as create_loss
    from lossreg.losses.mean import Mean as Mean
    from lossreg.losses.wrapper import LossWrapper as LossWrapper
    from lossreg.registry import find_loss as find_loss
    from lossreg.registry import list_losses as list_losses
    from lossreg.registry import refresh as refresh
    from lossreg.registry import register as register
    from lossreg.registry.hookspecs import hookimpl as hookimpl
    from lossreg.registry.specs import LossSpec as LossSpec
    from lossreg.registry.specs import PreprocessSpec as PreprocessSpec
    from lossreg.registry.specs import ScheduleSpec as ScheduleSpec
    from lossreg.registry.specs import WeightingSpec as WeightingSpec
    from lossreg.training.calibration import calibrate_norms as calibrate_norms
    from lossreg.training.diagnosis import diagnose as diagnose
    from lossreg.training.log import TermLog as TermLog
    from lossreg.training.monitor import Monitor as Monitor

__version__ = "0.1.0"

_HOME = {
    "ConfigError": "lossreg.errors",
    "FromDict": "lossreg.composition.from_dict",
    "Loss": "lossreg.losses.base",
    "LossSpec": "lossreg.registry.specs",
    "LossWrapper": "lossreg.losses.wrapper",
    "LossregError": "lossreg.errors",
    "Mean": "lossreg.losses.mean",
    "Monitor": "lossreg.training.monitor",
    "MultiLoss": "lossreg.composition.multiloss",
    "Preprocess": "lossreg.composition.preprocess",
    "PreprocessSpec": "lossreg.registry.specs",
    "Schedule": "lossreg.composition.schedules",
    "ScheduleSpec": "lossreg.registry.specs",
    "TermLog": "lossreg.training.log",
    "Weighting": "lossreg.composition.weighting.base",
    "WeightingSpec": "lossreg.registry.specs",
    "build_compound_loss_from_config": "lossreg.config.build",
    "build_loss_from_config": "lossreg.config.build",
    "calibrate_norms": "lossreg.training.calibration",
    "create_loss": "lossreg.losses.create",
    "diagnose": "lossreg.training.diagnosis",
    "find_loss": "lossreg.registry",
    "get_loss_function": "lossreg.config.build",
    "hookimpl": "lossreg.registry.hookspecs",
    "list_losses": "lossreg.registry",
    "load_loss": "lossreg.config.build",
    "rebuild": "lossreg.config.card",
    "refresh": "lossreg.registry",
    "register": "lossreg.registry",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossreg' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
