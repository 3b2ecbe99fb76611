"""The specs of this plugin; does not import torch."""

from __future__ import annotations

from lossreg import LossSpec, PreprocessSpec, hookimpl


@hookimpl
def lossreg_losses() -> list[LossSpec]:
    """Return the specs of the five frame-field losses."""
    return [
        _loss("CrossfieldAlignLoss", "crossfield_align", "Frame field along the edges of polygons"),
        _loss("CrossfieldAlign90Loss", "crossfield_align90", "Frame field across the edges of polygons"),
        _loss("CrossfieldSmoothLoss", "crossfield_smooth", "Smoothness of the frame field away from edges"),
        _loss("SegCrossfieldLoss", "seg_crossfield", "Slopes of a segmentation along the frame field", pred_channel=0),
        _loss("SegEdgeInteriorLoss", "seg_edge_interior", "Edge channel as the slope of the interior"),
    ]


@hookimpl
def lossreg_preprocesses() -> list[PreprocessSpec]:
    """Return the specs of the preprocesses for these losses."""
    return [
        PreprocessSpec(
            "GtField",
            "lossreg_crossfield.preprocess:GtField",
            summary="Unit tangent of the polygons from their tangent angle",
            aliases=("gt_field",),
            requires=("gt.gt_crossfield_angle",),
            provides=("gt.gt_field",),
            example="lossreg_crossfield.examples:frame_field",
            capabilities=("per_sample",),
        ),
        PreprocessSpec(
            "SegGrads",
            "lossreg_crossfield.preprocess:SegGrads",
            summary="Spatial gradient of the segmentation, its magnitude and its direction",
            aliases=("seg_grads",),
            targets=("pytorch_segmentation_models_trainer.custom_losses.base_loss.ComputeSegGrads",),
            requires=("pred.seg",),
            provides=("pred.seg_grads", "pred.seg_grad_norm", "pred.seg_grads_normed"),
            example="lossreg_crossfield.examples:frame_field",
            capabilities=("per_sample",),
        ),
    ]


def _loss(name: str, alias: str, summary: str, **example_args: int) -> LossSpec:
    return LossSpec(
        name,
        f"lossreg_crossfield.losses:{name}",
        summary=summary,
        aliases=(alias,),
        targets=(f"pytorch_segmentation_models_trainer.custom_losses.base_loss.{name}",),
        example="lossreg_crossfield.examples:frame_field",
        example_args=example_args,
        capabilities=("mean_of_samples",),
    )
