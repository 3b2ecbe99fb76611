"""A config path is found at the line and column where the file has it."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lossreg.config.positions import Position, Positions, error_position

TEXT = """\
# a comment
loss_params:
  compound_loss:
    epoch_thresholds: [0, 5, 10]
    loss_list:
      - {loss: seg, weight: 1.0}
      - loss: crossfield_align
        weight: [0.0, oops, 1.0]
      - loss:
          _target_: pkg.Loss
          name: old
        weight: 1
"""


@pytest.mark.parametrize(
    ("path", "line", "covered"),
    [
        ("loss_params", 2, "loss_params"),
        ("loss_params.compound_loss.epoch_thresholds", 4, "epoch_thresholds: [0, 5, 10]"),
        ("loss_params.compound_loss.epoch_thresholds[1]", 4, "5"),
        ("loss_params.compound_loss.loss_list[0]", 6, "{loss: seg, weight: 1.0}"),
        ("loss_params.compound_loss.loss_list[0].weight", 6, "weight: 1.0"),
        ("loss_params.compound_loss.loss_list.0.weight", 6, "weight: 1.0"),
        ("loss_params.compound_loss.loss_list[1].weight[1]", 8, "oops"),
        ("loss_params.compound_loss.loss_list[2].loss", 9, "loss"),
        ("loss_params.compound_loss.loss_list[2].loss._target_", 10, "_target_: pkg.Loss"),
    ],
)
def test_a_path_is_found_where_it_stands(path: str, line: int, covered: str) -> None:
    positions = Positions(TEXT)
    found = positions.find(path)
    assert found is not None
    assert found.line == line
    assert positions.text(line)[found.column - 1 : found.column - 1 + found.width] == covered


def test_a_missing_key_is_found_at_its_nearest_ancestor() -> None:
    found = Positions(TEXT).find("loss_params.compound_loss.loss_list[1].gt_channel_selector")
    assert found is not None
    assert (found.line, found.column) == (7, 9)


@pytest.mark.parametrize("rest", ["[7]", "[99999999]", ".weight", "[x]", "x"])
def test_what_is_no_item_of_a_list_is_found_at_the_list(rest: str) -> None:
    found = Positions(TEXT).find(f"loss_params.compound_loss.loss_list{rest}")
    assert found is not None
    assert (found.line, found.column) == ((5, 5) if rest != "x" else (3, 3))


def test_the_longest_key_wins_and_may_hold_dots() -> None:
    positions = Positions("a:\n  b: 1\na.b: 2\na.bc: 3\n")
    assert positions.find("a.b") == Position(3, 1, 6)
    assert positions.find("a.bc") == Position(4, 1, 7)
    assert positions.find("a.bcd") == Position(1, 1, 1), "a.bcd is neither a.bc nor a.b"


def test_a_key_that_is_no_text_is_found_as_it_is_read_too() -> None:
    positions = Positions("a:\n  on: 1\n  0x10: 2\n  1.50: 3\n  1" + ":59" * 200 + ": 4\n")
    assert [positions.find(path).line for path in ("a.True", "a.on", "a.16", "a.0x10", "a.1.5")] == [2, 2, 3, 3, 4]


def test_merged_and_aliased_keys_are_found_where_they_are_written() -> None:
    text = "base: &b {weight: x}\nterm:\n  <<: *b\n  name: n\nother: *b\n"
    positions = Positions(text)
    assert positions.find("term.weight") == Position(1, 11, 9)
    assert positions.find("term.name") == Position(4, 3, 7)
    assert positions.find("other.weight") == Position(1, 11, 9)


def test_a_merge_that_multiplies_is_walked_once() -> None:
    merges = [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 40)]
    assert Positions("\n".join(["m0: &m0 {k: 1}", *merges])).find("m39.absent") is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [("x: 1\na: [1,\nb: 2\n", 2), ("a: 'open\n", 1), ("a: 1\n b: 2\n", 2), ("ok: 1\nbad: \x07\n", 2)],
)
def test_a_syntax_error_has_a_position(text: str, line: int) -> None:
    with pytest.raises(yaml.YAMLError) as failure:
        yaml.safe_load(text)
    found = error_position(failure.value, text)
    assert found is not None
    assert found.line == line
    assert Positions(text).find("a") is None


def test_an_empty_file_has_no_positions() -> None:
    assert Positions("").find("a") is None
    assert Positions("# nothing\n").find("") is None
    assert Positions("").text(1) == ""


def test_a_deep_file_does_not_overflow_the_stack() -> None:
    assert Positions("[" * 20_000).find("a") is None


def test_a_byte_order_mark_shifts_nothing() -> None:
    positions = Positions("\ufeffab: 1\n")
    assert positions.find("ab") == Position(1, 1, 5)
    assert positions.text(1) == "ab: 1"


KEYS = st.text(st.characters(categories=["L", "N", "Pd"], include_characters="_ "), min_size=1, max_size=8)
TREES = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def leaves(tree: object, path: str = "") -> list[str]:
    if isinstance(tree, dict):
        items = [(f"{path}.{key}" if path else key, value) for key, value in tree.items()]
    elif isinstance(tree, list):
        items = [(f"{path}[{index}]", value) for index, value in enumerate(tree)]
    else:
        return [path] if path else []
    return [leaf for sub, value in items for leaf in ([sub] if value in ({}, []) else leaves(value, sub))]


@given(TREES, st.booleans())
def test_every_leaf_of_any_file_is_found_at_a_place_of_its_own(tree: object, flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True, width=60)
    positions = Positions(text)
    places = [positions.find(path) for path in leaves(tree)]
    assert None not in places
    assert len({(p.line, p.column) for p in places if p}) == len(places)


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_text_and_no_path_raises(text: str, path: str) -> None:
    Positions(text).find(path)
