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
from lossreg.composition.checkpoint import Contents
from lossreg.composition.clock import INHERITED, Clock, before_forward, weights_at
from lossreg.composition.compiled import CompiledCall
from lossreg.composition.facts import facts
from lossreg.composition.graph import Node, build_nodes, check_functions, check_sources, needed_nodes, reachable
from lossreg.composition.nonfinite import CHOICES, OnNonfinite, agree_on_finite, log_skipped, raise_nonfinite
from lossreg.composition.schedules import Schedule, as_schedule
from lossreg.composition.weighting.base import Weighting
from lossreg.errors import GraphError
from lossreg.losses.base import Loss
from lossreg.losses.description import describe
from lossreg.losses.norm import sync_norms
from lossreg.losses.notes import note_group, note_preprocess
from lossreg.losses.ranks import several
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
    """What the terms of one batch came to: raw values by position, the members of groups, extra info by path."""

    raw: dict[int, Tensor] = field(default_factory=dict)
    groups: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    extra_info: dict[str, Any] = field(default_factory=dict)

    def drop(self, position: int, name: str) -> None:
        """Forget a term."""
        self.raw.pop(position, None)
        self.extra_info.pop(name, None)


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
        zero_weight: `"keep"` leaves a term of weight 0 in the autograd graph, so that
            DistributedDataParallel sees every parameter; `"skip"` computes it without a graph.
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
        self.names = tuple(loss.name for loss in losses)
        self.schedules = _schedules(given, weights, epoch_thresholds, self.names)
        pre_processes = check_functions(given, () if pre_processes is None else pre_processes)
        self.name = given.name("name", name)
        self.normalize = given.flag("normalize", normalize)
        unnormalized = given.members("unnormalized", unnormalized, self.names, "term")
        optional_terms = given.members("optional_terms", optional_terms, self.names, "term")
        weighting = _weighting(given, weighting)
        self.zero_weight = given.choice("zero_weight", zero_weight, ("keep", "skip"))
        batch_keys = None if batch_keys is None else given.keys("batch_keys", batch_keys)
        self.normalization_params = _sample_counts(given, {} if normalization_params is None else normalization_params)
        self.on_nonfinite = given.choice("on_nonfinite", on_nonfinite, CHOICES)
        self.track_norms = given.choice("track_norms", track_norms, (None, "running"))
        self.norm_momentum = given.number(
            "norm_momentum", norm_momentum, "a number above 0 and at most 1", lambda share: 0 < share <= 1
        )
        given.done()
        _refuse_twice(self.names)
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
        self.weighting = weighting
        if weighting is not None:
            weighting.bind(self.names)
        self._groups = tuple(loss for loss in losses if isinstance(loss, MultiLoss))
        self.register_buffer("calibrated", torch.tensor(False))
        self.register_buffer("skipped", torch.zeros(len(losses), dtype=torch.int64))
        self.register_buffer("_one", torch.ones(1), persistent=False)
        self.clock = Clock(dict(zip(self.names, self.schedules, strict=True)), f"MultiLoss {name!r}")
        self.register_forward_pre_hook(before_forward, with_kwargs=True)

    # --- what it consists of ----------------------------------------------------------------------

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
        for term, weight in zip(
            self.terms, weights_at(self.clock.schedules, epoch, step, self.clock.owner), strict=True
        ):
            if isinstance(term.loss, MultiLoss):
                members = term.loss.effective_weights(epoch, step)
                weights |= {f"{term.name}/{path}": weight * member for path, member in members.items()}
            else:
                weights[term.name] = weight
        return weights

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
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        """Return `(total, {name: value}, {name: extra_info})`.

        Args:
            pred_batch: mapping of tensors, or a tensor where every term reads just one key.
            gt_batch: the same for targets.
            normalize: whether values are divided by their norms.
            epoch: for scheduled weights; fractions count.
            step: global step, for schedules of `unit: step`.

        Returns:
            the total, a scalar on the graph; the value of each term by its name, normalised where it is, unweighted,
            detached; and what each loss put into its `extra_info`, detached.

        Raises:
            ValueError: a term is scheduled and `epoch` (or `step`) is not given.
            BatchError: a batch is not what a term or a preprocess needs.
        """
        contributions, values, extra_info = self._weighted(pred_batch, gt_batch, normalize, epoch, step)
        return contributions.sum(), values, extra_info

    def weighted_terms(
        self,
        pred_batch: Any,
        gt_batch: Any,
        epoch: float | None = None,
        *,
        normalize: bool = True,
        step: float | None = None,
    ) -> Tensor:
        """Return the terms' shares of the total, (k,) on the graph: what a gradient-conflict method takes."""
        return self._weighted(pred_batch, gt_batch, normalize, epoch, step)[0]

    def _weighted(
        self, pred_batch: Any, gt_batch: Any, normalize: bool, epoch: float | None, step: float | None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        if not torch.compiler.is_compiling():
            self.set_time(epoch, step)
        normalize = normalize and self.normalize
        pred_batch, gt_batch, active = self._prepare(pred_batch, gt_batch)
        found = self._evaluate(pred_batch, gt_batch, active, normalize, (epoch, step))
        if self.on_nonfinite != "ignore" and not torch.compiler.is_compiling():
            self._treat_nonfinite(found, pred_batch, gt_batch)
        vector = _stack(list(found.raw.values())) if found.raw else _empty(pred_batch, self._one)
        positions = list(found.raw)
        if normalize and positions:
            vector = vector / self._norms(positions, vector)
        if self.track_norms is not None and self.training and torch.is_grad_enabled():
            self._track(found.raw)
        values = self._values(found, vector)
        weights, when = (
            self.clock.trace(epoch, step, vector) if self.clock.inlined else (self.clock.vector, self.clock.epoch)
        )
        every = len(positions) == len(self.names)
        if self.weighting is not None:
            vector = self.weighting(vector, None if every else positions, when)
        vector = vector * (weights if every else weights[positions]).to(vector)
        if not every:  # what is left out must not take parameters off the graph that other ranks wait for
            vector = torch.cat([vector, _empty(pred_batch, vector)])
        return vector, values, found.extra_info

    def _evaluate(
        self, pred_batch: Any, gt_batch: Any, active: Sequence[int], normalize: bool, time: tuple[Any, Any]
    ) -> _Found:
        """Compute the raw values of the active terms, and the totals of groups."""
        found = _Found()
        inner_time = time if self.clock.inlined else (INHERITED, None)
        # inside a larger compiled function the weights are not known before it runs
        skipped = self.clock.zero if self.zero_weight == "skip" and not self.clock.inlined else ()
        losses = list(self.loss_funcs)
        for i in active:
            name, loss = self.names[i], losses[i]
            with torch.no_grad() if skipped and skipped[i] else _AS_IT_IS:
                if isinstance(loss, MultiLoss):
                    value, members, extra = _noted(name, loss, pred_batch, gt_batch, normalize, *inner_time)
                    found.extra_info.update({f"{name}/{path}": info for path, info in extra.items()})
                    found.groups[name] = members
                    if not members:  # none of its terms is there: it was called for its collectives' sake
                        continue
                else:
                    value, found.extra_info[name] = loss(pred_batch, gt_batch, normalize=False)
            found.raw[i] = value
        return found

    def _values(self, found: _Found, vector: Tensor) -> dict[str, Tensor]:
        """Return the detached value of each term by path."""
        values: dict[str, Tensor] = {}
        for i, value in zip(found.raw, vector.detach().unbind(), strict=False):
            name = self.names[i]
            if name in found.groups:
                values.update({f"{name}/{path}": member for path, member in found.groups[name].items()})
            else:
                values[name] = value
        return values

    def _treat_nonfinite(self, found: _Found, pred_batch: Any, gt_batch: Any) -> None:
        """Raise for terms that are not finite, or take them out of what was found, on all ranks alike."""
        time = f"epoch {self.clock.time[0]}"
        if self.on_nonfinite == "raise":
            if found.raw:
                names = [self.names[i] for i in found.raw]
                batches = {"pred": pred_batch, "gt": gt_batch}
                raise_nonfinite(names, _stack(list(found.raw.values())), batches, self.clock.owner, time)
            return
        kept = agree_on_finite([found.raw.get(i) for i in range(len(self.names))], self._one)
        lost = [i for i, finite in enumerate(kept) if not finite]
        for i in lost:
            found.drop(i, self.names[i])
            self.skipped[i] += 1
        if lost:
            log_skipped([self.names[i] for i in lost], self.clock.owner, time)

    def _track(self, raw: Mapping[int, Tensor]) -> None:
        tracked = [i for i, normalized in enumerate(self._normalized) if normalized]
        norms = [cast(Loss, self.loss_funcs[i]) for i in tracked]
        values = {k: raw[i] for k, i in enumerate(tracked) if i in raw}
        tracking.track_norms(norms, values, self.norm_momentum)

    def set_time(self, epoch: float | Literal["inherited"] | None, step: float | None) -> None:
        """Evaluate the schedules of the terms and of all groups at a time; once for each value of it."""
        if isinstance(epoch, str) and epoch == INHERITED:
            return
        for loss in self._groups:
            loss.set_time(epoch, step)
        self.clock.set(epoch, step, self.calibrated.device)

    def _prepare(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any, Sequence[int]]:
        """Run the nodes that the terms of this batch need, and say which terms those are."""
        every = range(len(self.names))
        if not (self._nodes or any(self._optional)):
            return pred_batch, gt_batch, every
        present = {f"{s}.{k}" for s, b in (("pred", pred_batch), ("gt", gt_batch)) if isinstance(b, Mapping) for k in b}
        losses = [cast(Loss, loss) for loss in self.loss_funcs]
        active = [i for i in every if not self._optional[i] or reachable(losses[i].requires, self._nodes, present)]
        if isinstance(pred_batch, Tensor) or isinstance(gt_batch, Tensor):
            return pred_batch, gt_batch, active
        for node in needed_nodes(self._nodes, [losses[i] for i in active], present):
            pred_batch, gt_batch = _run(node, pred_batch, gt_batch)
        return pred_batch, gt_batch, active

    def _norms(self, active: Sequence[int], like: Tensor) -> Tensor:
        losses, one = list(self.loss_funcs), self._one
        norms = [cast(Loss, losses[i]).norm if self._normalized[i] else one for i in active]
        return torch.cat(norms).to(like)

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
        return (*losses, describe(self.weighting), describe([node.function for node in self._nodes]))

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


def _weighting(given: Arguments, weighting: Weighting | None) -> Weighting | None:
    if weighting is not None and not isinstance(weighting, Weighting):
        hint = "a name is for YAML; give an object, such as DWA()" if isinstance(weighting, str) else ""
        given.wrong("weighting", "a Weighting", weighting, hint)
    return weighting


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


def _noted(group: str, loss: Callable[..., Any], *arguments: Any) -> Any:
    """Call a loss inside of a group, or the group; an exception from there names the term `group/term`."""
    try:
        return loss(*arguments)
    except Exception as error:
        if group and not torch.compiler.is_compiling():
            note_group(error, group)
        raise


def _empty(pred_batch: Any, like: Tensor) -> Tensor:
    """Return the vector of no terms, on the graph of the predictions, so that a backward still reaches them."""
    batch = pred_batch.values() if isinstance(pred_batch, Mapping) else [pred_batch]
    tensors = [t.reshape(-1)[:0].to(like) for t in batch if isinstance(t, Tensor) and t.is_floating_point()]
    return torch.cat(tensors) if tensors else like[:0]


def _run(node: Node, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
    """Run a node on shallow copies, so that a function that writes into its batch leaves the caller's alone."""
    try:
        result = node.function(dict(pred_batch), dict(gt_batch)) if node.opaque else node.function(pred_batch, gt_batch)
    except Exception as error:
        if not torch.compiler.is_compiling():
            note_preprocess(error, node.name, node.requires, pred_batch, gt_batch)
        raise
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"preprocess {node.name!r} must return (pred_batch, gt_batch), got {type(result).__name__}")
    return result
