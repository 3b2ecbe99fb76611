"""Masks, weights, counts and reductions of all adapted losses, over the specs' example batches in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from lossreg_wrappers import examples
from lossreg_wrappers.units import masking, parsed

import lossreg
from lossreg.errors import ArgumentError, CountError, RangeError, ShapeError, UnknownNameError
from lossreg.losses.create import adopt
from lossreg.registry import catalog

# the libraries compute a part of them in float32
_COARSE = {"monai/BoundaryLoss", "monai/BoxGIoULoss", "monai/FocalLoss", "monai/HausdorffDTLoss", "monai/SSIMLoss"}
_COARSE |= {"torchmetrics/cosine_similarity", "torchmetrics/spatial_correlation_coefficient"}
_COARSE |= {f"timm/{name}" for name in ("AsymmetricLossMultiLabel", "AsymmetricLossSingleLabel", "ZlprLoss")}
_COARSE |= {f"timm/{name}" for name in ("DistributionBalancedLoss", "PolyBinaryCrossEntropy", "PolyCrossEntropy")}
_NO_TARGET = {"kornia/TotalVariation", "monai/BendingEnergyLoss", "monai/DiffusionLoss"}
_NO_TARGET |= {"lightly/NegativeCosineSimilarity", "piq/TVLoss", "torchmetrics/total_variation"}
_NO_TARGET |= {"torch/TripletMarginLoss", "torch/TripletMarginWithDistanceLoss"}

# further options of losses whose values are not those of `reduction="none"`, or whose mean is not over all elements
_VARIANTS = [
    ("torch/CrossEntropyLoss", {"ignore_index": 1}),
    ("torch/CrossEntropyLoss", {"weight": [0.5, 1.0, 3.0], "ignore_index": 1}),
    ("torch/CrossEntropyLoss", {"reduction": "sum"}),
    ("torch/CrossEntropyLoss", {"weight": [0.5, 1.0, 3.0], "label_smoothing": 0.1}, "distributions"),
    ("torch/KLDivLoss", {"reduction": "sum"}),
    ("torch/LinearCrossEntropyLoss", {"in_features": 6, "num_classes": 10, "ignore_index": 3}),
    ("torch/LinearCrossEntropyLoss", {"in_features": 6, "num_classes": 10, "weight": [1.0, 2.0] * 5}),
    ("torch/MultiLabelSoftMarginLoss", {"weight": [1.0, 2.0] * 4, "reduction": "sum"}),
    ("torch/NLLLoss", {"weight": [0.5, 1.0, 3.0]}),
    ("kornia/BinaryFocalLossWithLogits", {"alpha": 0.25, "reduction": "mean", "ignore_index": 1}),
    ("kornia/FocalLoss", {"alpha": 0.25, "reduction": "mean", "weight": [0.5, 1.0, 3.0]}),
    ("kornia/FocalLoss", {"alpha": 0.25, "reduction": "sum", "ignore_index": 1}),
    ("kornia/SSIMLoss", {"window_size": 5, "reduction": "sum"}),
    ("kornia/SSIMLoss", {"window_size": 5, "reduction": "none", "padding": "valid"}),
    ("monai/FocalLoss", {"to_onehot_y": True, "use_softmax": True, "include_background": False}),
    ("monai/FocalLoss", {"to_onehot_y": True, "ignore_index": 1}),
    ("monai/FocalLoss", {"to_onehot_y": True, "reduction": "none", "ignore_index": -1}),
    ("monai/FocalLoss", {"use_softmax": True}, "one_hot_logits"),
    ("monai/FocalLoss", {"ignore_index": 1}, "one_hot_logits"),
    ("monai/DiceLoss", {"softmax": True, "to_onehot_y": True, "batch": True}),
    ("monai/DiceLoss", {"sigmoid": True, "ignore_index": 1}, "one_hot_logits"),
    ("monai/DiceLoss", {"batch": True}, "one_hot_probabilities"),
    ("monai/DiceLoss", {"sigmoid": True}, "binary_logits"),
    ("monai/DiceLoss", {"sigmoid": True, "to_onehot_y": True, "include_background": False, "squared_pred": True}),
    ("monai/DiceLoss", {"softmax": True, "to_onehot_y": True, "ignore_index": 1, "weight": [1.0, 2.0, 3.0]}),
    ("monai/DiceLoss", {"softmax": True, "to_onehot_y": True, "reduction": "sum", "jaccard": True}),
    ("monai/GeneralizedDiceLoss", {"softmax": True, "to_onehot_y": True, "batch": True, "w_type": "simple"}),
    ("monai/TverskyLoss", {"softmax": True, "to_onehot_y": True, "batch": True, "alpha": 0.3, "ignore_index": 9}),
    ("smp/SoftBCEWithLogitsLoss", {"smooth_factor": 0.1, "ignore_index": 1}),
    ("smp/SoftCrossEntropyLoss", {"smooth_factor": 0.1, "ignore_index": 1}),
    ("smp/SoftCrossEntropyLoss", {"smooth_factor": 0.1, "ignore_index": None, "reduction": "sum"}),
    ("smp/FocalLoss", {"mode": "multiclass", "alpha": 0.25, "ignore_index": 1}),
    ("smp/FocalLoss", {"mode": "multiclass", "reduced_threshold": 0.3}),
    ("smp/FocalLoss", {"mode": "binary", "ignore_index": 1}, "binary_logits"),
    ("smp/FocalLoss", {"mode": "multilabel", "alpha": 0.25}, "mask_logits"),
    ("smp/FocalLoss", {"mode": "multilabel", "class_weights": [1.0, 2.0, 3.0], "reduction": "sum"}, "mask_logits"),
    ("smp/FocalLoss", {"mode": "multiclass", "class_weights": [1.0, 2.0, 3.0], "ignore_index": 1}),
    ("smp/DiceLoss", {"mode": "binary", "ignore_index": 9}, "binary_logits"),
    ("smp/DiceLoss", {"mode": "multilabel", "class_weights": [1.0, 2.0, 3.0]}, "mask_logits"),
    ("smp/JaccardLoss", {"mode": "multilabel", "ignore_index": 1}, "mask_logits"),
    ("smp/DiceLoss", {"mode": "multiclass", "ignore_index": 1, "log_loss": True}),
    ("smp/JaccardLoss", {"mode": "multiclass", "classes": [0, 2], "smooth": 1.0}),
    ("smp/TverskyLoss", {"mode": "multiclass", "alpha": 0.3, "beta": 0.7, "gamma": 2.0}),
]


def _id(some):
    return "-".join(map(str, (some[0], *some[1].values(), *some[2:])))


def _said(entry):
    """Return what the spec of a loss says: it has values of elements, is an overlap with or without count, neither."""
    said = masking(entry.spec.wrap)
    if said.startswith("pixels"):
        return "pooled" if said.endswith("no count") else "overlap"
    return "neither" if said.startswith("no: ") else "elements"


def _each(*kinds, target=None):
    """Run a test for each offered loss of some kinds, or of those the losses with some forms of target."""
    entries = [e for e in catalog().losses if e.plugin.distribution == "lossreg-wrappers" and _said(e) in kinds]
    if target is not None:
        entries = [entry for entry in entries if entry.spec.wrap.get("target") in target]
    return pytest.mark.parametrize("loss", entries, ids=[entry.name for entry in entries])


_OVERLAPS = [some for some in _VARIANTS if some[0].endswith(("DiceLoss", "JaccardLoss", "TverskyLoss"))]
_OF_ELEMENTS = [some for some in _VARIANTS if some not in _OVERLAPS]
_OF_POSITIONS = [
    some
    for some in _OF_ELEMENTS
    if some[0].rpartition("/")[2] in ("CrossEntropyLoss", "NLLLoss", "FocalLoss", "SoftCrossEntropyLoss")
    and some[1].get("reduction") != "sum"
]
_COUNTED = [some for some in _VARIANTS if not (some in _OVERLAPS and ("smp/" in some[0] or "batch" in some[1]))]


@pytest.fixture(params=_VARIANTS, ids=_id)
def variant(request):
    """Return a loss and its arguments, or skip where the release in use does not have it or its option."""
    name, arguments, *batch = request.param
    try:
        entry = catalog().losses.find(name)
        lossreg.create_loss(name, **arguments)
    except (UnknownNameError, TypeError) as error:
        pytest.skip(f"not in this release: {error}")
    return entry, arguments, *batch


@pytest.fixture
def example(example, request):
    """Return the function that makes an example batch: that of the spec, or the variant's own."""
    _, _, *batch = request.getfixturevalue("variant") if "variant" in request.fixturenames else (None, None)
    return (lambda entry: getattr(examples, batch[0])()) if batch else example


