"""Calibration sets the norms, and moves nothing else."""

from __future__ import annotations

import copy
import math
import os
import pty
import random
import re
import subprocess
import sys
from collections import namedtuple
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from lossreg import Loss, LossWrapper, MultiLoss, calibrate_norms
from lossreg.errors import ArgumentError, DistributedError, LossregError, MissingKeyError, NormError
from lossreg.training import calibration
from lossreg.training.calibration import default_batch, needs_norms


class Mean(Loss):
    """The mean of the prediction times a factor."""

    def __init__(self, name, factor=1.0):
        super().__init__(name)
        self.factor = factor

    def compute(self, pred_batch, gt_batch):
        return pred_batch.mean() * self.factor


class Network(nn.Module):
    """A network in which every kind of state is."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.bn = nn.BatchNorm1d(2)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(2).eval()

    def forward(self, x):
        return self.dropout(self.frozen(self.bn(self.linear(x))))


def samples(*values):
    """A loader of (image, target) pairs of one sample each."""
    return [(torch.tensor([[value]]), torch.zeros(1, 1)) for value in values]


def calibrate(multi_loss, loader, model=None, **options):
    return calibrate_norms(
        multi_loss, nn.Identity() if model is None else model, loader, **{"min_samples": 1} | options
    )


def norms(multi_loss):
    return {path: float(term.loss.norm) for path, term in multi_loss.leaves()}


@pytest.fixture
def criterion():
    group = MultiLoss([Mean("b", 2.0), Mean("c", 3.0)], [1.0, 1.0], name="group")
    return MultiLoss([Mean("a"), group, Mean("plain")], [1.0, 1.0, 1.0], unnormalized=["plain"])


# --- the norms --------------------------------------------------------------------------------------


def test_every_normalised_term_gets_the_average_of_its_raw_value(criterion):
    assert calibrate(criterion, samples(1.0, 3.0)) == {"a": 2.0, "group/b": 4.0, "group/c": 6.0}
    assert norms(criterion) == {"a": 2.0, "group/b": 4.0, "group/c": 6.0, "plain": 1.0}
    pred = torch.full((1, 1), 2.0)
    _, values, _ = criterion(pred, pred)
    assert {path: float(value) for path, value in values.items()} == {"a": 1, "group/b": 1, "group/c": 1, "plain": 2}


@given(
    values=st.lists(st.floats(0.125, 100, width=32), min_size=1, max_size=20),
    size=st.integers(1, 6),
)
def test_the_average_is_over_samples_and_not_over_batches(values, size):
    loader = DataLoader(TensorDataset(torch.tensor(values)[:, None], torch.zeros(len(values), 1)), batch_size=size)
    found = calibrate(MultiLoss([Mean("a")], [1.0]), loader)
    assert found["a"] == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_one_loss_in_two_places_has_one_norm():
    shared = Mean("a", 2.0)
    criterion = MultiLoss([shared, MultiLoss([shared], [1.0], name="group")], [1.0, 1.0])
    assert calibrate(criterion, samples(1.0, 3.0)) == {"a": 4.0, "group/a": 4.0}
    assert shared.norm == 4.0


def test_norms_are_needed_once_and_by_a_criterion_that_normalises(criterion, on_ranks):
    assert needs_norms(criterion, "here")
    done = copy.deepcopy(criterion)
    done.calibrated.fill_(True)
    assert not needs_norms(done, "here")
    assert not needs_norms(MultiLoss([nn.L1Loss()], [1.0], normalize=False), "here")
    for error in on_ranks(partial(needs_norms, criterion, "here"), partial(needs_norms, done, "here")):
        assert isinstance(error, DistributedError)
        assert "calibrated" in str(error)


def test_norms_that_were_there_do_not_enter(criterion):
    for _, term in criterion.leaves():
        term.loss.norm.fill_(100.0)
        term.loss.record(torch.tensor(50.0), 7)
    assert calibrate(criterion, samples(1.0, 3.0))["a"] == 2.0
    assert calibrate(criterion, samples(5.0))["a"] == 5.0
    assert int(criterion.loss_funcs[0].norm_count) == 1
    assert norms(criterion)["plain"] == 50.0  # not normalised: left as it was


def test_the_criterion_and_its_groups_know_that_they_are_calibrated(criterion):
    assert not criterion.calibrated
    calibrate(criterion, samples(1.0))
    assert criterion.calibrated
    assert criterion.loss_funcs[1].calibrated
    other = copy.deepcopy(criterion)
    other.reset_norm()
    assert not other.calibrated
    other.load_state_dict(criterion.state_dict())
    assert other.calibrated
    assert norms(other) == norms(criterion)


def test_a_later_sync_leaves_the_norms(criterion):
    calibrate(criterion, samples(1.0, 3.0), min_norm=5.0)
    before = norms(criterion)
    criterion.sync()
    assert norms(criterion) == before
    first = criterion.loss_funcs[0]
    assert (float(first.norm_sum), int(first.norm_count)) == (10.0, 2)


def test_a_compiled_criterion_can_be_calibrated(criterion):
    compiled = torch.compile(criterion, backend="eager")
    assert calibrate(compiled, samples(1.0, 3.0)) == {"a": 2.0, "group/b": 4.0, "group/c": 6.0}
    assert norms(criterion)["a"] == 2.0


def test_no_graph_is_made():
    seen = []

    class Spy(Mean):
        def compute(self, pred_batch, gt_batch):
            seen.append(pred_batch.requires_grad or torch.is_grad_enabled())
            return super().compute(pred_batch, gt_batch)

    model = nn.Linear(1, 1)
    with suppress(NormError):
        calibrate(MultiLoss([Spy("a")], [1.0]), samples(1.0), model)
    assert seen == [False]
    assert model.weight.grad is None
    assert model.weight.requires_grad
    assert torch.is_grad_enabled()


# --- how many samples -------------------------------------------------------------------------------


def batches(*sizes):
    return [(torch.full((size, 1), float(i + 1)), torch.zeros(size, 1)) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("most", "used"), [(1, [4]), (4, [4]), (5, [4, 4]), (8, [4, 4]), (9, [4, 4, 2]), (100, [4, 4, 2])]
)
def test_it_stops_after_the_batch_that_reaches_max_samples(most, used):
    drawn = []

    def loader():
        for batch in batches(4, 4, 2):
            drawn.append(len(batch[0]))
            yield batch

    multi_loss = MultiLoss([Mean("a")], [1.0])
    found = calibrate(multi_loss, loader(), max_samples=most)
    assert drawn == used, "drew a batch more than it used"
    assert int(multi_loss.loss_funcs[0].norm_count) == sum(used)
    assert found["a"] == pytest.approx(sum(size * (i + 1) for i, size in enumerate(used)) / sum(used))


def test_a_thousand_samples_are_enough_where_nothing_says_how_many():
    multi_loss = MultiLoss([Mean("a")], [1.0])
    calibrate_norms(multi_loss, nn.Identity(), batches(999, 1, 1))
    assert int(multi_loss.loss_funcs[0].norm_count) == 1000


def test_the_config_may_say_how_many():
    multi_loss = MultiLoss([Mean("a")], [1.0], normalization_params={"min_samples": 3, "max_samples": 5})
    calibrate_norms(multi_loss, nn.Identity(), samples(*[1.0] * 20))
    assert int(multi_loss.loss_funcs[0].norm_count) == 5
    with pytest.raises(NormError, match="gave 2 samples, at least 3 are needed"):
        calibrate_norms(multi_loss, nn.Identity(), samples(1.0, 1.0))
    calibrate_norms(multi_loss, nn.Identity(), samples(*[1.0] * 20), min_samples=0, max_samples=1)
    assert int(multi_loss.loss_funcs[0].norm_count) == 1


def test_by_default_it_takes_ten_to_a_thousand():
    multi_loss = MultiLoss([Mean("a")], [1.0])
    with pytest.raises(NormError, match="gave 9 samples, at least 10 are needed"):
        calibrate_norms(multi_loss, nn.Identity(), batches(9))
    calibrate_norms(multi_loss, nn.Identity(), batches(600, 600, 600))
    assert int(multi_loss.loss_funcs[0].norm_count) == 1200


def test_the_default_least_is_never_more_than_the_most():
    multi_loss = MultiLoss([Mean("a")], [1.0], normalization_params={"max_samples": 4})
    assert calibrate_norms(multi_loss, nn.Identity(), samples(*[2.0] * 20)) == {"a": 2.0}
    assert int(multi_loss.loss_funcs[0].norm_count) == 4
    calibrate_norms(multi_loss, nn.Identity(), samples(*[2.0] * 20), max_samples=9)
    assert int(multi_loss.loss_funcs[0].norm_count) == 9


@pytest.mark.parametrize("config", [{}, {"min_samples": 3}])
def test_a_least_above_the_most_is_refused_before_a_batch_is_drawn(config):
    multi_loss = MultiLoss([Mean("a")], [1.0], normalization_params=config)
    options = {"max_samples": 2} if config else {"max_samples": 2, "min_samples": 3}
    with pytest.raises(ArgumentError, match="min_samples: expected at most max_samples, which is 2, found 3"):
        calibrate_norms(multi_loss, nn.Identity(), iter(()), **options)


@pytest.mark.parametrize("loader", [[], samples(1.0, 1.0)])
def test_too_few_samples_are_an_error_and_change_nothing(criterion, loader):
    criterion.loss_funcs[0].norm.fill_(7.0)
    before = copy.deepcopy(criterion.state_dict())
    message = (
        f"calibrate_norms: the loader gave {len(loader)} samples, at least 3 are needed; "
        "lower min_samples or give more data"
    )
    with pytest.raises(NormError, match=f"^{re.escape(message)}$"):
        calibrate(criterion, loader, min_samples=3)
    assert {k: v.tolist() for k, v in criterion.state_dict().items()} == {k: v.tolist() for k, v in before.items()}


@pytest.mark.parametrize("options", [{"max_samples": 0}, {"max_samples": -1}, {"min_samples": -1}])
def test_numbers_out_of_range_are_refused(criterion, options):
    with pytest.raises(ValueError, match=f"calibrate_norms: {next(iter(options))}: expected a number of samples"):
        calibrate(criterion, samples(1.0), **options)


# --- averages that cannot divide --------------------------------------------------------------------

EXPECTED = "; expected a finite number of at least 1e-09. "
ADVICE = EXPECTED + "Set `normalize: false` for that term, or give a floor: min_norm"
NOT_FINITE = EXPECTED + (
    "Give the term a `mask` where labels are missing; otherwise see with `lossreg show` what its loss expects, such as "
    "logits or probabilities. No floor mends an average that is not finite"
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1e-10, "1e-10"),
        (-2.5, "-2.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
    ],
)
def test_a_term_whose_average_cannot_divide_is_named_with_what_to_do(value, shown):
    criterion = MultiLoss([Mean("good"), LossWrapper(lambda p, t: p.sum() * 0 + value, "bad")], [1.0, 1.0])
    criterion.loss_funcs[0].norm.fill_(7.0)
    message = f"calibrate_norms: cannot divide by the average of 'bad' (average {shown})"
    message += ADVICE if math.isfinite(value) else NOT_FINITE
    with pytest.raises(NormError, match=f"^{re.escape(message)}$") as raised:
        calibrate(criterion, samples(1.0))
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, LossregError)
    assert norms(criterion) == {"good": 7.0, "bad": 1.0}
    assert not criterion.calibrated


def test_all_bad_terms_are_named_at_once_groups_included():
    group = MultiLoss([Mean("b", 0.0), Mean("c")], [1.0, 1.0], name="group")
    criterion = MultiLoss([Mean("a", -1.0), group], [1.0, 1.0])
    message = "calibrate_norms: cannot divide by the average of 'a' (average -1), 'group/b' (average 0)" + ADVICE
    with pytest.raises(NormError, match=f"^{re.escape(message)}$"):
        calibrate(criterion, samples(1.0))
    assert not criterion.loss_funcs[1].calibrated


@pytest.mark.parametrize("value", [1.1e-9, 1e-8, 1e30])
def test_what_is_large_enough_divides(value):
    criterion = MultiLoss([Mean("a", value)], [1.0])
    assert calibrate(criterion, samples(1.0))["a"] == pytest.approx(value)


def test_a_floor_holds_for_what_is_below_it():
    criterion = MultiLoss([Mean("zero", 0.0), Mean("negative", -1.0), Mean("small", 0.25), Mean("big")], [1.0] * 4)
    found = calibrate(criterion, samples(2.0), min_norm=1.0)
    assert found == norms(criterion) == {"zero": 1.0, "negative": 1.0, "small": 1.0, "big": 2.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_floor_mends_what_is_not_finite(value):
    criterion = MultiLoss([Mean("a", value)], [1.0])
    with pytest.raises(NormError, match="cannot divide"):
        calibrate(criterion, samples(1.0), min_norm=1.0)


def test_what_is_not_normalised_may_be_zero():
    criterion = MultiLoss([Mean("a"), Mean("zero", 0.0)], [1.0, 1.0], unnormalized=["zero"])
    assert calibrate(criterion, samples(1.0)) == {"a": 1.0}


def test_a_term_that_no_batch_had_keeps_norm_one_with_a_warning():
    class Far(Mean):
        requires = ("pred.far",)

        def compute(self, pred_batch, gt_batch):
            return self.read(pred_batch, gt_batch, "pred.far").mean()

    class Near(Mean):
        requires = ("pred.near",)

        def compute(self, pred_batch, gt_batch):
            return self.read(pred_batch, gt_batch, "pred.near").mean()

    criterion = MultiLoss([Near("near"), Far("far")], [1.0, 1.0], optional_terms=["far"])
    loader = [{"image": torch.full((2, 1), 3.0)}]

    def batch_fn(model, batch):
        return {"near": batch["image"]}, {}, 2

    with pytest.warns(UserWarning, match=r"^calibrate_norms: no batch had what 'far' needs; its norm is 1$"):
        found = calibrate(criterion, loader, batch_fn=batch_fn)
    assert found == {"near": 3.0, "far": 1.0}


# --- nothing else moves -----------------------------------------------------------------------------


def data_loader(**options):
    data = TensorDataset(torch.arange(64.0).reshape(32, 2), torch.zeros(32, 2))
    return DataLoader(data, batch_size=4, **options)


def generator(seed=3):
    made = torch.Generator()
    made.manual_seed(seed)
    return made


LOADERS = {
    "global generator": lambda: data_loader(shuffle=True),
    "generator of the loader": lambda: data_loader(shuffle=True, generator=generator()),
    "generator of the sampler": lambda: data_loader(sampler=RandomSampler(range(32), generator=generator())),
    "batch sampler": lambda: DataLoader(
        data_loader().dataset,
        batch_sampler=torch.utils.data.BatchSampler(RandomSampler(range(32), generator=generator()), 4, False),
    ),
}


@pytest.mark.parametrize("most", [1, 1000])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_calibrated_run_sees_the_same_data_order_and_the_same_randomness(kind, most):
    def run(calibrated):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        model, loader = Network(), LOADERS[kind]()
        criterion = MultiLoss([LossWrapper(nn.L1Loss(), "a")], [1.0])
        if calibrated:
            calibrate(criterion, loader, model, max_samples=most, mode="train", batch_fn=restless)
        seen = [batch[0].tolist() for _ in range(2) for batch in loader]
        return (
            seen,
            model(torch.ones(4, 2)).tolist(),
            torch.rand(3).tolist(),
            np.random.rand(3).tolist(),
            random.random(),
        )

    def restless(model, batch):
        random.random(), np.random.rand(5), torch.rand(5)
        return default_batch(model, batch)

    assert run(True) == run(False)


class Augmented(Dataset):
    """Samples with a random number each, drawn where they are loaded."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor([index + 1.0]), torch.rand(1)


