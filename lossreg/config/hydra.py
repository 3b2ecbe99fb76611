"""Each installed component in Hydra's ConfigStore: groups to pick from, typed where OmegaConf can be.

`loss` holds criteria for `hydra.utils.instantiate`; `losses`, `schedule`, `weighting` and `preprocess` hold the parts
of a compound loss. Parameters are read off the sources, so that to register imports neither torch nor a component.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossreg.config.nodes import COMPOUND, CRITERION
from lossreg.keys import SPECIAL_KEYS, Lone, Term
from lossreg.registry import catalog
from lossreg.registry.components import Entry, Section
from lossreg.registry.params import Parameter, parameters_of
from lossreg.registry.source import Sources
from lossreg.values import keys_of

_PART_KEYS = {"schedule": "schedule", "weighting": "strategy", "preprocess": "preprocess"}
_TERM_FIELDS = [
    (key.name, key.type.omegaconf, key.default) for key in keys_of(Term).values() if key.name not in keys_of(Lone)
]


def register_configs() -> None:
    """Put each installed loss, schedule, weighting and preprocess into Hydra's ConfigStore.

    Each stands under its canonical name (`torch/MSELoss`) and under each short name that it shares with no other
    (`seg`), in these groups:

    - `loss`: a criterion (`loss=seg`), which `hydra.utils.instantiate(cfg.loss)` makes; and `loss=compound`, which
      makes one of the terms under `losses`;
    - `losses`: terms of a compound loss (`+losses=[seg,torch/MSELoss]`), each under its short name;
    - `schedule`, `weighting`, `preprocess`: parts of a compound loss, for a place that the user names
      (`+weighting@loss.weighting=uncertainty`).
    """
    store = ConfigStore.instance()
    sources = Sources()
    found = catalog()
    for entry in found.losses:
        made = _parameters(entry, sources)
        fields = [("loss", str, entry.name), *_without(made, tuple(keys_of(Term))), ("args", dict[str, Any], {})]
        target = [("_target_", str, CRITERION), ("_recursive_", bool, False)]
        for name in _names(found.losses, entry):
            group, _, short = name.rpartition("/")
            own = [("name", str, short)]
            lone = _node(entry, [*target, *own, *fields], closed=made is not None)
            store.store(short, lone, _group("loss", group), package="loss", provider="lossreg")
            term = _node(entry, [*fields, *_TERM_FIELDS], closed=made is not None)
            store.store(short, term, _group("losses", group), package=f"losses.{short}", provider="lossreg")
    block = {"_target_": COMPOUND, "_recursive_": False, "losses": "${losses}"}
    store.store("compound", block, "loss", package="loss", provider="lossreg")
    for section in found.sections[1:]:
        key = _PART_KEYS[section.kind]
        for part in section:
            made = _parameters(part, sources)
            node = _node(part, [(key, str, part.name), *_without(made, (key,))], closed=made is not None)
            for name in _names(section, part):
                group, _, short = name.rpartition("/")
                store.store(short, node, _group(section.kind, group), package=section.kind, provider="lossreg")


def criterion(**node: Any) -> Any:
    """Build the loss that a node of the group `loss` describes; `hydra.utils.instantiate` calls it.

    `get_loss_function` of the config around the node gives the same.

    Raises:
        ConfigError: with every mistake, a `_target_` inside a parameter included; nothing is imported for it.
    """
    from lossreg.config.build import get_loss_function

    return get_loss_function({"loss": node})


def compound(**block: Any) -> Any:
    """Build the `MultiLoss` that a node `loss=compound` describes; `hydra.utils.instantiate` calls it.

    A term of a mapping that names no loss has its key for one: `losses: {seg: {weight: 2}}`.

    Raises:
        ConfigError: with every mistake.
    """
    from lossreg.config.build import get_loss_function

    return get_loss_function({"loss": {"_target_": COMPOUND, **block}})


def _group(kind: str, namespace: str) -> str:
    return f"{kind}/{namespace}" if namespace else kind


def _names(section: Section[Any], entry: Entry[Any]) -> list[str]:
    """Return the canonical name, and each bare name or alias that no other component has."""
    return [entry.name, *(name for name in section.names_of(entry) if "/" not in name)]


def _parameters(entry: Entry[Any], sources: Sources) -> list[Parameter] | None:
    """Return the parameters that a config may set, or None where the sources do not list them all."""
    signature = sources.of(entry)
    if signature is None:
        return None
    found = [p for p in parameters_of(entry.spec, signature) if p.settable and p.name not in SPECIAL_KEYS]
    return None if signature.open_ended or not all(p.required or _is_plain(p.default) for p in found) else found


def _without(found: list[Parameter] | None, taken: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """Return `(name, type, default)` of parameters whose names mean nothing else beside them."""
    return [
        (p.name, p.type.omegaconf, MISSING if p.required else p.default) for p in found or () if p.name not in taken
    ]


def _node(entry: Entry[Any], fields: list[tuple[str, Any, Any]], *, closed: bool) -> Any:
    """Make a structured node, which refuses other keys and types; a plain one where not all keys are known."""
    if not closed:
        return {name: default for name, _, default in fields}
    return dataclasses.make_dataclass(entry.spec.name, [_field(*field) for field in fields])


def _field(name: str, kind: Any, default: Any) -> tuple[str, Any, Any]:
    """Make a field; of any type where its default does not have the one that it is annotated with."""
    if isinstance(default, tuple):
        default = list(default)

    def field(of: Any) -> tuple[str, Any, Any]:
        if isinstance(default, (list, dict)):
            return name, of, dataclasses.field(default_factory=lambda: default.copy())
        return name, of, dataclasses.field(default=default)

    key = (kind, repr(default))
    if key not in _taken:
        _taken[key] = _takes([field(kind)])
    return field(kind if _taken[key] else Any)


_taken: dict[tuple[Any, str], bool] = {}
"""Whether OmegaConf takes a default for a field of a type: a few dozen of both stand in thousands of fields."""


def _takes(fields: list[tuple[str, Any, Any]]) -> bool:
    try:
        OmegaConf.structured(dataclasses.make_dataclass("Field", fields))
    except (OmegaConfBaseException, ValueError):
        return False
    return True


def _is_plain(value: Any) -> bool:
    """Say whether OmegaConf can hold a default."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
