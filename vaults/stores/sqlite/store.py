"""The SQLite store: entries in one file, by the words of schema.py. Knows neither Python values nor what keys mean.

docs/format.md describes the file. Each thread has a connection of its own, which closes when the thread ends or the
store does. Nothing here reads the file but SQLite (guard.py says why).
"""
from __future__ import annotations

import os
from array import array
from itertools import chain
from time import monotonic
from zlib import crc32

from ... import log
from ...errors import (
    VaultClosedError,
    VaultCorruptError,
    VaultError,
)
from ...keys import HIGHEST, LOWEST, SIGN, named
from . import driver
from . import scan as scanning
from .checkpoint import TICK, Checkpointer, is_due
from .checkpoint import has_wal_reset_race as has_wal_reset_race
from .connection import ALONE, TOGETHER, Broken, Connection, File, Local
from .failures import is_failed_sync, is_locked, lacks_parts
from .fork import open_stores, own
from .retry import once_more
from .schema import (
    BOOL,
    CACHE,
    CONTAINS,
    COUNT,
    COUNT_ALL,
    COUNT_RANGE,
    COUNT_SOME,
    CREATE_PARTS,
    DATA_VERSION,
    DELETE,
    DELETE_ALL,
    DELETE_PART,
    DELETE_PARTS,
    DELETE_RANGE,
    GET,
    GET_BOTH,
    GET_PART,
    MARK,
    MARK_ALL,
    MARK_DELETED,
    MARK_FIRST,
    MARK_NEWEST,
    MARK_ONE,
    MARKED,
    MOVE_FIRST,
    MOVE_LAST,
    NEWEST,
    NUMBERS,
    OF_BYTES,
    OF_TEXT,
    OWNERS,
    PARTED,
    PUT,
    PUT_PART,
    RECOUNT,
    SIZE,
    checksum,
    entry_crc,
    part_crc,
)
from .transactions import Transactional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import (
        Any,
        Callable,
        ContextManager,
        Dict,
        Iterable,
        Iterator,
        List,
        NoReturn,
        Optional,
        Sequence,
        Tuple,
    )

    from ...keys import Stored
    from ..base import Entry, Progress


FEW = 1 << 24           # entries that there may well be; of more than that, the size of the file has to be enough
SMALLEST = 8            # bytes of an entry

FOREVER = float('inf')


