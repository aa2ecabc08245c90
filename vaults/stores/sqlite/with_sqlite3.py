"""The driver with Python's own sqlite3, which is always there. Knows nothing of a vault."""
from __future__ import annotations

import sqlite3
from functools import partial
from itertools import chain, repeat
from operator import attrgetter
from sqlite3 import Error, sqlite_version, sqlite_version_info

from .driver import DriverError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Optional, Tuple

    from .driver import Claim

__all__ = ['COPIED', 'NAME', 'VERSION', 'VERSION_INFO', 'Error', 'RawConnection', 'connect']

NAME = 'sqlite3'
VERSION: str = sqlite_version
VERSION_INFO: Tuple[int, ...] = sqlite_version_info

COPIED = 1 << 20  # for bytes the module looks for an adapter each time; a bytearray of a few is bound in half the time

READ_AT_ONCE = 1 << 18  # bytes of a value that are read at a time


class RawConnection(sqlite3.Connection):
    """What is a `driver.RawConnection`."""

    __slots__ = ('claim',)
    claim: Optional[Claim]

    def statements(self) -> sqlite3.Cursor:
        return self.cursor()

    def changed(self, sql: str, arguments: Tuple[Any, ...] = ()) -> int:
        return self.execute(sql, arguments).rowcount

    def many(self, sql: str, rows: Iterable[Any]) -> None:
        self.executemany(sql, rows)

    def blob(self, id: int, size: int) -> bytes:
        opening: Any = getattr(self, 'blobopen', None)
        if opening is None:
            raise DriverError('no blob I/O before Python 3.11')
        opened = map(partial(opening, 'entries', 'value', readonly=True), (id,))
        pieces = map(map, map(attrgetter('read'), opened), (repeat(READ_AT_ONCE, -(-size // READ_AT_ONCE)),))
        from ...memory import blank  # here: few values are large
        file = blank(size)
        file.writelines(chain.from_iterable(pieces))
        return file.getvalue()

    def copy_to(self, target: str, step: Callable[[int, int, int], object], pages: int = 1024) -> None:
        copy = connect(target, 0)
        try:
            self.backup(copy, pages=pages, progress=step)
        finally:
            copy.close()

    def close(self) -> None:
        super().close()
        self.claim = None


def connect(target: str, timeout: float) -> RawConnection:
    """Open the file of a URI, or ':memory:', without transactions that nobody has begun.

    Never by `autocommit`, whose meaning Python 3.12 changed.
    """
    return sqlite3.connect(target, timeout=timeout, isolation_level=None, check_same_thread=False,
                           factory=RawConnection, uri=target != ':memory:')

