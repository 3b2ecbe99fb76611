"""Deep supervision: one loss over several outputs of a network at different resolutions."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.errors import DtypeError, MissingKeyError, ShapeError
from lossreg.keys import Deep
from lossreg.losses.base import Loss
from lossreg.losses.mean import Mean, valued

ScaleWeights: TypeAlias = Literal["exp", "same"] | list[float]


class DeepSupervision(Loss):
    """Sums a loss over several outputs of a network: `sum_k w_k L(output_k, target at the size of output_k)`.

    Each output replaces the prediction that the loss reads, and the targets that the loss reads are resized to the
    output. The term has one norm, for the sum. A single tensor, as some networks return in `eval()`, is the finest
    output; its value is `w_0 L`.

    Deep supervision follows Lee et al. (AISTATS 2015).

    Args:
        loss: the loss for each output; it must read one key of the predictions, or bare tensors.
        outputs: the outputs, finest first: a key with a list, tuple or mapping of tensors, or with one tensor; a glob
            over keys (`"aux.*"`, in the order of the batch); or a list of keys.
        weights: `w_k`: `"exp"` for 1, 1/2, 1/4, ...; `"same"` for 1; or a number for each output.
        resize: how targets are resized: `"nearest"`, which also suits class indices, or `"bilinear"`, which is linear
            on sequences and trilinear on volumes. `"bilinear"` skips elements with the loss's `ignore_index`: a pixel
            is the mean of the other elements, or is ignored if there are none. Under a `mask` a pixel counts only if
            all elements that it is a mean of do.

    Raises:
        ArgumentError: an argument has a wrong type or value, or the loss reads several keys of the predictions. Also a
            TypeError and a ValueError.
    """

    def __init__(
        self,
        loss: Loss,
        outputs: str | Sequence[str],
        weights: ScaleWeights = "exp",
        resize: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        checks = Arguments("DeepSupervision")
        if not isinstance(loss, Loss):
            checks.refuse("loss", "a Loss", loss, "" if isinstance(loss, type) else "wrap it: LossWrapper(loss)")
        super().__init__(loss.name)
        self.pred_keys = [key for key in loss.requires if key.startswith("pred.")]
        if len(self.pred_keys) > 1:
            problem = f"expected a loss that reads one key of the predictions, found {', '.join(self.pred_keys)}"
            checks.report("loss", problem, "use another loss", "conflict")
        named = checks.declared(Deep, "DeepSupervision", "outputs", outputs)
        weights = checks.declared(Deep, "DeepSupervision", "weights", weights)
        resize = checks.declared(Deep, "DeepSupervision", "resize", resize)
        checks.done()
        self.loss = loss
        self.registered_name = loss.registered_name
        self.outputs = named
        self.weights = weights
        self.resize = resize
        self.needs_grad, self.takes_epoch = loss.needs_grad, loss.takes_epoch
        self.masks, self.mask, self.sample_weight = loss.masks, loss.mask, loss.sample_weight
        self.ignore_index = loss.ignore_index
        self.requires = [f"pred.{key}" for key in ([named] if isinstance(named, str) else named) if not _is_glob(key)]
        self.requires += [key for key in loss.requires if key.startswith("gt.")]
        self.optional = [key for key in loss.optional if key.startswith("gt.")]

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor | Sequence[Mean]:
        """Return the weighted means of the outputs, which add up; or their sum, of a loss that has a scalar."""
        value = self._at_keys(pred_batch) if isinstance(pred_batch, Mapping) else pred_batch
        outputs = self._outputs(value, pred_batch)
        weights = self._weights(None if isinstance(value, Tensor) else len(outputs))
        values: list[Tensor] = []
        found: list[Mean] = []
        for weight, output in zip(weights, outputs, strict=True):
            means: list[Mean] = []
            options = {"means": means} if self.loss.tells_means else {}
            value, extra = self.loss(self._pred(output), self._gt(gt_batch, output), normalize=False, **options)
            values.append(value if weight == 1 else weight * value)
            # of a loss with one mean, the value is that mean's
            found += [valued(mean, values[-1] if len(means) == 1 else weight * mean.value) for mean in means]
            self.extra_info.update({f"{key}@{output.shape[-1]}": info for key, info in extra.items()})
        return found or functools.reduce(torch.add, values)

    def take_mask(self, mask: Any = None, sample_weight: Any = None) -> None:
        """Set which elements count and how much; masks are resized to each output with the targets."""
        super().take_mask(mask, sample_weight)
        self.loss.take_mask(mask, sample_weight)

    def _outputs(self, value: Any, pred_batch: Any) -> list[Tensor]:
        """Return a value of the batch as a list of tensors, finest first."""
        outputs = list(value.values()) if isinstance(value, Mapping) else value
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        if outputs is None or (isinstance(outputs, (list, tuple)) and not outputs):
            keys = "none"
            if isinstance(pred_batch, Mapping):
                keys = f"the keys {sorted(str(k) if v is not None else f'{k} (None)' for k, v in pred_batch.items())}"
            keys = "no tensor there" if outputs is not None and self.outputs in pred_batch else keys
            raise MissingKeyError(
                f"loss {self.name!r}: deep supervision: expected {self.outputs!r} in pred_batch, found {keys}"
            )
        if not isinstance(outputs, (list, tuple)) or not all(isinstance(output, Tensor) for output in outputs):
            kinds = sorted({type(o).__name__ for o in outputs}) if isinstance(outputs, (list, tuple)) else []
            shown = f"a {type(outputs).__name__}" + (f" of {', '.join(kinds)}" if kinds else "")
            raise DtypeError(
                f"loss {self.name!r}: deep supervision: {self.outputs!r}: expected a list of tensors or one tensor, "
                f"found {shown}"
            )
        return list(outputs)

    def _at_keys(self, pred_batch: Mapping[str, Any]) -> Any:
        """Return the value or values at the keys of the outputs; None if one is missing."""
        if isinstance(self.outputs, str) and not _is_glob(self.outputs):
            return pred_batch.get(self.outputs)
        if isinstance(self.outputs, str):
            named = [value for key, value in pred_batch.items() if fnmatchcase(key, self.outputs)]
            return [value for value in named if value is not None]
        found = [pred_batch.get(key) for key in self.outputs]
        return None if any(value is None for value in found) else found

    def _weights(self, count: int | None) -> Sequence[float]:
        """Return a weight for each of `count` outputs, or only the first if `count` is None."""
        if isinstance(self.weights, str):
            return [0.5**k if self.weights == "exp" else 1.0 for k in range(count or 1)]
        if count is None:
            return self.weights[:1]
        if len(self.weights) != count:
            raise ShapeError(
                f"loss {self.name!r}: {self.outputs!r}: expected {len(self.weights)} outputs, one for each weight, "
                f"found {count}"
            )
        return self.weights

    def _pred(self, output: Tensor) -> Any:
        return {self.pred_keys[0].removeprefix("pred."): output} if self.pred_keys else output

    def _gt(self, gt_batch: Any, output: Tensor) -> Any:
        if not isinstance(gt_batch, Mapping):
            return self._resized("gt", gt_batch, output) if isinstance(gt_batch, Tensor) else gt_batch
        read = {key for key in (*self.requires, *self.optional) if key.startswith("gt.")}
        masks = self._masks(gt_batch, output) if self.resize == "bilinear" else ()
        return {
            key: self._resized(f"gt.{key}", value, output, masks)
            if isinstance(value, Tensor) and (f"gt.{key}" in read or not read)
            else value
            for key, value in gt_batch.items()
        }

    def _masks(self, gt_batch: Mapping[str, Any], output: Tensor) -> Sequence[Tensor]:
        """Return (N, C or 1, *spatial) bool: the masks that choose pixels, at their own size."""
        found = [(key, gt_batch.get(key.removeprefix("gt."))) for key in self.mask if key.startswith("gt.")]
        return [
            self.which_count(key, _planes(mask, output))
            for key, mask in found
            if isinstance(mask, Tensor) and mask.dim() in (output.dim(), output.dim() - 1)
        ]

    def _resized(self, key: str, target: Tensor, output: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """Return a target (N, [C,] *spatial) resized to the output; other targets are not changed."""
        size = output.shape[2:]
        if not size or target.dim() not in (output.dim(), output.dim() - 1) or target.shape[-len(size) :] == size:
            return target
        planes = _planes(target, output)
        if self.resize == "nearest":
            exact = planes if planes.is_floating_point() else planes.double()
            resized = F.interpolate(exact, size=size, mode="nearest").to(target.dtype)
        elif key in self.mask:
            resized = _all_kept(self.which_count(key, planes), size).to(target.dtype)
        else:
            self._check_blend(key, target, output)
            for mask in masks:
                if mask.shape[2:] == planes.shape[2:] and mask.shape[1] in (1, planes.shape[1]):
                    planes = torch.where(mask, planes, 0.0)  # NaN must not reach a neighbour
            ignored = None if key in self.optional else self.ignore_index
            resized = _blended(planes, size, ignored)
        return resized if target.dim() == output.dim() else resized.squeeze(1)

    def _check_blend(self, key: str, target: Tensor, output: Tensor) -> None:
        """Raise for class indices and integers, which cannot be interpolated."""
        kind = "class indices" if self._holds_indices(target, output) else f"a target of {target.dtype}"
        if kind == "class indices" or not target.is_floating_point():
            raise DtypeError(
                f"loss {self.name!r}: {key!r}: expected a floating target for `resize: bilinear`, found {kind}; "
                "set `resize: nearest`"
            )

    def _holds_indices(self, target: Tensor, output: Tensor) -> bool:
        takes_indices = getattr(self.loss, "target_dtype", None) == "long"
        return takes_indices and (target.dim() < output.dim() or target.shape[1] != output.shape[1])

    def extra_repr(self) -> str:
        """Return the name and the options for `repr`."""
        return f"{super().extra_repr()}, outputs={self.outputs!r}, weights={self.weights!r}, resize={self.resize!r}"


def _planes(tensor: Tensor, output: Tensor) -> Tensor:
    """Return a tensor (N, [C,] *spatial) with a channel axis."""
    return tensor if tensor.dim() == output.dim() else tensor.unsqueeze(1)


def _all_kept(kept: Tensor, size: Sequence[int]) -> Tensor:
    """Return for each pixel of a size whether all elements count that are interpolated to it."""
    return _blended((~kept).float(), size, None) == 0  # weights need not add up to 1 exactly


def _blended(planes: Tensor, size: Sequence[int], ignored: float | None) -> Tensor:
    """Return (N, C, *spatial) interpolated linearly, without elements equal to `ignored`."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]

    def blend(values: Tensor) -> Tensor:
        return F.interpolate(values, size=tuple(size), mode=mode, align_corners=False)

    if ignored is None:
        return blend(planes)
    valid = planes != ignored
    share = blend(valid.to(planes.dtype))
    return torch.where(share > 0, blend(torch.where(valid, planes, 0)) / share, ignored)


def _is_glob(key: str) -> bool:
    return any(mark in key for mark in "*?[")
