"""The core on a device: the CPU's values, no wait of the host, and launches that do not grow with the terms.

Schedules and weightings come from the registry, so that a new one is tried without a change here.
"""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from standin import Counts, counting
from torch import Tensor, nn

from lossreg import Loss, LossWrapper, Mean, MultiLoss, Preprocess, calibrate_norms, diagnose
from lossreg.composition.schedules import Piecewise
from lossreg.composition.weighting.shared import AtSharedParameters
from lossreg.errors import NonFiniteError, WeightingError
from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.registry import catalog

RAMP = Piecewise([0.0, 100.0], [0, 100])


class Distance(Loss):
    """The mean distance, over a mask where it has one."""

    requires = ("pred.x", "gt.y")
    masks = True

    def counts(self, gt_batch: Any) -> Any:
        return [self.elements({}, gt_batch, gt_batch["y"].shape).count()]

    def compute(self, pred_batch: Any, gt_batch: Any) -> Mean:
        values = (pred_batch["x"] - gt_batch["y"]).abs()
        return self.elements(pred_batch, gt_batch, values.shape).mean(values)


class Scalar(Distance):
    """The same as a scalar."""

    def compute(self, pred_batch: Any, gt_batch: Any) -> Any:
        return (pred_batch["x"] - gt_batch["y"]).abs().mean()


def masked(name: str) -> Distance:
    loss = Distance(name)
    loss.take_mask("gt.mask")
    return loss


def ten(kind: Callable[[str], Loss] = Distance, n: int = 10, weights: Any = 0.5, **options: Any) -> MultiLoss:
    return MultiLoss([kind(f"t{i}") for i in range(n)], [weights] * n, **options)


@dataclass
class Setting:
    """A criterion with a parameter that its predictions come from, on some device."""

    criterion: MultiLoss
    device: torch.device
    parameter: nn.Parameter = field(init=False)
    targets: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        values, targets = torch.rand(4, 2, 8, 8, generator=generator), torch.rand(4, 2, 8, 8, generator=generator)
        targets = {"y": targets, "mask": targets[:, :1] > 0.4, "index": (targets[:, 0] > 0.5).long()}
        self.parameter = nn.Parameter(values.to(self.device))
        self.targets = {key: value.to(self.device) for key, value in targets.items()}
        self.criterion = copy.deepcopy(self.criterion).to(self.device)
        for module in self.criterion.modules():
            if isinstance(module, AtSharedParameters):
                module.set_shared_parameters([self.parameter])

    def predictions(self) -> dict[str, Any]:
        return {"x": self.parameter * 1.5}

    def step(self, epoch: float = 0.0) -> dict[str, Tensor]:
        """Return the values of a forward, after its backward."""
        total, values, _ = self.criterion(self.predictions(), self.targets, epoch=epoch)
        total.backward()
        return {"total": total.detach(), **values}

    def state(self) -> dict[str, Tensor]:
        held = {key: value for key, value in self.criterion.state_dict().items() if isinstance(value, Tensor)}
        return {**held, "gradient": self.parameter.grad}


