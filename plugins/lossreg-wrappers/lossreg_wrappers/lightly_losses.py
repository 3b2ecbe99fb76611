"""Plugin `lightly`: the losses of `lightly.loss`, for self-supervised learning; imports neither lightly nor torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_COMPARES = "it compares every sample of the batch with the others; leave samples out of the batch instead"
_OWN_MASK = "it reads a mask of its own, at `gt.mask`"
_WHOLE = "it returns one number for the batch; leave samples out of the batch instead"
_VIEWS = {"prediction": "embeddings (N, D) of two views", "ground_truth": "none"}
_LIST = {"prediction": "a list of embeddings (N, D), one of each view", "ground_truth": "none"}
_TEACHER = "logits of a network and of its teacher"


def _loss(
    name: str,
    summary: str,
    inputs: Sequence[str] | Mapping[str, str],
    example: str,
    *,
    optional: Sequence[str] = (),
    unit: str = "",
    unmasked: str = _COMPARES,
    **options: Any,
) -> LossSpec:
    wrap: dict[str, Any] = {"takes": "values", "inputs": inputs}
    wrap |= {"unit": unit} if unit else {"unmasked": unmasked}
    wrap |= {"optional_inputs": tuple(optional)} if optional else {}
    return library_loss(
        "lightly.loss",
        name,
        summary,
        wrap,
        package="lightly>=1.6",
        example=f"lossreg_wrappers.embedding_examples:{example}",
        tasks=("self-supervised learning",),
        url=f"https://docs.lightly.ai/self-supervised-learning/lightly.loss.html#{options.pop('page', '')}",
        **options,
    )


def _pair(name: str, summary: str, **options: Any) -> LossSpec:
    """Return the spec of a loss of two views."""
    options = {**_VIEWS, **options}
    return _loss(name, summary, ("pred.view0", "pred.view1"), "two_views", **options)


def uniform(probabilities: Any) -> Any:
    """Return the uniform distribution over prototypes, for the example of PMSN."""
    return probabilities * 0 + 1 / len(probabilities)


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `lightly.loss`."""
    return (*_of_two_views(), *_of_several_views(), *_of_teachers(), *_of_patches())


def _of_two_views() -> Sequence[LossSpec]:
    return (
        _pair(
            "BarlowTwinsLoss",
            "Barlow Twins: the correlations of two views' features should be the identity",
            words=("redundancy reduction", "decorrelation"),
            formula=r"\sum_i(1-C_{ii})^2+\lambda\sum_{i\ne j}C_{ij}^2",
            source="Zbontar et al. 2021, Barlow Twins, arXiv:2103.03230",
        ),
        _pair(
            "DCLLoss",
            "decoupled contrastive loss: NT-Xent without the positive pair in its denominator",
            hidden=("weight_fn",),
            words=("contrastive", "SimCLR", "InfoNCE"),
            source="Yeh et al. 2021, Decoupled Contrastive Learning, arXiv:2110.06848",
        ),
        _pair(
            "DCLWLoss",
            "decoupled contrastive loss whose positive pairs are weighted by how alike they are",
            words=("contrastive", "SimCLR", "InfoNCE"),
            source="Yeh et al. 2021, Decoupled Contrastive Learning, arXiv:2110.06848",
        ),
        _pair(
            "DirectCLRLoss",
            "NT-Xent on the first `loss_dim` numbers of representations without a projection head",
            args={"loss_dim": 4},
            words=("contrastive",),
            source="Jing et al. 2021, Understanding Dimensional Collapse, arXiv:2110.09348",
        ),
        _loss(
            "KoLeoLoss",
            "KoLeo: embeddings of a batch should be spread out evenly",
            ("pred.embeddings",),
            "lone_embeddings",
            prediction="embeddings (N, D)",
            ground_truth="none",
            words=("entropy", "uniformity", "DINOv2"),
            formula=r"-\frac1N\sum_n\log\min_{m\ne n}\lVert z_n-z_m\rVert",
            source="Sablayrolles et al. 2019, Spreading vectors for similarity search, arXiv:1806.03198",
        ),
        _pair(
            "MACLLoss",
            "NT-Xent whose temperature follows how alike positive pairs are",
            words=("contrastive", "SimCLR"),
            source="Huang et al. 2023, Model-Aware Contrastive Learning, arXiv:2207.07874",
        ),
        _pair(
            "NegativeCosineSimilarity",
            "negative cosine similarity, as in SimSiam and BYOL; detach the target view yourself",
            unit="samples by each_sample",
            words=("SimSiam", "BYOL", "cosine"),
            formula=r"-\frac{\langle p,z\rangle}{\lVert p\rVert\lVert z\rVert}",
            source="Chen and He 2021, Exploring Simple Siamese Representation Learning, arXiv:2011.10566",
        ),
        _pair(
            "NTXentLoss",
            "normalised temperature-scaled cross-entropy of SimCLR and MoCo, InfoNCE over two views",
            words=("contrastive", "SimCLR", "MoCo", "InfoNCE", "NT-Xent"),
            formula=r"-\log\frac{e^{s(z_i,z_j)/\tau}}{\sum_{k\ne i}e^{s(z_i,z_k)/\tau}}",
            source="Chen et al. 2020, SimCLR, arXiv:2002.05709",
        ),
        _pair(
            "TiCoLoss",
            "TiCo: two views alike, and contrast by a moving covariance of the batch",
            words=("covariance", "BYOL"),
            source="Zhu et al. 2022, TiCo, arXiv:2206.10698",
        ),
        _pair(
            "VICRegLoss",
            "VICReg: two views alike, each feature with some variance, features not correlated",
            words=("variance", "covariance", "decorrelation"),
            formula=r"\lambda\,s(Z,Z')+\mu\,[v(Z)+v(Z')]+\nu\,[c(Z)+c(Z')]",
            source="Bardes et al. 2022, VICReg, arXiv:2105.04906",
        ),
    )


