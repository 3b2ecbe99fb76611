"""What the ranks of a gloo process group do when the tests ask.

The tests import this file too, for `build`, so that they and the ranks speak of the same criterion.
"""

from __future__ import annotations

import functools
import os
import signal
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import random_criteria
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lossreg
from lossreg import Loss, LossWrapper, MultiLoss, calibrate_norms
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import DistributedError
from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.training.log import TermLog
from lossreg.training.monitor import Monitor


class Scaled(Loss):
    """Mean of a power of the difference."""

    def __init__(self, name, power):
        super().__init__(name)
        self.power = power

    def compute(self, pred_batch, gt_batch):
        return (pred_batch - gt_batch).abs().pow(self.power).mean()


def build(names=("near", "far", "deep")):
    """A criterion with a group, a foreign loss and a term that is not normalised."""
    near, far, deep = names
    group = MultiLoss([Scaled(deep, 3), LossWrapper(nn.L1Loss(), "l1")], [1.0, 2.0], name="group")
    terms = [Scaled(near, 1), Scaled(far, 2), group, Scaled("plain", 1)]
    return MultiLoss(terms, [1.0, 0.5, 0.25, 0.125], unnormalized=("plain",))


def default(power):
    return lambda p, g, k=power: (p - g).abs().pow(k).mean()


def closure(power):
    return lambda p, g: (p - g).abs().pow(power).mean()


def one(loss=None, weight=1.0, thresholds=None, pre_processes=(), **options):
    """A criterion of one term `a`, a group with the term `b`, and what an option changes of it."""
    inner = {"weighting": options.pop("inner")} if "inner" in options else {}
    group = MultiLoss([LossWrapper(nn.L1Loss(), "b")], [1.0], name="group", **inner)
    terms = [LossWrapper(nn.L1Loss() if loss is None else loss, "a", **options.pop("wrap", {})), group]
    return MultiLoss(terms, [weight, 1.0], thresholds, pre_processes, **options)


class Shift(lossreg.Preprocess):
    """A preprocess with an option."""

    requires, provides = ("gt.x",), ("gt.y",)

    def __init__(self, by):
        super().__init__()
        self.by = by

    def compute(self, pred_batch, gt_batch):
        return {"gt.y": gt_batch["x"] + self.by}


