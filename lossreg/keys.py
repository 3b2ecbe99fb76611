"""The keys of a loss file, each declared once: its type, its default, one sentence and an example.

What reads a file, JSON Schema, Hydra's nodes, the YAML reference and the checks of `MultiLoss`, `LossWrapper` and
`DeepSupervision` derive from the blocks below. A key that becomes an argument in Python names it (`python=`).
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from lossreg.printable import A_NAME, MAX_NAME, is_name
from lossreg.values import Limits, Misfit, Read, block, key

LISTS = ("loss_list", "losses")
"""The two spellings of the key of the terms."""
FROM_DICT = "from_dict"
"""What stands under `loss` of a term that takes the losses which a model computes itself."""
FROM_DICT_SUMMARY = "the losses that a model computes itself and returns in a dictionary, each a term of its own"
IGNORED_KEYS = ("_convert_", "_recursive_")
"""Hydra's keys that change nothing beside plain data."""
SPECIAL_KEYS = ("_args_", "_partial_", *IGNORED_KEYS)
MASKS = ("mask", "sample_weight")
"""Keys of a term that say which elements count."""
YIELDING = {"reduction": ("per_sample",)}
"""Keys of a term that are the loss's own parameter where it has one of that name, but for some values."""
INHERITED = ("on_nonfinite", "track_norms", "norm_momentum")
"""Keys of a compound loss that hold for its groups too, where these do not give their own."""
UNPRINTABLE = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb"
)
"""Characters that no name has, as regular expressions of both Python and JavaScript write them."""

# --- types ----------------------------------------------------------------------------------------


def _with_side(value: Any) -> str:
    bare = isinstance(value, str) and value and value not in ("pred", "gt")
    return f"write 'pred.{value}' or 'gt.{value}'" if bare else ""


def _inside(side: str, words: str) -> Limits:
    """Take a key of one side of the batch, which is named without that side."""
    return Limits(
        words,
        lambda text: bool(text) and not text.startswith(f"{side}."),
        {"minLength": 1, "not": {"pattern": rf"^(\?\?\?$|{side}\.)"}},
        lambda value: _without(side, value),
    )


def _without(side: str, value: Any) -> str:
    bare = value.removeprefix(f"{side}.") if isinstance(value, str) else ""
    return f"write {bare!r}" if bare and bare != value else ""


def _is_ascending(epochs: Any) -> bool:
    return bool(epochs) and all(a < b for a, b in pairwise(epochs))


