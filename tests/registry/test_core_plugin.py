"""The core offers its own schedules, weightings and preprocesses, each by its name and one alias."""

from __future__ import annotations

import inspect

import pytest

from lossreg.composition import schedules
from lossreg.composition.schedules import Schedule
from lossreg.composition.weighting.base import Weighting
from lossreg.registry.components import Entry
from lossreg.registry.core_plugin import lossreg_preprocesses, lossreg_schedules, lossreg_weightings
from lossreg.registry.plugins import Plugin
from lossreg.testing import check_component, parametrize_components

SPECS = [*lossreg_schedules(), *lossreg_weightings()]


def test_every_schedule_is_offered() -> None:
    kinds = {
        name: kind
        for name, kind in vars(schedules).items()
        if inspect.isclass(kind) and issubclass(kind, Schedule) and not name.startswith("_") and kind is not Schedule
    }
    offered = {spec.name for spec in lossreg_schedules()}
    assert offered == {name for name, kind in kinds.items() if not inspect.isabstract(kind)} - {"FromCallable"}
    assert len(offered) == 11


def test_the_weightings_are_these() -> None:
    assert {spec.name: spec.aliases for spec in lossreg_weightings()} == {
        "Uncertainty": ("uncertainty",),
        "DWA": ("dwa",),
        "GradNorm": ("gradnorm",),
        "SoftAdapt": ("softadapt",),
        "ReLoBRaLo": ("relobralo",),
        "CoV": ("cov",),
        "Balancer": ("balancer",),
        "LRAnnealing": ("lrannealing",),
    }


def test_the_preprocesses_are_these() -> None:
    assert [(spec.name, spec.aliases, spec.provides) for spec in lossreg_preprocesses()] == [
        ("MinSNR", ("min_snr",), ("gt.snr_weight",))
    ]
    (spec,) = lossreg_preprocesses()
    assert Entry(spec, Plugin("core")).load().requires == spec.requires == ("gt.timesteps",)


@parametrize_components(plugin="core")
def test_each_keeps_its_contract(component) -> None:
    report = check_component(component)
    assert report.passed, report


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_each_is_a_class_of_its_name_with_a_summary(spec) -> None:
    target = Entry(spec, Plugin("core")).load()
    assert target.__name__ == spec.name
    assert issubclass(target, (Schedule, Weighting))
    assert spec.aliases == (spec.name.lower(),)
    assert spec.summary
    assert spec.summary[0].islower()
