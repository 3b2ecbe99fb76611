"""Third-party packages: three ways to offer losses, from wheels, with a fourth that is broken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.needs_plugins

# Trains a step, then again with each folder of the command line added to what is installed, in one process,
# since every one has to import torch; and asks for a loss by name. Prints what came of it as JSON lines.
TRAIN = """
import json, sys, warnings
import torch, lossreg

def train(asked):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lossreg.refresh()
    torch.manual_seed(0)
    criterion = lossreg.load_loss("loss.yaml")
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    image, target = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    totals = []
    for _ in range(2):
        total, values, _ = criterion({"seg": model(image)}, {"gt_polygons_image": target}, epoch=1)
        gradients = torch.autograd.grad(total, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter -= 0.1 * gradient
        totals.append(total.item())
    try:
        error = asked and repr(lossreg.create_loss(asked))
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    warned = [str(w.message) for w in caught]
    print(json.dumps({"totals": totals, "terms": list(values), "warnings": warned, "error": error}))

train(None)
for item in sys.argv[1:]:
    folder, asked = item.split("=")
    sys.path.append(folder)
    train(asked)
    sys.path.remove(folder)
"""


def _train(environment, yaml, *arguments):
    (environment.folder / "loss.yaml").write_text(yaml)
    done = environment.run(TRAIN, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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


@pytest.fixture(scope="module")
def acme(package):
    return package("acme-losses", ONE_LINE, {"lossreg.losses": {"AcmeLoss": "acme_losses:AcmeLoss"}})


def test_one_line_is_enough_and_a_broken_neighbour_changes_nothing_but_a_warning(
    wheels, new_environment, package, acme
):
    yaml = "loss_list: [{loss: AcmeLoss, power: 1.5, weight: 2.0}]"
    environment = new_environment(wheels["core"], acme)
    (alone,) = _train(environment, yaml)
    assert alone["terms"] == ["AcmeLoss"]
    assert alone["totals"][1] < alone["totals"][0]
    assert alone["warnings"] == []

    broken = {"broken.py": "raise RuntimeError('not today')"}
    environment.install(package("broken-neighbour", broken, {"lossreg": {"broken": "broken"}}))
    (beside,) = _train(environment, yaml)
    assert beside["totals"] == alone["totals"]
    (warning,) = beside["warnings"]
    assert warning == "plugin 'broken' (broken-neighbour 1.0) is skipped: RuntimeError: not today"


# --- three packages in one config -----------------------------------------------------------------

HOOKS = {
    "birch.py": """
        from lossreg import LossSpec, PreprocessSpec, ScheduleSpec, hookimpl

        @hookimpl
        def lossreg_losses():
            return [
                LossSpec("BirchLoss", "birch_losses:BirchLoss"),
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
  - {loss: birch/BirchLoss, name: birch, weight: {schedule: Halving, start: 2.0}}
  - {_target_: oldlib.legacy.Gap, name: gap, weight: 0.5}
"""


@pytest.fixture(scope="module")
def strangers(wheels, new_environment, package, acme):
    birch = package("birch-losses", HOOKS, {"lossreg": {"birch": "birch"}})
    cedar = package("cedar-adapters", ADAPTER, {"lossreg": {"cedar": "cedar"}}, ("lossreg", "oldlib"))
    return new_environment(wheels["core"], acme, birch, cedar, package("oldlib", LIBRARY, {}, ()))


@dataclass(frozen=True)
class Fault:
    """A package's fault: its module, the warning at discovery, and the error for whom asks for its loss."""

    module: str
    warned: str
    error: str
    requires: tuple[str, ...] = ("lossreg",)
    asked: str = "fault/A"


SPECS = "from lossreg import LossSpec, hookimpl\n\n@hookimpl\ndef lossreg_losses():\n    return "
OFFERS_A = SPECS + "[LossSpec('A', 'a:A')]"
LEFT_OUT = "UnknownNameError: no loss is named 'fault/A'; plugin 'fault' (faulty-losses 1.0) could not be used: "

FAULTS = {
    "raises at import": Fault("1 / 0", "ZeroDivisionError: division by zero", LEFT_OUT + "division by zero"),
    "does not import": Fault("import nowhere", "No module named 'nowhere'", LEFT_OUT + "No module named"),
    "leaves the process": Fault("raise SystemExit(3)", "called sys.exit(3)", LEFT_OUT + "it called sys.exit(3)"),
    "raises in the hook": Fault(SPECS + "[1 / 0]", "ZeroDivisionError", LEFT_OUT + "division by zero"),
    "returns nonsense": Fault(SPECS + "42", "lossreg_losses(): expected a list of LossSpec, found 42", LEFT_OUT),
    "returns no specs": Fault(SPECS + "['A']", "lossreg_losses(): item 0: expected a LossSpec, found 'A'", LEFT_OUT),
    "malformed target": Fault(SPECS + "[LossSpec('A', 'a.A')]", "expected 'package.module:", LEFT_OUT),
    "unknown hook": Fault(
        OFFERS_A + "\n\n@hookimpl\ndef lossreg_optimizers():\n    return []", "lossreg_optimizers", LEFT_OUT
    ),
    "wants a newer core": Fault(OFFERS_A, "it requires lossreg>=99, found lossreg", LEFT_OUT, ("lossreg>=99",)),
    "target module not there": Fault(OFFERS_A, "", "PluginError: loss 'fault/A' of plugin 'fault'"),
    "target not there": Fault(SPECS + "[LossSpec('A', 'json:A')]", "", "has no attribute 'A'"),
    "target is no loss": Fault(SPECS + "[LossSpec('A', 'sys:maxsize')]", "", "expected a loss, found int"),
}


def test_three_packages_share_a_config_whatever_a_fourth_does(strangers, package, tmp_path):
    arguments = []
    for i, fault in enumerate(FAULTS.values()):
        points = {"lossreg": {"fault": f"fault{i}"}}
        wheel = package("faulty-losses", {f"fault{i}.py": fault.module}, points, fault.requires)
        ZipFile(wheel).extractall(tmp_path / f"installed{i}")
        arguments.append(f"{tmp_path / f'installed{i}'}={fault.asked}")

    alone, *beside = _train(strangers, ALL, *arguments)
    assert alone["terms"] == ["acme", "birch", "gap"]
    assert alone["totals"][1] < alone["totals"][0]
    assert alone["warnings"] == []
    for (name, fault), result in zip(FAULTS.items(), beside, strict=True):
        assert result["totals"] == alone["totals"], name
        assert fault.error in result["error"], name
        if fault.warned:
            (warning,) = result["warnings"]
            assert warning.startswith("plugin 'fault' (faulty-losses 1.0) is skipped: "), name
            assert fault.warned in warning, name
        else:
            assert result["warnings"] == [], name


def test_a_taken_name_is_reported_and_takes_nothing_else_down(strangers, package, tmp_path):
    claims = SPECS + "[LossSpec('SpareLoss', 'claim:Claim'), LossSpec('AcmeLoss', 'claim:Claim')]"
    wheel = package("faulty-losses", {"claim.py": claims}, {"lossreg": {"birch": "claim"}})
    ZipFile(wheel).extractall(tmp_path / "installed")
    installed = tmp_path / "installed"
    alone, canonical, bare = _train(strangers, ALL, f"{installed}=birch/SpareLoss", f"{installed}=AcmeLoss")
    assert canonical["totals"] == bare["totals"] == alone["totals"]
    both = "birch/SpareLoss (birch-losses 1.0) and birch/SpareLoss (faulty-losses 1.0)"
    (warning,) = canonical["warnings"]
    assert f"loss 'birch/SpareLoss' is offered by {both}" in warning
    assert f"AmbiguousNameError: loss 'birch/SpareLoss' is offered by {both}" in canonical["error"]
    assert "acme-losses/AcmeLoss (acme-losses 1.0) and birch/AcmeLoss (faulty-losses 1.0)" in bare["error"]