NO_NAME = rf"^\?\?\?$|[/{UNPRINTABLE}]"
"""What no name matches; an interpolation may."""
Name: TypeAlias = Annotated[
    str, Limits(A_NAME, is_name, {"minLength": 1, "maxLength": MAX_NAME, "not": {"pattern": NO_NAME}})
]
Place: TypeAlias = Annotated[str, Limits("a key of the batch", bool, {"minLength": 1})]
PredKey: TypeAlias = Annotated[str, _inside("pred", "a key of the prediction, without 'pred.'")]
GtKey: TypeAlias = Annotated[str, _inside("gt", "a key of the target, without 'gt.'")]
Output: TypeAlias = Annotated[str, _inside("pred", "a key without 'pred.', or a glob such as 'aux.*'")]
BatchKey: TypeAlias = Annotated[
    str,
    Limits(
        "a key such as 'pred.seg' or 'gt.mask'",
        lambda text: text.startswith(("pred.", "gt.")) and not text.endswith("."),
        {"pattern": r"^(pred|gt)\.."},
        _with_side,
    ),
]
EPOCH = "epoch"
"""An input of a loss that is not from the batch."""
Input: TypeAlias = Annotated[
    str,
    Limits(
        "a key such as 'pred.seg' or 'gt.mask', or 'epoch'",
        lambda text: text == EPOCH or (text.startswith(("pred.", "gt.")) and not text.endswith(".")),
        {"pattern": r"^((pred|gt)\..|epoch$)"},
        _with_side,
    ),
]
Inputs: TypeAlias = (
    Annotated[list[Input], Limits("one key or more, such as ['pred.seg', 'gt.mask']", bool, {"minItems": 1})]
    | Annotated[
        dict[str, Input],
        Limits("a mapping such as {embeddings: pred.embeddings, labels: gt.labels}", bool, {"minProperties": 1}),
    ]
)
SomeParameters: TypeAlias = Annotated[list[str], Limits("one parameter or more", bool, {"minItems": 1})]
Outputs: TypeAlias = Output | Annotated[list[Output], Limits("a list of keys", bool, {"minItems": 1})]
Finite: TypeAlias = Annotated[float, Limits("a finite number", math.isfinite)]
Share: TypeAlias = Annotated[
    float, Limits("a number above 0 and at most 1", lambda x: 0 < x <= 1, {"exclusiveMinimum": 0, "maximum": 1})
]
Samples: TypeAlias = Annotated[int, Limits("a number of samples above 0", lambda n: n > 0, {"minimum": 1})]
Stride: TypeAlias = Annotated[int, Limits("an integer other than 0", bool, {"not": {"const": 0}})]
Epochs: TypeAlias = Annotated[
    list[Finite], Limits("a list of epochs in ascending order", _is_ascending, {"minItems": 1})
]
SomeKeys: TypeAlias = Annotated[
    list[BatchKey], Limits("one key or more, such as ['pred.seg', 'gt.mask']", bool, {"minItems": 1})
]
Weight: TypeAlias = Annotated[Any, Read("weight", "a number, a list of numbers or a schedule", "1.0")]
SOME_TERMS = "[{loss: torch/L1Loss, weight: 1.0}]"
"""The terms that a fix shows."""
Terms: TypeAlias = Annotated[Any, Read("terms", "a list of terms or a mapping of name to term", SOME_TERMS)]
Preprocess: TypeAlias = Annotated[Any, Read("preprocess", "a preprocess by name, or a mapping", "{preprocess: NAME}")]
Weighting: TypeAlias = Annotated[Any, Read("weighting", "a weighting by name, or a mapping", "{strategy: NAME}")]
LossName: TypeAlias = Annotated[Any, Read("loss_name", "the name of a loss", "NAME")]
Members: TypeAlias = Annotated[
    Any, Read("members", "a mapping of member to weight", "{loss_classifier: 1.0, 'loss_rpn_*': 1.0}")
]
MemberWeight: TypeAlias = Annotated[Any, Read("member", "a weight, or a mapping with one", "1.0")]
Target: TypeAlias = Annotated[str, Limits("the dotted path of a loss", bool, {"minLength": 1})]


# --- blocks of a compound loss --------------------------------------------------------------------

_THRESHOLDS = ("The epochs at which lists of weights have their values, in ascending order.", None, [0, 5, 10])
_NORMALIZATION = ("How many samples the norms are taken over.", None, {"min_samples": 10, "max_samples": 1000})


@block
class Normalization:
    """How many samples the norms are taken over."""

    min_samples: Samples | None = key("At least so many; fewer are an error.", None, 10)
    max_samples: Samples | None = key("At most so many.", None, 1000)

    def rules(self) -> Iterator[Misfit]:
        """The least is not more than the most."""
        if self.min_samples and self.max_samples and self.min_samples > self.max_samples:
            expected = f"min_samples of at most max_samples, which is {self.max_samples}"
            yield Misfit((), "conflict", expected, self.min_samples, "lower min_samples, or raise max_samples")


@block
class _Lists:
    """The terms of a compound loss and of a group."""

    loss_list: Terms = key("The terms.", None, ["torch/L1Loss"])
    losses: Terms = key("The terms; another spelling of loss_list.", None, {"height": {"loss": "torch/L1Loss"}})


@block
class _Common:
    """The keys that a compound loss, a group and a dictionary of losses have in common."""

    epoch_thresholds: Epochs | None = key(*_THRESHOLDS)
    weighting: Weighting = key(
        "An adaptive weighting of the terms, multiplied by their weights.",
        None,
        "dwa",
        {"strategy": "dwa", "temperature": 1.0},
    )
    zero_weight: Literal["keep", "skip"] = key(
        "Whether a term of weight 0 stays on the graph (keep), or is computed without one (skip).",
        "keep",
        "skip",
        python="MultiLoss",
    )
    on_nonfinite: Literal["ignore", "raise", "skip_term"] = key(
        "What is done about a term that is NaN or infinite: nothing, an error, or the term is left out of this batch. "
        "A group's default is that of the loss around it.",
        "ignore",
        "raise",
        python="MultiLoss",
    )


@block
class _Keyed:
    """The keys of a compound loss and of a group that say what batches hold."""

    pre_processes: list[Preprocess] | None = key(
        "Preprocesses that make keys of the batch before the losses read them.",
        None,
        ["gt_field"],
        [{"preprocess": "seg_loss_weights", "w0": 10}],
    )
    batch_keys: list[BatchKey] | None = key(
        "The keys that every batch has; terms are checked against them when the loss is built.",
        None,
        ["pred.seg", "gt.mask"],
        python="MultiLoss",
    )


