"""Types of plain data: an annotation is read once, then says what fits, in words, by an example and as a schema."""

from __future__ import annotations

import collections.abc
import difflib
import inspect
import json
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal, TypeAlias, TypeVar, Union, dataclass_transform, get_args, get_origin

from lossreg.errors import ProblemKind
from lossreg.printable import MAX_NAME

T = TypeVar("T")
Node: TypeAlias = dict[str, Any]
"""A JSON Schema, or a part of one."""
Path: TypeAlias = tuple[str | int, ...]
"""Keys and indices from a value to one inside it."""

REFERENCE = r"\$\{"
"""What a text with an interpolation matches; it may stand in place of any value."""
NULL: Node = {"type": "null"}
TEXT: Node = {"type": "string", "not": {"const": "???"}}
DATA: Node = {"$ref": "#/$defs/data"}
SCALARS: dict[str, Node] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
}
"""Definitions that the schemas of types refer to."""
_REFERENCE: Node = {"type": "string", "pattern": REFERENCE}
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@dataclass(frozen=True)
class Misfit:
    """A value that does not fit: where it is inside what was checked, the kind of mistake, and what to write instead.

    Attributes:
        path, kind, expected, found: what the names say.
        fix: what to write; may be empty.
        choices: the texts to choose from, of which one may be meant.
    """

    path: Path
    kind: ProblemKind
    expected: str
    found: Any = None
    fix: str = ""
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Limits:
    """What a value has to be beyond its type; stands in an `Annotated`.

    Attributes:
        words: the type with its limits, in words.
        fits: says whether a value of the type is within them.
        schema: the limits as JSON Schema says them.
        fix: says what to write in place of a value.
    """

    words: str
    fits: Callable[[Any], bool]
    schema: Mapping[str, Any] = field(default_factory=dict)
    fix: Callable[[Any], str] = lambda _: ""


