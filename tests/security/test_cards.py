"""A loss card with any published payload for its config is an error, and nothing is imported, run or read for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from audit import HARMLESS, MISTAKES, WARM, evaluate_annotations, payloads
import lossreg
from lossreg.config.card import Record, read_card
from lossreg.registry import catalog

def attempt(card):
    try:
        read_card(card, "card.md")
    except lossreg.LossregError as error:
        return str(error)
    return ""

tried = [(text, Record(text, {}, {}).written("A card.\\n").encode()) for _, _, _, text in payloads(few=True)]
for entry in [entry for section in catalog().sections for entry in section]:
    evaluate_annotations(entry.load())
for text in [WARM, *MISTAKES]:  # what is imported at first use
    attempt(Record(text, {}, {}).written("A card.\\n").encode())
seen, listening = [], False
def hook(event, arguments):
    if listening and event not in HARMLESS:
        seen.append(f"{event} {arguments[:1]}")
sys.addaudithook(hook)
messages = []
for text, card in tried:
    listening = True
    messages.append(attempt(card))
    listening = False
sys.stdout.write(json.dumps({"messages": messages, "seen": seen[:50], "files": len(tried)}))
"""


def test_a_card_with_a_payload_is_refused_and_nothing_is_seen(tmp_path: Path) -> None:
    environment = {**os.environ, "LOSSREG_DISABLE_AUTOLOAD": "1", "LOSSREG_SECRET": "hunter2"}
    command = [sys.executable, "-c", SCRIPT, str(HERE), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] > 100
    assert all(found["messages"]), "each is refused"
    assert not any("hunter2" in message for message in found["messages"])
    assert found["seen"] == []
    assert list(tmp_path.iterdir()) == []
