"""From a registered name to a `Loss` object."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from lossreg.errors import PluginError, PluginWarning
from lossreg.losses.base import Loss
from lossreg.losses.description import describe
from lossreg.losses.wrapper import LossWrapper
from lossreg.registry import catalog
from lossreg.registry.components import Entry
from lossreg.registry.foreign import described, foreign
from lossreg.registry.specs import LossSpec


def create_loss(loss: str, /, **kwargs: Any) -> Loss:
    """Create a registered loss by name, as `find_loss` finds it.

    Args:
        loss: canonical name, bare name or alias (`"seg/SegLoss"`, `"SegLoss"`, `"seg"`).
        **kwargs: arguments of its constructor; `name`, the term's name, defaults to what `loss` says.

    Returns:
        the loss; a target that is no `Loss` comes in a `LossWrapper` with the options of its spec.

    Raises:
        UnknownNameError, AmbiguousNameError: the name means no loss, or several.
        PluginError: the plugin's target cannot be imported, or is no loss.
    """
    name = kwargs.pop("name", loss.rpartition("/")[2])
    return adopt(catalog().losses.find(loss), name, kwargs)


def instantiate(entry: Entry[LossSpec], arguments: Mapping[str, Any], name: str | None = None) -> Any:
    """Return the component itself, unwrapped: the target called with its arguments, a function bound to them.

    Args:
        entry: the registered loss.
        arguments: constructor arguments; lists given for the spec's `tensors` become float tensors.
        name: passed on as `name` where the target is a `Loss`.
    """
    target = entry.load()
    given = {key: _tensor(value) if key in entry.spec.tensors else value for key, value in arguments.items()}
    if inspect.isclass(target):
        if name is not None and issubclass(target, Loss):
            given["name"] = name
        return entry.construct(given)
    return functools.partial(target, **given) if given and callable(target) else target


def adopt(
    entry: Entry[LossSpec], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> Loss:
    """Create a loss and, where it is no `Loss`, have it wrapped: by a plugin's `lossreg_wrap` or `LossWrapper`.

    Args:
        entry: the registered loss.
        name: the term's name.
        arguments: constructor arguments.
        options: `LossWrapper` options that overlay those of the spec.

    Raises:
        PluginError: the target cannot be imported, or is no loss.
        ValueError: `options` has an `input` that nobody converts.
    """
    adopted = _adopted(entry, name, arguments, options)
    adopted.registered_name = entry.name
    if arguments:
        adopted.registered_arguments = describe(arguments)
    return adopted


def _adopted(
    entry: Entry[LossSpec], name: str, arguments: Mapping[str, Any], options: Mapping[str, Any] | None
) -> Loss:
    made = instantiate(entry, arguments, name)
    if isinstance(made, Loss):
        _refuse_input(entry, options or {})
        return LossWrapper(made, name, **options) if options else made
    if not callable(made):
        raise PluginError(
            f"loss {entry.name!r} of {entry.plugin.origin}: its target {entry.spec.target!r} is no loss: "
            f"{type(made).__name__} cannot be called"
        )
    merged = {**entry.spec.wrap, **(options or {})}
    wrapped = _wrapped_by_plugin(entry, made, name, merged)
    if wrapped is not None:
        return wrapped
    _refuse_input(entry, merged)
    return LossWrapper(made, name, **merged)


def _wrapped_by_plugin(entry: Entry[LossSpec], made: Any, name: str, options: Mapping[str, Any]) -> Loss | None:
    """Ask one plugin after the other; what one of another distribution does wrong is warned of and passed over."""
    manager = catalog().manager
    for implementation in reversed(manager.hook.lossreg_wrap.get_hookimpls()):
        identity = implementation.plugin_name
        others = [plugin for plugin in manager.get_plugins() if plugin is not implementation.plugin]
        try:
            with foreign(f"wrapping {entry.origin} by {identity}"):
                wrapped = manager.subset_hook_caller("lossreg_wrap", others)(loss=made, name=name, options=options)
            if wrapped is not None and not isinstance(wrapped, Loss):
                found = type(wrapped).__name__
                raise PluginError(f"lossreg_wrap of {identity} turned {entry.name!r} into {found}, not a Loss")
        except Exception as error:
            if identity.partition(":")[0] == entry.plugin.distribution:
                raise
            reason = described(error)
            warnings.warn(
                f"lossreg_wrap of {identity} is passed over for {entry.name!r}: {reason}", PluginWarning, stacklevel=4
            )
            continue
        if wrapped is not None:
            return wrapped
    return None


def _refuse_input(entry: Entry[LossSpec], options: Mapping[str, Any]) -> None:
    """Refuse `input: logits` for a loss of which nobody knows what it takes: it would be ignored in silence."""
    if "input" in options:
        raise ValueError(
            f"{entry.name} does not say whether it takes logits or probabilities, so that `input` has no meaning "
            "for it; leave it out"
        )


def _tensor(value: Any) -> Any:
    import torch

    return value if value is None or isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float32)
