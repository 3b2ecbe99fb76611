"""Plugin `lightly`: the losses of `lightly.loss`, for self-supervised learning; imports neither lightly nor torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.homes import homes
from lossreg_wrappers.lightly_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_PAGE = "https://docs.lightly.ai/self-supervised-learning/lightly.loss.html"
_COMPARES = "it compares every sample of the batch with the others; leave samples out of the batch instead"
_OWN_MASK = "it reads a mask of its own, at `gt.mask`"


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
        facts=FACTS,
        page=f"{_PAGE}#{homes('lightly.loss', name)[0]}.{name}",
        package="lightly>=1.6",
        example=f"lossreg_wrappers.embedding_examples:{example}",
        **options,
    )


def _pair(name: str, summary: str, **options: Any) -> LossSpec:
    """Return the spec of a loss of two views."""
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
        _pair("BarlowTwinsLoss", "Barlow Twins: the correlations of two views' features should be the identity"),
        _pair(
            "DCLLoss",
            "decoupled contrastive loss: NT-Xent without the positive pair in its denominator",
            hidden=("weight_fn",),
        ),
        _pair("DCLWLoss", "decoupled contrastive loss whose positive pairs are weighted by how alike they are"),
        _pair(
            "DirectCLRLoss",
            "NT-Xent on the first `loss_dim` numbers of representations without a projection head",
            args={"loss_dim": 4},
        ),
        _loss(
            "KoLeoLoss",
            "KoLeo: embeddings of a batch should be spread out evenly",
            ("pred.embeddings",),
            "lone_embeddings",
        ),
        _pair("MACLLoss", "NT-Xent whose temperature follows how alike positive pairs are"),
        _pair(
            "NegativeCosineSimilarity",
            "negative cosine similarity, as in SimSiam and BYOL; detach the target view yourself",
            unit="samples by each_sample",
        ),
        _pair("NTXentLoss", "normalised temperature-scaled cross-entropy of SimCLR and MoCo, InfoNCE over two views"),
        _pair("TiCoLoss", "TiCo: two views alike, and contrast by a moving covariance of the batch"),
        _pair("VICRegLoss", "VICReg: two views alike, each feature with some variance, features not correlated"),
    )


def _of_several_views() -> Sequence[LossSpec]:
    stacked: dict[str, Any] = {
        "inputs": {"local_proj": "pred.local", "global_proj": "pred.global"},
        "example": "local_and_global",
    }
    return (
        _loss(
            "EMPSSLLoss",
            "EMP-SSL: many crops of an image near their mean, and the coding rate of each crop's batch, which it adds",
            ("pred.views",),
            "list_of_views",
        ),
        _loss(
            "FroSSLLoss",
            "FroSSL: views near their mean, and a small Frobenius norm of each view's covariance",
            ("pred.views",),
            "list_of_views",
        ),
        _loss(
            "LeJEPALoss",
            "LeJEPA: all crops near the mean of the large ones, and embeddings that are Gaussian (random projections)",
            **stacked,
        ),
        _loss(
            "LeWMLoss",
            "LeWorldModel: the next frame's embedding, and embeddings that are Gaussian (random projections)",
            {"predicted": "pred.predicted", "target": "pred.target", "embeddings": "pred.embeddings"},
            "frames",
        ),
        _loss(
            "SIGReg",
            "SIGReg: embeddings should be Gaussian, by tests of random projections",
            ("pred.embeddings",),
            "lone_embeddings",
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
        ),
        _loss(
            "VISRegLoss",
            "VISReg: all crops near the mean of the large ones; centre, scale and shape of their distribution",
            args={"num_slices": 64},
            **stacked,
        ),
        _loss(
            "WMSELoss",
            "W-MSE: views of an image near each other after their batch is whitened",
            ("pred.views",),
            "whitened_views",
            hidden=("loss_fn",),
            args={"embedding_dim": 4, "w_size": 8},
        ),
    )


def _of_teachers() -> Sequence[LossSpec]:
    prototypes: dict[str, Any] = {
        "inputs": ("pred.anchors", "pred.targets", "pred.prototypes"),
        "example": "prototypes",
    }
    return (
        _loss(
            "DINOLoss",
            "DINO: a student predicts the centred and sharpened outputs of its teacher on other crops",
            {"teacher_out": "pred.teacher", "student_out": "pred.student", "epoch": "epoch"},
            "crops",
            optional=("epoch",),
            args={"output_dim": 6},
        ),
        _loss(
            "MMCRLoss",
            "MMCR: views of an image near each other and their means spread out, by nuclear norms",
            ("pred.student", "pred.teacher"),
            "stacked_views",
        ),
        _loss(
            "MSNLoss",
            "MSN: masked views have the prototypes of their targets, and all prototypes are used",
            **prototypes,
        ),
        _loss("PMSNLoss", "PMSN: MSN whose prototypes are used by a power law", **prototypes),
        _loss(
            "PMSNCustomLoss",
            "PMSN whose prototypes are used by a distribution of your own, a Python function",
            args={"target_distribution": uniform},
            **prototypes,
        ),
    )


def _of_patches() -> Sequence[LossSpec]:
    masked = {"mask": "gt.mask"}
    return (
        _loss(
            "CAPILoss",
            "CAPI: a student predicts its teacher's balanced clusters of masked patches",
            {"teacher_logits": "pred.teacher", "student_logits": "pred.student", "teacher_index": "gt.teacher_index"},
            "clusters",
            optional=("teacher_index",),
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
        ),
        _loss(
            "DetConSLoss",
            "DetCon-S: regions of two views contrasted",
            {"view0": "pred.view0", "view1": "pred.view1", "mask_view0": "gt.mask0", "mask_view1": "gt.mask1"},
            "regions",
            args={"gather_distributed": False},
        ),
        _loss(
            "IBOTPatchLoss",
            "iBOT: a student predicts its teacher's outputs for masked patches",
            {"teacher_out": "pred.teacher", "student_out": "pred.student", **masked},
            "masked_patches",
            unmasked=_OWN_MASK,
            args={"output_dim": 6},
        ),
        _loss(
            "IBOTPlusPlusPatchLoss",
            "iBOT++: iBOT for masked and for visible patches",
            {"teacher_out": "pred.teacher", "student_out": "pred.student", **masked},
            "patches",
            optional=("mask",),
            unmasked=_OWN_MASK,
            args={"output_dim": 6},
        ),
        _loss(
            "PatchKernelAlignmentLoss",
            "similarities between the patches of a student like those of its teacher (centred kernel alignment)",
            {"student_features": "pred.student", "teacher_features": "pred.teacher", **masked},
            "patch_features",
            optional=("mask",),
            unmasked=_OWN_MASK,
        ),
    )
