"""Plugin `torchjd`: the scalarizers of TorchJD as weightings; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg import WeightingSpec, hookimpl

__all__ = ["LEFT_OUT", "lossreg_weightings"]

LEFT_OUT: Mapping[str, str] = {
    "Scalarizer": "the base class",
    "DWA": "lossreg's `dwa` is the same formula and closes its epochs by itself; a second `DWA` would make the name "
    "ambiguous in configs that have it",
}
"""The public names of `torchjd.scalarization` that are not offered, each with the reason."""

_PAGES = "https://torchjd.org/latest/docs/scalarization/"


_BOTH = ("permutable", "non_negative")
_PREFERENCES = [0.2, 0.5, 0.3]  # of the terms in the checks of lossreg.testing


def _weighting(name: str, summary: str, page: str, formula: str, source: str, **facts: Any) -> WeightingSpec:
    return WeightingSpec(
        name,
        f"lossreg_wrappers.torchjd_weightings:{name}",
        summary=summary,
        package="torchjd>=0.18",
        formula=formula,
        source=source,
        url=f"{_PAGES}{page}/",
        **facts,
    )


@hookimpl
def lossreg_weightings() -> Sequence[WeightingSpec]:
    """Return the specs of the scalarizers of `torchjd.scalarization`, sorted by name."""
    return (
        _weighting(
            "COSMOS",
            "weighted sum minus the cosine between values and preferences (Ruchte and Grabocka, 2021)",
            "cosmos",
            r"\sum_i r_i L_i - \mathtt{lambda\_} \cos(r, L) \qquad r = \mathtt{weights}",
            "Ruchte and Grabocka 2021, Scalable Pareto Front Approximation, arXiv:2103.13392",
            words=("Pareto front", "preference", "multi-objective"),
            example_args={"lambda_": 2.0, "weights": _PREFERENCES},
        ),
        _weighting(
            "Constant",
            "constant weights",
            "constant",
            r"\sum_i \mathtt{weights}_i \, L_i",
            "",
            words=("fixed weights", "linear scalarization"),
            example_args={"weights": _PREFERENCES},
            capabilities=("non_negative",),
        ),
        _weighting(
            "FAMO",
            "decreases all terms at one rate, from their values alone (Liu et al., 2023)",
            "famo",
            r"c \sum_i z_i \log L_i \qquad z = \operatorname{softmax}(w) \qquad c = 1 / \sum_i z_i / L_i",
            "Liu et al. 2023, FAMO: Fast Adaptive Multitask Optimization, arXiv:2306.03792",
            words=("multi-task", "adaptive", "balance"),
            capabilities=_BOTH,
        ),
        _weighting(
            "GeometricMean",
            "geometric mean of the values (Chennupati et al., 2019)",
            "geometric_mean",
            r"\left(\prod_i L_i\right)^{1/n}",
            "Chennupati et al. 2019, MultiNet++, arXiv:1904.08492",
            words=("GLS", "geometric loss strategy", "multi-task"),
            capabilities=_BOTH,
            exceptions={"no_host_read": "TorchJD looks for negative values"},
        ),
        _weighting(
            "IMTLL",
            "learned scale of each term, impartial multi-task learning (Liu et al., 2021)",
            "imtl_l",
            r"\sum_i e^{s_i} L_i - s_i",
            "Liu et al. 2021, Towards Impartial Multi-task Learning, ICLR",
            words=("IMTL-L", "impartial", "learned weights", "multi-task"),
            capabilities=_BOTH,
        ),
        _weighting(
            "Mean",
            "mean of the values",
            "mean",
            r"\frac{1}{n} \sum_i L_i",
            "",
            words=("average", "equal weights", "linear scalarization"),
            capabilities=_BOTH,
        ),
        _weighting(
            "PBI",
            "distance along a preference plus a penalty on the distance to it (Zhang and Li, 2007)",
            "pbi",
            r"d_1 + \mathtt{theta} \, d_2 \qquad d_1 = (L - z) \cdot u \qquad d_2 = \| L - z - d_1 u \| \qquad "
            r"u = \mathtt{weights} / \| \mathtt{weights} \|, \; z = \mathtt{reference}",
            "Zhang and Li 2007, MOEA/D, IEEE Transactions on Evolutionary Computation",
            words=("penalty-based boundary intersection", "MOEA/D", "Pareto front", "preference"),
            example_args={"theta": 5.0, "weights": _PREFERENCES},
        ),
        _weighting(
            "Random",
            "random weights at each step, with the sum 1 (Lin et al., 2022)",
            "random",
            r"\sum_i w_i L_i \qquad w = \operatorname{softmax}(z) \qquad z_i \sim N(0, 1)",
            "Lin et al. 2022, Reasonable Effectiveness of Random Weighting, arXiv:2111.10603",
            words=("RLW", "random loss weighting", "multi-task"),
            capabilities=("non_negative",),
        ),
        _weighting(
            "STCH",
            "smooth maximum of the values, smooth Tchebycheff (Lin et al., 2024)",
            "stch",
            r"\mathtt{mu} \log \sum_i \exp(\mathtt{weights}_i (L_i - \mathtt{reference}_i) / \mathtt{mu})",
            "Lin et al. 2024, Smooth Tchebycheff Scalarization, arXiv:2402.19078",
            words=("Chebyshev", "worst term", "minimax", "Pareto front", "preference"),
            example_args={"mu": 0.5},
            capabilities=_BOTH,
        ),
        _weighting(
            "Sum",
            "sum of the values",
            "sum",
            r"\sum_i L_i",
            "",
            words=("add", "equal weights", "linear scalarization"),
            capabilities=_BOTH,
        ),
        _weighting(
            "UW",
            "learned homoscedastic uncertainty, without a bound (Kendall et al., 2018)",
            "uw",
            r"\sum_i \frac{1}{2} e^{-s_i} L_i + \frac{1}{2} s_i",
            "Kendall et al. 2018, Multi-Task Learning Using Uncertainty to Weigh Losses, arXiv:1705.07115",
            words=("uncertainty weighting", "learned weights", "multi-task"),
            capabilities=_BOTH,
        ),
    )
