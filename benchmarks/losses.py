"""Compare losses with textbook formulas and other libraries: time, bytes saved for the backward, peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import batches
import peers
import textbook
import torch
from measure import Effort, interleaved, peak_bytes, saved_bytes
from results import BOTH, FORWARD, PEAK, SAVED, Row, counted, timed
from torch import Tensor

Forward: TypeAlias = Callable[[], Tensor]
Pair: TypeAlias = tuple[str, str, str]
"""The name of ours, the name of theirs, and the key of the target."""

BAR_SHAPES = ((8, 2, 256, 256), (4, 2, 512, 512))
MANY_CLASSES = 19
SIZES = (64, 128, 256, 512, 1024)
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
ON_CPU = (torch.float32, torch.bfloat16)
CLASSES = "SegLoss on classes"


@dataclass
class Sides:
    """Functions that compute the same on the same inputs.

    Attributes:
        setting: the description of the inputs.
        inputs: the tensors that require gradients.
        constants: the other tensors.
        forwards: functions by name that return the scalar.
        threads: number of PyTorch threads.
    """

    setting: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    threads: int = 2
    forwards: dict[str, Forward] = field(default_factory=dict)

    def with_backward(self, name: str) -> Callable[[], object]:
        """Return the function that also computes the gradients."""
        forward = self.forwards[name]
        return lambda: torch.autograd.grad(forward(), self.inputs)

    def check(self, ours: str, theirs: str, tolerance: float = textbook.TOLERANCE) -> None:
        """Raise if two functions return different values."""
        textbook.assert_same(ours, self.forwards[ours](), self.forwards[theirs](), tolerance)

    def times(self, section: str, pairs: Sequence[Pair], effort: Effort, phases: Sequence[str] = (BOTH,)) -> list[Row]:
        """Return the times of all functions in the pairs, measured in turns."""
        names = list(dict.fromkeys(name for ours, theirs, _ in pairs for name in (ours, theirs)))
        rows = []
        for phase in phases:
            calls = {name: self.with_backward(name) if phase == BOTH else self.forwards[name] for name in names}
            times = interleaved(calls, effort, self.threads)
            for ours, theirs, bar in pairs:
                bar = bar if phase == BOTH else ""
                rows.append(timed(section, ours, theirs, self.setting, phase, times[ours], times[theirs], bar))
        return rows

    def saved(self, name: str) -> int:
        """Return the bytes saved for the backward, without the batch."""
        return saved_bytes(self.forwards[name], (*self.inputs, *self.constants))

    def peak(self, name: str) -> int:
        """Return the peak number of bytes without the batch, with gradients."""
        return peak_bytes(self.with_backward(name), self.setting.get("device", "cpu"))

    def peaks(self, section: str, pairs: Sequence[Pair]) -> list[Row]:
        """Return the peak memory of the functions in the pairs."""
        peaks = {name: self.peak(name) for name in dict.fromkeys(name for pair in pairs for name in pair[:2])}
        return [counted(section, o, t, self.setting, PEAK, peaks[o], peaks[t]) for o, t, _ in pairs]

    def add_peers(self, functions: Mapping[str, Callable[[Tensor, Tensor], Forward]], same: str = "") -> list[str]:
        """Add losses of other libraries, of which `same` has the same value, and return their names."""
        for name, loss in functions.items():
            self.forwards[name] = loss(*self.inputs, *self.constants)
            if name == same:
                self.check(next(iter(self.forwards)), name, tolerance_of(self.inputs[0].dtype))
        return list(functions)

    def under_autocast(self) -> Sides:
        """Return the same under autocast to the dtype of the predictions, as in mixed-precision training."""
        device, dtype = self.setting["device"], self.inputs[0].dtype
        forwards = {name: torch.autocast(device, dtype)(forward) for name, forward in self.forwards.items()}
        return replace(self, setting={**self.setting, "amp": "autocast"}, forwards=forwards)


def tolerance_of(dtype: torch.dtype) -> float:
    """Return by how much two values of a dtype may differ."""
    return textbook.TOLERANCE if dtype == torch.float32 else 1e-2


def seg_sides(
    shape: batches.Shape,
    *,
    soft: bool = False,
    logits: bool = False,
    dtype: torch.dtype = torch.float32,
    target_dtype: torch.dtype | None = None,
    threads: int = 2,
    compiled: bool = False,
    device: str = "cpu",
    ignore_index: int | None = batches.IGNORED,
) -> Sides:
    """Return SegLoss and the textbook formula for one random batch, after checking that they agree."""
    pred, target = batches.segmentation(shape, soft=soft, logits=logits, dtype=dtype, device=device)
    target = target.to(target_dtype or dtype)
    setting = {
        "shape": list(shape),
        "target": "soft" if soft else "hard",
        "input": "logits" if logits else "probabilities",
        "dtype": DTYPES[dtype],
        "threads": threads,
        "device": device,
        **without(ignore_index),
    }
    sides = Sides(setting, (pred,), (target,), threads)
    options: Any = {"logits": logits, "ignore_index": ignore_index}
    loss, tversky = (batches.seg_loss(tversky=t, **options).to(device) for t in (False, True))
    formula = textbook.bce_dice_logits if logits else textbook.bce_dice
    read = {"seg": pred}, {"gt_polygons_image": target}
    sides.forwards = {
        "SegLoss": lambda: loss(*read)[0],
        "SegLoss with Tversky": lambda: tversky(*read)[0],
        "textbook": lambda: formula(pred, target),
    }
    sides.check("SegLoss", "textbook", tolerance_of(dtype))
    if not logits:
        sides.forwards["textbook with Tversky"] = lambda: textbook.bce_dice_tversky(pred, target)
        sides.check("SegLoss with Tversky", "textbook with Tversky", tolerance_of(dtype))
    if compiled:
        torch.compiler.reset()
        ours, theirs = torch.compile(lambda p, g: loss(p, g)[0], fullgraph=True), torch.compile(formula, fullgraph=True)
        sides.forwards["SegLoss compiled"] = lambda: ours(*read)
        sides.forwards["textbook compiled"] = lambda: theirs(pred, target)
    return sides


def without(ignore_index: int | None) -> dict[str, str]:
    """Return what the setting says of a loss that ignores nothing."""
    return {"ignored": "no ignore_index"} if ignore_index is None else {}


def class_sides(
    shape: batches.Shape,
    *,
    dtype: torch.dtype = torch.float32,
    threads: int = 2,
    compiled: bool = False,
    device: str = "cpu",
    ignore_index: int | None = batches.IGNORED,
) -> Sides:
    """Return SegLoss on class indices and the textbook formula for one batch, after checking that they agree."""
    logits, target = batches.classes(shape, dtype=dtype, device=device)
    setting = {
        "shape": list(shape), "dtype": DTYPES[dtype], "threads": threads, "device": device, **without(ignore_index),
    }  # fmt: skip
    sides = Sides(setting, (logits,), (target,), threads)
    loss = batches.class_loss(shape[1], ignore_index=ignore_index).to(device)
    read = {"seg": logits}, {"gt_polygons_image": target}
    sides.forwards = {
        CLASSES: lambda: loss(*read)[0],
        "textbook": lambda: textbook.class_dice(logits, target),
    }
    sides.check(CLASSES, "textbook", tolerance_of(dtype))
    if compiled:
        torch.compiler.reset()
        ours = torch.compile(lambda p, g: loss(p, g)[0], fullgraph=True)
        theirs = torch.compile(textbook.class_dice, fullgraph=True)
        sides.forwards[f"{CLASSES} compiled"] = lambda: ours(*read)
        sides.forwards["textbook compiled"] = lambda: theirs(logits, target)
    return sides


def frame_sides(
    n: int,
    size: int,
    *,
    dtype: torch.dtype = torch.float32,
    threads: int = 2,
    compiled: bool = False,
    device: str = "cpu",
) -> Sides:
    """Return the six terms in a MultiLoss and the textbook formulas for one batch, after checking that they agree."""
    pred, gt = batches.frame_field(n, size, dtype=dtype, device=device)
    setting = {"shape": [n, size, size], "dtype": DTYPES[dtype], "threads": threads, "device": device}
    sides = Sides(setting, tuple(pred.values()), tuple(gt.values()), threads)
    loss = batches.frame_field_loss().to(device)
    sides.forwards = {
        "frame field": lambda: loss(pred, gt)[0],
        "textbook": lambda: textbook.frame_field(pred, gt),
    }
    sides.check("frame field", "textbook", textbook.TOLERANCE if dtype == torch.float32 else 5e-2)
    if compiled:
        torch.compiler.reset()
        ours = torch.compile(lambda p, g: loss(p, g)[0], fullgraph=True)
        theirs = torch.compile(textbook.frame_field, fullgraph=True)
        sides.forwards["frame field compiled"] = lambda: ours(pred, gt)
        sides.forwards["textbook compiled"] = lambda: theirs(pred, gt)
    return sides


# --- the rows for the targets -------------------------------------------------------------------------


def seg_bars(shape: batches.Shape, soft: bool, effort: Effort) -> list[Row]:
    """Return the rows of SegLoss and the textbook formula for the targets."""
    sides = seg_sides(shape, soft=soft, compiled=effort.compiled)
    pairs: list[Pair] = [
        ("SegLoss", "textbook", "seg soft" if soft else "seg hard"),
        ("SegLoss with Tversky", "SegLoss", "tversky"),
        ("SegLoss with Tversky", "textbook with Tversky", ""),
    ]
    if effort.compiled:
        pairs += [
            ("SegLoss", "textbook compiled", ""),
            ("SegLoss compiled", "textbook", "seg compiled"),
            ("SegLoss compiled", "textbook compiled", "seg both compiled"),
        ]
    return sides.times("losses", pairs, effort, (FORWARD, BOTH)) + seg_memory(sides)


def frame_bars(n: int, size: int, effort: Effort) -> list[Row]:
    """Return the rows of the frame field and the textbook formulas for the targets."""
    sides = frame_sides(n, size, compiled=effort.compiled)
    pairs: list[Pair] = [("frame field", "textbook", "frame")]
    if effort.compiled:
        pairs += [
            ("frame field", "textbook compiled", ""),
            ("frame field compiled", "textbook", "frame compiled"),
            ("frame field compiled", "textbook compiled", "frame both compiled"),
        ]
    return sides.times("losses", pairs, effort, (FORWARD, BOTH)) + frame_memory(sides)


def peer_bars(shape: batches.Shape, soft: bool, effort: Effort) -> list[Row]:
    """Return the rows of SegLoss on logits and the most similar losses of MONAI and segmentation-models-pytorch."""
    sides = seg_sides(shape, soft=soft, logits=True)
    names = sides.add_peers(peers.bce_dice(), peers.SAME_VALUE)
    pairs: list[Pair] = [("SegLoss", name, "monai" if name.startswith("MONAI") else "") for name in names]
    return sides.times("peers", pairs, effort, (FORWARD, BOTH)) + sides.peaks("memory", pairs)


def class_bars(shape: batches.Shape, dtype: torch.dtype, effort: Effort) -> list[Row]:
    """Return the rows of SegLoss on class indices, the textbook formula, and other libraries."""
    sides = class_sides(shape, dtype=dtype)
    bar = "classes" if dtype == torch.float32 else "half logits"
    rows = sides.times("losses", [(CLASSES, "textbook", bar)], effort)
    names = sides.add_peers(peers.on_classes(), peers.ON_CLASSES)
    pairs: list[Pair] = [(CLASSES, n, "classes monai" if n == peers.ON_CLASSES else "") for n in names]
    if pairs:
        rows += sides.times("peers", pairs, effort)
    peaks = sides.peaks("memory", [(CLASSES, name, "") for name in ("textbook", *names)])
    if dtype == torch.float32 and shape[1] == MANY_CLASSES:  # the gradient is as large as the logits
        size = sides.inputs[0].nbytes
        peaks[0] = replace(peaks[0], bar="classes peak", measured=(size + peaks[0].ours) / (2 * size))
    return rows + peaks


def seg_memory(sides: Sides) -> list[Row]:
    """Return the memory rows of SegLoss and the textbook formula."""
    planes = sides.inputs[0].shape[0] * sides.inputs[0].shape[1]
    rows = []
    for name, theirs in (("SegLoss", "textbook"), ("SegLoss with Tversky", "textbook with Tversky")):
        ours = sides.saved(name)
        rows.append(
            counted("memory", name, theirs, sides.setting, SAVED, ours, sides.saved(theirs), "seg saved", ours / planes)
        )
    pairs: list[Pair] = [("SegLoss", "textbook", ""), ("SegLoss with Tversky", "textbook with Tversky", "")]
    return rows + sides.peaks("memory", pairs)


def frame_memory(sides: Sides) -> list[Row]:
    """Return the memory rows of the frame field and the textbook formulas."""
    rows = []
    for suffix in ("", " compiled"):
        name, theirs = f"frame field{suffix}", f"textbook{suffix}"
        if name in sides.forwards:
            ours, other = sides.saved(name), sides.saved(theirs)
            held = ("frame saved", ours / other) if not suffix else ("", None)
            rows.append(counted("memory", name, theirs, sides.setting, SAVED, ours, other, *held))
            rows += sides.peaks("memory", [(name, theirs, "")])
    return rows


def half_bars() -> list[Row]:
    """Return the peak memory rows of a forward and backward in bfloat16 and float32."""
    rows = []
    for name, make in (
        ("SegLoss", lambda dtype: seg_sides(BAR_SHAPES[0], logits=True, dtype=dtype)),
        ("frame field", lambda dtype: frame_sides(4, 256, dtype=dtype)),
    ):
        half, single = make(torch.bfloat16), make(torch.float32)
        ours, theirs = half.peak(name), single.peak(name)
        label = f"{name} in bfloat16", f"{name} in float32"
        rows.append(counted("memory", *label, half.setting, PEAK, ours, theirs, "half", ours / theirs))
    return rows


# --- sweeps -------------------------------------------------------------------------------------------


def seg_sweep(
    section: str, shape: batches.Shape, effort: Effort, *, compiled: bool = False, **options: Any
) -> list[Row]:
    """Return the rows of SegLoss and the textbook formula at one point of a sweep."""
    compiled = compiled and effort.compiled
    sides = seg_sides(shape, compiled=compiled, **options)
    half = options.get("dtype") == torch.bfloat16
    pairs: list[Pair] = [("SegLoss", "textbook", "half logits" if half else "")]
    if compiled:
        pairs += [("SegLoss", "textbook compiled", ""), ("SegLoss compiled", "textbook compiled", "")]
    return sides.times(section, pairs, effort)


def frame_sweep(section: str, n: int, size: int, effort: Effort, **options: Any) -> list[Row]:
    """Return the rows of the frame field and the textbook formulas at one point of a sweep."""
    return frame_sides(n, size, **options).times(section, [("frame field", "textbook", "")], effort)


def slopes(effort: Effort) -> list[Row]:
    """Return the rows of the slopes of a segmentation, with a similar function."""
    found = peers.slopes(4, 256)
    if found is None:
        return []
    planes, ours, others = found
    sides = Sides({"shape": list(planes.shape), "dtype": "float32", "threads": 2, "device": "cpu"}, (planes,), ())
    case = "SegGrads (slopes and magnitude)"
    sides.forwards = {case: ours, **others}
    return sides.times("peers", [(case, name, "") for name in others], effort)


# --- all comparisons ----------------------------------------------------------------------------------


def cases(effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the comparisons with labels for the progress bar; those with a target are measured longest."""
    long = replace(effort, seconds=3 * effort.seconds)
    for shape in BAR_SHAPES if effort.sweeps else BAR_SHAPES[:1]:
        for soft in (False, True):
            label = f"SegLoss {shape[0]}x{shape[1]}x{shape[2]}x{shape[3]} {'soft' if soft else 'hard'}"
            yield label, lambda shape=shape, soft=soft: seg_bars(shape, soft, long)
            yield f"peers of {label}", lambda shape=shape, soft=soft: peer_bars(shape, soft, long)
    yield "frame field 4x256x256", lambda: frame_bars(4, 256, long)
    yield "bfloat16 against float32", half_bars
    for n_classes in (3, MANY_CLASSES):
        for dtype in ON_CPU:
            shape = (4, n_classes, 256, 256)
            label = f"{n_classes} classes, {DTYPES[dtype]}"
            yield label, lambda shape=shape, dtype=dtype: class_bars(shape, dtype, effort)
    yield "slopes", lambda: slopes(effort)
    if not effort.sweeps:
        return
    for size in SIZES:
        shape = (2, 2, size, size)
        yield f"SegLoss, size {size}", lambda s=shape: seg_sweep("sizes", s, effort, compiled=True)
        yield f"frame field, size {size}", lambda s=size: frame_sweep("sizes", 1, s, effort)
    for n in (1, 4, 16):
        yield f"SegLoss, batch {n}", lambda n=n: seg_sweep("sweeps", (n, 2, 256, 256), effort)
        yield f"frame field, batch {n}", lambda n=n: frame_sweep("sweeps", n, 256, effort)
    yield "SegLoss, one thread", lambda: seg_sweep("sweeps", (8, 2, 256, 256), effort, compiled=True, threads=1)
    yield "frame field, one thread", lambda: frame_sweep("sweeps", 4, 256, effort, threads=1)
    for dtype in ON_CPU:
        for soft in (False, True):
            options = {"logits": True, "dtype": dtype, "soft": soft}
            yield (
                f"SegLoss on logits, {DTYPES[dtype]}",
                lambda options=options: seg_sweep("sweeps", (8, 2, 256, 256), effort, **options),
            )
    yield "frame field, bfloat16", lambda: frame_sweep("sweeps", 4, 256, effort, dtype=torch.bfloat16)


