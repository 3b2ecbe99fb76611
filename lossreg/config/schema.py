"""JSON Schema (draft 2020-12) of what a loss file may hold, with every installed component, for an editor.

The blocks are those of `lossreg.keys`; parameters are read off the source, and nothing is imported for it. JSON Schema
has no words for some rules, which `lossreg check` alone knows: lists and thresholds belong together and ascend, names
differ, an argument is given once, a constructor takes a value, all of a loss can be compiled, what `${...}` refers to,
a number is finite, an integer is not written as `1.0`, `per_sample` is the term's own and does not go under `args`, and
a name is a text for YAML. The schema is stricter than the reader in these cases: parameters beside a nested
`loss: {...}`, a group, a dictionary of losses or a further `loss` inside it, a node that Hydra has put under `loss`, a
member of a dictionary with `/` in its name, a `_target_` that is null beside `loss`, and in a legacy block a wrong
value that another one replaces.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from textwrap import shorten
from typing import Any

from lossreg.config.legacy import TERMS
from lossreg.errors import UnknownNameError
from lossreg.keys import (
    FROM_DICT,
    IGNORED_KEYS,
    LISTS,
    MASKS,
    NO_NAME,
    SPECIAL_KEYS,
    YIELDING,
    Coefs,
    Compound,
    Finite,
    FromDict,
    Group,
    Legacy,
    Lone,
    Member,
    SegLossParams,
    SegParams,
    Switches,
    Term,
)
from lossreg.printable import MAX_NAME
from lossreg.registry import catalog
from lossreg.registry.components import Entry, Section
from lossreg.registry.params import TENSOR, Parameter, parameters_of
from lossreg.registry.source import Sources
from lossreg.registry.specs import LossSpec, Spec
from lossreg.values import (
    DATA,
    NULL,
    REFERENCE,
    SCALARS,
    TEXT,
    Block,
    Key,
    Node,
    any_of,
    arguments_of,
    keys_of,
    type_of,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_UNREAD: Node = {"$ref": "#/$defs/unread"}
_OWN = tuple(keys_of(Term))
_COMMENTS = ("description", "default", "examples")  # what a validator does not read
_WORTH_SHARING = 40  # characters of a parameter's schema, above which a reference is shorter


def schema(key: str | None = None) -> Node:
    """Return the JSON Schema of a file.

    Args:
        key: dotted path of the compound loss in the file, as `load_loss` takes it. By default the file is a
            training config, or a compound loss itself.

    Returns:
        plain data, whose `$defs` hold each installed component by its kind and full name.
    """
    root: Node = {"if": _either(LISTS), "then": _at("compound"), "else": _at("training")}
    if key is not None:
        root = _at("compound")
        for part in reversed(key.split(".")):
            root = {"properties": {part: root}, "required": [part]}
    definitions = {**_values(), **_blocks(), **_terms(), **_components()}
    return {"$schema": DIALECT, "title": "A loss for lossreg", "type": "object", **root, "$defs": definitions}


# --- parts ----------------------------------------------------------------------------------------


def _at(definition: str) -> Node:
    return {"$ref": f"#/$defs/{definition}"}


def _block(definition: str) -> Node:
    """Return a mapping that one of the definitions describes."""
    return {"type": "object", "if": {"type": "object"}, "then": _at(definition)}


def _text_or(text: Node, block: Node, *types: str) -> Node:
    """Return what is a text of one kind, or a mapping of another."""
    mapping = {"if": {"type": "object"}, "then": block}
    return {"type": ["object", "string", *types], "if": {"type": "string"}, "then": text, "else": mapping}


def _either(keys: tuple[str, ...], value: Node | None = None) -> Node:
    """Return what has one of some keys, with a value."""
    return {"anyOf": [{"required": [key], **({"properties": {key: value}} if value else {})} for key in keys]}


def _values() -> dict[str, Node]:
    """Return the kinds of values that all blocks have in common."""
    (number,) = type_of(Finite).nodes()
    text = {"if": {"type": "string"}, "then": TEXT}
    return {
        "reference": {
            "description": "An interpolation, such as ${epochs}: the value of another key of the file.",
            "type": "string",
            "pattern": REFERENCE,
        },
        "plain_key": {"not": {"enum": ["_target_", *SPECIAL_KEYS]}},
        "unread": {
            "description": "What nobody reads, but for a mark that a value is missing.",
            **text,
            "items": _UNREAD,
            "additionalProperties": _UNREAD,
        },
        "data": {
            "description": "Any plain data.",
            **text,
            "items": DATA,
            "propertyNames": _at("plain_key"),
            "additionalProperties": DATA,
        },
        **{name: any_of(node) for name, node in SCALARS.items()},
        "tensor": {"description": "Numbers, in lists of lists for more dimensions.", **TENSOR.schema()},
        "weight": any_of(number, {"type": "array", "items": any_of(number), "minItems": 1}, _block("schedule")),
    }


# --- blocks ---------------------------------------------------------------------------------------


def _unread(key: Key) -> Node:
    """Describe a key of the legacy dialect, which is read only if its term is on: otherwise it may hold anything."""
    node = key.schema()
    words: Node = {word: node.pop(word) for word in ("description", "default", "examples") if word in node}
    block = next((kind for kind in (key.type, *key.type.parts) if isinstance(kind, Block)), None)
    if block is None:
        return {**words, "anyOf": [node, True]}
    return {**words, "properties": {name: _unread(inner) for name, inner in block.keys.items()}}


def _blocks() -> dict[str, Node]:
    (compound,) = type_of(Compound).nodes()
    (group,) = type_of(Group).nodes()
    own = {name: key.schema() for name, key in keys_of(FromDict).items() if name in ("loss", "key", "terms", "rest")}
    shared = [name for name in keys_of(FromDict) if name in keys_of(Group)]
    group["properties"]["name"]["not"] = NULL
    some: Node = {"not": NULL}
    one_list = {
        "oneOf": [{"required": [key], "properties": {key: some, other: NULL}} for key, other in (LISTS, LISTS[::-1])]
    }
    legacy = {"type": "object", **_either(("multi_loss", "multiloss"), some)}
    with_terms = {"type": "object", **_either(LISTS, some)}
    uses_legacy = {
        "allOf": [legacy, {"not": {"required": ["compound_loss"], "properties": {"compound_loss": with_terms}}}],
    }
    has_compound = {"type": "object", "required": ["compound_loss"], "properties": {"compound_loss": some}}
    keys = {name: _unread(key) for name, key in keys_of(Legacy).items()}
    del keys["normalization_params"]

    return {
        "compound": {
            "description": "A compound loss: terms under loss_list (or losses), and switches over all of them.",
            **compound,
            **one_list,
        },
        "switches": {
            "description": "Switches over the terms of a legacy block.",
            **compound,
            "properties": _at_each("compound", keys_of(Compound)),
        },
        "group": {"description": "A group of terms that counts as one.", **group, **one_list},
        "fromdict": {
            "description": "The losses that a model computes itself, each a term of its own.",
            "properties": {
                **own,
                **_at_each("group", shared),
                **_at_each("term_keys", ["approximate"]),
                **dict.fromkeys(IGNORED_KEYS, True),
            },
            "additionalProperties": False,
            "anyOf": [
                {"required": ["terms"], "properties": {"terms": {"minProperties": 1, "not": NULL}}},
                {"required": ["rest"], "properties": {"rest": {"not": {"enum": [0, None]}}}},
            ],
        },
        "members": any_of(
            NULL,
            {
                "type": "object",
                "propertyNames": _at("term_keys/properties/name"),
                "additionalProperties": _at("member"),
            },
        ),
        "member": {
            "if": {"type": "object", "not": {"required": ["schedule"]}},
            "then": {"properties": _at_each("term_keys", keys_of(Member)), "additionalProperties": False},
            "else": any_of(NULL, _at("weight")),
        },
        "training": {
            "description": "A training config: loss_params.compound_loss, loss_params.multi_loss or loss.",
            "type": "object",
            "properties": {
                **{name: _unread(key) for name, key in keys_of(Switches).items()},
                "loss_params": {
                    "description": "The blocks of the loss.",
                    "properties": {
                        "compound_loss": {"description": "The compound loss."},
                        "multi_loss": {"description": "The legacy block.", "properties": keys},
                        "multiloss": {"description": "The legacy block; another spelling of multi_loss."},
                        "seg_loss_params": keys["seg_loss_params"],
                    },
                    "if": uses_legacy,
                    "then": {"properties": {"compound_loss": any_of(NULL, _block("switches"))}},
                    "else": {"properties": {"compound_loss": any_of(NULL, _block("compound"))}},
                },
            },
            "allOf": [
                {
                    "if": {"required": ["loss_params"], "properties": {"loss_params": uses_legacy}},
                    "then": _at("legacy_training"),
                }
            ],
            "if": {
                "required": ["loss_params"],
                "properties": {"loss_params": {"anyOf": [_at("reference"), legacy, has_compound]}},
            },
            "else": {
                "required": ["loss"],
                "properties": {"loss": {"description": "A lone loss, not wrapped.", **_at("single")}},
            },
        },
        "legacy": {
            "description": "The legacy block: a weight for each term that the config turns on.",
            "type": "object",
            "properties": {
                "coefs": any_of(
                    {
                        "type": "object",
                        "properties": {"epoch_thresholds": keys_of(Coefs)["epoch_thresholds"].schema()},
                        **_known(Coefs),
                    }
                ),
                "normalization_params": keys_of(Legacy)["normalization_params"].schema(),
                "seg_loss_params": any_of(
                    NULL, {"type": "object", **_known(SegLossParams), "additionalProperties": _UNREAD}
                ),
            },
            "additionalProperties": False,
            "required": ["coefs"],
        },
        "legacy_training": _legacy_training(),
    }


# --- the legacy block -----------------------------------------------------------------------------


def _legacy_training() -> Node:
    """Return what a training config with a legacy block is: its flags choose the terms, which need their coefs."""
    channels = keys_of(SegParams)
    flags = {name: _true(name) for name in ("compute_seg", "compute_crossfield")}
    flags |= {name: {"required": ["seg_params"], "properties": {"seg_params": _true(name)}} for name in channels}
    some_channel = {"anyOf": [{"properties": {"seg_params": _maybe(name)}} for name in channels]}
    rules: list[tuple[list[Node], Node]] = [
        ([flags["compute_seg"]], {"required": ["seg_params"], **some_channel}),
        ([flags["compute_seg"]], _legacy_params()),
        *(([flags[flag] for flag in needed], _coefs(name)) for name, (_, needed) in TERMS.items()),
    ]
    return {
        "description": "A training config with the legacy block.",
        "properties": {
            "compute_seg": keys_of(Switches)["compute_seg"].type.schema(),
            "compute_crossfield": keys_of(Switches)["compute_crossfield"].type.schema(),
            "seg_params": {
                "properties": {name: key.type.schema() for name, key in channels.items()},
                **_known(SegParams),
            },
            "loss_params": {
                "properties": {"seg_loss_params": any_of(NULL, {"type": "object", **_known(SegLossParams)})}
            },
        },
        "anyOf": [_maybe("compute_seg"), _maybe("compute_crossfield")],
        "allOf": [
            _in_block(any_of(_block("legacy"))),
            *({"if": {"allOf": given}, "then": then} for given, then in rules),
        ],
    }


def _known(block: type) -> Node:
    """Take no other keys than those of a block."""
    return {"propertyNames": {"enum": list(keys_of(block))}}


def _true(key: str) -> Node:
    return {"type": "object", "required": [key], "properties": {key: {"const": True}}}


def _maybe(key: str) -> Node:
    """Return what has a flag that is on, or may be: an interpolation, of it or of what it stands in."""
    reference = _at("reference")
    return {"anyOf": [reference, {**_true(key), "properties": {key: {"anyOf": [{"const": True}, reference]}}}]}


def _in_block(node: Node) -> Node:
    """Return a config whose legacy block, in the spelling that is read, is as `node` says."""
    first = {"required": ["multi_loss"], "properties": {"multi_loss": {"not": NULL}}}
    found = {
        "if": first,
        "then": {"properties": {"multi_loss": node}},
        "else": {"properties": {"multiloss": node}},
    }
    return {"properties": {"loss_params": found}}


def _coefs(name: str) -> Node:
    """Require the weight of a term."""
    weight: Node = {"required": [name], "properties": {name: _at("weight")}}
    return _in_block({"properties": {"coefs": {"if": {"type": "object"}, "then": weight}}})


def _legacy_params() -> Node:
    """Return what `seg_loss_params` hold, inside of the legacy block or beside it, as the components describe it."""
    found = catalog()
    values: dict[str, Node] = {}
    for section, name in ((found.losses, "seg/SegLoss"), (found.preprocesses, "seg/SegLossWeights")):
        with suppress(UnknownNameError):  # where the plugin is not installed nothing of this builds
            taken = arguments_of(SegLossParams, name, dict.fromkeys(keys_of(SegLossParams)))
            values |= _at_each(_place(section.find(name), section.kind), taken)
    node = {"properties": {"seg_loss_params": {"properties": values}}}
    return {"allOf": [_in_block(node), {"properties": {"loss_params": node}}]}


# --- terms ----------------------------------------------------------------------------------------


def _terms() -> dict[str, Node]:
    keys = {name: key.schema() for name, key in keys_of(Term).items() if name not in ("loss", "_target_", "args")}
    term = _at("term")
    name = {"required": ["name"], "properties": {"name": {"not": NULL}}}
    own_name = {
        "type": "object",
        "anyOf": [name, {"required": ["loss"], "properties": {"loss": {"type": "object", **name}}}],
    }
    some_term = {"if": {"not": NULL}, "then": term}
    mapping = {
        "type": "object",
        "additionalProperties": some_term,
        "patternProperties": {
            f"^$|{NO_NAME}|.{{{MAX_NAME + 1}}}": {"if": {"not": NULL}, "then": {"allOf": [term, own_name]}}
        },
        "not": {"type": "object", "additionalProperties": NULL},
        "if": _either(("loss", "_target_"), {"type": "string"}),  # of a term that is not indented below its name
        "then": {"additionalProperties": {"not": NULL}},
    }
    twice = {key: {"properties": {"loss": {"properties": {key: False}}}} for key in (*keys, "args", *IGNORED_KEYS)}
    loss: Node = {**_at("loss"), "properties": _at_each("term_keys", keys)}
    nested = {"required": ["loss"], "properties": {"loss": {"type": "object"}}}
    listed = _either(LISTS)
    return {
        "terms": any_of(NULL, {"type": "array", "items": _at("list_term"), "minItems": 1}, mapping),
        "list_term": {"if": {"type": "object", **listed}, "then": {**_at("group"), **name}, "else": term},
        "term_keys": {"description": "The keys of a term beside its loss.", "properties": keys},
        "own_key": {"enum": [*_OWN, *IGNORED_KEYS]},
        "unmasked": {"properties": dict.fromkeys(MASKS, NULL)},
        "term": _text_or(
            _at("loss_name"),
            {
                "if": listed,
                "then": _at("group"),
                "else": {
                    "if": {"required": ["loss"], "properties": {"loss": {"const": FROM_DICT}}},
                    "then": _at("fromdict"),
                    "else": {"if": nested, "then": _at("nested_term"), "else": loss},
                },
            },
        ),
        "nested_term": {
            "description": "A term whose loss stands under `loss` as a block of its own.",
            "properties": {**_at_each("term_keys", keys), **dict.fromkeys(IGNORED_KEYS, True), "loss": loss},
            "additionalProperties": False,
            "dependentSchemas": twice,
        },
        "single": {
            **_text_or(
                _at("loss_name"),
                {**_at("loss"), "properties": {"name": keys["name"]}, "dependentSchemas": _lone_parameters()},
            ),
            "examples": ["torch/MSELoss", {"loss": "seg", "gt_channel_selector": 0}],
        },
    }


def _at_each(definition: str, keys: Iterable[str]) -> dict[str, Node]:
    """Return a reference to each of some properties of a definition."""
    return {key: _at(f"{definition}/properties/{key}") for key in keys}


def _lone_parameters() -> Node:
    """Say of a lone loss which keys of a term it may have: those that are parameters of its own."""
    sources = Sources()
    takers: dict[str, dict[str, list[Node]]] = {key: {} for key in _OWN if key not in keys_of(Lone)}
    for entry in catalog().losses:
        signature = sources.of(entry)
        found = () if signature is None else parameters_of(entry.spec, signature)
        own = {p.name: p for p in found if p.settable}
        for key, named in takers.items():
            if key in own:
                node = {word: value for word, value in _parameter(own[key]).items() if word not in _COMMENTS}
                once: Node = {"properties": {key: node, "args": {"properties": {key: False}}}}
            elif signature is None or signature.open_ended:
                once = {}
            else:
                continue
            named.setdefault(json.dumps(once), []).append(_at(f"{_place(entry, 'named')}/if"))
    return {
        key: {"anyOf": [{**json.loads(once), "anyOf": names} for once, names in named.items()]} if named else False
        for key, named in takers.items()
    }


# --- components -----------------------------------------------------------------------------------


def _components() -> dict[str, Node]:
    """Return the blocks that name a component, and a definition for each component."""
    found, sources = catalog(), Sources()
    blocks = {
        **_section(found.losses, "loss", sources),
        **_section(found.preprocesses, "preprocess", sources),
        **_section(found.weightings, "strategy", sources),
        **_section(found.schedules, "schedule", sources),
    }
    _share_parameters(blocks)
    blocks["preprocess"] = _text_or(_at("preprocess_name"), blocks["preprocess"])
    blocks["weighting"] = _text_or(_at("weighting_name"), blocks["weighting"], "null")
    return blocks


def _share_parameters(definitions: dict[str, Node]) -> None:
    """Move parameters that several components describe alike to a definition of their own, `parameter:NAME`."""
    blocks = [node["properties"] for name, node in definitions.items() if name.startswith("loss:")]
    thens = [node["then"] for name, node in definitions.items() if name.startswith("named:")]
    blocks += [then["properties"]["args"]["properties"] for then in thens if "properties" in then]
    places = [(block, name, json.dumps(node)) for block in blocks for name, node in block.items()]
    counts = Counter((name, text) for _, name, text in places)
    shared: dict[tuple[str, str], str] = {}
    for block, name, text in places:
        if counts[name, text] > 1 and len(text) > _WORTH_SHARING:
            if (name, text) not in shared:
                alike = sum(other == name for other, _ in shared)
                shared[name, text] = f"parameter:{name}" + (f":{alike + 1}" if alike else "")
                definitions[shared[name, text]] = block[name]
            block[name] = _at(shared[name, text])


def _section(section: Section[Any], key: str, sources: Sources) -> dict[str, Node]:
    """Return the block of one kind of component, which chooses the definition by the name."""
    kind = section.kind
    made: dict[str, Node] = {}
    dotted = kind in ("loss", "preprocess")
    names = {entry.name: (section.names_of(entry), _paths(section, entry)) for entry in section}
    choices: list[Node] = []
    for entry in section:
        every = [name for some in names[entry.name] for name in some]
        if every:
            own, then = (_loss if kind == "loss" else _part)(entry, key, sources)
            chosen = {"patternProperties": {f"^({key}|_target_)$": {"enum": every}}}
            made |= {f"{kind}:{entry.name}": own, f"named:{entry.name}": {"if": chosen, "then": then}}
            choices.append(_at(_place(entry, "named")))
    every, paths = ([name for some in names.values() for name in some[i]] for i in (0, 1))
    refused = [name for name in SPECIAL_KEYS if kind == "schedule" or name not in IGNORED_KEYS]
    block: Node = {
        "type": "object",
        "properties": {key: _at(f"{kind}_name")},
        "propertyNames": {"not": {"enum": refused}},
        "if": _either((key, "_target_") if dotted else (key,)),
        "then": {"allOf": choices},
    }
    path = _at(f"{kind}_path")
    if dotted:
        about = f"The dotted path of a {kind}, looked up among those installed."
        block["oneOf"] = [{"required": [key]}, {"required": ["_target_"]}]
        block["properties"]["_target_"] = {"description": about, **any_of(path), "examples": paths[:1]}
    else:
        block["required"] = [key]
    about = f"Name of a {kind}: full, bare, an alias or a dotted path."
    name: Node = {"description": about, **any_of({"enum": every}, path), "examples": every[:1]}
    return {kind: block, f"{kind}_name": name, f"{kind}_path": {"enum": paths}, **made}


def _paths(section: Section[Any], entry: Entry[Any]) -> list[str]:
    return list(dict.fromkeys(section.targets_of(entry)))


def _place(entry: Entry[Any], kind: str) -> str:
    """Return where a definition of a component stands, as a JSON pointer writes it."""
    return f"{kind}:{entry.name}".replace("~", "~0").replace("/", "~1")


def _parameters(entry: Entry[Any], sources: Sources) -> tuple[dict[str, Any], list[str], Any]:
    """Return the schemas of a component's parameters, which of them have no default, and what other keys may hold."""
    signature = sources.of(entry)
    if signature is None:
        return {}, [], True
    found = parameters_of(entry.spec, signature)
    values: dict[str, Any] = {p.name: _parameter(p) for p in found if p.settable}
    if signature.open_ended:
        values |= {p.name: False for p in found if not p.settable}
    return values, [p.name for p in found if p.settable and p.required], DATA if signature.open_ended else False


