"""A window: micro-batches, of one rank or of several, whose gradients add up to those of the joined batch.

Inside of it each mean enters the total as `value * count / total count`, so that its parts are weighed as in the joined
batch. The counts come from the targets, before the first forward, and are added up over the ranks in one collective.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from lossreg.composition.bare import keys_in, run_nodes
from lossreg.composition.dependencies import needed_nodes
from lossreg.composition.tracking import move_norms
from lossreg.composition.vectors import chosen, counts_as, stacked
from lossreg.errors import CountError, WindowError
from lossreg.losses.base import Loss, can_look
from lossreg.losses.mean import Count, Mean, safe
from lossreg.losses.nested import first_tensor, is_sequence_of_tensors
from lossreg.losses.notes import note_group
from lossreg.losses.paths import join
from lossreg.losses.ranks import add_up, deferred, told

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.composition.record import Parts

_ROUNDING = 1e-4  # of sums of counts in float32


class CurrentWindow(threading.local):
    """The window that a thread is in; a copy begins without one."""

    window: Window | None = None

    def __reduce__(self) -> tuple[type[CurrentWindow], tuple[()]]:
        return CurrentWindow, ()


class Window:
    """The counts of one `MultiLoss` over a window and all ranks, and what its forwards have come to so far.

    Attributes:
        totals: for each term the counts of its means, (p,); None for a group.
        present: (n,) bool, which terms have something to learn in the window.
        ranks: [] how many ranks share it.
        single: whether it is one forward of each rank.
        inner: the windows of groups by position.
        approximate: positions of the terms that are taken for means over samples.
    """

    def __init__(
        self,
        totals: Sequence[Tensor | None],
        expected: Sequence[Tensor | None],
        present: Tensor,
        ranks: Tensor,
        inner: Mapping[int, Window],
        single: bool,
        approximate: Collection[int],
        targets_tell: bool,
    ) -> None:
        self._targets_tell = targets_tell
        self.approximate = frozenset(approximate)
        self.totals, self.present, self.ranks = tuple(totals), present, ranks
        self.inner, self.single = dict(inner), single
        self._expected = list(expected)
        self._counted: dict[int, list[Count]] = {}
        self._sums: dict[tuple[int, ...], Tensor] = {}
        self._norms: dict[int, Tensor] = {}
        self.now: Tensor | None = None

    def shares_of(self, means: Mapping[int, Sequence[Mean]]) -> dict[int, Tensor]:
        """Return what the means of terms, by position, add to the window's."""
        every = [(i, k, mean) for i, of_term in means.items() for k, mean in enumerate(of_term)]
        if not every:
            return {}
        counts = counts_as([1.0 if mean.is_sum else mean.count for _, _, mean in every], self.ranks)
        one = self.ranks.new_ones(())
        totals = torch.stack([one if mean.is_sum else cast(Tensor, self.totals[i])[k] for i, k, mean in every])
        values = stacked([mean.value for _, _, mean in every])
        shares = values * self._factors(counts, totals).to(values)
        found: dict[int, Tensor] = {}
        for (i, _, _), share in zip(every, shares.unbind(), strict=True):
            found[i] = found[i] + share if i in found else share
        return found

    def fraction_of(self, position: int, counts: Sequence[Count], group: Parts | None = None) -> Tensor:
        """Return how much of a term's elements in the window these counts are, times the ranks.

        Args:
            position: of the term.
            counts: those of its means.
            group: what its forward has come to, where it is a group, which has the elements of its members.
        """
        totals = self.totals[position]
        if totals is not None:
            return self._factors(counts_as(counts, totals).sum(), totals.sum())
        inner = self.inner[position]
        return self._factors(inner._elements_of(group), inner._elements())

    def _elements(self) -> Tensor:
        """Return [] the elements of all terms in the window, those of groups too."""
        own = self._together([count for totals in self.totals if totals is not None for count in totals.unbind()])
        return torch.stack([own, *(inner._elements() for inner in self.inner.values())]).sum()

    def _elements_of(self, parts: Parts | None) -> Tensor:
        """Return [] the elements of all terms in a forward, those of groups too."""
        if parts is None:
            return self.ranks.new_zeros(())
        own = self._together([count for counts in parts.counts for count in counts])
        return torch.stack([own, *(self.inner[i]._elements_of(inner) for i, inner in parts.groups.items())]).sum()

    def _together(self, counts: Sequence[Count]) -> Tensor:
        """Return [] the elements of terms: the sum of their counts.

        Where the targets do not tell the counts, each is the number of all samples, and the largest is returned.
        """
        found = counts_as([0.0, *counts], self.ranks)
        return found.sum() if self._targets_tell else found.max()

    def _factors(self, counts: Tensor, totals: Tensor) -> Tensor:
        return self.ranks * counts / cast(Tensor, safe(totals))

    def add(self, parts: Parts) -> None:
        """Take what a forward has come to."""
        assert parts.shared is not None
        before = self._sums.get(parts.positions)
        self._sums[parts.positions] = parts.shared if before is None else before + parts.shared
        if parts.norms is not None:
            self._norms |= zip(parts.positions, parts.norms.unbind(), strict=False)
        if can_look(self.ranks):
            for position, counts in zip(parts.positions, parts.counts, strict=True):
                before_it = self._counted.get(position, [0.0] * len(counts))
                self._counted[position] = [a + b for a, b in zip(before_it, counts, strict=True)]
        for position, inner in parts.groups.items():
            self.inner[position].now = self.now
            self.inner[position].add(inner)

    def excuse(self, positions: Iterable[int]) -> None:
        """Take it that forwards have left out elements of some terms, which were not finite."""
        for position in positions:
            self._expected[position] = None

    def check(self, criterion: MultiLoss, path: str = "") -> None:
        """Raise where the forwards had other elements than the targets said; looked at on the CPU only.

        Raises:
            WindowError: a micro-batch was left out, came twice, or is another than the window was given.
        """
        for position, (name, expected) in enumerate(zip(criterion.names, self._expected, strict=True)):
            if position in self.inner:
                self.inner[position].check(cast("MultiLoss", criterion.loss_funcs[position]), join(path, name))
            elif expected is not None and can_look(expected):
                counted = self._counted.get(position, [0.0] * len(expected))
                for asked, found in zip(expected.tolist(), map(float, counted), strict=True):
                    if abs(asked - found) > _ROUNDING * max(asked, found, 1.0):
                        raise WindowError(
                            f"{criterion.clock.owner}: window: term {join(path, name)!r}: expected forwards over "
                            f"{asked:.10g} elements, as the targets given to window() have, found {found:.10g}; call "
                            "the criterion once for each micro-batch, with the targets that window() was given"
                        )

    def settle(self, criterion: MultiLoss) -> None:
        """Move the state of a criterion and of its groups by the means of the window; one collective where it has some.

        In a window of one forward that has moved the weightings.

        Raises:
            WeightingError: a mean is outside of the domain of a weighting.
        """
        movers = list(self._movers(criterion))
        if not movers:
            return
        sums = [window._sums_of(len(mover.names)) for window, mover in movers]
        epoch = self.ranks.new_zeros(2) if self.now is None else torch.stack([self.now, torch.ones_like(self.now)])
        added = add_up(torch.cat([*sums, epoch.to(self.ranks)]), "window") / self.ranks
        *means, epoch = _split(added, [*map(len, sums), len(epoch)])
        now = self.now
        if not self._sums and not (can_look(epoch) and epoch[1] == 0):  # a rank without forwards has no epoch
            now = epoch[0] / epoch[1]
        for (window, mover), own in zip(movers, means, strict=True):
            raw, normalised = own.chunk(2)
            window._move(mover, raw, normalised, now)

    def _sums_of(self, terms: int) -> Tensor:
        """Return (2 n,) the sums of the values of all terms, raw and over their norms; 0 without forwards."""
        found: dict[int, Tensor] = {}
        for positions, sums in self._sums.items():
            for i, own in zip(positions, sums.detach().to(self.ranks).unbind(), strict=True):
                found[i] = found[i] + own if i in found else own
        nothing = self.ranks.new_zeros(())
        raw, one = torch.stack([found.get(i, nothing) for i in range(terms)]), torch.ones_like(nothing)
        return torch.cat([raw, raw / stacked([self._norms.get(i, one).to(one) for i in range(terms)])])

    def _movers(self, criterion: MultiLoss) -> Iterator[tuple[Window, MultiLoss]]:
        moves = criterion.track_norms is not None or (criterion.weighting is not None and not self.single)
        if criterion.training and moves:
            yield self, criterion
        for position, inner in self.inner.items():
            yield from inner._movers(cast("MultiLoss", criterion.loss_funcs[position]))

    @torch.no_grad()
    def _move(self, criterion: MultiLoss, means: Tensor, normalised: Tensor, now: Tensor | None) -> None:
        if criterion.weighting is not None and not self.single:
            criterion.weighting.settle(normalised, self.present, now)
        tracked = [i for i, normalized in enumerate(criterion._normalized) if normalized]
        if criterion.track_norms is not None and tracked:
            losses = [cast(Loss, criterion.loss_funcs[i]) for i in tracked]
            if len(tracked) < len(means):
                means, present = chosen(means, tracked), chosen(self.present, tracked)
            else:
                present = self.present
            move_norms(losses, means, present, criterion.norm_momentum)


