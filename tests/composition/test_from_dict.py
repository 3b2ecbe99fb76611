"""The losses that a model computes itself: each member of its dictionary is a term, with its norm, weight and log."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lossreg import FromDict, LossWrapper, MultiLoss, calibrate_norms, create_loss, diagnose
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import (
    ArgumentError,
    BatchError,
    CheckpointError,
    CountError,
    DtypeError,
    MissingKeyError,
    ShapeError,
    UnknownNameError,
    WindowError,
)


class Detector(nn.Module):
    """A detector that returns its own losses: w^2 and 3 |v|, sums of x, and what it logs."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.v = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> dict[str, Any]:
        losses = {"loss_box": (self.w * x).pow(2).mean(), "loss_class": 3 * (self.v * x).abs().mean()}
        return {**losses, "error": (self.w.detach() - 1).abs(), "note": "from the model", "boxes": torch.tensor(7)}


X = torch.tensor([1.0, 2.0], dtype=torch.float64)
BOX, CLASS, ERROR = 0.25 * 2.5, 3 * 2 * 1.5, 0.5  # by hand


def scalars(*names: str, scale: float = 1.0) -> dict[str, Tensor]:
    """Return a dictionary of 1, 2, ... times the scale, each a leaf."""
    return {name: torch.tensor((i + 1) * scale, requires_grad=True) for i, name in enumerate(names)}


class Rows(MutableMapping[str, Any]):
    """A mapping as TensorDict is one: it is iterated by rows, and refuses `in` and its truth."""

    def __init__(self, **entries: Any) -> None:
        self.entries = entries

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.entries[key] = value

    def __delitem__(self, key: str) -> None:
        del self.entries[key]

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[str]:
        raise StopIteration

    def __contains__(self, key: object) -> bool:
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise RuntimeError

    def keys(self) -> Any:
        return self.entries.keys()

    def items(self) -> Any:
        return self.entries.items()

    def values(self) -> Any:
        return self.entries.values()

    def get(self, key: str, default: Any = None) -> Any:
        return self.entries.get(key, default)


# --- values ---------------------------------------------------------------------------------------


def test_the_members_of_a_detector_by_hand() -> None:
    model = Detector()
    group = FromDict({"loss_box": 2.0, "loss_class": 0.5}, rest=0, key="losses", name="det")
    other = LossWrapper(nn.L1Loss(), "other", pred_key="y", gt_key="y")
    criterion = MultiLoss([group, other], [0.1, 1.0])
    batch = {"losses": model(X), "y": torch.ones(2)}
    total, values, _ = criterion(batch, {"y": torch.zeros(2)})
    assert {name: value.item() for name, value in values.items()} == pytest.approx(
        {"det/loss_box": BOX, "det/loss_class": CLASS, "other": 1.0}
    )
    assert total.item() == pytest.approx(0.1 * (2 * BOX + 0.5 * CLASS) + 1)
    total.backward()
    assert model.w.grad is not None
    assert model.v.grad is not None
    assert model.w.grad.item() == pytest.approx(0.1 * 2.0 * 2 * 0.5 * 2.5)  # d w^2 mean(x^2)
    assert model.v.grad.item() == pytest.approx(0.1 * 0.5 * -3 * 1.5)
    record = criterion.last_record
    assert record is not None
    assert record["det/loss_box"].contribution.item() == pytest.approx(0.1 * 2 * BOX)


def test_a_norm_is_that_of_its_member() -> None:
    criterion = MultiLoss([FromDict({"a": 1.0, "b": {"weight": 2.0, "normalize": False}}, rest=3.0)], [1.0])
    criterion.update_norm(scalars("a", "b", "c"), None, 2)
    criterion.update_norm(scalars("a", "b", "c", scale=4.0), None, 1)
    total, values, _ = criterion(scalars("a", "b", "c"), None)
    # norms are 1, ., 3 times (1 + 1 + 4) / 3
    assert {name: value.item() for name, value in values.items()} == pytest.approx(
        {"from_dict/a": 0.5, "from_dict/b": 2.0, "from_dict/c": 0.5}
    )
    assert total.item() == pytest.approx(0.5 + 2 * 2.0 + 3 * 0.5)


