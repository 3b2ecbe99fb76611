"""Write the tables of the YAML reference, from `lossreg.keys`: python docs/generate/yaml_reference.py [FOLDER].

A key that the schema does not describe is an error, so that a build without this page's whole grammar fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lossreg import keys as declarations
from lossreg import values
from lossreg.config.schema import schema
from lossreg.values import REFERENCE

Node = dict[str, Any]
SCHEMA = schema()
DEFS: dict[str, Node] = SCHEMA["$defs"]

LINKS = {
    "terms": "list of [terms](#a-term), or mapping of name to term",
    "term": "[term](#a-term)",
    "group": "[group](#a-group)",
    "weight": "[weight](#weights)",
    "members": "mapping of name or glob to [weight of a member](#a-dictionary-of-losses)",
    "member": "[weight of a member](#a-dictionary-of-losses)",
    "schedule": "mapping of a [schedule](#weights)",
    "preprocess": "[preprocess](#preprocesses)",
    "weighting": "[weighting](#weightings)",
    "single": "name of a [loss](losses.md), or mapping with one",
    "loss_name": "name of a [loss](losses.md)",
    "preprocess_name": "name of a preprocess",
    "data": "any data",
}
WORDS = {"null": "null", "boolean": "true or false", "number": "number", "integer": "integer", "string": "text"}
REQUIRED = "x-required"  # marks a key that has to be there
MOST_CHOICES = 6  # that are listed
AROUND = {"preprocess", "strategy", "schedule", "_target_"}  # keys that name a component, not parameters of one


def keys_of(node: Node) -> dict[str, Node]:
    """Return the keys of a block, or of the choice of a node that is one; what is said first goes first."""
    found: dict[str, Node] = {}
    parts = (node, *node.get("anyOf", ()), node.get("then"), node.get("else"))
    for part in (part for part in parts if isinstance(part, dict)):
        for key, value in part.get("properties", {}).items():
            if isinstance(value, dict):  # else it may hold anything
                found[key] = {**value, **found.get(key, {})}
    for key in node.get("required", ()):
        found[key] = {**found[key], REQUIRED: True}
    return found


def resolved(node: Node) -> Node:
    """Return a node with what it refers to merged in; its own words go before those of the definition."""
    reference = node.get("$ref", "")
    return {**DEFS[reference.removeprefix("#/$defs/")], **node} if reference else node


def blocks() -> dict[str, dict[str, Node]]:
    """Return the keys of each block."""
    params, training = keys_of(DEFS["training"])["loss_params"]["properties"], keys_of(DEFS["training"])
    return {
        "file": {f"loss_params.{key}": params[key] for key in ("compound_loss", "multi_loss", "multiloss")}
                | {"loss": training["loss"]},
        "compound": dict(declared(declarations.Compound)),
        "normalization": dict(declared(declarations.Normalization)),
        "group": dict(declared(declarations.Group)),
        "from_dict": dict(declared(declarations.FromDict)),
        "member": dict(declared(declarations.Member)),
        "term": dict(declared(declarations.Term)),
        "wrap": dict(declared(declarations.Wrap)),
        "channels": dict(declared(declarations.Cut)),
        "deep": dict(declared(declarations.Deep)),
        "switched": dict(declared(declarations.Switches, flat=True)),
        "legacy": dict(declared(declarations.Legacy, flat=True)),
    }  # fmt: skip


def declared(block: type, prefix: str = "", *, flat: bool = False) -> Iterator[tuple[str, Node]]:
    """Yield the keys that a block declares; `flat` puts dotted paths in place of blocks within blocks."""
    for name, key in values.keys_of(block).items():
        inner = next((kind for kind in (key.type, *key.type.parts) if isinstance(kind, values.Block)), None)
        if inner is None or not flat or name == "normalization_params":
            yield prefix + name, {**key.schema(), **({REQUIRED: True} if key.required else {})}
        else:
            yield from declared(inner.of, f"{prefix}{name}.", flat=True)


# --- words ----------------------------------------------------------------------------------------


def kind(node: Node | bool) -> str:
    """Say what a node takes, in words."""
    return " or ".join(sorted(dict.fromkeys(_kinds(node)), key=lambda word: word == "null"))


def _kinds(node: Node | bool) -> Iterator[str]:
    if isinstance(node, bool) or (node.get("pattern") == REFERENCE and node.get("type") == "string"):
        return
    name = node.get("$ref", "").removeprefix("#/$defs/")
    if name:
        if name != "reference":
            yield from [LINKS[name]] if name in LINKS else _kinds(DEFS[name])
        return
    if "enum" in node:
        short = len(node["enum"]) <= MOST_CHOICES
        yield ", ".join(f"`{choice}`" for choice in node["enum"]) if short else WORDS["string"]
        return
    for choice in node.get("anyOf", ()):
        yield from _kinds(choice)
    types = node.get("type", ())
    for word in [types] if isinstance(types, str) else types:
        yield from _typed(word, node)
    if "then" in node and "object" not in types:
        yield from _kinds(node["then"])


def _typed(word: str, node: Node) -> Iterator[str]:
    if word == "array":
        items = node.get("items", True)
        of = kind(items) if isinstance(items, dict) else ""
        yield f"list, each a {of}" if "]" in of else f"list of {of}{'' if ' ' in of else 's'}" if of else "list"
    elif word == "object":
        then = kind(node["then"]) if "then" in node else ""
        yield then or "mapping"
    elif word in ("number", "integer"):
        yield WORDS[word] + _range(node)
    elif word != "string" or node.get("pattern") != REFERENCE:
        yield WORDS[word]


def _range(node: Node) -> str:
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {node[key]}" for key, word in bounds.items() if key in node)


def inline(value: Any) -> str:
    """Write a value as YAML does on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


