"""Each installed component in Hydra's ConfigStore: groups to pick from, with the types that OmegaConf has.

`loss` holds criteria for `hydra.utils.instantiate`; `losses`, `schedule`, `weighting` and `preprocess` hold the parts
of a compound loss. Registering lists the names. When Hydra reads a node, its parameters are read from source files, so
neither torch nor the component is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Optional, TypeAlias

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossreg.config.nodes import COMPOUND, CRITERION
from lossreg.keys import FROM_DICT, SPECIAL_KEYS, YIELDING, FromDict, Lone, Term
from lossreg.registry import catalog
from lossreg.registry.components import Entry, Section
from lossreg.registry.params import Parameter, parameters_of
from lossreg.registry.source import Sources
from lossreg.values import ANYTHING, Block, Key, keys_of

Fields: TypeAlias = Sequence[tuple[str, Any, Any]]
"""Name, type and default of the fields of a node."""

_PART_KEYS = {"schedule": "schedule", "weighting": "strategy", "preprocess": "preprocess"}


def _declared(key: Key) -> tuple[str, Any, Any]:
    """Return the field of a key; that of a block has the block's keys for fields, each null, which leaves it out."""
    held = [part for part in key.type.parts if part.notation != "None"] or [key.type]
    if len(held) != 1 or not isinstance(held[0], Block):
        return key.name, key.type.omegaconf, key.default
    inner: list[Any] = [(own.name, Optional[own.type.omegaconf], None) for own in held[0].keys.values()]  # noqa: UP045
    made = dataclasses.make_dataclass(held[0].of.__name__, inner, eq=False)
    # Not null: an override of a key within null is an error in OmegaConf.
    return key.name, made, made()


_TERM_FIELDS = [_declared(key) for key in keys_of(Term).values() if key.name not in keys_of(Lone)]


def register_configs() -> None:
    """Put each installed loss, schedule, weighting and preprocess into Hydra's ConfigStore.

    Each stands under its canonical name (`torch/MSELoss`) and under each short name that it shares with no other
    (`seg`), in these groups:

    - `loss`: a criterion (`loss=seg`), which `hydra.utils.instantiate(cfg.loss)` makes; and `loss=compound`, which
      makes one of the terms under `losses`;
    - `losses`: terms of a compound loss (`+losses=[seg,torch/MSELoss]`), each under its short name, and `from_dict`, a
      dictionary of losses;
    - `schedule`, `weighting`, `preprocess`: parts of a compound loss, for a place that the user names
      (`+weighting@loss.weighting=uncertainty`).
    """
    sources, found = Sources(), catalog()
    for entry in found.losses:
        for name in _names(found.losses, entry):
            short = name.rpartition("/")[2]
            _offer("loss", name, "loss", partial(_criterion, entry, sources, short))
            _offer("losses", name, f"losses.{short}", partial(_term, entry, sources))
    _offer("losses", FROM_DICT, f"losses.{FROM_DICT}", _from_dict)
    _offer("loss", "compound", "loss", lambda: {"_target_": COMPOUND, "_recursive_": False, "losses": "${losses}"})
    for section in found.sections[1:]:
        for part in section:
            for name in _names(section, part):
                _offer(section.kind, name, section.kind, partial(_part, part, sources, _PART_KEYS[section.kind]))


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


class _Node(ConfigNode):
    """A node of the ConfigStore that is made when Hydra first reads it: an app picks a few of hundreds."""

    def __init__(self, name: str, group: str, package: str, make: Callable[[], Any]) -> None:
        self.name, self.group, self.package, self.provider = name, group, package, "lossreg"
        self._make = make

    @cached_property
    def node(self) -> Any:  # type: ignore[override]
        return OmegaConf.structured(self._make())

    def __deepcopy__(self, memo: Any) -> _Node:
        return self  # Hydra copies the store, but changes a copy of the node alone


def _offer(kind: str, name: str, package: str, make: Callable[[], Any]) -> None:
    """Put a component into the ConfigStore; its name may begin with a group of its own."""
    *groups, short = f"{kind}/{name}".split("/")
    place = ConfigStore.instance().repo
    for group in groups:
        place = place.setdefault(group, {})
    place[f"{short}.yaml"] = _Node(f"{short}.yaml", "/".join(groups), package, make)


def _criterion(entry: Entry[Any], sources: Sources, short: str) -> Any:
    fields = [("_target_", str, CRITERION), ("_recursive_", bool, False), ("name", str, short)]
    return _loss(entry, sources, before=fields)


def _term(entry: Entry[Any], sources: Sources) -> Any:
    return _loss(entry, sources, after=_TERM_FIELDS)


def _from_dict() -> Any:
    fields = [_declared(key) for key in keys_of(FromDict).values() if key.name != "loss"]
    return dataclasses.make_dataclass(
        FromDict.__name__, [_field("loss", str, FROM_DICT), *(_field(*f) for f in fields)]
    )


def _loss(entry: Entry[Any], sources: Sources, before: Fields = (), after: Fields = ()) -> Any:
    made = _parameters(entry, sources)
    own = _without(made, tuple(keys_of(Term).keys() - YIELDING.keys()))
    taken = [name for name, _, _ in own]
    rest = [field for field in after if field[0] not in taken]
    fields = [*before, ("loss", str, entry.name), *own, ("args", dict[str, Any], {}), *rest]
    return _structured(entry, fields, closed=made is not None)


def _part(entry: Entry[Any], sources: Sources, key: str) -> Any:
    made = _parameters(entry, sources)
    return _structured(entry, [(key, str, entry.name), *_without(made, (key,))], closed=made is not None)


def _names(section: Section[Any], entry: Entry[Any]) -> list[str]:
    """Return the canonical name, and each bare name or alias that no other component has."""
    return [entry.name, *(name for name in section.names_of(entry) if "/" not in name)]


def _parameters(entry: Entry[Any], sources: Sources) -> list[Parameter] | None:
    """Return the parameters that a config may set, or None where the sources do not list them all."""
    signature = sources.of(entry)
    if signature is None:
        return None
    found = [p for p in parameters_of(entry.spec, signature) if p.settable and p.name not in SPECIAL_KEYS]
    return None if signature.open_ended or not all(p.required or ANYTHING.fits(p.default) for p in found) else found


def _without(found: list[Parameter] | None, taken: tuple[str, ...]) -> Fields:
    """Return `(name, type, default)` of parameters whose names mean nothing else beside them."""
    return [
        (p.name, p.type.omegaconf, MISSING if p.required else p.default) for p in found or () if p.name not in taken
    ]


def _structured(entry: Entry[Any], fields: Fields, *, closed: bool) -> Any:
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

    return field(kind if _takes(field(kind)) else Any)


def _takes(field: tuple[str, Any, Any]) -> bool:
    """Return whether OmegaConf accepts a field's default for its type."""
    try:
        OmegaConf.structured(dataclasses.make_dataclass("Field", [field]))
    except (OmegaConfBaseException, ValueError):
        return False
    return True
