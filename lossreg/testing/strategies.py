"""Hypothesis strategies for tests of losses: batches, thresholds, weights and valid configs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import yaml
from torch import Tensor

from lossreg.composition import schedules
from lossreg.composition.schedules import Schedule
from lossreg.config.build import build_compound_loss_from_config
from lossreg.errors import LossregError
from lossreg.losses.base import Batch
from lossreg.losses.nested import mapped
from lossreg.registry import catalog
from lossreg.registry.params import parameters
from lossreg.testing.pytest_plugin import losses_of
from lossreg.testing.subject import Batches, subject_of, tensors

try:
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import arrays
except ImportError as error:
    raise ImportError("the strategies of lossreg.testing need Hypothesis: pip install 'lossreg[testing]'") from error

Arguments: TypeAlias = st.SearchStrategy[Mapping[str, Any]]

_WEIGHTINGS = ("core/DWA", "core/CoV", "core/ReLoBRaLo", "core/SoftAdapt", "core/Uncertainty")
"""The weightings that work without further calls, also without gradients of the predictions."""

_SIZES = {"N": (1, 3)}
_SIZE = (1, 8)


# --- batches ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """The shape, the dtype and the range of a tensor of a batch.

    Args:
        shape: the sizes, as for `Loss.check_shape`: `("N", 3, "H", "W")`. A letter is the same size in all tensors of
            a batch.
        dtype: the dtype.
        low: the smallest value.
        high: the largest value; both are drawn, rounded to the dtype.
    """

    shape: Sequence[int | str] = ("N", 3, "H", "W")
    dtype: torch.dtype = torch.float32
    low: float = 0.0
    high: float = 1.0


def batches(of: Any, *, sizes: Mapping[str, tuple[int, int]] | None = None) -> st.SearchStrategy[Batches]:
    """Return a strategy for `(pred_batch, gt_batch)`; floating predictions require a gradient.

    Args:
        of: the keys and their values, `{"pred.height": Values(("N", 1, "H", "W")), "gt.height": ...}`; or a loss as
            for `check_loss`, or its `LossSpec`. For a loss, batches are drawn from its example: each pixel gets the
            channels of a pixel of the example, and floating predictions the mean of two pixels. So class indices
            stay in range, one-hot targets stay one-hot, and probabilities stay probabilities. Relations between
            neighbouring pixels are lost.
        sizes: the smallest and the largest size for each letter. Default: (1, 3) for `N`, the samples, and (1, 8) for
            others. For a loss only `N` is used, and only if its example has several tensors with the same number of
            samples; other sizes are those of the example.

    It shrinks to the smallest sizes and, in a tensor, to one value: 0 if allowed, else the first of the example.
    """
    bounds = {**_SIZES, **(sizes or {})}
    if isinstance(of, Mapping):
        return _of_values(dict(of), bounds)
    return st.deferred(lambda: _like_example(of, bounds["N"]))


@st.composite
def _of_values(draw: st.DrawFn, keys: Mapping[str, Values], bounds: Mapping[str, tuple[int, int]]) -> Batches:
    wrong = [key for key in keys if key.partition(".")[0] not in ("pred", "gt") or not key.partition(".")[2]]
    if wrong:
        raise ValueError(f"batches: expected keys such as 'pred.seg' or 'gt.mask', found {wrong[0]!r}")
    letters = {size for values in keys.values() for size in values.shape if isinstance(size, str)}
    sizes = {letter: draw(st.integers(*bounds.get(letter, _SIZE))) for letter in sorted(letters)}
    batch: dict[str, dict[str, Tensor]] = {"pred": {}, "gt": {}}
    for key, values in keys.items():
        side, _, name = key.partition(".")
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in values.shape)
        batch[side][name] = draw(_tensors(values, shape))
    return _fresh((batch["pred"], batch["gt"]))


def _tensors(values: Values, shape: tuple[int, ...]) -> st.SearchStrategy[Tensor]:
    elements: st.SearchStrategy[float]
    if values.dtype.is_floating_point:
        kind, elements = np.float64, st.floats(values.low, values.high, allow_subnormal=False)
    else:
        kind, elements = np.int64, st.integers(int(values.low), int(values.high))  # type: ignore[assignment]
    return arrays(kind, shape, elements=elements).map(lambda array: torch.from_numpy(array).to(values.dtype))


def _like_example(loss: Any, samples: tuple[int, int]) -> st.SearchStrategy[Batches]:
    pred, gt = subject_of(loss).batch()
    lengths = [len(t) for t in tensors(pred, gt) if t.dim()]
    shared = len(lengths) > 1 and len(set(lengths)) == 1  # with one tensor, axis 0 may not be the samples
    number = st.integers(*samples) if shared else st.none()
    sides = number.flatmap(lambda n: st.tuples(_side_like(pred, n, mixed=True), _side_like(gt, n)))
    return _shown(sides)


def _side_like(side: Batch, samples: int | None, mixed: bool = False) -> st.SearchStrategy[Batch]:
    if isinstance(side, Tensor):
        return _like(side.detach(), samples, mixed)
    return st.fixed_dictionaries({key: _value_like(value, samples, mixed) for key, value in side.items()})


def _value_like(value: Any, samples: int | None, mixed: bool) -> st.SearchStrategy[Any]:
    if isinstance(value, Tensor):
        return _like(value.detach(), samples, mixed)
    if isinstance(value, (list, tuple)):
        return st.tuples(*(_value_like(item, samples, mixed) for item in value)).map(type(value))
    return st.just(value)


def _like(tensor: Tensor, samples: int | None, mixed: bool) -> st.SearchStrategy[Tensor]:
    """Return a strategy that draws each pixel, with all its channels (axis 1), from the pixels of a tensor."""
    if not tensor.numel() or not tensor.dim():
        return st.builds(tensor.clone)
    last = tensor.movedim(1, -1) if tensor.dim() > 1 else tensor.unsqueeze(-1)  # (N, ..., C)
    pixels = last.flatten(0, -2)  # (N * ..., C)
    shape = (len(tensor) if samples is None else samples, *last.shape[1:-1])
    which = arrays(np.int64, shape, elements=st.integers(0, len(pixels) - 1)).map(torch.from_numpy)

    def placed(drawn: Tensor) -> Tensor:  # (N, ..., C)
        return (drawn.movedim(-1, 1) if tensor.dim() > 1 else drawn.squeeze(-1)).contiguous()

    if not mixed or not tensor.is_floating_point():
        return which.map(lambda index: placed(pixels[index]))

    def mean(index: Tensor, other: Tensor, share: Tensor) -> Tensor:
        drawn = pixels[index].lerp(pixels[other], share.to(pixels.dtype).unsqueeze(-1))
        return placed(torch.clamp(drawn, pixels.amin(0), pixels.amax(0)))  # corrects rounding errors

    shares = arrays(np.float64, shape, elements=st.floats(0, 1, allow_subnormal=False)).map(torch.from_numpy)
    return st.builds(mean, which, which, shares)


@st.composite
def _shown(draw: st.DrawFn, sides: st.SearchStrategy[Batches]) -> Batches:
    return _fresh(draw(sides))


def _fresh(sides: Batches) -> Batches:
    """Return copies of drawn batches, so that Hypothesis prints the tensors and not the calls that created them."""
    pred, gt = sides
    return mapped(pred, lambda t: t.clone().requires_grad_(t.is_floating_point())), mapped(gt, torch.clone)


# --- weights ----------------------------------------------------------------------------------------


def thresholds(
    *, min_size: int = 1, max_size: int = 5, min_value: int = 0, max_value: int = 100
) -> st.SearchStrategy[list[float]]:
    """Return a strategy for strictly ascending epochs, which are multiples of 1/8.

    Args:
        min_size: the smallest number of epochs.
        max_size: the largest number of epochs.
        min_value: the smallest epoch.
        max_value: the largest epoch.

    It shrinks to the first integers from 0.
    """
    whole = st.integers(min_value, max_value).map(float)
    eighths = st.integers(8 * min_value, 8 * max_value).map(lambda n: n / 8)
    return st.lists(whole | eighths, min_size=min_size, max_size=max_size, unique=True).map(sorted)


def weights(
    epoch_thresholds: Sequence[float] | None = None, *, min_value: float = 0.0, max_value: float = 10.0
) -> st.SearchStrategy[Any]:
    """Return a strategy for the weight of a term of a `MultiLoss`: a number, a list, or a `Schedule`.

    Args:
        epoch_thresholds: the thresholds of the `MultiLoss`; without them no lists are drawn.
        min_value: the smallest weight. (`Akima` may overshoot its values and is not bounded.)
        max_value: the largest weight.

    It shrinks to a number.
    """
    numbers = st.floats(min_value, max_value, allow_subnormal=False)
    listed = _values(numbers, len(epoch_thresholds)) if epoch_thresholds else st.nothing()
    single = numbers.map(schedules.Constant) | _ramps(min_value, max_value) | _through_points(numbers)
    return numbers | listed | single | _chains(numbers | single)


def _values(numbers: st.SearchStrategy[float], number: int) -> st.SearchStrategy[list[float]]:
    return st.lists(numbers, min_size=number, max_size=number)


def _through_points(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Schedule]:
    kinds = st.sampled_from([schedules.Step, schedules.Piecewise, schedules.Pchip, schedules.Akima])
    return thresholds().flatmap(lambda epochs: st.builds(_make, kinds, _values(numbers, len(epochs)), st.just(epochs)))


def _make(kind: Any, *arguments: Any) -> Schedule:
    schedule: Schedule = kind(*arguments)
    return schedule


@st.composite
def _ramps(draw: st.DrawFn, low: float, high: float) -> Schedule:
    kinds: list[Any] = [schedules.Polynomial, schedules.Cosine, schedules.Sigmoid, schedules.Cyclic]
    if high >= 1e-3:
        kinds.append(schedules.Exponential)
    kind = draw(st.sampled_from(kinds))
    least = max(low, 1e-3) if kind is schedules.Exponential else low
    numbers = st.floats(least, high, allow_subnormal=False)
    start_epoch, end_epoch = draw(thresholds(min_size=2, max_size=2))
    arguments: dict[str, Any] = {"start_epoch": start_epoch, "end_epoch": end_epoch}
    if kind is schedules.Polynomial:
        arguments["power"] = draw(st.sampled_from([1.0, 0.5, 2.0]))
    if kind is schedules.Cyclic:
        arguments |= {"cycles": draw(st.integers(1, 4)), "ratio": draw(st.sampled_from([0.5, 0.1, 1.0]))}
    return _make(functools.partial(kind, draw(numbers), draw(numbers), **arguments))


@st.composite
def _chains(draw: st.DrawFn, parts: st.SearchStrategy[Schedule | float]) -> Schedule:
    boundaries = draw(thresholds(max_size=2))
    return schedules.Chain([draw(parts) for _ in range(len(boundaries) + 1)], boundaries)


# --- configs ----------------------------------------------------------------------------------------


def loss_configs(
    plugin: str | None = None, *, arguments: Mapping[str, Arguments] | None = None, max_terms: int = 3
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for valid compound configs, for `build_compound_loss_from_config` or YAML.

    They have terms in a list or a mapping, weights of each kind, groups, and options of the compound. You can call
    the built criterion without further set-up.

    Args:
        plugin: the plugin or distribution whose losses are used; None for all installed losses. Losses that cannot be
            built from their defaults or their spec's `example_args` are not used.
        arguments: strategies for constructor arguments, by canonical names of losses.
        max_terms: the largest number of terms of the config and of each group.

    Raises:
        PluginError: no such plugin is installed, or it offers no loss (when the first config is drawn).

    It shrinks to one loss.
    """
    return st.deferred(lambda: _compounds(_terms(plugin, arguments or {}), max_terms))


