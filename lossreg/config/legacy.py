"""The legacy block `loss_params.multi_loss`, rewritten as the compound block that means the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from lossreg.arguments import nearest
from lossreg.config.problems import Problems, shown
from lossreg.config.reading import Data, Root, has, plain
from lossreg.errors import ConfigProblem

LEGACY_BLOCKS = ("loss_params.multi_loss", "loss_params.multiloss")
CHANNELS = ("interior", "edge", "vertex")  # the order of the polygon raster's channels
WEIGHT_PARAMS = ("use_dist", "use_size", "w0", "sigma")
LOSS_PARAMS = ("bce_coef", "dice_coef", "tversky_focal_coef")
_MIXED = ("16", "16-mixed", "bf16", "bf16-mixed")
_MAPPINGS = {  # what each mapping may look like
    "multi_loss": "multi_loss: {coefs: {seg: 1.0}}",
    "multiloss": "multiloss: {coefs: {seg: 1.0}}",
    "coefs": "coefs: {seg: 1.0}",
    "seg_loss_params": "seg_loss_params: {bce_coef: 0.5}",
}
COEFS = (
    "seg",
    "crossfield_align",
    "crossfield_align90",
    "crossfield_smooth",
    "seg_interior_crossfield",
    "seg_edge_crossfield",
    "seg_edge_interior",
)


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

    def located(self, problem: ConfigProblem) -> ConfigProblem:
        """Point a problem of the compound block at what it was made of."""
        for part, place in self.places.items():
            rest = problem.path.removeprefix(part)
            if rest != problem.path and rest[:1] in ("", ".", "["):
                return replace(problem, path=place + rest)
        return problem


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
        reader.report("compute_seg", "neither compute_seg nor compute_crossfield is on", "compute_seg: true")
    reader.problems.check()
    block: dict[str, Data] = {"loss_list": terms}
    thresholds = reader.coefs.get("epoch_thresholds")
    block |= {"epoch_thresholds": thresholds} if thresholds is not None else {}
    params = reader.block.get("normalization_params")
    block |= {"normalization_params": params} if params is not None else {}
    if reader.on("compute_seg"):
        block["pre_processes"] = [{"preprocess": "seg/SegLossWeights", **reader.seg_params(WEIGHT_PARAMS)}]
    block |= {key: value for key, value in switches.items() if value is not None}
    return Rewritten(block, reader.path, reader.places(block))


class _LegacyReader:
    def __init__(self, cfg: Any, allow_resolvers: Collection[str]) -> None:
        self.problems = Problems()
        self.report = self.problems.report
        self.cfg = cfg
        self.allow_resolvers = allow_resolvers
        self.root = Root(cfg, allow_resolvers) if isinstance(cfg, DictConfig) else None
        self.path = next(path for path in LEGACY_BLOCKS if has(cfg, *path.split(".")))
        self.block = self._mapping(self.path)
        self.coefs = self._mapping(f"{self.path}.coefs")
        for name in self.coefs:
            if name not in (*COEFS, "epoch_thresholds"):
                hint = ("" if self.problems.crowded else nearest(name, COEFS)) or f"expected {', '.join(COEFS)}"
                self.report(f"{self.path}.coefs.{name}", "is not a coefficient", hint)
        self.channels = [channel for channel in CHANNELS if self.on("seg_params", f"compute_{channel}")]

    def _value(self, *keys: str) -> Data:
        data, problems = plain(self.cfg, ".".join(keys), *keys, allow_resolvers=self.allow_resolvers, root=self.root)
        self.problems.take(problems)
        return data

    def _mapping(self, path: str, default: dict[str, Data] | None = None) -> dict[str, Data]:
        """Return the mapping at a path; where nothing stands there, the default, or a problem without one."""
        found = self._value(*path.split("."))
        if found is None and default is not None:
            return default
        if isinstance(found, dict):
            return found
        self.report(path, f"expected a mapping, found {shown(found)}", _MAPPINGS[path.rpartition(".")[2]])
        return {}

    def on(self, *keys: str) -> bool:
        value = self._value(*keys)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.report(".".join(keys), f"expected true or false, found {shown(value)}", f"{keys[-1]}: true")
        return False

    def _seg_params(self) -> dict[str, tuple[Data, str]]:
        """Return each of `seg_loss_params`, beside the legacy block or inside it, with where it stands."""
        paths = [f"{path}.seg_loss_params" for path in (self.path, "loss_params")]
        return {name: (value, f"{path}.{name}") for path in paths for name, value in self._mapping(path, {}).items()}

    def seg_params(self, names: tuple[str, ...]) -> dict[str, Data]:
        """Return those of `seg_loss_params` that are given."""
        return {name: value for name, (value, _) in self._seg_params().items() if name in names}

    def places(self, block: Mapping[str, Data]) -> dict[str, str]:
        """Say for parts of the compound block, by path, where the file has what they were made of."""
        places = {f"{self.path}.epoch_thresholds": f"{self.path}.coefs.epoch_thresholds"}
        for i, term in enumerate(block["loss_list"]):
            at = f"{self.path}.loss_list[{i}]"
            places[f"{at}.weight"] = f"{self.path}.coefs.{term['name']}"
            places |= {f"{at}.{name}": place for name, (_, place) in self._seg_params().items()}
        places |= {f"{self.path}.pre_processes[0].{name}": place for name, (_, place) in self._seg_params().items()}
        return places

    def terms(self) -> list[Data]:
        seg, crossfield = self.on("compute_seg"), self.on("compute_crossfield")
        terms: list[Data] = []
        if seg:
            terms.append(self._seg())
        if crossfield:
            terms += [
                self._term("crossfield_align", "crossfield/CrossfieldAlignLoss"),
                self._term("crossfield_align90", "crossfield/CrossfieldAlign90Loss"),
                self._term("crossfield_smooth", "crossfield/CrossfieldSmoothLoss"),
            ]
        for channel in ("interior", "edge"):
            if seg and crossfield and channel in self.channels:
                position = self.channels.index(channel)
                term = self._term(f"seg_{channel}_crossfield", "crossfield/SegCrossfieldLoss")
                terms.append({**term, "pred_channel": position})
        if seg and {"interior", "edge"} <= set(self.channels):
            terms.append(self._term("seg_edge_interior", "crossfield/SegEdgeInteriorLoss"))
        return terms

    def _seg(self) -> dict[str, Data]:
        if not self.channels:
            self.report(
                "seg_params",
                "compute_seg is on, but none of compute_interior, compute_edge, compute_vertex is",
                "compute_interior: true",
            )
        precision = str(self._value("pl_trainer", "precision"))
        return {
            **self._term("seg", "seg/SegLoss"),
            "gt_channel_selector": [channel in self.channels for channel in CHANNELS],
            "use_mixed_precision": precision in _MIXED,
            "use_mixup": self.on("pl_trainer", "use_mixup"),
            **self.seg_params(LOSS_PARAMS),
        }

    def _term(self, coef: str, loss: str) -> dict[str, Data]:
        weight = self.coefs.get(coef)
        if weight is None:
            self.report(
                f"{self.path}.coefs.{coef}", "is missing; it is the weight of a term that is on", f"{coef}: 1.0"
            )
        return {"loss": loss, "name": coef, "weight": weight}
