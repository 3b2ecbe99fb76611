"""The Lightning callbacks in real runs of `Trainer.fit`, under both of Lightning's names."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import NormError
from lossreg.training import calibration

pytestmark = [
    pytest.mark.needs_plugins,  # needs the extra `lightning`
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]


@pytest.fixture(scope="module", params=["lightning.pytorch", "pytorch_lightning"])
def package(request):
    return import_module(request.param)


@pytest.fixture(scope="module")
def lightning():
    import_module("lightning.pytorch")
    import_module("pytorch_lightning")
    return import_module("lossreg.training.lightning")


def run(fit, package, folder, module, callbacks, checkpoint=None, data=None, val=None, **options):
    trainer = fit.build_trainer(package, folder, callbacks, **options)
    trainer.fit(module, fit.loader() if data is None else data, val, ckpt_path=checkpoint)
    return trainer


def close(values):
    return pytest.approx(values, rel=1e-5)


def averages(fit, package):
    """Return the mean raw values over all samples, before any training."""
    module = fit.build_module(package).eval()
    batch = fit.Pairs()[:]
    with torch.no_grad():
        pred = module(batch["image"])
        return {f.__name__: f(pred, batch["mask"]).item() for f in (fit.near, fit.far)}


# --- norms ----------------------------------------------------------------------------------------


def test_norms_are_the_averages_before_training(fit, package, lightning, tmp_path):
    module = fit.build_module(package)
    run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback()])
    assert fit.norms(module) == close(averages(fit, package))
    assert module.loss_function.calibrated
    assert module.seen[0][3]["near"] == pytest.approx(1.0, abs=0.5)


def test_a_second_fit_keeps_the_norms(fit, package, lightning, tmp_path):
    module = fit.build_module(package)
    callback = lightning.ComputeWeightNormLossesCallback()
    run(fit, package, tmp_path, module, [callback])
    before = fit.norms(module)
    run(fit, package, tmp_path, module, [callback])
    assert fit.norms(module) == before


def test_a_resumed_run_keeps_the_norms_and_ends_as_the_uninterrupted_one(fit, package, lightning, tmp_path):
    def refuse(model, batch):
        raise AssertionError("a resumed run calibrates")

    first = fit.build_module(package)
    run(fit, package, tmp_path, first, [lightning.ComputeWeightNormLossesCallback()]).save_checkpoint(tmp_path / "a")
    resumed, whole = fit.build_module(package), fit.build_module(package)
    callback = lightning.ComputeWeightNormLossesCallback(batch_fn=refuse)
    run(fit, package, tmp_path, resumed, [callback], checkpoint=tmp_path / "a", max_epochs=2)
    run(fit, package, tmp_path, whole, [lightning.ComputeWeightNormLossesCallback()], max_epochs=2)
    assert first.seen + resumed.seen == whole.seen
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


class Original(nn.Module):
    """A criterion as `pytorch_segmentation_models_trainer` has it: each norm is a parameter, which nothing trains."""

    def __init__(self, *functions):
        super().__init__()
        self.loss_funcs = nn.ModuleList(nn.Module() for _ in functions)
        self.functions = functions
        for number, loss in enumerate(self.loss_funcs, 2):
            loss.norm = nn.Parameter(torch.tensor([float(number)]), requires_grad=False)

    def forward(self, pred, gt, **options):
        values = [f(pred, gt) / loss.norm[0] for f, loss in zip(self.functions, self.loss_funcs, strict=True)]
        return sum(values), {"near": values[0]}, {}


@pytest.mark.parametrize("split", [False, True])
def test_a_run_of_the_original_resumes_with_its_norms_and_its_optimizer(fit, package, lightning, tmp_path, split):
    def adam(module):
        groups = [{"params": module.model.parameters()}, {"params": module.loss_function.parameters()}]
        return lambda: torch.optim.Adam(groups if split else module.parameters(), lr=0.01)

    old = fit.build_module(package, Original(fit.near, fit.far))
    old.configure_optimizers = adam(old)
    trainer = run(fit, package, tmp_path, old, [])
    trainer.save_checkpoint(tmp_path / "old")
    new = fit.build_module(package)
    new.configure_optimizers = adam(new)
    callback = lightning.ComputeWeightNormLossesCallback()
    resumed = run(fit, package, tmp_path, new, [callback], checkpoint=tmp_path / "old", max_epochs=2)
    assert fit.norms(new) == {"near": 2.0, "far": 3.0}
    steps = [state["step"].item() for state in resumed.optimizers[0].state.values()]
    assert steps == [2 * trainer.global_step] * len(list(new.model.parameters()))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_calibrated_run_sees_the_data_in_the_same_order(fit, lightning, tmp_path, workers):
    package = import_module("lightning.pytorch")
    options = {"num_workers": workers, "persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
    orders = []
    for callbacks in ([], [lightning.ComputeWeightNormLossesCallback()]):
        module, order = fit.build_module(package), []
        module.on_train_batch_start = lambda batch, i, order=order: order.append(batch["image"][:, 0].tolist())
        torch.manual_seed(11)
        run(fit, package, tmp_path, module, callbacks, data=fit.loader(shuffle=True, **options), max_epochs=2)
        orders.append(order)
    assert orders[0] == orders[1]


class Counting:
    """A `batch_fn` that counts samples and notes the mode of the module."""

    def __init__(self, lightning):
        self.lightning, self.samples, self.modes = lightning, 0, set()

    def __call__(self, model, batch):
        self.samples += len(batch["image"])
        self.modes.add(model.training)
        return self.lightning.image_and_target(model, batch)


def namespace(node):
    return SimpleNamespace(**{k: namespace(v) for k, v in node.items()}) if isinstance(node, dict) else node


def strict(node):
    config = OmegaConf.create(node)
    OmegaConf.set_struct(config, True)
    return config


@pytest.mark.parametrize("form", [dict, strict, namespace])
@pytest.mark.parametrize("block", ["compound_loss", "multi_loss", "multiloss", None])
def test_how_many_samples_is_read_from_the_config_of_the_module(fit, lightning, tmp_path, form, block):
    package = import_module("pytorch_lightning")
    params = {"normalization_params": {"min_samples": 2, "max_samples": 8}}
    cfg = form({"loss_params": {block: params} if block else params})
    module = fit.build_module(package, fit.build_criterion(normalization_params={"max_samples": 16}), cfg=cfg)
    counting = Counting(lightning)
    run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback(batch_fn=counting)], max_steps=1)
    assert counting.samples == 8


def test_without_such_a_config_the_criterions_own_numbers_count(fit, lightning, tmp_path):
    package = import_module("pytorch_lightning")
    module = fit.build_module(package, fit.build_criterion(normalization_params={"max_samples": 16}), cfg={"lr": 1})
    counting = Counting(lightning)
    run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback(batch_fn=counting)], max_steps=1)
    assert counting.samples == 16


def test_too_few_samples_end_the_fit(fit, lightning, tmp_path):
    package = import_module("pytorch_lightning")
    module = fit.build_module(package, fit.build_criterion(normalization_params={"min_samples": 100}))
    with pytest.raises(NormError, match="24 samples, at least 100"):
        run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback()])


def test_frame_field_networks_are_calibrated_in_train_mode_and_keep_their_buffers(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    modes = {}
    for name in ("ComputeWeightNormLossesCallback", "FrameFieldComputeWeightNormLossesCallback"):
        module, counting = fit.build_module(package), Counting(lightning)
        norm, counts = module.model[1], []
        module.on_train_batch_start = lambda batch, i, norm=norm, counts=counts: counts.append(
            norm.num_batches_tracked.item()
        )
        run(fit, package, tmp_path, module, [getattr(lightning, name)(batch_fn=counting)])
        assert module.training
        assert counts[0] == 0
        modes[name] = counting.modes
    assert modes["ComputeWeightNormLossesCallback"] == {False}
    assert modes["FrameFieldComputeWeightNormLossesCallback"] == {True}


def test_frame_field_batches_reach_the_criterion_whole(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    criterion = MultiLoss([LossWrapper(fit.near, "near", gt_key="mask")], [1.0])
    module = fit.build_module(package, criterion)
    run(fit, package, tmp_path, module, [lightning.FrameFieldComputeWeightNormLossesCallback()])
    assert criterion.calibrated
    assert criterion.loss_funcs[0].norm.item() > 1


def test_the_target_of_a_batch_of_two_goes_to_the_criterion_as_in_training(lightning):
    batch = {"image": torch.zeros(5, 2), "anything": torch.ones(5, 2)}
    pred, gt, samples = lightning.image_and_target(torch.nn.Identity(), batch)
    assert (pred is batch["image"], gt is batch["anything"], samples) == (True, True, 5)
    nested = {"image": batch["image"], "mask": {"area": torch.ones(5, 2)}}
    pred, gt, samples = lightning.image_and_target(torch.nn.Identity(), nested)
    assert (list(pred), list(gt), samples) == (["seg"], ["area"], 5)


@pytest.mark.parametrize("calibrated", [False, True])
def test_ranks_are_compared_before_one_of_them_calibrates(fit, lightning, monkeypatch, calibrated):
    class DifferentError(Exception):
        pass

    def compare(facts, owner):
        raise DifferentError(owner, facts["calibrated"], facts["the list of terms"])

    monkeypatch.setattr(calibration, "several", lambda: True)
    monkeypatch.setattr(calibration, "compare", compare)
    module = fit.build_module(import_module("pytorch_lightning"))
    module.loss_function.calibrated.fill_(calibrated)
    callback = lightning.ComputeWeightNormLossesCallback()
    with pytest.raises(DifferentError) as found:
        callback.on_train_start(None, module)
    assert found.value.args == ("ComputeWeightNormLossesCallback", str(calibrated), "near, far")


def test_a_criterion_that_does_not_normalise_is_left_alone(fit, lightning, tmp_path):
    package = import_module("pytorch_lightning")
    module = fit.build_module(package, fit.build_criterion(normalize=False))
    run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback()])
    assert fit.norms(module) == {"near": 1.0, "far": 1.0}
    assert not module.loss_function.calibrated


def test_bf16_is_the_precision_of_the_pass_too(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    seen = set()

    def batch_fn(model, batch):
        pred = model(batch["image"])
        seen.add(pred.dtype)
        return pred, batch["mask"], len(pred)

    module = fit.build_module(package)
    callback = lightning.ComputeWeightNormLossesCallback(batch_fn=batch_fn)
    run(fit, package, tmp_path, module, [callback], precision="bf16-mixed")
    assert seen == {torch.bfloat16}
    assert fit.norms(module) == pytest.approx(averages(fit, package), rel=0.02)


def test_batches_pass_through_the_hooks_of_the_module(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    module = fit.build_module(package)
    module.on_after_batch_transfer = lambda batch, i: {**batch, "mask": 10 * batch["mask"]}
    run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback()])
    assert fit.norms(module)["near"] > 5 * averages(fit, package)["near"]


def test_several_loaders_are_refused_with_what_to_do(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    with pytest.raises(
        TypeError,
        match=r"expected one training loader to calibrate norms over, found dict of 2; call lossreg\.calibrate_norms",
    ):
        run(
            fit, package, tmp_path, fit.build_module(package), [lightning.ComputeWeightNormLossesCallback()],
            data={"a": fit.loader(), "b": fit.loader()},
        )  # fmt: skip


# --- which criterion ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss_function", "criterion", "objective"])
def test_the_only_criterion_is_found_under_any_name(fit, package, lightning, name):
    criterion = fit.build_criterion()
    assert lightning.find_criterion(fit.build_module(package, criterion, attribute=name)) is criterion


def test_groups_are_no_criteria_of_their_own(fit, package, lightning):
    outer = MultiLoss([fit.build_criterion(name="group")], [1.0])
    assert lightning.find_criterion(fit.build_module(package, outer)) is outer


def test_of_several_the_usual_name_is_taken_or_the_one_asked_for(fit, package, lightning):
    module = fit.build_module(package, teacher=fit.build_criterion(), student=fit.build_criterion())
    assert lightning.find_criterion(module) is module.loss_function
    assert lightning.find_criterion(module, "teacher") is module.teacher
    del module.loss_function
    with pytest.raises(ValueError, match=r"several MultiLosses, \['student', 'teacher'\]; say which"):
        lightning.find_criterion(module)
    with pytest.raises(ValueError, match=r"Module\.model is not a MultiLoss; those of Module are"):
        lightning.find_criterion(module, "model")


def test_a_module_without_a_criterion_is_warned_of(fit, package, lightning, tmp_path):
    module = fit.build_module(package, torch.nn.L1Loss())
    module.compute = lambda batch, where: module.loss_function(module(batch["image"]), batch["mask"])
    with pytest.warns(UserWarning, match="Module has no MultiLoss whose norms could be calibrated"):
        run(fit, package, tmp_path, module, [lightning.ComputeWeightNormLossesCallback()])
    with pytest.raises(ValueError, match="LogTermsCallback: Module has no MultiLoss"):
        run(fit, package, tmp_path, module, [lightning.LogTermsCallback()])


# --- the log --------------------------------------------------------------------------------------


def logged(recorder, prefix):
    """Return the rows of the log that have names of this beginning, as step -> {name: number}."""
    rows = {}
    for step, row in recorder.rows:
        found = {name.removeprefix(prefix): float(value) for name, value in row.items() if name.startswith(prefix)}
        if found:
            assert step not in rows, f"step {step} is logged twice"
            rows[step] = found
    return rows


def test_each_step_of_training_is_logged_once(fit, package, lightning, tmp_path):
    module, recorder = fit.build_module(package), fit.build_recorder(package)
    callbacks = [lightning.ComputeWeightNormLossesCallback(), lightning.LogTermsCallback()]
    run(fit, package, tmp_path, module, callbacks, logger=recorder, max_epochs=2)
    assert logged(recorder, "losses/train_") == {step: close(values) for _, step, _, values in module.seen}
    assert logged(recorder, "weights/") == {step: {"near": 1.0, "far": 0.5 * (step >= 6)} for step in range(12)}
    assert logged(recorder, "norms/") == {step: fit.norms(module) for step in range(12)}


def test_only_the_steps_that_the_trainer_logs_are(fit, package, lightning, tmp_path):
    module, recorder = fit.build_module(package), fit.build_recorder(package)
    run(fit, package, tmp_path, module, [lightning.LogTermsCallback()], logger=recorder, log_every_n_steps=4)
    assert logged(recorder, "losses/train_") == {3: close(module.seen[3][3])}


def test_under_accumulation_a_step_is_the_mean_over_its_batches(fit, package, lightning, tmp_path):
    module, recorder = fit.build_module(package), fit.build_recorder(package)
    run(
        fit, package, tmp_path, module, [lightning.LogTermsCallback()], logger=recorder, accumulate_grad_batches=3,
        val=fit.loader(10), val_check_interval=2,
    )  # fmt: skip
    values = [values["near"] for where, _, _, values in module.seen if where == "train"]
    rows = {step: row["near"] for step, row in logged(recorder, "losses/train_").items()}
    assert rows == {0: close(sum(values[:3]) / 3), 1: close(sum(values[3:]) / 3)}


def test_validation_and_test_are_means_over_their_samples(fit, package, lightning, tmp_path):
    module, recorder = fit.build_module(package), fit.build_recorder(package)
    callbacks = [lightning.LogTermsCallback()]
    trainer = run(
        fit, package, tmp_path, module, callbacks, logger=recorder, val=fit.loader(10), num_sanity_val_steps=2
    )
    trainer.test(module, fit.loader(6), verbose=False)
    for stage, at, batches in (("val", 5, slice(2, None)), ("test", 6, slice(0, None))):
        seen = [(count, values["far"]) for where, _, count, values in module.seen if where == stage][batches]
        mean = sum(count * value for count, value in seen) / sum(count for count, _ in seen)
        assert {step: row["far"] for step, row in logged(recorder, f"losses/{stage}_").items()} == {at: close(mean)}
    assert trainer.callback_metrics["losses/test_far"] == close(mean)


def test_weights_include_what_an_adaptive_weighting_does(fit, package, lightning, tmp_path):
    criterion = MultiLoss(
        [LossWrapper(fit.near, "near"), LossWrapper(fit.far, "far")], [1.0, 2.0], weighting=ReLoBRaLo()
    )
    module, recorder = fit.build_module(package, criterion), fit.build_recorder(package)
    totals, plain = {}, module.compute
    module.compute = lambda batch, where: totals.setdefault(module.global_step, plain(batch, where))
    run(fit, package, tmp_path, module, [lightning.LogTermsCallback()], logger=recorder)
    losses, weights = logged(recorder, "losses/train_"), logged(recorder, "weights/")
    assert any(row != {"near": 1.0, "far": 2.0} for row in weights.values())
    for step, total in totals.items():
        assert sum(weights[step][name] * losses[step][name] for name in losses[step]) == close(total.item())


@pytest.mark.parametrize("weighting", [CoV, ReLoBRaLo])
def test_weights_are_those_of_the_forward_itself(fit, lightning, tmp_path, weighting):
    package = import_module("lightning.pytorch")
    terms = [LossWrapper(fit.near, "near"), LossWrapper(fit.far, "far")]
    group = MultiLoss(terms, [1.0, 2.0], name="group", weighting=weighting())
    module = fit.build_module(package, MultiLoss([group], [3.0]))
    recorder, totals, plain = fit.build_recorder(package), [], module.compute
    module.compute = lambda batch, where: totals.append(plain(batch, where)) or totals[-1]
    run(fit, package, tmp_path, module, [lightning.LogTermsCallback()], logger=recorder)
    losses, weights = logged(recorder, "losses/train_"), logged(recorder, "weights/")
    for step, total in enumerate(totals):
        assert sum(weights[step][name] * losses[step][name] for name in losses[step]) == close(total.item())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile looks at it
def test_the_weight_under_uncertainty_is_the_multiplier_without_the_addend(fit, lightning, tmp_path, compiled):
    package = import_module("lightning.pytorch")
    group = MultiLoss([LossWrapper(fit.near, "near")], [4.0], name="group", weighting=Uncertainty())
    criterion = MultiLoss([group, LossWrapper(fit.far, "far")], [1.0, 2.0], weighting=Uncertainty())
    torch.nn.init.constant_(group.weighting.s, 2.0)
    torch.nn.init.constant_(criterion.weighting.s, -1.0)
    module, recorder = fit.build_module(package, criterion), fit.build_recorder(package)
    if compiled:
        module.loss_function = torch.compile(criterion, backend="eager")
    run(fit, package, tmp_path, module, [lightning.LogTermsCallback()], logger=recorder, max_steps=1)
    far = 2.0 * math.exp(1.0) / 2
    near = math.exp(1.0) / 2 * 4.0 * math.exp(-2.0) / 2
    assert logged(recorder, "weights/") == {0: close({"group/near": near, "far": far})}


def test_members_of_groups_are_logged_by_path(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    group = MultiLoss([LossWrapper(fit.near, "near")], [3.0], name="group")
    module = fit.build_module(package, MultiLoss([group, LossWrapper(fit.far, "far")], [2.0, 1.0]))
    recorder = fit.build_recorder(package)
    run(fit, package, tmp_path, module, [lightning.LogTermsCallback()], logger=recorder, max_steps=1)
    assert logged(recorder, "weights/") == {0: {"group/near": 6.0, "far": 1.0}}
    assert set(logged(recorder, "losses/train_")[0]) == {"group/near", "far"}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile looks at it
def test_a_compiled_criterion_is_calibrated_and_logged(fit, lightning, tmp_path):
    package = import_module("lightning.pytorch")
    module = fit.build_module(package)
    module.loss_function = torch.compile(module.loss_function, backend="eager")
    recorder = fit.build_recorder(package)
    callbacks = [lightning.ComputeWeightNormLossesCallback(), lightning.LogTermsCallback()]
    run(fit, package, tmp_path, module, callbacks, logger=recorder, max_steps=2)
    assert logged(recorder, "losses/train_") == {step: close(values) for _, step, _, values in module.seen}


def test_after_a_run_nothing_listens(fit, package, lightning, tmp_path):
    module = fit.build_module(package, fit.build_criterion(weighting=ReLoBRaLo()))

    def hooks():
        return [hook for part in module.modules() for hook in part._forward_hooks.values()]

    before = hooks()
    run(fit, package, tmp_path, module, [lightning.LogTermsCallback()], val=fit.loader(10))
    assert hooks() == before


# --- two processes --------------------------------------------------------------------------------


@pytest.fixture
def two_ranks(fit, in_two_processes, tmp_path):
    """Have two processes do what a scenario of `fit.py` says; return what each ended with."""

    def run(package, scenario, torchrun=False):
        if torchrun:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
            command += [fit.__file__, package, scenario, str(tmp_path)]
            subprocess.run(command, env=environment, check=True, timeout=300)
        else:
            in_two_processes(f"{fit.__file__}:main", package, scenario, tmp_path)
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    return run


@pytest.mark.parametrize("torchrun", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_two_processes_calibrate_log_and_resume_as_one(fit, two_ranks, name, torchrun):
    ranks = two_ranks(name, "both", torchrun)
    first, second = ranks
    assert first["norms"] == second["norms"] == close(averages(fit, import_module(name)))
    assert first["asked"] == second["asked"] == fit.SAMPLES // 2
    assert [rank["asked by the resumed run"] for rank in ranks] == [0, 0]
    assert first["resumed"] == second["resumed"] == first["uninterrupted"]
    rows = [(step, row) for step, row in first["rows"] if "losses/train_near" in row]
    assert [step for step, _ in rows] == [0, 1, 2]
    for step, row in rows:
        seen = [v["near"] for rank in ranks for where, at, _, v in rank["seen"] if (where, at) == ("train", step)]
        assert row["losses/train_near"] == close(sum(seen) / 2)
        assert row["norms/near"] == first["norms"]["near"]
    seen = [(n, v["near"]) for rank in ranks for where, _, n, v in rank["seen"] if where == "val"]
    (val,) = [row["losses/val_near"] for _, row in first["rows"] if "losses/val_near" in row]
    assert val == close(sum(n * v for n, v in seen) / sum(n for n, _ in seen))


def test_a_term_that_one_rank_lacks_is_logged_and_nothing_hangs(two_ranks):
    first, _ = two_ranks("lightning.pytorch", "absent")
    rows = [row for _, row in first["rows"] if "losses/train_near" in row]
    assert len(rows) == 3
    assert all("losses/train_far" in row for row in rows)


@pytest.mark.parametrize("way", ["window", "callback", "reduce_over"])
def test_two_processes_train_on_cut_batches_as_a_loop_on_the_joined_ones(cut_batches, in_two_processes, tmp_path, way):
    in_two_processes(f"{cut_batches.__file__}:main", "lightning.pytorch", way, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    for found, expected in zip(first, cut_batches.joined(), strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-6, atol=1e-9)


# --- which Lightning ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imported", "expected"),
    [
        ("pytorch_lightning", ["pytorch_lightning"]),
        ("lightning.pytorch", ["lightning.pytorch"]),
        ("", ["lightning.pytorch"]),
    ],
)
def test_the_base_is_that_of_the_lightning_in_use(lightning, monkeypatch, imported, expected):
    monkeypatch.setattr(import_module("lightning"), "pytorch", import_module("lightning.pytorch"))  # restored after
    for name in lightning._PACKAGES:
        if name != imported:
            monkeypatch.delitem(sys.modules, name)
    callback = runpy.run_path(lightning.__file__)["LogTermsCallback"]
    assert [name for name in lightning._PACKAGES if name in sys.modules] == expected
    for name in expected:
        assert issubclass(callback, sys.modules[name].Callback)


def test_with_both_imported_it_serves_both(lightning):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        assert issubclass(lightning.LogTermsCallback, import_module(name).Callback)


def test_without_any_the_extra_is_named(lightning, monkeypatch):
    for name in lightning._PACKAGES:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = 'lossreg.training.lightning needs Lightning: pip install "lossreg[lightning]"'
    with pytest.raises(ImportError, match=re.escape(told)):
        runpy.run_path(lightning.__file__)
