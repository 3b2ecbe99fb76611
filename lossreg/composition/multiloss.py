"""MultiLoss: the weighted sum of terms, each over its norm, with the preprocesses that they need."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition import checkpoint
from lossreg.composition.bare import names_of_bare
from lossreg.composition.call import Call, LastRecord, after_forward, before_forward, begin, keep_record
from lossreg.composition.changed_weights import KEY, from_tensor, python_name, schedule_of, to_tensor
from lossreg.composition.checkpoint import Contents
from lossreg.composition.clock import Clock, Moment, Weights
from lossreg.composition.compiled import CompiledCall
from lossreg.composition.dependencies import build_nodes, check_functions, check_sources
from lossreg.composition.facts import facts
from lossreg.composition.forward import noted, prepare, run
from lossreg.composition.nonfinite import OnNonfinite
from lossreg.composition.options import FIXED, SETTINGS, Weight, read_declared, read_schedules, read_weighting
from lossreg.composition.plan import plan_of
from lossreg.composition.recomputing import refuse_recomputing
from lossreg.composition.record import Record
from lossreg.composition.schedules import Constant, Schedule
from lossreg.composition.weighting.base import Weighting
from lossreg.composition.window import CurrentWindow, Window, open_window
from lossreg.errors import CalibrationWarning, GraphError, WeightingError, WindowError, warn
from lossreg.losses.base import Loss
from lossreg.losses.description import describe, describe_options
from lossreg.losses.elementwise import uncompiled
from lossreg.losses.mean import Count, Mean, portion
from lossreg.losses.norm import sync_norms
from lossreg.losses.paths import group_of, join, split
from lossreg.losses.ranks import ADVICE, compare, digest, gather, meet, refuse_differences, several
from lossreg.losses.wrapper import LossWrapper

if TYPE_CHECKING:
    from lossreg.composition.from_dict import FromDict

_ALIKE = f"{ADVICE}, and call set_weight alike on every rank"

PreprocessFunction: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


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
        reduce_over: `"ranks"` makes each forward in training a window over the ranks (see `window`): means are taken
            over the elements of all ranks, so that the gradient that DistributedDataParallel averages is that of the
            joined batch. One collective a forward.

    Raises:
        ArgumentError: with every argument that is of a wrong type or out of range; a TypeError and a ValueError too.
        GraphError: two terms of one name; a cycle of preprocesses; a key that nobody provides.
    """

    name: str
    _term_of = ""  # the `MultiLoss` that it is a group of
    _may_be_empty = False  # whether there may be no term yet
    _targets_tell = True  # whether the targets of a batch tell which terms it has
    _ignores = False  # whether predictions that no term reads are kept in the graph
    _dictionaries: tuple[FromDict, ...] = ()  # the groups in it that take a model's dictionaries of losses
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
        reduce_over: Literal["ranks"] | None = None,
    ) -> None:
        super().__init__()
        given = Arguments("MultiLoss")
        losses = _terms(given, loss_funcs, self._may_be_empty)
        names = tuple(loss.name for loss in losses)
        schedules = read_schedules(given, weights, epoch_thresholds, names)
        pre_processes = check_functions(given, () if pre_processes is None else pre_processes)
        self.name = given.name("name", name)
        self.normalize = read_declared("normalize", given, normalize)
        unnormalized = given.members("unnormalized", unnormalized, names, "term")
        optional_terms = given.members("optional_terms", optional_terms, names, "term")
        self.weighting = read_weighting(given, weighting)
        self.zero_weight = read_declared("zero_weight", given, zero_weight)
        batch_keys = read_declared("batch_keys", given, batch_keys)
        self.normalization_params = read_declared("normalization_params", given, normalization_params)
        self.on_nonfinite = read_declared("on_nonfinite", given, on_nonfinite)
        self.track_norms = read_declared("track_norms", given, track_norms)
        self.norm_momentum = read_declared("norm_momentum", given, norm_momentum)
        self.reduce_over = read_declared("reduce_over", given, reduce_over)
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
        groups = {i: loss for i, loss in enumerate(losses) if isinstance(loss, MultiLoss)}
        self._group_places, self._groups = tuple(groups), tuple(groups.values())
        self._dictionaries = tuple(dictionary for group in self._groups for dictionary in group._dictionaries)
        own_timed = self.weighting is not None and self.weighting.timed
        self._timed: bool = own_timed or any(group._timed for group in self._groups)
        self._sizes = (len(self.loss_funcs), len(self.pre_processes))
        self._tells_changes = True  # whether the next collective is to tell the ranks that a weight was set
        self._compared = False  # whether the ranks were found to hold the same criterion
        self._calibration_checked = False
        self.register_buffer("calibrated", torch.tensor(False))
        self.register_buffer("skipped", torch.zeros(len(losses), dtype=torch.int64))
        self.register_buffer("_one", torch.ones(1), persistent=False)
        self._thresholds = epoch_thresholds
        owner = f"MultiLoss {name!r}"
        for loss in losses:
            loss._term_of = owner
        self.clock = Clock(names, schedules, owner)
        self._replaced: dict[str, Schedule] = {}  # the constructor's schedules of terms whose weights were set since
        self._last = LastRecord()
        self._current = CurrentWindow()
        self._open_windows = 0
        self._tells = tuple(isinstance(loss, Loss) and loss.tells_means for loss in losses)
        self.register_forward_pre_hook(before_forward, with_kwargs=True)
        self.register_forward_hook(after_forward, with_kwargs=True)

    def __setattr__(self, name: str, value: Any) -> None:
        """Check what is set after the construction as the constructor does, and refuse what it alone can set."""
        if "clock" in self.__dict__ and (name in SETTINGS or name in FIXED):
            given = Arguments(self.clock.owner)
            if name in FIXED:
                given.report(name, "cannot be set after the construction", FIXED[name], "conflict")
            else:
                value = SETTINGS[name](given, value)
            if name == "name" and self._term_of and value != self.name:
                problem = f"expected {self.name!r}, since it is a term of {self._term_of}, found {value!r}"
                given.report(name, problem, "name a group before you pass it to a MultiLoss", "conflict")
            if name in ("on_nonfinite", "track_norms") and self._compiled_call_impl is not None:
                given.report(name, "cannot be set once it is compiled", "set it before compile()", "conflict")
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
        schedules = read_schedules(given, weights, self._thresholds, self.names)
        given.done()
        self._refuse_in_window("weights")
        self._set_schedules(dict(zip(self.names, schedules, strict=True)))

    def set_weight(
        self, name: str, weight: Weight | Mapping[str, Any], epoch_thresholds: Sequence[float] | None = None
    ) -> None:
        """Give a term another weight from the next forward on; checkpoints hold it.

        Under a process group every rank must set the same weight before the same forward. The ranks compare their
        weights at the next forward in training, `sync` or window.

        Args:
            name: of a term or group; `group/term` for a member of a group.
            weight: as in the constructor, or a schedule as a config holds it: `{"schedule": "cosine", ...}`.
            epoch_thresholds: epochs for a list weight; default: those of the constructor.

        Raises:
            ArgumentError: there is no such term, or the weight is of a wrong type or not finite.
            WindowError: a window is open, and its forwards share their weights.
        """
        first, rest = split(name) if isinstance(name, str) else (name, "")
        given = Arguments(f"{self.clock.owner}: set_weight")
        given.member("name", first, self.names, "term")
        given.done()
        self._refuse_in_window("set_weight")
        loss = self.loss_funcs[self.names.index(first)]
        if rest and isinstance(loss, MultiLoss):
            loss.set_weight(rest, weight, epoch_thresholds)
            return
        if rest:
            given.wrong("name", "the name of a term", name, f"{first!r} is no group")
        thresholds = self._thresholds if epoch_thresholds is None else epoch_thresholds
        if isinstance(weight, Mapping):
            weight = _schedule_as_given(given, first, weight, thresholds)
        schedules = read_schedules(given, [weight], thresholds, [first])
        given.done()
        self._set_schedules({first: schedules[0]})

    def _refuse_in_window(self, what: str) -> None:
        if self._current.window is not None:
            raise WindowError(
                f"{self.clock.owner}: {what}: a window is open, and its forwards share their weights; set weights "
                "before the window or after it"
            )

    def _set_schedules(self, schedules: Mapping[str, Schedule]) -> None:
        """Take other schedules for some terms, from the next forward on."""
        own = dict(zip(self.names, self.schedules, strict=True))
        self._replaced = {name: own[name] for name in schedules} | self._replaced
        self.clock.schedules = tuple((own | dict(schedules)).values())
        self.clock.compared = False

    @property
    def changed_weights(self) -> Tensor:
        """The weights that were set at run time, as a text in a tensor: what a checkpoint holds of them."""
        named = zip(self.names, self.schedules, strict=True)
        return to_tensor({name: schedule for name, schedule in named if name in self._replaced})

    def _restore_weights(self, changed: Tensor) -> None:
        """Take the weights that a checkpoint holds, and for all other terms those of the constructor."""
        own = dict(zip(self.names, self.schedules, strict=True))
        built = own | self._replaced
        stored = from_tensor(changed)
        found = {name: own[name] if python_name(data) else schedule_of(data) for name, data in stored.items()}
        self._replaced = {name: built[name] for name in found}
        schedules = tuple((built | found).values())
        if schedules != self.schedules:
            self.clock.schedules = schedules
            self.clock.compared = False

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms in their order."""
        return tuple(
            Term(name, cast("Loss | MultiLoss", loss), schedule, normalize, optional)
            for name, loss, schedule, normalize, optional in zip(
                self.names, self.loss_funcs, self.schedules, self._normalized, self._optional, strict=True
            )
        )

    def leaves(self, group: str = "") -> Iterator[tuple[str, Term]]:
        """Yield `(path, term)` for every loss, those of groups as `group/term`."""
        for term in self.terms:
            path = join(group, term.name)
            if isinstance(term.loss, MultiLoss):
                yield from term.loss.leaves(path)
            else:
                yield path, term

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
        """Return preprocesses, terms and groups in the order in which they run, as data that JSON can hold.

        Each item has `kind` (`preprocess`, `term` or `group`), `name`, `requires` and `optional`; a preprocess also
        `provides` and `automatic` (whether it was added because a term needs it); a term its `loss` (its registered
        name, or its class), `weight` and `normalize`; a group its `weight` and its own `plan`. A weight is what a
        config would hold: a number, or `{"schedule": name, ...}`.
        """
        return plan_of(self._nodes, self.terms)

    @property
    def last_record(self) -> Record | None:
        """The record of the last forward of this thread: value, norm, weight and contribution of each term by path.

        None before the first forward. A forward inside of a larger compiled function leaves none.
        """
        return self._last.record

    def effective_weights(self, epoch: float | None = None, step: float | None = None) -> dict[str, float]:
        """Return the weight of every loss at an epoch by path; a group's weight multiplies its members'.

        Raises:
            ValueError: a term is scheduled and `epoch` (or `step`) is not given.
        """
        weights: dict[str, float] = {}
        for term, weight in zip(self.terms, self.clock.weights_at(epoch, step), strict=True):
            if isinstance(term.loss, MultiLoss):
                members = term.loss.effective_weights(epoch, step)
                weights |= {join(term.name, path): weight * member for path, member in members.items()}
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
                found |= {join(term.name, path): coefficient * member for path, member in members.items()}
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
                gradients in its forward: a compiled forward can do none of these. Or a term takes the epoch.
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
        for path, term in self.leaves():
            if cast(Loss, term.loss).takes_epoch:
                raise ValueError(
                    f"{self.clock.owner}: term {path!r} takes the epoch, and each epoch would compile it again; leave "
                    "it uncompiled"
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
        call: Call | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        """Return `(total, {name: value}, {name: extra_info})`; `last_record` then says more of each term.

        Args:
            pred_batch: mapping of tensors; or a bare tensor, which stands for the only key of its side that a term, or
                a preprocess in the list, asks of a batch. A function in the list gets it as it is.
            gt_batch: the same for targets.
            normalize: whether values are divided by their norms.
            epoch: for scheduled weights; fractions count.
            step: global step, for schedules of `unit: step`.
            call: made by the call itself; leave it out.

        Returns:
            the total, a scalar on the graph; the value of each term by its name, normalised where it is, unweighted,
            detached; and what each loss put into its `extra_info`, detached.

        Raises:
            ValueError: a term is scheduled and `epoch` (or `step`) is not given.
            ArgumentError: `normalize` is no bool, or the time is no finite number.
            BatchError: a batch is not what a term or a preprocess needs.
            RecomputedError: activation checkpointing computes the forward again, and norms or weighting have moved.
        """
        if call is None:
            call = self._call(pred_batch, gt_batch, epoch, step, normalize)
        found = run(self, call, pred_batch, gt_batch, normalize)
        return found.shares.sum(), found.values, found.extra_info

    def _call(self, pred_batch: Any, gt_batch: Any, epoch: float | None, step: float | None, normalize: bool) -> Call:
        """Return the call of a forward that no hook ran before: a compiled graph evaluates the schedules itself."""
        if not torch.compiler.is_compiling():
            return begin(self, epoch, step, pred_batch, gt_batch, normalize)
        if self.reduce_over is not None or self._open_windows:
            raise WindowError(
                f"{self.clock.owner}: a window cannot be part of a larger compiled function; compile the criterion "
                "itself, with `compile()` or `compile: true`"
            )
        return Call(None, epoch, step)

    @contextmanager
    def window(self, micro_batches: Iterable[Any]) -> Iterator[None]:
        """Take the forwards inside for micro-batches of one batch, over all ranks, whose gradients add up to its own.

        Each mean is divided by its count over all micro-batches of all ranks, so that a sum of the gradients over the
        micro-batches, averaged over the ranks as DistributedDataParallel does, is that of the joined batch. The counts
        are taken from the targets, before the first forward, in one collective. Weightings and running norms are held,
        and move at the end, by the means of the window. A forward without gradients, as of an evaluation, is no part of
        the window::

            for micro_batches in batched(loader, 4):
                with criterion.window(micro_batches):
                    for batch in micro_batches:
                        total, terms, _ = criterion(model(batch["image"]), batch, epoch=epoch)
                        total.backward()
                optimizer.step(); optimizer.zero_grad()

        Args:
            micro_batches: a list with the targets of each micro-batch of this rank, as the forwards are given them.
                Every rank must enter the window.

        Raises:
            WindowError: a window is open, a micro-batch was left out or came twice, or a preprocess may change targets
                and does not say so. After an exception inside, nothing has moved.
            CountError: the targets do not tell what a term is a mean over, and it is not `approximate`.
            WeightingError: the weighting works in no window.
            DistributedError: the ranks hold different criteria, or one of them failed.
        """
        if self._current.window is not None:
            raise WindowError(f"{self.clock.owner}: window: one is open; leave it before you open another")
        if isinstance(micro_batches, (Mapping, Tensor)) or iter(micro_batches) is micro_batches:
            found = "a single batch" if isinstance(micro_batches, (Mapping, Tensor)) else "an iterator, read only once"
            raise WindowError(f"{self.clock.owner}: window: expected a list of micro-batches, found {found}")
        self._refuse_weightings()
        unknown = [dictionary.name for dictionary in self._dictionaries if not dictionary.fixed]
        if unknown:
            raise WindowError(
                f"{self.clock.owner}: window: the first forward in training fixes the members that a glob or `rest` of "
                f"{', '.join(map(repr, unknown))} takes, and there was none; name the members under `terms`, or make "
                "the first step without a window"
            )
        self.compare_ranks(anyhow=True)
        opened = open_window(self, micro_batches)
        self._current.window, self._open_windows = opened, self._open_windows + 1
        try:
            yield
        finally:
            self._current.window, self._open_windows = None, self._open_windows - 1
        opened.check(self)
        opened.settle(self)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_open_windows": 0}  # a copy is in no window

    def window_of_forward(self, targets: Any) -> Window | None:
        """Return the window that a forward is in: one that is open, or its own over the ranks; None for none."""
        if not torch.is_grad_enabled():
            return None
        if self._current.window is None and self.reduce_over is not None and self.training:
            return open_window(self, [targets], single=True)
        return self._current.window

    def _refuse_weightings(self) -> None:
        """Refuse a window over micro-batches for a weighting that works in none."""
        for module in self.modules():
            if isinstance(module, Weighting) and not module.windows:
                raise WeightingError(
                    f"{self.clock.owner}: {type(module).__name__} does not work in a window over micro-batches: "
                    "it takes gradients of the whole batch's terms in a forward; use another weighting"
                )

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
        call = self._call(pred_batch, gt_batch, epoch, step, normalize)
        found = run(self, call, pred_batch, gt_batch, normalize)
        if not torch.compiler.is_compiling():
            keep_record(self, call)
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
        epoch, step = self.clock.time(epoch, step)
        weights = self._weights_at(epoch, step)
        return self.clock.moment(epoch, step, weights, cast(Tensor, self._buffers["calibrated"]).device, self._timed)

    def _weights_at(self, epoch: float | None, step: float | None) -> Weights:
        """Return the weights of the terms, and of those of all groups, after a look at what must not have changed."""
        losses, nodes = self._modules["loss_funcs"], self._modules["pre_processes"]  # quicker than attributes
        if (len(losses), len(nodes)) != self._sizes:  # type: ignore[arg-type]
            self._refuse_members()
        if self.training and (self.track_norms is not None or (self.weighting is not None and self.weighting.moves)):
            refuse_recomputing(self.clock.owner, "its weighting" if self.track_norms is None else "its norms")
        groups = self.loss_funcs if self._groups else ()
        inner = tuple(loss._weights_at(epoch, step) if isinstance(loss, MultiLoss) else None for loss in groups)
        return self.clock.evaluate(epoch, step, inner)

    def _refuse_members(self) -> None:
        """Refuse terms and preprocesses that were added, or taken out, after the construction: nothing would use them.

        Raises:
            ArgumentError: names the list and how many it held.
        """
        given = Arguments(self.clock.owner)
        for name, size in zip(("loss_funcs", "pre_processes"), self._sizes, strict=True):
            if (found := len(getattr(self, name))) != size:
                given.report(name, f"changed its length: expected {size}, found {found}", FIXED[name], "conflict")
        given.done()

    def compare_ranks(self, anyhow: bool = False) -> None:
        """Compare what the ranks hold, before the first forward that has collectives, or `anyhow`.

        Raises:
            DistributedError: the ranks hold different criteria; raised alike on every rank, with what differs.
        """
        if not several():
            return
        if not self._compared and (anyhow or self.has_collectives()):
            compare(facts(self) | {"calibrated": str(bool(self.calibrated))}, self.clock.owner)
            self._compared = True
            self._note_compared()
        elif self.weights_changed() and not self._open_windows and self.training and torch.is_grad_enabled():
            if self._tells_changes and self.calibrated.device.type == "cpu" and (anyhow or self.has_collectives()):
                self._tells_changes = False  # the next collective does, or where it cannot, the forward after it
                return
            of_rank = facts(self)
            digests = meet(digest(of_rank), self.clock.owner, "call set_weight, or load a checkpoint, alike")
            refuse_differences(of_rank, digests, self.clock.owner, _ALIKE)
            self._note_compared()

    def weights_changed(self) -> bool:
        """Return whether weights, those of groups too, were set since the ranks compared them."""
        return not self.clock.compared or any(group.weights_changed() for group in self._groups)

    def compare_weights(self) -> None:
        """Compare what the ranks hold, after one of them has set a weight; all ranks must call it.

        Raises:
            DistributedError: the ranks hold different criteria; raised alike on every rank, with what differs.
        """
        compare(facts(self), self.clock.owner, _ALIKE)
        self._note_compared()

    def _note_compared(self) -> None:
        """Note that the ranks hold the same weights."""
        self.clock.compared = self._tells_changes = True
        for group in self._groups:
            group._note_compared()

    def check_calibration(self) -> None:
        """Warn in the first forward of a training whose terms are divided by norms that nothing has set."""
        if self._calibration_checked:
            return
        self._calibration_checked = True
        norms = list(self._dividing())
        if len(norms) > 1 and not any(norm.is_set for norm in norms):
            warn(
                f"{self.clock.owner}: its terms are divided by their norms, but the norms were never set, so they are "
                "all 1; call lossreg.calibrate_norms before the training, or set `track_norms: running`, or "
                "`normalize_losses: false`",
                CalibrationWarning,
            )

    def _dividing(self) -> Iterator[Loss]:
        """Yield the losses that are divided by norms which do not go on by themselves, those of groups too."""
        if self.normalize and self.track_norms is None:
            for loss, normalized in zip(self.loss_funcs, self._normalized, strict=True):
                if isinstance(loss, MultiLoss):
                    yield from loss._dividing()
                elif normalized:
                    yield cast(Loss, loss)

    def learn_members(self, pred_batch: Any, gt_batch: Any, fix: bool = False) -> None:
        """Make the members that a batch brings the terms of the groups that take them; see `FromDict`.

        Args:
            pred_batch, gt_batch: the batch.
            fix: whether these are all, those of the other ranks included; then every rank must call this.

        Raises:
            BatchError: the name of a member is none that a term may have.
            DistributedError: another rank is gone.
        """
        growing = [dictionary for dictionary in self._dictionaries if not dictionary.fixed]
        if not growing:
            return
        found = [dictionary.members_in(pred_batch, gt_batch) for dictionary in growing]
        if fix and several():
            every = gather(found, self.clock.owner)
            found = [[name for names in of_ranks for name in names] for of_ranks in zip(*every, strict=True)]
        for dictionary, names in zip(growing, found, strict=True):
            dictionary.take_members(set(names))
            dictionary.fixed = fix

    def opened(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
        """Return the batches as the terms read them."""
        return pred_batch, gt_batch

    @property
    def dictionary(self) -> str:
        """What it takes of a model's dictionary of losses, as text that ranks compare; empty for none."""
        return ""

    def has_collectives(self) -> bool:
        """Say whether a forward, or its backward, has collectives."""
        own = self.weighting is not None or self.on_nonfinite == "skip_term" or self.track_norms is not None
        own = own or self.reduce_over is not None
        return self.training and (own or any(group.has_collectives() for group in self._groups))

    def _asked(self) -> Iterator[list[str]]:
        """Yield what each listed preprocess and each loss, those of groups too, asks of a batch."""
        listed = [node for node in self._nodes if not node.automatic]
        made = {key for node in listed for key in node.provides}
        for reader in (*(node for node in listed if not node.opaque), *self.loss_funcs):
            for keys in reader._asked() if isinstance(reader, MultiLoss) else [reader.requires]:
                yield [key for key in cast("Sequence[str]", keys) if key not in made]

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
        self.learn_members(pred_batch, gt_batch)
        updates: list[Callable[[], None]] = []
        for path, loss, pred, gt in self._normalized_losses(pred_batch, gt_batch):
            if type(loss).update_norm is Loss.update_norm:
                value, part = _raw_value(path, loss, pred, gt)
                updates.append(partial(loss.record, value, nums, part))
            else:
                updates.append(partial(loss.update_norm, pred, gt, nums))
        for update in updates:
            update()

    def raw_values(self, pred_batch: Any, gt_batch: Any) -> Iterator[tuple[Loss, Tensor, Count]]:
        """Yield each normalised loss of this batch with its raw value, and which portion of the batch counts for it."""
        self.learn_members(pred_batch, gt_batch)
        for path, loss, pred, gt in self._normalized_losses(pred_batch, gt_batch):
            yield loss, *_raw_value(path, loss, pred, gt)

    def _normalized_losses(self, pred_batch: Any, gt_batch: Any) -> Iterator[tuple[str, Loss, Any, Any]]:
        """Yield each normalised loss of this batch by its path, those of groups too, with the batches that it reads."""
        pred_batch, gt_batch, active = prepare(self, pred_batch, gt_batch)
        for i in active:
            loss = self.loss_funcs[i]
            if isinstance(loss, MultiLoss):
                for path, *normalized in loss._normalized_losses(pred_batch, gt_batch):
                    yield join(self.names[i], path), *normalized
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
        self._note_compared()

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

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Add the weights that were set at run time."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + KEY] = self.changed_weights

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Fit the state of this criterion, and of all groups in it, before any of it is loaded."""
        if any(key.startswith(prefix) for key in state_dict):
            checkpoint.fit(self, state_dict, prefix)
        changed = state_dict.pop(prefix + KEY, None)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if changed is not None:
            self._restore_weights(changed)
        if self._one.is_meta:  # it is in no checkpoint
            self._one = torch.ones(1, device=self.calibrated.device)
        else:  # it may come from `to_empty`
            self._one.fill_(1.0)

    def extra_repr(self) -> str:
        """Show each term's weight."""
        lines = [f"{term.name}: weight={term.schedule}" for term in self.terms]
        return "\n".join([f"normalize={self.normalize}, zero_weight={self.zero_weight!r}", *lines])


