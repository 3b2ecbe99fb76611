"""The page of losses shows every first-party loss."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossreg import list_losses

pytestmark = pytest.mark.needs_plugins

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"


def test_every_first_party_loss_has_its_place_and_its_picture():
    page = PAGE.read_text(encoding="utf-8")
    offered = [name for plugin in ("seg", "crossfield") for name in list_losses(f"{plugin}/*")]
    assert sorted(re.findall(r"^### (\w+/\w+)$", page, re.MULTILINE)) == sorted(offered)
    assert re.findall(r"generated/loss-(\w+)\.svg", page) == re.findall(r"^### \w+/(\w+)$", page, re.MULTILINE)
