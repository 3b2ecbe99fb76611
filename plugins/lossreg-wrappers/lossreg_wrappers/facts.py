"""The facts of a loss that its wrapper does not tell: tasks, words to find it by, formula and source; imports no torch.

In the formulas `x` is the prediction, `y` the target, `p` the probabilities of the prediction, `N` the number of
samples, `C` the number of classes and `n` the number of elements. Names of parameters are in typewriter letters. A
`\\qquad` stands before each further equation; the documentation shows each on a line of its own.
"""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """The facts of one loss. Texts with several entries separate them by commas.

    Attributes:
        tasks: what it is for, the usual task first.
        formula: the formula in LaTeX.
        words: what people may call it, its family or its use.
        source: who described it first; empty if that is not certain.
        prediction: what the prediction is, if the form of the prediction says less.
        ground_truth: what the target is, if the form of the target says less.
    """

    tasks: str
    formula: str
    words: str = ""
    source: str = ""
    prediction: str = ""
    ground_truth: str = ""


# words of several libraries' losses
IMBALANCE = "imbalance, class imbalance, imbalanced, rare class, small objects"
OVERLAP = f"overlap, F1, F-score, {IMBALANCE}"
ROBUST = "robust, outliers, noisy labels, M-estimator"
SIMILARITY = "SSIM, structural similarity, perceptual"

# sources of several libraries' losses
DICE = "Milletari et al. 2016, V-Net, arXiv:1606.04797"
FOCAL = "Lin et al. 2017, Focal loss for dense object detection, arXiv:1708.02002"
GIOU = "Rezatofighi et al. 2019, Generalized intersection over union, arXiv:1902.09630"
HAUSDORFF = "Karimi and Salcudean 2019, Reducing the Hausdorff distance in medical image segmentation, arXiv:1904.10030"
LOVASZ = "Berman et al. 2018, The Lovász-softmax loss, arXiv:1705.08790"
MCC = "Abhishek and Hamarneh 2021, Matthews correlation coefficient loss, arXiv:2010.13454"
MUTUAL_INFORMATION = (
    "Viola and Wells 1997, Alignment by maximization of mutual information, doi:10.1023/A:1007958904918"
)
SSIM = "Wang et al. 2004, Image quality assessment, doi:10.1109/TIP.2003.819861"
TVERSKY = "Salehi et al. 2017, Tversky loss function for image segmentation, arXiv:1706.05721"

# what a prediction or a target is
BOXES = "boxes (N, 4), each x1, y1, x2, y2"
IMAGES = "images (N, C, ...)"
NONE = "none"
