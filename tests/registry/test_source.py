"""Signatures read from source files agree with those of the imported objects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection

import pytest

from lossreg.registry import catalog
from lossreg.registry.params import parameters_of
from lossreg.registry.signature import Signature, signature_of
from lossreg.registry.source import Opaque, Sources, UnreadableError
from lossreg.registry.specs import Spec


def described(spec: Spec, signature: Signature, unknown: Collection[str] = ()) -> list[object]:
    """Return all that is known of a component; the defaults of some parameters left out."""
    return [
        signature.open_ended,
        signature.is_loss,
        *(
            (
                p.name,
                p.required,
                None if p.name in unknown else repr(p.default),
                p.settable,
                p.annotation if p.settable else "",
                p.doc,
            )
            for p in parameters_of(spec, signature)
        ),
    ]


@pytest.mark.needs_plugins
def test_what_the_source_says_of_every_installed_component_is_what_the_object_says() -> None:
    read = 0
    sources = Sources()
    for section in catalog().sections:
        for entry in section:
            try:
                signature = sources.signature(entry.spec.target)
                # a default that is no literal is known by its text alone
                texts = [a.name for a in signature.arguments if isinstance(a.default, Opaque)]
                found = described(entry.spec, signature, texts)
            except UnreadableError:
                continue
            read += 1
            assert found == described(entry.spec, signature_of(entry.load()), texts), entry.name
    assert read >= 40


READ = """
import json, sys
from lossreg.registry import catalog
from lossreg.registry.source import Sources
sources, found = Sources(), catalog()
told = {entry.name: sources.of(entry) is not None for section in found.sections for entry in section}
print(json.dumps([told, "torch" in sys.modules]))
"""


def test_weightings_are_read_without_torch_and_what_no_source_tells_is_none() -> None:
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True)
    told, torch = json.loads(done.stdout)
    assert not torch
    assert {name for name, known in told.items() if name.startswith("core/") and known} >= {"core/DWA", "core/CoV"}
    assert not told["core/Cosine"], "a dataclass makes its constructor itself"
