"""The way of one forward, from a batch to the shares of its terms in the total; `run` has the steps in order.

1. `prepare` runs the preprocesses and chooses the terms that the batch has.
2. `switches` says which of them are off at this time.
3. `evaluate` computes their raw values, those of groups by a forward of their own.
4. `treat_nonfinite` raises for values that are not finite, or leaves them out.
5. `normalise` divides the values by their norms.
6. `weigh` multiplies them by the weighting's coefficients and by the scheduled weights.
7. `track` moves running norms.
8. `keep_in_graph` keeps on the autograd graph what is not part of the total.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from torch import Tensor

from lossreg.composition import tracking
from lossreg.composition.bare import keys_in, run_nodes
from lossreg.composition.call import Call
from lossreg.composition.clock import Moment
from lossreg.composition.dependencies import needed_nodes, reachable
from lossreg.composition.nonfinite import agree_on_finite, log_skipped, raise_nonfinite
from lossreg.composition.off import gated, nothing_behind, nothing_of
from lossreg.composition.recomputing import recomputing
from lossreg.composition.record import Parts
from lossreg.composition.vectors import chosen, counts_as, stacked
from lossreg.composition.weighting.base import Coefficients, Weighting
from lossreg.composition.window import Window, samples_in
from lossreg.errors import WeightingError
from lossreg.losses.base import Loss, check_normalize
from lossreg.losses.mean import Count, Mean, largest
from lossreg.losses.nested import tensors_in
from lossreg.losses.norm import snapshot
from lossreg.losses.notes import note_group
from lossreg.losses.paths import is_inside, join
from lossreg.losses.ranks import deferred, in_forward, several, told

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss

_AS_IT_IS: Final = nullcontext()


@dataclass
class Found:
    """What the terms of one batch came to, by their positions.

    Attributes:
        raw: the values of terms, and the totals of groups; in a window, what they add to the window's.
        counts: what the means are over that terms consist of, for those that say it.
        own: in a window, the values of terms by themselves, detached.
        empty: the totals of groups of which no term is there.
        members: the values of the members of groups, by path in the group.
        parts: what the forwards of groups have left for the record.
        extra_info: by path.
    """

    raw: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, tuple[Count, ...]] = field(default_factory=dict)
    own: dict[int, Tensor] = field(default_factory=dict)
    empty: dict[int, Tensor] = field(default_factory=dict)
    members: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    parts: dict[int, Parts] = field(default_factory=dict)
    extra_info: dict[str, Any] = field(default_factory=dict)

    def drop(self, position: int, name: str) -> None:
        """Forget a term, with its members where it is a group."""
        for found in (self.raw, self.counts, self.own, self.empty, self.members, self.parts):
            found.pop(position, None)
        for path in [path for path in self.extra_info if is_inside(path, name)]:
            del self.extra_info[path]


class Switches(NamedTuple):
    """Which terms are off: nothing where no term is.

    Attributes:
        off: for each term whether its weight is 0.
        moving: for each term whether its weight may be 0, where only the compiled graph will know.
    """

    off: Sequence[bool]
    moving: Sequence[bool]


class Result(NamedTuple):
    """What a forward came to.

    Attributes:
        shares: (m,) the shares in the total of the terms that are on, and after them vectors of no elements.
        values: the detached value of each term by path.
        extra_info: what the losses tell beside their values, by path.
        on: the positions of the terms that are on.
        present: the positions of all terms that the batch has.
    """

    shares: Tensor
    values: dict[str, Tensor]
    extra_info: dict[str, Any]
    on: list[int]
    present: list[int]


def run(criterion: MultiLoss, call: Call, pred_batch: Any, gt_batch: Any, normalize: bool) -> Result:
    """Run a forward; an error of this rank alone is told to the others, where they wait in a collective."""
    if torch.compiler.is_compiling() or not several() or in_forward():
        return _steps(criterion, call, pred_batch, gt_batch, normalize)
    keep = criterion.has_collectives() and criterion.calibrated.device.type == "cpu"
    with told(keep, criterion.compare_weights, criterion.weights_changed()):
        return _steps(criterion, call, pred_batch, gt_batch, normalize)


def _steps(criterion: MultiLoss, call: Call, pred_batch: Any, gt_batch: Any, normalize: bool) -> Result:
    normalize = check_normalize(normalize, criterion.clock.owner) and criterion.normalize
    predictions = pred_batch
    active: Sequence[int] = criterion._group_places  # where `prepare` fails, groups still join their collectives
    with _deferring():
        pred_batch, gt_batch, active = prepare(criterion, pred_batch, gt_batch)
        if call.window is not None and not criterion._targets_tell:
            call.window.excuse(set(range(len(criterion.names))).difference(active))
    batches, moment = (pred_batch, gt_batch), call.moment
    if moment is None:
        weights, now = criterion.clock.trace(call.epoch, call.step, criterion._one)
    else:
        weights, now = moment.vector, moment.now
    switches = switches_of(criterion, call)
    losses: list[Any] = list(criterion.loss_funcs)
    found = evaluate(criterion, losses, call, batches, active, normalize, weights, switches)
    if criterion.on_nonfinite != "ignore" and moment is not None and not torch.compiler.is_compiling():
        with _deferring():
            lost = treat_nonfinite(criterion, found, batches, switches.off, moment.epoch)
            if call.window is not None:
                call.window.excuse(lost)

    present, off = list(found.raw), switches.off
    on = present if not off else [i for i in present if not off[i]]
    order = on if not off else on + [i for i in present if off[i]]
    raw, norms = normalise(criterion, losses, found, on, order, normalize)
    vector = raw if norms is None else raw / norms
    own = raw.detach() if call.window is None else _own_values(found, order, raw)
    normalised = vector.detach() if call.window is None else own if norms is None else own / norms
    values = _values_by_path(criterion, found, order, normalised)
    if len(on) < len(order):
        vector = vector[: len(on)]
    own_weights = _weights_of(criterion, moment, weights, on, vector)
    asked = functools.partial(_asked_for, predictions, functools.partial(_one_by_one, found, on, norms, vector))
    counts = _counts_of(found, on, vector, call.window) if criterion.weighting is not None else None
    shares, coefficients = weigh(
        criterion, vector, asked, own_weights, on, now, bool(switches.moving), counts, call.window, found
    )
    call.parts = Parts(
        criterion.names,
        tuple(order),
        own,
        norms,
        weights,
        coefficients,
        shares.detach(),
        found.parts,
        tuple(found.counts.get(i, ()) for i in order),
        None if call.window is None else raw.detach(),
    )
    if (
        criterion.track_norms is not None
        and criterion.training
        and torch.is_grad_enabled()
        and call.window is None  # at its end
    ):
        track(criterion, losses, found)  # after the weighting, which may refuse a value
    shares = keep_in_graph(criterion, found, batches, shares, on, order, off)
    return Result(shares, values, found.extra_info, on, present)


def _deferring() -> AbstractContextManager[Any]:
    """Return a context that keeps an error of this rank until its next collective, where there are other ranks."""
    return deferred() if not torch.compiler.is_compiling() and in_forward() else _AS_IT_IS


# --- 1 and 2: which terms -------------------------------------------------------------------------


def prepare(criterion: MultiLoss, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any, Sequence[int]]:
    """Run the preprocesses that the terms of this batch need; return the batches, and the positions of those terms."""
    pred_batch, gt_batch = criterion.opened(pred_batch, gt_batch)
    every, nodes, bare = range(len(criterion.names)), criterion._nodes, criterion._bare
    if not (nodes or any(criterion._optional)):
        return pred_batch, gt_batch, every
    if any(node.opaque for node in nodes):  # one may make any key, so that only then is known what a batch has
        last = max(i for i, node in enumerate(nodes) if node.opaque)
        ran = needed_nodes(nodes[: last + 1], (), keys_in(pred_batch, gt_batch, bare))
        pred_batch, gt_batch = run_nodes(ran, pred_batch, gt_batch, bare)
        nodes = [node for node in nodes if node not in ran]
    present = keys_in(pred_batch, gt_batch, bare)
    losses: list[Any] = list(criterion.loss_funcs)
    active = [i for i in every if not criterion._optional[i] or reachable(losses[i].requires, nodes, present)]
    needed = needed_nodes(nodes, [losses[i] for i in active], present)
    return *run_nodes(needed, pred_batch, gt_batch, bare), active


def switches_of(criterion: MultiLoss, call: Call) -> Switches:
    """Say which terms are off.

    A compiled graph is the same for all times, except where it leaves terms out by `zero_weight: skip`.
    """
    if call.moment is not None and (criterion.zero_weight == "skip" or not torch.compiler.is_compiling()):
        return Switches(call.moment.off, ())
    return Switches(criterion.clock.never, criterion.clock.moving)


# --- 3 and 4: their raw values --------------------------------------------------------------------


def evaluate(
    criterion: MultiLoss,
    losses: Sequence[Any],
    call: Call,
    batches: tuple[Any, Any],
    active: Sequence[int],
    normalize: bool,
    weights: Tensor,
    switches: Switches,
) -> Found:
    """Compute the raw values of the active terms, and the totals of groups."""
    found, names, (pred_batch, gt_batch), moving = Found(), criterion.names, batches, switches.moving
    raw, extra_info = found.raw, found.extra_info
    skip, tells = switches.off if criterion.zero_weight == "skip" else (), criterion._tells
    keeps = not torch.compiler.is_compiling() and in_forward()
    in_window: dict[int, list[Mean]] = {}

    def evaluate_term(i: int) -> None:
        name, loss, pred = names[i], losses[i], pred_batch
        if moving and moving[i]:
            pred = gated(pred, weights[i] == 0)
        if isinstance(loss, Loss):
            means: list[Mean] = []
            options: dict[str, Any] = {"means": means} if tells[i] else {}
            if loss.takes_epoch:
                options["epoch"] = call.epoch if call.moment is None else call.moment.epoch
            raw[i], extra_info[name] = loss(pred, gt_batch, normalize=False, **options)
            if call.window is not None:
                if i in call.window.approximate:
                    means[:] = [Mean(raw[i], float(samples_in(loss, gt_batch)))]
                found.own[i], in_window[i] = raw[i].detach(), means
            if means:
                found.counts[i] = tuple(mean.count for mean in means)
            return
        inner = call.of_group(i)
        total, members, told_inside = noted(name, loss, pred, gt_batch, normalize, call=inner)
        extra_info.update({join(name, path): info for path, info in told_inside.items()})
        found.members[i] = members
        (raw if members else found.empty)[i] = total
        if inner.parts is not None:
            found.parts[i] = inner.parts

    for i in active:
        if not keeps and not skip:
            evaluate_term(i)
            continue
        with deferred() if keeps else _AS_IT_IS, torch.no_grad() if skip and skip[i] else _AS_IT_IS:
            evaluate_term(i)
    if call.window is not None:
        raw.update(call.window.shares_of(in_window))
    return found


def noted(group: str, loss: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a loss inside of a group, or the group; an exception from there names the term `group/term`."""
    try:
        return loss(*arguments, **options)
    except Exception as error:
        if group and not torch.compiler.is_compiling():
            note_group(error, group)
        raise


