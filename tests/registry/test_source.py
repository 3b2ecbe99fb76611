"""Signatures read from source files agree with those of the imported objects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest

from lossreg.registry import catalog
from lossreg.registry.components import Entry
from lossreg.registry.params import parameters_of
from lossreg.registry.plugins import Plugin
from lossreg.registry.signature import REQUIRED, Signature, signature_of
from lossreg.registry.source import Opaque, Sources, UnreadableError
from lossreg.registry.specs import LossSpec, Spec


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
                # `typing` may give an equal union in another order
                sorted(p.annotation.split(" | ")) if p.settable else "",
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


# --- made modules -----------------------------------------------------------------------------------


PACKAGES = iter(f"made_source_{i}" for i in range(10_000))  # a name for each, since Python keeps what it has imported


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that writes a package of some modules and returns its name, which replaces `PKG` in them."""

    def write(init: str = "", **modules: str) -> str:
        name = next(PACKAGES)
        for module, text in {"__init__": init, **modules}.items():
            file = tmp_path / name / f"{module.replace('__in__', '/')}.py"
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(text.replace("PKG", name))
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def everything(signature: Signature) -> list[Any]:
    """Return all that a signature says but for the text, with classes by their names."""
    hints = [getattr(a.hint(), "__name__", a.hint()) for a in signature.arguments]
    arguments = [(a.name, a.default, hint) for a, hint in zip(signature.arguments, hints, strict=True)]
    return [arguments, signature.open_ended, signature.is_loss]


def check_agrees(target: str) -> list[str]:
    """Compare what the source says, which imports nothing, with what the object says; return the arguments."""
    package, _, _ = target.partition(":")
    read = everything(Sources().signature(target))
    assert package not in sys.modules
    module, _, name = target.partition(":")
    assert read == everything(signature_of(getattr(import_module(module), name)))
    return [name for name, _, _ in read[0]]


BASE = "class Base:\n    'What it is.'\n    def __init__(self, a, b: float = 2.0):\n        'Make it.'\n"

READABLE = {
    "a function": ("def X(pred, gt, a: int = 1, *, b='x'):\n    'A loss.'", ["a", "b"]),
    "an open function": ("def X(pred, gt, a=1, **rest): pass", ["a"]),
    "a function with what goes by place": ("def X(pred, gt=None, a=1, /, b=2): pass", ["b"]),
    "a constructor of names alone": ("class X:\n    def __init__(self, /, a=1): pass", ["a"]),
    "a constructor without a self": ("class X:\n    def __init__(*args, a=1): pass", ["a"]),
    "a function without options": ("def X(pred, gt): pass", []),
    "a class": (BASE.replace("Base", "X"), ["a", "b"]),
    "a class without a constructor": ("class X:\n    'What it is.'", []),
    "positional and keyword alone": (
        "class X:\n    def __init__(self, a, /, b=1, *args, c, d=2): pass",
        ["b", "c", "d"],
    ),
    "an open class": ("class X:\n    def __init__(self, a, **rest): pass", ["a"]),
    "an inherited constructor": (f"{BASE}class X(Base): pass", ["a", "b"]),
    "a constructor of its own": (f"{BASE}class X(Base):\n    'Mine.'\n    def __init__(self, c=1): pass", ["c"]),
    "an inherited docstring": (f"{BASE}class X(Base):\n    y = 1", ["a", "b"]),
    "two steps": (f"{BASE}class Y(Base): pass\nclass X(Y): pass", ["a", "b"]),
    "an abstract base": ("from abc import ABC\nclass X(ABC):\n    def __init__(self, a=1): pass", ["a"]),
    "object": ("class X(object):\n    def __init__(self, a=1): pass", ["a"]),
    "a generic base": (
        f"from typing import Generic, TypeVar\nT = TypeVar('T')\n{BASE}class X(Base, Generic[T]): pass",
        ["a", "b"],
    ),
    "a subscripted base": (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Y(Generic[T]):\n"
        "    def __init__(self, a=1): pass\nclass X(Y[int]): pass",
        ["a"],
    ),
    "an alias": (f"{BASE}X = Base", ["a", "b"]),
    "an alias with a type": (f"{BASE}X: type = Base", ["a", "b"]),
    "several names at once": (f"{BASE}Y = X = Base", ["a", "b"]),
    "methods": (f"{BASE.replace('Base', 'X')}    def other(self): pass\n    async def more(self): pass", ["a", "b"]),
    "a module of torch": ("from torch import nn\nclass X(nn.Module): pass", []),
    "a module of torch by its place": ("from torch.nn.modules.module import Module\nclass X(Module): pass", []),
    "a module of torch with a constructor": (
        "import torch\nclass X(torch.nn.Module):\n    def __init__(self, a=1): pass",
        ["a"],
    ),
    "a loss": ("from lossreg import Loss\nclass X(Loss): pass", ["name"]),
    "a loss with options": (
        "import lossreg\nclass X(lossreg.Loss):\n    def __init__(self, name, a=1): pass",
        ["name", "a"],
    ),
}


