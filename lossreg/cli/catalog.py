"""`lossreg list`, `lossreg show` and `lossreg plugins`: what is installed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from packaging.utils import canonicalize_name

from lossreg.cli.import_option import importing
from lossreg.cli.output import echo, show_json, styled
from lossreg.errors import AmbiguousNameError, UnknownNameError
from lossreg.keys import FROM_DICT, FromDict, Term
from lossreg.printable import printable
from lossreg.registry import catalog
from lossreg.registry.components import Entry, Section
from lossreg.registry.foreign import described
from lossreg.registry.packages import distribution, install_line, unmet
from lossreg.registry.plugins import Plugin, Switches, plugin_names
from lossreg.registry.specs import LossSpec, PreprocessSpec, Spec
from lossreg.values import keys_of

if TYPE_CHECKING:
    from lossreg.registry.params import Parameter

_KINDS = ("loss", "preprocess", "schedule", "weighting")
_PLURALS = {
    "loss": "losses",
    "preprocess": "preprocesses",
    "schedule": "schedules",
    "weighting": "weightings",
}

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# --- list -----------------------------------------------------------------------------------------


@click.command("list", epilog='Example: lossreg list "*Dice*"')
@click.argument("pattern", metavar="[GLOB]", required=False)
@click.option("--kind", type=click.Choice(_KINDS), default="loss", show_default=True, help="What to list.")
@click.option("--all", "absent_too", is_flag=True, help="Also those whose package is not installed.")
@importing
@as_json
def list_command(pattern: str | None, kind: str, absent_too: bool, as_json: bool) -> None:
    """List installed losses: name, summary and the plugin that offers them.

    GLOB chooses by full or bare name, case ignored: "torch/*", "*dice*".
    """
    from lossreg.cli import console

    section = _section(kind)
    entries = [entry for entry in section if entry.matches(pattern)]
    absent = [entry for entry, _ in section.absent if entry.matches(pattern)] if absent_too else []
    if pattern is not None and not entries and not absent:
        raise click.ClickException(
            f"no {kind} matches {pattern!r}; `lossreg list --kind {kind}` shows all {len(list(section))}"
        )
    if as_json:
        show_json([_described(entry) for entry in entries] + [_described_absent(entry) for entry in absent])
        return
    if not entries and not absent:
        echo(f"No {kind} is installed; a plugin such as lossreg-seg brings some.", err=True)
        return
    origins = [_origin(entry.plugin) for entry in entries] + [f"needs {entry.spec.package}" for entry in absent]
    rows = [
        (entry.name, ", ".join(entry.spec.aliases), entry.spec.summary, origin)
        for entry, origin in zip([*entries, *absent], origins, strict=True)
    ]
    console.show(console.table(("Name", "Alias", "Summary", "Distribution"), rows))
    if absent:
        echo("\nTo install what is missing:\n")
        needed = sorted(str(entry.spec.package) for entry in absent)
        for package in {distribution(package): package for package in needed}.values():  # the highest version
            echo(f"  {install_line(package)}")


def _section(kind: str) -> Section[Any]:
    return next(section for section in catalog().sections if section.kind == kind)


def _described(entry: Entry[Any]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.spec.kind,
        "summary": entry.spec.summary,
        "aliases": list(entry.spec.aliases),
        "plugin": entry.plugin.name,
        "distribution": entry.plugin.distribution,
        "version": entry.plugin.version,
    }


def _described_absent(entry: Entry[Any]) -> dict[str, Any]:
    package = str(entry.spec.package)
    return _described(entry) | {"needs": package, "install": install_line(package)}


def _origin(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}" if plugin.distribution else "this process"


# --- show -----------------------------------------------------------------------------------------


@click.command("show", epilog="Example: lossreg show crossfield_align")
@click.argument("name")
@click.option("--kind", type=click.Choice(_KINDS), help="Where a loss and, say, a schedule share a name.")
@importing
@as_json
def show_command(name: str, kind: str | None, as_json: bool) -> None:
    """Show one component: summary, origin, parameters with types and defaults, and a YAML line to paste.

    NAME is a full name (seg/SegLoss), a bare name (SegLoss) or an alias (seg); or from_dict, for the losses that a
    model computes itself.
    """
    from lossreg.cli import console
    from lossreg.registry.params import parameters

    if name == FROM_DICT and kind in (None, "loss"):
        _show_from_dict(as_json)
        return
    entry = _find(name, kind)
    target = entry.load()
    tensors = entry.spec.tensors if isinstance(entry.spec, LossSpec) else ()
    settable = [p for p in parameters(target, hidden=entry.spec.hidden, tensors=tensors) if p.settable]
    line = _yaml_line(entry, settable)
    keys = _keys(entry.spec, target)
    masking = _masking(entry.spec, target)
    if as_json:
        described = _described(entry) | {"target": entry.spec.target, "targets": list(entry.spec.targets)} | keys
        described |= {"mask": masking} if masking else {}
        show_json(described | {"parameters": [_parameter(entry, p) for p in settable], "yaml": line})
        return

    facts = {
        "Kind": entry.spec.kind,
        "From": f"{_origin(entry.plugin)} ({entry.spec.target})",
        "Aliases": ", ".join(entry.spec.aliases),
        "Also as _target_": ", ".join(entry.spec.targets),
        **{key.capitalize(): ", ".join(value) for key, value in keys.items()},
        "Mask": masking,
    }
    width = max(len(key) for key, value in facts.items() if value) + 2
    echo(styled(entry.name, bold=True))
    if entry.spec.summary:
        echo(printable(entry.spec.summary))
    echo()
    for key, value in facts.items():
        if value:
            echo(printable(f"{key + ':':<{width}}{value}"))
    echo()

    if settable:
        rows = [(p.name, p.annotation or "any", _default(entry, p), _doc(entry, p)) for p in settable]
        console.show(console.table(("Parameter", "Type", "Default", "What it is"), rows), width=120)
    else:
        echo("It has no parameters.")
    echo(f"\nIn YAML:\n\n  {line}")


def _show_from_dict(as_json: bool) -> None:
    """Show the keys of a term that holds the losses which a model computes itself; no plugin offers it."""
    from lossreg.cli import console

    summary = "the losses that a model computes itself and returns in a dictionary, each a term of its own"
    line = f'- {{loss: {FROM_DICT}, terms: {{MEMBER: 1.0, "PREFIX_*": 0.5}}, rest: 0}}'
    keys = [key for key in keys_of(FromDict).values() if key.name != "loss"]
    if as_json:
        described = [{"name": k.name, "type": k.type.words, "default": k.default, "doc": k.doc} for k in keys]
        show_json({"name": FROM_DICT, "kind": "group", "summary": summary, "keys": described, "yaml": line})
        return
    echo(styled(FROM_DICT, bold=True))
    echo(summary)
    echo()
    rows = [(key.name, key.type.words, json.dumps(key.default), key.doc) for key in keys]
    console.show(console.table(("Key", "Takes", "Default", "What it is"), rows), width=120)
    echo(f"\nIn YAML:\n\n  {line}")


def _find(name: str, kind: str | None) -> Entry[Any]:
    """Return the component with a name, of one kind or of any."""
    found: list[Entry[Any]] = []
    errors: list[UnknownNameError | AmbiguousNameError] = []
    for section in catalog().sections:
        if kind in (None, section.kind):
            try:
                found.append(section.find(name))
            except (UnknownNameError, AmbiguousNameError) as error:
                errors.append(error)
    if len(found) == 1:
        return found[0]
    if found:
        kinds = " and ".join(f"{entry.name} is a {entry.spec.kind}" for entry in found)
        raise click.ClickException(f"{kinds}; choose with --kind")
    # prefer an error that names candidates or suggests a name
    telling = [error for error in errors if isinstance(error, AmbiguousNameError) or error.near]
    raise (telling or errors)[0]


def _given(entry: Entry[Any], parameter: Parameter) -> bool:
    """Return whether the term sets this parameter: the name of a loss."""
    return entry.spec.kind == "loss" and parameter.name == "name"


def _default(entry: Entry[Any], parameter: Parameter) -> str:
    if _given(entry, parameter):
        return _shortest_name(entry)
    return "required" if parameter.required else json.dumps(parameter.default, default=repr)


def _doc(entry: Entry[Any], parameter: Parameter) -> str:
    """Return the description of a parameter, marked if it has the name of a term's key and belongs under `args`."""
    clashes = entry.spec.kind == "loss" and parameter.name in keys_of(Term) and not _given(entry, parameter)
    return f"(under args:) {parameter.doc}" if clashes else parameter.doc