@pytest.mark.parametrize(
    ("terms", "rest", "expected"),
    [
        ({"loss_a": 2.0, "loss_*": 3.0}, 5.0, 2 * 1 + 3 * 2 + 5 * 3),  # its own name goes before a glob
        ({"loss_*": 3.0, "loss_b": 2.0}, 5.0, 3 * 1 + 2 * 2 + 5 * 3),
        ({"loss_?": 3.0, "*": 4.0}, None, 3 * 1 + 3 * 2 + 4 * 3),  # the first glob that matches
        ({"other": 1.0}, {"weight": 0.5, "normalize": False}, 0.5 * 1 + 0.5 * 2 + 3),
        (None, 2.0, 2 * 6),
        ({"loss_[ab]": 1.0}, 0, 3.0),
    ],
)
def test_globs_and_the_rest(terms: Any, rest: Any, expected: float) -> None:
    total, _, _ = FromDict(terms, rest)(scalars("loss_a", "loss_b", "other"), None)
    assert total.item() == expected


def test_weights_follow_the_epoch_as_any() -> None:
    weights = {"a": [0.0, 1.0], "b*": lambda epoch: epoch, "c": {"weight": [1.0, 3.0], "epoch_thresholds": [0, 2]}}
    group = FromDict(weights, [1.0, 0.0], epoch_thresholds=[0, 10])
    batch = scalars("a", "b1", "c", "d")
    assert group(batch, None, epoch=5)[0].item() == pytest.approx(0.5 * 1 + 5 * 2 + 3 * 3 + 0.5 * 4)
    assert group(batch, None, epoch=0)[0].item() == pytest.approx(0 * 1 + 0 * 2 + 1 * 3 + 1 * 4)
    criterion = MultiLoss([group], [1.0])
    criterion.set_weight("from_dict/d", 10.0)
    assert criterion(batch, None, epoch=0)[0].item() == pytest.approx(3 + 40)


@settings(derandomize=True, database=None, max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text("ab_", min_size=1, max_size=3), st.floats(-9, 9, width=32), min_size=1, max_size=5),
    st.data(),
)
def test_the_total_is_the_weighted_sum(values: dict[str, float], data: st.DataObject) -> None:
    named = {name: data.draw(st.floats(-2, 2)) for name in values if data.draw(st.booleans())}
    batch = {name: torch.tensor(value) for name, value in values.items()}
    expected = sum(named.get(name, 0.5) * value for name, value in values.items())
    group = FromDict(named, 0.5)
    total, found, _ = group(batch, None)
    assert total.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert set(found) == set(values)
    assert list(group.names) == [*named, *sorted(set(values) - set(named))]


@pytest.mark.parametrize("gt", [False, True])
def test_the_key_names_a_side(gt: bool) -> None:
    group = FromDict({"a": 1.0}, key="gt.losses" if gt else "pred.losses")
    batches = ({}, {"losses": scalars("a")}) if gt else ({"losses": scalars("a")}, {})
    assert group(*batches)[0].item() == 1
    assert group.requires == ("gt.losses" if gt else "pred.losses",)


def test_values_of_samples_are_a_mean_with_their_number() -> None:
    group = FromDict({"a": 1.0, "b": 1.0})
    group({"a": torch.tensor([1.0, 2.0, 6.0]), "b": torch.ones(())}, None)
    record = group.last_record
    assert record is not None
    assert record["a"].value.item() == 3
    assert record["a"].count is not None
    assert record["a"].count.item() == 3
    assert record["b"].count is None
    group({"a": torch.ones(0, requires_grad=True), "b": torch.ones(())}, None)  # over nothing
    assert group.last_record is not None
    assert group.last_record["a"].contribution.item() == 0


