"""The scalarizers of TorchJD as weightings.

A scalarizer makes one number `S(L)` of the values `L` of all terms. Here the contribution of a term is
`w_i L_i + a_i`, with `w = dS / dL` and addends `a` with the sum `S(L) - w L`. So value and gradient of the total are
those of the scalarizer, each term has its own contribution, and schedules multiply. TorchJD computes `S` and `w`.

The weights are taken at the means of the values over the ranks, which are state. A term that is absent counts with its
last value, and before its first one with the mean of the others. They take gradients in their forward, so that no
`MultiLoss` with them can be compiled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchjd import scalarization

from lossreg import Weighting
from lossreg.arguments import Arguments
from lossreg.composition.vectors import chosen
from lossreg.composition.weighting.base import Coefficients, Domain
from lossreg.composition.weighting.uncertainty import averaged
from lossreg.losses.constants import register_constant
from lossreg.losses.ranks import add_up, several

PerTerm: TypeAlias = Mapping[str, float] | Sequence[float]
"""A number for each term: by name, or in the order of the terms."""

_LEAST = 1e-8
"""The least value that a logarithm is taken of."""


class Scalarized(Weighting):
    """A weighting by a scalarizer of TorchJD.

    A subclass writes `make`, which returns the scalarizer for `n` terms. Numbers for each term are set as
    attributes of the scalarizer, so that they move with the module to its device.
    """

    timed = False
    compiles = False

    last: Tensor  # (n,) last value of each term
    seen: Tensor  # (n,) whether there is one
    scalarizer: nn.Module

    def __init__(self) -> None:  # no options; without it the class would seem to take any
        super().__init__()

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer of TorchJD for n terms."""
        raise NotImplementedError(f"{type(self).__name__} must define make(n)")

    def per_term(self) -> Mapping[str, PerTerm | None]:
        """Return the numbers for each term by the name of the scalarizer's attribute."""
        return {}

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the last values, and make the scalarizer.

        Raises:
            ArgumentError: an option has no number for a term, or one for a term that is not there.
        """
        super().bind(names)
        n = len(self.names)
        self.register_buffer("last", torch.ones(n))
        self.register_buffer("seen", torch.zeros(n, dtype=torch.bool))
        given = Arguments(type(self).__name__)
        for name, numbers in self.per_term().items():
            found = None if numbers is None else _numbers(given, name, numbers, self.names)
            if found is None:
                self.register_buffer(f"_{name}", None, persistent=False)
            else:
                register_constant(self, f"_{name}", found)
        given.done()
        self.scalarizer = self.make(n)

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:  # noqa: ARG002
        """Take the values of the terms that are there."""
        self.last.copy_(torch.where(present, losses, self.last))
        self.seen.logical_or_(present)

    def values(self) -> Tensor:
        """Return (n,) the last values, with the mean of the others for terms that have none yet."""
        known = self.seen.sum()
        mean = torch.where(self.seen, self.last, 0.0).sum() / known.clamp_min(1)
        return torch.where(self.seen, self.last, torch.where(known > 0, mean, 1.0))

    def weights(self) -> Tensor:
        """Return (n,) the gradient of the scalarizer at the last values."""
        return self.linear()[0].detach()

    def addends(self) -> Tensor | None:
        """Return (n,) what the weighted values lack of the scalarizer's value, the same for each term."""
        return self.linear()[1].detach()

    def linear(self) -> tuple[Tensor, Tensor]:
        """Return (n,) weights and (n,) addends at the last values."""
        for name in self.per_term():
            setattr(self.scalarizer, name, getattr(self, f"_{name}"))
        with torch.enable_grad():
            values = self.values().requires_grad_()
            total: Tensor = self.scalarizer(values)
            (weights,) = torch.autograd.grad(total, values)
        rest = total.detach() - (weights * values.detach()).sum()
        return weights, (rest / len(values)).expand(len(values))

    def weighting_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that an optimizer must train; most have none."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)


# --- of the values alone --------------------------------------------------------------------------