def treat_nonfinite(
    criterion: MultiLoss, found: Found, batches: tuple[Any, Any], off: Sequence[bool], epoch: float | None
) -> list[int]:
    """Raise for terms that are on and not finite, or take them out of what was found, on all ranks alike.

    Returns:
        the positions of those taken out.
    """
    names, owner = criterion.names, criterion.clock.owner
    on = {i: value for i, value in found.raw.items() if not (off and off[i])}
    if criterion.on_nonfinite == "raise":
        if on:
            values = stacked(list(on.values()))
            raise_nonfinite(
                [names[i] for i in on], values, dict(zip(("pred", "gt"), batches, strict=True)), owner, epoch
            )
        return []
    finite = agree_on_finite([on.get(i) for i in range(len(names))], criterion._one, owner, together=criterion.training)
    lost = [i for i, is_finite in enumerate(finite) if not is_finite]
    for i in lost:
        found.drop(i, names[i])
        criterion.skipped[i] += criterion.training and not recomputing()
    if lost:
        log_skipped([names[i] for i in lost], owner, epoch)
    return lost


# --- 5 to 7: norms and weights --------------------------------------------------------------------


def normalise(
    criterion: MultiLoss,
    losses: Sequence[Any],
    found: Found,
    on: list[int],
    order: list[int],
    normalize: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return (k,) the raw values in an order, of which those that are off have no graph, and (k,) their norms.

    There are no norms where nothing is normalised.
    """
    if not order:
        return criterion._one[:0], None
    values = [found.raw[i] for i in order]
    values[len(on) :] = [value.detach() for value in values[len(on) :]]
    vector = stacked(values)
    if not normalize:
        return vector, None
    one, normalized = criterion._one, criterion._normalized
    # from `_buffers`, since an attribute of a module is found last; a copy, since norms may move before the backward
    norms = torch.cat([losses[i]._buffers["norm"] if normalized[i] else one for i in order])
    return vector, (snapshot(norms) if torch.compiler.is_compiling() else norms).to(vector)


def _weights_of(criterion: MultiLoss, moment: Moment | None, weights: Tensor, on: list[int], like: Tensor) -> Tensor:
    """Return (m,) the weights of the terms that are on, in the dtype and on the device of a vector."""
    if moment is not None and like.dtype == torch.float32 and not torch.compiler.is_compiling():
        weights = moment.single
    return (weights if len(on) == len(criterion.names) else chosen(weights, on)).to(like)


def weigh(
    criterion: MultiLoss,
    vector: Tensor,
    asked: Callable[[Weighting], dict[str, Any]],
    weights: Tensor,
    on: list[int],
    now: Tensor | None,
    moving: bool,
    counts: Tensor | None,
    window: Window | None,
    found: Found,
) -> tuple[Tensor, Tensor | None]:
    """Return (m,) the shares of the terms that are on, and (m,) the weighting's coefficients, detached.

    A term over nothing (`counts`), and one that turns out to be off in a compiled graph, counts as not there.

    Raises:
        WeightingError: the weighting is on another device.
    """
    off = weights == 0 if moving else None
    if criterion.weighting is None:
        shares = vector * weights
        return (shares if off is None else torch.where(off, 0.0, shares)), None
    if vector.device != criterion._one.device:
        raise WeightingError(
            f"{criterion.clock.owner}: {type(criterion.weighting).__name__} is on {criterion._one.device}, the losses "
            f"are on {vector.device}; move the criterion to the device of the batches: criterion.to(device)"
        )
    gone = off if counts is None else counts == 0 if off is None else (counts == 0) | off
    values = vector if gone is None else torch.where(gone, math.nan, vector)
    active = None if len(on) == len(criterion.names) else on
    if window is not None and not window.single:
        made: Coefficients | None = criterion.weighting.hold(values.isfinite(), active)
    else:
        made = _coefficients(criterion.weighting, values, asked, active, now, counts)
    if made is not None and made.addends is not None and window is not None and on:
        fractions = [window.fraction_of(i, found.counts.get(i, ()), found.parts.get(i)) for i in on]
        made = made._replace(addends=made.addends * torch.stack(fractions).to(vector))
    there = vector if gone is None else torch.where(gone, 0.0, vector)
    shares = (there if made is None else made.of(there)) * weights
    coefficients = None if made is None else made.weights.detach()
    return (shares if gone is None else torch.where(gone, 0.0, shares)), coefficients


def _counts_of(found: Found, on: Sequence[int], like: Tensor, window: Window | None) -> Tensor | None:
    """Return (m,) what the values are means over, with 1 for those that do not say; None where none needs to.

    In a window they are 1 for the terms that it has something for, and 0 for the others.
    """
    if window is not None:
        return chosen(window.present, on).to(like)
    counts = [largest(found.counts[i]) if i in found.counts else None for i in on]
    moving = any(isinstance(count, Tensor) or count == 0 for count in counts)
    if not moving and not (several() and any(count is not None for count in counts)):
        return None
    return counts_as([1.0 if count is None else count for count in counts], like)


def _own_values(found: Found, order: Sequence[int], like: Tensor) -> Tensor:
    """Return (k,) the raw values of terms by themselves, and what groups add to a window's."""
    return torch.stack([found.own.get(i, found.raw[i]).detach().to(like) for i in order]) if order else like.detach()


def _one_by_one(found: Found, on: Sequence[int], norms: Tensor | None, like: Tensor) -> list[Tensor]:
    """Return the normalised values of the terms that are on, each with a graph of its own."""
    values = [found.raw[i].to(like) for i in on]
    return values if norms is None else [value / norms[i] for i, value in enumerate(values)]


def _asked_for(predictions: Any, terms: Callable[[], list[Tensor]], weighting: Weighting) -> dict[str, Any]:
    """Return what a weighting takes beside the values: the values one by one, and what the model returned."""
    options: dict[str, Any] = {"terms": terms()} if weighting.differentiates else {}
    return options | ({"predictions": predictions} if weighting.reads_predictions else {})


def _coefficients(
    weighting: Weighting,
    values: Tensor,
    asked: Callable[[Weighting], dict[str, Any]],
    active: list[int] | None,
    now: Tensor | None,
    counts: Tensor | None,
) -> Coefficients | None:
    """Ask a weighting, which may be a stranger's, for its coefficients; None where its error waits to be raised."""
    with _deferring():
        options = asked(weighting)
        if counts is not None:
            options["counts"] = counts
        found = weighting(values, active, now, **options)
        if not isinstance(found, Coefficients):
            raise TypeError(
                f"{type(weighting).__name__}.forward: expected Coefficients, found {type(found).__name__}; return "
                "Coefficients(weights), or write weights() and move() in place of forward()"
            )
        return found
    with _deferring():  # it failed on this rank alone; the others wait in its collective
        weighting(values[:0], [], now)
    return None


def track(criterion: MultiLoss, losses: Sequence[Any], found: Found) -> None:
    """Move the running norms toward the values of this batch."""
    tracked = [i for i, normalized in enumerate(criterion._normalized) if normalized]
    values = {k: found.raw[i] for k, i in enumerate(tracked) if i in found.raw}
    counts = {k: largest(found.counts[i]) for k, i in enumerate(tracked) if i in found.counts}
    tracking.track_norms([losses[i] for i in tracked], values, criterion.norm_momentum, counts)


# --- 8: the graph ---------------------------------------------------------------------------------


def keep_in_graph(
    criterion: MultiLoss,
    found: Found,
    batches: tuple[Any, Any],
    shares: Tensor,
    on: list[int],
    order: list[int],
    off: Sequence[bool],
) -> Tensor:
    """Return the shares, joined with vectors of no elements that keep in the graph what is no part of the total.

    DistributedDataParallel waits for the gradient of each parameter, so that all predictions and parameters must stay
    in the graph, or it hangs.
    """
    off_by_weight = order[len(on) :] if criterion.zero_weight == "keep" else []
    ignores = criterion._ignores and criterion.zero_weight == "keep"
    if not (off_by_weight or ignores or not on or len(order) < len(criterion.names)):
        return shares
    own = _absent(criterion, found, off)
    if torch.compiler.is_compiling():
        own += [p for i in off_by_weight for p in criterion.loss_funcs[i].parameters()]
        return torch.cat([shares, *nothing_of([*tensors_in(batches if off_by_weight else batches[0]), *own], shares)])
    values = [found.raw[i] for i in off_by_weight]
    kept = [*nothing_of(own, shares), *nothing_behind(list(tensors_in(batches[0])), values, shares)]
    return torch.cat([shares, *kept]) if kept else shares


def _absent(criterion: MultiLoss, found: Found, off: Sequence[bool]) -> list[Tensor]:
    """Return the parameters of absent terms.

    A group without terms is kept as it was computed: its weighting may average gradients over the ranks, and the other
    ranks wait for this one there. They do not where the group is off.
    """
    groups = {i: total for i, total in found.empty.items() if not (off and off[i])}
    absent = [loss for i, loss in enumerate(criterion.loss_funcs) if i not in found.raw and i not in groups]
    modules = absent if criterion.weighting is None else [*absent, criterion.weighting]
    return [*groups.values(), *(p for module in modules for p in module.parameters() if p.requires_grad)]


# --- what is returned -----------------------------------------------------------------------------


def _values_by_path(criterion: MultiLoss, found: Found, order: Sequence[int], vector: Tensor) -> dict[str, Tensor]:
    """Return the detached value of each term by path, in the order of the terms."""
    values: dict[str, Tensor] = {}
    rows = vector.detach().unbind()
    if not found.members and order == list(found.raw):
        return dict(zip([criterion.names[i] for i in order], rows, strict=False))
    by_position = dict(zip(order, rows, strict=False))
    for i in found.raw:
        if i in found.members:
            values.update({join(criterion.names[i], path): member for path, member in found.members[i].items()})
        else:
            values[criterion.names[i]] = by_position[i]
    return values
