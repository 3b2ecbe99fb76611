"""The running norm of a loss: a sample-weighted average of its raw value, the same on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.errors import CheckpointError, ConfigProblem, DistributedError
from lossreg.losses.ranks import digest, gather, reason_of, refuse_differences, refuse_failures, several

STATISTICS = ("norm", "norm_sum", "norm_count")


@torch.library.custom_op("lossreg::snapshot", mutates_args=())
def _opaque_clone(state: Tensor) -> Tensor:
    return state.clone()


@_opaque_clone.register_fake
def _(state: Tensor) -> Tensor:
    return torch.empty_like(state)


def snapshot(state: Tensor) -> Tensor:
    """Copy a state, for a backward that comes after it has moved.

    A compiler makes cheap values anew in the backward, of what the buffers hold by then; into an operator that it does
    not know it does not look.
    """
    detached = state.detach()
    if torch.compiler.is_compiling():
        copied: Tensor = _opaque_clone(detached)
        return copied
    return detached.clone()


class RunningNorm(nn.Module):
    """Own the buffers `norm`, `norm_sum` and `norm_count`, and keep the first the ratio of the others.

    The buffers are part of `state_dict`; one that holds `norm` alone loads strictly, as a norm set by hand.
    They keep their own precision when the module is cast (`half()`, `bfloat16()`).
    """

    name: str
    norm: Tensor  # [1], float32: what a normalised forward divides by
    norm_sum: Tensor  # [], float64: sum of value * samples that this rank has seen
    norm_count: Tensor  # [], int64: samples that this rank has seen

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm", torch.ones(1))
        self.register_buffer("norm_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("norm_count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def reset_norm(self) -> None:
        """Forget every sample and set the norm to 1."""
        self.norm.fill_(1.0)
        self.norm_sum.zero_()
        self.norm_count.zero_()

    @torch.no_grad()
    def record(self, value: Tensor, nums: int) -> None:
        """Add a mean `value` over `nums` samples to the running average; no sample changes nothing.

        Args:
            value: scalar, the raw loss of a batch.
            nums: samples in that batch, 0 or more.
        """
        given = Arguments(f"loss {self.name!r}" if hasattr(self, "name") else type(self).__name__)
        nums = given.count("nums", nums, "the number of samples in the batch, an integer of 0 or more", least=0)
        given.done()
        if nums == 0:
            return
        self.norm_sum.add_(value.detach().to(self.norm_sum) * nums)
        self.norm_count.add_(nums)
        self.norm.fill_(self.norm_sum / self.norm_count)

    def sync(self, world_size: int | None = None) -> None:
        """Set the norm to the average over all ranks, which must hold the same loss; see `sync_norms`."""
        from lossreg.losses.description import describe  # it describes losses, which are norms

        facts = {f"the loss of {self.name!r}": describe(self)} if several() else {}
        sync_norms({self.name: self}, world_size, facts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningNorm:
        """Let `to(device)` move the statistics, and keep casts away from them."""
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
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Check the norms of this loss and of all in it before any of them is loaded."""
        problems = fit_norms(self, state_dict, prefix)
        if problems:
            raise CheckpointError(f"loss {self.name!r}" if hasattr(self, "name") else type(self).__name__, problems)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _fit_norm(self, state: dict[str, Any], prefix: str) -> list[ConfigProblem]:
        """Complete the statistics at `prefix` where an older program wrote them, and say what is wrong with them."""
        if prefix + "norm" in state and not any(prefix + name in state for name in STATISTICS[1:]):
            device = getattr(state[prefix + "norm"], "device", None)
            for name in STATISTICS[1:]:
                state[prefix + name] = torch.zeros((), dtype=getattr(self, name).dtype, device=device)
        held = [name for name in STATISTICS if prefix + name in state]
        problems = [_problem(prefix + name, "is missing") for name in STATISTICS if held and name not in held]
        for name in held:
            value, own = state[prefix + name], getattr(self, name)
            if name == "norm_sum" and isinstance(value, Tensor) and value.dtype == torch.float32:  # it was on MPS
                state[prefix + name] = value = value.to(own.dtype)
            problems += check_tensor(prefix + name, value, own, *_EXPECTED[name])
        return problems


def fit_norms(losses: nn.Module, state: dict[str, Any], prefix: str) -> list[ConfigProblem]:
    """Complete the statistics of all losses in a module in a state dict, and say what is wrong with them."""
    problems: list[ConfigProblem] = []
    for path, module in losses.named_modules(remove_duplicate=False):
        if isinstance(module, RunningNorm):
            problems += module._fit_norm(state, f"{prefix}{path}." if path else prefix)
    return problems


