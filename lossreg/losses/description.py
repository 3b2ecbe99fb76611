"""What an object is and what it was made with, as a text that every process agrees on."""

from __future__ import annotations

import dataclasses
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
from lossreg.losses.identity import identity, source
from lossreg.losses.norm import RunningNorm
from lossreg.losses.wrapper import LossWrapper

_WRITTEN_OUT = 16  # numbers of a tensor; a larger one is written as a digest
_STATE = frozenset({"norm", "norm_sum", "norm_count"})
_PER_RANK = frozenset({"training", "rank", "local_rank", "global_rank", "device", "device_id"})
_OF_A_TERM = frozenset({"name", "registered_name", "extra_info"})
_NOTHING = ("None", "[]", "{}")


def describe(value: Any) -> str:
    """Return a text of a value: equal values give equal texts in all processes, without addresses.

    A loss, as any module, is its name with its parts, and with the attributes and buffers that have the name of an
    argument of its constructor; another object is its name with all public attributes. A function is its name with a
    digest of its code, its defaults and what it closes over. What a forward leaves on a loss (its last value, a
    count of calls), parameters, running norms, devices and ranks are left out: they may differ between ranks.
    """
    return _text(value, ())


def describe_options(value: Any) -> str:
    """Return a text of an object without what moves in training: a module's buffers and parameters."""
    options = {key: option for key, option in vars(value).items() if not key.startswith("_") and key not in _PER_RANK}
    return f"{source(value)}({', '.join(f'{key}={describe(option)}' for key, option in sorted(options.items()))})"


def _text(value: Any, around: tuple[int, ...]) -> str:
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value.value if isinstance(value, enum.Enum) else value)
    if isinstance(value, Tensor):
        return _tensor(value)
    if id(value) in around:
        return "..."
    around = (*around, id(value))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(item, around) for item in value)}]"
    if isinstance(value, Set):
        return f"{{{', '.join(sorted(_text(item, around) for item in value))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_text(k, around)}: {_text(v, around)}' for k, v in value.items()))}}}"
    if isinstance(value, (torch.dtype, torch.Size, torch.layout)):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{source(value)}.{value.name}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return _function(value, around)
    return _object(value, around)


def _object(value: Any, around: tuple[int, ...]) -> str:
    name = identity(value) if isinstance(value, Loss) else source(value)
    parts = _attributes(value, around)
    if isinstance(value, LossWrapper):  # its name is that of the loss inside
        parts = {f"wrap.{key}": text for key, text in parts.items() if key != "loss_func"}
        parts = _inside(value.loss_func, around) | parts
    return f"{name}({', '.join(f'{key}={text}' for key, text in parts.items())})"


def _inside(wrapped: Any, around: tuple[int, ...]) -> dict[str, str]:
    if isinstance(wrapped, nn.Module):
        return _attributes(wrapped, (*around, id(wrapped)))
    return {"function": _text(wrapped, around)}


def _attributes(value: Any, around: tuple[int, ...]) -> dict[str, str]:
    """Return the public attributes of an object as texts; of a module its parts and what it was built with."""
    if dataclasses.is_dataclass(value):
        found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    else:
        found = {key: item for key, item in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    left_out = _PER_RANK | (_OF_A_TERM if isinstance(value, Loss) else frozenset())
    if isinstance(value, nn.Module):
        stated = _STATE if isinstance(value, RunningNorm) else frozenset()
        found |= {key: buffer for key, buffer in value.named_buffers(recurse=False) if key not in stated}
        built_with = _parameters(type(value)) | {"registered_arguments"}
        found = {key: item for key, item in found.items() if key in built_with}
        found |= dict(value.named_children())
    kept = {key: item for key, item in found.items() if key not in left_out}
    texts = {key: _text(item, around) for key, item in sorted(kept.items())}
    return {key: text for key, text in texts.items() if text not in _NOTHING}


def _parameters(kind: type[nn.Module]) -> frozenset[str]:
    """Return the names of the arguments of a module's constructor, and of those that it calls."""
    names: set[str] = set()
    for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        if "__init__" in vars(base):
            names.update(inspect.signature(vars(base)["__init__"]).parameters)
    return frozenset(names)


def _tensor(tensor: Tensor) -> str:
    kind = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta or tensor.layout is not torch.strided:
        return kind
    values = tensor.detach().cpu()
    if values.numel() <= _WRITTEN_OUT:
        return f"{kind}{values.tolist()}"
    return f"{kind} {_digest(values.contiguous().view(-1).view(torch.uint8).numpy().tobytes())}"


def _function(function: Any, around: tuple[int, ...]) -> str:
    if isinstance(function, functools.partial):
        given = [_text(argument, around) for argument in function.args]
        given += [f"{k}={_text(v, around)}" for k, v in sorted(function.keywords.items()) if k not in _PER_RANK]
        return f"{_text(function.func, around)}({', '.join(given)})"
    owner = getattr(function, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        return f"{_text(owner, around)}.{function.__name__}"
    code = getattr(function, "__code__", None)
    if code is None:
        return source(function)
    cells = [cell for cell in function.__closure__ or () if not _is_empty(cell)]
    closed = [function.__defaults__, function.__kwdefaults__, [cell.cell_contents for cell in cells]]
    texts = [_text(item, around) for item in closed if item]
    return f"{source(function)} {_digest(_code(code))}" + (f" over {', '.join(texts)}" if texts else "")


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # the function is defined before what it closes over
        return True
    return False


def _code(code: CodeType) -> bytes:
    """Return what a function does, without the place of its source."""
    constants = [_code(c) if isinstance(c, CodeType) else describe(c).encode() for c in code.co_consts]
    return b"\0".join([code.co_code, " ".join(code.co_names).encode(), *constants])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
