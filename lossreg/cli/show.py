"""`lossreg show`: what one component is for, what it takes and returns, and its parameters."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import yaml

from lossreg.cli import config_keys
from lossreg.cli.catalog import KINDS, as_json, described, is_blocked, is_glob, origin_of, section_of
from lossreg.cli.choice import Choice
from lossreg.cli.import_option import importing
from lossreg.cli.output import Safe, echo, show_json, stream, styled
from lossreg.errors import AmbiguousNameError, UnknownNameError
from lossreg.keys import EPOCH, FROM_DICT, FROM_DICT_SUMMARY, FromDict, Term
from lossreg.printable import paragraph, width_of
from lossreg.registry import catalog
from lossreg.registry.components import Entry
from lossreg.registry.docstrings import plain_words
from lossreg.registry.signature import LOSS
from lossreg.registry.source import Sources
from lossreg.registry.specs import LossSpec, PreprocessSpec, Spec
from lossreg.values import ANYTHING, did_you_mean, flow, keys_of

if TYPE_CHECKING:
    from lossreg.registry.params import Parameter

_WIDTH, _WIDEST = 80, 100
"""Width of the text where there is no terminal, and the most in one."""
_UNTOLD = object()
"""A default that no text describes."""


@click.command("show", epilog="Example: lossreg show crossfield_align")
@click.argument("name")
@click.option("--kind", type=Choice(KINDS), help="Where a loss and, say, a schedule share a name.")
@importing
@as_json
def show_command(name: str, kind: str | None, as_json: bool) -> None:
    """Show one component: what it is for, what it takes, its parameters, and a YAML line to copy.

    NAME is a full name (seg/SegLoss), a bare name (SegLoss), an alias (seg) or a dotted path (torch.nn.L1Loss); or
    from_dict, for the losses that a model computes itself; or a key of a config, such as mask.
    """
    from lossreg.registry.params import parameters

    if name == FROM_DICT and kind in (None, "loss"):
        _show_from_dict(as_json)
        return
    if is_glob(name):
        raise click.ClickException(
            f"expected one name, found {name!r}; `lossreg list {shlex.quote(name)}` lists losses"
        )
    try:
        entry = _find(name, kind)
    except UnknownNameError as error:
        if kind is None and config_keys.named(name):
            _show_key(name, as_json)
            return
        if any(section.missing(name) for section in catalog().sections):
            raise
        plugin = name.partition("/")[0]
        problem = error.problem if kind is not None else section_of("loss").unknown(name, "nothing")
        if plugin != name and is_blocked(plugin):
            raise UnknownNameError(problem, f"LOSSREG_DISABLE switches the plugin {plugin!r} off") from None
        near = "" if kind is not None or error.near else did_you_mean(name, config_keys.names())
        raise UnknownNameError(problem, near or error.hint) from None
    target = _target(entry)
    tensors = entry.spec.tensors if isinstance(entry.spec, LossSpec) else ()
    settable = [_made(p, target) for p in parameters(target, hidden=entry.spec.hidden, tensors=tensors) if p.settable]
    line = _yaml_line(entry, settable)
    if as_json:
        facts = described(entry) | {"target": entry.spec.target, "targets": list(entry.spec.targets)}
        facts |= _keys(entry.spec, target) | _abilities(entry.spec, target)
        show_json(facts | {"parameters": [_parameter(entry, p) for p in settable], "yaml": line})
        return

    echo(styled(entry.name, bold=True))
    _print(plain_words(entry.spec.summary))
    echo()
    facts = _facts(entry, target)
    indent = max(map(len, facts)) + 2
    for heading, text in facts.items():
        if indent + max(map(len, text.split())) < _width():
            _print(text, f"{heading + ':':<{indent}}", " " * indent)
        else:
            _print(f"{heading}:")
            _print(text, "  ", "  ")
    if settable:
        echo("\n", styled("Parameters", bold=True))
        for parameter in settable:
            echo()
            _print(_declared(entry, parameter), "  ", "    ")
            _print(parameter.doc, "      ", "      ")
    else:
        echo("\nIt has no parameters.")
    echo(f"\nIn YAML:\n\n{_fitted(line)}")


def _show_from_dict(as_json: bool) -> None:
    """Show the keys of a term that holds the losses which a model computes itself; no plugin offers it."""
    line = f'- {{loss: {FROM_DICT}, terms: {{MEMBER: 1.0, "PREFIX_*": 0.5}}, rest: 0}}'
    keys = [key for key in keys_of(FromDict).values() if key.name != "loss"]
    if as_json:
        taken = [{"name": k.name, "type": k.type.words, "default": k.default, "doc": k.doc} for k in keys]
        show_json({"name": FROM_DICT, "kind": "group", "summary": FROM_DICT_SUMMARY, "keys": taken, "yaml": line})
        return
    echo(styled(FROM_DICT, bold=True))
    _print(FROM_DICT_SUMMARY)
    echo("\n", styled("Keys", bold=True))
    for key in keys:
        echo()
        _print(f"{key.name}: {key.type.words} = {json.dumps(key.default)}", "  ", "    ")
        _print(key.doc, "      ", "      ")
    echo(f"\nIn YAML:\n\n{_fitted(line)}")


def _show_key(name: str, as_json: bool) -> None:
    """Show a key of a config: where it stands, what it takes, and an example."""
    if as_json:
        show_json(config_keys.facts(name))
        return
    echo(styled(name, bold=True))
    for place, key in config_keys.named(name).items():
        echo()
        _print(key.doc)
        echo()
        _print(place, "Key of:   ", " " * 10)
        _print(key.type.words, "Takes:    ", " " * 10)
        echo(f"Default:  {'none, it is required' if key.required else json.dumps(key.default)}")
        if key.examples:
            echo(f"\nIn YAML:\n\n{_fitted(f'{name}: {flow(key.examples[0])}')}")


def _width() -> int:
    width = width_of(stream())
    return _WIDTH if width is None else min(width, _WIDEST)


def _print(text: str, first: str = "", rest: str = "") -> None:
    """Print a paragraph that fits the terminal; nothing if it is empty."""
    if text:
        echo(Safe(paragraph(text, _width(), first, rest)))


def _fitted(line: str) -> str:
    """Return an indented line of YAML; in a terminal that is too narrow for it, several lines that mean the same."""
    width = width_of(stream())
    if width is not None and len(line) + 2 > width:
        line = yaml.safe_dump(yaml.safe_load(line), sort_keys=False).rstrip()
    return textwrap.indent(line, "  ")


def _facts(entry: Entry[Any], target: Any) -> dict[str, str]:
    """Return what is known of a component, by the heading of each line."""
    spec = entry.spec
    keys, abilities = _keys(spec, target), _abilities(spec, target)
    facts = {"Kind": spec.kind}
    if isinstance(spec, LossSpec):
        facts |= {"Tasks": ", ".join(spec.tasks), "Prediction": spec.prediction, "Target": spec.ground_truth}
        if not keys:
            facts["Reads"] = "the only tensor of each side, or those at pred_key and gt_key"
    facts |= {key.capitalize(): ", ".join(value) for key, value in keys.items()}
    facts |= {"Mask": abilities.get("mask", "")}
    for heading, ability in (("Sample weight", "sample_weight"), ("Count", "count")):
        facts[heading] = {True: "yes", False: "no"}[abilities[ability]] if ability in abilities else ""
    facts |= {
        "Formula": spec.formula,
        "Source": spec.source,
        "Page": spec.url,
        "Aliases": ", ".join(spec.aliases),
        "From": f"{origin_of(entry.plugin)} ({spec.target})",
        "Also as": ", ".join(spec.targets),
    }
    return {heading: text for heading, text in facts.items() if text}


def _declared(entry: Entry[Any], parameter: Parameter) -> str:
    """Return a parameter with its type and default, as Python writes it."""
    clashes = entry.spec.kind == "loss" and parameter.name in keys_of(Term) and not _given(entry, parameter)
    under = " (under args)" if clashes else ""
    return f"{parameter.name}: {parameter.annotation or 'any'}{_default(entry, parameter)}{under}"


def _target(entry: Entry[Any]) -> Any:
    """Return a loss, which tells what it reads; of another component its signature, which its source has."""
    return entry.load() if entry.spec.kind == "loss" else Sources().of(entry) or entry.load()


def _find(name: str, kind: str | None) -> Entry[Any]:
    """Return the component with a name, of one kind or of any."""
    found: list[Entry[Any]] = []
    errors: list[UnknownNameError | AmbiguousNameError] = []
    telling: list[UnknownNameError | AmbiguousNameError] = []  # name candidates, or what to install
    for section in catalog().sections:
        if kind in (None, section.kind):
            try:
                found.append(section.find(name))
            except (UnknownNameError, AmbiguousNameError) as error:
                tells = isinstance(error, AmbiguousNameError) or section.missing(name)
                (telling if tells else errors).append(error)
    if len(found) == 1:
        return found[0]
    if found:
        kinds = " and ".join(f"{entry.name} is a {entry.spec.kind}" for entry in found)
        raise click.ClickException(f"{kinds}; choose with --kind")
    raise min([*telling, *errors], key=lambda error: error not in telling and not getattr(error, "near", ()))


def _given(entry: Entry[Any], parameter: Parameter) -> bool:
    """Return whether the term sets this parameter: the name of a `Loss`."""
    return entry.spec.kind == "loss" and parameter.name == "name" and _is_loss(entry.load())


def _made(parameter: Parameter, target: Any) -> Parameter:
    """Return a parameter with the default that the factory of a dataclass's field makes, if that is plain data."""
    field = getattr(target, "__dataclass_fields__", {}).get(parameter.name)
    if field is None or type(parameter.default).__module__ != dataclasses.__name__:  # not the mark of a factory
        return parameter
    default = field.default_factory()
    return dataclasses.replace(parameter, default=default if ANYTHING.fits(default) else _UNTOLD)


