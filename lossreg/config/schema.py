"""JSON Schema (draft 2020-12) of what a loss file may hold, with every installed component, for an editor.

Nothing is imported for it: parameters are read off the source. What JSON Schema has no words for is left to
`lossreg check`: that lists and thresholds belong together and ascend, that names differ, that a constructor takes a
value, that all of a loss can be compiled, what `${...}` refers to, that a number is finite and that an integer is not
written as `1.0`. The schema accepts those. It refuses some that is read all the same: parameters beside a nested
`loss: {...}`, a group or a further `loss` inside it, a node that Hydra has put under `loss`, and in a legacy block a
wrong value that another one replaces.
"""

from __future__ import annotations

import json
import types
from contextlib import suppress
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lossreg.config.grammar import (
    COMPOUND_KEYS,
    DEEP_KEYS,
    DTYPES,
    GROUP_KEYS,
    IGNORED_KEYS,
    INPUTS,
    LISTS,
    LONE_KEYS,
    NORMALIZATION_KEYS,
    ON_NONFINITE,
    RESIZE,
    SPECIAL_KEYS,
    TERM_KEYS,
    TRACK_NORMS,
    WRAP_CHOICES,
    WRAP_KEYS,
    ZERO_WEIGHT,
)
from lossreg.config.legacy import CHANNELS, COEFS, LOSS_PARAMS, WEIGHT_PARAMS
from lossreg.errors import UnknownNameError
from lossreg.printable import A_NAME, MAX_NAME
from lossreg.registry import catalog
from lossreg.registry.components import Entry, Section
from lossreg.registry.params import Parameter, parameters_of
from lossreg.registry.signature import Signature
from lossreg.registry.source import Sources

