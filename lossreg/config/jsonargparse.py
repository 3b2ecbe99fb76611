"""A criterion among the arguments of LightningCLI, or of any other parser of jsonargparse."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import yaml

from lossreg.composition.multiloss import MultiLoss
from lossreg.config.build import build
from lossreg.config.parsing import Permissions, parse_source
from lossreg.config.reading import Source
from lossreg.errors import ConfigError

LOADER = "lossreg.load_loss"
"""The only `class_path` that an argument may have."""

_blocks: WeakKeyDictionary[MultiLoss, Any] = WeakKeyDictionary()  # what each was read from


def register_criterion(exit_on_error: bool = True) -> None:
    """Let jsonargparse read an argument of type `MultiLoss`: call it once, before the parser runs.

    The value of such an argument is one of

    - the path of a loss file (`criterion: loss.yaml`); a relative path in a config file begins at its folder;
    - what a loss file holds (`criterion: {losses: ...}`);
    - `class_path: lossreg.load_loss` with the `init_args` `path` and, for a block of a larger file, `key`.

    A config that is saved holds what the file held, so it can be read again wherever it is and whatever becomes of the
    file; with a `key` it names the file by its absolute path.

    Args:
        exit_on_error: whether a mistake in a loss ends the process with lossreg's message alone, and status 2. Else
            the parser reports it, with its usage around it.

    Raises:
        ImportError: jsonargparse is not installed.
    """
    try:
        from jsonargparse.typing import register_type
    except ImportError as error:
        raise ImportError(
            'lossreg.config.jsonargparse needs jsonargparse: pip install "jsonargparse[signatures]"'
        ) from error

    def read(value: Any) -> MultiLoss:
        try:
            return _read(value)
        except ConfigError as error:
            if not exit_on_error:
                raise
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from None

    register_type(MultiLoss, serializer=_written, deserializer=read, type_check=isinstance)


def _read(value: Any) -> MultiLoss:
    key: str | None = None
    if isinstance(value, Mapping) and "class_path" not in value:
        source = Source("criterion", yaml.safe_dump(dict(value), sort_keys=False).encode())
    elif isinstance(value, (str, Path, Mapping)):
        path, key = _file(value)
        source = Source.read(path)
    else:  # of another type, as of a union
        raise ValueError(f"expected the path of a loss file or what it holds, found {value!r}")
    try:
        made = build(parse_source(source, key, Permissions()))
    except ConfigError as error:
        raise ConfigError(f"{source.name}: {error}") from None
    if not isinstance(made, MultiLoss):
        raise ConfigError(f"{source.name}: expected a compound loss, found one of {type(made).__name__} alone")
    _blocks[made] = _loader(source.name, key) if key else yaml.safe_load(source.text)
    return made


def _file(value: str | Path | Mapping[str, Any]) -> tuple[Path, str | None]:
    """Return the path of the file that a value names, and the key of a block in it."""
    if not isinstance(value, Mapping):
        return _resolved(value), None
    arguments = value.get("init_args") or {}
    known = value.keys() <= {"class_path", "init_args"} and isinstance(arguments, Mapping)
    if not (known and value["class_path"] == LOADER and {"path"} <= arguments.keys() <= {"path", "key"}):
        raise ConfigError(
            f"expected class_path: {LOADER} with the init_args path and, for a block of a larger file, key; found "
            f"{dict(value)}; write a loss of your own into a loss file by its registered name"
        )
    return _resolved(arguments["path"]), arguments.get("key")


def _resolved(path: str | Path) -> Path:
    """Return an absolute path; jsonargparse knows the folder of the config file that a relative one is in."""
    from jsonargparse.typing import Path_fr

    try:
        return Path(Path_fr(path).absolute)
    except (TypeError, ValueError):  # it cannot be read: reading it says so
        return Path(path)


def _loader(path: str, key: str) -> dict[str, Any]:
    return {"class_path": LOADER, "init_args": {"path": path, "key": key}}


def _written(criterion: MultiLoss) -> Any:
    """Return what a saved config holds of a criterion; of one that Python made, a text that no run can read."""
    return _blocks.get(criterion, f"a MultiLoss that Python made, of {', '.join(criterion.names)}")
