"""Schedules, weightings and preprocesses that break their contract in one place each."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg import Preprocess, Weighting
from lossreg.composition.weighting.base import Domain

# --- schedules ------------------------------------------------------------------------------------


class Ramp:
    """It rises from 0 to `height` over ten epochs, and breaks nothing."""

    def __init__(self, height=1.0):
        self.height = height

    def __call__(self, epoch):
        """Return the weight."""
        return self.height * min(max(epoch / 10, 0.0), 1.0)


class UndocumentedRamp(Ramp):
    pass


class Silent:
    """It cannot be called."""


class Infinite(Ramp):
    """It is infinite from some epoch on."""

    def __call__(self, epoch):
        """Return the weight."""
        return float("inf") if epoch > 500 else super().__call__(epoch)


class Grows(Ramp):
    """It rises for ever."""

    def __call__(self, epoch):
        """Return the weight."""
        return self.height * max(epoch, 0.0)


class Counts(Ramp):
    """Its weight grows with every call."""

    calls = 0

    def __call__(self, epoch):
        """Return the weight."""
        self.calls += 1
        return super().__call__(epoch) + self.calls


class LambdaRamp(Ramp):
    """It keeps a function that cannot be pickled."""

    def __init__(self, height=1.0):
        super().__init__(height)
        self.change = lambda weight: weight


class CopiesAnother(Ramp):
    """Its copy has another height."""

    def __deepcopy__(self, memo):
        return CopiesAnother(self.height + 1)


class TensorRamp(Ramp):
    """A parameter that YAML cannot express."""

    def __init__(self, height):
        super().__init__(float(height))


# --- weightings -----------------------------------------------------------------------------------


class Falling(Weighting):
    """One over one plus a running mean of each term; it breaks nothing."""

    mean: Tensor

    def bind(self, names):
        """Allocate the means."""
        super().bind(names)
        self.register_buffer("mean", torch.ones(len(names)))

    def weights(self):
        """Return the weights."""
        return 1 / (1 + self.mean)

    def move(self, losses, present, epoch):
        """Move the means of the terms that are there."""
        self.mean.copy_(torch.where(present, 0.5 * self.mean + 0.5 * losses, self.mean))


class UndocumentedFalling(Falling):
    pass


class NoWeighting(nn.Module):
    """It is no weighting."""


class Divides(Falling):
    """It divides by 0."""

    def weights(self):
        """Return weights that are infinite."""
        return 1 / (self.mean - self.mean)


class Negative(Falling):
    """Its weights are below 0."""

    def weights(self):
        """Return weights below 0."""
        return -super().weights()


class ByPosition(Falling):
    """It weighs terms by their position."""

    def weights(self):
        """Return weights that grow with the position."""
        return super().weights() * torch.arange(1.0, 1 + len(self.names))


class NotFree(Falling):
    """It declares that the scale of a term is nothing to it."""

    domain = Domain(scale="own")


class OnTheGraph(Falling):
    """Its weights depend on the values."""

    def forward(self, values, active=None, epoch=None, counts=None):
        """Return weights on the graph of the values."""
        found = super().forward(values, active, epoch, counts)
        return found._replace(weights=found.weights + values - values.detach())


class MovesInEval(Falling):
    """It moves in `eval()` too."""

    def advance(self, values, active, epoch, counts=None):
        """Move the state always."""
        training, self.training = self.training, True
        super().advance(values, active, epoch, counts)
        self.training = training


class ReturnsAll(Falling):
    """It returns the weights of absent terms too."""

    def forward(self, values, active=None, epoch=None, counts=None):
        """Return the weights of all terms."""
        return super().forward(values, active, epoch, counts)._replace(weights=self.weights())


class IgnoresCounts(Falling):
    """It takes a value over nothing for a value."""

    def observe(self, values, active, counts=None):
        """Return what the state moves on, without a look at the counts."""
        return super().observe(values, active, None)


class KeepsNaN(Falling):
    """A value that is not finite gets into its state."""

    def observe(self, values, active, counts=None):
        """Return means, NaN where a value is not finite."""
        losses, present = super().observe(values, active, counts)
        return losses + torch.where(values.isfinite().all(), 0.0, torch.nan), present


class Remembers(Falling):
    """It keeps a number that no checkpoint has."""

    steps = 0

    def weights(self):
        """Return weights that fall with the steps."""
        return super().weights() / (1 + self.steps)

    def move(self, losses, present, epoch):
        """Count the step."""
        super().move(losses, present, epoch)
        self.steps += 1


class History(Falling):
    """It keeps two numbers a term on the last axis."""

    def bind(self, names):
        """Allocate the history."""
        super().bind(names)
        self.register_buffer("history", torch.zeros(len(names), 2))


class LambdaFalling(Falling):
    """It keeps a function that cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.change = lambda weight: weight


