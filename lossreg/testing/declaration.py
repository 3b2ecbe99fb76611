"""Checks of the spec of a component, its parameters, and how a loss is built."""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys

import yaml

from lossreg.config.build import build_compound_loss_from_config
from lossreg.losses.base import Loss
from lossreg.registry import catalog
from lossreg.registry.params import parameters
from lossreg.testing.contract import Broken, applies, check, require
from lossreg.testing.part import Part
from lossreg.testing.subject import Subject, close

_WITHOUT_TORCH = """
import json, os, sys, warnings
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # output of plugins must not mix with the answer
warnings.simplefilter("ignore")
sys.modules["torch"] = None  # makes `import torch` an ImportError
from lossreg.registry import catalog
json.dump({plugin.name: str(plugin.error) for plugin in catalog().plugins if plugin.error}, answer)
"""


@functools.cache
def _failing_without_torch() -> dict[str, str]:
    """Return the plugins that cannot be loaded without torch, each with its error.

    Raises:
        Broken: the process that loads them ends before it answers.
    """
    environment = {key: value for key, value in os.environ.items() if key != "LOSSREG_STRICT"}  # it raises at the first
    command = [sys.executable, "-c", _WITHOUT_TORCH]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode or not process.stdout:
        said = (process.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise Broken(f"the process that loads all plugins without torch ended, code {process.returncode}: {said}")
    errors: dict[str, str] = json.loads(process.stdout)
    return errors


EVERY = ("loss", "schedule", "weighting", "preprocess")


@check(kinds=EVERY)
def described_without_torch(subject: Subject | Part) -> None:
    """The plugin does not import torch.

    Write targets as strings ("package.module:Class"), and do not import torch in the plugin's module or in the
    `__init__.py` of its package.
    """
    applies(subject.registered and subject.entry and subject.entry.local is None, "it is not from an installed plugin")
    assert subject.entry is not None
    reason = _failing_without_torch().get(subject.entry.plugin.name)
    require(reason is None, f"without torch, plugin {subject.entry.plugin.name!r} fails with: {reason}")


@check(kinds=EVERY)
def documented(subject: Subject | Part) -> None:
    """The component has a docstring and a one-line summary, in its spec or as the docstring's first line.

    Write a docstring with the formula, the shapes and the arguments, and set `summary` in the spec.
    """
    applies(subject.entry, "it is an object")
    assert subject.entry is not None
    target = subject.entry.load()
    own = vars(target) if inspect.isclass(target) else {}
    constructor = own["__init__"].__doc__ if "__init__" in own else None  # not of a base class
    text = inspect.cleandoc(target.__doc__ or constructor or "")
    require(text, "it has no docstring")
    summary = subject.spec.summary or text.partition("\n")[0]
    expected = "expected one line of at most 120 characters"
    require("\n" not in summary and len(summary) <= 120, f"its summary: {expected}, found {summary!r}")


@check(kinds=EVERY)
def parameters_match(subject: Subject | Part) -> None:
    """The parameters in the spec are in the signature, and hidden parameters have a default.

    Correct `tensors`, `hidden` or `example_args` in the spec, or the signature.
    """
    applies(subject.entry, "it is an object")
    assert subject.entry is not None
    known = {parameter.name: parameter for parameter in parameters(subject.entry.load())}
    spec = subject.spec
    tensors = getattr(spec, "tensors", ())
    for field, names in (("tensors", tensors), ("hidden", spec.hidden), ("example_args", spec.example_args)):
        unknown = sorted(set(names) - set(known))
        require(not unknown, f"{field}: expected parameters of {list(known)}, found {unknown}")
    required = [name for name in spec.hidden if known[name].required]
    require(not required, f"hidden: expected parameters with a default, found {required}")


@check()
def builds(subject: Subject) -> None:
    """The loss can be built from its defaults, or from `example_args` if some parameters have none.

    Give every parameter a default, or set valid `example_args` in the spec. Let the constructor of a `Loss` take `name`
    and pass it to `super().__init__(name)`.
    """
    loss = subject.loss()
    require(isinstance(loss, Loss), f"expected a lossreg.Loss, found a {type(loss).__name__}")
    others = list(loss.parameters()) + list(loss.buffers())
    require(all(t.device.type == "cpu" for t in others), "without a device argument its tensors are not on the CPU")


@check("builds", "deterministic")
def builds_from_yaml(subject: Subject) -> None:
    """The loss can be built from YAML, by its name and by each of its dotted paths, with the same value.

    Use numbers, strings, lists and mappings as constructor parameters, and list tensor parameters in `tensors`.
    """
    applies(subject.registered, "it is not registered")
    expected = subject.value()
    assert subject.entry is not None
    known = {dotted for dotted in subject.spec.dotted if _is_known(dotted, subject.name)}
    for key, name in [("loss", subject.name), *(("_target_", dotted) for dotted in sorted(known))]:
        term = {key: name, "name": "term", "weight": 1.0, "args": dict(subject.spec.example_args)}
        text = yaml.safe_dump({"loss_list": [term]})
        subject.seed()
        built = build_compound_loss_from_config(yaml.safe_load(text)).terms[0].loss
        assert isinstance(built, Loss)
        actual = subject.value(built)
        require(close(actual, expected), f"built by `{key}: {name}`: expected {expected:.6g}, found {actual:.6g}")


def _is_known(dotted: str, name: str) -> bool:
    """Return whether a dotted path means only this loss; several losses of a library may share a path."""
    return [entry.name for entry in catalog().losses if dotted in entry.spec.dotted] == [name]
