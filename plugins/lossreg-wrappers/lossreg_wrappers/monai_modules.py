"""Losses of MONAI with arguments other than tensors, adapted to configs and batches.

Each is a subclass of the library's class that is built or called in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import monai.losses  # type: ignore[import-not-found, unused-ignore]  # it need not be installed
from torch import Tensor, nn

import lossreg
from lossreg_wrappers.adapter import LibraryLoss


class _InnerLoss:
    """A registered loss by name, with its arguments checked as in a config.

    Args:
        loss: the name; in Python also a module.
        loss_args: the constructor arguments, if `loss` is a name.
    """

    def __init__(self, loss: str | nn.Module, loss_args: Mapping[str, Any] | None) -> None:
        self.module: Any = loss
        self.forms: dict[str, Any] = {}
        if not isinstance(loss, str):
            return
        config = {"losses": [{"loss": loss, "args": dict(loss_args or {})}]}
        wrapper = lossreg.build_compound_loss_from_config(config).loss_funcs[0]
        self.module = getattr(wrapper, "loss_func", None)
        if not isinstance(self.module, nn.Module) or not isinstance(wrapper, LibraryLoss) or wrapper.inputs is not None:
            raise ValueError(f"loss: expected one that is called as loss(prediction, target), found {loss!r}")
        self.forms = {
            "inner_takes": f"{wrapper.takes.activation} {wrapper.takes.kind}".strip(),
            "inner_target": wrapper.target,
            "ignore_index": wrapper.ignore_index,
        }

    def copy_forms_to(self, outer: nn.Module) -> None:
        """Set the forms of this loss as attributes of the outer loss, for the rules of its spec."""
        for attribute, value in self.forms.items():
            setattr(outer, attribute, value)


class DeepSupervisionLoss(monai.losses.DeepSupervisionLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.DeepSupervisionLoss` of a registered loss, with a tensor for each level.

    Args:
        loss: name of the loss for each level, called as `loss(prediction, target)`; in Python also a module.
        loss_args: constructor arguments, if `loss` is a name.
        weight_mode: how the levels are weighted: `same`, `exp` or `two`.
        weights: the weights of the levels, instead of `weight_mode`.
    """

    def __init__(
        self,
        loss: str | nn.Module,
        loss_args: dict[str, Any] | None = None,
        weight_mode: str = "exp",
        weights: list[float] | None = None,
    ) -> None:
        inner = _InnerLoss(loss, loss_args)
        super().__init__(inner.module, weight_mode, weights)
        inner.copy_forms_to(self)

    def forward(self, *levels_and_target: Tensor) -> Tensor:
        """Return the loss of `(level, ..., level, target)`, finest level first."""
        *levels, target = levels_and_target
        value: Tensor = super().forward(levels, target)
        return value


class MaskedLoss(monai.losses.MaskedLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.MaskedLoss` of a registered loss.

    Args:
        loss: name of the loss, called as `loss(prediction, target)`; in Python also a module.
        loss_args: constructor arguments, if `loss` is a name.
    """

    def __init__(self, loss: str | nn.Module, loss_args: dict[str, Any] | None = None) -> None:
        inner = _InnerLoss(loss, loss_args)
        super().__init__(inner.module)
        inner.copy_forms_to(self)


class MultiScaleLoss(monai.losses.MultiScaleLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.MultiScaleLoss` of a registered loss, called with the prediction first.

    Args:
        loss: name of the loss, called as `loss(prediction, target)`; in Python also a module.
        loss_args: constructor arguments, if `loss` is a name.
        scales: widths of the smoothing kernels in pixels; 0 for none.
        kernel: shape of the kernels, `gaussian` or `cauchy`.
        reduction: how the values of the scales are reduced: `mean`, `sum` or `none`.
    """

    def __init__(
        self,
        loss: str | nn.Module,
        loss_args: dict[str, Any] | None = None,
        scales: list[float] | None = None,
        kernel: str = "gaussian",
        reduction: str = "mean",
    ) -> None:
        inner = _InnerLoss(loss, loss_args)
        super().__init__(inner.module, scales, kernel, reduction)
        inner.copy_forms_to(self)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss; the library takes the target first."""
        value: Tensor = super().forward(target, prediction)
        return value


class PatchAdversarialLoss(monai.losses.PatchAdversarialLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.PatchAdversarialLoss` with its two switches set in the constructor.

    Args:
        reduction: `mean`, `sum` or `none`.
        criterion: `bce`, `hinge` or `least_squares`.
        no_activation_leastsq: use no activation for `least_squares`.
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
        """Return the loss of one or several outputs of a discriminator."""
        value: Tensor = super().forward(list(outputs), self.target_is_real, self.for_discriminator)
        return value


class PerceptualLoss(monai.losses.PerceptualLoss):  # type: ignore[misc, unused-ignore]
    """`monai.losses.PerceptualLoss` with networks whose weights are data.

    The networks of MedicalNet and RadImageNet run code from `torch.hub`, and custom weights are read from a path. For
    these, create the loss in Python.

    Args:
        spatial_dims: 2, or 3 for slices along the three axes.
        network_type: a network of `lpips`, or the `resnet50` of `torchvision`.
        fake_3d_ratio: in 3 dimensions the fraction of slices of each axis that is used.
        pretrained: whether to download the weights.
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
    """`monai.losses.SURELoss` with a fixed operator.

    Args:
        operator: the network, a function from tensors to tensors; its weights are not part of the loss.
        perturb_noise: the noise of the perturbation; by default it is drawn at each call.
        eps: size of the perturbation; by default 1/1000 of the largest target.
        complex_input: whether two channels are the real and imaginary parts.
    """

    def __init__(
        self,
        operator: Callable[[Tensor], Tensor],
        perturb_noise: Tensor | None = None,
        eps: float | None = None,
        complex_input: bool = False,
    ) -> None:
        super().__init__(perturb_noise, eps)
        self._operator: Sequence[Callable[[Tensor], Tensor]] = (operator,)  # in a tuple, so that it is not a submodule
        self.complex_input = complex_input

    def forward(self, x: Tensor, y_pseudo_gt: Tensor, y_ref: Tensor | None = None) -> Tensor:
        """Return the loss of the operator's input, the pseudo ground truth and an optional reference."""
        value: Tensor = super().forward(self._operator[0], x, y_pseudo_gt, y_ref, self.complex_input)
        return value
