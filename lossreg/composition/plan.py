"""The plan of a `MultiLoss`: what runs in which order, as data that JSON can hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lossreg.composition.dependencies import Node
from lossreg.composition.schedules import as_data
from lossreg.losses.base import Loss

if TYPE_CHECKING:
    from lossreg.composition.multiloss import Term


def plan_of(nodes: Iterable[Node], terms: Iterable[Term]) -> list[dict[str, Any]]:
    """Return the items of a plan; see `MultiLoss.plan`."""
    return [*map(_planned_node, nodes), *map(_planned_term, terms)]


def _planned_node(node: Node) -> dict[str, Any]:
    return {
        "kind": "preprocess",
        "name": node.name,
        "requires": list(node.requires),
        "optional": [],
        "provides": list(node.provides),
        "automatic": node.automatic,
    }


def _planned_term(term: Term) -> dict[str, Any]:
    keys = {"requires": list(term.loss.requires), "optional": list(term.loss.optional)}
    item = {"name": term.name, **keys, "weight": as_data(term.schedule)}
    if not isinstance(term.loss, Loss):
        return {"kind": "group", **item, "plan": term.loss.plan()}
    loss = term.loss.registered_name or type(term.loss).__name__
    return {"kind": "term", **item, "loss": loss, "normalize": term.normalize}
