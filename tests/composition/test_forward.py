"""A batch with nothing to learn is absent, not zero, in norms, in weightings and in what is told of a forward.

An error of one rank is told to those that wait for it.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lossreg import LossWrapper, MultiLoss, calibrate_norms
from lossreg.composition.weighting.balancer import Balancer
from lossreg.composition.weighting.base import Weighting
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.lrannealing import LRAnnealing
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.shared import AtSharedParameters
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import DistributedError, MissingKeyError, NonFiniteError

IGNORED = -100


def criterion(**options) -> MultiLoss:
    """Return cross-entropy of `classes`, which a batch may lack wholly, and a term that each batch has."""
    losses = [
        LossWrapper(nn.CrossEntropyLoss(), "classes", pred_key="logits", gt_key="labels"),
        LossWrapper(nn.MSELoss(), "height", pred_key="height", gt_key="height"),
    ]
    return MultiLoss(losses, [1.0, 1.0], **options).train()


def batch(seed=0, samples=4, ignored=False):
    """Return predictions that need gradients, and targets of which all classes may be ignored."""
    make = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, 3, 5, generator=make).requires_grad_()
    height = torch.randn(samples, 2, generator=make).requires_grad_()
    labels = torch.randint(0, 3, (samples, 5), generator=make)
    labels = torch.full_like(labels, IGNORED) if ignored else labels
    return {"logits": logits, "height": height}, {"labels": labels, "height": torch.randn(samples, 2, generator=make)}


def test_cross_entropy_over_nothing_is_a_zero_on_the_graph():
    pred, gt = batch(ignored=True)
    total, values, _ = criterion()(pred, gt)
    total.backward()
    assert float(values["classes"]) == 0.0
    assert torch.equal(pred["logits"].grad, torch.zeros_like(pred["logits"]))
    assert torch.isfinite(pred["height"].grad).all()


def test_a_norm_is_not_moved_by_a_batch_over_nothing():
    multi_loss = criterion()
    multi_loss.update_norm(*batch(0), 4)
    before = {key: value.clone() for key, value in multi_loss.loss_funcs[0].state_dict().items()}
    multi_loss.update_norm(*batch(1, ignored=True), 4)
    after = multi_loss.loss_funcs[0].state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_norm_weighs_a_batch_by_what_counts_in_it():
    loss = LossWrapper(nn.CrossEntropyLoss(), "classes", pred_key="logits", gt_key="labels")
    batches = [batch(seed) for seed in range(3)]
    for i, (_, gt) in enumerate(batches):
        gt["labels"][:, : 2 * i] = IGNORED
    for pred, gt in batches:
        loss.update_norm(pred, gt, 4)
    joined = [torch.cat([side[i][key] for side in batches]) for i, key in enumerate(("logits", "labels"))]
    expected = nn.functional.cross_entropy(*joined)
    assert float(loss.norm) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert float(loss.norm_count) == pytest.approx(4 * (5 + 3 + 1) / 5)


def test_calibration_leaves_out_the_batches_over_nothing():
    multi_loss = criterion()
    batches = [batch(seed, ignored=seed == 3) for seed in range(8)]
    norms = calibrate_norms(
        multi_loss, nn.Identity(), batches, batch_fn=lambda _, given: (*given, 4), max_samples=32, progress=False
    )
    values = [
        float(nn.functional.cross_entropy(pred["logits"], gt["labels"]).detach())
        for pred, gt in batches
        if not bool((gt["labels"] == IGNORED).all())
    ]
    assert norms["classes"] == pytest.approx(sum(values) / 7, rel=1e-6)


def test_a_term_over_nothing_in_all_batches_keeps_its_norm():
    batches = [batch(seed, ignored=True) for seed in range(3)]
    with pytest.warns(UserWarning, match="no batch had what 'classes' needs; its norm is 1"):
        norms = calibrate_norms(
            criterion(), nn.Identity(), batches, batch_fn=lambda _, given: (*given, 4), max_samples=12, progress=False
        )
    assert norms["classes"] == 1.0


def states(weighting: Weighting) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in weighting.state_dict().items()}


def weighted(kind: type[Weighting]) -> MultiLoss:
    multi_loss = criterion(weighting=kind())
    if isinstance(multi_loss.weighting, AtSharedParameters):
        multi_loss.weighting.set_shared_parameters([SHARED])
    return multi_loss


SHARED = nn.Parameter(torch.ones(()))


def run(multi_loss: MultiLoss, seed: int, epoch: int, **options) -> torch.Tensor:
    pred, gt = batch(seed, **options)
    total = multi_loss({key: value * SHARED for key, value in pred.items()}, gt, epoch=epoch)[0]
    total.backward()
    return total


@pytest.mark.parametrize("kind", [Balancer, CoV, DWA, GradNorm, LRAnnealing, ReLoBRaLo, SoftAdapt])
def test_a_first_batch_over_nothing_is_no_reference(kind):
    """The state of the term is as if the batch had lacked it."""
    found, expected = weighted(kind), weighted(kind)
    expected._optional = (True, False)
    for seed, ignored in enumerate([True, False, False, True]):
        run(found, seed, seed, ignored=ignored)
        pred, gt = batch(seed)
        if ignored:
            del pred["logits"], gt["labels"]
        expected({key: value * SHARED for key, value in pred.items()}, gt, epoch=seed)[0].backward()
    for key, value in states(expected.weighting).items():
        torch.testing.assert_close(states(found.weighting)[key], value, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_uncertainty_learns_nothing_from_a_term_over_nothing():
    multi_loss = criterion(weighting=Uncertainty())
    total = run(multi_loss, 0, 0, ignored=True)
    gradient = multi_loss.weighting.s.grad
    assert float(gradient[0]) == 0.0
    assert float(gradient[1]) != 0.0
    assert math.isfinite(float(total.detach()))


def test_the_record_says_how_many_elements_a_value_is_a_mean_over():
    multi_loss = criterion()
    pred, gt = batch()
    gt["labels"][0] = IGNORED
    multi_loss(pred, gt)
    counts = {path: float(term.count) for path, term in multi_loss.last_record.items()}
    assert counts == {"classes": 15.0, "height": 8.0}


# --- errors of one rank -----------------------------------------------------------------------------


TALKING = {
    "a weighting": {"weighting": CoV},
    "skip_term": {"on_nonfinite": "skip_term"},
    "running norms": {"track_norms": "running"},
}


def talking(talk, grouped):
    options = {key: value() if callable(value) else value for key, value in TALKING[talk].items()}
    return MultiLoss([criterion(**options)], [1.0]) if grouped else criterion(**options)


def lacking():
    pred, gt = batch()
    del gt["labels"]
    return pred, gt


def failing(pred_batch, gt_batch):
    if "labels" not in gt_batch:
        raise KeyError("labels")
    return pred_batch, gt_batch


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("talk", TALKING)
def test_an_error_of_one_rank_is_told_to_those_that_wait_in_a_collective(on_ranks, talk, grouped):
    criteria = [talking(talk, grouped) for _ in range(2)]
    told, raised = on_ranks(lambda: criteria[0](*batch()), lambda: criteria[1](*lacking()))
    assert isinstance(raised, MissingKeyError)
    assert isinstance(told, DistributedError)
    assert str(told) == f"rank 1 failed with MissingKeyError: {raised}"
    states = [criterion.state_dict() for criterion in (*criteria, talking(talk, grouped))]
    assert all(torch.equal(state[key], value) for state in states[:2] for key, value in states[2].items())


def test_an_error_of_a_preprocess_is_told_too(on_ranks):
    criteria = [criterion(weighting=CoV(), pre_processes=[failing]) for _ in range(2)]
    told, raised = on_ranks(lambda: criteria[0](*batch()), lambda: criteria[1](*lacking()))
    assert isinstance(raised, KeyError)
    assert str(told) == "rank 1 failed with KeyError: 'labels'"


def test_a_value_that_raises_on_one_rank_is_told_to_the_other(on_ranks):
    def nan():
        pred, gt = batch()
        return pred, {**gt, "height": gt["height"] * math.nan}

    criteria = [criterion(weighting=CoV(), on_nonfinite="raise") for _ in range(2)]
    told, raised = on_ranks(lambda: criteria[0](*batch()), lambda: criteria[1](*nan()))
    assert isinstance(raised, NonFiniteError)
    assert str(told) == f"rank 1 failed with NonFiniteError: {raised}"


def test_without_a_collective_an_error_of_one_rank_is_its_own(on_ranks):
    criteria = [criterion() for _ in range(2)]
    total, raised = on_ranks(lambda: criteria[0](*batch())[0].item(), lambda: criteria[1](*lacking()))
    assert total == criterion()(*batch())[0].item()
    assert isinstance(raised, MissingKeyError)


def test_without_a_collective_nothing_is_computed_after_an_error(on_ranks):
    computed = []

    def fail(pred, gt):
        raise ValueError("no")

    def compute(pred, gt):
        computed.append("b")
        return (pred - gt).abs().mean()

    def forward():
        multi_loss = MultiLoss([LossWrapper(fail, "a"), LossWrapper(compute, "b")], [1.0, 1.0])
        return multi_loss(torch.ones(2), torch.zeros(2))

    assert [str(error) for error in on_ranks(forward, forward)] == ["no", "no"]
    assert computed == []


def test_a_group_that_one_rank_lacks_leaves_no_rank_waiting(on_ranks):
    def make():
        return MultiLoss([criterion(name="group", weighting=CoV())], [1.0], optional_terms=["group"])

    def forward(multi_loss, pred, gt):
        return len(multi_loss(pred, gt)[1]), {key: value.tolist() for key, value in states(multi_loss).items()}

    nothing = {"other": torch.ones(1, requires_grad=True)}
    criteria = [make(), make()]
    (there, state), (absent, other) = on_ranks(
        lambda: forward(criteria[0], *batch()), lambda: forward(criteria[1], nothing, {})
    )
    assert (there, absent) == (2, 0)
    assert state == other


def test_values_of_ranks_are_weighed_by_what_they_are_means_over(on_ranks):
    """The state on each rank is that of one process with the joined batch."""

    def train(multi_loss, seeds):
        for seed in seeds:
            multi_loss(*batch(seed, samples=1 + seed))

    joined, parts = criterion(weighting=CoV()), [criterion(weighting=CoV()) for _ in range(2)]
    for seed in (0, 2):
        both = [batch(seed + i, samples=1 + seed + i) for i in range(2)]
        joined(*({key: torch.cat([one[side][key] for one in both]) for key in both[0][side]} for side in range(2)))
    on_ranks(lambda: train(parts[0], (0, 2)), lambda: train(parts[1], (1, 3)))
    for multi_loss in parts:
        for key, value in states(joined.weighting).items():
            torch.testing.assert_close(states(multi_loss.weighting)[key], value)


def test_an_error_inside_of_a_group_names_the_group_and_the_term():
    def fail(prediction, target):
        raise ZeroDivisionError("nothing to divide")

    inner = MultiLoss([LossWrapper(fail, "term")], [1.0], name="group")
    for criterion, path in ((MultiLoss([inner], [1.0]), "group/term"), (inner, "term")):
        with pytest.raises(ZeroDivisionError) as raised:
            criterion(torch.ones(2, requires_grad=True), torch.zeros(2))
        (note,) = raised.value.__notes__
        assert note.startswith(f"in term {path!r} (")
