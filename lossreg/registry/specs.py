"""Specs: frozen dataclasses that describe the components of a plugin without importing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, ClassVar, NoReturn, Self

from packaging.requirements import InvalidRequirement

from lossreg.arguments import shown
from lossreg.errors import PluginError
from lossreg.registry.packages import parsed

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*\Z")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
LONGEST_NAME, LONGEST_LINE = 100, 1_000
"""Maximum number of characters of a name, and of a summary or a path."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_URL = re.compile(r"https://[^\s]+\Z")
_KEY = re.compile(r"(pred|gt)\.[^\s]+\Z")


@dataclass(frozen=True)
class Spec:
    """Describes one component without importing it.

    Args:
        name: the name of the component; for a class the name of the class (`FocalLoss`).
        target: the import path, as `"package.module:Attribute"`; imported at first use.
        summary: one line for listings.
        aliases: other short names (`focal`).
        targets: other dotted paths that are accepted as `_target_` in YAML, such as old import paths. The dotted form
            of `target` is always accepted.
        hidden: parameters of the target that configs cannot set and listings do not show.
        words: other words that people search for (`"imbalance"`); `lossreg list WORD` finds the component by them.
        formula: the formula in LaTeX, without dollar signs.
        source: who described it first (`"Milletari et al. 2016, V-Net, arXiv:1606.04797"`).
        url: the page that documents it, `https://...`.
        package: a distribution that the target needs besides the dependencies of the plugin, with its lowest version
            (`"monai>=1.4"`). If it is not installed, the component is not offered, and `lossreg list --all` shows
            how to install it.
        example_args: constructor arguments for the checks of `lossreg.testing`, if parameters have no default.
        capabilities: additional promises, which `lossreg.testing` checks; each kind has its own.
        exceptions: checks of `lossreg.testing` that the component may fail, each with the reason. An exception that is
            not needed is a failure.

    Raises:
        PluginError: a field is malformed; the message names the field, the value and what was expected.
    """

    name: str
    target: str
    _: KW_ONLY
    summary: str = ""
    aliases: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    formula: str = ""
    source: str = ""
    url: str = ""
    package: str | None = None
    example_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    capabilities: tuple[str, ...] = ()
    exceptions: Mapping[str, str] = field(default_factory=dict, hash=False)

    kind = "component"
    _known_capabilities: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self._strings("aliases")):
            if not is_name(name):
                raise PluginError(
                    f"{type(self).__name__}: name or alias: expected at most {LONGEST_NAME} letters, digits, '_', '-' "
                    f"or '.', beginning with a letter or '_', found {shown(name)}"
                )
        if not is_target(self.target):
            self._refuse("target", self.target, "'package.module:Attribute'")
        self._line("summary")
        for dotted in self._strings("targets"):
            if not _DOTTED.match(dotted):
                self._refuse("targets", dotted, "'package.module.Attribute'")
        self._identifiers("hidden")
        self._lines("words")
        self._line("formula")
        self._line("source")
        if self._line("url") and self.url and not _URL.match(self.url):
            self._refuse("url", self.url, "an address that begins with 'https://'")
        if self.package is not None and not _is_requirement(self.package):
            self._refuse("package", self.package, "'distribution>=version'")
        self._mapping("example_args")
        self._mapping("exceptions", str)
        for capability in self._strings("capabilities"):
            if capability not in self._known_capabilities:
                self._refuse("capabilities", capability, " or ".join(self._known_capabilities) or "none")

    @classmethod
    def copy_of(cls, spec: Self) -> Self:
        """Return an instance of exactly this class with the fields of another spec, checked again."""
        return cls(**{field.name: getattr(spec, field.name) for field in fields(cls)})

    def _refuse(self, attribute: str, value: object, expected: str) -> NoReturn:
        raise PluginError(
            f"{type(self).__name__} {shown(self.name)}: {attribute}: expected {expected}, found {shown(value)}"
        )

    def _line(self, attribute: str) -> bool:
        """Return True; a field that is no printable line is an error."""
        value = getattr(self, attribute)
        if not _is_line(value):
            self._refuse(attribute, value, f"one printable line of at most {LONGEST_LINE} characters")
        return True

    def _lines(self, attribute: str) -> None:
        for line in self._strings(attribute):
            if not line or not _is_line(line):
                self._refuse(attribute, line, f"printable words, at most {LONGEST_LINE} characters")

    def _strings(self, attribute: str) -> tuple[str, ...]:
        """Convert a field of strings to a tuple and return it; a single string is an error."""
        value = getattr(self, attribute)
        items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) else None
        if items is None or not all(isinstance(item, str) for item in items):
            self._refuse(attribute, value, "a tuple of strings")
        object.__setattr__(self, attribute, items)
        return items

    def _identifiers(self, attribute: str) -> None:
        for name in self._strings(attribute):
            if not name.isidentifier():
                self._refuse(attribute, name, "the name of a parameter")

    def _keys(self, attribute: str) -> None:
        for key in self._strings(attribute):
            if not _KEY.match(key) or not key.isprintable():
                self._refuse(attribute, key, "'pred.<key>' or 'gt.<key>'")

    def _function(self, attribute: str) -> None:
        value = getattr(self, attribute)
        if value is not None and not is_target(value):
            self._refuse(attribute, value, "'package.module:function'")

    def _mapping(self, attribute: str, values: type = object) -> None:
        """Replace a mapping with string keys by a copy."""
        value = getattr(self, attribute)
        expected = "a mapping of strings to strings" if values is str else "a mapping with string keys"
        if not isinstance(value, Mapping):
            self._refuse(attribute, value, expected)
        copied = dict(value)
        if not all(isinstance(key, str) and isinstance(item, values) for key, item in copied.items()):
            self._refuse(attribute, value, expected)
        object.__setattr__(self, attribute, copied)

    @property
    def dotted(self) -> tuple[str, ...]:
        """All dotted paths that are accepted as `_target_` for this component."""
        return (self.target.replace(":", "."), *self.targets)


