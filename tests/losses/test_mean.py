"""Means with counts: what masks, weights and reductions make of the values of elements."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossreg import Loss, LossWrapper, Mean, MultiLoss
from lossreg.errors import ArgumentError, BatchError, RangeError, ShapeError
from lossreg.losses.mean import Elements, aligned, blanked, counted, fitting, largest, portion, product

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def expected(values, weights, share, outer, reduction):
    """Reduce in numpy, element by element: (value, count)."""
    values, weights, share = (np.broadcast_to(x, values.shape) for x in (values, weights, share))
    of_samples = []
    for v, w, s, u in zip(values, weights, share, outer, strict=True):
        counted = (w * s).sum()
        kept = np.where(w > 0, v, 0) * w
        of_samples.append((kept.sum(), counted, u))
    if reduction == "per_sample":
        rows = [(total / counted, u) for total, counted, u in of_samples if counted > 0]
        count = sum(u for _, u in rows)
        return (sum(mean * u for mean, u in rows) / count if count else 0.0), count
    total = sum(total * u for total, _, u in of_samples)
    count = sum(counted * u for _, counted, u in of_samples)
    return (total if reduction == "sum" else total / count if count else 0.0), count


@given(data=st.data(), shape=SHAPES, reduction=st.sampled_from(["mean", "per_sample", "sum"]))
def test_the_reductions_are_those_of_numpy(data, shape, reduction):
    draw = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    values = draw.normal(size=shape)
    flat = [1 if data.draw(st.booleans()) else size for size in shape[1:]]
    weights = draw.choice([0.0, 0.5, 2.0], size=(shape[0], *flat)) if data.draw(st.booleans()) else None
    share = draw.choice([0.0, 1.0, 3.0], size=shape) if data.draw(st.booleans()) else None
    outer = draw.choice([0.0, 1.0, 0.25], size=shape[:1]) if data.draw(st.booleans()) else None
    given_values = values.copy()
    if share is not None:
        given_values *= share != 0  # the values of ignored elements are 0, as libraries have them
    parts = [None if x is None else torch.tensor(x) for x in (weights, outer, share)]
    elements = Elements(shape, *parts)
    hidden = torch.tensor(given_values)
    if weights is not None:
        hidden = torch.where(torch.tensor(weights != 0).expand(shape), hidden, math.nan)
    mean = elements.mean(hidden, reduction)
    one = np.ones(shape)
    value, count = expected(
        given_values, one if weights is None else weights, one if share is None else share,
        np.ones(shape[0]) if outer is None else outer, reduction,
    )  # fmt: skip
    assert float(mean.value) == pytest.approx(value, rel=1e-12, abs=1e-12)
    assert float(mean.count) == pytest.approx(count, rel=1e-12)
    assert float(elements.count(reduction)) == float(mean.count)
    assert mean.is_sum == (reduction == "sum")


@pytest.mark.parametrize("weights", [None, torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)])
def test_a_mean_over_nothing_is_a_zero_on_the_graph(weights):
    values = torch.full((2, 3), math.nan) if weights is not None else torch.empty(0, 3)
    values.requires_grad_()
    mean = Mean.of(values, weights)
    mean.value.backward()
    assert (float(mean.value.detach()), float(mean.count)) == (0.0, 0.0)
    assert torch.equal(values.grad, torch.zeros_like(values))


@pytest.mark.parametrize(
    ("weights", "elements", "found"),
    [
        ((4,), (4, 3, 5, 6), (4, 1, 1, 1)),
        ((4, 3), (4, 3, 5, 6), (4, 3, 1, 1)),
        ((4, 5, 6), (4, 3, 5, 6), (4, 1, 5, 6)),
        ((4, 1, 5, 6), (4, 3, 5, 6), (4, 1, 5, 6)),
        ((4, 1, 1, 1), (4, 3, 5, 6), (4, 1, 1, 1)),
        ((4, 1, 5, 6), (4, 5, 6), (4, 5, 6)),
        ((4, 5), (4, 5, 7), (4, 5, 1)),
        ((4, 7), (4, 5, 7), None),
        ((4, 1, 7), (4, 5, 7), (4, 1, 7)),
        ((4, 7), (4, 7, 7), (4, 7, 1)),
        ((4, 5), (4, 5), (4, 5)),
        ((4, 1), (4,), (4,)),
        ((1,), (4,), None),
        ((3,), (4,), None),
        ((4, 6), (4, 5, 7), None),
        ((4, 3, 5), (4, 3, 5, 6), None),
        ((4, 5, 5), (4, 5, 5, 5), (4, 1, 5, 5)),
        ((4, 2, 5, 6), (4, 3, 2, 5, 6), (4, 1, 2, 5, 6)),
        ((4, 5, 6), (4, 3, 2, 5, 6), None),
        ((4, 3, 6), (4, 3, 5, 6), None),
        ((), (4,), None),
        ((4,), (), None),
    ],
)
def test_weights_are_read_from_the_left(weights, elements, found):
    result = aligned(torch.ones(weights), elements)
    assert (None if result is None else tuple(result.shape)) == found


@pytest.mark.parametrize(
    ("weights", "elements", "found"),
    [
        ((4,), (4, 5, 6), (4, 1, 1)),
        ((4, 5, 6), (4, 5, 6), (4, 5, 6)),
        ((4, 1, 5, 6), (4, 5, 6), (4, 5, 6)),
        ((4, 5), (4, 5, 6), None),
        ((4, 6), (4, 5, 6), None),
        ((4, 5), (4, 5), (4, 5)),
        ((4, 5, 6), (4, 3, 5, 6), None),
        ((4, 3), (4, 3, 5, 6), None),
    ],
)
def test_elements_that_are_pixels_have_no_channels(weights, elements, found):
    result = aligned(torch.ones(weights), elements, channels=False)
    assert (None if result is None else tuple(result.shape)) == found


@given(shape=SHAPES, channels=st.booleans())
def test_the_shapes_that_a_message_names_fit(shape, channels):
    named = fitting(shape, channels)
    assert len(named) == len(set(named))
    for weights in named:
        assert aligned(torch.ones(weights), shape, channels) is not None


def test_a_channels_weights_do_not_fall_on_rows_of_as_many_pixels():
    classes = LossWrapper(torch.nn.CrossEntropyLoss(), "classes", pred_key="seg", gt_key="labels")
    classes.take_mask(sample_weight="gt.w")
    pred, gt = {"seg": torch.zeros(2, 3, 3, 5)}, {"labels": torch.zeros(2, 3, 5, dtype=torch.int64)}
    for shape in ((2, 3), (2, 5)):
        message = rf"{re.escape(str(shape))}, expected one .* \(2, 3, 5\): \(2,\), \(2, 3, 5\), \(2, 1, 3, 5\)(\n|$)"
        with pytest.raises(ShapeError, match=message):
            classes(pred, {**gt, "w": torch.ones(shape)})
        with pytest.raises(ShapeError, match=message):
            classes.counts({**gt, "w": torch.ones(shape)})


def test_arguments_are_blanked_with_their_class_axis():
    kept = torch.tensor([[True, False], [False, True]])
    assert blanked(torch.ones(2, 2), kept, 7.0).tolist() == [[1, 7], [7, 1]]
    assert blanked(torch.ones(2, 3, 2), kept)[0].tolist() == [[1, 0]] * 3
    assert blanked(torch.ones(2, 3), torch.tensor([True, False])).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert blanked(torch.ones(2, 2, dtype=torch.int64), kept).dtype == torch.int64


def test_several_means_count_as_the_one_that_counts_most():
    zero = torch.zeros(())
    means = [Mean(zero, 2.0, size=8.0), Mean(zero, torch.tensor(3.0), size=4.0), Mean(zero, torch.tensor(0.0))]
    assert float(largest([mean.count for mean in means])) == 3.0
    assert float(portion(means)) == 0.75
    assert float(portion(means[2:])) == 0.0
    assert (largest([2.0]), portion([Mean(zero, 2.0)])) == (2.0, 1.0)


class Height(Loss):
    requires = ("pred.height", "gt.height")
    masks = True

    def compute(self, pred_batch, gt_batch):
        error = self.read(pred_batch, gt_batch, "pred.height") - self.read(pred_batch, gt_batch, "gt.height")
        return self.elements(pred_batch, gt_batch, error.shape).mean(error.abs())


def test_a_loss_of_ones_own_takes_a_mask():
    loss = Height("height")
    loss.take_mask("gt.valid", ["gt.weight"])
    assert loss.requires == ("pred.height", "gt.height", "gt.valid", "gt.weight")
    pred, gt = {"height": torch.tensor([[3.0, 5.0], [9.0, 1.0]])}, {"height": torch.zeros(2, 2)}
    gt |= {"valid": torch.tensor([[1, 0], [1, 1]]), "weight": torch.tensor([1.0, 3.0])}
    means = []
    value, _ = loss(pred, gt, means=means)
    assert float(value) == pytest.approx((3 + 3 * 9 + 3 * 1) / 7)
    assert [float(mean.count) for mean in means] == [7.0]
    record = MultiLoss([loss], [1.0])
    record(pred, gt)
    assert float(record.last_record["height"].count) == 7.0


@pytest.mark.parametrize(
    ("keys", "batch", "error", "message"),
    [
        (
            {"mask": "gt.m"},
            {"m": torch.full((2, 2), 255)},
            RangeError,
            r"'gt.m' holds values .* divide a mask of 0 and",
        ),
        ({"mask": "gt.m"}, {"m": torch.full((2, 2), 0.5)}, RangeError, "'gt.m' holds fractions.*use sample_weight"),
        ({"mask": "gt.m"}, {"m": torch.ones(3, 2)}, ShapeError, r"'gt.m' has shape \(3, 2\).*elements \(2, 2\)"),
        (
            {"sample_weight": "gt.m"},
            {"m": torch.tensor([1.0, -1.0])},
            RangeError,
            "'gt.m' holds.*a weight is 0 or more",
        ),
    ],
)
def test_a_bad_mask_is_refused_by_its_key(keys, batch, error, message):
    loss = Height("height")
    loss.take_mask(**keys)
    with pytest.raises(error, match=f"loss 'height': {message}"):
        loss({"height": torch.ones(2, 2)}, {"height": torch.ones(2, 2), **batch})


@pytest.mark.parametrize(
    ("argument", "key"), [("sample_weight", "pred.m"), ("sample_weight", "gt.m"), ("mask", "gt.m")]
)
def test_weights_that_require_a_gradient_are_refused_where_there_are_gradients(argument, key):
    loss = Height("height")
    loss.take_mask(**{argument: key})
    height, m = torch.full((2, 2), 3.0, requires_grad=True), torch.tensor([1.0, 0.0], requires_grad=True)

    def value(weights):
        batches = ({"height": height}, {"height": torch.ones(2, 2)})
        batches[key.startswith("gt.")]["m"] = weights
        return loss(*batches)[0]

    with pytest.raises(
        BatchError, match=rf"loss 'height': '{key}' requires a gradient, .* detach\(\) it, or write a loss"
    ):
        value(m)
    assert torch.equal(torch.autograd.grad(value(m.detach()), height)[0], torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    with torch.no_grad():
        assert value(m) == 2.0
    compiled = torch.compile(value, backend="eager", fullgraph=True)
    assert compiled(m.detach()) == 2.0
    with torch.no_grad():
        assert compiled(m) == 2.0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mask": "valid"}, "mask: expected a key such as"),
        ({"sample_weight": []}, "sample_weight: expected"),
        ({"mask": 3}, "mask: expected"),
    ],
)
def test_a_mask_is_a_key(keys, message):
    with pytest.raises(ArgumentError, match=message):
        Height("height").take_mask(**keys)


def test_a_loss_without_values_of_elements_refuses_a_mask():
    def total_variation(pred, gt):
        return (pred - gt).diff().abs().mean()

    with pytest.raises(ArgumentError, match="mask: is not possible: total_variation has no values of single elements"):
        LossWrapper(total_variation, "tv").take_mask("gt.valid")
    with pytest.raises(ArgumentError, match="reduction: is not possible: total_variation has no values"):
        LossWrapper(total_variation, "tv", reduction="per_sample")


def test_what_is_not_weighted_counts_its_elements_or_its_samples():
    assert (Elements((2, 3)).count(), Elements((2, 3)).count("per_sample")) == (6.0, 2.0)
    assert (Elements(()).count(), Elements(()).count("per_sample")) == (1.0, 1.0)


def test_a_weight_for_all_elements_counts_for_each():
    assert float(Elements((2, 3), inner=torch.tensor([[0.5]])).count()) == 3.0


def test_a_product_of_masks_is_a_mask():
    one, other = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    assert product(one, None, other).equal(torch.tensor([True, False, False]))
    assert product(one, torch.tensor([2.0, 3.0, 4.0])).equal(torch.tensor([2.0, 3.0, 0.0]))


@pytest.mark.parametrize("count", [3.0, torch.tensor(3.0)])
def test_a_mean_comes_from_a_sum_and_a_count_of_either_kind(count):
    assert float(Mean.of_sum(torch.tensor(6.0), count).value) == 2.0
    found = counted(count, torch.zeros(1, dtype=torch.float64))
    assert (found.dtype, found.shape, float(found)) == (torch.float64, (), 3.0)


def test_the_largest_of_fixed_counts_is_the_largest():
    assert (largest([1.0, 2.0]), largest([2.0, 1.0])) == (2.0, 2.0)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.0, 3.0])])
def test_a_sample_of_one_element_has_that_as_its_mean(weights):
    mean = Elements((3,), weights).mean(torch.tensor([1.0, 2.0, 6.0]), "per_sample")
    assert (float(mean.value), float(mean.count)) == ((3, 3) if weights is None else (3.5, 2))
