"""The record in a loss card: a compound loss as data, from which `rebuild` makes an equal criterion.

A card is a text for readers, in Markdown, HTML or LaTeX. At its end is a comment with the record: the config as YAML,
the components that its names mean, the versions of their distributions, and the state of the criterion where a
checkpoint was given. A card may come from a stranger. Reading it takes bounded time and memory, and executes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import platform
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from omegaconf._utils import get_omega_conf_dumper

from lossreg.arguments import shown
from lossreg.composition.schedules import as_data
from lossreg.config.grammar import Component, CompoundConfig
from lossreg.config.parsing import Permissions, parse_source
from lossreg.config.reading import Source
from lossreg.errors import CardError, CardWarning, NameLookupError, warn
from lossreg.printable import clipped, printable
from lossreg.registry import catalog
from lossreg.registry.components import Entry
from lossreg.registry.packages import distribution, packages

if TYPE_CHECKING:
    from torch import Tensor

    from lossreg.composition.multiloss import MultiLoss

MAX_CARD = 8 * 1024 * 1024
"""Most bytes of a card."""
MAX_STATE = 1024 * 1024
"""Most bytes of the tensors in a card."""
_ALWAYS = 4096
"""A larger tensor is left out of a card if a new criterion has it too, as the weights of a pretrained network."""

_FORMAT = 1
_WIDTH = 76
_BEGINS = ("<!-- lossreg-card:begin", "% lossreg-card:begin")
_ENDS = ("lossreg-card:end -->", "% lossreg-card:end")
_REFERENCE = re.compile(r"(\\*)\$\{")
_DTYPES = (
    "bfloat16", "bool", "complex64", "complex128", "float16", "float32", "float64",
    "int8", "int16", "int32", "int64", "uint8",
)  # fmt: skip

State = dict[str, tuple[str, list[int], str]]
"""Tensors by name: the dtype, the shape, and the bytes in base64."""


@dataclass(frozen=True)
class Record:
    """What a card holds for `rebuild`.

    Attributes:
        config: the compound loss as YAML, references resolved.
        components: the canonical name of each component in it, by its kind and its place (`"loss coupling/edge"`).
        versions: the versions of Python and of all distributions involved, by name.
        state: the tensors of the criterion; empty without a checkpoint.
    """

    config: str
    components: dict[str, str]
    versions: dict[str, str]
    state: State = field(default_factory=dict)

    @classmethod
    def of(cls, config: CompoundConfig, state: Mapping[str, Tensor] | None = None) -> Self:
        """Return the record of a checked config.

        Raises:
            CardError: the config or the state is too large for a card.
        """
        text = _yaml_of(config.data)
        try:
            again = parse_quietly(text)
        except ValueError as error:
            raise CardError(f"the config with its references resolved cannot be read again: {error}") from error
        if repr(again.data) != repr(config.data):
            raise CardError("the config holds a value that YAML cannot keep")
        entries = entries_of(config)
        names = {place: entry.name for place, entry in entries.items()}
        return cls(text, names, versions_of(entries.values()), {} if state is None else _encoded(state))

    @property
    def digest(self) -> str:
        """The SHA-256 of the config, the components and the state; the same loss has it whatever the versions."""
        text = json.dumps([self.config, self.components, self.state], separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def written(self, text: str, opening: str = "<!-- ", line: str = "", closing: str = " -->") -> str:
        """Return a card: a text for readers, and this record as a comment at its end.

        Args:
            text: the text, which ends with a line break.
            opening, line, closing: what begins the comment, each line in it, and what ends it.

        Raises:
            CardError: it is too long to be read again.
        """
        data = {"lossreg_card": _FORMAT, **asdict(self), "digest": self.digest, "text": _digest_of(text)}
        packed = base64.b64encode(json.dumps(data, separators=(",", ":")).encode()).decode()
        lines = [line + packed[i : i + _WIDTH] for i in range(0, len(packed), _WIDTH)]
        comment = [f"{opening}lossreg-card:begin", *lines, f"{line}lossreg-card:end{closing}"]
        card = text + "\n".join(comment) + "\n"
        if len(card.encode()) > MAX_CARD:
            raise CardError(f"expected a card of at most {MAX_CARD:,} bytes, found {len(card.encode()):,}; write a .md")
        return card

    @classmethod
    def read(cls, content: bytes, name: str) -> tuple[Self, list[str]]:
        """Return the record in a card, and what else than the record was changed in it.

        Args:
            content: the card.
            name: its name, for errors.

        Raises:
            CardError: there is no record, or it is damaged or was changed.
        """
        if len(content) > MAX_CARD:
            raise CardError(f"{name}: expected a loss card of at most {MAX_CARD:,} bytes, found a longer file")
        lines = content.decode("utf-8", errors="replace").splitlines()
        begins = [i for i, line in enumerate(lines) if line in _BEGINS]
        if len(begins) != 1:
            raise CardError(
                f"{name}: expected one loss card as `lossreg card` writes it, found {len(begins) or 'none'}"
            )
        begin = begins[0] + 1
        end = next((i for i in range(begin, len(lines)) if lines[i] in _ENDS), len(lines))
        body = lines[begin:end]
        if lines[begin - 1].startswith("%"):
            body = [line.removeprefix("%") for line in body]
        record, digest, text_digest = cls._parsed("".join(map(str.strip, body)), name)
        if digest != record.digest:
            raise CardError(
                f"{name}: the record of the card was changed: expected the digest {clipped(digest, 100)}, "
                f"found {record.digest}; take the card as it was written"
            )
        if text_digest == _digest_of("".join(lines[: begin - 1] + lines[end + 1 :])):
            return record, []
        return record, ["the text around the record was changed after it was written, and the record was not"]

    @classmethod
    def _parsed(cls, packed: str, name: str) -> tuple[Self, str, str]:
        try:
            data = json.loads(base64.b64decode(packed, validate=True))
        except (ValueError, RecursionError):
            raise CardError(f"{name}: the record of the card is damaged: expected JSON in base64") from None
        version = data.get("lossreg_card") if isinstance(data, dict) else None
        if version != _FORMAT:
            raise CardError(f"{name}: expected a card of format {_FORMAT}, found {shown(version)}; update lossreg")
        texts = [data.get(key) for key in ("config", "digest", "text")]
        tables = [data.get(key) for key in ("components", "versions")]
        state = data.get("state")
        if not (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(t, dict) and all(isinstance(v, str) for v in t.values()) for t in tables)
            and isinstance(state, dict)
            and all(map(_is_stored, state.values()))
        ):
            raise CardError(f"{name}: the record of the card is damaged: a part of it is missing")
        kept = {key: (value[0], value[1], value[2]) for key, value in state.items()}
        return cls(data["config"], data["components"], data["versions"], kept), data["digest"], data["text"]

    # --- what it means here -----------------------------------------------------------------------

    def parsed(self, name: str) -> CompoundConfig:
        """Return the checked config.

        Args:
            name: of the card, for errors.

        Raises:
            ConfigError: with every mistake, such as a loss that is not installed.
            CardError: a name in it means another component here.
        """
        config = parse_quietly(self.config, f"{name} (its config)")
        here = {place: entry.name for place, entry in entries_of(config).items()}
        others = [
            f"{place} is {self.components.get(place, 'nothing')} in the card and {here.get(place, 'nothing')} here"
            for place in dict.fromkeys([*self.components, *here])
            if self.components.get(place) != here.get(place)
        ]
        if others:
            raise CardError(f"{name}: {clipped('; '.join(others))}; install what the card names")
        return config

    def differences(self, config: CompoundConfig) -> list[str]:
        """Return each distribution whose version here is another than in the card."""
        here = versions_of(entries_of(config).values())
        return [
            f"{name} is {self.versions.get(name, 'absent')} in the card and {here.get(name, 'not installed')} here"
            for name in dict.fromkeys([*self.versions, *here])
            if self.versions.get(name) != here.get(name)
        ]

    def build(self, config: CompoundConfig, name: str) -> MultiLoss:
        """Build the criterion and load the state.

        Raises:
            ConfigError: a constructor refuses its arguments.
            CardError, CheckpointError: the state does not fit the criterion.
        """
        from lossreg.config.build import build_parsed

        criterion = build_parsed(config)
        if self.state:
            criterion.load_state_dict({**criterion.state_dict(), **_decoded(self.state, name)})
        return criterion


def rebuild(path: str | Path, *, strict: bool = False) -> MultiLoss:
    """Build the criterion of a loss card, with its norms and the rest of its state where the card has them.

    Args:
        path: the card that `lossreg card` wrote: Markdown, HTML or LaTeX.
        strict: whether what is otherwise warned of is an error: a distribution whose version is not that of the card,
            and text around the record that was changed.

    Raises:
        CardError: the file cannot be read or holds no card; its record was changed; a name means another component
            here.
        ConfigError: a component is not installed, or refuses its arguments.

    Warns:
        CardWarning: with every difference, unless `strict`.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CARD + 1)
    except (OSError, ValueError) as error:
        raise CardError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    record, config = read_card(content, name, strict=strict)
    return record.build(config, name)