class SharesState(Falling):
    """Its copy is itself."""

    def __deepcopy__(self, memo):
        return self


class ReadsValues(Falling):
    """It reads a value back to the host."""

    def move(self, losses, present, epoch):
        """Move the means unless the losses are huge."""
        if float(losses.sum()) < 1e9:
            super().move(losses, present, epoch)


class MovesByRank(Falling):
    """Its state depends on the rank."""

    def move(self, losses, present, epoch):
        """Move the means by the losses plus the rank."""
        super().move(losses + (dist.get_rank() if dist.is_initialized() else 0), present, epoch)


class TensorFalling(Falling):
    """A parameter that YAML cannot express."""

    def __init__(self, factor):
        super().__init__()
        if not isinstance(factor, Tensor):
            raise TypeError("expected a tensor")


# --- preprocesses ---------------------------------------------------------------------------------


class Doubles(Preprocess):
    """Computes twice `gt.x`, and breaks nothing."""

    requires = ("gt.x",)
    provides = ("gt.y",)

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def compute(self, pred_batch, gt_batch):
        """Return `gt.y`."""
        return {"gt.y": self.of(gt_batch["x"])}

    def of(self, x):
        """Return the value for `gt.x`."""
        return self.factor * x


class UndocumentedDoubles(Doubles):
    pass


class NoPreprocess(nn.Module):
    """It is no preprocess."""

    requires = ("gt.x",)
    provides = ("gt.y",)


class ComputesAnother(Doubles):
    """It computes a key that it does not provide."""

    def compute(self, pred_batch, gt_batch):
        """Return `gt.z`."""
        return {"gt.z": gt_batch["x"]}


class ReadsMoreKeys(Doubles):
    """It reads a key that it does not require."""

    def compute(self, pred_batch, gt_batch):
        """Return `gt.y`."""
        return {"gt.y": self.of(gt_batch["x"]) + gt_batch["more"]}


class ChangesTheBatch(Doubles):
    """It changes the batch in place."""

    def compute(self, pred_batch, gt_batch):
        """Return `gt.y`."""
        found = super().compute(pred_batch, gt_batch)
        gt_batch["x"].zero_()
        return found


class Draws(Doubles):
    """It draws random numbers."""

    def of(self, x):
        """Return a random multiple."""
        return x * torch.rand(())


class WholeBatch(Doubles):
    """It subtracts the mean of the batch."""

    def of(self, x):
        """Return the differences from the mean."""
        return x - x.mean()


class ReadsBack(Doubles):
    """It reads a value back to the host."""

    def of(self, x):
        """Return twice the values unless they are huge."""
        return super().of(x) if float(x.sum()) < 1e9 else x


class LambdaDoubles(Doubles):
    """It keeps a function that cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.change = lambda value: value


class CopiesAnotherFactor(Doubles):
    """Its copy has another factor."""

    def __deepcopy__(self, memo):
        return CopiesAnotherFactor(self.factor + 1)


class TensorDoubles(Doubles):
    """A parameter that YAML cannot express."""

    def __init__(self, factor):
        super().__init__(float(factor))


def numbers():
    """Return a batch of three samples."""
    generator = torch.Generator().manual_seed(0)
    return {}, {"x": torch.rand(3, 4, generator=generator), "more": torch.rand(3, 4, generator=generator)}
