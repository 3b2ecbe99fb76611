"""Create the spec of a library loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lossreg import LossSpec
from lossreg_wrappers.exceptions import EXCEPTIONS
from lossreg_wrappers.facts import Facts
from lossreg_wrappers.forms import Form, Rules
from lossreg_wrappers.homes import homes
from lossreg_wrappers.units import masking, texts

_TARGETS = {
    "indices": "class indices (N, ...)",
    "channel indices": "class indices (N, 1, ...)",
    "indices or distribution": "class indices (N, ...) or class probabilities (N, C, ...)",
    "label lists": "class indices (N, C), padded with -1",
    "mask": "numbers from 0 to 1 (shape of the prediction)",
    "mask without channel": "numbers from 0 to 1 (N, ...)",
    "one-hot": "one-hot (N, C, ...)",
    "signs": "1 or -1 (shape of the prediction)",
    "counts": "counts of 0 or more (shape of the prediction)",
    "distribution": "probabilities (shape of the prediction)",
    "log-distribution": "log-probabilities (shape of the prediction)",
    "values": "values (shape of the prediction)",
}
"""What a target of each form is, in words."""


def library_loss(
    module: str,
    name: str,
    summary: str,
    wrap: Mapping[str, Any],
    *,
    facts: Mapping[str, Facts],
    page: str,
    example: str,
    args: Mapping[str, Any] | None = None,
    package: str | None = None,
    target: str | None = None,
    also_in: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    tensors: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
) -> LossSpec:
    """Return the spec of one loss of a library.

    Args:
        module: the public module of the library (`"torch.nn"`).
        name: the public name of the loss in the module.
        summary: one line for listings.
        wrap: the forms of prediction and target, see `lossreg_wrappers.forms`, and what a mask chooses, see
            `lossreg_wrappers.units`.
        facts: the facts of the library's losses by name.
        page: the address of the loss in the library's documentation, with `{name}` for its name.
        example: the function of `lossreg_wrappers.examples` that returns its example batch, or `"module:function"`.
        args: constructor arguments for the example.
        package: the distribution with the lowest version that has the loss; None if it is always installed.
        target: the import path of an adapted class, if a wrapper alone is not enough.
        also_in: other modules with all losses of the library.
        also: other public names of the loss in `module`.
        tensors: constructor parameters that are tensors.
        hidden: parameters that configs cannot set.
    """
    return LossSpec(
        name,
        target or f"{module}:{name}",
        summary=summary,
        aliases=also,
        targets=(
            *(f"{home}.{name}" for home in (module, *also_in, *homes(module, name))),
            *(f"{module}.{other}" for other in also),
        ),
        wrap=wrap,
        tensors=tensors,
        masking=masking(wrap),
        hidden=hidden,
        package=package,
        example=example if ":" in example else f"lossreg_wrappers.examples:{example}",
        example_args=args or {},
        exceptions=EXCEPTIONS.get(module, {}).get(name, {}),
        url=page.format(name=name),
        **_fields(facts[name], wrap),
    )


def _fields(facts: Facts, wrap: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of the spec: the facts, and what the forms tell of prediction and target."""
    predicted, true = _keys(wrap, "pred"), _keys(wrap, "gt")
    return {
        "tasks": _listed(facts.tasks),
        "prediction": (facts.prediction or _predicted(wrap["takes"])) + predicted,
        "ground_truth": (facts.ground_truth or _in_words(wrap.get("target", "values"), _TARGETS.__getitem__)) + true,
        "words": _listed(facts.words),
        "formula": facts.formula,
        "source": facts.source,
    }


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(", ") if part)


def _keys(wrap: Mapping[str, Any], side: str) -> str:
    """Return where a loss of named inputs reads one side of the batch, or nothing."""
    inputs = wrap.get("inputs", ())
    keys = inputs if isinstance(inputs, Mapping) else {key: key for key in inputs}
    optional = {keys[name] for name in wrap.get("optional_inputs", ())}
    read = [key for key in keys.values() if key.startswith(f"{side}.")]
    needed = [f"`{key}`" for key in read if key not in optional]
    others = [f"`{key}`" for key in read if key in optional]
    if needed and others:
        return f", at {', '.join(needed)}; optionally more, at {', '.join(others)}"
    return f", at {', '.join(needed or others)}" if read else ""


def _predicted(rules: Rules) -> str:
    """Return what the predictions of some forms are; those of classes have them on axis 1."""
    forms = [Form.parse(text) for text in texts(rules)]
    by_class = {form.kind for form in forms if form.kind != "values" and form.activation != "sigmoid"}

    def words(form: str) -> str:
        kind = Form.parse(form).kind
        return f"{kind} (N, C, ...)" if kind in by_class else kind

    return _in_words(rules, words)


def _in_words(rules: Rules, words: Callable[[str], str]) -> str:
    """Return the form that rules choose by default, then the others with their options."""
    if isinstance(rules, str):
        return words(rules)
    chosen: dict[str, list[Mapping[str, Any]]] = {}
    for attributes, form in rules:
        options = {path: value for path, value in attributes.items() if value is not None}  # None is the default
        if form != "nothing":
            chosen.setdefault(words(form), []).append(options)
        if not options:
            break
    return ", or ".join(
        text + _with(options) for text, options in sorted(chosen.items(), key=lambda item: {} not in item[1])
    )


def _with(alternatives: Sequence[Mapping[str, Any]]) -> str:
    """Return the options that choose a form, as in YAML; nothing if it is the default."""
    if {} in alternatives:
        return ""
    fewest = [one for one in alternatives if not any(other.items() < one.items() for other in alternatives)]
    return " with " + " or ".join(
        " and ".join(f"`{path.rpartition('.')[2]}: {json.dumps(value)}`" for path, value in options.items())
        for options in fewest
    )
