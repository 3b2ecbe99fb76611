"""The facts of the losses of MONAI."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import (
    BOXES,
    DICE,
    FOCAL,
    GIOU,
    HAUSDORFF,
    IMAGES,
    IMBALANCE,
    MCC,
    MUTUAL_INFORMATION,
    NONE,
    OVERLAP,
    SIMILARITY,
    SSIM,
    TVERSKY,
    Facts,
)

_DICE = (
    r"\frac{2 \sum p_c y_c + \mathtt{smooth\_nr}}{\sum p_c + \sum y_c + \mathtt{smooth\_dr}}",
    r"\operatorname{Dice} = 1 - \frac{2 \sum p y + \mathtt{smooth\_nr}}{\sum p + \sum y + \mathtt{smooth\_dr}}",
)
_CLDICE = (
    r"T_p = \frac{\sum S(p) \, y + \mathtt{smooth\_nr}}{\sum S(p) + \mathtt{smooth\_dr}}, \; "
    r"T_s = \frac{\sum S(y) \, p + \mathtt{smooth\_nr}}{\sum S(y) + \mathtt{smooth\_dr}}, \; "
    r"S = \mathrm{soft\ skeleton}"
)
_HAUSDORFF = (
    r"\frac{1}{n} \sum_i (p_i - y_i)^2 \left( d_p(i)^{\mathtt{alpha}} + d_y(i)^{\mathtt{alpha}} \right)",
    r"d = \mathrm{distance\ to\ the\ boundary}",
)
_THIN = "thin structures, vessels, roads, tubular, topology, connectivity, centre line, skeleton"
_VIEWS = "embeddings (N, D) of two views of the same samples"
_FIELD = "displacement field (N, D, ...) of D axes"
_INNER = ("what the loss inside takes", "what the loss inside takes")

FACTS: Mapping[str, Facts] = {
    # overlap
    "DiceLoss": Facts(
        "segmentation",
        rf"L = \frac{{1}}{{N C}} \sum_{{n c}} 1 - {_DICE[0]}",
        f"Sørensen, IoU, jaccard, medical, {OVERLAP}",
        DICE,
    ),
    "GeneralizedDiceLoss": Facts(
        "segmentation",
        r"L = 1 - \frac{2 \sum_c w_c \sum p_c y_c + \mathtt{smooth\_nr}}"
        r"{\sum_c w_c (\sum p_c + \sum y_c) + \mathtt{smooth\_dr}} \qquad w_c = \left( \sum y_c \right)^{-2}",
        f"Sørensen, medical, {OVERLAP}",
        "Sudre et al. 2017, Generalised Dice overlap as a deep learning loss function, arXiv:1707.03237",
    ),
    "GeneralizedWassersteinDiceLoss": Facts(
        "segmentation",
        r"L = 1 - \frac{2 T + \mathtt{smooth\_nr}}{2 T + \sum_i W_i + \mathtt{smooth\_dr}} \qquad "
        r"W_i = \sum_c \mathtt{dist\_matrix}_{y_i c} \, p_{i c} \qquad T = \sum_{i : y_i \neq 0} 1 - W_i",
        f"hierarchy of classes, related classes, medical, {OVERLAP}",
        "Fidon et al. 2017, Generalised Wasserstein Dice score for imbalanced multi-class segmentation, "
        "arXiv:1707.00478",
    ),
    "MCCLoss": Facts(
        "segmentation",
        r"L = 1 - \frac{\mathrm{TP} \, \mathrm{TN} - \mathrm{FP} \, \mathrm{FN} + \mathtt{smooth\_nr}}"
        r"{\sqrt{(\mathrm{TP} + \mathrm{FP})(\mathrm{TP} + \mathrm{FN})(\mathrm{TN} + \mathrm{FP})"
        r"(\mathrm{TN} + \mathrm{FN}) + \mathtt{smooth\_dr}}}",
        f"MCC, phi coefficient, {IMBALANCE}",
        MCC,
    ),
    "MaskedDiceLoss": Facts(
        "segmentation",
        rf"L = \operatorname{{Dice}}(m p, m y) \qquad {_DICE[1]}",
        f"missing labels, partial labels, region of interest, {OVERLAP}",
        DICE,
        "probabilities (N, C, ...), or logits (N, C, ...) with `sigmoid: true` or `softmax: true`",
        "one-hot (N, C, ...), or class indices (N, 1, ...) with `to_onehot_y: true`, and a mask (N, 1, ...)",
    ),
    "SoftDiceclDiceLoss": Facts(
        "segmentation",
        r"L = (1 - \mathtt{alpha}) \operatorname{Dice} + \mathtt{alpha} \left( 1 - \frac{2 T_p T_s}{T_p + T_s} \right) "
        rf"\qquad {_CLDICE}",
        f"clDice, {_THIN}",
        "Shit et al. 2021, clDice, arXiv:2003.07311",
    ),
    "SoftclDiceLoss": Facts(
        "segmentation",
        rf"L = 1 - \frac{{2 T_p T_s}}{{T_p + T_s}} \qquad {_CLDICE}",
        f"clDice, {_THIN}",
        "Shit et al. 2021, clDice, arXiv:2003.07311",
    ),
    "TverskyLoss": Facts(
        "segmentation",
        r"L = \frac{1}{N C} \sum_{n c} 1 - \frac{\mathrm{TP}_c + \mathtt{smooth\_nr}}"
        r"{\mathrm{TP}_c + \mathtt{alpha} \, \mathrm{FP}_c + \mathtt{beta} \, \mathrm{FN}_c + \mathtt{smooth\_dr}}",
        f"recall, precision, lesions, medical, {OVERLAP}",
        TVERSKY,
    ),
    # compound
    "DiceCELoss": Facts(
        "segmentation",
        r"L = \mathtt{lambda\_dice} \operatorname{Dice} + \mathtt{lambda\_ce} \operatorname{CE} \qquad "
        rf"{_DICE[1]} \qquad \operatorname{{CE}} = -\frac{{1}}{{n}} \sum_i \mathtt{{weight}}_{{y_i}} \log p_{{i y_i}}",
        f"compound, combo, label smoothing, medical, nnU-Net, {OVERLAP}",
    ),
    "DiceFocalLoss": Facts(
        "segmentation",
        r"L = \mathtt{lambda\_dice} \operatorname{Dice} + \mathtt{lambda\_focal} \operatorname{FL} \qquad "
        rf"{_DICE[1]} \qquad \operatorname{{FL}} = -\frac{{1}}{{n}} \sum_i (1 - q_i)^{{\mathtt{{gamma}}}} \log q_i",
        f"compound, combo, hard examples, medical, {OVERLAP}",
        "Zhu et al. 2018, AnatomyNet, arXiv:1808.05238",
    ),
    "GeneralizedDiceFocalLoss": Facts(
        "segmentation",
        r"L = \mathtt{lambda\_gdl} \operatorname{GDL} + \mathtt{lambda\_focal} \operatorname{FL} \qquad "
        r"\operatorname{GDL} = \mathrm{GeneralizedDiceLoss} \qquad "
        r"\operatorname{FL} = -\frac{1}{n} \sum_i (1 - q_i)^{\mathtt{gamma}} \log q_i",
        f"compound, combo, hard examples, medical, {OVERLAP}",
    ),
    # boundary
    "BoundaryLoss": Facts(
        "segmentation",
        r"L = \frac{1}{n} \sum_i p_i \, \phi_y(i) \qquad \phi_y = \mathrm{signed\ distance\ to\ the\ boundary\ of\ } y",
        f"boundary, contour, surface, distance map, medical, {IMBALANCE}",
        "Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, arXiv:1812.07032",
    ),
    "HausdorffDTLoss": Facts(
        "segmentation",
        rf"L = {_HAUSDORFF[0]} \qquad {_HAUSDORFF[1]}",
        "boundary, contour, surface, distance map, medical",
        HAUSDORFF,
    ),
    "LogHausdorffDTLoss": Facts(
        "segmentation",
        rf"L = \log \left( 1 + {_HAUSDORFF[0]} \right) \qquad {_HAUSDORFF[1]}",
        "boundary, contour, surface, distance map, medical",
        HAUSDORFF,
    ),
    # classification
    "AUCMLoss": Facts(
        "classification",
        r"L = (1 - r) P + r M + 2 \alpha D - r (1 - r) \alpha^2 \qquad r = \mathtt{imratio} \qquad "
        r"P = \frac{1}{n} \sum_i y_i (x_i - a)^2, \; M = \frac{1}{n} \sum_i (1 - y_i) (x_i - b)^2 \qquad "
        r"D = r (1 - r) \, \mathtt{margin} + \frac{1}{n} \sum_i r (1 - y_i) x_i - (1 - r) y_i x_i \qquad "
        r"a, b, \alpha \; \mathrm{are\ trained}",
        f"AUC, AUROC, ROC, ranking, {IMBALANCE}",
        "Yuan et al. 2021, Large-scale robust deep AUC maximization, arXiv:2012.03173",
        "scores (N, 1, ...)",
        "0 or 1 (N, 1, ...)",
    ),
    "AsymmetricUnifiedFocalLoss": Facts(
        "segmentation",
        r"L = \mathtt{weight} \, F + (1 - \mathtt{weight}) \, T \qquad "
        r"F = -\frac{1}{n} \sum_i \mathtt{delta} \, y_{i 1} \log p_{i 1} + (1 - \mathtt{delta}) "
        r"(1 - p_{i 0})^{\mathtt{gamma}} y_{i 0} \log p_{i 0} \qquad "
        r"T = \frac{1}{2 N} \sum_n (1 - I_0) + (1 - I_1)^{1 - \mathtt{gamma}} \qquad "
        r"I_c = \frac{\mathrm{TP}_c}{\mathrm{TP}_c + \mathtt{delta} \, \mathrm{FN}_c "
        r"+ (1 - \mathtt{delta}) \, \mathrm{FP}_c}",
        f"focal Tversky, hard examples, medical, {IMBALANCE}",
        "Yeung et al. 2022, Unified focal loss, arXiv:2102.04525",
    ),
    "FocalLoss": Facts(
        "segmentation, detection, classification",
        r"L = -\frac{1}{n} \sum_i \alpha_i (1 - q_i)^{\mathtt{gamma}} \log q_i \qquad "
        r"q_i = y_i p_i + (1 - y_i)(1 - p_i)",
        f"hard examples, {IMBALANCE}",
        FOCAL,
    ),
    "NACLLoss": Facts(
        "segmentation",
        r"L = -\frac{1}{n} \sum_i \log p_{i y_i} + \frac{\mathtt{alpha}}{n C} \sum_{i c} "
        r"|x_{i c} - \bar y_{i c}| \qquad \bar y = \mathrm{shares\ of\ the\ classes\ among\ the\ neighbours}",
        "calibration, overconfidence, label smoothing, noisy labels",
        "Murugesan et al. 2023, Trust your neighbours: penalty-based constraints for model calibration, "
        "arXiv:2303.06268",
    ),
    # registration
    "BendingEnergyLoss": Facts(
        "registration, regularisation",
        r"L = \frac{1}{n} \sum_i \sum_{j k} \left( \partial_j \partial_k u_i \right)^2",
        "deformation, displacement, smoothness, regulariser, second derivative",
        "Rueckert et al. 1999, Nonrigid registration using free-form deformations, doi:10.1109/42.796284",
        _FIELD,
        NONE,
    ),
    "BoxGIoULoss": Facts(
        "detection",
        r"L = 1 - \frac{|A \cap B|}{|A \cup B|} + \frac{|E| - |A \cup B|}{|E|} \qquad E = \mathrm{enclosing\ box}",
        "boxes, bounding boxes, box regression, IoU, intersection over union",
        GIOU,
        f"{BOXES}; (N, 6) in volumes",
        f"{BOXES}; (N, 6) in volumes",
    ),
    "DiffusionLoss": Facts(
        "registration, regularisation",
        r"L = \frac{1}{n} \sum_i \sum_j \left( \partial_j u_i \right)^2",
        "deformation, displacement, smoothness, regulariser, first derivative",
        "Fischer and Modersitzki 2002, Fast diffusion registration",
        _FIELD,
        NONE,
    ),
    "GlobalMutualInformationLoss": Facts(
        "registration",
        r"L = -\sum_{a b} p_{a b} \log \frac{p_{a b} + \mathtt{smooth\_nr}}{p_a p_b + \mathtt{smooth\_dr}}",
        "MI, similarity, multimodal, histogram, entropy",
        MUTUAL_INFORMATION,
        IMAGES,
        IMAGES,
    ),
    "LocalNormalizedCrossCorrelationLoss": Facts(
        "registration",
        r"L = -\frac{1}{n} \sum_i \frac{\operatorname{cov}_i(x, y)^2 + \mathtt{smooth\_nr}}"
        r"{\operatorname{var}_i(x) \operatorname{var}_i(y) + \mathtt{smooth\_dr}}",
        "NCC, LNCC, similarity, cross-correlation, window",
        "Avants et al. 2008, Symmetric diffeomorphic image registration with cross-correlation, "
        "doi:10.1016/j.media.2007.06.004",
        IMAGES,
        IMAGES,
    ),
    # images
    "JukeboxLoss": Facts(
        "generation, image restoration, audio",
        r"L = \frac{1}{n} \sum_i \left( |\mathcal{F} x|_i - |\mathcal{F} y|_i \right)^2",
        "spectral, spectrum, frequency, FFT, Fourier, spectrogram",
        "Dhariwal et al. 2020, Jukebox, arXiv:2005.00341",
        IMAGES,
        IMAGES,
    ),
    "PerceptualLoss": Facts(
        "image quality, image restoration, generation",
        r"L = \sum_l \frac{1}{n_l} \sum_i \Vert w_l \odot (f_l(x)_i - f_l(y)_i) \Vert^2 \qquad "
        r"f_l = \mathrm{normalised\ features\ of\ layer\ } l",
        "perceptual, feature, LPIPS, VGG, AlexNet, style, super-resolution, pretrained",
        "Zhang et al. 2018, The unreasonable effectiveness of deep features as a perceptual metric, arXiv:1801.03924",
        IMAGES,
        IMAGES,
    ),
    "SSIMLoss": Facts(
        "image quality, image restoration",
        r"L = 1 - \frac{1}{n} \sum_i \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{x y} + c_2)}"
        r"{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)} \qquad "
        r"c_j = (\mathtt{k}_j \, \mathtt{data\_range})^2",
        SIMILARITY,
        SSIM,
        IMAGES,
        IMAGES,
    ),
    # others
    "BarlowTwinsLoss": Facts(
        "self-supervised learning",
        r"L = \sum_i (1 - C_{i i})^2 + \mathtt{lambd} \sum_{i \neq j} C_{i j}^2 \qquad "
        r"C = \mathrm{cross\ correlation\ of\ the\ two\ views}",
        "contrastive, redundancy reduction, decorrelation, views, embeddings, feature, representation",
        "Zbontar et al. 2021, Barlow twins, arXiv:2103.03230",
        _VIEWS,
        NONE,
    ),
    "ContrastiveLoss": Facts(
        "self-supervised learning, metric learning",
        r"L = -\frac{1}{2 N} \sum_i \log \frac{\exp(s_{i j(i)} / \mathtt{temperature})}"
        r"{\sum_{k \neq i} \exp(s_{i k} / \mathtt{temperature})} \qquad s_{i k} = \cos(z_i, z_k), \; "
        r"j(i) = \mathrm{the\ other\ view\ of\ } i",
        "SimCLR, NT-Xent, InfoNCE, views, embeddings, feature, representation",
        "Chen et al. 2020, A simple framework for contrastive learning of visual representations, arXiv:2002.05709",
        _VIEWS,
        NONE,
    ),
    "DeepSupervisionLoss": Facts(
        "segmentation",
        r"L = \sum_l \mathtt{weights}_l \, \mathtt{loss}(x_l, y) \qquad \mathtt{weights}_l = 2^{-l} \; "
        r"\mathrm{by\ default}",
        "auxiliary outputs, multi-scale, pyramid, decoder levels",
        "Lee et al. 2015, Deeply-supervised nets, arXiv:1409.5185",
        "what the loss inside takes, at one or several levels",
        "what the loss inside takes",
    ),
    "MaskedLoss": Facts(
        "segmentation, regression",
        r"L = \mathtt{loss}(m x, m y)",
        "mask, missing labels, partial labels, region of interest",
        "",
        "what the loss inside takes",
        "what the loss inside takes, and a mask",
    ),
    "MultiScaleLoss": Facts(
        "registration, image restoration",
        r"L = \frac{1}{S} \sum_s \mathtt{loss}(G_s * x, G_s * y) \qquad G_s = \mathtt{kernel} \; "
        r"\mathrm{of\ width\ } \mathtt{scales}_s",
        "pyramid, Gaussian, smoothing",
        "",
        *_INNER,
    ),
    "PatchAdversarialLoss": Facts(
        "generation, image restoration",
        r"L = \frac{1}{n} \sum_i (a(x_i) - t)^2 \qquad t = 1 \; \mathrm{for\ the\ generator\ and\ real\ images}, \; "
        r"0 \; \mathrm{else} \qquad a = \mathrm{leaky\ ReLU}",
        "GAN, adversarial, discriminator, PatchGAN, LSGAN, hinge, least squares",
        "Isola et al. 2017, Image-to-image translation with conditional adversarial networks, arXiv:1611.07004",
        "outputs of a discriminator (N, C, ...)",
        NONE,
    ),
    "SURELoss": Facts(
        "image restoration, self-supervised learning",
        r"L = \frac{1}{n} \operatorname{MSE}(h(x), y) \sum \frac{b^T (h(x + \epsilon b) - h(x))}{\epsilon} \qquad "
        r"h = \mathtt{operator}, \; b = \mathtt{perturb\_noise}, \; \epsilon = \mathtt{eps}",
        "denoising, MRI reconstruction, Stein, unbiased risk, divergence",
        "Stein 1981, Estimation of the mean of a multivariate normal distribution, doi:10.1214/aos/1176345632",
        "input of the operator (N, C, H, W)",
        "pseudo ground truth (N, C, H, W)",
    ),
}