def read_card(content: bytes, name: str, *, strict: bool = False) -> tuple[Record, CompoundConfig]:
    """Return the record of a card and its checked config, as `rebuild` does; nothing is built."""
    record, changed = Record.read(content, name)
    config = record.parsed(name)
    differences = printable(clipped("; ".join([*changed, *record.differences(config)])))
    if differences and strict:
        raise CardError(f"{name}: {differences}")
    if differences:
        warn(f"{name}: {differences}", CardWarning)
    return record, config


def parse_quietly(text: str, name: str = "the config") -> CompoundConfig:
    """Parse a compound loss; what it warns of was told when the card was written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = parse_source(Source(name, text.encode(errors="backslashreplace")), None, Permissions())
    if not isinstance(config, CompoundConfig):
        raise CardError(f"{name}: expected a compound loss, found a single loss")
    return config


def _digest_of(text: str) -> str:
    """Return the SHA-256 of a text without its white space, which editors change."""
    return f"sha256:{hashlib.sha256(''.join(text.split()).encode()).hexdigest()}"


# --- the config -----------------------------------------------------------------------------------


def _yaml_of(data: Any) -> str:
    """Return plain data as YAML in ASCII; what looks like a reference is a text in it."""
    return str(yaml.dump(_escaped(data), Dumper=_Dumper, default_flow_style=None, sort_keys=False, width=_WIDTH))


class _Dumper(get_omega_conf_dumper()):  # type: ignore[misc]
    """OmegaConf's dumper, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _escaped(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _escaped(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_escaped(value) for value in data]
    return _REFERENCE.sub(lambda match: rf"{match[1] * 2}\${{", data) if isinstance(data, str) else data


