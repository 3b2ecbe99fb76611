"""The modules that define the losses of libraries; older configs use them, as `monai.losses.dice.DiceLoss`."""

from __future__ import annotations

from collections.abc import Mapping

_DEFINED: Mapping[str, Mapping[str, str]] = {
    "geomloss": {"geomloss._legacy.samples_loss": "SamplesLoss", "geomloss.samples_loss": "SamplesLoss"},
    "lpips": {"lpips.lpips": "LPIPS"},
    "piq": {
        "piq.brisque": "BRISQUELoss",
        "piq.dss": "DSSLoss",
        "piq.fsim": "FSIMLoss",
        "piq.gmsd": "GMSDLoss MultiScaleGMSDLoss",
        "piq.haarpsi": "HaarPSILoss",
        "piq.iw_ssim": "InformationWeightedSSIMLoss",
        "piq.mdsi": "MDSILoss",
        "piq.ms_ssim": "MultiScaleSSIMLoss",
        "piq.perceptual": "ContentLoss DISTS LPIPS StyleLoss",
        "piq.pieapp": "PieAPP",
        "piq.srsim": "SRSIMLoss",
        "piq.ssim": "SSIMLoss",
        "piq.tv": "TVLoss",
        "piq.vif": "VIFLoss",
        "piq.vsi": "VSILoss",
    },
    "torchmetrics.functional.audio": {
        "torchmetrics.functional.audio.pit": "permutation_invariant_training",
        "torchmetrics.functional.audio.sdr": (
            "scale_invariant_signal_distortion_ratio signal_distortion_ratio source_aggregated_signal_distortion_ratio"
        ),
        "torchmetrics.functional.audio.snr": (
            "complex_scale_invariant_signal_noise_ratio scale_invariant_signal_noise_ratio signal_noise_ratio"
        ),
    },
    "torchmetrics.functional.image": {
        "torchmetrics.functional.image.d_lambda": "spectral_distortion_index",
        "torchmetrics.functional.image.d_s": "spatial_distortion_index",
        "torchmetrics.functional.image.ergas": "error_relative_global_dimensionless_synthesis",
        "torchmetrics.functional.image.psnr": "peak_signal_noise_ratio",
        "torchmetrics.functional.image.psnrb": "peak_signal_noise_ratio_with_blocked_effect",
        "torchmetrics.functional.image.qnr": "quality_with_no_reference",
        "torchmetrics.functional.image.rase": "relative_average_spectral_error",
        "torchmetrics.functional.image.rmse_sw": "root_mean_squared_error_using_sliding_window",
        "torchmetrics.functional.image.sam": "spectral_angle_mapper",
        "torchmetrics.functional.image.scc": "spatial_correlation_coefficient",
        "torchmetrics.functional.image.ssim": (
            "multiscale_structural_similarity_index_measure structural_similarity_index_measure"
        ),
        "torchmetrics.functional.image.tv": "total_variation",
        "torchmetrics.functional.image.uqi": "universal_image_quality_index",
    },
    "torchmetrics.functional.multimodal": {"torchmetrics.functional.multimodal.lve": "lip_vertex_error"},
    "torchmetrics.functional.regression": {
        "torchmetrics.functional.regression.concordance": "concordance_corrcoef",
        "torchmetrics.functional.regression.cosine_similarity": "cosine_similarity",
        "torchmetrics.functional.regression.explained_variance": "explained_variance",
        "torchmetrics.functional.regression.js_divergence": "jensen_shannon_divergence",
        "torchmetrics.functional.regression.kl_divergence": "kl_divergence",
        "torchmetrics.functional.regression.log_cosh": "log_cosh_error",
        "torchmetrics.functional.regression.log_mse": "mean_squared_log_error",
        "torchmetrics.functional.regression.mae": "mean_absolute_error",
        "torchmetrics.functional.regression.mape": "mean_absolute_percentage_error",
        "torchmetrics.functional.regression.minkowski": "minkowski_distance",
        "torchmetrics.functional.regression.mse": "mean_squared_error",
        "torchmetrics.functional.regression.nrmse": "normalized_root_mean_squared_error",
        "torchmetrics.functional.regression.pearson": "pearson_corrcoef",
        "torchmetrics.functional.regression.r2": "r2_score",
        "torchmetrics.functional.regression.rse": "relative_squared_error",
        "torchmetrics.functional.regression.symmetric_mape": "symmetric_mean_absolute_percentage_error",
        "torchmetrics.functional.regression.tweedie_deviance": "tweedie_deviance_score",
        "torchmetrics.functional.regression.wmape": "weighted_mean_absolute_percentage_error",
    },
    "torchmetrics.functional.text": {"torchmetrics.functional.text.perplexity": "perplexity"},
    "kornia.losses": {
        "kornia.losses.cauchy": "CauchyLoss",
        "kornia.losses.charbonnier": "CharbonnierLoss",
        "kornia.losses.depth_smooth": "InverseDepthSmoothnessLoss",
        "kornia.losses.dice": "DiceLoss",
        "kornia.losses.divergence": "js_div_loss_2d kl_div_loss_2d",
        "kornia.losses.focal": "BinaryFocalLossWithLogits FocalLoss",
        "kornia.losses.geman_mcclure": "GemanMcclureLoss",
        "kornia.losses.hausdorff": "HausdorffERLoss HausdorffERLoss3D",
        "kornia.losses.lovasz_hinge": "LovaszHingeLoss",
        "kornia.losses.lovasz_softmax": "LovaszSoftmaxLoss",
        "kornia.losses.ms_ssim": "MS_SSIMLoss",
        "kornia.losses.mutual_information": (
            "MILossFromRef MILossFromRef2D MILossFromRef3D NMILossFromRef NMILossFromRef2D NMILossFromRef3D "
            "mutual_information_loss mutual_information_loss_2d mutual_information_loss_3d "
            "normalized_mutual_information_loss normalized_mutual_information_loss_2d "
            "normalized_mutual_information_loss_3d"
        ),
        "kornia.losses.psnr": "PSNRLoss",
        "kornia.losses.ssim": "SSIMLoss",
        "kornia.losses.ssim3d": "SSIM3DLoss",
        "kornia.losses.total_variation": "TotalVariation",
        "kornia.losses.tversky": "TverskyLoss",
        "kornia.losses.welsch": "WelschLoss",
    },
    "monai.losses": {
        "monai.losses.adversarial_loss": "PatchAdversarialLoss",
        "monai.losses.aucm_loss": "AUCMLoss",
        "monai.losses.barlow_twins": "BarlowTwinsLoss",
        "monai.losses.boundary_loss": "BoundaryLoss",
        "monai.losses.cldice": "SoftDiceclDiceLoss SoftclDiceLoss",
        "monai.losses.contrastive": "ContrastiveLoss",
        "monai.losses.deform": "BendingEnergyLoss DiffusionLoss",
        "monai.losses.dice": (
            "DiceCELoss DiceFocalLoss DiceLoss GeneralizedDiceFocalLoss GeneralizedDiceLoss "
            "GeneralizedWassersteinDiceLoss MaskedDiceLoss"
        ),
        "monai.losses.ds_loss": "DeepSupervisionLoss",
        "monai.losses.focal_loss": "FocalLoss",
        "monai.losses.giou_loss": "BoxGIoULoss",
        "monai.losses.hausdorff_loss": "HausdorffDTLoss LogHausdorffDTLoss",
        "monai.losses.image_dissimilarity": "GlobalMutualInformationLoss LocalNormalizedCrossCorrelationLoss",
        "monai.losses.mcc_loss": "MCCLoss",
        "monai.losses.multi_scale": "MultiScaleLoss",
        "monai.losses.nacl_loss": "NACLLoss",
        "monai.losses.perceptual": "PerceptualLoss",
        "monai.losses.spatial_mask": "MaskedLoss",
        "monai.losses.spectral_loss": "JukeboxLoss",
        "monai.losses.ssim_loss": "SSIMLoss",
        "monai.losses.sure_loss": "SURELoss",
        "monai.losses.tversky": "TverskyLoss",
        "monai.losses.unified_focal_loss": "AsymmetricUnifiedFocalLoss",
    },
    "segmentation_models_pytorch.losses": {
        "segmentation_models_pytorch.losses.dice": "DiceLoss",
        "segmentation_models_pytorch.losses.focal": "FocalLoss",
        "segmentation_models_pytorch.losses.jaccard": "JaccardLoss",
        "segmentation_models_pytorch.losses.lovasz": "LovaszLoss",
        "segmentation_models_pytorch.losses.mcc": "MCCLoss",
        "segmentation_models_pytorch.losses.soft_bce": "SoftBCEWithLogitsLoss",
        "segmentation_models_pytorch.losses.soft_ce": "SoftCrossEntropyLoss",
        "segmentation_models_pytorch.losses.tversky": "TverskyLoss",
    },
    "torch.nn": {
        "torch.nn.modules.adaptive": "AdaptiveLogSoftmaxWithLoss",
        # these are the classes of torch under other names
        "segmentation_models_pytorch.utils.losses": (
            "BCELoss BCEWithLogitsLoss CrossEntropyLoss L1Loss MSELoss NLLLoss"
        ),
    },
    "torchvision.ops": {
        "torchvision.ops.ciou_loss": "complete_box_iou_loss",
        "torchvision.ops.diou_loss": "distance_box_iou_loss",
        "torchvision.ops.focal_loss": "sigmoid_focal_loss",
        "torchvision.ops.giou_loss": "generalized_box_iou_loss",
    },
}


def homes(module: str, name: str) -> tuple[str, ...]:
    """Return the other modules with a loss of a library's public module."""
    return tuple(home for home, names in _DEFINED.get(module, {}).items() if name in names.split())