class Type:
    """A type of plain data.

    Attributes:
        kinds: words for each kind of value that fits.
        notation: the type in Python's notation; empty where any value fits.
        omegaconf: the type that OmegaConf checks; `Any` where it has none.
        parts: the types that it is made of.
    """

    omegaconf: Any = Any
    parts: tuple[Type, ...] = ()

    def __init__(self, kinds: Sequence[str], sample: Callable[[], str] = str, notation: str = "") -> None:
        self.kinds, self._sample, self.notation = tuple(dict.fromkeys(kinds)), sample, notation

    @property
    def sample(self) -> str:
        """A value that fits, as YAML writes it."""
        return self._sample()

    @property
    def words(self) -> str:
        """What fits, in words; null, which leaves a value out, where nothing else does."""
        return either([word for word in self.kinds if word != "null"] or self.kinds)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values to choose from, where there are choices."""
        return next((part.choices for part in self.parts if part.choices), ())

    def fits(self, value: Any) -> bool:
        """Say whether a value fits."""
        return next(self.misfits(value), None) is None

    def misfits(self, value: Any, path: Path = ()) -> Iterator[Misfit]:
        """Yield what does not fit, each with its path."""
        if self.holds(value):
            yield from self._inside(value, path)
        else:
            yield Misfit(path, "type", self.words, value, self._hint(value), self.choices)

    def _hint(self, value: Any) -> str:
        return next(filter(None, (part._hint(value) for part in self.parts)), "")

    def holds(self, value: Any) -> bool:  # noqa: ARG002
        """Say whether a value has the shape: a list for a list of numbers, whatever it holds."""
        return True

    def schema(self) -> Node:
        """Return the JSON Schema, by which an interpolation fits too."""
        return any_of(*self.nodes())

    def nodes(self) -> list[Node]:
        """Return a JSON Schema for each kind of value that fits."""
        return [node for part in self.parts for node in part.nodes()]

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:  # noqa: ARG002
        yield from ()


class Data(Type):
    """Any plain data."""

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        if isinstance(value, (Mapping, list, tuple)):
            for key, item in _named(value) if isinstance(value, Mapping) else enumerate(value):
                yield from self._inside(item, (*path, key))
        elif not any(scalar.fits(value) for scalar in _SCALARS.values()):
            yield Misfit(path, "type", self.words, value)

    def nodes(self) -> list[Node]:
        """Return what any plain data fits."""
        return [DATA]


class Nothing(Type):
    """What no config can give: a callable, a module, a tensor."""

    def holds(self, value: Any) -> bool:  # noqa: ARG002
        """Return False."""
        return False


class Scalar(Type):
    """A number, a text, a boolean or null."""

    def __init__(self, of: Any, word: str, sample: str, node: Node) -> None:
        super().__init__([word], lambda: sample, "None" if of is type(None) else of.__name__)
        self.omegaconf, self._of, self._node = of, (int, float) if of is float else of, node

    def holds(self, value: Any) -> bool:
        """Say whether a value is of the type; true and false are no numbers."""
        is_bool = isinstance(value, bool)
        return isinstance(value, self._of) and is_bool <= (self.omegaconf is bool) and not _has_surrogates(value)

    def schema(self) -> Node:
        """Return the schema of the type, of a number a reference to it."""
        known = [name for name, node in SCALARS.items() if node is self._node]
        return {"$ref": f"#/$defs/{known[0]}"} if known else super().schema()

    def nodes(self) -> list[Node]:
        """Return the schema of the type."""
        return [self._node]


_SCALARS: dict[Any, Scalar] = {
    bool: Scalar(bool, "true or false", "true", SCALARS["boolean"]),
    int: Scalar(int, "an integer", "1", SCALARS["integer"]),
    float: Scalar(float, "a number", "1.0", SCALARS["number"]),
    str: Scalar(str, "a text", "some_text", TEXT),
    type(None): Scalar(type(None), "null", "null", NULL),
}


class Choice(Type):
    """One of some values."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        words = ["null" if value is None else repr(value) for value in values]
        super().__init__(words, lambda: flow(values[0]), " | ".join(map(repr, values)))
        self._values = values
        self.omegaconf = str if all(isinstance(value, str) for value in values) else Any

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values."""
        return self._values

    def holds(self, value: Any) -> bool:
        """Say whether a value is of the type of one of them."""
        return any(type(value) is type(choice) for choice in self._values)

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        if not any(type(value) is type(choice) and value == choice for choice in self._values):
            yield Misfit(path, "choice", self.words, value, choices=self._values)

    def nodes(self) -> list[Node]:
        """Return the schema of the values."""
        return [{"enum": list(self._values)}]


class OneOf(Type):
    """A union."""

    def __init__(self, parts: Sequence[Type]) -> None:
        solid = [part for part in parts if part.notation != "None"]
        super().__init__(
            [word for part in parts for word in part.kinds],
            lambda: solid[0].sample,
            " | ".join(p.notation for p in parts),
        )
        self.parts = tuple(parts)
        found = [part.omegaconf for part in parts]
        if all(kind in _SCALARS for kind in found) or (len(solid) == 1 and solid[0].omegaconf is not Any):
            self.omegaconf = Union[tuple(found)]  # noqa: UP007

    def holds(self, value: Any) -> bool:
        """Say whether a value has the shape of one of the types."""
        return any(part.holds(value) for part in self.parts)

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        if any(part.fits(value) for part in self.parts):
            return
        meant = [part for part in self.parts if part.holds(value)]
        found = [misfit for part in meant for misfit in part.misfits(value, path)]
        if len(meant) == 1 and (found[0].path != path or found[0].kind == "conflict"):
            yield from found
        else:
            closest = next((misfit for misfit in found if misfit.kind == "range"), found[0])
            yield replace(closest, path=path, expected=self.words, found=value)


class Many(Type):
    """A list of values of one type."""

    def __init__(self, item: Type) -> None:
        one = re.fullmatch(r"an? (\w+)", item.words)
        words = "a list" if item is ANYTHING else f"a list of {one[1]}s" if one else f"a list, each {item.words}"
        super().__init__([words], lambda: f"[{item.sample}]", f"list[{item.notation or 'Any'}]")
        self.parts = (item,)
        if item.omegaconf in (bool, int, float, str):
            self.omegaconf = list.__class_getitem__(item.omegaconf)

    def holds(self, value: Any) -> bool:
        """Say whether a value is a list."""
        return isinstance(value, (list, tuple))

    def _hint(self, value: Any) -> str:
        return f"give a list: [{value!r}]" if isinstance(value, str) and self.parts[0].holds(value) else ""

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        for i, item in enumerate(value):
            yield from self.parts[0].misfits(item, (*path, i))

    def nodes(self) -> list[Node]:
        """Return the schema of a list."""
        return [{"type": "array", "items": self.parts[0].schema()}]


class Row(Type):
    """A list with a type for each place."""

    def __init__(self, parts: Sequence[Type]) -> None:
        super().__init__(
            [f"a list of {len(parts)}: {'; '.join(part.words for part in parts)}"],
            lambda: f"[{', '.join(part.sample for part in parts)}]",
            f"tuple[{', '.join(part.notation or 'Any' for part in parts)}]",
        )
        self.parts = tuple(parts)

    def holds(self, value: Any) -> bool:
        """Say whether a value is a list of the right length."""
        return isinstance(value, (list, tuple)) and len(value) == len(self.parts)

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        for i, (part, item) in enumerate(zip(self.parts, value, strict=True)):
            yield from part.misfits(item, (*path, i))

    def nodes(self) -> list[Node]:
        """Return the schema of a list of that length."""
        items = [part.schema() for part in self.parts]
        return [{"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}]


class Table(Type):
    """A mapping of any keys to values of one type."""

    def __init__(self, item: Type) -> None:
        super().__init__(["a mapping"], lambda: "{}", f"dict[str, {item.notation or 'Any'}]")
        self.parts = (item,)

    def holds(self, value: Any) -> bool:
        """Say whether a value is a mapping."""
        return isinstance(value, Mapping)

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        for key, item in _named(value):
            yield from self.parts[0].misfits(item, (*path, key))

    def nodes(self) -> list[Node]:
        """Return the schema of a mapping."""
        keys = {"$ref": "#/$defs/plain_key"}
        return [{"type": "object", "propertyNames": keys, "additionalProperties": self.parts[0].schema()}]


class Limited(Type):
    """A type with limits."""

    def __init__(self, inner: Type, limits: Limits) -> None:
        super().__init__([limits.words], inner._sample, inner.notation)
        self.parts, self.omegaconf, self._limits = (inner,), inner.omegaconf, limits

    def holds(self, value: Any) -> bool:
        """Say whether a value has the shape, whatever the limits."""
        return self.parts[0].holds(value)

    def misfits(self, value: Any, path: Path = ()) -> Iterator[Misfit]:
        """Yield what does not fit the type; else that the value is beyond the limits."""
        found = list(self.parts[0].misfits(value, path))
        if not found and not self._within(value):
            found = [Misfit(path, "range", self.words, value)]
        for misfit in found:
            here = misfit.path == path
            yield replace(misfit, expected=self.words, fix=self._limits.fix(value) or misfit.fix) if here else misfit

    def _within(self, value: Any) -> bool:
        with suppress(OverflowError):  # an integer that no float can hold
            return self._limits.fits(value)
        return False

    def nodes(self) -> list[Node]:
        """Return the schema of the type and of the limits."""
        return [{**node, **self._limits.schema} for node in self.parts[0].nodes()]


class Constrained(Type):
    """A type with constraints that pydantic reads."""

    def __init__(self, inner: Type, annotation: Any) -> None:
        super().__init__(inner.kinds, inner._sample, inner.notation)
        self.parts, self.omegaconf, self._annotation = (inner,), inner.omegaconf, annotation

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter  # which takes longer to import than a config takes to check

        return TypeAdapter(self._annotation)

    def misfits(self, value: Any, path: Path = ()) -> Iterator[Misfit]:
        """Yield what does not fit the type; else what pydantic says of the constraints."""
        found = list(self.parts[0].misfits(value, path))
        yield from found
        if not found:
            try:
                self._adapter.validate_json(json.dumps(value), strict=True)
            except ValueError as failure:
                told = [error["msg"].removeprefix("Input should be ") for error in failure.errors()]  # type: ignore[attr-defined]
                yield Misfit(path, "range", either(list(dict.fromkeys(told))), value)

    def nodes(self) -> list[Node]:
        """Return the schema that pydantic makes."""
        return [self._adapter.json_schema()]


class Read(Type):
    """What the reader of a config checks itself: its definition in the schema, and its words."""

    def __init__(self, definition: str, words: str, sample: str) -> None:
        super().__init__([words], lambda: sample)
        self._definition = definition

    def schema(self) -> Node:
        """Return a reference to the definition."""
        return {"$ref": f"#/$defs/{self._definition}"}

    def nodes(self) -> list[Node]:
        """Return a reference to the definition."""
        return [self.schema()]


# --- keys of a mapping ----------------------------------------------------------------------------


class Slot:
    """A named value: a key of a block, or a parameter of a component."""

    name: str
    type: Type
    default: Any
    doc: str
    examples: tuple[Any, ...]

    @property
    def narrowed(self) -> Type:
        """The type of a text: one of some, where only the description lists them."""
        return self.type

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING or self.default is inspect.Parameter.empty

    def fix(self, found: Any = None) -> str:
        """Return `name: value` with a value that fits: the one that is meant by what was found, else any."""
        if self.type is NOTHING:
            return f"leave {self.name} out"
        meant = unquoted(found)
        if meant is not found and self.type.fits(meant):
            return f"{self.name}: {flow(meant)}"
        known = self.examples if self.required or self.default is None else (self.default, *self.examples)
        return f"{self.name}: {next(filter(None, map(flow, known)), '') or self.narrowed.sample}"

    def schema(self) -> Node:
        """Return the JSON Schema with what it is, its default and its examples."""
        node = {"description": self.doc, **self.narrowed.schema()} if self.doc else self.narrowed.schema()
        takes_null = any(part.notation == "None" for part in (self.type, *self.type.parts))
        if not self.required and (self.default is not None or takes_null):
            with suppress(TypeError, ValueError):  # a default that is not plain data
                node = {**node, "default": json.loads(json.dumps(self.default, allow_nan=False))}
        return {**node, "examples": list(self.examples)} if self.examples else node


def misfits_of(slots: Iterable[Slot], values: Mapping[Any, Any], rest: Type | None = None) -> Iterator[Misfit]:
    """Yield what does not fit in a mapping: keys that are unknown or missing, and values that do not fit.

    Args:
        slots: its keys.
        values: the mapping.
        rest: the type of what stands at other keys; None where there may be none.
    """
    known = {slot.name: slot for slot in slots}
    for key, value in _named(values):
        if key in known:
            kind = known[key].narrowed if isinstance(value, str) else known[key].type
            for misfit in kind.misfits(value, (key,)):
                fix = "" if misfit.kind == "unknown" else known[key].fix(value)  # the keys to choose from say more
                yield replace(misfit, fix=misfit.fix or fix)
        elif rest is None:
            names = tuple(slot.name for slot in known.values() if slot.type is not NOTHING)
            yield Misfit((key,), "unknown", f"one of {', '.join(names)}", key, choices=names)
        else:
            yield from rest.misfits(value, (key,))
    for slot in known.values():
        if slot.required and slot.name not in values and slot.type is not NOTHING:
            yield Misfit((slot.name,), "missing", slot.type.words, fix=slot.fix())


@dataclass(frozen=True)
class Key(Slot):
    """A key of a block, as the block declares it.

    Attributes:
        name: the key.
        type: what it takes.
        default: its default, or `MISSING`.
        doc: one sentence.
        examples: values that fit.
        python: `Class` or `Class.argument`, the argument in Python that it becomes; empty where it becomes none.
    """

    name: str
    type: Type
    default: Any
    doc: str
    examples: tuple[Any, ...]
    python: str

    def argument(self, owner: str) -> str:
        """Return the argument of a class that it becomes; empty where it becomes none."""
        of, _, argument = self.python.partition(".")
        return (argument or self.name) if of == owner else ""


def key(doc: str, default: Any, *examples: Any, python: str = "") -> Any:
    """Declare a key of a block, as a field of its dataclass; the arguments are those of `Key`."""
    return field(default=default, kw_only=True, metadata={"doc": doc, "examples": examples, "python": python})


@dataclass_transform(frozen_default=True, field_specifiers=(key,))
def block(declared: type[T]) -> type[T]:
    """Make a class with keys a frozen dataclass, without what nobody asks of it: that takes time at each start."""
    return dataclass(frozen=True, eq=False, repr=False)(declared)


@cache
def keys_of(block: type) -> dict[str, Key]:
    """Return the keys that a block declares, by name."""
    hints = typing.get_type_hints(block, include_extras=True)
    return {
        f.name: Key(name=f.name, type=type_of(hints[f.name]), default=f.default, **f.metadata) for f in fields(block)
    }


def arguments_of(block: type, owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class in Python that values of a block's keys become."""
    keys = keys_of(block).items()
    return {key.argument(owner): values[name] for name, key in keys if key.argument(owner) and name in values}