def test_workers_that_persist_begin_the_run_anew():
    def run(calibrated):
        torch.manual_seed(0)
        loader = DataLoader(Augmented(), batch_size=2, shuffle=True, num_workers=1, persistent_workers=True)
        if calibrated:
            calibrate(MultiLoss([Mean("a")], [1.0]), loader, max_samples=3)
        return [[part.tolist() for part in batch] for _ in range(2) for batch in loader]

    assert run(True) == run(False)


def state(model):
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("failing", [False, True])
def test_modes_and_buffers_are_as_they_were(mode, training, failing):
    model = Network().train(training)
    model.frozen.eval()
    criterion = MultiLoss([LossWrapper(nn.L1Loss(), "a")], [1.0]).train(training)
    before, modes = state(model), [module.training for module in model.modules()]
    seen = []

    def batch_fn(given, batch):
        seen.append((given.bn.training, given.frozen.training, criterion.training))
        result = default_batch(given, batch)
        if failing:
            raise RuntimeError("a bad file")
        return result

    with suppress(RuntimeError):
        calibrate(criterion, data_loader(), model, mode=mode, batch_fn=batch_fn, max_samples=8)
    assert set(seen) == {(mode == "train", mode == "train", False)}
    assert [module.training for module in model.modules()] == modes
    assert [module.training for module in criterion.modules()] == [training] * len([*criterion.modules()])
    assert state(model) == before


