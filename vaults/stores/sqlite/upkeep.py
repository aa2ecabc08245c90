"""Upkeep of a vault's file: sync, compact and check. Knows SQLite and the store, and not what keys and values mean.

The trap: what upkeep asks of SQLite, SQLite does not always do. A commit that leaves every page as it was is dropped,
and with it the fsync that it was for; so upkeep commits a change that is none. TRUNCATE, which cuts the log, moves it
without the write lock when it cannot have it, and before SQLite 3.51.3 pages can be lost then; so the log is cut by
a commit that resets it. `integrity_check` runs the constraints of every table in the file, and those of a table that is
not of a vault are a stranger's programs; so only the vault's own tables are asked about. And after an fsync that failed
nothing may be tried again, because the kernel may have dropped the pages: the store is broken then.
"""
from __future__ import annotations

from itertools import chain

from ...errors import VaultCorruptError, VaultFullError
from ...keys import SIGN, named
from . import driver
from .failures import is_failed_sync
from .pace import LAST_PAGE, Pace, end_of
from .schema import (
    ALL_OBJECTS,
    BY_ID,
    COUNT_BOTH,
    CUT_LOG,
    KEEP_LOG,
    KNOWN,
    MARK_ONE,
    RECOUNT,
    STATISTICS,
    TABLES,
    UNMARK_ONE,
    normalized,
)
from .walks import require_advance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, List, Optional, Tuple

    from ...keys import Stored
    from ..base import Progress
    from .connection import Connection
    from .store import SQLiteStore


def sync(store: SQLiteStore) -> None:
    """Commit once more with an fsync, which covers all that the log holds so far."""
    c = store.outside('sync')
    try:
        c.execute('PRAGMA synchronous = FULL')
        _change_nothing(store, c)
    except driver.Error as error:
        raise store.failed(error) from error
    finally:
        c.execute(store.file.synchronous)


def compact(store: SQLiteStore, progress: Progress = None) -> None:
    """Count anew, give unused space back, and cut the log."""
    c = store.outside('compact')
    store.file.require_same()
    try:
        total = store.rows(c, 'PRAGMA page_count', ())[0][0]
        if progress:
            progress(0, total)
        store.run(c, RECOUNT)
        store.run(c, 'VACUUM')
        store.checkpoint(c)
        if store.file.journal == 'wal':
            _cut_log(store, store.local.c)
    except driver.Error as error:
        raise (store.break_off(error) if is_failed_sync(error) else store.failed(error)) from error
    if progress:
        progress(total, total)


def _cut_log(store: SQLiteStore, c: Connection) -> None:
    """Shorten the log with a commit that resets it: SQLite's TRUNCATE checkpoints without the lock if it must."""
    try:
        c.execute(CUT_LOG)
        _change_nothing(store, c)
    finally:
        c.execute(KEEP_LOG)


def _change_nothing(store: SQLiteStore, c: Connection) -> None:
    """Commit something: SQLite drops a commit that leaves every page as it was."""
    try:
        store.transact(lambda: (c.execute(MARK_ONE), c.execute(UNMARK_ONE)))
    except VaultFullError as error:
        cause = error.__cause__
        if isinstance(cause, driver.Error) and is_failed_sync(cause):
            raise store.break_off(cause) from error
        raise


def check(store: SQLiteStore, examine: Callable[[Stored, bytes], Optional[str]],
          progress: Progress = None) -> List[str]:
    """Return what is wrong with the file, and what `examine` says of each entry."""
    c = store.local.c
    problems = [f'{store.file.gone()}'] if store.file.is_gone() else []
    try:
        problems += [f'SQLite: {line}' for line in _integrity(store, c) if line != 'ok']
        counted, total = store.rows(c, COUNT_BOTH, ())[0]
        if counted != total:
            problems.append(f'{total} entries are there but {counted} are counted: compact() counts anew')
        done = 0
        for row in _raw_rows(store):
            done += 1  # noqa: SIM113  # enumerate would hold the row
            problems += _examined(store, row, examine)
            del row  # before the next one is read
            if progress and (done % LAST_PAGE == 0 or done == total):
                progress(done, total)
    except driver.error_or(VaultCorruptError, UnicodeError) as error:
        problems.append(f'the entries cannot all be read: {error}')
    return problems


def _integrity(store: SQLiteStore, c: Connection) -> Iterator[str]:
    """Yield what SQLite finds. Tables that are not of a vault are left out: their constraints are programs."""
    found = {normalized(str(sql)) for sql, in c.execute(ALL_OBJECTS).fetchall()}
    whole = found <= KNOWN | STATISTICS
    for table in [''] if whole else [f'({name})' for name in ('entries', 'parts') if TABLES[name] in found]:
        yield from chain.from_iterable(c.execute(f'PRAGMA integrity_check{table}').fetchall())


def _raw_rows(store: SQLiteStore) -> Iterator[Tuple[Any, ...]]:
    """Yield every row unverified, a few at a time."""
    position, pace, more = -SIGN, Pace(True), True
    while more:
        asked = pace.size
        rows = store.rows(store.local.c, BY_ID['entries'], (*pace.limits, position, SIGN - 1, asked))
        more = len(rows) == asked
        if rows:
            require_advance(store, position, rows[-1][0], False)
            found = len(rows)
            del rows[end_of([None if None in row[1:3] else row for row in rows]) if asked > 1 else 1:]
            pace.go_on([row[1] for row in rows], [row[2] if type(row[2]) is bytes else b'' for row in rows],
                       len(rows) < found)
            more = more or len(rows) < found
            position = rows[-1][0] if rows else position
        while rows:
            yield rows.pop(0)


def _examined(store: SQLiteStore, row: Tuple[Any, ...],
              examine: Callable[[Stored, bytes], Optional[str]]) -> Iterator[str]:
    _, key, data, crc = row
    try:
        problem = examine(store.intact(key, data, crc), data)
    except VaultCorruptError as error:
        problem = f'key {named(key)}: {error}'
    if problem:
        yield problem
