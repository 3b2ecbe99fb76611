"""Weights that are set at run time: what a checkpoint holds of them, and what it gives back."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lossreg import FromDict, LossWrapper, MultiLoss, Schedule
from lossreg.composition.changed_weights import KEY, data_of, from_tensor, python_name, schedule_of, to_tensor
from lossreg.composition.schedules import (
    Akima,
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    FromCallable,
    Pchip,
    Piecewise,
    Polynomial,
    Sigmoid,
    Step,
)
from lossreg.errors import ArgumentError, CheckpointError, WindowError


def term(name):
    return LossWrapper(nn.L1Loss(), name, pred_key="y", gt_key="y")


def build(**options):
    inner = MultiLoss([term("b"), term("c")], [1.0, 2.0], name="group")
    return MultiLoss([term("a"), inner], [3.0, [0.0, 1.0]], [0, 10], **options)


def total(criterion, **time):
    """Each term is 1."""
    return float(criterion({"y": torch.ones(2)}, {"y": torch.zeros(2)}, **time)[0])


def through_a_file(criterion):
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def slope(epoch):
    return 2 * epoch


# --- round trips ------------------------------------------------------------------------------------

NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-3, 1e3)
UNITS = st.sampled_from(["epoch", "step"])


@st.composite
def points(draw, kind):
    thresholds = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True).map(sorted))
    values = draw(st.lists(NUMBERS, min_size=len(thresholds), max_size=len(thresholds)))
    return kind(values, thresholds, unit=draw(UNITS))


SIMPLE = st.one_of(
    st.builds(Constant, NUMBERS),
    *map(points, (Piecewise, Step, Pchip, Akima)),
    *(
        st.builds(kind, ends, ends, st.floats(1.0, 100.0), st.floats(-5.0, 0.5), unit=UNITS)
        for kind, ends in ((Polynomial, NUMBERS), (Cosine, NUMBERS), (Exponential, POSITIVE), (Sigmoid, NUMBERS))
    ),
    st.builds(Cyclic, NUMBERS, NUMBERS, st.floats(1.0, 100.0), cycles=st.integers(1, 9), ratio=st.floats(0.1, 1.0)),
)
CHAINS = st.tuples(SIMPLE, SIMPLE, st.integers(1, 50)).filter(
    lambda parts: {part.unit for part in parts[:2]} == {"epoch"}
)
SCHEDULES = SIMPLE | CHAINS.map(lambda parts: Chain(parts[:2], [parts[2]]))


@given(schedule=SCHEDULES)
def test_a_schedule_comes_back_from_its_data(schedule):
    data = json.loads(json.dumps(data_of(schedule)))
    assert not python_name(data)
    assert schedule_of(data) == schedule


@given(weights=st.dictionaries(st.sampled_from(["a", "group", "group/b", "group/c"]), SCHEDULES))
def test_a_criterion_has_the_weights_that_were_set_in_another(weights):
    source, target = build(), build()
    target.set_weight("group/c", 77.0)  # which the checkpoint's takes the place of
    for name, schedule in weights.items():
        source.set_weight(name, schedule)
    target.load_state_dict(through_a_file(source))
    assert target.schedules == source.schedules
    assert target.loss_funcs[1].schedules == source.loss_funcs[1].schedules
    assert all(torch.equal(target.state_dict()[key], value) for key, value in source.state_dict().items())


def test_weights_come_back_by_value():
    source, target = build(), build()
    source.set_weight("a", 5)
    source.set_weight("group", {"schedule": "cosine", "start": 0.0, "end": 1.0, "end_epoch": 10})
    source.set_weight("group/c", [1.0, 0.0], [0, 10])
    assert total(source, epoch=5) == pytest.approx(5 + 0.5 * (1 + 0.5))
    target.load_state_dict(through_a_file(source))
    assert total(target, epoch=5) == total(source, epoch=5)


def test_a_list_of_all_weights_is_kept_too():
    source, target = build(), build()
    source.weights = [7.0, 0.0]
    target.load_state_dict(through_a_file(source))
    assert target.weights == (7.0, 0.0)


def test_weights_go_by_name_whatever_the_order():
    source, target = MultiLoss([term("a"), term("b")], [1.0, 2.0]), MultiLoss([term("b"), term("a")], [2.0, 1.0])
    source.set_weight("a", 9.0)
    target.load_state_dict(source.state_dict())
    assert target.weights == (2.0, 9.0)


def test_the_state_is_that_of_the_run_also_where_nothing_was_set():
    source, target = build(), build()
    target.set_weight("a", 9.0)
    target.load_state_dict(source.state_dict())
    assert target.weights[0] == 3.0
    assert torch.equal(target.changed_weights, source.changed_weights)


def test_an_older_checkpoint_leaves_weights_alone():
    source, target = build(), build()
    target.set_weight("a", 9.0)
    target.set_weight("group/b", slope)
    older = {key: value for key, value in source.state_dict().items() if not key.endswith(KEY)}
    target.load_state_dict(older)
    assert target.weights[0] == 9.0
    assert total(target, epoch=5) == 9 + 0.5 * (10 + 2)


def test_a_criterion_in_a_module_keeps_its_weights():
    source, target = nn.ModuleDict({"criterion": build()}), nn.ModuleDict({"criterion": build()})
    source["criterion"].set_weight("group/b", 4.0)
    target.load_state_dict(source.state_dict())
    assert target["criterion"].effective_weights(10) == {"a": 3.0, "group/b": 4.0, "group/c": 2.0}


@pytest.mark.needs_plugins
def test_a_file_and_a_checkpoint_give_the_weights(tmp_path):
    import lossreg

    file = tmp_path / "losses.yaml"
    file.write_text("losses:\n  near: {loss: torch/L1Loss, weight: 2.0}\n  far: {loss: torch/MSELoss}\n")
    source, target = lossreg.load_loss(file), lossreg.load_loss(file)
    source.set_weight("near", 0.25)
    target.load_state_dict(source.state_dict())
    assert target.weights == (0.25, 1.0)


def test_members_of_a_dictionary_keep_their_weights():
    def make():
        return MultiLoss([FromDict({}, rest=1.0, name="d", key="losses")], [1.0])

    source, target = make(), make()
    batch = {"losses": {"x": torch.tensor(1.0, requires_grad=True), "y": torch.tensor(1.0, requires_grad=True)}}
    source(batch, None)
    source.set_weight("d/x", 5.0)
    target.load_state_dict(source.state_dict())
    assert float(target(batch, None)[0].detach()) == 6.0


def test_safetensors_hold_them():
    safetensors = pytest.importorskip("safetensors.torch")
    source, target = build(), build()
    source.set_weight("a", Cosine(0, 1, 10))
    target.load_state_dict(safetensors.load(safetensors.save(source.state_dict())))
    assert target.schedules == source.schedules


@pytest.mark.filterwarnings("ignore:torch.distributed is ", "ignore:TypedStorage is deprecated")  # the latter: 2.6
def test_distributed_checkpoints_hold_them(tmp_path):
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    source, target = nn.ModuleDict({"criterion": build()}), nn.ModuleDict({"criterion": build()})
    source["criterion"].set_weight("a", Cosine(0, 1, 10))
    source["criterion"].set_weight("group/b", 8.0)
    dcp.save(get_model_state_dict(source), checkpoint_id=tmp_path)
    state = get_model_state_dict(target)
    dcp.load(state, checkpoint_id=tmp_path)
    set_model_state_dict(target, state)
    assert target["criterion"].schedules == source["criterion"].schedules
    assert target["criterion"].loss_funcs[1].schedules == source["criterion"].loss_funcs[1].schedules


# --- what no checkpoint holds -----------------------------------------------------------------------


@dataclass(frozen=True)
class Own(Schedule):
    start: float

    def __call__(self, epoch):
        return self.start + epoch


class Slope:
    def __call__(self, epoch):
        return epoch


@pytest.mark.parametrize(
    ("weight", "name"),
    [(slope, "slope"), (lambda epoch: epoch, "<lambda>"), (Own(1.0), "Own"), (Slope(), "Slope"), (min, "min")],
)
def test_a_function_is_named_and_has_to_be_set_again(weight, name):
    source, target = build(), build()
    source.set_weight("group/b", weight)
    state = through_a_file(source)
    with pytest.raises(CheckpointError, match=rf"group/b: its weight was set to \S*{name}, which a checkpoint cannot"):
        target.load_state_dict(state)
    assert target.loss_funcs[1].weights == (1.0, 2.0)
    target.set_weight("group/b", weight)
    target.load_state_dict(state)
    assert target.loss_funcs[1].schedules[0] == source.loss_funcs[1].schedules[0]


def test_functions_of_the_constructor_are_no_state():
    source, target = (MultiLoss([term("a")], [slope]) for _ in range(2))
    assert from_tensor(source.changed_weights) == {}
    target.load_state_dict(source.state_dict())
    assert target.schedules == (FromCallable(slope),)


# --- what does not fit ------------------------------------------------------------------------------


def text(data):
    return torch.tensor(list(json.dumps(data).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (torch.zeros(3), "expected weights by the names of terms"),
        (text([1.0]), "expected weights by the names of terms"),
        (torch.tensor([255], dtype=torch.uint8), "expected weights by the names of terms"),
        (text({"z": 1.0}), r"z: has a weight that was set, and is none of the terms \['a', 'group'\]"),
        (text({"a": "much"}), "a: its weight 'much' is refused"),
        (text({"a": float("nan")}), "a: its weight nan is refused"),
        (text({"a": True}), "a: its weight True is refused"),
        (text({"a": [0.0, 1.0]}), "a: .* is refused: .*epoch_thresholds"),
        (text({"a": {"start": 1.0}}), "a: .*expected a schedule by name"),
        (text({"a": {"schedule": "os/system"}}), "a: .*no schedule is named 'os/system'"),
        (text({"a": {"schedule": "os.system", "command": "ls"}}), "a: .*no schedule is named 'os.system'"),
        (text({"a": {"schedule": "core/Cosine", "start": 1.0}}), "a: .*missing"),
        (text({"a": {"schedule": "core/Cosine", "start": 1.0, "end": 0.0, "end_epoch": -1.0}}), "a: .*end_epoch"),
    ],
)
def test_a_weight_that_does_not_fit_is_refused_with_nothing_loaded(stored, problem):
    source, target = build(), build()
    source.loss_funcs[0].norm.fill_(5.0)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=problem):
        target.load_state_dict({**source.state_dict(), KEY: stored})
    assert all(torch.equal(target.state_dict()[key], value) for key, value in before.items())


def test_a_text_of_any_usual_length_has_one_size():
    """torch.distributed.checkpoint loads into tensors of the same size."""
    assert to_tensor({}).shape == to_tensor({"a": Cosine(0, 1, 10), "b": Constant(2.0)}).shape == (4096,)
    long = {f"term{i}": Piecewise([0.5] * 100, list(range(100))) for i in range(10)}
    assert to_tensor(long).numel() % 4096 == 0
    assert from_tensor(to_tensor(long)).keys() == long.keys()


@pytest.mark.parametrize("weight", [{"schedule": "sinus"}, {"start": 1.0}, {"schedule": "cosine", "start": 1.0}])
def test_a_mapping_that_is_no_schedule_is_refused(weight):
    criterion = build()
    with pytest.raises(ArgumentError, match="set_weight: weight: "):
        criterion.set_weight("a", weight)
    assert criterion.weights[0] == 3.0


def test_values_of_a_mapping_take_the_thresholds():
    criterion = build()
    criterion.set_weight("a", {"schedule": "pchip", "values": [0.0, 1.0]})
    assert criterion.schedules[0] == Pchip([0.0, 1.0], [0, 10])


# --- in a run ---------------------------------------------------------------------------------------


def test_forwards_of_a_window_share_their_weights():
    criterion = build()
    batches = [{"y": torch.zeros(2)}]
    with criterion.window(batches):
        for change in (lambda: criterion.set_weight("a", 1.0), lambda: setattr(criterion, "weights", [1.0, 1.0])):
            with pytest.raises(WindowError, match="a window is open"):
                change()
        criterion({"y": torch.ones(2, requires_grad=True)}, batches[0], epoch=0)
    criterion.set_weight("a", 1.0)
    assert criterion.weights[0] == 1.0


@pytest.mark.parametrize("zero_weight", ["keep", "skip"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_term_is_turned_off_and_on_again(zero_weight, compiled):
    criterion = MultiLoss([term("a"), term("b")], [1.0, 1.0], zero_weight=zero_weight)
    if compiled:
        torch._dynamo.reset()
        criterion.compile(fullgraph=True, backend="eager")
    pred = torch.full((2,), 3.0, requires_grad=True)
    found = []
    for weight in (1.0, 0.0, 4.0):
        criterion.set_weight("b", weight)
        value, _, _ = criterion({"y": pred}, {"y": torch.zeros(2)})
        (gradient,) = torch.autograd.grad(value, pred)
        found.append((value.item(), gradient.tolist()))
    assert found == [(6.0, [1.0, 1.0]), (3.0, [0.5, 0.5]), (15.0, [2.5, 2.5])]


# --- over ranks -------------------------------------------------------------------------------------


def train(criterion, *weights):
    """Set a weight and make a forward, for each of some weights; None sets nothing."""
    for weight in weights:
        if weight is not None:
            criterion.set_weight("group/b", weight)
        criterion({"y": torch.ones(2, requires_grad=True)}, {"y": torch.zeros(2)}, epoch=0)
    return criterion.clock.compared and criterion.loss_funcs[1].clock.compared


def test_ranks_that_set_the_same_compare_once(on_ranks):
    for options, collectives in (({}, 0), ({"reduce_over": "ranks"}, 1 + 4 + 1)):
        criteria = [build(**options) for _ in range(2)]
        found = on_ranks(
            *(lambda c=c: train(c, None, 5.0, None, None) for c in criteria), collectives=collectives
        )  # a comparison of the criteria, one collective a forward, and one comparison of the weights
        assert found == [True, True]


@pytest.mark.parametrize("options", [{}, {"reduce_over": "ranks"}, {"on_nonfinite": "skip_term"}], ids=str)
def test_different_weights_are_refused_on_all_ranks(on_ranks, options):
    criteria = [build(**options) for _ in range(2)]
    ours, theirs = on_ranks(*(lambda c=c, w=w: train(c, None, w) for c, w in zip(criteria, (5.0, 6.0), strict=True)))
    assert type(ours).__name__ == "DistributedError"
    assert str(ours) == str(theirs)
    assert "the weight of 'group/b' is lossreg.composition.schedules.Constant(value=5.0) on rank 0" in str(ours)
    assert "call set_weight alike on every rank" in str(ours)


@pytest.mark.parametrize("options", [{"reduce_over": "ranks"}, {"on_nonfinite": "skip_term"}], ids=str)
def test_a_weight_of_one_rank_is_refused_on_all(on_ranks, options):
    criteria = [build(**options) for _ in range(2)]
    ours, theirs = on_ranks(lambda: train(criteria[0], None, 5.0), lambda: train(criteria[1], None, None))
    assert type(ours).__name__ == "DistributedError"
    assert str(ours) == str(theirs)


def test_a_weight_of_one_rank_is_refused_where_forwards_exchange_nothing(on_ranks):
    criteria = [build() for _ in range(2)]
    ours, _ = on_ranks(lambda: train(criteria[0], 5.0), lambda: train(criteria[1], None))
    assert "another rank did not come: every rank must call set_weight, or load a checkpoint, alike" in str(ours)
