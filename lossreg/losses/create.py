"""Create losses by their registered names."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

from lossreg.arguments import Arguments
from lossreg.errors import ArgumentError, PluginError, PluginWarning, UnknownNameError, warn
from lossreg.keys import FROM_DICT
from lossreg.losses.base import Loss
from lossreg.losses.description import describe
from lossreg.losses.wrapper import LossWrapper, refuse_beside_inputs
from lossreg.registry import catalog
from lossreg.registry.components import Entry
from lossreg.registry.foreign import described, foreign
from lossreg.registry.signature import signature_of
from lossreg.registry.specs import LossSpec
from lossreg.values import did_you_mean

_OPTIONS = {p.name for p in inspect.signature(LossWrapper).parameters.values() if p.kind is p.KEYWORD_ONLY}
"""The options of a `LossWrapper`."""


def create_loss(loss: str, /, **kwargs: Any) -> Loss:
    """Create a loss by its registered name.

    Args:
        loss: canonical name, bare name, alias or dotted path (`"seg/SegLoss"`, `"SegLoss"`, `"seg"`,
            `"torch.nn.L1Loss"`); a dotted path is looked up among the registered components and never imported.
        **kwargs: arguments of the constructor; `name`, the name of the term, defaults to the last part of `loss`.
            `reduction="none"` leaves the values of elements as they are, `"per_sample"` averages first in each sample;
            see `LossWrapper`.

    Returns:
        the loss; a target that is not a `Loss` is wrapped in a `LossWrapper` with the options of its spec.

    Raises:
        UnknownNameError, AmbiguousNameError: no loss has the name, or several have it.
        PluginError: the target cannot be imported, or is not a loss.
    """
    if loss == FROM_DICT:
        raise UnknownNameError(f"{FROM_DICT!r} is a group of terms, no loss", "make it with lossreg.FromDict(...)")
    entry = catalog().losses.find(loss)
    name = kwargs.pop("name", entry.term_name(loss))
    options = {"reduction": kwargs.pop("reduction")} if kwargs.get("reduction") in ("none", "per_sample") else {}
    return adopt(entry, name, kwargs, options)


def instantiate(entry: Entry[LossSpec], arguments: Mapping[str, Any], name: str | None = None) -> Any:
    """Return the unwrapped component: an instance of the class, or the function with its arguments bound.

    Args:
        entry: the registered loss.
        arguments: constructor arguments; lists for the spec's `tensors` become float tensors.
        name: passed as `name` if the target is a `Loss`.

    Raises:
        PluginError: the target cannot be imported, or is a `Loss` whose constructor takes no `name`.
    """
    target = entry.load()
    kwargs = {key: _tensor(value) if key in entry.spec.tensors else value for key, value in arguments.items()}
    if inspect.isclass(target):
        if name is not None and issubclass(target, Loss):
            signature = signature_of(target)
            if not signature.open_ended and "name" not in [argument.name for argument in signature.arguments]:
                method = f"{target.__name__}.__init__"
                raise PluginError(f"{entry.origin}: {method} must take `name` and pass it to super().__init__(name)")
            kwargs["name"] = name
        return entry.construct(kwargs)
    return functools.partial(target, **kwargs) if kwargs and callable(target) else target


def adopt(
    entry: Entry[LossSpec], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> Loss:
    """Create a loss; a target that is not a `Loss` is wrapped by a plugin's `lossreg_wrap` or by `LossWrapper`.

    Args:
        entry: the registered loss.
        name: the name of the term.
        arguments: constructor arguments.
        options: `LossWrapper` options that override those of the spec; also `mask`, `sample_weight` and `approximate`,
            which any `Loss` has.

    Raises:
        PluginError: the target cannot be imported, or is not a loss.
        ValueError: `options` has `input`, and no conversion exists.
        ArgumentError: the loss takes no mask, or options contradict one another or an argument.
    """
    options = dict(options or {})
    of_loss = {key: options.pop(key, None) for key in ("mask", "sample_weight", "approximate")}
    adopted = _adopted(entry, name, arguments, options)
    adopted.take_mask(of_loss["mask"], of_loss["sample_weight"])
    adopted.approximate = bool(of_loss["approximate"])
    adopted.registered_name = entry.name
    if arguments:
        adopted.registered_arguments = describe(arguments)
    return adopted


def _adopted(
    entry: Entry[LossSpec], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any] | None
) -> Loss:
    component = instantiate(entry, arguments, name)
    if isinstance(component, Loss):
        _refuse_input(entry, options or {})
        return LossWrapper(component, name, **options) if options else component
    if not callable(component):
        raise PluginError(
            f"loss {entry.name!r} of {entry.plugin.origin}: target {entry.spec.target!r}: expected a loss, found "
            f"{type(component).__name__}, which cannot be called"
        )
    _check_options(arguments, options or {})
    merged = _merged(entry.spec.wrap, options or {})
    wrapped = _wrapped_by_plugin(entry, component, name, merged)
    if wrapped is not None:
        return wrapped
    _refuse_input(entry, merged)
    declared = set(entry.spec.wrap) - set(options or {})
    for key in sorted(declared - _OPTIONS):
        hint = did_you_mean(key, sorted(_OPTIONS)) or f"expected {', '.join(sorted(_OPTIONS))}"
        raise PluginError(f"{entry.origin}: the spec's `wrap`: no such option {key!r}; {hint}")
    try:
        return LossWrapper(component, name, **merged)
    except ArgumentError as error:
        if {re.split(r"[.\[]", problem.path)[0] for problem in error.problems} <= declared:
            raise PluginError(f"{entry.origin}: the spec's `wrap`: {error}") from error
        raise


def _check_options(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise for options that contradict one another, or an argument of the loss.

    A plugin that wraps the loss gets the options together with those of the spec, and cannot tell them apart.

    Raises:
        ArgumentError: `pred_key` or `gt_key` stands beside `inputs`, or a mean and a sum are both asked for.
    """
    checks = Arguments("LossWrapper")
    if options.get("inputs") is not None:
        refuse_beside_inputs(checks, {option: options.get(option) for option in ("pred_key", "gt_key")})
    own, asked = arguments.get("reduction"), options.get("reduction")
    if {own, asked} == {"mean", "sum"}:
        problem = f"is given twice: {asked!r} here, and {own!r} as an argument of the loss"
        checks.report("reduction", problem, "leave out one of them", "conflict")
    checks.done()


