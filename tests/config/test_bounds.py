"""Reading a config costs what its bounds allow, whatever it holds, and ends with plain data or a `ConfigError`."""

from __future__ import annotations

import cProfile
import functools
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from lossreg.config.bounds import MAX_BYTES, MAX_DEPTH, MAX_NUMBER, MAX_REFERENCE, MAX_VALUES, Unfolding
from lossreg.config.reading import Source, plain
from lossreg.errors import ConfigError

MOST_CALLS = 8_000_000  # of Python functions: two seconds or so; the full 10,000 values take half of them


@pytest.fixture
def calls() -> Iterator[Callable[[], int]]:
    """Count the Python functions that are called, which is work done and no matter of the clock."""
    with cProfile.Profile(subcalls=False, builtins=False) as profile:
        yield lambda: sum(entry.callcount for entry in profile.getstats())


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str | bytes], DictConfig]:
    def write_and_read(content: str | bytes) -> DictConfig:
        file = tmp_path / "loss.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Source.read(file).load()

    return write_and_read


def _nested(depth: int) -> str:
    return "a: " + "[" * (depth - 1) + "]" * (depth - 1)


def _listed(values: int) -> str:
    return "a: [" + "1," * (values - 3) + "]"  # the mapping, its key and its list count too


JUST_INSIDE = {
    "bytes": "#" * MAX_BYTES,
    "depth": _nested(MAX_DEPTH),
    "values": _listed(MAX_VALUES),
    "aliases": f"a: &a [{'1,' * 99}]\nb: [{'*a,' * ((MAX_VALUES - 104) // 100)}]",
    "merge keys": "a: &a {x: 1}\nb: {<<: *a}",
    "digits": "a: " + "9" * MAX_NUMBER,
    "hexadecimal digits": "a: 0x" + "f" * (MAX_NUMBER - 2),
    "quoted digits": f"a: '{'9' * (2 * MAX_NUMBER)}'",
    "reference": "a: 1\nb: '" + "${a}".rjust(MAX_REFERENCE) + "'",
    "nothing": "",
    "null": "null",
    "values that are null": "a: {b: [null, ~], c: ~, 'null': Null, d: }",
    "anchor on a key": "&x a: 1\nb: *x",
    "byte order mark": "\ufeffa: 1",
    "complex key": "? a\n: 1",
}
JUST_OUTSIDE = {
    "bytes": ("#" * (MAX_BYTES + 1), "is longer than 262,144 bytes; keep the loss in a file of its own"),
    "depth": (_nested(MAX_DEPTH + 1), "more than 32 lists, mappings and references inside one another; flatten them"),
    "values": (_listed(MAX_VALUES + 1), "more than 10,000 keys and values"),
    "aliases": (
        f"a: &a [{'1,' * 99}]\nb: [{'*a,' * ((MAX_VALUES - 4) // 100)}]",
        "aliases counted as what they repeat; shorten the file",
    ),
    "digits": ("a: " + "9" * (MAX_NUMBER + 1), "a number of 251 characters; quote it, if it is a text"),
    "reference": ("b: '" + "${a}".rjust(MAX_REFERENCE + 1) + "'", "has more than 1,000 characters; shorten it"),
}


@pytest.mark.parametrize("text", JUST_INSIDE.values(), ids=JUST_INSIDE)
def test_what_is_within_the_bounds_is_read_at_little_cost(
    text: str, read: Callable[[str], DictConfig], calls: Callable[[], int]
) -> None:
    plain(read(text), "")
    assert calls() < MOST_CALLS


@pytest.mark.parametrize(("text", "message"), JUST_OUTSIDE.values(), ids=JUST_OUTSIDE)
def test_what_is_beyond_a_bound_is_refused(text: str, message: str, read: Callable[[str], DictConfig]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)


def _laughs(first: str, again: str) -> str:
    """Ten values, each ten times the one before it: @ is the key of the value, ^ that of the one before."""
    return "\n".join([first, *(again.replace("@", own).replace("^", before) for before, own in pairwise("abcdefghij"))])


