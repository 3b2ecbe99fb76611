"""Losses that break the contract in one place each; other processes import this module."""

from __future__ import annotations

import random
import time

import torch
import torch.distributed as dist
from torch import Tensor

import lossreg


class Sound(lossreg.Loss):
    """Mean squared error, which breaks nothing."""

    requires = ("pred.seg", "gt.gt_polygons_image")

    def __init__(self, name="sound"):
        super().__init__(name)

    def compute(self, pred_batch, gt_batch):
        """Return the mean over all elements."""
        return self.between(pred_batch["seg"], gt_batch["gt_polygons_image"])

    def between(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Return the value of two tensors."""
        return (pred - gt).square().mean()


class Grows(Sound):
    """Mean squared error, of which more counts with each epoch; it breaks nothing."""

    takes_epoch = True

    def between(self, pred, gt):
        """Return the error times one more than the epoch."""
        return super().between(pred, gt) * (1 + self.current_epoch)


def growing(pred: Tensor, gt: Tensor, epoch: int) -> Tensor:
    """Return the error times one more than the epoch; it breaks nothing."""
    return (pred - gt).square().mean() * (1 + epoch)


class Undocumented(Sound):
    pass


class NeedsAnArgument(Sound):
    """A parameter has no default."""

    def __init__(self, name, factor):
        super().__init__(name)
        self.factor = factor


class TakesNoName(Sound):
    """Its constructor does not take the name of the term."""

    def __init__(self, factor=1.0):
        super().__init__("fixed")
        self.factor = factor


class TakesATensor(Sound):
    """A parameter that YAML cannot express."""

    def __init__(self, name, factor):
        super().__init__(name)
        self.register_buffer("factor", factor.clone())


class Unreduced(Sound):
    """It returns a value for each sample."""

    def between(self, pred, gt):
        """Return the means over the pixels."""
        return (pred - gt).square().flatten(1).mean(1)


class Clamps(Sound):
    """It changes the target in place."""

    def between(self, pred, gt):
        """Return the error of a target of at most a half."""
        return super().between(pred, gt.clamp_(max=0.5))


class Detached(Sound):
    """Its value is off the graph."""

    def between(self, pred, gt):
        """Return a number without a graph."""
        return super().between(pred, gt).detach()


class Random(Sound):
    """It draws a random number at each call."""

    def between(self, pred, gt):
        """Return the error times a random number."""
        return super().between(pred, gt) * torch.rand(())


class RandomOfPython(Sound):
    """It draws a random number that the kit does not seed."""

    def between(self, pred, gt):
        """Return the error times a random number."""
        return super().between(pred, gt) * random.random()


class Single(Sound):
    """It computes in float32 for every dtype."""

    def between(self, pred, gt):
        """Return a value of float32."""
        return super().between(pred.float(), gt.float())


class Overflows(Sound):
    """Its squares overflow float16."""

    def between(self, pred, gt):
        """Return the mean square."""
        return (300 * pred).square().mean()


class Wide(Sound):
    """It always returns float64."""

    def between(self, pred, gt):
        """Return the mean in float64."""
        return super().between(pred, gt).double()


class Ratio(Sound):
    """Its sums over the pixels of a large image overflow float16."""

    def between(self, pred, gt):
        """Return one minus the Dice coefficient."""
        return 1 - (2 * (pred * gt).sum() + 1) / (pred.sum() + gt.sum() + 1)


class Logarithm(Sound):
    """It takes the logarithm of a probability that may be zero."""

    def between(self, pred, gt):
        """Return the cross-entropy of the first kind."""
        return -(gt * pred.log()).mean()


class Squares(Sound):
    """It confuses width and height."""

    def between(self, pred, gt):
        """Return the error of square images."""
        width = pred.shape[-1]
        return super().between(pred.reshape(*pred.shape[:2], width, width), gt)


class Unbiased(Sound):
    """It divides by the number of pixels minus one."""

    def between(self, pred, gt):
        """Return the mean variance of the error."""
        return (pred - gt).flatten(2).var(-1).mean()


class Views(Sound):
    """It assumes contiguous memory."""

    def between(self, pred, gt):
        """Return the error of flat tensors."""
        return super().between(pred.view(-1), gt.reshape(-1))


class MeanOfNone(Sound):
    """It divides by the number of valid pixels, which may be zero."""

    optional = ("gt.valid",)

    def compute(self, pred_batch, gt_batch):
        """Return the mean over the valid pixels."""
        valid = gt_batch.get("valid", torch.ones_like(pred_batch["seg"]))
        error = (pred_batch["seg"] - gt_batch["gt_polygons_image"]).square()
        wide = torch.promote_types(error.dtype, torch.float32)
        return (error * valid).sum(dtype=wide) / valid.sum(dtype=wide)


class NotANumber(Sound):
    """It leaves NaN where the mask is 0 in its gradient."""

    masks = True

    def compute(self, pred_batch, gt_batch):
        """Return the mean over the pixels that count."""
        error = (pred_batch["seg"] - gt_batch["gt_polygons_image"]).square()
        return self.elements(pred_batch, gt_batch, error.shape).mean(error)

    def counts(self, gt_batch):
        """Return how many pixels count."""
        return [self.elements({}, gt_batch, gt_batch["gt_polygons_image"].shape).count()]


class Root(Sound):
    """It takes the root of a number that is zero in the example."""

    def between(self, pred, gt):
        """Return the mean root of the squares."""
        return (pred - gt).square().sqrt().mean()


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pred, gt):
        ctx.save_for_backward(pred, gt)
        return (pred - gt).square().mean()

    @staticmethod
    def backward(ctx, slope):
        pred, gt = ctx.saved_tensors
        return slope * 4 * (pred - gt) / pred.numel(), None


class RootOfTheMean(Sound):
    """It takes the root of an error that is zero where the prediction is the target."""

    def between(self, pred, gt):
        """Return the root of the mean square."""
        return (pred - gt).square().mean().sqrt()


class WrongGradient(Sound):
    """Its gradient is twice what it should be."""

    def between(self, pred, gt):
        """Return the right value."""
        return _Doubled.apply(pred, gt)


class Reads(Sound):
    """It reads a number of the batch."""

    def between(self, pred, gt):
        """Return the error, larger where the mean is above 2."""
        return super().between(pred, gt) * (2 if float(pred.detach().mean()) > 2 else 1)


class OnTheCPU(Sound):
    """It creates a constant on the CPU at each call."""

    def between(self, pred, gt):
        """Return the error with a weight for each channel."""
        return super().between(pred * torch.ones(3, 1, 1, dtype=pred.dtype), gt)


class Sleeps(Sound):
    """It uses code that cannot be compiled."""

    def between(self, pred, gt):
        """Return the error after a while."""
        time.sleep(0)
        return super().between(pred, gt)


class Hinge(Sound):
    """It breaks nothing, but is 0 where the error is below 1."""

    def between(self, pred, gt):
        """Return by how much the errors are above 1."""
        return ((pred - gt).abs() - 1).relu().mean()


class KeepsItsNorm(Sound):
    """It does not support calibration."""

    def update_norm(self, pred_batch, gt_batch, nums):
        """Do nothing."""


class GrowsABuffer(Sound):
    """It registers a buffer at its first call."""

    def update_norm(self, pred_batch, gt_batch, nums):
        """Remember that there was a call."""
        super().update_norm(pred_batch, gt_batch, nums)
        self.register_buffer("called", torch.ones(()))


class HoldsALambda(Sound):
    """It keeps an object that cannot be pickled."""

    def __init__(self, name="lambda"):
        super().__init__(name)
        self.change = lambda t: t


class KeepsItsGraph(Sound):
    """It keeps a value with its graph."""

    def between(self, pred, gt):
        """Return the value, and keep it."""
        self.last = super().between(pred, gt)
        return self.last


class ReadsMore(Sound):
    """It reads a key that it does not declare."""

    requires = ("pred.seg",)


class RequiresMore(Sound):
    """It declares a key that nothing provides and that it does not read."""

    requires = (*Sound.requires, "gt.distances")


class ByPosition(Sound):
    """It weights the samples by their position in the batch."""

    def between(self, pred, gt):
        """Return the error weighted by the sample's index."""
        place = torch.arange(1, len(pred) + 1, dtype=pred.dtype, device=pred.device).reshape(-1, 1, 1, 1)
        return super().between(pred * place, gt * place)


class SumOfSamples(Sound):
    """It sums over samples but declares the mean."""

    def between(self, pred, gt):
        """Return the sum over samples of the mean error."""
        return super().between(pred, gt) * len(pred)


class CountsSamples(Sound):
    """It takes a mean over the pixels that differ, and says that it is one over samples."""

    def between(self, pred, gt):
        """Return the mean error of the pixels above a half."""
        high = gt > 0.5
        return lossreg.Mean(lossreg.Mean.of((pred - gt).square(), high).value, float(len(pred)))

    def counts(self, gt_batch):
        """Return the number of samples."""
        return [float(len(gt_batch["gt_polygons_image"]))]


class ByRank(Sound):
    """Its value depends on the rank."""

    def between(self, pred, gt):
        """Return the error times the rank, from 1."""
        return super().between(pred, gt) * (1 + dist.get_rank() if dist.is_initialized() else 1)


def equal_pixels():
    """Return a batch in which some pixels are right, the first of them."""
    generator = torch.Generator().manual_seed(0)
    pred, gt = (torch.rand(2, 3, 8, 8, generator=generator) for _ in range(2))
    pred[..., 0] = gt[..., 0]
    return {"seg": pred}, {"gt_polygons_image": gt}


def unseeded():
    """Return a batch of other numbers at each call."""
    return {"seg": torch.rand(2, 3, 8, 8)}, {"gt_polygons_image": torch.zeros(2, 3, 8, 8)}


def alone():
    """Return one batch where two are expected."""
    return {"seg": torch.ones(2, 3, 8, 8)}


def unreadable():
    """Fail as a file would that is not there."""
    raise OSError("no such file")


def nothing_valid():
    """Return a batch without a valid pixel."""
    pred, gt = equal_pixels()
    return pred, {**gt, "valid": torch.zeros(2, 3, 8, 8)}