# --- on a GPU -----------------------------------------------------------------------------------------


GPU_SIZES = (256, 1024)


def gpu_rows(sides: Sides, functions: Mapping[str, Any], effort: Effort, *, amp: bool = False) -> list[Row]:
    """Return the times and peaks of ours beside the textbook formula and other libraries, eager and compiled."""
    ours = next(iter(sides.forwards))
    pairs: list[Pair] = [(ours, name, "") for name in ("textbook", *sides.add_peers(functions))]
    if f"{ours} compiled" in sides.forwards:
        pairs += [(ours, "textbook compiled", ""), (f"{ours} compiled", "textbook compiled", "")]
    if amp:
        sides = sides.under_autocast()
    return sides.times("gpu", pairs, effort) + sides.peaks("gpu", pairs)


def gpu_cases(
    effort: Effort, device: str = "cuda", sizes: Sequence[int] = GPU_SIZES
) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the comparisons on a GPU, if there is one; compiled at the smallest size only, since that takes long."""
    if device == "cuda" and not torch.cuda.is_available():
        return
    effort = replace(effort, seconds=effort.seconds / 4)
    for size in sizes:
        options = {"compiled": effort.compiled and size == sizes[0], "device": device, "threads": 1}
        planes, label = (8, 2, size, size), f"size {size} on the GPU"
        yield (
            f"SegLoss on probabilities, {label}",
            lambda planes=planes, options=options: gpu_rows(seg_sides(planes, **options), {}, effort),
        )
        for dtype in DTYPES:
            for amp in (False, True) if dtype != torch.float32 else (False,):
                what = f"{DTYPES[dtype]}{', autocast' * amp}, {label}"
                chosen = {**options, "dtype": dtype}
                binary = {**chosen, "logits": True, "target_dtype": torch.float32 if amp else dtype}
                yield (
                    f"SegLoss on logits, {what}",
                    lambda planes=planes, binary=binary, amp=amp: gpu_rows(
                        seg_sides(planes, **binary), peers.bce_dice(), effort, amp=amp
                    ),
                )
                for n_classes in (3, MANY_CLASSES):
                    shape = (8, n_classes, size, size)
                    yield (
                        f"{n_classes} classes, {what}",
                        lambda shape=shape, chosen=chosen, amp=amp: gpu_rows(
                            class_sides(shape, **chosen), peers.on_classes(), effort, amp=amp
                        ),
                    )
        for dtype in ON_CPU:
            yield (
                f"frame field, {DTYPES[dtype]}, {label}",
                lambda size=size, dtype=dtype, options=options: gpu_rows(
                    frame_sides(4, size, dtype=dtype, **options), {}, effort
                ),
            )
