"""A schedule: a callable from epoch to weight."""

from __future__ import annotations

from dataclasses import dataclass

from lossreg.composition.schedules import Schedule


@dataclass(frozen=True)
class Triangle(Schedule):
    """Rises from 0 to `height` at the epoch `peak`, and falls to 0 as fast.

    Args:
        height: the largest weight.
        peak: the epoch of the largest weight; above 0.
    """

    height: float = 1.0
    peak: float = 10.0

    def __post_init__(self) -> None:
        if not self.peak > 0:
            raise ValueError(f"Triangle: peak: expected a number above 0, found {self.peak!r}")

    def __call__(self, epoch: float) -> float:
        """Return the weight; outside of 0 to `2 * peak` it is 0."""
        return self.height * max(1.0 - abs(epoch - self.peak) / self.peak, 0.0)

    @property
    def knots(self) -> tuple[float, ...]:
        """The epochs at which the course changes; plots mark them."""
        return (0.0, self.peak, 2 * self.peak)
