"""MultiLoss: its value, its invariants, its norms, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from torch import Tensor, nn

from lossreg import Loss, LossWrapper, MultiLoss
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.errors import ArgumentError, DistributedError, GraphError, MissingKeyError
from lossreg.testing import thresholds


class Scaled(Loss):
    """`factor` times the mean of the predictions: a loss whose value a test can choose."""

    requires = ("pred.x",)

    def __init__(self, name: str, factor: float = 1.0) -> None:
        super().__init__(name)
        self.factor = factor

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        value = self.factor * self.read(pred_batch, gt_batch, "pred.x").mean()
        self.extra_info["factor"] = value
        return value


class Needy(Loss):
    """Reads a key that not every batch has."""

    requires = ("gt.mask",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "gt.mask").float().mean() * pred_batch["x"].mean()


PRED = {"x": torch.full((4, 2), 2.0)}
GT: dict[str, Tensor] = {}

numbers = st.floats(-100, 100, allow_nan=False, width=32)
factors = st.lists(st.floats(0.125, 8, width=32), min_size=1, max_size=5)


def combine(values: list[float], weights: list[Any], **options: Any) -> MultiLoss:
    losses = [Scaled(f"t{i}", value) for i, value in enumerate(values)]
    return MultiLoss(losses, weights, **options)


def total(multi_loss: MultiLoss, **options: Any) -> float:
    return multi_loss(PRED, GT, **options)[0].item()


class TestValue:
    def test_total_is_the_weighted_sum_and_values_are_unweighted_and_detached(self) -> None:
        x = torch.full((4, 2), 2.0, requires_grad=True)
        result, values, extra = combine([1.0, 3.0], [0.5, 2.0])({"x": x}, GT)
        assert result.item() == pytest.approx(0.5 * 2 + 2 * 6)
        assert {name: float(v) for name, v in values.items()} == {"t0": 2.0, "t1": 6.0}
        assert not any(v.requires_grad for v in values.values())
        assert not extra["t0"]["factor"].requires_grad
        result.backward()
        assert torch.allclose(x.grad, torch.full_like(x, 6.5 / 8))

    @given(factors, st.data())
    def test_total_is_linear_in_each_weight(self, values: list[float], data: st.DataObject) -> None:
        n = len(values)
        weights = data.draw(st.lists(numbers, min_size=n, max_size=n))
        which, other = data.draw(st.integers(0, n - 1)), data.draw(numbers)
        moved = [w + other * (i == which) for i, w in enumerate(weights)]
        expected = total(combine(values, weights)) + other * values[which] * 2
        assert total(combine(values, moved)) == pytest.approx(expected, rel=1e-4, abs=1e-2)

    @given(factors, st.floats(0.125, 8, width=32), st.data())
    def test_scaling_a_term_and_its_norm_alike_leaves_the_total(
        self, values: list[float], scale: float, data: st.DataObject
    ) -> None:
        which = data.draw(st.integers(0, len(values) - 1))
        weights = [1.0] * len(values)
        plain, scaled = combine(values, weights), combine(values, weights)
        scaled.loss_funcs[which].factor *= scale
        scaled.loss_funcs[which].norm.fill_(scale)
        assert total(scaled) == pytest.approx(total(plain), rel=1e-5)

    @given(factors, st.randoms(use_true_random=False))
    def test_the_order_of_terms_does_not_matter(self, values: list[float], random: Any) -> None:
        weights = [1.0 + i for i in range(len(values))]
        order = list(range(len(values)))
        random.shuffle(order)
        losses = [Scaled(f"t{i}", values[i]) for i in order]
        shuffled = MultiLoss(losses, [weights[i] for i in order])
        assert total(shuffled) == pytest.approx(total(combine(values, weights)), rel=1e-5)

    @given(thresholds(min_size=2, min_value=-1000, max_value=1000), st.floats(-2e3, 2e3), st.data())
    def test_list_weights_are_interp1d(self, epochs: list[float], epoch: float, data: st.DataObject) -> None:
        n = len(epochs)
        values = data.draw(st.lists(st.floats(-10, 10), min_size=n, max_size=n))
        expected = interp1d(epochs, values, bounds_error=False, fill_value=(values[0], values[-1]))(epoch)
        multi_loss = combine([0.5], [values], epoch_thresholds=epochs)
        assert multi_loss.effective_weights(epoch)["t0"] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
        assert total(multi_loss, epoch=epoch) == pytest.approx(float(expected), rel=1e-5, abs=1e-5)

    def test_normalize_false_leaves_norms_out(self) -> None:
        multi_loss = combine([1.0], [1.0])
        multi_loss.loss_funcs[0].norm.fill_(4.0)
        assert total(multi_loss) == 0.5
        assert total(multi_loss, normalize=False) == 2.0
        assert total(combine([1.0], [1.0], normalize=False)) == 2.0

    def test_an_unnormalized_term_keeps_its_value(self) -> None:
        multi_loss = combine([1.0, 1.0], [1.0, 1.0], unnormalized=["t1"])
        for loss in multi_loss.loss_funcs:
            loss.norm.fill_(4.0)
        values = multi_loss(PRED, GT)[1]
        assert (float(values["t0"]), float(values["t1"])) == (0.5, 2.0)

    def test_terms_of_different_dtypes_add_up(self) -> None:
        half, double = torch.full((2,), 2.0, dtype=torch.bfloat16), torch.full((2,), 3.0, dtype=torch.float64)
        multi_loss = MultiLoss([lambda pred, gt: half.mean(), lambda pred, gt: double.mean()][:1], [1.0])
        assert multi_loss(half, half)[0].dtype == torch.float32
        mixed = MultiLoss(
            [LossWrapper(lambda p, g: half.mean(), "a"), LossWrapper(lambda p, g: double.mean(), "b")], [1, 1]
        )
        assert mixed(half, half)[0].dtype == torch.float64
        assert float(mixed(half, half)[0]) == 5.0

    def test_the_callers_batch_is_left_alone(self) -> None:
        def spoil(pred: dict[str, Any], gt: dict[str, Any]) -> tuple[Any, Any]:
            pred["x"], gt["new"] = pred["x"] * 10, 1
            return pred, gt

        pred, gt = dict(PRED), dict(GT)
        result = combine([1.0], [1.0], pre_processes=[spoil])(pred, gt)
        assert float(result[0]) == 20.0
        assert pred["x"] is PRED["x"]
        assert gt == {}

    def test_foreign_losses_are_wrapped_and_normalised(self) -> None:
        multi_loss = MultiLoss([nn.L1Loss(), LossWrapper(nn.MSELoss(), "mse")], [1.0, 1.0])
        pred, gt = torch.full((2, 3), 3.0), torch.zeros(2, 3)
        multi_loss.update_norm(pred, gt, 2)
        assert {k: float(v) for k, v in multi_loss(pred, gt)[1].items()} == {"L1Loss": 1.0, "mse": 1.0}

    def test_forward_hooks_on_a_term_run(self) -> None:
        multi_loss, seen = MultiLoss([LossWrapper(nn.L1Loss(), "l1")], [1.0]), []
        multi_loss.loss_funcs[0].register_forward_hook(lambda *_: seen.append("term"))
        multi_loss.loss_funcs[0].loss_func.register_forward_hook(lambda *_: seen.append("inner"))
        multi_loss(torch.ones(2), torch.zeros(2))
        assert seen == ["inner", "term"]


class TestGroups:
    def make(self, group_weight: Any = 3.0) -> MultiLoss:
        group = MultiLoss([Scaled("b", 2.0), Scaled("c", 5.0)], [1.0, [0.0, 1.0]], [0, 10], name="g")
        return MultiLoss([Scaled("a"), group], [1.0, group_weight], [0, 10])

    def test_members_are_reported_by_path(self) -> None:
        _, values, extra = self.make()(PRED, GT, epoch=5)
        assert list(values) == ["a", "g/b", "g/c"]
        assert list(extra) == ["a", "g/b", "g/c"]

    @given(st.floats(-5, 20), st.floats(-3, 3, width=32))
    def test_a_group_is_the_flat_list_with_multiplied_weights(self, epoch: float, weight: float) -> None:
        grouped = self.make(group_weight=weight)
        weights = grouped.effective_weights(epoch)
        flat = MultiLoss([Scaled("a"), Scaled("b", 2.0), Scaled("c", 5.0)], list(weights.values()))
        assert total(grouped, epoch=epoch) == pytest.approx(total(flat), rel=1e-5, abs=1e-5)

    def test_a_group_follows_its_own_schedule_when_called_alone_in_between(self) -> None:
        multi_loss = self.make()
        at_five = total(multi_loss, epoch=5)
        total(multi_loss.loss_funcs[1], epoch=10)
        assert total(multi_loss, epoch=5) == at_five

    def test_norms_of_members_are_updated_reset_and_saved(self) -> None:
        multi_loss = self.make()
        multi_loss.update_norm(PRED, GT, 4)
        assert [float(term.loss.norm) for _, term in multi_loss.leaves()] == [2.0, 4.0, 10.0]
        fresh = self.make()
        fresh.load_state_dict(multi_loss.state_dict())
        assert total(fresh, epoch=10) == total(multi_loss, epoch=10)
        multi_loss.reset_norm()
        assert [float(term.loss.norm) for _, term in multi_loss.leaves()] == [1.0, 1.0, 1.0]


class TestOptionalAndSkipped:
    def test_each_term_that_is_there_has_its_own_weight(self) -> None:
        losses = [Needy("needy"), Scaled("a"), Scaled("b")]
        multi_loss = MultiLoss(losses, [100.0, 10.0, 1.0], optional_terms=["needy"])
        assert total(multi_loss) == 2.0 * 11.0

    def test_an_optional_term_is_absent_where_its_key_is(self) -> None:
        multi_loss = MultiLoss([Scaled("a"), Needy("mask")], [1.0, 1.0], optional_terms=["mask"])
        without, with_mask = multi_loss(PRED, {})[1], multi_loss(PRED, {"mask": torch.ones(2)})[1]
        assert list(without) == ["a"]
        assert list(with_mask) == ["a", "mask"]
        multi_loss.update_norm(PRED, {}, 4)
        assert int(multi_loss.loss_funcs[1].norm_count) == 0

    def test_without_the_option_the_missing_key_is_an_error(self) -> None:
        with pytest.raises(MissingKeyError, match=r"loss 'mask' needs 'gt.mask'; gt_batch has keys \[\]"):
            MultiLoss([Needy("mask")], [1.0])(PRED, {})

    def test_a_batch_that_no_term_can_use_gives_a_zero_on_the_graph(self) -> None:
        multi_loss = MultiLoss([Needy("mask")], [1.0], optional_terms=["mask"])
        x = torch.full((3,), float("inf"), requires_grad=True)
        result, values, _ = multi_loss({"x": x}, {})
        result.backward()
        assert result.item() == 0.0
        assert torch.equal(x.grad, torch.zeros(3))
        assert values == {}

    @pytest.mark.parametrize("weight", [0.0, 2.0])
    def test_skip_and_keep_agree_on_total_and_gradients(self, weight: float) -> None:
        gradients, totals = [], []
        for zero_weight in ("keep", "skip"):
            x = torch.ones(3, requires_grad=True)
            multi_loss = combine([1.0, 4.0], [1.0, weight], zero_weight=zero_weight)
            result, values, _ = multi_loss({"x": x}, GT)
            assert list(values) == ["t0", "t1"]
            result.backward()
            gradients.append(x.grad)
            totals.append(result.item())
        assert totals[0] == totals[1]
        assert torch.equal(*gradients)

    def test_keep_leaves_a_zero_term_in_the_graph_and_skip_does_not(self) -> None:
        for zero_weight, reached in (("keep", True), ("skip", False)):
            a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
            losses = [LossWrapper(lambda p, g: p.mean(), "a", pred_key="a", gt_key="a")]
            losses += [LossWrapper(lambda p, g: p.mean(), "b", pred_key="b", gt_key="b")]
            multi_loss = MultiLoss(losses, [1.0, 0.0], zero_weight=zero_weight)
            multi_loss({"a": a, "b": b}, {"a": a.detach(), "b": b.detach()})[0].backward()
            assert (b.grad is not None) == reached


class TestTime:
    def test_a_schedule_without_an_epoch_names_the_terms(self) -> None:
        multi_loss = combine([1.0, 1.0], [[0, 1], 1.0], epoch_thresholds=[0, 1])
        with pytest.raises(ValueError, match=r"the weights of 't0' follow a schedule; pass forward\(..., epoch=...\)"):
            multi_loss(PRED, GT)

    def test_a_schedule_over_steps_reads_the_step(self) -> None:
        from lossreg.composition.schedules import Piecewise

        multi_loss = combine([1.0], [Piecewise([0.0, 1.0], [0, 100], unit="step")])
        assert total(multi_loss, step=50) == 1.0
        with pytest.raises(ValueError, match=r"'t0' follow a schedule; pass forward\(..., step=...\)"):
            total(multi_loss, epoch=50)

    @pytest.mark.parametrize("epoch", [float("nan"), float("inf")])
    def test_an_epoch_that_is_not_finite_is_refused(self, epoch: float) -> None:
        with pytest.raises(ValueError, match="epoch: expected a finite number"):
            total(combine([1.0], [[0, 1]], epoch_thresholds=[0, 1]), epoch=epoch)

    def test_each_schedule_is_evaluated_once_per_epoch_value(self) -> None:
        calls: list[float] = []
        multi_loss = combine([1.0], [lambda epoch: calls.append(epoch) or 1.0])
        for epoch in (1, 1, 1, 2, 2):
            multi_loss(PRED, GT, epoch=epoch)
        assert calls == [1, 2]

    def test_a_graph_of_an_earlier_epoch_can_still_be_walked(self) -> None:
        x = torch.ones(2, requires_grad=True)
        multi_loss = combine([1.0], [[0.0, 1.0]], epoch_thresholds=[0, 10])
        first, _, _ = multi_loss({"x": x}, GT, epoch=5)
        multi_loss({"x": x}, GT, epoch=10)
        first.backward()
        assert torch.allclose(x.grad, torch.full((2,), 0.25))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"epoch_thresholds": [0, 5, 5]}, "epoch_thresholds: .*ascending"),
            ({"norm_momentum": 0}, "norm_momentum: expected a number above 0 and at most 1, found 0"),
            (
                {"normalization_params": {"min_samples": 5, "max_samples": 4}},
                "min_samples.*max_samples, which is 4, found 5",
            ),
        ],
    )
    def test_options_at_the_edge_of_their_range_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ArgumentError, match=message):
            combine([1.0], [1.0], **options)

    @pytest.mark.parametrize("weight", ["1.0", None, True, {"a": 1}, torch.tensor(1.0), b"1", 1j])
    def test_other_weights_are_a_type_error(self, weight: Any) -> None:
        with pytest.raises(TypeError, match="'t0'"):
            combine([1.0], [weight])

    @pytest.mark.parametrize("weight", [float("nan"), float("inf"), [0.0, float("nan")]])
    def test_a_weight_that_is_not_finite_is_a_value_error(self, weight: Any) -> None:
        with pytest.raises(ValueError, match="'t0'"):
            combine([1.0], [weight], epoch_thresholds=[0, 1])

    @pytest.mark.parametrize("thresholds", [[0], [0, 1, 2], None])
    def test_thresholds_must_match(self, thresholds: Any) -> None:
        with pytest.raises(ValueError, match="'t0'"):
            combine([1.0], [[0.0, 1.0]], epoch_thresholds=thresholds)

    def test_a_tuple_is_a_list(self) -> None:
        assert total(combine([1.0], [(0.0, 1.0)], epoch_thresholds=(0, 10)), epoch=5) == 1.0

    def test_two_terms_of_one_name(self) -> None:
        with pytest.raises(GraphError, match="two terms are named 'a'"):
            MultiLoss([Scaled("a"), Scaled("a")], [1.0, 1.0])


class TestState:
    def test_a_norm_pass_resumes_in_the_middle(self) -> None:
        whole, first = combine([1.0, 3.0], [1, 1]), combine([1.0, 3.0], [1, 1])
        batches = [({"x": torch.rand(n, 2)}, n) for n in (3, 5, 2)]
        for pred, n in batches:
            whole.update_norm(pred, GT, n)
        first.update_norm(batches[0][0], GT, batches[0][1])
        resumed = combine([1.0, 3.0], [1, 1])
        resumed.load_state_dict(first.state_dict())
        for pred, n in batches[1:]:
            resumed.update_norm(pred, GT, n)
        for key, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[key]), key

    def test_a_batch_that_a_term_refuses_changes_no_norm(self) -> None:
        multi_loss = MultiLoss([Scaled("a"), Needy("mask")], [1.0, 1.0])
        before = copy.deepcopy(multi_loss.state_dict())
        with pytest.raises(MissingKeyError):
            multi_loss.update_norm(PRED, {}, 4)
        assert all(torch.equal(before[key], value) for key, value in multi_loss.state_dict().items())

    def test_a_loss_with_norm_methods_of_its_own_keeps_them(self) -> None:
        class Largest(LossWrapper):
            def update_norm(self, pred_batch: Any, gt_batch: Any, nums: int) -> None:
                value, _ = self(pred_batch, gt_batch, normalize=False)
                self.norm.copy_(torch.maximum(self.norm, value))

            def sync(self, world_size: int | None = None) -> None:
                self.norm.add_(world_size or 0)

        inner = MultiLoss([Largest(nn.L1Loss(), "largest"), LossWrapper(nn.L1Loss(), "mean")], [1.0, 1.0], name="group")
        criterion = MultiLoss([inner], [1.0])
        for value in (8.0, 2.0):
            criterion.update_norm(torch.full((1, 1), value), torch.zeros(1, 1), 1)
        assert [float(term.loss.norm) for _, term in criterion.leaves()] == [8.0, 5.0]
        criterion.sync(1)
        assert [float(term.loss.norm) for _, term in criterion.leaves()] == [9.0, 5.0]

    def test_a_checkpoint_with_norms_alone_loads_strictly(self) -> None:
        multi_loss = combine([1.0, 1.0], [1, 1])
        multi_loss.load_state_dict({"loss_funcs.0.norm": torch.tensor([2.0]), "loss_funcs.1.norm": torch.tensor([4.0])})
        assert total(multi_loss) == 1.5
        assert bool(multi_loss.calibrated)

    @pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_are_independent_and_equal(self, copy_of: Any) -> None:
        original = combine([1.0], [[0.0, 1.0]], epoch_thresholds=[0, 10])
        total(original, epoch=3)
        twin = copy_of(original)
        assert total(twin, epoch=5) == total(original, epoch=5)
        twin.loss_funcs[0].norm.fill_(2.0)
        assert float(original.loss_funcs[0].norm) == 1.0

    def test_plan_and_repr_show_terms_and_weights(self) -> None:
        multi_loss = combine([1.0], [[0.0, 1.0]], epoch_thresholds=[0, 10])
        assert [(item["kind"], item["name"]) for item in multi_loss.plan()] == [("term", "t0")]
        assert "t0: weight=Piecewise" in repr(multi_loss)
        assert [term.name for term in multi_loss.terms] == ["t0"]


class TestRanks:
    """What the ranks hold is compared before the first forward that has a collective."""

    TALKING: ClassVar[dict[str, dict[str, Any]]] = {
        "a weighting": {"weighting": DWA},
        "skip_term": {"on_nonfinite": "skip_term"},
        "running norms": {"track_norms": "running"},
        "a window": {"reduce_over": "ranks"},
    }

    @staticmethod
    def make(*names: str, grouped: bool = False, **options: Any) -> MultiLoss:
        options = {key: value() if callable(value) else value for key, value in options.items()}
        losses = [LossWrapper(nn.L1Loss(), name) for name in names]
        criterion = MultiLoss(losses, [1.0] * len(losses), name="m", **options)
        return MultiLoss([criterion], [1.0]) if grouped else criterion

    @staticmethod
    def forward(criterion: MultiLoss) -> float:
        return criterion(torch.full((2, 1), 3.0, requires_grad=True), torch.zeros(2, 1), epoch=0)[0].item()

    @pytest.mark.parametrize("grouped", [False, True])
    @pytest.mark.parametrize("talk", TALKING)
    def test_different_criteria_are_the_same_error_on_all(self, on_ranks: Any, talk: str, grouped: bool) -> None:
        options = self.TALKING[talk] | {"grouped": grouped and talk != "a window"}
        criteria = [self.make("a", "b", **options), self.make("a", **options)]
        first, second = on_ranks(*(partial(self.forward, criterion) for criterion in criteria))
        assert isinstance(first, DistributedError)
        assert str(first) == str(second)
        assert "expected the same criterion on every rank" in str(first)
        assert "is a, b on rank 0, a on rank 1" in str(first)

    def test_where_a_forward_has_no_collective_or_trains_nothing_each_goes_on_alone(self, on_ranks: Any) -> None:
        criteria = [self.make("a", "b"), self.make("a")]
        forwards = [partial(self.forward, criterion) for criterion in criteria]
        assert on_ranks(*forwards, collectives=0) == [6.0, 3.0]
        criteria = [self.make("a", "b", weighting=CoV).eval(), self.make("a", weighting=CoV).eval()]
        assert on_ranks(*(partial(self.forward, criterion) for criterion in criteria)) == [3.0, 3.0]

    def test_equal_criteria_are_compared_once(self, on_ranks: Any) -> None:
        criteria = [self.make("a", weighting=DWA), self.make("a", weighting=DWA)]

        def train(rank: int) -> list[float]:
            totals = [self.forward(criteria[rank])]
            criteria[rank].calibrated.fill_(rank == 0)
            return [*totals, self.forward(criteria[rank])]

        assert on_ranks(partial(train, 0), partial(train, 1)) == [[3.0, 3.0]] * 2
        for criterion in criteria:
            criterion._compared = False  # as after a start
        first, second = on_ranks(*(partial(self.forward, criterion) for criterion in criteria))
        assert "calibrated is True on rank 0, False on rank 1" in str(first)
        assert str(first) == str(second)

    def test_a_window_over_micro_batches_compares_them_whatever_they_do(self, on_ranks: Any) -> None:
        def enter(*names: str) -> None:
            with self.make(*names).window([]):
                pass

        for error in on_ranks(partial(enter, "a"), partial(enter, "a", "b")):
            assert isinstance(error, DistributedError)
            assert "is a on rank 0, a, b on rank 1" in str(error)
        assert on_ranks(partial(enter, "a"), partial(enter, "a")) == [None, None]

    def test_norms_of_different_criteria_are_not_averaged(self, on_ranks: Any) -> None:
        criteria = [MultiLoss([Scaled("a", factor)], [1.0]) for factor in (1.0, 3.0)]
        for criterion in criteria:
            criterion.update_norm(PRED, GT, 4)
        first, second = on_ranks(*(criterion.sync for criterion in criteria))
        assert isinstance(first, DistributedError)
        assert str(first) == str(second)
        assert "the loss of 'a' is " in str(first)
        assert [criterion.loss_funcs[0].norm.item() for criterion in criteria] == [2.0, 6.0]

    def test_norms_are_averaged_by_samples(self, on_ranks: Any) -> None:
        criteria = [MultiLoss([MultiLoss([Scaled("a")], [1.0], name="g")], [1.0]) for _ in range(2)]
        for criterion, value, nums in zip(criteria, (2.0, 8.0), (1, 2), strict=True):
            criterion.update_norm({"x": torch.full((nums, 1), value)}, GT, nums)
        assert on_ranks(*(criterion.sync for criterion in criteria)) == [None, None]
        assert [term.loss.norm.item() for criterion in criteria for _, term in criterion.leaves()] == [6.0, 6.0]
