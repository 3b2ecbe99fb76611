"""Write files atomically."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that atomically replaces `path` on success.

    The temporary file has the same suffix and is removed on failure. Its name is random and it must not exist, so no
    one can prepare a file or a link in its place. It gets the permissions of the old file. If `path` is a link, the
    link is kept and its target is replaced. If `path` is a pipe or a terminal, `path` itself is yielded.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    draft = path.with_name(f".{secrets.token_hex(16)}{path.suffix}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # tempfile uses 0o600: others cannot read it
    try:
        if path.exists():
            shutil.copymode(path, draft)
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
