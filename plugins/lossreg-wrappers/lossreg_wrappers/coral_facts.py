"""The facts of the losses of coral-pytorch."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import Facts

_WORDS = "ordinal, ordinal regression, ordered classes, ranks, rating, age estimation, grades"

FACTS: Mapping[str, Facts] = {
    "CoralLoss": Facts(
        "classification, regression",
        r"L = -\frac{1}{N} \sum_i \sum_k y_{i k} \log \sigma(x_{i k}) + (1 - y_{i k}) \log(1 - \sigma(x_{i k}))",
        f"{_WORDS}, rank consistent",
        "Cao et al. 2020, Rank consistent ordinal regression for neural networks, arXiv:1901.07884",
        "logits of the steps between classes (N, C - 1)",
        "1 for each step that is reached, else 0 (N, C - 1)",
    ),
    "CornLoss": Facts(
        "classification, regression",
        r"L = -\frac{1}{\sum_k |S_k|} \sum_k \sum_{i \in S_k} \log \sigma(s_{i k} x_{i k}) \qquad "
        r"S_k = \{i : y_i \geq k\}, \; s_{i k} = 1 \mathrm{\;if\;} y_i > k, \mathrm{\;else\;} -1",
        f"{_WORDS}, conditional probabilities",
        "Shi et al. 2021, Deep neural networks for rank-consistent ordinal regression based on conditional "
        "probabilities, arXiv:2111.08851",
        "logits of the steps between classes (N, C - 1)",
        "class indices (N,)",
    ),
}
"""The facts of each loss by its name."""