Node = dict[str, Any]
"""A JSON Schema, or a part of one."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = r"\$\{"
"""What a text with an interpolation matches; it may stand in place of any value."""

_NULL: Node = {"type": "null"}
_NUMBER: Node = {"type": "number"}
_BOOLEAN: Node = {"type": "boolean"}
_TEXT: Node = {"type": "string", "not": {"const": "???"}}
_BATCH_KEY: Node = {"type": "string", "pattern": r"^(pred|gt)\.."}
_REFERENCE: Node = {"type": "string", "pattern": REFERENCE}
_DATA: Node = {"$ref": "#/$defs/data"}
_UNREAD: Node = {"$ref": "#/$defs/unread"}
_WEIGHT: Node = {"$ref": "#/$defs/weight"}
_SCALARS: dict[Any, Node] = {
    bool: _BOOLEAN, int: {"type": "integer"}, float: _NUMBER, str: _TEXT, None: _NULL, type(None): _NULL
}  # fmt: skip


def schema(key: str | None = None) -> Node:
    """Return the JSON Schema of a file.

    Args:
        key: dotted path of the compound loss in the file, as `load_loss` takes it. By default the file is a
            training config, or a compound loss itself.

    Returns:
        plain data, whose `$defs` hold each installed component by its kind and full name.
    """
    root: Node = {
        "if": {"anyOf": [{"required": [name]} for name in LISTS]},
        "then": {"$ref": "#/$defs/compound"},
        "else": {"$ref": "#/$defs/training"},
    }
    if key is not None:
        root = {"$ref": "#/$defs/compound"}
        for part in reversed(key.split(".")):
            root = {"properties": {part: root}, "required": [part]}
    return {
        "$schema": DIALECT,
        "title": "A loss for lossreg",
        "type": "object",
        **root,
        "$defs": {**_values(), **_blocks(), **_terms(), **_components()},
    }


# --- values ---------------------------------------------------------------------------------------


def any_of(*choices: Node) -> Node:
    """Return what fits one of some schemas, or is an interpolation.

    Choices of different types become one schema, whose errors are those of the type that was meant.
    """
    unique = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]
    if _DATA in unique:
        return _DATA
    if _TEXT not in unique:  # which takes interpolations as it is
        unique.append(_REFERENCE if any("type" in choice for choice in unique) else {"$ref": "#/$defs/reference"})
    typed = [choice for choice in unique if "type" in choice]
    words = [word for choice in typed for word in choice if word != "type"]
    kinds = [choice["type"] for choice in typed]
    if typed and len(set(kinds)) == len(kinds) and len(set(words)) == len(words):
        merged = {word: value for choice in typed for word, value in choice.items() if word != "type"}
        together = {"type": kinds if len(kinds) > 1 else kinds[0], **merged}
        unique = [together, *(choice for choice in unique if "type" not in choice)]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


UNPRINTABLE = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb"
)
"""Characters that no name has, as regular expressions of both Python and JavaScript write them."""


def _block(name: str) -> Node:
    """Return a mapping that one of the definitions describes."""
    return {"type": "object", "if": {"type": "object"}, "then": {"$ref": f"#/$defs/{name}"}}


def _unless_null(name: str) -> Node:
    return {"if": {"not": _NULL}, "then": {"$ref": f"#/$defs/{name}"}}


def _list(item: Node, **rest: Any) -> Node:
    return {"type": "array", "items": item, **rest}


def _typed(kind: Any) -> list[Node]:
    """Return what a parameter's type, narrowed to plain data, takes."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return [_DATA]
    if kind in _SCALARS:
        return [_SCALARS[kind]]
    if origin is Literal:
        return [{"enum": list(args)}]
    if origin in (Union, types.UnionType):
        return [node for arg in args for node in _typed(arg)]
    if origin is list:
        return [_list(any_of(*_typed(args[0])))]
    if origin is tuple:
        items = [any_of(*_typed(arg)) for arg in args]
        return [{"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}]
    if origin is dict:
        values = any_of(*_typed(args[1]))
        return [{"type": "object", "propertyNames": {"$ref": "#/$defs/plain_key"}, "additionalProperties": values}]
    if origin is Annotated:  # with constraints, which pydantic knows to put in words
        from pydantic import TypeAdapter

        return [TypeAdapter(kind).json_schema()]
    return [_DATA]


def _values() -> dict[str, Node]:
    """Return the kinds of values that all blocks have in common."""
    weights = _list(any_of(_NUMBER), minItems=1)
    return {
        "reference": {
            "description": "An interpolation, such as ${epochs}: the value of another key of the file.",
            **_REFERENCE,
        },
        "plain_key": {"not": {"enum": ["_target_", *SPECIAL_KEYS]}},
        "unread": {
            "description": "What nobody reads, but for a mark that a value is missing.",
            "if": {"type": "string"},
            "then": _TEXT,
            "items": _UNREAD,
            "additionalProperties": _UNREAD,
        },
        "data": {
            "description": "Any plain data.",
            "if": {"type": "string"},
            "then": _TEXT,
            "items": _DATA,
            "propertyNames": {"$ref": "#/$defs/plain_key"},
            "additionalProperties": _DATA,
        },
        "weight": {
            "description": "What the term is multiplied by: a number; a list of numbers, one at each epoch of "
            "epoch_thresholds; or {schedule: NAME, ...}.",
            **any_of(_NUMBER, weights, _block("schedule")),
            "default": 1.0,
            "examples": [0.5, [0.0, 0.0, 1.0], {"schedule": "cosine", "start": 0.0, "end": 1.0, "end_epoch": 20}],
        },
        "epoch_thresholds": {
            "description": "The epochs at which lists of weights have their values, in ascending order.",
            **any_of(_NULL, _list(any_of(_NUMBER), minItems=1)),
            "examples": [[0, 5, 10]],
        },
        "name": {
            "description": f"{A_NAME.capitalize()}.",
            **any_of(
                _NULL,
                {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_NAME,
                    "not": {"pattern": rf"^\?\?\?$|[/{UNPRINTABLE}]"},
                },
            ),
            "examples": ["area"],
        },
    }


# --- blocks ---------------------------------------------------------------------------------------


def _switches() -> dict[str, Node]:
    """Return every key of a compound loss and of a group that is not about its place among other terms."""
    counts = any_of(_NULL, {"type": "integer", "minimum": 1})
    keys = _list(any_of(_BATCH_KEY))
    return {
        "loss_list": {"description": "The terms.", "examples": [["torch/L1Loss"]], "$ref": "#/$defs/terms"},
        "losses": {
            "description": "The terms; another spelling of loss_list.",
            "examples": [{"height": {"loss": "torch/L1Loss"}}],
            "$ref": "#/$defs/terms",
        },
        "epoch_thresholds": {"$ref": "#/$defs/epoch_thresholds"},
        "pre_processes": {
            "description": "Preprocesses that make keys of the batch before the losses read them.",
            **any_of(_NULL, _list({"$ref": "#/$defs/preprocess"})),
            "examples": [["gt_field"], [{"preprocess": "seg_loss_weights", "w0": 10}]],
        },
        "weighting": {
            "description": "An adaptive weighting of the terms, multiplied by their weights.",
            **_unless_null("weighting"),
            "examples": ["dwa", {"strategy": "dwa", "temperature": 1.0}],
        },
        "zero_weight": {
            "description": "Whether a term of weight 0 stays on the graph (keep), or is computed without one (skip).",
            **any_of({"enum": list(ZERO_WEIGHT)}),
            "default": "keep",
            "examples": ["skip"],
        },
        "batch_keys": {
            "description": "The keys that every batch has; terms are checked against them when the loss is built.",
            **any_of(_NULL, keys),
            "examples": [["pred.seg", "gt.mask"]],
        },
        "on_nonfinite": {
            "description": "What is done about a term that is NaN or infinite: nothing, an error, or the term is left "
            "out of this batch. A group's default is that of the loss around it.",
            **any_of({"enum": list(ON_NONFINITE)}),
            "default": "ignore",
            "examples": ["raise"],
        },
        "normalize_losses": {
            "description": "Whether each term is divided by its norm.",
            **any_of(_BOOLEAN),
            "default": True,
            "examples": [False],
        },
        "normalization_params": {
            "description": "How many samples the norms are taken over.",
            "examples": [{"min_samples": 10, "max_samples": 1000}],
            **any_of(
                _NULL,
                {
                    "type": "object",
                    "properties": {
                        NORMALIZATION_KEYS[0]: {
                            "description": "At least so many; fewer are an error.",
                            **counts,
                            "examples": [10],
                        },
                        NORMALIZATION_KEYS[1]: {"description": "At most so many.", **counts, "examples": [1000]},
                    },
                    "additionalProperties": False,
                },
            ),
        },
        "track_norms": {
            "description": "running: norms follow the values in training.",
            **any_of(_NULL, {"enum": list(TRACK_NORMS)}),
            "examples": ["running"],
        },
        "norm_momentum": {
            "description": "The share of a new value in a running norm.",
            **any_of({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
            "default": 0.01,
            "examples": [0.05],
        },
        "compile": {
            "description": "Whether the whole loss is compiled at its first forward.",
            **any_of(_BOOLEAN),
            "default": False,
            "examples": [True],
        },
        "name": {
            "description": "The group's name; its terms are reported as `name/term`.",
            "$ref": "#/$defs/name",
            "not": _NULL,
            "examples": ["field"],
        },
        "weight": {"$ref": "#/$defs/weight"},
        "normalize": {
            "description": "Whether its terms are divided by their norms.",
            **any_of(_BOOLEAN),
            "default": True,
            "examples": [False],
        },
        "optional": {
            "description": "Whether each of its terms is left out of a batch that lacks its keys.",
            **any_of(_BOOLEAN),
            "default": False,
            "examples": [True],
        },
    }


def _unread(description: str, kind: Node, example: Any, **rest: Any) -> Node:
    """Describe a key of the legacy dialect, which is read only if its term is on: otherwise it may hold anything."""
    return {"description": description, "anyOf": [kind, True], "examples": [example], **rest}


def _legacy_flags() -> dict[str, Node]:
    """Return the keys of a training config that turn the terms of a legacy block on."""
    channels = {
        f"compute_{name}": _unread(f"Whether the {name} is a channel.", _BOOLEAN, True, default=False)
        for name in CHANNELS
    }
    precision = _unread("Predictions are logits where it is a 16-bit one.", {"type": ["integer", "string"]}, "16-mixed")
    return {
        "compute_seg": _unread("Whether there is a segmentation.", _BOOLEAN, True, default=False),
        "compute_crossfield": _unread("Whether there is a frame field.", _BOOLEAN, True, default=False),
        "seg_params": {"description": "The channels of the segmentation.", "properties": channels},
        "pl_trainer": {
            "description": "Two keys of the trainer's config are read.",
            "properties": {
                "precision": precision,
                "use_mixup": _unread("Whether the segmentation loss mixes.", _BOOLEAN, True, default=False),
            },
        },
    }


def _legacy_keys() -> Node:
    """Return the keys of a legacy block that its terms read."""
    coefs = {name: _unread(f"Weight of the term {name}.", _WEIGHT, 1.0) for name in COEFS}
    epochs = _unread("The epochs of those weights that are lists.", {"$ref": "#/$defs/epoch_thresholds"}, [0, 5])
    return {
        "properties": {
            "coefs": {"properties": {**coefs, "epoch_thresholds": epochs}},
            "seg_loss_params": _seg_loss_params(),
        }
    }


def _seg_loss_params() -> Node:
    """Return the block whose values the segmentation term takes, and the preprocess that weighs its pixels."""
    found = {name: _unread("A parameter of seg/SegLoss.", _NUMBER, 0.5) for name in LOSS_PARAMS}
    for name in WEIGHT_PARAMS:
        kind, example = (_BOOLEAN, False) if name.startswith("use_") else (_NUMBER, 10)
        found[name] = _unread("A parameter of the preprocess seg/SegLossWeights.", kind, example)
    return {"description": "Parameters of the segmentation term.", "properties": found}


def _blocks() -> dict[str, Node]:
    switches = _switches()
    bare = {
        "type": "object",
        "properties": {key: switches[key] for key in COMPOUND_KEYS},
        "additionalProperties": False,
    }
    one_list = {
        "oneOf": [
            {"required": [key], "properties": {key: {"not": _NULL}, other: _NULL}}
            for key, other in (LISTS, LISTS[::-1])
        ]
    }
    given = {"anyOf": [{"required": [key], "properties": {key: {"not": _NULL}}} for key in LISTS]}
    some = {"type": "object", **given}
    legacy = {
        "type": "object",
        "anyOf": [{"required": [key], "properties": {key: {"not": _NULL}}} for key in ("multi_loss", "multiloss")],
    }
    uses_legacy = {
        "allOf": [legacy, {"not": {"required": ["compound_loss"], "properties": {"compound_loss": some}}}],
    }
    compound = {"type": "object", "required": ["compound_loss"], "properties": {"compound_loss": {"not": _NULL}}}
    return {
        "compound": {
            "description": "A compound loss: terms under loss_list (or losses), and switches over all of them.",
            **bare,
            **one_list,
        },
        "switches": {"description": "Switches over the terms of a legacy block.", **bare},
        "group": {
            "description": "A group of terms that counts as one.",
            "type": "object",
            "properties": {key: switches[key] for key in GROUP_KEYS},
            "additionalProperties": False,
            **one_list,
        },
        "training": {
            "description": "A training config: loss_params.compound_loss, loss_params.multi_loss or loss.",
            "type": "object",
            "properties": {
                **_legacy_flags(),
                "loss_params": {
                    "description": "The blocks of the loss.",
                    "properties": {
                        "compound_loss": {"description": "The compound loss."},
                        "multi_loss": {"description": "The legacy block.", **_legacy_keys()},
                        "multiloss": {"description": "The legacy block; another spelling of multi_loss."},
                        "seg_loss_params": _seg_loss_params(),
                    },
                    "if": uses_legacy,
                    "then": {"properties": {"compound_loss": any_of(_NULL, _block("switches"))}},
                    "else": {"properties": {"compound_loss": any_of(_NULL, _block("compound"))}},
                },
            },
            "allOf": [
                {
                    "if": {"required": ["loss_params"], "properties": {"loss_params": uses_legacy}},
                    "then": {"$ref": "#/$defs/legacy_training"},
                }
            ],
            "if": {
                "required": ["loss_params"],
                "properties": {"loss_params": {"anyOf": [{"$ref": "#/$defs/reference"}, legacy, compound]}},
            },
            "else": {
                "required": ["loss"],
                "properties": {"loss": {"description": "A lone loss, not wrapped.", "$ref": "#/$defs/single"}},
            },
        },
        "legacy": {
            "description": "The legacy block: a weight for each term that the config turns on.",
            "type": "object",
            "properties": {
                "coefs": {
                    "description": "The weight of each term, and their epoch_thresholds.",
                    **any_of(
                        {
                            "type": "object",
                            "properties": {"epoch_thresholds": {"$ref": "#/$defs/epoch_thresholds"}},
                            "propertyNames": {"enum": [*COEFS, "epoch_thresholds"]},
                        }
                    ),
                },
                "normalization_params": switches["normalization_params"],
                "seg_loss_params": any_of(_NULL, {"type": "object", "additionalProperties": _UNREAD}),
            },
            "additionalProperties": _UNREAD,
            "required": ["coefs"],
        },
        "legacy_training": _legacy_training(),
    }


# --- the legacy block -----------------------------------------------------------------------------


def _legacy_training() -> Node:
    """Return what a training config with a legacy block is: its flags choose the terms, which need their coefs."""
    seg, crossfield = _true("compute_seg"), _true("compute_crossfield")
    channel = {name: {"properties": {"seg_params": _true(f"compute_{name}")}} for name in CHANNELS}
    own = {name: {"required": ["seg_params"], **node} for name, node in channel.items()}
    flag = any_of(_BOOLEAN, _NULL)
    flags = {"properties": {f"compute_{name}": flag for name in CHANNELS}}
    some_channel = {"anyOf": [{"properties": {"seg_params": _maybe(f"compute_{name}")}} for name in CHANNELS]}
    rules: list[tuple[list[Node], Node]] = [
        ([seg], {"required": ["seg_params"], **some_channel}),
        ([seg], _coefs("seg")),
        ([seg], _legacy_params()),
        ([crossfield], _coefs("crossfield_align", "crossfield_align90", "crossfield_smooth")),
        *(([seg, crossfield, own[name]], _coefs(f"seg_{name}_crossfield")) for name in ("interior", "edge")),
        ([seg, own["interior"], own["edge"]], _coefs("seg_edge_interior")),
    ]
    return {
        "description": "A training config with the legacy block.",
        "properties": {
            "compute_seg": {"description": "Whether the segmentation is trained.", **flag},
            "compute_crossfield": {"description": "Whether the frame field is trained.", **flag},
            "seg_params": {"description": "Which channels the segmentation has.", **flags},
            "loss_params": {"properties": {"seg_loss_params": any_of(_NULL, {"type": "object"})}},
        },
        "anyOf": [_maybe("compute_seg"), _maybe("compute_crossfield")],
        "allOf": [
            _in_block(any_of(_block("legacy"))),
            *({"if": {"allOf": given}, "then": then} for given, then in rules),
        ],
    }


def _true(key: str) -> Node:
    return {"type": "object", "required": [key], "properties": {key: {"const": True}}}


def _maybe(key: str) -> Node:
    """Return what has a flag that is on, or may be: an interpolation, of it or of what it stands in."""
    reference = {"$ref": "#/$defs/reference"}
    return {"anyOf": [reference, {**_true(key), "properties": {key: {"anyOf": [{"const": True}, reference]}}}]}


def _in_block(node: Node) -> Node:
    """Return a config whose legacy block, in the spelling that is read, is as `node` says."""
    first = {"required": ["multi_loss"], "properties": {"multi_loss": {"not": _NULL}}}
    found = {
        "if": first,
        "then": {"properties": {"multi_loss": node}},
        "else": {"properties": {"multiloss": node}},
    }
    return {"properties": {"loss_params": found}}


def _coefs(*names: str) -> Node:
    """Require the weights of some terms."""
    weights: Node = {"required": list(names), "properties": {name: {"$ref": "#/$defs/weight"} for name in names}}
    return _in_block({"properties": {"coefs": {"if": {"type": "object"}, "then": weights}}})


def _legacy_params() -> Node:
    """Return what `seg_loss_params` hold, inside of the legacy block or beside it, as the components describe it."""
    found = catalog()
    values: dict[str, Node] = {}
    for section, name, taken in (
        (found.losses, "seg/SegLoss", LOSS_PARAMS),
        (found.preprocesses, "seg/SegLossWeights", WEIGHT_PARAMS),
    ):
        with suppress(UnknownNameError):  # where the plugin is not installed nothing of this builds
            place = _place(section.find(name))
            values |= {key: {"$ref": f"#/$defs/{place}/properties/{key}"} for key in taken}
    node = {"properties": {"seg_loss_params": {"properties": values}}}
    return {"allOf": [_in_block(node), {"properties": {"loss_params": node}}]}


# --- terms ----------------------------------------------------------------------------------------


def _term_keys() -> dict[str, Node]:
    """Return what a term says beside its loss and the loss's parameters."""
    key = any_of(_NULL, _TEXT)
    numbers = _list(any_of(_NUMBER))
    integer, bound = {"type": "integer"}, any_of(_NULL, {"type": "integer"})
    cut = {
        "type": "object",
        "properties": {
            "start": {"description": "The first channel.", **bound, "examples": [0]},
            "stop": {"description": "The channel after the last.", **bound, "examples": [2]},
            "step": {"description": "From one channel to the next.", **bound, "not": {"const": 0}, "examples": [1]},
        },
        "additionalProperties": False,
        "minProperties": 1,
    }
    lists = [_list(any_of(integer), minItems=1), _list(any_of(_BOOLEAN), contains={"const": True})]
    channels = any_of(_NULL, integer, *lists, cut)
    wrap: dict[str, Node] = {
        "inputs": {
            "description": "Keys of all arguments in order, where there are not two.",
            **any_of(_NULL, _list(any_of(_BATCH_KEY), minItems=1)),
            "examples": [["pred.anchor", "gt.positive", "gt.negative"]],
        },
        "pred_channels": {
            "description": "Which channels (axis 1) of the prediction to take.", **channels, "examples": [[0, 1]]
        },
        "gt_channels": {
            "description": "Which channels (axis 1) of the target to take.", **channels, "examples": [0]
        },
        "target_dtype": {
            "description": "What to cast the target to; long means class indices.",
            **any_of(_NULL, {"enum": ["long", "float"]}),
            "examples": ["long"],
        },
        "target_shape": {
            "description": "Which shapes of a target the loss takes: `same`, the prediction's; `broadcast`, that or 1 "
            "in place of a size; `any`, the loss sees to them. By default a library's loss that compares elements has "
            "`same`, and for a function a target is refused that would broadcast to more than both.",
            **any_of(_NULL, {"enum": list(WRAP_CHOICES["target_shape"])}),
            "examples": ["any"],
        },
        "needs_grad": {
            "description": "Whether the loss takes derivatives of the predictions, as a physics residual does; "
            "gradients are then on where it is calibrated. By default the loss itself says so.",
            **any_of(_NULL, _BOOLEAN),
            "examples": [True],
        },
        "reduction": {
            "description": "How values of each element become one number.",
            **any_of({"enum": ["mean", "sum"]}),
            "default": "mean",
            "examples": ["sum"],
        },
    }  # fmt: skip
    deep: dict[str, Node] = {
        "outputs": {
            "description": "A key, a glob such as aux.*, or a list of keys.",
            **any_of(_TEXT, _list(_TEXT, minItems=1)),
            "examples": ["aux.*"],
        },
        "weights": {
            "description": "`exp` (each a half of the one before), `same`, or a number for each output.",
            **any_of({"enum": ["exp", "same"]}, numbers),
            "default": "exp",
            "examples": [[1.0, 0.5, 0.25]],
        },
        "resize": {
            "description": "How a target is brought to the size of an output.",
            **any_of({"enum": list(RESIZE)}),
            "default": "nearest",
            "examples": ["bilinear"],
        },
    }
    deep_block = {
        "type": "object",
        "properties": {key: deep[key] for key in DEEP_KEYS},
        "required": ["outputs"],
        "additionalProperties": False,
    }
    wrap_block = {
        "type": "object",
        "properties": {key: wrap[key] for key in WRAP_KEYS},
        "additionalProperties": False,
    }
    return {
        "name": {
            "description": "The term's name, without `/`; by default that of its loss, or its key in a mapping.",
            "$ref": "#/$defs/name",
        },
        "weight": {"$ref": "#/$defs/weight"},
        "epoch_thresholds": {"$ref": "#/$defs/epoch_thresholds"},
        "normalize": {
            "description": "Whether the term is divided by its norm.", **any_of(_BOOLEAN), "default": True,
            "examples": [False],
        },
        "optional": {
            "description": "Whether it is left out of a batch that lacks its keys.", **any_of(_BOOLEAN),
            "default": False,
            "examples": [True],
        },
        "pred_key": {
            "description": "Key of the prediction that the loss is given.", **key, "examples": ["height"]
        },
        "gt_key": {"description": "Key of the target that the loss is given.", **key, "examples": ["height"]},
        "input": {
            "description": "What the prediction holds, for a loss that says what it takes.",
            **any_of(_NULL, {"enum": list(INPUTS)}),
            "examples": ["logits"],
        },
        "dtype": {
            "description": "In which dtype a library's loss or a function computes: `float32`, or `input` for that of "
            "the batch and of autocast. A loss written for lossreg chooses itself.",
            **any_of(_NULL, {"enum": list(DTYPES)}),
            "default": DTYPES[0],
            "examples": ["input"],
        },
        "deep_supervision": {
            "description": "Outputs of the network that the loss is applied to, or these with further options.",
            **any_of(_NULL, _TEXT, _list(_TEXT, minItems=1), deep_block),
            "examples": ["aux.*", {"outputs": "aux.*", "weights": "same"}],
        },
        "wrap": {
            "description": "How a loss that is called with tensors is given them.", **any_of(wrap_block),
            "examples": [{"target_dtype": "long"}],
        },
    }  # fmt: skip


def _terms() -> dict[str, Node]:
    keys = _term_keys()
    listed = {"anyOf": [{"required": [key]} for key in LISTS]}
    term = {"$ref": "#/$defs/term"}
    own_name = {
        "type": "object",
        "anyOf": [
            {"required": ["name"]},
            {"required": ["loss"], "properties": {"loss": {"type": "object", "required": ["name"]}}},
        ],
    }
    mapping = {
        "type": "object",
        "additionalProperties": _unless_null("term"),
        "patternProperties": {
            f"^$|[/{UNPRINTABLE}]|.{{{MAX_NAME + 1}}}": {"if": {"not": _NULL}, "then": {"allOf": [term, own_name]}}
        },
        "not": {"type": "object", "additionalProperties": _NULL},
    }
    twice = {key: {"properties": {"loss": {"properties": {key: False}}}} for key in (*keys, "args", *IGNORED_KEYS)}
    name = {"required": ["name"], "properties": {"name": {"not": _NULL}}}
    return {
        "terms": any_of(_NULL, _list({"$ref": "#/$defs/list_term"}, minItems=1), mapping),
        "list_term": {"if": {"type": "object", **listed}, "then": {"$ref": "#/$defs/group", **name}, "else": term},
        "term": {
            "type": ["object", "string"],
            "if": {"type": "string"},
            "then": {"$ref": "#/$defs/loss_name"},
            "else": {
                "if": listed,
                "then": {"$ref": "#/$defs/group"},
                "else": {
                    "if": {"required": ["loss"], "properties": {"loss": {"type": "object"}}},
                    "then": {"$ref": "#/$defs/nested_term"},
                    "else": {"$ref": "#/$defs/loss", "properties": keys},
                },
            },
        },
        "nested_term": {
            "description": "A term whose loss stands under `loss` as a block of its own.",
            "properties": {
                **keys,
                **dict.fromkeys(IGNORED_KEYS, True),
                "loss": {"$ref": "#/$defs/loss", "properties": keys},
            },
            "additionalProperties": False,
            "dependentSchemas": twice,
        },
        "single": {
            "type": ["object", "string"],
            "if": {"type": "string"},
            "then": {"$ref": "#/$defs/loss_name"},
            "else": {
                "$ref": "#/$defs/loss",
                "properties": {"name": {"$ref": "#/$defs/name"}},
                "dependentSchemas": _lone_parameters(),
            },
            "examples": ["torch/MSELoss", {"loss": "seg", "gt_channel_selector": 0}],
        },
    }


def _lone_parameters() -> Node:
    """Say of a lone loss which keys of a term it may have: those that are parameters of its own."""
    section, sources = catalog().losses, Sources()
    takers: dict[str, list[Node]] = {key: [] for key in TERM_KEYS if key not in LONE_KEYS}
    for entry in section:
        signature = sources.of(entry)
        named = {"anyOf": _names(section, entry, "loss")}
        found = () if signature is None else parameters_of(entry.spec, signature)
        values = {p.name: _parameter(p, entry) for p in found if p.settable}
        for key, ways in takers.items():
            if key in values:
                once = {key: values[key], "args": {"properties": {key: False}}}
                ways.append({**named, "properties": once})
            elif signature is None or signature.open_ended:
                ways.append(named)
    return {key: {"anyOf": ways} if ways else False for key, ways in takers.items()}


# --- components -----------------------------------------------------------------------------------


def _components() -> dict[str, Node]:
    """Return the blocks that name a component, and a definition for each component."""
    found, sources = catalog(), Sources()
    blocks: dict[str, Node] = {}
    for section, key in (
        (found.losses, "loss"),
        (found.preprocesses, "preprocess"),
        (found.weightings, "strategy"),
        (found.schedules, "schedule"),
    ):
        blocks |= _section(section, key, sources)
    for kind in ("preprocess", "weighting"):  # a name alone will do
        block = blocks.pop(kind)
        blocks[kind] = {
            "type": ["object", "string"],
            "if": {"type": "string"},
            "then": {"$ref": f"#/$defs/{kind}_name"},
            "else": block,
        }
    return blocks


def _section(section: Section[Any], key: str, sources: Sources) -> dict[str, Node]:
    """Return the block of one kind of component, which chooses the definition by the name."""
    kind = section.kind
    targets = kind in ("loss", "preprocess")
    made: dict[str, Node] = {}
    every: list[str] = []
    dotted: list[str] = []
    choices: list[Node] = []
    for entry in section:
        named = _names(section, entry, key)
        if named:
            every += section.names_of(entry)
            dotted += dict.fromkeys(section.targets_of(entry)) if targets else ()
            choices.append({"if": {"anyOf": named}, "then": {"$ref": f"#/$defs/{_place(entry)}"}})
            made[f"{kind}:{entry.name}"] = _component(entry, key, sources.of(entry))
    block: Node = {"type": "object", "properties": {key: {"$ref": f"#/$defs/{kind}_name"}}}
    if targets:
        block["properties"]["_target_"] = {
            "description": f"The dotted path of a {kind}, looked up among those installed.",
            **any_of({"enum": dotted}),
            "examples": dotted[:1],
        }
        block["oneOf"] = [{"required": [key]}, {"required": ["_target_"]}]
    else:
        block["required"] = [key]
    refused = [name for name in SPECIAL_KEYS if kind == "schedule" or name not in IGNORED_KEYS]
    block |= {"propertyNames": {"not": {"enum": refused}}, "allOf": choices}
    about = f"Name of a {kind}: full, bare or an alias."
    name = {"description": about, **any_of({"enum": every}), "examples": every[:1]}
    return {kind: block, f"{kind}_name": name, **made}


def _names(section: Section[Any], entry: Entry[Any], key: str) -> list[Node]:
    """Return the ways in which a block names a component: by a name at `key`, or by a dotted path where it may."""
    ways = {key: section.names_of(entry)}
    if section.kind in ("loss", "preprocess"):
        ways["_target_"] = list(dict.fromkeys(section.targets_of(entry)))
    return [{"required": [k], "properties": {k: {"enum": found}}} for k, found in ways.items() if found]


def _place(entry: Entry[Any]) -> str:
    """Return where the definition of a component stands, as a JSON pointer writes it."""
    return f"{entry.spec.kind}:{entry.name}".replace("~", "~0").replace("/", "~1")


def _component(entry: Entry[Any], key: str, signature: Signature | None) -> Node:
    """Return the definition of one component: its parameters, and the keys around them."""
    is_loss = entry.spec.kind == "loss"
    around: dict[str, Any] = dict.fromkeys((*(TERM_KEYS if is_loss else (key, "_target_")), *IGNORED_KEYS), True)
    about: Node = {"description": entry.spec.summary} if entry.spec.summary else {}
    if signature is None:
        return {**about, "properties": around}
    found = parameters_of(entry.spec, signature)
    values: dict[str, Any] = {p.name: _parameter(p, entry) for p in found if p.settable}
    closed: dict[str, Any] = {p.name: False for p in found if not p.settable} if signature.open_ended else {}
    needed = [p.name for p in found if p.settable and p.required and not _inherited(p, entry)]
    other: Any = _DATA if signature.open_ended else False
    node: Node = {**about, "properties": {**values, **closed, **around}, "additionalProperties": other}
    if not is_loss:
        return node | ({"required": needed} if needed else {})
    inside = {"type": "object", "properties": {**values, **closed}, "additionalProperties": other}
    node["properties"]["args"] = {
        "description": "Parameters of the loss; those that are named as a key of a term can be given here alone.",
        **inside,
        "propertyNames": {"$ref": "#/$defs/plain_key"},
    }
    node["allOf"] = [_given(name) for name in needed]
    node["dependentSchemas"] = {
        name: {"properties": {"args": {"properties": {name: False}}}} for name in values if name not in TERM_KEYS
    }
    return {name: value for name, value in node.items() if value not in ([], {})}


def _given(name: str) -> Node:
    """Require a parameter of a loss, beside its name or under `args`."""
    under = {"required": ["args"], "properties": {"args": {"required": [name]}}}
    return under if name in TERM_KEYS else {"anyOf": [{"required": [name]}, under]}


def _inherited(parameter: Parameter, entry: Entry[Any]) -> bool:
    """Say whether the blocks around a schedule may give a parameter."""
    return entry.spec.kind == "schedule" and parameter.name == "epoch_thresholds"


def _parameter(parameter: Parameter, entry: Entry[Any]) -> Node:
    node = any_of(*_typed(parameter.type))
    if entry.spec.kind == "schedule" and parameter.name == "schedules":
        node = any_of(_list({"$ref": "#/$defs/weight"}))
    if parameter.doc:
        node = {"description": parameter.doc, **node}
    try:
        default = [] if parameter.required else [json.loads(json.dumps(parameter.default, allow_nan=False))]
    except (TypeError, ValueError):  # no plain data
        default = []
    return node | ({"default": default[0]} if default else {})