def _default(entry: Entry[Any], parameter: Parameter) -> str:
    if _given(entry, parameter):
        return f" = {_shortest_name(entry)}"
    if parameter.default is _UNTOLD:
        return ""
    return ", required" if parameter.required else f" = {json.dumps(parameter.default, default=repr)}"


def _parameter(entry: Entry[Any], parameter: Parameter) -> dict[str, Any]:
    required = parameter.required and not _given(entry, parameter)
    return {
        "name": parameter.name,
        "type": parameter.annotation,
        "required": required,
        **({} if parameter.required or parameter.default is _UNTOLD else {"default": parameter.default}),
        "doc": parameter.doc,
    }


def _keys(spec: Spec, target: Any) -> dict[str, list[str]]:
    """Return the batch keys that a component declares to read and to provide."""
    source = spec if isinstance(spec, PreprocessSpec) else target
    keys = {name: getattr(source, name, ()) for name in ("requires", "optional", "provides")}
    if isinstance(spec, LossSpec) and not _is_loss(target):
        inputs, perhaps = spec.wrap.get("inputs", ()), spec.wrap.get("optional_inputs", ())
        named = inputs if isinstance(inputs, Mapping) else dict(enumerate(inputs))
        for name, is_optional in (("requires", False), ("optional", True)):
            keys[name] = [key for place, key in named.items() if key != EPOCH and (place in perhaps) is is_optional]
    return {
        name: list(value)
        for name, value in keys.items()
        if value and isinstance(value, Sequence) and not isinstance(value, str)
    }


