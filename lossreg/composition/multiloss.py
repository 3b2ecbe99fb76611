"""MultiLoss: the weighted sum of terms, each over its norm, with the preprocesses that they need."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments, plain
from lossreg.composition import checkpoint, tracking
from lossreg.composition.bare import keys_in, names_of_bare, run_nodes
from lossreg.composition.checkpoint import Contents
from lossreg.composition.clock import Clock, Moment, before_forward
from lossreg.composition.compiled import CompiledCall
from lossreg.composition.facts import facts
from lossreg.composition.graph import build_nodes, check_functions, check_sources, needed_nodes, reachable
from lossreg.composition.nonfinite import CHOICES, OnNonfinite, agree_on_finite, log_skipped, raise_nonfinite
from lossreg.composition.off import gated, nothing_of, sources, tensors_in
from lossreg.composition.recomputing import recomputing, refuse_recomputing
from lossreg.composition.schedules import Constant, Schedule, as_schedule
from lossreg.composition.weighting.base import Coefficients, Weighting
from lossreg.errors import GraphError
from lossreg.losses.base import Loss, check_normalize
from lossreg.losses.description import describe, describe_options
from lossreg.losses.norm import snapshot, sync_norms
from lossreg.losses.notes import note_group
from lossreg.losses.ranks import compare, deferred, in_forward, several, told
from lossreg.losses.wrapper import LossWrapper

Weight: TypeAlias = float | Sequence[float] | Schedule | Callable[[float], float]
PreprocessFunction: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


_AS_IT_IS: Final = nullcontext()


@dataclass(frozen=True)
class Term:
    """One term of a `MultiLoss`: its loss or group, and how it enters the total.

    Attributes:
        name: its name among the terms of its `MultiLoss`.
        loss: a `Loss`, or a `MultiLoss` that is a group.
        schedule: its weight as a callable of the epoch.
        normalize: whether its value is divided by its norm; a group's members are, not the group.
        optional: whether it is left out of a batch that lacks its keys.
    """

    name: str
    loss: Loss | MultiLoss
    schedule: Schedule
    normalize: bool = True
    optional: bool = False


@dataclass
class _Found:
    """What the terms of one batch came to.

    Attributes:
        raw: values by position.
        empty: by position, the totals of groups of which no term is there.
        groups: the members of groups.
        extra_info: by path.
    """

    raw: dict[int, Tensor] = field(default_factory=dict)
    empty: dict[int, Tensor] = field(default_factory=dict)
    groups: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    extra_info: dict[str, Any] = field(default_factory=dict)

    def drop(self, position: int, name: str) -> None:
        """Forget a term, with its members where it is a group."""
        self.raw.pop(position, None)
        self.empty.pop(position, None)
        for path in [path for path in self.extra_info if path == name or path.startswith(f"{name}/")]:
            del self.extra_info[path]


@dataclass
class _Weighted:
    """What a forward came to: (k,) shares of the terms that are on, in order, and which others the batch has."""

    shares: Tensor
    values: dict[str, Tensor]
    extra_info: dict[str, Any]
    on: list[int]
    present: list[int]


class MultiLoss(nn.Module):
    """The sum over terms of `weight(epoch) * loss / norm`.

    Args:
        loss_funcs: the terms: each a `Loss`, another module or function (wrapped by `LossWrapper`), or a
            `MultiLoss`, whose terms are then reported as `group/term`.
        weights: a weight for each: a number, a list of values at `epoch_thresholds`, a `Schedule`, or a
            function of the epoch.
        epoch_thresholds: epochs for list weights, strictly ascending.
        pre_processes: nodes `f(pred_batch, gt_batch) -> (pred_batch, gt_batch)`; a `Preprocess` runs where a
            term needs what it provides, any other function at every forward, in its place. What a term
            requires and a registered preprocess provides is put in by itself.
        name: its name where it is a term of another `MultiLoss`.
        normalize: whether terms are divided by their norms at all.
        unnormalized: names of terms that are not.
        optional_terms: names of terms that are left out of a batch that lacks their keys.
        weighting: an adaptive weighting, which the schedules multiply.
        zero_weight: a term of weight 0 adds nothing to the total or to a gradient, whatever its value; `"keep"`
            leaves what it is made of in the autograd graph, with zero gradients, so that DistributedDataParallel
            sees every parameter; `"skip"` computes it without a graph.
        batch_keys: the keys of every batch (`pred.seg`, `gt.mask`); where given, a key that comes from
            nowhere is an error here and not at the first batch.
        normalization_params: `min_samples` and `max_samples` for `calibrate_norms`.
        on_nonfinite: what to do about a term that is NaN or infinite: `"ignore"` costs nothing; `"raise"` names
            it; `"skip_term"` leaves it out of the batch on all ranks and counts it in `skipped`. The latter
            two read values back to the host at each forward, and do nothing in a compiled one.
        track_norms: `"running"` lets norms go on as an exponential average during training.
        norm_momentum: weight of a new batch in that average, above 0 and at most 1.

    Raises:
        ArgumentError: with every argument that is of a wrong type or out of range; a TypeError and a ValueError too.
        GraphError: two terms of one name; a cycle of preprocesses; a key that nobody provides.
    """

    name: str
    _term_of = ""  # the `MultiLoss` that it is a group of
    calibrated: Tensor  # [], bool: whether `calibrate_norms` has set the norms
    _one: Tensor  # [1]: the norm of what has none
    skipped: Tensor  # (n,), int64: how many batches each term was left out of by `on_nonfinite: skip_term`

    def __init__(
        self,
        loss_funcs: Sequence[Loss | MultiLoss | Callable[..., Any]],
        weights: Sequence[Weight],
        epoch_thresholds: Sequence[float] | None = None,
        pre_processes: Sequence[PreprocessFunction] | None = None,
        *,
        name: str = "multi",
        normalize: bool = True,
        unnormalized: Collection[str] = (),
        optional_terms: Collection[str] = (),
        weighting: Weighting | None = None,
        zero_weight: Literal["keep", "skip"] = "keep",
        batch_keys: Collection[str] | None = None,
        normalization_params: Mapping[str, int] | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        track_norms: Literal["running"] | None = None,
        norm_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        given = Arguments("MultiLoss")
        losses = _terms(given, loss_funcs)
        names = tuple(loss.name for loss in losses)
        schedules = _schedules(given, weights, epoch_thresholds, names)
        pre_processes = check_functions(given, () if pre_processes is None else pre_processes)
        self.name = given.name("name", name)
        self.normalize = given.flag("normalize", normalize)
        unnormalized = given.members("unnormalized", unnormalized, names, "term")
        optional_terms = given.members("optional_terms", optional_terms, names, "term")
        self.weighting = _weighting(given, weighting)
        self.zero_weight = given.choice("zero_weight", zero_weight, ("keep", "skip"))
        batch_keys = None if batch_keys is None else given.keys("batch_keys", batch_keys)
        self.normalization_params = _sample_counts(given, {} if normalization_params is None else normalization_params)
        self.on_nonfinite = given.choice("on_nonfinite", on_nonfinite, CHOICES)
        self.track_norms = given.choice("track_norms", track_norms, (None, "running"))
        self.norm_momentum = _momentum(given, norm_momentum)
        given.done()
        _refuse_twice(names)
        self.names = names
        self.loss_funcs = nn.ModuleList(losses)
        self._normalized = tuple(isinstance(loss, Loss) and loss.name not in unnormalized for loss in losses)
        for loss in losses:
            if isinstance(loss, MultiLoss) and loss.name in optional_terms:
                loss.make_optional()  # each of its terms is; the group itself is always there
        self._optional = tuple(isinstance(loss, Loss) and loss.name in optional_terms for loss in losses)
        required = [loss for loss, optional in zip(losses, self._optional, strict=True) if not optional]
        self._nodes = build_nodes(pre_processes, losses, batch_keys or ())
        if batch_keys is not None:
            check_sources(self._nodes, required, batch_keys)
        self.pre_processes = nn.ModuleList(n.function for n in self._nodes if isinstance(n.function, nn.Module))
        if self.weighting is not None:
            self.weighting.bind(names)
        self._bare = names_of_bare(self._asked(), batch_keys or ())
        self._group_places = tuple(i for i, loss in enumerate(losses) if isinstance(loss, MultiLoss))
        self._sizes = (len(self.loss_funcs), len(self.pre_processes))
        self._compared = False  # whether the ranks were found to hold the same criterion
        self._groups = tuple(loss for loss in losses if isinstance(loss, MultiLoss))
        self.register_buffer("calibrated", torch.tensor(False))
        self.register_buffer("skipped", torch.zeros(len(losses), dtype=torch.int64))
        self.register_buffer("_one", torch.ones(1), persistent=False)
        self._thresholds = epoch_thresholds
        owner = f"MultiLoss {name!r}"
        for loss in losses:
            loss._term_of = owner
        self.clock = Clock(names, schedules, owner)
        self.register_forward_pre_hook(before_forward, with_kwargs=True)

    def __setattr__(self, name: str, value: Any) -> None:
        """Check what is set after the construction as the constructor does, and refuse what it alone can set."""
        if "clock" in self.__dict__ and (name in _SETTINGS or name in _FIXED):
            given = Arguments(self.clock.owner)
            if name in _FIXED:
                given.report(name, "cannot be set after the construction", _FIXED[name])
            else:
                value = _SETTINGS[name](given, value)
            if name == "name" and self._term_of and value != self.name:
                given.report(name, f"{self._term_of} knows it as {self.name!r}, found {value!r}", "name it beforehand")
            if name in ("on_nonfinite", "track_norms") and self._compiled_call_impl is not None:
                given.report(name, "cannot be set once it is compiled", "set it before compile()")
            given.done()
            if name == "name":
                self.clock.owner = f"MultiLoss {value!r}"
        super().__setattr__(name, value)

    # --- what it consists of ----------------------------------------------------------------------

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The weights of the terms, each as a callable of the epoch."""
        return self.clock.schedules

    @property
    def weights(self) -> tuple[float | Schedule, ...]:
        """The weights of the terms: a number, or a callable of the epoch. Set a list of all to change them."""
        return tuple(s.value if isinstance(s, Constant) else s for s in self.schedules)

    @weights.setter
    def weights(self, weights: Sequence[Weight]) -> None:
        given = Arguments(self.clock.owner)
        schedules = _schedules(given, weights, self._thresholds, self.names)
        given.done()
        self.clock.schedules = schedules

    def set_weight(self, name: str, weight: Weight, epoch_thresholds: Sequence[float] | None = None) -> None:
        """Give a term another weight from the next forward on. No checkpoint holds it.

        Args:
            name: of a term; `group/term` for a member of a group.
            weight: as in the constructor.
            epoch_thresholds: epochs for a list weight; default: those of the constructor.

        Raises:
            ArgumentError: there is no such term, or the weight is of a wrong type or not finite.
        """
        first, _, rest = name.partition("/") if isinstance(name, str) else (name, "", "")
        given = Arguments(f"{self.clock.owner}: set_weight")
        given.members("name", [first], self.names, "term")
        given.done()
        position = self.names.index(first)
        loss = self.loss_funcs[position]
        if rest and isinstance(loss, MultiLoss):
            loss.set_weight(rest, weight, epoch_thresholds)
            return
        if rest:
            given.wrong("name", "the name of a term", name, f"{first!r} is no group")
        thresholds = self._thresholds if epoch_thresholds is None else epoch_thresholds
        schedules = _schedules(given, [weight], thresholds, [first])
        given.done()
        self.clock.schedules = (*self.schedules[:position], *schedules, *self.schedules[position + 1 :])

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms in their order."""
        return tuple(
            Term(name, cast("Loss | MultiLoss", loss), schedule, normalize, optional)
            for name, loss, schedule, normalize, optional in zip(
                self.names, self.loss_funcs, self.schedules, self._normalized, self._optional, strict=True
            )
        )

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Term]]:
        """Yield `(path, term)` for every loss, those of groups as `group/term`."""
        for term in self.terms:
            if isinstance(term.loss, MultiLoss):
                yield from term.loss.leaves(f"{prefix}{term.name}/")
            else:
                yield prefix + term.name, term

    @property
    def requires(self) -> tuple[str, ...]:
        """The keys that a batch, or a preprocess outside, must bring."""
        inside = {key for node in self._nodes if not node.automatic for key in node.provides}
        needs = [key for node in self._nodes if not node.automatic for key in node.requires]
        needs += [key for t in self.terms if not t.optional for key in t.loss.requires]
        return tuple(dict.fromkeys(key for key in needs if key not in inside))

    @property
    def optional(self) -> tuple[str, ...]:
        """The keys that some term uses where they are there."""
        keys = [key for t in self.terms for key in (*t.loss.optional, *(t.loss.requires if t.optional else ()))]
        return tuple(dict.fromkeys(keys))

    def plan(self) -> list[dict[str, Any]]:
        """Return nodes and terms in the order in which they run, as plain data.

        Each item has `kind` (`preprocess`, `term` or `group`), `name`, `requires` and `optional`; a
        preprocess also `provides` and `automatic`, a term its `loss` (the name that it is registered under, or its
        class's), `weight` and `normalize`, a group its `weight` and its own `plan`.
        """
        items: list[dict[str, Any]] = [
            {
                "kind": "preprocess",
                "name": node.name,
                "requires": list(node.requires),
                "optional": [],
                "provides": list(node.provides),
                "automatic": node.automatic,
            }
            for node in self._nodes
        ]
        for term in self.terms:
            group = isinstance(term.loss, MultiLoss)
            item: dict[str, Any] = {
                "kind": "group" if group else "term",
                "name": term.name,
                "requires": list(term.loss.requires),
                "optional": list(term.loss.optional),
                "weight": str(term.schedule),
            }
            if isinstance(term.loss, MultiLoss):
                item["plan"] = term.loss.plan()
            else:
                loss = term.loss.registered_name or type(term.loss).__name__
                item |= {"loss": loss, "normalize": term.normalize}
            items.append(item)
        return items

    def effective_weights(self, epoch: float | None = None, step: float | None = None) -> dict[str, float]:
        """Return the weight of every loss at an epoch by path; a group's weight multiplies its members'.

        Raises:
            ValueError: a term is scheduled and `epoch` (or `step`) is not given.
        """
        weights: dict[str, float] = {}
        for term, weight in zip(self.terms, self.clock.weights_at(epoch, step), strict=True):
            if isinstance(term.loss, MultiLoss):
                members = term.loss.effective_weights(epoch, step)
                weights |= {f"{term.name}/{path}": weight * member for path, member in members.items()}
            else:
                weights[term.name] = weight
        return weights

    def coefficients(self) -> dict[str, Tensor]:
        """Return what adaptive weightings multiply each loss by, by path; 1 where there is none.

        It is the state as it is now, which the next forward in `eval()` uses. A group's coefficient multiplies its
        members'; what a loss is multiplied by in all is this times its `effective_weights`, over its norm. Nothing is
        read back from the device.
        """
        own = self._one.expand(len(self.names)) if self.weighting is None else self.weighting.weights().detach().clone()
        found: dict[str, Tensor] = {}
        for term, coefficient in zip(self.terms, own.unbind(), strict=True):
            if isinstance(term.loss, MultiLoss):
                members = term.loss.coefficients()
                found |= {f"{term.name}/{path}": coefficient * member for path, member in members.items()}
            else:
                found[term.name] = coefficient
        return found

    def make_optional(self) -> None:
        """Leave each term out of a batch that lacks its keys."""
        self._optional = tuple(isinstance(loss, Loss) for loss in self.loss_funcs)
        for group in self._groups:
            group.make_optional()

    # --- the value --------------------------------------------------------------------------------

    def compile(self, **options: Any) -> None:
        """Compile the forward at its first call; `update_norm`, `weighted_terms` and the groups' own stay as they are.

        The schedules stay outside of the compiled graph, so that no epoch compiles it again, and the state
        keeps its keys. Where the machine has no compiler, the first forward warns (`CompilerMissingWarning`)
        and all run as they are. A copy (`deepcopy`, pickle) is not compiled.

        Args:
            options: keyword arguments of `torch.compile`, such as `fullgraph=True` or `dynamic=False`.

        Raises:
            ValueError: `on_nonfinite` is not `"ignore"`, `track_norms` is `"running"`, or a weighting takes
                gradients in its forward: a compiled forward can do none of these.
        """
        for module in self.modules():
            if isinstance(module, MultiLoss) and module.on_nonfinite != "ignore":
                raise ValueError(
                    f"{module.clock.owner}: on_nonfinite={module.on_nonfinite!r} reads values in the forward, which a "
                    "compiled one cannot; use on_nonfinite='ignore', or leave it uncompiled"
                )
            if isinstance(module, MultiLoss) and module.track_norms is not None:
                raise ValueError(
                    f"{module.clock.owner}: track_norms={module.track_norms!r} writes norms in the forward, and a "
                    "compiled one may lose what it writes; calibrate the norms beforehand, or leave it uncompiled"
                )
            if isinstance(module, Weighting) and not module.compiles:
                raise ValueError(
                    f"{self.clock.owner}: {type(module).__name__} takes gradients in the forward, which a compiled "
                    "one cannot; use another weighting, or leave it uncompiled"
                )
        self._compiled_call_impl = CompiledCall(self._call_impl, self.clock.owner, options)

    def forward(
        self,
        pred_batch: Any,
        gt_batch: Any,
        normalize: bool = True,
        epoch: float | None = None,
        step: float | None = None,
        *,
        moment: Moment | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        """Return `(total, {name: value}, {name: extra_info})`.

        Args:
            pred_batch: mapping of tensors; or a bare tensor, which stands for the only key of its side that a term, or
                a preprocess in the list, asks of a batch. A function in the list gets it as it is.
            gt_batch: the same for targets.
            normalize: whether values are divided by their norms.
            epoch: for scheduled weights; fractions count.
            step: global step, for schedules of `unit: step`.
            moment: what a call makes of the time by itself; leave it out.

        Returns:
            the total, a scalar on the graph; the value of each term by its name, normalised where it is, unweighted,
            detached; and what each loss put into its `extra_info`, detached.

        Raises:
            ValueError: a term is scheduled and `epoch` (or `step`) is not given.
            ArgumentError: `normalize` is no bool, or the time is no finite number.
            BatchError: a batch is not what a term or a preprocess needs.
            RecomputedError: activation checkpointing computes the forward again, and norms or weighting have moved.
        """
        found = self._weighted(pred_batch, gt_batch, normalize, epoch, step, moment)
        return found.shares.sum(), found.values, found.extra_info

    def weighted_terms(
        self,
        pred_batch: Any,
        gt_batch: Any,
        *,
        normalize: bool = True,
        epoch: float | None = None,
        step: float | None = None,
    ) -> Tensor:
        """Return the terms' shares of the total, (k,) on the graph: what a gradient-conflict method takes.

        The share of a term of weight 0 is 0, whatever its value.
        """
        found = self._weighted(pred_batch, gt_batch, normalize, epoch, step, None)
        if len(found.on) == len(found.present):
            return found.shares
        shares = dict(zip(found.on, found.shares.unbind(), strict=True))
        zero = found.shares.new_zeros(())
        return torch.cat([torch.stack([shares.get(i, zero) for i in found.present]), found.shares[:0]])

    def moment(self, epoch: float | None = None, step: float | None = None) -> Moment:
        """Return the weights of the terms, and of those of all groups, at a time.

        Raises:
            ValueError, ArgumentError, RecomputedError: as `forward`.
        """
        if (len(self.loss_funcs), len(self.pre_processes)) != self._sizes:
            self._refuse_members()
        if self.training and (self.track_norms is not None or (self.weighting is not None and self.weighting.moves)):
            refuse_recomputing(self.clock.owner, "its weighting" if self.track_norms is None else "its norms")
        losses = self.loss_funcs if self._groups else ()
        inner = tuple(loss.moment(epoch, step) if isinstance(loss, MultiLoss) else None for loss in losses)
        return self.clock.at(epoch, step, self.calibrated.device, inner)

    def _refuse_members(self) -> None:
        """Refuse terms and preprocesses that were added, or taken out, after the construction: nothing would use them.

        Raises:
            ArgumentError: names the list and how many it held.
        """
        given = Arguments(self.clock.owner)
        for name, size in zip(("loss_funcs", "pre_processes"), self._sizes, strict=True):
            if (found := len(getattr(self, name))) != size:
                given.report(name, f"changed its length: expected {size}, found {found}", _FIXED[name])
        given.done()

    def compare_ranks(self) -> None:
        """Compare what the ranks hold, before the first forward that has collectives.

        Raises:
            DistributedError: the ranks hold different criteria; raised alike on every rank, with what differs.
        """
        if not self._compared and several() and self._talks():
            compare(facts(self) | {"calibrated": str(bool(self.calibrated))}, self.clock.owner)
            self._compared = True

    def _talks(self) -> bool:
        """Say whether a forward, or its backward, has collectives."""
        own = self.weighting is not None or self.on_nonfinite == "skip_term" or self.track_norms is not None
        return self.training and (own or any(group._talks() for group in self._groups))

    def _weighted(
        self,
        pred_batch: Any,
        gt_batch: Any,
        normalize: bool,
        epoch: float | None,
        step: float | None,
        moment: Moment | None,
    ) -> _Weighted:
        """Weigh the terms; an error of this rank alone is told to the others, where they wait in a collective."""
        if torch.compiler.is_compiling() or not several() or in_forward():
            return self._weigh(pred_batch, gt_batch, normalize, epoch, step, moment)
        self.compare_ranks()
        with told(keep=self._talks() and self.calibrated.device.type == "cpu"):
            return self._weigh(pred_batch, gt_batch, normalize, epoch, step, moment)

    def _weigh(
        self,
        pred_batch: Any,
        gt_batch: Any,
        normalize: bool,
        epoch: float | None,
        step: float | None,
        moment: Moment | None,
    ) -> _Weighted:
        if moment is None and not torch.compiler.is_compiling():
            moment = self.moment(epoch, step)
        normalize = check_normalize(normalize, self.clock.owner) and self.normalize
        deferring = _AS_IT_IS if torch.compiler.is_compiling() else deferred()
        active: Sequence[int] = self._group_places
        with deferring:
            pred_batch, gt_batch, active = self._prepare(pred_batch, gt_batch)
        weights, now = self.clock.trace(epoch, step, self._one) if moment is None else (moment.vector, moment.now)
        off, moving = self._switches(moment)
        found = self._evaluate(pred_batch, gt_batch, active, normalize, (epoch, step, moment), weights, (off, moving))
        if self.on_nonfinite != "ignore" and moment is not None and not torch.compiler.is_compiling():
            with deferring:
                self._treat_nonfinite(found, pred_batch, gt_batch, off, moment)
        present = list(found.raw)
        on, left = (present, []) if not off else ([i for i in present if not off[i]], [i for i in present if off[i]])
        order = on + left
        raw = [*(found.raw[i] for i in on), *(found.raw[i].detach() for i in left)]
        vector = _stack(raw) if raw else _empty(pred_batch, self._one)
        if normalize and order:
            vector = vector / self._norms(order, vector)
        values = self._values(found, order, vector)
        if left:
            vector = vector[: len(on)]
        if len(on) < len(self.names):
            weights = moment.vector_on if moment is not None and moment.on == tuple(on) else weights[on]
        shares = self._shares(vector, weights.to(vector), on, now, bool(moving))
        if self.track_norms is not None and self.training and torch.is_grad_enabled():
            self._track(found.raw)  # after the weighting, which may refuse a value
        kept = self._kept(found, left, (pred_batch, gt_batch), shares)
        if kept or not on or len(order) < len(self.names):
            # what is left out must not take parameters off the graph that other ranks wait for
            shares = torch.cat([shares, *kept, *self._absent(found, off, shares), _empty(pred_batch, shares)])
        return _Weighted(shares, values, found.extra_info, on, present)

    def _switches(self, moment: Moment | None) -> tuple[Sequence[bool], Sequence[bool]]:
        """Say for each term whether it is off, and whether it may be; nothing where no term is.

        A compiled graph is the same for all times, but where it leaves terms out by `zero_weight: skip`.
        """
        if moment is not None and (self.zero_weight == "skip" or not torch.compiler.is_compiling()):
            return moment.off, ()
        return self.clock.never, self.clock.moving

    def _shares(self, vector: Tensor, weights: Tensor, on: list[int], now: Tensor | None, moving: bool) -> Tensor:
        """Return the shares of the terms that are on; one that turns out to be off counts as not there."""
        off = weights == 0 if moving else None
        if self.weighting is not None:
            given = vector if off is None else torch.where(off, math.nan, vector)
            vector = self._by_weighting(self.weighting, given, None if len(on) == len(self.names) else on, now)
        shares = vector * weights
        return shares if off is None else torch.where(off, 0.0, shares)

    def _by_weighting(
        self, weighting: Weighting, values: Tensor, active: list[int] | None, now: Tensor | None
    ) -> Tensor:
        if torch.compiler.is_compiling():
            return _coefficients(weighting, values, active, now).of(values)
        with deferred():
            return _coefficients(weighting, values, active, now).of(values)
        with deferred():  # it failed on this rank alone; the others wait in its collective
            weighting(values[:0], [], now)
        return values

    def _absent(self, found: _Found, off: Sequence[bool], like: Tensor) -> list[Tensor]:
        """Return vectors of no elements that keep the parameters of absent terms on the graph.

        DistributedDataParallel waits for the gradient of each parameter. A group without terms is kept as it was
        computed: its weighting may average gradients over the ranks, and the other ranks wait for this one there. They
        do not where the group is off.
        """
        groups = {i: total for i, total in found.empty.items() if not (off and off[i])}
        absent = [loss for i, loss in enumerate(self.loss_funcs) if i not in found.raw and i not in groups]
        modules = absent if self.weighting is None else [*absent, self.weighting]
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        return nothing_of([*groups.values(), *parameters], like)

    def _kept(self, found: _Found, off: Sequence[int], batches: tuple[Any, Any], like: Tensor) -> list[Tensor]:
        """Return vectors of no elements that keep the terms that are off in the graph."""
        if not off or self.zero_weight == "skip":
            return []
        if not torch.compiler.is_compiling():
            return nothing_of((t for i in off for t in sources(found.raw[i], batches)), like)
        parameters = [p for i in off for p in self.loss_funcs[i].parameters()]
        return nothing_of([*tensors_in(batches), *parameters], like)

    def _evaluate(
        self,
        pred_batch: Any,
        gt_batch: Any,
        active: Sequence[int],
        normalize: bool,
        time: tuple[float | None, float | None, Moment | None],
        weights: Tensor,
        switches: tuple[Sequence[bool], Sequence[bool]],
    ) -> _Found:
        """Compute the raw values of the active terms, and the totals of groups."""
        found = _Found()
        epoch, step, moment = time
        off, moving = switches
        skip = off if self.zero_weight == "skip" else ()
        losses = list(self.loss_funcs)
        deferring = _AS_IT_IS if torch.compiler.is_compiling() else deferred()
        for i in active:
            name, loss = self.names[i], losses[i]
            pred = gated(pred_batch, weights[i] == 0) if moving and moving[i] else pred_batch
            with deferring, torch.no_grad() if skip and skip[i] else _AS_IT_IS:
                if isinstance(loss, MultiLoss):
                    inner = None if moment is None else moment.inner[i]
                    value, members, extra = _noted(name, loss, pred, gt_batch, normalize, epoch, step, moment=inner)
                    found.extra_info.update({f"{name}/{path}": info for path, info in extra.items()})
                    found.groups[name] = members
                    (found.raw if members else found.empty)[i] = value
                else:
                    found.raw[i], found.extra_info[name] = loss(pred, gt_batch, normalize=False)
        return found

    def _values(self, found: _Found, order: Sequence[int], vector: Tensor) -> dict[str, Tensor]:
        """Return the detached value of each term by path."""
        values: dict[str, Tensor] = {}
        by_position = dict(zip(order, vector.detach().unbind(), strict=False))
        for i in found.raw:
            name, value = self.names[i], by_position[i]
            if name in found.groups:
                values.update({f"{name}/{path}": member for path, member in found.groups[name].items()})
            else:
                values[name] = value
        return values

    def _treat_nonfinite(
        self, found: _Found, pred_batch: Any, gt_batch: Any, off: Sequence[bool], moment: Moment
    ) -> None:
        """Raise for terms that are on and not finite, or take them out of what was found, on all ranks alike."""
        time = f"epoch {moment.epoch}"
        on = {i: value for i, value in found.raw.items() if not (off and off[i])}
        if self.on_nonfinite == "raise":
            if on:
                names = [self.names[i] for i in on]
                batches = {"pred": pred_batch, "gt": gt_batch}
                raise_nonfinite(names, _stack(list(on.values())), batches, self.clock.owner, time)
            return
        values = [on.get(i) for i in range(len(self.names))]
        kept = agree_on_finite(values, self._one, self.clock.owner, together=self.training)
        lost = [i for i, finite in enumerate(kept) if not finite]
        for i in lost:
            found.drop(i, self.names[i])
            self.skipped[i] += self.training and not recomputing()
        if lost:
            log_skipped([self.names[i] for i in lost], self.clock.owner, time)

    def _track(self, raw: Mapping[int, Tensor]) -> None:
        tracked = [i for i, normalized in enumerate(self._normalized) if normalized]
        norms = [cast(Loss, self.loss_funcs[i]) for i in tracked]
        values = {k: raw[i] for k, i in enumerate(tracked) if i in raw}
        tracking.track_norms(norms, values, self.norm_momentum)

    def _prepare(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any, Sequence[int]]:
        """Run the nodes that the terms of this batch need, and say which terms those are."""
        every = range(len(self.names))
        if not (self._nodes or any(self._optional)):
            return pred_batch, gt_batch, every
        nodes = self._nodes
        if any(node.opaque for node in nodes):  # one may make any key, so that only then is known what a batch has
            last = max(i for i, node in enumerate(nodes) if node.opaque)
            ran = needed_nodes(nodes[: last + 1], (), keys_in(pred_batch, gt_batch, self._bare))
            pred_batch, gt_batch = run_nodes(ran, pred_batch, gt_batch, self._bare)
            nodes = [node for node in nodes if node not in ran]
        present = keys_in(pred_batch, gt_batch, self._bare)
        losses = [cast(Loss, loss) for loss in self.loss_funcs]
        active = [i for i in every if not self._optional[i] or reachable(losses[i].requires, nodes, present)]
        needed = needed_nodes(nodes, [losses[i] for i in active], present)
        return *run_nodes(needed, pred_batch, gt_batch, self._bare), active

    def _asked(self) -> Iterator[list[str]]:
        """Yield what each listed preprocess and each loss, those of groups too, asks of a batch."""
        listed = [node for node in self._nodes if not node.automatic]
        made = {key for node in listed for key in node.provides}
        for reader in (*(node for node in listed if not node.opaque), *self.loss_funcs):
            for keys in reader._asked() if isinstance(reader, MultiLoss) else [reader.requires]:
                yield [key for key in cast("Sequence[str]", keys) if key not in made]

    def _norms(self, active: Sequence[int], like: Tensor) -> Tensor:
        losses, one = list(self.loss_funcs), self._one
        norms = [cast(Loss, losses[i]).norm if self._normalized[i] else one for i in active]
        vector = torch.cat(norms)  # a copy: norms may move before the backward
        return (snapshot(vector) if torch.compiler.is_compiling() else vector).to(like)

    def weighting_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the adaptive weightings, the groups' too: to be trained without weight decay."""
        for module in self.modules():
            if isinstance(module, Weighting):
                yield from module.weighting_parameters()

    # --- norms ------------------------------------------------------------------------------------

    def reset_norm(self) -> None:
        """Set every norm to 1 and forget the samples behind it."""
        for _, term in self.leaves():
            cast(Loss, term.loss).reset_norm()
        self.calibrated.fill_(False)

    @torch.no_grad()
    def update_norm(self, pred_batch: Any, gt_batch: Any, nums: int) -> None:
        """Add a batch of `nums` samples to every norm; all of them, or none where a term raises.

        A loss with an `update_norm` of its own is asked to do it itself.
        """
        updates: list[Callable[[], None]] = []
        for path, loss, pred, gt in self._normalized_losses(pred_batch, gt_batch):
            if type(loss).update_norm is Loss.update_norm:
                value, _ = _noted(path.rpartition("/")[0], loss, pred, gt, False)
                updates.append(partial(loss.record, value, nums))
            else:
                updates.append(partial(loss.update_norm, pred, gt, nums))
        for update in updates:
            update()

    def _raw_values(self, pred_batch: Any, gt_batch: Any) -> Iterator[tuple[Loss, Tensor]]:
        """Yield each normalised loss of this batch with its raw value."""
        for path, loss, pred, gt in self._normalized_losses(pred_batch, gt_batch):
            yield loss, _noted(path.rpartition("/")[0], loss, pred, gt, False)[0]

    def _normalized_losses(self, pred_batch: Any, gt_batch: Any) -> Iterator[tuple[str, Loss, Any, Any]]:
        """Yield each normalised loss of this batch by its path, those of groups too, with the batches that it reads."""
        pred_batch, gt_batch, active = self._prepare(pred_batch, gt_batch)
        for i in active:
            loss = self.loss_funcs[i]
            if isinstance(loss, MultiLoss):
                for path, *normalized in loss._normalized_losses(pred_batch, gt_batch):
                    yield f"{self.names[i]}/{path}", *normalized
            elif self._normalized[i]:
                yield self.names[i], cast(Loss, loss), pred_batch, gt_batch

    def sync(self, world_size: int | None = None) -> None:
        """Set every norm to the sample-weighted average over all ranks, in one collective for all terms.

        Every rank must call it. Without a process group it does nothing; see `lossreg.losses.norm.sync_norms`.
        A loss with a `sync` of its own is asked to do it itself, after the others.

        Raises:
            DistributedError: the ranks hold different criteria; raised alike on every rank, with what differs.
        """
        norms = {path: cast(Loss, term.loss) for path, term in self.leaves()}
        own = {path: loss for path, loss in norms.items() if type(loss).sync is not Loss.sync}
        shared = {path: loss for path, loss in norms.items() if path not in own}
        sync_norms(shared, world_size, facts(self) if several() else {})
        for loss in own.values():
            loss.sync(world_size)

    @cached_property
    def descriptions(self) -> tuple[str, ...]:
        """What the losses ("" for a group), the weighting and the preprocesses are; as it was when first asked for."""
        losses = [describe(loss) if isinstance(loss, Loss) else "" for loss in self.loss_funcs]
        weighting = "None" if self.weighting is None else describe_options(self.weighting)
        return (*losses, weighting, describe([node.function for node in self._nodes]))

    # --- checkpoints ------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return which terms the state holds, in their order: a text as a tensor, which goes into `state_dict`."""
        return Contents.of(self).to_tensor()

    def set_extra_state(self, state: Any) -> None:
        """Do nothing: `load_state_dict` reads it before it loads anything."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint; its numbers go to the terms of their names, whatever their order.

        Older checkpoints, which have no names, go by position.

        Args:
            state_dict: what `state_dict` returned.
            strict: whether every parameter and buffer of the losses must be there, and nothing else.
            assign: as for any module.

        Raises:
            CheckpointError: with every mistake, and nothing is loaded: other terms, another loss or weighting under a
                name, a number that is no norm or no count, a tensor of another shape.
        """
        if strict and state_dict:
            state_dict = copy.copy(state_dict)
            checkpoint.fit(self, cast("dict[str, Any]", state_dict), "")
            checkpoint.refuse_other_keys(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Fit the state of this criterion, and of all groups in it, before any of it is loaded."""
        if any(key.startswith(prefix) for key in state_dict):
            checkpoint.fit(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self._one.is_meta:  # it is in no checkpoint
            self._one = torch.ones(1, device=self.calibrated.device)

    def extra_repr(self) -> str:
        """Show each term's weight."""
        lines = [f"{term.name}: weight={term.schedule}" for term in self.terms]
        return "\n".join([f"normalize={self.normalize}, zero_weight={self.zero_weight!r}", *lines])


_SETTINGS: Final[dict[str, Callable[[Arguments, Any], Any]]] = {
    "name": lambda given, value: given.name("name", value),
    "weights": lambda given, value: given.items("weights", value, "a list of weights, one a term"),
    "normalize": lambda given, value: given.flag("normalize", value),
    "zero_weight": lambda given, value: given.choice("zero_weight", value, ("keep", "skip")),
    "on_nonfinite": lambda given, value: given.choice("on_nonfinite", value, CHOICES),
    "track_norms": lambda given, value: given.choice("track_norms", value, (None, "running")),
    "norm_momentum": lambda given, value: _momentum(given, value),
    "normalization_params": lambda given, value: _sample_counts(given, value),
}
"""What may be set after the construction, and how it is checked."""

_FIXED: Final = {
    "schedules": "set `weights`, or call set_weight(name, weight)",
    "epoch_thresholds": "call set_weight(name, weight, epoch_thresholds)",
    **dict.fromkeys(
        ("names", "terms", "loss_funcs", "pre_processes", "unnormalized", "optional_terms", "weighting", "batch_keys"),
        "give it to MultiLoss(...)",
    ),
}
"""What may not, and what to do."""


def _terms(given: Arguments, loss_funcs: Any) -> list[Loss | MultiLoss]:
    """Take the terms; what is no `Loss` is wrapped."""
    hint = "give list(losses.values())" if isinstance(loss_funcs, Mapping) else ""
    found = given.items(
        "loss_funcs", loss_funcs, "a list of losses", hint or ("give [loss]" if callable(loss_funcs) else "")
    )
    if not found and not given.problems:
        given.report("loss_funcs", "is empty", "give at least one loss")
    return [term for i, loss in enumerate(found) if (term := _term(given, f"loss_funcs[{i}]", loss)) is not None]


def _term(given: Arguments, path: str, loss: Any) -> Loss | MultiLoss | None:
    if isinstance(loss, type) or not callable(loss):
        hint = f"make one: lossreg.create_loss({loss!r})" if isinstance(loss, str) else ""
        given.wrong(path, "a loss, a module or a function", loss, hint)
        return None
    if isinstance(loss, Loss) and not hasattr(loss, "name"):
        given.report(path, f"{type(loss).__name__} has no name", "call super().__init__(name) in its __init__")
        return None
    term = loss if isinstance(loss, (Loss, MultiLoss)) else LossWrapper(loss)
    if isinstance(term, Loss):
        given.keys(f"{path}.requires", term.requires)
        given.keys(f"{path}.optional", term.optional)
    return term


def _schedules(given: Arguments, weights: Any, epoch_thresholds: Any, names: Sequence[str]) -> tuple[Schedule, ...]:
    """Take the weights, one a term."""
    hint = "give a list in the order of loss_funcs" if isinstance(weights, Mapping) else ""
    found = given.items("weights", weights, "a list of weights, one a loss", hint)
    thresholds = None if epoch_thresholds is None else given.ascending("epoch_thresholds", epoch_thresholds)
    if given.problems:
        names = [*names, *(f"loss_funcs[{i}]" for i in range(len(names), len(found)))]
    elif len(found) != len(names):
        given.report(
            "weights", f"there are {len(names)} losses {list(names)} but {len(found)} weights", "give one weight a loss"
        )
    schedules = []
    for i, (name, weight) in enumerate(zip(names, found, strict=False)):
        if thresholds is None and epoch_thresholds is not None and isinstance(plain(weight), Sequence):
            continue  # what is wrong is said of the thresholds
        try:
            schedules.append(as_schedule(weight, thresholds, name=name))
        except (TypeError, ValueError) as error:
            given.report(f"weights[{i}]", str(error))
    return tuple(schedules)


def _momentum(given: Arguments, momentum: Any) -> float:
    return given.number("norm_momentum", momentum, "a number above 0 and at most 1", lambda share: 0 < share <= 1)


def _weighting(given: Arguments, weighting: Weighting | None) -> Weighting | None:
    if weighting is not None and not isinstance(weighting, Weighting):
        hint = "a name is for YAML; give an object, such as DWA()" if isinstance(weighting, str) else ""
        given.wrong("weighting", "a Weighting", weighting, hint)
    return weighting


def _coefficients(weighting: Weighting, values: Tensor, active: Sequence[int] | None, epoch: Any) -> Coefficients:
    """Ask a weighting, which may be a stranger's, for the coefficients of a forward."""
    found = weighting(values, active, epoch)
    if not isinstance(found, Coefficients):
        raise TypeError(
            f"{type(weighting).__name__}.forward: expected Coefficients, found {type(found).__name__}; return "
            "Coefficients(weights), or write weights() and move() in place of forward()"
        )
    return found


def _sample_counts(given: Arguments, params: Any) -> dict[str, int]:
    path = "normalization_params"
    counts = {
        key: given.count(f"{path}[{key!r}]", value, "a number of samples above 0")
        for key, value in given.mapping(path, params, ("min_samples", "max_samples")).items()
    }
    if counts.get("min_samples", 0) > counts.get("max_samples", math.inf):
        given.report(path, f"min_samples {counts['min_samples']} is more than max_samples {counts['max_samples']}")
    return counts


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GraphError(
            f"MultiLoss: two terms are named {', '.join(map(repr, twice))}; names must differ: give one of them "
            "another, as LossWrapper(loss, 'name') does"
        )


def _stack(values: Sequence[Tensor]) -> Tensor:
    """Stack scalars of any dtypes into a vector of at least float32."""
    dtype = torch.float32
    for other in {value.dtype for value in values} - {dtype}:
        dtype = torch.promote_types(dtype, other)
    return torch.stack([value if value.dtype == dtype else value.to(dtype) for value in values])


def _noted(group: str, loss: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a loss inside of a group, or the group; an exception from there names the term `group/term`."""
    try:
        return loss(*arguments, **options)
    except Exception as error:
        if group and not torch.compiler.is_compiling():
            note_group(error, group)
        raise


def _empty(pred_batch: Any, like: Tensor) -> Tensor:
    """Return the vector of no terms, on the graph of the predictions, so that a backward still reaches them."""
    return torch.cat([like[:0], *nothing_of(tensors_in(pred_batch), like)])