def compare(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> None:
    assert list(here) == list(there)
    for key, value in here.items():
        torch.testing.assert_close(there[key].cpu(), value, msg=lambda message, key=key: f"{key}: {message}")


def alike(criterion: MultiLoss, device: torch.device, run: Callable[[Setting], Any]) -> None:
    """Hold what a run does on a device against the CPU: what it returns, the state after it and the gradient."""
    here, there = Setting(criterion, torch.device("cpu")), Setting(criterion, device)
    found = run(here), run(there)
    if isinstance(found[0], Mapping):
        compare(*found)
    compare(here.state(), there.state())
    assert all(
        t.device.type == device.type
        for k, t in there.state().items()
        if not k.endswith(("_extra_state", "changed_weights"))
    )


def steps(setting: Setting) -> dict[str, Tensor]:
    found = {f"{k} at {epoch}": v for epoch in (0, 0, 1, 2, 3.5) for k, v in setting.step(epoch).items()}
    setting.criterion.eval()
    return found | setting.step(4)


def counts_of(setting: Setting, moving: bool = True) -> Counts:
    """Count a step after the first two; the epoch moves."""
    setting.step(1.0)
    setting.step(2.0)
    with counting() as counts:
        setting.step(3.0 if moving else 2.0)
    return counts


def own(criterion: MultiLoss, device: torch.device) -> int:
    """Return how many launches a criterion adds to those of its losses."""
    losses = copy.deepcopy(criterion)
    found = counts_of(Setting(criterion, device)).launches
    setting = Setting(losses, device)

    def alone() -> None:
        pred = setting.predictions()
        values = [loss(pred, setting.targets, normalize=False)[0] for loss in setting.criterion.loss_funcs]
        torch.autograd.backward(values)

    alone()
    with counting() as counts:
        alone()
    return found - (counts.launches - len(criterion.loss_funcs) + 1)  # the last line fills a gradient of 1 a loss


# --- schedules ------------------------------------------------------------------------------------

ARGUMENTS: dict[str, Any] = {
    "value": 0.5,
    "values": [0.2, 1.0, 0.7],
    "epoch_thresholds": [0.0, 2.0, 5.0],
    "start": 0.25,
    "end": 1.0,
    "end_epoch": 6.0,
    "schedules": [0.5, RAMP],
    "boundaries": [1.0],
}
"""What a parameter of a schedule is given, where it has no default."""


def of_core(components: Any) -> list[str]:
    return [name for name in components.names(None) if components.find(name).spec.target.startswith("lossreg.")]


@pytest.mark.parametrize("name", of_core(catalog().schedules))
def test_a_schedule(name: str, device: torch.device) -> None:
    kind = catalog().schedules.find(name).load()
    needed = [p.name for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    schedule = kind(**{parameter: ARGUMENTS[parameter] for parameter in needed})
    criterion = MultiLoss([Distance("a"), Distance("b")], [schedule, 2.0])
    alike(criterion, device, steps)
    counts = counts_of(Setting(criterion, device))
    moves = schedule(3.0) != schedule(2.0)
    assert (counts.host_reads, counts.blocking_copies, counts.copies) == (0, 0, int(moves))


# --- weightings -----------------------------------------------------------------------------------

WEIGHTINGS = of_core(catalog().weightings)


@pytest.mark.parametrize("kind", [Distance, masked])
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting(name: str, kind: Any, device: torch.device) -> None:
    make = catalog().weightings.find(name).load()
    alike(ten(kind, 3, weighting=make()), device, steps)
    counts = counts_of(Setting(ten(kind, 3, weighting=make()), device))
    assert (counts.host_reads, counts.blocking_copies) == (0, 0)
    assert counts.copies <= int(make.timed)
    with_off = MultiLoss([kind("a"), kind("b"), kind("c")], [1.0, 0.0, 1.0], weighting=make())
    alike(with_off, device, steps)
    counts = counts_of(Setting(with_off, device))
    assert (counts.host_reads, counts.blocking_copies) == (0, 0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_launches_of_a_weighting_do_not_grow_with_the_terms(name: str, device: torch.device) -> None:
    make = catalog().weightings.find(name).load()
    if make.differentiates:
        pytest.skip("it takes the gradient of each term")
    two, many = (own(ten(n=n, weighting=make()), device) for n in (2, 10))
    assert many == two <= 75


# --- norms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Distance, Scalar, masked])
def test_running_norms(kind: Any, device: torch.device) -> None:
    alike(ten(kind, 3, track_norms="running", norm_momentum=0.3), device, steps)
    alike(MultiLoss([kind("a"), kind("b")], [1.0, 1.0], track_norms="running", unnormalized=["a"]), device, steps)


def test_running_norms_are_moved_all_at_once(device: torch.device) -> None:
    moved = [own(ten(n=n, track_norms="running"), device) - own(ten(n=n), device) for n in (1, 10)]
    assert moved[0] == moved[1] <= 17
    counts = counts_of(Setting(ten(masked, track_norms="running"), device))
    assert (counts.host_reads, counts.copies) == (0, 0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x": self.layer(x)}


def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_calibration(mode: Any, device: torch.device) -> None:
    def run(setting: Setting) -> None:
        images = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))
        batches = [{"image": t, "y": t * i, "mask": t > 0} for i, t in enumerate(images)]
        found = calibrate_norms(
            setting.criterion, net().to(setting.device), batches, mode=mode, min_samples=1, progress=False
        )
        assert list(found) == ["t0", "t1", "t2"]
        setting.step()

    alike(ten(masked, 3), device, run)


def test_update_norm_and_reset(device: torch.device) -> None:
    def run(setting: Setting) -> dict[str, Tensor]:
        setting.criterion.update_norm(setting.predictions(), setting.targets, 4)
        found = setting.step()
        setting.criterion.reset_norm()
        return found

    alike(ten(masked, 2), device, run)


def test_a_diagnosis(device: torch.device) -> None:
    found = []
    for where in (torch.device("cpu"), device):
        setting = Setting(ten(masked, 3, weighting=catalog().weightings.find("dwa").load()()), where)
        batch = setting.predictions(), setting.targets
        found.append(diagnose(setting.criterion, *batch, [setting.parameter], epoch=1).to_json())
    assert found[0] == found[1]


# --- the composition ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Distance, Scalar])
def test_ten_terms_take_no_more_launches_than_their_sum_by_hand(kind: Any, device: torch.device) -> None:
    setting = Setting(ten(kind), device)
    counts = counts_of(setting)
    assert (counts.host_reads, counts.copies) == (0, 0)

    def by_hand() -> None:
        pred, total = setting.predictions()["x"], 0.0
        for _ in range(10):
            total = total + 0.5 * (pred - setting.targets["y"]).abs().mean()
        total.backward()

    by_hand()
    with counting() as textbook:
        by_hand()
    assert counts.launches <= textbook.launches - 20
    assert own(ten(kind, 1), device) == own(ten(kind), device) <= 7  # stack, norms; divide, multiply and back; add up


@pytest.mark.parametrize(
    ("keys", "launches"),
    [
        ({"mask": "gt.mask"}, 23),
        ({"sample_weight": "gt.weight"}, 27),
        ({"mask": "gt.mask", "sample_weight": "gt.s"}, 31),
    ],
)
def test_a_masked_term_takes_no_more_launches_than_this(
    keys: dict[str, str], launches: int, device: torch.device
) -> None:
    loss = LossWrapper(nn.MSELoss(), "a", pred_key="x", gt_key="y").to(device)
    loss.take_mask(**keys)
    x, y, weight = (tensor.to(device) for tensor in torch.rand(3, 4, 3, 8, 8))
    gt = {"y": y, "weight": weight[:, 0], "mask": weight[:, 0] < 0.5, "s": weight[:, 0, 0, 0]}
    x.requires_grad_()
    with counting() as counts:
        torch.autograd.grad(loss({"x": x}, gt)[0], x)
    assert counts.launches <= launches


def test_groups_share_one_copy(device: torch.device) -> None:
    deep = MultiLoss([Distance("a"), MultiLoss([Distance("b")], [RAMP], name="inner")], [RAMP, 2.0], name="deep")
    criterion = MultiLoss([deep, MultiLoss([Distance("c")], [RAMP], name="other"), Distance("d")], [RAMP, 1.0, 0.5])
    alike(criterion, device, steps)
    counts = counts_of(Setting(criterion, device))
    assert (counts.host_reads, counts.blocking_copies, counts.copies) == (0, 0, 1)
    assert counts_of(Setting(criterion, device), moving=False).copies == 0


@pytest.mark.parametrize("zero_weight", ["keep", "skip"])
def test_terms_that_are_off_or_absent(zero_weight: Any, device: torch.device) -> None:
    absent = LossWrapper(nn.L1Loss(), "absent", pred_key="x", gt_key="elsewhere")
    losses = [Distance("a"), Distance("off"), absent, Distance("b")]
    criterion = MultiLoss(losses, [1.0, 0.0, 2.0, RAMP], zero_weight=zero_weight, optional_terms=["absent"])
    alike(criterion, device, steps)
    counts = counts_of(Setting(criterion, device))
    assert (counts.host_reads, counts.blocking_copies, counts.copies) == (0, 0, 1)


@pytest.mark.parametrize("on_nonfinite", ["ignore", "skip_term"])
def test_a_term_that_is_not_finite(on_nonfinite: Any, device: torch.device) -> None:
    def bad(pred: Tensor, gt: Tensor) -> Tensor:
        return (pred - gt).mean() / 0

    losses = [Distance("a"), LossWrapper(bad, "bad", pred_key="x", gt_key="y")]
    alike(MultiLoss(losses, [1.0, 0.0], on_nonfinite="ignore", zero_weight="skip"), device, Setting.step)
    if on_nonfinite == "skip_term":
        alike(MultiLoss(losses, [1.0, 2.0], on_nonfinite="skip_term"), device, Setting.step)
        with pytest.raises(NonFiniteError, match="'bad' is"):
            Setting(MultiLoss(losses, [1.0, 2.0], on_nonfinite="raise"), device).step()
        counts = counts_of(Setting(ten(on_nonfinite="skip_term"), device))
        assert counts.host_reads + counts.blocking_copies == 1  # as documented: it has to know


def test_deep_supervision(device: torch.device) -> None:
    def run(setting: Setting) -> dict[str, Tensor]:
        x = setting.predictions()["x"]
        setting.predictions = lambda: {"x": [x * 2, x[..., ::2, ::2], x[..., ::4, ::4]]}  # type: ignore[method-assign]
        return setting.step()

    classes = LossWrapper(nn.CrossEntropyLoss(), "classes", pred_key="x", gt_key="index")
    criterion = MultiLoss([DeepSupervision(loss, "x") for loss in (masked("a"), Scalar("b"), classes)], [1.0, 2.0, 0.5])
    alike(criterion, device, run)


TORCH = {
    "l1": (nn.L1Loss(), "y"),
    "sum": (nn.L1Loss(reduction="sum"), "y"),
    "logits": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), "y"),
    "classes": (nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.7]), label_smoothing=0.1), "index"),
    "huber": (nn.HuberLoss(), "y"),
}


