"""Specs are frozen, and refuse at construction what could not be used later."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossreg import LossSpec, PreprocessSpec, ScheduleSpec, WeightingSpec
from lossreg.errors import PluginError

KINDS = {LossSpec: "loss", PreprocessSpec: "preprocess", WeightingSpec: "weighting", ScheduleSpec: "schedule"}


def make(spec_type, name="Name", target="package.module:Name", **fields):
    if spec_type is PreprocessSpec:
        fields.setdefault("provides", ("gt.key",))
    return spec_type(name, target, **fields)


@pytest.mark.parametrize("spec_type", KINDS)
def test_a_spec_is_frozen_hashable_and_compares_by_value(spec_type):
    spec = make(spec_type, aliases=("short",), summary="one line")
    assert spec == make(spec_type, aliases=["short"], summary="one line")
    assert len({spec, make(spec_type, aliases=("short",), summary="one line")}) == 1
    assert spec.kind == KINDS[spec_type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "Other"


def test_a_loss_spec_with_options_is_hashable_too():
    assert len({LossSpec("A", "a:A", wrap={"target_dtype": "long"}), LossSpec("A", "a:A", wrap={})}) == 2


def test_all_but_name_and_target_go_by_keyword():
    with pytest.raises(TypeError, match="positional"):
        LossSpec("A", "a:A", "summary")


def test_lists_are_frozen_as_tuples():
    spec = PreprocessSpec("A", "a:A", aliases=["b"], targets=["c.d"], requires=["gt.x"], provides=["gt.y", "pred.z"])
    assert (spec.aliases, spec.targets, spec.requires, spec.provides) == (
        ("b",),
        ("c.d",),
        ("gt.x",),
        ("gt.y", "pred.z"),
    )


@pytest.mark.parametrize("name", ["", "a/b", "a b", "1a", "-a", ".a", "a\n", "ä", None, 5])
@pytest.mark.parametrize("spec_type", KINDS)
def test_what_is_no_name_is_refused(spec_type, name):
    with pytest.raises(PluginError, match=f"{spec_type.__name__}"):
        make(spec_type, name=name)
    with pytest.raises(PluginError, match=f"{spec_type.__name__}"):
        make(spec_type, aliases=(name,))


@pytest.mark.parametrize("name", ["A", "_a", "L1Loss", "focal-2", "v1.5", "a_b"])
def test_a_name_may_hold_digits_dashes_and_dots(name):
    assert LossSpec(name, "a:A", aliases=(name + "x",)).name == name


@pytest.mark.parametrize(
    "target", ["", "a", "a.b", ":A", "a:", "a:A:B", "a b:A", "a:A\n", "a..b:A", "a:A.", "1a:A", None]
)
def test_what_is_no_target_is_refused(target):
    with pytest.raises(PluginError, match=r"LossSpec 'A': target .* is not of the form 'package\.module:Attribute'"):
        LossSpec("A", target)


@pytest.mark.parametrize("field", ["aliases", "targets", "hidden"])
@pytest.mark.parametrize("value", ["abc", None, 5, (1,), [None]])
@pytest.mark.parametrize("spec_type", KINDS)
def test_a_field_of_strings_takes_nothing_else(spec_type, field, value):
    with pytest.raises(PluginError, match=f"{spec_type.__name__}"):
        make(spec_type, **{field: value})


@pytest.mark.parametrize("value", ["abc", None, (1,)])
def test_tensors_are_strings(value):
    with pytest.raises(PluginError, match="LossSpec 'A': tensors must be a tuple of strings"):
        LossSpec("A", "a:A", tensors=value)


@pytest.mark.parametrize("key", ["seg", "mask.seg", "pred.", "pred. x", "Pred.seg", ""])
@pytest.mark.parametrize("field", ["requires", "provides"])
def test_keys_say_their_side(field, key):
    with pytest.raises(PluginError, match=f"PreprocessSpec 'A': {field} holds {key!r}; expected 'pred"):
        PreprocessSpec("A", "a:A", **({"provides": ("gt.x",)} | {field: (key,)}))


def test_a_preprocess_makes_something():
    with pytest.raises(PluginError, match="PreprocessSpec 'A': provides is empty; name the keys that it makes"):
        PreprocessSpec("A", "a:A")


@pytest.mark.parametrize("package", ["", ">=1", "monai>=", "monai>=1; python_version>'3'", 5])
def test_a_package_is_a_requirement_without_a_marker(package):
    with pytest.raises(PluginError, match=r"LossSpec 'A': package .* is not of the form 'distribution>=version'"):
        LossSpec("A", "a:A", package=package)


def test_an_example_is_a_target_too():
    assert LossSpec("A", "a:A", example="a.b:batch").example == "a.b:batch"
    with pytest.raises(PluginError, match=r"example 'a\.b' is not of the form"):
        LossSpec("A", "a:A", example="a.b")


IDENTIFIER = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)


@given(
    modules=st.lists(IDENTIFIER, min_size=1, max_size=3),
    attributes=st.lists(IDENTIFIER, min_size=1, max_size=2),
)
def test_every_path_to_an_attribute_is_a_target(modules, attributes):
    spec = LossSpec("A", f"{'.'.join(modules)}:{'.'.join(attributes)}", targets=("old.A",))
    assert spec.dotted == (".".join([*modules, *attributes]), "old.A")
