"""The facts of the losses of lightly; in the formulas `x'` is the other view, and a hat is a unit vector."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import NONE, Facts

_TASK, _REGULARISATION = "self-supervised learning", "self-supervised learning, regularisation"
_DISTILLATION = "self-supervised learning, distillation"
_EMBEDDINGS = "embeddings (N, D)"
_VIEWS = "embeddings (N, D) of two views"
_LIST = "a list of embeddings (N, D), one of each view"
_CROPS = "embeddings (V, N, D) of small and of large crops"
_PROTOTYPES = "embeddings (V N, D) of masked views, (N, D) of their targets, and prototypes (K, D)"
_REGIONS = "the region (N, M) that each is, for both views"


def _facts(
    words: str,
    source: str,
    *equations: str,
    tasks: str = _TASK,
    prediction: str = _VIEWS,
    ground_truth: str = NONE,
) -> Facts:
    return Facts(tasks, r" \qquad ".join(equations), words, source, prediction, ground_truth)


# equations of several losses
_UNIT = r"\hat{x} = x / \| x \|"
_NT_XENT = (
    r"L = -\frac{1}{2 N} \sum_i \log \frac{e^{s_{i i'} / \mathtt{temperature}}}"
    r"{\sum_{j \neq i} e^{s_{i j} / \mathtt{temperature}}}"
)
_OTHER = r"i' = \mathrm{the\ other\ view\ of\ the\ image\ of\ } i"
_COSINE = r"s_{i j} = \cos(x_i, x_j)"
_DECOUPLED = (
    r"\ell(x, x') = \frac{1}{N} \sum_i -w_i \frac{\hat{x}_i \cdot \hat{x}_i'}{\mathtt{temperature}} + \log "
    r"\sum_{j \neq i} \left( e^{\hat{x}_i \cdot \hat{x}_j / \mathtt{temperature}} "
    r"+ e^{\hat{x}_i \cdot \hat{x}_j' / \mathtt{temperature}} \right)"
)
_BOTH_WAYS = r"L = \frac{1}{2} (\ell(x, x') + \ell(x', x))"
_VARIANCE = r"v(x) = \frac{1}{D} \sum_d \max\left(0, 1 - \sqrt{\operatorname{Var}(x_d) + \mathtt{eps}}\right)"
_COVARIANCE = r"c(x) = \frac{1}{D} \sum_{d \neq e} \operatorname{Cov}(x_d, x_e)^2"
_INVARIANCE = r"\frac{1}{V N D} \sum_{v i d} (x_{v i d} - \bar{x}_{i d})^2"
_MEAN_OF_LARGE = r"\bar{x} = \mathrm{mean\ over\ the\ large\ crops}"
_GAUSSIAN = (
    r"\frac{N}{A} \sum_a \int_{-b}^{b} \left| \frac{1}{N} \sum_j e^{\mathrm{i} t \, a \cdot x_j} - e^{-t^2 / 2} "
    r"\right|^2 e^{-t^2 / 2} \, dt"
)
_SIGREG = rf"\operatorname{{SIGReg}}(x) = {_GAUSSIAN}"
_DIRECTIONS = r"a = A = \mathtt{sigreg\_num\_vectors} \mathrm{\ random\ directions}, \; b = \mathtt{sigreg\_t\_max}"
_PREDICTS = (
    r"p = \operatorname{softmax}(\hat{a} \hat{w}^{\top} / \mathtt{temperature}), \; "
    r"\bar{p} = \mathrm{mean\ over\ the\ batch}",
    r"q = \operatorname{Sinkhorn}\left(\operatorname{sharpen}(\operatorname{softmax}"
    r"(\hat{t} \hat{w}^{\top} / \mathtt{temperature}))\right)",
    r"a, t, w = \mathrm{anchors, targets, prototypes}",
)
_MASKED = (
    r"L = -\frac{1}{V N} \sum_{i k} q_{i k} \log p_{i k} + \mathtt{regularization\_weight} \sum_k u_k \log "
    r"\frac{u_k}{\bar{p}_k}"
)
_STUDENT = r"p = \operatorname{softmax}(x / \mathtt{student\_temp})"
_TEACHER = r"q = \operatorname{softmax}((x^t - m) / \mathtt{teacher\_temp}), \; m = \mathrm{moving\ mean\ of\ } x^t"
_DETCON = (
    r"L = \frac{1}{N M} \sum_v \sum_i \frac{w_i}{| \mathcal{P}_i |} \sum_{j \in \mathcal{P}_i} -\log "
    r"\frac{e^{s_{i j} / \mathtt{temperature}}}{\sum_{k \notin \mathcal{S}_i} e^{s_{i k} / \mathtt{temperature}}}",
    r"\mathcal{P}_i, \mathcal{S}_i = \mathrm{the\ same\ region\ of\ the\ same\ image,\ in\ the\ other,\ in\ the\ same\ "
    r"view}",
    r"w_i = 1 / | \mathcal{S}_i |",
)

# words of several losses
_CONTRASTIVE = "contrastive, SimCLR, InfoNCE, NT-Xent"
_COLLAPSE = "decorrelation, redundancy reduction, collapse, without negatives"
_MIM = "masked image modelling, MIM, masked patches"
_SINKHORN = "clustering, prototypes, Sinkhorn"

_LEJEPA = "Balestriero and LeCun 2025, LeJEPA, arXiv:2511.08544"
_DCL = "Yeh et al. 2021, Decoupled Contrastive Learning, arXiv:2110.06848"
_PRIOR = "Assran et al. 2022, The Hidden Uniform Cluster Prior, arXiv:2210.07277"
_OBJECTS = "Henaff et al. 2021, DetCon, arXiv:2103.10957"

FACTS: Mapping[str, Facts] = {
    # two views
    "BarlowTwinsLoss": _facts(
        f"cross-correlation, {_COLLAPSE}",
        "Zbontar et al. 2021, Barlow Twins, arXiv:2103.03230",
        r"L = \sum_d (1 - C_{d d})^2 + \mathtt{lambda\_param} \sum_{d \neq e} C_{d e}^2",
        r"C_{d e} = \operatorname{corr}(x_d, x_e')",
    ),
    "DCLLoss": _facts(
        f"decoupled, {_CONTRASTIVE}, small batch",
        _DCL,
        _BOTH_WAYS,
        _DECOUPLED,
        rf"w_i = 1, \; {_UNIT}",
    ),
    "DCLWLoss": _facts(
        f"decoupled, weighted, von Mises-Fisher, {_CONTRASTIVE}, small batch",
        _DCL,
        _BOTH_WAYS,
        _DECOUPLED,
        r"w_i = 2 - N \frac{e^{\hat{x}_i \cdot \hat{x}_i' / \mathtt{sigma}}}"
        rf"{{\sum_j e^{{\hat{{x}}_j \cdot \hat{{x}}_j' / \mathtt{{sigma}}}}}}, \; {_UNIT}",
    ),
    "DirectCLRLoss": _facts(
        f"dimensional collapse, without projector, {_CONTRASTIVE}",
        "Jing et al. 2021, Understanding Dimensional Collapse, arXiv:2110.09348",
        _NT_XENT,
        r"s_{i j} = \cos(x_{i, 1:\mathtt{loss\_dim}}, x_{j, 1:\mathtt{loss\_dim}})",
        _OTHER,
    ),
    "KoLeoLoss": _facts(
        "entropy, uniformity, DINOv2, Kozachenko-Leonenko, nearest neighbour, collapse",
        "Sablayrolles et al. 2019, Spreading vectors for similarity search, arXiv:1806.03198",
        r"L = -\frac{1}{N} \sum_i \log\left(\min_{j \neq i} \| \hat{x}_i - \hat{x}_j \|_{\mathtt{p}} "
        r"+ \mathtt{eps}\right)",
        _UNIT,
        tasks=_REGULARISATION,
        prediction=_EMBEDDINGS,
    ),
    "MACLLoss": _facts(
        f"adaptive temperature, {_CONTRASTIVE}",
        "Huang et al. 2023, Model-Aware Contrastive Learning, arXiv:2207.07874",
        r"L = -\frac{1}{2 N} \sum_i \frac{\log p_i}{1 - p_i} \; (\mathrm{the\ denominator\ held\ constant})",
        r"p_i = \frac{e^{s_{i i'} / \tau}}{\sum_{j \neq i} e^{s_{i j} / \tau}}",
        r"\tau = \mathtt{temperature} \left( 1 + \mathtt{alpha} \left( \frac{1}{2 N} \sum_i s_{i i'} "
        r"- \mathtt{A\_0} \right) \right)",
        _COSINE,
        _OTHER,
    ),
    "NegativeCosineSimilarity": _facts(
        "SimSiam, BYOL, cosine similarity, stop gradient, without negatives",
        "Chen and He 2021, Exploring Simple Siamese Representation Learning, arXiv:2011.10566",
        r"L = -\frac{1}{N} \sum_i \cos(x_i, x_i')",
    ),
    "NTXentLoss": _facts(
        f"{_CONTRASTIVE}, MoCo, memory bank, temperature",
        "Chen et al. 2020, SimCLR, arXiv:2002.05709",
        _NT_XENT,
        _COSINE,
        _OTHER,
    ),
    "TiCoLoss": _facts(
        "covariance, BYOL, memory, collapse, without negatives",
        "Zhu et al. 2022, TiCo, arXiv:2206.10698",
        r"L = 1 - \frac{1}{N} \sum_i \hat{x}_i \cdot \hat{x}_i' + \frac{\mathtt{rho}}{N} \sum_i "
        r"\hat{x}_i^{\top} C \, \hat{x}_i",
        r"C \leftarrow \mathtt{beta} \, C + \frac{1 - \mathtt{beta}}{N} \sum_i \hat{x}_i \hat{x}_i^{\top}",
        _UNIT,
    ),
    "VICRegLoss": _facts(
        f"variance, covariance, {_COLLAPSE}",
        "Bardes et al. 2022, VICReg, arXiv:2105.04906",
        r"L = \frac{\mathtt{lambda\_param}}{N D} \sum_{i d} (x_{i d} - x_{i d}')^2 "
        r"+ \frac{\mathtt{mu\_param}}{2} (v(x) + v(x')) + \mathtt{nu\_param} \, (c(x) + c(x'))",
        _VARIANCE,
        _COVARIANCE,
    ),
    # several views
    "EMPSSLLoss": _facts(
        "coding rate, multi-crop, many patches, one epoch",
        "Tong et al. 2023, EMP-SSL, arXiv:2304.03977",
        r"L = \frac{1}{2 V} \sum_v \log\det\left(I + \frac{D}{N \, \mathtt{tcr\_eps}} x_v^{\top} x_v\right) "
        r"- \frac{\mathtt{inv\_coef}}{V N} \sum_{v i} \cos(x_{v i}, \bar{x}_i)",
        r"\bar{x} = \mathrm{mean\ over\ the\ views}",
        prediction=_LIST,
    ),
    "FroSSLLoss": _facts(
        f"covariance, Frobenius norm, entropy, {_COLLAPSE}",
        "Skean et al. 2023, FroSSL, arXiv:2310.02903",
        r"L = \sum_v 2 \log \| C_v \|_F + \mathtt{invariance\_weight} \, \frac{V}{N} \sum_i "
        r"\| z_{v i} - \bar{z}_i \|^2",
        r"C_v = \frac{z_v^{\top} z_v}{\operatorname{tr}(z_v^{\top} z_v)}, \; z_v = x_v "
        r"\mathrm{\ with\ columns\ of\ norm\ 1}, \; \bar{z} = \frac{1}{V} \sum_v z_v",
        prediction=_LIST,
    ),
    "LeJEPALoss": _facts(
        "JEPA, SIGReg, Gaussian, random projections, characteristic function, multi-crop",
        _LEJEPA,
        r"L = \frac{\mathtt{lambda\_param}}{V} \sum_v \operatorname{SIGReg}(x_v) "
        rf"+ (1 - \mathtt{{lambda\_param}}) \, {_INVARIANCE}",
        _SIGREG,
        rf"{_DIRECTIONS}, \; {_MEAN_OF_LARGE}",
        prediction=_CROPS,
    ),
    "LeWMLoss": _facts(
        "world model, video, JEPA, SIGReg, Gaussian, next frame, planning",
        "LeWorldModel 2026, arXiv:2603.19312",
        r"L = \frac{1}{N (T - 1) D} \sum_{i t d} (p_{i t d} - q_{i t d})^2 + \mathtt{lambda\_param} \, "
        r"\frac{1}{T} \sum_t \operatorname{SIGReg}(x_t)",
        _SIGREG,
        rf"{_DIRECTIONS}, \; p, q, x = \mathrm{{predictions, targets, embeddings}}",
        prediction="embeddings (N, T, D) of the frames, and predictions and targets (N, T - 1, D)",
    ),
    "SIGReg": _facts(
        "JEPA, LeJEPA, Gaussian, random projections, characteristic function, Epps-Pulley, collapse",
        _LEJEPA,
        rf"L = {_GAUSSIAN}",
        r"a = A = \mathtt{num\_vectors} \mathrm{\ random\ directions}, \; b = \mathtt{t\_max}",
        tasks=_REGULARISATION,
        prediction=_EMBEDDINGS,
    ),
    "SwaVLoss": _facts(
        f"swapped assignments, multi-crop, {_SINKHORN}",
        "Caron et al. 2020, SwaV, arXiv:2006.09882",
        r"L = -\frac{1}{G (V - 1) N} \sum_{u = 1}^{G} \sum_{v \neq u} \sum_{i k} q_{u i k} \log p_{v i k}",
        r"p = \operatorname{softmax}(x / \mathtt{temperature}), \; "
        r"q = \operatorname{Sinkhorn}(x / \mathtt{sinkhorn\_epsilon})",
        r"G, V = \mathrm{number\ of\ large,\ of\ all\ crops}",
        prediction="lists of similarities (N, K) to prototypes, of large and of small crops",
    ),
    "VICRegLLoss": _facts(
        f"dense, local features, variance, covariance, {_COLLAPSE}",
        "Bardes et al. 2022, VICRegL, arXiv:2210.01571",
        r"L = \mathtt{alpha} \operatorname{VICReg}(x, x') + (1 - \mathtt{alpha}) \sum_m \frac{1}{2} \left( "
        r"\operatorname{VICReg}(f, f'_m) + \operatorname{VICReg}(f', f_m) \right) \; "
        r"(\mathrm{mean\ over\ pairs\ of\ crops})",
        r"f_m, f'_m = \mathrm{features\ of\ the\ maps\ matched\ by\ } m = \mathrm{features, places}",
        r"\operatorname{VICReg}(x, x') = \frac{\mathtt{lambda\_param}}{N D} \sum_{i d} (x_{i d} - x_{i d}')^2 "
        r"+ \frac{\mathtt{mu\_param}}{2} (v(x) + v(x')) + \frac{\mathtt{nu\_param}}{2} (c(x) + c(x'))",
        _VARIANCE,
        _COVARIANCE,
        prediction="for each crop its embedding (N, D) and map (N, H, W, D')",
        ground_truth="the places (N, H, W, 2) of each map in the image",
    ),
    "VISRegLoss": _facts(
        "JEPA, Gaussian, sliced Wasserstein, optimal transport, random projections, collapse",
        "Wu et al. 2026, VISReg, arXiv:2606.02572",
        rf"L = (1 - \mathtt{{lambda\_param}}) \, {_INVARIANCE} + \frac{{\mathtt{{lambda\_param}}}}{{V}} \sum_v R(x_v)",
        r"R(x) = \frac{\mathtt{lambda\_center}}{D} \sum_d \mu_d^2 + \frac{\mathtt{lambda\_scale}}{D} \sum_d "
        r"(1 - \sigma_d)^2 + \frac{\mathtt{lambda\_shape}}{N A} \sum_{a i} (u_{a (i)} - \Phi^{-1}(i / (N + 1)))^2",
        r"\mu, \sigma = \mathrm{mean\ and\ standard\ deviation\ of\ } x, \; u_{a (i)} = i \mathrm{th\ smallest\ of\ } "
        r"a \cdot \frac{x - \mu}{\sigma}",
        rf"a = A = \mathtt{{num\_slices}} \mathrm{{\ random\ directions}}, \; {_MEAN_OF_LARGE}",
        prediction=_CROPS,
    ),
    "WMSELoss": _facts(
        f"whitening, Cholesky, {_COLLAPSE}",
        "Ermolov et al. 2021, Whitening for Self-Supervised Representation Learning, arXiv:2007.06346",
        r"L = \frac{2}{V (V - 1)} \sum_{u < v} \frac{1}{N} \sum_i 2 - 2 \cos(z_{u i}, z_{v i}), \; "
        r"V = \mathtt{num\_samples}",
        r"z_v = W_v (x_v - \mu_v), \; W_v^{\top} W_v = \Sigma_v^{-1}",
        r"\mu_v, \Sigma_v = \mathrm{mean\ and\ covariance\ of\ } \mathtt{w\_size} \mathrm{\ samples\ of\ } x_v",
        prediction="embeddings (V N, D): `num_samples` views of N images, one view after the other",
    ),
    # teachers
    "DINOLoss": _facts(
        "distillation, teacher, multi-crop, DINO, centring, sharpening, ViT",
        "Caron et al. 2021, DINO, arXiv:2104.14294",
        r"L = -\frac{1}{n N} \sum_{u \neq v} \sum_{i k} q_{u i k} \log p_{v i k}",
        r"n = \mathrm{number\ of\ pairs\ of\ a\ crop\ } u \mathrm{\ of\ the\ teacher,\ } v \mathrm{\ of\ the\ student}",
        _STUDENT,
        _TEACHER,
        tasks=_DISTILLATION,
        prediction="lists of scores (N, D), of the teacher's and of the student's crops",
    ),
    "MMCRLoss": _facts(
        "manifold, manifold capacity, nuclear norm, singular values",
        "Yerxa et al. 2023, Maximum Manifold Capacity Representations, arXiv:2303.03307",
        r"L = -\| C \|_* + \frac{\mathtt{lmda}}{N} \sum_i \| Z_i \|_*",
        r"Z_i = \mathrm{all\ views\ of\ image\ } i, \; C_i = \mathrm{their\ mean}",
        prediction="embeddings (N, V, D) of the network and of its moving average",
    ),
    "MSNLoss": _facts(
        f"masked, {_SINKHORN}",
        "Assran et al. 2022, Masked Siamese Networks, arXiv:2204.07141",
        r"L = -\frac{1}{V N} \sum_{i k} q_{i k} \log p_{i k} + \mathtt{regularization\_weight} \left( \log K + \sum_k "
        r"\bar{p}_k \log \bar{p}_k \right)",
        *_PREDICTS,
        prediction=_PROTOTYPES,
    ),
    "PMSNLoss": _facts(
        f"masked, prior, power law, long tail, {_SINKHORN}",
        _PRIOR,
        _MASKED,
        r"u_k = \frac{k^{-\mathtt{power\_law\_exponent}}}{\sum_l l^{-\mathtt{power\_law\_exponent}}}",
        *_PREDICTS,
        prediction=_PROTOTYPES,
    ),
    "PMSNCustomLoss": _facts(
        f"masked, prior, {_SINKHORN}",
        _PRIOR,
        _MASKED,
        r"u = \mathtt{target\_distribution}(\bar{p})",
        *_PREDICTS,
        prediction=_PROTOTYPES,
    ),
    # patches and regions
    "CAPILoss": _facts(
        f"{_MIM}, {_SINKHORN}",
        "Darcet et al. 2025, Cluster and Predict Latent Patches, arXiv:2502.08769",
        r"L = -\frac{1}{N T} \sum_{i t k} q_{i t k} \log p_{i t k}",
        r"p = \operatorname{softmax}(x / \mathtt{student\_temperature}), \; "
        r"q = \operatorname{Sinkhorn}(x^t / \mathtt{teacher\_temperature})",
        tasks=_DISTILLATION,
        prediction="scores of a network and of its teacher (N, T, K) for clusters of patches",
        ground_truth="none; optionally which of the teacher's patches (N, T') are predicted",
    ),
    "DetConBLoss": _facts(
        "contrastive, dense, objects, regions, BYOL, detection",
        _OBJECTS,
        *_DETCON,
        r"s_{i j} = \cos(x_i, x_j^t), \; x^t = \mathrm{of\ the\ target\ network}",
        prediction="features (N, M, D) of regions of two views, predicted and of the target network",
        ground_truth=_REGIONS,
    ),
    "DetConSLoss": _facts(
        "contrastive, dense, objects, regions, SimCLR, detection",
        _OBJECTS,
        *_DETCON,
        _COSINE,
        prediction="features (N, M, D) of regions of two views",
        ground_truth=_REGIONS,
    ),
    "IBOTPatchLoss": _facts(
        f"{_MIM}, DINOv2, teacher, ViT",
        "Zhou et al. 2022, iBOT, arXiv:2111.07832",
        r"L = -\frac{1}{N} \sum_i \frac{1}{| \mathcal{M}_i |} \sum_{j \in \mathcal{M}_i} \sum_k "
        r"q_{i j k} \log p_{i j k}",
        r"\mathcal{M}_i = \mathrm{masked\ patches}",
        _STUDENT,
        _TEACHER,
        tasks=_DISTILLATION,
        prediction="scores of a network and of its teacher (P, D) for the P masked patches of the batch",
        ground_truth="the mask (N, H, W) of patches, true where masked",
    ),
    "IBOTPlusPlusPatchLoss": _facts(
        f"{_MIM}, TIPS, dense, teacher, ViT",
        "TIPSv2 2026, arXiv:2604.12012",
        r"L = -\frac{1}{N} \sum_i \left( \frac{1}{| \mathcal{M}_i |} \sum_{j \in \mathcal{M}_i} + "
        r"\frac{1}{| \mathcal{V}_i |} \sum_{j \in \mathcal{V}_i} \right) \sum_k q_{i j k} \log p_{i j k}",
        r"\mathcal{M}_i, \mathcal{V}_i = \mathrm{masked,\ visible\ patches;\ without\ a\ mask\ the\ mean\ over\ all}",
        _STUDENT,
        _TEACHER,
        tasks=_DISTILLATION,
        prediction="scores of a network and of its teacher (N, P, D) for all patches",
        ground_truth="none; optionally the mask (N, H, W) of patches, true where masked",
    ),
    "PatchKernelAlignmentLoss": _facts(
        "CKA, PaKA, centred kernel alignment, dense, teacher, relations",
        "Patch-Level Kernel Alignment for Dense Self-Supervised Learning 2025, arXiv:2509.05606",
        r"L = \frac{1}{N} \sum_i 1 - \frac{\langle K_i, K_i^t \rangle}{\| K_i \| \, \| K_i^t \|}",
        r"K_i = H x_i x_i^{\top} H, \; K_i^t = H x_i^t (x_i^t)^{\top} H, \; H = I - \frac{1}{P} 1 1^{\top}",
        tasks=_DISTILLATION,
        prediction="features (N, P, D) of patches, of a student and of its teacher",
        ground_truth="none; optionally a mask (N, P), true for patches to ignore",
    ),
}
