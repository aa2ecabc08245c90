"""Removal: what takes entries out of the order or gives them another place, and keeps the count. Knows no values.

The trap: to delete or move an entry takes two statements, one of which writes the marker, see schema.py. A signal
handler between the two would find the count wrong, or be given an id a second time. So both are one step of Python's.
"""
from __future__ import annotations

from _thread import get_ident
from functools import partial

from ...keys import HIGHEST, LOWEST
from .. import blocks
from . import driver
from .chunks import ChunkTable
from .connection import ALONE, TOGETHER, Connection
from .failures import is_too_big
from .schema import (
    BEGIN,
    CACHE,
    COMMIT,
    CONTAINS,
    COUNT_ALL,
    DELETE,
    DELETE_ALL,
    DELETE_RANGE,
    DELETE_WITHIN,
    MARK,
    MARK_ALL,
    MARK_CHANGED,
    MARK_FIRST,
    MARK_NEWEST,
    MARKED,
    MOVE_FIRST,
    MOVE_LAST,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ...keys import Stored


class Removal(ChunkTable):
    """The part of the store that deletes and moves entries."""

    def delete(self, key: Stored) -> bool:
        return bool(self.write_alone(self._delete, key))

    def _delete(self, c: Connection, key: Stored) -> bool:
        if not c.raw.changed(DELETE_WITHIN, (key,), MARK_CHANGED):
            self.newest(c)  # raises where there is no next id
            if not c.raw.changed(MARK_NEWEST, (key,), (DELETE, (key,))):
                return False
        c.written += ALONE
        self.deletions += 1
        return True

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return int(self.transact(lambda: self._delete_range(self.local.c, low, high)))

    def _delete_range(self, c: Connection, low: Stored, high: Stored) -> int:
        newest = self.newest(c)
        self.deletions += 1
        if (low, high) == (LOWEST, HIGHEST):
            count = self.rows(c, COUNT_ALL, ())[0][0]
            lowest = self.rows(c, MARKED, ())
            c.raw.changed(DELETE_ALL, (), (MARK_ALL, (newest, lowest[0][0] if lowest else b'', newest)))
        else:
            count = c.raw.changed(DELETE_RANGE, (low, high), (MARK, (newest, newest)))
        c.written += min(count * ALONE, CACHE)
        return int(count)

    def move(self, key: Stored, last: bool = True) -> bool:
        return bool(self.transact(lambda: self._move(self.local.c, key, last)))

    def _move(self, c: Connection, key: Stored, last: bool) -> bool:
        if not self.rows(c, CONTAINS, (key,))[0][0]:
            return False
        self.newest(c)  # raises where there is no next id
        self.deletions += 1
        c.raw.changed(*(MOVE_LAST, (key,), MARK_CHANGED) if last else (MARK_FIRST, (), (MOVE_FIRST, (key,))))
        c.written += ALONE
        return True

    def write_alone(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a single write does that takes several statements, as `transact`; outside a block in less time.

        As before a put, which takes one, there is no look at the file: it is looked at every so many bytes. And no task
        is asked for, as none can go on before it has ended.
        """
        c = self.local.c
        if c.depth:
            return self.transact(partial(operation, c, *arguments))
        blocks.make_room()
        try:
            c.depth, c.row, c.begun, c.changes, c.thread = 1, TOGETHER, c.written, c.raw.total_changes, get_ident()
            self.run(c, BEGIN)
            result = operation(c, *arguments)
            c.execute(COMMIT)
            c.depth, c.row = 0, ALONE
            self.ended()
        except BaseException as error:
            if isinstance(error, driver.Error) or is_too_big(error):
                raise self._undone(error, self._undo, c, 0) from error
            self._undo(c, 0)
            raise
        self._settle(c)
        return result
