"""A `Trainer` of Hugging Face's transformers whose loss is a criterion."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.atomic import replacing
from lossreg.composition.multiloss import read_criterion
from lossreg.errors import BatchError
from lossreg.training.accumulation import StepWindow, average_own_gradients
from lossreg.training.calibration import calibrate_norms, needs_norms
from lossreg.training.log import named, samples_of
from lossreg.training.means import TermMeans, add_over_ranks

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise ImportError(
        'lossreg.training.huggingface needs transformers and accelerate: pip install "lossreg[huggingface]"'
    ) from error

_log = logging.getLogger("lossreg")

CRITERION_NAME: Final = "criterion.pt"
"""The file in a checkpoint that holds the state of the criterion."""


class MultiLossTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` whose loss is a `MultiLoss` of the model's outputs and the labels.

    It is a subclass, since a `compute_loss_func` sees one micro-batch at a time, and a callback neither the checkpoint
    that a run resumes from nor a row of the log before it is written. Other subclasses of `Trainer` can be combined
    with it: `class Mine(MultiLossTrainer, Seq2SeqTrainer)`.

    - Gradients: the micro-batches of a step under `gradient_accumulation_steps`, on all ranks, are a window of the
      criterion, so that their gradient is that of the joined batch, also in the last, shorter step of an epoch. The
      Trainer's own count of labels, `num_items_in_batch`, is not needed. Without accumulation each forward is plain:
      set `reduce_over: ranks` for several ranks.
    - Norms are calibrated over the training set before the first step, unless they are there.
    - The epoch, with its fraction, and the step go to the schedules. They are those at which a step begins.
    - The Trainer's log gets each term under the names of `TermLog`, as means since its last row, or over an evaluation.
    - A checkpoint holds the criterion beside the optimizer, in the file `criterion.pt`.
    - The optimizer that the Trainer creates also trains the parameters of the criterion: those of a weighting without
      weight decay. The Trainer clips the gradients of the model only.

    Args:
        args: those of `Trainer`, by position.
        criterion: a `MultiLoss`, or what `torch.compile` made of it; it is moved to the device of the model.
        windows: whether the micro-batches of a step are a window. Else the mean of their totals is taken, and
            weightings and running norms move at each of them: for a weighting that works in no window.
        options: those of `Trainer`, by name.

    Raises:
        ArgumentError: an argument is of a wrong type; or, when training begins, the optimizer that was given lacks
            parameters of the criterion.
    """

    label_names: list[str]

    def __init__(self, *args: Any, criterion: nn.Module, windows: bool = True, **options: Any) -> None:
        given = Arguments(type(self).__name__)
        multi_loss = read_criterion(given, criterion)
        self.windows = given.flag("windows", windows)
        given.done()
        self._called, self.criterion = criterion, multi_loss
        self._untrained = {name: value.clone() for name, value in self.criterion.state_dict().items()}
        super().__init__(*args, compute_loss_func=self._total, **options)
        self.criterion.to(self.args.device)
        if self.args.label_names is None and not self.label_names:
            self.label_names = ["labels"]
        self._window = StepWindow(criterion, 1)
        self._micro_batches: list[Any] = []  # of the step that is to begin
        self._parts = 1  # how many it has
        self._trained = TermMeans(self.criterion)
        self._evaluated: TermMeans | None = None  # of the evaluation that is going on
        self.add_callback(_AroundSteps(self))

    # --- what a batch is --------------------------------------------------------------------------

    def read_targets(self, inputs: Mapping[str, Any]) -> Any:
        """Return what the criterion is given as targets: the labels of a batch by name.

        Labels are the entries under `label_names` (an argument of `TrainingArguments`); the model does not get them. If
        there is one label and it is a mapping, that mapping is returned. Override this method for other batches.

        Raises:
            BatchError: the batch has no label.
        """
        labels = {name: inputs[name] for name in self.label_names if name in inputs}
        if not labels:
            raise BatchError(
                f"{type(self).__name__}: expected labels under {self.label_names}, found a batch of {sorted(inputs)}; "
                "name them by label_names of TrainingArguments, or override read_targets"
            )
        first = next(iter(labels.values()))
        return first if len(labels) == 1 and isinstance(first, Mapping) else labels

    def read_predictions(self, outputs: Any) -> Any:
        """Return what the criterion is given as predictions: the outputs of the model by name; override it for others.

        Raises:
            BatchError: the outputs are neither a mapping, as a `ModelOutput` is, nor a tensor.
        """
        if isinstance(outputs, Tensor):
            return outputs
        if not isinstance(outputs, Mapping):
            raise BatchError(
                f"{type(self).__name__}: expected the model to return a ModelOutput, a mapping or a tensor, found "
                f"{type(outputs).__name__}; set return_dict=True in its config, or override read_predictions"
            )
        return dict(outputs)

    # --- the loss ---------------------------------------------------------------------------------

    def compute_loss(
        self, model: nn.Module, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the total of a micro-batch; inside a window, its share of the total, which is not divided again."""
        targets = self.read_targets(inputs)
        outputs = model(**{name: value for name, value in inputs.items() if name not in self.label_names})
        if self.criterion.training != model.training:
            self.criterion.train(model.training)
        total = self.compute_loss_func(outputs, targets, num_items_in_batch=num_items_in_batch)
        if torch.is_grad_enabled() and not self._window.is_open:
            total = total / self._parts
        return (total, outputs) if return_outputs else total

    def _total(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        """Return the total, and take in what each term came to."""
        predictions = self.read_predictions(outputs)
        time = {"epoch": self.state.epoch or 0.0, "step": self.state.global_step}
        total: Tensor = self._called(predictions, labels, **time)[0]
        means = self._evaluated or self._trained
        if (record := self.criterion.last_record) is not None:
            means.add(record, samples_of(predictions))
        if self._evaluated is not None:
            means.close_step()
        return total

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """Return the micro-batches of the next step, whose targets its window counts."""
        found = super().get_batch_samples(*args, **options)
        self._window.abandon()  # of a step that a callback ended early
        self._parts = len(found[0])
        self._micro_batches = list(found[0]) if self.windows and self.args.gradient_accumulation_steps > 1 else []
        return found

    def training_step(self, *args: Any, **options: Any) -> Any:
        """Compute the gradients of a micro-batch; the first opens the window of the step, and the last closes it."""
        try:
            if self._micro_batches:
                micro_batches, self._micro_batches = self._micro_batches, []
                self._window.open([self.read_targets(inputs) for inputs in micro_batches])
            loss = super().training_step(*args, **options)
            if self._window.is_open:
                self._window.close_micro_batch()
            if self.accelerator.sync_gradients:
                average_own_gradients(self.criterion)
        except BaseException:
            self._window.abandon()
            raise
        return loss

    def begin(self, loader: Any) -> None:
        """Begin a run: clear the log of an earlier one, and calibrate the norms if they are not set.

        Args:
            loader: over this rank's share of the training set.

        Raises:
            NormError, DistributedError: as `calibrate_norms`.
        """
        self._trained.clear()
        if needs_norms(self.criterion, type(self).__name__):
            progress = not self.args.disable_tqdm
            calibrate_norms(self.criterion, self.model, loader, batch_fn=self._read_batch, progress=progress)

    def end_step(self) -> None:
        """Forget the gradients of the criterion, as the Trainer does those of the model."""
        self.criterion.zero_grad()
        self._trained.close_step()

    # --- norms and parameters ---------------------------------------------------------------------

    def _read_batch(self, model: nn.Module, inputs: Any) -> tuple[Any, Any, int]:
        inputs = self._prepare_inputs(inputs)
        targets = self.read_targets(inputs)
        with self.compute_loss_context_manager():
            outputs = model(**{name: value for name, value in inputs.items() if name not in self.label_names})
        predictions = self.read_predictions(outputs)
        return predictions, targets, samples_of(predictions)

    def create_optimizer(self, *args: Any, **options: Any) -> Any:
        """Return the optimizer, which also trains the parameters of the criterion."""
        given = self.optimizer is not None
        optimizer = super().create_optimizer(*args, **options)
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        trained = {name: p for name, p in self.criterion.named_parameters() if p.requires_grad}
        missing = {name: p for name, p in trained.items() if id(p) not in known}
        if missing and given:
            arguments = Arguments(type(self).__name__)
            names = ", ".join(map(repr, missing))
            hint = "add criterion.weighting_parameters() as a group of weight_decay 0, or let the Trainer create it"
            arguments.report("optimizers", f"lacks the parameters {names} of the criterion", hint, "missing")
            arguments.done()
        of_weightings = {id(parameter) for parameter in self.criterion.weighting_parameters()}
        for weight_decay, wanted in ((0.0, True), (self.args.weight_decay, False)):
            group = [p for p in missing.values() if (id(p) in of_weightings) is wanted]
            if group:
                optimizer.add_param_group({"params": group, "weight_decay": weight_decay})
        return optimizer

    def call_model_init(self, *args: Any, **options: Any) -> Any:
        """Return a new model, and let the criterion begin anew with it."""
        self.criterion.load_state_dict(self._untrained)
        return super().call_model_init(*args, **options)

    # --- checkpoints ------------------------------------------------------------------------------

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the criterion, too."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            with replacing(Path(output_dir) / CRITERION_NAME) as draft:
                torch.save(self.criterion.state_dict(), draft)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the criterion, too."""
        path = None if checkpoint is None else Path(checkpoint) / CRITERION_NAME
        if path is not None and path.is_file():
            self.criterion.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        elif path is not None:
            _log.warning("%s: the checkpoint has no %s: the criterion begins anew", type(self).__name__, path)
        super()._load_optimizer_and_scheduler(checkpoint)

    # --- the log ----------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Log a row; one of the training loss with the means of the terms since the last."""
        if logs.keys() >= {"loss", "learning_rate"}:
            logs.update(named(self._trained.take(add_over_ranks), "train"))
        super().log(logs, *args, **options)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Evaluate; the metrics also hold the means of the terms, under `losses/val_` where the prefix is `eval`."""
        means = self._evaluated = TermMeans(self.criterion, ["losses"])
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix=metric_key_prefix
            )
        finally:
            self._evaluated = None
        stage = "val" + metric_key_prefix.removeprefix("eval") if metric_key_prefix.startswith("eval") else None
        output.metrics.update(named(means.take(add_over_ranks), stage or metric_key_prefix))
        return output


class _AroundSteps(TrainerCallback):  # type: ignore[misc]
    """Tell a `MultiLossTrainer` when its training begins, and when a step has ended."""

    def __init__(self, trainer: MultiLossTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Set the norms; a checkpoint has been loaded by now."""
        self.trainer.begin(train_dataloader)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Get ready for the next step."""
        self.trainer.end_step()
