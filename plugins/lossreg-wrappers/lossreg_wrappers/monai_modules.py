"""Losses of MONAI that take more than tensors, made to take what a config and a batch can give.

Each is the library's class; only how it is built or called differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import monai.losses  # type: ignore[import-not-found, unused-ignore]  # it need not be installed
from torch import Tensor, nn

import lossreg
from lossreg_wrappers.adapter import LibraryLoss


class _Inside:
    """The object that a name of a registered loss stands for, its arguments checked as those of a config.

    Args:
        loss: its name; from Python also a module.
        loss_args: its constructor arguments, where `loss` is a name.
    """

    def __init__(self, loss: str | nn.Module, loss_args: Mapping[str, Any] | None) -> None:
        self.module: Any = loss
        self.forms: dict[str, Any] = {}
        if not isinstance(loss, str):
            return
        config = {"losses": [{"loss": loss, "args": dict(loss_args or {})}]}
        made = lossreg.build_compound_loss_from_config(config).loss_funcs[0]
        self.module = getattr(made, "loss_func", None)
        if not isinstance(self.module, nn.Module) or not isinstance(made, LibraryLoss) or made.inputs is not None:
            raise ValueError(f"loss {loss!r} is not called as loss(prediction, target)")
        self.forms = {
            "inner_takes": f"{made.takes.activation} {made.takes.kind}".strip(),
            "inner_target": made.target,
            "ignore_index": made.ignore_index,
        }

    def tell(self, around: nn.Module) -> None:
        """Give a loss around this one attributes with what this one takes, for the rules of its spec."""
        for attribute, value in self.forms.items():
            setattr(around, attribute, value)


class DeepSupervisionLoss(monai.losses.DeepSupervisionLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.DeepSupervisionLoss` around a registered loss, the levels as tensors of their own.

    Args:
        loss: name of the loss at each level, called as `loss(prediction, target)`; from Python also a module.
        loss_args: its constructor arguments, where `loss` is a name.
        weight_mode: how the levels are weighted: `same`, `exp` or `two`.
        weights: their weights themselves, in place of `weight_mode`.
    """

    def __init__(
        self,
        loss: str | nn.Module,
        loss_args: dict[str, Any] | None = None,
        weight_mode: str = "exp",
        weights: list[float] | None = None,
    ) -> None:
        inside = _Inside(loss, loss_args)
        super().__init__(inside.module, weight_mode, weights)
        inside.tell(self)

    def forward(self, *levels_and_target: Tensor) -> Tensor:
        """Return the loss of `(level, ..., level, target)`, finest level first."""
        *levels, target = levels_and_target
        value: Tensor = super().forward(levels, target)
        return value


class MaskedLoss(monai.losses.MaskedLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.MaskedLoss` around a registered loss.

    Args:
        loss: name of the loss, called as `loss(prediction, target)`; from Python also a module.
        loss_args: its constructor arguments, where `loss` is a name.
    """

    def __init__(self, loss: str | nn.Module, loss_args: dict[str, Any] | None = None) -> None:
        inside = _Inside(loss, loss_args)
        super().__init__(inside.module)
        inside.tell(self)


class MultiScaleLoss(monai.losses.MultiScaleLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.MultiScaleLoss` around a registered loss, called with the prediction first.

    Args:
        loss: name of the loss, called as `loss(prediction, target)`; from Python also a module.
        loss_args: its constructor arguments, where `loss` is a name.
        scales: widths of the smoothing kernels in pixels; 0 for none.
        kernel: their shape, `gaussian` or `cauchy`.
        reduction: how the scales' values become one: `mean`, `sum` or `none`.
    """

    def __init__(
        self,
        loss: str | nn.Module,
        loss_args: dict[str, Any] | None = None,
        scales: list[float] | None = None,
        kernel: str = "gaussian",
        reduction: str = "mean",
    ) -> None:
        inside = _Inside(loss, loss_args)
        super().__init__(inside.module, scales, kernel, reduction)
        inside.tell(self)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss; the library's own order is the other way round."""
        value: Tensor = super().forward(target, prediction)
        return value


class PatchAdversarialLoss(monai.losses.PatchAdversarialLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.PatchAdversarialLoss` with its two switches set once.

    Args:
        reduction: `mean`, `sum` or `none`.
        criterion: `bce`, `hinge` or `least_squares`.
        no_activation_leastsq: leave the activation out of `least_squares`.
        target_is_real: whether the discriminator saw real images.
        for_discriminator: whether the discriminator is trained, and not the generator.
    """

    def __init__(
        self,
        reduction: str = "mean",
        criterion: str = "least_squares",
        no_activation_leastsq: bool = False,
        target_is_real: bool = True,
        for_discriminator: bool = False,
    ) -> None:
        super().__init__(reduction, criterion, no_activation_leastsq)
        self.target_is_real = target_is_real
        self.for_discriminator = for_discriminator

    def forward(self, *outputs: Tensor) -> Tensor:
        """Return the loss of a discriminator's output, or of those of a multi-scale one."""
        value: Tensor = super().forward(list(outputs), self.target_is_real, self.for_discriminator)
        return value


class PerceptualLoss(monai.losses.PerceptualLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.PerceptualLoss` with the networks whose weights are data.

    Those of MedicalNet and RadImageNet come as code from `torch.hub`, which runs it, and weights of one's own from a
    path: give such a loss from Python.

    Args:
        spatial_dims: 2, or 3 for slices along the three axes.
        network_type: a network of `lpips`, or the `resnet50` of `torchvision`.
        fake_3d_ratio: the part of the slices of each axis that is taken, of 3 dimensions.
        pretrained: whether to download its weights.
    """

    def __init__(
        self,
        spatial_dims: Literal[2, 3],
        network_type: Literal["alex", "vgg", "squeeze", "resnet50"] = "alex",
        fake_3d_ratio: float = 0.5,
        pretrained: bool = True,
    ) -> None:
        super().__init__(spatial_dims, network_type, fake_3d_ratio=fake_3d_ratio, pretrained=pretrained)


class SURELoss(monai.losses.SURELoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.SURELoss` of one operator.

    Args:
        operator: the network, a function from tensors to tensors; its weights stay the model's.
        perturb_noise: the noise to perturb with; drawn at each call where it is not given.
        eps: size of the perturbation; by default a thousandth of the greatest target.
        complex_input: whether two channels hold real and imaginary parts.
    """

    def __init__(
        self,
        operator: Callable[[Tensor], Tensor],
        perturb_noise: Tensor | None = None,
        eps: float | None = None,
        complex_input: bool = False,
    ) -> None:
        super().__init__(perturb_noise, eps)
        self._operator: Sequence[Callable[[Tensor], Tensor]] = (operator,)  # in a tuple, no submodule of ours
        self.complex_input = complex_input

    def forward(self, x: Tensor, y_pseudo_gt: Tensor, y_ref: Tensor | None = None) -> Tensor:
        """Return the loss of the operator's input, the pseudo ground truth and, if known, the reference."""
        value: Tensor = super().forward(self._operator[0], x, y_pseudo_gt, y_ref, self.complex_input)
        return value
