"""The SQLite store: entries in one file, by the words of schema.py. Knows neither Python values nor what keys mean.

docs/format.md describes the file. Each thread has a connection of its own, which closes when the thread ends or the
store does. Nothing here reads the file but SQLite (guard.py says why).
"""
from __future__ import annotations

import os
import sys
import threading
from _thread import get_ident
from array import array
from itertools import chain, repeat
from operator import itemgetter
from time import monotonic, sleep
from zlib import crc32

from ... import log
from ...errors import (
    VaultBusyError,
    VaultClosedError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultNotFoundError,
    VaultReadOnlyError,
)
from ...keys import HIGHEST, LOWEST, SIGN, all_text, named
from ..base import MEMORY
from ..tasks import free, is_alive
from . import driver, guard
from .checkpoint import ALONE, CHECKPOINT, LONG, PAUSE, TICK, TOGETHER, TRIES
from .checkpoint import has_wal_reset_race as has_wal_reset_race
from .connection import Broken, Connection, File, Local, Shared
from .failures import is_failed_sync, is_locked, lacks_parts
from .fork import open_stores, own
from .schema import (
    ABOUT_SOME,
    ALIVE,
    APPLICATION_ID,
    BEGIN,
    BETWEEN,
    BOOL,
    CACHE,
    COMMIT,
    CONTAINS,
    COUNT,
    COUNT_ALL,
    COUNT_RANGE,
    COUNT_SOME,
    CREATE,
    CREATE_MARKER,
    CREATE_PARTS,
    DATA_VERSION,
    DELETE,
    DELETE_ALL,
    DELETE_PART,
    DELETE_PARTS,
    DELETE_RANGE,
    ENDS,
    ENDS_WITHIN,
    FORMAT,
    GET,
    GET_BOTH,
    GET_PART,
    IDS,
    IDS_BETWEEN,
    KNOWN,
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
    NO_BUSY_HANDLER,
    NUMBERS,
    OF_BYTES,
    OF_TEXT,
    OLDEST,
    OWNERS,
    PAGE_SIZE,
    PARTED,
    PUT,
    PUT_PART,
    RECOUNT,
    ROLLBACK,
    SCAN,
    SCHEMA,
    SIZE,
    SOME_IDS,
    checksum,
    normalized,
)
from .snapshot import Snapshot as _Snapshot  # noqa: F401  # the tests look for it here
from .snapshot import reading
from .transactions import Transactional, make_room

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

OLDEST_SQLITE = (3, 35, 0)  # the first with RETURNING

FEW = 1 << 24           # entries that there may well be; of more than that, the size of the file has to be enough
SMALLEST = 8            # bytes of an entry
FIRST_PAGE, LAST_PAGE, PAGE_BYTES = 32, 1024, 1 << 20  # entries in a walk's first page, and at most
SMALL_BYTES = 8192      # in a walk's first page: half of it for a value, which is on one of SQLite's pages then
NEAR, FURTHER = 64, 8   # places in the order that a walk over a range looks at first; how many times as many then, and
                        # how many entries of the range are counted in the same time

FOREVER = float('inf')
SHORTEST, LONGEST = 0.0005, 0.01  # seconds between two tries


