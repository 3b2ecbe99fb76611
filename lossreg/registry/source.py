"""Read signatures from source files, without importing the component or its packages.

A target is followed through re-exports to its class or function, and then to the base class whose constructor it
inherits. If the source does not determine the signature (a decorator, a metaclass, a name that is bound twice or under
a condition), `UnreadableError` is raised, and the component has to be imported.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import SourceFileLoader
from typing import Any, Literal, TypeAlias, Union

from lossreg.errors import PluginError
from lossreg.registry.components import Entry
from lossreg.registry.signature import LOSS, REQUIRED, Argument, Signature, signature_of


class UnreadableError(Exception):
    """The source does not determine the arguments of a component."""


# modules whose members are used directly: they are already imported
_PLAIN_MODULES = ("dataclasses", "typing", "typing_extensions", "collections.abc", "types", "numbers", "abc")
_ROOTS: tuple[Any, ...] = (object, import_module("abc").ABC, import_module("typing").Generic)
_MODULE = type("Module", (), {})
# names that are not followed, because that would parse the largest files of torch
_TORCH: dict[tuple[str, str], Any] = {
    ("torch", "nn"): "torch.nn",
    ("torch", "Tensor"): type("Tensor", (), {}),
    ("torch.nn", "Module"): _MODULE,
    ("torch.nn.modules.module", "Module"): _MODULE,
}


@dataclass(frozen=True)
class Opaque:
    """A default that is not a literal, represented by its source text."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass
class _Module:
    """The names at the top level of a module, each with the statement or expression that binds it."""

    name: str
    package: str
    names: dict[str, ast.AST | None] = field(default_factory=dict)  # None: bound twice, or under a condition
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, attribute or "")
    lazy: dict[str, tuple[str, str]] = field(default_factory=dict)  # for type checkers, where __getattr__ does it
    stars: list[str] = field(default_factory=list)

    def bind(self, name: str, node: ast.AST | None) -> None:
        self.names[name] = None if name in self.names else node


_Owner: TypeAlias = tuple[ast.ClassDef, _Module]
"""A class and its module."""

_NN_MODULE: _Owner = (
    ast.ClassDef(name="Module", bases=[], keywords=[], body=[], decorator_list=[]),
    _Module("torch.nn", "torch.nn"),
)
"""`torch.nn.Module`, which is not read."""


@dataclass(frozen=True)
class _Found:
    """The value of a name: a module (as its name), a definition in a module, or an object."""

    kind: Literal["module", "definition", "object"]
    value: Any
    module: _Module | None = None


