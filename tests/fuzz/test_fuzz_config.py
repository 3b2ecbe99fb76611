"""Any file gives a criterion or a `ConfigError`; `--hypothesis-profile=fuzz` tries many more."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lossreg
from lossreg.cli import main
from lossreg.registry import _local
from lossreg.testing import loss_configs

HARNESS = runpy.run_path(str(Path(__file__).parent / "fuzz_config.py"), run_name="harness")
SEEDS = [yaml.safe_load(text) for text in HARNESS["SEEDS"]]

pytestmark = pytest.mark.filterwarnings("default")  # of a library, about arguments that it takes
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def share(part: float) -> settings:
    """Return the settings of a test that tries a part of the profile's examples: the slower it is, the fewer."""
    return settings(quick, max_examples=max(5, int(settings().max_examples * part)))


few = share(1 / 80)  # each is given to nine commands, and drawn


@contextmanager
def registered() -> Iterator[None]:
    """Register the losses of the harness for a while."""
    before = dict(_local)
    HARNESS["register"]()
    yield
    _local.clear()
    _local.update(before)
    lossreg.refresh()


@pytest.fixture(autouse=True, scope="module")
def local_losses() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "loss.yaml"


with registered():
    WORDS = st.sampled_from(HARNESS["words"]())
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=6)
    | st.builds("${{{}}}".format, WORDS)
)
KEYS = WORDS | st.text(max_size=4) | st.integers(0, 3) | st.booleans() | st.none()
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def _ways(data: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [way, *(found for key, item in items for found in _ways(item, (*way, key)))]


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A valid config in which a few places are given another value, another key, a copy of another place or nothing."""
    data = copy.deepcopy(draw(st.sampled_from(SEEDS) | loss_configs("local")))
    for _ in range(draw(st.integers(1, 3))):
        *around, key = draw(st.sampled_from(_ways(data)[1:] or [(None,)]))
        holder = data
        for step in around:
            holder = holder[step]
        if not isinstance(holder, (dict, list)) or key is None:
            continue
        how = draw(st.sampled_from(["other", "drop", "rename", "copy", "wrap"]))
        if how == "drop":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(KEYS)] = holder.pop(key)
        elif how == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"loss": holder[key]}, {"_target_": holder[key]}]))
        elif how == "copy":
            other = data
            for step in draw(st.sampled_from(_ways(data))):
                other = other[step]
            holder[key] = copy.deepcopy(other)
        else:
            holder[key] = draw(TREES)
    return data


def _dumped(data: Any) -> bytes:
    return yaml.safe_dump(data, allow_unicode=True).encode("utf-8", errors="surrogatepass")


@pytest.mark.parametrize("seed", [seed for seed in HARNESS["SEEDS"] if "multi_loss" not in seed])
def test_the_seeds_are_valid(seed: str, file: Path) -> None:
    assert HARNESS["attempt"](seed.encode(), file) == "built"


@share(0.25)
@given(config=loss_configs("local"))
def test_configs_that_build(config: Any, file: Path) -> None:
    assert HARNESS["attempt"](_dumped(config), file) == "built"


@share(1.25)
@given(data=TREES)
def test_any_tree(data: Any, file: Path) -> None:
    HARNESS["attempt"](_dumped(data), file)


@share(0.75)
@given(
    terms=st.lists(st.dictionaries(WORDS, TREES, max_size=5), max_size=4),
    rest=st.dictionaries(WORDS, TREES, max_size=3),
)
def test_any_terms(terms: Any, rest: Any, file: Path) -> None:
    HARNESS["attempt"](_dumped({**rest, "losses": [{"loss": "Plain", **term} for term in terms]}), file)


@share(0.5)
@given(data=mutants())
def test_mutations_of_valid_files(data: Any, file: Path) -> None:
    HARNESS["attempt"](_dumped(data), file)


@st.composite
def edited_texts(draw: st.DrawFn) -> bytes:
    """The text of a valid file with a few edits."""
    seed = draw(st.sampled_from(HARNESS["SEEDS"]))
    edit = st.tuples(st.floats(0, 1), st.integers(0, 6), st.text(max_size=3) | WORDS)
    for where, length, text in draw(st.lists(edit, min_size=1, max_size=4)):
        start = int(where * len(seed))
        seed = seed[:start] + text + seed[start + length :]
    return seed.encode("utf-8", errors="surrogatepass")


@share(1)
@given(content=edited_texts())
def test_mutations_of_their_text(content: bytes, file: Path) -> None:
    HARNESS["attempt"](content, file)


@share(1.25)
@given(content=st.binary(max_size=60) | st.text("{}[]&*!|>:-?%@`,#'\"\\ \n\tx1.~$", max_size=40).map(str.encode))
def test_any_bytes(content: bytes, file: Path) -> None:
    HARNESS["attempt"](content, file)


# --- every command --------------------------------------------------------------------------------


@st.composite
def renamed(draw: st.DrawFn) -> Any:
    """A valid config whose terms have names that a terminal, a picture or a graph might obey."""
    names = st.sampled_from(HARNESS["EVIL"]) | st.text(min_size=1, max_size=8)
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    weight = st.sampled_from([1, -3e38, [0, 1e-300], [1, 2], {"schedule": "pchip", "values": [0, 1]}])
    terms = [{"loss": "Plain", "name": name, "weight": draw(weight)} for name in chosen]
    return {"epoch_thresholds": draw(st.sampled_from([[0, 5], [0, 5e-324], [-1e15, 1e15]])), "losses": terms}


@few
@given(data=renamed())
def test_every_command_on_names_that_are_hard_to_show(data: Any, file: Path) -> None:
    HARNESS["attempt_commands"](_dumped(data), file)


@few
@given(config=loss_configs("local"))
def test_every_command_on_configs_that_build(config: Any, file: Path) -> None:
    HARNESS["attempt_commands"](_dumped(config), file)


@few
@given(data=mutants() | TREES)
def test_every_command_on_mutations(data: Any, file: Path) -> None:
    HARNESS["attempt_commands"](_dumped(data), file)


@few
@given(content=edited_texts())
def test_every_command_on_edited_texts(content: bytes, file: Path) -> None:
    HARNESS["attempt_commands"](content, file)


def test_the_schema_is_json_that_a_terminal_can_have() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$defs"]
    assert HARNESS["is_safe"](result.stdout)
