"""What a plugin offers, described as frozen data: a spec names its target and imports nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn, Self

from packaging.requirements import InvalidRequirement

from lossreg.arguments import shown
from lossreg.errors import PluginError
from lossreg.registry.packages import parsed

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*\Z")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
CAPABILITIES = ("permutable", "mean_of_samples")
"""What a loss may promise beyond what every loss does."""

LONGEST_NAME, LONGEST_LINE = 100, 1_000
"""Most characters of a name, and of a summary or a path."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_KEY = re.compile(r"(pred|gt)\.[^\s]+\Z")


@dataclass(frozen=True)
class Spec:
    """Describe one component without importing it.

    Args:
        name: the component's name, for a class the class's own name (`FocalLoss`).
        target: where it lives, as `"package.module:Attribute"`; imported at first use only.
        summary: one line for listings.
        aliases: short names that find it too (`focal`).
        targets: further dotted paths that stand for it as `_target_` in YAML (old import paths);
            the dotted form of `target` itself always does.
        hidden: parameters of the target that configs may not set and listings do not show.
        package: the distribution that the target needs beyond the plugin's own dependencies, with its lowest
            version (`"monai>=1.4"`). Where it is not installed the component is not offered: `lossreg list
            --all` shows it with the line that installs the package.

    Raises:
        PluginError: a field is malformed; the message names the field and what was expected.
    """

    name: str
    target: str
    summary: str = field(default="", kw_only=True)
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    targets: tuple[str, ...] = field(default=(), kw_only=True)
    hidden: tuple[str, ...] = field(default=(), kw_only=True)
    package: str | None = field(default=None, kw_only=True)

    kind = "component"

    def __post_init__(self) -> None:
        for name in (self.name, *self._strings("aliases")):
            if not is_name(name):
                raise PluginError(
                    f"{type(self).__name__}: {shown(name)} is no name; expected letters, digits, '_', '-' or '.', "
                    f"beginning with a letter, at most {LONGEST_NAME} of them"
                )
        if not is_target(self.target):
            self._refuse("target", self.target, "is not of the form 'package.module:Attribute'")
        if not isinstance(self.summary, str) or len(self.summary) > LONGEST_LINE or not self.summary.isprintable():
            self._refuse(
                "summary",
                self.summary,
                f"is no summary; expected one line of printable text, at most {LONGEST_LINE} characters",
            )
        for dotted in self._strings("targets"):
            if not _DOTTED.match(dotted):
                self._refuse("targets", dotted, "is not of the form 'package.module.Attribute'")
        self._identifiers("hidden")
        if self.package is not None and not _is_requirement(self.package):
            self._refuse("package", self.package, "is not of the form 'distribution>=version'")

    @classmethod
    def copy_of(cls, spec: Self) -> Self:
        """Return a spec of this very class with the fields of another, which are checked again."""
        return cls(**{field.name: getattr(spec, field.name) for field in fields(cls)})

    def _refuse(self, attribute: str, value: object, problem: str) -> NoReturn:
        raise PluginError(f"{type(self).__name__} {self.name!r}: {attribute} {shown(value)} {problem}")

    def _strings(self, attribute: str) -> tuple[str, ...]:
        """Freeze a field of strings as a tuple, refusing a bare string, which would be taken apart."""
        value = getattr(self, attribute)
        items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) else None
        if items is None or not all(isinstance(item, str) for item in items):
            raise PluginError(
                f"{type(self).__name__} {shown(self.name)}: {attribute} must be a tuple of strings, got {shown(value)}"
            )
        object.__setattr__(self, attribute, items)
        return items

    def _identifiers(self, attribute: str) -> None:
        for name in self._strings(attribute):
            if not name.isidentifier():
                self._refuse(attribute, name, "is no name of a parameter")

    def _keys(self, attribute: str) -> None:
        for key in self._strings(attribute):
            if not _KEY.match(key) or not key.isprintable():
                raise PluginError(
                    f"{type(self).__name__} {self.name!r}: {attribute} holds {shown(key)}; "
                    "expected 'pred.<key>' or 'gt.<key>'"
                )

    def _mapping(self, attribute: str, values: type = object) -> None:
        """Freeze a mapping by text as a dict of its own."""
        value = getattr(self, attribute)
        expected = "a mapping of text to text" if values is str else "a mapping by text"
        if not isinstance(value, Mapping):
            self._refuse(attribute, value, f"is not what was expected, {expected}")
        copied = dict(value)
        if not all(isinstance(key, str) and isinstance(item, values) for key, item in copied.items()):
            self._refuse(attribute, value, f"is not what was expected, {expected}")
        object.__setattr__(self, attribute, copied)

    @property
    def dotted(self) -> tuple[str, ...]:
        """Every dotted path that stands for this component as `_target_`."""
        return (self.target.replace(":", "."), *self.targets)


