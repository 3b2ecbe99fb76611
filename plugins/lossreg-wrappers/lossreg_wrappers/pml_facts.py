"""The facts of the losses of pytorch-metric-learning, in formulas with the distances and reducers of the defaults."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import NONE, Facts

_METRIC, _RANKING = "metric learning", "metric learning, ranking"
_SELF_SUPERVISED = "self-supervised learning, metric learning"
_VIEWS = "embeddings (N, D) of two views"


def _facts(
    words: str,
    source: str,
    *equations: str,
    tasks: str = _METRIC,
    prediction: str = "embeddings (N, D)",
    ground_truth: str = "class indices (N)",
) -> Facts:
    return Facts(tasks, r" \qquad ".join(equations), words, source, prediction, ground_truth)


# equations of several losses; `i`, `j` are samples, `c` is a class, `w_c` its learned centre
_COSINE = r"s_{i j} = \cos(x_i, x_j)"
_DISTANCE = r"d_{i j} = \| \hat{x}_i - \hat{x}_j \|, \; \hat{x} = x / \| x \|"
_POSITIVES = r"\mathcal{P}_i = \{ j \neq i : y_j = y_i \}"
_NEGATIVES = r"\mathcal{N}_i = \{ j : y_j \neq y_i \}"
_SAME = r"\mathcal{C}_i = \{ j : y_j = y_i \}"
_SETS = rf"{_POSITIVES}, \; {_NEGATIVES}"
_ABOVE = r"n_+ = \mathrm{number\ of\ terms\ above\ 0}"
_EACH_ABOVE = r"n_p, n_n = \mathrm{number\ of\ terms\ above\ 0}"
_TRIPLETS = r"\sum_{i, p \in \mathcal{P}_i, n \in \mathcal{N}_i}"
_SOFTMAX = r"L = -\frac{1}{N} \sum_i \log \operatorname{softmax}(z_i)_{y_i}"
_ANGLE = r"\cos \theta_{i c} = \cos(x_i, w_c)"
_ADDED = r"z_{i c} = \mathtt{scale} \, \cos(\theta_{i c} + \mathtt{margin} \, [c = y_i])"
_MULTIPLIED = (
    r"\psi_{i c} = \cos \theta_{i c}, \; \psi_{i y_i} = (-1)^{k_i} \cos(\mathtt{margin} \, \theta_{i y_i}) - 2 k_i",
    r"k_i = \lfloor \mathtt{margin} \, \theta_{i y_i} / \pi \rfloor",
    _ANGLE,
)

# words of several losses
_PAIRS = "pairs, contrastive, siamese, retrieval"
_TRIPLET = "triplet, triplets, hard negatives, retrieval"
_RETRIEVAL = "ranking, retrieval, mean average precision, mAP, recall at k"
_FACE = "face recognition, speaker verification, margin softmax, angular margin, open set"
_PROXY = "proxy, class centres, prototypes, retrieval"

FACTS: Mapping[str, Facts] = {
    # pairs and triplets
    "AngularLoss": _facts(
        f"angle, {_TRIPLET}",
        "Wang et al. 2017, Deep Metric Learning with Angular Loss, arXiv:1708.01682",
        r"L = \frac{1}{n} \sum_{i, p \in \mathcal{P}_i} \log\left(1 + \sum_{n \in \mathcal{N}_i} e^{f_{i p n}}\right)",
        r"f_{i p n} = 4 \tan^2(\mathtt{alpha}) \, (\hat{x}_i + \hat{x}_p) \cdot x_n "
        r"- 2 (1 + \tan^2(\mathtt{alpha})) \, \hat{x}_i \cdot \hat{x}_p",
        rf"{_SETS}, \; \hat{{x}} = x / \| x \|",
    ),
    "CircleLoss": _facts(
        f"face recognition, re-identification, {_PAIRS}",
        "Sun et al. 2020, Circle Loss, arXiv:2002.10857",
        r"L = \frac{1}{n_+} \sum_i \log\left(1 + \sum_{p \in \mathcal{P}_i} "
        r"e^{-\mathtt{gamma} \, \max(0, 1 + \mathtt{m} - s_{i p}) (s_{i p} - 1 + \mathtt{m})} "
        r"\sum_{n \in \mathcal{N}_i} e^{\mathtt{gamma} \, \max(0, s_{i n} + \mathtt{m}) (s_{i n} - \mathtt{m})}\right)",
        _COSINE,
        _SETS,
        _ABOVE,
    ),
    "ContrastiveLoss": _facts(
        "siamese, pairs, verification, retrieval",
        "Hadsell et al. 2006, Dimensionality Reduction by Learning an Invariant Mapping, CVPR",
        r"L = \frac{1}{n_p} \sum_{i, p \in \mathcal{P}_i} \max(0, d_{i p} - \mathtt{pos\_margin}) "
        r"+ \frac{1}{n_n} \sum_{i, n \in \mathcal{N}_i} \max(0, \mathtt{neg\_margin} - d_{i n})",
        _DISTANCE,
        _SETS,
        _EACH_ABOVE,
    ),
    "CrossBatchMemory": _facts(
        "memory bank, XBM, queue, small batch, many negatives",
        "Wang et al. 2020, Cross-Batch Memory, arXiv:1912.06798",
        r"L = \mathtt{loss}(x, y; X, Y)",
        r"(X, Y) = \mathrm{the\ last\ } \mathtt{memory\_size} \mathrm{\ embeddings\ and\ their\ classes}",
    ),
    "GeneralizedLiftedStructureLoss": _facts(
        f"lifted structure, log-sum-exp, {_PAIRS}",
        "Hermans et al. 2017, In Defense of the Triplet Loss, arXiv:1703.07737",
        r"L = \frac{1}{N} \sum_i \max\left(0, \log \sum_{p \in \mathcal{P}_i} e^{d_{i p} - \mathtt{pos\_margin}} "
        r"+ \log \sum_{n \in \mathcal{N}_i} e^{\mathtt{neg\_margin} - d_{i n}}\right)",
        _DISTANCE,
        _SETS,
    ),
    "IntraPairVarianceLoss": _facts(
        "variance, regularisation, auxiliary loss, pairs",
        "Yu and Tao 2019, Deep Metric Learning with Tuplet Margin Loss, ICCV",
        r"L = \frac{1}{n_p} \sum_{i, p \in \mathcal{P}_i} \max(0, (1 - \mathtt{pos\_eps}) \, \bar{s}_p - s_{i p})^2 "
        r"+ \frac{1}{n_n} \sum_{i, n \in \mathcal{N}_i} \max(0, s_{i n} - (1 + \mathtt{neg\_eps}) \, \bar{s}_n)^2",
        rf"{_COSINE}, \; \bar{{s}}_p, \bar{{s}}_n = \mathrm{{means\ of\ the\ }} n_p \mathrm{{\ and\ }} n_n "
        r"\mathrm{\ pairs}",
        _SETS,
    ),
    "LiftedStructureLoss": _facts(
        f"lifted structure, log-sum-exp, {_PAIRS}",
        "Song et al. 2016, Deep Metric Learning via Lifted Structured Feature Embedding, arXiv:1511.06452",
        r"L = \frac{1}{2 n} \sum_{i, p \in \mathcal{P}_i} \max\left(0, d_{i p} - \mathtt{pos\_margin} "
        r"+ \log \left( \sum_{n \in \mathcal{N}_i} e^{\mathtt{neg\_margin} - d_{i n}} "
        r"+ \sum_{n \in \mathcal{N}_p} e^{\mathtt{neg\_margin} - d_{p n}} \right) \right)^2",
        _DISTANCE,
        _SETS,
    ),
    "MarginLoss": _facts(
        f"learned margin, distance-weighted sampling, {_TRIPLET}",
        "Wu et al. 2017, Sampling Matters in Deep Embedding Learning, arXiv:1706.07567",
        rf"L = \frac{{1}}{{n_+}} {_TRIPLETS} \max(0, d_{{i p}} - \mathtt{{beta}} + \mathtt{{margin}}) "
        r"+ \max(0, \mathtt{beta} - d_{i n} + \mathtt{margin})",
        _DISTANCE,
        _SETS,
        _ABOVE,
    ),
    "MultiSimilarityLoss": _facts(
        f"MS loss, pair weighting, {_PAIRS}",
        "Wang et al. 2019, Multi-Similarity Loss, arXiv:1904.06627",
        r"L = \frac{1}{N} \sum_i \frac{1}{\mathtt{alpha}} \log\left(1 + \sum_{p \in \mathcal{P}_i} "
        r"e^{-\mathtt{alpha} (s_{i p} - \mathtt{base})}\right) + \frac{1}{\mathtt{beta}} \log\left(1 + "
        r"\sum_{n \in \mathcal{N}_i} e^{\mathtt{beta} (s_{i n} - \mathtt{base})}\right)",
        _COSINE,
        _SETS,
    ),
    "NCALoss": _facts(
        "nearest neighbour, neighbourhood components analysis, kNN",
        "Goldberger et al. 2004, Neighbourhood Components Analysis, NIPS",
        r"L = -\frac{1}{N} \sum_i \log \frac{\sum_{p \in \mathcal{P}_i} e^{-\mathtt{softmax\_scale} \, d_{i p}^2}}"
        r"{\sum_{j \neq i} e^{-\mathtt{softmax\_scale} \, d_{i j}^2}}",
        _DISTANCE,
        _POSITIVES,
    ),
    "NTXentLoss": _facts(
        "contrastive, SimCLR, InfoNCE, NT-Xent, temperature, CPC",
        "van den Oord et al. 2018, Contrastive Predictive Coding, arXiv:1807.03748",
        r"L = -\frac{1}{n} \sum_{i, p \in \mathcal{P}_i} \log \frac{e^{s_{i p} / \mathtt{temperature}}}"
        r"{e^{s_{i p} / \mathtt{temperature}} + \sum_{n \in \mathcal{N}_i} e^{s_{i n} / \mathtt{temperature}}}",
        _COSINE,
        _SETS,
        tasks="metric learning, self-supervised learning",
    ),
    "SignalToNoiseRatioContrastiveLoss": _facts(
        f"SNR, variance, {_PAIRS}",
        "Yuan et al. 2019, Signal-to-Noise Ratio, arXiv:1904.02616",
        r"L = \frac{1}{n_p} \sum_{i, p \in \mathcal{P}_i} d_{i p} "
        r"+ \frac{1}{n_n} \sum_{i, n \in \mathcal{N}_i} \max(0, 1 - d_{i n})",
        r"d_{i j} = \frac{\operatorname{Var}(\hat{x}_i - \hat{x}_j)}{\operatorname{Var}(\hat{x}_i)}, \; "
        r"\hat{x} = x / \| x \|",
        _SETS,
        _EACH_ABOVE,
    ),
    "SupConLoss": _facts(
        "contrastive, supervised contrastive, SimCLR, temperature",
        "Khosla et al. 2020, Supervised Contrastive Learning, arXiv:2004.11362",
        r"L = -\frac{1}{n_+} \sum_i \frac{1}{| \mathcal{P}_i |} \sum_{p \in \mathcal{P}_i} "
        r"\log \frac{e^{s_{i p} / \mathtt{temperature}}}{\sum_{j \neq i} e^{s_{i j} / \mathtt{temperature}}}",
        _COSINE,
        _POSITIVES,
        r"n_+ = \mathrm{number\ of\ samples\ with\ a\ term\ above\ 0}",
    ),
    "ThresholdConsistentMarginLoss": _facts(
        "threshold, calibration, TCM, auxiliary loss, verification, open set",
        "Zhang et al. 2024, Threshold-Consistent Margin Loss, arXiv:2307.04047",
        r"L = \frac{\mathtt{lambda\_plus}}{n_p} \sum_{i, p \in \mathcal{P}_i} \max(0, \mathtt{margin\_plus} - s_{i p}) "
        r"+ \frac{\mathtt{lambda\_minus}}{n_n} \sum_{i, n \in \mathcal{N}_i} \max(0, s_{i n} - \mathtt{margin\_minus})",
        _COSINE,
        _SETS,
        r"n_p, n_n = \mathrm{number\ of\ terms\ of\ 0\ or\ more\ before\ the\ maximum}",
    ),
    "TripletMarginLoss": _facts(
        f"FaceNet, face recognition, {_TRIPLET}",
        "Schroff et al. 2015, FaceNet, arXiv:1503.03832",
        rf"L = \frac{{1}}{{n_+}} {_TRIPLETS} \max(0, d_{{i p}} - d_{{i n}} + \mathtt{{margin}})",
        _DISTANCE,
        _SETS,
        _ABOVE,
    ),
    "TupletMarginLoss": _facts(
        f"tuplet, angular margin, {_TRIPLET}",
        "Yu and Tao 2019, Deep Metric Learning with Tuplet Margin Loss, ICCV",
        r"L = \frac{1}{n} \sum_{i, p \in \mathcal{P}_i} \log\left(1 + \sum_{n \in \mathcal{N}_i} "
        r"e^{\mathtt{scale} (\cos \theta_{i n} - \cos(\theta_{i p} - \mathtt{margin}))}\right)",
        r"\cos \theta_{i j} = \cos(x_i, x_j)",
        _SETS,
    ),
    # whole batches
    "DynamicSoftMarginLoss": _facts(
        f"descriptors, local features, patch matching, {_TRIPLET}",
        "Zhang and Rusinkiewicz 2019, Learning Local Descriptors With a CDF-Based Dynamic Soft Margin, ICCV",
        rf"L = \frac{{1}}{{n}} {_TRIPLETS} F(d_{{i p}} - d_{{i n}}) \, (d_{{i p}} - d_{{i n}})",
        _DISTANCE,
        _SETS,
        r"F = \mathrm{moving\ cumulative\ distribution\ of\ } d_{i p} - d_{i n}",
    ),
    "FastAPLoss": _facts(
        f"average precision, histogram, {_RETRIEVAL}",
        "Cakir et al. 2019, Deep Metric Learning to Rank, CVPR",
        r"L = \frac{1}{N} \sum_i 1 - \frac{1}{| \mathcal{P}_i |} \sum_b h_{i b}(\mathcal{P}_i) "
        r"\frac{\sum_{a \leq b} h_{i a}(\mathcal{P}_i)}{\sum_{a \leq b} h_{i a}(\mathcal{P}_i \cup \mathcal{N}_i)}",
        r"h_{i b}(\mathcal{J}) = \sum_{j \in \mathcal{J}} \max(0, 1 - | d_{i j}^2 / \Delta - b |), \; "
        r"\Delta = 4 / \mathtt{num\_bins}, \; b = 0, \ldots, \mathtt{num\_bins}",
        _DISTANCE,
        _SETS,
        tasks=_RANKING,
    ),
    "HistogramLoss": _facts(
        "histogram, overlap of distributions, pairs, similarity",
        "Ustinova and Lempitsky 2016, Learning Deep Embeddings with Histogram Loss, arXiv:1611.00822",
        r"L = \sum_b h_b^- \sum_{a \leq b} h_a^+",
        r"h_b^+ = \frac{1}{n_p} \sum_{i, p \in \mathcal{P}_i} k_b(s_{i p}), \; "
        r"h_b^- = \frac{1}{n_n} \sum_{i, n \in \mathcal{N}_i} k_b(s_{i n})",
        r"k_b(s) = \max(0, 1 - | (s + 1) / \mathtt{delta} - b |), \; \mathtt{delta} = 2 / \mathtt{n\_bins}",
        _COSINE,
        _SETS,
    ),
    "InstanceLoss": _facts(
        "instance discrimination, retrieval, image-text, cross-modal",
        "Zheng et al. 2020, Dual-Path Convolutional Image-Text Embeddings, arXiv:1711.05535",
        r"L = -\frac{1}{N} \sum_i \log \operatorname{softmax}(\mathtt{gamma} \, s_i)_{k_i}",
        _COSINE,
        r"k_i = \mathrm{position\ of\ } y_i \mathrm{\ in\ the\ sorted\ classes\ of\ the\ batch}",
    ),
    "ManifoldLoss": _facts(
        "proxy, unsupervised, random walk, manifold, diffusion, without labels",
        "Aziere and Todorovic 2019, Ensemble Deep Manifold Similarity Learning, CVPR",
        r"L = \ell(F_{1:N, N:}) + \mathtt{lambdaC} \, \ell(G)",
        r"\ell(f) = \frac{1}{N} \sum_i \log\left(1 + \sum_{k \neq c_i : m_{i k} \geq 0} e^{m_{i k}}\right), \; "
        r"m_{i k} = f_{i k} - f_{i c_i} + \mathtt{margin}",
        r"F = (1 - \mathtt{alpha}) (I - \mathtt{alpha} \, D^{-1/2} S D^{-1/2})^{-1}, \; G_{i k} = \cos(F_i, F_{N + k})",
        r"S_{i j} = [i \neq j] \, e^{2 \max(0, \cos(u_i, u_j))}, \; D = \mathrm{row\ sums\ of\ } S",
        r"u = \mathrm{embeddings,\ then\ } \mathtt{K} \mathrm{\ learned\ proxies}, \; "
        r"c_i = \mathrm{a\ proxy\ drawn\ for\ } x_i",
        ground_truth=NONE,
    ),
    "NPairsLoss": _facts(
        "contrastive, N-pair, multi-class, pairs",
        "Sohn 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS",
        r"L = -\frac{1}{C} \sum_c \log \frac{e^{\hat{a}_c \cdot \hat{p}_c}}{\sum_k e^{\hat{a}_c \cdot \hat{p}_k}}",
        r"(a_c, p_c) = \mathrm{a\ pair\ of\ embeddings\ of\ class\ } c, \; \hat{x} = x / \| x \|",
    ),
    "PNPLoss": _facts(
        f"average precision, negatives before positives, {_RETRIEVAL}",
        "Li et al. 2021, Rethinking the Optimization of Average Precision, arXiv:2102.04640",
        r"L = \frac{1}{N} \sum_i \frac{1}{| \mathcal{C}_i |} \sum_{j \in \mathcal{C}_i} R_{i j}",
        r"R_{i j} = \sum_{n \in \mathcal{N}_i} \sigma\left(\frac{s_{i n} - s_{i j}}{\mathtt{anneal}}\right)",
        _COSINE,
        rf"{_SAME}, \; {_NEGATIVES}",
        tasks=_RANKING,
    ),
    "RankedListLoss": _facts(
        f"RLL, margin, hypersphere, {_RETRIEVAL}",
        "Wang et al. 2019, Ranked List Loss, arXiv:1903.03238",
        r"L = \frac{1}{N} \sum_i (1 - \mathtt{imbalance}) "
        r"\frac{\sum_{p \in \mathcal{P}_i, v_{i p} > 0} e^{\mathtt{Tp} \, v_{i p}} v_{i p}}"
        r"{\sum_{p \in \mathcal{P}_i, v_{i p} > 0} e^{\mathtt{Tp} \, v_{i p}}} + \mathtt{imbalance} \, "
        r"\frac{\sum_{n \in \mathcal{N}_i, u_{i n} > 0} e^{\mathtt{Tn} \, u_{i n}} u_{i n}}"
        r"{\sum_{n \in \mathcal{N}_i, u_{i n} > 0} e^{\mathtt{Tn} \, u_{i n}}}",
        r"v_{i p} = d_{i p} - (\mathtt{alpha} - \mathtt{margin}), \; u_{i n} = \mathtt{alpha} - d_{i n}",
        _DISTANCE,
        _SETS,
        tasks=_RANKING,
    ),
    "SmoothAPLoss": _facts(
        f"average precision, {_RETRIEVAL}",
        "Brown et al. 2020, Smooth-AP, arXiv:2007.12163",
        r"L = \frac{1}{N} \sum_i 1 - \frac{1}{| \mathcal{C}_i |} \sum_{j \in \mathcal{C}_i} "
        r"\frac{1 + \sum_{k \in \mathcal{C}_i, k \neq j} g_{i j k}}{1 + \sum_{k \neq j} g_{i j k}}",
        r"g_{i j k} = \sigma\left(\frac{s_{i k} - s_{i j}}{\mathtt{temperature}}\right)",
        _COSINE,
        _SAME,
        tasks=_RANKING,
    ),
    # classes
    "ArcFaceLoss": _facts(
        f"additive angular margin, AAM-softmax, {_FACE}",
        "Deng et al. 2019, ArcFace, arXiv:1801.07698",
        _SOFTMAX,
        _ADDED,
        _ANGLE,
    ),
    "CosFaceLoss": _facts(
        f"additive margin, AM-softmax, large margin cosine, {_FACE}",
        "Wang et al. 2018, CosFace, arXiv:1801.09414",
        _SOFTMAX,
        r"z_{i c} = \mathtt{scale} \, (\cos \theta_{i c} - \mathtt{margin} \, [c = y_i])",
        _ANGLE,
    ),
    "LargeMarginSoftmaxLoss": _facts(
        f"L-softmax, multiplicative margin, {_FACE}",
        "Liu et al. 2016, Large-Margin Softmax Loss, arXiv:1612.02295",
        _SOFTMAX,
        r"z_{i c} = \mathtt{scale} \, \| w_c \| \, \| x_i \| \, \psi_{i c}",
        *_MULTIPLIED,
    ),
    "NormalizedSoftmaxLoss": _facts(
        f"cosine softmax, temperature, {_PROXY}",
        "Zhai and Wu 2019, Classification is a Strong Baseline for Deep Metric Learning, arXiv:1811.12649",
        _SOFTMAX,
        r"z_{i c} = \cos(x_i, w_c) / \mathtt{temperature}",
    ),
    "P2SGradLoss": _facts(
        f"gradient, mean squared error, anti-spoofing, {_FACE}",
        "Zhang et al. 2019, P2SGrad, arXiv:1905.02479",
        r"L = \frac{1}{N C} \sum_{i c} (\cos \theta_{i c} - [c = y_i])^2",
        _ANGLE,
    ),
    "ProxyAnchorLoss": _facts(
        _PROXY,
        "Kim et al. 2020, Proxy Anchor Loss, arXiv:2003.13911",
        r"L = \frac{1}{C_+} \sum_c \log\left(1 + \sum_{i : y_i = c} "
        r"e^{-\mathtt{alpha} (s_{i c} - \mathtt{margin})}\right) + \frac{1}{C} \sum_c \log\left(1 + "
        r"\sum_{i : y_i \neq c} e^{\mathtt{alpha} (s_{i c} + \mathtt{margin})}\right)",
        r"s_{i c} = \cos(x_i, w_c)",
        r"C_+ = \mathrm{number\ of\ classes\ in\ the\ batch}",
    ),
    "ProxyNCALoss": _facts(
        f"neighbourhood components analysis, {_PROXY}",
        "Movshovitz-Attias et al. 2017, No Fuss Distance Metric Learning using Proxies, arXiv:1703.07464",
        _SOFTMAX,
        r"z_{i c} = -\| \hat{x}_i - \hat{w}_c \|^2, \; \hat{x} = x / \| x \|",
    ),
    "SoftTripleLoss": _facts(
        f"triplet, several centres, {_PROXY}",
        "Qian et al. 2019, SoftTriple Loss, arXiv:1909.05235",
        _SOFTMAX,
        r"z_{i c} = \mathtt{la} \, (S_{i c} - \mathtt{margin} \, [c = y_i])",
        r"S_{i c} = \sum_k \frac{e^{s_{i c k} / \mathtt{gamma}}}{\sum_l e^{s_{i c l} / \mathtt{gamma}}} s_{i c k}, \; "
        r"s_{i c k} = \cos(x_i, w_{c k})",
    ),
    "SphereFaceLoss": _facts(
        f"A-softmax, multiplicative margin, {_FACE}",
        "Liu et al. 2017, SphereFace, arXiv:1704.08063",
        _SOFTMAX,
        r"z_{i c} = \mathtt{scale} \, \| x_i \| \, \psi_{i c}",
        *_MULTIPLIED,
    ),
    "SubCenterArcFaceLoss": _facts(
        f"noisy labels, several centres, {_FACE}",
        "Deng et al. 2020, Sub-center ArcFace, ECCV",
        _SOFTMAX,
        _ADDED,
        r"\cos \theta_{i c} = \max_{k \leq \mathtt{sub\_centers}} \cos(x_i, w_{c k})",
    ),
    # views
    "SelfSupervisedLoss": _facts(
        "self-supervised, contrastive, SimCLR, two views, augmentation, without labels",
        "Chen et al. 2020, SimCLR, arXiv:2002.05709",
        r"L = \mathtt{loss}\left((x_1, \ldots, x_N, x_1', \ldots, x_N'), (1, \ldots, N, 1, \ldots, N)\right)",
        tasks=_SELF_SUPERVISED,
        prediction=_VIEWS,
        ground_truth=NONE,
    ),
    "VICRegLoss": _facts(
        "self-supervised, variance, covariance, decorrelation, two views, without labels",
        "Bardes et al. 2022, VICReg, arXiv:2105.04906",
        r"L = \frac{\mathtt{invariance\_lambda}}{N D} \sum_{i d} (x_{i d} - x_{i d}')^2 "
        r"+ \frac{\mathtt{variance\_mu}}{2} (v(x) + v(x')) + \mathtt{covariance\_v} \, (c(x) + c(x'))",
        r"v(x) = \frac{1}{D} \sum_d \max\left(0, 1 - \sqrt{\operatorname{Var}(x_d) + \mathtt{eps}}\right)",
        r"c(x) = \frac{1}{D} \sum_{d \neq e} \operatorname{Cov}(x_d, x_e)^2",
        tasks=_SELF_SUPERVISED,
        prediction=_VIEWS,
        ground_truth=NONE,
    ),
}
