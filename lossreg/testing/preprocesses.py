"""Checks of a preprocess."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lossreg.composition.preprocess import Preprocess
from lossreg.losses.nested import mapped
from lossreg.testing.contract import applies, check, require
from lossreg.testing.part import Part, from_yaml
from lossreg.testing.subject import tensors


def _batch(part: Part) -> tuple[Any, Any]:
    assert part.example is not None
    return part.example()


def _computed(part: Part, preprocess: Any = None, batch: tuple[Any, Any] | None = None) -> dict[str, Any]:
    """Return what a preprocess computes of a batch, by key with its side."""
    pred, gt = _batch(part) if batch is None else batch
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        found = (part.make() if preprocess is None else preprocess).compute(pred, gt)
    return dict(found)


@check(kinds=("preprocess",))
def check_builds(part: Part) -> None:
    """The preprocess can be built from its defaults, or from `example_args`, and is a `lossreg.Preprocess`.

    Give every parameter a default, or set valid `example_args` in the spec.
    """
    made = part.make()
    require(isinstance(made, Preprocess), f"expected a lossreg.Preprocess, found a {type(made).__name__}")


@check("builds", kinds=("preprocess",))
def check_has_example(part: Part) -> None:
    """The spec has an example batch with all keys that the preprocess requires.

    Set `example` to a function that returns `(pred_batch, gt_batch)`.
    """
    require(part.example is not None, "expected an example in the spec, found none")
    sides = dict(zip(("pred", "gt"), _batch(part), strict=True))
    for key in part.make().requires:
        side, _, name = key.partition(".")
        require(name in sides[side], f"the example: expected the key {key!r}, found {sorted(sides[side])} in {side}")


@check("has_example", kinds=("preprocess",))
def check_keys_match(part: Part) -> None:
    """The keys in the spec are those of the class: it provides the same ones, and requires some of them.

    Write the same keys in the spec as in the class. The class may require fewer, by its arguments.
    """
    made, spec = part.make(), part.spec
    provided = tuple(getattr(spec, "provides", ()))
    require(
        set(made.provides) == set(provided), f"provides: expected {sorted(provided)}, found {sorted(made.provides)}"
    )
    more = sorted(set(made.requires) - set(getattr(spec, "requires", ())))
    require(not more, f"requires: the spec lacks {more}")


@check("has_example", kinds=("preprocess",))
def check_provides(part: Part) -> None:
    """It computes a tensor for each key that it provides, and for no other key.

    Return `{"gt.<key>": tensor, ...}` with the keys of `provides`.
    """
    found, expected = _computed(part), set(part.make().provides)
    require(set(found) == expected, f"expected the keys {sorted(expected)}, found {sorted(found)}")
    others = {key: type(value).__name__ for key, value in found.items() if not isinstance(value, Tensor)}
    require(not others, f"expected tensors, found {others}")


@check("provides", kinds=("preprocess",))
def check_declared_keys(part: Part) -> None:
    """It reads only the keys that it requires.

    Add the key to `requires`, so that lossreg knows in which order preprocesses run.
    """
    required = set(part.make().requires)
    sides = dict(zip(("pred", "gt"), _batch(part), strict=True))
    pred, gt = (
        {key: value for key, value in batch.items() if f"{side}.{key}" in required} for side, batch in sides.items()
    )
    _same(_computed(part, batch=(pred, gt)), _computed(part), f"with only {sorted(required)}")


@check("provides", kinds=("preprocess",))
def check_batch_untouched(part: Part) -> None:
    """It does not change the keys or the values of the batches.

    Work on copies: use no in-place operation on a tensor of the batch, and add no key.
    """
    batch, expected = _batch(part), _batch(part)
    _computed(part, batch=batch)
    for found, before in zip(batch, expected, strict=True):
        require(set(found) == set(before), f"keys: expected {sorted(before)}, found {sorted(found)}")
        changed = [key for key, value in found.items() if isinstance(value, Tensor) and not _equal(value, before[key])]
        require(not changed, f"it changed the values of {changed}")


@check("provides", kinds=("preprocess",))
def check_deterministic(part: Part) -> None:
    """What it computes of a batch is the same at every call.

    Keep no state between calls, and draw no random numbers.
    """
    preprocess = part.make()
    first = dict(preprocess.compute(*_batch(part)))
    _same(dict(preprocess.compute(*_batch(part))), first, "at the second call")


@check("provides", kinds=("preprocess",))
def check_per_sample(part: Part) -> None:
    """If the spec declares it, what it computes of a sample depends on that sample alone.

    Use no statistics of the whole batch, or remove `per_sample` from the spec's `capabilities`.
    """
    applies(part.declares("per_sample"), "its spec does not declare the capability `per_sample`")
    samples = min(len(t) if t.dim() else 0 for t in tensors(*_batch(part)))
    applies(samples > 1, "its example has one sample")
    whole = _computed(part)
    for i in range(samples):
        one = tuple(mapped(side, lambda t, i=i: t[i : i + 1]) for side in _batch(part))  # type: ignore[misc]
        rows = {key: value[i : i + 1] for key, value in whole.items()}
        _same(_computed(part, batch=(one[0], one[1])), rows, f"for sample {i} alone")


@check("provides", kinds=("preprocess",))
def check_no_host_read(part: Part) -> None:
    """It reads no value back to the host, and no shape depends on a value.

    Replace `item`, `float(tensor)`, `if tensor:` and `tensor[mask]` with `torch.where`, products and `clamp`. Checks of
    values belong behind `lossreg.losses.base.can_look`.
    """
    preprocess, batch = part.make(), _batch(part)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # a fake tensor has no value to read
        pred, gt = (mapped(side, mode.from_tensor) for side in batch)
        preprocess.compute(pred, gt)


@check("provides", kinds=("preprocess",))
def check_pickles(part: Part) -> None:
    """The preprocess can be pickled, and the copy computes the same.

    Store no lambdas, local functions or open files.
    """
    _copies(part, lambda preprocess: pickle.loads(pickle.dumps(preprocess)), "after pickling")


@check("provides", kinds=("preprocess",))
def check_deepcopies(part: Part) -> None:
    """`copy.deepcopy` works, and the copy computes the same.

    Store no tensor with a graph on the object.
    """
    _copies(part, copy.deepcopy, "after copy.deepcopy")


@check("provides", kinds=("preprocess",))
def check_builds_from_yaml(part: Part) -> None:
    """The preprocess can be named in YAML, and computes the same.

    Use numbers, strings, lists and mappings as constructor parameters.
    """
    applies(part.registered, "it is not registered")
    criterion = from_yaml(pre_processes=[{"preprocess": part.name, **part.spec.example_args}])
    _same(_computed(part, criterion.pre_processes[0]), _computed(part), "from YAML")


def _copies(part: Part, copied: Callable[[Any], Any], how: str) -> None:
    preprocess = part.make()
    expected = _computed(part, preprocess)
    _same(_computed(part, copied(preprocess)), expected, how)


def _same(found: Mapping[str, Any], expected: Mapping[str, Any], how: str) -> None:
    different = [key for key, value in expected.items() if key not in found or not _equal(found[key], value)]
    require(not different, f"{how}: expected the same values, found others in {different}")


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first.double(), second.double(), equal_nan=True)
