"""Configs of any kind to plain data: OmegaConf, mappings and namespaces; interpolations stay inside the file.

A config may come from a stranger. Whatever it holds, reading it takes bounded time and memory, imports nothing,
runs no resolver, and ends with plain data or a `ConfigError`.
"""

from __future__ import annotations

import functools
import io
import operator
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lossreg.config.bounds import (
    FLATTEN,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    NODE,
    SHORTEN,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY,
    Loader,
    Unfolding,
    is_long_reference,
    refused_reference,
)
from lossreg.errors import ConfigError, ConfigProblem

_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")
_REFUSED = "\0refused:"

Data = Any
"""Plain data: None, bool, int, float, str, list, dict with string keys."""


@dataclass(frozen=True)
class Source:
    """What a YAML file holds, which was read once: a pipe has it no second time.

    Attributes:
        name: the file's name, for messages.
        content: its first bytes, one more than a config may have.
    """

    name: str
    content: bytes

    @classmethod
    def read(cls, path: str | Path) -> Source:
        """Read a file.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                return cls.of(file, str(path))
        except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
            raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None

    @classmethod
    def of(cls, stream: IO[bytes], name: str) -> Source:
        """Read an open file."""
        return cls(name, stream.read(MAX_BYTES + 1))

    @property
    def text(self) -> str:
        """The text, to show where a mistake is; what is no UTF-8 is replaced."""
        return self.content[:MAX_BYTES].decode("utf-8", errors="replace")

    def _stream(self) -> io.StringIO:
        """Return the text as a stream whose name YAML's errors tell."""
        if len(self.content) > MAX_BYTES:
            raise ConfigError(f"{self.name}: is longer than {MAX_BYTES:,} bytes; keep the loss in a file of its own")
        try:
            stream = io.StringIO(self.content.decode("utf-8"))
        except UnicodeDecodeError as error:
            reason = f"byte {error.start + 1:,} is not UTF-8; save the file as UTF-8"
            raise ConfigError(f"{self.name}: is not a YAML file that lossreg can read: {reason}") from None
        stream.name = self.name
        return stream

    def load(self) -> DictConfig:
        """Return the config.

        Raises:
            ConfigError: it is too long, no UTF-8, no YAML (duplicate keys included), holds no mapping, has tags (which
                name types to make), or is beyond one of `lossreg.config.bounds`.
        """
        try:
            return OmegaConf.create(Loader(self._stream()).get_single_data() or {})
        except YAMLError as failure:
            error = refused_reference(failure, self.text) or failure
            raise ConfigError(f"{self.name}: is not a YAML file that lossreg can read: {error}") from error
        except (OmegaConfBaseException, ValueError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"{self.name}: is not a YAML file that lossreg can read: {reason}") from None


def has(cfg: Any, *keys: str) -> bool:
    """Say whether a value stands at a path of keys in any kind of config; null is none."""
    for key in keys:
        if isinstance(cfg, DictConfig):
            cfg = cfg._get_node(key, validate_access=False)
            if cfg is None or cfg._is_none():
                return False
        else:
            cfg = cfg.get(key) if isinstance(cfg, Mapping) else getattr(cfg, key, None)
            if cfg is None:
                return False
    return True


def plain(
    cfg: Any, path: str, *keys: str, allow_resolvers: Collection[str] = (), root: Root | None = None
) -> tuple[Data, list[ConfigProblem]]:
    """Turn what stands at `keys` of a config into plain data, interpolations resolved within that config.

    Args:
        cfg: a `DictConfig`, a mapping or an attribute-style namespace.
        path: where the value stands, for errors.
        keys: the way to it; none for the whole of `cfg`.
        allow_resolvers: names of OmegaConf resolvers that may run (`("oc.env",)`).
        root: of `cfg`, a `DictConfig` of which more than one value is read.

    Returns:
        the data (None where nothing stands there), and a problem for each value that is marked as missing, or
        refers to the environment or to another resolver; no resolver has run that is not allowed.

    Raises:
        ConfigError: it holds what is not plain data or a reference to a key that is not there, or is beyond one of
            `lossreg.config.bounds` once references are followed.
    """
    if not has(cfg, *keys):
        return None, []
    while keys and not isinstance(cfg, DictConfig):
        cfg = cfg[keys[0]] if isinstance(cfg, Mapping) else getattr(cfg, keys[0])
        keys = keys[1:]
    if not isinstance(cfg, (DictConfig, ListConfig)):
        try:
            cfg = OmegaConf.create({"value": _unwrapped(cfg, count(), path)})
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            hint = "give it numbers, text, lists and mappings"
            raise ConfigError([ConfigProblem(path, f"is not plain data: {reason}", hint, "type")]) from None
        keys = ("value",)
        root = None
    return (root or Root(cfg, allow_resolvers)).read(keys, path)


