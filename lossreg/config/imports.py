"""The one way from a text in a config to an import: a module that Python code allowed, and only its own contents."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lossreg.registry.components import Entry
from lossreg.registry.foreign import described, foreign
from lossreg.registry.plugins import Plugin
from lossreg.registry.specs import LossSpec, is_target

_log = logging.getLogger("lossreg.config")


@dataclass(frozen=True)
class Imported(Entry[LossSpec]):
    """A component that is registered nowhere, and that Hydra makes."""

    deferred: Callable[..., Any] = field(kw_only=True)

    def construct(self, arguments: Mapping[str, Any]) -> Any:
        """Call the target through Hydra."""
        with foreign(f"making {self.origin}"):
            return self.deferred(**arguments)


def imported(dotted: str, allow_import: Collection[str], path: str) -> Imported | None:
    """Import what a `_target_` names, where its module is allowed.

    `hydra.utils.instantiate` finds the target, with nothing in it to recurse into; Hydra's own list of targets that
    it never calls is a second fence.

    Args:
        dotted: the target, `package.module.attribute`.
        allow_import: modules by their exact paths. One that is listed allows the classes and functions that it
            defines itself: not those of its parent or its submodules, not what it has imported, and no attribute of
            an attribute.
        path: where the target stands, for the log.

    Returns:
        the component; None where no module allows it.

    Raises:
        ImportError: it cannot be imported, Hydra refuses it, or it is not the module's own class or function.
    """
    module, _, attribute = dotted.rpartition(".")
    if module not in allow_import or not is_target(f"{module}:{attribute}"):
        return None
    from hydra.utils import instantiate

    _log.info("importing %s for %s, by allow_import", dotted, path)
    try:
        deferred = instantiate({"_target_": dotted, "_partial_": True, "_recursive_": False, "_convert_": "all"})
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module that is imported may raise anything
        words = " ".join(described(error.__cause__ or error).split())
        raise ImportError(f"{dotted} cannot be imported: {words}") from error
    target = deferred.func
    found = getattr(sys.modules.get(module), attribute, None)
    own = (inspect.isclass(target) or inspect.isfunction(target)) and target.__module__ == module
    if found is not target or not own:
        raise ImportError(f"{dotted} is no class or function of {module}'s own; allow_import reaches no further")
    return Imported(LossSpec(attribute, f"{module}:{attribute}"), Plugin(module), local=target, deferred=deferred)
