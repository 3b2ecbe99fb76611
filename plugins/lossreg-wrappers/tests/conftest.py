"""Fixtures shared by the tests of all adapted libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossreg
from lossreg.losses.nested import mapped, tensors_in
from lossreg.registry import catalog
from lossreg.registry.components import Entry

DISTRIBUTIONS = {
    "smp": "segmentation-models-pytorch",
    "monai": "monai",
    "kornia": "kornia",
    "torchvision": "torchvision",
    "pml": "pytorch-metric-learning",
    "lightly": "lightly",
    "timm": "timm",
    "auraloss": "auraloss",
    "piq": "piq",
    "lpips": "lpips",
    "coral": "coral-pytorch",
    "geomloss": "geomloss",
    "torchmetrics": "torchmetrics",
}
PLUGINS = ("torch", *DISTRIBUTIONS)

DOWNLOADING = {f"piq/{name}" for name in ("BRISQUELoss", "ContentLoss", "DISTS", "LPIPS", "PieAPP", "StyleLoss")}
"""Losses that download weights when they are built; `test_piq_losses` builds them without."""
OF_LIBROSA = {"auraloss/MelSTFTLoss"}
"""Losses that librosa makes filters for; `test_auraloss_losses` builds them without it."""

# warnings of the libraries' own, wherever pytest is started and whichever configuration it reads
_OF_LIBRARIES = (
    # older releases of MONAI and kornia are written for older releases of torch
    "ignore:`torch.jit:DeprecationWarning",
    # MONAI's displacement losses index with lists, and torch warns about it
    "ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning:monai",
    # lightly copies tensors by `torch.tensor`
    "ignore:To copy construct from a tensor:UserWarning:lightly",
    # pytorch-metric-learning indexes with a list, and passes a tensor to scipy
    "ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning:pytorch_metric_learning",
    "ignore:__array_wrap__ must accept context:DeprecationWarning:pytorch_metric_learning",
    # lpips builds its networks by an older interface of torchvision
    "ignore:The parameter 'pretrained' is deprecated:UserWarning",
    "ignore:Arguments other than a weight enum:UserWarning",
    # torchmetrics warns that the correlation with a constant is not defined
    "ignore:The variance of predictions or target is close to zero:UserWarning",
)

# tests that take seconds for each loss; those of `torch` are enough for every run of the suite
_SLOW = ("test_conformance", "test_half_precision")

# the libraries' names for the prediction and for the target, where a loss has one of each
_PREDICTION = {"input", "inputs", "input_", "log_input", "pred", "y_pred", "img", "img1", "image", "boxes1"}
_PREDICTION |= {"preds", "prediction", "x", "x_mag", "p", "in0", "vertices_pred"}
_TARGET = {"target", "targets", "target_", "y_true", "img2", "boxes2"}
_TARGET |= {"y", "y_mag", "q", "in1", "vertices_gt"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument `entry` for every offered loss of its module's `PLUGIN`, or else of all plugins."""
    if "entry" in metafunc.fixturenames:
        plugins = (metafunc.module.PLUGIN,) if hasattr(metafunc.module, "PLUGIN") else PLUGINS
        entries = [entry for entry in catalog().losses if entry.plugin.name in plugins]
        metafunc.parametrize("entry", entries, ids=[entry.name for entry in entries])


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of libraries that are not installed; mark tests that run for each loss of a library as slow."""
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        for warning in _OF_LIBRARIES:
            item.add_marker(pytest.mark.filterwarnings(warning))
        if item.path.stem in _SLOW and any(f"[{plugin}/" in item.name for plugin in DISTRIBUTIONS):
            item.add_marker(pytest.mark.slow)
        for loss, reason in _not_built(item).items():
            item.add_marker(pytest.mark.skip(reason=f"{loss} {reason}"))
        named = getattr(item, "callspec", None)
        plugins = [getattr(getattr(item, "module", None), "PLUGIN", "")]
        plugins += [str(value).partition("/")[0] for value in named.params.values()] if named else []
        needed = [DISTRIBUTIONS.get(plugin) for plugin in plugins]
        needed += ["torchvision"] if "PerceptualLoss" in item.name else []
        for name in needed:
            if name is not None and not _installed(name):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


def _not_built(item: pytest.Item) -> dict[str, str]:
    """Return the losses of a test's parameters that cannot be built here, each with the reason."""
    callspec = getattr(item, "callspec", None)
    names = {getattr(value, "name", "") for value in (callspec.params.values() if callspec else ())}
    reasons = dict.fromkeys(names & DOWNLOADING, "downloads weights")
    if not _installed("librosa"):
        reasons |= dict.fromkeys(names & OF_LIBROSA, "needs librosa, which is not installed")
    return reasons


