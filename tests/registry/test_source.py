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
    assert [name for name, known in told.items() if name.startswith("core/") and not known] == []


def test_the_constructor_of_a_dataclass_is_that_of_the_object() -> None:
    sources, schedules = Sources(), list(catalog().schedules)
    assert len(schedules) > 10
    for entry in schedules:
        read, made = sources.signature(entry.spec.target), signature_of(entry.load())
        told, known = ([(a.name, a.default) for a in s.arguments] for s in (read, made))
        assert told == known
        hints = zip(read.arguments, made.arguments, strict=True)
        assert all(a.hint() == b.hint() for a, b in hints if a.name != "schedules")  # of a class of its own
        assert read.doc() == made.doc()


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("@dataclass\nclass X:\n    a: int\n    b: float = field(default=1.0)", ["a", "b"]),
        ("@dataclass\nclass X:\n    a: int = field(kw_only=True)\n    b: float = 1.0", ["b", "a"]),
        ("@dataclass\nclass X:\n    a: int\n    b: int = field(init=False)", ["a"]),
        ("@dataclass\nclass X:\n    a: ClassVar[int] = 2\n    b: int = 1", ["b"]),
        (
            "@dataclass\nclass Y:\n    a: int = 1\n    b: int = 2\n"
            "@dataclass\nclass X(Y):\n    c: int = 3\n    a: int = 4",
            ["a", "b", "c"],
        ),
        ("@dataclass(kw_only=True)\nclass X:\n    a: int", None),
        ("@dataclass(init=False)\nclass X:\n    a: int", None),
        ("@dataclass\nclass X:\n    a: int\n    def __init__(self): pass", None),
        ("@other\nclass X:\n    a: int", None),
    ],
)  # fmt: skip
def test_fields_become_arguments(body, arguments, tmp_path, monkeypatch) -> None:
    source = f"from dataclasses import dataclass, field\nfrom typing import ClassVar\ndef other(c): return c\n{body}\n"
    (tmp_path / "fields_of_it.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    if arguments is None:
        with pytest.raises(UnreadableError):
            Sources().signature("fields_of_it:X")
    else:
        assert [a.name for a in Sources().signature("fields_of_it:X").arguments] == arguments
