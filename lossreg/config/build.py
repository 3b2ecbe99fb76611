"""YAML to `MultiLoss`: the three paths of a training config, and a file by its path."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from lossreg.composition.multiloss import MultiLoss
from lossreg.composition.nonfinite import OnNonfinite
from lossreg.config.grammar import LISTS, Component, CompoundConfig, Grammar, TermConfig
from lossreg.config.legacy import LEGACY_BLOCKS, has_legacy, legacy_compound
from lossreg.config.reading import Data, has, plain, read_file
from lossreg.errors import ConfigError, ConfigProblem, LossregError
from lossreg.losses.base import Loss
from lossreg.losses.create import adopt, instantiate
from lossreg.losses.deep_supervision import DeepSupervision

COMPOUND = "loss_params.compound_loss"


def build_compound_loss_from_config(
    cfg: Any,
    *,
    path: str = COMPOUND,
    allow_import: Collection[str] = (),
    allow_resolvers: Collection[str] = (),
) -> MultiLoss:
    """Build a `MultiLoss` from a `compound_loss` block.

    Args:
        cfg: the block: a `DictConfig`, a mapping or a namespace.
        path: where it stands in its file, for errors.
        allow_import: modules, by their exact dotted path, that `_target_` may import from.
        allow_resolvers: names of OmegaConf resolvers that may run.

    Raises:
        ConfigError: with every mistake of the block; nothing is built.
    """
    return _build(*plain(cfg, path, allow_resolvers=allow_resolvers), path, allow_import)


def build_loss_from_config(
    cfg: Any, *, allow_import: Collection[str] = (), allow_resolvers: Collection[str] = ()
) -> MultiLoss:
    """Build the `MultiLoss` of a whole training config: its compound loss, else its legacy block.

    A `compound_loss` without a list of terms beside a legacy block gives the legacy block its switches.

    Args:
        cfg: the config that holds `loss_params`.
        allow_import, allow_resolvers: as in `build_compound_loss_from_config`.

    Raises:
        ConfigError: with every mistake, or that neither block is there.
    """
    switches, problems = plain(cfg, COMPOUND, *COMPOUND.split("."), allow_resolvers=allow_resolvers)
    only_switches = isinstance(switches, Mapping) and all(switches.get(key) is None for key in LISTS)
    if switches is not None and not (only_switches and has_legacy(cfg)):
        return _build(switches, problems, COMPOUND, allow_import)
    if has_legacy(cfg):
        block, path = legacy_compound(cfg, switches or {}, allow_resolvers)
        return _build(block, problems, path, allow_import)
    raise ConfigError(f"expected {COMPOUND} or {' or '.join(LEGACY_BLOCKS)}; found none of them")


def get_loss_function(cfg: Any, *, allow_import: Collection[str] = (), allow_resolvers: Collection[str] = ()) -> Any:
    """Build the criterion of a training config by its first path that is there.

    1. `loss_params.compound_loss`: a `MultiLoss`;
    2. `loss_params.multi_loss`, also spelled `multiloss`: the legacy block, a `MultiLoss`;
    3. `loss`: the component itself, not wrapped; a `torch.nn.MSELoss` stays one.

    Args:
        cfg: the whole config: a `DictConfig`, a mapping or a namespace.
        allow_import, allow_resolvers: as in `build_compound_loss_from_config`.

    Raises:
        ConfigError: with every mistake, or (a `ValueError` too) that none of the three is there.
    """
    if has(cfg, *COMPOUND.split(".")) or has_legacy(cfg):
        return build_loss_from_config(cfg, allow_import=allow_import, allow_resolvers=allow_resolvers)
    if not has(cfg, "loss"):
        raise ConfigError(
            f"no loss is configured: expected {COMPOUND}, {LEGACY_BLOCKS[0]} (or multiloss) or loss; found none of them"
        )
    data, problems = plain(cfg, "loss", "loss", allow_resolvers=allow_resolvers)
    return _single(data, problems, "loss", allow_import)


def load_loss(
    path: str | Path,
    key: str | None = None,
    *,
    allow_import: Collection[str] = (),
    allow_resolvers: Collection[str] = (),
) -> Any:
    """Build the criterion that a YAML file describes.

    Args:
        path: the file.
        key: dotted path of a compound block in it. By default the file is a training config, as
            `get_loss_function` takes it, or a compound block itself.
        allow_import, allow_resolvers: as in `build_compound_loss_from_config`.

    Raises:
        ConfigError: the file cannot be read, or with every mistake in it.
    """
    cfg = read_file(path)
    allowed: dict[str, Any] = {"allow_import": allow_import, "allow_resolvers": allow_resolvers}
    if key is not None:
        keys = key.split(".")
        if not has(cfg, *keys):
            raise ConfigError(f"{path}: has no key {key!r}; its keys are {sorted(map(str, cfg))}")
        return _build(*plain(cfg, key, *keys, allow_resolvers=allow_resolvers), key, allow_import)
    if not set(LISTS).isdisjoint(cfg.keys()):  # `in` would resolve what stands there
        return build_compound_loss_from_config(cfg, path="", **allowed)
    return get_loss_function(cfg, **allowed)


def _build(data: Data, problems: list[ConfigProblem], path: str, allow_import: Collection[str]) -> MultiLoss:
    grammar = Grammar(allow_import, problems)
    config = grammar.compound(data, path)
    if not grammar.problems:
        built = _Builder(grammar).multi_loss(config, "multi")
        if built is not None:
            return built
    raise ConfigError(grammar.problems)


def _single(data: Data, problems: list[ConfigProblem], path: str, allow_import: Collection[str]) -> Any:
    grammar = Grammar(allow_import, problems)
    component = grammar.single(data, path)
    if component is not None and not grammar.problems:
        made = _Builder(grammar).make(component, lambda c: instantiate(c.entry, c.arguments, c.name))
        if made is not None:
            return made
    raise ConfigError(grammar.problems)


class _Builder:
    """Make objects of a checked config; what a constructor refuses becomes a problem at the component's path."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar

    def multi_loss(self, config: CompoundConfig, name: str) -> MultiLoss | None:
        before = len(self.grammar.problems)
        losses = [self._term(term) for term in config.terms]
        nodes = [self.make(node, lambda c: c.entry.load()(**c.arguments)) for node in config.pre_processes]
        weighting = self.make(config.weighting, lambda c: c.entry.load()(**c.arguments)) if config.weighting else None
        if len(self.grammar.problems) > before:
            return None
        try:
            made = MultiLoss(
                [loss for loss in losses if loss is not None],
                [term.weight for term in config.terms],
                pre_processes=nodes,
                name=name,
                normalize=config.normalize,
                unnormalized=[term.name for term in config.terms if not term.normalize],
                optional_terms=[term.name for term in config.terms if term.optional],
                weighting=weighting,
                zero_weight=config.zero_weight,
                batch_keys=config.batch_keys,
                normalization_params=config.normalization_params,
                on_nonfinite=cast(OnNonfinite, config.on_nonfinite),
                track_norms=cast('Literal["running"] | None', config.track_norms),
                norm_momentum=config.norm_momentum,
            )
        except (LossregError, ValueError, TypeError) as error:
            self.grammar.report(config.path, str(error))
            return None
        if config.compile:
            try:
                made.compile()
            except ValueError as error:  # something in it cannot be
                self.grammar.report(f"{config.path}.compile", str(error))
                return None
        return made

    def _term(self, term: TermConfig) -> Loss | MultiLoss | None:
        if term.group is not None:
            return self.multi_loss(term.group, term.name)
        assert term.loss is not None, "a term without a loss has been reported as a problem"

        def construct(component: Component) -> Loss:
            loss = adopt(component.entry, term.name, component.arguments, term.wrap)
            return loss if term.deep_supervision is None else DeepSupervision(loss, **term.deep_supervision)

        made: Loss | None = self.make(term.loss, construct)
        return made

    def make(self, component: Component, construct: Callable[[Component], Any]) -> Any:
        try:
            return construct(component)
        except Exception as error:  # a third party's constructor may raise anything
            self.grammar.report(component.path, f"{component.entry.name} refused its arguments: {error}")
            return None