# --- batches --------------------------------------------------------------------------------------


def _more(batch, *, flipped):
    """Return a batch in float64 of four samples or more: those of the example, again, and one of them flipped."""
    double = {key: t.double() if t.is_floating_point() else t for key, t in batch.items()}
    if not double or next(iter(double.values())).shape[0] >= 4:
        return double
    return {key: torch.cat([t, t.flip(-1) if flipped else t]) for key, t in double.items()}


def _batch(example, entry):
    pred, gt = example(entry)
    return _more(pred, flipped=True), _more(gt, flipped=False)


def _made(entry, arguments=None, **options):
    torch.manual_seed(0)
    arguments = entry.spec.example_args if arguments is None else arguments
    if {arguments.get("reduction"), options.get("reduction")} == {"mean", "sum"}:  # one of them has to be left out
        arguments = {name: value for name, value in arguments.items() if name != "reduction"}
    return adopt(entry, entry.spec.name, arguments, options).double()


def _mean(made, pred, gt):
    """Return the only mean of a loss, which must have a count."""
    (mean,) = made._computed(pred, gt)
    return mean


def _value(made, pred, gt):
    return made(pred, gt, normalize=False)[0]


def _part(batch, start, stop):
    return {key: tensor[start:stop] for key, tensor in batch.items()}


