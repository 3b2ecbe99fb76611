"""Try every payload in a process of its own, and tell what it was refused with and what the interpreter saw.

`python tests/security/audit.py` prints JSON; with `--few` it tries most payloads in a few places only; with
`--page docs/security.md` it writes the table of that page anew.
"""

import argparse
import html
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import OmegaConf

import lossreg
from lossreg.registry import catalog

HERE = Path(__file__).parent
PLACES_A_TARGET = 6  # in how many places each target is tried
FEW_PLACES = 2  # in how many places of those that it is for each payload is tried, if few are asked for
HARMLESS = {"sys._getframe", "sys._getframemodulename", "object.__getattr__", "object.__setattr__", "builtins.id"}
BEGIN, END = "<!-- payloads -->\n", "<!-- end of payloads -->\n"

# --- what the payloads are tried on ---------------------------------------------------------------


sys.path.insert(0, str(HERE.parent))
from local_losses import register  # noqa: E402 (beside this folder, which Python does not search)

register()

WARM = """
losses:
  - {loss: Plain, value: 2, options: {a: [1]}, weight: [1, 2], epoch_thresholds: [0, 5]}
  - {loss: Foreign, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 5}, name: b}
  - {loss: scaled, scale: 2, name: c}
  - {name: g, losses: [{loss: Plain, weight: {schedule: chain, schedules: [1, 2], boundaries: [5]}}]}
pre_processes: [MakeX]
weighting: {strategy: dwa, temperature: 2.0}
batch_keys: [pred.y]
"""
MISTAKES = [
    "losses: [{loss: Plain, vlaue: 1, value: x, options: 1}, {loss: Plian}, {loss: Foreign, weight: [[x]]}]",
    "losses: [{loss: scaled, scale: x}]\nweighting: {strategy: dwa, temperature: x}",
    "losses: [{loss: Plain, weight: {schedule: cosine, start: x}}]\npre_processes: [{preprocess: MakeX, factor: x}]",
    "losses: [Plain, ${nowhere}]",
    "z: {a: 1}\nloss_params: {compound_loss: {losses: ['${z}']}}",
    "losses: [Plain, '${resolver:x}', '${']",
    "losses: [Plain",
    "loss_params: {multi_loss: {coefs: {seg: x}}}\ncompute_seg: true\nseg_params: {compute_interior: true}",
    "loss_params: {multi_loss: {coefs: {seg: 1}}}\ncompute_seg: true\nseg_params: {compute_interior: true}",
    "loss: [",
]

HARMLESS_VALUES = [
    0.5, 5, True, [1.0], {}, "x", "Plain", "old.place.Plain", "MakeX", "old.place.MakeX", "cosine", "dwa", "mean",
    "long", "raise", "pred.y", "exp", {"loss": "Plain"}, {"loss": "Plain", "name": "b"}, ["Plain"],
    {"losses": ["Plain"]}, {"seg": 1},
]  # fmt: skip

# --- the payloads ---------------------------------------------------------------------------------