class Scheduled:
    """A weight that is an object of one's own."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, epoch):
        return self.slope * epoch


CRITERIA = {
    "plain": one,
    "other loss": lambda: one(nn.HuberLoss()),
    "other argument": lambda: one(nn.HuberLoss(delta=2.0)),
    "registered": lambda: MultiLoss([lossreg.create_loss("torch/HuberLoss", name="a", delta=1.0)], [1.0]),
    "registered with another argument": lambda: MultiLoss(
        [lossreg.create_loss("torch/HuberLoss", name="a", delta=2.0)], [1.0]
    ),
    "class weights": lambda: one(nn.CrossEntropyLoss(weight=torch.tensor([0.2, 0.8]))),
    "other class weights": lambda: one(nn.CrossEntropyLoss(weight=torch.tensor([0.2, 0.7]))),
    "many class weights": lambda: one(nn.CrossEntropyLoss(weight=torch.arange(50.0))),
    "other many class weights": lambda: one(nn.CrossEntropyLoss(weight=torch.arange(50.0).flip(0))),
    "partial": lambda: one(functools.partial(nn.functional.huber_loss, delta=1.0)),
    "other partial": lambda: one(functools.partial(nn.functional.huber_loss, delta=2.0)),
    "lambda": lambda: one(lambda p, g: (p - g).abs().mean()),
    "other lambda": lambda: one(lambda p, g: (p + g).abs().mean()),
    "other constant of a lambda": lambda: one(lambda p, g: 2 * (p - g).abs().mean()),
    "closure": lambda: one(closure(1)),
    "other closure": lambda: one(closure(2)),
    "default": lambda: one(default(1)),
    "other default": lambda: one(default(2)),
    "key": lambda: one(wrap={"pred_key": "x"}),
    "channels": lambda: one(wrap={"pred_channels": [0, 1]}),
    "reduction": lambda: one(wrap={"reduction": "sum"}),
    "deep supervision": lambda: MultiLoss([DeepSupervision(LossWrapper(nn.L1Loss(), "a"), "x")], [1.0]),
    "other scales": lambda: MultiLoss([DeepSupervision(LossWrapper(nn.L1Loss(), "a"), "x", "same")], [1.0]),
    "weight": lambda: one(weight=2.0),
    "schedule": lambda: one(weight=[0.0, 1.0], thresholds=[0, 5]),
    "other thresholds": lambda: one(weight=[0.0, 1.0], thresholds=[0, 6]),
    "function of the epoch": lambda: one(weight=lambda epoch: 1 / (1 + epoch)),
    "other function of the epoch": lambda: one(weight=lambda epoch: 1 / (2 + epoch)),
    "object of the epoch": lambda: one(weight=Scheduled(0.5)),
    "other object of the epoch": lambda: one(weight=Scheduled(0.25)),
    "not normalised": lambda: one(unnormalized=["a"]),
    "none normalised": lambda: one(normalize=False),
    "optional": lambda: one(optional_terms=["a"]),
    "optional group": lambda: one(optional_terms=["group"]),
    "zero weight": lambda: one(zero_weight="skip"),
    "not finite": lambda: one(on_nonfinite="raise"),
    "running norms": lambda: one(track_norms="running"),
    "momentum": lambda: one(track_norms="running", norm_momentum=0.5),
    "limits": lambda: one(normalization_params={"max_samples": 100}),
    "weighting": lambda: one(weighting=DWA()),
    "other option of the weighting": lambda: one(weighting=DWA(temperature=3.0)),
    "weighting of a group": lambda: one(inner=DWA()),
    "uncertainty": lambda: one(weighting=Uncertainty()),
    "classification": lambda: one(weighting=Uncertainty(classification=["a"])),
    "preprocess": lambda: one(pre_processes=[Shift(1.0)]),
    "other option of the preprocess": lambda: one(pre_processes=[Shift(2.0)]),
    "function before": lambda: one(pre_processes=[lambda p, g: (p, g)]),
}


def norms(criterion):
    return {path: term.loss.norm.item() for path, term in criterion.leaves()}


class Network(nn.Module):
    """A network with buffers that a training forward changes, and maybe the criterion inside."""

    def __init__(self, criterion=None):
        super().__init__()
        torch.manual_seed(7)
        self.linear = nn.Linear(2, 2)
        self.bn = nn.BatchNorm1d(2)
        self.criterion = criterion

    def forward(self, image, target=None):
        pred = self.bn(self.linear(image))
        return pred if target is None else self.criterion(pred, target)[0]


def batches(sizes, seed):
    """Pairs of random tensors of these numbers of samples."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.rand(2, size, 2, generator=generator)) for size in sizes]


# --- what a rank can be asked to do -----------------------------------------------------------------


def sync(rank, ranks, records, later=(), world_size=None):
    """Record values, synchronise twice, record more, synchronise again."""
    loss = Scaled("a", 1)
    seen = []
    for share in (records, (), later):
        for value, nums in share:
            loss.record(torch.tensor(value), nums)
        loss.sync(world_size)
        seen.append((loss.norm.item(), loss.norm_sum.item(), loss.norm_count.item()))
    return seen


def sync_by_hand(rank, ranks, norm):
    loss = Scaled("a", 1)
    loss.norm.fill_(norm)
    loss.sync()
    return loss.norm.item()


def sync_names(rank, ranks, names):
    criterion = build(names)
    criterion.update_norm(torch.full((2,), rank + 1.0), torch.zeros(2), 1)
    before = norms(criterion)
    try:
        criterion.sync()
    finally:
        assert norms(criterion) == before, "a failed sync changed a norm"


def compare(rank, ranks, criteria):
    """Synchronise one pair of criteria after the other, and say for each what came of it."""
    answers = []
    for name in criteria:
        criterion = CRITERIA[name]()
        for _, term in criterion.leaves():
            term.loss.record(torch.tensor(rank + 1.0), 1)
        before = norms(criterion)
        try:
            criterion.sync()
        except DistributedError as error:
            assert norms(criterion) == before, "a failed sync changed a norm"
            answers.append(str(error))
        else:
            answers.append(norms(criterion))
    return answers


def compare_losses(rank, ranks, delta):
    LossWrapper(nn.HuberLoss(delta=delta), "a").sync()


def calibrate_with(rank, ranks, criterion="plain", **options):
    """Calibrate over two samples a rank."""
    found = CRITERIA[criterion]()
    calibrate_norms(
        found, nn.Identity(), batches([2], rank), batch_fn=lambda _, b: (*b, len(b[0])), **{"min_samples": 1} | options
    )
    return norms(found)