# --- tables ---------------------------------------------------------------------------------------


def table(keys: Mapping[str, Node], where: str) -> str:
    """Return a Markdown table of keys: what each takes, its default, what it means, and examples.

    Raises:
        ValueError: a key has no description.
    """
    rows = [["key", "takes", "default", "meaning"], ["---"] * 4]
    for key, own in keys.items():
        node = resolved(own)
        if not node.get("description"):
            raise ValueError(f"the schema does not describe {where}.{key}; give it a description in config/schema.py")
        default = f"`{inline(node['default'])}`" if "default" in node else "required" if REQUIRED in node else ""
        name = key.rpartition(".")[2]
        examples = [f"`{name}: {inline(example)}`" for example in node.get("examples", ())]
        rows.append([f"`{key}`", kind(own), default, "<br>".join([sentence(node["description"]), *examples])])
    lines = [" | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in row) for row in rows]
    return "".join([":::{table}\n:class: keys\n\n", *(f"| {line} |\n" for line in lines), ":::\n"])


def sentence(text: str) -> str:
    """Begin with a capital and end with a full stop; a key or a value of YAML stays as it is."""
    first = text.split()[0]
    return (text if first.endswith((":", "`")) or "_" in first else text[0].upper() + text[1:]).rstrip(".") + "."


def components(kind: str) -> str:
    """Return the parameters of each component of one kind that is installed."""
    parts = []
    for place, node in DEFS.items():
        if not place.startswith(f"{kind}:"):
            continue
        name = place.partition(":")[2]
        own = {key: value for key, value in keys_of(node).items() if key not in AROUND}
        parts.append(f"**`{name}`**: {node.get('description', '')}.\n")
        parts.append(table(own, name) if own else "It has no parameters.\n")
    return "\n".join(parts)


def main(folder: Path) -> None:
    """Write a table for each block, and one for each component, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, keys in blocks().items():
        (folder / f"yaml-{name}.md").write_text(table(keys, name), encoding="utf-8")
    for name in ("schedule", "weighting", "preprocess"):
        (folder / f"yaml-{name}.md").write_text(components(name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "generated")
