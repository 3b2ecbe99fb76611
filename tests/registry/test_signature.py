"""Signatures read from imported objects: their arguments, their docstrings, and what spoils neither."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from lossreg.registry.params import check, parameters
from lossreg.registry.signature import signature_of


def test_the_docstring_of_a_constructor_counts():
    class Loss:
        """A loss."""

        def __init__(self, alpha=1):
            """Make it.

            Args:
                alpha: the power.
            """

    assert parameters(Loss)[0].doc == "the power."


def test_of_a_function_the_options_are_read_and_not_the_tensors():
    def focal(pred: Tensor, target: Tensor, alpha: float = 0.25, *, reduction: str = "mean") -> Tensor:
        return pred

    assert [p.name for p in parameters(focal)] == ["alpha", "reduction"]
    assert [p.name for p in parameters(functools.partial(focal, alpha=1))] == ["alpha", "reduction"]
    assert not signature_of(focal).open_ended


@pytest.mark.parametrize("target", [object, dict, print, torch.add, 5, None, type, nn.functional.mse_loss])
def test_what_has_no_signature_worth_the_name_is_read_without_a_fuss(target):
    assert list(check(parameters(target), {}, open_ended=signature_of(target).open_ended)) == []


@pytest.mark.parametrize("made", [nn.HuberLoss(delta=0.3), nn.Sequential()])
def test_a_module_that_is_built_already_takes_no_parameters(made):
    assert parameters(made) == []
    assert not signature_of(made).open_ended
    assert [misfit.path for misfit in check(parameters(made), {"delta": 1.0})] == [("delta",)]


def test_a_dataclass_with_written_out_annotations_is_read():
    @dataclass
    class Ramp:
        start: float
        end: float = 1.0
        names: tuple[str, ...] = ()

    assert [(p.name, p.annotation) for p in parameters(Ramp)] == [
        ("start", "float"),
        ("end", "float"),
        ("names", "list[str]"),
    ]


def test_annotations_that_are_text_are_read_of_a_partial_function_and_of_new(packages):
    source = """
    from __future__ import annotations
    import functools

    def huber(pred, target, delta: float = 1.0, power: int = 1):
        return pred

    part = functools.partial(functools.partial(huber, delta=2.0), power=2)

    class New:
        def __new__(cls, p: float = 2.0):
            return object()

    of_a_class = functools.partial(New, p=3.0)
    """
    packages.add("acme", modules={"acme_losses.py": source})
    import acme_losses

    assert [(p.name, p.annotation) for p in parameters(acme_losses.part)] == [("delta", "float"), ("power", "int")]
    for target in (acme_losses.New, acme_losses.of_a_class):
        assert [(p.name, p.annotation) for p in parameters(target)] == [("p", "float")]


def test_one_name_that_only_the_type_checker_knows_spoils_no_other(packages):
    source = """
    from __future__ import annotations
    from typing import TYPE_CHECKING, Optional

    if TYPE_CHECKING:
        from torch import Tensor

    class Loss:
        def __init__(self, alpha: float = 0.5, w: Tensor | None = None, power: Optional[int] = 2):
            pass
    """
    packages.add("acme", modules={"acme_losses.py": source})
    import acme_losses

    found = parameters(acme_losses.Loss)
    assert [(p.name, p.annotation, p.settable) for p in found] == [
        ("alpha", "float", True),
        ("w", "'Tensor | None'", False),
        ("power", "int | None", True),
    ]
    assert not list(check(found, {"alpha": 1.0, "power": None}))
    assert [p.path for p in check(found, {"alpha": "x", "power": 1.5})] == [("alpha",), ("power",)]
