"""Deep supervision: one loss over several outputs of a network, each at its own resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from lossreg.arguments import Arguments, nearest
from lossreg.errors import DtypeError, MissingKeyError, ShapeError
from lossreg.losses.base import Loss

_OUTPUTS = "a key, a glob such as 'aux.*', or a list of keys"

ScaleWeights: TypeAlias = Literal["exp", "same"] | list[float]


class DeepSupervision(Loss):
    """Sum a loss over several outputs of the network: `sum_k w_k L(output_k, target at the size of output_k)`.

    Each output takes the place of the prediction that the loss reads; every target that the loss reads and
    that is of another size is resized to the output's. The term has one norm, over the sum.

    Deep supervision follows Lee et al. (AISTATS 2015).

    Args:
        loss: what to compute at each scale; it must read one key of the predictions, or bare tensors.
        outputs: where the outputs are: a key of a list of tensors, a glob over keys (`"aux.*"`, taken in the
            order of the batch), or a list of keys; finest first.
        weights: `w_k`: `"exp"` for 1, 1/2, 1/4, ...; `"same"` for ones; or a number for each output.
        resize: how targets are resized: `"nearest"`, also right for class indices, or `"bilinear"`.

    Raises:
        ArgumentError: an argument is of a wrong type or out of its choices, or the loss reads more than one key of
            the predictions; a TypeError and a ValueError too.
    """

    def __init__(
        self,
        loss: Loss,
        outputs: str | Sequence[str],
        weights: ScaleWeights = "exp",
        resize: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        given = Arguments("DeepSupervision")
        if not isinstance(loss, Loss):
            given.refuse("loss", "a Loss", loss, "" if isinstance(loss, type) else "wrap it: LossWrapper(loss)")
        super().__init__(loss.name)
        self.pred_keys = [key for key in loss.requires if key.startswith("pred.")]
        if len(self.pred_keys) > 1:
            given.report("loss", f"reads {', '.join(self.pred_keys)}", "give one that reads one key of the predictions")
        named = outputs if isinstance(outputs, str) else given.items("outputs", outputs, _OUTPUTS)
        if not given.problems and not (named and all(isinstance(key, str) and key for key in named)):
            given.wrong("outputs", _OUTPUTS, outputs)
        weights = _checked_weights(given, weights)
        given.choice("resize", resize, ("nearest", "bilinear"))
        given.done()
        self.loss = loss
        self.registered_name = loss.registered_name
        self.outputs = named
        self.weights = weights
        self.resize = resize
        self.requires = [f"pred.{key}" for key in ([named] if isinstance(named, str) else named) if not _is_glob(key)]
        self.requires += [key for key in loss.requires if key.startswith("gt.")]
        self.optional = [key for key in loss.optional if key.startswith("gt.")]

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return the weighted sum over the outputs."""
        outputs = self._outputs(pred_batch)
        total = torch.zeros((), device=outputs[0].device)
        for weight, output in zip(self._weights(len(outputs)), outputs, strict=True):
            value, extra = self.loss(self._pred(output), self._gt(gt_batch, output), normalize=False)
            total = total + weight * value
            self.extra_info.update({f"{key}@{output.shape[-1]}": info for key, info in extra.items()})
        return total

    def _outputs(self, pred_batch: Any) -> list[Tensor]:
        if isinstance(pred_batch, (list, tuple)):
            found: Any = pred_batch
        elif not isinstance(pred_batch, Mapping):
            raise ShapeError(f"loss {self.name!r}: deep supervision needs several outputs, got a single tensor")
        elif isinstance(self.outputs, str) and not _is_glob(self.outputs):
            found = pred_batch.get(self.outputs)
        elif isinstance(self.outputs, str):
            found = [value for key, value in pred_batch.items() if fnmatchcase(key, self.outputs)]
        else:
            found = [pred_batch[key] for key in self.outputs if key in pred_batch]
            found = found if len(found) == len(self.outputs) else None
        if not found:
            raise MissingKeyError(
                f"loss {self.name!r}: deep supervision over {self.outputs!r}; pred_batch has "
                f"{sorted(map(str, pred_batch))}"
            )
        if isinstance(found, Tensor) or not all(isinstance(output, Tensor) for output in found):
            raise DtypeError(f"loss {self.name!r}: {self.outputs!r} must be a list of tensors")
        return list(found)

    def _weights(self, count: int) -> Sequence[float]:
        if self.weights == "exp":
            return [0.5**k for k in range(count)]
        if self.weights == "same":
            return [1.0] * count
        if len(self.weights) != count:
            raise ShapeError(f"loss {self.name!r}: {len(self.weights)} weights for {count} outputs")
        return [float(weight) for weight in self.weights]

    def _pred(self, output: Tensor) -> Any:
        return {self.pred_keys[0].removeprefix("pred."): output} if self.pred_keys else output

    def _gt(self, gt_batch: Any, output: Tensor) -> Any:
        if isinstance(gt_batch, Tensor):
            return self._resized(gt_batch, output)
        read = {key.removeprefix("gt.") for key in (*self.requires, *self.optional) if key.startswith("gt.")}
        return {
            key: self._resized(value, output) if isinstance(value, Tensor) and (key in read or not read) else value
            for key, value in gt_batch.items()
        }

    def _resized(self, target: Tensor, output: Tensor) -> Tensor:
        """Resize (N, [C,] *spatial) to the output's spatial size; what has no such axes stays."""
        size = output.shape[2:]
        if target.dim() not in (output.dim(), output.dim() - 1) or target.shape[-len(size) :] == size:
            return target
        planes = target if target.dim() == output.dim() else target.unsqueeze(1)
        if self.resize == "nearest":
            exact = planes if planes.is_floating_point() else planes.double()
            resized = F.interpolate(exact, size=size, mode="nearest").to(target.dtype)
        elif not target.is_floating_point():
            raise DtypeError(
                f"loss {self.name!r}: a target of {target.dtype} cannot be resized bilinearly; use nearest"
            )
        else:
            resized = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
        return resized if target.dim() == output.dim() else resized.squeeze(1)

    def extra_repr(self) -> str:
        """Show where the outputs are and how they are weighed."""
        return f"{super().extra_repr()}, outputs={self.outputs!r}, weights={self.weights!r}, resize={self.resize!r}"


def _checked_weights(given: Arguments, weights: Any) -> ScaleWeights:
    expected = "'exp', 'same' or a list of numbers"
    if isinstance(weights, str):
        if weights not in ("exp", "same"):
            given.wrong("weights", expected, weights, nearest(weights, ("exp", "same")))
        return weights  # type: ignore[return-value]
    found = given.items("weights", weights, expected)
    return [given.number(f"weights[{i}]", weight, "a finite number") for i, weight in enumerate(found)]


def _is_glob(key: str) -> bool:
    return any(mark in key for mark in "*?[")