def open_window(criterion: MultiLoss, micro_batches: Iterable[Any], single: bool = False) -> Window:
    """Count the elements of a window, over all ranks in one collective.

    Args:
        criterion: the whole criterion.
        micro_batches: the targets of each micro-batch of this rank.
        single: whether it is one forward of each rank.

    Raises:
        CountError: the targets do not tell the count of a term.
        WindowError: a preprocess may change the targets and does not say so.
    """
    batches, ranks = list(micro_batches), dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    sizes = {path: cast(Loss, term.loss).parts for path, term in criterion.leaves()}
    device = criterion.calibrated.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    local = torch.zeros(sum(sizes.values()), dtype=dtype, device=device)
    approximate: set[str] = set()
    with told(ranks > 1, criterion.compare_weights, criterion.weights_changed()):
        with deferred(), torch.no_grad():
            for targets in batches:
                counts = _counts(criterion, targets, "", approximate)
                flat = [count for path, size in sizes.items() for count in counts.get(path, (0.0,) * size)]
                local = local + counts_as(flat, local)
        totals = add_up(local, f"{criterion.clock.owner}: window")
    by_path = dict(zip(sizes, _split(totals, sizes.values()), strict=True))
    own = dict(zip(sizes, _split(local, sizes.values()), strict=True))
    present = dict(zip(sizes, _split(totals > 0, sizes.values()), strict=True))
    shared_by = totals.new_full((), ranks)
    return _window(criterion, "", by_path, own, present, shared_by, single, approximate)