def test_the_criterion_may_be_part_of_the_model():
    model = Network()
    model.criterion = MultiLoss([LossWrapper(nn.L1Loss(), "a")], [1.0])
    found = calibrate(model.criterion, data_loader(), model, mode="train")
    assert norms(model.criterion) == found
    assert found["a"] != 1.0


def test_an_unknown_mode_is_refused(criterion):
    with pytest.raises(ValueError, match=r"^calibrate_norms: mode: expected 'eval' or 'train', found 'test'$"):
        calibrate(criterion, samples(1.0), mode="test")


# --- where it fails ---------------------------------------------------------------------------------


def test_what_goes_wrong_surfaces_and_norms_are_as_they_were(criterion):
    criterion.loss_funcs[0].norm.fill_(7.0)
    before = state(criterion)

    def broken():
        yield from samples(1.0, 2.0)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        calibrate(criterion, broken())
    with pytest.raises(TypeError, match="loader: expected an iterable of batches"):
        calibrate(criterion, 5)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        calibrate(criterion, samples(1.0), nn.Linear(2, 2))
    needy = MultiLoss([LossWrapper(nn.L1Loss(), "a", gt_key="mask")], [1.0])
    with pytest.raises(MissingKeyError, match=r"loss 'a' needs 'gt\.mask'; gt_batch has keys \['image'\]"):
        calibrate(needy, [{"image": torch.ones(2, 1)}])
    assert state(criterion) == before