class Block(Type):
    """A mapping with the keys that a dataclass declares.

    The dataclass may have a method `rules`, which yields a `Misfit` for each rule between keys that does not hold, and
    `SCHEMA`, which JSON Schema says of all keys together.
    """

    def __init__(self, of: Any) -> None:
        self.of, self.keys = of, keys_of(of)
        shown = [key for key in self.keys.values() if key.required] or list(self.keys.values())[:1]
        super().__init__(
            [f"a mapping of {', '.join(self.keys)}"], lambda: f"{{{', '.join(key.fix() for key in shown)}}}"
        )

    def holds(self, value: Any) -> bool:
        """Say whether a value is a mapping."""
        return isinstance(value, Mapping)

    def _inside(self, value: Any, path: Path) -> Iterator[Misfit]:
        found = list(misfits_of(self.keys.values(), value))
        if not found and hasattr(self.of, "rules"):
            found = list(self.of(**value).rules())
        yield from (replace(misfit, path=(*path, *misfit.path)) for misfit in found)

    def nodes(self) -> list[Node]:
        """Return the schema of the mapping."""
        required = [name for name, key in self.keys.items() if key.required]
        properties = {name: key.schema() for name, key in self.keys.items()}
        node: Node = {"type": "object", "properties": properties, "additionalProperties": False}
        return [{**node, **({"required": required} if required else {}), **getattr(self.of, "SCHEMA", {})}]


