"""The legacy block `loss_params.multi_loss`, rewritten as the compound block that means the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from lossreg.arguments import Problems
from lossreg.config.reading import Data, Root, has, plain
from lossreg.keys import Coefs, Legacy, SegLossParams, SegParams, Switches, Trainer
from lossreg.values import Type, arguments_of, keys_of, misfits_of, type_of, unquoted

COMPOUND = "loss_params.compound_loss"
LEGACY_BLOCKS = ("loss_params.multi_loss", "loss_params.multiloss")
_MIXED = ("16", "16-mixed", "bf16", "bf16-mixed")
_CROSSFIELD = ("compute_crossfield",)
_BOTH = ("compute_seg", "compute_crossfield")
TERMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "seg": ("seg/SegLoss", ("compute_seg",)),
    "crossfield_align": ("crossfield/CrossfieldAlignLoss", _CROSSFIELD),
    "crossfield_align90": ("crossfield/CrossfieldAlign90Loss", _CROSSFIELD),
    "crossfield_smooth": ("crossfield/CrossfieldSmoothLoss", _CROSSFIELD),
    "seg_interior_crossfield": ("crossfield/SegCrossfieldLoss", (*_BOTH, "compute_interior")),
    "seg_edge_crossfield": ("crossfield/SegCrossfieldLoss", (*_BOTH, "compute_edge")),
    "seg_edge_interior": ("crossfield/SegEdgeInteriorLoss", ("compute_seg", "compute_interior", "compute_edge")),
}
"""The loss of each term, and the flags that have to be on for it."""


@dataclass(frozen=True)
class Rewritten:
    """The compound block that a legacy block means.

    Attributes:
        block: the compound block.
        path: where the legacy block stands.
        places: for parts of `block`, by path, where the file has what they were made of.
    """

    block: dict[str, Data]
    path: str
    places: Mapping[str, str]


def has_legacy(cfg: Any) -> bool:
    """Say whether a training config has the legacy block, in either spelling."""
    return any(has(cfg, *block.split(".")) for block in LEGACY_BLOCKS)


def legacy_compound(cfg: Any, switches: Mapping[str, Data], allow_resolvers: Collection[str] = ()) -> Rewritten:
    """Return the compound block that means what a legacy config says.

    Args:
        cfg: the whole training config.
        switches: keys of a `compound_loss` without terms, which go over those of the legacy block.
        allow_resolvers: names of OmegaConf resolvers that may run.

    Raises:
        ConfigError: with every key that is missing or malformed.
    """
    reader = _LegacyReader(cfg, allow_resolvers)
    terms = reader.terms()
    if not terms and not reader.problems:
        message = "neither compute_seg nor compute_crossfield is on"
        reader.problems.report("compute_seg", message, "compute_seg: true", "missing")
    reader.problems.done()
    block: dict[str, Data] = {"loss_list": terms}
    block["epoch_thresholds"] = reader.coefs.get("epoch_thresholds")
    block["normalization_params"] = reader.block.get("normalization_params")
    if reader.switches["compute_seg"]:
        block["pre_processes"] = [{"preprocess": "seg/SegLossWeights", **reader.seg_params("seg/SegLossWeights")}]
    given = {key: value for key, value in switches.items() if value is not None}
    block |= given
    return Rewritten(block, reader.path, reader.places(terms, given))


class _LegacyReader:
    """Read each value that a legacy block's terms need, once."""

    def __init__(self, cfg: Any, allow_resolvers: Collection[str]) -> None:
        self.problems = Problems()
        self.cfg = cfg
        self.allow_resolvers = allow_resolvers
        self.root = Root(cfg, allow_resolvers) if isinstance(cfg, DictConfig) else None
        self.path = next(path for path in LEGACY_BLOCKS if has(cfg, *path.split(".")))
        self.block = self._mapping(self._read(*self.path.split(".")), self.path, type_of(Legacy))
        coefs = self.block.get("coefs")
        self.coefs = self._mapping(coefs, f"{self.path}.coefs", keys_of(Legacy)["coefs"].type)
        self._known(Legacy, self.block, self.path)
        self._known(Coefs, self.coefs, f"{self.path}.coefs")
        self.params: dict[str, tuple[Data, str]] = {}  # of the segmentation, each with where it stands
        beside = "loss_params.seg_loss_params"
        for given, path in (
            (self.block.get("seg_loss_params"), f"{self.path}.seg_loss_params"),
            (self._read(*beside.split(".")), beside),
        ):
            found = self._mapping(given, path, keys_of(Legacy)["seg_loss_params"].type)
            self._known(SegLossParams, found, path)
            self.params |= {name: (value, f"{path}.{name}") for name, value in found.items()}
        self.switches = {name: self._on(Switches, name) for name in _BOTH}
        self._known(SegParams, self._read("seg_params"), "seg_params")
        self.channels = {name: self._on(SegParams, "seg_params", name) for name in keys_of(SegParams)}

    def _read(self, *keys: str) -> Data:
        data, problems = plain(self.cfg, ".".join(keys), *keys, allow_resolvers=self.allow_resolvers, root=self.root)
        for problem in problems:
            self.problems.add(problem)
        return data

    def _mapping(self, data: Data, path: str, kind: Type) -> dict[str, Data]:
        if not kind.holds(data):
            self.problems.wrong(path, kind.words, data, f"{path.rpartition('.')[2]}: {kind.sample}")
        return data if isinstance(data, dict) else {}

    def _known(self, block: type, data: Data, path: str) -> None:
        """Report the keys of a mapping that the block has not; the values are checked where they are used."""
        for misfit in misfits_of(keys_of(block).values(), data if isinstance(data, Mapping) else {}):
            if misfit.kind == "unknown":
                self.problems.misfit(path, misfit)

    def _on(self, block: type, *keys: str) -> bool:
        value, key = self._read(*keys), keys_of(block)[keys[-1]]
        for misfit in key.type.misfits(value):
            meant = unquoted(value)
            fix = key.fix(value) if isinstance(meant, bool) else f"{key.name}: true"
            self.problems.misfit(".".join(keys), replace(misfit, fix=fix))
        return (key.default if value is None else value) is True

    def seg_params(self, component: str) -> dict[str, Data]:
        """Return those of `seg_loss_params` that a component takes."""
        return arguments_of(SegLossParams, component, {name: value for name, (value, _) in self.params.items()})

    def places(self, terms: Iterable[Data], switches: Iterable[str]) -> dict[str, str]:
        """Say for parts of the compound block, by path, where the file has what they were made of."""
        places = {f"{self.path}.{key}": f"{COMPOUND}.{key}" for key in switches}
        places.setdefault(f"{self.path}.epoch_thresholds", f"{self.path}.coefs.epoch_thresholds")
        for i, term in enumerate(terms):
            at = f"{self.path}.loss_list[{i}]"
            places[f"{at}.weight"] = f"{self.path}.coefs.{term['name']}"
            places |= {f"{at}.{name}": place for name, (_, place) in self.params.items()}
        places |= {f"{self.path}.pre_processes[0].{name}": place for name, (_, place) in self.params.items()}
        return places

    def terms(self) -> list[Data]:
        """Return the terms that are on."""
        on = [flag for flag, is_on in {**self.switches, **self.channels}.items() if is_on]
        terms = [self._term(name, loss) for name, (loss, flags) in TERMS.items() if set(flags) <= set(on)]
        for term in terms:
            if term["loss"] == "crossfield/SegCrossfieldLoss":
                *_, channel = TERMS[term["name"]][1]
                term["pred_channel"] = [flag for flag in on if flag in self.channels].index(channel)
            elif term["loss"] == "seg/SegLoss":
                term |= self._seg()
        return list(terms)

    def _seg(self) -> dict[str, Data]:
        """Return the parameters of the segmentation term."""
        if not any(self.channels.values()):
            message = f"compute_seg is on, but none of {', '.join(self.channels)} is"
            self.problems.report("seg_params", message, "compute_interior: true", "missing")
        return {
            "gt_channel_selector": list(self.channels.values()),
            "use_mixed_precision": str(self._read("pl_trainer", "precision")) in _MIXED,
            "use_mixup": self._on(Trainer, "pl_trainer", "use_mixup"),
            **self.seg_params("seg/SegLoss"),
        }

    def _term(self, coef: str, loss: str) -> dict[str, Data]:
        weight = self.coefs.get(coef)
        if weight is None:
            message = "is missing; it is the weight of a term that is on"
            self.problems.report(f"{self.path}.coefs.{coef}", message, keys_of(Coefs)[coef].fix(), "missing")
        return {"loss": loss, "name": coef, "weight": weight}
