"""A log of each term: to TensorBoard, Weights & Biases, MLflow, a CSV file or a function."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import nn

from lossreg.arguments import Arguments
from lossreg.atomic import replacing
from lossreg.composition.multiloss import read_criterion
from lossreg.losses.nested import tensors_in
from lossreg.training.diagnosis import is_observed
from lossreg.training.means import TermMeans, add_over_ranks

_log = logging.getLogger("lossreg")

Writer: TypeAlias = Callable[[Mapping[str, float], int], None]
"""Takes numbers by name, and the step."""


class TermLog:
    """Log what each term comes to, every so many steps of the optimizer.

    Names are `losses/{stage}_{term}` (the value over its norm), `weights/{term}` (the schedule's weight times the
    coefficient of an adaptive weighting), `norms/{term}`, `coefficients/{term}` (where there is an adaptive weighting)
    and `total/{stage}`; members of a group are `group/term`. In training the stage is `train`, and only forwards with
    gradients count. Numbers are means over all forwards since the last were written: values over what they are means
    of, so that micro-batches and ranks of any size come out right. Between two writes nothing is read back to the
    host and no rank waits. Call `step` after each step of the optimizer, and `close` at the end, or use it in a `with`.
    A copy of the criterion, by pickle or `copy.deepcopy`, has a copy of the log, which writes nothing.

    Args:
        criterion: a `MultiLoss`, or what `torch.compile` made of it.
        writer: a `SummaryWriter`; a run of W&B, or its module; the module `mlflow`; anything with `log_metrics` or
            `log` of the same arguments, as Lightning's loggers and an `Accelerator` have; the path of a CSV file; or a
            function of the numbers by name and the step. Only rank 0 writes.
        every: steps of the optimizer between two writes.
        all_ranks: whether numbers are means over all ranks, by one collective a write; else those of rank 0.

    Raises:
        ArgumentError: names every argument that is of a wrong type or out of range.
    """

    def __init__(self, criterion: nn.Module, writer: Any, *, every: int = 1, all_ranks: bool = True) -> None:
        given = Arguments("TermLog")
        multi_loss = read_criterion(given, criterion)
        self.every = given.count("every", every, "a number of steps")
        self.all_ranks = given.flag("all_ranks", all_ranks)
        self._write = writer_of(given, writer) if is_first() else None
        given.done()
        self.criterion = multi_loss
        self.steps = 0
        self._trained = TermMeans(self.criterion)
        self._evaluated: TermMeans | None = None
        self._hook = criterion.register_forward_hook(self._take, with_kwargs=True)

    def step(self, step: int | None = None) -> dict[str, float] | None:
        """Count a step of the optimizer, and write at every so many; all ranks must call it.

        Args:
            step: its number, from 1 on; by default one more than the last.

        Returns:
            what was written, on every rank; None between.
        """
        self.steps = self.steps + 1 if step is None else step
        self._trained.close_step()
        if self.steps % self.every:
            return None
        return self._put(self._trained, "train")

    @contextmanager
    def evaluation(self, stage: str = "val") -> Iterator[None]:
        """Collect the forwards inside as those of a stage, and write the means of their losses and total at the end."""
        before, means = self._evaluated, TermMeans(self.criterion, ["losses"])
        self._evaluated = means
        try:
            yield
            self._put(means, stage)
        finally:
            self._evaluated = before

    def close(self) -> None:
        """Write what is left, and stop listening; all ranks must call it. The writer is left open."""
        if self.steps % self.every:
            self._put(self._trained, "train")
        self._hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_write": None}

    def __enter__(self) -> TermLog:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.close()
        else:
            self._hook.remove()  # another rank may not come to write

    def _take(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        record = None if torch.compiler.is_compiling() or is_observed() else self.criterion.last_record
        means = self._evaluated or (self._trained if torch.is_grad_enabled() else None)
        if record is not None and means is not None:
            means.add(record, samples_of(args[0] if args else kwargs["pred_batch"]))

    def _put(self, means: TermMeans, stage: str) -> dict[str, float]:
        numbers = named(means.take(add_over_ranks if self.all_ranks else None), stage)
        if not numbers:
            _log.warning(
                "TermLog: no forward of the criterion was seen before step %s; is it inside of a compiled function?",
                self.steps,
            )
        elif self._write is not None:
            self._write(numbers, self.steps)
        return numbers


def named(means: Mapping[tuple[str, str], float], stage: str) -> dict[str, float]:
    """Return means by their names in a log."""
    return {name_of(kind, path, stage): mean for (kind, path), mean in means.items()}


def name_of(kind: str, path: str, stage: str) -> str:
    """Return the name of a number in a log."""
    if kind == "total":
        return f"total/{stage}"
    return f"losses/{stage}_{path}" if kind == "losses" else f"{kind}/{path}"


def samples_of(pred_batch: Any) -> int:
    """Return the length of the first tensor of a batch that has an axis, else 1."""
    return next((len(tensor) for tensor in tensors_in(pred_batch) if tensor.ndim), 1)


def is_first() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


# --- writers --------------------------------------------------------------------------------------


def writer_of(given: Arguments, writer: Any) -> Writer:
    """Return the function that writes to a tracker, found by its methods: none of them is imported here."""
    if isinstance(writer, (str, Path)):
        return _csv(Path(writer))
    if hasattr(writer, "add_scalar"):

        def add_scalars(numbers: Mapping[str, float], step: int) -> None:
            for name, number in numbers.items():
                writer.add_scalar(name, number, step)

        return add_scalars
    if getattr(writer, "__name__", "") == "mlflow":
        return lambda numbers, step: writer.log_metrics({_of_mlflow(k): n for k, n in numbers.items()}, step=step)
    if hasattr(writer, "log_metrics"):
        return lambda numbers, step: writer.log_metrics(dict(numbers), step=step)
    if hasattr(writer, "log"):
        return lambda numbers, step: writer.log(dict(numbers), step=step)
    if not callable(writer):
        given.wrong("writer", "a SummaryWriter, a run of W&B, mlflow, the path of a CSV file, or a function", writer)
    return cast(Writer, writer)


def _of_mlflow(name: str) -> str:
    """Return a name with an underscore for each character that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def _csv(path: Path) -> Writer:
    """Return a function that appends a row to a CSV file, which gets a column for each new name."""

    def write(numbers: Mapping[str, float], step: int) -> None:
        rows: list[dict[str, Any]] = []
        names = ["step"]
        if path.exists() and path.stat().st_size:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                names = list(reader.fieldnames or names)
                missing = [name for name in numbers if name not in names]
                rows = list(reader) if missing else []
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            missing = list(numbers)
        row = {"step": step, **numbers}
        if not missing:
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, names, restval="").writerow(row)
            return
        with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [*names, *missing], restval="")
            table.writeheader()
            table.writerows([*rows, row])

    return write
