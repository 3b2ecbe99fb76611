"""What the tests of all weightings share: one of each strategy, and runs to drive them by."""

from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pytest
import torch

from lossreg.composition.weighting.shared import AtSharedParameters

STRATEGIES = {
    "uncertainty": ("Uncertainty", {}),
    "dwa": ("DWA", {"temperature": 0.5}),
    "gradnorm": ("GradNorm", {"lr": 0.1}),
    "softadapt": ("SoftAdapt", {"beta": 1.0}),
    "softadapt-normalized": ("SoftAdapt", {"normalized": True, "loss_weighted": True, "order": 3}),
    "relobralo": ("ReLoBRaLo", {"alpha": 0.8, "beta": 0.6}),
    "cov": ("CoV", {}),
    "balancer": ("Balancer", {"ratios": {"t1": 2.0}, "beta": 0.8}),
    "lrannealing": ("LRAnnealing", {"residual": "t1"}),
}


@dataclass
class Driver:
    """Make a strategy and put runs of losses, (steps, n), through it, three steps an epoch."""

    strategy: str

    def make(self, n=3):
        name, options = STRATEGIES[self.strategy]
        module = import_module(f"lossreg.composition.weighting.{self.strategy.partition('-')[0]}")
        weighting = getattr(module, name)(**options)
        weighting.bind([f"t{i}" for i in range(n)])
        weighting.parameter = (torch.nn.Parameter(torch.ones(1)),)  # in a tuple, it is none of the weighting's own
        if isinstance(weighting, AtSharedParameters):
            weighting.set_shared_parameters(weighting.parameter)
        return weighting

    def call(self, weighting, values, active=None, **options):
        """Ask for the coefficients, with the predictions where they are read."""
        if weighting.reads_predictions:
            options["predictions"] = weighting.parameter[0]
        return weighting(values, active, **options)

    def values(self, weighting, losses):
        """Put losses on a graph; each has its own value as gradient at the one parameter."""
        values = torch.as_tensor(np.asarray(losses), dtype=torch.float32)
        if weighting.differentiates:
            return values * weighting.parameter[0]
        return values.clone().requires_grad_()

    def step(self, weighting, losses, t=0, active=None):
        """Do one iteration, with a step of descent for a learned state; return the contributions."""
        values = self.values(weighting, losses)
        contributions = self.call(weighting, values, active, epoch=t // 3).of(values)
        parameters = list(weighting.weighting_parameters())
        if parameters and weighting.training:
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(contributions.sum(), parameters), strict=True
            ):
                parameter.data -= 0.1 * gradient.clamp(-10, 10)
        return contributions.detach()

    def run(self, weighting, losses, start=0):
        """Return (steps, n) contributions."""
        return torch.stack([self.step(weighting, row, start + t) for t, row in enumerate(losses)])

    def weights(self, weighting, losses):
        """Return (steps, n) what each value was multiplied by."""
        found = []
        handle = weighting.register_forward_hook(lambda _, args, coefficients: found.append(coefficients.weights))
        self.run(weighting, losses)
        handle.remove()
        return torch.stack(found).detach()

    def state(self, weighting):
        return {name: value.clone() for name, value in weighting.state_dict().items()}


def pytest_generate_tests(metafunc):
    """Run a test that takes a `driver` on every strategy, or on those of which what it states is promised."""
    if "driver" in metafunc.fixturenames:
        promised = getattr(metafunc.function, "promised", lambda weighting: True)
        drivers = [driver for driver in map(Driver, STRATEGIES) if promised(driver.make())]
        assert drivers, f"{metafunc.function.__name__} states what is promised of no strategy"
        metafunc.parametrize("driver", drivers, ids=[driver.strategy for driver in drivers])


@pytest.fixture(scope="session")
def losses():
    """A run of 12 steps of 3 terms."""
    return np.random.default_rng(0).uniform(0.2, 3.0, size=(12, 3))
