"""The vault as a whole: its facts, its files, their end, and Ctrl-C. Knows SQLite and the store, not what entries mean.

The trap: the files are one. Whoever deletes a vault and leaves its `-wal` behind gives the next one of that name a log
that is not its own. And an exception that is raised while SQLite runs a statement, as Ctrl-C raises KeyboardInterrupt,
is dropped by SQLite's module: so a long statement is ended by a callback that says so, and whoever raised says it
again behind it.
"""
from __future__ import annotations

import os
from contextlib import suppress

from ...errors import VaultError
from ..base import MEMORY
from . import LOGS, driver, side_files
from .checkpoint import has_wal_reset_race
from .schema import FORMAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Tuple

    from .store import SQLiteStore

STEPS = 100_000      # of SQLite's virtual machine between two looks for an interrupt; some milliseconds


def files(path: str) -> Tuple[str, ...]:
    """Return the paths of the files that SQLite makes of a vault at `path`."""
    return () if path == MEMORY else (path, *side_files(path))


def sources(path: str) -> Tuple[str, ...]:
    """Return the paths of those that entries are read from."""
    return () if path == MEMORY else (path, *side_files(path, LOGS))


def destroy(store: SQLiteStore) -> None:
    """Delete the files. Of a link only the link goes, since what it leads to, with its log, is still a vault."""
    is_link = os.path.islink(store.file.path)
    for path in store.files[:1] if is_link else store.files:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise VaultError(f'{path} cannot be deleted: {error}; close it everywhere, and see that you may') from error


def describe(store: SQLiteStore) -> Dict[str, object]:
    """Return what `vaults info` tells of the file, and of the SQLite that reads it."""
    size = sum(os.path.getsize(path) for path in store.files[:2] if os.path.exists(path))
    return {'engine': 'sqlite', 'format': FORMAT, 'bytes': size, 'driver': store.file.driver.NAME,
            'sqlite': store.file.driver.VERSION, 'journal': store.file.journal,
            'wal_reset_race': has_wal_reset_race(store.file.driver.VERSION_INFO)}


class Interruptible:
    """A block in which this thread's statements end once `interrupted()` is true."""

    def __init__(self, raw: Any, interrupted: Callable[[], bool]) -> None:
        self._raw, self._interrupted = raw, interrupted

    def __enter__(self) -> None:
        self._watch(self._interrupted)

    def __exit__(self, *error: object) -> None:
        with suppress(*driver.Error):  # the store was closed in the block
            self._watch(None)

    def _watch(self, look: Any) -> None:
        if hasattr(self._raw, 'set_progress_handler'):  # what reads a folder that cannot be written has none
            self._raw.set_progress_handler(look, STEPS)