# --- batches ----------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "image target")
IMAGE, TARGET = torch.ones(3, 1), torch.full((3, 1), 5.0)


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGE, TARGET),
        [IMAGE, TARGET],
        Pair(IMAGE, TARGET),
        {"image": IMAGE, "target": TARGET, "name": ["a", "b", "c"]},
    ],
)
def test_pairs_and_mappings_with_an_image_need_no_function(batch):
    criterion = MultiLoss([LossWrapper(nn.L1Loss(), "a", gt_key="target")], [1.0])
    assert calibrate(criterion, [batch], min_samples=3) == {"a": 4.0}


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        ({"picture": IMAGE, "b": 1}, "keys ['b', 'picture']"),
        (IMAGE, "Tensor"),
        ((IMAGE, TARGET, IMAGE), "tuple"),
        (5, "int"),
        ("ab", "str"),
    ],
)
def test_other_batches_need_a_function(batch, found):
    message = (
        "calibrate_norms: expected a batch that is a mapping with 'image' or an (image, target) pair, "
        f"found {found}; pass batch_fn"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        calibrate(MultiLoss([Mean("a")], [1.0]), [batch])


def test_a_function_says_what_a_batch_is(criterion):
    loader = [{"x": 1.0, "n": torch.tensor(2)}, {"x": 4.0, "n": np.int64(1)}]

    def batch_fn(model, batch):
        return model(torch.full((1,), batch["x"])), None, batch["n"]

    assert calibrate(criterion, loader, batch_fn=batch_fn, min_samples=3)["a"] == 2.0


@pytest.mark.parametrize(("nums", "error"), [(-1, ValueError), (1.5, TypeError), (None, TypeError)])
def test_a_number_of_samples_that_is_none_is_refused(criterion, nums, error):
    with pytest.raises(error, match=r"number of samples|integer"):
        calibrate(criterion, samples(1.0), batch_fn=lambda model, batch: (batch[0], batch[1], nums))


def test_batches_go_to_the_device_of_the_model():
    seen = []

    class OnMeta(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, device="meta"))

    def batch_fn(model, batch):
        (image, nested), mapping, pair, rest = batch
        seen.extend(t.device.type for t in (image, nested[0], mapping["a"], pair.image, pair.target))
        assert type(pair) is Pair
        assert rest == "text"
        return torch.ones(1), None, 1

    batch = [(IMAGE, [TARGET]), {"a": IMAGE}, Pair(IMAGE, TARGET), "text"]
    calibrate(MultiLoss([Mean("a")], [1.0]), [batch], OnMeta(), batch_fn=batch_fn)
    assert seen == ["meta"] * 5
    assert IMAGE.device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_norm": -1e-9}, "min_norm: expected a finite number of 0 or more, found -1e-09"),
        ({"min_norm": float("inf")}, "min_norm: expected a finite number of 0 or more, found inf"),
        ({"min_norm": float("nan")}, "min_norm: expected a finite number of 0 or more, found nan"),
        ({"min_norm": "much"}, "min_norm: expected a finite number of 0 or more, found 'much'"),
        ({"min_samples": 1.5}, "min_samples: expected a number of samples, 0 or more, found 1.5"),
        ({"batch_fn": 3}, "batch_fn: expected a function (model, batch) -> (pred_batch, gt_batch, samples), found 3"),
        ({"batch_fn": dict}, "batch_fn: expected a function (model, batch) -> (pred_batch, gt_batch, samples), found "),
        ({"progress": 1}, "progress: expected "),
        ({"model": "net"}, "model: expected the network, a module, found 'net'"),
        ({"loader": 3}, "loader: expected an iterable of batches, found 3"),
    ],
    ids=str,
)
def test_each_argument_is_checked_before_a_batch_is_drawn(criterion, options, message):
    drawn = []
    given = {"model": nn.Identity(), "loader": map(drawn.append, [1]), **options}
    with pytest.raises(ArgumentError) as raised:
        calibrate_norms(criterion, **given)
    assert message in str(raised.value)
    assert drawn == []