def test_what_is_no_floating_tensor_is_a_loss_only_where_it_is_named() -> None:
    assert FromDict(rest=1.0, key="losses")({"losses": Detector()(X)}, None)[1].keys() == {
        "loss_box",
        "loss_class",
        "error",
    }
    constant = FromDict({"a": 1.0, "b": 2.0})({"a": torch.ones(()), "b": 3.0, "note": "x", "n": torch.tensor(1)}, None)
    assert constant[0].item() == 7
    with pytest.raises(DtypeError, match=r"loss 'a': expected a floating tensor, found str"):
        FromDict({"a": 1.0})({"a": "text"}, None)
    with pytest.raises(DtypeError, match=r"found int64"):
        FromDict({"a": 1.0})({"a": torch.tensor(1)}, None)
    with pytest.raises(
        ShapeError, match=r"loss 'a': expected a scalar or values of samples \(N,\), found shape \(2, 3\)"
    ):
        FromDict(rest=1.0)({"a": torch.ones(2, 3)}, None)


@pytest.mark.parametrize("key", [None, "losses"])
def test_a_mapping_as_tensordict_is_one(key: str | None) -> None:
    batch: Any = Rows(loss_objective=torch.ones((), requires_grad=True), loss_critic=torch.ones(()), entropy=X)
    criterion = MultiLoss([FromDict({"loss_*": 2.0, "aux": {"optional": True}}, rest=0, key=key)], [1.0])
    criterion.make_optional()
    total, values, _ = criterion(batch if key is None else Rows(losses=batch), {})
    assert total.item() == 4
    assert set(values) == {"from_dict/loss_objective", "from_dict/loss_critic"}


def test_the_dictionary_of_a_detection_transformer() -> None:
    """Its loss is the sum over `weight_dict`, with one copy of each member for each auxiliary layer."""
    weight_dict = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
    random = torch.Generator().manual_seed(0)
    loss_dict: OrderedDict[str, Any] = OrderedDict()
    for layer in ("", "_0", "_1"):
        loss_dict |= {name + layer: torch.rand((), generator=random, dtype=torch.float64) for name in weight_dict}
        loss_dict["cardinality_error" + layer] = torch.tensor(9.0)
    expected = sum(weight_dict[n] * loss_dict[n + layer] for n in weight_dict for layer in ("", "_0", "_1"))
    group = FromDict({f"{name}*": weight for name, weight in weight_dict.items()}, rest=0, key="loss_dict")
    total, values, _ = group({"loss": expected, "loss_dict": loss_dict, "logits": torch.ones(2, 3)}, None)
    assert total.item() == pytest.approx(float(expected), rel=1e-12)
    assert len(values) == 9
    plain, _, _ = FromDict({"loss": 1.0}, rest=0)(
        {"loss": expected, "logits": torch.ones(2, 3), "aux_loss": None}, None
    )
    assert plain.item() == pytest.approx(float(expected), rel=1e-12)


def test_a_dictionary_without_losses_is_a_total_of_nothing() -> None:
    batch = {"note": "none", "count": torch.tensor([1, 2])}
    assert FromDict(rest=1.0)({"note": "none"}, None)[0].item() == 0
    total, values, _ = MultiLoss([FromDict(rest=1.0, weighting=DWA())], [1.0])(batch, None, epoch=0)
    assert (total.item(), values) == (0.0, {})


# --- what a batch lacks, or has beside ------------------------------------------------------------


def test_a_member_that_nothing_names_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(BatchError) as caught:
        FromDict({"a": 1.0, "b*": 1.0}, name="det")(scalars("a", "b", "loss_mask", "x"), None)
    assert str(caught.value) == (
        "from_dict 'det': `terms` does not name 'loss_mask', 'x'; name them, or write `rest: 1.0` to take all others, "
        "or `rest: 0` to ignore them"
    )
    with pytest.raises(BatchError, match=r"'m9' and 5 more; name them"):
        FromDict({"a": 1.0})(scalars(*(f"m{i}" for i in range(15))), None)