HOSTILE = {
    "laughs by aliases": _laughs("a: &a [lol]", f"@: &@ [{'*^,' * 10}]"),
    "laughs by merge keys": _laughs("a: &a {x: lol}", f"@: &@ {{<<: [{'*^,' * 10}]}}"),
    "laughs by references in lists": _laughs("a: [lol]", "@: [" + "'${^}'," * 10 + "]"),
    "laughs by references in texts": _laughs("a: lol", "@: '" + "${^}" * 10 + "'"),
    "laughs by relative references": "x:\n" + _laughs("  a: lol", "  @: '" + "${.^}" * 10 + "'"),
    "a list that holds itself": "a: &a [*a]",
    "a mapping that holds itself": "a: &a {b: {c: *a}}",
    "a mapping that is its own key": "? &a {*a : 1}\n: 1",
    "a reference to itself": "a: ${a}",
    "a reference to what holds it": "a: {b: [1, '${a}']}",
    "references in a ring": "a: ${b}\nb: ${c}\nc: x${a}",
    "a reference through a ring": "a: ${b.x}\nb: ${a.y}",
    "a long chain of references": "k0: 1\n" + "".join(f"k{i}: ${{k{i - 1}}}\n" for i in range(1, 2_000)),
    "a long chain of ways": "k0: {x: 1}\n" + "".join(f"k{i}: {{x: '${{k{i - 1}.x}}'}}\n" for i in range(1, 1_500)),
    "deep brackets": "a: " + "[" * 100_000,
    "deep braces": "{a: " * 60_000,
    "deep dashes": "a:\n " + "- " * 100_000,
    "deep question marks": "? " * 100_000,
    "a number of 200,000 digits": "a: " + "9" * 200_000,
    "a number to the base 60": "a: 1" + ":59" * 60_000,
    "a key of 200,000 digits": f"{'9' * 200_000}: 1",
    "references in references": "a: '" + "${" * 100_000 + "'",
    "many references in references": "".join(f"k{i}: '{'${' * 499}'\n" for i in range(200)),
    "a reference to spaces": "a: '${" + " " * 200_000 + "'",
    "a resolver of lists": "a: '${x:" + "[" * 900 + "}'",
    "backslashes": "a: '" + "\\" * 900 + "${b}'",
    "a NUL byte": "a: \0",
    "no UTF-8": b"a: \xff\xfe",
    "UTF-16": "a: 1".encode("utf-16"),
    "a surrogate": 'a: "\\ud800"\nb: ${c}',
    "a key that is null": "a: {~: 1}",
    "a key that is null, behind values": "a: {b: [null, ~], c: ~, ~: 1}",
    "no mapping": "1",
    "a list": "[1]",
    "an alias of nothing": "a: *b",
    "two documents": "a: 1\n---\nb: 1",
    "a mapping as a key": "{a: 1}: 1",
    "a date as a tag": "a: !!timestamp 2000-01-01",
    "a local tag": "a: !x 1",
    "a tag without a name": "a: ! 1",
    "a tag of one's own": "%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system ''",
    "a tag that calls": "a: !!python/object/apply:os.system ['true']",
    "a tag that names": "a: !!python/name:os.system ''",
    "a tag that makes": "a: !!python/object/new:subprocess.Popen [['true']]",
    "a tag on a key": "!!python/name:os.system a: 1",
    "a merge of a text": "a: &a x\nb: {<<: *a}",
    "tabs": "a:\t\tb:\t1",
    "directives": "%YAML 9.9\n---\na: 1",
    "an integer beyond every float": "a: 0x" + "f" * 300,
}  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_at_little_cost(
    content: str | bytes, read: Callable[[str | bytes], DictConfig], calls: Callable[[], int]
) -> None:
    with pytest.raises(ConfigError):
        plain(read(content), "")
    assert calls() < MOST_CALLS


def test_objects_of_python_have_the_same_bounds() -> None:
    holds_itself: dict[str, Any] = {}
    holds_itself["a"] = holds_itself
    wide = {"a": [0] * MAX_VALUES}
    for cfg, message in [
        (holds_itself, "flatten them"),
        (wide, "10,000 keys and values"),
        ({"a": 10**400}, "holds an integer of 1329 bits at value.a, which no float can hold"),
        ({"a": "${b}" * 300, "b": 1}, "more than 1,000 characters"),
        (OmegaConf.create({"a": list(range(2_000)), "b": ["${a}"] * 6}), "once references are followed"),
    ]:
        with pytest.raises(ConfigError) as caught:
            plain(cfg, "loss")
        assert message in str(caught.value)
        assert caught.value.problems[0].path == "loss"


def test_a_reference_that_is_escaped_is_none() -> None:
    assert plain({"a": r"\${b}"}, "loss")[0] == {"a": "${b}"}


