"""Batches: many entries in few statements. Knows the table of entries, and neither values nor what keys mean.

A row takes half as long where it is one of 64 in a statement, and its checksum where C makes those of all of them.
Where they are not in the order of their keys, it is one of 8: schema.py says why.
SQLite takes the rows of a statement one after another: of a key that comes twice the last value wins, in the first
place.

The trap: what gives the entries may use the vault, and so may a signal handler, and has to find what was given so far,
though it waits here for its statement. So while a batch is filled its connection is put aside, as it is for a task:
whoever asks for it has the batch written first, and nobody else pays for the question. A signal handler may do so at
any moment, in the middle of a write too. So rows wait until they are written, and the one call that writes them, which
no handler comes into, asks itself whether they still wait. To write them twice in a row is to write them once.
"""
from __future__ import annotations

from _thread import get_ident
from itertools import chain
from operator import itemgetter

from ...errors import VaultCorruptError
from ...keys import named
from ..base import OWNER
from . import driver
from .connection import TOGETHER, Connection, give_back
from .failures import is_too_big
from .fork import own
from .schema import DELETE_CHUNK, GET, PUT_ROWS, PUT_SCATTERED, entry_crcs, in_statements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, List, Optional, Union

    from ..._typing import Self
    from ...keys import Stored
    from ..base import Entry, Made
    from .store import SQLiteStore

MOST_ROWS = max(PUT_ROWS)   # that wait
MOST_BYTES = 1 << 20        # of their values, unless one has more
LARGEST_WAITING = 1 << 16   # bytes of a value that a block keeps back
FEW_PUTS, MANY_PUTS = 8, 64  # after so many one by one in a block the next are kept back, or are not for so many more

_first, _second = itemgetter(0), itemgetter(1)


class Batch:
    """What one call puts: the rows that wait to be written. For one thread, that of the block around it."""

    def __init__(self, store: SQLiteStore, c: Connection) -> None:
        self._store, self._c = store, c
        self.rows: List[Entry] = []
        self.around: Union[Batch, Waiting, None] = None  # of another call, whose entries this one is a part of giving
        self.depth = c.depth

    def put(self, pairs: Iterable[Entry]) -> int:
        """Put all pairs and return how many there were. Where that fails, the block is to be undone."""
        c, local = self._c, self._store.local
        c.changing += 1
        try:
            if c.batch is not None:
                c.batch.write()
            self.around, c.batch = c.batch, self
            vars(local).pop('c', None)
            return self._put(pairs)
        finally:
            c.batch = self.around
            give_back(local, c)
            c.changing -= 1

    def _put(self, pairs: Iterable[Entry]) -> int:
        rows = self.rows
        append = rows.append
        count = size = 0
        for count, pair in enumerate(pairs, 1):  # noqa: B007  # it is used behind the loop
            append(pair)
            size += len(pair[1])
            if len(rows) >= MOST_ROWS or size > MOST_BYTES:
                self.write()
                size = 0
        self.write()
        return count

    def write(self) -> None:
        """Write the rows that wait; where their block was undone meanwhile, forget them."""
        c, rows = self._c, self.rows
        if rows and c.depth >= self.depth and c.raw.in_transaction and own(self._store) is c:
            try:
                _put_rows(c, rows)
            except Exception as error:
                if isinstance(error, driver.Error) or is_too_big(error):
                    raise self._store.failed(error) from error
                raise
        rows.clear()

    def drop(self) -> None:
        """Forget the rows: what they were put in was undone."""
        self.rows.clear()


def _put_rows(c: Connection, rows: List[Entry]) -> None:
    keys, datas = list(map(_first, rows)), list(map(_second, rows))
    crcs, size = entry_crcs(keys, datas), sum(map(len, datas))
    values = map(bytearray, datas) if size <= c.copied else datas
    flat = list(chain.from_iterable(zip(keys, values, crcs)))
    for sql, statements in in_statements(PUT_ROWS if _is_in_order(keys) else PUT_SCATTERED, flat, 3):
        c.raw.many(sql, map(_first, zip(statements, rows)))  # none where no row waits any more
    c.written += size + TOGETHER * len(keys)


def _is_in_order(keys: List[Any]) -> bool:
    try:
        return keys == sorted(keys)
    except TypeError:
        return False  # there are several kinds