# --- components and versions ----------------------------------------------------------------------


def entries_of(config: CompoundConfig, group: str = "") -> dict[str, Entry[Any]]:
    """Return the components that a config names, by their kind and their place."""
    found: dict[str, Entry[Any]] = {}
    for i, node in enumerate(config.pre_processes):
        found[f"preprocess {group}{i}"] = node.entry
    if config.weighting is not None:
        found[f"weighting {group}".rstrip()] = config.weighting.entry
    for term in config.terms:
        place = group + term.name
        for i, entry in enumerate(schedule_entries(as_data(term.weight))):
            found[f"schedule {place}" + (f" {i}" if i else "")] = entry
        if isinstance(term.loss, Component):
            found[f"loss {place}"] = term.loss.entry
        elif term.group is not None:
            found |= entries_of(term.group, f"{place}/")
    return found


def schedule_entries(weight: Any) -> Iterator[Entry[Any]]:
    """Yield the components of a schedule as `as_data` writes it, and of those inside of it."""
    if not isinstance(weight, Mapping):
        return
    try:
        yield catalog().schedules.find(weight["schedule"], suggest=False)
    except NameLookupError:  # a component may return a schedule of a class that is no component
        return
    for inner in weight.get("schedules", ()):
        yield from schedule_entries(inner)


def versions_of(entries: Iterable[Entry[Any]]) -> dict[str, str]:
    """Return the versions of Python, lossreg, torch, and the distributions of components and of their libraries."""
    entries = list(entries)
    names = {entry.plugin.distribution for entry in entries} - {"", "lossreg"}
    names |= {distribution(entry.spec.package) for entry in entries if entry.spec.package is not None}
    found = {"Python": platform.python_version()}
    for name in ("lossreg", "torch", *sorted(names - {"torch"}, key=str.lower)):
        package = next(packages(name), None)
        found[name] = package.release if package is not None else "unknown"
    return found


# --- the state ------------------------------------------------------------------------------------