class Constant(Scalarized):
    """Constant weights: `sum_i w_i L_i`.

    Args:
        weights: the weight of each term, by name or in the order of the terms.
    """

    def __init__(self, weights: PerTerm) -> None:
        super().__init__()
        self.preferences = weights

    def per_term(self) -> Mapping[str, PerTerm | None]:
        """Return the weights."""
        return {"weights": self.preferences}

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer."""
        return scalarization.Constant(torch.ones(n))


class COSMOS(Scalarized):
    """Weighted sum minus a penalty: `sum_i r_i L_i - lambda cos(r, L)`.

    Args:
        lambda_: the penalty; 0 or more.
        weights: the preference `r` for each term, by name or in the order of the terms.
    """

    def __init__(self, lambda_: float, weights: PerTerm) -> None:
        super().__init__()
        self.lambda_, self.preferences = _number(self, "lambda_", lambda_, least=0.0), weights

    def per_term(self) -> Mapping[str, PerTerm | None]:
        """Return the preferences."""
        return {"weights": self.preferences}

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer."""
        return scalarization.COSMOS(self.lambda_, torch.ones(n))


class GeometricMean(Scalarized):
    """Geometric mean of the values, for values above 0; one near 0 counts as 1e-8.

    TorchJD looks for values below 0, which reads one number back from a device.
    """

    domain = Domain(negative=False, zero="absent", reason="it takes the logarithm of the value")

    def make(self, n: int) -> nn.Module:  # noqa: ARG002
        """Return the scalarizer."""
        return scalarization.GeometricMean()

    def values(self) -> Tensor:
        """Return (n,) the last values, of which none is 0."""
        return super().values().clamp_min(_LEAST)


class Mean(Scalarized):
    """Mean of the values over all terms."""

    def make(self, n: int) -> nn.Module:  # noqa: ARG002
        """Return the scalarizer."""
        return scalarization.Mean()


