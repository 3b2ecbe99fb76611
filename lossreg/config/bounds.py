"""Size limits, checked before a file is loaded or references are resolved; and those of the loss that it describes."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import yaml
from omegaconf import grammar_parser
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import GrammarParseError
from yaml.parser import ParserError

from lossreg.errors import ConfigError, ConfigProblem, ProblemKind
from lossreg.printable import is_name, printable

MAX_BYTES = 256 * 1024
"""Most bytes of a file."""
MAX_VALUES = 10_000
"""Most keys and values once aliases, merge keys and references are written out; a long text counts as several."""
MAX_DEPTH = 32
"""Most lists, mappings and references inside one another."""
MAX_REFERENCE = 1_000
"""Most characters of a text with `${` in it."""
MAX_REFERENCES = 10_000
"""Most characters of all texts with `${` in them, aliases written out: each is parsed several times."""
MAX_KEY = 250
"""Most characters of a key."""
MAX_NUMBER = 250
"""Most characters of a number: any such integer, hexadecimal too, has a float."""
MAX_COMPONENTS = 500
"""Most losses, groups and preprocesses of a compound loss."""
MAX_THRESHOLDS = 1_000
"""Most epochs of a list of thresholds."""
MAX_KNOTS = 20_000
"""Most epochs at which the weights of all losses change their course, those of a group counted for each loss in it."""
MAX_EPOCH = 1e15
"""Largest epoch or step: beyond, a float skips whole numbers."""
MAX_WEIGHT = 3.4e38
"""Largest weight, with those of the groups around it: beyond, it has no float32."""
NODE = re.compile(r"\$\{\.*[A-Za-z_][\w\-]*(\.[\w\-]+|\[[\w\-]+\])*\}")
"""A reference to another key of the same config."""

TOO_MANY = f"more than {MAX_VALUES:,} keys and values"
TOO_DEEP = f"more than {MAX_DEPTH} lists, mappings and references inside one another"
TOO_MANY_REFERENCES = f"texts with ${{ in them that have more than {MAX_REFERENCES:,} characters in all"
TOO_LONG = f"a text with ${{ in it that has more than {MAX_REFERENCE:,} characters"
FLATTEN, SHORTEN = "flatten them", "shorten it"

_TEXT_AS_ONE = 100  # characters of a text that count as one value
_NULL = ("", "~", "null", "Null", "NULL")
_NUMBER = re.compile(r"[-+]?\.?[0-9]")

Way = tuple[Any, ...]
"""Keys from the root of a config to one of its values."""


class Loader(get_yaml_loader()):  # type: ignore[misc]
    """OmegaConf's loader, which refuses YAML that costs too much, makes more than plain data, or holds no mapping.

    It looks at each event before a node is composed of it, and nothing is constructed before all are composed. What it
    refuses is a `RefusedError`.
    """

    def __init__(self, stream: io.StringIO) -> None:
        super().__init__(stream)
        self._depth = 0
        self._around: set[str | None] = set()  # the anchors of what is being read
        self._size = self._references = 0  # so far: nodes, and characters of texts with references in them
        self._adds: dict[str | None, tuple[int, int]] = {}  # what an alias of each anchor adds to them

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Compose the next node, unless it is refused."""
        event: Any = self.peek_event()
        before = self._size, self._references
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._around:
                _refuse(event, f"the alias *{event.anchor} stands inside what it repeats", "move it out of there")
            self._count(event, *self._adds.get(event.anchor, (1, 0)))
            alias: yaml.Node = super().compose_node(parent, index)
            return alias
        if event.tag is not None:
            problem = f"the tag {event.tag} names a type to make, and a config holds plain data"
            _refuse(event, problem, "leave it out")
        if isinstance(event, yaml.ScalarEvent):
            self._count(event, 1, len(event.value) if "${" in event.value else 0)
            _check_scalar(event, is_top=parent is None, is_key=isinstance(parent, yaml.MappingNode) and index is None)
        else:
            self._count(event, 1, 0)
            self._check_collection(event)
        self._depth += 1
        self._around.add(event.anchor)
        node: yaml.Node = super().compose_node(parent, index)
        self._around.discard(event.anchor)
        self._depth -= 1
        self._adds[event.anchor] = self._size - before[0], self._references - before[1]
        return node

    def _count(self, event: yaml.Event, size: int, references: int) -> None:
        self._size += size
        self._references += references
        if self._size > MAX_VALUES:
            _refuse(event, f"{TOO_MANY}, aliases counted as what they repeat", "shorten the file")
        if references and self._references > MAX_REFERENCES:
            _refuse(event, f"{TOO_MANY_REFERENCES}, aliases counted as what they repeat", "refer to less")

    def _check_collection(self, event: yaml.CollectionStartEvent) -> None:
        if isinstance(event, yaml.SequenceStartEvent) and self._depth == 0:
            _refuse(event, "expected a mapping at the top, found a list", "write `losses:` in a line above it")
        if self._depth >= MAX_DEPTH:
            _refuse(event, TOO_DEEP, FLATTEN)

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Compose a mapping, unless one of its keys equals another once both are read: 1 and 0x1, 1.0 or true."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: dict[Any, str] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            value = self.construct_object(key)
            if value in keys:
                earlier = f", which is {keys[value]} too" if keys[value] != key.value else ""
                _refuse(key, f"duplicate key {key.value}{earlier}", "keep one of the two")
            keys[value] = key.value
        return node