def _kind(made):
    """Return what a loss has a value for, or "overlap" or "none"."""
    if _said(catalog().losses.find(made.registered_name)) in ("overlap", "pooled"):
        return "overlap"
    return made.unit if made.masks else "none"


def _shape(made, pred, gt):
    """Return the shape of the elements that a mask chooses, from the test's own rules."""
    first, kind = next(iter(pred.values())), _kind(made)
    if kind == "samples":
        return tuple(first.shape[:1])
    if kind == "planes":
        return tuple(first.shape[:2])
    if kind == "values":
        return tuple(first.shape)
    return (first.shape[0], *first.shape[2:])


def _at(tensor, chosen, made):
    """Return which numbers of a tensor belong to the chosen elements."""
    if tensor.dim() > chosen.dim() and _kind(made) in ("positions", "overlap") and chosen.dim() > 1:
        chosen = chosen.unsqueeze(1)
    return chosen.reshape(*chosen.shape, *[1] * (tensor.dim() - chosen.dim())).expand(tensor.shape)


def _spoiled(batch, kept, made):
    """Return a batch with NaN, or an impossible class, at the elements that do not count."""

    def spoil(tensor):
        wrong = float("nan") if tensor.is_floating_point() else 99
        return torch.where(_at(tensor, ~kept, made), wrong, tensor)

    return {key: spoil(tensor) for key, tensor in batch.items()}


def _weights(shape, seed=5):
    """Return a mask with an element of each kind, weights of elements, and weights of samples."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) > 0.4
    mask.view(-1)[0], mask.view(-1)[-1] = True, False
    return mask, torch.rand(shape, generator=generator).double() + 0.1, torch.arange(1.0, shape[0] + 1).double()


def _tolerance(entry):
    if entry.name in _COARSE:
        return {"rtol": 1e-4, "atol": 1e-5, "check_dtype": False}
    if entry.name == "monai/DiceLoss":  # it sums the squares of a one-hot target in float32
        return {"rtol": 1e-7, "atol": 1e-9}
    return {"rtol": 1e-9, "atol": 1e-12}


def _leaves(pred):
    return {key: tensor.clone().requires_grad_() for key, tensor in pred.items()}


# --- what the library says of an element ----------------------------------------------------------


def _alone(made, pred, gt, shape):
    """Return the values of the elements: the library's value of each alone, with nothing else in its batch."""
    values = torch.zeros(shape, dtype=torch.float64)
    for place in itertools.product(*map(range, shape)):
        chosen = torch.zeros(shape, dtype=torch.bool)
        chosen[place] = True

        def only(tensor, chosen=chosen):
            at = _at(tensor, chosen, made)
            return tensor[at].reshape([1 if c < t else t for c, t in zip(_extent(at), tensor.shape, strict=True)])

        values[place] = _value(made, *({key: only(t) for key, t in batch.items()} for batch in (pred, gt))).detach()
    return values


