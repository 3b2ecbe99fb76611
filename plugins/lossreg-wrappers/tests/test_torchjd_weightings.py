"""The scalarizers of TorchJD as weightings, each against TorchJD itself over several steps."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import lossreg
from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import WeightingError

scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed")
weightings = pytest.importorskip("lossreg_wrappers.torchjd_weightings")

PREFERENCES = [0.2, 0.5, 0.3]
BOUNDS = [0.05, 0.0, 0.1]
NAMES = ("a", "b", "c")


def t(numbers):
    return torch.tensor(numbers)


CASES = {
    "COSMOS": (lambda: weightings.COSMOS(2.0, PREFERENCES), lambda: scalarization.COSMOS(2.0, t(PREFERENCES))),
    "Constant": (lambda: weightings.Constant(PREFERENCES), lambda: scalarization.Constant(t(PREFERENCES))),
    "FAMO": (lambda: weightings.FAMO(lr=0.1), lambda: scalarization.FAMO(3, lr=0.1)),
    "FAMO above bounds": (
        lambda: weightings.FAMO(BOUNDS, lr=0.1, weight_decay=0.01),
        lambda: scalarization.FAMO(3, t(BOUNDS), lr=0.1, weight_decay=0.01),
    ),
    "GeometricMean": (lambda: weightings.GeometricMean(), lambda: scalarization.GeometricMean()),
    "IMTLL": (lambda: weightings.IMTLL(), lambda: scalarization.IMTLL(3)),
    "Mean": (lambda: weightings.Mean(), lambda: scalarization.Mean()),
    "PBI": (
        lambda: weightings.PBI(5.0, PREFERENCES, BOUNDS),
        lambda: scalarization.PBI(5.0, t(PREFERENCES), t(BOUNDS)),
    ),
    "Random": (lambda: weightings.Random(), lambda: scalarization.Random()),
    "STCH": (lambda: weightings.STCH(0.5), lambda: scalarization.STCH(0.5)),
    "STCH with preferences": (
        lambda: weightings.STCH(0.1, PREFERENCES, BOUNDS),
        lambda: scalarization.STCH(0.1, t(PREFERENCES), t(BOUNDS)),
    ),
    "Sum": (lambda: weightings.Sum(), lambda: scalarization.Sum()),
    "UW": (lambda: weightings.UW(), lambda: scalarization.UW(3)),
}


class Pull(Loss):
    """The squared distance of `pred.y` to a point, plus a half."""

    def __init__(self, name, point, scale):
        super().__init__(name)
        self.requires = ("pred.y",)
        self.point, self.scale = point, scale

    def compute(self, pred_batch, gt_batch):
        return self.scale * (pred_batch["y"] - self.point).square().mean() + 0.5


def criterion(weighting, weights=(1.0, 1.0, 1.0), **options):
    terms = [Pull(name, i - 1.0, s) for i, (name, s) in enumerate(zip(NAMES, (1.0, 5.0, 0.2), strict=True))]
    return MultiLoss(terms, list(weights), weighting=weighting, **options)


def train(step, parameters, steps):
    """Descend; return the totals and the gradients of all parameters."""
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    seen = []
    for number in range(steps):
        torch.manual_seed(number)
        optimizer.zero_grad()
        total = step()
        total.backward()
        seen += [total.detach().clone(), *(p.grad.clone() for p in parameters)]
        optimizer.step()
    return seen


@pytest.mark.parametrize("case", CASES)
def test_weights_are_right_after_meta_and_a_checkpoint(case):
    original, other = criterion(CASES[case][0]()), criterion(CASES[case][0]())
    original({"y": torch.linspace(-0.3, 0.8, 4, requires_grad=True)}, {})
    other.to("meta").to_empty(device="cpu")
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data.fill_(77)
    other.load_state_dict(original.state_dict())
    for name, buffer in original.named_buffers():
        assert torch.equal(dict(other.named_buffers())[name], buffer), name
    assert torch.equal(other.weighting.weights(), original.weighting.weights())


@pytest.mark.parametrize("case", CASES)
def test_values_gradients_and_state_are_torchjds_over_steps(case):
    """On one batch, whose values after a step are those that the next forward brings."""
    make, make_theirs = CASES[case]
    multi_loss, theirs = criterion(make()), make_theirs()
    ours_y, their_y = (nn.Parameter(torch.linspace(-0.3, 0.8, 4)) for _ in range(2))
    losses = criterion(None).loss_funcs

    def values():
        return torch.stack([loss({"y": their_y}, {}, False)[0] for loss in losses])

    def their_step():
        found = values()
        if hasattr(theirs, "update") and theirs._prev_losses is not None:
            theirs.update(found)
        return theirs(found)

    learned = [p for p in theirs.parameters() if not case.startswith("FAMO")]
    found = train(lambda: multi_loss({"y": ours_y}, {})[0], [ours_y, *multi_loss.weighting_parameters()], 6)
    expected = train(their_step, [their_y, *learned], 6)
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, value in theirs.state_dict().items():
        if name != "min_losses":
            torch.testing.assert_close(multi_loss.weighting.scalarizer.state_dict()[name], value)


def test_famo_takes_the_values_of_the_same_batch_after_the_step():
    rng = torch.Generator().manual_seed(0)
    batches = [(torch.rand(3, generator=rng) + 0.1, torch.rand(3, generator=rng) + 0.1) for _ in range(5)]
    ours, theirs = weightings.FAMO(lr=0.1), scalarization.FAMO(3, lr=0.1)
    ours.bind(NAMES)
    for before, after in batches:
        torch.testing.assert_close(ours(before).of(before).sum(), theirs(before))
        ours.update(dict(zip(NAMES, after, strict=True)))
        theirs.update(after)
    torch.testing.assert_close(ours.scalarizer.state_dict()["_w"], theirs.state_dict()["_w"])


@pytest.mark.parametrize("case", CASES)
def test_the_schedule_multiplies(case):
    y = torch.linspace(-0.3, 0.8, 4)
    multi_loss = criterion(CASES[case][0](), [[1.0, 2.0], 1.0, 1.0], epoch_thresholds=[0, 1])
    multi_loss({"y": y}, {}, epoch=0)
    first, second = (multi_loss.eval().weighted_terms({"y": y}, {}, epoch=epoch) for epoch in (0, 1))
    torch.testing.assert_close(second, first * t([2.0, 1.0, 1.0]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_that_was_stopped_ends_with_the_same_numbers(case, stop):
    def run(multi_loss, y, optimizer, steps):
        for number in steps:
            torch.manual_seed(number)
            total = multi_loss({"y": y * (1 + number / 10)}, {})[0]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        return total.detach()

    def make():
        multi_loss, y = criterion(CASES[case][0]()), nn.Parameter(torch.linspace(-0.3, 0.8, 4))
        return multi_loss, y, torch.optim.Adam([y, *multi_loss.weighting_parameters()], lr=0.05)

    whole, first, second = make(), make(), make()
    expected = run(*whole, range(6))
    run(*first, range(stop))
    second[0].load_state_dict(copy.deepcopy(first[0].state_dict()))
    second[1].data.copy_(first[1].data)
    second[2].load_state_dict(copy.deepcopy(first[2].state_dict()))
    assert torch.equal(run(*second, range(stop, 6)), expected)


@pytest.mark.parametrize("case", CASES)
def test_a_term_that_is_absent_or_over_nothing_counts_with_its_last_value(case):
    absent, nothing, kept = (CASES[case][0]() for _ in range(3))
    values = t([0.7, 1.5, 0.4])
    for weighting in (absent, nothing, kept):
        weighting.bind(NAMES)
        torch.manual_seed(0)
        weighting(values)
    torch.manual_seed(1)
    one = absent(t([0.5, 0.6]), [0, 2])
    torch.manual_seed(1)
    other = nothing(t([0.5, math.nan, 0.6]), counts=t([1.0, 0.0, 1.0]))
    torch.manual_seed(1)
    third = kept(t([0.5, 1.5, 0.6]))
    torch.testing.assert_close(one.weights, other.weights[[0, 2]])
    torch.testing.assert_close(one.weights, third.weights[[0, 2]])
    for name, value in absent.state_dict().items():
        torch.testing.assert_close(nothing.state_dict()[name], value)
    assert absent(torch.zeros(0), []).weights.shape == (0,)


@pytest.mark.parametrize("case", CASES)
def test_before_its_first_value_a_term_counts_with_the_mean_of_the_others(case):
    late, whole = (CASES[case][0]() for _ in range(2))
    for weighting in (late, whole):
        weighting.bind(NAMES)
    torch.manual_seed(0)
    found = late(t([0.5, 0.7]), [0, 2])
    torch.manual_seed(0)
    expected = whole(t([0.5, 0.6, 0.7]))
    torch.testing.assert_close(found.weights, expected.weights[[0, 2]])


@pytest.mark.parametrize("case", CASES)
def test_eval_keeps_the_weights(case):
    weighting = CASES[case][0]()
    weighting.bind(NAMES)
    weighting(t([0.7, 1.5, 0.4]))
    state = copy.deepcopy(weighting.state_dict())
    first = weighting.eval()(t([9.0, 1.0, 3.0])).weights
    assert torch.equal(weighting(t([1.0, 1.0, 1.0])).weights, first)
    assert all(torch.equal(value, state[name]) for name, value in weighting.state_dict().items())


@pytest.mark.parametrize("case", ["FAMO", "GeometricMean", "IMTLL", "UW"])
def test_a_negative_value_is_refused_by_its_term(case):
    weighting = CASES[case][0]()
    weighting.bind(NAMES)
    with pytest.raises(WeightingError, match="expected values of 0 or more, found -2 for the term 'b'"):
        weighting(t([0.7, -2.0, 0.4]))


@pytest.mark.parametrize("case", ["FAMO", "FAMO above bounds", "GeometricMean"])
def test_a_value_of_0_stays_finite(case):
    weighting = CASES[case][0]()
    weighting.bind(NAMES)
    for _ in range(3):
        coefficients = weighting(t([0.0, 0.0, 0.4]), counts=torch.ones(3))
        assert coefficients.of(t([0.0, 0.0, 0.4])).isfinite().all()


def test_options_go_by_the_names_of_terms():
    by_name, by_place = weightings.STCH(0.1, {"c": 0.3, "a": 0.2, "b": 0.5}), weightings.STCH(0.1, PREFERENCES)
    for weighting in (by_name, by_place):
        weighting.bind(NAMES)
    assert torch.equal(by_name(t([1.0, 2.0, 3.0])).weights, by_place(t([1.0, 2.0, 3.0])).weights)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weightings.STCH(0.0), "STCH: mu: expected a finite number above 0, found 0"),
        (lambda: weightings.COSMOS(-1.0, PREFERENCES), "COSMOS: lambda_: expected a finite number of 0 or more"),
        (lambda: weightings.Constant([1.0, 2.0]), r"weights: expected 3, for \['a', 'b', 'c'\], found 2"),
        (lambda: weightings.Constant({"a": 1.0, "b": 1.0}), r"weights\.c: is missing"),
        (lambda: weightings.Constant({"a": 1.0, "b": 1.0, "d": 1.0}), "expected the name of a term, found 'd'"),
        (lambda: weightings.FAMO(lr=-1.0), "FAMO: lr: expected a finite number of 0 or more"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        criterion(make())


def test_it_is_named_in_yaml():
    terms = [{"loss": "torch/MSELoss", "name": name} for name in "ab"]
    multi_loss = lossreg.build_compound_loss_from_config(
        {"weighting": {"strategy": "torchjd/STCH", "mu": 0.1, "weights": {"a": 0.7, "b": 0.3}}, "loss_list": terms}
    )
    assert type(multi_loss.weighting).__name__ == "STCH"
    assert multi_loss({"x": torch.ones(2)}, {"y": torch.zeros(2)})[0].isfinite()


def test_the_dwa_that_is_left_out_is_the_cores():
    ours, theirs = DWA(temperature=0.5), scalarization.DWA(temperature=0.5)
    ours.bind(NAMES)
    for epoch in range(4):
        for row in torch.rand(3, 3, generator=torch.Generator().manual_seed(epoch)) + 0.1:
            torch.testing.assert_close(ours(row, epoch=epoch).of(row).sum(), theirs(row))
        theirs.step()


def test_uw_is_the_cores_uncertainty():
    ours, theirs = Uncertainty(), weightings.UW()
    for weighting in (ours, theirs):
        weighting.bind(NAMES)
        (parameter,) = weighting.weighting_parameters()
        parameter.data.copy_(t([0.3, -0.2, 1.0]))
    values = t([0.7, 1.5, 0.4])
    torch.testing.assert_close(ours(values).of(values), theirs(values).of(values))