def _check_scalar(event: yaml.ScalarEvent, *, is_top: bool, is_key: bool) -> None:
    text = event.value
    is_null = event.style is None and text in _NULL
    if is_top and not is_null:
        hint = f"loss: {text}" if is_name(text.replace("/", ".")) else "loss: NAME"
        _refuse(event, "expected a mapping at the top, found a single value", hint)
    if is_key and is_null:
        _refuse(event, "a key that is null", "quote it")
    if is_key and len(text) > MAX_KEY:
        _refuse(event, f"a key of {len(text):,} characters", SHORTEN)
    if event.style is None and len(text) > MAX_NUMBER and _NUMBER.match(text):
        _refuse(event, f"a number of {len(text):,} characters", "quote it, if it is a text")
    if is_long_reference(text):
        _refuse(event, TOO_LONG, SHORTEN)
    if "${" in text:
        try:
            grammar_parser.parse(text)
        except GrammarParseError as error:
            reason = f"{text!r} is no reference: {error}"
        else:
            return
        _refuse(event, reason, "write ${key}, or \\${ where a text begins so")


class RefusedError(yaml.MarkedYAMLError):
    """YAML that is well formed, and more than a config may hold.

    Attributes:
        refused: what is wrong; the beginning of `problem`.
        hint: how to fix it; the end of `problem`.
    """

    def __init__(self, problem: str, hint: str, at: yaml.Event | yaml.Node) -> None:
        problem = printable(problem)
        super().__init__(problem=f"{problem}; {hint}", problem_mark=at.start_mark)  # type: ignore[arg-type]
        self.refused, self.hint = problem, hint


def _refuse(at: yaml.Event | yaml.Node, problem: str, hint: str) -> NoReturn:
    raise RefusedError(problem, hint, at)


def refused_reference(error: yaml.YAMLError, text: str) -> RefusedError | None:
    """Return what is wrong if YAML took the `{` of a reference for a mapping inside of `{...}` or `[...]`."""
    mark = error.problem_mark if isinstance(error, ParserError) else None
    if mark is None or text[mark.index - 1 : mark.index + 1] != "${":
        return None
    found = f"{text[mark.index - 1 :].partition('}')[0]:.40}}}"
    return RefusedError(
        f"the reference {found} inside {{...}} or [...] without quotes", f"quote it: '{found}'", yaml.Event(mark, mark)
    )


def is_long_reference(text: str) -> bool:
    """Say whether a text is too long to be searched for references."""
    return len(text) > MAX_REFERENCE and "${" in text