class PBI(Scalarized):
    """Distance along a preference plus a penalty on the distance to it: `d_1 + theta d_2`.

    Args:
        theta: the penalty; 0 or more. The paper uses 5.
        weights: the preference for each term, by name or in the order of the terms.
        reference: the least value of each term, by name or in the order of the terms; None for 0.
    """

    def __init__(self, theta: float, weights: PerTerm, reference: PerTerm | None = None) -> None:
        super().__init__()
        self.theta, self.preferences = _number(self, "theta", theta, least=0.0), weights
        self.reference = reference

    def per_term(self) -> Mapping[str, PerTerm | None]:
        """Return the preferences and the reference."""
        return {"weights": self.preferences, "reference": self.reference}

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer."""
        return scalarization.PBI(self.theta, torch.ones(n))


class STCH(Scalarized):
    """Smooth maximum: `mu log sum_i exp(lambda_i (L_i - z_i) / mu)`.

    Args:
        mu: how smooth it is; above 0. The smaller, the nearer to the maximum.
        weights: the preference `lambda` for each term, by name or in the order of the terms; None for 1 / n.
        reference: the least value `z` of each term, by name or in the order of the terms; None for 0.
    """

    def __init__(self, mu: float, weights: PerTerm | None = None, reference: PerTerm | None = None) -> None:
        super().__init__()
        self.mu, self.preferences = _number(self, "mu", mu, above=0.0), weights
        self.reference = reference

    def per_term(self) -> Mapping[str, PerTerm | None]:
        """Return the preferences and the reference."""
        return {"weights": self.preferences, "reference": self.reference}

    def make(self, n: int) -> nn.Module:  # noqa: ARG002
        """Return the scalarizer."""
        return scalarization.STCH(self.mu)


class Sum(Scalarized):
    """Sum of the values."""

    def make(self, n: int) -> nn.Module:  # noqa: ARG002
        """Return the scalarizer."""
        return scalarization.Sum()


class Random(Scalarized):
    """Random weights at each step, with the sum 1.

    The draws come from torch's own generator, as dropout's do; under a process group all ranks take those of rank 0.
    Before the first step in training the weights are equal.
    """

    w: Tensor  # (n,)

    def bind(self, names: Sequence[str]) -> None:
        """Allocate equal weights."""
        super().bind(names)
        self.register_buffer("w", torch.full((len(self.names),), 1 / max(len(self.names), 1)))

    def make(self, n: int) -> nn.Module:  # noqa: ARG002
        """Return the scalarizer."""
        return scalarization.Random()

    def weights(self) -> Tensor:
        """Return (n,) the last draw."""
        return self.w

    def addends(self) -> Tensor | None:
        """Return None: the total is the weighted sum."""
        return None

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:
        """Draw new weights."""
        super().move(losses, present, epoch)
        w, _ = self.linear()
        if several():
            w = add_up(w if dist.get_rank() == 0 else torch.zeros_like(w), "Random")
        self.w.copy_(w)


# --- with parameters ------------------------------------------------------------------------------


class FAMO(Scalarized):
    """Decreases all terms at one rate (Liu et al., 2023): `c sum_i z_i log(L_i - b_i)` with `z = softmax(w)`.

    `w` moves by one step of Adam along the change of `log(L_i - b_i)` over a step of the model. TorchJD asks for the
    values of the same batch after the step. Here the next forward brings them, with its own batch; or call
    `update(values)` with those of the same batch. No optimizer trains `w`.

    Args:
        min_losses: the lower bound `b` of each term, by name or in the order of the terms; None for 0.
        lr: learning rate of `w`; 0 or more.
        weight_decay: weight decay of `w`; 0 or more.
    """

    domain = Domain(negative=False, zero="absent", reason="it takes the logarithm of the value")

    moment: Tensor  # (n,) first moment of Adam
    square: Tensor  # (n,) second moment of Adam
    steps: Tensor  # [] steps of Adam
    waits: Tensor  # [] whether the last values wait for those after the step
    counters = ("square", "steps")

    def __init__(self, min_losses: PerTerm | None = None, lr: float = 0.025, weight_decay: float = 1e-3) -> None:
        super().__init__()
        self.bounds = min_losses
        self.lr = _number(self, "lr", lr, least=0.0)
        self.weight_decay = _number(self, "weight_decay", weight_decay, least=0.0)
        self.domain = dataclasses.replace(self.domain, negative=min_losses is not None)

    def per_term(self) -> Mapping[str, PerTerm | None]:
        """Return the lower bounds."""
        return {} if self.bounds is None else {"min_losses": self.bounds}

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer, with the logits `w` as its one parameter."""
        return scalarization.FAMO(n).requires_grad_(False)

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the state of Adam."""
        super().bind(names)
        for name in ("moment", "square"):
            self.register_buffer(name, torch.zeros(len(self.names)))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("waits", torch.tensor(False))

    def values(self) -> Tensor:
        """Return (n,) the last values, none below its bound."""
        return torch.maximum(super().values(), self._bounds())

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Move `w` by the values of the last batch, computed again after the step of the model.

        Every rank must call it. Nothing moves in `eval()`.

        Args:
            values: the values of terms by name, as `MultiLoss` returns them.
        """
        active = [i for i, name in enumerate(self.names) if name in values]
        found = torch.stack([values[self.names[i]] for i in active]) if active else self.last[:0]
        if self.training:
            with torch.no_grad():
                self._descend(*self.observe(found, active))
                self.waits.fill_(False)

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:
        """Compare the values with those before, and keep them."""
        self._descend(losses, present)
        super().move(losses, present, epoch)
        self.waits.fill_(True)

    def _descend(self, losses: Tensor, present: Tensor) -> None:
        """Take one step of Adam on the logits, where there are values before the step of the model."""
        both = present & self.seen
        moving = both.any() & self.waits
        before, after = (torch.log((v - self._bounds()).clamp_min(0.0) + _LEAST) for v in (self.last, losses))
        delta = torch.where(both, before - after, 0.0)
        (w,) = self.scalarizer.parameters()
        z = torch.softmax(w, 0)
        gradient = z * (delta - (z * delta).sum()) + self.weight_decay * w
        first, second = 0.9, 0.999  # of Adam, as torch has them
        steps = self.steps + 1
        moment = first * self.moment + (1 - first) * gradient
        square = second * self.square + (1 - second) * gradient.square()
        root = torch.sqrt(square / (1 - second**steps)) + 1e-8
        for held, moved in (
            (w, w - self.lr * moment / (1 - first**steps) / root),
            (self.moment, moment),
            (self.square, square),
            (self.steps, steps),
        ):
            held.copy_(torch.where(moving, moved, held))

    def _bounds(self) -> Tensor:
        return torch.zeros_like(self.last) if self.bounds is None else cast(Tensor, self._min_losses)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"lr={self.lr}, weight_decay={self.weight_decay}"


