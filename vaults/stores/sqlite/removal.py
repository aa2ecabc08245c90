"""Removal: what takes entries out of the order or gives them another place, and keeps the count. Knows no values.

The trap: to delete or move an entry takes two statements, of which the second one writes the marker, see schema.py. A
signal handler may put and delete between the two: then the entries are counted anew.
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
    DELETE_QUICKLY,
    DELETE_RANGE,
    HAS_CHUNKS,
    MARK,
    MARK_ALL,
    MARK_FIRST,
    MARK_NEWEST,
    MARK_ONE,
    MARKED,
    MOVE_FIRST,
    MOVE_LAST,
    RECOUNT,
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
        before = c.raw.total_changes
        if c.raw.changed(DELETE_QUICKLY, (key,)):
            c.execute(MARK_ONE)  # leaves a page of the index alone
            self._count_anew_if_disturbed(c, before)
        elif not self._delete_any(c, key, before):
            return False
        c.written += ALONE
        self.deletions += 1
        return True

    def _delete_any(self, c: Connection, key: Stored, before: int) -> bool:
        """Delete an entry that may be the newest, have chunks, be damaged or not be there."""
        rows = self.rows(c, DELETE, (key,))
        if rows:
            (deleted, crc), = rows
            if self.newest(c) < deleted:
                c.execute(MARK_NEWEST, (deleted,) * 3)
            else:
                c.execute(MARK_ONE)
            if type(crc) is int and crc < HAS_CHUNKS:  # else the chunks are changes as well, or the row is damaged
                self._count_anew_if_disturbed(c, before)
        return bool(rows)

    def _count_anew_if_disturbed(self, c: Connection, before: int) -> None:
        """Count the entries where a signal handler came between the two statements of a call, and took or gave ids."""
        if c.raw.total_changes > before + 2:
            c.execute(RECOUNT)

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return int(self.transact(lambda: self._delete_range(self.local.c, low, high)))

    def _delete_range(self, c: Connection, low: Stored, high: Stored) -> int:
        newest = self.newest(c)
        self.deletions += 1
        if (low, high) == (LOWEST, HIGHEST):
            count = self.rows(c, COUNT_ALL, ())[0][0]
            lowest = self.rows(c, MARKED, ())
            c.execute(DELETE_ALL)
            c.execute(MARK_ALL, (newest, lowest[0][0] if lowest else b'', newest))
        else:
            count = c.raw.changed(DELETE_RANGE, (low, high))
            c.execute(MARK, (count, newest, newest))
        c.written += min(count * ALONE, CACHE)
        return int(count)

    def move(self, key: Stored, last: bool = True) -> bool:
        return bool(self.transact(lambda: self._move(self.local.c, key, last)))

    def _move(self, c: Connection, key: Stored, last: bool) -> bool:
        if not self.rows(c, CONTAINS, (key,))[0][0]:
            return False
        self.newest(c)  # raises where there is no next id
        self.deletions += 1
        before = c.raw.total_changes
        if not last:
            c.execute(MARK_FIRST)
        moved = c.raw.changed(MOVE_LAST if last else MOVE_FIRST, (key,))
        if last and moved:
            c.execute(MARK_ONE)
        self._count_anew_if_disturbed(c, before)
        c.written += ALONE
        return bool(moved)

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