def test_no_floor_and_no_least_number_of_samples_are_taken(criterion):
    assert calibrate(criterion, samples(1.0), min_norm=0, min_samples=0)["a"] == 1.0


def test_what_a_loader_may_be(criterion):
    class Indexed:
        def __getitem__(self, i):
            return samples(1.0, 3.0)[i]

    assert calibrate(criterion, Indexed())["a"] == 2.0
    assert calibrate(criterion, iter(samples(1.0, 3.0)))["a"] == 2.0


def test_a_criterion_inside_of_a_module_is_told_by_its_path(criterion):
    with pytest.raises(ArgumentError, match=r"multi_loss: expected a MultiLoss, .*it holds one: give \.inner\.loss"):
        calibrate(nn.ModuleDict({"inner": nn.ModuleDict({"loss": criterion})}), samples(1.0))
    with pytest.raises(ArgumentError, match="multi_loss: expected a MultiLoss, found ") as raised:
        calibrate(nn.Linear(1, 1), samples(1.0))
    assert "it holds one" not in str(raised.value)


# --- the bar ----------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch, lossreg
class Mean(lossreg.Loss):
    def compute(self, pred, gt):
        return pred.mean()
loader = [(torch.ones(2, 1), torch.ones(2, 1))] * 5
criterion = lossreg.MultiLoss([Mean("a")], [1.0])
for progress in (False, True):
    lossreg.calibrate_norms(criterion, torch.nn.Identity(), loader, progress=progress)
    sys.stderr.write(f"[{progress} is done]")