@dataclass(frozen=True, kw_only=True)
class LossSpec(Spec):
    """Describes a loss: a `lossreg.Loss`, or any module class or function that `LossWrapper` can wrap.

    Args:
        wrap: options of the `LossWrapper` for a target that is not a `Loss` (`{"target_dtype": "long"}`); see
            `lossreg.LossWrapper`.
        tasks: what it is for, a few words each, the usual ones first (`"segmentation"`, `"metric learning"`).
        prediction: what the prediction is, with its shape: `"logits (N, C, ...)"`.
        ground_truth: what the target is, with its shape: `"class indices (N, ...)"`.
        tensors: constructor parameters that are tensors; a list in YAML becomes a float tensor.
        masking: one line for `lossreg show`: what a term's mask chooses (`"pixels; with a count"`), or `"no: "` and why
            the loss takes none. By default as the class says (`Loss.masks`).
        example: `"package.module:function"` that returns an example `(pred_batch, gt_batch)`.
        nothing: `"package.module:function"` that returns a `(pred_batch, gt_batch)` with nothing to learn (every
            pixel ignored, no box). The loss must then return a zero on the graph.
        capabilities: additional promises. `"permutable"`: permuting the samples does not change the value.
            `"mean_of_samples"`: the value of a batch is also the mean of the values of its samples.
    """

    wrap: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tasks: tuple[str, ...] = ()
    prediction: str = ""
    ground_truth: str = ""
    tensors: tuple[str, ...] = ()
    masking: str = ""
    example: str | None = None
    nothing: str | None = None

    kind = "loss"
    _known_capabilities = ("permutable", "mean_of_samples")

    @property
    def unmasked(self) -> str:
        """Why the loss takes no mask, as `masking` says it; empty if it may take one."""
        return self.masking.removeprefix("no: ") if self.masking.startswith("no: ") else ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lines("tasks")
        self._line("prediction")
        self._line("ground_truth")
        self._identifiers("tensors")
        self._line("masking")
        self._mapping("wrap")
        self._function("example")
        self._function("nothing")


@dataclass(frozen=True, kw_only=True)
class PreprocessSpec(Spec):
    """Describes a preprocess.

    Args:
        requires: the keys that it reads, such as `pred.<key>` or `gt.<key>`.
        provides: the keys that it computes.
        example: `"package.module:function"` that returns an example `(pred_batch, gt_batch)`.
        capabilities: additional promises. `"per_sample"`: what it computes of a sample depends on that sample alone.
    """

    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    example: str | None = None

    kind = "preprocess"
    _known_capabilities = ("per_sample",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keys("requires")
        self._keys("provides")
        self._function("example")
        if not self.provides:
            self._refuse("provides", self.provides, "the keys that the preprocess computes")


@dataclass(frozen=True)
class WeightingSpec(Spec):
    """Describes an adaptive weighting: a `lossreg.Weighting` class.

    Args:
        capabilities: additional promises. `"permutable"`: another order of the terms gives the same weights in that
            order. `"non_negative"`: no weight is below 0. What a constant factor on the values does, the class says
            (`Domain.scale`).
    """

    kind = "weighting"
    _known_capabilities = ("permutable", "non_negative")


@dataclass(frozen=True)
class ScheduleSpec(Spec):
    """Describes a schedule: a class or function that returns a callable from epoch to weight.

    Args:
        capabilities: additional promises. `"held"`: outside its range it holds its end values.
    """

    kind = "schedule"
    _known_capabilities = ("held",)


def is_name(text: object) -> bool:
    """Return whether a string is a valid name of a component."""
    return isinstance(text, str) and len(text) <= LONGEST_NAME and _NAME.match(text) is not None


def is_target(text: object) -> bool:
    """Return whether a string has the form `"package.module:Attribute"`."""
    return isinstance(text, str) and len(text) <= LONGEST_LINE and _TARGET.match(text) is not None


def _is_line(text: object) -> bool:
    return isinstance(text, str) and len(text) <= LONGEST_LINE and text.isprintable()


def _is_requirement(text: object) -> bool:
    try:
        return isinstance(text, str) and not parsed(text).marker
    except InvalidRequirement:
        return False
