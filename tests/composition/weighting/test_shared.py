"""What weightings at shared parameters have in common."""

import math

import pytest
import torch

from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.lrannealing import LRAnnealing
from lossreg.composition.weighting.shared import dense, gradients, length
from lossreg.errors import WeightingError

KINDS = [GradNorm, LRAnnealing]


def bound(kind, *shared):
    weighting = kind()
    weighting.bind(["a", "b"])
    if shared:
        weighting.set_shared_parameters(shared)
    return weighting


@pytest.mark.parametrize("kind", KINDS)
def test_each_says_under_its_own_name_what_is_wrong(kind):
    shared, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    values = torch.tensor([1.0, 2.0]) * other
    with pytest.raises(WeightingError, match=f"{kind.__name__}: the shared parameters are not set"):
        bound(kind)(values)
    with pytest.raises(WeightingError, match=f"{kind.__name__}: no term depends on the shared parameters"):
        bound(kind, shared)(values)
    frozen = bound(kind, shared)
    shared.requires_grad_(False)
    with pytest.raises(WeightingError, match=f"{kind.__name__}: expected a shared parameter with requires_grad"):
        frozen(values)
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.set_shared_parameters: parameters.*\(give "):
        bound(kind).set_shared_parameters([])


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_stay_the_callers(kind):
    weighting = bound(kind, torch.nn.Parameter(torch.ones(1)))
    assert list(weighting.parameters()) == []


def test_a_gradient_that_is_not_there_is_none():
    x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
    found = gradients((3 * x).sum(), [x, y])
    assert found[0].tolist() == [3.0, 3.0]
    assert found[1] is None
    assert gradients(torch.ones(()), [x]) == [None]


def test_the_length_is_that_of_all_gradients_together():
    rows = [torch.tensor([3.0]), None, torch.tensor([[0.0, 4.0]]).to_sparse()]
    like = torch.ones(1)
    assert [tuple(g.shape) for g in dense(rows)] == [(1,), (1, 2)]
    assert float(length(rows, like)) == 5.0
    assert float(length([None], like)) == 0.0
    assert float(length([torch.full((4,), 1e30)], like)) == pytest.approx(2e30)
    assert math.isfinite(float(length([torch.full((4,), 1e30)] * 2, like)))