def test_a_missing_member_is_an_error_unless_it_is_optional() -> None:
    with pytest.raises(MissingKeyError, match=r"loss 'loss_bxo': the dictionary has no such member; it has 'loss_box'"):
        FromDict({"loss_bxo": 1.0}, rest=0)(scalars("loss_box"), None)
    group = FromDict({"a": 1.0, "aux": {"weight": 5.0, "optional": True}})
    assert group(scalars("a"), None)[1].keys() == {"a"}
    assert group({**scalars("a"), "aux": None}, None)[0].item() == 1
    assert group(scalars("a", "aux"), None)[0].item() == 11


def test_an_absent_member_moves_no_norm() -> None:
    group = FromDict({"a": 1.0, "aux": {"optional": True}}, rest=1.0, track_norms="running", norm_momentum=0.5)
    group(scalars("a", "aux", "more", scale=2.0), None)
    before = [loss.norm.item() for loss in group.loss_funcs]
    group(scalars("a", scale=8.0), None)
    after = [loss.norm.item() for loss in group.loss_funcs]
    assert after[1:] == before[1:]
    assert after[0] != before[0]


def test_a_glob_that_matches_nothing_is_an_error_unless_it_is_optional() -> None:
    with pytest.raises(MissingKeyError, match=r"no member matches 'los_\*'; the dictionary has 'loss_a'"):
        FromDict({"los_*": 1.0}, rest=0)(scalars("loss_a"), None)
    optional = FromDict({"a": 1.0, "aux_*": {"optional": True}})
    assert optional(scalars("a"), None)[0].item() == 1


def test_the_first_forward_in_training_fixes_the_members() -> None:
    group = FromDict({"a": 1.0}, rest=1.0, name="det").eval()
    group(scalars("a"), None)
    group(scalars("a", "c"), None)
    group(scalars("a", "b"), None)
    assert group.names == ("a", "b", "c")
    group.train()(scalars("a", "d"), None)
    assert group.names == ("a", "b", "c", "d")
    for mode in (True, False):
        with pytest.raises(BatchError, match=r"'det': a glob or `rest` takes 'e', which came after the members were"):
            group.train(mode)(scalars("a", "e"), None)
    ignoring = FromDict({"a*": 1.0}, rest=0)
    ignoring(scalars("a1"), None)
    ignoring(scalars("a1", "b"), None)
    with pytest.raises(BatchError, match=r"takes 'a2'"):  # it is no other that may be ignored
        ignoring(scalars("a1", "a2"), None)


def test_new_members_leave_the_others_as_they_are() -> None:
    group = FromDict({"b": 1.0}, rest=1.0).eval()
    group.update_norm(scalars("b", "c", scale=2.0), None, 3)
    kept = dict(zip(group.names, group.loss_funcs, strict=True))
    group.skipped.copy_(torch.tensor([1, 2]))
    group.set_weight("c", 7.0)
    group.update_norm(scalars("b", "a"), None, 3)
    now = dict(zip(group.names, group.loss_funcs, strict=True))
    assert list(now) == ["b", "a", "c"]
    assert now["c"] is kept["c"]
    assert now["c"].norm.item() == 4
    assert group.skipped.tolist() == [1, 0, 2]
    assert [term.schedule(0.0) for term in group.terms] == [1, 1, 7]
    assert not now["a"].training


@pytest.mark.parametrize(
    ("pred", "gt", "said"),
    [
        ({}, {}, r"from_dict 'det' needs 'pred.losses'; pred_batch has keys none"),
        (torch.ones(2), {}, r"needs 'pred.losses'; pred_batch has a Tensor of shape"),
        ({"losses": torch.ones(2)}, {}, r"'pred.losses': expected a dictionary, found a Tensor"),
        ({"losses": [1]}, {}, r"'pred.losses': expected a dictionary, found \[1\]"),
    ],
)
def test_no_dictionary_is_an_error(pred: Any, gt: Any, said: str) -> None:
    with pytest.raises(MissingKeyError, match=said):
        FromDict(rest=1.0, key="losses", name="det")(pred, gt)


