"""Checks of the norm, checkpoints, pickling and copies of a loss."""

from __future__ import annotations

import copy
import pickle

from lossreg.losses.base import Loss
from lossreg.testing.contract import check, require
from lossreg.testing.subject import Subject, at_epoch, close


@check("deterministic")
def norm(subject: Subject) -> None:
    """`update_norm` sets the norm, a normalised forward divides by the norm, and `reset_norm` sets it to 1.

    Do not override these methods; write only `compute`.
    """
    require(subject.value() != 0, "its value is 0 on the example; choose an example where it is not")
    loss = _calibrated(subject)
    raw, scale = subject.value(loss), loss.norm[0]
    require(close(scale, raw), f"norm after update_norm: expected {raw:.6g}, found {scale:.6g}")
    subject.seed()
    actual = loss(*subject.batch(), **at_epoch(loss))[0]
    require(close(actual * scale, raw), f"normalised: expected {raw:.6g} / {scale:.6g}, found {actual:.6g}")
    loss.reset_norm()
    require(bool(loss.norm == 1), f"norm after reset_norm: expected 1, found {loss.norm[0]:.6g}")


@check("norm")
def state_dict(subject: Subject) -> None:
    """The `state_dict` loads strictly into a new loss, which then has the same value.

    Register all state as buffers, in the constructor.
    """
    loss, other = _calibrated(subject), subject.loss()
    if not loss.norm > 0:  # a value may be negative; a checkpoint's norm may not
        loss.reset_norm()
        loss.norm.fill_(2.0)
    other.load_state_dict(loss.state_dict())
    _same(subject, loss, other, "after load_state_dict")


@check("norm")
def pickles(subject: Subject) -> None:
    """The loss can be pickled, also after a forward, and the copy has the same value.

    Do not store lambdas, local functions or open files; define functions at module level.
    """
    loss = _calibrated(subject)
    _same(subject, loss, pickle.loads(pickle.dumps(loss)), "after pickling")


@check("norm")
def deepcopies(subject: Subject) -> None:
    """`copy.deepcopy` works, also after a forward, and the copy has the same value.

    Do not store tensors with a graph on the object: detach them, or put them into `self.extra_info`.
    """
    loss = _calibrated(subject)
    _same(subject, loss, copy.deepcopy(loss), "after copy.deepcopy")


def _calibrated(subject: Subject) -> Loss:
    """Return a loss with a norm, after a forward."""
    loss, batch = subject.loss(), subject.batch()
    subject.seed()
    loss.update_norm(*batch, 2)
    subject.value(loss, batch)
    return loss


def _same(subject: Subject, loss: Loss, other: Loss, how: str) -> None:
    actual, expected = subject.value(other), subject.value(loss)
    require(close(actual, expected), f"value {how}: expected {expected:.6g}, found {actual:.6g}")
    require(close(other.norm, loss.norm), f"norm {how}: expected {loss.norm[0]:.6g}, found {other.norm[0]:.6g}")