def _terms(plugin: str | None, arguments: Mapping[str, Arguments]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for terms: losses with their arguments."""
    names = catalog().losses.names() if plugin is None else losses_of(plugin)

    @functools.cache
    def builds(name: str) -> bool:
        try:
            term = yaml.safe_load(yaml.safe_dump(declared(name)))
            build_compound_loss_from_config({"losses": [term]})
        except (yaml.YAMLError, LossregError):
            return False
        return True

    def declared(name: str) -> dict[str, Any]:
        args = dict(catalog().losses.find(name).spec.example_args)
        return {"loss": name, **({"args": args} if args else {})}

    def term(name: str) -> st.SearchStrategy[dict[str, Any]]:
        if name in arguments:
            return arguments[name].map(lambda args: {"loss": name, "args": dict(args)})
        return st.builds(declared, st.just(name))

    return st.sampled_from(names).filter(lambda name: name in arguments or builds(name)).flatmap(term)


@st.composite
def _compounds(draw: st.DrawFn, terms: st.SearchStrategy[dict[str, Any]], most: int) -> dict[str, Any]:
    switches = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "normalize_losses": st.booleans(),
                "normalization_params": st.fixed_dictionaries(
                    {"min_samples": st.integers(1, 10), "max_samples": st.integers(10, 1000)}
                ),
                "track_norms": st.just("running"),
                "norm_momentum": st.sampled_from([0.01, 0.5, 1.0]),
            },
        )
    )
    return {**draw(_blocks(terms, most)), **switches}


@st.composite
def _blocks(
    draw: st.DrawFn,
    terms: st.SearchStrategy[dict[str, Any]],
    most: int,
    outer: list[float] | None = None,
    groups: bool = True,
) -> dict[str, Any]:
    """Draw the keys that a compound loss and a group have in common."""
    shared = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "epoch_thresholds": thresholds(min_size=2, max_size=3),
                "weighting": st.sampled_from(_WEIGHTINGS),
                "zero_weight": st.sampled_from(["keep", "skip"]),
                "on_nonfinite": st.sampled_from(["ignore", "raise", "skip_term"]),
            },
        )
    )
    inner: Any = shared.get("epoch_thresholds", outer)
    member = st.builds(_weighted, terms, _own(inner))
    if groups:
        # the weight of a group uses the thresholds of the group
        block = _blocks(terms, most, inner, groups=False)
        member |= block.flatmap(lambda b: _own(b.get("epoch_thresholds", inner)).map(lambda own: {**b, **own}))
    members = draw(st.lists(member, min_size=1, max_size=most))
    named = {f"term{i}": member for i, member in enumerate(members)}
    listed: Any = [{**member, "name": name} for name, member in named.items()]
    return {"losses": draw(st.sampled_from([listed, named])), **shared}


def _weighted(term: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a term with its other keys; a list of weights is a schedule by name where the loss has a `weight` too."""
    weight = own.get("weight")
    takes = parameters(catalog().losses.find(term["loss"]).load())
    if isinstance(weight, list) and any(parameter.name == "weight" for parameter in takes):
        return {**term, **own, "weight": {"schedule": "piecewise", "values": weight}}
    return {**term, **own}


def _own(epoch_thresholds: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the other keys of a term or a group: weight, normalize, optional."""
    weight = weights(epoch_thresholds).map(_as_data)
    return st.fixed_dictionaries({}, optional={"weight": weight, "normalize": st.booleans(), "optional": st.booleans()})


def _as_data(weight: Any) -> Any:
    """Return a weight in the form of a config."""
    return schedules.as_data(weight) if isinstance(weight, Schedule) else weight