def test_a_prediction_that_is_no_dictionary_is_an_error() -> None:
    with pytest.raises(MissingKeyError, match=r"expected a dictionary for prediction, found a Tensor of shape \(2,\)"):
        FromDict(rest=1.0)(torch.ones(2), {})


def test_an_optional_dictionary_may_be_left_out() -> None:
    criterion = MultiLoss(
        [FromDict({"a": 1.0}, key="losses"), LossWrapper(nn.L1Loss(), "x", pred_key="x", gt_key="x")],
        [1.0, 1.0],
        optional_terms=["from_dict"],
        batch_keys=["pred.x", "gt.x"],
    )
    batch = {"x": torch.ones(2, requires_grad=True)}
    total, values, _ = criterion(batch, {"x": torch.zeros(2)})
    assert (total.item(), set(values)) == (1.0, {"x"})
    assert criterion({**batch, "losses": {**scalars("a")}}, {"x": torch.zeros(2)})[0].item() == 2
    assert criterion({**batch, "losses": {}}, {"x": torch.zeros(2)})[0].item() == 1
    assert criterion.optional == ("pred.losses",)


def test_names_from_a_model_are_safe() -> None:
    with pytest.raises(BatchError) as caught:
        FromDict(rest=1.0)({"a\x1b[2Jb": torch.ones(())}, None)
    assert "\x1b" not in str(caught.value)
    assert r"a\x1b[2Jb" in str(caught.value)
    for name in ("a" * 200, "", "a."):
        with pytest.raises(BatchError, match="expected a name"):
            FromDict(rest=1.0)({name: torch.ones(())}, None)
    with pytest.raises(MissingKeyError) as missing:
        FromDict({"a": 1.0}, rest=0)({"x\nEvil: \x1b[0m": torch.ones((), requires_grad=True)}, None)
    assert "\x1b" not in str(missing.value)
    assert not any("\x1b" in note or "\n" in note for note in missing.value.__notes__)


def test_a_slash_in_a_name_becomes_a_dot() -> None:
    group = FromDict({"loss/a": 2.0}, rest=1.0)
    criterion = MultiLoss([group], [1.0])
    assert set(criterion(scalars("loss/a", "loss/b"), None)[1]) == {"from_dict/loss.a", "from_dict/loss.b"}
    with pytest.raises(BatchError, match=r"two members are named 'loss.a', where `/` becomes `.`"):
        criterion(scalars("loss/a", "loss.a"), None)
    assert group.requires == ("pred.loss/a",)


