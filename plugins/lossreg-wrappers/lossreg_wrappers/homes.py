"""The modules that define the losses of libraries; older configs use them, as `monai.losses.dice.DiceLoss`."""

from __future__ import annotations

from collections.abc import Mapping

_DEFINED: Mapping[str, Mapping[str, str]] = {
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
