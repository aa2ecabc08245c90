"""Walks: pages of entries, each one statement. Knows the table of entries, and neither values nor what keys mean.

A walk begins by asking for the highest position that was ever given: what is put later has a higher one, and what is
moved to the front one below the same number, so neither is visited. Between two pages nothing is open.

The trap is size. A page of so many entries may be larger than all memory, and no average tells: so the server counts
the bytes as it reads, and beyond a page the rest comes without its values.
"""
from __future__ import annotations

from zlib import crc32

from ...keys import HIGHEST, LOWEST
from . import schema
from .forms import CRC_BITS, PARTED, array_of, as_int, damaged, int4, int8, key_bytes, key_from, keys_from
from .parts import BIGINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

    from psycopg import pq

    from ...keys import Stored
    from ..base import Page
    from .store import PostgreSQLStore
    from .wire import Statement

    Span = Tuple[int, int]

KEYS_ALONE, ALL_THAT_FITS, SHARES = 0, 1, 2     # the statements of a page, as schema.py has them
FIRST_ROWS, MOST_ROWS_OF_PAGE = 64, 2048    # of a page: who wants one entry is not to get a megabyte
MOST_KEYS_OF_PAGE = 400                     # without values; each may be 2,600 bytes
GROWTH = 4


class _Walk:
    """Where a walk stands. `ask` returns the answer with the next page; `size` is how many rows it may have.

    `span`: the positions that are left, of a walk by insertion that goes on; None for all that are there.
    """

    def __init__(self, store: PostgreSQLStore, reverse: bool, values: bool, span: Optional[Span] = None) -> None:
        self.store, self.reverse, self.values = store, reverse, values
        session = store.session
        self.began = session.epochs.at(len(session.blocks)) if session is not None else None
        self.size = FIRST_ROWS
        self.what = SHARES if values else KEYS_ALONE    # until a value is larger than its share
        self.first, self.last = span or span_of(store)

    def require(self) -> None:
        """Raise in a walk that began in a transaction which was rolled back since."""
        if self.began is not None:
            self.began.require(self.store.name)

    def ask(self) -> Optional[pq.abc.PGresult]:
        raise NotImplementedError

    def read(self, statements: Dict[bool, Tuple[Statement, Statement, Statement]], *values: bytes) -> pq.abc.PGresult:
        share = [int4(schema.MOST_OF_PAGE // self.size)] if self.what == SHARES else []
        return self.store.read(statements[self.reverse][self.what], (*values, *share))

    def go_on(self, answer: pq.abc.PGresult, taken: int) -> None:
        """Note that so many rows of an answer were taken."""
        raise NotImplementedError

    def paced(self, answer: pq.abc.PGresult, taken: int) -> bool:
        """Choose the size of the next page; tell whether the answer was cut by anything but its end."""
        was = self.size
        most = MOST_ROWS_OF_PAGE if self.values else MOST_KEYS_OF_PAGE
        if taken == answer.ntuples:
            self.size = min(was * GROWTH, most)
        elif self.what == SHARES:
            self.what = ALL_THAT_FITS
        else:
            self.size = max(min(taken * 2, most), 1)
        return answer.ntuples == was or taken < answer.ntuples


class _InOrder(_Walk):
    """A walk over all entries, by insertion."""

    more = True

    def ask(self) -> Optional[pq.abc.PGresult]:
        if not self.more:
            return None
        return self.read(schema.IN_ORDER, self.store.id4, int8(self.first), int8(self.last), int8(self.size))

    def go_on(self, answer: pq.abc.PGresult, taken: int) -> None:
        self.more = self.paced(answer, taken)
        if taken and self.reverse:
            self.last = as_int(answer.get_value(taken - 1, 0)) - 1
        elif taken:
            self.first = as_int(answer.get_value(taken - 1, 0)) + 1


class _ByKey(_Walk):
    """A walk over a range, by key."""

    more = True

    def __init__(self, store: PostgreSQLStore, low: Stored, high: Stored, reverse: bool, values: bool) -> None:
        super().__init__(store, reverse, values)
        self._low, self._high = key_bytes(low), key_bytes(high)

    def ask(self) -> Optional[pq.abc.PGresult]:
        if not self.more:
            return None
        return self.read(schema.SORTED_BY_KEY, self.store.id4, int8(self.first), int8(self.last), self._low,
                         self._high, int8(self.size))

    def go_on(self, answer: pq.abc.PGresult, taken: int) -> None:
        self.more = self.paced(answer, taken)
        key = answer.get_value(taken - 1, 2) if taken else None
        if key is not None and self.reverse:
            self._high = key
        elif key is not None:
            self._low = key + b'\0'  # nothing sorts between the two


class _WithinOrder(_Walk):
    """A walk over a range by insertion. There is no index for it: the positions are listed first, 8 bytes each."""

    def __init__(self, store: PostgreSQLStore, low: Stored, high: Stored, reverse: bool, values: bool,
                 span: Optional[Span] = None) -> None:
        super().__init__(store, reverse, values, span)
        found = store.read(schema.POSITIONS, (store.id4, int8(self.first), int8(self.last), key_bytes(low),
                                              key_bytes(high))).get_value(0, 0)
        self._positions = _items_of(found)
        self._at = self._end = 0

    def ask(self) -> Optional[pq.abc.PGresult]:
        if self._at >= len(self._positions):
            return None
        self._end = min(self._at + self.size, len(self._positions))
        some = self._positions[len(self._positions) - self._end:len(self._positions) - self._at] if self.reverse else (
            self._positions[self._at:self._end])
        return self.read(schema.OF_POSITIONS, self.store.id4, array_of(BIGINT, some))

    def go_on(self, answer: pq.abc.PGresult, taken: int) -> None:
        self.paced(answer, taken)
        if taken == answer.ntuples:
            self._at = self._end  # some may be gone
        if taken in (0, answer.ntuples):
            return
        last = answer.get_value(taken - 1, 0)
        at = self._positions.index(last or b'')
        self._at = len(self._positions) - at if self.reverse else at + 1


def _items_of(found: Optional[bytes]) -> List[bytes]:
    """Return the items of a binary array of bigints, as they are: behind a head of 20 bytes, each with its size."""
    return [] if found is None else [found[at:at + 8] for at in range(24, len(found), 12)]


def span_of(store: PostgreSQLStore) -> Span:
    """Return the lowest and the highest position that may have been given."""
    last = as_int(store.read(schema.LAST_POSITION, ()).get_value(0, 0))
    return -last, last


def walk(store: PostgreSQLStore, low: Stored, high: Stored, by_key: bool, reverse: bool, values: bool,
         span: Optional[Span] = None) -> Iterator[Page]:
    """Yield the pages of a walk, or of one by insertion that goes on in what is left of its span; see Store.scan."""
    for answer, taken, datas in answers(store, low, high, by_key, reverse, values, span):
        page = _page(store, answer, taken, datas) if values else _page_of_keys(answer, taken)
        del answer, datas  # lest who waits holds what was handed out
        yield page
        del page


def answers(store: PostgreSQLStore, low: Stored, high: Stored, by_key: bool, reverse: bool, values: bool,
            span: Optional[Span] = None) -> Iterator[Tuple[pq.abc.PGresult, int, List[bytes]]]:
    """Yield what the server answers for each page, how many of its rows the page has, and their values.

    The page ends before the first row that has none, because it was too large.
    """
    if by_key:
        state: _Walk = _ByKey(store, low, high, reverse, values)
    elif (low, high) == (LOWEST, HIGHEST):
        state = _InOrder(store, reverse, values, span)
    else:
        state = _WithinOrder(store, low, high, reverse, values, span)
    while True:
        state.require()
        answer = state.ask()
        if answer is None:
            return
        datas: List[Any] = [answer.get_value(row, 3) for row in range(answer.ntuples)] if values else []
        taken = datas.index(None) if None in datas else answer.ntuples
        del datas[taken:]
        state.go_on(answer, taken)
        if taken:
            yield answer, taken, datas
        del answer, datas


def marked_entries(store: PostgreSQLStore) -> Iterator[Tuple[Stored, bytes, bool]]:
    """Yield all entries in their order, each with whether it is kept in chunks."""
    for answer, taken, _ in answers(store, LOWEST, HIGHEST, False, False, True):
        for row in range(taken):
            key, data, flags = entry_of(store, answer, row)
            yield key, data, bool(flags & PARTED)


def entry_of(store: PostgreSQLStore, answer: pq.abc.PGresult, row: int) -> Tuple[Stored, bytes, int]:
    """Return the key and the value of a row, and its column crc. Raises: VaultCorruptError."""
    crc, packed, data = (answer.get_value(row, at) or b'' for at in (1, 2, 3))
    flags = as_int(crc)
    key = key_from(packed, flags)
    if flags & CRC_BITS != crc32(data, crc32(packed)):
        raise damaged(key, store.name)
    return key, data, flags


def _page(store: PostgreSQLStore, answer: pq.abc.PGresult, count: int, datas: List[bytes]) -> Page:
    packed, crcs = _packed_in(answer, count)
    if list(map(crc32, datas, map(crc32, packed))) != [crc & CRC_BITS for crc in crcs]:
        for row in range(count):
            entry_of(store, answer, row)  # raises
    return keys_from(packed, crcs), datas, _ids_in(answer, count)


def _page_of_keys(answer: pq.abc.PGresult, count: int) -> Page:
    return keys_from(*_packed_in(answer, count)), (), _ids_in(answer, count)


def _packed_in(answer: pq.abc.PGresult, count: int) -> Tuple[List[bytes], List[int]]:
    """Return the keys of an answer's rows, and their columns crc."""
    get, rows = answer.get_value, range(count)
    packed: List[bytes] = [get(row, 2) for row in rows]  # type: ignore[misc]  # the column is never null
    return packed, [as_int(get(row, 1)) for row in rows]


def _ids_in(answer: pq.abc.PGresult, count: int) -> Iterator[int]:
    return map(as_int, [answer.get_value(row, 0) for row in range(count)])
