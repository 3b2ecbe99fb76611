"""Specs are frozen, and their constructors raise for malformed fields."""

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


@pytest.mark.parametrize("spec_type", KINDS)
def test_all_but_name_and_target_go_by_keyword(spec_type):
    assert [field.name for field in dataclasses.fields(spec_type) if not field.kw_only] == ["name", "target"]
    with pytest.raises(TypeError, match="positional"):
        spec_type("A", "a:A", "summary")


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
    with pytest.raises(PluginError, match=r"LossSpec 'A': target: expected 'package\.module:Attribute', found"):
        LossSpec("A", target)


@pytest.mark.parametrize("field", ["aliases", "targets", "hidden"])
@pytest.mark.parametrize("value", ["abc", None, 5, (1,), [None]])
@pytest.mark.parametrize("spec_type", KINDS)
def test_a_field_of_strings_takes_nothing_else(spec_type, field, value):
    with pytest.raises(PluginError, match=f"{spec_type.__name__}"):
        make(spec_type, **{field: value})


@pytest.mark.parametrize("value", ["abc", None, (1,)])
def test_tensors_are_strings(value):
    with pytest.raises(PluginError, match="LossSpec 'A': tensors: expected a tuple of strings, found"):
        LossSpec("A", "a:A", tensors=value)


@pytest.mark.parametrize("key", ["seg", "mask.seg", "pred.", "pred. x", "Pred.seg", ""])
@pytest.mark.parametrize("field", ["requires", "provides"])
def test_keys_say_their_side(field, key):
    with pytest.raises(PluginError, match=f"PreprocessSpec 'A': {field}: expected 'pred.* or 'gt.*, found {key!r}"):
        PreprocessSpec("A", "a:A", **({"provides": ("gt.x",)} | {field: (key,)}))


def test_a_preprocess_makes_something():
    with pytest.raises(PluginError, match="PreprocessSpec 'A': provides: expected the keys that the preprocess"):
        PreprocessSpec("A", "a:A")


@pytest.mark.parametrize("package", ["", ">=1", "monai>=", "monai>=1; python_version>'3'", 5])
def test_a_package_is_a_requirement_without_a_marker(package):
    with pytest.raises(PluginError, match=r"LossSpec 'A': package: expected 'distribution>=version', found"):
        LossSpec("A", "a:A", package=package)


def test_an_example_is_a_target_too():
    assert LossSpec("A", "a:A", example="a.b:batch").example == "a.b:batch"
    with pytest.raises(PluginError, match=r"example: expected 'package\.module:function', found 'a\.b'"):
        LossSpec("A", "a:A", example="a.b")


IDENTIFIER = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)


@given(
    modules=st.lists(IDENTIFIER, min_size=1, max_size=3),
    attributes=st.lists(IDENTIFIER, min_size=1, max_size=2),
)
def test_every_path_to_an_attribute_is_a_target(modules, attributes):
    spec = LossSpec("A", f"{'.'.join(modules)}:{'.'.join(attributes)}", targets=("old.A",))
    assert spec.dotted == (".".join([*modules, *attributes]), "old.A")


# --- every field has its type -------------------------------------------------------------------------

ODD = [None, 5, 2.5, True, b"text", object(), ["a"], {"a": 1}, str]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("spec_type", KINDS)
def test_a_summary_is_text(spec_type, value):
    with pytest.raises(PluginError, match=f"{spec_type.__name__} 'Name': summary: expected one printable line"):
        make(spec_type, summary=value)


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[2J", "a\u202eb", "\0", "a\u2028b", "\ud800", "x" * 1001, "x" * 10_000_000], ids=range(8)
)
def test_a_summary_is_one_printable_line(text):
    with pytest.raises(PluginError, match="expected one printable line of at most 1000 characters") as raised:
        LossSpec("A", "a:A", summary=text)
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("value", ["a\nb", "x" * 1001, True, None])
def test_what_a_mask_chooses_is_one_printable_line(value):
    with pytest.raises(PluginError, match="LossSpec 'A': masking: expected one printable line of at most 1000"):
        LossSpec("A", "a:A", masking=value)


@pytest.mark.parametrize("text", ["", "x" * 1000, "K\u00fcstner's loss, \u03b1 = 0.5"])
def test_a_summary_may_be_empty_long_or_in_any_script(text):
    assert LossSpec("A", "a:A", summary=text).summary == text


@pytest.mark.parametrize("spec_type", KINDS)
@pytest.mark.parametrize("name", ["x" * 101, "\u202eLoss", "A\x1b", "A\u200b"])
def test_a_name_is_printable_and_not_endless(spec_type, name):
    for fields in ({"name": name}, {"aliases": (name,)}):
        with pytest.raises(PluginError, match=r"expected at most 100 letters, digits"):
            make(spec_type, **fields)


@pytest.mark.parametrize("dotted", ["", "a b", "a:b", "a..b", ".a", "a\x1b.b", "1a"])
@pytest.mark.parametrize("spec_type", KINDS)
def test_a_further_target_is_a_dotted_path(spec_type, dotted):
    with pytest.raises(PluginError, match=r"targets: expected 'package\.module\.Attribute', found"):
        make(spec_type, targets=(dotted,))


