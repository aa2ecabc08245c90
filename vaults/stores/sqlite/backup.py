"""Backup: a copy of the last commit in a file of its own, whole or not there. Knows SQLite, the store and the modes of
files; neither keys nor values.

The trap: SQLite's backup begins anew whenever somebody writes, so that among writers it never ends, and waits for a
lock for ever. So the copy is made inside a read transaction, from one state of the file, and a step that counts the
time gives up when nothing has moved for the timeout. It is made under another name, with the mode of what it copies
from the first byte on, and gets its own name at the end: whoever finds that finds all of it.
"""
from __future__ import annotations

from time import monotonic

from ...files import NewFile
from ..base import MEMORY
from . import SIDE_FILES, driver
from .connection import uri_of
from .failures import BUSY, WAITING
from .schema import NEWEST, ROLLBACK
from .snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..base import Progress
    from .store import SQLiteStore


def backup(store: SQLiteStore, path: str, progress: Progress = None) -> None:
    """Write a copy of the last commit to a new file at `path`."""
    stale, in_memory = store.file.is_gone(), store.file.path == MEMORY
    sources = [] if in_memory or stale else [store.file.path]
    most = None if in_memory else 0o600 if stale else 0o666  # the journal beside it gets the same mode from SQLite
    try:
        with NewFile(path, *sources, what=f'the backup to {path}', beside=SIDE_FILES, most=most) as new:
            _copy(store, new.part, progress, in_memory or stale)
    except driver.Error as error:
        kind = type(store.file.explain(error))
        raise kind(f'the backup to {path} failed, nothing was written: {error}; make room, see that you may write '
                   'there, and repeat') from error


def _copy(store: SQLiteStore, path: str, progress: Progress, own: bool) -> None:
    """Copy by a connection apart or, where that would not find what this one holds, by this thread's `own`."""
    source = _connection_to_copy(store, own)
    try:
        source.execute('BEGIN')
        source.execute(NEWEST).fetchall()  # from here on the copy sees this commit and no later one
        source.copy_to(uri_of(path, 'mode=rwc'), _reported(progress, store.file.timeout))
    finally:
        if not own:
            source.close()
        elif source.in_transaction:
            source.execute(ROLLBACK)


def _connection_to_copy(store: SQLiteStore, own: bool) -> driver.RawConnection:
    c = store.outside('backup')
    if isinstance(c.raw, Snapshot):
        return Snapshot(store.file)._raw
    return c.raw if own else store.file.connect()


def _reported(progress: Progress, timeout: float) -> Callable[[int, int, int], object]:
    """Return what is called at each step of a backup: sqlite3 itself would wait for a lock for ever."""
    moved = monotonic()

    def step(status: int, remaining: int, total: int) -> None:
        nonlocal moved
        if status not in WAITING:
            moved = monotonic()
            if progress:
                progress(total - remaining, total)
        elif monotonic() > moved + timeout:
            raise driver.DriverError(BUSY.words)
    return step
