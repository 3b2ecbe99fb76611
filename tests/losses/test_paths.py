"""Paths of terms are joined and taken apart."""

from __future__ import annotations

import pytest

from lossreg.losses.paths import group_of, is_inside, join, split


@pytest.mark.parametrize(("group", "name", "path"), [("", "a", "a"), ("g", "a", "g/a"), ("g/h", "a", "g/h/a")])
def test_a_path_is_a_group_and_a_name(group: str, name: str, path: str) -> None:
    assert join(group, name) == path
    assert group_of(path) == group


@pytest.mark.parametrize(("path", "first", "rest"), [("a", "a", ""), ("g/a", "g", "a"), ("g/h/a", "g", "h/a")])
def test_a_path_begins_with_the_outermost_group(path: str, first: str, rest: str) -> None:
    assert split(path) == (first, rest)


def test_a_group_holds_itself_and_its_terms_but_none_with_a_longer_name() -> None:
    assert [is_inside(path, "g") for path in ("g", "g/a", "g/h/a", "ga", "ga/b", "h/g")] == [True] * 3 + [False] * 3