class Learned(Scalarized):
    """A scalarizer with one parameter for each term, which the optimizer trains.

    Its weights and addends do not depend on the values, so it has no other state. Under a process group the gradient
    of the parameters is the mean over all ranks. A term with nothing to learn leaves its parameter alone.
    """

    domain = Domain(negative=False, zero="absent", reason="it weighs by one over the value")
    moves = False

    def addend(self, parameter: Tensor) -> Tensor:
        """Return (n,) what each term adds beside its weighted value."""
        raise NotImplementedError(f"{type(self).__name__} must define addend(parameter)")

    def bind(self, names: Sequence[str]) -> None:
        """Make the scalarizer; no value is kept."""
        super().bind(names)
        for name in ("last", "seen"):
            register_constant(self, name, getattr(self, name).new_ones(len(self.names), device="cpu"))

    def linear(self) -> tuple[Tensor, Tensor]:
        """Return (n,) weights and (n,) addends on the graph of the parameter."""
        ((name, own),) = self.scalarizer.named_parameters()
        with torch.enable_grad():
            parameter = averaged(own)
            values = self.values().requires_grad_()
            total = torch.func.functional_call(self.scalarizer, {name: parameter}, (values,))
            (weights,) = torch.autograd.grad(total, values, create_graph=True)
            return weights, self.addend(parameter)

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:
        """Do nothing: the optimizer moves the parameter."""

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
        counts: Tensor | None = None,
    ) -> Coefficients:
        """Return the weights and the addends of the active terms, on the graph; see `Weighting.forward`."""
        if self.training and values.device.type == "cpu":
            self.observe(values, active, counts)  # refuses, on every rank alike
        return self.hold((values > 0 if counts is None else counts > 0) & values.isfinite(), active)

    def hold(self, present: Tensor, active: Sequence[int] | None = None) -> Coefficients:
        """Return the coefficients on the graph; terms with nothing to learn leave the parameter alone."""
        weights, addends = self.linear()
        if active is not None:
            weights, addends = chosen(weights, active), chosen(addends, active)
        return Coefficients(torch.where(present, weights, weights.detach()), torch.where(present, addends, 0.0))


class IMTLL(Learned):
    """Learned scales, the loss balance of impartial multi-task learning: `sum_i exp(s_i) L_i - s_i`.

    The optimizer must train `weighting_parameters()`, without weight decay.
    """

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer."""
        return scalarization.IMTLL(n)

    def addend(self, parameter: Tensor) -> Tensor:
        """Return `-s`."""
        return -parameter


class UW(Learned):
    """Learned homoscedastic uncertainty: `sum_i exp(-s_i) L_i / 2 + s_i / 2`.

    The optimizer must train `weighting_parameters()`, without weight decay. lossreg's own `uncertainty` is the same
    with a bound on `s`.
    """

    def make(self, n: int) -> nn.Module:
        """Return the scalarizer."""
        return scalarization.UW(n)

    def addend(self, parameter: Tensor) -> Tensor:
        """Return `s / 2`."""
        return parameter / 2


def _number(weighting: Weighting, path: str, value: float, least: float = -math.inf, above: float = -math.inf) -> float:
    """Take a finite number from `least`, or above `above`."""
    given = Arguments(type(weighting).__name__)
    bound = f"above {above:g}" if above > -math.inf else f"of {least:g} or more"
    number = given.number(
        path, value, f"a finite number {bound}", lambda number: least <= number < math.inf and number > above
    )
    given.done()
    return number


def _numbers(given: Arguments, path: str, numbers: PerTerm, names: Sequence[str]) -> Tensor:
    """Return (n,) the numbers of the terms."""
    if isinstance(numbers, Mapping):
        for name in numbers:
            given.member(f"{path}.{name}", name, names, "term")
        for name in names:
            if name not in numbers:
                given.report(f"{path}.{name}", "is missing", "give a number for each term", "missing")
        found = [given.number(f"{path}.{name}", numbers.get(name, 0.0), "a finite number") for name in names]
    else:
        items = given.items(path, numbers, "a list of numbers, one for each term, or a mapping by name")
        found = [given.number(f"{path}[{i}]", item, "a finite number") for i, item in enumerate(items)]
        if len(found) != len(names) and not given.problems:
            given.report(path, f"expected {len(names)}, for {list(names)}, found {len(found)}", "", "range")
    return torch.tensor(found, device="cpu")
