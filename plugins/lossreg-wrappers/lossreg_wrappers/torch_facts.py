"""The facts of the losses of `torch.nn`."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import IMBALANCE, NONE, ROBUST, Facts

_EMBEDDINGS = "embeddings (N, D)"
_TRIPLET_SOURCE = (
    "Balntas et al. 2016, Learning local feature descriptors with triplets and shallow convolutional neural networks, "
    "doi:10.5244/C.30.119"
)

FACTS: Mapping[str, Facts] = {
    "AdaptiveLogSoftmaxWithLoss": Facts(
        "classification, sequence labelling",
        r"L = -\frac{1}{N} \sum_i \log p_{i y_i} \qquad p_{i c} = p_i(\mathrm{cluster}(c)) \, "
        r"p_i(c \mid \mathrm{cluster}(c))",
        "adaptive softmax, language model, large vocabulary, many classes, rare class",
        "Grave et al. 2017, Efficient softmax approximation for GPUs, arXiv:1609.04309",
        "features (N, in_features)",
    ),
    "BCELoss": Facts(
        "multi-label classification, segmentation, classification",
        r"L = -\frac{1}{n} \sum_i \mathtt{weight}_i \left( y_i \log p_i + (1 - y_i) \log(1 - p_i) \right)",
        "binary, cross-entropy, log loss, soft targets",
    ),
    "BCEWithLogitsLoss": Facts(
        "multi-label classification, segmentation, classification",
        r"L = -\frac{1}{n} \sum_i \mathtt{weight}_i \left( \mathtt{pos\_weight} \, y_i \log \sigma(x_i) "
        r"+ (1 - y_i) \log(1 - \sigma(x_i)) \right)",
        f"binary, cross-entropy, log loss, sigmoid, soft targets, {IMBALANCE}",
    ),
    "CTCLoss": Facts(
        "speech, sequence labelling",
        r"L = -\frac{1}{N} \sum_n \frac{1}{|y_n|} \log \sum_{\pi \in B^{-1}(y_n)} \prod_t p_{t n \pi_t}",
        "CTC, speech recognition, handwriting, OCR, text recognition, unaligned, blank",
        "Graves et al. 2006, Connectionist temporal classification, doi:10.1145/1143844.1143891",
        "log-probabilities (T, N, C)",
        "label sequences (N, S), and the lengths of predictions and labels (N)",
    ),
    "CosineEmbeddingLoss": Facts(
        "metric learning, self-supervised learning",
        r"L = \frac{1}{N} \sum_i \frac{1 + y_i}{2} (1 - c_i) + \frac{1 - y_i}{2} \max(0, c_i - \mathtt{margin}) "
        r"\qquad c_i = \cos(x_{1 i}, x_{2 i})",
        "cosine similarity, cosine distance, pairs, siamese, contrastive, margin, hinge",
        prediction=f"pairs of {_EMBEDDINGS}",
        ground_truth="1 (similar) or -1 (N)",
    ),
    "CrossEntropyLoss": Facts(
        "classification, segmentation, sequence labelling, distillation",
        r"L = -\frac{\sum_i \mathtt{weight}_{y_i} \log p_{i y_i}}{\sum_i \mathtt{weight}_{y_i}} "
        r"\qquad p = \operatorname{softmax}(x)",
        f"CE, softmax, categorical, log loss, label smoothing, soft targets, ignored label, {IMBALANCE}",
    ),
    "GaussianNLLLoss": Facts(
        "regression, depth",
        r"L = \frac{1}{2 n} \sum_i \log v_i + \frac{(x_i - y_i)^2}{v_i} \qquad "
        r"v_i = \max(\mathtt{var}_i, \mathtt{eps})",
        "heteroscedastic, aleatoric uncertainty, uncertainty, predicted variance, likelihood, NLL",
        "Nix and Weigend 1994, Estimating the mean and variance of the target probability distribution, "
        "doi:10.1109/ICNN.1994.374138",
        "means and variances",
        "values",
    ),
    "HingeEmbeddingLoss": Facts(
        "metric learning, self-supervised learning",
        r"L = \frac{1}{n} \sum_i \frac{1 + y_i}{2} x_i + \frac{1 - y_i}{2} \max(0, \mathtt{margin} - x_i)",
        "pairs, siamese, contrastive, margin, distance",
        prediction="distances of pairs",
    ),
    "HuberLoss": Facts(
        "regression, depth, reinforcement learning",
        r"L = \frac{1}{n} \sum_i m_i \left( |x_i - y_i| - \frac{m_i}{2} \right) \qquad "
        r"m_i = \min(|x_i - y_i|, \mathtt{delta})",
        ROBUST,
        "Huber 1964, Robust estimation of a location parameter, doi:10.1214/aoms/1177703732",
    ),
    "KLDivLoss": Facts(
        "distillation, classification, keypoints",
        r"L = \frac{1}{n} \sum_i y_i (\log y_i - x_i)",
        "KL divergence, relative entropy, knowledge distillation, soft targets, teacher",
        "Kullback and Leibler 1951, On information and sufficiency, doi:10.1214/aoms/1177729694",
    ),
    "L1Loss": Facts(
        "regression, depth, image restoration",
        r"L = \frac{1}{n} \sum_i |x_i - y_i|",
        f"MAE, L1, absolute difference, {ROBUST}",
    ),
    "LinearCrossEntropyLoss": Facts(
        "classification, sequence labelling",
        r"L = -\frac{1}{n} \sum_i \log p_{i y_i} \qquad p = \operatorname{softmax}(W x + b)",
        "softmax, fused, memory, language model, large vocabulary",
        prediction="features (N, in_features)",
    ),
    "MSELoss": Facts(
        "regression, image restoration",
        r"L = \frac{1}{n} \sum_i (x_i - y_i)^2",
        "MSE, L2, RMSE, least squares, Brier score",
    ),
    "MarginRankingLoss": Facts(
        "ranking, metric learning",
        r"L = \frac{1}{n} \sum_i \max(0, -y_i (x_{1 i} - x_{2 i}) + \mathtt{margin})",
        "pairwise, learning to rank, margin, pairs, preference",
        prediction="pairs of scores",
        ground_truth="1 (the first is higher) or -1",
    ),
    "MultiLabelMarginLoss": Facts(
        "multi-label classification",
        r"L = \frac{1}{N C} \sum_i \sum_{j \in y_i} \sum_{k \notin y_i} \max(0, 1 - x_{i j} + x_{i k})",
        "margin, SVM",
        prediction="scores (N, C)",
    ),
    "MultiLabelSoftMarginLoss": Facts(
        "multi-label classification",
        r"L = -\frac{1}{N C} \sum_{i c} \mathtt{weight}_c \left( y_{i c} \log \sigma(x_{i c}) "
        r"+ (1 - y_{i c}) \log(1 - \sigma(x_{i c})) \right)",
        "sigmoid, logistic",
    ),
    "MultiMarginLoss": Facts(
        "classification",
        r"L = \frac{1}{N C} \sum_i \mathtt{weight}_{y_i} \sum_{c \neq y_i} \max(0, \mathtt{margin} - x_{i y_i} "
        r"+ x_{i c})^{\mathtt{p}}",
        "margin, SVM, max-margin",
        prediction="scores (N, C)",
        ground_truth="class indices (N)",
    ),
    "NLLLoss": Facts(
        "classification, segmentation",
        r"L = -\frac{\sum_i \mathtt{weight}_{y_i} x_{i y_i}}{\sum_i \mathtt{weight}_{y_i}}",
        f"likelihood, log_softmax, {IMBALANCE}",
    ),
    "PoissonNLLLoss": Facts(
        "regression",
        r"L = \frac{1}{n} \sum_i e^{x_i} - y_i x_i",
        "counting, count data, event rate, crowd, likelihood, NLL",
        prediction="log-rates, or rates with `log_input: false`",
    ),
    "SmoothL1Loss": Facts(
        "regression, detection, depth",
        r"L = \frac{1}{n} \sum_i \frac{m_i}{\mathtt{beta}} \left( |x_i - y_i| - \frac{m_i}{2} \right) \qquad "
        r"m_i = \min(|x_i - y_i|, \mathtt{beta})",
        f"huber, L1, boxes, {ROBUST}",
        "Girshick 2015, Fast R-CNN, arXiv:1504.08083",
    ),
    "SoftMarginLoss": Facts(
        "classification",
        r"L = \frac{1}{n} \sum_i \log(1 + e^{-y_i x_i})",
        "logistic regression, binary, margin",
        prediction="scores",
    ),
    "TripletMarginLoss": Facts(
        "metric learning, self-supervised learning",
        r"L = \frac{1}{N} \sum_i \max(0, d(a_i, p_i) - d(a_i, n_i) + \mathtt{margin}) \qquad "
        r"d(u, v) = \Vert u - v \Vert_{\mathtt{p}}",
        "triplet, margin, anchor, embeddings, face recognition, retrieval, re-identification",
        _TRIPLET_SOURCE,
        f"triplets of {_EMBEDDINGS}",
        NONE,
    ),
    "TripletMarginWithDistanceLoss": Facts(
        "metric learning, self-supervised learning",
        r"L = \frac{1}{N} \sum_i \max(0, d(a_i, p_i) - d(a_i, n_i) + \mathtt{margin}) \qquad "
        r"d = \mathtt{distance\_function}",
        "triplet, margin, anchor, embeddings, retrieval",
        _TRIPLET_SOURCE,
        f"triplets of {_EMBEDDINGS}",
        NONE,
    ),
}
