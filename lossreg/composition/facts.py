"""What a criterion is, as named texts that ranks compare: its terms in order, and every option of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossreg.keys import Compound
from lossreg.losses.base import Loss
from lossreg.losses.description import describe
from lossreg.losses.paths import join
from lossreg.values import keys_of

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss

OPTIONS = tuple(
    argument for key in keys_of(Compound).values() if (argument := key.argument("MultiLoss")) not in ("", "batch_keys")
)
"""The options of a `MultiLoss` that keys of a compound loss declare; all may be set after the construction."""


def facts(multi_loss: MultiLoss, group: str = "") -> dict[str, str]:
    """Return what two criteria must have in common to be the same, the names of the terms first.

    Args:
        multi_loss: the criterion.
        group: the path of the group that it is; empty for the whole.
    """
    inside = f" of group {group!r}" if group else ""
    what = "list of members (name them under `terms`)" if multi_loss.dictionary else "list of terms"
    found = {f"the {what}{inside}": ", ".join(multi_loss.names)}
    found |= {f"{option}{inside}": describe(getattr(multi_loss, option)) for option in OPTIONS}
    if multi_loss.dictionary:
        found[f"the dictionary{inside}"] = multi_loss.dictionary
    *losses, weighting, preprocesses = multi_loss.descriptions
    found |= {f"the weighting{inside}": weighting, f"the list of preprocesses{inside}": preprocesses}
    for term, loss in zip(multi_loss.terms, losses, strict=True):
        path = join(group, term.name)
        found[f"the weight of {path!r}"] = describe(term.schedule)
        if isinstance(term.loss, Loss):
            found[f"the loss of {path!r}"] = loss
            found[f"normalize of {path!r}"] = str(term.normalize)
            found[f"optional of {path!r}"] = str(term.optional)
        else:
            found |= facts(term.loss, path)
    return found
