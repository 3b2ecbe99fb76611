"""The facts of the losses of `torchvision.ops`."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import BOXES, FOCAL, GIOU, IMBALANCE, Facts

_WORDS = "boxes, bounding boxes, box regression, IoU, intersection over union"
_PARTS = r"\rho = \mathrm{distance\ of\ the\ centres}, \; d = \mathrm{diagonal\ of\ the\ enclosing\ box}"
_DISTANCE = "Zheng et al. 2020, Distance-IoU loss, arXiv:1911.08287"

FACTS: Mapping[str, Facts] = {
    "complete_box_iou_loss": Facts(
        "detection",
        r"L = 1 - \operatorname{IoU} + \frac{\rho^2}{d^2} + \alpha v \qquad "
        r"v = \frac{4}{\pi^2} \left( \arctan \frac{w_2}{h_2} - \arctan \frac{w_1}{h_1} \right)^2 \qquad "
        r"\alpha = \frac{v}{1 - \operatorname{IoU} + v} \qquad " + _PARTS,
        f"CIoU, aspect ratio, {_WORDS}",
        _DISTANCE,
        BOXES,
        BOXES,
    ),
    "distance_box_iou_loss": Facts(
        "detection",
        r"L = 1 - \operatorname{IoU} + \frac{\rho^2}{d^2} \qquad " + _PARTS,
        f"DIoU, {_WORDS}",
        _DISTANCE,
        BOXES,
        BOXES,
    ),
    "generalized_box_iou_loss": Facts(
        "detection",
        r"L = 1 - \frac{|A \cap B|}{|A \cup B|} + \frac{|E| - |A \cup B|}{|E|} \qquad E = \mathrm{enclosing\ box}",
        f"GIoU, {_WORDS}",
        GIOU,
        BOXES,
        BOXES,
    ),
    "sigmoid_focal_loss": Facts(
        "detection, multi-label classification, segmentation",
        r"L = -\frac{1}{n} \sum_i \alpha_i (1 - q_i)^{\mathtt{gamma}} \log q_i \qquad "
        r"q_i = y_i p_i + (1 - y_i)(1 - p_i) \qquad "
        r"\alpha_i = y_i \, \mathtt{alpha} + (1 - y_i)(1 - \mathtt{alpha})",
        f"binary, hard examples, RetinaNet, {IMBALANCE}",
        FOCAL,
    ),
}
