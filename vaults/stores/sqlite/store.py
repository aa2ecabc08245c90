"""The SQLite store: entries in one file, by the words of schema.py. Knows neither Python values nor what keys mean.

The trap: it takes two steps to ask for a row and to get it, and between them a signal handler or a finalizer may use
the vault, and with it the cursor. So what reads an entry always has one row, found or not, and where there is none
Python's ValueError has it asked for again; whatever takes several rows has a cursor of its own.

Each thread has a connection of its own, which closes when the thread ends or the store does.
"""
from __future__ import annotations

import os
from _thread import get_ident
from zlib import crc32

from ...errors import VaultClosedError, VaultCorruptError
from ...files import require_removable
from ...keys import HIGHEST, LOWEST
from . import driver, upkeep
from . import scan as scanning
from .batch import FEW_PUTS, LARGEST_WAITING, Batch, WaitingItems, WaitingPuts
from .connection import Broken, Connection
from .fork import open_stores, own
from .removal import Removal
from .retry import retry
from .schema import (
    ALIVE,
    CONTAINS,
    COUNT,
    COUNT_RANGE,
    COUNT_SOME,
    DATA_VERSION,
    FIND_KEYS,
    GET_KEYS,
    HAS_CHUNKS,
    OF_BYTES,
    OF_TEXT,
    OLDEST,
    PAGE_COUNT,
    PUT,
    SIZE,
    SIZE_OF_PAGE,
    entry_crc,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, ContextManager, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored
    from ...place import Entries
    from ..base import Cursor, Entry, Made, Page, Progress

FEW = 1 << 24  # entries that there may well be; of more than that, the size of the file has to be enough
SMALLEST = 8   # bytes of an entry
NEITHER = None, None


class SQLiteStore(Removal):
    """Entries in one SQLite file. Safe in any thread, in any number of processes, and over forks."""

    lock: Any = None  # what writers queue on, where they do: see locking.py
    kept: Optional[WaitingPuts] = None  # what a block has put that is not written yet

    # --- reading and writing ---

    def get(self, key: Stored) -> Optional[bytes]:
        c = self.local.c  # held while it works: close() in another thread lets go of it
        try:
            execute = c.execute  # on a line of its own: as a method's, the look-up takes four times as long
            (data, crc), = execute(self.sought, (key,))
        except driver.error_or(ValueError) as error:  # there is no row, or as in Connection.gathered
            (data, crc), = retry(self, error, self.sought, (key,), key)
        if crc is None:
            return None if data is None else self.large(c, key, data)
        try:
            found = crc32(data, crc32(key.encode(), OF_TEXT) if type(key) is str else
                          crc32(key, OF_BYTES))  # type: ignore[arg-type]  # a number raises TypeError
            if crc == found or crc == found | HAS_CHUNKS:
                return data  # type: ignore[no-any-return]
        except TypeError:
            pass  # another kind of key, or a damaged row: as below
        self.intact(key, data, crc)
        return data  # type: ignore[no-any-return]

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        size = self.rows(self.local.c, SIZE, (key,))[0][0] or 0
        return (size, None) if not 0 < size <= most else super().glance(key, most)

    def contains(self, key: Stored) -> bool:
        c = self.local.c
        try:
            (found,), = c.execute(CONTAINS, (key,))
        except driver.error_or(ValueError) as error:
            (found,), = retry(self, error, CONTAINS, (key,), key)
        return found == 1  # type: ignore[no-any-return]  # a row is Any

    def get_many(self, keys: Sequence[Stored]) -> Iterator[Optional[bytes]]:
        for some, rows in self._found(GET_KEYS, keys):
            if rows is None:
                yield from map(self.get, some)  # which says what is wrong, and with which key
                continue
            there = {number: (data, crc) for number, data, crc in rows}
            for number, key in enumerate(some):
                data, crc = there.get(number, NEITHER)
                if type(data) is bytes and type(key) is str:
                    right = crc32(data, crc32(key.encode(), OF_TEXT))
                    if crc != right and crc != right | HAS_CHUNKS:
                        self.intact(key, data, crc)
                elif data is not None:
                    self.intact(key, data, crc)
                elif crc is not None:
                    data = self.get(key)
                yield data

    def contains_many(self, keys: Sequence[Stored]) -> Iterator[bool]:
        for some, rows in self._found(FIND_KEYS, keys):
            if rows is None:
                yield from map(self.contains, some)
                continue
            there = {number for number, in rows}
            yield from (number in there for number in range(len(some)))

    def _found(self, sqls: Dict[int, str], keys: Sequence[Stored],
               ) -> Iterator[Tuple[Sequence[Stored], Optional[List[Any]]]]:
        """Yield some of the keys at a time with the rows of those that are there; None where SQLite raised an error."""
        most = max(sqls)
        for start in range(0, len(keys), most):
            some = keys[start:start + most]
            size = next(size for size in sqls if size >= len(some))
            rows: Optional[List[Any]] = None
            try:
                rows = self.rows(self.local.c, sqls[size], (*some, *[None] * (size - len(some))))
            except driver.Error as error:
                self.failed(error)  # has the rest of a block fail that this undid; what it means is told of each key
            yield some, rows

    def cached(self, size: int) -> Entries:
        from .cache import ReadCache  # here: few vaults are read so
        return ReadCache(self, size)

    def put(self, key: Stored, data: bytes, flag: int = 0) -> None:
        kept = self.kept
        if kept is not None and kept.thread == get_ident() and not flag and len(data) <= LARGEST_WAITING:
            kept.add(key, data)
            return
        crc = crc32(data, crc32(key.encode(), OF_TEXT)) if type(key) is str else entry_crc(key, data)  # see checksum
        c, size = self.local.c, len(data)
        try:
            c.execute(PUT, (key, bytearray(data) if size < c.copied else data, crc | flag))
        except driver.error_or(OverflowError) as error:
            retry(self, error, PUT, (key, data, crc | flag), key)
        c.written += c.row + size
        if c.written > c.due:
            self._look(c)
        if c.depth:
            c.puts += 1
            if c.puts > FEW_PUTS and self._may_keep(c):
                WaitingPuts(self, c.depth).begun(c)

    def put_owner(self, key: Stored, data: bytes) -> None:
        self.put(key, data, HAS_CHUNKS)

    def put_many(self, pairs: Iterable[Entry]) -> int:
        return int(self.once(lambda: Batch(self, self.local.c).put(pairs)))

    def waiting(self, key: Stored, known: bytes, making: Callable[[], Optional[Made]], size: int, many: int,
                ) -> Optional[WaitingItems]:
        c = self.local.c
        made = making() if c.depth and self._may_keep(c) else None
        return made and WaitingItems(self, c.depth, key, known, made, size, many).begun(c)

    def _may_keep(self, c: Connection) -> bool:
        """Tell whether what a block writes may be kept back: it is this thread's, and nobody else's."""
        return not (c.changing or c.blocks[c.depth - 1] is None or c.thread != get_ident() or c.owner is not None
                    or c.undone)

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return self._asked_count(*((COUNT, ()) if (low, high) == (LOWEST, HIGHEST) else (COUNT_RANGE, (low, high))))

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        if (low, high) == (LOWEST, HIGHEST):
            return min(self.count(), most)
        return self._asked_count(COUNT_SOME, (low, high, most))

    def _asked_count(self, sql: str, arguments: Tuple[Any, ...]) -> int:
        c = self.local.c
        try:
            row, = self.rows(c, sql, arguments)
        except driver.Error as error:
            raise self.failed(error) from error
        count = row[0]
        if type(count) is not int or count < 0 or (count > FEW and count > self._bytes(c) // SMALLEST):
            raise VaultCorruptError(f'the count of entries is damaged: vault {self.file.path}; compact() counts anew')
        return count

    def _bytes(self, c: Connection) -> int:
        pages, size = self.rows(c, PAGE_COUNT, ())[0][0], self.rows(c, SIZE_OF_PAGE, ())[0][0]
        return int(pages * size)

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        return scanning.scan(self, low, high, by_key, reverse, values)

    def page(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True, cursor: Optional[Cursor] = None) -> Tuple[Page, Optional[Cursor]]:
        oldest, newest, last, key = self.ends(cursor)
        at = None if last is None or key is None else (oldest, newest, last, key)
        return self.gathered(scanning.scan(self, low, high, by_key, reverse, values, at), oldest, newest)

    def span(self) -> Tuple[int, int]:
        c = self.local.c
        try:
            return self.rows(c, OLDEST, ())[0][0], self.newest(c)
        except driver.Error as error:
            raise self.failed(error) from error

    def alive(self, key: Stored, id: int) -> bool:
        try:
            return bool(self.rows(self.local.c, ALIVE, (id, key)))
        except driver.Error as error:
            raise self.failed(error, key) from error

    def others_wrote(self) -> bool:
        c = self.local.c
        try:
            version = self.rows(c, DATA_VERSION, ())[0][0]
        except driver.Error as error:
            raise self.failed(error) from error
        changed = bool(c.version != version)
        c.version = version
        return changed

    def sync(self) -> None:
        """Commit once more with an fsync, which covers all that the log holds so far."""
        upkeep.sync(self)

    def compact(self, progress: Progress = None) -> None:
        upkeep.compact(self, progress)

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        return upkeep.check(self, examine, progress)

    def backup(self, path: str, progress: Progress = None) -> None:
        from . import backup
        backup.backup(self, path, progress)

    def destroy(self) -> None:
        from .whole import destroy  # here, as all that most programs do without
        destroy(self)

    @property
    def files(self) -> Sequence[str]:
        from .whole import files
        return files(self.file.path)

    @property
    def sources(self) -> Sequence[str]:
        from .whole import sources
        return sources(self.file.path)

    def describe(self) -> Dict[str, object]:
        from .whole import describe
        return describe(self)

    def interruptible(self, interrupted: Callable[[], bool]) -> ContextManager[object]:
        from .whole import Interruptible
        return Interruptible(self.local.c.raw, interrupted)

    def require_own(self) -> None:
        if self.file.is_gone() and os.path.exists(self.file.path) and os.path.getsize(self.file.path):
            raise self.file.gone()
        for path in self.files[:1]:
            require_removable(path)

    def refuse_others(self) -> None:
        c = own(self)
        if c is not None and c.owner is not None and not c.owner.is_left():
            c.owner.require()

    def close(self) -> None:
        """Close this thread's connection, unless a block of it is open, and let go of the others.

        A connection that nobody holds closes itself; one that a call is using does so when the call ends.
        """
        open_stores.discard(self)
        c = own(self)
        self.deletions += 1  # a walk looks again, and finds it closed
        self._checkpointer.connection = None
        self.local = Broken(VaultClosedError, f'the vault at {self.file.path} is closed: open it again')
        if c is not None and not c.depth:
            c.close()