class SQLiteStore(Transactional):
    """Entries in one SQLite file. Safe in any thread, in any number of processes, and over forks."""

    local_class: Any = Local
    lock: Any = None  # what writers queue on, where they do: see QueuedStore

    def __init__(self, file: File) -> None:
        self.file = file
        self._local = self.local_class(file)
        self._checkpointer: Optional[Connection] = None
        self._checkpointing = threading.Lock()
        self._patient_from = 0.0  # seconds, on the monotonic clock
        self._notice_from = 0.0   # seconds, as above

    # --- reading and writing ---

    def get(self, key: Stored) -> Optional[bytes]:
        c = self._local.c  # held while it works: close() in another thread lets go of it
        try:
            row = c.execute(GET, (key,)).get
            while row is None:
                row = c.execute(GET, (key,)).get
        except driver.Error as error:
            row = self._once_more(error, GET, (key,), key)
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
            return bool(self._once_more(error, CONTAINS, (key,), key)[0])

    def put(self, key: Stored, data: bytes, flag: int = 0) -> None:
        crc = (crc32(data, crc32(key.encode(), OF_TEXT)) if type(key) is str
               else checksum(key, data) | (BOOL if type(key) is bool else 0))
        c = self._local.c
        try:
            c.execute(PUT, (key, data, crc | flag))
        except (driver.Error, OverflowError) as error:
            self._once_more(error, PUT, (key, data, crc | flag), key)
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
        self._notice()
        if not by_key and (low, high) != (LOWEST, HIGHEST):
            yield from self._scan_within(low, high, reverse, values)
            return
        sql, pace, walked, more = SCAN[by_key][reverse][values], _Pace(values), 0, True
        try:
            c = self._local.c
            state = self._state(c)
            newest = self._newest(c)
            began = c.epoch if c.depth else None
            first: Any = low if by_key else newest + 1 if reverse else -SIGN
            last: Any = high if by_key else self._page(c, OLDEST, ())[0][0] if reverse else newest
            while more:
                c = self._local.c
                self._not_undone(c, began)
                rows = self._page(c, sql, (*pace.limits, first, last, *((newest,) if by_key else ()), pace.size))
                more = len(rows) == pace.size
                pages, left = self._pages(rows, pace, more)
                more = more or left is not None
                if rows:
                    self._advanced(rows, by_key, reverse, first)
                    first, last = _behind(rows[-1], first, last, by_key, reverse)
                    sql = SCAN[2 * by_key][reverse][values]
                    walked += len(rows)
                    del rows
                    yield pages.pop()
            self._complete(walked, low, high, by_key, state)
        except driver.Error as error:
            raise self._failed(error) from error

    def _scan_within(self, low: Stored, high: Stored, reverse: bool, values: bool) -> Iterator[Any]:
        """Scan a range by insertion."""
        pace = _Pace(values)
        try:
            c = self._local.c
            began = c.epoch if c.depth else None
            for ids in self._ids_within((low, high), reverse, began):
                at = 0
                while at < len(ids):
                    c = self._local.c
                    self._not_undone(c, began)
                    wanted = ids[at:at + pace.size]
                    rows = self._between(c, BETWEEN[values], pace.limits, wanted, (low, high), reverse)
                    pages, left = self._pages(rows, pace, True)
                    at += len(wanted) if left is None else wanted.index(left)
                    if rows:
                        del rows
                        yield pages.pop()
            self._not_undone(self._local.c, began)
        except driver.Error as error:
            raise self._failed(error) from error

    def _pages(self, rows: List[Any], pace: _Pace, more: bool) -> Tuple[List[Any], Optional[int]]:
        """Return the page of rows, in a list to take it out of, and the id of the one that ends it by its size.

        Leaves in `rows` those of the page. A walk that waits holds nothing of what it has handed out.
        """
        if not rows:
            return [], None
        page = (self._verified if pace.values else self._keys_alone)(rows, pace.size > 1)
        taken = len(page[0])
        left = rows[taken][0] if taken < len(rows) else None
        del rows[taken:]
        if more or left is not None:
            pace.go_on(page[0], page[1], left is not None)
        return [page], left

    def _between(self, c: Connection, sql: str, limits: Tuple[int, ...], ids: array[int], bounds: Tuple[Any, ...],
                 reverse: bool) -> List[Any]:
        """Return the rows of these ids: at once where they lie close together, else one by one."""
        first, last = sorted((ids[0], ids[-1]))
        if last - first > 2 * len(ids):
            return [row for one in ids for row in self._page(c, sql, (*limits, one, one, *bounds))]
        rows = self._page(c, sql, (*limits, first, last, *bounds))
        return rows[::-1] if reverse else rows

    def _ids_within(self, bounds: Tuple[Stored, Stored], reverse: bool, began: Optional[int]) -> Iterator[array[int]]:
        """Yield, in runs, the ids of a range in the order of insertion, for which it has no index.

        Those of few entries are listed. The first ones of many may lie near that end of the whole order where the walk
        begins. So ever more of the order is looked at from there, as long as the range has yet more entries: else
        these are listed, 8 bytes each, as soon as that is quicker.
        """
        c = self._local.c
        span = self._page(c, OLDEST, ())[0][0], self._newest(c)  # of ids that were not looked at yet
        ids = self._ids(began, SOME_IDS, (*bounds, *span, NEAR))
        if len(ids) < NEAR:
            yield array('q', sorted(ids, reverse=reverse))
            return
        ends = self._page(c, ENDS, ())[0]  # beyond them much may have been deleted
        span = (max(span[0], ends[0]), min(span[1], ends[1])) if ends[0] is not None else (1, 0)
        near, found = NEAR, False
        while span[0] <= span[1]:
            part, span = _divided(span, near, reverse)
            ids = self._ids(began, IDS_BETWEEN, (*part, *bounds))
            found = found or bool(ids)
            yield ids[::-1] if reverse else ids
            near *= FURTHER
            if self._page(self._local.c, ABOUT_SOME, (*bounds, near * FURTHER))[0][0] < near * FURTHER:
                break
        if not found:  # who wants one entry needs no list
            self._not_undone(self._local.c, began)
            first = self._page(self._local.c, ENDS_WITHIN, (*bounds, *span))[0][reverse]
            if first is None:
                return
            yield array('q', [first])
            span = (span[0], first - 1) if reverse else (first + 1, span[1])
        if span[0] <= span[1]:
            ids = self._ids(began, IDS, (*bounds, *span))
            yield ids[::-1] if reverse else ids

    def _ids(self, began: Optional[int], sql: str, arguments: Tuple[Any, ...]) -> array[int]:
        c = self._local.c
        self._not_undone(c, began)
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

    def _advanced(self, rows: List[Any], by_key: bool, reverse: bool, first: Any) -> None:
        """Raise when a page does not lie behind the one before: the ids of a damaged file could run in circles."""
        if not by_key and ((rows[-1][0] >= first) if reverse else (rows[-1][0] <= first)):
            raise VaultCorruptError(f'the order of the entries is damaged: vault {self.file.path}; run check()')

    def _complete(self, walked: int, low: Stored, high: Stored, by_key: bool, state: Tuple[int, int]) -> None:
        """Raise when a walk, with nobody writing meanwhile, found fewer or more entries than there are."""
        c = self._local.c
        whole = (low, high) == (LOWEST, HIGHEST)
        if whole and walked != self.count() and self._state(c) == state:
            raise VaultCorruptError(f'{walked} of {self.count()} entries were found: vault {self.file.path} is '
                                    'damaged, run check()')

    def _alive(self, pairs: Iterator[Tuple[Stored, int]]) -> Callable[[Stored], bool]:
        """Return a test whether an entry of the page is still there: the same one, not a new one with its key.

        Of the page's keys and ids a dict is made when it is first asked.
        """
        ids: Dict[Stored, int] = {}

        def alive(key: Stored) -> bool:
            ids.update(pairs)
            return bool(self._page(self._local.c, ALIVE, (ids[key], key)))
        return alive

    def _keys_alone(self, rows: List[Any], may_end: bool) -> Tuple[Sequence[Stored], None, Callable[[Stored], bool]]:
        if type(rows[0][1]) is not str or not all_text(keys := list(map(itemgetter(1), rows))):
            keys = [bool(key) if flag else key for _, key, flag in rows]
            keys = keys[:_end(keys)] if may_end else keys
        return keys, None, self._alive(map(itemgetter(1, 0), rows))

    def _page(self, c: Connection, sql: str, arguments: Tuple[Any, ...]) -> List[Any]:
        """Return the rows, by a cursor of their own, which nobody else uses meanwhile."""
        if c.lost:
            c.execute(sql)  # raises
        try:
            rows: List[Any] = c.raw.execute(sql, arguments).fetchall()
        except driver.Error as error:
            if not is_locked(error):
                raise
            rows = self._once_more(error, sql, arguments, rows=True)
        return rows

    def _verified(self, rows: List[Any],
                  may_end: bool) -> Tuple[Sequence[Stored], Sequence[bytes], Callable[[Stored], bool]]:
        """Return the keys and values of rows whose checksums hold; a page at a time, in C where all keys are text."""
        ids, keys, datas, crcs = zip(*rows)
        try:
            if list(map(crc32, datas, map(crc32, map(str.encode, keys), repeat(OF_TEXT)))) == list(crcs):
                return keys, datas, self._alive(zip(keys, ids))
        except TypeError:
            pass  # other keys than text, a damaged row, or one that ends the page
        if may_end:
            end = min(_end(keys), _end(datas))
            keys, datas = keys[:end], datas[:end]
        return list(map(self._intact, keys, datas, crcs)), datas, self._alive(zip(keys, ids))

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
        if type(key) is not str or crc != crc32(data, crc32(key.encode(), OF_TEXT)) | PARTED:
            self._intact(key, data, crc)
        return data, None if part_crc is None else self._whole(owner, number, part, part_crc)

    def _whole(self, owner: bytes, number: int, data: bytes, crc: int) -> bytes:
        """Return a part when it is what was written."""
        if type(data) is bytes and crc == crc32(data, crc32(owner) ^ (number ^ number >> 32) & 0xFFFFFFFF):
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
            self._once_more(error, sql)

    def _once_more(self, error: BaseException, sql: str, arguments: Tuple[Any, ...] = (),
                   key: Optional[Stored] = None, rows: bool = False) -> Any:
        """Repeat a statement that met another's lock until it has been let in, or raise what its error means.

        Returns its first row, or all of its `rows`. SQLite's own waiting looks ever more seldom, ten times a second at
        last, so that among writers without a pause some meet no free moment in time. Here they look more often, most of
        all who has waited longest, and a Ctrl-C is heard. A rollback journal's locks are left to SQLite.
        """
        c, began, timeout = self._local.c, monotonic(), self.file.timeout
        if is_locked(error):
            self._require_another()
        while self.file.journal == 'wal' and is_locked(error) and _paused(began, timeout):
            try:
                found = c.raw.execute(sql, arguments).fetchall()
                return found if rows else next(iter(found), None)
            except driver.Error as again:
                error = again
        raise self._failed(error, key) from error

    def _require_another(self) -> None:
        """Raise when it is this thread that holds the lock, by another store, in this task or another."""
        for store in list(open_stores):
            if store is not self and store.file.identity == self.file.identity and store.file.flag != 'r':
                c = own(store)
                if c is not None and c.depth and c.raw.in_transaction:
                    who = f', in {c.owner.name()}' if c.owner else ''
                    raise VaultBusyError(f'this thread has a block open in another Vault of the same file{who}: '
                                         f'{self.file.path}; it would wait for itself: use one Vault for both, or end '
                                         'that block first')

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
        if not c.depth and (c.written - c.checkpointed > CHECKPOINT or self._log_is_long()):
            c.checkpointed = c.written
            self._checkpoint(c)

    def _log_is_long(self) -> bool:
        try:
            return os.stat(f'{self.file.path}-wal').st_size > LONG
        except FileNotFoundError:  # another journal, or a vault in memory
            return False

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
        """Move the WAL into the database while holding the write lock, without waiting for any reader.

        SQLite before 3.51.3 can lose pages when one connection resets the WAL while another checkpoints (see
        has_wal_reset_race). A reset is a write: with the lock held there is none. SQLite's
        own modes that hold it also wait for readers, and go on without it when they cannot have it; so one connection
        holds it, and a second one checkpoints in the mode that never waits.
        """
        if self.file.journal != 'wal' or not self._checkpointing.acquire(blocking=False):
            return
        try:
            checkpointer = self._checkpointer = self._checkpointer or Connection(self.file)
            self._run(c, BEGIN)
            # The block of a signal handler is nested in it: its BEGIN would fail, and undo what is here.
            c.thread, c.depth = get_ident(), 1
            self._move_log(checkpointer)
            c.execute(COMMIT)  # what a signal handler has written meanwhile, told that it was
        except (driver.Error, VaultError) as error:
            self._checkpoint_failed(error)
        finally:
            if c.raw.in_transaction:
                c.raw.execute(ROLLBACK)
            c.depth = 0
            self._checkpointing.release()

    def _move_log(self, checkpointer: Connection) -> None:
        """Checkpoint; a long log again, once a second, until who was reading is done: only then it begins anew."""
        tries = 1
        if self._log_is_long() and monotonic() > self._patient_from:
            tries, self._patient_from = TRIES, monotonic() + 1
        for left in reversed(range(tries)):
            _, frames, moved = checkpointer.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()
            if frames == moved:
                return
            if left:
                sleep(PAUSE)

    def _checkpoint_failed(self, error: Exception) -> None:
        """Go on when it can be tried again. A failed fsync cannot: the kernel may have dropped the pages.

        Raises nothing even then, because the write that it was time for has been done: the next call raises.
        """
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

    def requireown(self) -> None:
        if self.file.is_gone() and os.path.exists(self.file.path) and os.path.getsize(self.file.path):
            raise self.file.gone()

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
        self._checkpointer = None
        self._local = Broken(VaultClosedError, f'the vault at {self.file.path} is closed: open it again')
        if c is not None and not c.depth:
            c.close()


