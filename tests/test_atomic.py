"""Files are written atomically."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lossreg.atomic import replacing


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")

    def fail() -> None:
        with replacing(file) as draft:
            draft.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "data" / "a.json")
    for text in ("first", "second"):
        with replacing(link) as draft:
            draft.write_text(text)
        assert link.is_symlink()
        assert [file.read_text() for file in (tmp_path / "data").iterdir()] == [text]


def test_a_pipe_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with replacing(pipe) as draft:
        draft.write_text("text")
    reader.join(timeout=30)
    assert read == ["text"]
    assert pipe.is_fifo()


def test_a_file_of_the_old_drafts_name_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / ".draft-a.svg"
    mine.write_text("mine")
    with replacing(tmp_path / "a.svg") as draft:
        draft.write_text("theirs")
    assert mine.read_text() == "mine"


def test_a_link_of_the_old_drafts_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("victim")
    (tmp_path / ".draft-a.svg").symlink_to(victim)
    with replacing(tmp_path / "a.svg") as draft:
        draft.write_text("text")
    assert victim.read_text() == "victim"
    assert not (tmp_path / "a.svg").is_symlink()


def test_the_draft_is_another_one_each_time_and_made_anew(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "a.svg") as draft:
            names.add(draft)
            assert draft.read_bytes() == b""
            assert (draft.parent, draft.suffix) == (tmp_path, ".svg")
    assert len(names) == 3


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_a_file_that_is_replaced_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.touch()
    file.chmod(mode)
    with replacing(file) as draft:
        draft.write_text("text")
    assert file.stat().st_mode & 0o777 == mode


def test_a_new_file_has_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.json") as draft:
            draft.write_text("text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_a_name_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    file = tmp_path / ("a" * 250 + ".json")
    with replacing(file) as draft:
        draft.write_text("text")
    assert list(tmp_path.iterdir()) == [file]