def _of_several_views() -> Sequence[LossSpec]:
    stacked: dict[str, Any] = {
        "prediction": "embeddings (V, N, D) of small and of large crops",
        "ground_truth": "none",
        "inputs": {"local_proj": "pred.local", "global_proj": "pred.global"},
        "example": "local_and_global",
    }
    return (
        _loss(
            "EMPSSLLoss",
            "EMP-SSL: many crops of an image near their mean, and a high coding rate of each crop's batch",
            ("pred.views",),
            "list_of_views",
            words=("coding rate", "multi-crop"),
            source="Tong et al. 2023, EMP-SSL, arXiv:2304.03977",
            **_LIST,
        ),
        _loss(
            "FroSSLLoss",
            "FroSSL: views near their mean, and a small Frobenius norm of each view's covariance",
            ("pred.views",),
            "list_of_views",
            words=("covariance", "decorrelation"),
            source="Skean et al. 2023, FroSSL, arXiv:2310.02903",
            **_LIST,
        ),
        _loss(
            "LeJEPALoss",
            "LeJEPA: all crops near the mean of the large ones, and embeddings that are Gaussian (random projections)",
            words=("JEPA", "SIGReg"),
            source="Balestriero and LeCun 2025, LeJEPA, arXiv:2511.08544",
            **stacked,
        ),
        _loss(
            "LeWMLoss",
            "LeWorldModel: the next frame's embedding, and embeddings that are Gaussian (random projections)",
            {"predicted": "pred.predicted", "target": "pred.target", "embeddings": "pred.embeddings"},
            "frames",
            prediction="embeddings (N, T, D) of the frames, and predictions and targets (N, T - 1, D)",
            ground_truth="none",
            words=("world model", "video", "JEPA"),
            source="LeWorldModel 2026, arXiv:2603.19312",
        ),
        _loss(
            "SIGReg",
            "SIGReg: embeddings should be Gaussian, by tests of random projections",
            ("pred.embeddings",),
            "lone_embeddings",
            prediction="embeddings (N, D)",
            ground_truth="none",
            words=("regularisation", "JEPA"),
            source="Balestriero and LeCun 2025, LeJEPA, arXiv:2511.08544",
        ),
        _loss(
            "SwaVLoss",
            "SwaV: each crop predicts the balanced cluster assignment of the others",
            {
                "high_resolution_outputs": "pred.high_resolution",
                "low_resolution_outputs": "pred.low_resolution",
                "queue_outputs": "pred.queue",
            },
            "assignments",
            optional=("queue_outputs",),
            prediction="lists of similarities (N, K) to prototypes, of large and of small crops",
            ground_truth="none",
            words=("clustering", "prototypes", "Sinkhorn"),
            source="Caron et al. 2020, SwaV, arXiv:2006.09882",
        ),
        _loss(
            "VICRegLLoss",
            "VICRegL: VICReg of whole images and of matched places of their feature maps",
            {
                "global_view_features": "pred.global_features",
                "global_view_grids": "gt.global_grids",
                "local_view_features": "pred.local_features",
                "local_view_grids": "gt.local_grids",
            },
            "view_features",
            optional=("local_view_features", "local_view_grids"),
            args={"num_matches": [4, 2]},
            prediction="for each crop its embedding (N, D) and map (N, H, W, D')",
            ground_truth="the places (N, H, W, 2) of each map in the image",
            words=("dense", "variance", "covariance"),
            source="Bardes et al. 2022, VICRegL, arXiv:2210.01571",
        ),
        _loss(
            "VISRegLoss",
            "VISReg: all crops near the mean of the large ones; centre, scale and shape of their distribution",
            args={"num_slices": 64},
            words=("regularisation", "optimal transport"),
            source="Wu et al. 2026, VISReg, arXiv:2606.02572",
            **stacked,
        ),
        _loss(
            "WMSELoss",
            "W-MSE: views of an image near each other after their batch is whitened",
            ("pred.views",),
            "whitened_views",
            hidden=("loss_fn",),
            args={"embedding_dim": 4, "w_size": 8},
            prediction="embeddings (V N, D): `num_samples` views of N images, one view after the other",
            ground_truth="none",
            words=("whitening", "decorrelation"),
            source="Ermolov et al. 2021, Whitening for Self-Supervised Representation Learning, arXiv:2007.06346",
        ),
    )


