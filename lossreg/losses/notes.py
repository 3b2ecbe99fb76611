"""Add notes to exceptions from losses and preprocesses: the term and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lossreg.losses.eager import outside, skip_frame
from lossreg.losses.paths import join
from lossreg.printable import printable

_MAX_TENSORS = 8  # of a batch in a note
_NEEDS_GRADIENTS = "does not require grad"
_HINT = (
    "gradients are off here; for a loss that takes derivatives, set `needs_grad = True` on its class, "
    "LossWrapper(..., needs_grad=True), or in YAML `wrap: {needs_grad: true}`"
)


class _TermNote(str):
    """A note that begins with the path of a term; pickling and copying convert it to `str`."""

    term: str
    rest: str

    def __new__(cls, term: str, rest: str) -> _TermNote:
        note = super().__new__(cls, f"in term {term!r}{rest}")
        note.term, note.rest = term, rest
        return note

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


@skip_frame
def note_loss(error: Exception, loss: Any, pred_batch: Any, gt_batch: Any) -> None:
    """Add a note with the term, its loss and the tensors it reads; an outer loss replaces the name of the term."""
    outside(_note_loss)(error, loss, pred_batch, gt_batch)


def _note_loss(error: Exception, loss: Any, pred_batch: Any, gt_batch: Any) -> None:
    from lossreg.losses.identity import identity  # it imports this module

    if _rename(error, lambda _: loss.name):
        for own, key in getattr(loss, "moved_keys", dict)().items():
            if own != key and repr(own) in str(error):
                error.add_note(f"{own!r} of the loss is {key!r} of the batch")
        return
    keys = {*loss.requires, *loss.optional}
    tensors = ", ".join(_described(keys, pred_batch, gt_batch)) or "no tensors"
    rest = f" ({identity(loss)}), given {tensors}"
    error.add_note(_TermNote(loss.name, rest))
    if not loss.needs_grad:
        note_no_gradients(error)


def note_group(error: Exception, name: str) -> None:
    """Prepend the name of a group to the path of the term in a note."""
    _rename(error, lambda term: join(name, term))


@skip_frame
def note_preprocess(error: Exception, name: str, keys: Collection[str], pred_batch: Any, gt_batch: Any) -> None:
    """Add a note with a preprocess and the tensors it reads."""
    outside(_note_preprocess)(error, name, keys, pred_batch, gt_batch)


def _note_preprocess(error: Exception, name: str, keys: Collection[str], pred_batch: Any, gt_batch: Any) -> None:
    both = {"pred": pred_batch, "gt": gt_batch}
    if keys:  # it reads only these
        both = {side: {k: v for k, v in batch.items() if f"{side}.{k}" in keys} for side, batch in both.items()}
    tensors = ", ".join(_described(keys, both["pred"], both["gt"])) or "no tensors"
    error.add_note(f"in preprocess {name!r}, given {tensors}")


def note_no_gradients(error: Exception) -> None:
    """Add a hint to the error of a derivative that was taken with gradients off."""
    if _NEEDS_GRADIENTS in str(error) and not torch.is_grad_enabled() and _HINT not in _notes(error):
        error.add_note(_HINT)


def _notes(error: Exception) -> list[str]:
    return getattr(error, "__notes__", [])


def _rename(error: Exception, renamed: Callable[[str], str]) -> bool:
    """Change the path in the note of a term; return whether there is such a note."""
    notes = _notes(error)
    for i, note in enumerate(notes):
        if isinstance(note, _TermNote):
            notes[i] = _TermNote(renamed(note.term), note.rest)
            return True
    return False


def _described(keys: Collection[str], pred_batch: Any, gt_batch: Any) -> Iterator[str]:
    """Yield descriptions of the tensors of a batch: those at `keys`, or all of a side that declares none."""
    for side, batch in (("pred", pred_batch), ("gt", gt_batch)):
        if not isinstance(batch, Mapping):
            if batch is not None:
                yield f"{side} {_shown(batch)}"
            continue
        declared = [key for key in batch.keys() if f"{side}.{key}" in keys]  # noqa: SIM118 -- a TensorDict has rows
        listed = declared or list(batch.keys())
        yield from (f"{side}.{printable(str(key))} {_shown(batch[key])}" for key in listed[:_MAX_TENSORS])
        if len(listed) > _MAX_TENSORS:
            yield f"{len(listed) - _MAX_TENSORS} more keys of {side}"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Tensor) for item in value):
        return f"[{', '.join(map(_shown, value[:_MAX_TENSORS]))}{', ...' if len(value) > _MAX_TENSORS else ''}]"
    return type(value).__name__