@block
class _Shared(_Keyed, _Common, _Lists):
    """The keys that a compound loss and a group have in common."""


@block
class Compound(_Shared):
    """A compound loss: its terms, and the switches over all of them."""

    normalize_losses: bool = key("Whether each term is divided by its norm.", True, False, python="MultiLoss.normalize")
    normalization_params: Normalization | None = key(*_NORMALIZATION, python="MultiLoss")
    track_norms: Literal["running"] | None = key(
        "running: norms follow the values in training.", None, "running", python="MultiLoss"
    )
    norm_momentum: Share = key("The share of a new value in a running norm.", 0.01, 0.05, python="MultiLoss")
    reduce_over: Literal["ranks"] | None = key(
        "ranks: in training, means are taken over the elements of all ranks, so that the gradient is that of the "
        "joined batch.",
        None,
        "ranks",
        python="MultiLoss",
    )
    compile: bool = key("Whether the whole loss is compiled at its first forward.", False, True)


@block
class _Grouped:
    """The keys that say how a group of terms enters the total."""

    name: Name | None = key("The group's name; its terms are reported as `name/term`.", None, "field")
    weight: Weight = key(
        "What the group is multiplied by: a number; a list of numbers, one at each epoch of epoch_thresholds; or "
        "{schedule: NAME, ...}.",
        1.0,
        0.5,
        [0.0, 0.0, 1.0],
    )
    normalize: bool = key("Whether its terms are divided by their norms.", True, False, python="MultiLoss")
    optional: bool = key("Whether each of its terms is left out of a batch that lacks its keys.", False, True)


@block
class Group(_Grouped, _Shared):
    """A group of terms that counts as one."""


# --- losses that a model computes itself ----------------------------------------------------------


@block
class _Dictionary:
    """Where the losses are."""

    loss: Literal["from_dict"] = key("The word that says so.", MISSING, FROM_DICT)
    key: Place | None = key(
        "Key of the dictionary in the prediction, or `gt.KEY` for the targets; by default the prediction itself is the "
        "dictionary.",
        None,
        "losses",
        "gt.losses",
        python="FromDict",
    )


@block
class _Members:
    """Which of the losses count, and how much."""

    terms: Members = key(
        "The weight of each member, by its name or by a glob, or a mapping with one.",
        None,
        {"loss_classifier": 1.0, "loss_rpn_*": [0.0, 1.0]},
        {"aux_loss": {"weight": 0.01, "optional": True}},
    )
    rest: MemberWeight = key(
        "The weight of each member that `terms` does not name; 0 ignores them. Without it such a member is an error.",
        None,
        1.0,
        0,
    )
    approximate: bool = key(
        "Whether a window over micro-batches or ranks takes each member for a mean over samples.",
        False,
        True,
        python="FromDict",
    )


@block
class FromDict(_Grouped, _Common, _Members, _Dictionary):
    """A group of the losses that a model computes itself and returns in a dictionary."""


# --- a term ---------------------------------------------------------------------------------------


@block
class Cut:
    """Channels from one to another."""

    SCHEMA: ClassVar[dict[str, Any]] = {"minProperties": 1}

    start: int | None = key("The first channel.", None, 0)
    stop: int | None = key("The channel after the last.", None, 2)
    step: Stride | None = key("From one channel to the next.", None, 1)


_Indices: TypeAlias = Annotated[list[int], Limits("a list of integers", bool, {"minItems": 1})]
_Flags: TypeAlias = Annotated[
    list[bool], Limits("a list of true or false, one a channel, not all false", any, {"contains": {"const": True}})
]
_Slice: TypeAlias = Annotated[Cut, Limits("a mapping of start, stop and step", bool)]
Channels: TypeAlias = int | _Indices | _Flags | _Slice


