"""The values of single elements, for losses of libraries that give them otherwise than `reduction="none"` alone.

A reader is called with the arguments of its loss. The mean of its values, or their sum for a loss with `reduction:
sum`, is the value of the loss itself; `share` says what else than 1 an element counts in that mean.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossreg.losses.elementwise import option_of, unreduced


class Reader(nn.Module):
    """The loss with `reduction="none"`, of which every element counts 1.

    Args:
        loss_func: the loss; its parameters and buffers are shared.

    Attributes:
        has_channels: whether the target has one channel for each class on axis 1.
    """

    has_channels = False

    def __init__(self, loss_func: Any) -> None:
        super().__init__()
        found = unreduced(loss_func)
        self.loss: Any = loss_func if found is None else found
        self.sums = option_of(loss_func, "reduction", "mean") == "sum"

    @classmethod
    def reads(cls, loss_func: Any) -> bool:  # noqa: ARG003
        """Return whether a loss with its options has values that this reader knows."""
        return True

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option of the loss."""
        return option_of(self.loss, name, default)

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        values: Tensor = self.loss(*arguments)
        return values

    def share(self, target: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return what elements count in the loss's own mean, with the axes of the elements; None for 1.

        Args:
            target: class indices without a channel axis, or one channel for each class.
        """
        return None


# --- samples --------------------------------------------------------------------------------------


class OfSample(Reader):
    """The mean of the values of each sample, or their sum for a loss that sums."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        values = self.in_samples(super().forward(*arguments))
        if values.dim() < 2:
            return values
        return values.flatten(1).sum(1) if self.sums else values.flatten(1).mean(1)

    def in_samples(self, values: Tensor) -> Tensor:
        """Return values with the samples on axis 0."""
        return values


class EachSample(Reader):
    """The loss of each sample as a batch of one, for a loss that only returns a mean over samples."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        values: Tensor = torch.vmap(self.loss)(*(argument.unsqueeze(1) for argument in arguments))
        return values


class CoralSamples(Reader):
    """The losses of samples of coral-pytorch, whose reduction is called None where others say "none"."""

    def __init__(self, loss_func: Any) -> None:
        super().__init__(loss_func)
        self.loss = copy.copy(loss_func)
        self.loss.reduction = None


class PmlClasses(Reader):
    """The losses of samples that a classification loss of pytorch-metric-learning hands to its reducer."""

    @classmethod
    def reads(cls, loss_func: Any) -> bool:
        """Return whether the loss is a plain mean over samples."""
        extra = ("miner", "embedding_regularizer", "weight_regularizer")
        plain = type(loss_func.reducer).__name__ == "MeanReducer"
        return plain and all(getattr(loss_func, name, None) is None for name in extra)

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        embeddings, labels = arguments
        found = self.loss.compute_loss(embeddings, labels, None, embeddings, labels)
        values: Tensor = found["loss"]["losses"]
        return values


class KorniaHausdorff(OfSample):
    """Values (C, N, ...) of kornia."""

    def in_samples(self, values: Tensor) -> Tensor:
        """Return values with the samples on axis 0."""
        return values.transpose(0, 1)


class PiqScore(Reader):
    """The values of the samples of piq's losses that bind `reduction` to a function."""

    def __init__(self, loss_func: Any) -> None:
        super().__init__(loss_func)
        for name, function in list(vars(self.loss).items()):
            if isinstance(function, functools.partial):
                setattr(self.loss, name, functools.partial(function, reduction="none"))


class BatchMean(Reader):
    """The sum of each sample, for torch's `reduction: batchmean`."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        return super().forward(*arguments).flatten(1).sum(1)


class AdaptiveSoftmax(Reader):
    """The negative log-probability of each sample's target."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        _, extra = self.loss(*arguments)
        output: Tensor = extra["output"]
        return -output


# --- values and positions -------------------------------------------------------------------------


class LinearCrossEntropy(Reader):
    """Cross-entropy whose `ignore_index` is -100 by default for class indices."""

    def share(self, target: Tensor) -> Tensor | None:
        """Return what elements count in the loss's own mean."""
        if target.is_floating_point():
            return None
        ignored = self.option("ignore_index")
        valid = target != (-100 if ignored is None else ignored)
        weight = self.option("weight")
        if weight is None:
            return valid
        weights: Tensor = weight.detach()[target.long().clamp(0, len(weight) - 1)]
        return weights * valid


class MultiLabelSoftMargin(Reader):
    """Binary cross-entropy of each number, where torch averages over the last axis first."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        pred, target = arguments
        values = -(target * F.logsigmoid(pred) + (1 - target) * F.logsigmoid(-pred))
        weight = self.option("weight")
        values = values if weight is None else values * weight
        return values / pred.shape[-1] if self.sums else values


class OfClasses(Reader):
    """Values (N, C, ...) of classes, averaged (or summed, for a loss that sums) over the classes of a pixel."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        values = super().forward(*arguments)
        return values.sum(1) if self.sums else values.mean(1)


class WithoutClassAxis(Reader):
    """Values with an axis of size 1 in place of the classes, or without it."""

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        values = super().forward(*arguments)
        return values.squeeze(1) if values.dim() == arguments[0].dim() else values


class MonaiFocal(Reader):
    """MONAI's focal loss of each pixel: it divides by values, or with `ignore_index` by the pixels that it keeps."""

    def __init__(self, loss_func: Any) -> None:
        super().__init__(loss_func)
        self.has_channels = not loss_func.to_onehot_y

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        values = super().forward(*arguments)
        return values.mean(1) if self.option("ignore_index") is None else values.sum(1)

    def share(self, target: Tensor) -> Tensor | None:
        """Return what elements count in the loss's own mean."""
        ignored: int | None = self.option("ignore_index")
        if ignored is None:
            return None
        if not self.has_channels:
            return target != ignored
        if target.shape[1] == 1:
            return target.squeeze(1) != ignored
        if 0 <= ignored < target.shape[1]:
            return 1 - target[:, ignored].float()
        return target.sum(1) > 0


class SmpFocal(Reader):
    """The focal loss of each pixel, from smp's function for logits of one class."""

    def __init__(self, loss_func: Any) -> None:
        super().__init__(loss_func)
        self.has_channels = loss_func.mode == "multilabel"

    @classmethod
    def reads(cls, loss_func: Any) -> bool:
        """Return whether a loss with its options has values that this reader knows."""
        keywords = loss_func.focal_loss_fn.keywords
        plain = ("mean", "none") if not hasattr(loss_func, "from_logits") else ("mean", "sum", "none")
        by_label = loss_func.mode == "multilabel" and loss_func.ignore_index is not None
        return not keywords["normalized"] and keywords["reduction"] in plain and not by_label

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return the values of the elements."""
        pred, target = arguments
        if not self.option("from_logits", True):
            pred = pred.clamp(self.loss.eps, 1 - self.loss.eps)
            pred = pred.log() if self.loss.mode == "multiclass" else torch.log(pred / (1 - pred))
        keywords = {**self.loss.focal_loss_fn.keywords, "reduction": "none"}
        shares = self.share(target)
        if self.loss.mode == "multiclass":
            target = F.one_hot(_filled(target, shares), pred.shape[1]).movedim(-1, 1)
        elif self.loss.mode == "binary":
            target = _filled(target, shares).reshape(pred.shape)
        values: Tensor = self.loss.focal_loss_fn.func(pred, target, **keywords)
        values = self._over_classes(values)
        return values if shares is None else torch.where(shares.reshape(values.shape), values, 0.0)

    def _over_classes(self, values: Tensor) -> Tensor:
        weights: Tensor | None = self.option("class_weights")
        if not hasattr(self.loss, "from_logits") and self.loss.mode == "multiclass":  # 0.5 adds the classes up
            return values.sum(1)
        if weights is None:
            return values.mean(1)
        weights = weights.to(values).reshape(-1, *[1] * (values.dim() - 2))
        return (values * weights).sum(1) / weights.sum()

    def share(self, target: Tensor) -> Tensor | None:
        """Return what elements count in the loss's own mean."""
        ignored: int | None = self.option("ignore_index")
        return None if ignored is None else target != ignored


def _filled(target: Tensor, kept: Tensor | None) -> Tensor:
    return target if kept is None else torch.where(kept, target, torch.zeros_like(target))


# --- overlap --------------------------------------------------------------------------------------


class Overlap(OfSample):
    """A loss of sums over pixels, from which masked pixels are left out: there prediction and target are 0.

    The activation and the one-hot encoding are done here, since the library would do them after the mask.
    """

    def forward(self, *arguments: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the value of each sample, or one value if the loss pools the samples.

        Args:
            *arguments: the prediction (N, C, *spatial) and the target.
            kept: bool (N, *spatial) or with sizes of 1: the pixels that count; None for all.
        """
        pred, target = arguments
        pred = self.activated(pred)
        target, valid = self.encoded(target, pred)
        for some in (kept, valid):
            if some is not None:
                some = some.unsqueeze(1)
                pred, target = torch.where(some, pred, 0.0), torch.where(some, target, 0.0)
        return super().forward(pred, target)

    def activated(self, pred: Tensor) -> Tensor:
        """Return the probabilities of a prediction."""
        raise NotImplementedError

    def encoded(self, target: Tensor, pred: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a target (N, C, *spatial), and (N, *spatial) which pixels it does not ignore; None for all."""
        raise NotImplementedError


def _one_hot(classes: Tensor, valid: Tensor | None, pred: Tensor) -> Tensor:
    """Return class indices (N, *spatial) as (N, C, *spatial)."""
    return F.one_hot(_filled(classes, valid).long(), pred.shape[1]).movedim(-1, 1).to(pred.dtype).contiguous()


class MonaiOverlap(Overlap):
    """Dice, generalised Dice or Tversky loss of MONAI."""

    def __init__(self, loss_func: Any) -> None:
        super().__init__(loss_func)
        self.has_channels = not loss_func.to_onehot_y
        self.acts = (loss_func.sigmoid, loss_func.softmax, loss_func.other_act)
        self.loss.sigmoid = self.loss.softmax = self.loss.to_onehot_y = False
        self.loss.other_act = None
        if not self.has_channels and hasattr(loss_func, "ignore_index"):
            self.loss.ignore_index = None  # it is read from class indices, see `encoded`
        if loss_func.batch:
            self.loss.reduction = "sum" if self.sums else "mean"
        self.ignored = None if self.has_channels else getattr(loss_func, "ignore_index", None)

    def activated(self, pred: Tensor) -> Tensor:
        """Return the probabilities of a prediction."""
        sigmoid, softmax, other = self.acts
        if sigmoid:
            return pred.sigmoid()
        if softmax:
            return pred.softmax(1)
        return pred if other is None else other(pred)

    def encoded(self, target: Tensor, pred: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a target in the form of the prediction, and which pixels are not ignored."""
        if self.has_channels or pred.shape[1] == 1:
            valid = None if self.ignored is None else target.squeeze(1) != self.ignored
            return target.to(pred.dtype), valid
        classes = target.squeeze(1)
        valid = None if self.ignored is None else classes != self.ignored
        return _one_hot(classes, valid, pred), valid


class SmpOverlap(Overlap):
    """Dice, Jaccard or Tversky loss of smp, called as one of several labels, which sums in the same way."""

    def __init__(self, loss_func: Any) -> None:
        super().__init__(loss_func)
        self.mode, self.logits = loss_func.mode, loss_func.from_logits
        self.has_channels = self.mode == "multilabel"
        self.ignored = getattr(loss_func, "ignore_index", None)
        self.loss = copy.copy(loss_func)
        self.loss.mode, self.loss.from_logits, self.loss.ignore_index = "multilabel", False, None

    def forward(self, *arguments: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the values of the elements."""
        if self.has_channels and self.ignored is not None:  # each label ignores by itself
            some = arguments[1] != self.ignored
            pred = self.activated(arguments[0])
            some = some if kept is None else some & kept.unsqueeze(1)
            value: Tensor = self.loss(torch.where(some, pred, 0.0), torch.where(some, arguments[1], 0.0))
            return value
        return super().forward(*arguments, kept=kept)

    def activated(self, pred: Tensor) -> Tensor:
        """Return the probabilities of a prediction."""
        if not self.logits:
            return pred
        return pred.log_softmax(1).exp() if self.mode == "multiclass" else F.logsigmoid(pred).exp()

    def encoded(self, target: Tensor, pred: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a target in the form of the prediction, and which pixels are not ignored."""
        if self.has_channels:
            return target.to(pred.dtype), None
        valid = None if self.ignored is None else target != self.ignored
        if self.mode == "multiclass":
            return _one_hot(target, valid, pred), valid
        valid = None if valid is None else valid.reshape(pred.shape).squeeze(1)
        return target.reshape(pred.shape).to(pred.dtype), valid


_READERS: Mapping[str, type[Reader]] = {
    "adaptive_softmax": AdaptiveSoftmax,
    "batchmean": BatchMean,
    "classes": OfClasses,
    "coral": CoralSamples,
    "each_sample": EachSample,
    "kornia_hausdorff": KorniaHausdorff,
    "linear_cross_entropy": LinearCrossEntropy,
    "monai_focal": MonaiFocal,
    "monai_overlap": MonaiOverlap,
    "multi_label_soft_margin": MultiLabelSoftMargin,
    "pml_classes": PmlClasses,
    "piq_score": PiqScore,
    "sample": OfSample,
    "smp_focal": SmpFocal,
    "smp_overlap": SmpOverlap,
    "without_class_axis": WithoutClassAxis,
}


def reader(name: str, loss_func: Any) -> Reader | None:
    """Return the reader with a name for a loss; None if the loss's options leave it without values of elements."""
    kind = _READERS[name]
    return kind(loss_func) if kind.reads(loss_func) else None
