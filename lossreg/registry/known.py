"""The components of the first-party distributions, so that one that is not installed can be named.

They are data of the core, in `known.json` beside this module. `python plugins/known.py` writes that file from the
installed plugins.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lossreg.registry.packages import unmet
from lossreg.registry.plugins import Switches
from lossreg.registry.specs import LossSpec, PreprocessSpec, ScheduleSpec, Spec, WeightingSpec

DISTRIBUTIONS = ("lossreg-crossfield", "lossreg-seg", "lossreg-wrappers")
"""The first-party distributions whose components are known; not the example, which is a template."""

FILE = Path(__file__).with_name("known.json")

_SPECS: Mapping[str, type[Spec]] = {
    spec_type.kind: spec_type for spec_type in (LossSpec, PreprocessSpec, WeightingSpec, ScheduleSpec)
}
FIELDS = (
    "name", "target", "summary", "aliases", "targets", "words", "tasks", "prediction", "ground_truth", "source",
    "requires", "provides", "package",
)  # fmt: skip
"""The fields of specs in the file: the names, and what a search reads."""


class Known(NamedTuple):
    """A component, with the distribution and the plugin that offer it."""

    distribution: str
    plugin: str
    spec: Spec


def missing() -> list[Known]:
    """Return the components of the distributions that are not installed, without those that the user disabled."""
    switches = Switches.from_environment()
    absent = {distribution for distribution in DISTRIBUTIONS if switches.autoload and unmet(distribution)}
    if not absent:
        return []
    return [one for one in _known() if one.distribution in absent and not switches.block(one.plugin, one.distribution)]


@functools.cache
def _known() -> tuple[Known, ...]:
    """Return what the file lists."""
    return tuple(_read(line) for line in json.loads(FILE.read_text(encoding="utf-8")))


def _read(line: dict[str, Any]) -> Known:
    distribution, plugin, kind = (line.pop(key) for key in ("distribution", "plugin", "kind"))
    return Known(distribution, plugin, _SPECS[kind](**line))