def _window(
    criterion: MultiLoss,
    group: str,
    totals: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    ranks: Tensor,
    single: bool,
    approximate: Collection[str],
) -> Window:
    paths = [join(group, name) for name in criterion.names]
    inner = {
        i: _window(cast("MultiLoss", loss), paths[i], totals, own, present, ranks, single, approximate)
        for i, loss in enumerate(criterion.loss_funcs)
        if not isinstance(loss, Loss)
    }
    known = [None if i in inner else totals[path] for i, path in enumerate(paths)]
    expected = [None if i in inner else own[path] for i, path in enumerate(paths)]
    taken = [i for i, path in enumerate(paths) if path in approximate]
    parts = [inner[i].present if i in inner else present[path] for i, path in enumerate(paths)]
    there = torch.stack([part[0] if len(part) == 1 else part.any() for part in parts])
    return Window(known, expected, there, ranks, inner, single, taken, criterion._targets_tell)


def _split(vector: Tensor, sizes: Iterable[int]) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = vector.split(list(sizes))  # type: ignore[no-untyped-call]
    return parts


def _counts(criterion: MultiLoss, targets: Any, group: str, approximate: set[str]) -> dict[str, Sequence[Count]]:
    """Return the counts of the terms of one micro-batch by path; terms whose targets it lacks are not there.

    Args:
        criterion: the criterion, or a group.
        targets: of the micro-batch.
        group: the path of the group; empty for the whole.
        approximate: to which the paths of terms are added that are taken for means over samples.
    """
    opaque = [node.name for node in criterion._nodes if node.opaque]
    if opaque:
        raise WindowError(
            f"{criterion.clock.owner}: window: the preprocess {opaque[0]!r} may change the targets, so that they do "
            "not tell what there is to count; make it a lossreg.Preprocess, which says what it reads and makes"
        )
    bare = criterion._bare
    present = keys_in({}, targets, bare)
    known, nodes = set(present), []
    for node in criterion._nodes:
        if known.issuperset(node.requires):
            known.update(node.provides)
            nodes.append(node)
    losses: list[Any] = list(criterion.loss_funcs)
    if nodes:
        _, targets = run_nodes(needed_nodes(nodes, losses, present), {}, targets, bare)
    found: dict[str, Sequence[Count]] = {}
    for name, loss, optional in zip(criterion.names, losses, criterion._optional, strict=True):
        if not isinstance(loss, Loss):
            try:
                found |= _counts(loss, targets, join(group, name), approximate)
            except Exception as error:
                note_group(error, name)
                raise
        elif not optional or known.issuperset(key for key in loss.requires if key.startswith("gt.")):
            path = join(group, name)
            try:
                found[path] = loss.counts(targets)
            except CountError:
                if not loss.approximate:
                    raise
                approximate.add(path)
                found[path] = [float(samples_in(loss, targets)), *[0.0] * (loss.parts - 1)]
    return found


def samples_in(loss: Loss, targets: Any) -> int:
    """Return the number of samples of a micro-batch: the size of axis 0 of the first target that a loss reads.

    Without a tensor it is the length of the targets that are a list, one for each sample; of other targets it is 1.
    """
    if isinstance(targets, Mapping):
        keys = [key.removeprefix("gt.") for key in loss.requires if key.startswith("gt.")]
        read = [targets.get(key) for key in keys]
        found = first_tensor([value for value in read if isinstance(value, Tensor) or is_sequence_of_tensors(value)])
        tensors = [value for value in targets.values() if isinstance(value, Tensor) and value.dim()]
        lists = [value for value in targets.values() if isinstance(value, (list, tuple))]
        targets = found if found is not None else next(iter([*tensors, *lists]), None)
    if isinstance(targets, (list, tuple)):
        return len(targets)
    return targets.shape[0] if isinstance(targets, Tensor) and targets.dim() else 1