def read_criterion(given: Arguments, criterion: Any) -> MultiLoss:
    """Return the `MultiLoss` that was passed as `criterion`, without what `torch.compile` put around it.

    Anything else is reported in `given`; the return value is then only a placeholder.
    """
    multi_loss = uncompiled(criterion)
    if not isinstance(multi_loss, MultiLoss):
        given.wrong("criterion", "a MultiLoss", criterion)
    return cast(MultiLoss, multi_loss)


def _schedule_as_given(
    given: Arguments, name: str, weight: Mapping[str, Any], epoch_thresholds: Sequence[float] | None
) -> Schedule:
    """Return a weight that is given as a mapping."""
    try:
        return schedule_of(weight, epoch_thresholds, name=name)
    except Exception as error:  # a third party's schedule may raise anything
        given.report("weight", str(error), "weight={'schedule': 'cosine', 'start': 1.0, 'end': 0.0, 'end_epoch': 10}")
        given.done()
        raise


def _raw_value(path: str, loss: Loss, pred_batch: Any, gt_batch: Any) -> tuple[Tensor, Count]:
    """Return the raw value of a loss, and which portion of the batch counts for it."""
    means: list[Mean] = []
    options: dict[str, Any] = {"means": means} if loss.tells_means else {}
    options |= {"epoch": 0} if loss.takes_epoch else {}
    value, _ = noted(group_of(path), loss, pred_batch, gt_batch, False, **options)
    return value, portion(means) if means else 1.0