@block
class Wrap:
    """How a loss that is called with tensors is given them."""

    inputs: Inputs | None = key(
        "Keys of all arguments in order, or a mapping of parameter to key; `epoch` passes the epoch.",
        None,
        ["pred.anchor", "gt.positive", "gt.negative"],
        {"embeddings": "pred.embeddings", "labels": "gt.labels"},
        python="LossWrapper",
    )
    optional_inputs: SomeParameters | None = key(
        "Parameters in the mapping `inputs` that are passed only where their key is there.",
        None,
        ["mask"],
        python="LossWrapper",
    )
    pred_channels: Channels | None = key(
        "Which channels (axis 1) of the prediction to take.", None, [0, 1], python="LossWrapper"
    )
    gt_channels: Channels | None = key("Which channels (axis 1) of the target to take.", None, 0, python="LossWrapper")
    target_dtype: Literal["long", "float"] | None = key(
        "What to cast the target to; long means class indices.", None, "long", python="LossWrapper"
    )
    target_shape: Literal["same", "broadcast", "any"] | None = key(
        "Which shapes of a target the loss takes: `same`, the prediction's; `broadcast`, that or 1 in place of a size; "
        "`any`, the loss sees to them. By default a library's loss that compares elements has `same`, and for a "
        "function a target is refused that would broadcast to more than both.",
        None,
        "any",
        python="LossWrapper",
    )
    needs_grad: bool | None = key(
        "Whether the loss takes derivatives of the predictions, as a physics residual does; gradients are then on "
        "where it is calibrated. By default the loss itself says so.",
        None,
        True,
        python="LossWrapper",
    )
    reduction: Literal["mean", "per_sample", "sum", "none"] | None = key(
        "Another spelling of the term's `reduction`.", None, "sum", python="LossWrapper"
    )


@block
class Deep:
    """Outputs of the network that a loss is applied to, and their weights."""

    outputs: Outputs = key(
        "A key, a glob such as aux.*, or a list of keys.", MISSING, "aux.*", python="DeepSupervision"
    )
    weights: Literal["exp", "same"] | list[Finite] = key(
        "`exp` (each a half of the one before), `same`, or a number for each output.",
        "exp",
        [1.0, 0.5, 0.25],
        python="DeepSupervision",
    )
    resize: Literal["nearest", "bilinear"] = key(
        "How a target is brought to the size of an output.", "nearest", "bilinear", python="DeepSupervision"
    )


@block
class Lone:
    """The keys of a loss without a compound loss around it, beside its parameters."""

    loss: LossName = key("Name of a loss: full, bare or an alias.", None, "torch/L1Loss")
    _target_: Target | None = key(
        "The dotted path of a loss, looked up among those installed.", None, "torch.nn.L1Loss"
    )
    name: Name | None = key(
        "The term's name, without `/`; by default that of its loss, or its key in a mapping.", None, "my_term"
    )
    args: dict[str, Any] = key(
        "Parameters of the loss; those that are named as a key of a term can be given here alone.", None
    )


@block
class Member:
    """How a term enters the total, or a member of a dictionary of losses."""

    weight: Weight = key(
        "What the term is multiplied by: a number; a list of numbers, one at each epoch of epoch_thresholds; or "
        "{schedule: NAME, ...}.",
        1.0,
        0.5,
        [0.0, 0.0, 1.0],
        {"schedule": "cosine", "start": 0.0, "end": 1.0, "end_epoch": 20},
    )
    epoch_thresholds: Epochs | None = key(*_THRESHOLDS)
    normalize: bool = key("Whether the term is divided by its norm.", True, False)
    optional: bool = key("Whether it is left out of a batch that lacks its keys.", False, True)


@block
class Term(Member, Lone):
    """A term: its loss, and how it enters the total; other keys are parameters of the loss."""

    pred_key: PredKey | None = key(
        "Key of the prediction that the loss is given.", None, "height", python="LossWrapper"
    )
    gt_key: GtKey | None = key("Key of the target that the loss is given.", None, "height", python="LossWrapper")
    input: Literal["logits", "probabilities"] | None = key(
        "What the prediction holds, for a loss that says what it takes.", None, "logits", python="lossreg_wrap"
    )
    mask: BatchKey | SomeKeys | None = key(
        "A key, or a list of keys, of 0 and 1: elements where one is 0, such as ignored pixels or missing labels, do "
        "not count, whatever they hold.",
        None,
        "gt.has_depth",
        ["gt.valid", "gt.inside"],
        python="Loss",
    )
    sample_weight: BatchKey | SomeKeys | None = key(
        "A key, or a list of keys, of weights of samples or elements; the mean divides by their sum.",
        None,
        "gt.weight",
        python="Loss",
    )
    reduction: str | None = key(
        "How the values of elements become one number: `mean` over those that count; `per_sample`, first in each "
        "sample; or `sum`.",
        None,
        "per_sample",
        python="LossWrapper",
    )
    approximate: bool = key(
        "Whether a window over micro-batches or ranks takes the loss for a mean over samples, where its targets do not "
        "tell what it is a mean over.",
        False,
        True,
        python="Loss",
    )
    dtype: Literal["float32", "input"] | None = key(
        "In which dtype a library's loss or a function computes: `float32`, or `input` for that of the batch and of "
        "autocast. By default `float32`; a loss written for lossreg chooses itself.",
        None,
        "input",
        python="LossWrapper",
    )
    deep_supervision: Outputs | Deep | None = key(
        "Outputs of the network that the loss is applied to, or these with further options.",
        None,
        "aux.*",
        {"outputs": "aux.*", "weights": "same"},
    )
    wrap: Wrap | None = key("How a loss that is called with tensors is given them.", None, {"target_dtype": "long"})


