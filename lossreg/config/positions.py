"""Where in a YAML file a config path stands: `loss_list[2].weight` -> line and column."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

import yaml
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError

from lossreg.config.bounds import MAX_NUMBER

_BOM = "\ufeff"


@dataclass(frozen=True)
class Position:
    """A place in a text: `line` and `column` count from 1; `width` is how much of the line it covers."""

    line: int
    column: int
    width: int = 1


class Positions:
    """Find the keys and items of a YAML text by their config path.

    The text is composed into nodes once and nothing is constructed from it: tags and aliases are not
    expanded, so a hostile file costs no more than reading it. A text that is no YAML has no positions.

    Args:
        text: the content of the file.
    """

    def __init__(self, text: str) -> None:
        self.lines = lines_of(text)
        self._root: yaml.Node | None = None
        self._keys: dict[int, _Keys] = {}  # by the identity of the mapping's node
        with suppress(yaml.YAMLError, RecursionError):
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)

    def find(self, path: str) -> Position | None:
        """Return where `path` stands: a key of a mapping, or an item of a list.

        A path that is not in the file (a key that is missing, one that a default gave) is found at its
        nearest ancestor that is. None where the text has no nodes at all.

        Args:
            path: `a.b[2].c`; a key may itself hold dots.
        """
        if self._root is None:
            return None
        node, found = self._root, _position(self._root.start_mark, self._root.start_mark)
        rest = path
        while rest:
            step = self._step(node, rest)
            if step is None:
                break
            key, node, rest = step
            found = _position(key.start_mark, _end_on_line(key, node))
        return found

    def _step(self, node: yaml.Node, path: str) -> tuple[yaml.Node, yaml.Node, str] | None:
        """Take one step along `path`: the node to point at, the node that is there, and the rest of the path."""
        if isinstance(node, yaml.SequenceNode):
            index = _INDEX.match(path)
            if index is None or len(index[1]) > 6 or int(index[1]) >= len(node.value):
                return None
            item = node.value[int(index[1])]
            return item, item, path[index.end() :]
        return self._entry(node, path, set()) if isinstance(node, yaml.MappingNode) else None

    def _entry(
        self, node: yaml.MappingNode, path: str, seen: set[int]
    ) -> tuple[yaml.ScalarNode, yaml.Node, str] | None:
        """Find the entry of a mapping that `path` goes through: of `a` and `a.b` the longer; then in `<<`."""
        if id(node) in seen:
            return None
        seen.add(id(node))
        if id(node) not in self._keys:
            self._keys[id(node)] = _Keys(node)
        keys = self._keys[id(node)]
        found = keys.longest(path)
        merged = keys.entries.get("<<")
        if found or merged is None:
            return found
        parents = merged[1].value if isinstance(merged[1], yaml.SequenceNode) else [merged[1]]
        for parent in parents:
            found = self._entry(parent, path, seen) if isinstance(parent, yaml.MappingNode) else None
            if found:
                return found
        return None

    def text(self, line: int) -> str:
        """Return line number `line` of the file, without its end; empty where there is none."""
        return self.lines[line - 1] if 1 <= line <= len(self.lines) else ""


def lines_of(text: str) -> list[str]:
    """Return the lines of a file; columns do not count a byte order mark before the first."""
    return text.removeprefix(_BOM).splitlines()


def error_position(error: yaml.YAMLError, text: str) -> Position | None:
    """Return where in `text` a YAML error stands; None where it does not say.

    Where the text ends in the middle of something (a list that is not closed), that is where it began.
    """
    if isinstance(error, ReaderError):  # a character that YAML does not allow
        before = text[: error.position].removeprefix(_BOM)
        return Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    if not isinstance(error, yaml.MarkedYAMLError):
        return None
    mark = error.problem_mark or error.context_mark
    if mark and mark.index >= len(text.rstrip()):
        mark = error.context_mark or mark
    return _position(mark, mark) if mark else None


_INDEX = re.compile(r"\.?\[?([0-9]+)\]?(?=[.\[]|\Z)")


class _Keys:
    """The entries of a mapping by their key."""

    def __init__(self, node: yaml.MappingNode) -> None:
        self.entries: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                self.entries.setdefault(key.value, (key, value))
                self.entries.setdefault(_as_read(key), (key, value))
        self.lengths = sorted(set(map(len, self.entries)), reverse=True)

    def longest(self, path: str) -> tuple[yaml.ScalarNode, yaml.Node, str] | None:
        """Return the longest key that `path` begins with, its value, and the rest of the path."""
        path = path.removeprefix(".")
        for length in self.lengths:
            key, rest = path[:length], path[length:]
            if key in self.entries and (not rest or rest[0] in ".["):
                return (*self.entries[key], rest)
        return None


def _as_read(key: yaml.ScalarNode) -> str:
    """Return a key as paths have it: `True` of `on`, `16` of `0x10`."""
    if key.tag.endswith((":bool", ":int", ":float")) and len(key.value) <= MAX_NUMBER:
        with suppress(ValueError):
            return str(SafeConstructor().construct_object(key))
    return str(key.value)


def _end_on_line(key: yaml.Node, value: yaml.Node) -> yaml.Mark:
    """Return the end of `key: value` where it ends on the line it begins on, else the end of the key."""
    same_line = value.end_mark.line == key.start_mark.line and value.start_mark.index >= key.start_mark.index
    return value.end_mark if same_line else key.end_mark


def _position(start: yaml.Mark, end: yaml.Mark) -> Position:
    width = end.column - start.column if end.line == start.line else 1
    return Position(start.line + 1, start.column + 1, max(width, 1))
