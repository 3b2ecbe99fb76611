"""Describe a loss and its arguments as text that is the same in every process."""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
from collections.abc import Mapping, Set
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from lossreg.arguments import plain
from lossreg.losses.base import Loss
from lossreg.losses.concrete import is_concrete
from lossreg.losses.identity import identity, source
from lossreg.losses.norm import RunningNorm
from lossreg.losses.wrapper import LossWrapper

_WRITTEN_OUT = 16  # largest number of elements of a tensor that is written as numbers, not as a digest
_STATE = frozenset({"norm", "norm_sum", "norm_count"})
_PER_RANK = frozenset({"training", "rank", "local_rank", "global_rank", "device", "device_id"})
_OF_A_TERM = frozenset({"name", "registered_name", "extra_info"})
_NOTHING = ("None", "[]", "{}")


def describe(value: Any) -> str:
    """Return a text of a value; equal values have equal texts in all processes.

    An object is described by its name and its public attributes; a module, such as a loss, also by its buffers and
    children. A function is described by its name, its defaults, its closure and a digest of its code. Not described is
    what may differ between ranks: parameters, running norms, devices, ranks, and the attributes of a module that its
    methods set, such as its last value.
    """
    return _text(value, ())


def describe_options(value: Any) -> str:
    """Return a text of an object without its state, the buffers and parameters of a module."""
    options = {key: option for key, option in vars(value).items() if not key.startswith("_") and key not in _PER_RANK}
    return f"{source(value)}({', '.join(f'{key}={describe(option)}' for key, option in sorted(options.items()))})"


def _text(value: Any, parents: tuple[int, ...]) -> str:
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value.value if isinstance(value, enum.Enum) else value)
    if isinstance(value, Tensor):
        return _tensor(value)
    if id(value) in parents:
        return "..."
    parents = (*parents, id(value))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(item, parents) for item in value)}]"
    if isinstance(value, Set):
        return f"{{{', '.join(sorted(_text(item, parents) for item in value))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_text(k, parents)}: {_text(v, parents)}' for k, v in value.items()))}}}"
    if isinstance(value, (torch.dtype, torch.Size, torch.layout)):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{source(value)}.{value.name}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return _function(value, parents)
    return _object(value, parents)


def _object(value: Any, parents: tuple[int, ...]) -> str:
    name = identity(value) if isinstance(value, Loss) else source(value)
    parts = _attributes(value, parents)
    if isinstance(value, LossWrapper):  # it has the name of the wrapped loss
        parts = {f"wrap.{key}": text for key, text in parts.items() if key != "loss_func"}
        parts = _inside(value.loss_func, parents) | parts
    return f"{name}({', '.join(f'{key}={text}' for key, text in parts.items())})"


def _inside(wrapped: Any, parents: tuple[int, ...]) -> dict[str, str]:
    if isinstance(wrapped, nn.Module):
        return _attributes(wrapped, (*parents, id(wrapped)))
    return {"function": _text(wrapped, parents)}


def _attributes(value: Any, parents: tuple[int, ...]) -> dict[str, str]:
    """Return the public attributes of an object as texts; of a module its buffers and children too."""
    if dataclasses.is_dataclass(value):
        attributes = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    else:
        attributes = {key: item for key, item in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    excluded = _PER_RANK | (_OF_A_TERM if isinstance(value, Loss) else frozenset())
    if isinstance(value, nn.Module):
        state = _STATE if isinstance(value, RunningNorm) else frozenset()
        attributes |= {key: buffer for key, buffer in value.named_buffers(recurse=False) if key not in state}
        excluded |= _set_by_methods(type(value))
        attributes |= dict(value.named_children())
    texts = {key: _text(item, parents) for key, item in sorted(attributes.items()) if key not in excluded}
    return {key: text for key, text in texts.items() if text not in _NOTHING}


def _set_by_methods(kind: type[nn.Module]) -> frozenset[str]:
    """Return the names of the attributes that methods set: they are state. `__init__` and the like only begin them."""
    bases = kind.__mro__[: kind.__mro__.index(nn.Module)]
    methods = [item for base in bases for name, item in vars(base).items() if not name.startswith("__")]
    codes = [method.__code__ for method in map(inspect.unwrap, methods) if inspect.isfunction(method)]
    return frozenset(
        step.argval for code in codes for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"
    )


def _tensor(tensor: Tensor) -> str:
    kind = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
    if tensor.layout is not torch.strided or not is_concrete(tensor):
        return kind
    values = tensor.detach().cpu()
    if values.numel() <= _WRITTEN_OUT:
        return f"{kind}{values.tolist()}"
    return f"{kind} {_digest(values.contiguous().view(-1).view(torch.uint8).numpy().tobytes())}"


def _function(function: Any, parents: tuple[int, ...]) -> str:
    if isinstance(function, functools.partial):
        arguments = [_text(argument, parents) for argument in function.args]
        arguments += [f"{k}={_text(v, parents)}" for k, v in sorted(function.keywords.items()) if k not in _PER_RANK]
        return f"{_text(function.func, parents)}({', '.join(arguments)})"
    owner = getattr(function, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        return f"{_text(owner, parents)}.{function.__name__}"
    code = getattr(function, "__code__", None)
    if code is None:
        return source(function)
    cells = [cell for cell in function.__closure__ or () if not _is_empty(cell)]
    closed = [function.__defaults__, function.__kwdefaults__, [cell.cell_contents for cell in cells]]
    texts = [_text(item, parents) for item in closed if item]
    return f"{source(function)} {_digest(_code(code))}" + (f" over {', '.join(texts)}" if texts else "")


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # the variable of the closure is not assigned yet
        return True
    return False


def _code(code: CodeType) -> bytes:
    """Return the code of a function, without the location of its source."""
    constants = [_code(c) if isinstance(c, CodeType) else describe(c).encode() for c in code.co_consts]
    return b"\0".join([code.co_code, " ".join(code.co_names).encode(), *constants])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
