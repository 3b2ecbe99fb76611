"""`MultiLossTrainer` in real runs of `Trainer.train`."""

from __future__ import annotations

import logging
import sys
from importlib import import_module

import pytest
import torch
import trajectory
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import ArgumentError, BatchError, CheckpointError, WeightingError

transformers = pytest.importorskip("transformers", reason="needs transformers; tox's `trainers` has it")

runs = import_module("huggingface_runs")
huggingface = import_module("lossreg.training.huggingface")

pytestmark = pytest.mark.needs_plugins  # needs the extra `huggingface`


# --- the trajectory -------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 4])
def test_it_trains_as_the_plain_loop(tmp_path, accumulation):
    trainer = runs.build_trainer(tmp_path, gradient_accumulation_steps=accumulation)
    trainer.train()
    trajectory.assert_same(runs.result(trainer), trajectory.train(accumulation))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile looks at it
def test_a_compiled_criterion_trains_as_another(tmp_path):
    compiled = torch.compile(trajectory.build_criterion(), backend="eager")
    trainer = runs.build_trainer(tmp_path, criterion=compiled, gradient_accumulation_steps=4, max_steps=10)
    trainer.train()
    trajectory.assert_same(runs.result(trainer), trajectory.train(4, steps=10))


def test_without_windows_it_trains_on_the_mean_of_the_means(tmp_path):
    trainer = runs.build_trainer(tmp_path, gradient_accumulation_steps=4, max_steps=20, windows=False)
    trainer.train()
    trajectory.assert_same(runs.result(trainer), trajectory.train(4, steps=20, windowed=False))


@pytest.mark.parametrize(("accumulation", "changes"), [(4, {}), (1, {"reduce_over": "ranks"})])
def test_two_processes_train_as_one(in_two_processes, tmp_path, accumulation, changes):
    in_two_processes(f"{runs.__file__}:main", tmp_path, accumulation, changes)
    trajectory.assert_ranks_trained_as_one(tmp_path, accumulation, **changes)


# --- against the loss of a model of transformers --------------------------------------------------


class Language(huggingface.MultiLossTrainer):
    """The prediction of each token is that of the next."""

    def read_targets(self, inputs):
        return {"labels": inputs["labels"][:, 1:]}

    def read_predictions(self, outputs):
        return {"logits": outputs.logits[:, :-1].transpose(1, 2)}


class Sentences(torch.utils.data.Dataset):
    """Tokens of which some are no labels: a different number in each sentence."""

    def __len__(self):
        return 14

    def __getitem__(self, index):
        tokens = torch.randint(0, 11, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": tokens, "labels": tokens.masked_fill(torch.arange(8) < index % 7, -100)}


def language_model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        attn_implementation="eager",
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).double()


