"""The norm of a loss: the average of its raw value, weighted by samples that count, the same on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.errors import CheckpointError, ConfigProblem, DistributedError
from lossreg.losses.concrete import is_concrete
from lossreg.losses.ranks import digest, gather, reason_of, refuse_differences, refuse_failures, several

STATISTICS = ("norm", "norm_sum", "norm_count")


@torch.library.custom_op("lossreg::snapshot", mutates_args=())
def _clone_op(state: Tensor) -> Tensor:
    return state.clone()


@_clone_op.register_fake
def _(state: Tensor) -> Tensor:
    return torch.empty_like(state)


def snapshot(state: Tensor) -> Tensor:
    """Return a copy of a state for a backward that runs after the state has changed.

    torch.compile recomputes cheap operations in the backward, from buffers that have changed by then. It does not
    recompute a custom operator.
    """
    detached = state.detach()
    if torch.compiler.is_compiling():
        copied: Tensor = _clone_op(detached)
        return copied
    return detached.clone()


class RunningNorm(nn.Module):
    """A module with the buffers `norm`, `norm_sum` and `norm_count`; `norm` is the ratio of the other two.

    `state_dict` contains the buffers. A state dict with only `norm` loads strictly, as a norm set by hand. Casts of the
    module (`half()`, `bfloat16()`) do not change the dtype of the buffers.
    """

    name: str
    norm: Tensor  # [1], float32: the divisor of a normalised forward
    norm_sum: Tensor  # [], float64: sum of value * samples on this rank
    norm_count: Tensor  # [], float64: number of samples on this rank, of a sample with half a mask a half
    _unset_at: int = 0  # how often `norm` had been written when nothing had set it; -1 once something has

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm", torch.ones(1))
        self.register_buffer("norm_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("norm_count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def reset_norm(self) -> None:
        """Set the norm to 1, and its sum and count to 0."""
        self.norm.fill_(1.0)
        self.norm_sum.zero_()
        self.norm_count.zero_()
        self._unset_at = self._writes()

    @property
    def is_set(self) -> bool:
        """Whether anything wrote the norm since it was made or reset. No value is read from the device."""
        return self._unset_at != self._writes()

    def _writes(self) -> int:
        """Return how often `norm` was written; -2 if PyTorch does not count it."""
        return -2 if self.norm.is_inference() else self.norm._version

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unset_at": -1 if self.is_set else 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._unset_at = -1 if self._unset_at < 0 else self._writes()  # a copy of a tensor has a count of its own

    @torch.no_grad()
    def record(self, value: Tensor, nums: int, portion: Tensor | float = 1.0) -> None:
        """Add the mean `value` of a batch to the norm; 0 samples, and a portion of 0, change nothing.

        Args:
            value: scalar, the raw loss of a batch.
            nums: number of samples in the batch, 0 or more.
            portion: which portion of the batch the value is a mean over.
        """
        checks = Arguments(f"loss {self.name!r}" if hasattr(self, "name") else type(self).__name__)
        nums = checks.count("nums", nums, "the number of samples in the batch, an integer of 0 or more", least=0)
        checks.done()
        if nums == 0 or (not isinstance(portion, Tensor) and portion == 0):
            return
        value, count = value.detach().to(self.norm_sum), nums * portion
        if isinstance(count, Tensor):
            count = count.detach().to(self.norm_sum)
            value = torch.where(count > 0, value, 0.0)
        self.norm_sum.add_(value * count)
        self.norm_count.add_(count)
        norm = (self.norm_sum / self.norm_count).to(self.norm)
        self.norm.copy_(torch.where(self.norm_count > 0, norm, self.norm))

    def sync(self, world_size: int | None = None) -> None:
        """Set the norm to the average over all ranks, which must have the same loss; see `sync_norms`."""
        from lossreg.losses.description import describe  # it imports this module

        facts = {f"the loss of {self.name!r}": describe(self)} if several() else {}
        sync_norms({self.name: self}, world_size, facts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningNorm:
        """Move the statistics with `to(device)`, but do not cast them."""
        was_set = self.is_set
        own = {id(self._buffers[name]): self._buffers[name] for name in STATISTICS}

        def kept(tensor: Tensor) -> Tensor:
            if id(tensor) not in own:
                return fn(tensor)
            try:
                changed = fn(tensor)
            except TypeError:  # MPS has no float64
                changed = fn(tensor.float())
            if changed.dtype == tensor.dtype:
                return changed
            narrow = changed.device.type == "mps" and tensor.is_floating_point()
            return tensor.to(changed.device, torch.float32 if narrow else tensor.dtype)

        super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        self._unset_at = -1 if was_set else self._writes()
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Check the norms of this loss and of the losses inside it before loading any of them."""
        problems = fit_norms(self, state_dict, prefix)
        if problems:
            raise CheckpointError(f"loss {self.name!r}" if hasattr(self, "name") else type(self).__name__, problems)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _fit_norm(self, state: dict[str, Any], prefix: str) -> list[ConfigProblem]:
        """Complete the statistics at `prefix` of an older checkpoint, and return the problems of all."""
        if prefix + "norm" in state and not any(prefix + name in state for name in STATISTICS[1:]):
            device = getattr(state[prefix + "norm"], "device", None)
            for name in STATISTICS[1:]:
                state[prefix + name] = torch.zeros((), dtype=getattr(self, name).dtype, device=device)
        held = [name for name in STATISTICS if prefix + name in state]
        problems = [_problem(prefix + name, "is missing") for name in STATISTICS if held and name not in held]
        for name in held:
            value, own = state[prefix + name], getattr(self, name)
            # it was on MPS, or the count was of whole samples
            if isinstance(value, Tensor) and (name, value.dtype) in _OLDER:
                state[prefix + name] = value = value.to(own.dtype)
            problems += check_tensor(prefix + name, value, own, *_EXPECTED[name])
        return problems


