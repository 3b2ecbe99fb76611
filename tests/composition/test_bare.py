"""A bare tensor is a batch like a mapping: the same nodes, the same checks, the same numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossreg
from lossreg import Loss, LossWrapper, MultiLoss, Preprocess, calibrate_norms, diagnose
from lossreg.errors import MissingKeyError


class Distance(Loss):
    """Mean distance of `pred.x` and a target of a chosen key."""

    def __init__(self, name: str, gt: str = "mask", pred: str = "x") -> None:
        super().__init__(name)
        self.requires = (f"pred.{pred}", f"gt.{gt}")

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        pred, gt = (self.read(pred_batch, gt_batch, key) for key in self.requires)
        return (pred - gt).abs().mean()


class Half(Preprocess):
    requires, provides = ("gt.mask",), ("gt.half",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
        return {"gt.half": gt_batch["mask"] / 2}


def sigmoid(pred: Any, gt: Any) -> tuple[Any, Any]:
    return pred.sigmoid(), gt


PRED, GT = torch.tensor([[4.0, 8.0]]), torch.tensor([[1.0, 2.0]])
PAIRS = [(PRED, GT), ({"x": PRED}, GT), (PRED, {"mask": GT}), ({"x": PRED}, {"mask": GT})]
KINDS = ["bare", "bare_target", "bare_prediction", "mappings"]
SQUARED = (1 / (1 + math.exp(-4.0)) - 1.0) ** 2  # 0.00032


# --- functions that declare nothing ---------------------------------------------------------------


def squared(**options: Any) -> MultiLoss:
    return MultiLoss([LossWrapper(nn.MSELoss(), "m")], [1.0], pre_processes=[sigmoid], **options)


X, Y = torch.tensor([[4.0]]), torch.tensor([[1.0]])


def test_a_function_gets_the_bare_tensors() -> None:
    assert squared()(X, Y)[0].item() == pytest.approx(SQUARED, rel=1e-5)


def test_the_vector_of_terms_is_of_what_it_made() -> None:
    assert squared().weighted_terms(X, Y).tolist() == pytest.approx([SQUARED], rel=1e-5)


def test_a_norm_is_of_what_it_made() -> None:
    criterion = squared()
    criterion.update_norm(X, Y, 3)
    assert criterion.loss_funcs[0].norm.item() == pytest.approx(SQUARED, rel=1e-5)


def test_a_calibrated_norm_is_of_what_it_made() -> None:
    criterion = squared()
    calibrate_norms(criterion, nn.Identity(), [(X, Y)], min_samples=1, progress=False)
    assert criterion.loss_funcs[0].norm.item() == pytest.approx(SQUARED, rel=1e-5)


def test_a_diagnosis_is_of_what_it_made() -> None:
    x = X.clone().requires_grad_()
    diagnosis = diagnose(squared(), x, Y, [x])
    s = 1 / (1 + math.exp(-4.0))
    assert diagnosis.terms[0].value == pytest.approx(SQUARED, rel=1e-5)
    assert diagnosis.terms[0].gradient_norm == pytest.approx(abs(2 * (s - 1) * s * (1 - s)), rel=1e-4)


def test_each_side_comes_as_it_came() -> None:
    seen: list[tuple[type, type]] = []

    def look(pred: Any, gt: Any) -> tuple[Any, Any]:
        seen.append((type(pred), type(gt)))
        return pred, gt

    criterion = MultiLoss([Distance("a")], [1.0], pre_processes=[look])
    assert [criterion(*pair)[0].item() for pair in PAIRS] == [4.5] * 4
    assert seen == [(Tensor, Tensor), (dict, Tensor), (Tensor, dict), (dict, dict)]


def test_a_function_may_make_mappings_of_bare_tensors() -> None:
    def split(pred: Tensor, gt: Tensor) -> tuple[Any, Any]:
        return {"x": pred[:, 0]}, {"mask": gt[:, 0]}

    assert MultiLoss([Distance("a")], [1.0], pre_processes=[split])(PRED, GT)[0] == 3.0


def test_outputs_in_a_list_come_as_a_list_and_the_callers_is_left_alone() -> None:
    def last(pred: Any, gt: Any) -> tuple[Any, Any]:
        return pred.pop(), gt

    outputs = [PRED * 0, PRED]
    assert MultiLoss([Distance("a")], [1.0], pre_processes=[last])(outputs, GT)[0] == 4.5
    assert len(outputs) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
def test_compiled_a_function_gets_the_bare_tensors() -> None:
    torch._dynamo.reset()
    criterion = squared()
    criterion.compile(fullgraph=True, backend="eager")
    assert criterion(X, Y)[0].item() == pytest.approx(SQUARED, rel=1e-5)


def test_an_error_of_a_function_tells_all_that_it_was_given() -> None:
    def fail(pred: Any, gt: Any) -> tuple[Any, Any]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        MultiLoss([Distance("a")], [1.0], pre_processes=[fail])(PRED, {"mask": GT, "id": GT[0].long()})
    assert raised.value.__notes__ == [
        "in preprocess 'fail', given pred float32 (1, 2) on cpu, gt.mask float32 (1, 2) on cpu, gt.id int64 (2,) on cpu"
    ]


def test_an_error_of_a_preprocess_tells_what_it_reads() -> None:
    class Fail(Half):
        def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        MultiLoss([Distance("a", "half")], [1.0], pre_processes=[Fail()])(PRED, {"mask": GT, "other": GT})
    assert raised.value.__notes__ == ["in preprocess 'Fail', given gt.mask float32 (1, 2) on cpu"]


# --- preprocesses that declare their keys ---------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=KINDS)
def test_a_preprocess_in_the_list_runs(pair: Any) -> None:
    criterion = MultiLoss([Distance("a", "half"), Distance("b", "mask")], [1.0, 1.0], pre_processes=[Half()])
    assert criterion(*pair)[1] == {"a": torch.tensor((3.5 + 7.0) / 2), "b": torch.tensor((3.0 + 6.0) / 2)}


@pytest.mark.parametrize("pair", PAIRS, ids=KINDS)
def test_a_preprocess_and_a_function_both_run(pair: Any) -> None:
    def double(pred: Any, gt: Any) -> tuple[Any, Any]:
        return ({"x": pred["x"] * 2} if isinstance(pred, dict) else pred * 2), gt

    for order in ([Half(), double], [double, Half()]):
        criterion = MultiLoss([Distance("a", "half")], [1.0], pre_processes=order)
        assert criterion(*pair)[0].item() == (7.5 + 15.0) / 2


@pytest.mark.parametrize("pair", PAIRS, ids=KINDS)
def test_a_preprocess_of_a_group_runs(pair: Any) -> None:
    group = MultiLoss([Distance("a", "half")], [1.0], name="g", pre_processes=[Half()])
    criterion = MultiLoss([group, Distance("b", "mask")], [1.0, 1.0], pre_processes=[lambda pred, gt: (pred, gt)])
    assert criterion(*pair)[1] == {"g/a": torch.tensor(5.25), "b": torch.tensor(4.5)}


def test_a_wrapper_without_keys_still_finds_its_tensors() -> None:
    criterion = MultiLoss([LossWrapper(nn.L1Loss(), "l"), Distance("a", "half")], [1.0, 1.0], pre_processes=[Half()])
    assert criterion(PRED, GT)[1] == {"l": torch.tensor(4.5), "a": torch.tensor(5.25)}


@pytest.fixture
def registered() -> None:
    lossreg.register("Half", kind="preprocess")(Half)


def test_a_bare_target_is_the_key_that_every_batch_has(registered: None) -> None:
    criterion = MultiLoss([Distance("a", "half")], [1.0], batch_keys=["pred.x", "gt.mask"])
    assert [criterion(*pair)[0].item() for pair in PAIRS] == [5.25] * 4


def test_a_bare_target_is_what_a_term_asks_for_where_nothing_else_is_said(registered: None) -> None:
    assert MultiLoss([Distance("a", "half")], [1.0])(PRED, GT)[0] == 4.5


def test_terms_may_have_different_names_for_it() -> None:
    criterion = MultiLoss(
        [Distance("a", "mask", "x"), Distance("b", "other", "y"), Distance("c", "half")],
        [1.0] * 3,
        pre_processes=[Half()],
    )
    assert criterion(PRED, GT)[0].item() == 4.5 + 4.5 + 5.25


def test_it_cannot_stand_for_two_keys_of_a_preprocess() -> None:
    class Two(Half):
        requires = ("gt.mask", "gt.edge")

    criterion = MultiLoss([Distance("a", "half")], [1.0], pre_processes=[Two()])
    for call in (criterion, Two()):
        with pytest.raises(MissingKeyError, match=r"preprocess Two needs 'gt\.(mask|edge)'"):
            call(PRED, GT)


def test_a_preprocess_alone_takes_it_for_its_only_key() -> None:
    pred, gt = Half()(PRED, GT)
    assert pred is PRED
    assert {key: value.tolist() for key, value in gt.items()} == {"mask": [[1.0, 2.0]], "half": [[0.5, 1.0]]}


# --- optional terms -------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=KINDS)
def test_an_optional_term_of_one_key_is_there(pair: Any) -> None:
    assert list(MultiLoss([Distance("a")], [1.0], optional_terms=["a"])(*pair)[1]) == ["a"]


def test_an_optional_term_of_two_keys_of_a_side_is_not() -> None:
    class Two(Distance):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.requires = ("pred.x", "gt.mask", "gt.edge")

    assert list(MultiLoss([Distance("a"), Two("b")], [1.0, 1.0], optional_terms=["b"])(PRED, GT)[1]) == ["a"]


@pytest.mark.parametrize("pair", PAIRS, ids=KINDS)
@pytest.mark.parametrize("group", [False, True])
def test_an_optional_term_whose_key_a_function_makes_is_computed(pair: Any, group: bool) -> None:
    def make(pred: Any, gt: Any) -> tuple[Any, Any]:
        mask = gt["mask"] if isinstance(gt, dict) else gt
        return pred, {"mask": mask, "third": mask / 4}

    term = Distance("a", "third")
    losses = [MultiLoss([term], [1.0], name="g")] if group else [term]
    criterion = MultiLoss(losses, [1.0], pre_processes=[make], optional_terms=["g" if group else "a"])
    assert criterion(*pair)[0].item() == (3.75 + 7.5) / 2


def test_an_optional_term_whose_key_no_function_makes_is_not() -> None:
    criterion = MultiLoss(
        [Distance("a"), Distance("b", "third")],
        [1.0, 1.0],
        pre_processes=[lambda pred, gt: (pred, gt)],
        optional_terms=["b"],
    )
    assert list(criterion({"x": PRED}, {"mask": GT})[1]) == ["a"]


# --- None in the place of a tensor ----------------------------------------------------------------


def test_a_term_whose_key_has_none_is_absent_where_it_is_optional() -> None:
    criterion = MultiLoss([Distance("a"), Distance("b", "other")], [1.0, 1.0], optional_terms=["b"])
    total, values, _ = criterion({"x": PRED}, {"mask": GT, "other": None})
    assert (total.item(), list(values)) == (4.5, ["a"])
    total, values, _ = criterion({"x": PRED}, {"mask": GT, "other": GT})
    assert (total.item(), list(values)) == (9.0, ["a", "b"])


def test_a_term_whose_key_has_none_is_an_error_that_says_so() -> None:
    criterion = MultiLoss([Distance("a"), Distance("b", "other")], [1.0, 1.0])
    with pytest.raises(
        MissingKeyError, match=r"loss 'b' needs 'gt\.other'; 'gt\.other' is None, which counts as missing"
    ):
        criterion({"x": PRED}, {"mask": GT, "other": None})
    wrapped = LossWrapper(nn.L1Loss(), "c", gt_key="other")
    with pytest.raises(MissingKeyError, match=r"loss 'c' needs 'gt\.other'; 'gt\.other' is None"):
        wrapped({"x": PRED}, {"mask": GT, "other": None})


def test_a_key_that_has_none_is_computed_and_none_computes_nothing() -> None:
    criterion = MultiLoss([Distance("a", "half")], [1.0], pre_processes=[Half()])
    assert criterion({"x": PRED}, {"mask": GT, "half": None})[0].item() == 5.25
    assert criterion({"x": PRED}, {"mask": None, "half": GT})[0].item() == 4.5
    with pytest.raises(MissingKeyError, match=r"Half needs 'gt\.mask' to make 'gt\.half'; 'gt\.mask' is None"):
        criterion({"x": PRED}, {"mask": None, "half": None})


def test_in_a_window_a_term_whose_key_has_none_counts_nothing() -> None:
    criterion = MultiLoss([Distance("a"), Distance("b", "other")], [1.0, 1.0], optional_terms=["b"])
    for loss in criterion.loss_funcs:
        loss.approximate = True
    targets = [{"mask": GT, "other": None}, {"mask": GT, "other": GT}]
    with criterion.window(targets):
        totals = [criterion({"x": PRED}, target)[0].item() for target in targets]
    assert sum(totals) == pytest.approx(9.0)
