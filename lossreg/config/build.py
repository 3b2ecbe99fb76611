"""YAML to `MultiLoss`: the three paths of a training config, and a file by its path."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossreg.arguments import Arguments, Problems
from lossreg.composition.dependencies import check_functions
from lossreg.composition.from_dict import FromDict
from lossreg.composition.multiloss import MultiLoss, PreprocessFunction
from lossreg.config.grammar import Component, CompoundConfig, TermConfig
from lossreg.config.legacy import COMPOUND
from lossreg.config.parsing import Permissions, parse_blocks, parse_compound, parse_criterion, parse_file
from lossreg.errors import ArgumentError, ConfigError, LossregError
from lossreg.keys import MASKS
from lossreg.losses.base import Loss
from lossreg.losses.create import adopt, instantiate
from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.registry.foreign import described, message_of


def build_compound_loss_from_config(
    cfg: Any,
    pre_processes: Sequence[PreprocessFunction] | None = None,
    *,
    path: str = COMPOUND,
    allow_import: Collection[str] = (),
    allow_resolvers: Collection[str] = (),
) -> MultiLoss:
    """Build a `MultiLoss` from a `compound_loss` block.

    Args:
        cfg: the block: a `DictConfig`, a mapping or a namespace.
        pre_processes: further preprocesses, as `MultiLoss` takes them; they come after those of the block.
        path: where it stands in its file, for errors.
        allow_import: modules, by their exact dotted path, that `_target_` may import from.
        allow_resolvers: names of OmegaConf resolvers that may run.

    Raises:
        ConfigError: with every mistake of the block; nothing is built.
    """
    return build_parsed(parse_compound(cfg, path, Permissions(allow_import, allow_resolvers)), pre_processes)


def build_loss_from_config(
    cfg: Any,
    pre_processes: Sequence[PreprocessFunction] | None = None,
    *,
    allow_import: Collection[str] = (),
    allow_resolvers: Collection[str] = (),
) -> MultiLoss:
    """Build the `MultiLoss` of a whole training config: its compound loss, else its legacy block.

    A `compound_loss` without a list of terms beside a legacy block gives the legacy block its switches.

    Args:
        cfg: the config that holds `loss_params`.
        pre_processes, allow_import, allow_resolvers: as in `build_compound_loss_from_config`.

    Raises:
        ConfigError: with every mistake, or that neither block is there.
    """
    return build_parsed(parse_blocks(cfg, Permissions(allow_import, allow_resolvers)), pre_processes)


def get_loss_function(cfg: Any, *, allow_import: Collection[str] = (), allow_resolvers: Collection[str] = ()) -> Any:
    """Build the criterion of a training config by its first path that is there.

    1. `loss_params.compound_loss`: a `MultiLoss`;
    2. `loss_params.multi_loss`, also spelled `multiloss`: the legacy block, a `MultiLoss`;
    3. `loss`: the component itself, not wrapped; a `torch.nn.MSELoss` stays one. What a Hydra app picked by
       `loss=NAME` or `loss=compound` is such a block, too.

    Args:
        cfg: the whole config: a `DictConfig`, a mapping or a namespace.
        allow_import, allow_resolvers: as in `build_compound_loss_from_config`.

    Raises:
        ConfigError: with every mistake, or (a `ValueError` too) that none of the three is there.
    """
    return build(parse_criterion(cfg, Permissions(allow_import, allow_resolvers)))


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
        ArgumentError: what is given is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        hint = "give a config in memory to get_loss_function, or a compound loss to build_compound_loss_from_config"
        Arguments("load_loss").refuse("path", "the path of a YAML file", path, hint)
    return build(parse_file(path, key, Permissions(allow_import, allow_resolvers)))


def build(config: CompoundConfig | Component) -> Any:
    """Build what a checked config describes: a `MultiLoss`, or a component itself, unwrapped.

    Raises:
        ConfigError: with all that constructors and the graph refuse.
    """
    return build_parsed(config) if isinstance(config, CompoundConfig) else _single(config)


def build_parsed(config: CompoundConfig, pre_processes: Sequence[PreprocessFunction] | None = None) -> MultiLoss:
    """Build the `MultiLoss` of a checked compound block, with further preprocesses of Python's.

    Raises:
        ConfigError: with all that constructors and the graph refuse.
        ArgumentError: a preprocess is none.
    """
    given = Arguments("MultiLoss")
    more = check_functions(given, () if pre_processes is None else pre_processes)
    given.done()
    builder = _Builder()
    built = builder.multi_loss(config, "multi", more)
    if built is None:
        raise ConfigError(builder.problems)
    return built


def _single(component: Component) -> Any:
    builder = _Builder()
    made = builder.make(component, lambda c: instantiate(c.entry, c.arguments, c.name))
    builder.problems.done()
    return made


class _Builder:
    """Make objects of a checked config; what a constructor refuses becomes a problem at the component's path."""

    def __init__(self) -> None:
        self.problems = Problems()

    def multi_loss(
        self, config: CompoundConfig, name: str, pre_processes: Sequence[PreprocessFunction] = ()
    ) -> MultiLoss | None:
        before = len(self.problems)
        losses = [] if config.dictionary is not None else [self._term(term) for term in config.terms]
        nodes = [self.make(node, lambda c: c.entry.construct(c.arguments)) for node in config.pre_processes]
        weighting = self.make(config.weighting, lambda c: c.entry.construct(c.arguments)) if config.weighting else None
        if len(self.problems) > before:
            return None
        try:
            if config.dictionary is not None:
                members = {
                    term.member: {"weight": term.weight, "normalize": term.normalize, "optional": term.optional}
                    for term in config.terms
                }
                return FromDict(members, name=name, weighting=weighting, **config.dictionary, **config.settings)
            made = MultiLoss(
                [loss for loss in losses if loss is not None],
                [term.weight for term in config.terms],
                config.thresholds,
                pre_processes=[*nodes, *pre_processes],
                name=name,
                unnormalized=[term.name for term in config.terms if not term.normalize],
                optional_terms=[term.name for term in config.terms if term.optional],
                weighting=weighting,
                **config.settings,
            )
        except ArgumentError as error:
            of_weighting = ".weighting" if error.owner == type(weighting).__name__ else ""
            for problem in error.problems:
                self.problems.add(replace(problem, path=f"{config.path}{of_weighting}.{problem.path}"))
            self.problems.relocate(
                {f"{config.path}.loss_funcs[{i}]": term.path for i, term in enumerate(config.terms)}, before
            )
            return None
        except (LossregError, ValueError, TypeError) as error:
            hint = "`lossreg show NAME` tells what a component reads and makes"
            self.problems.report(config.path, str(error), hint, "refused")
            return None
        if config.compile:
            try:
                made.compile()
            except ValueError as error:  # something in it cannot be
                self.problems.report(f"{config.path}.compile", str(error), "compile: false", "conflict")
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
            name = component.entry.name
            problems = error.problems if isinstance(error, ArgumentError) else ()
            of_mask = {problem.path for problem in problems} <= set(MASKS)
            if isinstance(error, ArgumentError) and (error.owner == "LossWrapper" or of_mask):
                for problem in problems:
                    option, *_ = re.split(r"[.\[]", problem.path)
                    block = ".wrap" if option in component.under_wrap else ""
                    self.problems.add(replace(problem, path=f"{component.path}{block}.{problem.path}"))
                return None
            reason = "; ".join(map(str, problems)) or message_of(error) or described(error)
            hint = f"`lossreg show {name}` tells what it takes"
            self.problems.report(component.path, f"{name} refused its arguments: {reason}", hint, "refused")
            return None
