"""Checkpoints of a `MultiLoss`: they say which terms they hold, and each number goes to the term of its name.

The keys of a `state_dict` count terms by position. So the extra state of each `MultiLoss` holds their names, as the
bytes of a text in a tensor: tensors are all that every format of checkpoints can hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lossreg.arguments import shown
from lossreg.composition import changed_weights
from lossreg.errors import CheckpointError, CheckpointWarning, ConfigProblem, NameLookupError, warn
from lossreg.losses.base import Loss
from lossreg.losses.identity import identity, source
from lossreg.losses.norm import STATISTICS, check_tensor, fit_norms
from lossreg.losses.wrapper import LossWrapper
from lossreg.registry import catalog

if TYPE_CHECKING:
    from lossreg.composition.from_dict import FromDict
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.composition.weighting.base import Weighting

_TEXT = "_extra_state"
_GROUP = "a group"


@dataclass(frozen=True)
class StoredTerm:
    """A term as a checkpoint knows it.

    Attributes:
        name: its name.
        loss: what it is, see `identity`.
        source: where it is defined, see `source`.
        normalized: whether it is divided by its norm.
    """

    name: str
    loss: str
    source: str
    normalized: bool

    def is_same_loss(self, stored: StoredTerm) -> bool:
        """Compare with a checkpoint's by the names that both were created by, else by where they are defined."""
        if self.loss != self.source and stored.loss != stored.source:
            return self.loss in (stored.loss, _canonical(stored.loss))
        if self.source == stored.source or self.loss == _canonical(stored.source):
            return True
        ends = [text.removeprefix("__main__") for text in (self.source, stored.source)]  # of a script: `.Class`
        return any(end.startswith(".") for end in ends) and (ends[0].endswith(ends[1]) or ends[1].endswith(ends[0]))


@dataclass(frozen=True)
class Contents:
    """What the checkpoint of one `MultiLoss` holds, in its order.

    Attributes:
        terms: its terms.
        pre_processes: its preprocesses that are modules: where each is defined, and what it provides.
        weighting: where its weighting is defined; `none` where it has none.
    """

    terms: tuple[StoredTerm, ...]
    pre_processes: tuple[str, ...]
    weighting: str

    @classmethod
    def of(cls, criterion: MultiLoss) -> Contents:
        """Describe a criterion."""
        terms = [
            StoredTerm(term.name, identity(term.loss), source(term.loss), term.normalize)
            if isinstance(term.loss, Loss)
            else StoredTerm(term.name, _GROUP, _GROUP, normalized=False)
            for term in criterion.terms
        ]
        nodes = [f"{source(node)}({', '.join(getattr(node, 'provides', ()))})" for node in criterion.pre_processes]
        return cls(tuple(terms), tuple(nodes), "none" if criterion.weighting is None else source(criterion.weighting))

    def to_tensor(self) -> Tensor:
        """Return the text as a tensor, on the CPU also where a model is built on another device."""
        return torch.tensor(list(json.dumps(asdict(self)).encode()), dtype=torch.uint8, device="cpu")

    @classmethod
    def from_tensor(cls, tensor: Any) -> Contents:
        """Read the text.

        Raises:
            AttributeError, KeyError, RuntimeError, TypeError, ValueError: it is none.
        """
        stored = json.loads(bytes(tensor.tolist()))
        terms = [
            StoredTerm(str(term["name"]), str(term["loss"]), str(term["source"]), bool(term["normalized"]))
            for term in stored["terms"]
        ]
        return cls(tuple(terms), tuple(map(str, stored["pre_processes"])), str(stored["weighting"]))


def fit(criterion: MultiLoss, state: dict[str, Any], prefix: str) -> None:
    """Rewrite a state dict so that each number stands where the term of its name is now.

    Args:
        criterion: what it is to be loaded into.
        state: changed in place; its tensors are not. An older checkpoint goes by position and is completed.
        prefix: of the criterion's keys.

    Raises:
        CheckpointError: with every mistake: other terms, another loss or weighting under a name, a number that is no
            norm or no count, a tensor of another shape.
    """
    fitting = _Fitting(state)
    fitting.level(criterion, prefix, "")
    for dictionary, before in fitting.restored:
        if fitting.problems:
            dictionary.take_members(before)
        elif dictionary._taken:
            dictionary.fixed = True
    if fitting.problems:
        raise CheckpointError(criterion.clock.owner, fitting.problems)
    owner = criterion.clock.owner
    if fitting.raw and bool(state[f"{prefix}calibrated"]):
        message = (
            f"{owner}: the checkpoint has no norm for {', '.join(map(repr, fitting.raw))}, not normalised there; "
            "it is 1 until calibrate_norms sets all norms anew"
        )
        warn(message, CheckpointWarning)
    if fitting.moved:
        message = (
            f"{owner}: the checkpoint has the terms in another order, and they or their weighting have parameters; an "
            "optimizer's state goes by position: make a new optimizer, or give the terms their old order"
        )
        warn(message, CheckpointWarning)


