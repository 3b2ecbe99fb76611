"""Change the code in small ways, one at a time, and list the changes that no test notices.

    python tests/mutation/run.py --one-in 10 lossreg/composition plugins/lossreg-seg/lossreg_seg/formulas.py

The changes are those of cosmic-ray. Of the places where one is possible a sample is drawn, with one change at each. A
change is written into the installed package. Then the tests that run the changed lines run once more, the quickest
first, and those of the module's own test file, in a fork of this process, which has imported torch. `survivors.toml`
beside this file lists the changes that no test can notice, with the reason; they are not tried again. The exit status
is 1 if a test is missing. After a test is written, FILE:LINE in place of a folder tries again what the same sample has
at that line.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import multiprocessing
import os
import pickle
import random
import re
import resource
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from hypothesis import settings

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
TARGETS = (
    "lossreg/losses",
    "lossreg/composition",
    "lossreg/config",
    "lossreg/registry",
    "lossreg/training/calibration.py",
    "lossreg/arguments.py",
    "lossreg/keys.py",
    "lossreg/values.py",
    "plugins/lossreg-seg/lossreg_seg",
    "plugins/lossreg-crossfield/lossreg_crossfield",
)
"""What is changed where nothing is named."""
ALSO = {
    "tests/losses": (
        "tests/composition",
        "plugins/lossreg-seg/tests/test_means.py",
        "plugins/lossreg-crossfield/tests/test_means.py",
    ),
    "tests/config": (
        "tests/test_arguments.py",
        "tests/test_keys.py",
        "tests/test_values.py",
        "tests/cli/test_check.py",
        "tests/cli/test_fixes.py",
        "tests/cli/test_loading.py",
    ),
}
"""Tests of other folders that notice changes, too: they sum up means, and show mistakes."""
SLOW_IMPORTS = (
    "torch",
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "scipy.ndimage",
    "hydra",
    "jsonschema",
    "pydantic",
)
MOST_SECONDS = 180.0
"""How long the tests of one change may take on unchanged code; the quickest are chosen."""
NO_CHANGE = ("cache", "overload", "override", "dataclass_transform", "block")
"""Decorators without which the values are the same."""
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Change:
    """A change of one line of a file, which the package has at `installed`."""

    file: str
    installed: Path
    line: int
    code: str
    old: str
    new: str


# --- which changes --------------------------------------------------------------------------------


def places(code: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return where a change is possible: line and column, with the operators and their occurrences there."""
    found: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    nodes = list(ast_nodes(get_ast(code)))
    without, lines = _without_effect(code), code.splitlines()
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name.endswith(("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq")):
            continue  # `is` in place of `==` is seldom a mistake
        positions = [span for node in nodes for span in operator().mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            before_text = lines[end[0] - 1][end[1] :].lstrip().startswith(('"', "'"))
            if before_text and name.endswith(("_Lt", "_LtE", "_Gt", "_GtE")):
                continue  # nobody mistakes `==` for the order of texts
            if not any(first <= start < last for first, last in without):
                found[start].append((name, occurrence))
    return found


def _without_effect(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the spans of a module where a change makes no difference, or none that matters."""
    deferred = "from __future__ import annotations" in code
    spans: list[Any] = []
    for node in ast.walk(ast.parse(code)):
        if deferred and isinstance(node, (ast.arg, ast.AnnAssign)):
            spans.append(node.annotation)
        elif isinstance(node, (ast.Assert, ast.keyword, ast.If)) and _is_checked_elsewhere(node):
            spans.append(node)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            spans += [getattr(node, "returns", None)] if deferred else []
            spans += [decorator for decorator in node.decorator_list if _name(decorator) in NO_CHANGE]
    # the position of a decorator is that of its `@`
    return [((n.lineno, max(n.col_offset - 1, 0)), (n.end_lineno, n.end_col_offset)) for n in spans if n is not None]


def _is_checked_elsewhere(node: ast.Assert | ast.keyword | ast.If) -> bool:
    """Return whether a node is an assertion, `zip`'s `strict=` among them, or for type checkers alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.Assert) or node.arg == "strict"


def _name(decorator: ast.expr) -> str:
    return ast.unparse(decorator).partition("(")[0].rpartition(".")[2]


def changes(file: str, one_in: int, seed: int) -> Iterator[Change]:
    """Yield one change at each place of a sample of those of a file."""
    installed = _installed(file)
    code = installed.read_text(encoding="utf-8")
    found = sorted(places(code).items())
    chance = random.Random(f"{seed} {file}")
    for (line, _), ways in sorted(chance.sample(found, -(-len(found) // one_in))):
        operator, occurrence = chance.choice(ways)
        changed = mutate_code(code, get_operator(operator)(), occurrence)
        with contextlib.suppress(SyntaxError):
            if ast.dump(ast.parse(changed)) != ast.dump(ast.parse(code)):
                yield Change(file, installed, line, changed, *_difference(code, changed))


def _difference(old: str, new: str) -> tuple[str, str]:
    """Return the first line that differs, before and after; empty lines are left out, which a decorator takes along."""
    texts = ([line for line in text.splitlines() if line.strip()] for text in (old, new))
    lines = list(difflib.unified_diff(*texts, lineterm="", n=0))[2:]
    before, after = (next((line[1:].strip() for line in lines if line[0] == sign), "") for sign in "-+")
    return before, after


def _installed(file: str) -> Path:
    """Return where the package that runs has a file of the repository."""
    return _package(file).parent / re.sub("^plugins/[^/]+/", "", file)


def _package(file: str) -> Path:
    """Return the folder of the package that runs, which has a file of the repository."""
    name = re.sub("^plugins/[^/]+/", "", file).partition("/")[0]
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


# --- which tests ----------------------------------------------------------------------------------


class FewExamples:
    """A plugin of pytest that lets properties have few examples, always the same."""

    def pytest_collection(self) -> None:
        settings.register_profile("mutation", deadline=None, derandomize=True, database=None, max_examples=20)
        settings.load_profile("mutation")


class Recorder(FewExamples):
    """A plugin of pytest that records which test runs which lines, and how long it takes."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.measured.switch_context(item.nodeid)
        start = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - start
        self.measured.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)


class Chosen(FewExamples):
    """A plugin of pytest that runs some tests alone, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: i for i, test in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


@dataclass(frozen=True)
class Baseline:
    """What the tests of a target do on unchanged code.

    Attributes:
        runs: for each line of each installed file, the tests that run it; none for a line that only an import runs.
        seconds: how long each test takes that passes.
    """

    runs: Mapping[str, Mapping[int, list[str]]]
    seconds: Mapping[str, float]

    def tests_of(self, change: Change) -> list[str]:
        """Return the tests that run the changed lines, then those of the module's own test file, within the time."""
        runs = self.runs.get(str(change.installed), {})
        span = _statement(change.installed.read_text(encoding="utf-8"), change.line)
        on_line = {test for line in span for test in runs.get(line, ())} & self.seconds.keys()
        own = {test for test in self.seconds if f"/test_{change.installed.stem.strip('_')}.py::" in test}
        orders = [on_line, own - on_line]  # something kept may hide from coverage that a test depends on the line
        if not on_line:  # an import runs it: the tests that run anything of the module see what it made, or any
            of_module = {test for tests in runs.values() for test in tests} & self.seconds.keys() or set(self.seconds)
            orders = [own, of_module - own]
        left, chosen = MOST_SECONDS, []
        for test in (test for order in orders for test in sorted(order, key=lambda test: self.seconds[test])):
            left -= self.seconds[test]
            if left < 0 and chosen:
                break
            chosen.append(test)
        return chosen


def _statement(code: str, line: int) -> range:
    """Return the lines of the innermost statement at a line; of a block its decorators and its head."""
    heads: dict[int, int] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
            body = getattr(node, "body", None)
            if first <= line <= (node.end_lineno or 0):
                heads[first] = max(body[0].lineno, node.lineno + 1) if body else (node.end_lineno or 0) + 1
    return range(max(heads), heads[max(heads)])


def _pytest(tests: Sequence[str], plugin: object) -> int:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", str(ROOT / "pyproject.toml")]
    options += ["-m", "not slow and not needs_torchvision", "-k", "not agrees_with_the_builder"]  # minutes each
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *tests], plugins=[plugin]))


def _measure(tests: Sequence[str], files: Sequence[str], output: str) -> None:
    measured = coverage.Coverage(data_file=None, include=files, config_file=False)
    measured.start()
    recorder = Recorder(measured)
    _pytest(tests, recorder)
    measured.stop()
    data = measured.get_data()
    runs = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
    seconds = {test: time for test, time in recorder.seconds.items() if test not in recorder.failed}
    Path(output).write_bytes(pickle.dumps(Baseline(runs, seconds)))


def tests_of(target: str) -> tuple[str, ...]:
    """Return the tests that have to notice: those of the folder of the same name, and those that `ALSO` names."""
    if target.startswith("plugins/"):
        return (f"{target.rpartition('/lossreg_')[0]}/tests",)
    mirror = Path("tests") / Path(target).relative_to("lossreg")
    folder = str(mirror.parent if target.endswith(".py") else mirror)
    folder = "tests/config" if folder == "tests" else folder  # modules that a config is read with
    return (folder, *ALSO.get(folder, ()))


@functools.cache
def baseline(tests: tuple[str, ...], package: Path) -> Baseline:
    """Run tests on unchanged code of a package."""
    with tempfile.NamedTemporaryFile() as file:
        _forked(_measure, tests, [f"{package}/*"], file.name, seconds=3600)
        found: Baseline = pickle.loads(Path(file.name).read_bytes())
    assert found.seconds, f"no test of {', '.join(tests)} passes on unchanged code"
    return found


# --- trying a change ------------------------------------------------------------------------------


def _forked(call: Callable[..., Any], *arguments: Any, seconds: float) -> int | None:
    """Call a function in a silent fork and return its exit status; None if it takes too long.

    The limit is in seconds of the processor, so that a busy machine passes no change for an endless loop; one that
    waits forever is given ten times as long.
    """
    process = FORK.Process(target=_silent, args=(call, arguments, seconds))
    process.start()
    process.join(10 * seconds)
    late = process.is_alive()
    process.kill()
    process.join()
    return None if late else process.exitcode


def _silent(call: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> None:
    os.setsid()
    used = sum(os.times()[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, resource.RLIM_INFINITY))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os._exit(call(*arguments) or 0)


def _try(tests: Sequence[str], output: str) -> int:
    chosen = Chosen(tests)
    status = _pytest(["-x", *dict.fromkeys(test.partition("::")[0] for test in tests)], chosen)
    Path(output).write_text(chosen.failed, encoding="utf-8")
    return status


def _first_failure(tests: Sequence[str], seconds: float) -> str:
    """Return the first of some tests that fails, or what else went wrong; nothing if all that are found pass."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
        status = _forked(_try, tests, file.name, seconds=30 + 5 * seconds)
        return "" if status in (0, 5) else file.read() or f"status {status}"


def is_noticed(change: Change, known: Baseline) -> bool:
    """Make a change, run the tests that run its lines, and undo it; endless loops are noticed.

    A test that fails on unchanged code too, after the same others, does not count.
    """
    tests = known.tests_of(change)
    original = change.installed.read_bytes()
    while tests:
        seconds = sum(known.seconds[test] for test in tests)
        try:
            change.installed.write_text(change.code, encoding="utf-8")
            failed = _first_failure(tests, seconds)
        finally:
            change.installed.write_bytes(original)
        if failed not in tests:
            return bool(failed)
        if not _first_failure(tests[: tests.index(failed) + 1], seconds):
            return True
        tests.remove(failed)
    return False


# --- the command ----------------------------------------------------------------------------------


def main() -> int:
    """Try the changes of some targets and print a line for each that no test notices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=TARGETS, help="folders, files or FILE:LINE; by default all")
    parser.add_argument("--one-in", type=int, default=10, metavar="K", help="try one of K places (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="which places (default 0)")
    options = parser.parse_args()
    for name in SLOW_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    listed = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"] if SURVIVORS.exists() else []
    reasons = {(entry["file"], entry["old"], entry["new"]): entry["reason"] for entry in listed}
    missing = 0
    for target in options.targets:
        missing += _target(target.rstrip("/"), options.one_in, options.seed, reasons)
    return int(missing > 0)


def _target(target: str, one_in: int, seed: int, reasons: Mapping[tuple[str, str, str], str]) -> int:
    """Try the changes of one target; return how many are neither noticed nor listed."""
    target, _, line = target.partition(":")
    root = ROOT / target
    paths = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    files = [str(path.relative_to(ROOT)) for path in paths if path.name != "examples.py"]  # batches to show a loss with
    known = baseline(tests_of(target), _package(files[0]))
    counts = {"noticed": 0, "listed": 0, "missing": 0}
    for file in files:
        for change in changes(file, one_in, seed):
            if line and change.line != int(line):
                continue
            if (file, change.old, change.new) in reasons:
                counts["listed"] += 1
            elif is_noticed(change, known):
                counts["noticed"] += 1
            else:
                counts["missing"] += 1
                print(f"{file}:{change.line}\n  - {change.old}\n  + {change.new}", flush=True)  # noqa: T201
    tried = sum(counts.values())
    print(  # noqa: T201
        f"{target}: {tried} changes, at one in {one_in} places (seed {seed}): {counts['noticed']} noticed "
        f"({counts['noticed'] / max(tried, 1):.0%}), {counts['listed']} listed in {SURVIVORS.name}, "
        f"{counts['missing']} without a test",
        flush=True,
    )
    return counts["missing"]


if __name__ == "__main__":
    sys.exit(main())