def _texts(keys: list[str]) -> st.SearchStrategy[str]:
    reference = st.builds(
        lambda dots, first, way: "${" + "." * dots + ".".join([first, *way]) + "}",
        st.integers(0, 3),
        st.sampled_from(keys),
        st.lists(st.sampled_from([*keys, "0", "1"]), max_size=2),
    )
    return st.lists(reference | st.sampled_from(["x", "\\", " ", "${a[0]}", "${a[b]}"]), max_size=4).map("".join)


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.recursive(
            _texts(["a", "b", "c"]) | st.integers() | st.none(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_references_mean_what_omegaconf_says_or_are_refused(data: dict[str, Any]) -> None:
    """Whatever is resolved is as OmegaConf resolves it, and nothing that it resolves in bounds is refused."""
    try:
        expected = OmegaConf.to_container(OmegaConf.create(data), resolve=True)
    except Exception:  # OmegaConf has several for what it cannot resolve, RecursionError among them
        expected = None
    try:
        found = plain(OmegaConf.create(data), "")[0]
    except ConfigError:
        found = None
    except Exception as error:
        raise AssertionError("only a ConfigError may come of a config") from error
    assert found == expected


@pytest.mark.parametrize(
    ("data", "way", "values", "depth"),
    [
        ({"a": 1}, (), 3, 1),  # the mapping, its key and its value
        ({"a": None, "b": True}, (), 5, 1),
        ({"a": [1, 2]}, (), 5, 2),
        ({"a": [[]]}, (), 4, 3),
        ({"a": {"b": {"c": 1}}}, (), 7, 3),
        ({"a": "x" * 99}, (), 3, 1),
        ({"a": "x" * 100}, (), 4, 1),
        ({"a": "x" * 250}, (), 5, 1),
        ({"a": [1, 2], "b": "${a}"}, ("b",), 4, 2),
        ({"a": [1, 2], "b": "${a[1]} ${a[0]}"}, ("b",), 3, 1),
        ({"a": [1, 2], "b": ["${a}", "${.0}"]}, ("b", 0), 4, 2),
        ({"a": {"b": "${..c}"}, "c": 7}, ("a",), 4, 2),
        ({"a": r"\${b}", "b": [1, 2]}, ("a",), 1, 0),
        ({"a": r"\\${b}", "b": [1, 2]}, ("a",), 4, 2),
        ({"a": "${b.c}", "b": "${d}", "d": {"c": [1]}}, ("a",), 3, 2),
    ],
)
def test_the_size_of_a_part_is_that_of_what_it_becomes(data: Any, way: Any, values: int, depth: int) -> None:
    assert Unfolding(data, lambda text: text).check(way) == (values, depth)


def _lists(depth: int) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(depth), 0)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"a": [0] * (MAX_VALUES - 4)}, ""),
        ({"a": [0] * (MAX_VALUES - 2)}, "more than 10,000 keys and values"),
        ({str(i): 0 for i in range(MAX_VALUES // 2 - 1)}, ""),
        ({str(i): 0 for i in range(MAX_VALUES // 2)}, "more than 10,000 keys and values"),
        (_lists(MAX_DEPTH), ""),
        (_lists(MAX_DEPTH + 1), "more than 32 lists, mappings and references inside one another"),
        ({"a": int(sys.float_info.max), "b": -int(sys.float_info.max)}, ""),
        ({"a": -(10**309)}, "an integer of 1027 bits"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("kind", [lambda cfg: cfg, OmegaConf.create], ids=["python", "omegaconf"])
def test_data_is_taken_up_to_each_bound(kind: Any, cfg: Any, message: str) -> None:
    if not message:
        assert plain(kind(cfg), "loss") == (cfg, [])
        return
    with pytest.raises(ConfigError) as caught:
        plain(kind(cfg), "loss")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("cfg", "message", "place"),
    [
        ({"a": "${b}".rjust(MAX_REFERENCE), "b": 1}, "", ""),
        ({"a": "${b}", "b": "${a}"}, "it refers to itself", ".a"),
        ({"a": "${..b}", "b": 1}, "nothing stands at ${..b}", ".a"),
        ({"a": ["${b[1]}"], "b": [1]}, "nothing stands at ${b[1]}", ".a[0]"),
        ({"a": "${b.3}", "b": [1]}, "nothing stands at ${b.3}", ".a"),
        ({"a": "${b.c}", "b": 1}, "nothing stands at ${b.c}", ".a"),
        ({"a": "${b.c}", "b": {"d": 1}}, "nothing stands at ${b.c}", ".a"),
    ],
    ids=range(7),
)
def test_a_reference_that_leads_nowhere_is_told_with_where_it_stands(cfg: Any, message: str, place: str) -> None:
    if not message:
        assert plain(OmegaConf.create(cfg), "loss")[0]["a"].strip() == "1"
        return
    with pytest.raises(ConfigError) as caught:
        plain(OmegaConf.create(cfg), "loss")
    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == (f"loss{place}", f"cannot be resolved: {message}")


def test_a_reference_outside_the_part_is_told_with_where_the_file_has_it() -> None:
    cfg = OmegaConf.create({"loss": {"a": ["${w[0]}"]}, "w": ["${x}"]})
    with pytest.raises(ConfigError, match=r"^w\[0\]: cannot be resolved: nothing stands at \$\{x\} \(correct it\)$"):
        plain(cfg.loss, "here")
    with pytest.raises(ConfigError, match=r"^w\[0\]: "):
        plain(cfg, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "duplicate key a; keep one of the two"),
        ("1: 1\n0x1: 2", "duplicate key 0x1, which is 1 too; keep one of the two"),
        ("0x1: 1\n1: 2", "duplicate key 1, which is 0x1 too; keep one of the two"),
        ("true: 1\nyes: 2", "duplicate key yes, which is true too; keep one of the two"),
    ],
)
def test_of_equal_keys_both_are_told(text: str, message: str, read: Callable[[str], DictConfig]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)


def test_keys_of_several_merges_are_no_duplicates(read: Callable[[str], DictConfig]) -> None:
    assert read("a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: [*a, *b], x: 3}")["c"] == {"x": 3, "y": 2}