def fit_norms(losses: nn.Module, state: dict[str, Any], prefix: str) -> list[ConfigProblem]:
    """Complete the statistics of all losses of a module in a state dict, and return their problems."""
    problems: list[ConfigProblem] = []
    for path, module in losses.named_modules(remove_duplicate=False):
        if isinstance(module, RunningNorm):
            problems += module._fit_norm(state, f"{prefix}{path}." if path else prefix)
    return problems


def check_tensor(
    key: str, value: Any, own: Tensor, expected: str = "", fits: Callable[[Tensor], Tensor] | None = None
) -> list[ConfigProblem]:
    """Return the problems of a tensor in a checkpoint: its dtype, its shape or its numbers.

    Args:
        key: the key.
        value: the value in the checkpoint.
        own: the tensor that it is loaded into.
        expected: the valid numbers, in words.
        fits: a function that returns for each number whether it is valid.
    """
    if not isinstance(value, Tensor):
        return [_problem(key, f"expected a tensor, found {value!r:.100}")]
    if (value.dtype, value.shape) != (own.dtype, own.shape):
        return [_problem(key, f"expected {_described(own)}, found {_described(value)}")]
    if fits is None or not is_concrete(value):
        return []
    wrong = value.detach()[~fits(value.detach())]
    return [_problem(key, f"expected {expected}, found {wrong[0].item():.6g}")] if wrong.numel() else []


_EXPECTED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "norm": ("a finite number above 0", lambda norm: norm.isfinite() & (norm > 0)),
    "norm_sum": ("a finite number", torch.isfinite),
    "norm_count": ("a count of 0 or more", lambda count: count.isfinite() & (count >= 0)),
}


_OLDER = {("norm_sum", torch.float32), ("norm_count", torch.float32), ("norm_count", torch.int64)}


def _problem(key: str, message: str) -> ConfigProblem:
    return ConfigProblem(key, message)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def sync_norms(
    norms: Mapping[str, RunningNorm], world_size: int | None = None, facts: Mapping[str, str] | None = None
) -> None:
    """Average norms over all ranks, weighted by the samples that count, in one collective.

    Every rank gathers the same numbers and adds them in the order of the ranks, so the norms are the same on all ranks,
    bit for bit. If no rank has a count for a term (its norm was set by hand), its norm becomes the unweighted
    mean over the ranks. Each rank keeps its own sum and count. So a second sync changes nothing, and you may record
    more samples and sync again. Without a process group nothing changes.

    At each forward DistributedDataParallel copies the buffers of rank 0 to all ranks, also those of a criterion inside
    the wrapped module. So between `update_norm` and `sync` call the wrapped module itself.

    Args:
        norms: the norm of each term by name; the same names in the same order on every rank.
        world_size: if given, it must be that of the process group.
        facts: descriptions by name that must be equal on all ranks; compared before anything is averaged.

    Raises:
        DistributedError: a rank failed or died, or the ranks differ in their terms or facts (raised on every rank), or
            `world_size` is wrong.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    ranks = dist.get_world_size()
    failure = None
    if world_size is not None and world_size != ranks:
        failure = DistributedError(f"sync: world_size: expected {ranks}, as in the process group, found {world_size}")
    averages, _ = gather_norms(norms, facts=facts, failure=failure)
    with torch.no_grad():
        for name, running in norms.items():
            running.norm.fill_(averages[name].norm)


@dataclass(frozen=True)
class Average:
    """The norm of a term over all ranks and its count, which is 0 for a norm set by hand."""

    norm: float
    count: float


def gather_norms(
    norms: Mapping[str, RunningNorm],
    *,
    facts: Mapping[str, str] | None = None,
    failure: Exception | None = None,
    samples: int = 0,
    owner: str = "sync",
) -> tuple[dict[str, Average], int]:
    """Exchange norms or failures with all ranks and return the averages; no norm is changed.

    Args:
        norms: as for `sync_norms`.
        facts: as for `sync_norms`.
        failure: the error of this rank, if it failed; then every rank raises.
        samples: a number to sum over the ranks.
        owner: the name of the operation, for errors.

    Returns:
        the average of each term, and the sum of `samples`.

    Raises:
        DistributedError: as for `sync_norms`.
        Exception: `failure` itself, on the rank that failed.
    """
    facts = {"the list of terms": ", ".join(norms), **(facts or {})}
    share = _Share(
        reason=None if failure is None else reason_of(failure),
        digest=digest(facts),
        samples=samples,
        terms={name: (float(n.norm_sum), float(n.norm_count), float(n.norm)) for name, n in norms.items()},
    )
    try:
        shares = gather(share, owner)
    except DistributedError as gone:
        raise failure or gone from gone
    if failure is not None:
        raise failure
    refuse_failures([other.reason for other in shares])
    refuse_differences(facts, [other.digest for other in shares], owner)
    averages: dict[str, Average] = {}
    for name in norms:
        rows = [other.terms[name] for other in shares]
        count = sum(row[1] for row in rows)
        norm = sum(row[0] for row in rows) / count if count else sum(row[2] for row in rows) / len(rows)
        averages[name] = Average(norm, count)
    return averages, sum(other.samples for other in shares)


@dataclass(frozen=True)
class _Share:
    """The message of one rank: its error, or a digest of its facts, its samples and `(sum, count, norm)` by term."""

    reason: str | None
    digest: str
    samples: int
    terms: dict[str, tuple[float, float, float]]
