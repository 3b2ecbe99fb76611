"""What the libraries' losses leave out of the contract of a loss, each with the reason: see `lossreg.testing`."""

from __future__ import annotations

from collections.abc import Mapping

_CHECKS_VALUES = {"no_host_read": "it looks at the batch's values before it computes"}
_SELECTS = {"no_host_read": "it selects elements by a mask, and their number is read back"}
_OVERFLOWS = {"extreme_values": "its exponential overflows float32, as the library has it"}
_READS_AXES = {"compiles": "MONAI reads the axes to sum over off a tensor, at which the compiler cannot follow"}
_IN_FLOAT32 = "MONAI computes in float32 whatever it gets"
_COARSE = {"gradients_right": "MONAI computes part of it in float32, too coarse for finite differences"}
_WINDOW = {"one_pixel": "its window is larger, and torch's error says so"}
_STENCIL = {"one_pixel": "it takes differences of pixels, and MONAI's ValueError says how many it needs"}

EXCEPTIONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "torch.nn": {
        "AdaptiveLogSoftmaxWithLoss": _SELECTS,
        "CTCLoss": {
            "compiles": "the size of what torch's operator returns depends on the batch's values",
            "gradients_right": "torch gives the gradient of normalised log-probabilities, with respect to their logits",
        },
        "GaussianNLLLoss": _CHECKS_VALUES,
        "PoissonNLLLoss": _OVERFLOWS,
        "SoftMarginLoss": _OVERFLOWS,
    },
    "segmentation_models_pytorch.losses": {
        "LovaszLoss": {
            **_CHECKS_VALUES,
            "dtype_follows": "it multiplies predictions with masks of float32",
        },
    },
    "torchvision.ops": {
        "complete_box_iou_loss": {
            **_SELECTS,
            "extreme_values": "the aspect ratio of a box without height is 0 / 0",
            "gradients_right": "the weight of the aspect ratio is held constant, as the paper has it",
        },
        "distance_box_iou_loss": _SELECTS,
        "generalized_box_iou_loss": _SELECTS,
    },
    "kornia.losses": {
        "HausdorffERLoss": _CHECKS_VALUES,
        "HausdorffERLoss3D": _CHECKS_VALUES,
        "InverseDepthSmoothnessLoss": {"one_pixel": "it takes the mean of no differences"},
        "SSIM3DLoss": _WINDOW,
        "SSIMLoss": _WINDOW,
        "kl_div_loss_2d": {"extreme_values": "it takes the logarithm of a probability of 0"},
        **{
            f"{kind}mutual_information_loss{size}": _SELECTS
            for kind in ("", "normalized_")
            for size in ("", "_2d", "_3d")
        },
    },
    "monai.losses": {
        "AUCMLoss": _CHECKS_VALUES,
        "AsymmetricUnifiedFocalLoss": _CHECKS_VALUES,
        "BarlowTwinsLoss": _SELECTS,
        "BendingEnergyLoss": _STENCIL,
        "BoundaryLoss": _CHECKS_VALUES,
        "BoxGIoULoss": {**_CHECKS_VALUES, **_COARSE},
        "DeepSupervisionLoss": {**_READS_AXES, "dtype_follows": _IN_FLOAT32},
        "DiceCELoss": _READS_AXES,
        "DiceFocalLoss": {**_READS_AXES, **_COARSE},
        "DiceLoss": _READS_AXES,
        "DiffusionLoss": _STENCIL,
        "FocalLoss": {"dtype_follows": _IN_FLOAT32},
        "GeneralizedDiceFocalLoss": {**_READS_AXES, **_COARSE},
        "GeneralizedDiceLoss": _READS_AXES,
        "HausdorffDTLoss": _CHECKS_VALUES,
        "JukeboxLoss": {"extreme_values": "the slope of an amplitude of 0 is infinite"},
        "LogHausdorffDTLoss": _CHECKS_VALUES,
        "MCCLoss": _READS_AXES,
        "MaskedDiceLoss": {
            **_READS_AXES,
            "pickles": "MONAI keeps `super().__call__`, which pickle reads back as the loss itself",
        },
        "MaskedLoss": _READS_AXES,
        "PerceptualLoss": {"deepcopies": "a copy of its feature network, a traced graph, gives other values"},
        "SSIMLoss": {**_WINDOW, "dtype_follows": _IN_FLOAT32},
        "SURELoss": {
            **_CHECKS_VALUES,
            "builds_from_yaml": "its operator is a Python function, which YAML cannot hold",
            "deterministic": "it perturbs its input with noise",
            "dtype_follows": "it draws other noise for float64",
        },
        "SoftDiceclDiceLoss": _READS_AXES,
        "SoftclDiceLoss": _READS_AXES,
        "TverskyLoss": _READS_AXES,
    },
}
"""By the library's public module and the loss's name there: the check that fails, and why."""