def _terms(given: Arguments, loss_funcs: Any, may_be_empty: bool) -> list[Loss | MultiLoss]:
    """Take the terms; what is no `Loss` is wrapped."""
    hint = "give list(losses.values())" if isinstance(loss_funcs, Mapping) else ""
    found = given.items(
        "loss_funcs", loss_funcs, "a list of losses", hint or ("give [loss]" if callable(loss_funcs) else "")
    )
    if not found and not may_be_empty and not given.problems:
        given.report("loss_funcs", "is empty", "give at least one loss", "range")
    return [term for i, loss in enumerate(found) if (term := _term(given, f"loss_funcs[{i}]", loss)) is not None]


def _term(given: Arguments, path: str, loss: Any) -> Loss | MultiLoss | None:
    if isinstance(loss, type) or not callable(loss):
        hint = f"make one: lossreg.create_loss({loss!r})" if isinstance(loss, str) else ""
        given.wrong(path, "a loss, a module or a function", loss, hint)
        return None
    if isinstance(loss, Loss) and not hasattr(loss, "name"):
        given.report(
            path, f"{type(loss).__name__} has no name", "call super().__init__(name) in its __init__", "missing"
        )
        return None
    if isinstance(loss, Loss) and not loss.is_reduced:
        given.report(path, "leaves its values unreduced, found `reduction: none`", "leave out `reduction`", "conflict")
        return None
    term = loss if isinstance(loss, (Loss, MultiLoss)) else LossWrapper(loss)
    if isinstance(term, Loss):
        given.keys(f"{path}.requires", term.requires)
        given.keys(f"{path}.optional", term.optional)
    return term


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GraphError(
            f"MultiLoss: two terms are named {', '.join(map(repr, twice))}; names must differ: give one of them "
            "another, as LossWrapper(loss, 'name') does"
        )