def _extent(at):
    """Return along how many places of each axis a bool tensor is true."""
    return [
        int(at.any(dim=[d for d in range(at.dim()) if d != axis]).sum()) if at.dim() > 1 else int(at.sum())
        for axis in range(at.dim())
    ]


def _without(made, pred, gt, kept):
    """Return the library's values with the masked pixels taken out: of each sample, or pooled one of all."""
    key, target_key = next(iter(pred)), next(iter(gt))
    classes, target = pred[key].movedim(1, -1), gt[target_key]
    channels = target.dim() == classes.dim()
    target = target.movedim(1, -1) if channels else target
    rows = [slice(None)] if made.pooled else [slice(i, i + 1) for i in range(len(kept)) if kept[i].any()]
    values = []
    for row in rows:
        some = kept[row]
        pixels = classes[row][some].T[None]
        chosen = target[row][some]
        values.append(_value(made, {key: pixels}, {target_key: (chosen.T if channels else chosen)[None]}))
    return torch.stack(values)


# --- declarations ---------------------------------------------------------------------------------


def test_every_loss_says_what_a_mask_chooses_or_why_it_takes_none():
    for entry in [*catalog().losses, *(entry for entry, _ in catalog().losses.absent)]:
        if entry.plugin.distribution == "lossreg-wrappers":
            said = masking(entry.spec.wrap)
            refused = said.startswith("no: ")
            assert refused is not said.endswith(("; with a count", "; no count", "; a mean over samples")), entry.name


def test_the_built_loss_does_what_is_said(entry):
    assert _made(entry).masks is not masking(entry.spec.wrap).startswith("no: ")


@_each("neither")
def test_a_loss_without_elements_refuses_a_mask_with_its_reason(loss):
    reason = masking(loss.spec.wrap).removeprefix("no: ")
    for key in ("mask", "sample_weight"):
        with pytest.raises(ArgumentError) as error:
            _made(loss, **{key: "gt.valid"})
        assert loss.spec.name in str(error.value)
        assert f"{key}: is not possible: {reason}" in str(error.value)
    with pytest.raises(ArgumentError) as error:
        _made(loss, reduction="per_sample")
    assert reason in str(error.value)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match=r"unit: expected one of values\|positions"):
        parsed("pixels")


# --- without a mask -------------------------------------------------------------------------------


@_each("elements", "overlap", "pooled")
def test_unmasked_it_is_the_librarys_own_value(loss, example):
    pred, gt = _batch(example, loss)
    made = _made(loss)
    expected = made.loss_func(*made.arguments(pred, gt))
    expected = (expected[0] if isinstance(expected, tuple) else expected).mean()
    if loss.name in _COARSE:
        torch.testing.assert_close(_value(made, pred, gt), expected, rtol=1e-6, atol=0)
    else:
        assert torch.equal(_value(made, pred, gt), expected)


@_each("elements", "overlap", "pooled")
def test_a_mask_of_ones_changes_nothing(loss, example):
    pred, gt = _batch(example, loss)
    made = _made(loss)
    ones = torch.ones(_shape(made, pred, gt), dtype=torch.bool)
    masked = _value(_made(loss, mask="gt.valid"), pred, {**gt, "valid": ones})
    torch.testing.assert_close(masked, _value(made, pred, gt), **_tolerance(loss))


