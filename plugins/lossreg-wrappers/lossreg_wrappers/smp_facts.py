"""The facts of the losses of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import DICE, FOCAL, IMBALANCE, LOVASZ, MCC, OVERLAP, TVERSKY, Facts

FACTS: Mapping[str, Facts] = {
    "DiceLoss": Facts(
        "segmentation",
        r"L = \frac{1}{C} \sum_c 1 - \frac{2 \sum p_c y_c + \mathtt{smooth}}{\sum p_c + \sum y_c + \mathtt{smooth}}",
        f"Sørensen, {OVERLAP}",
        DICE,
    ),
    "FocalLoss": Facts(
        "segmentation, detection",
        r"L = -\frac{1}{n} \sum_i \alpha_i (1 - q_i)^{\mathtt{gamma}} \log q_i \qquad "
        r"q_i = y_i p_i + (1 - y_i)(1 - p_i) \qquad "
        r"\alpha_i = y_i \, \mathtt{alpha} + (1 - y_i)(1 - \mathtt{alpha})",
        f"hard examples, {IMBALANCE}",
        FOCAL,
    ),
    "JaccardLoss": Facts(
        "segmentation",
        r"L = \frac{1}{C} \sum_c 1 - \frac{\sum p_c y_c + \mathtt{smooth}}"
        r"{\sum p_c + \sum y_c - \sum p_c y_c + \mathtt{smooth}}",
        f"IoU, intersection over union, {OVERLAP}",
        "Rahman and Wang 2016, Optimizing intersection-over-union in deep neural networks for image segmentation, "
        "doi:10.1007/978-3-319-50835-1_22",
    ),
    "LovaszLoss": Facts(
        "segmentation",
        r"L = \sum_i e_i \left( J_i - J_{i - 1} \right) \qquad e_1 \geq e_2 \geq \ldots \qquad "
        r"J_i = 1 - \operatorname{IoU} \; \mathrm{if\ pixels} \; 1, \ldots, i \; \mathrm{are\ wrong}",
        f"IoU, jaccard, intersection over union, {IMBALANCE}",
        LOVASZ,
    ),
    "MCCLoss": Facts(
        "segmentation",
        r"L = 1 - \frac{\mathrm{TP} \, \mathrm{TN} - \mathrm{FP} \, \mathrm{FN}}"
        r"{\sqrt{(\mathrm{TP} + \mathrm{FP})(\mathrm{TP} + \mathrm{FN})(\mathrm{TN} + \mathrm{FP})"
        r"(\mathrm{TN} + \mathrm{FN})}} \qquad \mathrm{TP} = \sum p y + \mathtt{eps}, \; \ldots",
        f"MCC, phi coefficient, {IMBALANCE}",
        MCC,
    ),
    "SoftBCEWithLogitsLoss": Facts(
        "segmentation, multi-label classification",
        r"L = -\frac{1}{n} \sum_i \mathtt{weight}_i \left( \mathtt{pos\_weight} \, z_i \log \sigma(x_i) "
        r"+ (1 - z_i) \log(1 - \sigma(x_i)) \right) \qquad "
        r"z_i = y_i (1 - \mathtt{smooth\_factor}) + (1 - y_i) \, \mathtt{smooth\_factor}",
        f"binary, label smoothing, soft targets, noisy labels, {IMBALANCE}",
    ),
    "SoftCrossEntropyLoss": Facts(
        "segmentation, classification",
        r"L = -\frac{1}{n} \sum_i (1 - \mathtt{smooth\_factor}) \log p_{i y_i} + "
        r"\frac{\mathtt{smooth\_factor}}{C} \sum_c \log p_{i c}",
        "softmax, CE, label smoothing, soft targets, noisy labels",
        "Szegedy et al. 2016, Rethinking the Inception architecture for computer vision, arXiv:1512.00567",
    ),
    "TverskyLoss": Facts(
        "segmentation",
        r"L = \left( \frac{1}{C} \sum_c 1 - \frac{\mathrm{TP}_c + \mathtt{smooth}}"
        r"{\mathrm{TP}_c + \mathtt{alpha} \, \mathrm{FP}_c + \mathtt{beta} \, \mathrm{FN}_c + \mathtt{smooth}} "
        r"\right)^{\mathtt{gamma}}",
        f"focal Tversky, recall, precision, lesions, {OVERLAP}",
        TVERSKY,
    ),
}
