"""Packages of strangers: three ways to offer losses, all from wheels, beside a fourth that is broken."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.needs_plugins

TRAIN = """
import json, sys, warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import lossreg
    criterion = lossreg.load_loss("loss.yaml")
torch.manual_seed(0)
model = torch.nn.Conv2d(1, 1, 3, padding=1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
image, target = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
totals = []
for _ in range(2):
    total, values, _ = criterion({"seg": model(image)}, {"gt_polygons_image": target}, epoch=1)
    optimizer.zero_grad(); total.backward(); optimizer.step()
    totals.append(total.item())
print(json.dumps({"totals": totals, "terms": list(values), "warnings": [str(w.message) for w in caught]}))
"""


def _train(environment, yaml):
    (environment.folder / "loss.yaml").write_text(yaml)
    done = environment.run(TRAIN)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- one line of pyproject.toml -------------------------------------------------------------------

ONE_LINE = {
    "acme_losses.py": """
        import torch

        class AcmeLoss(torch.nn.Module):
            def __init__(self, power=2.0):
                super().__init__()
                self.power = power

            def forward(self, prediction, target):
                return (prediction - target).abs().pow(self.power)
    """
}


@pytest.fixture
def acme(package):
    return package("acme-losses", ONE_LINE, {"lossreg.losses": {"AcmeLoss": "acme_losses:AcmeLoss"}})


def test_one_line_is_enough_and_a_broken_neighbour_changes_nothing_but_a_warning(
    wheels, new_environment, package, acme
):
    yaml = "loss_list: [{loss: AcmeLoss, power: 1.5, weight: 2.0}]"
    environment = new_environment(wheels["core"], acme)
    alone = _train(environment, yaml)
    assert alone["terms"] == ["AcmeLoss"]
    assert alone["totals"][1] < alone["totals"][0]
    assert alone["warnings"] == []

    broken = {"broken.py": "raise RuntimeError('not today')"}
    environment.install(package("broken-neighbour", broken, {"lossreg": {"broken": "broken"}}))
    beside = _train(environment, yaml)
    assert beside["totals"] == alone["totals"]
    (warning,) = beside["warnings"]
    assert warning == "plugin 'broken' (broken-neighbour 1.0) is left out: RuntimeError: not today"


# --- three packages in one config -----------------------------------------------------------------

HOOKS = {
    "birch.py": """
        from lossreg import LossSpec, PreprocessSpec, ScheduleSpec, hookimpl

        @hookimpl
        def lossreg_losses():
            return [
                LossSpec("BirchLoss", "birch_losses:BirchLoss", aliases=("birch",)),
                LossSpec("SpareLoss", "birch_losses:BirchLoss"),
            ]

        @hookimpl
        def lossreg_preprocesses():
            return [
                PreprocessSpec(
                    "Inverted", "birch_losses:Inverted",
                    requires=("gt.gt_polygons_image",), provides=("gt.inverted",),
                )
            ]

        @hookimpl
        def lossreg_schedules():
            return [ScheduleSpec("Halving", "birch_losses:Halving")]
    """,
    "birch_losses.py": """
        from dataclasses import dataclass

        import lossreg

        class BirchLoss(lossreg.Loss):
            requires = ("pred.seg", "gt.inverted")

            def compute(self, pred, gt):
                error = self.read(pred, gt, "pred.seg") + self.read(pred, gt, "gt.inverted") - 1
                return error.square().mean()

        class Inverted(lossreg.Preprocess):
            requires = ("gt.gt_polygons_image",)
            provides = ("gt.inverted",)

            def compute(self, pred, gt):
                return {"gt.inverted": 1 - gt["gt_polygons_image"]}

        @dataclass(frozen=True)
        class Halving(lossreg.Schedule):
            start: float

            def __call__(self, epoch):
                return self.start * 0.5 ** epoch
    """,
}

ADAPTER = {
    "cedar.py": """
        from lossreg import LossSpec, hookimpl

        @hookimpl
        def lossreg_losses():
            return [LossSpec("Gap", "oldlib:Gap", wrap={"oldlib": True}, targets=("oldlib.legacy.Gap",))]

        @hookimpl
        def lossreg_wrap(loss, name, options):
            if not options.get("oldlib"):
                return None
            from lossreg import LossWrapper
            return LossWrapper(lambda prediction, target: loss(truth=target, guess=prediction), name)
    """
}

LIBRARY = {
    "oldlib.py": """
        class Gap:
            def __call__(self, *, truth, guess):
                return (truth.mean() - guess.mean()) ** 2
    """
}

ALL = """
loss_list:
  - {loss: acme-losses/AcmeLoss, name: acme, weight: 1.0}
  - {loss: birch, weight: {schedule: Halving, start: 2.0}}
  - {_target_: oldlib.legacy.Gap, name: gap, weight: 0.5}
"""


@pytest.fixture
def strangers(wheels, new_environment, package, acme):
    birch = package("birch-losses", HOOKS, {"lossreg": {"birch": "birch"}})
    cedar = package("cedar-adapters", ADAPTER, {"lossreg": {"cedar": "cedar"}}, ("lossreg", "oldlib"))
    return new_environment(wheels["core"], acme, birch, cedar, package("oldlib", LIBRARY, {}, ()))


FAULT = "faulty-losses"
FINE = "from lossreg import LossSpec, hookimpl\n\n@hookimpl\ndef lossreg_losses():\n    return "

DISCOVERED = {  # fault: (the plugin's module, what the package wants, what the warning says)
    "raises at import": ("1 / 0", (), "ZeroDivisionError: division by zero"),
    "does not import": ("import no_such_module", (), "No module named 'no_such_module'"),
    "leaves the process": ("raise SystemExit(3)", (), "called sys.exit(3)"),
    "raises in the hook": (FINE + "[1 / 0]", (), "ZeroDivisionError: division by zero"),
    "returns nonsense": (FINE + "42", (), "lossreg_losses() returned 42; expected a list of LossSpec"),
    "returns other specs": (FINE + "['MSE']", (), "returned 'MSE' in its list; expected a LossSpec"),
    "names a malformed target": (
        FINE + "[LossSpec('A', 'a.b.C')]",
        (),
        "not of the form 'package.module:Attr",
    ),
    "names an unknown hook": (
        "from lossreg import hookimpl\n\n@hookimpl\ndef lossreg_optimizers():\n    return []",
        (),
        "lossreg_optimizers",
    ),
    "wants a newer core": (FINE + "[LossSpec('A', 'a:A')]", ("lossreg>=99",), "wants lossreg>=99"),
}


def test_three_packages_share_a_config_whatever_a_fourth_does(strangers, package):
    alone = _train(strangers, ALL)
    assert alone["terms"] == ["acme", "birch", "gap"]
    assert alone["totals"][1] < alone["totals"][0]
    assert alone["warnings"] == []

    for i, (fault, (module, requires, expected)) in enumerate(DISCOVERED.items()):
        name = f"{FAULT}-{i}"
        strangers.install(
            package(name, {f"fault{i}.py": module}, {"lossreg": {"fault": f"fault{i}"}}, requires)
        )
        beside = _train(strangers, ALL)
        assert beside["totals"] == alone["totals"], fault
        (warning,) = beside["warnings"]
        assert warning.startswith(f"plugin 'fault' ({name} 1.0) is left out: "), fault
        assert expected in warning, fault
        strangers.uninstall(name)


def test_a_taken_name_is_reported_and_takes_nothing_else_down(strangers, package):
    alone = _train(strangers, ALL)
    module = (
        FINE + "[LossSpec('SpareLoss', 'claim:Claim'), LossSpec('Claim', 'claim:Claim', aliases=('birch',))]"
    )
    strangers.install(package(FAULT, {"claim.py": module}, {"lossreg": {"birch": "claim"}}))
    beside = _train(strangers, ALL.replace("loss: birch,", "loss: birch/BirchLoss, name: birch,"))
    assert beside["totals"] == alone["totals"]
    assert len(beside["warnings"]) == 3
    assert all("birch-losses 1.0" in text and "faulty-losses 1.0" in text for text in beside["warnings"])
    done = strangers.run(
        """
        import warnings, lossreg
        from lossreg.errors import AmbiguousNameError
        warnings.simplefilter("ignore")
        try:
            lossreg.create_loss("birch/SpareLoss")
        except AmbiguousNameError as error:
            print(error)
        """
    )
    assert "birch/SpareLoss (birch-losses 1.0) and birch/SpareLoss (faulty-losses 1.0)" in done.stdout, (
        done.stderr
    )


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("late:Missing", "has no attribute 'Missing'"),
        ("no_such_module:Loss", "No module named 'no_such_module'"),
        ("late:NUMBER", "is no loss: "),
    ],
    ids=["target is not there", "module is not there", "target is not a loss"],
)
def test_a_bad_target_is_met_only_by_who_uses_it(strangers, package, target, reason):
    alone = _train(strangers, ALL)
    files = {"late.py": "NUMBER = 3"}
    strangers.install(package(FAULT, files, {"lossreg.losses": {"LateLoss": target}}))
    assert _train(strangers, ALL) == alone
    done = strangers.run(
        """
        import lossreg
        from lossreg.errors import PluginError
        try:
            lossreg.create_loss("LateLoss")
        except PluginError as error:
            print(error)
        """
    )
    assert reason in done.stdout, done.stdout + done.stderr
    assert "faulty-losses 1.0" in done.stdout
