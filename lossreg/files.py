"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new file of the same suffix, which atomically replaces `path` on success and is removed on failure.

    Nobody can have put a file or a link in its place: its name is random, and it is made only if there is none. It
    has the permissions of what it replaces. A link stays one, and what is no file (a pipe, a terminal) is written to
    as it is.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    draft = path.with_name(f".{secrets.token_hex(16)}{path.suffix}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # tempfile's would be unreadable to others
    try:
        if path.exists():
            shutil.copymode(path, draft)
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