def _of_teachers() -> Sequence[LossSpec]:
    prototypes: dict[str, Any] = {
        "prediction": "embeddings (V N, D) of masked views, (N, D) of their targets, and prototypes (K, D)",
        "ground_truth": "none",
        "inputs": ("pred.anchors", "pred.targets", "pred.prototypes"),
        "example": "prototypes",
        "words": ("masked", "prototypes", "Sinkhorn"),
    }
    return (
        _loss(
            "DINOLoss",
            "DINO: a student predicts the centred and sharpened outputs of its teacher on other crops",
            {"teacher_out": "pred.teacher", "student_out": "pred.student", "epoch": "epoch"},
            "crops",
            optional=("epoch",),
            args={"output_dim": 6},
            prediction="lists of logits (N, D), of the teacher's and of the student's crops",
            ground_truth="none",
            words=("distillation", "teacher", "multi-crop", "DINO"),
            formula=r"-\sum_{t\ne s}\mathrm{softmax}\bigl((g_t-c)/\tau_t\bigr)\log\mathrm{softmax}(g_s/\tau_s)",
            source="Caron et al. 2021, DINO, arXiv:2104.14294",
        ),
        _loss(
            "MMCRLoss",
            "MMCR: views of an image near each other and their means spread out, by nuclear norms",
            ("pred.student", "pred.teacher"),
            "stacked_views",
            prediction="embeddings (N, V, D) of the network and of its moving average",
            ground_truth="none",
            words=("manifold", "nuclear norm"),
            source="Yerxa et al. 2023, Maximum Manifold Capacity Representations, arXiv:2303.03307",
        ),
        _loss(
            "MSNLoss",
            "MSN: masked views have the prototypes of their targets, and all prototypes are used",
            source="Assran et al. 2022, Masked Siamese Networks, arXiv:2204.07141",
            **prototypes,
        ),
        _loss(
            "PMSNLoss",
            "PMSN: MSN whose prototypes are used by a power law",
            source="Assran et al. 2022, The Hidden Uniform Cluster Prior, arXiv:2210.07277",
            **prototypes,
        ),
        _loss(
            "PMSNCustomLoss",
            "PMSN whose prototypes are used by a distribution of your own, a Python function",
            args={"target_distribution": uniform},
            source="Assran et al. 2022, The Hidden Uniform Cluster Prior, arXiv:2210.07277",
            **prototypes,
        ),
    )