class Unfolding:
    """Tell how large a part of a config becomes once its references are followed, before any is.

    Args:
        root: the whole config as plain data of its own, references as text.
        mark: returns a text, or another in its place that is no reference.

    Attributes:
        start: the keys of the part that is looked at.
        path: where it stands, for errors.
        refers: whether a text has a reference, or an escaped one.
        marked: whether a text was replaced, or marks a missing value.
    """

    def __init__(self, root: Any, mark: Callable[[str], str]) -> None:
        self.root = root
        self.start: Way = ()
        self.path = ""
        self.refers = self.marked = False
        self._mark = mark
        self._known: dict[Way, tuple[int, int]] = {}
        self._open: set[Way] = set()
        self._ends: dict[Way, Way | None] = {}

    def check(self, way: Way) -> tuple[int, int]:
        """Return the values and the depth of what stands at some keys.

        Raises:
            ConfigError: it holds itself, refers to nothing, or is beyond the bounds.
        """
        if way in self._known:
            return self._known[way]
        if way in self._open:
            self._refuse("cannot be resolved: it refers to itself", "give it a value", "reference", way)
        self._open.add(way)
        values, depth = self._measured(way)
        self._open.remove(way)
        if values > MAX_VALUES:
            self._refuse(f"has {TOO_MANY} once references are followed (at {_spelled(way)})", "refer to less")
        if depth > MAX_DEPTH:
            self._refuse(f"has {TOO_DEEP}", FLATTEN)
        self._known[way] = values, depth
        return values, depth

    def _refuse(self, message: str, hint: str, kind: ProblemKind = "limit", way: Way | None = None) -> NoReturn:
        path = self.path if way is None else self._place(way)
        raise ConfigError([ConfigProblem(path, message, hint, kind)])

    def _place(self, way: Way) -> str:
        """Return where some keys stand: below the path of the part if they are in it, else from the root."""
        if way[: len(self.start)] != self.start:
            return _spelled(way)
        inside = _spelled(way[len(self.start) :])
        return f"{self.path}{'' if inside[:1] in ('', '[') or not self.path else '.'}{inside}"

    def _measured(self, way: Way) -> tuple[int, int]:
        data = self._value(way)
        if isinstance(data, dict):
            own, inside = 1 + len(data), [self.check((*way, key)) for key in data]
        elif isinstance(data, list):
            own, inside = 1, [self.check((*way, i)) for i in range(len(data))]
        elif isinstance(data, str):
            text = self._text(data, way)
            own, inside = 1 + len(text) // _TEXT_AS_ONE, [self.check(target) for target in self._targets(text, way)]
        else:
            if isinstance(data, int) and abs(data) > sys.float_info.max:
                self._refuse(
                    f"holds an integer of {data.bit_length()} bits at {_spelled(way)}, which no float can hold",
                    "give a smaller one",
                )
            own, inside = 1, []
        nested = isinstance(data, (dict, list)) or bool(inside)
        return own + sum(values for values, _ in inside), nested + max((depth for _, depth in inside), default=0)

    def _text(self, text: str, way: Way) -> str:
        """Return a text of the config, or the mark that it gets."""
        marked = self._mark(text) if "${" in text else text
        self.refers |= "${" in marked
        self.marked |= marked != text or text == "???"
        if marked != text:
            self._value(way[:-1])[way[-1]] = marked
        return marked

    def _value(self, way: Way) -> Any:
        data = self.root
        for key in way:
            data = data[key]
        return data

    def _targets(self, text: str, way: Way) -> Iterator[Way]:
        """Yield the keys of what each reference in a text stands for."""
        for match in NODE.finditer(text):
            before = text[: match.start()]
            if (len(before) - len(before.rstrip("\\"))) % 2:
                continue  # a backslash makes it a text
            target = self._target(match[0], way)
            if target is None:
                self._refuse(f"cannot be resolved: nothing stands at {match[0]}", "correct it", "reference", way)
            yield target

    def _target(self, reference: str, way: Way) -> Way | None:
        """Return the keys that a reference means where it stands, through references on the way."""
        name = reference[2:-1].lstrip(".")
        up = len(reference) - 3 - len(name)
        if up > len(way):
            return None
        target: Way | None = way[: len(way) - up] if up else ()
        for key in re.findall(r"[\w\-]+", name):
            target = None if target is None else self._meant(target)
            if target is None:
                return None
            data = self._value(target)
            if isinstance(data, list) and key.isdecimal() and int(key) < len(data):
                target = (*target, int(key))
            elif isinstance(data, dict) and key in data:
                target = (*target, key)
            else:
                return None
        return target

    def _meant(self, way: Way) -> Way | None:
        """Return the keys at which a chain of references ends; None of one that does not."""
        data = self._value(way)
        if not isinstance(data, str) or not NODE.fullmatch(data):
            return way
        if way not in self._ends:
            self._ends[way] = None
            target = self._target(data, way)
            self._ends[way] = None if target is None else self._meant(target)
        return self._ends[way]


def _spelled(way: Way) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in way).removeprefix(".")
