"""Driver: what the store needs of SQLite's module, in one place. Knows sqlite3, and nothing of a vault.

The traps are those of the module, and a second driver has its own. It has to provide what stands here, under the same
names, and to keep in mind that

- `execute` is called and its rows are taken without a Python frame in between: an interrupt there leaves a statement
  open. So it returns a cursor, whose `fetchall()` and `get` are the module's own;
- `get` is one row or None, of statements that have no more than one row. Of a row with one column some modules give
  the bare value: who asks takes two columns, or only the truth of it;
- what `statements()` returns is used by a signal handler or a finalizer as well, which may come between the two: then
  there is no row. What must not happen goes through the connection's `execute`;
- a transaction begins where it is said to, and nowhere else: `isolation_level=None`, and never `autocommit`, whose
  meaning Python 3.12 changed;
- a connection is made in one thread and may be closed in another, and an iterable given to `many` may use the
  connection that is running it;
- damaged text is a UnicodeError or an Error, and too much of it an OverflowError: see failures.py;
- two copies of SQLite in one process do not see each other's locks. So a driver is asked for, and never found.
"""
from __future__ import annotations

import sqlite3
from sqlite3 import Error, sqlite_version, sqlite_version_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Optional, Tuple

__all__ = ['NAME', 'VERSION', 'VERSION_INFO', 'Cursor', 'Error', 'RawConnection', 'code', 'connect', 'quick_blob']

NAME = 'sqlite3'
VERSION: str = sqlite_version
VERSION_INFO: Tuple[int, ...] = sqlite_version_info


quick_blob = bytearray  # makes of bytes what is bound in half the time: the module asks nobody for an adapter


class Cursor(sqlite3.Cursor):
    """One statement at a time, and its rows: `execute` returns it."""

    __slots__ = ()

    get = property(sqlite3.Cursor.fetchone)  # in C: on the hot path it takes as long as the call of a method


class RawConnection(sqlite3.Connection):
    """A connection, with `execute`, `in_transaction`, `total_changes`, `set_progress_handler` and `close` as they are.

    `execute` makes a cursor for each statement, which nobody else uses.
    """

    __slots__ = ()

    def statements(self) -> Cursor:
        """Return a cursor to run one statement after another with, which takes less time than `execute` here."""
        return self.cursor(Cursor)

    def changed(self, sql: str, arguments: Tuple[Any, ...] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        return self.execute(sql, arguments).rowcount

    def many(self, sql: str, rows: Iterable[Tuple[Any, ...]]) -> int:
        """Run a statement for each of the rows and return how many it changed."""
        return max(self.executemany(sql, rows).rowcount, 0)  # -1 where there was none

    def copy_to(self, path: str, step: Callable[[int, int, int], object], pages: int = 1024) -> None:
        """Write all to the file at `path`, so many pages at a time.

        Calls `step` with a result code, BUSY or LOCKED where nothing could be copied, and how many of how many pages
        are left. What it raises ends the copy.
        """
        target = sqlite3.connect(path)
        try:
            self.backup(target, pages=pages, progress=step)
        finally:
            target.close()


def connect(target: str, timeout: float) -> RawConnection:
    """Open the file of a URI, or ':memory:'. `timeout` is in seconds."""
    return sqlite3.connect(target, timeout=timeout, isolation_level=None, check_same_thread=False,
                           factory=RawConnection, uri=target != ':memory:')


def code(error: BaseException) -> Optional[int]:
    """Return SQLite's extended result code; None where there is none, or before Python 3.11, which does not tell."""
    found: Optional[int] = getattr(error, 'sqlite_errorcode', None)
    return found
