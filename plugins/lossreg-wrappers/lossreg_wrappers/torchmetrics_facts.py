"""The facts of the losses of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import NONE, SIMILARITY, SSIM, Facts

_SIGNALS = ("waveforms (..., T)", "waveforms (..., T)")
_SOURCES = ("waveforms (N, sources, T)", "waveforms (N, sources, T)")
_IMAGES = ("images (N, C, H, W)", "images (N, C, H, W)")
_NUMBERS = ("numbers (N,) or (N, outputs)", "numbers (N,) or (N, outputs)")
_ANY = ("numbers of any shape", "numbers (shape of the prediction)")
_DISTRIBUTIONS = (
    "distributions (N, D), or their logarithms with `log_prob: true`",
    "distributions (N, D), or their logarithms with `log_prob: true`",
)
_FUSED = ("fused images (N, C, H, W)", "multispectral images (N, C, h, w) and panchromatic images (N, C, H, W)")
_RATIO = "source separation, speech enhancement, decibels, waveform"
_QUALITY = "image quality, super-resolution, denoising, IQA"
_REMOTE = "remote sensing, satellite, multispectral, hyperspectral"
_PAN = f"pansharpening, {_REMOTE}"
_LE_ROUX = "Le Roux et al. 2018, SDR - half-baked or well done?, arXiv:1811.02508"
_SI = r"10 \log_{10} \frac{\left\| \alpha y \right\|^2}{\left\| x - \alpha y \right\|^2} \qquad "
_ALPHA = r"\alpha = \frac{x \cdot y}{\left\| y \right\|^2}"
_SSIM = r"\frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{x y} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}"
_RMSE = r"\sqrt{\frac{1}{n} \sum_i (x_i - y_i)^2}"

_AUDIO: Mapping[str, Facts] = {
    "complex_scale_invariant_signal_noise_ratio": Facts(
        "audio, speech",
        rf"L = -{_SI}{_ALPHA}",
        f"C-SI-SNR, complex, spectrogram, {_RATIO}",
        "",
        "complex spectra (..., F, T, 2)",
        "complex spectra (..., F, T, 2)",
    ),
    "permutation_invariant_training": Facts(
        "audio, speech",
        r"L = -\max_{\pi} \frac{1}{S} \sum_s \mathtt{metric}(x_{\pi(s)}, y_s)",
        f"PIT, uPIT, speakers, cocktail party, {_RATIO}",
        "Yu et al. 2017, Permutation invariant training, arXiv:1607.00325",
        *_SOURCES,
    ),
    "scale_invariant_signal_distortion_ratio": Facts(
        "audio, speech", rf"L = -{_SI}{_ALPHA}", f"SI-SDR, {_RATIO}", _LE_ROUX, *_SIGNALS
    ),
    "scale_invariant_signal_noise_ratio": Facts(
        "audio, speech", rf"L = -{_SI}{_ALPHA}", f"SI-SNR, zero mean, {_RATIO}", _LE_ROUX, *_SIGNALS
    ),
    "signal_distortion_ratio": Facts(
        "audio, speech",
        r"L = -10 \log_{10} \frac{\left\| h * y \right\|^2}{\left\| x - h * y \right\|^2} \qquad "
        r"h = \mathrm{best\ filter\ of\ length} \; \mathtt{filter\_length}",
        f"SDR, BSS eval, {_RATIO}",
        "Vincent et al. 2006, Performance measurement in blind audio source separation, doi:10.1109/TSA.2005.858005",
        *_SIGNALS,
    ),
    "signal_noise_ratio": Facts(
        "audio, speech",
        r"L = -10 \log_{10} \frac{\left\| y \right\|^2}{\left\| x - y \right\|^2}",
        f"SNR, {_RATIO}",
        "",
        *_SIGNALS,
    ),
    "source_aggregated_signal_distortion_ratio": Facts(
        "audio, speech",
        r"L = -10 \log_{10} \frac{\sum_s \left\| \alpha y_s \right\|^2}{\sum_s \left\| x_s - \alpha y_s \right\|^2}",
        f"SA-SDR, diarization, {_RATIO}",
        "von Neumann et al. 2022, SA-SDR, arXiv:2110.15581",
        *_SOURCES,
    ),
}

_OF_IMAGES: Mapping[str, Facts] = {
    "error_relative_global_dimensionless_synthesis": Facts(
        "image restoration, image quality",
        r"L = \frac{100}{\mathtt{ratio}} \sqrt{\frac{1}{C} \sum_c \frac{\mathrm{RMSE}_c^2}{\mu_c^2}}",
        f"ERGAS, relative error, {_PAN}",
        "Wald 2000, Quality of high resolution synthesised images",
        *_IMAGES,
    ),
    "multiscale_structural_similarity_index_measure": Facts(
        "image restoration, image quality",
        r"L = 1 - \ell_M^{\beta_M} \prod_j cs_j^{\beta_j}",
        f"MS-SSIM, multi-scale, {SIMILARITY}",
        "Wang et al. 2003, Multi-scale structural similarity, doi:10.1109/ACSSC.2003.1292216",
        *_IMAGES,
    ),
    "peak_signal_noise_ratio": Facts(
        "image restoration, image quality",
        r"L = -10 \log_{\mathtt{base}} \frac{\mathtt{data\_range}^2}{\frac{1}{n} \sum_i (x_i - y_i)^2}",
        f"PSNR, decibels, {_QUALITY}",
        "",
        *_ANY,
    ),
    "peak_signal_noise_ratio_with_blocked_effect": Facts(
        "image restoration, image quality",
        r"L = -10 \log_{10} \frac{\mathtt{data\_range}^2}{\frac{1}{n} \sum_i (x_i - y_i)^2 + B(x)} \qquad "
        r"B = \mathrm{blocking\ effect\ factor}",
        f"PSNR-B, JPEG, blocking artefacts, decibels, {_QUALITY}",
        "Yim and Bovik 2011, Quality assessment of deblocked images, doi:10.1109/TIP.2010.2061859",
        "grey images (N, 1, H, W)",
        "grey images (N, 1, H, W)",
    ),
    "quality_with_no_reference": Facts(
        "image restoration, image quality",
        r"L = 1 - (1 - D_\lambda)^{\mathtt{alpha}} (1 - D_s)^{\mathtt{beta}}",
        f"QNR, no-reference, {_PAN}",
        "Alparone et al. 2008, Multispectral and panchromatic data fusion assessment without reference",
        *_FUSED,
    ),
    "relative_average_spectral_error": Facts(
        "image restoration, image quality",
        r"L = \frac{100}{\mu} \sqrt{\frac{1}{C} \sum_c \mathrm{RMSE}_c^2}",
        f"RASE, relative error, {_PAN}",
        "",
        *_IMAGES,
    ),
    "root_mean_squared_error_using_sliding_window": Facts(
        "image restoration, image quality",
        r"L = \frac{1}{n} \sum_w \sqrt{\overline{(x - y)^2}_w} \qquad w = \mathrm{window\ of} \; \mathtt{window\_size}",
        f"RMSE-SW, local error, {_QUALITY}",
        "",
        *_IMAGES,
    ),
    "spatial_correlation_coefficient": Facts(
        "image restoration, image quality",
        r"L = 1 - \frac{1}{n} \sum_w \mathrm{corr}_w (\mathtt{hp\_filter} * x, \mathtt{hp\_filter} * y)",
        f"SCC, edges, {_PAN}",
        "Zhou et al. 1998, A wavelet transform method to merge Landsat TM and SPOT panchromatic data",
        *_IMAGES,
    ),
    "spatial_distortion_index": Facts(
        "image restoration, image quality",
        r"L = \left( \frac{1}{C} \sum_c \left| Q(x_c, \mathtt{pan}) - Q(\mathtt{ms}_c, \mathtt{pan\_lr}) "
        r"\right|^{\mathtt{norm\_order}} \right)^{1 / \mathtt{norm\_order}}",
        f"D_s, no-reference, {_PAN}",
        "Alparone et al. 2008, Multispectral and panchromatic data fusion assessment without reference",
        *_FUSED,
    ),
    "spectral_angle_mapper": Facts(
        "image restoration, image quality",
        r"L = \frac{1}{n} \sum_i \arccos \frac{x_i \cdot y_i}{\left\| x_i \right\| \left\| y_i \right\|}",
        f"SAM, spectral angle, {_REMOTE}",
        "Yuhas et al. 1992, Discrimination among semi-arid landscape endmembers using the spectral angle mapper",
        *_IMAGES,
    ),
    "spectral_distortion_index": Facts(
        "image restoration, image quality",
        r"L = \left( \frac{1}{C (C - 1)} \sum_{c \neq d} \left| Q(x_c, x_d) - Q(y_c, y_d) \right|^{\mathtt{p}} "
        r"\right)^{1 / \mathtt{p}}",
        f"D_lambda, {_PAN}",
        "Alparone et al. 2008, Multispectral and panchromatic data fusion assessment without reference",
        *_IMAGES,
    ),
    "structural_similarity_index_measure": Facts(
        "image restoration, image quality", rf"L = 1 - {_SSIM}", SIMILARITY, SSIM, *_IMAGES
    ),
    "total_variation": Facts(
        "regularisation, image restoration",
        r"L = \sum_i \left| \partial_h x \right|_i + \left| \partial_w x \right|_i",
        "TV, smoothness, denoising",
        "Rudin et al. 1992, Nonlinear total variation based noise removal algorithms",
        "images (N, C, H, W)",
        NONE,
    ),
    "universal_image_quality_index": Facts(
        "image restoration, image quality",
        r"L = 1 - \frac{4 \sigma_{x y} \mu_x \mu_y}{(\sigma_x^2 + \sigma_y^2)(\mu_x^2 + \mu_y^2)}",
        f"UQI, {_QUALITY}",
        "Wang and Bovik 2002, A universal image quality index, doi:10.1109/97.995823",
        *_IMAGES,
    ),
}

_OF_NUMBERS: Mapping[str, Facts] = {
    "concordance_corrcoef": Facts(
        "regression",
        r"L = 1 - \frac{2 \sigma_{x y}}{\sigma_x^2 + \sigma_y^2 + (\mu_x - \mu_y)^2}",
        "CCC, agreement, emotion, valence, correlation",
        "Lin 1989, A concordance correlation coefficient to evaluate reproducibility, doi:10.2307/2532051",
        *_NUMBERS,
    ),
    "cosine_similarity": Facts(
        "regression, metric learning",
        r"L = 1 - \frac{x \cdot y}{\left\| x \right\| \left\| y \right\|}",
        "cosine, angle, direction, embeddings",
        "",
        "vectors (N, D)",
        "vectors (N, D)",
    ),
    "explained_variance": Facts(
        "regression",
        r"L = \frac{\mathrm{Var}(y - x)}{\mathrm{Var}(y)}",
        "variance, R2",
        "",
        *_NUMBERS,
    ),
    "jensen_shannon_divergence": Facts(
        "distillation, generation",
        r"L = \frac{1}{2} \mathrm{KL}(x, m) + \frac{1}{2} \mathrm{KL}(y, m) \qquad m = \frac{x + y}{2}",
        "JS divergence, distributions, symmetric",
        "Lin 1991, Divergence measures based on the Shannon entropy, doi:10.1109/18.61115",
        *_DISTRIBUTIONS,
    ),
    "kl_divergence": Facts(
        "distillation, generation",
        r"L = \sum_i x_i \log \frac{x_i}{y_i}",
        "KL, relative entropy, distributions",
        "Kullback and Leibler 1951, On information and sufficiency, doi:10.1214/aoms/1177729694",
        *_DISTRIBUTIONS,
    ),
    "log_cosh_error": Facts(
        "regression",
        r"L = \frac{1}{n} \sum_i \log \cosh (x_i - y_i)",
        "log-cosh, robust, Huber, smooth absolute error",
        "",
        *_NUMBERS,
    ),
    "mean_absolute_error": Facts(
        "regression", r"L = \frac{1}{n} \sum_i \left| x_i - y_i \right|", "MAE, L1, robust", "", *_ANY
    ),
    "mean_absolute_percentage_error": Facts(
        "regression",
        r"L = \frac{1}{n} \sum_i \frac{\left| x_i - y_i \right|}{\max(\epsilon, \left| y_i \right|)}",
        "MAPE, relative error, forecasting, time series",
        "",
        *_ANY,
    ),
    "mean_squared_error": Facts("regression", r"L = \frac{1}{n} \sum_i (x_i - y_i)^2", "MSE, RMSE, L2", "", *_ANY),
    "mean_squared_log_error": Facts(
        "regression",
        r"L = \frac{1}{n} \sum_i (\log (1 + x_i) - \log (1 + y_i))^2",
        "MSLE, logarithm, relative error, counts",
        "",
        "numbers above -1 of any shape",
        "numbers above -1 (shape of the prediction)",
    ),
    "minkowski_distance": Facts(
        "regression",
        r"L = \left( \sum_i \left| x_i - y_i \right|^{\mathtt{p}} \right)^{1 / \mathtt{p}}",
        "p-norm, Lp, L3",
        "",
        *_ANY,
    ),
    "normalized_root_mean_squared_error": Facts(
        "regression",
        rf"L = \frac{{1}}{{s}} {_RMSE} \qquad s = \mathtt{{normalization}} \; \mathrm{{of}} \; y",
        "NRMSE, relative error, scatter index, forecasting, hydrology",
        "",
        *_NUMBERS,
    ),
    "pearson_corrcoef": Facts(
        "regression",
        r"L = 1 - \frac{\sigma_{x y}}{\sigma_x \sigma_y}",
        "Pearson, correlation, PCC",
        "",
        *_NUMBERS,
    ),
    "r2_score": Facts(
        "regression",
        r"L = \frac{\sum_i (x_i - y_i)^2}{\sum_i (y_i - \bar{y})^2}",
        "R squared, coefficient of determination, Nash-Sutcliffe",
        "",
        *_NUMBERS,
    ),
    "relative_squared_error": Facts(
        "regression",
        r"L = \frac{\sum_i (x_i - y_i)^2}{\sum_i (y_i - \bar{y})^2}",
        "RSE, RRSE, relative error, forecasting, time series",
        "",
        *_NUMBERS,
    ),
    "symmetric_mean_absolute_percentage_error": Facts(
        "regression",
        r"L = \frac{2}{n} \sum_i \frac{\left| x_i - y_i \right|}{\left| x_i \right| + \left| y_i \right|}",
        "SMAPE, relative error, forecasting, time series",
        "",
        *_ANY,
    ),
    "tweedie_deviance_score": Facts(
        "regression",
        r"L = \frac{2}{n} \sum_i \left( \frac{y_i^{2 - p}}{(1 - p)(2 - p)} - \frac{y_i \, x_i^{1 - p}}{1 - p} + "
        r"\frac{x_i^{2 - p}}{2 - p} \right) \qquad p = \mathtt{power}",
        "Tweedie, insurance, Poisson, gamma, zero-inflated, counts",
        "",
        "positive numbers of any shape",
        "numbers of 0 or more (shape of the prediction)",
    ),
    "weighted_mean_absolute_percentage_error": Facts(
        "regression",
        r"L = \frac{\sum_i \left| x_i - y_i \right|}{\sum_i \left| y_i \right|}",
        "WMAPE, relative error, forecasting, time series",
        "",
        *_ANY,
    ),
}

FACTS: Mapping[str, Facts] = {
    **_AUDIO,
    **_OF_IMAGES,
    **_OF_NUMBERS,
    "lip_vertex_error": Facts(
        "generation",
        r"L = \frac{1}{T} \sum_t \max_{v \in \mathtt{mouth\_map}} \left\| x_{t v} - y_{t v} \right\|^2",
        "LVE, talking head, face, lip synchronisation, mesh",
        "",
        "vertices (T, V, 3)",
        "vertices (T, V, 3)",
    ),
    "perplexity": Facts(
        "sequence labelling, generation",
        r"L = \exp \left( -\frac{1}{n} \sum_i \log p_{i y_i} \right)",
        "language model, cross-entropy, tokens",
        "Jelinek et al. 1977, Perplexity - a measure of the difficulty of speech recognition tasks",
        "logits (N, T, C)",
        "class indices (N, T)",
    ),
}
"""The facts by name of the loss."""