@pytest.mark.parametrize("case", READABLE)
def test_what_a_module_says_is_what_the_object_says(case: str, package: Callable[..., str]) -> None:
    text, arguments = READABLE[case]
    assert check_agrees(f"{package(text)}:X") == arguments


@pytest.mark.parametrize(
    ("text", "doc"),
    [
        ("def X(pred, gt, a: int = 1):\n    'A loss.'", "A loss."),
        ("def X(pred, gt, a: int = 1): pass", ""),
        (BASE.replace("Base", "X"), "What it is.\n\nMake it."),
        (f"{BASE}class X(Base): pass", "What it is."),
        (f"{BASE}class X(Base):\n    'Mine.'\n    def __init__(self, c=1): pass", "Mine."),
        ("class X:\n    def __init__(self, c=1):\n        'Make it.\\n\\n        Well.'", "Make it.\n\nWell."),
        ("@dataclass\nclass X:\n    'Data.'\n    c: int = 1", "Data."),
    ],
)  # fmt: skip
def test_the_text_is_that_of_the_object(text: str, doc: str, package: Callable[..., str]) -> None:
    name = package(f"from dataclasses import dataclass\n{text}")
    assert Sources().signature(f"{name}:X").doc().strip() == doc
    assert signature_of(import_module(name).X).doc().strip() == doc


IMPORTS = {
    "from": "from PKG.base import Base as X",
    "relative": "from .base import Base as X",
    "relative module": "from . import base\nX = base.Base",
    "module": "import PKG.base\nX = PKG.base.Base",
    "module by another name": "import PKG.base as b\nX = b.Base",
    "module from": "from PKG import base as b\nX = b.Base",
    "star": "from .base import *\nX = Base",
    "the last star": "from .none import *\nfrom .base import *\nfrom .none import *\nX = Base",
    "a star of a star": "from .stars import *\nX = Base",
    "a listed star": "from .listed import *\nX = _Base",
    "re-export": "from .again import Again as X",
    "re-export of a star": "from .stars import Base as X",
    "two levels": "from .inner.deep import Deep as X",
    "the same import twice": "from .base import Base as X\nfrom .base import Base as X",
    "lazy": "from .lazy import Base as X",
    "what is there in place of lazy": "from .lazy import Other as X",
    "else": "from .otherwise import X",
    "a base": "from .base import Base\nclass X(Base): pass",
}


@pytest.mark.parametrize("case", IMPORTS)
def test_names_are_followed_through_imports(case: str, package: Callable[..., str]) -> None:
    lazy = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .base import Base, Other\n"
    lazy += "def __getattr__(name):\n    from . import base\n    return getattr(base, name)\n"
    otherwise = "import typing\nif typing.TYPE_CHECKING:\n    from .none import y as X\n"
    name = package(
        base=f"{BASE}class Other: pass",
        none="y = 1\n_Base = 2",
        stars="from .base import *",
        listed=f"__all__ = ['_Base']\n{BASE.replace('Base', '_Base')}",
        again="from .base import Base as Again",
        lazy=f"{lazy}{BASE.replace('Base', 'Other')}",
        otherwise=f"{otherwise}else:\n    from .base import Base as X",
        inner__in____init__="",
        inner__in__deep="from ..base import Base\nclass Deep(Base): pass",
        use=IMPORTS[case],
    )
    assert check_agrees(f"{name}.use:X") == ["a", "b"]


