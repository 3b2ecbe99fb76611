"""Notes on exceptions from inside a loss or a preprocess: which term it was, and what it was given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lossreg.losses.eager import outside, skip_frame
from lossreg.losses.paths import join

_MOST = 8  # tensors of a batch that a note lists
_NEEDS_GRADIENTS = "does not require grad"
_HINT = (
    "gradients are off here; a loss that takes derivatives must say so: set `needs_grad = True` on its class, or "
    "LossWrapper(..., needs_grad=True), in YAML `wrap: {needs_grad: true}`"
)


class _TermNote(str):
    """A note that begins with a term's path; it becomes a plain text where it is pickled or copied."""

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
    """Add a note with the term, its loss and the tensors that it reads; a loss around gives it its own name."""
    outside(_note_loss)(error, loss, pred_batch, gt_batch)


def _note_loss(error: Exception, loss: Any, pred_batch: Any, gt_batch: Any) -> None:
    from lossreg.losses.identity import identity  # it imports the losses

    if _rename(error, lambda _: loss.name):
        return
    keys = {*loss.requires, *loss.optional}
    given = ", ".join(_described(keys, pred_batch, gt_batch)) or "no tensors"
    rest = f" ({identity(loss)}), given {given}"
    error.add_note(_TermNote(loss.name, rest))
    if not loss.needs_grad:
        note_no_gradients(error)


def note_group(error: Exception, name: str) -> None:
    """Make the term's path in a note `name/term`: it was raised inside the group of that name."""
    _rename(error, lambda term: join(name, term))


@skip_frame
def note_preprocess(error: Exception, name: str, keys: Collection[str], pred_batch: Any, gt_batch: Any) -> None:
    """Add a note with a preprocess and the tensors that it reads."""
    outside(_note_preprocess)(error, name, keys, pred_batch, gt_batch)


def _note_preprocess(error: Exception, name: str, keys: Collection[str], pred_batch: Any, gt_batch: Any) -> None:
    both = {"pred": pred_batch, "gt": gt_batch}
    if keys:  # it reads these and no more
        both = {side: {k: v for k, v in batch.items() if f"{side}.{k}" in keys} for side, batch in both.items()}
    given = ", ".join(_described(keys, both["pred"], both["gt"])) or "no tensors"
    error.add_note(f"in preprocess {name!r}, given {given}")


def note_no_gradients(error: Exception) -> None:
    """Add the hint for a derivative that was taken where gradients are off."""
    if _NEEDS_GRADIENTS in str(error) and not torch.is_grad_enabled() and _HINT not in _notes(error):
        error.add_note(_HINT)


def _notes(error: Exception) -> list[str]:
    return getattr(error, "__notes__", [])


def _rename(error: Exception, renamed: Callable[[str], str]) -> bool:
    """Give the note of a term, if there is one, another path; return whether there is one."""
    notes = _notes(error)
    for i, note in enumerate(notes):
        if isinstance(note, _TermNote):
            notes[i] = _TermNote(renamed(note.term), note.rest)
            return True
    return False


def _described(keys: Collection[str], pred_batch: Any, gt_batch: Any) -> Iterator[str]:
    """Describe the tensors of a batch: those at `keys` where a side is declared, else all of that side."""
    for side, batch in (("pred", pred_batch), ("gt", gt_batch)):
        if not isinstance(batch, Mapping):
            if batch is not None:
                yield f"{side} {_shown(batch)}"
            continue
        declared = [key for key in batch if f"{side}.{key}" in keys]
        listed = declared or list(batch)
        yield from (f"{side}.{key} {_shown(batch[key])}" for key in listed[:_MOST])
        if len(listed) > _MOST:
            yield f"{len(listed) - _MOST} more keys of {side}"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Tensor) for item in value):
        return f"[{', '.join(map(_shown, value[:_MOST]))}{', ...' if len(value) > _MOST else ''}]"
    return type(value).__name__
