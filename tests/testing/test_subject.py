"""The loss under test: made anew each time with the same numbers, whatever it is given as."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import lossreg
from lossreg import LossSpec, LossWrapper
from lossreg.errors import PluginError
from lossreg.losses.nested import mapped
from lossreg.testing.subject import close, floating, gradients, imported, subject_of, tensors


class Offset(nn.Module):
    """The absolute difference from a random offset."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.rand(()))

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target - self.offset).abs().mean()


def mean_error(pred: Tensor, target: Tensor, power: int = 1) -> Tensor:
    return (pred - target).abs().pow(power).mean()


def test_what_a_subject_is_told_of_each_kind() -> None:
    lossreg.register("Offset")(Offset)
    subjects = {
        "name": subject_of("Offset"),
        "spec": subject_of(LossSpec("L1Loss", "torch.nn:L1Loss")),
        "class": subject_of(Offset),
        "function": subject_of(mean_error),
        "object": subject_of(Offset()),
    }
    assert {key: (s.name, s.registered, s.entry is None) for key, s in subjects.items()} == {
        "name": ("local/Offset", True, False),
        "spec": ("L1Loss", False, False),
        "class": ("Offset", False, False),
        "function": ("mean_error", False, False),
        "object": ("Offset", False, True),
    }
    assert all(isinstance(subject.loss(), LossWrapper) for subject in subjects.values())


def test_each_loss_is_new_and_random_numbers_are_the_same_and_the_callers_go_on() -> None:
    subject = subject_of(Offset)
    torch.manual_seed(5)
    first, second = subject.loss(), subject.loss()
    assert first is not second
    assert torch.equal(first.loss_func.offset, second.loss_func.offset)
    after = torch.rand(())
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(()))


def test_fields_replace_those_that_are_declared() -> None:
    pred, gt = subject_of(mean_error).batch()
    squares = (pred["seg"] - gt["gt_polygons_image"]).square().mean()
    assert close(subject_of(mean_error, example_args={"power": 2}).value(), squares)


def test_a_batch_is_new_and_its_predictions_are_leaves() -> None:
    subject = subject_of(nn.MSELoss)
    pred, gt = subject.batch()
    again, _ = subject.batch()
    assert pred["seg"] is not again["seg"]
    assert torch.equal(pred["seg"], again["seg"])
    assert (pred["seg"].shape, list(gt)) == ((2, 3, 8, 8), ["gt_polygons_image"])
    assert pred["seg"].requires_grad
    assert not gt["gt_polygons_image"].requires_grad
    doubled, _ = subject.batch(pred=lambda t: 2 * t)
    assert torch.equal(doubled["seg"], 2 * pred["seg"])
    assert doubled["seg"].is_leaf
    assert subject.samples() == 2


def test_the_example_is_a_function_a_name_or_a_pair() -> None:
    pair = ({"seg": torch.ones(1, 1, 2, 2)}, {"gt_polygons_image": torch.zeros(1, 1, 2, 2)})
    for example in (pair, lambda: pair):
        assert subject_of(nn.MSELoss, example).value() == 1.0
    assert imported("torch.nn:L1Loss") is nn.L1Loss
    assert imported("torch.nn:L1Loss.forward") is nn.L1Loss.forward
    for missing in ("no_such_module:a", "torch.nn:NoSuchLoss", "torch.nn:L1Loss.no_such_method"):
        with pytest.raises(PluginError, match=f"'{missing}' cannot be imported"):
            imported(missing)


def test_gradients_of_what_is_not_used_are_zeros() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    found = gradients(3 * used.sum(), ({"a": used, "b": unused, "c": torch.ones(1)}, {}))
    assert [g.tolist() for g in found] == [[3.0, 3.0], [0.0, 0.0, 0.0]]


def test_batches_are_mapped_and_listed_tensor_by_tensor() -> None:
    batch = {"a": torch.ones(1), "n": [torch.ones(1, dtype=torch.int64), (torch.ones(2),)], "name": "x"}
    halves = mapped(batch, floating(torch.float16))
    expected = [torch.float16, torch.int64, torch.float16, torch.float32]
    assert [t.dtype for t in tensors(halves, torch.ones(1))] == expected
    assert halves["name"] == "x"


def test_values_are_close_within_the_tolerance_whatever_their_dtypes() -> None:
    assert close(torch.tensor(1.0), torch.tensor(1.00009, dtype=torch.float64))
    assert not close(torch.tensor(1.0), torch.tensor(1.0002))
    assert close(torch.tensor(1.0), torch.tensor(1.05), tolerance=0.1)
