"""The command `lossreg demo`; it does not import torch before the arguments are checked."""

from __future__ import annotations

import os
import time
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lossreg.atomic import replacing
from lossreg.demo.files import CHECKPOINT, CONFIG, RESULTS
from lossreg.errors import LossregError

if TYPE_CHECKING:
    from lossreg.demo.train import Run, Settings

_EXTRA = ("matplotlib", "rasterio", "shapely", "skimage")
DEMO_CONFIG = Path(__file__).with_name("demo.yaml")
"""The config of the packaged loss."""
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    "demo",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Example: lossreg demo --epochs 4 --output demo-run",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1, max=1_000_000),
    show_default="12; 30 with --image",
    help="Passes over the training images.",
)
@click.option("--seed", type=click.IntRange(min=0, max=2**31 - 1), default=0, help="Random seed.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-run"),
    help="Folder for the results; results of an earlier run are replaced.",
)
@click.option("--config", type=_FILE, show_default="the packaged demo.yaml", help="YAML of another loss.")
@click.option("--image", type=_FILE, help="GeoTIFF to train on instead of generated scenes; needs --labels.")
@click.option("--labels", type=_FILE, help="GeoJSON footprints in the coordinates of --image.")
@click.option(
    "--scenes",
    "count",
    type=click.IntRange(min=1, max=1_000_000),
    default=256,
    help="Number of training scenes or patches.",
)
@click.option(
    "--size", type=click.IntRange(min=32, max=4_096), default=96, help="Their side in pixels, a multiple of 8."
)
@click.option(
    "--batch-size", type=click.IntRange(min=1, max=65_536), default=4, help="Images per step, over all processes."
)
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in --output.")
@click.option("--diagnose", is_flag=True, help="At the end, run lossreg.diagnose on one batch.")
@click.option("--monitor", is_flag=True, help="Watch every term, and say at once what goes wrong with one.")
@click.option("--nproc", type=click.IntRange(min=1, max=1_024), default=1, help="Number of processes.")
@click.pass_context
def demo_command(
    context: click.Context,
    /,
    output: Path,
    config: Path | None,
    resume: bool,
    diagnose: bool,
    monitor: bool,
    nproc: int,
    **options: Any,
) -> None:
    """Train a small U-Net with a seven-term loss from a YAML file.

    It learns buildings in generated scenes or in your own tile: their interior, edges and vertices, and a frame field
    along their edges. Norms are calibrated first, and weights change over the epochs. The output folder contains
    metrics.csv, the resolved config.yaml, checkpoint.pt, terms.png and panel.png.
    """
    processes = int(os.environ.get("WORLD_SIZE", nproc))
    _check_options(options, processes)
    if options["epochs"] is None:
        options["epochs"] = 12 if options["image"] is None else 30
    explicit = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    try:
        output.mkdir(parents=True, exist_ok=True)
        if processes > 1 and "RANK" not in os.environ:
            _launch(context, nproc)
        else:
            _train(output, config, resume, {"diagnose": diagnose, "monitor": monitor}, options, explicit)
    except (LossregError, OSError) as error:
        where = f"process {os.environ['RANK']}: " if "RANK" in os.environ else ""
        raise click.ClickException(f"{where}{error}") from error


def _check_options(options: dict[str, Any], processes: int) -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise click.ClickException(f'lossreg demo needs {", ".join(missing)}: pip install "lossreg[demo]"')
    if (options["image"] is None) != (options["labels"] is None):
        raise click.UsageError("use --image and --labels together")
    if options["size"] % 8:
        raise click.UsageError(f"--size: expected a multiple of 8, found {options['size']}")
    if options["batch_size"] % processes:
        raise click.UsageError(
            f"--batch-size: expected a multiple of {processes} processes, found {options['batch_size']}"
        )
    if options["count"] < options["batch_size"]:
        raise click.UsageError(
            f"--scenes: expected at least one batch of {options['batch_size']}, found {options['count']}"
        )