def _counted(c: Connection, pairs: Iterable[Entry]) -> Iterator[Tuple[Stored, bytes, int]]:
    """Yield the rows of `pairs`, and count the bytes."""
    written = 0
    for key, data in pairs:
        written += TOGETHER + len(data)
        yield key, data, (crc32(data, crc32(key.encode(), OF_TEXT)) if type(key) is str
                          else checksum(key, data) | (BOOL if type(key) is bool else 0))
    c.written += written  # parts may have been put in passing


def _part_rows(c: Connection, owner: bytes, parts: Iterable[Tuple[int, bytes]]) -> Iterator[Tuple[Any, ...]]:
    for number, data in parts:
        c.written += TOGETHER + len(data)
        yield owner, number, data, crc32(data, crc32(owner) ^ (number ^ number >> 32) & 0xFFFFFFFF)


def _paused(began: float, timeout: float) -> bool:
    """Sleep until the next try, shorter towards the end of the timeout; return False when it is over."""
    waited = monotonic() - began
    if waited >= timeout:
        return False
    sleep(max(SHORTEST, min(waited, LONGEST * (1 - waited / timeout))))
    return True


class _Pace:
    """How many entries the next page of a walk may hold, by the sizes met.

    A page is at most PAGE_BYTES, or one entry, whatever comes: what is longer than its share is NULL in its row, which
    SQLite knows without reading it. Such a row ends the page, and is the next one, alone. From then on pages grow
    slowly, because the rows behind it are looked at again. In the first page a share is SMALL_BYTES: an entry that is
    larger is read alone, and a vault of a few small ones is seen as it was at one moment.

    `limits` is the most characters of a key, of which each may take four bytes, and bytes of a value.
    """

    __slots__ = ('_after', '_growth', 'limits', 'size', 'values')

    def __init__(self, values: bool) -> None:
        self.values = values
        self._growth = 0    # of pages; none was read yet
        self._after = 0     # the size behind an entry that is alone
        self._set(FIRST_PAGE, SMALL_BYTES * FIRST_PAGE)

    def _set(self, size: int, most: int = PAGE_BYTES) -> None:
        self.size = size
        limits = (most // (8 * size), most // (2 * size)) if size > 1 else (SIGN - 1, SIGN - 1)
        self.limits: Tuple[int, ...] = limits if self.values else limits[:1]

    def go_on(self, keys: Sequence[Stored], datas: Optional[Sequence[bytes]], ended: bool) -> None:
        """Say which page was made, and whether a row ended it by its size."""
        if ended:
            self._after, self._growth = (max(len(keys), 1), 2) if self._growth else (0, 8)
            self._set(1)
        elif self._after:
            self._set(self._after)
            self._after = 0
        else:
            self._growth = self._growth or (8 if self.values else LAST_PAGE)
            self._set(self._grown(keys, datas))

    def _grown(self, keys: Sequence[Stored], datas: Optional[Sequence[bytes]]) -> int:
        """Return a size that leaves twice the largest that was met its share; of keys, few are looked at."""
        largest = 16 * max(map(sys.getsizeof, keys[::len(keys) // 8 + 1]))
        if datas:
            largest = max(largest, 4 * max(map(len, datas)))
        size = self.size * self._growth if self._growth == 2 else max(len(keys) * self._growth, FIRST_PAGE)
        return max(1, min(size, LAST_PAGE, PAGE_BYTES // largest))


def _end(columns: Sequence[Any]) -> int:
    """Return where the first None is, or the end."""
    return columns.index(None) if type(None) in set(map(type, columns)) else len(columns)


def _divided(span: Tuple[int, int], size: int, from_end: bool) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """Return so much of a span of ids from one of its ends, and the rest of it."""
    first, last = span
    if from_end:
        return (max(first, last - size + 1), last), (first, last - size)
    return (first, min(last, first + size - 1)), (first + size, last)


def _behind(row: Any, first: Any, last: Any, by_key: bool, reverse: bool) -> Tuple[Any, Any]:
    """Return the bounds of what is left of a scan behind a row."""
    if by_key:
        return (first, row[1]) if reverse else (row[1], last)
    return row[0], last


# --- stores that lock ---------------------------------------------------------------------------------------------

def _locked(name: str) -> Any:
    plain = getattr(SQLiteStore, name)

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        with self.lock:  # which an interrupt cannot come into, as it can after acquire()
            try:
                return plain(self, *arguments, **options)
            finally:
                if not self.lock._is_owned():  # a transaction that ended within has let everybody in
                    self.lock.acquire()
    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


class QueuedStore(SQLiteStore):
    """A store whose writers and blocks queue on an RLock, so that no thread times out waiting for another."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        self.lock = threading.RLock()

    put, compact = map(_locked, ('put', 'compact'))

    def begin(self, who: Any = None) -> None:
        make_room()
        c = self._local.c  # here: another task is not to take the lock, which is its thread's
        try:
            self.lock.acquire()
            super().begin(who)
        except BaseException:
            if not c.depth:
                self.ended()
            raise

    def _abandon(self, c: Connection, said: str) -> None:
        """Let the next writer in as well, once what the other thread has open is rolled back."""
        super()._abandon(c, said)
        free(self.lock)

    def _depth(self, c: Connection) -> int:
        """Return this thread's depth: one connection may be shared, and then the depth is that of who has the lock."""
        return c.depth if self.lock._is_owned() else 0  # every CPython has it

    def ended(self) -> None:
        """Let the next writer in, now that no block of this thread is open any more."""
        while self.lock._is_owned():  # every CPython has it
            self.lock.release()


class MemoryStore(QueuedStore):
    """A store in memory. Its one connection serves all threads, so that reading locks as well."""

    local_class = Shared
    private = True

    get, get_part, get_both, contains, count, _page, _ids = map(_locked, (
        'get', 'get_part', 'get_both', 'contains', 'count', '_page', '_ids'))
    check, backup, close = map(_locked, ('check', 'backup', 'close'))

    def _abandon(self, c: Connection, said: str) -> None:
        """End here what another thread has open, because the connection is everybody's; tell that thread once."""
        thread = c.thread
        self._undo(c, 0)
        execute = c.execute

        def told(*statement: Any) -> Any:
            if get_ident() != thread:
                return execute(*statement)
            c.execute = execute
            raise VaultError(f'what this thread has done since is undone: {said}')
        if is_alive(thread):
            c.execute = told
        free(self.lock)

    def sync(self) -> None:
        """Do nothing: there is no disk to reach."""
        with self.lock:
            self._outside('sync')


# --- opening ------------------------------------------------------------------------------------------------------

def open_store(path: str, flag: str = 'c', timeout: float = 5.0, synchronous: str = 'NORMAL',
               thread_safe: bool = False) -> SQLiteStore:
    """Open the file at `path` as `flag` says: 'r' to read, 'w' an existing one, 'c' or a new one, 'n' emptied.

    `timeout` is in seconds; `synchronous` is SQLite's word. Any number of threads and processes may open, and create,
    one file at the same moment.

    Raises: VaultNotFoundError, VaultFormatError, VaultReadOnlyError, VaultBusyError, VaultError.
    """
    if driver.VERSION_INFO < OLDEST_SQLITE:
        raise VaultError(f'vaults needs SQLite 3.35 or newer, this Python has {driver.VERSION}: '
                         'use a newer Python, or one linked to a newer SQLite')
    file = File(path, flag, timeout, synchronous)
    if path == MEMORY:
        store: SQLiteStore = MemoryStore(file)
        _create(store._local.c, file)
        file.journal = 'memory'
    else:
        try:
            empty = _is_empty(file)
            store = _opened(QueuedStore if thread_safe else SQLiteStore, file, empty)
        except (driver.Error, UnicodeError) as error:  # SQLite quotes damaged text in its message
            raise file.explain(error) from error
    open_stores.add(store)
    return store


def _is_empty(file: File) -> bool:
    """Tell whether the file is to be made a vault; raise when it is missing or something else.

    Looks at the main file alone and without a lock, so that a foreign file and its log stay untouched: `immutable`
    hides what is in the log, but what makes a file a vault is never only there.
    """
    if not os.path.exists(file.path):
        if file.flag in 'rw':
            raise VaultNotFoundError(f'there is no vault at {file.path}: check the name and where vaults are kept, or '
                                     'let it be created')
        folder = os.path.dirname(file.path)
        if not os.path.isdir(folder):
            raise VaultNotFoundError(f'there is no folder {folder} to make a vault in: make it first')
        return True
    if not os.path.isfile(file.path):
        kind = 'a folder' if os.path.isdir(file.path) else 'a pipe or the like'
        raise VaultFormatError(f'{file.path} is {kind}: a vault is a regular file')
    if file.flag != 'r' and not (os.access(file.path, os.W_OK) and os.access(os.path.dirname(file.path), os.W_OK)):
        raise VaultReadOnlyError(f"you may not write {file.path}, or not its folder: open it with flag='r' to read it")
    if not os.path.getsize(file.path):
        if file.flag != 'n':
            _require_no_log(file)
        return True
    try:
        found, version = _marks(file)
    except driver.Error:
        if not _was_being_made(file.path):
            raise
        return _patiently(lambda: _undone(file), file.timeout) or _is_empty(file)
    if found != APPLICATION_ID:
        raise VaultFormatError(f'the file is not a vault but some other SQLite database: {file.path}; it was left as '
                               'it was, give another name or path')
    if version != FORMAT:
        raise VaultFormatError(f'the vault at {file.path} has format {version}, this version reads {FORMAT}: '
                               'install a newer vaults')
    return _was_being_made(file.path) and bool(_patiently(lambda: _undone(file), file.timeout))


def _marks(file: File) -> Tuple[int, int]:
    """Return the application_id and the user_version."""
    raw = file.connect('immutable=1&mode=ro')
    try:
        raw.execute('PRAGMA writable_schema = ON')  # or a file that a checkpoint is just extending counts as damaged
        (application,), = raw.execute('PRAGMA application_id').fetchall()
        (version,), = raw.execute('PRAGMA user_version').fetchall()
        return application, version
    finally:
        raw.close()


def _was_being_made(path: str) -> bool:
    """Tell whether there is the journal of a file's first transaction, beside which the file holds anything.

    The journal says how many pages the file had (https://www.sqlite.org/fileformat.html#the_rollback_journal).
    """
    try:
        with open(f'{path}-journal', 'rb') as journal:  # SQLite has no lock on it that closing could drop
            return journal.read(20)[16:] == bytes(4)
    except OSError:
        return False


def _undone(file: File) -> bool:
    """Have SQLite wait for who is making the file, or undo what a power cut has left; tell whether it is empty then."""
    raw = file.connect()
    try:
        return raw.execute('PRAGMA page_count').fetchall() == [(0,)]
    finally:
        raw.close()


def _require_no_log(file: File) -> None:
    """Raise when an empty file has a log: it was cut off, and SQLite would delete the log as that of an older file."""
    log_path = f'{file.path}-wal'
    has_log = os.path.exists(log_path) and os.path.getsize(log_path)
    if has_log and not os.path.getsize(file.path):  # asked again: somebody may just have made the vault
        raise VaultCorruptError(f'the file is empty but its log is not: {file.path}; restore a backup, or `vaults '
                                'recover` what can be read')


def _opened(cls: Any, file: File, empty: bool) -> SQLiteStore:
    if file.flag == 'r':
        if empty:
            raise VaultFormatError(f"the file is empty, not a vault: {file.path}; open it without flag='r' first")
        file.journal = reading(file)
    store: SQLiteStore = cls(file)
    c = store._local.c
    if file.journal is None:
        c.execute(NO_BUSY_HANDLER)
        if empty:
            _patiently(lambda: _create(c, file), file.timeout)
    _patiently(lambda: _require_schema(c, file), file.timeout)
    if file.journal is None:
        file.journal = _patiently(lambda: _choose_journal(c, file), file.timeout)
        if file.journal != 'wal':
            c.execute(f'PRAGMA busy_timeout = {int(file.timeout * 1000)}')
    if file.journal == 'immutable':
        return store
    file.mode = 'mode=rw'  # a connection made later must not make a file anew
    file.identity = file.stat()
    if file.journal == 'wal' and not c.guard:
        c.shield(file)
    if file.flag == 'n':
        store.delete_range()
    return store


def is_open_here(path: str) -> bool:
    """Tell whether this process has the file open: then nothing here may open and close it (guard.py says why)."""
    status = os.stat(path)
    identity = status.st_dev, status.st_ino
    return identity in guard._guards or any(store.file.identity == identity and store.file.journal != 'immutable'
                                            for store in list(open_stores))


def _patiently(operation: Callable[[], Any], timeout: float) -> Any:
    """Repeat what others are in the way of, as they are when several open a new file at once."""
    began = monotonic()
    while True:
        try:
            return operation()
        except driver.Error as error:
            if not is_locked(error) or not _paused(began, timeout):
                raise


def _create(c: Connection, file: File) -> None:
    """Make an empty file a vault, in a rollback journal: what marks it must be in the main file from the start."""
    c.execute(PAGE_SIZE)
    c.execute(BEGIN)
    try:
        if c.execute('PRAGMA application_id').get[0] != APPLICATION_ID:
            c.execute(f'PRAGMA application_id = {APPLICATION_ID}')
            c.execute(f'PRAGMA user_version = {FORMAT}')
            c.execute(CREATE)
            c.execute(CREATE_MARKER)
        c.execute(COMMIT)
    except BaseException:
        if c.raw.in_transaction:
            c.execute(ROLLBACK)
        raise


def _require_schema(c: Any, file: File) -> None:
    """Raise when the tables are not those of a vault, or something else in the file reaches into them."""
    found = [normalized(str(sql)) for sql, in c.execute(SCHEMA).fetchall()]
    if not KNOWN.issuperset(found):
        raise VaultFormatError(f"something in the file reaches into the vault's tables, and is not of a vault "
                               f'({next(sql for sql in found if sql not in KNOWN):.200}): {file.path}; drop it with '
                               'the program that made it, or use another file')
    if normalized(CREATE) not in found:
        raise VaultCorruptError(f'the table of entries is missing: vault {file.path}; restore a backup, or `vaults '
                                'recover` what can be read')


def _choose_journal(c: Connection, file: File) -> str:
    """Use a write-ahead log where there can be one: it lets readers read while a writer writes."""
    if file.flag == 'r':
        return str(c.execute('PRAGMA journal_mode').get[0])
    mode = c.execute('PRAGMA journal_mode = WAL').get[0]
    if mode == 'wal':
        return 'wal'
    log.get_logger().warning('no write-ahead log is possible for %s: using a rollback journal, where readers and '
                             'writers wait for each other', file.path)
    # Without a write-ahead log NORMAL is not safe in a power cut. A commit is the end of its journal: FULL does not
    # sync the folder, so that the newest journal can come back, undo its commit, and miss pages that VACUUM has since
    # cut off. EXTRA does.
    file.synchronous = 'PRAGMA synchronous = EXTRA'
    c.execute(file.synchronous)
    return str(mode)