# --- the parts of a compound loss that are chosen by name -----------------------------------------


@block
class NamedSchedule:
    """A weight that is a schedule."""

    schedule: str = key("Name of a schedule; its parameters stand beside it.", MISSING, "cosine")


@block
class NamedWeighting:
    """An adaptive weighting."""

    strategy: str = key("Name of a weighting; its parameters stand beside it.", MISSING, "uncertainty")


@block
class NamedPreprocess:
    """A preprocess."""

    preprocess: str = key("Name of a preprocess; its parameters stand beside it.", MISSING, "gt_field")


# --- the legacy block -----------------------------------------------------------------------------


@block
class Coefs:
    """The weight of each term of a legacy block."""

    epoch_thresholds: Epochs | None = key("The epochs of those weights that are lists.", None, [0, 5])
    seg: Weight = key("Weight of the term seg.", None, 1.0)
    crossfield_align: Weight = key("Weight of the term crossfield_align.", None, 1.0)
    crossfield_align90: Weight = key("Weight of the term crossfield_align90.", None, 1.0)
    crossfield_smooth: Weight = key("Weight of the term crossfield_smooth.", None, 1.0)
    seg_interior_crossfield: Weight = key("Weight of the term seg_interior_crossfield.", None, 1.0)
    seg_edge_crossfield: Weight = key("Weight of the term seg_edge_crossfield.", None, 1.0)
    seg_edge_interior: Weight = key("Weight of the term seg_edge_interior.", None, 1.0)


@block
class SegLossParams:
    """The parameters of the segmentation term of a legacy block, and of the preprocess that weighs its pixels."""

    bce_coef: float | None = key("A parameter of seg/SegLoss.", None, 0.5, python="seg/SegLoss")
    dice_coef: float | None = key("A parameter of seg/SegLoss.", None, 0.5, python="seg/SegLoss")
    tversky_focal_coef: float | None = key("A parameter of seg/SegLoss.", None, 0.5, python="seg/SegLoss")
    use_dist: bool | None = key("A parameter of seg/SegLossWeights.", None, False, python="seg/SegLossWeights")
    use_size: bool | None = key("A parameter of seg/SegLossWeights.", None, False, python="seg/SegLossWeights")
    w0: float | None = key("A parameter of seg/SegLossWeights.", None, 10, python="seg/SegLossWeights")
    sigma: float | None = key("A parameter of seg/SegLossWeights.", None, 10, python="seg/SegLossWeights")


@block
class SegParams:
    """The channels of the segmentation, in the order of the polygon raster."""

    compute_interior: bool | None = key("Whether the interior is a channel.", False, True)
    compute_edge: bool | None = key("Whether the edge is a channel.", False, True)
    compute_vertex: bool | None = key("Whether the vertex is a channel.", False, True)


@block
class Trainer:
    """The keys of the trainer's config that are read."""

    precision: int | str = key("Predictions are logits where it is a 16-bit one.", None, "16-mixed")
    use_mixup: bool | None = key("Whether the segmentation loss mixes.", False, True)


@block
class Switches:
    """The keys of a training config that turn the terms of a legacy block on."""

    compute_seg: bool | None = key("Whether there is a segmentation.", False, True)
    compute_crossfield: bool | None = key("Whether there is a frame field.", False, True)
    seg_params: SegParams = key("The channels of the segmentation.", None)
    pl_trainer: Trainer = key("Two keys of the trainer's config are read.", None)


@block
class Legacy:
    """The legacy block."""

    coefs: Coefs = key("The weight of each term, and their epoch_thresholds.", MISSING, {"seg": 1.0})
    normalization_params: Normalization | None = key(*_NORMALIZATION)
    seg_loss_params: SegLossParams | None = key("Parameters of the segmentation term.", None, {"bce_coef": 0.5})