def _installed(distribution: str) -> bool:
    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def example() -> Callable[[Entry[Any]], tuple[dict[str, Any], dict[str, Any]]]:
    """Return the function that makes a spec's example batch."""

    def make(entry: Entry[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        module, _, function = entry.spec.example.partition(":")
        pred, gt = getattr(import_module(module), function)()
        return pred, gt

    return make


@pytest.fixture
def compare(example: Callable[..., Any]) -> Callable[..., None]:
    """Return the function that compares a loss with its library's own, values and gradients, on the example batch."""

    def check(entry: Entry[Any], public: Any, **replaced: Any) -> None:
        """Call both with the same random numbers; `replaced` has arguments that the library takes as objects."""
        spec, (pred, gt) = entry.spec, example(entry)
        pred = mapped(pred, lambda t: t.requires_grad_(t.is_floating_point()))
        torch.manual_seed(0)
        own = lossreg.create_loss(entry.name, **spec.example_args)
        value, _ = own(pred, gt)
        torch.manual_seed(0)
        made = public(**{**spec.example_args, **replaced})
        leaves = [t for t in tensors_in(pred) if t.requires_grad]
        expected = made(**_by_inputs(spec.wrap["inputs"], made, pred, gt)).squeeze()
        torch.testing.assert_close(value, expected)
        pairs = [torch.autograd.grad(each, leaves, allow_unused=True) for each in (value, expected)]
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in pairs[1])
        for ours, other in zip(*pairs, strict=True):
            torch.testing.assert_close(ours, other)

    return check


def _by_inputs(inputs: Any, made: Any, pred: dict[str, Any], gt: dict[str, Any]) -> dict[str, Any]:
    """Return what a batch has for each parameter of a loss of a library."""
    names = inputs if isinstance(inputs, Mapping) else inspect.signature(made.forward).parameters
    keys = inputs.values() if isinstance(inputs, Mapping) else inputs
    batch = {**{f"pred.{key}": v for key, v in pred.items()}, **{f"gt.{key}": v for key, v in gt.items()}}
    return {name: batch[key] for name, key in zip(names, keys, strict=False) if key in batch}


@pytest.fixture
def term() -> Callable[..., lossreg.MultiLoss]:
    """Return the function that builds a criterion of terms, as a config gives them."""

    def build(*terms: dict[str, Any]) -> lossreg.MultiLoss:
        return lossreg.build_compound_loss_from_config({"loss_list": list(terms)})

    return build


@pytest.fixture
def direct() -> Callable[..., Tensor]:
    """Return the function that calls a library's own class or function, every tensor by the library's name."""

    def call(
        public: Any, entry: Entry[Any], pred: dict[str, Tensor], gt: dict[str, Tensor], **arguments: Any
    ) -> Tensor:
        for name in entry.spec.tensors:
            if arguments.get(name) is not None:
                arguments[name] = torch.as_tensor(arguments[name], dtype=torch.float32)
        torch.manual_seed(0)  # some draw their weights or noise
        made = public(**arguments) if inspect.isclass(public) else public
        function = made.forward if isinstance(made, nn.Module) else made
        named = _by_name(function, pred, gt)
        value = made(**named) if inspect.isclass(public) else made(**named, **arguments)
        return value.mean() if isinstance(value, Tensor) else value

    return call


def _by_name(function: Any, pred: dict[str, Tensor], gt: dict[str, Tensor]) -> dict[str, Tensor]:
    parameters = set(inspect.signature(function).parameters)
    batch = {**pred, **gt}
    if set(batch) <= parameters:
        return batch
    named = dict.fromkeys(parameters & _PREDICTION, pred["seg"])
    if gt:
        named |= dict.fromkeys(parameters & _TARGET, gt["gt_polygons_image"])
    assert len(named) == len(batch), f"cannot match {sorted(parameters)} with {sorted(batch)}"
    return named