print("done")
"""


def terminal():
    """Run the script with a terminal for its errors; return what it wrote there."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | {"TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=theirs, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 65536):
                written += part
        os.close(ours)
        assert process.stdout.read() == "done\n"
    assert process.returncode == 0, written
    return written.decode()


def test_a_bar_is_shown_in_a_terminal_where_it_is_asked_for():
    off, _, on = terminal().partition("[False is done]")
    assert off == ""
    assert "calibrating norms" in on


def test_elsewhere_nothing_is_written(criterion, capfd):
    calibrate(criterion, samples(*[1.0] * 20))
    assert capfd.readouterr() == ("", "")


# --- losses that take derivatives -------------------------------------------------------------------


class Residual(Loss):
    """Mean square of `u'' - f`, of a network's output `u` and its input `x`."""

    requires = ("pred.u", "pred.x", "gt.f")
    needs_grad = True

    def compute(self, pred_batch, gt_batch):
        u, x = pred_batch["u"], pred_batch["x"]
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        curvature = torch.autograd.grad(slope.sum(), x, create_graph=True)[0]
        return (curvature - gt_batch["f"]).square().mean()


class Hidden(Residual):
    """The same, and does not say what it needs."""

    needs_grad = False


def residual_batch(model, x):
    x = x.clone().requires_grad_()
    return {"u": model(x), "x": x}, {"f": torch.zeros_like(x)}, len(x)