@pytest.mark.parametrize(("spec_type", "field"), [*((kind, "hidden") for kind in KINDS), (LossSpec, "tensors")])
def test_a_parameter_is_an_identifier(spec_type, field):
    with pytest.raises(PluginError, match=f"{field}: expected the name of a parameter, found 'a b'"):
        make(spec_type, **{field: ("a b",)})


@pytest.mark.parametrize("field", ["wrap", "example_args", "exceptions"])
@pytest.mark.parametrize("value", [None, 5, "text", [("a", "b")], {1: "b"}, {None: "b"}, str], ids=repr)
def test_options_are_a_mapping_by_text(field, value):
    with pytest.raises(PluginError, match=f"LossSpec 'A': {field}: expected a mapping"):
        LossSpec("A", "a:A", **{field: value})


def test_a_reason_for_an_exception_is_text():
    with pytest.raises(PluginError, match=r"exceptions: expected a mapping of strings to strings"):
        LossSpec("A", "a:A", exceptions={"norm": None})


@pytest.mark.parametrize("field", ["example", "nothing"])
@pytest.mark.parametrize("value", [5, "", "a.b", ("a:b",)], ids=repr)
def test_a_batch_is_a_target(field, value):
    with pytest.raises(PluginError, match=rf"{field}: expected 'package\.module:function', found"):
        LossSpec("A", "a:A", **{field: value})


@pytest.mark.parametrize("key", ["pred.a\x1b", "gt.\u202ea", "gt.\0"])
def test_a_key_is_printable(key):
    with pytest.raises(PluginError, match="requires: expected"):
        PreprocessSpec("A", "a:A", requires=(key,), provides=("gt.b",))


def test_a_spec_keeps_its_own_options():
    options = {"target_dtype": "long"}
    spec = LossSpec("A", "a:A", wrap=options)
    options["target_dtype"] = "half"
    assert spec.wrap == {"target_dtype": "long"}


def test_names_may_come_from_an_iterator():
    assert LossSpec("A", "a:A", aliases=iter(["b", "c"])).aliases == ("b", "c")


@pytest.mark.parametrize("field", ["formula", "source", "url", "prediction", "ground_truth"])
@pytest.mark.parametrize("value", [None, 3, "two\nlines", "x" * 1001])
def test_a_fact_is_one_printable_line(field, value):
    with pytest.raises(PluginError, match=f"LossSpec 'A': {field}: expected one printable line of at most 1000"):
        LossSpec("A", "a:A", **{field: value})


@pytest.mark.parametrize("field", ["words", "tasks"])
@pytest.mark.parametrize("value", ["segmentation", [3], [""], ["two\nlines"]])
def test_words_and_tasks_are_tuples_of_printable_words(field, value):
    with pytest.raises(PluginError, match=f"LossSpec 'A': {field}: expected "):
        LossSpec("A", "a:A", **{field: value})


@pytest.mark.parametrize("url", ["http://example.org", "example.org", "https://two words", "javascript:alert(1)"])
def test_an_address_is_https(url):
    with pytest.raises(PluginError, match="LossSpec 'A': url: expected an address that begins with 'https://'"):
        LossSpec("A", "a:A", url=url)


def test_a_field_is_taken_up_to_its_bound():
    fields = {"words": ("x" * 1000,), "tasks": ("x" * 1000,), "formula": "x" * 1000, "ground_truth": "x" * 1000}
    spec = LossSpec("x" * 100, "a:" + "A" * 998, url="https://" + "x" * 992, **fields)
    assert {name: getattr(spec, name) for name in fields} == fields
    with pytest.raises(PluginError, match="target: expected"):
        LossSpec("A", "a:" + "A" * 999)


@pytest.mark.parametrize("package", [None, "monai", "monai>=1.5", "monai[all]>=1,<2"])
def test_a_requirement_is_taken(package):
    assert LossSpec("A", "a:A", package=package).package == package


@pytest.mark.parametrize(
    ("masking", "reason"),
    [("", ""), ("pixels; with a count", ""), ("no: it ranks pairs", "it ranks pairs"), ("nothing: no", "")],
)
def test_why_a_loss_takes_no_mask_is_what_follows_no(masking, reason):
    assert LossSpec("A", "a:A", masking=masking).unmasked == reason


def test_a_promise_is_one_that_is_known():
    promises = ("permutable", "mean_of_samples")
    assert LossSpec("A", "a:A", capabilities=promises).capabilities == promises
    with pytest.raises(PluginError, match="capabilities: expected permutable or mean_of_samples, found 'fast'"):
        LossSpec("A", "a:A", capabilities=("permutable", "fast"))


@pytest.mark.parametrize("spec_type", KINDS)
def test_a_copy_has_every_field_and_is_checked_again(spec_type):
    spec = make(spec_type, aliases=("a",), targets=("b.c",), summary="one line", hidden=("d",), words=("e",))
    assert spec_type.copy_of(spec) == spec
    object.__setattr__(spec, "summary", "two\nlines")
    with pytest.raises(PluginError, match="summary: expected one printable line"):
        spec_type.copy_of(spec)