def test_a_loss_by_that_name_is_a_group() -> None:
    with pytest.raises(
        UnknownNameError, match=r"'from_dict' is a group of terms, no loss; make it with lossreg.FromDi"
    ):
        create_loss("from_dict", rest=1.0)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "terms: takes no member (name some, or give rest)"),
        ({"rest": 0}, "terms: takes no member (name some, or give rest)"),
        ({"terms": ["a"]}, "terms: expected a mapping of member to weight, found ['a']"),
        ({"terms": {"a": "x"}}, "terms.a: term 'a': weight: expected a number, a list of numbers with epoch_"),
        ({"terms": {"a": [1.0, 2.0]}}, "terms.a: term 'a': weight: expected epoch_thresholds for a list"),
        ({"terms": {"a": {"wieght": 1}}}, "terms.a.wieght: is not an option of a member (expected weight, epoch_"),
        ({"terms": {"a": {"optional": 1}}}, "terms.a.optional: expected true or false, found 1"),
        ({"terms": {"": 1.0}}, "terms: expected names of members, found ''"),
        ({"terms": {"a/b": 1.0, "a.b": 1.0}}, "terms: names two members alike, where `/` becomes `.` (leave one out)"),
        ({"rest": 1.0, "key": ""}, "key: expected a key of the batch, found ''"),
        ({"rest": 1.0, "approximate": 1}, "approximate: expected true or false, found 1"),
        ({"rest": 1.0, "epoch_thresholds": [2, 1]}, "epoch_thresholds: expected a list of epochs in ascending order"),
        ({"rest": 1.0, "zero_weight": "no"}, "zero_weight: expected 'keep' or 'skip', found 'no'"),
        ({"rest": 1.0, "weighting": Uncertainty()}, "weighting: Uncertainty has parameters for each member, which an"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        FromDict(**arguments)
    assert problem in str(caught.value)


# --- weightings, windows, tools -------------------------------------------------------------------


def test_a_weighting_in_the_group_weighs_the_members() -> None:
    group = FromDict({"a": 1.0}, rest=1.0, weighting=DWA())
    batches = [scalars("a", "b", scale=scale) for scale in (1.0, 0.5, 0.5)]
    for epoch, batch in enumerate(batches):
        batch["b"] = torch.tensor(2.0, requires_grad=True)
        total, _, _ = group(batch, None, epoch=epoch)
    # in epoch 2: rates 0.5 and 1 at temperature 2
    rates = [math.exp(0.5 / 2), math.exp(1 / 2)]
    weights = [2 * rate / sum(rates) for rate in rates]
    assert total.item() == pytest.approx(weights[0] * 0.5 + weights[1] * 2.0)
    assert group.coefficients()["b"].item() == pytest.approx(weights[1])


def test_gradnorm_finds_the_gradients_of_members_at_shared_parameters() -> None:
    shared = nn.Parameter(torch.tensor([1.0, 2.0]))
    weighting = GradNorm(alpha=0.0)
    weighting.set_shared_parameters([shared])
    group = FromDict({"a": 1.0, "b": 1.0}, weighting=weighting)
    for _ in range(300):
        group({"a": shared.sum(), "b": 4 * shared.sum()}, None)
    a, b = (float(value) for value in group.coefficients().values())
    assert a == pytest.approx(4 * b, rel=0.05)  # equal gradient norms


def test_an_uncertainty_over_named_members_learns() -> None:
    group = FromDict({"a": 1.0, "b": 1.0}, weighting=Uncertainty())
    total, _, _ = group(scalars("a", "b"), None)
    total.backward()
    (s,) = group.weighting_parameters()
    assert s.grad is not None
    assert s.grad.tolist() == pytest.approx([-0.5 * 1 + 0.5, -0.5 * 2 + 0.5])  # of exp(-s) L / 2 + s / 2


def test_what_is_ignored_stays_in_the_graph_unless_it_is_skipped() -> None:
    for zero_weight, there in (("keep", True), ("skip", False)):
        batch = {**scalars("a", "b"), "logits": torch.full((2, 3), math.nan, requires_grad=True)}
        total, _, _ = MultiLoss([FromDict({"a": 1.0}, rest=0, zero_weight=zero_weight)], [1.0])(batch, None)
        assert total.item() == 1
        total.backward()
        assert (batch["b"].grad is not None) == there
        assert (batch["logits"].grad is not None) == there
        if there:
            assert float(batch["logits"].grad.abs().sum()) == 0


def test_a_window_takes_members_for_means_over_samples_if_it_may() -> None:
    targets = [[{}] * 3, {"boxes": [{}]}]  # lists of 3 images and of 1
    exact = FromDict({"a": 1.0})
    with pytest.raises(CountError, match=r"loss 'a': .*set `approximate: true`"), exact.window(targets):
        pass
    with pytest.raises(WindowError, match=r"name the members under `terms`, or make the first step without a window"):
        FromDict(rest=1.0, approximate=True).window(targets).__enter__()
    group = FromDict({"a": 1.0}, rest=1.0, approximate=True)
    group(scalars("a", "b"), targets[0])
    batches = [scalars("a", "b"), scalars("a")]  # the second lacks b
    with group.window(targets):
        for batch, gt in zip(batches, targets, strict=True):
            group(batch, gt)[0].backward()
    assert [float(batch["a"].grad) for batch in batches] == [0.75, 0.25]
    assert float(batches[0]["b"].grad) == 0.75


def test_each_forward_may_be_a_window_over_the_ranks() -> None:
    criterion = MultiLoss([FromDict({"a": 2.0}, rest=1.0, approximate=True)], [1.0], reduce_over="ranks")
    total, values, _ = criterion(scalars("a", "b"), [{}] * 3)  # of one rank
    assert (total.item(), set(values)) == (4.0, {"from_dict/a", "from_dict/b"})
    assert criterion(scalars("a"), [{}])[0].item() == 2.0


def test_calibration_meets_the_members() -> None:
    criterion = MultiLoss([FromDict({"loss_box": 1.0}, rest=1.0, key="losses")], [1.0])
    model = Detector()
    found = calibrate_norms(
        criterion, model, [X, 2 * X], batch_fn=lambda m, x: ({"losses": m(x)}, None, len(x)), min_samples=1
    )
    assert found == pytest.approx(
        {
            "from_dict/loss_box": BOX * (1 + 4) / 2,
            "from_dict/error": ERROR,
            "from_dict/loss_class": CLASS * (1 + 2) / 2,
        }
    )
    assert not criterion._dictionaries[0].fixed


def test_diagnose_meets_the_members_and_moves_nothing() -> None:
    model = Detector()
    criterion = MultiLoss([FromDict(rest=1.0, key="losses")], [1.0])
    found = diagnose(criterion, {"losses": model(X)}, None, model)
    lengths = {term.name: term.gradient_norm for term in found.terms}
    assert lengths == pytest.approx(
        {"from_dict/loss_box": 2 * 0.5 * 2.5, "from_dict/loss_class": 3 * 1.5, "from_dict/error": 0.0}
    )
    assert criterion.training
    assert not criterion._dictionaries[0].fixed


def test_the_plan_has_members_and_globs() -> None:
    criterion = MultiLoss([FromDict({"a": 1.0, "b_*": 2.0}, rest=3.0, key="losses")], [1.0])
    (group,) = criterion.plan()
    assert group["requires"] == ["pred.losses"]
    assert [(item["name"], item["loss"], item["requires"], item["weight"]) for item in group["plan"]] == [
        ("a", "from_dict", ["pred.losses"], 1.0),
        ("b_*", "from_dict", ["pred.losses"], 2.0),
        ("*", "from_dict", ["pred.losses"], 3.0),
    ]
    (alone,) = MultiLoss([FromDict({"a": 1.0}, rest=0)], [1.0]).plan()
    assert alone["plan"][0]["requires"] == ["pred.a"]
    assert "b_*: weight=Constant(value=2.0)" in repr(criterion)


def test_a_compiled_criterion_meets_the_members_before_it_is_traced() -> None:
    criterion = MultiLoss([FromDict({"a": [0.0, 1.0], "b*": 2.0}, rest=0, epoch_thresholds=[0, 4])], [1.0])
    criterion.compile(backend="eager", fullgraph=True)
    for epoch in (1.0, 2.0):
        batch = scalars("a", "b", "ignored")
        total, values, _ = criterion(batch, None, epoch=epoch)
        assert total.item() == pytest.approx(epoch / 4 + 4)
        assert set(values) == {"from_dict/a", "from_dict/b"}
        total.backward()
        assert batch["a"].grad is not None
        assert batch["a"].grad.item() == pytest.approx(epoch / 4)


def test_a_larger_compiled_function_meets_no_members() -> None:
    criterion = MultiLoss([FromDict({"a": 1.0}, rest=2.0)], [1.0])
    compiled = torch.compile(lambda batch: criterion(batch, None)[0], backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="larger compiled function"):
        compiled(scalars("a", "b"))
    criterion(scalars("a", "b"), None)
    torch.compiler.reset()
    assert compiled(scalars("a", "b")).item() == 5


def test_no_value_is_read_and_all_stays_on_its_device() -> None:
    group = FromDict({"a": 1.0, "n": 1.0}, rest=1.0, weighting=DWA()).to("meta")
    batch = {"a": torch.ones((), device="meta"), "b": torch.ones(3, device="meta"), "n": 2.0}
    total, values, _ = group(batch, None, epoch=0)
    assert {tensor.device.type for tensor in (total, *values.values(), *group.buffers())} == {"meta"}
    with FakeTensorMode():
        fake = FromDict({"a": 1.0}, rest=1.0)
        fake({"a": torch.ones((), requires_grad=True), "b": torch.ones(3)}, None)[0].backward()


# --- state ----------------------------------------------------------------------------------------


def trained(**options: Any) -> MultiLoss:
    """Return a criterion whose group has the members a, b and c."""
    criterion = MultiLoss([FromDict({"a": 1.0}, rest=2.0, name="det", **options)], [1.0])
    criterion.update_norm(scalars("a", "c", "b"), None, 2)
    criterion(scalars("a", "b", "c"), None, epoch=0)
    return criterion


@pytest.mark.parametrize("inside", [False, True])
def test_a_checkpoint_brings_its_members_before_the_first_forward(inside: bool) -> None:
    criterion = trained(weighting=DWA())
    fresh = MultiLoss([FromDict({"a": 1.0}, rest=2.0, name="det", weighting=DWA())], [1.0])
    if inside:  # as in a LightningModule
        nn.ModuleDict({"loss": fresh}).load_state_dict(nn.ModuleDict({"loss": criterion}).state_dict())
    else:
        fresh.load_state_dict(criterion.state_dict())
    (group,) = fresh._dictionaries
    assert group.names == ("a", "b", "c")
    assert group.fixed
    assert [loss.norm.item() for loss in group.loss_funcs] == [1, 3, 2]
    assert fresh(scalars("a", "b", "c"), None, epoch=0)[0] == criterion(scalars("a", "b", "c"), None, epoch=0)[0]
    for key, value in criterion.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key])


