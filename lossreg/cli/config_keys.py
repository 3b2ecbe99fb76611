"""Keys of a config, found by name and by words: what `lossreg list` and `lossreg show` know beside components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossreg.keys import (
    Compound,
    Deep,
    FromDict,
    Group,
    Legacy,
    NamedPreprocess,
    NamedSchedule,
    NamedWeighting,
    Normalization,
    Switches,
    Term,
    Wrap,
)
from lossreg.registry.search import words_of
from lossreg.values import Key, keys_of

BLOCKS: Mapping[str, type] = {
    "a term": Term,
    "a compound loss": Compound,
    "a group": Group,
    "a from_dict": FromDict,
    "a term's wrap": Wrap,
    "a term's deep_supervision": Deep,
    "a compound loss's normalization_params": Normalization,
    "a weight that is a mapping": NamedSchedule,
    "a weighting that is a mapping": NamedWeighting,
    "an item of pre_processes": NamedPreprocess,
    "a config with a legacy block": Switches,
    "a legacy block": Legacy,
}
"""The blocks of a config, by what they are called."""


def names() -> list[str]:
    """Return the names of all keys."""
    return list(dict.fromkeys(name for block in BLOCKS.values() for name in keys_of(block)))


def named(name: str) -> dict[str, Key]:
    """Return the keys with a name, by the blocks that they stand in; one that several blocks declare alike is one."""
    found: dict[str, Key] = {}
    for place, declared in BLOCKS.items():
        if (one := keys_of(declared).get(name)) is not None:
            same = next((p for p, k in found.items() if (k.doc, k.default) == (one.doc, one.default)), None)
            if same is not None:
                one = found.pop(same)
            found[f"{same}, {place}" if same is not None else place] = one
    return found


def search(query: str) -> list[str]:
    """Return the names of keys that are among the words of a query, or else those that have all of its words."""
    wanted = set(words_of(query))
    keys = [key for block in BLOCKS.values() for key in keys_of(block).values()]
    called = [key.name for key in keys if (own := set(words_of(key.name))) and own <= wanted]
    described = [key.name for key in keys if wanted and wanted <= set(words_of(f"{key.name} {key.doc}"))]
    return list(dict.fromkeys(called or described))


def facts(name: str) -> dict[str, Any]:
    """Return what is known of the keys with a name, as data."""
    keys = [
        {
            "of": place,
            "type": key.type.words,
            "required": key.required,
            **({} if key.required else {"default": key.default}),
            "doc": key.doc,
            "examples": list(key.examples),
        }
        for place, key in named(name).items()
    ]
    return {"name": name, "kind": "key", "keys": keys}
