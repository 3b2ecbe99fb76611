"""The specs of this plugin; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg import LossSpec, PreprocessSpec, hookimpl

_SOURCE = "Girard et al. 2021, Polygonal building segmentation by frame field learning, arXiv:2004.14875"
_FIELD = "frame field (N, 4, H, W): real and imaginary parts of c0 and c2"
_RASTER = "raster (N, C, H, W) of interior, edge and vertex, from 0 to 1, and the tangents (N, 2, H, W)"
_POLYNOMIAL = r"f(z) = z^4 + c_2 z^2 + c_0"
_TANGENT = r"z = \mathrm{unit\ tangent\ of\ the\ polygons}"


@hookimpl
def lossreg_losses() -> list[LossSpec]:
    """Return the specs of the five frame-field losses."""
    return [
        _loss(
            "CrossfieldAlignLoss",
            "crossfield_align",
            "Frame field along the edges of polygons",
            rf"L = \operatorname{{mean}}(|f(z)|^2 \, y_\mathrm{{edge}}) \qquad {_POLYNOMIAL} \qquad {_TANGENT}",
            words=("alignment", "edges"),
        ),
        _loss(
            "CrossfieldAlign90Loss",
            "crossfield_align90",
            "Frame field across the edges of polygons",
            r"L = \operatorname{mean}(|f(\mathrm{i} z)|^2 \max(y_\mathrm{edge} - y_\mathrm{vertex}, 0)) "
            rf"\qquad {_POLYNOMIAL} \qquad {_TANGENT}",
            words=("alignment", "right angles", "corners"),
        ),
        _loss(
            "CrossfieldSmoothLoss",
            "crossfield_smooth",
            "Smoothness of the frame field away from edges",
            r"L = \operatorname{mean}(|\Delta c| \, (1 - y_\mathrm{edge})) \qquad \Delta = \mathrm{Laplacian}",
            ground_truth="raster (N, C, H, W) of interior, edge and vertex, from 0 to 1",
            tasks=("frame field", "regularisation"),
            words=("smoothness", "regulariser"),
        ),
        _loss(
            "SegCrossfieldLoss",
            "seg_crossfield",
            "Slopes of a segmentation along the frame field",
            rf"L = \operatorname{{mean}}(|f(z)|^2 r) \qquad {_POLYNOMIAL} \qquad "
            r"r = \Vert \nabla s_k \Vert, \; z = \nabla s_k / (r + 10^{-6}), \; k = \mathtt{pred\_channel}",
            prediction=f"{_FIELD}, and probabilities (N, C, H, W)",
            ground_truth="none",
            tasks=("frame field", "segmentation"),
            words=("coupling", "gradient", "corners"),
            example_args={"pred_channel": 0},
        ),
        _loss(
            "SegEdgeInteriorLoss",
            "seg_edge_interior",
            "Edge channel as the slope of the interior",
            r"L = \operatorname{mean}(|s_\mathrm{edge} - g| \max(a, b)) \qquad "
            r"g = \Vert \nabla s_\mathrm{interior} \Vert \qquad "
            r"a = \frac{1 + \cos \pi s_\mathrm{interior}}{2}, \; b = \frac{1 - \cos \pi g}{2}",
            prediction="probabilities (N, C, H, W) of interior and edge",
            ground_truth="none",
            tasks=("frame field", "segmentation"),
            words=("coupling", "boundary", "gradient"),
        ),
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
            words=("frame field", "direction", "angle"),
            formula=r"z = (\cos a, \sin a) \qquad a = \mathtt{gt\_crossfield\_angle}",
            source=_SOURCE,
            requires=("gt.gt_crossfield_angle",),
            provides=("gt.gt_field",),
        ),
        PreprocessSpec(
            "SegGrads",
            "lossreg_crossfield.preprocess:SegGrads",
            summary="Spatial gradient of the segmentation, its magnitude and its direction",
            aliases=("seg_grads",),
            words=("slope", "derivative", "Scharr", "edges"),
            formula=r"\nabla s = (K^T * s, \; K * s) \qquad K = \mathrm{twice\ the\ kernel\ of\ Scharr}",
            targets=("pytorch_segmentation_models_trainer.custom_losses.base_loss.ComputeSegGrads",),
            requires=("pred.seg",),
            provides=("pred.seg_grads", "pred.seg_grad_norm", "pred.seg_grads_normed"),
        ),
    ]


def _loss(
    name: str,
    alias: str,
    summary: str,
    formula: str,
    *,
    prediction: str = _FIELD,
    ground_truth: str = _RASTER,
    tasks: tuple[str, ...] = ("frame field",),
    words: tuple[str, ...],
    example_args: Mapping[str, int] | None = None,
) -> LossSpec:
    return LossSpec(
        name,
        f"lossreg_crossfield.losses:{name}",
        summary=summary,
        aliases=(alias,),
        targets=(f"pytorch_segmentation_models_trainer.custom_losses.base_loss.{name}",),
        tasks=tasks,
        prediction=prediction,
        ground_truth=ground_truth,
        words=("frame field", "buildings", "polygons", *words),
        formula=formula,
        source=_SOURCE,
        example="lossreg_crossfield.examples:frame_field",
        example_args=example_args or {},
        capabilities=("mean_of_samples",),
    )