def test_a_cross_entropy_is_the_own_loss_of_a_language_model(tmp_path):
    """Its own loss divides by `num_items_in_batch`, the labels of all micro-batches of a step."""
    found = []
    entropy = LossWrapper(nn.CrossEntropyLoss(), "next", pred_key="logits", gt_key="labels")
    criterion = MultiLoss([entropy], [1.0], normalize=False)
    for trainer_class, options in ((transformers.Trainer, {}), (Language, {"criterion": criterion})):
        arguments = runs.build_arguments(
            tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=6, label_names=None,
            logging_steps=1, weight_decay=0.1, learning_rate=0.01, max_grad_norm=1.0,
        )  # fmt: skip
        trainer = trainer_class(model=language_model(), args=arguments, train_dataset=Sentences(), **options)
        trainer.train()
        logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        found.append((dict(trainer.model.named_parameters()), torch.tensor(logged)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-6)


# --- batches --------------------------------------------------------------------------------------


def test_labels_that_are_a_mapping_are_the_targets(tmp_path):
    trainer = runs.build_trainer(tmp_path, label_names=["labels"])
    batch = next(iter(trajectory.loader()))
    targets = trajectory.targets_of(batch)
    assert trainer.read_targets({"x": batch["x"], "labels": targets}) is targets


def test_without_label_names_labels_are_under_labels(tmp_path):
    trainer = runs.build_trainer(tmp_path, label_names=None)
    assert trainer.read_targets({"x": 1, "labels": 2}) == {"labels": 2}


def test_a_batch_without_labels_and_outputs_without_names_are_refused(tmp_path):
    trainer = runs.build_trainer(tmp_path)
    with pytest.raises(BatchError, match=r"expected labels under \['depth'.*found a batch of \['x'\]; name them"):
        trainer.read_targets({"x": torch.ones(1)})
    with pytest.raises(BatchError, match="mapping or a tensor, found tuple; set return_dict=True"):
        trainer.read_predictions((torch.ones(1),))
    assert trainer.read_predictions(tensor := torch.ones(1)) is tensor


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_run_resumed_in_the_middle_of_an_epoch_ends_as_the_uninterrupted_one(tmp_path, accumulation, monkeypatch):
    options = {
        "gradient_accumulation_steps": accumulation, "save_strategy": "steps", "save_steps": 7, "max_steps": 13,
        "logging_steps": 1, "train_sampling_strategy": "random",
    }  # fmt: skip
    whole = runs.build_trainer(tmp_path, **options)
    whole.train()
    monkeypatch.setattr(huggingface, "calibrate_norms", None)  # a resumed run does not calibrate
    resumed = runs.build_trainer(tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-7"))
    trajectory.assert_same(runs.result(resumed), runs.result(whole), tolerance=0)


def test_the_checkpoint_of_another_criterion_is_refused(tmp_path):
    runs.build_trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=2).train()
    other = trajectory.build_criterion(weighting="softadapt")
    with pytest.raises(CheckpointError, match="nothing was loaded"):
        runs.build_trainer(tmp_path, criterion=other).train(resume_from_checkpoint=True)


def test_a_checkpoint_without_a_criterion_is_told(tmp_path, caplog):
    runs.build_trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=2).train()
    (tmp_path / "checkpoint-2" / "criterion.pt").unlink()
    with caplog.at_level(logging.WARNING, "lossreg"):
        runs.build_trainer(tmp_path, max_steps=3).train(resume_from_checkpoint=True)
    assert "criterion.pt: the criterion begins anew" in caplog.text


def test_a_model_that_is_made_anew_has_a_criterion_that_begins_anew(tmp_path):
    trainer = runs.build_trainer(tmp_path, max_steps=12, model_init=trajectory.Network)
    trainer.train()
    first = runs.result(trainer)
    trainer.train()
    trajectory.assert_same(runs.result(trainer), first, tolerance=0)


# --- evaluation -----------------------------------------------------------------------------------


def test_an_evaluation_changes_nothing_and_logs_the_means_over_its_elements(tmp_path):
    held_out = trajectory.Samples(90)
    options = {"gradient_accumulation_steps": 4, "max_steps": 12, "logging_steps": 6}
    trainer = runs.build_trainer(
        tmp_path, eval_dataset=held_out, eval_strategy="steps", eval_steps=5, per_device_eval_batch_size=7, **options
    )  # fmt: skip
    trainer.train()
    expected = trajectory.train(4, steps=12, every=6)
    trajectory.assert_same(runs.result(trainer), expected)
    before = {name: value.clone() for name, value in trainer.criterion.state_dict().items()}
    metrics = trainer.evaluate()
    torch.testing.assert_close(trainer.criterion.state_dict(), before, rtol=0, atol=0)
    assert [step for step, _ in runs.log_of(trainer, "total/val")] == [5, 10, 12, 12]

    columns = held_out.columns
    with torch.no_grad():
        predicted = trainer.model.eval()(columns["x"])
    there = columns["has_depth"]
    depth = nn.functional.smooth_l1_loss(predicted["depth"][there], columns["depth"][there])
    kinds = nn.functional.cross_entropy(predicted["kind"], columns["kind"], reduction="none")
    weights = columns["weight"] * (columns["kind"] != -100)
    norms = {path: float(term.loss.norm) for path, term in trainer.criterion.leaves()}
    assert metrics["losses/val_depth"] == pytest.approx(float(depth) / norms["depth"], rel=1e-6)
    kind = float((kinds * weights).sum() / weights.sum())
    assert metrics["losses/val_classes/kind"] == pytest.approx(kind / norms["classes/kind"], rel=1e-6)


