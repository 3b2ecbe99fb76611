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
SIZES = (64, 128, 256, 512, 1024)
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


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
        return peak_bytes(self.with_backward(name))


def seg_sides(
    shape: batches.Shape,
    *,
    soft: bool = False,
    logits: bool = False,
    dtype: torch.dtype = torch.float32,
    threads: int = 2,
    compiled: bool = False,
    device: str = "cpu",
) -> Sides:
    """Return SegLoss and the textbook formula for one random batch, after checking that they agree."""
    pred, target = batches.segmentation(shape, soft=soft, logits=logits, dtype=dtype, device=device)
    setting = {
        "shape": list(shape),
        "target": "soft" if soft else "hard",
        "input": "logits" if logits else "probabilities",
        "dtype": DTYPES[dtype],
        "threads": threads,
        "device": device,
    }
    sides = Sides(setting, (pred,), (target,), threads)
    loss, tversky = (batches.seg_loss(tversky=t, logits=logits).to(device) for t in (False, True))
    formula = textbook.bce_dice_logits if logits else textbook.bce_dice
    read = {"seg": pred}, {"gt_polygons_image": target}
    sides.forwards = {
        "SegLoss": lambda: loss(*read)[0],
        "SegLoss with Tversky": lambda: tversky(*read)[0],
        "textbook": lambda: formula(pred, target),
    }
    sides.check("SegLoss", "textbook", textbook.TOLERANCE if dtype == torch.float32 else 1e-2)
    if not logits:
        sides.forwards["textbook with Tversky"] = lambda: textbook.bce_dice_tversky(pred, target)
        sides.check("SegLoss with Tversky", "textbook with Tversky")
    if compiled:
        torch.compiler.reset()
        ours, theirs = torch.compile(lambda p, g: loss(p, g)[0], fullgraph=True), torch.compile(formula, fullgraph=True)
        sides.forwards["SegLoss compiled"] = lambda: ours(*read)
        sides.forwards["textbook compiled"] = lambda: theirs(pred, target)
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
    (pred,), (target,) = sides.inputs, sides.constants
    pairs: list[Pair] = []
    for name, loss in peers.bce_dice().items():
        sides.forwards[name] = loss(pred, target)
        if name == peers.SAME_VALUE:
            sides.check("SegLoss", name)
        pairs.append(("SegLoss", name, "monai" if name.startswith("MONAI") else ""))
    return sides.times("peers", pairs, effort, (FORWARD, BOTH)) + seg_peaks(sides, pairs)


def seg_memory(sides: Sides) -> list[Row]:
    """Return the memory rows of SegLoss and the textbook formula."""
    planes = sides.inputs[0].shape[0] * sides.inputs[0].shape[1]
    rows = []
    for name, theirs in (("SegLoss", "textbook"), ("SegLoss with Tversky", "textbook with Tversky")):
        ours = sides.saved(name)
        rows.append(
            counted("memory", name, theirs, sides.setting, SAVED, ours, sides.saved(theirs), "seg saved", ours / planes)
        )
    return rows + seg_peaks(sides, [("SegLoss", "textbook", ""), ("SegLoss with Tversky", "textbook with Tversky", "")])


def seg_peaks(sides: Sides, pairs: Sequence[Pair]) -> list[Row]:
    """Return the peak memory rows of pairs."""
    peaks = {name: sides.peak(name) for name in dict.fromkeys(name for pair in pairs for name in pair[:2])}
    return [counted("memory", o, t, sides.setting, PEAK, peaks[o], peaks[t]) for o, t, _ in pairs]


def frame_memory(sides: Sides) -> list[Row]:
    """Return the memory rows of the frame field and the textbook formulas."""
    rows = []
    for suffix in ("", " compiled"):
        name, theirs = f"frame field{suffix}", f"textbook{suffix}"
        if name in sides.forwards:
            ours, other = sides.saved(name), sides.saved(theirs)
            held = ("frame saved", ours / other) if not suffix else ("", None)
            rows.append(counted("memory", name, theirs, sides.setting, SAVED, ours, other, *held))
            rows += seg_peaks(sides, [(name, theirs, "")])
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
    pairs: list[Pair] = [("SegLoss", "textbook", "")]
    if compiled:
        pairs += [("SegLoss", "textbook compiled", ""), ("SegLoss compiled", "textbook compiled", "")]
    return sides.times(section, pairs, effort)


def frame_sweep(section: str, n: int, size: int, effort: Effort, **options: Any) -> list[Row]:
    """Return the rows of the frame field and the textbook formulas at one point of a sweep."""
    return frame_sides(n, size, **options).times(section, [("frame field", "textbook", "")], effort)


def other_peers(effort: Effort) -> list[Row]:
    """Return the rows of the multi-class losses and the slopes of a segmentation, with similar functions."""
    rows = []
    for case, setting, inputs, ours, others in peers.on_classes(4, 256):
        sides = Sides({**setting, "dtype": "float32", "threads": 2, "device": "cpu"}, inputs, (), 2)
        sides.forwards = {case: ours, **others}
        rows += sides.times("peers", [(case, name, "") for name in others], effort) if others else []
    return rows


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
    yield "peers on classes", lambda: other_peers(effort)
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
    for dtype in DTYPES:
        for soft in (False, True):
            options = {"logits": True, "dtype": dtype, "soft": soft}
            yield (
                f"SegLoss on logits, {DTYPES[dtype]}",
                lambda options=options: seg_sweep("sweeps", (8, 2, 256, 256), effort, **options),
            )
    yield "frame field, bfloat16", lambda: frame_sweep("sweeps", 4, 256, effort, dtype=torch.bfloat16)


def gpu_cases(effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the comparisons on a GPU, if there is one."""
    if not torch.cuda.is_available():
        return
    for shape in BAR_SHAPES:
        yield f"SegLoss {shape} on the GPU", lambda s=shape: seg_sweep("gpu", s, effort, compiled=True, device="cuda")
    for size in (256, 1024):
        yield f"frame field {size} on the GPU", lambda s=size: frame_sweep("gpu", 4, s, effort, device="cuda")
