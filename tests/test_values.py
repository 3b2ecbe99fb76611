"""A type says the same in every form: what fits, in words, by an example, as JSON Schema and for OmegaConf."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf, ValidationError

from lossreg.config.schema import schema
from lossreg.values import DATA, NULL, TEXT, Limits, any_of, either, type_of, unquoted

Positive = Annotated[float, Limits("a number above 0", lambda x: x > 0, {"exclusiveMinimum": 0})]
Short = Annotated[list[int], Limits("at most two integers", lambda x: len(x) <= 2, {"maxItems": 2})]
LEAVES = [bool, int, float, str, None, Any, Literal["mean", "sum"], Literal["none", 1, False], Positive, Short]
TYPES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        inner.map(lambda item: list[item])
        | inner.map(lambda item: tuple[item, ...])
        | st.tuples(inner, inner).map(lambda items: tuple[items])
        | inner.map(lambda item: dict[str, item])
        | st.tuples(inner, inner).map(lambda items: items[0] | items[1] if None not in items else items[0])
    ),
    max_leaves=4,
)
NUMBERS = st.integers(-2, 3) | st.sampled_from([0.5, -1.5, 1e300])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "mean", "none", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    """The definitions that schemas of types refer to."""
    return schema()["$defs"]


@given(hint=TYPES, value=VALUES)
def test_the_schema_accepts_what_fits(hint: Any, value: Any, definitions: dict[str, Any]) -> None:
    kind = type_of(hint)
    validator = Draft202012Validator({"$defs": definitions, "allOf": [kind.schema()]})
    assert validator.is_valid(value) == kind.fits(value)


@given(hint=TYPES)
def test_the_sample_fits(hint: Any) -> None:
    kind = type_of(hint)
    assert kind.fits(yaml.safe_load(kind.sample))


@given(hint=TYPES, value=VALUES)
def test_a_misfit_says_where_and_what_was_found(hint: Any, value: Any) -> None:
    for misfit in type_of(hint).misfits(value):
        inside = value
        for step in misfit.path:
            inside = inside[step]
        assert misfit.found == inside
        assert misfit.expected


@pytest.mark.parametrize(
    ("hint", "value", "other"),
    [
        (bool, True, "maybe"),
        (int, 1, 0.5),
        (float, 0.5, "much"),
        (str, "a", [1]),
        (float | None, None, "much"),
        (list[int], [1, 2], ["a"]),
        (list[int] | None, None, ["a"]),
        (Positive, 1.0, "much"),
    ],
)
def test_omegaconf_takes_what_fits_and_nothing_else(hint: Any, value: Any, other: Any) -> None:
    fields = [("held", type_of(hint).omegaconf, dataclasses.field(default_factory=lambda: value))]
    node = OmegaConf.structured(dataclasses.make_dataclass("Holder", fields))
    assert node.held == value
    with pytest.raises(ValidationError):
        node.held = other


@pytest.mark.parametrize(
    ("hint", "words", "notation", "sample"),
    [
        (int, "an integer", "int", "1"),
        (float | None, "a number", "float | None", "1.0"),
        (None, "null", "None", "null"),
        (Literal["a", None], "'a'", "'a' | None", "a"),
        (list[int], "a list of integers", "list[int]", "[1]"),
        (list[bool], "a list, each true or false", "list[bool]", "[true]"),
        (list[Any], "a list", "list[Any]", "[some_value]"),
        (tuple[int, str], "a list of 2: an integer; a text", "tuple[int, str]", "[1, some_text]"),
        (dict[str, float], "a mapping", "dict[str, float]", "{}"),
        (int | str | bool, "an integer, a text or true or false", "int | str | bool", "1"),
        (Positive, "a number above 0", "float", "1.0"),
    ],
)
def test_words_notation_and_sample(hint: Any, words: str, notation: str, sample: str) -> None:
    kind = type_of(hint)
    assert (kind.words, kind.notation, kind.sample) == (words, notation, sample)


@pytest.mark.parametrize(("value", "fits"), [(math.inf, True), (10**400, True), (math.nan, False), (True, False)])
def test_numbers_at_the_edge(value: Any, fits: bool) -> None:
    assert type_of(Positive).fits(value) == fits


def test_a_text_that_no_file_can_hold_does_not_fit() -> None:
    assert not type_of(str).fits("\ud800")


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([{"type": "integer"}, DATA], DATA),
        ([TEXT, NULL], {"type": ["string", "null"], "not": TEXT["not"]}),
        ([TEXT, TEXT], TEXT),
        ([{"enum": ["a"]}], {"anyOf": [{"enum": ["a"]}, {"$ref": "#/$defs/reference"}]}),
        ([{"type": "integer", "minimum": 0}], {"type": ["integer", "string"], "minimum": 0, "pattern": r"\$\{"}),
    ],
)
def test_choices_of_different_types_become_one_schema(choices: list[Any], expected: Any) -> None:
    assert any_of(*choices) == expected
    assert json.loads(json.dumps(any_of(*choices))) == expected


@pytest.mark.parametrize(
    ("words", "expected"), [(["a"], "a"), (["a", "b", "c"], "a, b or c"), (["a, b", "c"], "a, b or c")]
)
def test_words_are_joined_by_commas_unless_they_have_some(words: list[str], expected: str) -> None:
    assert either(words) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False),
        ("255", 255),
        ("1e-3", 0.001),
        ("null", None),
        ("[1, 2]", [1, 2]),
        (["0.5", "much", True], [0.5, "much", True]),
    ],
)
def test_what_yaml_reads_in_a_text_without_its_quotes(text: Any, value: Any) -> None:
    assert unquoted(text) == value


@pytest.mark.parametrize(
    "value", ["", "much", "inf", "1e999", "[", "2020-13-45", "[" * 100, ["a"], "1" * 101, 5, {"a": "1"}]
)
def test_what_it_reads_otherwise_stays_as_it_is(value: Any) -> None:
    assert unquoted(value) is value