def check_tensor(
    key: str, value: Any, own: Tensor, expected: str = "", fits: Callable[[Tensor], Tensor] | None = None
) -> list[ConfigProblem]:
    """Say what is wrong with a tensor of a checkpoint: its dtype, its shape or a number in it.

    Args:
        key: its key.
        value: what the checkpoint holds.
        own: the tensor that it is loaded into.
        expected: which numbers fit, in words.
        fits: whether they do, for each of them.
    """
    if not isinstance(value, Tensor):
        return [_problem(key, f"expected a tensor, found {value!r:.100}")]
    if (value.dtype, value.shape) != (own.dtype, own.shape):
        return [_problem(key, f"expected {_described(own)}, found {_described(value)}")]
    if fits is None or type(value) not in (Tensor, nn.Parameter) or value.is_meta:  # there may be no values to look at
        return []
    wrong = value.detach()[~fits(value.detach())]
    return [_problem(key, f"expected {expected}, found {wrong[0].item():.6g}")] if wrong.numel() else []


_EXPECTED: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "norm": ("a finite number above 0", lambda norm: norm.isfinite() & (norm > 0)),
    "norm_sum": ("a finite number", torch.isfinite),
    "norm_count": ("a count of 0 or more", lambda count: count >= 0),
}


def _problem(key: str, message: str) -> ConfigProblem:
    return ConfigProblem(key, message)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def sync_norms(
    norms: Mapping[str, RunningNorm], world_size: int | None = None, facts: Mapping[str, str] | None = None
) -> None:
    """Average norms over all ranks, weighted by the samples that each has seen, in one collective.

    Every rank gathers the same numbers and adds them in the order of the ranks, so all ranks end with the
    same norms bit for bit. Where no rank has counted a sample for a term (a norm set by hand), its norm
    becomes the plain mean of the ranks. Each rank keeps its own sum and count: to sync twice changes
    nothing, and to record more samples and sync again is exact. Without a process group nothing changes.

    DistributedDataParallel copies the buffers of rank 0 to all ranks at each forward, those of a criterion
    inside of the wrapped module too: between `update_norm` and `sync`, call the module that it wraps.

    Args:
        norms: name of each term -> its norm; the same names in the same order on every rank.
        world_size: checked against the process group's own where given.
        facts: what the ranks must have in common, by name; compared before anything is averaged.

    Raises:
        DistributedError: a rank failed or died, or the ranks differ in their terms or facts, raised alike on every
            rank; or `world_size` is not the process group's.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    ranks = dist.get_world_size()
    failure = None
    if world_size is not None and world_size != ranks:
        failure = DistributedError(f"sync: world_size is {world_size}, but the process group has {ranks} ranks")
    averages, _ = gather_norms(norms, facts=facts, failure=failure)
    with torch.no_grad():
        for name, running in norms.items():
            running.norm.fill_(averages[name].norm)


@dataclass(frozen=True)
class Average:
    """The norm of a term over all ranks, and the samples behind it; none where it was set by hand."""

    norm: float
    count: int


def gather_norms(
    norms: Mapping[str, RunningNorm],
    *,
    facts: Mapping[str, str] | None = None,
    failure: Exception | None = None,
    samples: int = 0,
    owner: str = "sync",
) -> tuple[dict[str, Average], int]:
    """Tell all ranks what this one has seen, or why it failed, and return the averages over all; change nothing.

    Args:
        norms: as for `sync_norms`.
        facts: as for `sync_norms`.
        failure: what this rank failed with; then every rank raises.
        samples: a number to add up over the ranks.
        owner: who asks, for errors.

    Returns:
        the average of each term, and the sum of `samples`.

    Raises:
        DistributedError: as `sync_norms`.
        Exception: `failure` itself, on the rank that failed.
    """
    facts = {"the list of terms": ", ".join(norms), **(facts or {})}
    share = _Share(
        reason=None if failure is None else reason_of(failure),
        digest=digest(facts),
        samples=samples,
        terms={name: (float(n.norm_sum), int(n.norm_count), float(n.norm)) for name, n in norms.items()},
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
    """What one rank tells the others: why it failed, or what it is and its samples and `(sum, count, norm)` by term."""

    reason: str | None
    digest: str
    samples: int
    terms: dict[str, tuple[float, int, float]]
