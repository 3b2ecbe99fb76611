"""`diagnose` tells the truth about each term, by gradients worked by hand, and moves nothing."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lossreg
from lossreg.composition.schedules import Cosine
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.uncertainty import Uncertainty


class Along(lossreg.Loss):
    """The scalar product of `pred.x` with a direction: its gradient by `pred.x` is that direction."""

    requires = ("pred.x",)

    def __init__(self, name: str, *direction: float) -> None:
        super().__init__(name)
        self.direction = torch.tensor(direction, dtype=torch.float64)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "pred.x") @ self.direction


class Needs(lossreg.Loss):
    requires = ("pred.absent",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "pred.absent").sum()


def at(*x: float) -> tuple[nn.Parameter, dict[str, Tensor]]:
    """The shared parameter, and predictions that are twice it."""
    w = nn.Parameter(torch.tensor(x, dtype=torch.float64))
    return w, {"x": 2 * w}


# --- the numbers ----------------------------------------------------------------------------------


def test_every_number_of_a_term_by_hand() -> None:
    w, pred = at(3.0, 4.0)
    a, b = Along("a", 1.0, 0.0), Along("b", -3.0, 4.0)
    a.norm.fill_(2.0)
    b.norm.fill_(5.0)
    multi = lossreg.MultiLoss([a, b], [0.5, [0.0, 4.0]], [0, 10])
    found = lossreg.diagnose(multi, pred, {}, [w], epoch=5)
    first, second = found.terms
    # a = 2 * 3 = 6, over 2, times 1/2; b = 2 * (-9 + 16) = 14, over 5, times 2
    assert (first.name, first.value, first.norm, first.weight) == ("a", 6.0, 2.0, 0.5)
    assert (second.name, second.value, second.norm, second.weight) == ("b", 14.0, 5.0, 2.0)
    assert (first.contribution, second.contribution) == pytest.approx((1.5, 5.6))
    assert (first.coefficient, second.coefficient) == pytest.approx((0.5, 2.0))
    assert (first.share, second.share) == pytest.approx((1.5 / 7.1, 5.6 / 7.1))
    # gradients by w: 2 * direction * weight / norm = (0.5, 0) and (-2.4, 3.2); their sum is (-1.9, 3.2)
    assert (first.gradient_norm, second.gradient_norm) == pytest.approx((0.5, 4.0))
    assert found.cosines == (pytest.approx((1.0, -0.6)), pytest.approx((-0.6, 1.0)))
    total = math.hypot(1.9, 3.2)
    assert found.gradient_norm == pytest.approx(total)
    assert first.alignment == pytest.approx(-1.9 / total)
    assert second.alignment == pytest.approx((-0.6 * -1.9 + 0.8 * 3.2) / total)
    assert found.total == pytest.approx(7.1)
    assert found.epoch == 5


def test_without_normalization_the_norms_are_1() -> None:
    w, pred = at(1.0, 1.0)
    a = Along("a", 1.0, 0.0)
    a.norm.fill_(4.0)
    for multi, normalize in (
        (lossreg.MultiLoss([a], [1.0]), False),
        (lossreg.MultiLoss([a], [1.0], normalize=False), True),
        (lossreg.MultiLoss([a], [1.0], unnormalized=["a"]), True),
        (lossreg.MultiLoss([lossreg.MultiLoss([a], [1.0], name="g")], [1.0], normalize=False), False),
    ):
        (term,) = lossreg.diagnose(multi, pred, {}, [w], normalize=normalize).terms
        assert (term.norm, term.contribution, term.gradient_norm) == pytest.approx((1.0, 2.0, 2.0))


def test_a_member_of_a_group_counts_with_the_groups_weight() -> None:
    w, pred = at(1.0, 1.0)
    inner = lossreg.MultiLoss([Along("b", 0.0, 1.0), Along("c", 3.0, 4.0)], [2.0, 0.1], name="g")
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0), inner], [1.0, 0.5])
    found = lossreg.diagnose(multi, pred, {}, [w])
    assert [t.name for t in found.terms] == ["a", "g/b", "g/c"]
    assert [t.weight for t in found.terms] == pytest.approx([1.0, 1.0, 0.05])
    assert [t.gradient_norm for t in found.terms] == pytest.approx([2.0, 2.0, 0.5])
    assert found.cosines[2] == pytest.approx((0.6, 0.8, 1.0))


def test_a_term_of_weight_0_pulls_nothing_but_has_a_direction() -> None:
    for zero_weight in ("keep", "skip"):
        w, pred = at(1.0, 1.0)
        losses = [Along("a", 1.0, 0.0), Along("b", -1.0, 0.0)]
        multi = lossreg.MultiLoss(losses, [1.0, 0.0], zero_weight=zero_weight)
        found = lossreg.diagnose(multi, pred, {}, [w])
        assert found.terms[1].gradient_norm == 0.0
        assert found.terms[1].share == 0.0
        assert found.cosines[0][1] == pytest.approx(-1.0)
        assert found.gradient_norm == pytest.approx(2.0)
        assert multi.zero_weight == zero_weight


def test_a_negative_weight_turns_a_direction() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0), Along("b", 1.0, 0.0)], [2.0, -1.0])
    found = lossreg.diagnose(multi, pred, {}, [w])
    assert found.cosines[0][1] == pytest.approx(-1.0)
    assert [t.share for t in found.terms] == pytest.approx([2 / 3, -1 / 3])
    assert found.gradient_norm == pytest.approx(2.0)


def test_an_adaptive_weighting_is_in_the_coefficients() -> None:
    w, pred = at(1.0, 1.0)
    weighting = Uncertainty(classification=["b"])
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0), Along("b", 0.0, 1.0)], [3.0, 1.0], weighting=weighting)
    with torch.no_grad():
        weighting.s.copy_(torch.tensor([math.log(2.0), math.log(4.0)]))
    first, second = lossreg.diagnose(multi, pred, {}, [w]).terms
    assert (first.weight, second.weight) == (3.0, 1.0)
    assert (first.coefficient, second.coefficient) == pytest.approx((3.0 / 4, 1.0 / 4))
    assert (first.gradient_norm, second.gradient_norm) == pytest.approx((1.5, 0.5))


def test_gradients_over_several_parameters_are_one_vector() -> None:
    u, v = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3, 1))
    pred = {"x": torch.cat([u, v[:, 0]]).double()}
    losses = [Along("a", 3, 0, 4, 0, 0), Along("b", 0, 0, 1, 0, 0), Along("c", 1, 0, 0, 0, 0)]
    multi = lossreg.MultiLoss(losses, [1.0, 1.0, 1.0])
    found = lossreg.diagnose(multi, pred, {}, [u, v])
    assert found.terms[0].gradient_norm == pytest.approx(5.0)
    assert found.cosines[0] == pytest.approx((1.0, 0.8, 0.6))
    only = lossreg.diagnose(multi, pred, {}, [u])
    assert only.terms[1].gradient_norm == 0.0
    assert only.cosines[1] == (None, None, None)
    assert only.terms[1].alignment is None


def test_the_gradient_of_the_total_is_what_a_backward_gives() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x, y = torch.randn(8, 5), torch.randn(8, 3)
    losses = [lossreg.LossWrapper(nn.MSELoss(), "mse"), lossreg.LossWrapper(nn.L1Loss(), "l1")]
    multi = lossreg.MultiLoss(losses, [1.0, Cosine(0, 3, end_epoch=9)])
    found = lossreg.diagnose(multi, model(x), y, model, epoch=4)
    total, _, _ = multi(model(x), y, epoch=4)
    total.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert found.total == pytest.approx(float(total.detach()), rel=1e-6)


vectors = st.lists(st.floats(-5, 5).map(lambda x: round(x, 2)), min_size=3, max_size=3)


@given(st.lists(st.tuples(vectors, st.floats(-3, 3).map(lambda x: round(x, 2))), min_size=1, max_size=5))
def test_over_any_terms_the_numbers_agree_with_each_other(rows: list[tuple[list[float], float]]) -> None:
    w, pred = at(1.0, -2.0, 0.5)
    losses = [Along(f"t{i}", *direction) for i, (direction, _) in enumerate(rows)]
    multi = lossreg.MultiLoss(losses, [weight for _, weight in rows])
    found = lossreg.diagnose(multi, pred, {}, [w])
    assert sum(t.contribution for t in found.terms) == pytest.approx(found.total, abs=1e-9)
    assert sum(abs(t.share) for t in found.terms) == pytest.approx(1.0) or found.total == 0
    total = 2 * sum(torch.tensor(d, dtype=torch.float64) * weight for d, weight in rows)
    assert found.gradient_norm == pytest.approx(float(total.norm()), abs=1e-9)
    for i, row in enumerate(found.cosines):
        for j, cosine in enumerate(row):
            assert cosine == found.cosines[j][i]
            assert cosine is None or -1 <= cosine <= 1
            assert i != j or cosine in (None, pytest.approx(1.0))


# --- nothing moves --------------------------------------------------------------------------------


class Noisy(lossreg.Loss):
    """A loss with everything that a forward can move: batch statistics, dropout, a counter of its own."""

    requires = ("pred.x",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.norming, self.dropout = nn.BatchNorm1d(2, dtype=torch.float64), nn.Dropout()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        self.calls += 1
        x = self.read(pred_batch, gt_batch, "pred.x").expand(4, 2) * torch.rand(4, 1)
        return self.dropout(self.norming(x)).square().mean()


def gradnorm(w: nn.Parameter) -> GradNorm:
    made = GradNorm()
    made.set_shared_parameters([w])
    return made


WEIGHTINGS: list[Callable[[nn.Parameter], Any]] = [
    lambda _: None, lambda _: DWA(), lambda _: ReLoBRaLo(beta=0.5), lambda _: Uncertainty(), gradnorm,
]  # fmt: skip


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("training", [True, False])
def test_no_state_moves_and_training_goes_on_as_if_it_had_not_been_called(
    weighting: Callable[[nn.Parameter], Any], training: bool
) -> None:
    w, pred = at(3.0, 4.0)
    w.grad = torch.ones_like(w)
    multi = lossreg.MultiLoss(
        [Noisy("n"), lossreg.MultiLoss([Along("b", 0.0, 1.0)], [1.0], name="g", zero_weight="skip")],
        [1.0, [0.0, 1.0]], [0, 10], weighting=weighting(w), track_norms="running", on_nonfinite="skip_term",
    )  # fmt: skip
    multi.train(training)
    multi.loss_funcs[0].dropout.eval()  # a mode of its own must come back as well
    modes = [module.training for module in multi.modules()]
    state, generator = copy.deepcopy(multi.state_dict()), torch.get_rng_state()
    hooks = [len(module._forward_hooks) for module in multi.modules()]

    lossreg.diagnose(multi, pred, {}, [w], epoch=3)

    assert [module.training for module in multi.modules()] == modes
    assert [len(module._forward_hooks) for module in multi.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(w.grad, torch.ones_like(w))
    assert all(parameter.grad is None for parameter in multi.parameters())
    after = multi.state_dict()
    assert all(torch.equal(after[key], value) for key, value in state.items())
    assert [(m.zero_weight, m.on_nonfinite) for m in multi.modules() if isinstance(m, lossreg.MultiLoss)] == [
        ("keep", "skip_term"),
        ("skip", "ignore"),
    ]


def test_a_graph_that_the_caller_has_already_made_can_still_go_backward() -> None:
    w, pred = at(3.0, 4.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0)], [1.0])
    total, _, _ = multi(pred, {})
    lossreg.diagnose(multi, pred, {}, [w])
    total.backward()
    assert torch.equal(w.grad, torch.tensor([2.0, 0.0], dtype=torch.float64))


def hooks_of(multi: lossreg.MultiLoss) -> list[Any]:
    return [hook for module in multi.modules() for hook in module._forward_hooks.values()]


def test_the_last_record_is_still_that_of_the_callers_own_forward() -> None:
    w, pred = at(1.0, 1.0)
    group = lossreg.MultiLoss([Along("b", 0.0, 1.0)], [1.0], name="g")
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0), group], [1.0, 1.0])
    multi(pred, {})
    before = multi.last_record, group.last_record
    lossreg.diagnose(multi, pred, {}, [w])
    assert (multi.last_record, group.last_record) == before


def test_an_error_in_a_loss_leaves_nothing_behind() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Noisy("n"), Needs("late")], [1.0, 1.0], zero_weight="skip")
    state, hooks = copy.deepcopy(multi.state_dict()), hooks_of(multi)
    with pytest.raises(lossreg.LossregError, match=r"pred\.absent"):
        lossreg.diagnose(multi, pred, {}, [w])
    assert multi.training
    assert multi.zero_weight == "skip"
    assert all(torch.equal(multi.state_dict()[key], value) for key, value in state.items())
    assert hooks_of(multi) == hooks


def test_it_works_where_gradients_are_off() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0)], [1.0])
    with torch.no_grad():
        assert lossreg.diagnose(multi, pred, {}, [w]).gradient_norm == pytest.approx(2.0)


def test_one_rank_may_call_it_alone(in_two_processes: Callable[..., list[str]]) -> None:
    in_two_processes(f"{Path(__file__).with_name('one_of_two_ranks.py')}:main")


# --- odd batches ----------------------------------------------------------------------------------


def test_an_optional_term_that_is_absent_is_said_to_be() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0), Needs("late")], [1.0, 1.0], optional_terms=["late"])
    found = lossreg.diagnose(multi, pred, {}, [w])
    assert found.absent == ("late",)
    assert [t.name for t in found.terms] == ["a"]
    assert "absent from the batch: late" in str(found)


@pytest.mark.parametrize("on_nonfinite", ["ignore", "raise", "skip_term"])
def test_a_term_that_is_not_finite_is_shown_and_not_raised(on_nonfinite: Any) -> None:
    w, pred = at(0.0, 1.0)
    bad = lossreg.LossWrapper(lambda pred: (pred[0] / pred[0]).sum(), "bad", pred_key="x")
    multi = lossreg.MultiLoss([bad, Along("a", 1.0, 1.0)], [1.0, 1.0], on_nonfinite=on_nonfinite)
    found = lossreg.diagnose(multi, pred, {}, [w])
    assert math.isnan(found.terms[0].value)
    assert found.terms[1].value == 2.0
    assert found.cosines[0] == (None, None)
    assert found.cosines[1] == (None, pytest.approx(1.0))
    assert "bad is nan" in found.findings()
    assert json.loads(found.to_json())["terms"][0]["value"] is None
    assert multi.skipped.sum() == 0


def test_parameters_that_cannot_be_compared_are_refused() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0)], [1.0])
    for none in ([], [torch.ones(2)], nn.Identity()):
        with pytest.raises(ValueError, match="parameters holds none that needs a gradient"):
            lossreg.diagnose(multi, pred, {}, none)
    with pytest.raises(ValueError, match="no term depends on any of the parameters"):
        lossreg.diagnose(multi, pred, {}, [nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="no term depends on any of the parameters"):
        lossreg.diagnose(multi, {"x": pred["x"].detach()}, {}, [w])


def test_a_schedule_without_an_epoch_is_refused() -> None:
    w, pred = at(1.0, 1.0)
    with pytest.raises(ValueError, match="'a' follow a schedule"):
        lossreg.diagnose(lossreg.MultiLoss([Along("a", 1.0, 0.0)], [[0, 1]], [0, 9]), pred, {}, [w])


def test_steps_are_passed_on() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0)], [Cosine(0, 1, end_epoch=100, unit="step")])
    found = lossreg.diagnose(multi, pred, {}, [w], step=50)
    assert found.terms[0].weight == pytest.approx(0.5)
    assert "step 50" in str(found)


def test_half_precision_does_not_overflow_its_own_norms() -> None:
    w = nn.Parameter(torch.full((64,), 1.0, dtype=torch.float16))
    big = lossreg.LossWrapper(lambda pred: (pred * 300.0).sum(), "big")
    found = lossreg.diagnose(lossreg.MultiLoss([big], [1.0]), w * 1.0, torch.ones(64), [w])
    assert found.terms[0].gradient_norm == pytest.approx(300.0 * 8.0, rel=1e-3)
