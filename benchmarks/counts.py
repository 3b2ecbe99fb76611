"""Count what a device is asked for, and the kernels that the compiler makes: the counts are the same in each run.

The stand-in device of `tests/device` stays for the whole process, so each part runs in one of its own:
`python benchmarks/counts.py device|compiled SIZE` prints its rows as JSON.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import batches
import composition
import losses
import peers
import torch
from losses import CLASSES, MANY_CLASSES, ON_CPU, Sides
from measure import Effort
from results import Row, counted

sys.path.append(str(Path(__file__).parents[1] / "tests" / "device"))
import standin

SIZE = 128
COUNTED = {
    "launches": ("launches", ""),
    "read and written": ("bytes", "B"),
    "host reads": ("host_reads", ""),
    "blocking copies": ("blocking_copies", ""),
    "peak": ("peak", "B"),
}
"""Phase of a row -> attribute of `standin.Counts`, and unit."""
KERNELS = "compiled kernels"
IGNORING = (None, batches.IGNORED)


def asked(sides: Sides, pairs: Sequence[tuple[str, str]], bars: dict[str, str]) -> list[Row]:
    """Return what the device is asked for by a second forward and backward of the functions in the pairs."""
    found = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        call = sides.with_backward(name)
        call()
        let_go()
        with standin.counting() as found[name]:
            call()
    rows = []
    for ours, theirs in pairs:
        for phase, (attribute, unit) in COUNTED.items():
            own, other = (getattr(found[name], attribute) for name in (ours, theirs))
            bar = bars.get(phase, "") if theirs.startswith(("textbook", "a sum by hand")) else ""
            measured = None if not bar else own / other if unit else own
            rows.append(counted("counts", ours, theirs, described(sides), phase, own, other, bar, measured, unit))
    return rows


def let_go() -> None:
    """Free what is left of the calls before, or the peak would be less by what is freed during the next."""
    x = torch.zeros((), device=standin.NAME, requires_grad=True)
    torch.autograd.grad(x * 1, x)  # the thread of the backward lets go of its last task when it takes the next
    gc.collect()


def described(sides: Sides) -> dict[str, Any]:
    """Return the setting without what counts do not depend on."""
    setting = {key: value for key, value in sides.setting.items() if key not in ("threads", "device", "target")}
    if sides.forwards.keys() & {"SegLoss", CLASSES}:
        setting.setdefault("ignored", "ignore_index")
    return setting


WAITS = {"host reads": "host reads", "blocking copies": "blocking copies"}


def segmentations(
    size: int, device: str, dtypes: Sequence[torch.dtype] = ON_CPU, **options: Any
) -> Iterator[tuple[Sides, str, dict[str, str]]]:
    """Yield SegLoss beside the textbook formula, with its name and the targets of its counts."""
    for dtype in dtypes:
        half = dtype != torch.float32
        for ignore_index in IGNORING:
            chosen = {"dtype": dtype, "ignore_index": ignore_index, "device": device, **options}
            masked = " ignore" * (ignore_index is not None)
            for logits in (False, True):
                launches = "ignore" if masked else "logits" if logits else "probabilities"
                bars = {
                    "launches": f"launches {launches}",
                    "read and written": "bytes half" if half else f"bytes{masked}",
                }
                sides = losses.seg_sides((4, 2, size, size), logits=logits, **chosen)
                yield sides, "SegLoss", {**WAITS, **bars, KERNELS: "kernels"}
            for n_classes in (3, 4, MANY_CLASSES):
                many = " classes" * (n_classes == MANY_CLASSES)
                bars = {
                    "launches": f"launches classes{masked}",
                    "read and written": f"bytes{many}{' half' * half}" if many or half else f"bytes{masked}",
                }
                sides = losses.class_sides((4, n_classes, size, size), **chosen)
                yield sides, CLASSES, {**WAITS, **bars, KERNELS: "kernels classes"}


def on_device(size: int) -> Iterator[Row]:
    """Yield the rows of the stand-in device."""
    standin.build()
    for sides, name, bars in segmentations(size, standin.NAME):
        on_logits = sides.setting.get("input") != "probabilities"
        functions = peers.on_classes() if name == CLASSES else peers.bce_dice() if on_logits else {}
        yield from asked(sides, [(name, theirs) for theirs in ("textbook", *sides.add_peers(functions))], bars)
    for n, dtype in itertools.product((2, 16), ON_CPU):
        sides = losses.frame_sides(n, size // 2, dtype=dtype, device=standin.NAME)
        of_bytes = "bytes" if dtype == torch.float32 else "bytes half"
        bars = {**WAITS, "launches": "launches frame", "read and written": of_bytes}
        yield from asked(sides, [("frame field", "textbook")], bars)
    for scheduled in (False, True):
        yield from moving_epoch(scheduled)


def moving_epoch(scheduled: bool) -> list[Row]:
    """Return the counts of ten terms where the epoch moves at each call."""
    x = torch.rand(4).to(standin.NAME).requires_grad_()
    multi, epochs = composition.trivial(10, scheduled=scheduled).to(standin.NAME), itertools.count()
    by_hand = composition.by_hand(multi, composition.EPOCH)
    setting = {"terms": 10, "weights": "scheduled" if scheduled else "constant", "epoch": "the epoch moves"}
    sides = Sides(setting, (x,), ())
    sides.forwards = {
        "MultiLoss": lambda: multi({"x": x}, {}, epoch=next(epochs))[0],
        "a sum by hand": lambda: by_hand({"x": x}, {})[0],
    }
    return asked(sides, [("MultiLoss", "a sum by hand")], WAITS)


def compiled(size: int) -> Iterator[Row]:
    """Yield the numbers of kernels that inductor makes for the CPU; they are the same in half precision."""
    from torch._inductor import metrics

    for sides, name, bars in segmentations(size, "cpu", [torch.float32], compiled=True):
        found = []
        for call in (f"{name} compiled", "textbook compiled"):
            metrics.reset()
            sides.with_backward(call)()
            found.append(metrics.generated_kernel_count)
        yield counted("counts", name, "textbook", described(sides), KERNELS, *found, bars[KERNELS], found[0], "")


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {"device": on_device, "compiled": compiled}


def rows_of(part: str, size: int = SIZE) -> list[Row]:
    """Return the rows of a part, from a process of its own; no kernel comes from a cache."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    command = [sys.executable, __file__, part, str(size)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}:\n{run.stdout}{run.stderr}")
    return [Row(**row) for row in json.loads(run.stdout.splitlines()[-1])]


def cases(effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the two parts, where there is a compiler for them."""
    if standin.missing() is None:
        yield "what a device is asked for", lambda: rows_of("device")
    if effort.compiled:
        yield "compiled kernels", lambda: rows_of("compiled")


if __name__ == "__main__":
    part, size = sys.argv[1:]
    sys.stdout.write(json.dumps([asdict(row) for row in PARTS[part](int(size))]) + "\n")
