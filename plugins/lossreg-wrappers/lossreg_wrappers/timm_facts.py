"""The facts of the losses of timm."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import IMBALANCE, Facts

_LOGITS = "logits (N, C)"
_INDICES = "class indices (N)"
_LABELS = "0 or 1 for each class, or a number between (N, C)"
_SHARES = "class probabilities (N, C)"
_ASL = "Ridnik et al. 2021, Asymmetric Loss for Multi-Label Classification, arXiv:2009.14119"
_POLY = "Leng et al. 2022, PolyLoss, arXiv:2204.12511"
_SIGMOID, _SOFTMAX = r"p = \sigma(x)", r"p = \operatorname{softmax}(x)"
_SMOOTHED = r"t_{i c} = (1 - \mathtt{smoothing}) \, [c = y_i] + \mathtt{smoothing} / C"

FACTS: Mapping[str, Facts] = {
    "AsymmetricLossMultiLabel": Facts(
        "multi-label classification",
        r"L = -\frac{1}{N} \sum_{i c} y_{i c} (1 - p_{i c})^{\mathtt{gamma\_pos}} \log p_{i c} "
        r"+ (1 - y_{i c}) \, q_{i c}^{\mathtt{gamma\_neg}} \log(1 - q_{i c}) \qquad "
        rf"q_{{i c}} = \max(0, p_{{i c}} - \mathtt{{clip}}) \qquad {_SIGMOID}",
        f"ASL, focal, asymmetric focusing, hard examples, missing labels, {IMBALANCE}",
        _ASL,
        _LOGITS,
        _LABELS,
    ),
    "AsymmetricLossSingleLabel": Facts(
        "classification",
        r"L = -\frac{1}{N} \sum_{i c} t_{i c} \, w_{i c} \log p_{i c} \qquad "
        r"w_{i y_i} = (1 - p_{i y_i})^{\mathtt{gamma\_pos}}, \; w_{i c} = p_{i c}^{\mathtt{gamma\_neg}} \qquad "
        rf"t_{{i c}} = (1 - \mathtt{{eps}}) \, [c = y_i] + \mathtt{{eps}} / C \qquad {_SOFTMAX}",
        f"ASL, focal, hard examples, label smoothing, {IMBALANCE}",
        _ASL,
        _LOGITS,
        _INDICES,
    ),
    "BinaryCrossEntropy": Facts(
        "multi-label classification, classification",
        r"L = -\frac{1}{N C} \sum_{i c} \mathtt{weight}_c \left( \mathtt{pos\_weight}_c \, t_{i c} "
        rf"\log \sigma(x_{{i c}}) + (1 - t_{{i c}}) \log(1 - \sigma(x_{{i c}})) \right) \qquad {_SMOOTHED}",
        "BCE, sigmoid, label smoothing, mixup, CutMix, ImageNet",
        "Wightman et al. 2021, ResNet strikes back, arXiv:2110.00476",
        _LOGITS,
        f"{_INDICES}, or 0 or 1 for each class (N, C)",
    ),
    "DistributionBalancedLoss": Facts(
        "multi-label classification",
        r"L = -\frac{\mathtt{focal\_balance}}{N C} \sum_{i c} r_{i c} \left( y_{i c} \, "
        r"\sigma(-z_{i c})^{\mathtt{focal\_gamma}} \log \sigma(z_{i c}) + \frac{1 - y_{i c}}{\mathtt{neg\_scale}} \, "
        r"\sigma(\mathtt{neg\_scale} \, z_{i c})^{\mathtt{focal\_gamma}} \log \sigma(-\mathtt{neg\_scale} \, z_{i c}) "
        r"\right) \qquad r_{i c} = \mathtt{map\_alpha} + \sigma\left(\mathtt{map\_beta} \left( "
        r"\frac{1 / n_c}{\sum_k y_{i k} / n_k} - \mathtt{map\_mu} \right)\right) \qquad "
        r"z_{i c} = x_{i c} - \frac{\mathtt{init\_bias}}{\mathtt{neg\_scale}} \log(\mathtt{num\_samples} / n_c - 1) "
        r"\qquad n = \mathtt{class\_counts}",
        f"DB loss, long tail, long-tailed, re-balancing, focal, {IMBALANCE}",
        "Wu et al. 2020, Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets, "
        "arXiv:2007.09654",
        _LOGITS,
        _LABELS,
    ),
    "JsdCrossEntropy": Facts(
        "classification",
        r"L = -\frac{1}{N} \sum_{i c} t_{i c} \log p_{1 i c} + \frac{\mathtt{alpha}}{K N} \sum_{k i c} p_{k i c} "
        r"\log \frac{p_{k i c}}{m_{i c}} \qquad m = \frac{1}{K} \sum_k p_k, \; K = \mathtt{num\_splits} \qquad "
        rf"{_SMOOTHED} \qquad {_SOFTMAX}",
        "AugMix, consistency, JSD, Jensen-Shannon divergence, augmentation, robustness, label smoothing",
        "Hendrycks et al. 2020, AugMix, arXiv:1912.02781",
        "logits (k N, C): `num_splits` parts of N, the first of clean images",
        "class indices (k N)",
    ),
    "LabelSmoothingCrossEntropy": Facts(
        "classification",
        r"L = -\frac{1}{N} \sum_i (1 - \mathtt{smoothing}) \log p_{i y_i} + \frac{\mathtt{smoothing}}{C} "
        rf"\sum_c \log p_{{i c}} \qquad {_SOFTMAX}",
        "label smoothing, soft labels, CE, calibration, noisy labels",
        "Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567",
        _LOGITS,
        _INDICES,
    ),
    "PolyBinaryCrossEntropy": Facts(
        "multi-label classification",
        r"L = \frac{1}{N C} \sum_{i c} -(1 - q_{i c})^{\mathtt{gamma}} \left( y_{i c} \log p_{i c} "
        r"+ (1 - y_{i c}) \log(1 - p_{i c}) \right) + \mathtt{epsilon} \, (1 - q_{i c})^{\mathtt{gamma} + 1} \qquad "
        rf"q = y p + (1 - y)(1 - p), \; {_SIGMOID}",
        "PolyLoss, focal, BCE, sigmoid, polynomial",
        _POLY,
        _LOGITS,
        _LABELS,
    ),
    "PolyCrossEntropy": Facts(
        "classification",
        r"L = \frac{1}{N} \sum_i -\sum_c y_{i c} \log p_{i c} + \mathtt{epsilon} \left( 1 - \sum_c y_{i c} p_{i c} "
        rf"\right) \qquad {_SOFTMAX}",
        "PolyLoss, CE, label smoothing, polynomial, mixup",
        _POLY,
        _LOGITS,
        f"{_INDICES}, or {_SHARES}",
    ),
    "SoftTargetCrossEntropy": Facts(
        "classification, distillation",
        rf"L = -\frac{{1}}{{N}} \sum_{{i c}} y_{{i c}} \log p_{{i c}} \qquad {_SOFTMAX}",
        "mixup, CutMix, soft labels, soft targets, knowledge distillation, teacher",
        "Zhang et al. 2018, mixup, arXiv:1710.09412",
        _LOGITS,
        _SHARES,
    ),
    "TwoWayLoss": Facts(
        "multi-label classification, ranking",
        r"L = \frac{1}{N_+} \sum_i \ell(x_i, y_i) + \frac{1}{C_+} \sum_c \ell(x_c, y_c) \qquad "
        r"\ell(x, y) = \operatorname{softplus}\left(\mathtt{tn} \log \sum_{k : y_k = 0} e^{x_k / \mathtt{tn}} "
        r"+ \mathtt{tp} \log \sum_{k : y_k = 1} e^{-x_k / \mathtt{tp}}\right) \qquad "
        r"x_i, x_c = \mathrm{row\ and\ column\ of\ } x, \; "
        r"N_+, C_+ = \mathrm{number\ of\ rows\ and\ columns\ with\ a\ positive}",
        "pairwise, contrast of positives and negatives, log-sum-exp, class imbalance",
        "Kobayashi 2023, Two-Way Multi-Label Loss, CVPR",
        _LOGITS,
        _LABELS,
    ),
    "ZlprLoss": Facts(
        "multi-label classification, ranking",
        r"L = \frac{1}{N} \sum_i \log\left(1 + \sum_{c : y_{i c} = 1} e^{-x_{i c}}\right) "
        r"+ \log\left(1 + \sum_{c : y_{i c} = 0} e^{x_{i c}}\right)",
        "pairwise, log-sum-exp, threshold, softmax for several labels",
        "Su et al. 2022, ZLPR, arXiv:2208.02955",
        _LOGITS,
        _LABELS,
    ),
}