UNREADABLE = {
    "a decorated function": "def d(f): return f\n@d\ndef X(pred, gt, a=1): pass",
    "a coroutine": "async def X(pred, gt, a=1): pass",
    "a value": "X = 3",
    "a call": "X = type('X', (), {})",
    "no such name": "Y = 3",
    "a hidden name of a star": "from .base import *\nX = _Hidden",
    "a name that a star does not list": "from .listed import *\nX = Other",
    "a computed list of a star": "from .computed import *\nX = Base",
    "a list of a star that is bound twice": "from .twice import *\nX = Base",
    "a module": "from . import base as X",
    "no such module": "from .missing import X",
    "a module that is no Python": "from .broken import X",
    "a module without a source": "from _thread import LockType as X",
    "an attribute of a class": f"{BASE}X = Base.a",
    "bound twice": f"{BASE.replace('Base', 'X')}class X: pass",
    "imported as two": "from .base import Base as X\nfrom .listed import Other as X",
    "under a condition": "import sys\nif sys:\n    class X: pass",
    "a try": "try:\n    from .base import Base as X\nexcept ImportError:\n    X = None",
    "another under a condition": "from .base import Base as X\nif 1:\n    from .listed import Other as X",
    "the same name under a condition": "from .base import Base\nif 1:\n    from .listed import Base\nX = Base",
    "a module under a condition": "from . import base\nif 1:\n    import base.listed\nX = base.Base",
    "a loop": "for X in [int]: pass",
    "a part of an assignment": "X, Y = int, float",
    "deleted": f"{BASE.replace('Base', 'X')}del X",
    "a function under a condition": "if 1:\n    def X(pred, gt, a=1): pass",
    "for type checkers alone": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .base import Base as X",
    "a metaclass": f"{BASE}class X(Base, metaclass=type): pass",
    "two bases": f"{BASE}class Y: pass\nclass X(Base, Y): pass",
    "a base without a source": "class X(dict): pass",
    "a base that is a function": "def Y(): pass\nclass X(Y): pass",
    "a base with a decorator": f"def d(c): return c\n@d\n{BASE}class X(Base): pass",
    "__new__": "class X:\n    def __new__(cls, a): pass",
    "__new__ of a base": "class Y:\n    def __new__(cls, a): pass\nclass X(Y): pass",
    "__signature__": "class X:\n    __signature__ = None\n    def __init__(self, a): pass",
    "a decorated constructor": "def d(f): return f\nclass X:\n    @d\n    def __init__(self, a): pass",
    "two constructors": "class X:\n    def __init__(self, a): pass\n    def __init__(self, b): pass",
    "a constructor under a condition": "class X:\n    if 1:\n        def __init__(self, a): pass",
    "a constructor that is assigned": "def f(self, a): pass\nclass X:\n    __init__ = f",
    "a coroutine for a constructor": "class X:\n    async def __init__(self, a): pass",
    "names in a circle": "from .circle import X",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_the_source_does_not_determine_is_not_guessed(case: str, package: Callable[..., str]) -> None:
    name = package(
        base=f"{BASE}_Hidden = Base",
        listed=f"__all__ = ['Base']\n{BASE}class Other(Base): pass",
        computed=f"__all__ = ['Base'] + []\n{BASE}",
        twice=f"__all__ = ['Base']\n__all__ = ['Base', 'Other']\n{BASE}",
        broken="class X(",
        circle="from .use import X",
        use=UNREADABLE[case],
    )
    with pytest.raises(UnreadableError):
        Sources().signature(f"{name}.use:X")


# --- defaults and annotations -----------------------------------------------------------------------

HEAD = """
from collections.abc import Callable
from typing import Literal, Optional
import typing
NUMBER = 3
MODES = Literal["abs", "square"]
Alias = int | None
class Own: pass
"""

HINTS = {
    "int": int,
    "'int'": int,
    "int | None": int | None,
    "Optional[int]": int | None,
    "typing.Optional[int]": int | None,
    "list[int]": list[int],
    "tuple[int, ...]": tuple[int, ...],
    "dict[str, list[float]]": dict[str, list[float]],
    "'list[Alias]'": list[int | None],
    "Callable[[int], str]": Callable[[int], str],
    "Literal['a', 1]": Literal["a", 1],
    "Literal['a']": Literal["a"],
    "MODES": Literal["abs", "square"],
    "None": None,
}


@pytest.mark.parametrize("hint", HINTS)
def test_annotations_are_evaluated(hint: str, package: Callable[..., str]) -> None:
    name = package(f"{HEAD}class X:\n    def __init__(self, a: {hint}): pass")
    (argument,) = Sources().signature(f"{name}:X").arguments
    assert argument.hint() == HINTS[hint]
    assert argument.default is REQUIRED


def test_a_class_of_the_package_is_an_empty_one_of_its_name(package: Callable[..., str]) -> None:
    name = package(f"{HEAD}class X:\n    def __init__(self, a: Own, b): pass")
    first, second = Sources().signature(f"{name}:X").arguments
    assert (first.hint().__name__, second.hint()) == ("Own", REQUIRED)


@pytest.mark.parametrize("hint", ["Missing", "'('", "int[str]", "Literal[NUMBER]", "(lambda: int)()", "typing.Missing"])
def test_an_annotation_that_the_source_does_not_explain_is_not_guessed(
    hint: str, package: Callable[..., str], entry: Callable[[str], Entry[LossSpec]]
) -> None:
    name = package(f"{HEAD}class X:\n    def __init__(self, a: {hint}): pass")
    (argument,) = Sources().signature(f"{name}:X").arguments
    with pytest.raises(UnreadableError):
        argument.hint()
    assert Sources().of(entry(f"{name}:X")) is None


@pytest.mark.parametrize(
    ("default", "found"),
    [("1", 1), ("-2.5", -2.5), ("('a', None)", ("a", None)), ("NUMBER", 3), ("None", None)],
)
def test_defaults_are_read(default: str, found: Any, package: Callable[..., str]) -> None:
    name = package(f"{HEAD}class X:\n    def __init__(self, a={default}, *, b={default}): pass")
    assert [a.default for a in Sources().signature(f"{name}:X").arguments] == [found, found]


@pytest.mark.parametrize("default", ["int('3')", "Own", "Missing", "NUMBER + 1"])
def test_a_default_that_is_computed_is_its_text(default: str, package: Callable[..., str]) -> None:
    name = package(f"{HEAD}class X:\n    def __init__(self, a={default}): pass")
    (argument,) = Sources().signature(f"{name}:X").arguments
    assert (argument.default, repr(argument.default)) == (Opaque(default), default)


# --- what is imported -------------------------------------------------------------------------------


@pytest.fixture
def entry() -> Callable[[str], Entry[LossSpec]]:
    """Return a function that makes a component of a target."""
    return lambda target: Entry(LossSpec("X", target, summary="It is."), Plugin("made"))


def test_a_component_is_read_and_not_imported(
    package: Callable[..., str], entry: Callable[[str], Entry[LossSpec]]
) -> None:
    name = package("raise RuntimeError\nclass X:\n    def __init__(self, a=1): pass")
    signature = Sources().of(entry(f"{name}:X"))
    assert signature is not None
    assert [a.name for a in signature.arguments] == ["a"]
    assert name not in sys.modules


def test_one_that_is_imported_is_what_the_object_is(
    package: Callable[..., str], entry: Callable[[str], Entry[LossSpec]]
) -> None:
    name = package("class X:\n    def __init__(self, a=1): pass")
    import_module(name).X = lambda pred, gt, changed=1: None
    signature = Sources().of(entry(f"{name}:X"))
    assert signature is not None
    assert [a.name for a in signature.arguments] == ["changed"]


def test_one_that_was_registered_here_is_what_the_object_is(entry: Callable[[str], Entry[LossSpec]]) -> None:
    local = replace(entry("made_nowhere:X"), local=lambda pred, gt, own=1: None)
    signature = Sources().of(local)
    assert signature is not None
    assert [a.name for a in signature.arguments] == ["own"]


def test_an_object_that_cannot_be_read_is_none(
    package: Callable[..., str], entry: Callable[[str], Entry[LossSpec]]
) -> None:
    name = package("class X:\n    pass")
    del import_module(name).X
    assert Sources().of(entry(f"{name}:X")) is None
    assert Sources().of(entry("made_nowhere:X")) is None


def test_a_file_is_read_once(package: Callable[..., str], tmp_path: Path) -> None:
    name = package(f"{BASE}class X(Base): pass\nclass Y(Base): pass")
    sources = Sources()
    first = sources.signature(f"{name}:X")
    (tmp_path / name / "__init__.py").unlink()
    assert sources.signature(f"{name}:X") is first
    assert [a.name for a in sources.signature(f"{name}:Y").arguments] == ["a", "b"]