class Sources:
    """Reads signatures from the source files on the import path; each file is read once."""

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}
        self._signatures: dict[str, Signature] = {}

    def signature(self, target: str) -> Signature:
        """Return the signature of `"package.module:Attribute"`.

        Raises:
            UnreadableError: the source does not determine the signature. Evaluating an annotation may raise it later.
        """
        if target not in self._signatures:
            module, _, attribute = target.partition(":")
            try:
                found = self._member(module, attribute)
                self._signatures[target] = self._of(found)
            except RecursionError:
                raise UnreadableError(f"{target}: names that go round in circles") from None
        return self._signatures[target]

    def of(self, entry: Entry[Any]) -> Signature | None:
        """Return the signature of a component, from the object if it is already imported, else from its source.

        Returns:
            a signature whose annotations can all be evaluated; None if the source does not determine it, or if the
            object raises an error.
        """
        if entry.local is not None or entry.spec.target.partition(":")[0] in sys.modules:
            try:
                return signature_of(entry.load())
            except PluginError:
                return None
        try:
            signature = self.signature(entry.spec.target)
            for argument in signature.arguments:
                argument.hint()
        except UnreadableError:
            return None
        return signature

    def _of(self, found: _Found) -> Signature:
        node, module = found.value, found.module
        if isinstance(node, ast.FunctionDef) and module is not None and not node.decorator_list:
            arguments = [a for a in self._arguments(node, module) if a.default is not REQUIRED]
            return Signature(tuple(arguments), node.args.kwarg is not None, False, lambda: _docstring(node))
        if not isinstance(node, ast.ClassDef) or module is None:
            raise UnreadableError(f"{node!r} is neither a class nor a function")
        lineage = list(self._lineage(node, module))
        if node.decorator_list:
            return Signature(self._fields(lineage), False, False, lambda: self._doc(lineage))
        if any(owner.decorator_list for owner, _ in lineage):
            raise UnreadableError(f"{node.name} has a base with a decorator")
        is_loss = any((m.name, n.name) == LOSS for n, m in lineage)
        for owner, home in lineage:
            constructor = _constructor(owner)
            if constructor is not None:
                arguments = self._arguments(constructor, home)
                if constructor.args.args and not constructor.args.posonlyargs:  # the first of them is `self`
                    del arguments[0]
                open_ended = constructor.args.kwarg is not None
                return Signature(tuple(arguments), open_ended, is_loss, lambda: self._doc(lineage))
        is_module = lineage[-1] is _NN_MODULE
        return Signature((), is_module, is_loss, lambda: self._doc(lineage))

    def _fields(self, lineage: Sequence[_Owner]) -> tuple[Argument, ...]:
        """Return the arguments that `dataclass` makes of the fields of a class and of its bases."""
        fields: dict[str, tuple[Argument, bool]] = {}
        for owner, home in reversed(lineage):
            if owner is _NN_MODULE[0] or _constructor(owner):
                raise UnreadableError("a base of a dataclass makes its constructor itself")
            if owner.decorator_list and not self._is_dataclass(owner, home):
                raise UnreadableError(f"{owner.name} has a decorator")
            for statement in owner.body if owner.decorator_list else ():
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    self._field(fields, statement.target.id, statement, home)
        return tuple(argument for argument, _ in sorted(fields.values(), key=lambda field: field[1]))

    def _is_dataclass(self, node: ast.ClassDef, module: _Module) -> bool:
        decorators = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
        options = [k.arg for d in node.decorator_list if isinstance(d, ast.Call) for k in d.keywords]
        found = [self._resolve(decorator, module).value for decorator in decorators]
        return found == [dataclass] and not {"init", "kw_only"} & set(options)

    def _field(
        self, fields: dict[str, tuple[Argument, bool]], name: str, statement: ast.AnnAssign, module: _Module
    ) -> None:
        """Add a field; one of a base keeps its place, as `dataclass` has it."""
        default, named = statement.value, False
        if ast.unparse(statement.annotation).startswith(("ClassVar", "typing.ClassVar", "InitVar")):
            return
        if isinstance(default, ast.Call) and ast.unparse(default.func).rpartition(".")[2] == "field":
            options = {keyword.arg: keyword.value for keyword in default.keywords}
            if "init" in options and ast.unparse(options["init"]) == "False":
                fields.pop(name, None)
                return
            named = "kw_only" in options and ast.unparse(options["kw_only"]) == "True"
            default = options.get("default", options.get("default_factory"))
        hint = functools.partial(self._hint, statement.annotation, module)
        fields[name] = (Argument(name, self._default(default, module), hint), named)

    def _lineage(self, node: ast.ClassDef, module: _Module) -> Iterator[_Owner]:
        """Yield a class and then its bases in order."""
        yield node, module
        if node.keywords:
            raise UnreadableError(f"{node.name} has a metaclass")
        bases = [self._resolve(b.value if isinstance(b, ast.Subscript) else b, module) for b in node.bases]
        bases = [base for base in bases if base.kind != "object" or base.value not in _ROOTS]
        if len(bases) > 1:
            raise UnreadableError(f"{node.name} has several bases")
        for found in bases:
            if found.value is _MODULE:
                yield _NN_MODULE
            elif isinstance(found.value, ast.ClassDef) and found.module is not None:
                yield from self._lineage(found.value, found.module)
            else:
                raise UnreadableError(f"a base of {node.name} has no source")

    def _doc(self, lineage: Sequence[_Owner]) -> str:
        own = next((text for node, _ in lineage if (text := _docstring(node))), "")
        constructor = _constructor(lineage[0][0])
        return f"{own}\n\n{_docstring(constructor)}" if constructor is not None else own

    def _arguments(self, function: ast.FunctionDef, module: _Module) -> list[Argument]:
        """Return the arguments that may be passed by name."""
        positional = [*function.args.posonlyargs, *function.args.args]
        missing: list[ast.expr | None] = [None] * (len(positional) - len(function.args.defaults))
        pairs = [
            *zip(positional, [*missing, *function.args.defaults], strict=True),
            *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
        ]
        return [
            Argument(a.arg, self._default(default, module), functools.partial(self._hint, a.annotation, module))
            for a, default in pairs
            if a not in function.args.posonlyargs
        ]

    def _default(self, node: ast.expr | None, module: _Module) -> Any:
        if node is None:
            return REQUIRED
        bound = module.names.get(node.id) if isinstance(node, ast.Name) else node
        try:
            return ast.literal_eval(bound if isinstance(bound, ast.expr) else node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return Opaque(ast.unparse(node))

    # --- annotations ------------------------------------------------------------------------------

    def _hint(self, node: ast.expr | None, module: _Module) -> Any:
        """Return the evaluated annotation; a class from a source file becomes an empty class of that name."""
        if node is None:
            return REQUIRED
        if isinstance(node, ast.Constant):
            return self._hint(_parsed(node.value), module) if isinstance(node.value, str) else node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return Union[self._hint(node.left, module), self._hint(node.right, module)]  # noqa: UP007
        if isinstance(node, (ast.List, ast.Tuple)):
            made = [self._hint(item, module) for item in node.elts]
            return made if isinstance(node, ast.List) else tuple(made)
        if isinstance(node, ast.Subscript):
            return self._subscripted(self._hint(node.value, module), node.slice, module)
        found = self._resolve(node, module)
        if found.kind == "object":
            return found.value
        if isinstance(found.value, ast.ClassDef):
            return type(found.value.name, (), {})
        if isinstance(found.value, ast.expr) and found.module is not None:
            return self._hint(found.value, found.module)
        raise UnreadableError(f"{ast.unparse(node)} is no annotation that the source explains")

    def _subscripted(self, origin: Any, inside: ast.expr, module: _Module) -> Any:
        if origin is Literal:
            try:
                return Literal.__getitem__(ast.literal_eval(inside))
            except ValueError:
                raise UnreadableError(f"Literal[{ast.unparse(inside)}] is not literal") from None
        try:
            return origin[self._hint(inside, module)]
        except TypeError as error:
            raise UnreadableError(str(error)) from None

    # --- names ------------------------------------------------------------------------------------

    def _resolve(self, node: ast.expr, module: _Module) -> _Found:
        if isinstance(node, ast.Name):
            return self._name(module, node.id)
        if isinstance(node, ast.Attribute):
            owner = self._resolve(node.value, module)
            if owner.kind == "module":
                return self._member(owner.value, node.attr)
        raise UnreadableError(f"{ast.unparse(node)} is computed")

    def _name(self, module: _Module, name: str) -> _Found:
        """Look up a name as code in the module does."""
        if name in module.names:
            node = module.names[name]
            if node is None:
                raise UnreadableError(f"{module.name}.{name} is bound twice, or under a condition")
            if isinstance(node, ast.alias):
                home, attribute = module.imports[name]
                return self._member(home, attribute) if attribute else _Found("module", home)
            if isinstance(node, ast.Name | ast.Attribute):  # an alias
                return self._resolve(node, module)
            return _Found("definition", node, module)
        for star in reversed(module.stars):
            if self._exports(self._module(star), name):
                return self._member(star, name)
        if hasattr(builtins, name):
            return _Found("object", getattr(builtins, name))
        raise UnreadableError(f"{module.name} does not say what {name} is")

    def _member(self, home: str, name: str) -> _Found:
        """Look up an attribute of a module as other modules do."""
        if (home, name) in _TORCH:
            known = _TORCH[home, name]
            return _Found("module", known) if isinstance(known, str) else _Found("object", known)
        if home in _PLAIN_MODULES:
            plain = import_module(home)
            if not hasattr(plain, name):
                raise UnreadableError(f"{home} has no {name}")
            return _Found("object", getattr(plain, name))
        module = self._module(home)
        if name in module.lazy and name not in module.names and "__getattr__" in module.names:
            return self._member(*module.lazy[name])
        if name in module.names or self._starred(module, name):
            return self._name(module, name)
        if _spec(f"{home}.{name}") is not None:
            return _Found("module", f"{home}.{name}")
        raise UnreadableError(f"{home} does not say what {name} is")

    def _starred(self, module: _Module, name: str) -> bool:
        return any(self._exports(self._module(star), name) for star in module.stars)

    def _exports(self, module: _Module, name: str) -> bool:
        """Return whether `from module import *` imports a name."""
        if "__all__" not in module.names:
            return not name.startswith("_") and (name in module.names or self._starred(module, name))
        listed = module.names["__all__"]
        try:
            return name in ast.literal_eval(listed) if isinstance(listed, ast.expr) else _unsure("__all__")
        except (ValueError, TypeError):
            return _unsure("__all__")

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            spec = _spec(name)
            try:
                text = _text(spec)
                tree = ast.parse(text or "")
            except (AttributeError, ImportError, OSError, SyntaxError, ValueError):
                raise UnreadableError(f"module {name} has no source") from None
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            self._modules[name] = module = _Module(name, package)
            for statement in tree.body:
                _bind(module, statement)
        return self._modules[name]


def _bind(module: _Module, statement: ast.stmt) -> None:
    """Record the names that a top-level statement of a module binds."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        _import(module, statement)
    elif isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        module.bind(statement.name, statement)
    elif isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets):
        for target in statement.targets:
            assert isinstance(target, ast.Name)
            module.bind(target.id, statement.value)
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        module.bind(statement.target.id, statement.value)
    elif isinstance(statement, ast.If) and ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        inner = _Module(module.name, module.package)
        for import_ in statement.body:
            if isinstance(import_, ast.ImportFrom):
                _import(inner, import_)
        module.lazy |= inner.imports
        for other in statement.orelse:
            _bind(module, other)
    else:
        for name in _names_bound(statement):
            module.names[name] = None


def _names_bound(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _import(module: _Module, statement: ast.Import | ast.ImportFrom) -> None:
    home = _home(module, statement) if isinstance(statement, ast.ImportFrom) else ""
    for alias in statement.names:
        if alias.name == "*":
            module.stars.append(home)
            continue
        name = alias.asname or (alias.name if home else alias.name.partition(".")[0])
        imported = (home, alias.name) if home else (alias.name if alias.asname else name, "")
        if module.imports.get(name) != imported:
            module.bind(name, alias)
        module.imports[name] = imported


def _home(module: _Module, statement: ast.ImportFrom) -> str:
    package = module.package.split(".")
    around = package[: len(package) - statement.level + 1] if statement.level else []
    return ".".join([*around, *([statement.module] if statement.module else [])])


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    """Return the `__init__` in the body of a class, if there is one."""
    found: ast.FunctionDef | None = None
    for statement in node.body:
        plain = isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef))
        names = [statement.name] if plain else list(_names_bound(statement))  # type: ignore[attr-defined]
        if {"__new__", "__signature__"} & set(names):
            raise UnreadableError(f"{node.name} makes its signature itself")
        if "__init__" in names:
            if found is not None or not isinstance(statement, ast.FunctionDef) or statement.decorator_list:
                raise UnreadableError(f"{node.name} has an unusual constructor")
            found = statement
    return found


def _docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "")


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise UnreadableError(f"{text!r} is no annotation") from None


def _text(spec: Any) -> str | None:
    """Return the source of a module; also if its loader has no `get_source`, like the one of pytest."""
    loader = spec.loader if hasattr(spec.loader, "get_source") else SourceFileLoader(spec.name, spec.origin)
    found: str | None = loader.get_source(spec.name)
    return found


def _unsure(name: str) -> bool:
    raise UnreadableError(f"{name} is computed")


def _spec(name: str) -> Any:
    """Return the spec of a module without importing its packages; None if there is no such module."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        path = getattr(_spec(parent), "submodule_search_locations", None)
        if path is None:
            return None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find is not None else None
        if spec is not None:
            return spec
    return None
