"""Parameters of components, read from signatures, and checks of config values against them."""

from __future__ import annotations

import enum
import functools
import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, Union

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from torch import Tensor, nn

from lossreg.registry.params import check, parameters
from lossreg.registry.signature import REQUIRED, signature_of


def of(annotation, default=REQUIRED):
    """The parameters of a class whose only one has this annotation."""

    class Component:
        def __init__(self, value):
            pass

    Component.__init__.__annotations__ = {} if annotation is REQUIRED else {"value": annotation}
    Component.__init__.__defaults__ = () if default is REQUIRED else (default,)
    return parameters(Component)


def problems(target, values, **options):
    return [(p.path, p.kind) for p in check(parameters(target), values, **options)]


def fits(annotation, value):
    return not list(check(of(annotation), {"value": value}))


# --- reading ----------------------------------------------------------------------------------------


class Documented(nn.Module):
    """A loss.

    Args:
        name: the term's name.
        alpha: weight of the rare class, in [0, 1];
            more is more.
        mode (str): which way.
    """

    def __init__(
        self,
        name: str,
        alpha: float = 0.25,
        mode: Literal["mean", "sum"] = "mean",
        *,
        weight: Tensor | None = None,
        callback: Callable[[Tensor], Tensor] = torch.abs,
        sizes: Sequence[int] = (1, 2),
        anything=None,
        **options: Any,
    ) -> None:
        super().__init__()


def test_a_signature_is_read_in_its_order():
    found = parameters(Documented)
    assert [(p.name, p.annotation, p.default, p.settable) for p in found] == [
        ("name", "str", REQUIRED, True),
        ("alpha", "float", 0.25, True),
        ("mode", "'mean' | 'sum'", "mean", True),
        ("weight", "torch.Tensor | None", None, False),
        ("callback", found[4].annotation, torch.abs, False),
        ("sizes", "list[int]", (1, 2), True),
        ("anything", "", None, True),
    ]
    assert [p.required for p in found] == [True, False, False, False, False, False, False]
    assert signature_of(Documented).open_ended


def test_its_docstring_is_read_too():
    docs = {p.name: p.doc for p in parameters(Documented)}
    assert docs["name"] == "the term's name."
    assert docs["alpha"] == "weight of the rare class, in [0, 1]; more is more."
    assert docs["mode"] == "which way."
    assert docs["sizes"] == ""


@pytest.mark.parametrize(
    ("listed", "default", "shown"),
    [
        ("how: ``'mean'`` | ``'sum'``. ``'mean'``: the mean", "mean", "'mean' | 'sum'"),  # torch, kornia, torchvision
        ('{``"none"``, ``"mean"``, ``"sum"``} how', "mean", "'none' | 'mean' | 'sum'"),  # MONAI
        ("'binary', 'multiclass' or 'multi-label'", REQUIRED, "'binary' | 'multiclass' | 'multi-label'"),
        ("`mean`, or `sum`", "sum", "'mean' | 'sum'"),
        ("one of 'a' | 'b', else 'c'", "c", "str"),
        ("the mean. Default: ``'mean'``", "mean", "str"),
        ("as `input` or `target` has it", "mean", "str"),
    ],
)
def test_choices_that_the_docstring_lists_are_shown(listed, default, shown):
    class Component:
        def __init__(self, reduction: str):
            pass

    Component.__init__.__defaults__ = () if default is REQUIRED else (default,)
    Component.__doc__ = f"A loss.\n\n    Args:\n        reduction: {listed}\n    "
    (found,) = parameters(Component)
    assert found.annotation == shown
    told = [(misfit.kind, misfit.expected) for misfit in check([found], {"reduction": "maen"})]
    assert told == ([] if shown == "str" else [("choice", found.narrowed.words)])
    taken = shown.split(" | ") if told else []
    assert not [choice for choice in taken if list(check([found], {"reduction": choice.strip("'")}))]
    assert [misfit.kind for misfit in check([found], {"reduction": 1})] == ["type"]


def test_lines_among_the_arguments_that_begin_none_are_no_obstacle():
    def loss(prediction, target, alpha: float = 1, mode: str = "a"):
        """A loss.

        Args:
            ``mode`` is for experts.
            Leave it alone.

            alpha: the share.
            It is a number.
            mode (str): the mode.
        """

    found = {parameter.name: parameter.doc for parameter in parameters(loss) if not parameter.required}
    assert found == {"alpha": "the share. It is a number.", "mode": "the mode."}


def test_hidden_parameters_are_left_out():
    assert [p.name for p in parameters(Documented, hidden=("alpha", "callback", "weight"))] == [
        "name",
        "mode",
        "sizes",
        "anything",
    ]


def test_parameters_of_tensors_are_lists_of_numbers():
    found = parameters(nn.CrossEntropyLoss, tensors=("weight",))
    weight = next(p for p in found if p.name == "weight")
    assert weight.settable
    assert not list(check(found, {"weight": [0.2, 0.8]}))
    assert not list(check(found, {"weight": None, "ignore_index": -1}))
    assert [p.path for p in check(found, {"weight": ["a"]})] == [("weight",)]
    assert [p.path for p in check(parameters(nn.CrossEntropyLoss), {"weight": [0.2]})] == [("weight",)]


