"""A coverage-guided fuzzer of configs: `python tests/fuzz/fuzz_config.py -runs=100000`, or `tox run -e fuzz`.

Every input is a text that is read as a file is. What comes of it must be a criterion or a `ConfigError`; every
hundredth is given to every command as well. Anything else stops the run with the input. The options are libFuzzer's;
with none it runs until it is stopped. The tests of this folder use the same harness.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

if __name__ == "__main__":  # instrumented as it is imported, before anything else imports it
    import atheris

    with atheris.instrument_imports(
        include=["lossreg.config", "lossreg.cli.loading", "lossreg.registry.params", "yaml.scanner", "yaml.parser"]
    ):
        import lossreg.cli.loading
        import lossreg.config.build

import yaml
from click.testing import CliRunner

import lossreg
from lossreg.cli import main as commands
from lossreg.cli.loading import mistakes
from lossreg.config.reading import Source
from lossreg.registry import catalog

sys.path.insert(0, str(Path(__file__).parents[1]))
from local_losses import register

SEEDS = [
    """
losses: [{loss: Plain, weight: 2, value: 0.5}, {loss: Foreign, name: b, weight: [0, 1], epoch_thresholds: [0, 5]}]
""",
    """
loss_params:
  compound_loss:
    normalize_losses: false
    normalization_params: {min_samples: 4, max_samples: 8}
    epoch_thresholds: [0, 10]
    pre_processes: [{preprocess: MakeX, factor: 2.0}]
    loss_list:
      - {loss: Plain, weight: [1.0, 2.0], optional: true}
      - {_target_: old.place.Plain, name: old, value: -1, normalize: false}
      - loss: {_target_: old.place.Plain, name: nested}
        weight: {schedule: cosine, start: 0, end: 1, end_epoch: 5}
""",
    """
x: &x {value: 3, options: {a: [1, {b: null}]}}
epochs: [0, 5]
loss_params:
  compound_loss:
    losses:
      a: {<<: *x, loss: Plain, epoch_thresholds: "${epochs}", weight: [0.5, 1e-3]}
      g: {losses: [Plain, {loss: scaled, scale: "${epochs[1]}"}], weight: 0.1}
    weighting: {strategy: dwa, temperature: 2.0}
    zero_weight: skip
    on_nonfinite: raise
    batch_keys: [pred.y, gt.mask]
""",
    """
losses:
  - {loss: Foreign, pred_key: a, gt_key: b, wrap: {target_dtype: long, reduction: mean}}
  - {loss: Foreign, name: deep, gt_key: t, deep_supervision: {outputs: aux.*, weights: [1, 2], resize: bilinear}}
  - {loss: Foreign, name: t, args: {weight: [1, 2, 3]}}
  - {loss: Plain, weight: {schedule: chain, schedules: [1, {schedule: step, values: [1, 2], epoch_thresholds: [0, 3]}],
     boundaries: [5]}}
weighting: uncertainty
track_norms: running
norm_momentum: 0.1
""",
    "loss: {loss: Plain, value: 1}",
    "loss: {_target_: old.place.Plain, _recursive_: false}",
    """
loss_params:
  multi_loss:
    coefs: {epoch_thresholds: [0, 5], seg: 10, seg_edge_interior: 1}
    normalization_params: {min_samples: 10, max_samples: 1000}
  seg_loss_params: {w0: 50, sigma: 10}