def _parameter(parameter: Parameter) -> Node:
    """Return the schema of a parameter, of a long description the beginning."""
    node = _at("tensor") if parameter.type is TENSOR else parameter.schema()
    node = {word: value for word, value in node.items() if word != "description"}
    if not parameter.doc or parameter.name in YIELDING:  # many losses have it, and `term_keys` says what it is
        return node
    return {**node, "description": shorten(parameter.doc, 120, placeholder=" ...")}


def _about(spec: Spec) -> str:
    """Return what a component is, and of a loss what it is for and takes."""
    facts = [spec.summary.removesuffix(".")]
    if isinstance(spec, LossSpec):
        told = {"For": ", ".join(spec.tasks), "Prediction:": spec.prediction, "Target:": spec.ground_truth}
        facts += [f"{word} {fact}" for word, fact in told.items() if fact]
    return ". ".join(filter(None, facts))


def _part(entry: Entry[Any], key: str, sources: Sources) -> tuple[Node, Node]:
    """Return the definition of a component that is no loss: its parameters and the key that names it; and its use."""
    values, needed, other = _parameters(entry, sources)
    if entry.spec.kind == "schedule":
        if "schedules" in values:
            values["schedules"] |= any_of({"type": "array", "items": _at("weight")})
        needed = [name for name in needed if name != "epoch_thresholds"]  # the blocks around it may give them
    node = {
        "description": _about(entry.spec),
        "properties": {**values, **dict.fromkeys((key, "_target_", *IGNORED_KEYS), True)},
        "additionalProperties": other,
        "required": needed,
    }
    return {word: value for word, value in node.items() if value not in ("", [])}, _at(_place(entry, entry.spec.kind))