def refuse_other_keys(criterion: MultiLoss, state: Mapping[str, Any]) -> None:
    """Refuse a fitted state dict with keys that the criterion lacks, or without some that it has.

    Raises:
        CheckpointError: with every such key.
    """
    if any(_loads_its_own_way(module) for module in criterion.modules()):
        return
    own = criterion.state_dict()
    problems = [ConfigProblem(key, "is missing in the checkpoint") for key in own if key not in state]
    problems += [ConfigProblem(key, "is not part of the criterion") for key in state if key not in own]
    if problems:
        raise CheckpointError(criterion.clock.owner, problems)


class _Fitting:
    """A state dict that is being fitted, and what was found about it.

    Attributes:
        problems: what is wrong with it.
        raw: terms whose norm it does not have, since they were not normalised.
        moved: whether parameters, or what belongs to them, changed their places.
        restored: groups that have taken the members of the checkpoint, with those that they had before.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.problems: list[ConfigProblem] = []
        self.raw: list[str] = []
        self.moved = False
        self.restored: list[tuple[FromDict, list[str]]] = []

    def level(self, criterion: MultiLoss, prefix: str, path: str) -> None:
        """Fit one `MultiLoss`, then the groups among its terms; one that holds something else is left at that."""
        known = len(self.problems)
        there = self._contents(prefix) if prefix + _TEXT in self.state else None
        if there is not None and criterion in criterion._dictionaries:
            self._restore(criterion, there)
        here = Contents.of(criterion)
        if prefix + _TEXT in self.state:
            order = self._order(here, there, prefix, path)
            nodes = self._nodes(here, there, prefix, path)
        else:
            self._by_position(criterion, prefix, path)
            self._complete(criterion, prefix)
            order, nodes = list(range(len(here.terms))), list(range(len(here.pre_processes)))
        if len(self.problems) == known:
            self._own_tensors(criterion, prefix, path)
            self._weighting(criterion.weighting, f"{prefix}weighting.", f"{path}weighting")
            self._changed_weights(criterion, prefix, path)
        if len(self.problems) > known:
            return
        self._reorder(criterion, prefix, order)
        self._move(f"{prefix}pre_processes.", nodes)
        self._shapes(criterion.pre_processes, f"{prefix}pre_processes.", f"{path}pre_processes")
        self.state[prefix + _TEXT] = here.to_tensor()
        for i, term in enumerate(criterion.terms):
            inner = f"{prefix}loss_funcs.{i}."
            if isinstance(term.loss, Loss):
                self._loss(term.loss, inner, path + term.name)
            else:
                self.level(term.loss, inner, f"{path}{term.name}/")

    def _restore(self, dictionary: FromDict, there: Contents) -> None:
        """Let a group take the members that the checkpoint has, unless a forward has fixed which there are."""
        if not dictionary.fixed:
            self.restored.append((dictionary, list(dictionary._taken)))
            dictionary.restore_members(term.name for term in there.terms)

    def _report(self, path: str, message: str, hint: str = "") -> None:
        self.problems.append(ConfigProblem(path.rstrip("/"), message, hint))

    # --- which terms it holds ---------------------------------------------------------------------

    def _contents(self, prefix: str) -> Contents | None:
        try:
            return Contents.from_tensor(self.state[prefix + _TEXT])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            self._report(prefix + _TEXT, "expected the names of the terms, as uint8, found something else")
            return None

    def _order(self, here: Contents, there: Contents | None, prefix: str, path: str) -> list[int]:
        """Return the position in the checkpoint of each term, or report that it holds others."""
        if there is None:
            return []
        names, found = [term.name for term in here.terms], [term.name for term in there.terms]
        if sorted(names) != sorted(found):
            self._report(path, f"expected the terms {names}, found {found}", _afresh(prefix))
            return []
        order = [found.index(name) for name in names]
        for term, stored in zip(here.terms, (there.terms[i] for i in order), strict=True):
            if not term.is_same_loss(stored):
                self._report(path + term.name, f"expected {term.loss!r}, found {stored.loss!r}", _afresh(prefix))
            elif term.normalized and not stored.normalized:
                self.raw.append(path + term.name)
        if here.weighting != there.weighting:
            message = f"expected {here.weighting!r}, found {there.weighting!r}"
            self._report(f"{path}weighting", message, _afresh(prefix))
        return order

    def _nodes(self, here: Contents, there: Contents | None, prefix: str, path: str) -> list[int]:
        """Return the position in the checkpoint of each preprocess; others matter where they have a state."""
        nodes, found = list(here.pre_processes), [] if there is None else list(there.pre_processes)
        order: list[int] = []
        for node in nodes:
            order += [i for i, other in enumerate(found) if other == node and i not in order][:1]
        if len(nodes) == len(found) == len(order):
            return order
        if any(key.startswith(f"{prefix}pre_processes.") for key in self.state):
            self._report(f"{path}pre_processes", f"expected {nodes}, found {found}")
        return []

    def _by_position(self, criterion: MultiLoss, prefix: str, path: str) -> None:
        """Take an older checkpoint, which has no names; report where it holds other terms."""
        heads = f"{prefix}loss_funcs."
        found = {key.removeprefix(heads).partition(".")[0] for key in self.state if key.startswith(heads)}
        lacking = [i for i, term in enumerate(criterion.terms) if not self._has_norm(term.loss, f"{heads}{i}.")]
        newer = f"{prefix}calibrated" in self.state or any(key.endswith("norm_sum") for key in self.state)
        unnormed = [] if newer else [i for i in lacking if _is_raw_wrapper(criterion.terms[i].loss)]
        if not found or found - {str(i) for i in range(len(criterion.names))} or lacking != unnormed:
            held = sorted(f"loss_funcs.{i}" for i in found) or sorted(self.state)[:3]
            message = f"expected the norms of the terms {list(criterion.names)}, found {held}"
            self._report(path, message, _afresh(prefix))
        for i in unnormed:
            self.state[f"{heads}{i}.norm"] = torch.ones(1, device="cpu")
            self.raw.append(path + criterion.names[i])

    def _has_norm(self, loss: Loss | MultiLoss, prefix: str) -> bool:
        if not isinstance(loss, Loss):
            return any(key.startswith(prefix) for key in self.state)
        inside = isinstance(loss, LossWrapper) and loss.wraps_norm
        return f"{prefix}norm" in self.state or (inside and f"{prefix}loss_func.norm" in self.state)

    def _complete(self, criterion: MultiLoss, prefix: str) -> None:
        """Add what the oldest checkpoints lack: the norms in them count as calibrated."""
        norm = self.state.get(f"{prefix}loss_funcs.0.norm")
        device = getattr(norm, "device", None) if criterion.calibrated.is_meta else criterion.calibrated.device
        self.state.setdefault(f"{prefix}calibrated", torch.tensor(True, device=device))
        skipped = torch.zeros(len(criterion.names), dtype=torch.int64, device=device)
        self.state.setdefault(f"{prefix}skipped", skipped)

    # --- its numbers ------------------------------------------------------------------------------

    def _own_tensors(self, criterion: MultiLoss, prefix: str, path: str) -> None:
        for name, fits in (("calibrated", None), ("skipped", _is_count)):
            if prefix + name not in self.state:
                self._report(path + name, "is missing in the checkpoint")
                continue
            own = getattr(criterion, name)
            self.problems += check_tensor(path + name, self.state[prefix + name], own, _COUNT, fits)

    def _weighting(self, weighting: Weighting | None, prefix: str, path: str) -> None:
        """Check the state of the adaptive weighting."""
        found = {key.removeprefix(prefix): value for key, value in self.state.items() if key.startswith(prefix)}
        own = {} if weighting is None else weighting.state_dict()
        if set(own) != set(found):
            self._report(path, f"expected the state {sorted(own)}, found {sorted(found)}")
            return
        for name, value in own.items():
            if isinstance(value, Tensor):
                fits = _is_count if weighting is not None and name in weighting.counters else None
                self.problems += check_tensor(f"{path}.{name}", found[name], value, _COUNT, fits)

    def _changed_weights(self, criterion: MultiLoss, prefix: str, path: str) -> None:
        """Check the weights that were set at run time; a checkpoint without them leaves those of the criterion."""
        key = prefix + changed_weights.KEY
        if key not in self.state:
            self.state[key] = criterion.changed_weights
            return
        try:
            stored = changed_weights.from_tensor(self.state[key])
        except (AttributeError, RuntimeError, TypeError, ValueError):
            self._report(path + changed_weights.KEY, "expected weights by the names of terms, as uint8, found others")
            return
        own = dict(zip(criterion.names, criterion.schedules, strict=True))
        for name, data in stored.items():
            function = changed_weights.python_name(data)
            if name not in own:
                self._report(path + name, f"has a weight that was set, and is none of the terms {list(own)}")
            elif function and changed_weights.data_of(own[name]) != data:
                message = f"its weight was set to {function}, which a checkpoint cannot hold"
                self._report(path + name, message, f"call set_weight({name!r}, ...) with it, then load")
            elif not function:
                try:
                    changed_weights.schedule_of(data, name=path + name)
                except Exception as error:  # a third party's schedule may raise anything
                    self._report(path + name, f"its weight {shown(data)} is refused: {error}")

    def _loss(self, loss: Loss, prefix: str, path: str) -> None:
        """Check the norms of a term, and the shapes of all else that it holds."""
        problems = fit_norms(loss, self.state, prefix)
        self.problems += [replace(p, path=f"{path} {p.path.removeprefix(prefix)}") for p in problems]
        if f"{prefix}norm" not in self.state:
            self._report(f"{path} norm", "is missing in the checkpoint")
        self._shapes(loss, prefix, path)

    def _shapes(self, module: nn.Module, prefix: str, path: str) -> None:
        """Compare shapes, unless the module may change them as it loads."""
        if any(_loads_its_own_way(child) for child in module.modules()):
            return
        for name, own in module.state_dict().items():
            value = self.state.get(prefix + name)
            if not (isinstance(own, Tensor) and isinstance(value, Tensor)) or torch.nn.parameter.is_lazy(own):
                continue
            if name.rpartition(".")[2] in STATISTICS or (own.dim() == 0 and value.shape == (1,)):  # torch loads it
                continue
            if value.shape != own.shape:
                message = f"expected the shape {tuple(own.shape)}, found {tuple(value.shape)}"
                self._report(f"{path} {name}", message)

    # --- their places -----------------------------------------------------------------------------

    def _reorder(self, criterion: MultiLoss, prefix: str, order: list[int]) -> None:
        """Put what goes by position into the order of the terms."""
        if order == sorted(order):
            return
        self._move(f"{prefix}loss_funcs.", order)
        self.state[f"{prefix}skipped"] = self.state[f"{prefix}skipped"][order]
        weighting = criterion.weighting
        for name in () if weighting is None else list(weighting.state_dict()):
            value = self.state[f"{prefix}weighting.{name}"]
            if weighting is not None and isinstance(value, Tensor):
                self.state[f"{prefix}weighting.{name}"] = weighting.in_order(name, value, order)
        self.moved = self.moved or any(parameter.requires_grad for parameter in criterion.parameters())

    def _move(self, heads: str, order: list[int]) -> None:
        """Rename the keys of modules in a list, and copy what they hold: a state dict may alias the criterion."""
        if order == sorted(order):
            return
        places = {f"{heads}{old}.": f"{heads}{new}." for new, old in enumerate(order)}
        moved = {}
        for key in [key for key in self.state if key.startswith(heads)]:
            head = heads + key.removeprefix(heads).partition(".")[0] + "."
            value = self.state.pop(key)
            moved[places.get(head, head) + key.removeprefix(head)] = _copied(value)
        self.state.update(moved)


_COUNT = "a count of 0 or more"


def _is_count(count: Tensor) -> Tensor:
    return count >= 0


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _canonical(loss: str) -> str:
    """Return the canonical name of what a checkpoint knows by an alias, or by an old import path."""
    within = loss.removeprefix("DeepSupervision(").removesuffix(")") if loss.startswith("DeepSupervision(") else loss
    with suppress(NameLookupError):
        return loss.replace(within, catalog().losses.find(within).name)
    return loss


def _afresh(prefix: str) -> str:
    return f"to begin without its norms, leave out the keys {prefix + '*'!r} and load with strict=False"


def _is_raw_wrapper(loss: nn.Module) -> bool:
    """Say whether an older program, which normalised no wrapped loss, kept no norm for this one."""
    return isinstance(loss, LossWrapper) and not loss.wraps_norm


def _loads_its_own_way(module: nn.Module) -> bool:
    """Say whether a module may change keys or shapes as it is loaded."""
    defined = type(module)._load_from_state_dict.__module__
    plain = defined == nn.Module.__module__ or defined.startswith("lossreg.")
    return bool(module._load_state_dict_pre_hooks) or not plain
