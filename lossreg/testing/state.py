"""What a loss keeps: its norm, and what goes into a checkpoint, into another process, into a copy."""

from __future__ import annotations

import copy
import pickle

from lossreg.losses.base import Loss
from lossreg.testing.contract import check, require
from lossreg.testing.subject import Subject, close


@check("value")
def norm(subject: Subject) -> None:
    """`update_norm` makes the norm the value, a normalised forward divides by it, and `reset_norm` sets it to 1.

    Override none of them; write `compute` alone.
    """
    loss = _calibrated(subject)
    raw, scale = subject.value(loss), loss.norm[0]
    require(close(scale, raw), f"after update_norm the norm is {scale:.6g}, the value {raw:.6g}")
    subject.seed()
    found = loss(*subject.batch())[0]
    require(close(found * scale, raw), f"normalised it gives {found:.6g}, not {raw:.6g} over {scale:.6g}")
    loss.reset_norm()
    require(bool(loss.norm == 1), f"after reset_norm the norm is {loss.norm[0]:.6g}")


@check("norm")
def state_dict(subject: Subject) -> None:
    """Its `state_dict` loads strictly into a loss that is built anew, which then gives the same value.

    Register what it keeps as buffers, in the constructor.
    """
    loss, other = _calibrated(subject), subject.loss()
    if not loss.norm > 0:  # a value may be negative; a checkpoint's norm may not
        loss.reset_norm()
        loss.norm.fill_(2.0)
    other.load_state_dict(loss.state_dict())
    _same(subject, loss, other, "with the other's state_dict")


@check("norm")
def pickles(subject: Subject) -> None:
    """It can be pickled, after a forward too, and the copy gives the same value.

    Keep no lambda, local function or open file; name functions at the top of a module.
    """
    loss = _calibrated(subject)
    _same(subject, loss, pickle.loads(pickle.dumps(loss)), "pickled and read back")


@check("norm")
def deepcopies(subject: Subject) -> None:
    """It can be copied by `copy.deepcopy`, after a forward too, and the copy gives the same value.

    Keep no tensor of a graph on the object: put what is to be seen into `self.extra_info`, or detach it.
    """
    loss = _calibrated(subject)
    _same(subject, loss, copy.deepcopy(loss), "copied")


def _calibrated(subject: Subject) -> Loss:
    """Return a loss that has been used: with a norm, and after a forward."""
    loss, batch = subject.loss(), subject.batch()
    subject.seed()
    loss.update_norm(*batch, 2)
    subject.value(loss, batch)
    return loss


def _same(subject: Subject, loss: Loss, other: Loss, how: str) -> None:
    found, expected = subject.value(other), subject.value(loss)
    require(close(found, expected), f"{how} it gives {found:.6g}, before {expected:.6g}")
    require(close(other.norm, loss.norm), f"{how} its norm is {other.norm[0]:.6g}, before {loss.norm[0]:.6g}")