def test_evaluations_of_several_sets_have_names_of_their_own(tmp_path):
    sets = {"near": trajectory.Samples(8), "far": trajectory.Samples(12)}
    trainer = runs.build_trainer(tmp_path, max_steps=1, eval_dataset=sets)
    trainer.train()
    metrics = trainer.evaluate()
    assert {"losses/val_near_depth", "losses/val_far_depth", "total/val_near", "eval_near_loss"} <= metrics.keys()
    assert "losses/test_depth" in trainer.predict(trajectory.Samples(8)).metrics


def test_a_row_of_the_log_has_the_loss_that_its_total_is(tmp_path):
    trainer = runs.build_trainer(tmp_path, gradient_accumulation_steps=4, max_steps=20)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["loss"] for row in rows] == pytest.approx([row["total/train"] for row in rows], rel=1e-5)


# --- the optimizer --------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, pred, gt):
        return (pred - self.scale * gt).square().mean()


def test_the_parameters_of_a_weighting_decay_not_and_those_of_a_loss_as_the_model(tmp_path):
    scaled = LossWrapper(Scaled(), "scaled", pred_key="kind", gt_key="weight")
    criterion = MultiLoss([scaled], [1.0], weighting=Uncertainty())
    trainer = runs.build_trainer(tmp_path, criterion=criterion, weight_decay=0.3)
    groups = trainer.create_optimizer().param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decays[id(criterion.weighting.s)] == 0.0
    assert decays[id(scaled.loss_func.scale)] == 0.3
    assert len(decays) == len(list(trainer.model.parameters())) + 2


def test_a_given_optimizer_must_have_the_parameters_of_the_criterion(tmp_path):
    model, criterion = trajectory.Network(), trajectory.build_criterion()
    lacking = (trajectory.build_optimizer(model), None)
    with pytest.raises(ArgumentError, match=r"optimizers: lacks the parameters 'weighting.s' of the criterion"):
        runs.build_trainer(tmp_path, criterion=criterion, optimizers=lacking).train()
    trainer = runs.build_trainer(
        tmp_path, criterion=criterion, optimizers=(trajectory.build_optimizer(model, criterion), None), max_steps=2
    )  # fmt: skip
    before = criterion.weighting.s.clone()
    trainer.train()
    assert not torch.equal(criterion.weighting.s, before)


# --- what may go wrong ----------------------------------------------------------------------------


def test_a_criterion_that_is_none_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="criterion: expected a MultiLoss, found an object of MSELoss"):
        runs.build_trainer(tmp_path, criterion=nn.MSELoss())


def test_after_a_failed_step_no_window_is_left_open(tmp_path):
    trainer = runs.build_trainer(tmp_path, gradient_accumulation_steps=4, max_steps=2)
    trainer.model.register_forward_hook(lambda *_: 1 / 0 if torch.is_grad_enabled() else None)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    with trainer.criterion.window([]):
        pass


def test_a_step_that_a_callback_ends_early_moves_nothing(tmp_path):
    class Impatient(transformers.TrainerCallback):
        ended = 0

        def on_substep_end(self, args, state, control, **_):
            control.should_epoch_stop = state.global_step == 1 and not self.ended
            self.ended += control.should_epoch_stop

    trainer = runs.build_trainer(tmp_path, gradient_accumulation_steps=4, max_steps=8, callbacks=[Impatient()])
    trainer.train()
    assert trainer.state.global_step == 1 + 5


def test_a_weighting_that_works_in_no_window_says_so_and_trains_without(tmp_path):
    def trainer_of(**options):
        terms = [LossWrapper(nn.MSELoss(), name, pred_key="kind", gt_key="target") for name in "ab"]
        criterion = MultiLoss(terms, [1.0, 2.0], normalize=False, weighting=GradNorm())
        trainer = runs.build_trainer(tmp_path, criterion=criterion, gradient_accumulation_steps=2, **options)
        criterion.weighting.set_shared_parameters(trainer.model.body.parameters())
        trainer.read_targets = lambda inputs: {"target": inputs["x"][:, :3]}
        return trainer

    with pytest.raises(WeightingError, match="GradNorm does not work in a window"):
        trainer_of().train()
    trainer_of(windows=False, max_steps=2).train()


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "lossreg.training.huggingface")
    with pytest.raises(ImportError, match=r'pip install "lossreg\[huggingface\]"'):
        __import__("lossreg.training.huggingface")
