"""Random criteria, and what two ranks do with them: each case is plain data that follows from its number.

A case says what each rank builds (the same, or one thing apart), which keys each of its batches lacks, which values are
not finite, and whether the criterion is inside of DistributedDataParallel, beside it, or its gradients are averaged by
hand.
"""

from __future__ import annotations

import copy
import hashlib
import random

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lossreg import Loss, MultiLoss, Preprocess, calibrate_norms
from lossreg.composition.weighting.balancer import Balancer
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.lrannealing import LRAnnealing
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.shared import AtSharedParameters
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty

WEIGHTINGS = {"cov": CoV, "dwa": DWA, "gradnorm": GradNorm, "relobralo": ReLoBRaLo, "softadapt": SoftAdapt}
WEIGHTINGS |= {"uncertainty": Uncertainty, "balancer": Balancer, "lrannealing": LRAnnealing}
OPTIONS = {
    "cov": {},
    "dwa": {"temperature": 3.0},
    "gradnorm": {"lr": 0.1},
    "relobralo": {"beta": 0.5},
    "softadapt": {"order": 2},
    "uncertainty": {"classification": ["t0"]},
    "balancer": {"beta": 0.5},
    "lrannealing": {"alpha": 0.5},
}
STEPS = 3
KEYS = [f"k{i}" for i in range(5)]


# --- cases ------------------------------------------------------------------------------------------


def case(number):
    """Return the case of a number."""
    draw = random.Random(number)
    config = compound(draw, 2)
    wrap = draw.choice(["inside", "beside", "by hand"])
    if wrap != "by hand":
        for block in blocks(config):
            block["zero_weight"] = "keep"  # the other choice leaves parameters off the graph that DDP waits for
    apart = draw.random() < 0.25
    configs = [config, one_thing_apart(draw, config) if apart else config]
    talk = all(map(compares, configs))
    found = {
        "number": number,
        "configs": configs,
        "calibrate": not (apart and talk) if draw.random() < 0.5 else apart and not talk,
        "wrap": "by hand" if apart else wrap,
        "seed": draw.randrange(1000),
    }
    optional = sorted(optional_keys(config))
    required = sorted(keys_of(config) - set(optional))
    steps = []
    for _ in range(STEPS):
        lacks = [[key for key in optional if draw.random() < 0.4] for _ in range(2)]
        if draw.random() < 0.3:
            lacks[draw.randrange(2)] = optional  # all that may be absent is
        nan = [[key for key in KEYS if tolerates(config) and draw.random() < 0.05] for _ in range(2)]
        if tells(config) and not apart and required and draw.random() < 0.1:
            lacks[draw.randrange(2)].append(draw.choice(required))  # an error on one rank, maybe
        steps.append({"lacks": lacks, "nan": nan})
    return found | {"steps": steps}


def compound(draw, depth, path=""):
    names = [f"{path}t{i}" for i in range(draw.randint(1, 4))]
    terms = []
    for name in names:
        inner = compound(draw, depth - 1, f"{name}g") if depth and draw.random() < 0.4 else None
        terms.append(
            {
                "name": name,
                "group": inner,
                "key": draw.choice(KEYS),
                "power": draw.choice([1, 2]),
                "learns": draw.random() < 0.2,
                "weight": draw.choice([1.0, 0.5, 0.0, [0.0, 1.0, 0.0]]),
                "optional": draw.random() < 0.6,
                "normalize": draw.random() < 0.8,
            }
        )
    weighting = draw.choice([None, *WEIGHTINGS])
    options = OPTIONS[weighting] if weighting is not None and draw.random() < 0.5 and not path else {}
    return {
        "terms": terms,
        "weighting": None if weighting is None else [weighting, options],
        "on_nonfinite": draw.choice(["ignore"] * 4 + ["skip_term"] * 2 + ["raise"]),
        "zero_weight": draw.choice(["keep", "skip"]),
        "track_norms": draw.choice([None, None, "running"]),
        "derives": not path and draw.random() < 0.3,
    }