def state_of(criterion: MultiLoss, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Load a checkpoint into a new criterion, and return the tensors that a card needs.

    Raises:
        CheckpointError: it does not fit.
        CardError: the criterion has a state that is no tensor.
    """
    new = {key: value.clone() for key, value in _tensors(criterion).items()}
    criterion.load_state_dict(dict(checkpoint))
    return {
        key: value
        for key, value in _tensors(criterion).items()
        if value.numel() * value.element_size() <= _ALWAYS or not _equal(value, new.get(key))
    }


def _tensors(criterion: MultiLoss) -> dict[str, Tensor]:
    import torch

    state = criterion.state_dict()
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or _name_of(value) not in _DTYPES:
            kind = _name_of(value) if isinstance(value, torch.Tensor) else type(value).__name__
            raise CardError(
                f"the state {key!r}: expected a dense tensor of numbers, found {kind}; a card cannot hold it"
            )
    return dict(state)


def _equal(value: Tensor, other: Tensor | None) -> bool:
    import torch

    return other is not None and value.dtype == other.dtype and torch.equal(value, other)


def _name_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _encoded(state: Mapping[str, Tensor]) -> State:
    import torch

    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > MAX_STATE:
        raise CardError(
            f"expected a state of at most {MAX_STATE:,} bytes, found {size:,}; write the card without a checkpoint, "
            "and publish the checkpoint beside it"
        )
    return {
        key: (
            _name_of(tensor),
            list(tensor.shape),
            base64.b64encode(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).decode(),
        )
        for key, tensor in state.items()
    }


def _is_stored(value: Any) -> bool:
    """Return whether a value has the form of a tensor in a card; whether its bytes fit its shape is checked later."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and value[0] in _DTYPES
        and isinstance(value[1], list)
        and len(value[1]) <= 64
        and all(isinstance(size, int) and 0 <= size <= MAX_CARD for size in value[1])
        and isinstance(value[2], str)
    )


def _decoded(state: State, name: str) -> dict[str, Tensor]:
    import torch

    found = {}
    for key, (kind, shape, packed) in state.items():
        dtype = getattr(torch, kind)
        try:
            data = base64.b64decode(packed, validate=True)
        except ValueError:
            raise CardError(f"{name}: the state {key!r} is damaged: it is no base64") from None
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise CardError(f"{name}: the state {key!r} is damaged: {len(data):,} bytes do not have the shape {shape}")
        flat = (
            torch.frombuffer(bytearray(data), dtype=torch.uint8 if kind == "bool" else dtype)
            if data
            else torch.empty(0)
        )
        try:
            found[key] = flat.to(dtype).reshape(shape)
        except RuntimeError as error:
            raise CardError(f"{name}: the state {key!r} is damaged: {error}") from None
    return found


# --- a checkpoint ---------------------------------------------------------------------------------

_FIRST = re.compile(r"(.*?)loss_funcs\.0\.")
_DEEPEST = 3


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state dict of the criterion in a checkpoint, without executing anything.

    Args:
        path: a file of `torch.save` or of safetensors. It holds the state dict itself, under some key (`"criterion"`),
            or among that of a model (`"criterion.loss_funcs.0.norm"`), as Lightning writes it.

    Raises:
        CardError: the file cannot be read so, or holds the state of no criterion, or of several.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            data: Any = load_file(path)
        else:
            data = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise CardError(f"{path}: needs {error.name}, which is not installed: pip install safetensors") from None
    except Exception as error:  # torch.load may raise any error
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise CardError(f"{path}: cannot be read as a checkpoint of tensors: {reason}") from None
    found = list(_criteria_in(data, "", 0))
    if len(found) != 1:
        places = ", ".join(place or "the file itself" for place, _ in found) or "none"
        raise CardError(
            f"{path}: expected the state of one MultiLoss, found {places}; save criterion.state_dict() by itself"
        )
    return found[0][1]


def _criteria_in(data: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the state dicts of criteria, each with the place and the prefix of its keys."""
    if not isinstance(data, Mapping) or depth > _DEEPEST:
        return
    keys = [key for key in data if isinstance(key, str)]
    prefixes = {match[1] for key in keys if (match := _FIRST.match(key))}
    for prefix in sorted(prefixes):
        if not any(prefix.startswith(f"{outer}loss_funcs.") for outer in prefixes):
            yield f"{place}{prefix}", {key.removeprefix(prefix): data[key] for key in keys if key.startswith(prefix)}
    for key in keys:
        yield from _criteria_in(data[key], f"{place}{key}.", depth + 1)
