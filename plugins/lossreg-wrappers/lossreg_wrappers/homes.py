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
    "lightly.loss": {
        "lightly.loss.barlow_twins_loss": "BarlowTwinsLoss",
        "lightly.loss.capi_loss": "CAPILoss",
        "lightly.loss.dcl_loss": "DCLLoss DCLWLoss",
        "lightly.loss.detcon_loss": "DetConBLoss DetConSLoss",
        "lightly.loss.dino_loss": "DINOLoss",
        "lightly.loss.directclr_loss": "DirectCLRLoss",
        "lightly.loss.emp_ssl_loss": "EMPSSLLoss",
        "lightly.loss.frossl_loss": "FroSSLLoss",
        "lightly.loss.ibot_loss": "IBOTPatchLoss IBOTPlusPlusPatchLoss",
        "lightly.loss.koleo_loss": "KoLeoLoss",
        "lightly.loss.lejepa_loss": "LeJEPALoss SIGReg",
        "lightly.loss.lewm_loss": "LeWMLoss",
        "lightly.loss.macl_loss": "MACLLoss",
        "lightly.loss.mmcr_loss": "MMCRLoss",
        "lightly.loss.msn_loss": "MSNLoss",
        "lightly.loss.negative_cosine_similarity": "NegativeCosineSimilarity",
        "lightly.loss.ntx_ent_loss": "NTXentLoss",
        "lightly.loss.patch_kernel_alignment_loss": "PatchKernelAlignmentLoss",
        "lightly.loss.pmsn_loss": "PMSNCustomLoss PMSNLoss",
        "lightly.loss.swav_loss": "SwaVLoss",
        "lightly.loss.tico_loss": "TiCoLoss",
        "lightly.loss.vicreg_loss": "VICRegLoss",
        "lightly.loss.vicregl_loss": "VICRegLLoss",
        "lightly.loss.visreg_loss": "VISRegLoss",
        "lightly.loss.wmse_loss": "WMSELoss",
    },
    "pytorch_metric_learning.losses": {
        "pytorch_metric_learning.losses.angular_loss": "AngularLoss",
        "pytorch_metric_learning.losses.arcface_loss": "ArcFaceLoss",
        "pytorch_metric_learning.losses.circle_loss": "CircleLoss",
        "pytorch_metric_learning.losses.contrastive_loss": "ContrastiveLoss",
        "pytorch_metric_learning.losses.cosface_loss": "CosFaceLoss",
        "pytorch_metric_learning.losses.cross_batch_memory": "CrossBatchMemory",
        "pytorch_metric_learning.losses.dynamic_soft_margin_loss": "DynamicSoftMarginLoss",
        "pytorch_metric_learning.losses.fast_ap_loss": "FastAPLoss",
        "pytorch_metric_learning.losses.histogram_loss": "HistogramLoss",
        "pytorch_metric_learning.losses.instance_loss": "InstanceLoss",
        "pytorch_metric_learning.losses.intra_pair_variance_loss": "IntraPairVarianceLoss",
        "pytorch_metric_learning.losses.large_margin_softmax_loss": "LargeMarginSoftmaxLoss",
        "pytorch_metric_learning.losses.lifted_structure_loss": "GeneralizedLiftedStructureLoss LiftedStructureLoss",
        "pytorch_metric_learning.losses.manifold_loss": "ManifoldLoss",
        "pytorch_metric_learning.losses.margin_loss": "MarginLoss",
        "pytorch_metric_learning.losses.multi_similarity_loss": "MultiSimilarityLoss",
        "pytorch_metric_learning.losses.n_pairs_loss": "NPairsLoss",
        "pytorch_metric_learning.losses.nca_loss": "NCALoss",
        "pytorch_metric_learning.losses.normalized_softmax_loss": "NormalizedSoftmaxLoss",
        "pytorch_metric_learning.losses.ntxent_loss": "NTXentLoss",
        "pytorch_metric_learning.losses.p2s_grad_loss": "P2SGradLoss",
        "pytorch_metric_learning.losses.pnp_loss": "PNPLoss",
        "pytorch_metric_learning.losses.proxy_anchor_loss": "ProxyAnchorLoss",
        "pytorch_metric_learning.losses.proxy_losses": "ProxyNCALoss",
        "pytorch_metric_learning.losses.ranked_list_loss": "RankedListLoss",
        "pytorch_metric_learning.losses.self_supervised_loss": "SelfSupervisedLoss",
        "pytorch_metric_learning.losses.signal_to_noise_ratio_losses": "SignalToNoiseRatioContrastiveLoss",
        "pytorch_metric_learning.losses.smooth_ap": "SmoothAPLoss",
        "pytorch_metric_learning.losses.soft_triple_loss": "SoftTripleLoss",
        "pytorch_metric_learning.losses.sphereface_loss": "SphereFaceLoss",
        "pytorch_metric_learning.losses.subcenter_arcface_loss": "SubCenterArcFaceLoss",
        "pytorch_metric_learning.losses.supcon_loss": "SupConLoss",
        "pytorch_metric_learning.losses.tcm_loss": "ThresholdConsistentMarginLoss",
        "pytorch_metric_learning.losses.triplet_margin_loss": "TripletMarginLoss",
        "pytorch_metric_learning.losses.tuplet_margin_loss": "TupletMarginLoss",
        "pytorch_metric_learning.losses.vicreg_loss": "VICRegLoss",
    },
    "timm.loss": {
        "timm.loss.asymmetric_loss": "AsymmetricLossMultiLabel AsymmetricLossSingleLabel",
        "timm.loss.binary_cross_entropy": "BinaryCrossEntropy",
        "timm.loss.cross_entropy": "LabelSmoothingCrossEntropy SoftTargetCrossEntropy",
        "timm.loss.distribution_balanced_loss": "DistributionBalancedLoss",
        "timm.loss.jsd": "JsdCrossEntropy",
        "timm.loss.poly_loss": "PolyBinaryCrossEntropy PolyCrossEntropy",
        "timm.loss.two_way_loss": "TwoWayLoss",
        "timm.loss.zlpr_loss": "ZlprLoss",
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
