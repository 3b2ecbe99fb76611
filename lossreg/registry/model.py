"""A component's parameters as a pydantic model: what is wrong with a value in words, and its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from lossreg.registry.params import Parameter

_WORDS = {
    "Input should be": "expected",
    "a valid integer": "an integer",
    "a valid array": "a list",
    "an object": "a mapping",
    "a valid ": "a ",
}

Path = tuple[str | int, ...]


def problems(found: list[Parameter], values: Mapping[str, Any], *, open_ended: bool) -> Iterator[tuple[Path, str]]:
    """Yield where and why values do not fit their parameters."""
    texts: dict[str, str] = {}
    for name, value in values.items():
        try:
            texts[name] = json.dumps(value)
        except (TypeError, ValueError) as error:
            yield (name,), f"is not plain data: {error}"
    plain = ", ".join(f"{json.dumps(str(name))}: {text}" for name, text in texts.items())
    asked = [p for p in found if p.name in texts or p.name not in values]
    try:
        model(asked, open_ended=open_ended).model_validate_json(f"{{{plain}}}", strict=True)
    except ValidationError as failure:
        yield from _by_parameter(failure).items()


def model(found: Iterable[Parameter], *, open_ended: bool = False) -> type[BaseModel]:
    """Return a pydantic model of a component's settable parameters (its JSON Schema is the component's)."""
    fields: dict[str, Any] = {}
    for p in found:
        if p.settable:
            default = ... if p.required else _plain_default(p.default)
            # an alias, since pydantic keeps its own method names and a leading underscore to itself
            fields[f"p_{p.name}"] = (p.type, Field(default, alias=p.name, description=p.doc or None))
    config = ConfigDict(extra="allow" if open_ended else "forbid", protected_namespaces=())
    return create_model("Parameters", __config__=config, **fields)


def _by_parameter(failure: ValidationError) -> dict[Path, str]:
    """Merge pydantic's errors so that the branches of one union become one message at one path."""
    merged: dict[Path, list[str]] = {}
    for error in failure.errors(include_url=False):
        location = error["loc"]
        # behind the parameter's name stand list positions and, for unions, the names of branches
        path = tuple(part for i, part in enumerate(location) if i == 0 or isinstance(part, int))
        if error["type"] == "missing":
            message = "is missing"
        elif error["type"] == "extra_forbidden":
            message = "is not a parameter"
        else:
            message = error["msg"]
            for theirs, ours in _WORDS.items():
                message = message.replace(theirs, ours)
        merged.setdefault(path, []).append(message)
    whole: dict[Path, str] = {}
    for path, messages in merged.items():
        parent = path[:1]
        if len(path) > 1 and parent in merged:
            continue
        whole[path] = " or ".join(dict.fromkeys(messages)).replace(" or expected", " or")
    return whole


def _plain_default(default: Any) -> Any:
    """Return a default that JSON Schema can show; an object of another kind is shown by its text."""
    try:
        json.dumps(default)
    except (TypeError, ValueError):
        return None
    return default
