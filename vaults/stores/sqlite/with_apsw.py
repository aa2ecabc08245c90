"""The driver with APSW, which brings a newer SQLite than Python has. Knows nothing of a vault. (pip install apsw)

The trap: the copies of SQLite in APSW and in Python's sqlite3 do not see each other's locks. driver.py sees to it that
no file is open in both.
"""
from __future__ import annotations

from collections import deque
from itertools import chain, starmap
from operator import methodcaller
from time import sleep

import apsw
from apsw import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional, Tuple

    from .driver import Claim

__all__ = ['COPIED', 'NAME', 'VERSION', 'VERSION_INFO', 'Error', 'RawConnection', 'connect']

NAME = 'apsw'
VERSION: str = apsw.sqlite_lib_version()
VERSION_INFO: Tuple[int, ...] = tuple(map(int, VERSION.split('.')))
COPY_PAUSE = 0.25  # seconds before a step of a copy that met a lock is tried again, as sqlite3 has it

COPIED = 0  # bytes are bound as they are

OPENED = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI


class RawConnection(apsw.Connection):
    """What is a `driver.RawConnection`."""

    __slots__ = ('claim',)
    claim: Optional[Claim]

    total_changes = property(apsw.Connection.total_changes)  # there it is a method

    def statements(self) -> apsw.Cursor:
        return self.cursor()

    def changed(self, sql: str, arguments: Tuple[Any, ...] = ()) -> int:
        # Both in one step of Python's: a signal handler may write, and then it would be told what that has changed.
        steps: Iterator[Any] = chain(map(self.execute, (sql,), (arguments,)), starmap(self.changes, ((),)))
        _, count = steps
        return count  # type: ignore[no-any-return]

    def many(self, sql: str, rows: Iterable[Any]) -> None:
        self.executemany(sql, rows)

    def blob(self, id: int, size: int) -> bytes:
        from ...memory import blank  # here: few values are large
        file = blank(size)
        opened = map(self.blob_open, ('main',), ('entries',), ('value',), (id,), (False,))
        with file.getbuffer() as view:
            deque(map(methodcaller('read_into', view), opened), 0)
        return file.getvalue()

    def copy_to(self, target: str, step: Callable[[int, int, int], object], pages: int = 1024) -> None:
        copy = connect(target, 0)
        try:
            with copy.backup('main', self, 'main') as copying:
                while not copying.done:
                    result: int = apsw.SQLITE_OK
                    try:
                        copying.step(pages)
                    except (apsw.BusyError, apsw.LockedError) as error:
                        result = error.extendedresult  # type: ignore[union-attr]
                    step(result, copying.remaining, copying.page_count)
                    if result:
                        sleep(COPY_PAUSE)
        finally:
            copy.close()

    def close(self) -> None:  # type: ignore[override]  # there it may be forced
        super().close()
        self.claim = None


def connect(target: str, timeout: float) -> RawConnection:
    """Open the file of a URI, or ':memory:'. A path of bytes that are no UTF-8 is taken as Python takes it."""
    connection = RawConnection(''.join(map(_encoded, target)), OPENED)
    connection.set_busy_timeout(int(timeout * 1000))
    # Plans do not depend on what is bound: else SQLite 3.54 plans a LEFT JOIN anew, which takes as long as the join.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return connection


def _encoded(character: str) -> str:
    return f'%{ord(character) - 0xDC00:02X}' if '\udc80' <= character <= '\udcff' else character
