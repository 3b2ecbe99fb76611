"""The losses of pytorch-metric-learning, with a miner, and with their parts by name.

Every public loss of the library is an attribute of this module: the library's class, whose constructor also takes
`miner`, and any part (a miner, distance, reducer, regularizer or inner loss) as its name, as a mapping of `name` and
arguments, or as an object.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import Tensor, nn

from lossreg.values import did_you_mean

_PARTS: Mapping[str, ModuleType] = {
    "miner": miners,
    "distance": distances,
    "reducer": reducers,
    "embedding_regularizer": regularizers,
    "weight_regularizer": regularizers,
    "loss": losses,
}
"""The modules whose classes a parameter may name."""
_TENSORS = ("weights",)


def __getattr__(name: str) -> Any:
    if not inspect.isclass(getattr(losses, name, None)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _adapted(getattr(losses, name))


@functools.cache
def _adapted(loss: Any) -> Any:
    """Return a subclass of a loss of the library that takes its parts by name, and a miner if it takes pairs."""
    signature = _signature(loss)
    mines = "indices_tuple" in inspect.signature(loss.forward).parameters and "miner" not in signature.parameters

    def initialise(self: Any, *args: Any, **options: Any) -> None:
        bound = signature.bind_partial(*args)
        given = {name: part(name, value) for name, value in {**bound.arguments, **options}.items()}
        miner = given.pop("miner", None) if mines else None
        loss.__init__(self, **given)
        if mines:
            self.miner = miner
        if "num_classes" in given:
            self.classes = given["num_classes"]  # the library sets its own attribute to 0 with its statistics

    def forward(
        self: Any,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Any:
        if self.miner is not None and indices_tuple is None:
            indices_tuple = self.miner(embeddings, labels, ref_emb, ref_labels)
        value = loss.forward(self, embeddings, labels, indices_tuple, ref_emb, ref_labels)
        if isinstance(getattr(self, "hist_", None), Tensor):
            # the library keeps the graph of the last batch, which a backward has freed
            self.hist_ = self.hist_.detach()
        return value

    doc = loss.__doc__ or f"`{loss.__name__}` of pytorch-metric-learning."
    members: dict[str, Any] = {"__init__": initialise, "__module__": __name__, "__doc__": doc}
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    if mines:
        members["forward"] = forward
        own.append(inspect.Parameter("miner", inspect.Parameter.KEYWORD_ONLY, default=None))
    rest = [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    members["__signature__"] = signature.replace(parameters=[*own, *rest])
    return type(loss.__name__, (loss,), members)


def _signature(loss: Any) -> inspect.Signature:
    """Return the signature of a loss; `*args` stands for the parameters of its base without a default."""
    own = inspect.signature(loss)
    if not any(p.kind is p.VAR_POSITIONAL for p in own.parameters.values()):
        return own
    needed = [p for p in inspect.signature(loss.__base__).parameters.values() if p.default is p.empty]
    given = [p for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
    return own.replace(parameters=[*given, *(p for p in own.parameters.values() if p.kind is not p.VAR_POSITIONAL)])


def part(parameter: str, value: Any) -> Any:
    """Return the part that a parameter names, or the value itself.

    Args:
        parameter: of a loss, or of one of its parts.
        value: `"MultiSimilarityMiner"`, also with `pml/` before it; `{"name": "TripletMarginMiner", "margin": 0.1}`; or
            anything else.

    Raises:
        ValueError: the library has no such part.
    """
    if parameter not in _PARTS:
        return torch.tensor(value) if parameter in _TENSORS and isinstance(value, list) else value
    if isinstance(value, Mapping):
        arguments = {str(key): item for key, item in value.items() if key != "name"}
        value = value.get("name")
    elif isinstance(value, str):
        arguments = {}
    else:
        return value
    home = _PARTS[parameter]
    known = [name for name, found in vars(home).items() if inspect.isclass(found) and not name.startswith("Base")]
    name = value.removeprefix("pml/") if isinstance(value, str) else value
    if name not in known:
        fix = did_you_mean(name, known) or f"the library has {', '.join(sorted(known))}"
        raise ValueError(f"{parameter}: expected the name of one, as `{{name: {known[0]}}}`, found {value!r}; {fix}")
    kind = _adapted(getattr(home, name)) if home is losses else getattr(home, name)
    made: nn.Module = kind(**{key: part(key, item) for key, item in arguments.items()})
    return made
