"""The notes on an exception from a loss."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossreg import Loss, LossWrapper, MultiLoss, Preprocess
from lossreg.losses.deep_supervision import DeepSupervision

LOGITS = torch.zeros(2, 3, 4, 4)
OUT_OF_RANGE = torch.full((2, 4, 4), 9)
SHAPES = r"given pred\.seg float32 \(2, 3, 4, 4\) on cpu, gt\.mask int64 \(2, 4, 4\) on cpu"


class Failing(Loss):
    """A loss that raises a given exception."""

    requires = ("pred.seg", "gt.mask")

    def __init__(self, error: Exception, name: str = "failing") -> None:
        super().__init__(name)
        self.error = error

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        raise self.error


def cross_entropy(name: str = "ce") -> LossWrapper:
    return LossWrapper(nn.CrossEntropyLoss(), name, pred_key="seg", gt_key="mask")


def raised(call: Callable[..., Any], *arguments: Any, **options: Any) -> Exception:
    with pytest.raises(Exception) as info:  # noqa: PT011 (whatever the loss raises)
        call(*arguments, **options)
    return info.value


def only_note(error: Exception) -> str:
    notes: list[str] = error.__notes__
    assert len(notes) == 1
    return notes[0]


BATCH = ({"seg": LOGITS, "other": LOGITS}, {"mask": OUT_OF_RANGE})


@pytest.mark.parametrize("error", [ValueError("a"), RuntimeError("b"), KeyError("c"), AssertionError()])
def test_any_exception_names_the_term_its_loss_and_its_tensors(error: Exception) -> None:
    found = raised(Failing(error), *BATCH)
    assert found is error
    assert only_note(found).startswith(
        "in term 'failing' (tests.losses.test_notes.Failing), given pred.seg float32 (2, 3, 4, 4)"
    )


def test_an_error_of_a_library_names_term_loss_keys_shapes_and_dtypes() -> None:
    error = raised(cross_entropy(), *BATCH)
    assert isinstance(error, IndexError)
    assert str(error) == "Target 9 is out of bounds."
    expected = rf"in term 'ce' \(torch\.nn\.modules\.loss\.CrossEntropyLoss\), {SHAPES}"
    assert re.fullmatch(expected, only_note(error))


def test_a_key_that_another_stands_in_for_is_told() -> None:
    wrapper = LossWrapper(Failing(ValueError("'gt.mask' has no label")), "outer", gt_key="truth")
    notes = raised(wrapper, {"seg": LOGITS}, {"truth": OUT_OF_RANGE}).__notes__
    assert notes[0].startswith("in term 'outer'")
    assert notes[1:] == ["'gt.mask' of the loss is 'gt.truth' of the batch"]
    same = LossWrapper(Failing(ValueError("'gt.mask' has no label")), "outer", gt_key="mask")
    assert len(raised(same, *BATCH).__notes__) == 1
    silent = LossWrapper(Failing(ValueError("no label")), "outer", gt_key="truth")
    assert len(raised(silent, {"seg": LOGITS}, {"truth": OUT_OF_RANGE}).__notes__) == 1


def test_bare_tensors_and_what_is_no_batch_are_told_too() -> None:
    assert "given pred float32 (2, 3, 4, 4) on cpu, gt int64 (2, 4, 4)" in only_note(
        raised(cross_entropy(), LOGITS, OUT_OF_RANGE)
    )
    assert only_note(raised(cross_entropy(), [1], None)).endswith("given pred list")


@pytest.mark.parametrize("call", ["forward", "update_norm"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_term_is_named_by_its_whole_path(call: str, depth: int) -> None:
    criterion = MultiLoss([cross_entropy()], [1.0])
    for level in range(depth):
        criterion.name = f"group{level}"
        criterion = MultiLoss([criterion, LossWrapper(nn.L1Loss(), "l1")], [1.0, 1.0])
    arguments = (*BATCH, 2) if call == "update_norm" else BATCH
    path = "/".join([f"group{level}" for level in reversed(range(depth))] + ["ce"])
    error = raised(getattr(criterion, call), *arguments)
    assert only_note(error).startswith(f"in term {path!r} (torch.nn.modules.loss.CrossEntropyLoss), given pred.seg")


def test_a_loss_around_a_loss_gives_its_own_name_once() -> None:
    outer = LossWrapper(Failing(ValueError("a")), "outer")
    assert only_note(raised(outer, *BATCH)).startswith(
        "in term 'outer' (tests.losses.test_notes.Failing), given pred.seg"
    )


def test_deep_supervision_tells_which_output_failed() -> None:
    loss = DeepSupervision(cross_entropy(), "seg")
    outputs = [torch.zeros(2, 12, 4, 4), torch.zeros(2, 3, 2, 2)]
    note = only_note(raised(loss, {"seg": outputs}, {"mask": OUT_OF_RANGE}))
    assert "pred.seg float32 (2, 3, 2, 2) on cpu, gt.mask int64 (2, 2, 2) on cpu" in note


class Distances(Preprocess):
    """A preprocess that fails."""

    requires = ("gt.mask",)
    provides = ("gt.distances",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
        raise ValueError("no polygon")


def undeclared(pred_batch: Any, gt_batch: Any) -> Any:
    raise ValueError("no polygon")


@pytest.mark.parametrize(
    ("function", "note"),
    [
        (Distances(), "in preprocess 'Distances', given gt.mask int64 (2, 4, 4) on cpu"),
        (undeclared, "in preprocess 'undeclared', given pred.seg float32 (2, 3, 4, 4) on cpu"),
    ],
)
def test_an_error_of_a_preprocess_names_it(function: Any, note: str) -> None:
    loss = LossWrapper(nn.L1Loss(), "l1", pred_key="seg", gt_key="distances")
    error = raised(MultiLoss([loss], [1.0], pre_processes=[function]), {"seg": LOGITS}, {"mask": OUT_OF_RANGE})
    assert note in only_note(error)


def test_long_batches_are_cut() -> None:
    pred = {f"k{i}": torch.zeros(1) for i in range(30)}
    note = only_note(raised(LossWrapper(nn.L1Loss(), "l1"), pred, {"a": torch.zeros(1)}))
    assert "pred.k7 float32 (1,) on cpu, 22 more keys of pred" in note
    assert "k8" not in note


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_the_error_can_be_copied_and_crosses_processes(copied: Callable[[Exception], Exception]) -> None:
    error = raised(MultiLoss([cross_entropy()], [1.0]), *BATCH)
    other = copied(error)
    assert type(other) is IndexError
    assert list(other.__notes__) == error.__notes__
    assert "in term 'ce'" in "".join(traceback.format_exception_only(other))


def test_a_derivative_where_gradients_are_off_is_told_what_to_declare() -> None:
    def slope(pred: Tensor, x: Tensor) -> Tensor:
        return torch.autograd.grad(pred.sum(), x, create_graph=True)[0].square().mean()

    x = torch.ones(2, requires_grad=True)
    loss = LossWrapper(slope, "slope", inputs=["pred.u", "pred.x"])
    with torch.no_grad():
        error = raised(loss, {"u": x * 2, "x": x}, {})
    assert any("needs_grad" in note for note in error.__notes__)
