"""Every published payload is an error wherever it stands in a file, and nothing is imported, run or read for it.

CI tries each payload in a few places, and each place with payloads of every kind; `tox run -e slow` tries each payload
in each place.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "security.md"
ADVICE = re.compile(
    r"expected|write|did you mean|leave it out|registered components, never imported|allow_resolvers|it takes|shorten"
    r"|flatten|give (it|one)|correct it|quote|turn one on|keep one|needs|must be|duplicate key"
    r"|lossreg list|undefined alias|stands inside what it repeats|it needs|is not a parameter"
)


def audit(folder: Path, *options: str, **environment: str) -> dict[str, Any]:
    """Try every payload, all in one process of their own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "audit.py"), str(folder), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "LOSSREG_SECRET": "hunter2", **environment},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return audit(tmp_path_factory.mktemp("core"), "--few", LOSSREG_DISABLE_AUTOLOAD="1")


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return audit(tmp_path_factory.mktemp("everywhere"), LOSSREG_DISABLE_AUTOLOAD="1")


def _never_built_nothing_seen(found: dict[str, Any], files: int) -> None:
    rows = found["rows"]
    assert len(rows) > files
    assert [row for row in rows if row["message"] is None] == []
    assert [row for row in rows if row["seen"]] == []
    assert not found["canary"]
    assert [row for row in rows if "hunter2" in row["message"]] == []


def _says_where_and_what_to_do(found: dict[str, Any]) -> None:
    for row in found["rows"]:
        keys = "|".join(re.findall(r"(?m)^(\w+):", row["file"]))
        where = rf"line \d+, column \d+|(?m:^|  - )({keys})\b"
        assert re.search(where, row["message"]), row
        assert ADVICE.search(row["message"]), row


def test_every_payload_is_refused_and_nothing_is_seen(core: dict[str, Any]) -> None:
    _never_built_nothing_seen(core, 1_000)


def test_every_message_says_where_and_what_to_do(core: dict[str, Any]) -> None:
    _says_where_and_what_to_do(core)


@pytest.mark.slow
def test_so_it_is_with_every_payload_in_every_place(everywhere: dict[str, Any]) -> None:
    _never_built_nothing_seen(everywhere, 5_000)
    _says_where_and_what_to_do(everywhere)


def test_each_payload_is_tried_and_each_place_with_every_kind(core: dict[str, Any]) -> None:
    data = yaml.safe_load((HERE / "payloads.yaml").read_text(encoding="utf-8"))
    kinds = {group: kind for kind in ("targets", "values", "texts") for group in data[kind]}
    tried = {(row["place"], kinds[row["group"]]) for row in core["rows"] if row["place"]}
    assert tried >= {(place, kind) for place in data["places"] for kind in ("targets", "values", "texts")}
    assert tried >= {(place, kind) for place in data["deep"] for kind in ("targets", "values")}
    sizes = {group: len(listed) for kind in (*kinds.values(), "files") for group, listed in data[kind].items()}
    assert {g: len({r["payload"] for r in core["rows"] if r["group"] == g}) for g in sizes} == sizes


def test_it_is_the_payload_that_is_refused(core: dict[str, Any]) -> None:
    """Every place but these takes some harmless value; the legacy block takes one where its plugins are installed."""
    assert [place for place in core["closed"] if "legacy" not in place] == [
        "a parameter that is no parameter",
        "a parameter that takes a module",
        "the schedule of a weight",  # no schedule is complete without its parameters
        "the input",  # nobody converts it for the losses of the audit
        "a key that is no key",
    ]


@pytest.mark.slow
@pytest.mark.needs_plugins
def test_nor_is_anything_with_every_plugin_installed(tmp_path: Path) -> None:
    found = audit(tmp_path)
    _never_built_nothing_seen(found, 5_000)
    assert [place for place in found["closed"] if "legacy" in place] == [
        "a legacy block",
        "a legacy block in its other spelling",
    ]


@pytest.mark.slow
@pytest.mark.needs_plugins
def test_the_page_shows_a_fresh_run(everywhere: dict[str, Any]) -> None:
    """After a change: `LOSSREG_DISABLE_AUTOLOAD=1 python tests/security/audit.py FOLDER --page docs/security.md`."""
    assert everywhere["table"] in PAGE.read_text(encoding="utf-8")


def test_the_hook_sees_what_it_is_to_see(tmp_path: Path) -> None:
    """The audit is worth something: the same payloads, given to Hydra, are seen."""
    code = """
import sys
from hydra.utils import instantiate
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
instantiate({"_target_": "this.s.title"})
sys.stdout.write("\\n".join(seen))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "import" in done.stdout.splitlines()