def test_with_any_option_a_mask_of_ones_changes_nothing(variant, example):
    entry, arguments, *_ = variant
    pred, gt = _batch(example, entry)
    made = _made(entry, arguments)
    ones = torch.ones(_shape(made, pred, gt), dtype=torch.bool)
    plain, masked = _leaves(pred), _leaves(pred)
    expected = _value(made, plain, gt)
    value = _value(_made(entry, arguments, mask="gt.valid"), masked, {**gt, "valid": ones})
    torch.testing.assert_close(value, expected, **_tolerance(entry))
    expected.backward()
    value.backward()
    for key in pred:
        torch.testing.assert_close(masked[key].grad, plain[key].grad, **_tolerance(entry))


# --- with a mask ----------------------------------------------------------------------------------


def _counting(entry, example, arguments=None):
    """Return a loss with values of elements, its batch and the shape of its elements."""
    pred, gt = _batch(example, entry)
    made = _made(entry, arguments)
    if made.unit in ("values", "positions"):  # fewer, since the test calls the library for each
        pred, gt = ({key: t[:, ..., :3, :3] if t.dim() > 2 else t for key, t in side.items()} for side in (pred, gt))
    return made, pred, gt, _shape(made, pred, gt)


@_each("elements")
def test_masked_and_weighted_it_is_numpys_mean_of_the_elements(loss, example):
    made, pred, gt, shape = _counting(loss, example)
    mask, inner, outer = _weights(shape)
    values = _alone(made, pred, gt, shape).numpy()
    total = (mask * inner * outer.reshape(-1, *[1] * (len(shape) - 1))).numpy()
    keys = {"mask": "gt.valid", "sample_weight": ["gt.inner", "gt.outer"]}
    weighted = {"valid": mask, "inner": inner, "outer": outer}
    mean = _mean(_made(loss, **keys), pred, {**gt, **weighted})
    tolerance = _tolerance(loss)
    torch.testing.assert_close(float(mean.value.detach()), float((values * total).sum() / total.sum()), **tolerance)
    assert float(mean.count) == pytest.approx(float(total.sum()))

    axes = tuple(range(1, len(shape)))
    within = (mask * inner).numpy()
    there = within.sum(axis=axes) > 0
    of_samples = (values * within).sum(axis=axes)[there] / within.sum(axis=axes)[there]
    if len(shape) == 1:  # a weight of a sample's only element is one of the sample
        of_samples, weights = values[there], total[there]
    else:
        weights = outer.numpy()[there]
    mean = _mean(_made(loss, reduction="per_sample", **keys), pred, {**gt, **weighted})
    torch.testing.assert_close(
        float(mean.value.detach()), float((of_samples * weights).sum() / weights.sum()), **tolerance
    )


@_each("elements", "overlap", "pooled")
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_what_is_masked_may_be_nan_and_gets_no_gradient(loss, example):
    pred, gt = _batch(example, loss)
    made = _made(loss)
    mask, _, _ = _weights(_shape(made, pred, gt))
    masked = _made(loss, mask="gt.valid")
    whole, spoiled = _leaves(pred), _leaves(_spoiled(pred, mask, made))
    expected = _value(masked, whole, {**gt, "valid": mask})
    value = _value(masked, spoiled, {**_spoiled(gt, mask, made), "valid": mask})
    torch.testing.assert_close(value, expected, **_tolerance(loss))
    expected.backward()
    value.backward()
    for key, tensor in spoiled.items():
        assert (tensor.grad[_at(tensor, ~mask, made)] == 0).all()
        torch.testing.assert_close(tensor.grad, whole[key].grad, **_tolerance(loss))
    assert any((tensor.grad != 0).any() for tensor in spoiled.values())


@pytest.mark.parametrize("variant", _COUNTED, indirect=True, ids=_id)
def test_the_targets_of_masked_samples_may_be_nan_to_counts_too(variant, example):
    entry, arguments, *_ = variant
    pred, gt = _batch(example, entry)
    mask = torch.arange(len(next(iter(pred.values())))) != 1
    made = _made(entry, arguments, mask="gt.valid")
    (expected,) = made.counts({**gt, "valid": mask})
    (count,) = made.counts({**_spoiled(gt, mask, made), "valid": mask})
    assert float(count) == float(expected) > 0


