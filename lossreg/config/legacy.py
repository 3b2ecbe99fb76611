"""The legacy block `loss_params.multi_loss`, rewritten as the compound block that means the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lossreg.config.reading import Data, has, plain
from lossreg.errors import ConfigError, ConfigProblem

LEGACY_BLOCKS = ("loss_params.multi_loss", "loss_params.multiloss")
_CHANNELS = ("interior", "edge", "vertex")  # the order of the polygon raster's channels
_WEIGHT_PARAMS = ("use_dist", "use_size", "w0", "sigma")
_LOSS_PARAMS = ("bce_coef", "dice_coef", "tversky_focal_coef")
_MIXED = ("16", "16-mixed", "bf16", "bf16-mixed")
_COEFS = (
    "seg",
    "crossfield_align",
    "crossfield_align90",
    "crossfield_smooth",
    "seg_interior_crossfield",
    "seg_edge_crossfield",
    "seg_edge_interior",
)


def has_legacy(cfg: Any) -> bool:
    """Say whether a training config has the legacy block, in either spelling."""
    return any(has(cfg, *block.split(".")) for block in LEGACY_BLOCKS)


def legacy_compound(cfg: Any, switches: Mapping[str, Data], allow_resolvers: Collection[str] = ()) -> tuple[Data, str]:
    """Return `(compound block, its path)` that means what a legacy config says.

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
        reader.report("compute_seg", "neither compute_seg nor compute_crossfield is on; expected at least one")
    if reader.problems:
        raise ConfigError(reader.problems)
    block: dict[str, Data] = {"loss_list": terms}
    thresholds = reader.coefs.get("epoch_thresholds")
    block |= {"epoch_thresholds": thresholds} if thresholds is not None else {}
    params = reader.block.get("normalization_params")
    block |= {"normalization_params": params} if params is not None else {}
    if reader.on("compute_seg"):
        block["pre_processes"] = [{"preprocess": "seg/SegLossWeights", **reader.seg_params(_WEIGHT_PARAMS)}]
    return {**block, **{key: value for key, value in switches.items() if value is not None}}, reader.path


class _LegacyReader:
    def __init__(self, cfg: Any, allow_resolvers: Collection[str]) -> None:
        self.problems: list[ConfigProblem] = []
        self.cfg = cfg
        self.allow_resolvers = allow_resolvers
        self.path = next(path for path in LEGACY_BLOCKS if has(cfg, *path.split(".")))
        self.block = self._mapping(self.path)
        self.coefs = self._mapping(f"{self.path}.coefs")
        self.channels = [channel for channel in _CHANNELS if self.on("seg_params", f"compute_{channel}")]

    def report(self, path: str, message: str) -> None:
        self.problems.append(ConfigProblem(path, message))

    def _value(self, *keys: str) -> Data:
        data, problems = plain(self.cfg, ".".join(keys), *keys, allow_resolvers=self.allow_resolvers)
        self.problems += [problem for problem in problems if problem not in self.problems]
        return data

    def _mapping(self, path: str, default: dict[str, Data] | None = None) -> dict[str, Data]:
        """Return the mapping at a path; where nothing stands there, the default, or a problem without one."""
        found = self._value(*path.split("."))
        if found is None and default is not None:
            return default
        if isinstance(found, dict):
            return found
        self.report(path, f"expected a mapping, found {'nothing' if found is None else repr(found)}")
        return {}

    def on(self, *keys: str) -> bool:
        value = self._value(*keys)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.report(".".join(keys), f"expected true or false, found {value!r}")
        return False

    def seg_params(self, names: tuple[str, ...]) -> dict[str, Data]:
        """Return those of `seg_loss_params` that are given, beside the legacy block or inside it."""
        inner, outer = (self._mapping(f"{path}.seg_loss_params", {}) for path in (self.path, "loss_params"))
        given = {**inner, **outer}
        return {name: given[name] for name in names if name in given}

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
                "compute_seg is on, but none of compute_interior, compute_edge, compute_vertex is; turn one on",
            )
        precision = str(self._value("pl_trainer", "precision"))
        return {
            **self._term("seg", "seg/SegLoss"),
            "gt_channel_selector": [channel in self.channels for channel in _CHANNELS],
            "use_mixed_precision": precision in _MIXED,
            **self.seg_params(_LOSS_PARAMS),
        }

    def _term(self, coef: str, loss: str) -> dict[str, Data]:
        weight = self.coefs.get(coef)
        if weight is None:
            self.report(
                f"{self.path}.coefs.{coef}", "is missing; it is the weight of a term that is on: give it a number"
            )
        return {"loss": loss, "name": coef, "weight": weight}