def _launch(context: click.Context, nproc: int) -> None:
    """Start this command in `nproc` processes on this machine with torchrun."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    if not context.params["resume"]:  # report a mistake in the config once, not in each process
        from lossreg.demo.train import resolved_config

        resolved_config(context.params["config"] or DEMO_CONFIG)
    arguments = []
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name != "nproc" and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            arguments += [parameter.opts[0], *([] if value is True else [str(value)])]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    try:
        torchrun(["--standalone", f"--nproc-per-node={nproc}", "-m", "lossreg.demo", *arguments])
    except ChildFailedError as error:
        raise LossregError("a process failed; see its error above") from error


def _train(
    output: Path,
    config: Path | None,
    resume: bool,
    asked: dict[str, bool],
    options: dict[str, Any],
    explicit: set[str],
) -> None:
    """Train in this process, which may be one of several started by torchrun.

    Args:
        output, config, resume: as on the command line.
        asked: whether to `diagnose`, and to `monitor`.
        options: the settings of a new run.
        explicit: which of them were given.
    """
    from lossreg.demo import train
    from lossreg.demo.distributed import process_group, rank
    from lossreg.demo.pictures import draw_pictures
    from lossreg.demo.report import Report
    from lossreg.training.monitor import Monitor

    began = time.monotonic()
    with process_group():
        state = train.read_checkpoint(output) if resume and (output / CHECKPOINT).exists() else None
        if state is None:
            settings, text = train.Settings(**_plain(options)), train.resolved_config(config or DEMO_CONFIG)
        else:
            settings, text = _continued(state, config, options, explicit)
        run = train.build_run(settings, text)
        if state is not None:
            train.restore(run, state)
        first = rank() == 0
        if first:
            _prepare_folder(output, text, keep=state is not None)
        monitor = Monitor(run.criterion) if asked["monitor"] else None
        calibrates = run.criterion.normalize
        with Report(settings.epochs, run.steps, run.epoch, calibrates=calibrates, quiet=not first) as report:
            report.say(_opening(run, resume))
            train.train(run, output, report.step, report.epoch)
            if first:
                draw_pictures(run, output)
                if monitor is not None:
                    report.show(train.monitored(monitor, output))
                if asked["diagnose"]:
                    report.show(train.diagnose_run(run, output))
                report.say(_closing(run, output, time.monotonic() - began))


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def _continued(
    state: dict[str, Any], config: Path | None, options: dict[str, Any], explicit: set[str]
) -> tuple[Settings, str]:
    """Return the settings of a checkpoint; the command line may only change the number of epochs."""
    from lossreg.demo import train

    was = train.Settings(**state["settings"])
    wanted = replace(was, **{name: value for name, value in _plain(options).items() if name in explicit})
    changed = [field.name for field in fields(was) if getattr(was, field.name) != getattr(wanted, field.name)]
    if config is not None and train.resolved_config(config) != state["config"]:
        changed.append("config")
    changed = [name for name in changed if name != "epochs"]
    if changed:
        raise LossregError(
            f"--resume: the checkpoint has another {', '.join(changed)}; leave out that option, or train from the "
            "start without --resume"
        )
    return wanted, state["config"]


def _prepare_folder(output: Path, text: str, *, keep: bool) -> None:
    """Write the config, and remove the results of an earlier run."""
    if not keep:
        for name in RESULTS:
            (output / name).unlink(missing_ok=True)
    with replacing(output / CONFIG) as draft:
        draft.write_text(text, encoding="utf-8")


def _opening(run: Run, resume: bool) -> str:
    source = f"patches of {run.settings.image}" if run.settings.image else "generated scenes"
    line = f"{len(run.training)} {source} to train on, {len(run.held_out)} held out, {run.steps} steps per epoch"
    if resume:
        line += (
            f"; continuing at epoch {run.epoch}" if run.epoch else "; no epoch is complete yet, starting at the first"
        )
    return line


def _closing(run: Run, output: Path, seconds: float) -> str:
    iou = run.history[-1]["iou"]
    return (
        f"IoU on the held-out images: {iou:.4f}, before training {run.untrained_iou:.4f}\n"
        f"{output}: {', '.join(name for name in RESULTS if (output / name).exists())}; {seconds:.0f} s"
    )
