"""Lightning callbacks: norms before the first step, windows over accumulated batches, and each term in the log.

They serve `lightning` and `pytorch_lightning` alike: they derive from the `Callback` of whichever is imported
already, of both where both are, else of the first that is installed.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from lossreg.composition.multiloss import MultiLoss
from lossreg.errors import WindowError, warn
from lossreg.losses.elementwise import uncompiled
from lossreg.losses.norm import RunningNorm
from lossreg.training.accumulation import ReadAhead, StepWindow
from lossreg.training.calibration import BatchFunction, calibrate_norms, default_batch, needs_norms
from lossreg.training.diagnosis import is_observed
from lossreg.training.log import named, samples_of
from lossreg.training.means import TermMeans

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_USUAL_NAMES = ("loss_function", "criterion", "loss_fn", "loss")


def _callback_bases() -> tuple[type, ...]:
    """Return the `Callback` of the packages that are in use, or of the first that is installed."""
    names = [name for name in _PACKAGES if name in sys.modules]
    names = names or [name for name in _PACKAGES if find_spec(name.partition(".")[0])][:1]
    if not names:
        raise ImportError('lossreg.training.lightning needs Lightning: pip install "lossreg[lightning]"')
    return tuple(import_module(name).Callback for name in names)


if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    Callback = types.new_class("Callback", _callback_bases())


def find_criterion(module: nn.Module, name: str | None = None) -> nn.Module | None:
    """Return the `MultiLoss` of a module as it is called: itself, or what `torch.compile` made of it.

    Args:
        module: a LightningModule.
        name: its attribute, dotted where it is deeper; without one, the only `MultiLoss`, or that named
            `loss_function`, `criterion`, `loss_fn` or `loss`.

    Returns:
        the module, or None where no name is given and there is none.

    Raises:
        ValueError: the named attribute is no `MultiLoss`, or there are several and no name to choose by.
    """
    found: dict[str, nn.Module] = {}
    for path, child in module.named_modules():
        if isinstance(uncompiled(child), MultiLoss) and not any(path.startswith(f"{outer}.") for outer in found):
            found[path] = child
    owner = type(module).__name__
    if name is not None:
        if name not in found:
            raise ValueError(f"{owner}.{name} is not a MultiLoss; those of {owner} are {sorted(found)}")
        return found[name]
    if len(found) > 1:
        usual = [found[usual] for usual in _USUAL_NAMES if usual in found]
        if not usual:
            raise ValueError(f"{owner} has several MultiLosses, {sorted(found)}; say which: criterion=NAME")
        return usual[0]
    return next(iter(found.values()), None)


# --- norms ----------------------------------------------------------------------------------------


def image_and_target(model: nn.Module, batch: Any) -> tuple[Any, Any, int]:
    """Return `(pred_batch, gt_batch, samples)` of a batch of `image` and one target under any name.

    A target that is a mapping is the `gt_batch`, and a bare prediction then is its `seg`; a bare target goes
    with a bare prediction. Any other batch is taken as `calibrate_norms` takes it.
    """
    if not (isinstance(batch, Mapping) and len(batch) == 2 and "image" in batch):
        return default_batch(model, batch)
    image = batch["image"]
    target = next(value for key, value in batch.items() if key != "image")
    pred = model(image)
    if isinstance(pred, Tensor):
        return ({"seg": pred} if isinstance(target, Mapping) else pred), target, len(image)
    return pred, (target if isinstance(target, Mapping) else batch), len(image)


class ComputeWeightNormLossesCallback(Callback):
    """Calibrate the norms of the module's `MultiLoss` before the first training step.

    Every rank goes over its own share of the training loader and all end with the same norms. Batches pass
    through the module's transfer hooks and the trainer's precision, as in training. Nothing is done where the
    norms are there: in a run that resumes from a checkpoint, and in a second `fit`; nor where the criterion does
    not normalise. `MultiLoss.reset_norm()` asks for new ones.

    `normalization_params` (`min_samples`, `max_samples`) is read from `pl_module.cfg.loss_params`, from its
    `compound_loss`, `multi_loss` or `multiloss` or itself; where it is in none of them, it is the criterion's own.

    Args:
        criterion: the module's attribute, where `find_criterion` is not to look for it.
        batch_fn: `(pl_module, batch) -> (pred_batch, gt_batch, samples)`.
        mode: the mode of the module meanwhile; None for this class's own, "eval".
        min_norm: floor of every norm.

    Raises:
        NormError, DistributedError: as `calibrate_norms`, from `Trainer.fit`, alike on every rank.
    """

    _mode: Literal["eval", "train"] = "eval"
    _batch_fn: BatchFunction = staticmethod(image_and_target)

    def __init__(
        self,
        criterion: str | None = None,
        batch_fn: BatchFunction | None = None,
        mode: Literal["eval", "train"] | None = None,
        min_norm: float = 0.0,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.batch_fn = batch_fn or self._batch_fn
        self.mode = mode or self._mode
        self.min_norm = min_norm

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let a run of `pytorch_segmentation_models_trainer` resume: there, norms were parameters of the optimizer."""
        _drop_norms(checkpoint, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate; not earlier, since some strategies load a checkpoint after `on_fit_start`."""
        criterion = find_criterion(pl_module, self.criterion)
        if criterion is None:
            warn(
                f"{type(pl_module).__name__} has no MultiLoss whose norms could be calibrated; make it an "
                f"attribute of the module, or leave {type(self).__name__} out"
            )
            return
        multi_loss = cast(MultiLoss, uncompiled(criterion))
        if not needs_norms(multi_loss, type(self).__name__):
            return
        params = _normalization_params(getattr(pl_module, "cfg", None))
        with trainer.precision_plugin.forward_context():
            calibrate_norms(
                multi_loss,
                pl_module,
                _training_loader(trainer),
                max_samples=params.get("max_samples"),
                min_samples=params.get("min_samples"),
                batch_fn=self._as_in_training(trainer, pl_module),
                mode=self.mode,
                min_norm=self.min_norm,
                progress=trainer.progress_bar_callback is not None,
            )

    def _as_in_training(self, trainer: Trainer, pl_module: LightningModule) -> BatchFunction:
        def batch_fn(model: nn.Module, batch: Any) -> tuple[Any, Any, int]:
            batch = trainer.precision_plugin.convert_input(batch)
            batch = pl_module.on_before_batch_transfer(batch, 0)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            return self.batch_fn(model, batch)

        return batch_fn


class FrameFieldComputeWeightNormLossesCallback(ComputeWeightNormLossesCallback):
    """The same for frame-field networks: batches are mappings with `image`, and the module is in train mode."""

    _mode = "train"
    _batch_fn = staticmethod(default_batch)


def _drop_norms(checkpoint: Mapping[str, Any], module: nn.Module) -> None:
    """Take norms out of the groups of each optimizer over all parameters and norms of a checkpoint."""
    parameters = {name for name, _ in module.named_parameters()}
    norms = {f"{path}.norm" for path, child in module.named_modules() if isinstance(child, RunningNorm)}
    names = [key for key in checkpoint.get("state_dict", ()) if key in parameters | norms]  # as parameters() has them
    for optimizer in checkpoint.get("optimizer_states", ()):
        numbers = sorted(number for group in optimizer["param_groups"] for number in group["params"])
        held = [number for number, name in zip(numbers, names, strict=False) if name in parameters]
        if len(numbers) == len(names) and len(held) == len(parameters):
            for group in optimizer["param_groups"]:
                group["params"] = [number for number in group["params"] if number in held]


def _training_loader(trainer: Trainer) -> Iterable[Any]:
    loader: Any = trainer.train_dataloader
    if isinstance(loader, (Mapping, Sequence)):
        raise TypeError(
            f"expected one training loader to calibrate norms over, found {type(loader).__name__} of {len(loader)}; "
            "call lossreg.calibrate_norms with a loader of your choice before fit, and leave the callback out"
        )
    return loader.loader if isinstance(loader, ReadAhead) else cast("Iterable[Any]", loader)


def _normalization_params(cfg: Any) -> dict[str, int]:
    loss_params = _entry(cfg, "loss_params")
    blocks = [_entry(loss_params, name) for name in ("compound_loss", "multi_loss", "multiloss")]
    for block in (*blocks, loss_params):
        params = _entry(block, "normalization_params")
        if params is not None:
            found = {key: _entry(params, key) for key in ("min_samples", "max_samples")}
            return {key: int(value) for key, value in found.items() if value is not None}
    return {}


def _entry(node: Any, key: str) -> Any:
    """Return what a mapping, a config node or a namespace holds under a key, or None."""
    if isinstance(node, Mapping):
        return node[key] if key in node else None  # noqa: SIM401 -- a strict config refuses get
    return getattr(node, key, None)


# --- windows --------------------------------------------------------------------------------------


class WindowsCallback(Callback):
    """Make the batches of a step a window under `accumulate_grad_batches`: their gradient is that of the joined batch.

    Lightning gives one batch at a time and divides its loss by `accumulate_grad_batches`. A window needs the targets
    of all batches of a step before the first, so give `fit` the training loader as `ReadAhead(loader, n)`, with `n`
    the `accumulate_grad_batches` of the trainer. The callback multiplies the total of each forward by `n`: the division
    leaves its share of the step's. The last step of an epoch may have fewer batches. Weightings and running norms move
    once a step. With `accumulate_grad_batches=1` it does nothing.

    Args:
        criterion: the module's attribute, where `find_criterion` is not to look for it.

    Raises:
        WindowError: from `Trainer.fit`: the loader does not read ahead, or not as many batches as are accumulated; or
            the module optimises manually.
        CountError, WeightingError: as `MultiLoss.window`.
    """

    def __init__(self, criterion: str | None = None) -> None:
        super().__init__()
        self.criterion = criterion
        self._window: StepWindow | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the loader reads ahead as many batches as are accumulated."""
        accumulated = trainer.accumulate_grad_batches
        self._window = None
        if accumulated == 1:
            return
        owner = type(self).__name__
        if not pl_module.automatic_optimization:
            raise WindowError(
                f"{owner}: expected automatic optimization, found a {type(pl_module).__name__} that steps by itself; "
                "enter criterion.window(...) around its backwards, and leave the callback out"
            )
        loader: Any = trainer.train_dataloader
        if not isinstance(loader, ReadAhead) or loader.micro_batches != accumulated:
            found = (
                f"ReadAhead(..., {loader.micro_batches})" if isinstance(loader, ReadAhead) else type(loader).__name__
            )
            raise WindowError(
                f"{owner}: accumulate_grad_batches={accumulated}: expected the training loader as "
                f"ReadAhead(loader, {accumulated}) of lossreg.training.accumulation, found {found}"
            )
        if trainer.world_size > 1 and _same_on_all_ranks(loader.loader):
            raise WindowError(
                f"{owner}: expected a loader with another share of the data on each rank, found a DataLoader with "
                f"{type(loader.loader.sampler).__name__}; Lightning cannot replace the sampler inside of ReadAhead: "  # type: ignore[attr-defined]
                "give the DataLoader a torch.utils.data.DistributedSampler"
            )
        criterion = find_criterion(pl_module, self.criterion)
        if criterion is None:
            raise ValueError(
                f"{owner}: {type(pl_module).__name__} has no MultiLoss; make it an attribute of the module, or leave "
                "the callback out"
            )
        self._window = StepWindow(criterion, accumulated)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Open a window before the first batch of a step."""
        if self._window is None or batch_idx % self._window.micro_batches:
            return
        self._window.abandon()
        left = (
            trainer.num_training_batches - batch_idx
        )  # `limit_train_batches` may end the epoch before the loader does
        targets = cast(ReadAhead, trainer.train_dataloader).take()
        self._window.open(targets if len(targets) <= left else targets[: int(left)])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close it after the last: weightings and running norms move."""
        if self._window is not None and self._window.is_open:
            self._window.close_micro_batch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a window whose step was not made."""
        if self._window is not None:
            self._window.abandon()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the window; nothing moves."""
        if self._window is not None:
            self._window.abandon()


def _same_on_all_ranks(loader: Iterable[Any]) -> bool:
    """Return whether each rank reads all of a dataset from a loader."""
    return isinstance(loader, DataLoader) and isinstance(loader.sampler, (RandomSampler, SequentialSampler))


# --- the log --------------------------------------------------------------------------------------


class LogTermsCallback(Callback):
    """Log each term, its weight and its norm, and the total, under the names of `lossreg.training.log.TermLog`.

    In training: at the steps that the trainer logs, the mean over the batches that the optimizer's step was made
    of (several under `accumulate_grad_batches`). In validation and test: at the end of the epoch, the mean over
    all its batches, of the losses and the total alone. A value is divided by its norm and not weighted; a weight is
    the schedule's times the coefficient of adaptive weightings, without what `uncertainty` adds. A term that no
    batch had is left out. Members of a group are `group/term`.

    Args:
        criterion: the module's attribute, where `find_criterion` is not to look for it.
        sync_dist: whether values are means over all ranks, by one collective for all terms; else each rank's own.
    """

    def __init__(self, criterion: str | None = None, sync_dist: bool = True) -> None:
        super().__init__()
        self.criterion = criterion
        self.sync_dist = sync_dist
        self._multi_loss: MultiLoss | None = None
        self._hook: Any = None
        self._trained: TermMeans | None = None  # of the batches since the optimizer's last step
        self._evaluated: TermMeans | None = None  # of the evaluation that is going on
        self._last_step = 0

    # --- reading the records

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen."""
        self._attach(pl_module)
        self._last_step = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to an evaluation, and leave the means of training aside."""
        self._attach(pl_module)
        self._evaluated = TermMeans(cast(MultiLoss, self._multi_loss), ["losses"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with training."""
        self._evaluated = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to an evaluation."""
        self.on_validation_start(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop listening."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        self._detach()

    def _attach(self, pl_module: LightningModule) -> None:
        if self._hook is not None:
            return
        criterion = find_criterion(pl_module, self.criterion)
        if criterion is None:
            raise ValueError(
                f"{type(self).__name__}: {type(pl_module).__name__} has no MultiLoss; make it an attribute of the "
                "module, or leave the callback out"
            )
        self._multi_loss = cast(MultiLoss, uncompiled(criterion))
        self._trained = TermMeans(self._multi_loss)
        self._hook = criterion.register_forward_hook(self._take, with_kwargs=True)

    def _detach(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._multi_loss = self._trained = self._evaluated = None

    def _take(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        """Take the record of a forward in."""
        record = cast(MultiLoss, self._multi_loss).last_record
        if record is None or is_observed():
            return
        means = self._evaluated or self._trained
        if means is not None:
            means.add(record, samples_of(args[0] if args else kwargs["pred_batch"]))

    # --- logging

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log where the optimizer has made a step and the trainer logs it."""
        if trainer.global_step == self._last_step or self._trained is None:
            return
        self._last_step = trainer.global_step
        if trainer.global_step % max(trainer.log_every_n_steps, 1) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._trained.clear()
            return
        for name, mean in self._reduced(self._trained, "train", trainer).items():
            pl_module.log(name, mean, on_step=True, on_epoch=False, batch_size=1)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the validation epoch."""
        if not trainer.sanity_checking:
            self._log_epoch(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the test epoch."""
        self._log_epoch(trainer, pl_module, "test")

    def _log_epoch(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._evaluated is None:
            return
        for name, mean in self._reduced(self._evaluated, stage, trainer).items():
            pl_module.log(name, mean, on_step=False, on_epoch=True, sync_dist=self.sync_dist, batch_size=1)

    def _reduced(self, means: TermMeans, stage: str, trainer: Trainer) -> dict[str, float]:
        """Return the means, over all ranks where they are to be."""

        def add_up(sums: Tensor) -> Tensor:
            return cast(Tensor, trainer.strategy.reduce(sums, reduce_op="sum"))

        return named(means.take(add_up if self.sync_dist else None), stage)