@dataclass(frozen=True)
class LossSpec(Spec):
    """Describe a loss: an `lossreg.Loss`, or any module class or function that `LossWrapper` can adapt.

    Args:
        wrap: options for the `LossWrapper` put around a target that is no `Loss`
            (`{"target_dtype": "long"}`); see `lossreg.LossWrapper`.
        tensors: constructor parameters that are tensors; a list in YAML becomes a float tensor.
        example: `"package.module:function"` that makes a `(pred_batch, gt_batch)` to try the loss on.
        example_args: constructor arguments to try it with, where it has parameters without a default.
        nothing: `"package.module:function"` that makes a `(pred_batch, gt_batch)` in which nothing is to be
            learned (every pixel ignored, no box), for which it promises a zero on the graph.
        capabilities: what more it promises: `"permutable"`, the order of samples leaves the value;
            `"mean_of_samples"`, the value of a batch is the mean of those of its samples.
        exceptions: checks of `lossreg.testing` that it fails, each with the reason; one that it passes is an error.
    """

    wrap: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    tensors: tuple[str, ...] = field(default=(), kw_only=True)
    example: str | None = field(default=None, kw_only=True)
    example_args: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    nothing: str | None = field(default=None, kw_only=True)
    capabilities: tuple[str, ...] = field(default=(), kw_only=True)
    exceptions: Mapping[str, str] = field(default_factory=dict, kw_only=True, hash=False)

    kind = "loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._identifiers("tensors")
        self._mapping("wrap")
        self._mapping("example_args")
        self._mapping("exceptions", str)
        for attribute in ("example", "nothing"):
            value = getattr(self, attribute)
            if value is not None and not is_target(value):
                self._refuse(attribute, value, "is not of the form 'package.module:function'")
        for capability in self._strings("capabilities"):
            if capability not in CAPABILITIES:
                raise PluginError(
                    f"LossSpec {self.name!r}: capabilities holds {shown(capability)}; "
                    f"expected {', '.join(CAPABILITIES)}"
                )


@dataclass(frozen=True)
class PreprocessSpec(Spec):
    """Describe a preprocess: the keys it reads and the keys it makes, each `pred.<key>` or `gt.<key>`."""

    requires: tuple[str, ...] = field(default=(), kw_only=True)
    provides: tuple[str, ...] = field(default=(), kw_only=True)

    kind = "preprocess"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keys("requires")
        self._keys("provides")
        if not self.provides:
            raise PluginError(f"PreprocessSpec {self.name!r}: provides is empty; name the keys that it makes")


@dataclass(frozen=True)
class WeightingSpec(Spec):
    """Describe an adaptive weighting: a `lossreg.Weighting` class."""

    kind = "weighting"


@dataclass(frozen=True)
class ScheduleSpec(Spec):
    """Describe a schedule: a class or function that makes a callable from epoch to weight."""

    kind = "schedule"


def is_name(text: object) -> bool:
    """Say whether a text may name a component."""
    return isinstance(text, str) and len(text) <= LONGEST_NAME and _NAME.match(text) is not None


def is_target(text: object) -> bool:
    """Say whether a text is of the form `"package.module:Attribute"`."""
    return isinstance(text, str) and len(text) <= LONGEST_LINE and _TARGET.match(text) is not None


def _is_requirement(text: object) -> bool:
    try:
        return isinstance(text, str) and not parsed(text).marker
    except InvalidRequirement:
        return False