def one_thing_apart(draw, config):
    """Return a config that differs in one place."""
    other = copy.deepcopy(config)
    term = draw.choice(other["terms"])
    change = draw.choice(["weight", "power", "name", "order", "weighting", "on_nonfinite", "track_norms", "more"])
    if change == "weight":
        term["weight"] = 0.75
    elif change == "power" and term["group"] is None:
        term["power"] = 3
    elif change == "order" and len(other["terms"]) > 1:
        other["terms"].reverse()
    elif change == "weighting":
        name = draw.choice([w for w in WEIGHTINGS if config["weighting"] is None or w != config["weighting"][0]])
        other["weighting"] = [name, {}]
    elif change == "on_nonfinite":
        other["on_nonfinite"] = "raise" if config["on_nonfinite"] != "raise" else "skip_term"
    elif change == "track_norms":
        other["track_norms"] = None if config["track_norms"] else "running"
    elif change == "more":
        other["terms"].append({**term, "name": "one_more", "group": None})
    else:
        term["name"] = "renamed"
        if other["weighting"] is not None:
            other["weighting"][1] = {}
    return other


def blocks(config):
    """Yield a compound and its groups."""
    yield config
    for term in config["terms"]:
        if term["group"] is not None:
            yield from blocks(term["group"])


def tells(config):
    """Say whether a forward of this block ends with a collective, where a rank that failed before tells it.

    Uncertainty has its collective in the backward.
    """
    weighting = (
        config["weighting"] is not None and config["weighting"][0] != "uncertainty"
    )  # its own is in the backward
    tracks = config["track_norms"] and any(t["normalize"] and t["group"] is None for t in config["terms"])
    return weighting or config["on_nonfinite"] == "skip_term" or bool(tracks)


def compares(config):
    """Say whether the first forward of this criterion compares the ranks."""
    settings = [(b["weighting"], b["track_norms"], b["on_nonfinite"] == "skip_term") for b in blocks(config)]
    return any(map(any, settings))


def tolerates(config):
    """Say whether a value that is not finite is no error, or one that all ranks are told of."""
    return tells(config) or all(block["on_nonfinite"] != "raise" for block in blocks(config))


def keys_of(config):
    return {term["key"] for block in blocks(config) for term in block["terms"] if term["group"] is None}


def optional_keys(config):
    """Return the keys that only optional terms read."""
    keys = {True: set(), False: set()}

    def read(block, outer):
        for term in block["terms"]:
            optional = outer or term["optional"]
            if term["group"] is not None:
                read(term["group"], optional)
            else:
                keys[optional].add(term["key"])

    read(config, False)
    return keys[True] - keys[False]


# --- what is built of them ----------------------------------------------------------------------------


class Power(Loss):
    """Mean of a power of the difference, and maybe a factor that is learned."""

    def __init__(self, name, key, power, learns):
        super().__init__(name)
        self.requires = (f"pred.{key}", f"gt.{key}")
        self.power = power
        self.factor = nn.Parameter(torch.ones(())) if learns else None

    def compute(self, pred_batch, gt_batch):
        pred, gt = (self.read(pred_batch, gt_batch, key) for key in self.requires)
        value = (pred - gt).abs().pow(self.power).mean()
        return value if self.factor is None else value * self.factor.exp()


class Target(Preprocess):
    """A target of the first key, computed from another."""

    requires, provides = ("gt.source",), (f"gt.{KEYS[0]}",)

    def compute(self, pred_batch, gt_batch):
        return {self.provides[0]: gt_batch["source"] / 2}


def build(config, shared, name="multi"):
    """Return the criterion of a config; some weightings compare gradients at `shared`."""
    losses = [
        build(term["group"], shared, term["name"])
        if term["group"] is not None
        else Power(term["name"], term["key"], term["power"], term["learns"])
        for term in config["terms"]
    ]
    weighting = None
    if config["weighting"] is not None:
        kind, options = config["weighting"]
        weighting = WEIGHTINGS[kind](**options)
        if isinstance(weighting, AtSharedParameters):
            weighting.set_shared_parameters(shared)
    return MultiLoss(
        losses,
        [term["weight"] for term in config["terms"]],
        [0, 1, 2],
        [Target()] if config["derives"] else [],
        name=name,
        unnormalized=[t["name"] for t in config["terms"] if not t["normalize"]],
        optional_terms=[t["name"] for t in config["terms"] if t["optional"]],
        weighting=weighting,
        zero_weight=config["zero_weight"],
        on_nonfinite=config["on_nonfinite"],
        track_norms=config["track_norms"],
    )