@_each("overlap", "pooled")
@pytest.mark.parametrize("empty", [False, True])
def test_a_masked_pixel_is_in_no_sum(loss, example, empty):
    _is_without_pixels(loss, None, example, empty=empty)


@pytest.mark.parametrize("variant", _OVERLAPS, indirect=True, ids=_id)
@pytest.mark.parametrize("empty", [False, True])
def test_with_any_option_a_masked_pixel_is_in_no_sum(variant, example, empty):
    entry, arguments, *_ = variant
    _is_without_pixels(entry, arguments, example, empty=empty)


def _is_without_pixels(entry, arguments, example, *, empty):
    pred, gt = _batch(example, entry)
    made = _made(entry, arguments)
    mask, _, _ = _weights(_shape(made, pred, gt))
    if empty:
        mask[1] = False
    masked = _made(entry, arguments, mask="gt.valid")
    leaves, expected_of = _leaves(pred), _leaves(pred)
    values = _without(made, expected_of, gt, mask)
    expected = values.sum() if arguments and arguments.get("reduction") == "sum" else values.mean()
    value = _value(masked, leaves, {**gt, "valid": mask})
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(leaves["seg"].grad, expected_of["seg"].grad)
    if not made.pooled:
        assert masked.counts({**gt, "valid": mask}) == [mask.flatten(1).any(1).sum()]


@pytest.mark.parametrize("variant", _OF_POSITIONS, indirect=True, ids=_id)
def test_with_ignored_pixels_a_masked_one_is_in_no_mean(variant, example):
    entry, arguments, *_ = variant
    made, pred, gt, shape = _counting(entry, example, arguments)
    mask, _, _ = _weights(shape)
    key, target_key = next(iter(pred)), next(iter(gt))
    pixels = {key: pred[key].movedim(1, -1)[mask].T[None].contiguous()}
    target = gt[target_key]
    chosen = target.movedim(1, -1)[mask].T if target.dim() > mask.dim() else target[mask]
    expected = _value(made, pixels, {target_key: chosen[None].contiguous()})
    value = _value(_made(entry, arguments, mask="gt.valid"), pred, {**gt, "valid": mask})
    torch.testing.assert_close(value, expected, **_tolerance(entry))


# --- parts of a batch -----------------------------------------------------------------------------


@_each("elements", "overlap")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", [None, "per_sample", "sum"])
def test_ragged_parts_come_to_the_joined_batch(loss, example, weighted, reduction):
    _join_up(loss, None, example, weighted=weighted, reduction=reduction)


@pytest.mark.parametrize("variant", _COUNTED, indirect=True, ids=_id)
@pytest.mark.parametrize("weighted", [False, True])
def test_with_any_option_ragged_parts_come_to_the_joined_batch(variant, example, weighted):
    entry, arguments, *_ = variant
    _join_up(entry, arguments, example, weighted=weighted, reduction=None)


def _join_up(entry, arguments, example, *, weighted, reduction):
    pred, gt = _batch(example, entry)
    keys = {"mask": "gt.valid"} if weighted else {}
    made = _made(entry, arguments, **({"reduction": reduction} if reduction else {}))
    shape = _shape(made, pred, gt)
    if weighted:
        mask, inner, outer = _weights(shape)
        mask[1] = False  # a part with nothing in it
        keys["sample_weight"] = ["gt.outer"] if _kind(made) == "overlap" else ["gt.inner", "gt.outer"]
        gt = {**gt, "valid": mask, "inner": inner, "outer": outer}
        if _kind(made) == "overlap":
            del gt["inner"]
        made = _made(entry, arguments, **keys, **({"reduction": reduction} if reduction else {}))
    joined, parted = _leaves(pred), _leaves(pred)
    whole = _mean(made, joined, gt)
    number = shape[0]
    cuts = [0, 1, 1, 2, number]
    means = []
    for start, stop in itertools.pairwise(cuts):
        part = _part(gt, start, stop)
        means.append(_mean(made, _part(parted, start, stop), part))
        if entry.name in _NO_TARGET:
            with pytest.raises(CountError):
                made.counts(part)
        else:
            (count,) = made.counts(part)
            assert float(count) == pytest.approx(float(means[-1].count), rel=1e-6)
    assert float(means[1].count) == 0
    counts = [float(mean.count) for mean in means]
    assert sum(counts) == pytest.approx(float(whole.count), rel=1e-6)
    total = sum(mean.value if mean.is_sum else mean.value * count for mean, count in zip(means, counts, strict=True))
    total = total if whole.is_sum else total / sum(counts)
    assert {mean.is_sum for mean in means} == {whole.is_sum}
    tolerance = _tolerance(entry)
    torch.testing.assert_close(total, whole.value, **tolerance)
    total.backward()
    whole.value.backward()
    for key in pred:
        torch.testing.assert_close(parted[key].grad, joined[key].grad, **tolerance)