def test_every_loss_of_torch_can_be_read():
    for name in dir(nn):
        target = getattr(nn, name)
        if name.endswith("Loss") and isinstance(target, type):
            found = parameters(target)
            defaults = {p.name: p.default for p in found if p.settable and not p.required}
            assert [(p.path, p.kind) for p in check(found, defaults)] == [
                ((p.name,), "missing") for p in found if p.required
            ], name


class Colour(enum.Enum):
    RED = 1


Any_T = typing.TypeVar("Any_T")


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (REQUIRED, ""),
        (Any, ""),
        (object, ""),
        (int, "int"),
        (None, "None"),
        (bool | None, "bool | None"),
        (Optional[float], "float | None"),  # noqa: UP045
        (Union[int, str], "int | str"),  # noqa: UP007
        (int | Tensor, "int"),
        (list, "list[Any]"),
        (tuple, "list[Any]"),
        (dict, "dict[str, Any]"),
        (Sequence, "list[Any]"),
        (Iterable, "list[Any]"),
        (Mapping, "dict[str, Any]"),
        (typing.List, "list[Any]"),  # noqa: UP006
        (typing.Tuple, "list[Any]"),  # noqa: UP006
        (typing.Dict, "dict[str, Any]"),  # noqa: UP006
        (typing.Sequence, "list[Any]"),
        (typing.List[int], "list[int]"),  # noqa: UP006
        (list[list[float]], "list[list[float]]"),
        (tuple[int, ...], "list[int]"),
        (tuple[int, str], "tuple[int, str]"),
        (Mapping[str, float], "dict[str, float]"),
        (dict[str, list[int] | None], "dict[str, list[int] | None]"),
        (Literal["a", 1, None], "'a' | 1 | None"),
        (Annotated[float, Field(ge=0, le=1)], "float"),
        (Annotated[int, "a note"] | None, "int | None"),
    ],
)
def test_plain_annotations_can_be_set(annotation, text):
    (parameter,) = of(annotation)
    assert (parameter.annotation, parameter.settable) == (text, True)
    json.dumps(parameter.schema())


@pytest.mark.parametrize(
    "annotation",
    [
        Tensor,
        Tensor | None,
        nn.Module,
        Callable,
        Callable[[int], int],
        Callable[..., Any],
        list[Tensor],
        dict[str, nn.Module],
        tuple[Tensor, int],
        type,
        type[int],
        torch.dtype,
        Colour,
        bytes,
        complex,
        Any_T,
        "Tensor",
        "NotThereAtAll",
    ],
)
def test_objects_cannot(annotation):
    (parameter,) = of(annotation)
    assert not parameter.settable
    (problem,) = check([parameter], {"value": 1})
    assert (problem.path, problem.kind, problem.fix) == (("value",), "type", "leave value out")


# --- validation -------------------------------------------------------------------------------------


class Strict:
    def __init__(
        self,
        alpha: float,
        count: int = 1,
        mode: Literal["mean", "sum"] = "mean",
        on: bool = False,
        name: str | None = None,
        sizes: list[int] | int = 1,
        table: dict[str, list[float]] | None = None,
    ) -> None:
        pass


def test_values_that_fit_raise_no_problem():
    assert not problems(Strict, {"alpha": 1})
    assert not problems(Strict, {"alpha": 1.5, "count": 2, "mode": "sum", "on": True, "name": None, "sizes": [1, 2]})
    assert not problems(Strict, {"alpha": float("inf"), "sizes": 3, "table": {"a": [1, 2.5], "b": []}})