@pytest.mark.parametrize("mask", [None, "gt.mask"])
@pytest.mark.parametrize("name", TORCH)
def test_losses_of_torch(name: str, mask: str | None, device: torch.device) -> None:
    loss, key = TORCH[name]
    wrapped = LossWrapper(loss, name, pred_key="x", gt_key=key)
    wrapped.take_mask(mask)
    criterion = MultiLoss([wrapped, Distance("other")], [1.0, 2.0])
    alike(criterion, device, steps)
    counts = counts_of(Setting(criterion, device))
    assert (counts.host_reads, counts.blocking_copies) == (0, 0)


class Doubled(Preprocess):
    requires = ("gt.y",)
    provides = ("gt.double",)

    def __call__(self, pred_batch: Any, gt_batch: Any) -> Any:
        return pred_batch, {**gt_batch, "double": gt_batch["y"] * 2}


def test_preprocesses(device: torch.device) -> None:
    loss = LossWrapper(nn.L1Loss(), "a", pred_key="x", gt_key="double")
    alike(MultiLoss([loss, Distance("b")], [1.0, 1.0], pre_processes=[Doubled()]), device, steps)


# --- windows --------------------------------------------------------------------------------------


def in_window(setting: Setting) -> dict[str, Tensor]:
    parts = [{key: value[i : i + 1] for key, value in setting.targets.items()} for i in range(4)]
    found = {}
    for epoch in (0, 1):
        with setting.criterion.window(parts):
            for i, targets in enumerate(parts):
                pred = {"x": setting.parameter[i : i + 1] * 1.5}
                total, values, _ = setting.criterion(pred, targets, epoch=epoch)
                total.backward()
                found |= {
                    f"{key} of {i} at {epoch}": value for key, value in (("total", total.detach()), *values.items())
                }
    return found