class Network(nn.Module):
    """A layer that all terms share, a head for each key, and maybe the criterion."""

    def __init__(self, keys):
        super().__init__()
        torch.manual_seed(3)
        self.trunk = nn.Linear(2, 2)
        self.heads = nn.ModuleDict({key: nn.Linear(2, 1) for key in keys})
        self.criterion = None

    def forward(self, image, target=None, epoch=None, lacks=()):
        hidden = self.trunk(image)
        pred = {key: head(hidden) for key, head in self.heads.items()}
        if self.criterion is None:
            return pred
        return self.criterion(pred, lacking(target, lacks), epoch=epoch)[0]


def lacking(batch, keys):
    return {key: value for key, value in batch.items() if key not in keys}


def batch(config, generator, nan=()):
    target = {key: torch.rand(4, 1, generator=generator) + 1 for key in KEYS}
    for key in nan:
        target[key][0] = float("nan")
    if config["derives"]:
        target["source"] = target.pop(KEYS[0])
    return torch.rand(4, 2, generator=generator), target


# --- what a rank does with a case -----------------------------------------------------------------------


def run(given, rank):
    """Train a few steps of a case, and return a digest of each state, or the error."""
    config = given["configs"][rank]
    network = Network(sorted(keys_of(config)))
    criterion = build(config, list(network.trunk.parameters()))
    try:
        train(given, config, network, criterion, rank)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    state = {**network.state_dict(), **{f"criterion.{k}": v for k, v in criterion.state_dict().items()}}
    return {key: digest(value) for key, value in state.items()}


def waited(answer):
    """Say whether an answer is the error of a rank that waited for the other, or met another collective of it."""
    return isinstance(answer, str) and any(sign in answer for sign in ("did not answer", "gloo", "onnection"))


def alike(answers):
    """Return whether two ranks ended in equal state, with the same error, or with errors that the other knew.

    A rank that failed raises its own error; so each of two that failed at one time does.
    """
    first, second = answers
    if first == second:
        return True
    failed = [rank for rank, answer in enumerate(answers) if isinstance(answer, str)]
    told = [rank for rank in failed if answers[rank].startswith("DistributedError: ")]
    if failed != [0, 1] or len(told) == 2:
        return False
    return not told or answers[told[0]] == f"DistributedError: rank {1 - told[0]} failed with {answers[1 - told[0]]}"


def train(given, config, network, criterion, rank):
    generator = torch.Generator().manual_seed(given["seed"] + rank)
    if given["calibrate"]:
        share = [batch(config, generator)] * (1 + rank)
        calibrate_norms(
            criterion, network, share, min_samples=1, batch_fn=lambda model, b: (model(b[0]), b[1], 4), progress=False
        )
    if given["wrap"] == "inside":
        network.criterion = criterion
    model = network if given["wrap"] == "by hand" else DistributedDataParallel(network)
    by_ddp = {id(p) for p in network.parameters()} if model is not network else set()
    own = {id(p) for p in criterion.weighting_parameters()}  # averaged by the weighting itself
    parameters = {id(p): p for p in (*network.parameters(), *criterion.parameters())}
    for epoch, step in enumerate(given["steps"]):
        image, target = batch(config, generator, step["nan"][rank])
        for parameter in parameters.values():
            parameter.grad = None
        if given["wrap"] == "inside":
            total = model(image, target, epoch, step["lacks"][rank])
        else:
            total, _, _ = criterion(model(image), lacking(target, step["lacks"][rank]), epoch=epoch)
        total.backward()
        for key, parameter in parameters.items():
            if key not in by_ddp | own:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(parameter.grad)
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad


def digest(tensor):
    tensor = tensor.detach()
    tensor = tensor.nan_to_num(nan=-12345.0) if tensor.is_floating_point() else tensor
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:12]