# --- from annotations -----------------------------------------------------------------------------


def type_of(hint: Any) -> Type:
    """Return the plain data that an annotation takes; `NOTHING` where it takes objects alone."""
    if isinstance(hint, Type):
        return hint
    if hint in (inspect.Parameter.empty, Any, object) or _is_json(hint):
        return ANYTHING
    if hint is None or hint in _SCALARS:
        return _SCALARS[type(None) if hint is None else hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _annotated(hint, *args)
    if origin is Literal:
        return Choice(args)
    if origin in (Union, types.UnionType):
        parts = [part for part in map(type_of, args) if part is not NOTHING]
        if ANYTHING in parts or all(part.notation == "None" for part in parts):
            return ANYTHING if ANYTHING in parts else NOTHING
        return parts[0] if len(parts) == 1 else OneOf(parts)
    if isinstance(hint, type) and is_dataclass(hint) and all("doc" in f.metadata for f in fields(hint)):
        return Block(hint)
    return _container(origin or hint, args)


def _annotated(hint: Any, inner: Any, *notes: Any) -> Type:
    found = next((note for note in notes if isinstance(note, Type)), None) or type_of(inner)
    for note in notes:
        found = Limited(found, note) if isinstance(note, Limits) else found
    pydantic = any(type(note).__module__.startswith(("annotated_types", "pydantic")) for note in notes)
    return Constrained(found, hint) if pydantic and found is not NOTHING else found


def _container(origin: Any, args: tuple[Any, ...]) -> Type:
    if origin not in (*_LISTS, *_MAPPINGS):
        return NOTHING
    parts = [type_of(arg) for arg in args if arg is not Ellipsis]
    if NOTHING in parts:
        return NOTHING
    if origin is tuple and parts and Ellipsis not in args:
        return Row(parts)
    if origin in _LISTS:
        return Many(parts[0] if parts else ANYTHING)
    return Table(parts[1] if parts else ANYTHING)


def _is_json(hint: Any) -> bool:
    """Say whether an annotation is pydantic's `JsonValue`."""
    return getattr(hint, "__name__", "") == "JsonValue" and getattr(hint, "__module__", "").startswith("pydantic")


# --- words and schemas ----------------------------------------------------------------------------


def any_of(*choices: Node) -> Node:
    """Return what fits one of some schemas, or is an interpolation.

    Choices of different types become one schema, whose errors are those of the type that was meant.
    """
    unique = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]
    if DATA in unique:
        return DATA
    if TEXT not in unique:  # which takes interpolations as it is
        unique.append(_REFERENCE if any("type" in choice for choice in unique) else {"$ref": "#/$defs/reference"})
    typed = [choice for choice in unique if "type" in choice]
    words = [word for choice in typed for word in choice if word != "type"]
    kinds = [choice["type"] for choice in typed]
    if typed and len(set(kinds)) == len(kinds) and len(set(words)) == len(words):
        merged = {word: value for choice in typed for word, value in choice.items() if word != "type"}
        together = {"type": kinds if len(kinds) > 1 else kinds[0], **merged}
        unique = [together, *(choice for choice in unique if "type" not in choice)]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def either(words: Sequence[str]) -> str:
    """Return `a, b or c`; the words between commas stay together."""
    if any(", " in word for word in words):
        return " or ".join(words)
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(value: object, choices: Iterable[object]) -> str:
    """Return the hint that one of some texts was meant, or none where no text is near."""
    texts = [choice for choice in choices if isinstance(choice, str)]
    near = difflib.get_close_matches(value[:MAX_NAME], texts, n=1) if isinstance(value, str) else []
    return f"did you mean {near[0]!r}?" if near else ""


def flow(value: Any) -> str:
    """Write plain data as YAML in one line; nothing for other objects."""
    import yaml

    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    except yaml.YAMLError:
        return ""
    return text.removesuffix("\n").removesuffix("\n...")


def unquoted(value: Any) -> Any:
    """Return what YAML reads in a short text without its quotes, or in those of a short list; else the same value."""
    if isinstance(value, list) and len(value) <= MAX_NAME:
        read = [unquoted(item) for item in value]
        return value if all(map(operator.is_, read, value)) else read
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        return value
    import yaml

    with suppress(ValueError, yaml.YAMLError):
        read = yaml.safe_load(value)
        if not isinstance(read, str):
            return read
        if math.isfinite(float(read)):  # 1e-3, a text in YAML 1.1 and a number in a config
            return float(read)
    return value


def _named(mapping: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """Return the items of a mapping, each with its key as a text."""
    return [(str(key), value) for key, value in mapping.items()]


def _has_surrogates(value: object) -> bool:
    """Say whether a text has lone surrogates, which no file can hold."""
    return isinstance(value, str) and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)


ANYTHING, NOTHING = Data(["plain data"], lambda: "some_value"), Nothing(["an object that only Python code can give"])
