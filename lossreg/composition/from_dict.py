"""The losses that a model computes itself and returns in a dictionary, each as a term of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

import torch
from torch import Tensor

from lossreg import keys
from lossreg.arguments import Arguments, shown
from lossreg.composition.multiloss import MultiLoss
from lossreg.composition.options import Weight
from lossreg.composition.schedules import Constant, Schedule, as_data, as_schedule
from lossreg.errors import BatchError, DtypeError, MissingKeyError, ShapeError
from lossreg.losses.base import Loss
from lossreg.losses.description import describe
from lossreg.losses.mean import Mean
from lossreg.losses.paths import as_name
from lossreg.printable import A_NAME, is_name
from lossreg.values import keys_of, type_of

_MOST_LISTED = 10  # members in a message


class Member(Loss):
    """One loss of a dictionary: a scalar, which counts as a mean over the batch's samples, or (N,) of the samples."""

    registered_name = keys.FROM_DICT

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requires = (f"pred.{name}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor | Mean:  # noqa: ARG002
        """Return the member; of values of samples their mean, with their number as its count."""
        value = pred_batch.get(self.name)
        if value is None:
            raise MissingKeyError(
                f"loss {self.name!r}: the dictionary has no such member; it has {_listed(pred_batch)}. Set "
                "`optional: true` for a member that some batches lack"
            )
        if not isinstance(value, Tensor) or not value.is_floating_point():
            found = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__
            raise DtypeError(f"loss {self.name!r}: expected a floating tensor, found {found}")
        if value.dim() > 1:
            raise ShapeError(
                f"loss {self.name!r}: expected a scalar or values of samples (N,), found shape {tuple(value.shape)}; "
                "reduce it in the model, or leave it out with `rest: 0`"
            )
        return Mean.of(value) if value.dim() else value


@dataclass(frozen=True)
class _Options:
    """How a member enters the total, or all members whose names match a glob."""

    pattern: str
    schedule: Schedule
    normalize: bool
    optional: bool
    expression: re.Pattern[str]  # of the glob: the compiler cannot trace `fnmatch`

    @property
    def is_glob(self) -> bool:
        return any(mark in self.pattern for mark in "*?[")


class FromDict(MultiLoss):
    """A group of the losses that a model computes itself: each member of a dictionary is a term of its own.

    The members that `terms` names are terms from the start. Those that a glob or `rest` takes become terms when a batch
    first has them, in the order of their names; the first forward in training, on all ranks together, or a checkpoint
    that has such members, fixes which there are. A later batch may lack them. `/` in the name of a member becomes `.`.

    Entries that are no floating tensors (strings, numbers, None, counts) are losses only where `terms` names them: a
    number then is a constant, and None is a member that the batch lacks.

    Args:
        terms: the weight of each member, by its name or by a glob (`"loss_rpn_*"`); the first glob that matches is
            taken. A weight is as in `MultiLoss`, or a mapping of `weight`, `epoch_thresholds`, `normalize` and
            `optional`. A batch must have each member, and one for each glob, unless it is optional.
        rest: the weight of all other members, as in `terms`; 0 ignores them. Without it they are an error.
        key: where the dictionary is in the prediction, `pred.KEY` or `gt.KEY`; by default the prediction itself is it.
        epoch_thresholds: epochs for list weights.
        approximate: whether a window takes each member for a mean over samples.
        **settings: `name`, `normalize`, `weighting`, `zero_weight`, `on_nonfinite` and others, as in `MultiLoss`.

    Raises:
        ArgumentError: with every argument that is of a wrong type or out of range; there is nothing to take; or the
            weighting has parameters, which an optimizer must know, while members are not known yet.
    """

    _may_be_empty = True
    _targets_tell = False

    def __init__(
        self,
        terms: Mapping[str, Any] | None = None,
        rest: Weight | Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        epoch_thresholds: Sequence[float] | None = None,
        approximate: bool = False,
        name: str = keys.FROM_DICT,
        **settings: Any,
    ) -> None:
        given = Arguments("FromDict")
        key = given.declared(keys.FromDict, "FromDict", "key", key)
        approximate = given.declared(keys.FromDict, "FromDict", "approximate", approximate)
        thresholds = None
        if epoch_thresholds is not None:
            thresholds = given.of("epoch_thresholds", epoch_thresholds, type_of(keys.Epochs))
        if terms is not None and not isinstance(terms, Mapping):
            given.wrong("terms", "a mapping of member to weight", terms)
            terms = None
        found = [_options(given, f"terms.{m}", m, value, thresholds) for m, value in (terms or {}).items()]
        ignores = isinstance(rest, (int, float)) and not isinstance(rest, bool) and rest == 0
        if rest is not None and not ignores:
            found.append(_options(given, "rest", "*", rest, thresholds, optional=True))
        if not found and not given.problems:
            given.report("terms", "takes no member", "name some, or give rest", "missing")
        named = {as_name(options.pattern): options for options in found if not options.is_glob}
        if len(named) < sum(not options.is_glob for options in found):
            given.report("terms", "names two members alike, where `/` becomes `.`", "leave one out", "conflict")
        globs = tuple(options for options in found if options.is_glob)
        given.done()
        self.key = key
        self.approximate = approximate
        self._side = "gt" if key is not None and key.startswith("gt.") else "pred"
        self._inner = None if key is None else key.removeprefix("pred.").removeprefix("gt.")
        self._named, self._globs, self._ignores = named, globs, ignores
        self._lacking = False  # whether a batch may lack the dictionary
        self._taken: dict[str, _Options] = {}  # the members that globs have taken, by name
        self.fixed = not globs
        losses = [Member(member) for member in named]
        super().__init__(
            losses,
            [options.schedule for options in named.values()],
            name=name,
            unnormalized=[member for member, options in named.items() if not options.normalize],
            optional_terms=[member for member, options in named.items() if options.optional],
            batch_keys=[key for loss in losses for key in loss.requires],  # no preprocess makes one
            **settings,
        )
        self._dictionaries = (self,)
        for loss in losses:
            loss.approximate = approximate
        if globs and self.weighting is not None and next(self.weighting.parameters(), None) is not None:
            reason = f"{type(self.weighting).__name__} has parameters for each member, which an optimizer has to know"
            given.report("weighting", reason, "name all members, without globs and rest above 0", "conflict")
            given.done()

    # --- what it consists of ----------------------------------------------------------------------

    @property
    def requires(self) -> tuple[str, ...]:
        """The key of the dictionary; without one, those of the members that each batch has."""
        return () if self._lacking else self._keys

    @property
    def optional(self) -> tuple[str, ...]:
        """The key of the dictionary where batches may lack it; without one, those of members that they may lack."""
        if self._inner is not None:
            return self._keys if self._lacking else ()
        every = (*(f"pred.{options.pattern}" for options in self._named.values()), *(f"pred.{m}" for m in self._taken))
        return tuple(key for key in every if key not in self.requires)

    @property
    def _keys(self) -> tuple[str, ...]:
        if self._inner is not None:
            return (f"{self._side}.{self._inner}",)
        return tuple(f"pred.{options.pattern}" for options in self._named.values() if not options.optional)

    @property
    def dictionary(self) -> str:
        """What it takes, as text that ranks compare."""
        options = [(o.pattern, o.schedule, o.normalize, o.optional) for o in (*self._named.values(), *self._globs)]
        return describe([self.key, options, self._ignores, self.approximate])

    def make_optional(self) -> None:
        """Let a batch lack the dictionary, and each member."""
        super().make_optional()
        self._lacking = True

    def plan(self) -> list[dict[str, Any]]:
        """Return the members as `MultiLoss.plan` does, and after them the globs that take others."""
        items = super().plan()
        for item in items:
            own = [f"pred.{self._named[item['name']].pattern}"] if item["name"] in self._named else item["requires"]
            item["requires"] = own if self._inner is None else list(self._keys)
        keys_of_globs = list(self._keys) if self._inner is not None else []
        return [
            *items,
            *(
                {
                    "kind": "term",
                    "name": glob.pattern,
                    "requires": keys_of_globs,
                    "optional": [],
                    "weight": as_data(glob.schedule),
                    "loss": keys.FROM_DICT,
                    "normalize": glob.normalize,
                }
                for glob in self._globs
            ),
        ]

    def _asked(self) -> Iterator[list[str]]:
        yield list(self._keys)

    def extra_repr(self) -> str:
        """Show each term's weight, and those of the globs."""
        lines = [f"{glob.pattern}: weight={glob.schedule}" for glob in self._globs]
        return "\n".join([f"key={self.key!r}", super().extra_repr(), *lines])

    # --- its members ------------------------------------------------------------------------------

    def members_in(self, pred_batch: Any, gt_batch: Any) -> list[str]:
        """Return the names of the members that globs have taken or would take of a batch, in order."""
        dictionary = self._read(pred_batch, gt_batch)
        entries = () if dictionary is None else dictionary.items()
        found = {as_name(str(k)) for k, value in entries if _is_loss(value) and self._glob_of(as_name(str(k)))}
        return sorted(found.union(self._taken).difference(self._named))

    def take_members(self, members: Iterable[str]) -> None:
        """Make some names the members that globs have taken; what is known of those that stay, stays.

        Raises:
            BatchError: a name is none that a term may have.
        """
        members = sorted(members)
        if members == list(self._taken):
            return
        for member in members:
            if not is_name(member) or member.endswith("."):
                raise BatchError(f"{self._owner}: a member of the dictionary: expected {A_NAME}, found {shown(member)}")
        known = dict(zip(self.names, self.loss_funcs, strict=True))
        skipped = dict(zip(self.names, self.skipped.unbind(), strict=True))
        schedules = dict(zip(self.names, self.schedules, strict=True))
        self._taken = {member: glob for member in members if (glob := self._glob_of(member)) is not None}
        names = (*self._named, *self._taken)
        for member in self._taken.keys() - known.keys():
            loss = Member(member)
            loss.approximate, loss._term_of = self.approximate, self.clock.owner
            known[member] = loss.to(self.calibrated.device).train(self.training)
            schedules[member] = self._taken[member].schedule
        vars(self)["names"] = names
        del self.loss_funcs[:]
        self.loss_funcs.extend([known[member] for member in names])
        self._sizes, self._tells = (len(names), 0), (True,) * len(names)
        self._normalized = (*self._normalized[: len(self._named)], *(o.normalize for o in self._taken.values()))
        self._optional = (*self._optional[: len(self._named)], *(True for _ in self._taken))
        zero = self.skipped.new_zeros(())
        self.skipped = torch.stack([skipped.get(member, zero) for member in names]) if names else self.skipped[:0]
        self._replaced = {name: schedule for name, schedule in self._replaced.items() if name in names}
        self.clock.names, self.clock.schedules = names, tuple(schedules[member] for member in names)
        vars(self).pop("descriptions", None)
        if self.weighting is not None:
            self.weighting.bind(names)
            self.weighting.to(self.calibrated.device)

    def restore_members(self, names: Iterable[str]) -> None:
        """Take those of a checkpoint's members that globs take."""
        self.take_members(n for n in names if is_name(n) and not n.endswith(".") and self._glob_of(n) is not None)

    def _glob_of(self, member: str) -> _Options | None:
        if member in self._named:
            return None
        for glob in self._globs:  # the compiler of torch 2.6 has no `next` with a default
            if glob.expression.match(member):
                return glob
        return None

    # --- a batch ----------------------------------------------------------------------------------

    @property
    def _owner(self) -> str:
        return f"from_dict {self.name!r}"

    def _read(self, pred_batch: Any, gt_batch: Any) -> Mapping[Any, Any] | None:
        """Return the dictionary; None where the batch has none."""
        batch = gt_batch if self._side == "gt" else pred_batch
        if self._inner is None:
            return batch if isinstance(batch, Mapping) else None
        found = batch.get(self._inner, None) if isinstance(batch, Mapping) else None
        return found if isinstance(found, Mapping) else None

    def opened(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
        """Return the members of a batch as a prediction, by their names, and the targets.

        Raises:
            MissingKeyError: the batch has no dictionary, or lacks what a glob takes.
            BatchError: the dictionary has members that nothing takes.
        """
        dictionary = self._read(pred_batch, gt_batch)
        if dictionary is None:
            return self._without(pred_batch, gt_batch), gt_batch
        members: dict[str, Any] = {}
        others: list[str] = []
        for k, value in dictionary.items():
            name = as_name(k) if isinstance(k, str) else str(k)
            if name in members:
                raise BatchError(f"{self._owner}: two members are named {name!r}, where `/` becomes `.`")
            if name in self.names:
                if value is not None:
                    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
                    members[name] = self._one.new_full((), value) if is_number else value
            elif _is_loss(value) and (not self._ignores or self._glob_of(name) is not None):
                others.append(name)
            elif _is_loss(value) and value.requires_grad:
                members[name] = value  # to be kept in the graph
        if others:
            self._refuse(others)
        for glob in self._globs:
            if not (glob.optional or self._lacking or any(self._taken.get(name) is glob for name in members)):
                raise MissingKeyError(
                    f"{self._owner}: no member matches {glob.pattern!r}; the dictionary has {_listed(dictionary)}. Set "
                    "`optional: true` for what some batches lack"
                )
        return members, gt_batch

    def _without(self, pred_batch: Any, gt_batch: Any) -> Mapping[str, Any]:
        """Return the members of a batch without a dictionary, if it may lack it."""
        batch = gt_batch if self._side == "gt" else pred_batch
        is_there = isinstance(batch, Mapping) and self._inner is not None and batch.get(self._inner, None) is not None
        if self._lacking and not is_there and (self._inner is not None or batch is None):
            return {}
        if self._inner is None:
            raise MissingKeyError(f"{self._owner}: expected a dictionary for prediction, found {shown(batch)}")
        key = f"{self._side}.{self._inner}"
        if is_there:
            raise MissingKeyError(f"{self._owner}: {key!r}: expected a dictionary, found {shown(batch[self._inner])}")
        found = f"keys {_listed(batch)}" if isinstance(batch, Mapping) else shown(batch)
        raise MissingKeyError(f"{self._owner} needs {key!r}; {self._side}_batch has {found}")

    def _refuse(self, others: list[str]) -> None:
        """Raise for members that are no terms."""
        late = [name for name in others if self._glob_of(name) is not None]
        if late:
            raise BatchError(
                f"{self._owner}: a glob or `rest` takes {_listed(late)}, which came after the members were fixed: by "
                "the first forward in training, or by a checkpoint. Members of a larger compiled function, or of a "
                "dictionary that a preprocess makes, cannot be taken so either. Name them under `terms`, with "
                "`optional: true` where some batches lack them"
            )
        raise BatchError(
            f"{self._owner}: `terms` does not name {_listed(others)}; name them, or write `rest: 1.0` to take all "
            "others, or `rest: 0` to ignore them"
        )


def _options(
    given: Arguments, path: str, pattern: Any, value: Any, thresholds: Any, optional: bool = False
) -> _Options:
    """Take what is said of a member, or of a glob."""
    if not (is_name(as_name(pattern)) if isinstance(pattern, str) else False) or pattern.endswith("."):
        given.wrong("terms", "names of members", pattern)
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    found: dict[str, Any] = {"weight": 1.0, "epoch_thresholds": None, "normalize": True, "optional": optional}
    for name, option in options.items():
        if name not in found:
            given.report(f"{path}.{name}", "is not an option of a member", f"expected {', '.join(found)}", "unknown")
        elif name == "weight":
            found[name] = option
        else:
            found[name] = given.of(f"{path}.{name}", option, keys_of(keys.Member)[name].type)
    own = found["epoch_thresholds"]
    schedule: Schedule = Constant(1.0)
    try:
        schedule = as_schedule(found["weight"], thresholds if own is None else own, name=str(pattern))
    except (TypeError, ValueError) as error:
        given.report(path, str(error), kind="type" if isinstance(error, TypeError) else "range")
    expression = re.compile(translate(as_name(str(pattern))))
    return _Options(str(pattern), schedule, bool(found["normalize"]), bool(found["optional"]), expression)


def _is_loss(value: Any) -> bool:
    """Say whether an entry of a dictionary may be a loss that nothing names."""
    return isinstance(value, Tensor) and value.is_floating_point()


def _listed(names: Mapping[Any, Any] | Iterable[Any]) -> str:
    """Return the first names of members, and how many others there are."""
    found = [repr(str(name)) for name in (names.keys() if isinstance(names, Mapping) else names)]
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return (", ".join(found[:_MOST_LISTED]) or "none") + more
