"""The means of an epoch: of the total, of each term and of what weightings multiply it by."""

import pytest
import torch

from lossreg.demo.means import StepMeans


def test_means_are_over_the_steps_that_had_a_term():
    means = StepMeans(["a", "g/b"])
    means.add(torch.tensor(3.0), {"a": torch.tensor(1.0)}, {"a": torch.tensor(0.5), "g/b": torch.tensor(9.0)})
    means.add(
        torch.tensor(5.0),
        {"a": torch.tensor(2.0), "g/b": torch.tensor(4.0)},
        {"a": torch.tensor(1.5), "g/b": torch.tensor(7.0)},
    )
    means.gather()
    assert means.total == pytest.approx(4.0)
    assert means.terms == pytest.approx({"a": 1.5, "g/b": 4.0})
    assert means.coefficients == pytest.approx({"a": 1.0, "g/b": 7.0})
