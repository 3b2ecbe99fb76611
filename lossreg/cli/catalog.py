"""`lossreg list` and `lossreg plugins`: what is installed."""

from __future__ import annotations

import shlex
import warnings
from typing import Any

import click
from packaging.utils import canonicalize_name

from lossreg.cli import config_keys
from lossreg.cli.choice import Choice
from lossreg.cli.import_option import importing
from lossreg.cli.output import echo, show_json, stream
from lossreg.keys import FROM_DICT, FROM_DICT_SUMMARY
from lossreg.printable import width_of
from lossreg.registry import catalog, foreign
from lossreg.registry.components import Entry, Section
from lossreg.registry.packages import distribution, install_line, unmet
from lossreg.registry.plugins import Plugin, Switches, plugin_names
from lossreg.registry.search import near, search, words_of
from lossreg.registry.specs import LossSpec

KINDS = ("loss", "preprocess", "schedule", "weighting")
_PLURALS = {
    "loss": "losses",
    "preprocess": "preprocesses",
    "schedule": "schedules",
    "weighting": "weightings",
}

MOST_FOUND = 20
"""How many matches of words a terminal is shown."""

_OF_A_MODEL = {*words_of(f"dict dictionary detector returns computes {FROM_DICT}")}  # which no loss has

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# --- list -----------------------------------------------------------------------------------------


@click.command("list", epilog="Example: lossreg list imbalanced segmentation")
@click.argument("words", metavar="[GLOB|WORDS]...", nargs=-1)
@click.option("--kind", type=Choice(KINDS), default="loss", show_default=True, help="What to list.")
@click.option("--task", metavar="TASK", help="Only losses for a task, such as segmentation.")
@click.option("--all", "absent_too", is_flag=True, help="Also those that need what is not installed.")
@importing
@as_json
def list_command(words: tuple[str, ...], kind: str, task: str | None, absent_too: bool, as_json: bool) -> None:
    """List losses: name, summary and the plugin that offers them.

    GLOB chooses by full or bare name, case ignored: "torch/*", "*dice*". WORDS find components by what they are for,
    the best match first, and also those that are not installed: imbalanced segmentation.
    """
    section = section_of(kind)
    globs = [word for word in words if is_glob(word)]
    query = "" if globs or not words_of(" ".join(words)) else " ".join(words)
    absent = [*(entry for entry, _ in section.absent), *section.elsewhere] if absent_too or query else []
    every = [entry for entry in (*section, *absent) if _is_for(entry, task)]
    if task is not None and not every:
        tasks = sorted({task for entry in section if isinstance(entry.spec, LossSpec) for task in entry.spec.tasks})
        raise click.ClickException(f"no {kind} is for {task!r}; the tasks are {', '.join(tasks) or 'not known'}")
    if query:
        found = search(every, query)
    else:
        found = [entry for entry in every if not globs or any(entry.matches(glob) for glob in globs)]
    of_a_model = bool(query) and kind == "loss" and bool(_OF_A_MODEL.intersection(words_of(query)))
    keys = config_keys.search(query) if query and not as_json else []
    if words and not found and not of_a_model and not keys:
        raise click.ClickException(f"no {kind} matches {' '.join(words)!r}; {_hint(section, every, query)}")
    lacking = {id(entry): entry.needs for entry in absent}
    needs = [lacking.get(id(entry), ()) for entry in found]
    if as_json:
        show_json([_listed(entry, needed) for entry, needed in zip(found, needs, strict=True)])
    elif found:
        most = MOST_FOUND if query and width_of(stream()) is not None else len(found)
        _show_list(found[:most], needs[:most])
        if len(found) > most:
            echo(f"\nThese are the best {most} of {len(found)} matches; in a pipe and with --json all are listed.")
    elif not of_a_model and not keys:
        echo(f"No {kind} is installed; a plugin such as lossreg-seg brings some.", err=True)
    if as_json:
        return
    beside = [f"{FROM_DICT}: {FROM_DICT_SUMMARY}; see `lossreg show {FROM_DICT}`"] if of_a_model else []
    for name in keys:
        place, key = next(iter(config_keys.named(name).items()))
        beside.append(f"{name}, a key of {place}: {key.doc} See `lossreg show {name}`")
    for note in beside:
        from lossreg.cli import console

        echo()
        console.say(note, rest="  ")


def is_glob(word: str) -> bool:
    """Return whether a word is a pattern of names."""
    return any(char in word for char in "*?[") and not any(char.isspace() for char in word)


def _is_for(entry: Entry[Any], task: str | None) -> bool:
    """Return whether a loss is for a task, of which some words are enough; None is any."""
    if task is None:
        return True
    wanted = set(words_of(task))
    tasks = entry.spec.tasks if isinstance(entry.spec, LossSpec) else ()
    return bool(wanted) and any(wanted <= set(words_of(one)) for one in tasks)


def _hint(section: Section[Any], every: list[Entry[Any]], query: str) -> str:
    """Return what to do if nothing matches: words that are spelt like those of the query, or another kind."""
    close = near(every, query) if query else []
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    others = [other.kind for other in catalog().sections if other is not section and query and search(other, query)]
    if others:
        return f"`lossreg list --kind {others[0]} {shlex.quote(query)}` finds some"
    return f"`lossreg list --kind {section.kind}` shows all {len(list(section))}"