def agree(rank, ranks, cases, journal):
    """Do what `random_criteria` says of each case, up to one where a rank waits for the other."""
    answers = []
    for case in cases:
        Path(journal, str(rank)).write_text(repr(case))
        answers.append(random_criteria.run(case, rank))
        if random_criteria.waited(answers[-1]):
            break
    return answers


def evaluate_alone(rank, ranks):
    """Evaluate on rank 0, where a training forward would have collectives."""
    criterion = one(on_nonfinite="skip_term", track_norms="running", weighting=Uncertainty(), inner=DWA()).eval()
    if rank:
        return None
    total, _, _ = criterion(torch.full((2,), float("nan")), torch.zeros(2), epoch=0)
    return total.item(), criterion.skipped.tolist()


def sync_group(rank, ranks, sizes, seed):
    """Accumulate by update_norm, for comparison with calibrate."""
    criterion = build()
    for pred, gt in batches(sizes, seed):
        criterion.update_norm(pred, gt, len(pred))
    criterion.sync()
    return norms(criterion)


def resume(rank, ranks, records, later):
    """Stop in the middle of a norm pass, and go on in a new object from the state of this rank."""
    first, second = Scaled("a", 1), Scaled("a", 1)
    for value, nums in records:
        first.record(torch.tensor(value), nums)
    second.load_state_dict(first.state_dict())
    for loss in (first, second):
        for value, nums in later:
            loss.record(torch.tensor(value), nums)
        loss.sync()
    return first.norm.item(), second.norm.item()


def calibrate(rank, ranks, sizes, seed, names=("near", "far", "deep"), fault=None, wrap="", **options):
    """Calibrate over a share; `fault` says what goes wrong at its last batch."""
    criterion = build(names)
    for _, term in criterion.leaves():
        term.loss.norm.fill_(0.5)
    model = Network(criterion if wrap == "inside" else None)
    outer = DistributedDataParallel(model) if wrap else model
    share, asked = batches(sizes, seed), 0

    def batch_fn(given, batch):
        nonlocal asked
        asked += 1
        if fault is not None and asked == len(share):
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "nan":
                return batch[0] * float("nan"), batch[1], len(batch[0])
            raise {"value": ValueError, "key": KeyError}[fault](f"bad file of rank {rank}")
        if wrap:
            given(batch[0])
        return batch[0], batch[1], len(batch[0])

    try:
        returned = calibrate_norms(criterion, outer, share, batch_fn=batch_fn, **{"min_samples": 0} | options)
    except Exception:
        assert set(norms(criterion).values()) == {0.5}, "a failed calibration changed a norm"
        assert not criterion.calibrated
        raise
    assert returned == {path: norm for path, norm in norms(criterion).items() if path != "plain"}
    assert criterion.calibrated
    return norms(criterion)


def calibrate_and_train(rank, ranks, sizes, seed, inside, mode="eval"):
    """Calibrate a wrapped network over unequal shares, then train a step on one batch of each rank."""
    criterion = build()
    model = Network(criterion if inside else None)
    wrapped = DistributedDataParallel(model)
    calibrate_norms(criterion, wrapped, batches(sizes, seed), min_samples=1, mode=mode)
    calibrated = norms(criterion)
    image, target = batches([4], 100 + rank)[0]
    wrapped.eval()  # so that the joined batch of the test sees the same batch norm
    total = wrapped(image, target) if inside else criterion(wrapped(image), target)[0]
    total.backward()
    wrapped(image)
    assert norms(criterion) == calibrated, "a forward of DDP changed a norm"
    criterion.sync()
    again = norms(criterion)
    return calibrated, again, [p.grad.tolist() for p in model.linear.parameters()]


class Scored(nn.Module):
    """A network that returns losses of its own: those of some names, each the mean of an output's square."""

    def __init__(self, names):
        super().__init__()
        self.names = list(names)
        self.linear = nn.Linear(3, len(self.names))

    def forward(self, x, present):
        outputs = self.linear(x).square().mean(0)
        return {name: outputs[i] for i, name in enumerate(self.names) if name in present}


def members(rank, ranks, cases):
    """Meet the members of a model's dictionaries in evaluation and in training, where each rank has others."""
    return [_members(rank, **case) for case in cases]