def payloads(few: bool = False) -> Iterator[tuple[str, str, str, str]]:
    """Yield `(group, payload, place, file)`; the place is empty where the payload is a file.

    Args:
        few: try most payloads in a few places in turn; the first of each group of values and texts, and `os.system`,
            are tried everywhere all the same.
    """
    data = yaml.safe_load((HERE / "payloads.yaml").read_text(encoding="utf-8"))
    places = list(data["places"].items())
    everywhere = [*places, *data["deep"].items()]
    position = 0

    def in_turn(chosen_from: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
        return [chosen_from[(position + 11 * i) % len(chosen_from)] for i in range(number)]

    for group, targets in data["targets"].items():
        for target in targets:
            value = json.dumps({"_target_": target, "_args_": ["touch canary"]})
            chosen = in_turn(everywhere, FEW_PLACES if few else PLACES_A_TARGET)
            position += 1
            for place, text in [places[0], *chosen] if target != "os.system" else everywhere:
                yield group, target, place, text.replace("@", value)
    for group, values in data["values"].items():
        for value in values:
            special = any(str(key) in ("_target_", "_args_", "_partial_", "_convert_") for key in value)
            shown = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
            fitting = everywhere if special else places
            position += 1
            for place, text in in_turn(fitting, FEW_PLACES) if few and value != values[0] else fitting:
                yield group, shown, place, text.replace("@", shown)
    for group, texts in data["texts"].items():
        for text in texts:
            position += 1
            for place, around in in_turn(places, FEW_PLACES) if few and text != texts[0] else places:
                yield group, text, place, around.replace("@", json.dumps(text))
    for group, files in data["files"].items():
        for file in files:
            yield group, file, "", file


# --- trying them ----------------------------------------------------------------------------------


def attempt(file: Path) -> str | None:
    """Return what a file was refused with; None where it was built."""
    try:
        lossreg.load_loss(file)
    except lossreg.ConfigError as error:
        return str(error).replace(str(file), "loss.yaml")
    return None


def evaluate_annotations(target: Any) -> None:
    """Evaluate the annotations of an installed component for good, which are texts, and read when it is checked."""
    function = target.__init__ if isinstance(target, type) else target
    with suppress(Exception):
        function.__annotations__ = get_type_hints(function, include_extras=True)


def results(folder: Path, few: bool) -> Iterator[dict[str, Any]]:
    """Warm up with harmless files, then try each payload under an audit hook."""
    file = folder / "loss.yaml"
    OmegaConf.register_new_resolver("custom", lambda *arguments: os.system("touch canary"), replace=True)
    OmegaConf.register_new_resolver("eval", eval, replace=True)
    tried = list(payloads(few))
    for entry in [entry for section in catalog().sections for entry in section]:
        evaluate_annotations(entry.load())
    for text in [WARM, *MISTAKES]:
        file.write_text(text, encoding="utf-8")
        attempt(file)
    seen: list[str] = []
    listening = [False]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        own_file = event == "open" and str(arguments[0]) == str(file) and arguments[1] in ("r", "rb")
        if listening[0] and event not in HARMLESS and not own_file:
            seen.append(f"{event} {arguments[0] if arguments else ''}".strip())

    sys.addaudithook(hook)
    for group, payload, place, text in tried:
        file.write_text(text, encoding="utf-8")
        listening[0] = True
        message = attempt(file)
        listening[0] = False
        yield {"group": group, "payload": payload, "place": place, "file": text, "message": message, "seen": seen[:]}
        seen.clear()


def closed(folder: Path) -> list[str]:
    """Return the places where no harmless value is built either, so that a refusal says nothing of the payload."""
    file = folder / "loss.yaml"
    data = yaml.safe_load((HERE / "payloads.yaml").read_text(encoding="utf-8"))
    found = []
    for place, text in {**data["places"], **data["deep"]}.items():
        for value in HARMLESS_VALUES:
            file.write_text(text.replace("@", json.dumps(value)), encoding="utf-8")
            if attempt(file) is None:
                break
        else:
            found.append(place)
    return found


# --- the table ------------------------------------------------------------------------------------


def table(found: list[dict[str, Any]]) -> str:
    """Return the table of the page: each payload once, and each place once."""
    lines = []
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in found:
        groups.setdefault(row["group"], {}).setdefault(row["payload"], []).append(row)
    for group, by_payload in groups.items():
        lines += [*_folded(group, len(by_payload)), "| payload | tried in | refused with | seen |", "|---|---|---|---|"]
        for payload, rows in by_payload.items():
            lines.append(_row(payload, rows, f"{len(rows)} places" if rows[0]["place"] else "a file"))
        lines += ["", "</details>", ""]
    by_place: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        if row["place"]:
            by_place.setdefault(row["place"], []).append(row)
    lines += [*_folded("Each place", len(by_place)), "| place | tried with | the first was refused with | seen |"]
    lines += ["|---|---|---|---|"]
    lines += [_row(place, rows, f"{len(rows)} payloads", code=False) for place, rows in by_place.items()]
    lines += ["", "</details>", ""]
    return "\n".join([f"{len(found):,} files in all, none of which was built.", "", *lines])


def _folded(title: str, number: int) -> list[str]:
    """Return the lines that begin a table which is folded until somebody opens it."""
    return [f"<details><summary>{html.escape(title.replace('`', ''))} ({number})</summary>", ""]


def _row(what: str, rows: list[dict[str, Any]], tried: str, code: bool = True) -> str:
    lines = [line for line in str(rows[0]["message"]).splitlines() if not line.endswith("errors in the config:")]
    first = next((line for line in lines if "_target_: " in line), lines[0])
    seen = sorted({event for row in rows for event in row["seen"]})
    cells = [
        _code(what) if code else what,
        tried,
        _code(first.strip().removeprefix("- ")),
        ", ".join(seen) or "nothing",
    ]
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    shown = "".join(char if char.isprintable() and char.isascii() else repr(char)[1:-1] for char in text)
    shown = (shown[:157] + "...") if len(shown) > 160 else shown
    return f"`` {shown.replace('|', chr(92) + '|')} ``" if shown else "(empty)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="where files are written")
    parser.add_argument("--few", action="store_true", help="try most payloads in a few places only")
    parser.add_argument("--page", type=Path, help="the page whose table is written anew")
    arguments = parser.parse_args()
    folder, page = arguments.folder.resolve(), arguments.page and arguments.page.resolve()
    os.chdir(folder)
    found = list(results(folder, arguments.few))
    if page is None:
        canary = Path("canary").exists()
        json.dump({"rows": found, "table": table(found), "canary": canary, "closed": closed(folder)}, sys.stdout)
        return
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(before + BEGIN + "\n" + table(found) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