def _show_list(found: list[Entry[Any]], needs: list[tuple[str, ...]]) -> None:
    """Print a table, and how to install what is missing.

    Args:
        found: the components.
        needs: what each lacks.
    """
    from lossreg.cli import console
    from lossreg.tables import Column, Table

    columns = [Column("Name"), Column("Alias", rank=1), Column("Summary", "prose"), Column("Distribution", rank=2)]
    rows = []
    for entry, needed in zip(found, needs, strict=True):
        lacks = f" (needs {', '.join(needed)})" if needed else ""
        rows.append((entry.name, ", ".join(entry.spec.aliases), entry.spec.summary + lacks, origin_of(entry.plugin)))
    console.show(Table(columns, rows))
    missing = dict.fromkeys(n for n in needs if n)
    if missing:
        echo("\nTo install what is missing:\n")
        for line in sorted({install_line(*n) for n in missing}):
            echo(f"  {line}")


def section_of(kind: str) -> Section[Any]:
    """Return the components of a kind."""
    return next(section for section in catalog().sections if section.kind == kind)


def described(entry: Entry[Any]) -> dict[str, Any]:
    """Return what the spec of a component and its plugin say, for JSON."""
    spec = entry.spec
    facts: dict[str, Any] = {
        "name": entry.name,
        "kind": spec.kind,
        "summary": spec.summary,
        "aliases": list(spec.aliases),
        "plugin": entry.plugin.name,
        "distribution": entry.plugin.distribution,
        "version": entry.plugin.version,
        "words": list(spec.words),
        "formula": spec.formula,
        "source": spec.source,
        "url": spec.url,
    }
    if isinstance(spec, LossSpec):
        facts |= {"tasks": list(spec.tasks), "prediction": spec.prediction, "ground_truth": spec.ground_truth}
    return facts


def _listed(entry: Entry[Any], needs: tuple[str, ...]) -> dict[str, Any]:
    return described(entry) | ({"needs": ", ".join(needs), "install": install_line(*needs)} if needs else {})


def origin_of(plugin: Plugin) -> str:
    """Return the distribution of a plugin with its version."""
    return f"{plugin.distribution} {plugin.version}" if plugin.distribution else "this process"


# --- plugins --------------------------------------------------------------------------------------


@click.command("plugins", epilog="Example: lossreg plugins --json")
@as_json
def plugins_command(as_json: bool) -> None:
    """List the plugins that were found: distribution, version, what they offer, and why some are skipped.

    A broken plugin takes no other down. LOSSREG_DISABLE=name,... blocks plugins, LOSSREG_STRICT=1 makes a
    broken one an error.
    """
    from lossreg.cli import console
    from lossreg.tables import Column, Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says the same
        found = catalog()
    blocked = blocked_names()
    if as_json:
        show_json({"plugins": [_described_plugin(p) for p in found.plugins], "conflicts": found.conflicts()} | blocked)
        return
    columns = (Column("Plugin"), Column("Distribution", rank=2), Column("Version", rank=1), Column("Offers", "prose"))
    console.show(Table(columns, [(p.name, p.distribution, p.version, offer_of(p)) for p in found.plugins]))
    for plugin in found.plugins:
        if plugin.error is not None:
            echo()
            console.say(f"{plugin.origin} is skipped:")
            for line in foreign.described(plugin.error).splitlines():
                console.say(line, "  ", "  ")
    notes = [*dict.fromkeys(plugin.note for plugin in found.plugins if plugin.note), *found.conflicts()]
    if blocked["blocked"]:
        notes.append(f"Blocked by LOSSREG_DISABLE: {', '.join(blocked['blocked'])}")
    if blocked["unknown"]:
        notes.append(f"In LOSSREG_DISABLE, but no installed plugin: {', '.join(blocked['unknown'])}")
    for note in notes:
        echo()
        console.say(note, rest="  ")


def blocked_names() -> dict[str, list[str]]:
    """Return the names in LOSSREG_DISABLE: those that are installed, and those that are not."""
    installed = {canonicalize_name(name) for pair in plugin_names().items() for name in pair}
    disabled = sorted(Switches.from_environment().disabled)
    return {
        "blocked": [name for name in disabled if canonicalize_name(name) in installed],
        "unknown": [name for name in disabled if canonicalize_name(name) not in installed],
    }


def is_blocked(plugin: str) -> bool:
    """Return whether a plugin is installed, and LOSSREG_DISABLE has its name or that of its distribution."""
    distribution = plugin_names().get(plugin)
    return distribution is not None and Switches.from_environment().block(plugin, distribution)


def _by_kind(plugin: Plugin) -> dict[str, list[str]]:
    offered = [spec for spec in plugin.specs if not unmet(spec.package)]
    return {kind: sorted(spec.name for spec in offered if spec.kind == kind) for kind in KINDS}


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


def offer_of(plugin: Plugin) -> str:
    """Return how many components of each kind a plugin offers."""
    if plugin.error is not None:
        return "skipped, see below"
    counts = {kind: len(names) for kind, names in _by_kind(plugin).items()}
    offers = [f"{n} {kind if n == 1 else _PLURALS[kind]}" for kind, n in counts.items() if n]
    absent = [str(spec.package) for spec in plugin.specs if unmet(spec.package)]
    if absent:
        offers.append(f"{len(absent)} more with {' or '.join(sorted(set(map(distribution, absent))))}")
    return ", ".join(offers) or "nothing"