def _of_patches() -> Sequence[LossSpec]:
    masked = {"mask": "gt.mask"}
    return (
        _loss(
            "CAPILoss",
            "CAPI: a student predicts its teacher's balanced clusters of masked patches",
            {
                "teacher_logits": "pred.teacher",
                "student_logits": "pred.student",
                "teacher_index": "gt.teacher_index",
            },
            "clusters",
            optional=("teacher_index",),
            prediction=f"{_TEACHER} (N, T, K) for clusters of patches",
            ground_truth="none; optionally which of the teacher's patches (N, T') are predicted",
            words=("masked image modelling", "clustering", "Sinkhorn"),
            source="Darcet et al. 2025, Cluster and Predict Latent Patches, arXiv:2502.08769",
        ),
        _loss(
            "DetConBLoss",
            "DetCon-B: regions of two views contrasted, the one view predicted by a network like BYOL's",
            {
                "pred_view0": "pred.view0",
                "pred_view1": "pred.view1",
                "target_view0": "pred.target0",
                "target_view1": "pred.target1",
                "mask_view0": "gt.mask0",
                "mask_view1": "gt.mask1",
            },
            "predicted_regions",
            args={"gather_distributed": False},
            prediction="features (N, M, D) of regions of two views, predicted and of the target network",
            ground_truth="the region (N, M) that each is, for both views",
            words=("contrastive", "dense", "objects"),
            source="Henaff et al. 2021, DetCon, arXiv:2103.10957",
        ),
        _loss(
            "DetConSLoss",
            "DetCon-S: regions of two views contrasted",
            {"view0": "pred.view0", "view1": "pred.view1", "mask_view0": "gt.mask0", "mask_view1": "gt.mask1"},
            "regions",
            args={"gather_distributed": False},
            prediction="features (N, M, D) of regions of two views",
            ground_truth="the region (N, M) that each is, for both views",
            words=("contrastive", "dense", "objects"),
            source="Henaff et al. 2021, DetCon, arXiv:2103.10957",
        ),
        _loss(
            "IBOTPatchLoss",
            "iBOT: a student predicts its teacher's outputs for masked patches",
            {"teacher_out": "pred.teacher", "student_out": "pred.student", **masked},
            "masked_patches",
            unmasked=_OWN_MASK,
            args={"output_dim": 6},
            prediction=f"{_TEACHER} (P, D) for the P masked patches of the batch",
            ground_truth="the mask (N, H, W) of patches, true where masked",
            words=("masked image modelling", "distillation", "DINOv2"),
            source="Zhou et al. 2022, iBOT, arXiv:2111.07832",
        ),
        _loss(
            "IBOTPlusPlusPatchLoss",
            "iBOT++: iBOT for masked and for visible patches",
            {"teacher_out": "pred.teacher", "student_out": "pred.student", **masked},
            "patches",
            optional=("mask",),
            unmasked=_OWN_MASK,
            args={"output_dim": 6},
            prediction=f"{_TEACHER} (N, P, D) for all patches",
            ground_truth="none; optionally the mask (N, H, W) of patches, true where masked",
            words=("masked image modelling", "distillation"),
            source="TIPSv2 2026, arXiv:2604.12012",
        ),
        _loss(
            "PatchKernelAlignmentLoss",
            "similarities between the patches of a student like those of its teacher (centred kernel alignment)",
            {"student_features": "pred.student", "teacher_features": "pred.teacher", **masked},
            "patch_features",
            optional=("mask",),
            unmasked=_OWN_MASK,
            prediction="features (N, P, D) of patches, of a student and of its teacher",
            ground_truth="none; optionally a mask (N, P), true for patches to ignore",
            words=("CKA", "distillation", "dense"),
            source="Kornblith et al. 2019, Similarity of Neural Network Representations, arXiv:1905.00414",
        ),
    )
