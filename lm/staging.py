"""Folders that appear whole or not at all, so that a kill in between leaves nothing half made."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields a draft folder beside `target`; renamed to `target` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft = workshop / "draft"
    draft.mkdir()  # with the user's umask; mkdtemp lets nobody else in
    try:
        yield draft
        _put(draft, target, workshop)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _put(draft: Path, target: Path, workshop: Path) -> None:
    """Rename `draft` to `target`; a leftover, or the work of a quicker process, steps aside."""
    for attempt in itertools.count():
        with suppress(FileNotFoundError):
            os.replace(target, workshop / f"old-{attempt}")
        try:
            return os.replace(draft, target)
        except OSError as error:  # another process was there in between
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """For files that are only ever replaced, never written into: a hard link where there can be."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