class Root:
    """A whole config, of which parts are read: each value is looked at once.

    Args:
        cfg: the config, or a part of it.
        allowed: names of resolvers that may run.
    """

    def __init__(self, cfg: DictConfig | ListConfig, allowed: Collection[str] = ()) -> None:
        self._cfg: Any = cfg
        self._allowed = frozenset(allowed)

    @functools.cached_property
    def _unfolding(self) -> Unfolding:
        return Unfolding(OmegaConf.to_container(self._cfg._get_root(), resolve=False), self._marked)

    def _marked(self, text: str) -> str:
        """Return a text with a mark if it has an interpolation that is not a plain reference to another key."""
        rest = NODE.sub("\0", text)
        if "${" not in _ESCAPED.sub("\0", rest):
            return text  # with references to other keys alone, or texts that begin like one
        names = _RESOLVER.findall(rest)
        if "${" in rest and not (names and set(names) <= self._allowed and rest.count("${") == len(names)):
            return _REFUSED + text.replace("${", "$ {")
        return text

    def read(self, keys: Sequence[str], path: str) -> tuple[Data, list[ConfigProblem]]:
        """Return what stands at some keys, resolved, and a problem for each value that is missing or refused.

        Args:
            keys: the way from `cfg`.
            path: where it stands, for errors.

        Raises:
            ConfigError: it refers to nothing, or is beyond the bounds.
        """
        try:
            way = (*_way(self._cfg), *keys)
            self._unfolding.start, self._unfolding.path = way, path
            self._unfolding.check(way)
            data = self._resolved(way)
        except RecursionError:
            raise ConfigError([ConfigProblem(path, f"has {TOO_DEEP}", FLATTEN, "limit")]) from None
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            problem = ConfigProblem(path, f"cannot be resolved: {reason}", "correct the reference", "reference")
            raise ConfigError([problem]) from None
        return data, _refused(data, path) if self._unfolding.marked else []

    def _resolved(self, way: Sequence[Any]) -> Data:
        """Return what stands at some keys of the root, its references followed."""
        if not self._unfolding.refers:
            return functools.reduce(operator.getitem, way, self._unfolding.root)
        own: Any = OmegaConf.create(self._unfolding.root)
        for key in way:
            own = own._get_node(key)
        own = own._dereference_node()
        return OmegaConf.to_container(own, resolve=True) if OmegaConf.is_config(own) else own._value()


def _way(cfg: Any) -> list[Any]:
    """Return the keys from the root of a config to one of its nodes."""
    keys: list[Any] = []
    while cfg._get_parent() is not None:
        keys.insert(0, cfg._key())
        cfg = cfg._get_parent()
    return keys


def _refused(data: Any, path: str) -> list[ConfigProblem]:
    if isinstance(data, dict):
        return [p for key, value in data.items() for p in _refused(value, f"{path}.{key}" if path else str(key))]
    if isinstance(data, list):
        return [p for i, value in enumerate(data) for p in _refused(value, f"{path}[{i}]")]
    if data == "???":
        return [ConfigProblem(path, "is marked as missing ('???')", "give it a value", "missing")]
    if isinstance(data, str) and _REFUSED in data:
        text = data.replace(_REFUSED, "").replace("$ {", "${")
        hint = "Python code may allow it: allow_resolvers"
        return [ConfigProblem(path, f"interpolation {text!r} reaches outside the config", hint, "reference")]
    return []


def _unwrapped(cfg: Any, values: Iterator[int], path: str, depth: int = 0) -> Any:
    """Take namespaces apart, at any depth, and count what is there."""
    if next(values) >= MAX_VALUES:
        raise ConfigError([ConfigProblem(path, f"has {TOO_MANY}", SHORTEN, "limit")])
    if depth > MAX_DEPTH:
        raise ConfigError([ConfigProblem(path, f"has {TOO_DEEP}", FLATTEN, "limit")])
    if isinstance(cfg, str) and is_long_reference(cfg):
        raise ConfigError([ConfigProblem(path, f"has {TOO_LONG}", SHORTEN, "limit")])
    if isinstance(cfg, (DictConfig, ListConfig, str, bytes)) or cfg is None:
        return cfg
    if isinstance(cfg, Mapping):
        return {key: _unwrapped(value, values, path, depth + 1) for key, value in cfg.items()}
    if isinstance(cfg, Sequence):
        return [_unwrapped(value, values, path, depth + 1) for value in cfg]
    if not hasattr(cfg, "__dict__"):
        return cfg
    return {key: _unwrapped(value, values, path, depth + 1) for key, value in vars(cfg).items()}
