"""Plugin `monai`: every loss of `monai.losses`; imports neither MONAI nor torch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.forms import FORMS, TARGETS, Rules
from lossreg_wrappers.monai_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss,
    "monai.losses",
    package="monai>=1.5.1",
    facts=FACTS,
    page="https://docs.monai.io/en/stable/losses.html#monai.losses.{name}",
)

_ADVICE = (
    "set `sigmoid: true` or `softmax: true` if the model returns logits, "
    "and `to_onehot_y: true` if the target contains class indices"
)
# `other_act` is a function, which a config cannot hold
_ACTIVATION = ("other_act",)
# before, they took the target first, and no activation
_CLDICE = "monai>=1.6"
_SOFTMAX = {"softmax": True, "to_onehot_y": True}
_BY_SAMPLE: dict[str, Rules] = {"unit": (({"batch": True}, "none"), ({}, "samples by sample"))}
_BATCHED = "with `batch: true` it is no mean over samples; leave that out"
_OVERLAP: dict[str, Rules] = {"unit": (({"batch": True}, "pooled by monai_overlap"), ({}, "samples by monai_overlap"))}
_PARTS = "its two parts are means over different things; use two terms, monai/{} and {}"
_SHAPES = "it compares shapes of whole objects; use monai/DiceLoss"
_VALUES = {"takes": "values", "unit": "samples by sample"}
_PAIRS = "it compares every sample of the batch with the others; leave samples out of the batch instead"
_MODULES = "lossreg_wrappers.monai_modules"


def _maps(
    *, prefix: str = "", softmax: str = "softmax logits", otherwise: Rules = "probabilities"
) -> dict[str, object]:
    """Return the forms of a loss with MONAI's options `sigmoid`, `softmax`, `other_act` and `to_onehot_y`.

    Args:
        prefix: path of the attributes on the loss.
        softmax: form of the prediction with a softmax.
        otherwise: form of the prediction without an activation.
    """
    rules = (({}, otherwise),) if isinstance(otherwise, str) else otherwise
    return {
        "takes": (
            ({f"{prefix}sigmoid": True}, "sigmoid logits"),
            ({f"{prefix}softmax": True}, softmax),
            *(({f"{prefix}other_act": None, **attributes}, form) for attributes, form in rules),
            ({}, "values"),
        ),
        "target": (({f"{prefix}to_onehot_y": True}, "channel indices"), ({}, "one-hot")),
        "advice": _ADVICE,
    }


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `monai.losses`."""
    return (*_overlap(), *_compound(), *_boundary(), *_classification(), *_registration(), *_images(), *_others())


