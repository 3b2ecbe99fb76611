"""The facts of the losses of kornia."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import (
    DICE,
    FOCAL,
    HAUSDORFF,
    IMBALANCE,
    LOVASZ,
    MUTUAL_INFORMATION,
    NONE,
    OVERLAP,
    ROBUST,
    SIMILARITY,
    SSIM,
    TVERSKY,
    Facts,
)

_HAUSDORFF = (
    r"L = \frac{1}{n} \sum_{j = 1}^{\mathtt{k}} j^{\mathtt{alpha}} \sum_i \left( E^j (p - y)^2 \right)_i \qquad "
    r"E = \mathrm{erosion}"
)
_LOVASZ = (
    r"L = \sum_i e_i \left( J_i - J_{i - 1} \right) \qquad e_1 \geq e_2 \geq \ldots \qquad "
    r"J_i = 1 - \operatorname{IoU} \; \mathrm{if\ pixels} \; 1, \ldots, i \; \mathrm{are\ wrong}"
)
_SSIM = (
    r"\frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{x y} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)} "
    r"\qquad c_1 = (0.01 \, \mathtt{max\_val})^2, \; c_2 = (0.03 \, \mathtt{max\_val})^2"
)
_BARRON = "Barron 2019, A general and adaptive robust loss function, arXiv:1701.03077"
_IMAGES = ("images (N, C, H, W)", "images (N, C, H, W)")
_VOLUMES = ("volumes (N, C, D, H, W)", "volumes (N, C, D, H, W)")
_HEATMAPS = ("heatmaps (N, C, H, W), each with a sum of 1", "heatmaps (N, C, H, W), each with a sum of 1")
_SIGNALS, _GREY_IMAGES, _GREY_VOLUMES = "signals (N, L)", "images (N, H, W)", "volumes (N, D, H, W)"
_REFERENCE = f"{NONE}; the reference is the parameter `reference_signal`"
_MI = Facts(
    "registration",
    r"L = H(x, y) - H(x) - H(y) \qquad H(x) = -\sum_b p_b \log p_b",
    "MI, similarity, multimodal, histogram, entropy",
    MUTUAL_INFORMATION,
)
_NMI = Facts(
    "registration",
    r"L = -\frac{H(x) + H(y)}{H(x, y)} \qquad H(x) = -\sum_b p_b \log p_b",
    "NMI, similarity, multimodal, histogram, entropy",
    "Studholme et al. 1999, An overlap invariant entropy measure of 3D medical image alignment, "
    "doi:10.1016/S0031-3203(98)00091-0",
)

FACTS: Mapping[str, Facts] = {
    # segmentation
    "BinaryFocalLossWithLogits": Facts(
        "segmentation, detection, multi-label classification",
        r"L = -\frac{1}{n} \sum_i \mathtt{alpha} \, (1 - p_i)^{\mathtt{gamma}} y_i \log p_i + (1 - \mathtt{alpha}) \, "
        r"p_i^{\mathtt{gamma}} (1 - y_i) \log(1 - p_i) \qquad p = \sigma(x)",
        f"binary, sigmoid, hard examples, {IMBALANCE}",
        FOCAL,
    ),
    "DiceLoss": Facts(
        "segmentation",
        r"L = \frac{1}{N} \sum_n 1 - \frac{2 \sum p y}{\sum p + \sum y + \mathtt{eps}} \qquad "
        r"p = \operatorname{softmax}(x)",
        f"Sørensen, {OVERLAP}",
        DICE,
    ),
    "FocalLoss": Facts(
        "segmentation, detection, classification",
        r"L = -\frac{1}{n} \sum_i \alpha_{y_i} (1 - p_{i y_i})^{\mathtt{gamma}} \log p_{i y_i} \qquad "
        r"p = \operatorname{softmax}(x), \; \alpha_0 = 1 - \mathtt{alpha}, \; \alpha_{c > 0} = \mathtt{alpha}",
        f"hard examples, {IMBALANCE}",
        FOCAL,
    ),
    "HausdorffERLoss": Facts("segmentation", _HAUSDORFF, "boundary, contour, surface, erosion", HAUSDORFF),
    "HausdorffERLoss3D": Facts("segmentation", _HAUSDORFF, "boundary, surface, erosion, volumes, medical", HAUSDORFF),
    "LovaszHingeLoss": Facts(
        "segmentation", _LOVASZ, f"binary, IoU, jaccard, intersection over union, {IMBALANCE}", LOVASZ
    ),
    "LovaszSoftmaxLoss": Facts("segmentation", _LOVASZ, f"IoU, jaccard, intersection over union, {IMBALANCE}", LOVASZ),
    "TverskyLoss": Facts(
        "segmentation",
        r"L = 1 - \frac{1}{N} \sum_n \operatorname{mean}_c \frac{\mathrm{TP}_c}{\mathrm{TP}_c "
        r"+ \mathtt{alpha} \, \mathrm{FP}_c + \mathtt{beta} \, \mathrm{FN}_c + \mathtt{eps}} \qquad "
        r"p = \operatorname{softmax}(x)",
        f"recall, precision, lesions, {OVERLAP}",
        TVERSKY,
    ),
    # robust regression
    "CauchyLoss": Facts(
        "regression, image restoration",
        r"L = \frac{1}{n} \sum_i \log \left( \frac{(x_i - y_i)^2}{2} + 1 \right)",
        f"Lorentzian, {ROBUST}",
        _BARRON,
    ),
    "CharbonnierLoss": Facts(
        "regression, image restoration",
        r"L = \frac{1}{n} \sum_i \sqrt{(x_i - y_i)^2 + 1} - 1",
        f"pseudo-Huber, smooth L1, super-resolution, {ROBUST}",
        "Charbonnier et al. 1994, Two deterministic half-quadratic regularization algorithms for computed imaging, "
        "doi:10.1109/ICIP.1994.413553",
    ),
    "GemanMcclureLoss": Facts(
        "regression, image restoration",
        r"L = \frac{1}{n} \sum_i \frac{2 (x_i - y_i)^2}{(x_i - y_i)^2 + 4}",
        f"redescending, {ROBUST}",
        "Geman and McClure 1987, Statistical methods for tomographic image reconstruction",
    ),
    "WelschLoss": Facts(
        "regression, image restoration",
        r"L = \frac{1}{n} \sum_i 1 - \exp \left( -\frac{(x_i - y_i)^2}{2} \right)",
        f"Leclerc, correntropy, redescending, {ROBUST}",
        "Dennis and Welsch 1978, Techniques for nonlinear least squares and robust regression",
    ),
    # images
    "InverseDepthSmoothnessLoss": Facts(
        "depth, regularisation",
        r"L = \operatorname{mean} \left( |\partial_x d| \, e^{-|\partial_x I|} \right) "
        r"+ \operatorname{mean} \left( |\partial_y d| \, e^{-|\partial_y I|} \right)",
        "edge-aware, smoothness, disparity, monocular, regulariser",
        "Godard et al. 2017, Unsupervised monocular depth estimation with left-right consistency, arXiv:1609.03677",
        "inverse depth (N, 1, H, W)",
        "image (N, 3, H, W)",
    ),
    "MS_SSIMLoss": Facts(
        "image quality, image restoration",
        r"L = \mathtt{compensation} \left( \mathtt{alpha} \, (1 - \operatorname{MSSSIM}) + (1 - \mathtt{alpha}) \, "
        r"G * |x - y| / \mathtt{data\_range} \right)",
        f"multi-scale, L1, super-resolution, {SIMILARITY}",
        "Zhao et al. 2017, Loss functions for image restoration with neural networks, arXiv:1511.08861",
        *_IMAGES,
    ),
    "PSNRLoss": Facts(
        "image quality, image restoration",
        r"L = -10 \log_{10} \frac{\mathtt{max\_val}^2}{\frac{1}{n} \sum_i (x_i - y_i)^2}",
        "PSNR, decibel, denoising, super-resolution",
        "",
        *_IMAGES,
    ),
    "SSIMLoss": Facts(
        "image quality, image restoration",
        rf"L = \frac{{1}}{{n}} \sum_i \frac{{1 - S_i}}{{2}} \qquad S = {_SSIM}",
        f"DSSIM, {SIMILARITY}",
        SSIM,
        *_IMAGES,
    ),
    "SSIM3DLoss": Facts(
        "image quality, image restoration",
        rf"L = \frac{{1}}{{n}} \sum_i \frac{{1 - S_i}}{{2}} \qquad S = {_SSIM}",
        f"DSSIM, volumes, {SIMILARITY}",
        SSIM,
        *_VOLUMES,
    ),
    "TotalVariation": Facts(
        "image restoration, regularisation",
        r"L = \frac{1}{N C} \sum |\partial_x I| + |\partial_y I|",
        "TV, denoising, smoothness, regulariser, anisotropic",
        "Rudin et al. 1992, Nonlinear total variation based noise removal algorithms, doi:10.1016/0167-2789(92)90242-F",
        "images (..., H, W)",
        NONE,
    ),
    # heatmaps
    "js_div_loss_2d": Facts(
        "keypoints",
        r"L = \frac{1}{N C} \sum \frac{1}{2} p \log \frac{p}{m} + \frac{1}{2} y \log \frac{y}{m} \qquad "
        r"m = \frac{p + y}{2}",
        "heatmaps, pose, landmarks, symmetric, JS divergence",
        "Lin 1991, Divergence measures based on the Shannon entropy, doi:10.1109/18.61115",
        *_HEATMAPS,
    ),
    "kl_div_loss_2d": Facts(
        "keypoints",
        r"L = \frac{1}{N C} \sum y \log \frac{y}{p}",
        "heatmaps, pose, landmarks, KL divergence, relative entropy",
        "Kullback and Leibler 1951, On information and sufficiency, doi:10.1214/aoms/1177729694",
        *_HEATMAPS,
    ),
    # mutual information
    **{
        f"{prefix}mutual_information_loss{suffix}": facts._replace(prediction=shape, ground_truth=shape)
        for prefix, facts in (("", _MI), ("normalized_", _NMI))
        for suffix, shape in (("", _SIGNALS), ("_2d", _GREY_IMAGES), ("_3d", _GREY_VOLUMES))
    },
    **{
        f"{prefix}MILossFromRef{suffix}": facts._replace(prediction=shape, ground_truth=_REFERENCE)
        for prefix, facts in (("", _MI), ("N", _NMI))
        for suffix, shape in (("", _SIGNALS), ("2D", _GREY_IMAGES), ("3D", _GREY_VOLUMES))
    },
}