def sine():
    """A network u(x) = a tanh(b x), whose u'' is -2 a b^2 tanh(bx) (1 - tanh(bx)^2), and points to try it at."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False))
    a, b = network[2].weight.item(), network[0].weight.item()
    points = torch.linspace(-2, 2, 12)[:, None]
    t = np.tanh(b * points.double().numpy())
    return network, list(points.split(4)), float(np.mean((2 * a * b**2 * t * (1 - t**2)) ** 2))


@pytest.mark.parametrize("grouped", [False, True])
def test_a_physics_residual_is_calibrated(grouped):
    network, loader, expected = sine()
    criterion = MultiLoss([Residual("residual")], [1.0])
    criterion = MultiLoss([criterion], [1.0]) if grouped else criterion
    norms = calibrate(criterion, loader, network, batch_fn=residual_batch)
    assert list(norms.values()) == [pytest.approx(expected, rel=1e-4)]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.is_grad_enabled()


def test_a_residual_that_does_not_say_what_it_needs_is_told():
    network, loader, _ = sine()
    with pytest.raises(RuntimeError, match="does not require grad") as raised:
        calibrate(MultiLoss([Hidden("residual")], [1.0]), loader, network, batch_fn=residual_batch)
    assert sum("set `needs_grad = True` on its class" in note for note in raised.value.__notes__) == 1


def test_a_network_that_takes_derivatives_itself_is_told_too():
    def batch(model, x):
        pred, gt, count = residual_batch(model, x)
        return torch.autograd.grad(pred["u"].sum(), pred["x"])[0], gt, count

    network, loader, _ = sine()
    with pytest.raises(RuntimeError, match="does not require grad") as raised:
        calibrate(MultiLoss([Mean("mean")], [1.0]), loader, network, batch_fn=batch)
    assert "needs_grad" in raised.value.__notes__[0]


def test_the_bar_counts_samples_up_to_the_most(monkeypatch):
    shown = []

    class Recorded(calibration.Progress):
        def update(self, task, **options):
            shown.append((options["completed"], self.tasks[0].total))
            super().update(task, **options)

    monkeypatch.setattr(calibration, "Progress", Recorded)
    loader = DataLoader(TensorDataset(torch.ones(8, 1), torch.zeros(8, 1)), batch_size=2)
    calibrate(MultiLoss([Mean("a")], [1.0]), loader, max_samples=5)
    assert shown == [(2, 5), (4, 5), (5, 5)]


# --- over ranks -------------------------------------------------------------------------------------


def on(on_ranks, *loaders, criteria=None, each=None, **options):
    """Calibrate on ranks, each with a loader and options of its own; return what each returned, and the criteria."""
    criteria = criteria or [MultiLoss([Mean("a"), Mean("b", 2.0)], [1.0, 1.0]) for _ in loaders]
    each = each or [{} for _ in loaders]
    found = on_ranks(
        *(
            partial(calibrate, multi_loss, loader, **options | own)
            for multi_loss, loader, own in zip(criteria, loaders, each, strict=True)
        )
    )
    return found, criteria


def test_all_ranks_end_with_the_average_over_the_samples_of_all(on_ranks):
    found, criteria = on(on_ranks, samples(1.0, 2.0), samples(6.0))
    assert found == [{"a": 3.0, "b": 6.0}] * 2
    for multi_loss in criteria:
        assert norms(multi_loss) == {"a": 3.0, "b": 6.0}
        assert bool(multi_loss.calibrated)
        first = multi_loss.loss_funcs[0]  # of all ranks, so that a later sync leaves the norm as it is
        assert (first.norm_sum.item(), first.norm_count.item()) == (9.0, 3.0)
    assert on_ranks(*(multi_loss.sync for multi_loss in criteria)) == [None, None]
    assert [norms(multi_loss) for multi_loss in criteria] == [{"a": 3.0, "b": 6.0}] * 2


@pytest.mark.parametrize(("most", "used"), [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_each_rank_takes_its_share_of_max_samples(on_ranks, most, used):
    _, criteria = on(on_ranks, samples(*[1.0] * 9), samples(*[3.0] * 9), max_samples=most)
    assert [multi_loss.loss_funcs[0].norm_count.item() for multi_loss in criteria] == [2 * used] * 2


def test_min_samples_are_those_of_all_ranks(on_ranks):
    loaders = samples(1.0, 2.0), samples(6.0)
    assert on(on_ranks, *loaders, min_samples=3)[0] == [{"a": 3.0, "b": 6.0}] * 2
    errors, criteria = on(on_ranks, *loaders, min_samples=4)
    assert {str(error).partition(";")[0] for error in errors} == {
        "calibrate_norms: the loader gave 3 samples, at least 4 are needed"
    }
    assert [norms(multi_loss) for multi_loss in criteria] == [{"a": 1.0, "b": 1.0}] * 2


def test_a_rank_without_samples_takes_the_norms_of_the_others_and_does_not_warn(on_ranks):
    found, criteria = on(on_ranks, samples(1.0, 2.0, 6.0), [])
    assert found == [{"a": 3.0, "b": 6.0}] * 2
    assert norms(criteria[1]) == {"a": 3.0, "b": 6.0}


def test_where_one_rank_fails_all_raise_and_no_norm_moves(on_ranks):
    found, criteria = on(on_ranks, samples(1.0, 2.0), [*samples(1.0), "no batch"])
    told, raised = found
    assert isinstance(raised, TypeError)
    assert isinstance(told, DistributedError)
    assert str(told) == f"rank 1 failed with TypeError: {raised}"
    assert [norms(multi_loss) for multi_loss in criteria] == [{"a": 1.0, "b": 1.0}] * 2
    assert not any(bool(multi_loss.calibrated) for multi_loss in criteria)


@pytest.mark.parametrize(
    ("option", "values", "told"),
    [
        ("max_samples", (5, 7), "max_samples is 5 on rank 0, 7 on rank 1"),
        ("min_samples", (1, 2), "min_samples is 1 on rank 0, 2 on rank 1"),
        ("min_norm", (0.0, 0.5), "min_norm is 0.0 on rank 0, 0.5 on rank 1"),
        ("mode", ("eval", "train"), "mode of calibrate_norms is eval on rank 0, train on rank 1"),
    ],
)
def test_ranks_of_different_limits_are_told_so(on_ranks, option, values, told):
    errors, _ = on(on_ranks, samples(1.0), samples(2.0), each=[{option: value} for value in values])
    assert all(isinstance(error, DistributedError) for error in errors)
    assert all(f"calibrate_norms: expected the same criterion on every rank, found: {told}." in str(e) for e in errors)


def test_ranks_of_different_criteria_are_told_so(on_ranks):
    criteria = [MultiLoss([Mean("a")], [weight]) for weight in (1.0, 2.0)]
    errors, _ = on(on_ranks, samples(1.0), samples(2.0), criteria=criteria)
    assert all("found: the weight of 'a' is " in str(error) for error in errors)
    assert [norms(multi_loss) for multi_loss in criteria] == [{"a": 1.0}] * 2