@pytest.mark.parametrize("kind", [Distance, masked])
@pytest.mark.parametrize("name", [None, *WEIGHTINGS])
def test_a_window(kind: Any, name: str | None, device: torch.device) -> None:
    make = (lambda: None) if name is None else catalog().weightings.find(name).load()
    if name is not None and not make.windows:
        pytest.skip("it works in no window")
    group = MultiLoss([kind("b"), kind("c")], [1.0, RAMP], name="group", weighting=make())
    criterion = MultiLoss([kind("a"), group], [1.0, 2.0], weighting=make(), track_norms="running")
    alike(criterion, device, in_window)
    setting = Setting(criterion, device)
    in_window(setting)
    with counting() as counts:
        in_window(setting)
    assert (counts.host_reads, counts.blocking_copies) == (0, 0)


def test_a_window_over_the_ranks(device: torch.device) -> None:
    criterion = ten(masked, 3, reduce_over="ranks", track_norms="running")
    alike(criterion, device, steps)
    counts = counts_of(Setting(criterion, device))
    assert (counts.host_reads, counts.copies) == (0, 0)


# --- state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *WEIGHTINGS])
def test_states_go_from_device_to_device(name: str | None, device: torch.device) -> None:
    weighting = None if name is None else catalog().weightings.find(name).load()()
    setting = Setting(ten(masked, 3, weights=RAMP, weighting=weighting, track_norms="running"), device)
    setting.step(1)
    file = io.BytesIO()
    torch.save(setting.criterion.state_dict(), file)
    held = setting.criterion.state_dict()
    for where in ("cpu", device.type):
        file.seek(0)
        other = Setting(ten(masked, 3, weights=RAMP, weighting=copy.deepcopy(weighting)), torch.device(where))
        other.criterion.load_state_dict(torch.load(file, map_location=where))
        loaded = other.criterion.state_dict()
        assert list(loaded) == list(held)
        for key, value in held.items():
            torch.testing.assert_close(loaded[key].cpu(), value.cpu())
            assert loaded[key].device.type == where or key.endswith(("_extra_state", "changed_weights"))
        assert other.step(2)["total"].device.type == where


