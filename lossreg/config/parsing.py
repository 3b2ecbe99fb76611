"""Which part of a config is the loss, parsed to a checked tree; nothing is built, and torch is not imported."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lossreg.arguments import Problems
from lossreg.config.grammar import NOWHERE_ELSE, Component, CompoundConfig, Grammar
from lossreg.config.legacy import COMPOUND, LEGACY_BLOCKS, has_legacy, legacy_compound
from lossreg.config.nodes import loss_block
from lossreg.config.reading import Data, Source, has, plain
from lossreg.errors import ConfigError, ConfigProblem
from lossreg.keys import LISTS, SOME_TERMS


@dataclass(frozen=True)
class Permissions:
    """What Python code allows a config beyond plain data.

    Attributes:
        imports: modules, by their exact dotted path, that `_target_` may import from.
        resolvers: names of OmegaConf resolvers that may run.
    """

    imports: Collection[str] = ()
    resolvers: Collection[str] = ()

    def read(self, cfg: Any, path: str, *keys: str) -> tuple[Data, list[ConfigProblem]]:
        """Return what stands at `keys`, as `reading.plain` does."""
        return plain(cfg, path, *keys, allow_resolvers=self.resolvers)

    def grammar(self, problems: Collection[ConfigProblem], places: Mapping[str, str] = NOWHERE_ELSE) -> Grammar:
        """Return a grammar that goes on from problems."""
        return Grammar(self.imports, problems, places)


def parse_compound(cfg: Any, path: str, allowed: Permissions) -> CompoundConfig:
    """Parse a `compound_loss` block.

    Args:
        cfg: the block: a `DictConfig`, a mapping or a namespace.
        path: where it stands in its file, for errors.
        allowed: what it may do.

    Raises:
        ConfigError: with every mistake of the block.
    """
    data, problems = allowed.read(cfg, path)
    if isinstance(data, Mapping) and "loss_params" in data:
        hint = "get_loss_function and build_loss_from_config take a whole training config"
        problem = ConfigProblem(path, "expected a compound loss, found a config that has loss_params", hint, "unknown")
        raise ConfigError([*problems, problem])
    return _compound(data, problems, path, allowed)


def parse_blocks(cfg: Any, allowed: Permissions) -> CompoundConfig:
    """Parse the compound loss of a whole training config, else its legacy block.

    Raises:
        ConfigError: with every mistake, or that neither block is there.
    """
    switches, problems = allowed.read(cfg, COMPOUND, *COMPOUND.split("."))
    only_switches = isinstance(switches, Mapping) and all(switches.get(key) is None for key in LISTS)
    if switches is not None and not (only_switches and has_legacy(cfg)):
        return _compound(switches, problems, COMPOUND, allowed)
    blocks = [block for block in LEGACY_BLOCKS if has(cfg, *block.split("."))]
    if len(blocks) > 1:
        raise ConfigError([ConfigProblem(blocks[1], f"is there beside {blocks[0]}", "keep one of the two", "conflict")])
    if not blocks:
        path, hint = ("loss", "get_loss_function takes a loss alone") if has(cfg, "loss") else _misspelt(cfg)
        expected = f"expected {COMPOUND} or {' or '.join(LEGACY_BLOCKS)}; found none of them"
        raise ConfigError([ConfigProblem(path, expected, hint, "missing")])
    rewritten = legacy_compound(cfg, switches or {}, allowed.resolvers)
    try:
        return _compound(rewritten.block, problems, rewritten.path, allowed, rewritten.places)
    except ConfigError as error:
        found = Problems(error.problems)
        found.relocate(rewritten.places)
        raise ConfigError(found) from None


def parse_criterion(cfg: Any, allowed: Permissions) -> CompoundConfig | Component:
    """Parse the criterion of a training config: of its compound loss, its legacy block and `loss` the first there is.

    Raises:
        ConfigError: with every mistake, or that none of the three is there.
    """
    if has(cfg, *COMPOUND.split(".")) or has_legacy(cfg):
        return parse_blocks(cfg, allowed)
    if not has(cfg, "loss"):
        expected = f"expected {COMPOUND}, {LEGACY_BLOCKS[0]} (or multiloss) or loss; found none of them"
        path, hint = _misspelt(cfg)
        raise ConfigError([ConfigProblem(path, f"no loss is configured: {expected}", hint, "missing")])
    data, problems = allowed.read(cfg, "loss", "loss")
    block, several = loss_block(data)
    if several:
        return _compound(block, problems, "loss", allowed)
    grammar = allowed.grammar(problems)
    component = grammar.single(block, "loss")
    grammar.problems.done()
    assert component is not None, "what is no component has been reported as a problem"
    return component


def _misspelt(cfg: Any) -> tuple[str, str]:
    """Return the path of a key that may be meant for that of a loss, or has nothing below it, and what to do."""
    inside = has(cfg, "loss_params")
    names = [block.partition(".")[2] for block in (COMPOUND, *LEGACY_BLOCKS)] if inside else ["loss_params", *LISTS]
    block = cfg
    if inside and isinstance(cfg, DictConfig):
        node = cfg._get_node("loss_params")
        block = None if node is None or node._is_interpolation() else node
    elif inside and isinstance(cfg, Mapping):
        block = cfg["loss_params"]
    for key in block if isinstance(block, Mapping) else ():
        if not inside and key in LISTS:
            return key, f"a compound loss itself goes to build_compound_loss_from_config, or below {COMPOUND}"
        near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.75)
        if near:
            hint = f"write `{near[0]}` for {key!r}"
            if near == [key]:
                hint = "it is empty: indent what belongs to it below it"
            return f"loss_params.{key}" if inside else str(key), hint
    return "", ""


def parse_file(path: str | Path, key: str | None, allowed: Permissions) -> CompoundConfig | Component:
    """Parse the criterion that a YAML file describes: `parse_source` of what it holds."""
    return parse_source(Source.read(path), key, allowed)


def parse_source(source: Source, key: str | None, allowed: Permissions) -> CompoundConfig | Component:
    """Parse the criterion that a YAML text describes.

    Args:
        source: the text.
        key: dotted path of a compound block in it. By default the file is a training config, or a compound block
            itself.
        allowed: what it may do.

    Raises:
        ConfigError: it cannot be read, or with every mistake in it.
    """
    cfg = source.load()
    if not cfg:
        problem = f"is empty; no loss is configured: expected {COMPOUND}, losses or loss"
        raise ConfigError([ConfigProblem("", f"{source.name}: {problem}", f"losses: {SOME_TERMS}", "missing")])
    if key is not None:
        keys = key.split(".")
        if not has(cfg, *keys):
            raise ConfigError(f"{source.name}: has no key {key!r}; its keys are {sorted(map(str, cfg))}")
        return _compound(*allowed.read(cfg, key, *keys), key, allowed)
    if not set(LISTS).isdisjoint(cfg.keys()):  # `in` would resolve what stands there
        return parse_compound(cfg, "", allowed)
    return parse_criterion(cfg, allowed)


def _compound(
    data: Data,
    problems: list[ConfigProblem],
    path: str,
    allowed: Permissions,
    places: Mapping[str, str] = NOWHERE_ELSE,
) -> CompoundConfig:
    grammar = allowed.grammar(problems, places)
    config = grammar.compound(data, path)
    grammar.problems.done()
    config.data = data
    return config