def _overlap() -> Sequence[LossSpec]:
    return (
        _loss(
            "DiceLoss",
            "soft Dice, or IoU with `jaccard: true`",
            {**_maps(), **_OVERLAP},
            also=("Dice",),
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "GeneralizedDiceLoss",
            "Dice with classes weighted by their volume",
            {**_maps(), **_OVERLAP},
            also=("generalized_dice",),
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "GeneralizedWassersteinDiceLoss",
            "Dice under a matrix of distances between the classes",
            {
                "takes": "softmax logits",
                "target": "channel indices",
                "unmasked": "before MONAI 1.6 its value is no mean over samples; use monai/GeneralizedDiceLoss",
            },
            also=("generalized_wasserstein_dice",),
            tensors=("dist_matrix",),
            example="class_logits",
            args={"dist_matrix": [[0.0, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.0]]},
        ),
        _loss(
            "MCCLoss",
            "one minus Matthews correlation",
            {**_maps(), **_BY_SAMPLE, "unmasked": _BATCHED},
            hidden=_ACTIVATION,
            package="monai>=1.6",
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "MaskedDiceLoss",
            "soft Dice inside a mask",
            {
                **_maps(prefix="pre_"),
                "target": (({"to_onehot_y": True}, "channel indices"), ({}, "one-hot")),
                "inputs": ("pred.input", "gt.target", "gt.mask"),
                "place": 1,
                "unmasked": "it reads a mask of its own, at `gt.mask`; for the mask of a term use monai/DiceLoss",
            },
            hidden=_ACTIVATION,
            package="monai>=1.6",  # older versions store the activations elsewhere
            example="masked_one_hot_probabilities",
        ),
        _loss(
            "SoftDiceclDiceLoss",
            "Dice and Dice of the centre lines",
            {
                **_maps(prefix="dice."),
                "target": (({"to_onehot_y": True}, "channel indices"), ({}, "one-hot")),
                "unmasked": _SHAPES,
            },
            hidden=_ACTIVATION,
            package=_CLDICE,
            example="one_hot_probabilities",
        ),
        _loss(
            "SoftclDiceLoss",
            "Dice of the centre lines (clDice)",
            {**_maps(), "unmasked": _SHAPES},
            hidden=_ACTIVATION,
            package=_CLDICE,
            example="one_hot_probabilities",
        ),
        _loss(
            "TverskyLoss",
            "Tversky index",
            {**_maps(), **_OVERLAP},
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
    )


def _compound() -> Sequence[LossSpec]:
    # the cross-entropy and the focal loss in them take logits whatever the Dice loss takes, and the focal loss
    # one sigmoid each: without an activation there is no prediction that both parts take
    def otherwise(overlap: str, other: str) -> Rules:
        return (({other: 0.0}, "probabilities"), ({overlap: 0.0}, "logits"), ({}, "nothing"))

    return (
        _loss(
            "DiceCELoss",
            "Dice and cross-entropy",
            {
                **_maps(prefix="dice.", otherwise=otherwise("lambda_dice", "lambda_ce")),
                "unmasked": _PARTS.format("DiceLoss", "torch/CrossEntropyLoss"),
            },
            also=("dice_ce",),
            tensors=("weight",),
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "DiceFocalLoss",
            "Dice and focal loss",
            {
                **_maps(prefix="dice.", softmax="logits", otherwise=otherwise("lambda_dice", "lambda_focal")),
                "target": (({"to_onehot_y": True}, "channel indices"), ({}, "one-hot")),
                "unmasked": _PARTS.format("DiceLoss", "monai/FocalLoss"),
            },
            also=("dice_focal",),
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "GeneralizedDiceFocalLoss",
            "generalised Dice and focal loss",
            {
                **_maps(
                    prefix="generalized_dice.", softmax="logits", otherwise=otherwise("lambda_gdl", "lambda_focal")
                ),
                "unmasked": _PARTS.format("GeneralizedDiceLoss", "monai/FocalLoss"),
            },
            also=("generalized_dice_focal",),
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
    )


def _boundary() -> Sequence[LossSpec]:
    return (
        _loss(
            "BoundaryLoss",
            "integral of the prediction over the target's signed distance map",
            {**_maps(), **_BY_SAMPLE, "unmasked": _BATCHED},
            hidden=_ACTIVATION,
            package="monai>=1.6.1",
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "HausdorffDTLoss",
            "Hausdorff distance by distance transforms",
            {**_maps(), **_BY_SAMPLE, "unmasked": _BATCHED},
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
        _loss(
            "LogHausdorffDTLoss",
            "logarithm of one plus the Hausdorff distance",
            {**_maps(), "unmasked": "it is the logarithm of a mean over the batch; use monai/HausdorffDTLoss"},
            hidden=_ACTIVATION,
            example="class_logits",
            args=_SOFTMAX,
        ),
    )


def _classification() -> Sequence[LossSpec]:
    by_onehot: Rules = (({"to_onehot_y": True}, "channel indices"), ({}, "one-hot"))
    return (
        _loss(
            "AUCMLoss",
            "surrogate of the area under the ROC curve; has parameters to train",
            {
                "takes": "values",
                "target": "mask",
                "unmasked": "it compares positive with negative pixels of the whole batch; use torch/BCEWithLogitsLoss",
            },
            package="monai>=1.6",
            example="binary_logits",
        ),
        _loss(
            "AsymmetricUnifiedFocalLoss",
            "asymmetric focal and focal Tversky loss of two classes",
            # its own page says logits, but it applies no activation
            {
                "takes": "probabilities",
                "target": by_onehot,
                "advice": _ADVICE.partition("and ")[2],
                "unmasked": "its two parts are means over different things; use monai/FocalLoss and monai/TverskyLoss",
            },
            example="two_class_probabilities",
        ),
        _loss(
            "FocalLoss",
            "focal loss of sigmoids, or of the softmax with `use_softmax: true`",
            {
                "takes": (({"use_softmax": True}, "softmax logits"), ({}, "sigmoid logits")),
                "target": by_onehot,
                "advice": "set `to_onehot_y: true` if the target contains class indices",
                "unit": (({"reduction": "sum"}, "none"), ({}, "positions by monai_focal")),
                "unmasked": "with `reduction: sum` it averages over pixels and sums over the rest; use the mean",
            },
            example="class_logits",
            args={"to_onehot_y": True},
        ),
        _loss(
            "NACLLoss",
            "cross-entropy with logits held to the neighbours' class proportions",
            {
                "takes": "logits",
                "target": "indices",
                "unmasked": "it compares each pixel with its neighbours; use torch/CrossEntropyLoss",
            },
            example="class_logits",
            args={"classes": 3, "dim": 2},
        ),
    )


def _registration() -> Sequence[LossSpec]:
    return (
        _loss("BendingEnergyLoss", "bending energy of a displacement field", _VALUES, example="displacement"),
        _loss("BoxGIoULoss", "generalised IoU of boxes", _VALUES, also=("giou",), example="boxes"),
        _loss("DiffusionLoss", "squared slopes of a displacement field", _VALUES, example="displacement"),
        _loss(
            "GlobalMutualInformationLoss",
            "negative mutual information of images",
            {
                "takes": "values",
                "unit": (({"kernel_type": "gaussian"}, "samples by sample"), ({}, "none")),
                "unmasked": "its bins reach from the least to the largest value of the batch; use the default "
                "`kernel_type: gaussian`",
            },
            example="images",
        ),
        _loss(
            "LocalNormalizedCrossCorrelationLoss",
            "negative local squared correlation of images",
            _VALUES,
            example="images",
            args={"spatial_dims": 2},
        ),
    )


def _images() -> Sequence[LossSpec]:
    return (
        _loss(
            "JukeboxLoss",
            "squared difference of Fourier amplitudes",
            _VALUES,
            example="images",
            args={"spatial_dims": 2},
        ),
        _loss(
            "PerceptualLoss",
            "distance of a pretrained network's features; downloads its weights, needs lpips or torchvision",
            {
                "takes": "values",
                "copies": True,  # it standardises its arguments in place
                "unmasked": "its features see the whole image, and it returns one number for the batch; multiply both "
                "images by the mask in a preprocess",
            },
            target=f"{_MODULES}:PerceptualLoss",
            example="images",
            args={"spatial_dims": 2, "network_type": "resnet50", "pretrained": False},
        ),
        _loss(
            "SSIMLoss",
            "one minus structural similarity",
            _VALUES,
            example="images",
            args={"spatial_dims": 2},
        ),
    )


def _others() -> Sequence[LossSpec]:
    """Return the specs of losses of other shapes; outer losses name the inner one in `args`."""
    inner = {"loss": "monai/DiceLoss", "loss_args": {"softmax": True}}
    by_inner = {  # what the loss inside takes
        "takes": (*(({"inner_takes": form}, form) for form in FORMS), ({}, "values")),
        "target": (*(({"inner_target": form}, form) for form in TARGETS), ({}, "any")),
        "advice": _ADVICE,
        "place": -1,
        "target_shape": "any",
        "unmasked": "it returns one number for the batch; give the mask to a term with the loss inside",
    }
    return (
        _loss(
            "BarlowTwinsLoss",
            "decorrelation of the features of two views",
            {"takes": "values", "inputs": ("pred.input", "pred.target"), "unmasked": _PAIRS},
            example="views",
        ),
        _loss(
            "ContrastiveLoss",
            "contrast of the embeddings of two views with those of other samples",
            {"takes": "values", "inputs": ("pred.input", "pred.target"), "unmasked": _PAIRS},
            example="views",
        ),
        _loss(
            "DeepSupervisionLoss",
            "a loss at several levels of a network, by name",
            by_inner,
            target=f"{_MODULES}:DeepSupervisionLoss",
            example="one_hot_logits",
            args=inner,
        ),
        _loss(
            "MaskedLoss",
            "a loss of prediction and target times a mask, by name",
            {**by_inner, "inputs": ("pred.input", "gt.target", "gt.mask"), "place": 1},
            target=f"{_MODULES}:MaskedLoss",
            example="masked_one_hot_probabilities",
            args={"loss": "monai/DiceLoss"},
        ),
        _loss(
            "MultiScaleLoss",
            "a loss of prediction and target smoothed at several scales, by name",
            by_inner,
            target=f"{_MODULES}:MultiScaleLoss",
            example="images",
            args={"loss": "torch/MSELoss", "scales": [0, 1, 2]},
        ),
        _loss(
            "PatchAdversarialLoss",
            "adversarial loss of a patch discriminator's outputs, for the generator by default",
            {
                "takes": "values",
                "inputs": ("pred.input",),
                "unmasked": "it averages over outputs of several sizes; use torch/MSELoss with a target of ones",
            },
            target=f"{_MODULES}:PatchAdversarialLoss",
            example="discriminator",
        ),
        _loss(
            "SURELoss",
            "Stein's unbiased risk estimate of an operator (a Python function of yours)",
            {
                "takes": "values",
                "inputs": ("pred.x", "gt.y_pseudo_gt"),
                "unmasked": "it needs the operator's output for the whole input; use torch/MSELoss",
            },
            target=f"{_MODULES}:SURELoss",
            tensors=("perturb_noise",),
            package="monai>=1.6",  # before, it fails without `eps`
            example="operator_input",
            args={"operator": operator.neg},
        ),
    )