compute_seg: true
compute_crossfield: false
seg_params: {compute_interior: true, compute_edge: true, compute_vertex: false}
pl_trainer: {precision: 32}
""",
]


def words() -> list[str]:
    """Return what a config is written with: its keys, the names of components, and what is refused."""
    found: set[str] = {
        "_target_", "_args_", "_partial_", "_recursive_", "_convert_", "os.system", "???",
        "${epochs}", "${oc.env:HOME}", "${.value}", "${..losses}", "${x", "a/b", "pred.x", "gt.y", "aux.*",
        *EVIL, "exp", "same", "mean", "logits", "strategy", "schedule", "preprocess",
        "start", "end", "epochs", "values", "schedules", "boundaries", "period", "power",
    }  # fmt: skip
    for seed in SEEDS:
        found |= _texts(yaml.safe_load(seed))
    for section in catalog().sections:
        found |= {name for entry in section if entry.plugin.name in ("core", "local") for name in entry.names}
    return sorted(found)


def _texts(data: Any) -> set[str]:
    if isinstance(data, dict):
        return {str(key) for key in data}.union(*map(_texts, data.values()))
    if isinstance(data, list):
        return set().union(*map(_texts, data))
    return {data} if isinstance(data, str) else set()


EVIL = [
    "\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "a\u202eb", "a\nb", "%%{init: {}}%%", '"] --> b["', "$x^", "\\frac{$",
    "</text><script>", "]]>", "&lt;", "--", "1.7e308", "x" * 101,
]  # fmt: skip
"""Names that a terminal, a picture or a graph might obey."""

COMMANDS = {
    "check": "",
    "check --json": "json",
    "check --build": "",
    "plot --text": "",
    "plot -o": "svg",
    "card": "",
    "graph": "",
    "graph --format mermaid": "",
    "graph --format dot": "",
    "graph --format svg": "xml",
}
"""The commands that take a file, each with what it writes."""
MOST_SECONDS = 5.0  # of this process, for one file and one command


def attempt(content: bytes, file: Path) -> str:
    """Build what a file with this content describes.

    Returns:
        `built` or `refused`; any other end is an exception, which is what is looked for.
    """
    file.write_bytes(content)
    with cheap("load_loss"):
        try:
            built = lossreg.load_loss(file)
        except lossreg.ConfigError as refusal:
            error = refusal
        else:
            assert callable(built), "a criterion is called"
            return "built"
    assert error.problems, "a refusal has a reason"
    assert all(problem.message for problem in error.problems), "each problem says what is wrong"
    assert is_safe(str(error)), "what a refusal says is printable"
    with cheap("mistakes"):
        for mistake in mistakes(Source.read(file), error):
            assert (mistake.line is None) == (mistake.column is None), "a place has a line and a column"
    return "refused"


def attempt_commands(content: bytes, file: Path) -> None:
    """Give a file with this content to every command: none may end in another way than with 0 or 1, and safe output."""
    file.write_bytes(content)
    for command, form in COMMANDS.items():
        arguments = [*command.split(), *([str(file.with_suffix(".svg"))] if form == "svg" else []), str(file)]
        with cheap(command), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a font that lacks a letter of a name
            result = CliRunner().invoke(commands, arguments)
        told = f"lossreg {command}: {result.exit_code} {result.output[:2_000]!r}"
        if result.exit_code not in (0, 1) or not isinstance(result.exception, SystemExit | None):
            raise AssertionError(told) from result.exception
        assert is_safe(result.output), told
        if form == "json":
            assert json.loads(result.stdout)["ok"] == (result.exit_code == 0), told
        elif form == "xml" and not result.exit_code:
            ElementTree.fromstring(result.stdout)
        elif form == "svg" and not result.exit_code:
            ElementTree.parse(file.with_suffix(".svg"))


def is_safe(text: str) -> bool:
    """Say whether a terminal can have a text: nothing but printable characters and line breaks."""
    return all(char.isprintable() or char == "\n" for char in text)


@contextmanager
def cheap(what: str) -> Iterator[None]:
    """Require that a block takes little processor time, independent of the load of the machine."""
    began = time.process_time()
    yield
    taken = time.process_time() - began
    assert taken < MOST_SECONDS, f"{what} took {taken:.1f} s"


def main() -> None:
    """Fuzz until libFuzzer's options say to stop."""
    register()
    file = Path(tempfile.mkdtemp()) / "loss.yaml"
    corpus = Path(tempfile.mkdtemp())
    for position, seed in enumerate(SEEDS):
        (corpus / f"{position}.yaml").write_text(seed, encoding="utf-8")
    dictionary = corpus.with_suffix(".dict")
    dictionary.write_text("\n".join('"' + "".join(f"\\x{b:02x}" for b in word.encode()) + '"' for word in words()))
    counts = {"built": 0, "refused": 0}

    def one(data: bytes) -> None:
        counts[attempt(data, file)] += 1
        if sum(counts.values()) % 100 == 0:
            attempt_commands(data, file)
        if sum(counts.values()) % 10_000 == 0:
            sys.stderr.write(f"{counts}\n")

    atheris.Setup(
        [sys.argv[0], f"-dict={dictionary}", "-max_len=2048", "-len_control=0", *sys.argv[1:], str(corpus)], one
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