def _parameter(entry: Entry[Any], parameter: Parameter) -> dict[str, Any]:
    required = parameter.required and not _given(entry, parameter)
    return {
        "name": parameter.name,
        "type": parameter.annotation,
        "required": required,
        **({} if parameter.required else {"default": parameter.default}),
        "doc": parameter.doc,
    }


def _keys(spec: Spec, target: Any) -> dict[str, list[str]]:
    """Return the batch keys that a component declares to read and to provide."""
    source = spec if isinstance(spec, PreprocessSpec) else target
    keys = {name: getattr(source, name, ()) for name in ("requires", "optional", "provides")}
    return {
        name: list(value)
        for name, value in keys.items()
        if value and isinstance(value, Sequence) and not isinstance(value, str)
    }


def _masking(spec: Spec, target: Any) -> str:
    """Return what a term's mask chooses for a loss, or that it takes none; empty where that is not known."""
    if not isinstance(spec, LossSpec):
        return ""
    masks = getattr(target, "masks", None)
    return spec.masking or ("yes" if masks is True else "no" if masks is False else "")


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
    return next(iter(_section(entry.spec.kind).names_of(entry)), entry.name)


# --- plugins --------------------------------------------------------------------------------------


@click.command("plugins", epilog="Example: lossreg plugins --json")
@as_json
def plugins_command(as_json: bool) -> None:
    """List the plugins that were found: distribution, version, what they offer, and why some are skipped.

    A broken plugin takes no other down. LOSSREG_DISABLE=name,... blocks plugins, LOSSREG_STRICT=1 makes a
    broken one an error.
    """
    from lossreg.cli import console

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says the same
        found = catalog()
    blocked = _blocked()
    if as_json:
        show_json({"plugins": [_described_plugin(p) for p in found.plugins], "conflicts": found.conflicts()} | blocked)
        return
    rows = [(p.name, p.distribution, p.version, _offer(p)) for p in found.plugins]
    console.show(console.table(("Plugin", "Distribution", "Version", "Offers"), rows))
    for plugin in found.plugins:
        if plugin.error is not None:
            echo(f"\n{plugin.origin} is skipped:\n  {described(plugin.error)}")
    for note in (*dict.fromkeys(plugin.note for plugin in found.plugins if plugin.note), *found.conflicts()):
        echo(f"\n{note}")
    if blocked["blocked"]:
        echo(f"\nBlocked by LOSSREG_DISABLE: {', '.join(blocked['blocked'])}")
    if blocked["unknown"]:
        echo(f"\nIn LOSSREG_DISABLE, but no installed plugin: {', '.join(blocked['unknown'])}")


