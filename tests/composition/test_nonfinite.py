"""Terms that are NaN or infinite: ignored, raised, or left out."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.cov import CoV
from lossreg.errors import NonFiniteError


class Log(Loss):
    """`log` of one prediction's mean: NaN below zero, with a NaN gradient."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requires = (f"pred.{name}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, self.requires[0]).log().mean()


def make(on_nonfinite: Any, **options: Any) -> MultiLoss:
    return MultiLoss([Log("a"), Log("b")], [1.0, 2.0], on_nonfinite=on_nonfinite, **options)


def batch(a: float, b: float) -> dict[str, Tensor]:
    return {"a": torch.full((2,), a, requires_grad=True), "b": torch.full((2,), b, requires_grad=True)}


def test_ignore_lets_it_through() -> None:
    assert make("ignore")(batch(1.0, -1.0), {})[0].isnan()


def test_raise_names_the_term_the_epoch_and_the_ranges_and_leaves_state_alone() -> None:
    multi_loss = make("raise", weighting=CoV())
    multi_loss(batch(2.0, 3.0), {}, epoch=6)
    before = copy.deepcopy(multi_loss.state_dict())
    expected = r"'b' is nan at epoch 7; the batch: pred.a \(2,\) 1 to 1; pred.b \(2,\) -1 to -1"
    with pytest.raises(NonFiniteError, match=expected):
        multi_loss(batch(1.0, -1.0), {}, epoch=7)
    assert all(torch.equal(value, before[key]) for key, value in multi_loss.state_dict().items())


def test_the_ranges_of_lists_are_told_tensor_by_tensor() -> None:
    pred = {**batch(-1.0, 1.0), "levels": [torch.ones(1), (torch.zeros(2), torch.empty(0))]}
    expected = r"pred.levels \(1,\) 1 to 1; pred.levels \(2,\) 0 to 0; pred.levels \(0,\) is empty\."
    with pytest.raises(NonFiniteError, match=expected):
        make("raise")(pred, {}, epoch=7)


def test_skip_leaves_the_term_out_counts_it_and_keeps_gradients_finite(caplog: pytest.LogCaptureFixture) -> None:
    multi_loss, pred = make("skip_term"), batch(2.0, -1.0)
    with caplog.at_level(logging.WARNING, logger="lossreg"):
        total, values, _ = multi_loss(pred, {}, epoch=3)
    total.backward()
    assert total.item() == pytest.approx(torch.tensor(2.0).log().item())
    assert list(values) == ["a"]
    assert multi_loss.skipped.tolist() == [0, 1]
    assert pred["a"].grad.abs().sum() > 0
    assert torch.equal(pred["b"].grad, torch.zeros(2))  # still on the graph, for ranks that wait for it
    assert "left b out of this batch at epoch 3" in caplog.text


def test_skip_of_every_term_is_a_zero_on_the_graph() -> None:
    pred = batch(-1.0, -1.0)
    total, values, _ = make("skip_term")(pred, {})
    total.backward()
    assert total.item() == 0.0
    assert values == {}
    assert torch.equal(pred["a"].grad, torch.zeros(2))


def test_a_finite_batch_is_the_same_under_all_three() -> None:
    totals = {choice: make(choice)(batch(2.0, 3.0), {})[0].item() for choice in ("ignore", "raise", "skip_term")}
    assert len(set(totals.values())) == 1


def test_other_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"on_nonfinite: expected 'ignore', 'raise' or 'skip_term', found 'drop'"):
        make("drop")


def test_of_a_batch_each_tensor_is_told_with_what_is_finite_in_it() -> None:
    gt = {
        "empty": torch.zeros(0, 3),
        "lost": torch.tensor([torch.nan, torch.inf]),
        "some": torch.tensor([[1.0, torch.inf, -2.5]]),
        "counts": torch.tensor([3, 7]),
        "name": "no tensor",
    }
    with pytest.raises(NonFiniteError) as raised:
        make("raise")(batch(-1.0, 0.0), gt, epoch=2)
    assert str(raised.value) == (
        "MultiLoss 'multi': 'a' is nan, 'b' is -inf at epoch 2; the batch: pred.a (2,) -1 to -1; pred.b (2,) 0 to 0; "
        "gt.empty (0, 3) is empty; gt.lost (2,) nothing finite, 2 not finite; gt.some (1, 3) -2.5 to 1, 1 not finite; "
        "gt.counts (2,) 3 to 7. Norms and weighting are as they were"
    )


def test_a_batch_without_tensors_is_told_as_such() -> None:
    class Nothing(Log):
        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return torch.tensor(torch.inf)

    term = Nothing("a")
    term.requires = ()
    with pytest.raises(NonFiniteError, match="'a' is inf; the batch: no tensors"):
        MultiLoss([term], [1.0], on_nonfinite="raise")({}, {})


def test_a_term_that_is_off_may_be_anything() -> None:
    for choice in ("raise", "skip_term"):
        multi_loss = MultiLoss([Log("a"), Log("b")], [1.0, 0.0], on_nonfinite=choice)
        assert multi_loss(batch(2.0, -1.0), {})[0].item() == pytest.approx(torch.tensor(2.0).log().item())
        assert multi_loss.skipped.tolist() == [0, 0]


def test_in_eval_a_term_is_left_out_and_not_counted() -> None:
    multi_loss = make("skip_term").eval()
    assert list(multi_loss(batch(2.0, -1.0), {})[1]) == ["a"]
    assert multi_loss.skipped.tolist() == [0, 0]


@pytest.mark.parametrize(("training", "there"), [(True, [["a"], ["a"]]), (False, [["a", "b"], ["a"]])])
def test_in_training_all_ranks_leave_out_what_is_not_finite_on_one(on_ranks: Any, training: bool, there: Any) -> None:
    criteria = [make("skip_term").train(training) for _ in range(2)]
    forwards = zip(criteria, (3.0, -1.0), strict=True)
    found = on_ranks(*(lambda c=c, b=b: list(c(batch(2.0, b), {})[1]) for c, b in forwards))
    assert found == there
    assert [c.skipped.tolist() for c in criteria] == [[0, int(training)]] * 2


def test_a_term_that_a_rank_lacks_is_no_obstacle(on_ranks: Any) -> None:
    criteria = [make("skip_term", optional_terms=["b"]) for _ in range(2)]
    lacks = {"a": torch.full((2,), 2.0)}
    found = on_ranks(lambda: list(criteria[0](batch(2.0, 3.0), {})[1]), lambda: list(criteria[1](lacks, {})[1]))
    assert found == [["a", "b"], ["a"]]