class Waiting:
    """What a block writes, kept back until anybody uses the vault. For the thread of that block.

    It stands where a batch does, and is written as one is: by whoever asks for the connection. A signal handler may
    come at any moment, and write it itself: what it has interrupted finds nothing left to do. Who adds to it looks
    afterwards whether it has ended meanwhile, and finds what was added too late. Where writing fails, it waits on,
    lest the block goes without it.
    """

    around = None

    def __init__(self, store: SQLiteStore, depth: int) -> None:
        self._store = store
        self.rows: List[Any] = []
        self.depth = depth
        self.thread = get_ident()   # 0: it has ended

    def drop(self) -> None:
        """End it, as what was put was undone."""
        self.thread = 0
        self.rows.clear()

    def begun(self, c: Connection) -> Optional[Self]:
        """Return it, in its place; None where it cannot be, or a signal handler came before it."""
        c.changing += 1
        try:
            if c.batch is not None:
                return None
            c.batch = self
            vars(self._store.local).pop('c', None)
            self._begin(c)
        finally:
            c.changing -= 1
        return self if self.thread else None

    def write(self) -> None:
        """End it, and put what waits."""
        c = own(self._store)
        if c is None or c.batch is not self:
            return
        c.changing += 1
        try:
            self.thread, self._store.kept = 0, None
            if self.rows and not c.lost:  # nor was the block undone, which drops them
                self._write(c)
            self.rows.clear()  # before anybody may change what was put
            if c.batch is self:
                c.batch = None
                give_back(self._store.local, c)
        finally:
            c.changing -= 1

    def _begin(self, c: Connection) -> None:
        """Do what is to be done once it is in its place."""

    def _write(self, c: Connection) -> None:
        """Write the rows."""
        raise NotImplementedError


class WaitingPuts(Waiting):
    """What a block puts one by one."""

    def __init__(self, store: SQLiteStore, depth: int) -> None:
        super().__init__(store, depth)
        self.left = MOST_BYTES

    def _begin(self, c: Connection) -> None:
        self._store.kept = self
        c.puts = -MANY_PUTS  # unless it pays: a program that reads what it has just put gains nothing by this

    def drop(self) -> None:
        super().drop()
        self._store.kept = None

    def add(self, key: Stored, data: bytes) -> None:
        """Put an entry, or where it was ended before it was added, put it as any other."""
        rows = self.rows
        rows.append((key, data))
        self.left -= len(data)
        if not self.thread:
            late = rows[:]
            rows.clear()
            for entry in late:
                self._store.put(*entry)
        elif len(rows) >= MOST_ROWS or self.left < 0:
            self.write()

    def _write(self, c: Connection) -> None:
        if len(self.rows) > FEW_PUTS:
            c.puts = FEW_PUTS
        try:
            _put_rows(c, self.rows)
        except driver.error_or(OverflowError) as error:
            raise self._store.failed(error) from error


class WaitingItems(Waiting):
    """What a block appends to one value, in one statement, which does nothing where the value is not the one known.

    Where what waits fills leaves, it is several statements: one takes away what an earlier attempt has left under the
    numbers that are new, others put chunks, then the header, and the last one deletes. Each is one call, and asks as a
    batch does whether rows still wait; to begin again after any of them is to do the same once more.
    """

    def __init__(self, store: SQLiteStore, depth: int, key: Stored, known: bytes, made: Made, size: int, many: int,
                 ) -> None:
        super().__init__(store, depth)
        self._key, self._known, self._made = key, known, made
        self.left, self.most = size, many
        self.deletions = store.deletions

    def _begin(self, c: Connection) -> None:
        if self._now(c) != self._known:
            self.write()

    def _write(self, c: Connection) -> None:
        data, chunks, dead = self._made(self.rows)
        owner = data[-OWNER:]
        try:
            if chunks:
                self._store.replace_chunks(c, owner, chunks, self._still)
            is_put = self._store.replaced(c, self._key, self._known, data)
            if not is_put and c.batch is self and self._now(c) != data:
                raise VaultCorruptError(f'what a block appends to was changed below it: key {named(self._key)}; vault '
                                        f'{self._store.file.path}')
            if dead:
                c.raw.many(DELETE_CHUNK, self._still([(owner, number) for number in dead]))
        except driver.error_or(OverflowError) as error:
            raise self._store.failed(error, self._key) from error
        c.written += TOGETHER + len(data)

    def _still(self, values: List[Any]) -> Iterator[Any]:
        """Yield what a statement is to be run with as long as rows wait, which no signal handler comes into."""
        return map(_first, zip(values, iter(self.rows.__len__, 0)))

    def _now(self, c: Connection) -> Any:
        """Return what the value is, without asking for the connection."""
        try:
            return c.raw.execute(GET, (self._key,)).fetchall()[0][0]
        except driver.error_or(UnicodeDecodeError) as error:
            raise self._store.failed(error, self._key) from error