def _members(rank, names, looked, steps, options, calibrate):
    """Return the members, norms, totals and gradients that this rank ends with, or its error."""
    torch.manual_seed(0)
    model = Scored(names)
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    criterion = MultiLoss([lossreg.FromDict(key="losses", name="det", **options)], [1.0])
    torch.manual_seed(1 + rank)
    totals = []
    try:
        for present in looked[rank]:
            criterion.eval()({"losses": model(torch.randn(2, 3), present)}, None, epoch=0)
        criterion.train()
        if calibrate:
            data = [torch.randn(2, 3) for _ in range(2 + rank)]
            calibrate_norms(
                criterion, model, data, batch_fn=lambda m, x: ({"losses": m(x, steps[0][rank])}, None, 2), min_samples=1
            )
        for epoch, presents in enumerate(steps):
            losses = wrapped(torch.randn(2, 3), presents[rank])
            total, values, _ = criterion({"losses": losses}, None, epoch=epoch)
            wrapped.zero_grad()
            total.backward()
            totals.append((float(total.detach()), sorted(values)))
    except (lossreg.LossregError, DistributedError) as error:
        return f"{type(error).__name__}: {error}"
    (group,) = criterion._dictionaries
    own = [float(norm) for norm in (loss.norm for loss in group.loss_funcs)]
    weights = {name: float(value) for name, value in criterion.coefficients().items()}
    return {
        "names": group.names,
        "norms": own,
        "weights": weights,
        "gradients": [parameter.grad.tolist() for parameter in model.parameters()],
        "totals": totals,
    }


def change_weights(rank, ranks, weights, at="group/b", checkpoint=False, windowed=False, **options):
    """Train a step under DDP for each of some weights, set before it (None: nothing); return totals and gradients.

    Args:
        checkpoint: whether to go on, after each step, in another criterion that its checkpoint is loaded into.
        windowed: whether each step is a window over two micro-batches.
    """
    torch.manual_seed(0)
    network, found = nn.Linear(3, 1), []
    wrapped = DistributedDataParallel(network)
    criterion = one(**options)
    torch.manual_seed(1 + rank)
    try:
        for weight in weights:
            if weight is not None:
                criterion.set_weight(at, weight)
            micro = [(torch.randn(2, 3), torch.randn(2, 1)) for _ in range(1 + windowed)]
            wrapped.zero_grad()
            with criterion.window([y for _, y in micro]) if windowed else nullcontext():
                totals = [criterion(wrapped(x), y, epoch=len(found))[0] for x, y in micro]
                sum(totals).backward()
            found.append((float(sum(totals).detach()), network.weight.grad.tolist()))
            if checkpoint:
                state, criterion = criterion.state_dict(), one(**options)
                criterion.load_state_dict(state)
    except (DistributedError, RuntimeError) as error:
        found.append(f"{type(error).__name__}: {error}")
        dist.barrier() if "on rank" in str(error) else None
    return found


WEIGHTINGS = {"uncertainty": Uncertainty, "dwa": DWA, "cov": CoV}
PLACES = ("outer", "inner", "both")


