"""Options and weights of a criterion that are set after its construction are checked as in the constructor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossreg import Loss, MultiLoss
from lossreg.errors import ArgumentError, NonFiniteError


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


PRED = {"x": torch.full((4, 2), 2.0)}


GT: dict[str, Tensor] = {}


def combine(values: list[float], weights: list[Any], **options: Any) -> MultiLoss:
    losses = [Scaled(f"t{i}", value) for i, value in enumerate(values)]
    return MultiLoss(losses, weights, **options)


def total(multi_loss: MultiLoss, **options: Any) -> float:
    return multi_loss(PRED, GT, **options)[0].item()


class TestSettings:
    """What is set after the construction works from the next forward on, or is refused."""

    def test_weights_are_numbers_and_schedules_in_their_order(self) -> None:
        weights = combine([1.0, 1.0], [2.0, [0.0, 1.0]], epoch_thresholds=[0, 10]).weights
        assert weights[0] == 2.0
        assert weights[1](5) == 0.5

    def test_weights_can_be_set_as_a_whole(self) -> None:
        multi_loss = combine([1.0, 3.0], [1.0, 1.0], epoch_thresholds=[0, 10])
        assert total(multi_loss) == 8.0  # the mean of the predictions is 2
        multi_loss.weights = [2.0, [0.0, 1.0]]
        assert total(multi_loss, epoch=5) == 2 * 2 + 0.5 * 6
        assert multi_loss.effective_weights(5) == {"t0": 2.0, "t1": 0.5}

    @pytest.mark.parametrize("weights", [[1.0], [1.0, float("nan")], 3.0, {"t0": 1.0, "t1": 1.0}, nn.Linear(1, 1)])
    def test_weights_are_checked_as_in_the_constructor(self, weights: Any) -> None:
        multi_loss = combine([1.0, 3.0], [1.0, 1.0])
        with pytest.raises(ArgumentError, match="MultiLoss 'multi': weights"):
            multi_loss.weights = weights
        assert total(multi_loss) == 8.0

    def test_the_weight_of_one_term_can_be_set(self) -> None:
        group = combine([1.0, 1.0], [1.0, 1.0], name="g")
        multi_loss = MultiLoss([Scaled("a"), group], [1.0, 1.0])
        multi_loss(PRED, GT, epoch=0)
        multi_loss.set_weight("a", lambda epoch: epoch)
        multi_loss.set_weight("g", [0.0, 1.0], [0, 10])
        multi_loss.set_weight("g/t1", 3)
        assert total(multi_loss, epoch=5) == 5 * 2 + 0.5 * (1 * 2 + 3 * 2)

    @pytest.mark.parametrize("name", ["t9", "t0/x", 0, None])
    def test_there_must_be_such_a_term(self, name: Any) -> None:
        with pytest.raises(ArgumentError, match=r"MultiLoss 'multi': set_weight: name.*expected the name of a term"):
            combine([1.0], [1.0]).set_weight(name, 1.0)

    def test_a_weight_that_is_set_is_checked(self) -> None:
        with pytest.raises(ArgumentError, match=r"set_weight: weights.*'t0'"):
            combine([1.0], [1.0]).set_weight("t0", float("inf"))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
    def test_a_compiled_loss_takes_a_new_weight(self) -> None:
        torch._dynamo.reset()
        multi_loss = combine([1.0, 1.0], [1.0, 1.0])
        multi_loss.compile(fullgraph=True, backend="eager")
        found = [total(multi_loss)]
        for weight in (5.0, 0.0, [0.0, 1.0]):
            multi_loss.set_weight("t1", weight, [0, 10])
            found.append(total(multi_loss, epoch=5))
        assert found == [4.0, 12.0, 2.0, 3.0]

    def test_options_that_work_when_they_are_set(self) -> None:
        multi_loss = combine([1.0], [1.0])
        multi_loss.loss_funcs[0].norm.fill_(4.0)
        assert total(multi_loss) == 0.5
        multi_loss.normalize = False
        assert total(multi_loss) == 2.0
        multi_loss.on_nonfinite = "raise"
        with pytest.raises(NonFiniteError):
            multi_loss({"x": torch.tensor([float("nan")])}, GT)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("normalize", 0),
            ("zero_weight", "drop"),
            ("on_nonfinite", "skip"),
            ("track_norms", True),
            ("norm_momentum", 0.0),
            ("normalization_params", {"min_samples": -1}),
            ("name", "a/b"),
        ],
    )
    def test_options_are_checked_when_they_are_set(self, option: str, value: Any) -> None:
        multi_loss = combine([1.0], [1.0])
        before = getattr(multi_loss, option)
        with pytest.raises(ArgumentError, match=rf"MultiLoss 'multi': {option}"):
            setattr(multi_loss, option, value)
        assert getattr(multi_loss, option) == before

    @pytest.mark.parametrize(
        "option",
        [
            "schedules",
            "names",
            "terms",
            "weighting",
            "unnormalized",
            "optional_terms",
            "epoch_thresholds",
            "batch_keys",
        ],
    )
    def test_what_only_the_constructor_sets_is_refused(self, option: str) -> None:
        with pytest.raises(ArgumentError, match=f"MultiLoss 'multi': {option}: cannot be set after the construction"):
            setattr(combine([1.0], [1.0]), option, None)

    @pytest.mark.parametrize(("members", "found"), [("loss_funcs", 3), ("pre_processes", 1)])
    @pytest.mark.parametrize("group", [False, True])
    def test_members_that_are_added_afterwards_are_refused(self, members: str, found: int, group: bool) -> None:
        multi_loss = combine([1.0, 2.0], [1.0, 1.0], name="a")
        outer = MultiLoss([multi_loss], [1.0]) if group else multi_loss
        getattr(multi_loss, members).append(Scaled("late"))
        expected = rf"MultiLoss 'a': {members}: changed its length: expected \d, found {found}"
        with pytest.raises(ArgumentError, match=expected):
            total(outer)

    @pytest.mark.parametrize(("option", "value"), [("on_nonfinite", "raise"), ("track_norms", "running")])
    def test_what_a_compiled_forward_cannot_do_is_refused(self, option: str, value: Any) -> None:
        multi_loss = combine([1.0], [1.0])
        multi_loss.compile(backend="eager")
        with pytest.raises(ArgumentError, match=f"{option}: cannot be set once it is compiled"):
            setattr(multi_loss, option, value)

    def test_a_name_is_free_until_a_multiloss_knows_it(self) -> None:
        loss, group = Scaled("a"), combine([1.0], [1.0], name="g")
        loss.name, group.name = "b", "h"
        assert MultiLoss([loss, group], [1.0, 1.0]).names == ("b", "h")
        expected = r"expected '[bh]', since it is a term of MultiLoss 'multi', found 'c'"
        for known in (loss, group):
            with pytest.raises(ArgumentError, match=expected):
                known.name = "c"

    @pytest.mark.parametrize("given", [0, 15, 0.5, "train", None])
    def test_an_epoch_in_the_place_of_normalize_is_refused(self, given: Any) -> None:
        with pytest.raises(ArgumentError, match=r"MultiLoss 'multi': normalize: expected True or False.*pass epoch="):
            combine([1.0], [1.0])(PRED, GT, given)

    def test_the_vector_of_terms_takes_no_third_argument(self) -> None:
        with pytest.raises(TypeError, match="positional"):
            combine([1.0], [1.0]).weighted_terms(PRED, GT, 15)