def _loss(entry: Entry[Any], key: str, sources: Sources) -> tuple[Node, Node]:  # noqa: ARG001
    """Return the definition of a loss, its parameters among the keys of a term, and what a term of it holds."""
    values, needed, other = _parameters(entry, sources)
    own = [name for name in _OWN if name not in YIELDING]
    named_as_keys = {name: node for name, node in values.items() if name in own}
    rest = {name: node for name, node in values.items() if name not in own}
    rest |= {name: _or_the_terms(name, rest[name]) for name in YIELDING if name in rest}
    about = {"description": _about(entry.spec)} if _about(entry.spec) else {}
    node: Node = {**about, "properties": rest}
    args: Node = {**_at(_place(entry, "loss")), "type": "object", "properties": named_as_keys}
    if other is False:
        node["propertyNames"] = {"if": _at("own_key"), "else": {"enum": list(rest)}}
        args["propertyNames"] = {"if": _at("own_key"), "then": {"enum": [name for name in values if name in _OWN]}}
    else:
        node |= {"patternProperties": {f"^({'|'.join((*_OWN, *IGNORED_KEYS, *rest))})$": True}}
        node["additionalProperties"] = args["additionalProperties"] = other
        args["properties"] = {**dict.fromkeys(rest, True), **named_as_keys}
    rules = [*map(_given, needed), *([_at("unmasked")] if entry.spec.unmasked else [])]
    then = {**_at(_place(entry, "loss")), "properties": {"args": args}, **({"allOf": rules} if rules else {})}
    return node, then


def _or_the_terms(name: str, node: Node) -> Node:
    """Add the values of a key that are the term's to the choices that a loss has."""
    choices, *others = node.get("anyOf", [{}]) if node else [{}]
    return {**node, "anyOf": [{"enum": [*choices["enum"], *YIELDING[name]]}, *others]} if "enum" in choices else node


def _given(name: str) -> Node:
    """Require a parameter of a loss, beside its name or under `args`."""
    under = {"required": ["args"], "properties": {"args": {"required": [name]}}}
    return under if name in _OWN else {"anyOf": [{"required": [name]}, under]}