class SQLiteStore(Transactional):
    """Entries in one SQLite file. Safe in any thread, in any number of processes, and over forks."""

    local_class: Any = Local
    lock: Any = None  # what writers queue on, where they do: see locking.py

    def __init__(self, file: File) -> None:
        self.file = file
        self._local = self.local_class(file)
        self._checkpointer = Checkpointer()
        self._notice_from = 0.0  # seconds, on the monotonic clock

    # --- reading and writing ---

    def get(self, key: Stored) -> Optional[bytes]:
        c = self._local.c  # held while it works: close() in another thread lets go of it
        try:
            row = c.execute(GET, (key,)).get
            while row is None:
                row = c.execute(GET, (key,)).get
        except driver.Error as error:
            row = once_more(self, error, GET, (key,), key)[0]
        data, crc = row
        if data is None and crc is None:
            return None
        try:
            found = crc32(data, crc32(key.encode(), OF_TEXT) if type(key) is str else
                          crc32(key, OF_BYTES))  # type: ignore[arg-type]  # a number raises TypeError
            if crc == found or crc == found | PARTED:
                return data  # type: ignore[no-any-return]
        except TypeError:
            pass  # another kind of key, or a damaged row: as below
        self._intact(key, data, crc)
        return data  # type: ignore[no-any-return]

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        size = self._page(self._local.c, SIZE, (key,))[0][0] or 0
        return (size, None) if not 0 < size <= most else super().glance(key, most)

    def contains(self, key: Stored) -> bool:
        c = self._local.c
        try:
            row = c.execute(CONTAINS, (key,)).get
            while row is None:
                row = c.execute(CONTAINS, (key,)).get
            return bool(row[0])
        except driver.Error as error:
            return bool(once_more(self, error, CONTAINS, (key,), key)[0][0])

    def put(self, key: Stored, data: bytes, flag: int = 0) -> None:
        crc = crc32(data, crc32(key.encode(), OF_TEXT)) if type(key) is str else entry_crc(key, data)  # see checksum
        c = self._local.c
        try:
            c.execute(PUT, (key, data, crc | flag))
        except (driver.Error, OverflowError) as error:
            once_more(self, error, PUT, (key, data, crc | flag), key)
        c.written += c.row + len(data)
        if c.written > c.due:
            self._look(c)

    def put_many(self, pairs: Iterable[Entry]) -> int:
        c = self._local.c
        return int(self.transact(lambda: c.raw.many(PUT, _counted(c, pairs))))

    def delete(self, key: Stored) -> bool:
        return bool(self.transact(lambda: self._delete(self._local.c, key)))

    def _delete(self, c: Connection, key: Stored) -> bool:
        before = c.raw.total_changes
        rows = self._page(c, DELETE, (key,))
        if rows:
            (deleted, crc), = rows
            if self._newest(c) < deleted:
                c.execute(MARK_NEWEST, (deleted,) * 3)
            else:
                c.execute(MARK_DELETED, (deleted,))  # leaves a page of the index alone
            if type(crc) is int and crc < PARTED:  # else the parts are changes as well, or the row is damaged
                self._count_anew_if_disturbed(c, before)
            c.written += ALONE
            self.deletions += 1
        return bool(rows)

    def _count_anew_if_disturbed(self, c: Connection, before: int) -> None:
        """Count the entries where a signal handler came between the two statements of a call, and took or gave ids."""
        if c.raw.total_changes > before + 2:
            c.execute(RECOUNT)

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return int(self.transact(lambda: self._delete_range(self._local.c, low, high)))

    def _delete_range(self, c: Connection, low: Stored, high: Stored) -> int:
        newest = self._newest(c)
        self.deletions += 1
        if (low, high) == (LOWEST, HIGHEST):
            count = self._page(c, COUNT_ALL, ())[0][0]
            lowest = self._page(c, MARKED, ())
            c.execute(DELETE_ALL)
            c.execute(MARK_ALL, (newest, lowest[0][0] if lowest else b'', newest))
        else:
            count = c.raw.changed(DELETE_RANGE, (low, high))
            c.execute(MARK, (count, newest, newest))
        c.written += min(count * ALONE, CACHE)
        return int(count)

    def move(self, key: Stored, last: bool = True) -> bool:
        return bool(self.transact(lambda: self._move(self._local.c, key, last)))

    def _move(self, c: Connection, key: Stored, last: bool) -> bool:
        if not self._page(c, CONTAINS, (key,))[0][0]:
            return False
        self._newest(c)  # raises where there is no next id
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

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return self._asked_count(*((COUNT, ()) if (low, high) == (LOWEST, HIGHEST) else (COUNT_RANGE, (low, high))))

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        if (low, high) == (LOWEST, HIGHEST):
            return min(self.count(), most)
        return self._asked_count(COUNT_SOME, (low, high, most))

    def _asked_count(self, sql: str, arguments: Tuple[Any, ...]) -> int:
        c = self._local.c
        try:
            row, = self._page(c, sql, arguments)
        except driver.Error as error:
            raise self._failed(error) from error
        count = row[0]
        if type(count) is not int or count < 0 or (count > FEW and count > self._bytes(c) // SMALLEST):
            raise VaultCorruptError(f'the count of entries is damaged: vault {self.file.path}; compact() counts anew')
        return count

    def _bytes(self, c: Connection) -> int:
        pages, size = self._page(c, 'PRAGMA page_count', ())[0][0], self._page(c, 'PRAGMA page_size', ())[0][0]
        return int(pages * size)

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Any]:
        return scanning.scan(self, low, high, by_key, reverse, values)

    def _ids(self, c: Connection, sql: str, arguments: Tuple[Any, ...]) -> array[int]:
        """Return the ids that a statement finds."""
        return array('q', chain.from_iterable(c.raw.execute(sql, arguments)))

    def _newest(self, c: Connection) -> int:
        newest = self._page(c, NEWEST, ())[0][0]
        if newest is None or newest >= SIGN - 1:
            raise VaultCorruptError(f'the ids of the entries are damaged: vault {self.file.path}; restore a backup, '
                                    'or `vaults recover` what can be read')
        return int(newest)

    def _not_undone(self, c: Connection, began: Optional[int]) -> None:
        if began is not None and c.epoch != began:
            raise VaultError(f'the transaction this walk began in was rolled back: vault {self.file.path}; '
                             'begin a new one')

    def _state(self, c: Connection) -> Tuple[int, int]:
        """Return what is the same later when nobody has written meanwhile."""
        return self._page(c, DATA_VERSION, ())[0][0], c.raw.total_changes

    def others_wrote(self) -> bool:
        c = self._local.c
        try:
            version = self._page(c, DATA_VERSION, ())[0][0]
        except driver.Error as error:
            raise self._failed(error) from error
        changed = bool(c.version != version)
        c.version = version
        return changed

    def _page(self, c: Connection, sql: str, arguments: Tuple[Any, ...]) -> List[Any]:
        """Return the rows, by a cursor of their own, which nobody else uses meanwhile."""
        if c.lost:
            c.execute(sql)  # raises
        try:
            rows: List[Any] = c.raw.execute(sql, arguments).fetchall()
        except driver.Error as error:
            if not is_locked(error):
                raise
            rows = once_more(self, error, sql, arguments)
        return rows

    def _intact(self, key: Stored, data: bytes, crc: int) -> Stored:
        """Return the key in the form it was put, when it and the value are what was written."""
        try:
            expected = checksum(key, data)
        except TypeError:
            expected = None  # a damaged row may hold any type
        if crc == expected is not None:
            return key
        if expected is not None and crc == expected | PARTED:
            return key
        if expected is not None and crc in (expected | BOOL, expected | BOOL | PARTED) and key in (0, 1):
            return bool(key)
        raise VaultCorruptError(f'the entry of key {named(key)} is damaged: its checksum does not hold; vault '
                                f'{self.file.path}; run check(), and restore the entry from a backup, or '
                                '`vaults recover` the others')

    # --- parts ---

    def get_part(self, owner: bytes, number: int) -> Optional[bytes]:
        c = self._local.c
        try:
            rows = self._page(c, GET_PART, (owner, number))
        except driver.Error as error:
            if lacks_parts(error):
                return None
            raise self._failed(error) from error
        return self._whole(owner, number, *rows[0]) if rows else None

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        c = self._local.c
        try:
            rows = self._page(c, GET_BOTH, (owner, number, key))
        except driver.Error as error:
            if lacks_parts(error):
                return self.get(key), None
            raise self._failed(error, key) from error
        if not rows:
            return None, None
        data, crc, part, part_crc = rows[0]
        self._intact(key, data, crc)
        return data, None if part_crc is None else self._whole(owner, number, part, part_crc)

    def _whole(self, owner: bytes, number: int, data: bytes, crc: int) -> bytes:
        """Return a part when it is what was written."""
        if type(data) is bytes and crc == part_crc(owner, number, data):
            return data
        raise VaultCorruptError(f'part {number} of {owner.hex()} is damaged: its checksum does not hold; vault '
                                f'{self.file.path}; run check(), and restore the entry from a backup, or '
                                '`vaults recover` the others')

    def put_parts(self, owner: bytes, parts: Iterable[Tuple[int, bytes]]) -> None:
        c = self._local.c
        self.transact(lambda: self._with_parts(c, lambda: c.raw.many(PUT_PART, _part_rows(c, owner, parts))))

    def delete_parts(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        c = self._local.c
        self.transact(lambda: self._with_parts(c, lambda: c.execute(DELETE_PARTS, (owner,)) if numbers is None else
                                               c.raw.many(DELETE_PART, ((owner, one) for one in numbers))))

    def _with_parts(self, c: Connection, operation: Callable[[], Any]) -> None:
        """Do it where the table is; it is made when the first part is put."""
        try:
            operation()
        except driver.Error as error:
            if not lacks_parts(error):
                raise
            for statement in CREATE_PARTS:
                c.execute(statement)
            operation()

    def part_numbers(self, owner: bytes) -> Iterator[int]:
        return self._listed_parts(NUMBERS, (owner,))

    def part_owners(self) -> Iterator[bytes]:
        return self._listed_parts(OWNERS, ())

    def _listed_parts(self, sql: str, arguments: Tuple[Any, ...]) -> Iterator[Any]:
        c = self._local.c
        try:
            rows = self._page(c, sql, arguments)
        except driver.Error as error:
            if lacks_parts(error):
                return iter(())
            raise self._failed(error) from error
        return chain.from_iterable(rows)

    def put_owner(self, key: Stored, data: bytes) -> None:
        self.put(key, data, PARTED)

    def _run(self, c: Connection, sql: str) -> None:
        """Run a statement that takes the write lock."""
        try:
            c.execute(sql)
        except driver.Error as error:
            once_more(self, error, sql)

    def _failed(self, error: BaseException, key: Optional[Stored] = None) -> VaultError:
        """Explain an error of SQLite's. Where it rolled the whole transaction back, the rest of the block must fail."""
        problem = self.file.explain(error, key)
        c = self._local.c
        if c.depth and not c.raw.in_transaction and not c.lost:
            def refuse(*_: Any) -> NoReturn:
                raise type(problem)(f'an earlier error undid the transaction, leave the block: {problem}') from problem
            c.lost, c.execute = problem, refuse
        return problem

    # --- looking after the file ---

    def _look(self, c: Connection) -> None:
        """Every so many bytes: is the file still the one that was opened, and is it time for a checkpoint?"""
        c.due = c.written + TICK
        self.file.require_same()
        if not c.depth and is_due(c, self.file.path):
            c.checkpointed = c.written
            self._checkpoint(c)

    def _notice(self) -> None:
        """Say in the log that what is read is not in the file any more. Who reads may want to save it.

        Says it once, and looks once a second: on some systems a look takes a third of the time of a read.
        """
        if monotonic() > self._notice_from:
            self._notice_from = monotonic() + 1
            if not self.file.is_gone():
                return
            self._notice_from = FOREVER
            log.get_logger().warning('what is read is what was there before: %s', self.file.gone())

    def _checkpoint(self, c: Connection) -> None:
        """Move the log. Raises nothing, because the write that it was time for has been done.

        Goes on when it can be tried again. A failed fsync cannot: the kernel may have dropped the pages. Then the next
        call raises.
        """
        try:
            self._checkpointer.move_log(self, c)
        except (driver.Error, VaultError) as error:
            if is_failed_sync(error):
                log.get_logger().error('%s', self._break(error))
            else:
                log.get_logger().warning('checkpoint of %s put off: %s', self.file.path, error)

    def _break(self, error: BaseException) -> VaultError:
        """Let nobody use the store any more; return the error that says so."""
        problem = self.file.explain(error)
        said = f'the vault must be opened again, after an error of the disk: {problem}'
        self._local = Broken(type(problem), said)
        return type(problem)(said)

    def _outside(self, verb: str) -> Connection:
        c: Connection = self._local.c
        if c.depth:
            raise VaultError(f'{verb}() cannot run inside a transaction: leave the block first; vault {self.file.path}')
        return c

    def sync(self) -> None:
        """Commit once more with an fsync, which covers all that the log holds so far."""
        from . import upkeep
        upkeep.sync(self)

    def compact(self, progress: Progress = None) -> None:
        from . import upkeep
        upkeep.compact(self, progress)

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        from . import upkeep
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

    def describe(self) -> Dict[str, object]:
        from .whole import describe
        return describe(self)

    def interruptible(self, interrupted: Callable[[], bool]) -> ContextManager[object]:
        from .whole import Interruptible
        return Interruptible(self._local.c.raw, interrupted)

    def require_own(self) -> None:
        if self.file.is_gone() and os.path.exists(self.file.path) and os.path.getsize(self.file.path):
            raise self.file.gone()

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
        self._local = Broken(VaultClosedError, f'the vault at {self.file.path} is closed: open it again')
        if c is not None and not c.depth:
            c.close()


def _counted(c: Connection, pairs: Iterable[Entry]) -> Iterator[Tuple[Stored, bytes, int]]:
    """Yield the rows of `pairs`, and count the bytes."""
    written = 0
    for key, data in pairs:
        written += TOGETHER + len(data)
        yield key, data, (crc32(data, crc32(key.encode(), OF_TEXT)) if type(key) is str  # see checksum
                          else entry_crc(key, data))
    c.written += written  # parts may have been put in passing


def _part_rows(c: Connection, owner: bytes, parts: Iterable[Tuple[int, bytes]]) -> Iterator[Tuple[Any, ...]]:
    for number, data in parts:
        c.written += TOGETHER + len(data)
        yield owner, number, data, part_crc(owner, number, data)