def _blocked() -> dict[str, list[str]]:
    """Return the names in LOSSREG_DISABLE: those that are installed, and those that are not."""
    installed = {canonicalize_name(name) for pair in plugin_names().items() for name in pair}
    disabled = sorted(Switches.from_environment().disabled)
    return {
        "blocked": [name for name in disabled if canonicalize_name(name) in installed],
        "unknown": [name for name in disabled if canonicalize_name(name) not in installed],
    }


def _by_kind(plugin: Plugin) -> dict[str, list[str]]:
    offered = [spec for spec in plugin.specs if not unmet(spec.package)]
    return {kind: sorted(spec.name for spec in offered if spec.kind == kind) for kind in _KINDS}


def _described_plugin(plugin: Plugin) -> dict[str, Any]:
    error = plugin.error
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "offers": {_PLURALS[kind]: names for kind, names in _by_kind(plugin).items()},
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        "note": plugin.note,
    }


def _offer(plugin: Plugin) -> str:
    if plugin.error is not None:
        return "skipped, see below"
    counts = {kind: len(names) for kind, names in _by_kind(plugin).items()}
    offers = [f"{n} {kind if n == 1 else _PLURALS[kind]}" for kind, n in counts.items() if n]
    absent = [str(spec.package) for spec in plugin.specs if unmet(spec.package)]
    if absent:
        offers.append(f"{len(absent)} more with {' or '.join(sorted(set(map(distribution, absent))))}")
    return ", ".join(offers) or "nothing"