def test_a_checkpoint_that_is_refused_leaves_the_members_as_they_were() -> None:
    state = trained().state_dict()
    fresh = MultiLoss([FromDict({"a": 1.0}, rest=2.0, name="det")], [1.0])
    broken = {**state, "loss_funcs.0.loss_funcs.1.norm": torch.tensor([-1.0])}
    with pytest.raises(CheckpointError, match="above 0"):
        fresh.load_state_dict(broken)
    assert fresh._dictionaries[0].names == ("a",)
    assert not fresh._dictionaries[0].fixed
    named = MultiLoss([FromDict({"a": 1.0}, rest=0, name="det")], [1.0])
    with pytest.raises(CheckpointError, match=r"det: expected the terms \['a'\], found \['a', 'b', 'c'\]"):
        named.load_state_dict(state)
    other = MultiLoss([FromDict({"a": 1.0}, rest=1.0, name="det")], [1.0])
    other(scalars("a", "z"), None)
    with pytest.raises(CheckpointError, match=r"expected the terms \['a', 'z'\]"):  # a forward has fixed its members
        other.load_state_dict(state)


def test_a_checkpoint_from_before_the_first_batch_fixes_nothing() -> None:
    before = MultiLoss([FromDict({"a": 1.0}, rest=2.0, name="det")], [1.0]).state_dict()
    fresh = MultiLoss([FromDict({"a": 1.0}, rest=2.0, name="det")], [1.0])
    fresh.load_state_dict(before)
    assert fresh(scalars("a", "b"), None)[1].keys() == {"det/a", "det/b"}


def test_a_copy_has_members_of_its_own() -> None:
    group = FromDict({"a": 1.0}, rest=1.0).eval()
    group(scalars("a", "b"), None)
    copied = copy.deepcopy(group)
    copied(scalars("a", "c"), None)
    assert (group.names, copied.names) == (("a", "b"), ("a", "b", "c"))