def _is_loss(target: Any) -> bool:
    return inspect.isclass(target) and any((base.__module__, base.__name__) == LOSS for base in target.__mro__)


def _abilities(spec: Spec, target: Any) -> dict[str, Any]:
    """Return what is known of a loss: what a mask chooses, and whether it takes weights and its mean has a count."""
    if not isinstance(spec, LossSpec):
        return {}
    masks = getattr(target, "masks", None)
    takes = masks if isinstance(masks, bool) else not spec.unmasked if spec.masking else None
    mask = spec.masking or {True: "yes", False: "no", None: ""}[takes]
    counts: bool | None = None
    if _is_loss(target):
        from lossreg.losses.base import Loss

        counts = target.counts is not Loss.counts
    elif spec.masking:
        counts = not spec.unmasked and not spec.masking.endswith("no count")
    known = {"mask": mask or None, "sample_weight": takes, "count": counts}
    return {name: value for name, value in known.items() if value is not None}


def _yaml_line(entry: Entry[Any], parameters: Sequence[Parameter]) -> str:
    """Return a line for a config; required values are "???", OmegaConf's mark for missing values."""
    name = _shortest_name(entry)
    missing = [p.name for p in parameters if p.required and not _given(entry, p)]
    clashing = [p for p in missing if entry.spec.kind == "loss" and p in keys_of(Term)]
    arguments = "".join(f', {p}: "???"' for p in missing if p not in clashing)
    if clashing:
        arguments += ", args: {" + ", ".join(f'{p}: "???"' for p in clashing) + "}"
    return {
        "loss": f"- {{loss: {name}{arguments}, weight: 1.0}}",
        "preprocess": f"- {{preprocess: {name}{arguments}}}",
        "schedule": f"weight: {{schedule: {name}{arguments}}}",
        "weighting": f"weighting: {{strategy: {name}{arguments}}}",
    }[entry.spec.kind]


def _shortest_name(entry: Entry[Any]) -> str:
    """Return the first unambiguous alias, or the bare name if it is unambiguous, else the full name."""
    return next(iter(section_of(entry.spec.kind).names_of(entry)), entry.name)