def weighed_windows(rank, ranks, weighting, place, cuts, lacking=(), single=False, group="plain", steps=3):
    """Train windows over a batch that is cut over ranks; return totals, the gradient of `s` and states of weightings.

    Args:
        weighting: of the criterion, of its group, or of both, as `place` says.
        cuts: for each rank the samples of each of its micro-batches.
        lacking: ranks whose batches have no target of the group.
        single: whether each rank has one micro-batch, in a forward of `reduce_over: ranks`.
        group: `plain`; `deep`, with deep supervision of its members; or `from_dict`, of losses that the model computes.
    """
    made = {where: WEIGHTINGS[weighting]() if place in (where, "both") else None for where in ("outer", "inner")}
    kinds = {"b": nn.L1Loss, "c": nn.MSELoss}
    members = [LossWrapper(kind(), name, pred_key="y", gt_key="z") for name, kind in kinds.items()]
    if group == "deep":
        members = [DeepSupervision(member, "y") for member in members]
        for member in members:
            member.approximate = True
    options = {"name": "group", "weighting": made["inner"]}
    inner = (
        lossreg.FromDict({"b": 1.0, "c": 2.0}, key="own", approximate=True, **options)
        if group == "from_dict"
        else MultiLoss(members, [1.0, 2.0], optional_terms=["b", "c"], **options)
    )
    terms = [LossWrapper(nn.L1Loss(), "a", pred_key="x", gt_key="z0"), inner]
    criterion = MultiLoss(terms, [0.5, 3.0], weighting=made["outer"]).double()
    criterion.reduce_over = "ranks" if single and ranks > 1 else None
    for number, (_, term) in enumerate(criterion.leaves(), 2):
        term.loss.norm.fill_(number)
    learned = [weighting.s for weighting in made.values() if hasattr(weighting, "s")]
    for s in learned:
        nn.init.constant_(s, 0.7)
    totals = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        parts = []
        for of, sizes in enumerate(cuts):
            for n in sizes:
                x, z = (torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
                targets = {"z0": z} | ({} if of in lacking else {"z": z})
                if of == rank or ranks == 1:
                    y = [x, x[..., ::2, ::2]] if group == "deep" else x
                    own = {name: kind()(x, z) if n else x.sum() for name, kind in kinds.items()}
                    parts.append(({"x": x, "y": y, "own": own}, targets))
        found = 0.0
        with nullcontext() if criterion.reduce_over else criterion.window([targets for _, targets in parts]):
            for pred, targets in parts:
                total, _, _ = criterion(pred, targets, epoch=step)
                found += float(total.detach())
                if learned and cuts[0] == cuts[-1]:  # its backward is a collective
                    total.backward()
        totals.append(found)
    gradients = [None if s.grad is None else s.grad.tolist() for s in learned]
    states = {key: value.tolist() for key, value in criterion.state_dict().items() if "weighting" in key}
    return totals, gradients, states


def shard(rank, ranks, inside):
    """Calibrate a network whose parameters FSDP2 shards, train a step, and look at the norms."""
    from torch.distributed.fsdp import fully_shard

    criterion = build()
    model = fully_shard(Network(criterion if inside else None))
    calibrate_norms(criterion, model, batches([3, 3], rank), min_samples=1)
    calibrated = norms(criterion)
    image, target = batches([4], 100 + rank)[0]
    total = model(image, target) if inside else criterion(model(image), target)[0]
    total.backward()
    assert all(type(buffer) is torch.Tensor for buffer in criterion.buffers()), "a norm was sharded"
    assert norms(criterion) == calibrated
    return calibrated


def train_wrapped(rank, ranks, name, weighting):
    """Train a network in one of the wrappings of `wrapped.py`."""
    import wrapped

    return wrapped.train(name, weighting, rank, ranks)


def train_heads(rank, ranks, name, lacks):
    """Train a network of three heads, of which one overflows and a rank may read none."""
    import wrapped

    return wrapped.train_heads(name, lacks, rank)


def window(rank, ranks, numbers, **options):
    """Compare the gradients of windows with those of joined batches, in the cases of some numbers."""
    import windows

    return windows.worst(numbers, rank, ranks, **options)


def every_loss(rank, ranks, names, numbers, **options):
    """Compare the gradients of windows with those of joined batches, for losses of all plugins."""
    import every_loss

    return every_loss.worst(names, numbers, rank, ranks, **options)


def watch(rank, ranks, numbers, absent=()):
    """Log and watch a run in which each rank has batches of its own; return what was written and found."""
    near = LossWrapper(nn.L1Loss(), "near", pred_key="y", gt_key="y")
    again = LossWrapper(nn.L1Loss(), "again", pred_key="y", gt_key="y")
    far = LossWrapper(nn.MSELoss(), "far", pred_key="z", gt_key="z")
    criterion = MultiLoss([near, again, far], [1.0, 0.5, 2.0], optional_terms=["far"])
    written = []
    with (
        TermLog(criterion, lambda numbers, step: written.append((step, numbers)), every=2) as log,
        Monitor(criterion, every=1) as monitor,
    ):
        returned = []
        for step, batch in enumerate(numbers):
            values = torch.tensor(batch, requires_grad=True)
            keys = "y" if step in absent else "yz"
            criterion(dict.fromkeys(keys, values), {key: torch.zeros(len(batch)) for key in keys})
            returned.append(log.step())
    return {
        "written": written,
        "returned": returned,
        "verdicts": [(v.kind, v.terms, v.step) for v in monitor.verdicts],
        "lengths": [{path: term.length for path, term in sample.terms.items()} for sample in monitor.samples],
    }


def alive(rank, ranks):
    """Show that the group still works."""
    one = torch.ones(1)
    dist.all_reduce(one)
    return int(one)


@contextmanager
def process_group(rank, ranks, store, timeout):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    file, limit = dist.FileStore(store, ranks), timedelta(seconds=timeout)
    file.set_timeout(limit)  # as where torch makes the store
    dist.init_process_group("gloo", store=file, rank=rank, world_size=ranks, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()


def main(orders, rank, ranks, store, timeout):
    torch.set_num_threads(1)
    with process_group(rank, ranks, str(store), timeout):
        while True:
            name, options = orders.recv()
            if name == "stop":
                return
            try:
                answer = globals()[name](rank, ranks, **options)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            orders.send(answer)
