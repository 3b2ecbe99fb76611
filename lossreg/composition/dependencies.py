"""The order of preprocess nodes: put in where a term needs them, sorted by what they require and provide."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from lossreg.arguments import Arguments
from lossreg.composition.preprocess import Preprocess
from lossreg.errors import GraphError
from lossreg.registry import catalog


class Reader(Protocol):
    """Anything that reads keys of a batch under a name: a loss, or a group of them."""

    name: str

    @property
    def requires(self) -> Sequence[str]:
        """The keys that must be there."""

    @property
    def optional(self) -> Sequence[str]:
        """The keys that are used where they are there."""


@dataclass(frozen=True, eq=False)
class Node:
    """A preprocess in a graph.

    Attributes:
        function: a `Preprocess`, or any `f(pred_batch, gt_batch) -> (pred_batch, gt_batch)`.
        automatic: whether it was put in because a term needs it.
    """

    function: Callable[[Any, Any], tuple[Any, Any]]
    automatic: bool = False
    name: str = field(default="", compare=False)

    @property
    def opaque(self) -> bool:
        """Whether it does not say what it reads and makes, so that it runs at every forward."""
        return not isinstance(self.function, Preprocess)

    @property
    def requires(self) -> Sequence[str]:
        """The keys that it reads."""
        return self.function.requires if isinstance(self.function, Preprocess) else ()

    @property
    def provides(self) -> Sequence[str]:
        """The keys that it makes."""
        return self.function.provides if isinstance(self.function, Preprocess) else ()


def check_functions(given: Arguments, functions: Any) -> list[Callable[[Any, Any], tuple[Any, Any]]]:
    """Take the preprocesses that the user listed: each callable with two batches, with keys that have a side."""
    expected = "a Preprocess or a function f(pred_batch, gt_batch)"
    hint = "give a list: [f]" if callable(functions) else ""
    found = given.items("pre_processes", functions, f"a list, each {expected}", hint)
    for i, function in enumerate(found):
        path = f"pre_processes[{i}]"
        if isinstance(function, type) or not callable(function):
            given.wrong(path, expected, function)
        elif isinstance(function, Preprocess):
            given.keys(f"{path}.requires", function.requires)
            given.keys(f"{path}.provides", function.provides)
        elif not _takes_two(function):
            given.wrong(path, expected, function, f"it takes {inspect.signature(function)}")
    return found


def _takes_two(function: Callable[..., Any]) -> bool:
    """Say whether a function can be called with two batches, as far as its signature tells."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        pass
    return True


def build_nodes(
    functions: Iterable[Callable[[Any, Any], tuple[Any, Any]]],
    readers: Sequence[Reader],
    batch_keys: Collection[str] = (),
) -> list[Node]:
    """Return the nodes that terms need, in an order that meets their requirements.

    Args:
        functions: the preprocesses that the user listed.
        readers: the terms.
        batch_keys: keys that every batch brings, for which no node is put in.

    Raises:
        GraphError: a cycle, with its chain; or two nodes for one key.
    """
    listed = [Node(function, name=_name_of(function)) for function in functions]
    given = frozenset(batch_keys)
    makers = _makers(listed)
    early = _put_in([(f"preprocess {n.name!r}", k) for n in listed for k in n.requires], makers, given)
    late = _put_in([(f"term {r.name!r}", k) for r in readers for k in r.requires], makers, given)
    return _sorted(early, listed, late, makers)


def _makers(nodes: Iterable[Node]) -> dict[str, Node]:
    makers: dict[str, Node] = {}
    for node in nodes:
        for key in node.provides:
            other = makers.setdefault(key, node)
            if other is not node:
                raise GraphError(
                    f"pre_processes: {other.name!r} and {node.name!r} both provide {key!r}; keep one of them"
                )
    return makers


def _put_in(needs: Iterable[tuple[str, str]], makers: dict[str, Node], given: frozenset[str]) -> list[Node]:
    """Create the registered preprocesses that make the needed keys, and those that they need in turn."""
    made: list[Node] = []
    queue = list(needs)
    while queue:
        who, key = queue.pop(0)
        if key in makers or key in given:
            continue
        offers = catalog().providers(key)
        if len(offers) > 1:
            names = " and ".join(entry.name for entry in offers)
            raise GraphError(f"{who} needs {key!r}, which {names} provide; list one of them under pre_processes")
        if not offers:
            continue
        node = Node(offers[0].construct({}), automatic=True, name=offers[0].spec.name)
        made.append(node)
        makers.update({provided: node for provided in node.provides if provided not in makers})
        queue += [(f"preprocess {node.name!r}", required) for required in node.requires]
    return made


def _sorted(early: list[Node], listed: list[Node], late: list[Node], makers: Mapping[str, Node]) -> list[Node]:
    """Sort by dependencies; a function that declares none keeps its place among the listed ones."""
    before: dict[Node, set[Node]] = {node: set() for node in (*early, *listed, *late)}
    for node, needed in before.items():
        needed.update(makers[key] for key in node.requires if key in makers)
    for position, node in enumerate(listed):
        if node.opaque:
            before[node].update(listed[:position])
            for follower in (*listed[position + 1 :], *late):
                before[follower].add(node)
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        chain = " -> ".join(node.name for node in reversed(error.args[1]))
        raise GraphError(f"pre_processes form a cycle: {chain} (each needs what the next provides)") from None


def check_sources(nodes: Sequence[Node], readers: Iterable[Reader], batch_keys: Collection[str]) -> None:
    """Follow every required key to the batch.

    Raises:
        GraphError: a key that neither the batch nor a node provides, with the chain that leads to it.
    """
    if any(node.opaque for node in nodes):
        return  # a function that declares nothing may make any key
    makers = _makers(nodes)
    for reader in readers:
        chains = [(key, f"term {reader.name!r} needs {key!r}") for key in reader.requires]
        while chains:
            key, chain = chains.pop()
            if key in batch_keys:
                continue
            if key not in makers:
                raise GraphError(
                    f"{chain}, which neither the batch nor a preprocess provides; batch keys: {sorted(batch_keys)}"
                )
            node = makers[key]
            chains += [(k, f"{chain}, made by preprocess {node.name!r}, which needs {k!r}") for k in node.requires]


def needed_nodes(nodes: Sequence[Node], readers: Iterable[Reader], present: Collection[str]) -> list[Node]:
    """Return the nodes to run for these terms and a batch with these keys, in order.

    A term that declares nothing may read anything: then every listed node runs. A key that the batch
    brings is not computed again.
    """
    wanted: set[str] = set()
    anything = False
    for reader in readers:
        wanted.update((*reader.requires, *reader.optional))
        anything = anything or not (reader.requires or reader.optional)
    run: list[Node] = []
    for node in reversed(nodes):
        missing = [key for key in node.provides if key not in present]
        if node.opaque:
            anything = True
        elif not missing or not ((anything and not node.automatic) or any(key in wanted for key in missing)):
            continue
        run.append(node)
        wanted.update(node.requires)
    run.reverse()
    return run


def reachable(keys: Iterable[str], nodes: Iterable[Node], present: Collection[str]) -> bool:
    """Say whether a batch with the keys `present` has all `keys`, or nodes can make them from it."""
    known = set(present)
    for node in nodes:  # in order, so that one pass is enough
        if all(key in known for key in node.requires):  # the compiler of torch 2.6 has no `issuperset`
            known.update(node.provides)
    return all(key in known for key in keys)


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
