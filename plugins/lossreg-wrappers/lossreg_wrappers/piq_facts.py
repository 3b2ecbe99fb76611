"""The facts of the losses of piq."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import NONE, SIMILARITY, SSIM, Facts

_PAIR = ("images (N, C, H, W) from 0 to `data_range`", "images (N, C, H, W) from 0 to `data_range`")
_FEATURES = ("images (N, 3, H, W) from 0 to 1", "images (N, 3, H, W) from 0 to 1")
_ALONE = ("images (N, C, H, W)", NONE)
_QUALITY = "image quality, perceptual, super-resolution, denoising, IQA"
_DEEP = "perceptual, VGG, deep features, super-resolution"
_TASKS = "image restoration, image quality"
_DEVIATION = (
    r"L = \sqrt{\frac{1}{n} \sum_i (s_i - \bar{s})^2} \qquad s_i = \frac{2 a_i b_i + \mathtt{t}}{a_i^2 + b_i^2 + "
    r"\mathtt{t}} \qquad a = \left| \nabla x \right|, \; b = \left| \nabla y \right|"
)
_SSIM = r"\frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{x y} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}"
_GATYS = "Gatys et al. 2015, A neural algorithm of artistic style, arXiv:1508.06576"
_LPIPS = "Zhang et al. 2018, The unreasonable effectiveness of deep features as a perceptual metric, arXiv:1801.03924"

FACTS: Mapping[str, Facts] = {
    "BRISQUELoss": Facts(
        "image quality",
        r"L = f(\phi(x)) \qquad \phi = \mathrm{statistics\ of\ natural\ scenes}, \; "
        r"f = \mathrm{support\ vector\ regression}",
        f"no-reference, blind, {_QUALITY}",
        "Mittal et al. 2012, No-reference image quality assessment in the spatial domain, doi:10.1109/TIP.2012.2214050",
        *_ALONE,
    ),
    "ContentLoss": Facts(
        "image restoration, generation",
        r"L = \sum_l w_l \frac{1}{n_l} \sum_i \left( \phi_l(x)_i - \phi_l(y)_i \right)^2",
        f"style transfer, feature loss, {_DEEP}",
        _GATYS,
        *_FEATURES,
    ),
    "DISTS": Facts(
        _TASKS,
        r"L = 1 - \sum_{l, c} \left( \alpha_{l c} \, \ell(x_{l c}, y_{l c}) + \beta_{l c} \, "
        r"s(x_{l c}, y_{l c}) \right)",
        f"texture, {_DEEP}",
        "Ding et al. 2020, Image quality assessment: unifying structure and texture similarity, arXiv:2004.07728",
        *_FEATURES,
    ),
    "DSSLoss": Facts(
        _TASKS,
        r"L = 1 - \sum_k w_k \, s_k \qquad s_k = \mathrm{similarity\ of\ the\ DCT\ subband} \; k",
        f"DCT, subband similarity, {_QUALITY}",
        "Balanov et al. 2015, Image quality assessment based on DCT subband similarity, doi:10.1109/ICIP.2015.7351172",
        *_PAIR,
    ),
    "FSIMLoss": Facts(
        _TASKS,
        r"L = 1 - \frac{\sum_i s_i \, m_i}{\sum_i m_i} \qquad m = \mathrm{phase\ congruency}",
        f"feature similarity, phase congruency, {_QUALITY}",
        "Zhang et al. 2011, FSIM: a feature similarity index, doi:10.1109/TIP.2011.2109730",
        *_PAIR,
    ),
    "GMSDLoss": Facts(
        _TASKS,
        _DEVIATION,
        f"gradient magnitude similarity, edges, {_QUALITY}",
        "Xue et al. 2013, Gradient magnitude similarity deviation, arXiv:1308.3052",
        *_PAIR,
    ),
    "HaarPSILoss": Facts(
        _TASKS,
        r"L = 1 - \left( \sigma^{-1} \left( \frac{\sum_i \sigma(s_i) \, w_i}{\sum_i w_i} \right) \right)^2 \qquad "
        r"\sigma(s) = \frac{1}{1 + e^{-\mathtt{alpha} \, s}}",
        f"Haar, wavelet, {_QUALITY}",
        "Reisenhofer et al. 2018, A Haar wavelet-based perceptual similarity index, arXiv:1607.06140",
        *_PAIR,
    ),
    "InformationWeightedSSIMLoss": Facts(
        _TASKS,
        r"L = 1 - \prod_j \left( \frac{\sum_i w_{j i} \, s_{j i}}{\sum_i w_{j i}} \right)^{\beta_j}",
        f"IW-SSIM, information content, {SIMILARITY}, image quality",
        "Wang and Li 2011, Information content weighting for perceptual image quality, doi:10.1109/TIP.2010.2092435",
        *_PAIR,
    ),
    "LPIPS": Facts(
        _TASKS,
        r"L = \sum_l \frac{1}{H_l W_l} \sum_i \left\| w_l \odot (\hat{x}_{l i} - \hat{y}_{l i}) \right\|^2",
        f"learned perceptual image patch similarity, {_DEEP}",
        _LPIPS,
        *_FEATURES,
    ),
    "MDSILoss": Facts(
        _TASKS,
        r"L = \left( \frac{1}{n} \sum_i \left| s_i^{\mathtt{q}} - \overline{s^{\mathtt{q}}} \right|^{\mathtt{rho}} "
        r"\right)^{\mathtt{o} / \mathtt{rho}}",
        f"mean deviation similarity, colour, gradient, {_QUALITY}",
        "Nafchi et al. 2016, Mean deviation similarity index, arXiv:1608.07433",
        "images (N, 3, H, W) from 0 to `data_range`",
        "images (N, 3, H, W) from 0 to `data_range`",
    ),
    "MultiScaleGMSDLoss": Facts(
        _TASKS,
        r"L = \sqrt{\sum_j w_j \, d_j^2} \qquad d_j = \mathrm{deviation\ in\ scale} \; j",
        f"MS-GMSD, gradient magnitude similarity, multi-scale, {_QUALITY}",
        "Zhang et al. 2017, Gradient magnitude similarity deviation on multiple scales",
        *_PAIR,
    ),
    "MultiScaleSSIMLoss": Facts(
        _TASKS,
        r"L = 1 - \ell_M^{\beta_M} \prod_j cs_j^{\beta_j}",
        f"MS-SSIM, multi-scale, {SIMILARITY}",
        "Wang et al. 2003, Multi-scale structural similarity, doi:10.1109/ACSSC.2003.1292216",
        *_PAIR,
    ),
    "PieAPP": Facts(
        _TASKS,
        r"L = \frac{\sum_p w_p \, d_p}{\sum_p w_p} \qquad d_p = \mathrm{error\ of\ patch} \; p",
        f"human preference, {_DEEP}",
        "Prashnani et al. 2018, PieAPP, arXiv:1806.02067",
        *_FEATURES,
    ),
    "SRSIMLoss": Facts(
        _TASKS,
        r"L = 1 - \frac{\sum_i s_i \, m_i}{\sum_i m_i} \qquad m = \mathrm{saliency\ from\ the\ spectral\ residual}",
        f"spectral residual, saliency, {_QUALITY}",
        "Zhang and Li 2012, SR-SIM: a fast and high performance IQA index, doi:10.1109/ICIP.2012.6467149",
        *_PAIR,
    ),
    "SSIMLoss": Facts(_TASKS, rf"L = 1 - {_SSIM}", SIMILARITY, SSIM, *_PAIR),
    "StyleLoss": Facts(
        "generation",
        r"L = \sum_l w_l \left\| G(\phi_l(x)) - G(\phi_l(y)) \right\|^2 \qquad G(f) = f f^{\top}",
        f"style transfer, Gram matrix, texture, {_DEEP}",
        _GATYS,
        *_FEATURES,
    ),
    "TVLoss": Facts(
        "regularisation, image restoration",
        r"L = \sum_i \sqrt{(\partial_h x)_i^2 + (\partial_w x)_i^2}",
        "total variation, smoothness, denoising",
        "Rudin et al. 1992, Nonlinear total variation based noise removal algorithms",
        *_ALONE,
    ),
    "VIFLoss": Facts(
        _TASKS,
        r"L = 1 - \frac{\sum_i \log_2 \left( 1 + \frac{g_i^2 \sigma_{y i}^2}{\sigma_{v i}^2 + \mathtt{sigma\_n\_sq}} "
        r"\right)}{\sum_i \log_2 \left( 1 + \frac{\sigma_{y i}^2}{\mathtt{sigma\_n\_sq}} \right)}",
        f"visual information fidelity, {_QUALITY}",
        "Sheikh and Bovik 2006, Image information and visual quality, doi:10.1109/TIP.2005.859378",
        *_PAIR,
    ),
    "VSILoss": Facts(
        _TASKS,
        r"L = 1 - \frac{\sum_i s_i \, m_i}{\sum_i m_i} \qquad m = \mathrm{visual\ saliency}",
        f"saliency, {_QUALITY}",
        "Zhang et al. 2014, VSI: a visual saliency-induced index, doi:10.1109/TIP.2014.2346028",
        *_PAIR,
    ),
}
"""The facts by name of the loss."""