def _merged(declared: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a spec, replaced by those given; of a mapping `inputs` the keys that are given."""
    merged = {**declared, **options}
    named = declared.get("inputs"), options.get("inputs")
    if all(isinstance(inputs, Mapping) for inputs in named):
        merged["inputs"] = {**declared["inputs"], **options["inputs"]}
    elif options.get("inputs") is not None:
        merged["optional_inputs"] = options.get("optional_inputs")
    return merged


def _wrapped_by_plugin(entry: Entry[LossSpec], component: Any, name: str, options: Mapping[str, Any]) -> Loss | None:
    """Return the first result of `lossreg_wrap`; an error in a hook of another distribution is a warning."""
    manager = catalog().manager
    for implementation in reversed(manager.hook.lossreg_wrap.get_hookimpls()):
        identity = implementation.plugin_name
        others = [plugin for plugin in manager.get_plugins() if plugin is not implementation.plugin]
        try:
            with foreign(f"wrapping {entry.origin} by {identity}"):
                hook = manager.subset_hook_caller("lossreg_wrap", others)
                wrapped = hook(loss=component, name=name, options=copy.deepcopy(options))  # it may change its own
            if wrapped is not None and not isinstance(wrapped, Loss):
                raise PluginError(
                    f"lossreg_wrap of {identity} for {entry.name!r}: expected a Loss, found {type(wrapped).__name__}"
                )
        except Exception as error:
            if identity.partition(":")[0] == entry.plugin.distribution:
                raise
            reason = described(error)
            warn(f"lossreg_wrap of {identity} is skipped for {entry.name!r}: {reason}", PluginWarning)
            continue
        if wrapped is not None:
            return wrapped
    return None


def _refuse_input(entry: Entry[LossSpec], options: Mapping[str, Any]) -> None:
    """Raise for `input: logits` if it is not known whether the loss takes logits; it would be silently ignored."""
    if "input" in options:
        raise ValueError(
            f"{entry.name} does not declare whether it takes logits or probabilities, so `input` has no effect; "
            "leave it out"
        )


def _tensor(value: Any) -> Any:
    import torch

    return value if value is None or isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float32)
