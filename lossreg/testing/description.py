"""How a loss presents itself: its spec, its parameters, and how it is built from them."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys

import yaml

from lossreg.config.build import build_compound_loss_from_config
from lossreg.losses.base import Loss
from lossreg.registry import catalog
from lossreg.registry.params import parameters
from lossreg.testing.contract import applies, check, require
from lossreg.testing.subject import Subject, close

_WITHOUT_TORCH = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.modules["torch"] = None  # to import it is an ImportError now
from lossreg.registry import catalog
print(json.dumps({plugin.name: str(plugin.error) for plugin in catalog().plugins if plugin.error}))
"""


@functools.cache
def _failing_without_torch() -> dict[str, str]:
    """Return which plugins cannot describe themselves where torch cannot be imported, and why."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT_TORCH], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@check()
def described_without_torch(subject: Subject) -> None:
    """The plugin that describes it imports no torch.

    Name targets as text ("package.module:Class") and keep `import torch` out of the plugin's module and of its
    package's `__init__.py`.
    """
    applies(subject.registered and subject.entry and subject.entry.local is None, "it is of no installed plugin")
    assert subject.entry is not None
    reason = _failing_without_torch().get(subject.entry.plugin.name)
    require(reason is None, f"without torch, plugin {subject.entry.plugin.name!r} fails with: {reason}")


@check()
def documented(subject: Subject) -> None:
    """It has a docstring, and a summary of one line, declared or the docstring's first.

    Write a docstring with the formula, its shapes and its arguments, and set `summary` in the spec.
    """
    applies(subject.entry, "it is an object")
    assert subject.entry is not None
    made = subject.entry.load()
    constructor = vars(made).get("__init__") if inspect.isclass(made) else None
    text = inspect.cleandoc(made.__doc__ or getattr(constructor, "__doc__", None) or "")  # its own, no base class's
    require(text, "it has no docstring")
    summary = subject.spec.summary or text.partition("\n")[0]
    require(
        "\n" not in summary and len(summary) <= 120, f"its summary is no line of at most 120 characters: {summary!r}"
    )


@check()
def parameters_match(subject: Subject) -> None:
    """The parameters that its spec names are in its signature, and those that are hidden have a default.

    Correct `tensors`, `hidden` or `example_args` in the spec, or the signature.
    """
    applies(subject.entry, "it is an object")
    assert subject.entry is not None
    found = {parameter.name: parameter for parameter in parameters(subject.entry.load())}
    spec = subject.spec
    for field, names in (("tensors", spec.tensors), ("hidden", spec.hidden), ("example_args", spec.example_args)):
        missing = sorted(set(names) - set(found))
        require(not missing, f"{field} names {missing}, but its parameters are {list(found)}")
    required = [name for name in spec.hidden if found[name].required]
    require(not required, f"hidden names {required}, which have no default")


@check()
def builds(subject: Subject) -> None:
    """It is built from its defaults, or from `example_args` where parameters have none.

    Give every parameter a default, or set `example_args` in the spec to arguments that work.
    """
    loss = subject.loss()
    require(isinstance(loss, Loss), f"it is a {type(loss).__name__}, no lossreg.Loss")
    others = list(loss.parameters()) + list(loss.buffers())
    require(all(t.device.type == "cpu" for t in others), "its tensors are not on the CPU where none is asked for")


@check("builds", "value")
def builds_from_yaml(subject: Subject) -> None:
    """It is built from YAML by its name and by each of its old dotted paths, and then gives the same value.

    Take plain data (numbers, strings, lists, mappings) in the constructor, and declare in `tensors` what is to be
    a tensor.
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
        found = subject.value(built)
        require(close(found, expected), f"as `{key}: {name}` it gives {found:.6g}, built by name {expected:.6g}")


def _is_known(dotted: str, name: str) -> bool:
    """Say whether a dotted path stands for this loss alone; several of one library may share a path."""
    return [entry.name for entry in catalog().losses if dotted in entry.spec.dotted] == [name]