def test_a_copy_and_a_move_keep_their_own_tensors(device: torch.device) -> None:
    setting = Setting(ten(masked, 2, weights=RAMP, track_norms="running"), device)
    setting.step(1)
    copied = copy.deepcopy(setting.criterion)
    setting.step(1)
    assert copied.loss_funcs[0].norm.device.type == device.type
    assert copied.loss_funcs[0].norm_sum.data_ptr() != setting.criterion.loss_funcs[0].norm_sum.data_ptr()
    setting.criterion.cpu()
    setting.parameter = nn.Parameter(setting.parameter.detach().cpu())
    setting.targets = {key: value.cpu() for key, value in setting.targets.items()}
    assert setting.step(1)["total"].device.type == "cpu"


def test_a_batch_on_two_devices_is_refused_with_the_term(device: torch.device) -> None:
    setting = Setting(ten(n=1), device)
    setting.targets = {key: value.cpu() for key, value in setting.targets.items()}
    with pytest.raises(RuntimeError, match="device") as raised:
        setting.step()
    assert "t0" in "\n".join(raised.value.__notes__)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_that_was_left_on_the_host_says_so(name: str, device: torch.device) -> None:
    setting = Setting(ten(n=2, weighting=catalog().weightings.find(name).load()()), device)
    setting.criterion.cpu()
    with pytest.raises(WeightingError, match=rf"on cpu, the losses are on {device.type}:0; .*criterion.to\(device\)"):
        setting.step()


def test_a_criterion_without_state_may_stay_on_the_host(device: torch.device) -> None:
    here, there = Setting(ten(masked, 2), torch.device("cpu")), Setting(ten(masked, 2), device)
    there.criterion.cpu()
    compare(here.step(), there.step())
