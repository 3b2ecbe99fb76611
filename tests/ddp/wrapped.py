"""Train a wrapped network on each rank of a group; the test trains it alone on the joined batches."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from lossreg import LossWrapper, MultiLoss, calibrate_norms
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.uncertainty import Uncertainty

WEIGHTINGS = {"none": lambda: None, "relobralo": ReLoBRaLo, "uncertainty": Uncertainty}
STEPS, BATCH = 4, 6


class Network(nn.Module):
    """Two layers, and maybe the criterion inside."""

    def __init__(self, criterion=None):
        super().__init__()
        torch.manual_seed(5)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        self.criterion = criterion

    def forward(self, image, target=None, epoch=None):
        pred = self.layers(image)
        return pred if target is None else self.criterion(pred, target, epoch=epoch)[0]


def build(weighting):
    group = MultiLoss([LossWrapper(nn.L1Loss(), "l1")], [2.0], name="group")
    terms = [LossWrapper(nn.MSELoss(), "mse"), group, LossWrapper(nn.SmoothL1Loss(), "smooth")]
    return MultiLoss(terms, [1.0, 0.5, [0.0, 1.0]], epoch_thresholds=[1, 3], weighting=WEIGHTINGS[weighting]())


def data(rank, ranks):
    """What a rank sees: an unequal share to calibrate on, and the batches of all steps."""
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.randn(20, 3, generator=generator), 3 * torch.randn(20, 2, generator=generator)
    rows = {(0, 1): slice(0, 20), (0, 2): slice(0, 7), (1, 2): slice(7, 20)}[rank, ranks]
    steps = []
    for _ in range(STEPS):
        image, target = torch.randn(BATCH, 3, generator=generator), torch.randn(BATCH, 2, generator=generator)
        steps.append((image[rank::ranks], target[rank::ranks]))
    return [(images[rows], targets[rows])], steps


def wrap(name, network, criterion):
    """Return the wrapped network and, where it stays outside, the criterion as it is called."""
    if name.startswith("fsdp"):
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        fully_shard(network.layers[0], mesh=mesh)
        return fully_shard(network, mesh=mesh), criterion
    if name == "ddp of a compiled network":
        return DistributedDataParallel(torch.compile(network, backend="aot_eager")), criterion
    if name == "compiled ddp":
        return torch.compile(DistributedDataParallel(network), backend="aot_eager"), criterion
    if name == "ddp beside a compiled criterion":
        return DistributedDataParallel(network), torch.compile(criterion, backend="aot_eager")
    return (DistributedDataParallel(network) if name else network), criterion


INSIDE = ("ddp around the criterion", "fsdp around the criterion", "ddp of a compiled network", "compiled ddp")
OUTSIDE = ("ddp beside the criterion", "fsdp beside the criterion", "ddp beside a compiled criterion")


def train(name, weighting, rank=0, ranks=1):
    """Calibrate and train; return all numbers that must not depend on the wrapping."""
    criterion = build(weighting)
    inside = name in INSIDE
    network = Network(criterion if inside else None)
    wrapped, called = wrap(name, network, criterion)
    loader, steps = data(rank, ranks)
    calibrate_norms(criterion, wrapped, loader, min_samples=1, progress=False)
    calibrated = norms(criterion)
    parameters = {id(p): p for p in (*network.parameters(), *criterion.parameters())}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.05)
    for epoch, (image, target) in enumerate(steps):
        optimizer.zero_grad()
        loss = wrapped(image, target, epoch) if inside else called(wrapped(image), target, epoch=epoch)[0]
        loss.backward()
        optimizer.step()
    assert norms(criterion) == calibrated, f"{name}: training changed a norm"
    assert all(type(buffer) is torch.Tensor for buffer in criterion.buffers()), f"{name}: a buffer is sharded"
    if name.startswith("fsdp") and inside:
        check_sharded_state(network, criterion, weighting)
    state = {} if criterion.weighting is None else criterion.weighting.state_dict()
    return {
        "norms": calibrated,
        "weighting": {key: whole(value).tolist() for key, value in state.items()},
        "parameters": [whole(parameter).tolist() for parameter in network.layers.parameters()],
    }


def check_sharded_state(network, criterion, weighting):
    """Save and load as torch.distributed.checkpoint does."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(network, options=options)
    fresh = Network(build(weighting))
    if dist.get_rank() == 0:
        fresh.load_state_dict(state)
        assert norms(fresh.criterion) == norms(criterion)
        assert fresh.criterion.calibrated
    other = Network(build(weighting))
    wrap("fsdp", other, other.criterion)
    set_model_state_dict(
        other, state, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )  # fmt: skip
    assert norms(other.criterion) == norms(criterion)


def norms(criterion):
    return {path: term.loss.norm.item() for path, term in criterion.leaves()}


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


# --- heads of which a rank may read none ------------------------------------------------------------

LACKS = {"a term is off": ("abc", "abc"), "a term on one rank": ("abc", "ab"), "all terms on one rank": ("abc", "")}
"""What is lacking, and which terms each rank has a target of."""


class Heads(nn.Module):
    """A network of three heads, of which `b` overflows, so that a gradient of zero behind it would be NaN."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Linear(3, 4)
        self.heads = nn.ModuleDict({name: nn.Linear(4, 2) for name in "abc"})

    def forward(self, image):
        features = self.body(image).relu()
        found = {name: head(features) for name, head in self.heads.items()}
        return {**found, "b": (1000 * found["b"]).exp()}


def wrap_heads(name, network):
    if name == "fsdp":
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for head in network.heads.values():
            fully_shard(head, mesh=mesh)
        return fully_shard(network, mesh=mesh)
    options = {
        "ddp": {},
        "ddp that finds unused": {"find_unused_parameters": True},
        "static ddp": {"static_graph": True},
    }
    return DistributedDataParallel(network, **options[name])


def heads_data(step, rank):
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(4, 3, generator=generator) + rank, torch.randn(4, 2, generator=generator)


def train_heads(name, lacks, rank):
    """Train three steps with a term of weight 0 for the head that overflows; return the parameters."""
    network = Heads()
    wrapped = wrap_heads(name, network)
    losses = {"a": nn.MSELoss(), "b": nn.MSELoss(), "c": nn.L1Loss()}
    terms = [LossWrapper(loss, key, pred_key=key, gt_key=key) for key, loss in losses.items()]
    criterion = MultiLoss(terms, [1.0, 0.0, 1.0], normalize=False, optional_terms=list("abc"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(3):
        image, target = heads_data(step, rank)
        optimizer.zero_grad()
        criterion(wrapped(image), dict.fromkeys(LACKS[lacks][rank], target))[0].backward()
        optimizer.step()
    return [whole(parameter).tolist() for parameter in network.parameters()]


def heads_alone(lacks):
    """Return the parameters after the same steps in one process, by PyTorch alone."""
    network = Heads()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        for rank, there in enumerate(LACKS[lacks]):
            image, target = heads_data(step, rank)
            features = network.body(image).relu()
            for key, loss in {"a": nn.functional.mse_loss, "c": nn.functional.l1_loss}.items():
                if key in there:
                    (loss(network.heads[key](features), target) / 2).backward(retain_graph=True)
        optimizer.step()
    return [parameter.tolist() for parameter in network.parameters()]
