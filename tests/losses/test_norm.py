"""The norm: a mean weighted by samples that survives casts, copies and checkpoints."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_ranks import ThreadRanks
from torch import nn

from lossreg import Loss, LossWrapper
from lossreg.errors import CheckpointError, DistributedError
from lossreg.losses.norm import RunningNorm, gather_norms, sync_norms

VALUES = st.floats(-1e3, 1e3, width=32)
BATCHES = st.lists(st.tuples(VALUES, st.integers(0, 50)), min_size=1, max_size=8)


class Mean(Loss):
    """The mean of the prediction."""

    def compute(self, pred_batch, gt_batch):
        return pred_batch.mean()


def recorded(*batches, loss=None):
    loss = loss or Mean("mean")
    for value, nums in batches:
        loss.record(torch.tensor(value), nums)
    return loss


def statistics(loss):
    return {name: getattr(loss, name).clone() for name in ("norm", "norm_sum", "norm_count")}


def assert_same(loss, expected):
    for name, value in expected.items():
        found = getattr(loss, name)
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert torch.equal(found, value), name


# --- the average ------------------------------------------------------------------------------------


def test_a_new_loss_has_norm_one_over_no_sample():
    loss = Mean("mean")
    assert_same(loss, {"norm": torch.ones(1), "norm_sum": torch.zeros((), dtype=torch.float64)})
    assert (int(loss.norm_count), loss.norm_count.dtype) == (0, torch.float64)


def test_update_norm_takes_raw_values_off_the_graph():
    loss = Mean("mean")
    pred = torch.full((2,), 4.0, requires_grad=True)
    loss.update_norm(pred, None, 3)
    loss.update_norm(pred / 2, None, 1)  # of the raw value, not of the one over the norm so far
    assert loss.norm == (4 * 3 + 2 * 1) / 4
    assert not loss.norm.requires_grad


def test_reset_forgets_all():
    loss = recorded((4.0, 3))
    loss.reset_norm()
    assert_same(loss, statistics(Mean("new")))


def test_a_norm_is_set_by_what_writes_it_until_it_is_reset():
    loss = LossWrapper(nn.MSELoss())
    assert not loss.is_set
    assert not copy.deepcopy(loss).to(torch.float64).is_set
    loss.record(torch.tensor(2.0), 1)
    assert loss.is_set
    assert copy.deepcopy(loss).is_set
    assert pickle.loads(pickle.dumps(loss)).is_set
    assert loss.to(torch.float64).is_set
    loss.reset_norm()
    assert not loss.is_set
    loss.load_state_dict(LossWrapper(nn.MSELoss()).state_dict())
    assert loss.is_set


def test_of_a_norm_that_was_made_in_inference_mode_it_is_not_known_and_it_counts_as_set():
    with torch.inference_mode():
        assert LossWrapper(nn.MSELoss()).is_set


def test_no_samples_change_nothing():
    loss = recorded((4.0, 3))
    before = statistics(loss)
    loss.record(torch.tensor(float("nan")), 0)
    assert_same(loss, before)
    for nothing in (0, 0.0, torch.tensor(0.0)):
        loss.record(torch.tensor(float("nan")), 4, nothing)
        assert_same(loss, before)
    fresh = recorded((5.0, 0))
    assert fresh.norm == 1.0


@pytest.mark.parametrize("norm", [Mean("mean"), RunningNorm()])
def test_a_negative_number_of_samples_is_refused(norm):
    with pytest.raises(ValueError, match=r"nums: expected the number of samples in the batch, .* found -1$"):
        norm.record(torch.tensor(1.0), -1)


def test_a_number_of_samples_is_an_integer():
    loss = Mean("mean")
    loss.record(torch.tensor(1.0), torch.tensor(2))
    with pytest.raises(
        TypeError, match=r"^loss 'mean': nums: expected the number of samples in the batch, an integer .* found 2\.5$"
    ):
        loss.record(torch.tensor(1.0), 2.5)
    assert loss.norm_count == 2


@given(BATCHES)
def test_the_norm_is_the_sample_weighted_mean(batches):
    loss = recorded(*batches)
    count = sum(nums for _, nums in batches)
    mean = sum(value * nums for value, nums in batches) / count if count else 1.0
    torch.testing.assert_close(loss.norm, torch.tensor([mean]).float(), rtol=1e-6, atol=1e-6)
    assert int(loss.norm_count) == count


@given(samples=st.lists(VALUES, min_size=1, max_size=12), data=st.data())
def test_the_norm_does_not_depend_on_batches_or_their_order(samples, data):
    order = data.draw(st.permutations(samples))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(samples)))) | {0, len(samples)})
    loss = Mean("mean")
    for start, end in pairwise(cuts):
        loss.update_norm(torch.tensor(order[start:end], dtype=torch.float64), None, end - start)
    expected = sum(samples) / len(samples)
    torch.testing.assert_close(loss.norm, torch.tensor([expected]).float(), rtol=1e-6, atol=1e-6)


def test_many_small_batches_lose_nothing():
    loss = recorded((16777216.0, 1), *[(1.0, 1)] * 1000)
    assert loss.norm_sum == 16777216 + 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_shows_in_the_norm(value):
    assert not recorded((1.0, 1), (value, 1)).norm.isfinite()


def test_values_of_low_precision_are_added_in_double():
    loss = Mean("mean")
    for _ in range(4096):
        loss.record(torch.tensor(1.0, dtype=torch.float16), 32)
    assert loss.norm == 1.0
    assert loss.norm_sum == 4096 * 32  # more than float16 can hold


# --- casts and moves --------------------------------------------------------------------------------


CASTS = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "double": lambda m: m.double(),
    "to dtype": lambda m: m.to(torch.float16),
    "to device": lambda m: m.to("cpu"),
    "to both": lambda m: m.to("cpu", torch.bfloat16),
    "type": lambda m: m.type(torch.float16),
    "as a child": lambda m: nn.Sequential(m).half()[0],
}


@pytest.mark.parametrize("cast", CASTS)
def test_statistics_keep_their_precision(cast):
    loss = recorded((1.000123, 3), (77777.7, 5))
    before = statistics(loss)
    assert CASTS[cast](loss) is loss
    assert_same(loss, before)


def test_what_else_a_loss_holds_is_cast():
    loss = LossWrapper(nn.CrossEntropyLoss(weight=torch.ones(2)), "ce")
    loss.half()
    assert loss.loss_func.weight.dtype == torch.float16
    assert loss.norm.dtype == torch.float32


def test_a_move_that_fails_leaves_the_statistics():
    loss = recorded((3.0, 2))
    before = statistics(loss)

    def refuse(tensor):
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"):
        loss._apply(refuse)
    assert_same(loss, before)


def test_on_meta_and_back_the_buffers_have_their_shapes():
    loss = recorded((3.0, 2)).to("meta")
    assert {b.device.type for b in loss.buffers()} == {"meta"}
    loss.to_empty(device="cpu")
    assert [(b.device.type, b.dtype, b.shape) for b in loss.buffers()] == [
        ("cpu", torch.float32, (1,)),
        ("cpu", torch.float64, ()),
        ("cpu", torch.float64, ()),
    ]


def test_it_can_be_shared_with_other_processes():
    loss = recorded((3.0, 2)).share_memory()
    assert all(buffer.is_shared() for buffer in loss.buffers())
    assert loss.norm == 3.0


# --- copies and checkpoints -------------------------------------------------------------------------


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def loaded(loss, **options):
    other = Mean("other")
    result = other.load_state_dict(saved(loss.state_dict()), **options)
    assert not result.missing_keys
    return other


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda loss: pickle.loads(pickle.dumps(loss)),
    "state_dict": loaded,
    "assign": lambda loss: loaded(loss, assign=True),
}


POSITIVE = st.lists(st.tuples(st.floats(2**-10, 1e3, width=32), st.integers(0, 50)), min_size=1, max_size=8)


@pytest.mark.parametrize("way", COPIES)
@given(batches=POSITIVE, later=POSITIVE)
def test_a_copy_made_in_the_middle_of_a_norm_pass_goes_on_alike(way, batches, later):
    loss = recorded(*batches)
    before = statistics(loss)
    other = COPIES[way](loss)
    assert_same(other, before)
    recorded(*later, loss=other)
    assert_same(loss, before)  # a copy, no second name
    recorded(*later, loss=loss)
    assert_same(other, statistics(loss))


def test_the_state_is_these_three_buffers():
    assert list(Mean("mean").state_dict()) == ["norm", "norm_sum", "norm_count"]


@pytest.mark.parametrize("assign", [False, True])
def test_a_checkpoint_that_has_the_norm_alone_loads_strictly(assign):
    loss = recorded((9.0, 5))
    loss.load_state_dict({"norm": torch.tensor([4.0])}, strict=True, assign=assign)
    assert_same(loss, statistics(Mean("new")) | {"norm": torch.tensor([4.0])})
    recorded((2.0, 1), loss=loss)
    assert loss.norm == 2.0  # an average begins anew


def test_a_checkpoint_with_norms_alone_loads_strictly_into_a_model_on_meta():
    with torch.device("meta"):
        model = nn.Sequential(Mean("a"))
    model.load_state_dict({"0.norm": torch.tensor([4.0])}, strict=True, assign=True)
    assert_same(model[0], statistics(Mean("new")) | {"norm": torch.tensor([4.0])})


def test_a_loss_that_stands_twice_inside_of_another_loads_at_both_places():
    outer = Mean("outer")
    outer.first = outer.second = inner = Mean("inner")
    outer.load_state_dict({f"{place}norm": torch.tensor([4.0]) for place in ("", "first.", "second.")}, strict=True)
    assert (outer.norm, inner.norm) == (4.0, 4.0)


def test_a_wrong_norm_at_the_second_place_is_found_before_any_is_loaded():
    outer = Mean("outer")
    outer.first = outer.second = Mean("inner")
    wrong = {"norm": torch.tensor([4.0]), "first.norm": torch.tensor([4.0]), "second.norm": torch.tensor([-4.0])}
    before = statistics(outer)
    with pytest.raises(CheckpointError, match=r"second\.norm: expected a finite number above 0, found -4"):
        outer.load_state_dict(wrong)
    assert_same(outer, before)


def test_loading_leaves_the_checkpoint_as_it_was():
    checkpoint = {"0.norm": torch.tensor([4.0])}
    nn.Sequential(Mean("a")).load_state_dict(checkpoint)
    assert list(checkpoint) == ["0.norm"]


def test_a_checkpoint_without_a_norm_is_refused():
    with pytest.raises(RuntimeError, match=r'Missing key.*"norm", "norm_sum", "norm_count"'):
        Mean("a").load_state_dict({})


WRONG = {
    "negative": ({"norm": torch.tensor([-2.0])}, "norm: expected a finite number above 0, found -2"),
    "zero": ({"norm": torch.tensor([0.0])}, "norm: expected a finite number above 0, found 0"),
    "NaN": ({"norm": torch.tensor([torch.nan])}, "norm: expected a finite number above 0, found nan"),
    "half": ({"norm": torch.tensor([4.0]).half()}, r"norm: expected float32 of shape \(1,\), found float16"),
    "count": ({"norm_count": torch.tensor(-1)}, "norm_count: expected a count of 0 or more, found -1"),
    "no count": ({"norm_count": None}, "norm_count: is missing"),
    "inside": ({"loss_func.norm": torch.tensor([-2.0])}, "loss_func.norm: expected a finite number above 0"),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_checkpoint_of_what_cannot_be_a_norm_is_refused_and_nothing_is_loaded(wrong, strict):
    change, message = WRONG[wrong]
    state = {**recorded((4.0, 2), loss=LossWrapper(Mean("a"), "b")).state_dict(), **change}
    loss = LossWrapper(Mean("a"), "b")
    with pytest.raises(CheckpointError, match=f"loss 'b': nothing was loaded, .*{message}"):
        loss.load_state_dict({key: value for key, value in state.items() if value is not None}, strict)
    assert_same(loss, statistics(Mean("new")))


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_averaged_model_may_hold_it(use_buffers):
    model = nn.ModuleDict({"net": nn.Linear(1, 1), "loss": recorded((4.0, 2))})
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=use_buffers
    )
    average.update_parameters(model)
    average.update_parameters(model)
    assert_same(average.module["loss"], statistics(model["loss"]))


# --- without a process group ------------------------------------------------------------------------


@given(BATCHES)
def test_without_a_process_group_sync_does_nothing(batches):
    loss = recorded(*batches)
    before = statistics(loss)
    loss.sync()
    loss.sync(world_size=4)
    assert_same(loss, before)


def test_without_a_process_group_a_failure_is_raised_as_it_is():
    with pytest.raises(KeyError, match="reason"):
        gather_norms({"a": Mean("a")}, failure=KeyError("reason"))
    averages, samples = gather_norms({"a": recorded((2.0, 3))}, samples=7)
    assert (averages["a"].norm, averages["a"].count, samples) == (2.0, 3, 7)
    assert issubclass(DistributedError, RuntimeError)


# --- over ranks -------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(BATCHES, min_size=2, max_size=3))
def test_sync_is_the_norm_of_all_batches_and_each_rank_keeps_its_own_sums(shares):
    losses = [recorded(*share) for share in shares]
    sums = [(loss.norm_sum.item(), loss.norm_count.item()) for loss in losses]
    ranks = ThreadRanks(len(losses))
    with pytest.MonkeyPatch.context() as patched:  # a fixture would be one for all examples
        ranks.stand_in(patched)
        calls = [partial(sync_norms, {"mean": loss}) for loss in losses]
        assert [ranks.run(calls) for _ in range(2)] == [[None] * len(calls)] * 2  # the second changes nothing
    expected = recorded(*(batch for share in shares for batch in share))
    for loss in losses:
        torch.testing.assert_close(loss.norm, expected.norm, rtol=1e-6, atol=1e-6)
    assert [(loss.norm_sum.item(), loss.norm_count.item()) for loss in losses] == sums


def test_norms_set_by_hand_become_their_plain_mean(on_ranks):
    losses = [Mean("mean") for _ in range(3)]
    for loss, norm in zip(losses, (1.0, 2.0, 6.0), strict=True):
        loss.norm.fill_(norm)
    assert on_ranks(*(loss.sync for loss in losses)) == [None] * 3
    assert [loss.norm.item() for loss in losses] == [3.0, 3.0, 3.0]


def test_all_norms_are_averaged_in_one_collective(on_ranks):
    norms = [{"a": recorded((2.0, 1)), "b": recorded((8.0, 3))} for _ in range(2)]
    assert on_ranks(*(partial(sync_norms, of_rank) for of_rank in norms), collectives=1) == [None, None]
    assert [[loss.norm.item() for loss in of_rank.values()] for of_rank in norms] == [[2.0, 8.0]] * 2


@pytest.mark.parametrize("size", [1, 3])
def test_a_world_size_that_is_not_that_of_the_group_is_refused_on_all_ranks(on_ranks, size):
    losses = [recorded((2.0, 1)), recorded((4.0, 1))]
    errors = on_ranks(*(partial(loss.sync, size) for loss in losses))
    assert {str(error) for error in errors} == {f"sync: world_size: expected 2, as in the process group, found {size}"}
    assert on_ranks(*(partial(loss.sync, 2) for loss in losses)) == [None, None]
    assert [loss.norm.item() for loss in losses] == [3.0, 3.0]


def test_a_failure_of_one_rank_is_told_to_the_others_and_no_norm_is_changed(on_ranks):
    losses = [recorded((2.0, 1)), recorded((4.0, 1))]
    calls = [partial(gather_norms, {"a": losses[0]}), partial(gather_norms, {"a": losses[1]}, failure=KeyError("x"))]
    told, raised = on_ranks(*calls)
    assert str(told) == "rank 1 failed with KeyError: 'x'"
    assert repr(raised) == "KeyError('x')"


def test_a_failure_is_raised_also_where_the_other_ranks_are_gone(on_ranks):
    raised, _ = on_ranks(partial(gather_norms, {"a": Mean("a")}, failure=KeyError("x")), lambda: None)
    assert repr(raised) == "KeyError('x')"
    assert isinstance(raised.__cause__, DistributedError)
    gone, _ = on_ranks(partial(gather_norms, {"a": Mean("a")}, owner="here"), lambda: None)
    assert str(gone).startswith("here: another rank is gone or did not answer")


def test_samples_are_added_up(on_ranks):
    calls = [
        partial(gather_norms, {"a": recorded((value, nums))}, samples=nums) for value, nums in ((1.0, 2), (4.0, 4))
    ]
    for averages, samples in on_ranks(*calls):
        assert (averages["a"].norm, averages["a"].count, samples) == (3.0, 6.0, 6)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (("a", "b"), ("a",), "the list of terms is a, b on rank 0, a on rank 1"),
        (("a", "b"), ("b", "a"), "the list of terms is a, b on rank 0, b, a on rank 1"),
    ],
)
def test_ranks_of_different_terms_average_nothing(on_ranks, first, second, told):
    norms = [{name: recorded((2.0, 1)) for name in names} for names in (first, second)]
    for error in on_ranks(*(partial(sync_norms, of_rank) for of_rank in norms)):
        assert isinstance(error, DistributedError)
        assert f"sync: expected the same criterion on every rank, found: {told}." in str(error)


def test_ranks_of_different_losses_average_nothing(on_ranks):
    errors = on_ranks(recorded((2.0, 1)).sync, recorded((4.0, 1), loss=LossWrapper(nn.L1Loss(), "mean")).sync)
    assert all("found: the loss of 'mean' is " in str(error) for error in errors)