@pytest.mark.parametrize(
    ("values", "path", "kind", "expected"),
    [
        ({}, ("alpha",), "missing", "a number"),
        ({"alpha": 1, "beta": 2}, ("beta",), "unknown", "one of alpha, count, mode, on, name, sizes, table"),
        ({"alpha": "1"}, ("alpha",), "type", "a number"),
        ({"alpha": True}, ("alpha",), "type", "a number"),
        ({"alpha": None}, ("alpha",), "type", "a number"),
        ({"alpha": 1, "count": 1.0}, ("count",), "type", "an integer"),
        ({"alpha": 1, "count": True}, ("count",), "type", "an integer"),
        ({"alpha": 1, "on": 1}, ("on",), "type", "true or false"),
        ({"alpha": 1, "on": "yes"}, ("on",), "type", "true or false"),
        ({"alpha": 1, "mode": "none"}, ("mode",), "choice", "'mean' or 'sum'"),
        ({"alpha": 1, "name": 5}, ("name",), "type", "a text"),
        ({"alpha": 1, "name": "\ud800"}, ("name",), "type", "a text"),
        ({"alpha": 1, "sizes": "abc"}, ("sizes",), "type", "a list of integers or an integer"),
        ({"alpha": 1, "sizes": [1, "b"]}, ("sizes", 1), "type", "an integer"),
        ({"alpha": 1, "table": {"a": [1, "x"]}}, ("table", "a", 1), "type", "a number"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(values, path, kind, expected):
    (found,) = check(parameters(Strict), values)
    assert (found.path, found.kind, found.expected) == (path, kind, expected)
    assert found.fix or found.choices


def test_all_problems_come_at_once():
    found = problems(Strict, {"count": "x", "on": 2, "gamma": 1})
    assert {path[0] for path, _ in found} == {"alpha", "count", "on", "gamma"}


def test_with_options_of_its_own_a_component_takes_unknown_names():
    found = problems(
        Documented, {"name": "a", "whatever": [1], "alpha": "x"}, open_ended=signature_of(Documented).open_ended
    )
    assert found == [(("alpha",), "type")]


def test_constraints_of_an_annotation_hold():
    class Bounded:
        def __init__(self, alpha: Annotated[float, Field(ge=0, le=1)] = 0.5):
            pass

    assert not problems(Bounded, {"alpha": 1})
    assert problems(Bounded, {"alpha": "x"}) == [(("alpha",), "type")]
    (found,) = check(parameters(Bounded), {"alpha": 1.5})
    assert (found.path, found.kind, found.expected) == (("alpha",), "range", "less than or equal to 1")
    assert parameters(Bounded)[0].schema()["maximum"] == 1


@pytest.mark.parametrize(
    "name", ["model_config", "schema", "json", "copy", "_alpha", "model_fields", "self_", "lambda_"]
)
def test_any_name_may_be_a_parameter(name):
    namespace = {}
    exec(f"class Loss:\n    def __init__(self, {name}: int = 1): pass", namespace)
    assert not problems(namespace["Loss"], {name: 2})
    assert problems(namespace["Loss"], {name: "x"}) == [((name,), "type")]


def test_what_is_no_plain_data_is_a_problem_and_no_exception():
    assert problems(Strict, {"alpha": torch.ones(1)}) == [(("alpha",), "type")]
    assert problems(Documented, {"name": "a", "anything": [torch.ones(1)]}) == [(("anything", 0), "type")]


def test_the_json_schema_says_what_a_config_may_hold():
    schemas = {p.name: p.schema() for p in parameters(Strict)}
    assert {"enum": ["mean", "sum"]} in schemas["mode"]["anyOf"]
    assert schemas["count"] == {"$ref": "#/$defs/integer", "default": 1}
    assert "default" not in schemas["alpha"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.integers(-(2**63), 2**63) | st.floats()
TYPES = {
    "int": (int, st.integers()),
    "float": (float, NUMBERS),
    "bool": (bool, st.booleans()),
    "str": (str, st.text(st.characters(codec="utf-8"))),
    "none": (type(None), st.none()),
    "literal": (Literal["a", "b"], st.sampled_from(["a", "b"])),
    "any": (Any, JSON),
    "list[int]": (list[int], st.lists(st.integers())),
    "tuple": (tuple[int, str], st.tuples(st.integers(), st.text(max_size=3))),
    "dict[str, float]": (dict[str, float], st.dictionaries(st.text(max_size=3), NUMBERS)),
}


@given(names=st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=3), data=st.data())
def test_a_value_of_a_union_fits_it(names, data):
    union = functools.reduce(lambda a, b: Union[a, b], (TYPES[n][0] for n in names))  # noqa: UP007
    value = data.draw(TYPES[data.draw(st.sampled_from(names))][1])
    assert fits(union, value)


def is_a(value, name):
    """Plain Python's answer to whether a JSON value is of a type."""
    return {
        "int": type(value) is int,
        "float": type(value) in (int, float),
        "bool": type(value) is bool,
        "str": type(value) is str,
        "none": value is None,
        "literal": value in ("a", "b") if isinstance(value, str) else False,
        "any": True,
        "list[int]": isinstance(value, list) and all(type(item) is int for item in value),
        "tuple": isinstance(value, list) and len(value) == 2 and type(value[0]) is int and type(value[1]) is str,
        "dict[str, float]": isinstance(value, dict) and all(type(v) in (int, float) for v in value.values()),
    }[name]


@given(name=st.sampled_from(sorted(TYPES)), value=JSON)
def test_a_value_fits_exactly_where_it_is_of_the_type(name, value):
    assert fits(TYPES[name][0], value) == is_a(value, name)


@given(st.dictionaries(st.text(max_size=6) | st.sampled_from(["alpha", "count", "sizes"]), JSON, max_size=4))
def test_any_mapping_is_checked_without_an_exception(values):
    found = problems(Strict, values)
    assert {path[0] for path, _ in found} <= {*values, "alpha"}
    assert all(kind for _, kind in found)
    assert {(name,) for name in set(values) - {p.name for p in parameters(Strict)}} <= {path for path, _ in found}