@pytest.mark.parametrize(
    ("name", "gt", "message"),
    [
        (
            "torch/CrossEntropyLoss",
            torch.full((2, 5, 6), 3.0),
            "'gt.y' holds values from 3 to 3, expected 0 to 1; it is",
        ),
        ("torch/CrossEntropyLoss", torch.ones(2, 5, 6), "'gt.y' has dtype float32 .* give class indices an integer"),
        ("torch/CrossEntropyLoss", torch.full((2, 5, 6), -1), "'gt.y' holds values from -1 to -1, expected 0 or more"),
        (
            "torch/NLLLoss",
            torch.full((2, 5, 6), 0.5),
            "'gt.y': expected class indices, integers from 0, found fractions",
        ),
        (
            "torch/BCELoss",
            torch.full((2, 3, 5, 6), 255.0),
            "'gt.y' holds values from 255 to 255, expected 0 to 1; divide",
        ),
        ("monai/DiceLoss", torch.full((2, 1, 5, 6), 0.5), "'gt.y': expected class indices"),
        ("torch/SoftMarginLoss", torch.zeros(2, 3, 5, 6), "'gt.y' holds values from 0 to 0, expected only 1 and -1"),
    ],
)
def test_counts_refuse_a_target_that_a_forward_refuses(name, gt, message):
    entry = catalog().losses.find(name)
    made = adopt(entry, "a", entry.spec.example_args, {"gt_key": "y", "mask": "gt.m"})
    on = torch.ones(2, dtype=torch.bool)
    with pytest.raises(RangeError, match=f"loss 'a': {message}"):
        made.counts({"y": gt, "m": on})
    assert [float(count) for count in made.counts({"y": gt.fill_(99), "m": ~on})] == [0.0]  # no element that counts


# --- errors ---------------------------------------------------------------------------------------


@_each("overlap", "pooled")
def test_a_weight_of_pixels_means_nothing_to_an_overlap(loss, example):
    made = _made(loss)
    pred, gt = _batch(example, loss)
    if made.pooled:
        with pytest.raises(ArgumentError, match="sample_weight: is not possible: it is a ratio of sums"):
            _made(loss, sample_weight="gt.w")
        return
    weights = torch.ones(_shape(made, pred, gt))
    with pytest.raises(ShapeError, match="expected one weight for each sample"):
        _made(loss, sample_weight="gt.w")(pred, {**gt, "w": weights})


@_each("elements", "overlap", "pooled", target=("mask", "indices", "signs"))
def test_what_counts_is_still_checked(loss, example):
    made = _made(loss)
    pred, gt = _batch(example, loss)
    key = next(key for key in gt if key in ("gt_polygons_image", "labels", "target"))
    mask = torch.ones(_shape(made, pred, gt), dtype=torch.bool)
    mask.view(-1)[-1] = False
    with pytest.raises(RangeError):
        _made(loss, mask="gt.valid")(pred, {**gt, key: torch.full_like(gt[key], 77), "valid": mask})


@_each("elements", "overlap", "pooled")
def test_a_mask_of_another_shape_is_an_error_with_both(loss, example):
    pred, gt = _batch(example, loss)
    with pytest.raises(ShapeError, match=r"'gt.valid' has shape \(3, 17\)"):
        _made(loss, mask="gt.valid")(pred, {**gt, "valid": torch.ones(3, 17)})
