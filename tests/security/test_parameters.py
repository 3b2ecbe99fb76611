"""No parameter of a registered component takes a callable, a module or a path from a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from lossreg.registry import catalog, params
from lossreg.registry.components import Entry
from lossreg.registry.params import Parameter
from lossreg.values import Choice, Type

PLAIN = ("bool", "int", "float", "str", "None")
ANY = ""
TEXTS = {
    "* name": "the term's name",
    "* reduction": "compared with mean, sum and none",
    "core/Uncertainty classification": "names of terms",
    "core/Balancer output": "a key of the prediction",
    "core/LRAnnealing residual": "the name of a term",
    "crossfield/SegGrads mask": "a key of the batch, or a list of keys",
    "seg/SegLoss gt_channel_selector": "names of channels, and what they stand for",
    "kornia/DiceLoss average": "compared with micro and macro",
    "kornia/SSIM*Loss padding": "compared with same and valid",
    "coral/CornLoss num_classes": "a number",
    "pml/* *": "numbers and switches; names of parts are looked up among the library's classes",
    "monai/AUCMLoss version": "compared with v1 and v2",
    "monai/*Loss loss": "the name of a registered loss",
    "monai/*Loss loss_args": "arguments of a registered loss, checked as such",
    "monai/*Loss weight_mode": "compared with same, exp and two",
    "monai/*Loss w_type": "compared with square, simple and uniform",
    "monai/*Loss weighting_mode": "compared with default and GDL",
    "monai/*Loss kernel_type": "compared with the kernels there are",
    "monai/*Loss kernel": "compared with gaussian and cauchy",
    "monai/*Loss kernel_ops": "compared with mean and gaussian",
    "monai/*Loss distance_type": "compared with l1 and l2",
    "monai/JukeboxLoss fft_norm": "compared with forward, backward and ortho",
    "monai/PatchAdversarialLoss criterion": "compared with bce, hinge and least_squares",
    "smp/*Loss mode": "compared with binary, multiclass and multilabel",
}
"""Parameters that take any text or any data, each read in its library: none becomes a path or a name to import."""


def _settable() -> Iterator[tuple[Entry[Any], Parameter]]:
    for section in catalog().sections:
        for entry in section:
            tensors = getattr(entry.spec, "tensors", ())
            for parameter in params.parameters(entry.load(), hidden=entry.spec.hidden, tensors=tensors):
                if parameter.settable:
                    yield entry, parameter


def _leaves(kind: Type) -> set[str]:
    """Return the types at the ends of a type, in Python's notation; nothing of a closed table of choices."""
    if isinstance(kind, Choice):
        return set()
    return set().union(*map(_leaves, kind.parts)) if kind.parts else {kind.notation}


def test_every_parameter_that_a_file_may_set_is_plain_data() -> None:
    strange = [
        f"{entry.name} {parameter.name}: {kind}"
        for entry, parameter in _settable()
        for kind in _leaves(parameter.type)
        if kind not in (*PLAIN, ANY)
    ]
    assert strange == []


def test_every_parameter_that_takes_any_text_has_been_read() -> None:
    unread = [
        name
        for entry, parameter in _settable()
        if _leaves(parameter.type) & {"str", ANY}
        and not any(fnmatchcase(name := f"{entry.name} {parameter.name}", pattern) for pattern in TEXTS)
    ]
    assert unread == []


@pytest.mark.parametrize(
    "word", ["path", "file", "dir", "url", "module", "callable", "hook", "func", "repo", "weights_of"]
)
def test_none_is_named_like_what_a_file_may_not_give(word: str) -> None:
    named = [f"{entry.name} {parameter.name}" for entry, parameter in _settable() if word in parameter.name.split("_")]
    assert named == []


TRY = """
import json, sys
from lossreg import ConfigError, get_loss_function
from lossreg.registry import catalog

seen, listening = [], False
quiet = ("sys.", "object.", "builtins.id", "compile", "exec")  # annotations are texts, which are evaluated

def hook(event, arguments):
    if listening and not event.startswith(quiet):
        seen.append((event, repr(arguments[:1])))

sys.addaudithook(hook)
texts = json.loads(sys.argv[2])
tried = 0
for name, key in json.loads(sys.argv[1]):
    entry = catalog().losses.find(name)
    entry.load()  # otherwise its source is read at each try, for its parameters
    given = dict(entry.spec.example_args)
    for position, text in enumerate(["mean", "x", *texts]):
        listening = position >= 2  # the first two are for what is imported at first use
        try:
            get_loss_function({"loss": {"loss": name, "args": {**given, key: text}}})
        except ConfigError:
            pass
        tried += 1
    listening = False
json.dump({"tried": tried, "seen": seen}, sys.stdout)
"""


@pytest.mark.needs_plugins
def test_a_text_is_never_opened_imported_or_run(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    texts = [
        "os.system",
        "torch.hub",
        "weights.pth",
        "./weights.pth",
        "/etc/passwd",
        "https://localhost/x",
        "a/b",
        "!x",
    ]
    found = [
        (entry.name, parameter.name)
        for entry, parameter in _settable()
        if entry.spec.kind == "loss" and _leaves(parameter.type) & {"str", ANY} and parameter.name != "name"
    ]
    done = subprocess.run(
        [sys.executable, "-c", TRY, json.dumps(found), json.dumps(texts)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tried"] == len(found) * (len(texts) + 2) > 0
    assert result["seen"] == []
