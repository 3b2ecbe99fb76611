"""The checks of `lossreg.testing` that losses of libraries fail, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

_CHECKS_VALUES = {"no_host_read": "it checks values of the batch before it computes"}
_SELECTS = {"no_host_read": "it selects elements by a mask, which reads their number back"}
_OVERFLOWS = {"extreme_values": "its exponential overflows float32 in the library"}
_READS_AXES = {"compiles": "MONAI reads the axes of a sum from a tensor, which cannot be compiled"}
_IN_FLOAT32 = "MONAI always computes in float32"
_COARSE = {"gradients_right": "MONAI computes part of it in float32, which is too coarse for finite differences"}
_WINDOW = {"one_pixel": "its window is larger than the image, and torch raises an error"}
_STENCIL = {"one_pixel": "it needs differences of pixels, and MONAI raises a ValueError with the size"}

_TIMM_FLOAT32 = {"dtype_follows": "timm always computes in float32"}
_UNDOCUMENTED = {"documented": "timm gives it no docstring"}
_DETACHES = {"gradients_right": "what it predicts, or weighs by, has no gradient, as in the paper"}
_MOVES = {
    "deterministic": "its running mean moves at each forward",
    "norm": "its running mean moves at each forward",
    "gradients_right": "its running mean moves at each forward",
}
_DRAWS = {"deterministic": "it projects on directions that it draws"}

_MEASURES = {"gradients_right": "its weights are held constant, as in the paper"}
_ZEROS = {"extreme_values": "it divides by a sum or a deviation that is 0 for a prediction of zeros"}
_ROOT = {"extreme_values": "the slope of a root is infinite where the images have no edges"}
_AT_ZERO = {"extreme_values": "the slope of a root is infinite where the prediction is the target"}
_DECIBELS = {"extreme_values": "it is the logarithm of an error, which is 0 where the prediction is the target"}
_PIQ = {"no_host_read": "it checks the range of the images before it computes"}
_TOO_SMALL = {"one_pixel": "it needs more pixels, and its library raises an error"}
_PANSHARPENING = {
    "dtype_follows": "a part of it is computed in float32",
    "non_square": "the size of an image must be a multiple of that of the multispectral image",
    **_TOO_SMALL,
}

EXCEPTIONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "torch.nn": {
        "AdaptiveLogSoftmaxWithLoss": _SELECTS,
        "CTCLoss": {
            "compiles": "the output size of torch's operator depends on the batch's values",
            "gradients_right": "torch returns the gradient with respect to the logits of normalised log-probabilities",
        },
        "GaussianNLLLoss": _CHECKS_VALUES,
        "PoissonNLLLoss": _OVERFLOWS,
        "SoftMarginLoss": _OVERFLOWS,
    },
    "segmentation_models_pytorch.losses": {
        "LovaszLoss": {
            **_CHECKS_VALUES,
            "dtype_follows": "it multiplies predictions by masks of float32",
        },
    },
    "timm.loss": {
        "AsymmetricLossMultiLabel": _TIMM_FLOAT32,
        "AsymmetricLossSingleLabel": _UNDOCUMENTED,
        "DistributionBalancedLoss": {"gradients_right": "timm computes in float32, too coarse for finite differences"},
        "JsdCrossEntropy": {"extreme_values": "the logarithm of a probability of 0 has no finite gradient"},
        "PolyBinaryCrossEntropy": _TIMM_FLOAT32,
        "PolyCrossEntropy": _TIMM_FLOAT32,
        "SoftTargetCrossEntropy": _UNDOCUMENTED,
        "TwoWayLoss": {**_SELECTS, **_TIMM_FLOAT32},
        "ZlprLoss": _TIMM_FLOAT32,
    },
    "lightly.loss": {
        "CAPILoss": _DETACHES,
        "DCLLoss": _SELECTS,
        "DCLWLoss": {**_SELECTS, **_DETACHES},
        "DINOLoss": _MOVES,
        "DirectCLRLoss": _SELECTS,
        "FroSSLLoss": {
            "extreme_values": "the covariance of equal embeddings is 0 / 0",
            "no_host_read": "it reads the trace of the covariance",
        },
        "IBOTPatchLoss": {**_SELECTS, **_MOVES},
        "IBOTPlusPlusPatchLoss": _MOVES,
        "LeJEPALoss": _DRAWS,
        "LeWMLoss": {**_DRAWS, **_DETACHES},
        "MACLLoss": _DETACHES,
        "MSNLoss": _DETACHES,
        "NTXentLoss": _SELECTS,
        "PMSNCustomLoss": {
            **_DETACHES,
            "builds_from_yaml": "its distribution is a Python function, which YAML cannot express",
        },
        "PMSNLoss": _DETACHES,
        "PatchKernelAlignmentLoss": {
            "dtype_follows": "lightly always computes it in float32",
            "no_host_read": "it looks whether an image has two patches that count",
        },
        "SIGReg": {**_DRAWS, "dtype_follows": "it draws other directions for float64"},
        "SwaVLoss": {**_DETACHES, "extreme_values": "its exponential overflows float32 in the library"},
        "TiCoLoss": _MOVES,
        "VICRegLLoss": _SELECTS,
        "VICRegLoss": _SELECTS,
        "VISRegLoss": {**_DRAWS, "gradients_right": "it draws other directions at each call"},
        "WMSELoss": {
            "compiles": "it creates parameters in its forward",
            "deterministic": "it orders the samples by random numbers",
            "extreme_values": "equal embeddings cannot be whitened, and torch raises an error",
        },
    },
    "pytorch_metric_learning.losses": {
        **dict.fromkeys(
            [
                "AngularLoss",
                "ArcFaceLoss",
                "ContrastiveLoss",
                "CosFaceLoss",
                "FastAPLoss",
                "GeneralizedLiftedStructureLoss",
                "HistogramLoss",
                "InstanceLoss",
                "IntraPairVarianceLoss",
                "LargeMarginSoftmaxLoss",
                "LiftedStructureLoss",
                "MarginLoss",
                "MultiSimilarityLoss",
                "NCALoss",
                "NPairsLoss",
                "NTXentLoss",
                "PNPLoss",
                "ProxyAnchorLoss",
                "ProxyNCALoss",
                "RankedListLoss",
                "SelfSupervisedLoss",
                "SignalToNoiseRatioContrastiveLoss",
                "SphereFaceLoss",
                "SubCenterArcFaceLoss",
                "SupConLoss",
                "ThresholdConsistentMarginLoss",
                "TripletMarginLoss",
                "TupletMarginLoss",
                "VICRegLoss",
            ],
            _SELECTS,
        ),
        "CircleLoss": {**_SELECTS, **_MEASURES},
        "CrossBatchMemory": {
            **_SELECTS,
            "deterministic": "it also compares with the batches before",
            "gradients_right": "earlier batches have no gradient",
            "two_processes": "each rank remembers its own batches",
        },
        "DynamicSoftMarginLoss": {
            **_SELECTS,
            "gradients_right": "its weights are a histogram of the batches so far",
            "two_processes": "each rank has the histogram of its own batches",
        },
        "ManifoldLoss": {
            "deterministic": "it assigns samples to proxies by random numbers",
            "device_follows": "it draws its assignment on the CPU",
            "gradients_right": "it assigns samples to proxies by random numbers",
        },
        "P2SGradLoss": {
            "extreme_values": "an embedding of zeros has no direction",
            "no_host_read": "it looks whether its weights have length 1",
        },
        "SmoothAPLoss": {
            "compiles": "its shapes depend on how often each class occurs",
            "dtype_follows": "the library makes some tensors of float32",
        },
        "SoftTripleLoss": {"device_follows": "it makes its margins on the device of its parameters"},
    },
    "torchvision.ops": {
        "complete_box_iou_loss": {
            **_SELECTS,
            "extreme_values": "the aspect ratio of a box without height is 0 / 0",
            "gradients_right": "the weight of the aspect ratio is held constant, as in the paper",
        },
        "distance_box_iou_loss": _SELECTS,
        "generalized_box_iou_loss": _SELECTS,
    },
    "kornia.losses": {
        "HausdorffERLoss": _CHECKS_VALUES,
        "HausdorffERLoss3D": _CHECKS_VALUES,
        "InverseDepthSmoothnessLoss": {"one_pixel": "it computes a mean over no differences"},
        "PSNRLoss": _DECIBELS,
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
        "JukeboxLoss": {
            "extreme_values": "the slope of an amplitude of 0 is infinite",
            "real_size": "its gradient is NaN in float32 too where an amplitude is 0, as in an image that repeats",
        },
        "LogHausdorffDTLoss": _CHECKS_VALUES,
        "MCCLoss": _READS_AXES,
        "MaskedDiceLoss": {
            **_READS_AXES,
            "pickles": "MONAI stores `super().__call__`, which pickle restores as the loss itself",
        },
        "MaskedLoss": _READS_AXES,
        "PerceptualLoss": {"deepcopies": "a copy of its traced feature network returns other values"},
        "SSIMLoss": {**_WINDOW, "dtype_follows": _IN_FLOAT32},
        "SURELoss": {
            **_CHECKS_VALUES,
            "builds_from_yaml": "its operator is a Python function, which YAML cannot express",
            "deterministic": "it perturbs its input with noise",
            "dtype_follows": "it draws different noise for float64",
        },
        "SoftDiceclDiceLoss": _READS_AXES,
        "SoftclDiceLoss": _READS_AXES,
        "TverskyLoss": _READS_AXES,
    },
    "torchmetrics.functional.audio": {"signal_distortion_ratio": _ZEROS},
    "auraloss.time": {"LogCoshLoss": _OVERFLOWS},
    "auraloss.freq": {
        "STFTMagnitudeLoss": {"extreme_values": "it takes the logarithm of a magnitude of 0"},
    },
    "coral_pytorch.losses": {
        "CornLoss": {"no_host_read": "it picks the samples of each step by a mask"},
    },
    "geomloss": {
        "SamplesLoss": {"gradients_right": "its gradient is that of the last step, at the fixed point of the others"},
    },
    "lpips": {"LPIPS": {"one_pixel": "the windows of its network are larger than the image"}},
    "piq": {
        "DSSLoss": {**_PIQ, **_ROOT, **_TOO_SMALL},
        "FSIMLoss": {**_PIQ, **_ROOT, "one_pixel": "its filters have no frequencies"},
        "GMSDLoss": {**_PIQ, **_ROOT, "one_pixel": _ROOT["extreme_values"]},
        "HaarPSILoss": {**_PIQ, **_TOO_SMALL},
        "InformationWeightedSSIMLoss": {**_PIQ, **_TOO_SMALL},
        "MDSILoss": {
            **_PIQ,
            **_ROOT,
            "one_pixel": _ROOT["extreme_values"],
            "split_exact": "the slope of its fourth root is steep, and float32 rounds it differently in each part",
        },
        "MultiScaleGMSDLoss": {**_PIQ, **_ROOT, **_TOO_SMALL},
        "MultiScaleSSIMLoss": {**_PIQ, **_TOO_SMALL},
        "SRSIMLoss": {
            **_PIQ,
            **_ROOT,
            **_TOO_SMALL,
            "gradients_right": "the resizing of piq returns another gradient near the borders",
        },
        "SSIMLoss": {**_PIQ, **_TOO_SMALL},
        "TVLoss": _ROOT,
        "VIFLoss": {**_PIQ, **_TOO_SMALL},
        "VSILoss": {**_PIQ, **_ROOT, "one_pixel": _ROOT["extreme_values"]},
    },
    "torchmetrics.functional.image": {
        "error_relative_global_dimensionless_synthesis": _AT_ZERO,
        "multiscale_structural_similarity_index_measure": _TOO_SMALL,
        "peak_signal_noise_ratio": _DECIBELS,
        "relative_average_spectral_error": {**_AT_ZERO, **_TOO_SMALL},
        "root_mean_squared_error_using_sliding_window": {**_AT_ZERO, **_TOO_SMALL},
        "spatial_correlation_coefficient": {
            **_ROOT,
            **_TOO_SMALL,
            "dtype_follows": "torchmetrics always computes it in float32",
        },
        "spatial_distortion_index": _PANSHARPENING,
        "spectral_angle_mapper": _ZEROS,
        "spectral_distortion_index": {"dtype_follows": _PANSHARPENING["dtype_follows"], **_TOO_SMALL},
        "structural_similarity_index_measure": _TOO_SMALL,
        "universal_image_quality_index": _TOO_SMALL,
        "peak_signal_noise_ratio_with_blocked_effect": {
            "no_host_read": "it compares the edges of blocks with the others in Python",
            **_DECIBELS,
            **_TOO_SMALL,
        },
        "quality_with_no_reference": _PANSHARPENING,
    },
    "torchmetrics.functional.regression": {
        "concordance_corrcoef": {**_CHECKS_VALUES, **_ZEROS},
        "cosine_similarity": {**_ZEROS, "dtype_follows": "torchmetrics always computes it in float32"},
        "explained_variance": _SELECTS,
        "jensen_shannon_divergence": _ZEROS,
        "kl_divergence": _ZEROS,
        "log_cosh_error": _OVERFLOWS,
        "mean_absolute_error": {"compiles": "torch's compiler fails at a warning of torchmetrics"},
        "minkowski_distance": _AT_ZERO,
        "normalized_root_mean_squared_error": _AT_ZERO,
        "pearson_corrcoef": {**_CHECKS_VALUES, **_ZEROS},
        "r2_score": _SELECTS,
        "tweedie_deviance_score": {
            **_CHECKS_VALUES,
            "extreme_values": "it takes a rate above 0 only, and torchmetrics raises a ValueError",
        },
    },
    "torchmetrics.functional.text": {"perplexity": {**_SELECTS, "extreme_values": "it is an exponential"}},
}
"""For each public module and loss: the checks that fail, with reasons."""
