"""Walks: where one stands, what makes pages of rows, and the walk over a range by insertion. Knows the entries' table.

What keys and values mean it does not know. scan.py says what a walk has to see, and has the walks that go by an index.

The trap is size. A page of so many entries may be larger than all memory, and no average tells, so each page has its
bytes limited by SQLite itself (pace.py). And a walk that waits must hold nothing of what it has handed out: what
stands in a local variable at a `yield` stays in memory until the next page.
"""
from __future__ import annotations

from array import array
from itertools import repeat
from operator import itemgetter
from zlib import crc32

from ...errors import VaultCorruptError
from . import schema
from .pace import Pace, end_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generator, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored
    from ..base import Page
    from .connection import Connection
    from .store import SQLiteStore

    Span = Tuple[int, int]

NEAR, FURTHER = 64, 8   # places in the order that a walk over a range looks at first; how many times as many then, and
                        # how many entries of the range are counted in the same time


class Walk:
    """Where a walk stands. `page` makes the next page, alone in the list `ready`, or none, until there is no `more`."""

    def __init__(self, store: SQLiteStore, reverse: bool, values: bool) -> None:
        self.store, self.reverse, self.what = store, reverse, 'entries' if values else 'keys'
        self.pace = Pace(values)
        self.more = True
        self.texts: List[Any] = []  # the keys of the page that is being made, where all are text
        self.ready: List[Page] = []
        c = store.local.c
        self._began = c.epochs.at(c.depth)

    def page(self) -> None:
        raise NotImplementedError

    def go_to(self, oldest: int, newest: int, last: int, key: Stored) -> None:
        """Go on behind an entry, where a walk stood which began when these were the ends: see Store.page."""
        raise NotImplementedError

    def finish(self) -> None:
        """Raise when the walk cannot have seen what it had to."""
        raise NotImplementedError

    def _connection(self) -> Connection:
        """Return this thread's connection, where the transaction in which the walk began was not rolled back."""
        c: Connection = self.store.local.c
        if self._began is not None:
            self._began.require(self.store.file.path)
        return c

    def _asked(self, sql: str, *arguments: Stored) -> List[Any]:
        """Return the rows that a statement finds."""
        store = self.store
        c = store.local.c if self._began is None else self._connection()
        return store.rows(c, sql, arguments)

    def _take(self, rows: List[Any], more: bool) -> Optional[int]:
        """Make the page of rows ready, and return the id of the one that ends it by its size.

        Leaves in `rows` those of the page.
        """
        if not rows:
            return None
        page: Page = self.texts, (), map(itemgetter(0), rows)
        self.texts = []  # lest who waits holds them
        if self.what != 'texts':
            page = (verified if self.pace.values else keys_alone)(self.store, rows, self.pace.size > 1)
        taken = len(page[0])
        left: Optional[int] = rows[taken][0] if taken < len(rows) else None
        del rows[taken:]
        if more or left is not None:
            self.pace.go_on(page[0], page[1], left is not None)
        if rows:
            self.ready.append(page)
        return left


class WithinById(Walk):
    """A walk over a range by insertion. There is no index for it: ids of the range are found first, in batches."""

    def __init__(self, store: SQLiteStore, low: Stored, high: Stored, reverse: bool, values: bool) -> None:
        super().__init__(store, reverse, values)
        self._bounds = low, high
        self._span: Optional[Span] = None   # of ids that are not looked at yet; None for all
        self._batches = self._ids_in_batches()
        self.ids, self._at = array('q'), 0     # the batch that is being read, and how far

    def go_to(self, oldest: int, newest: int, last: int, key: Stored) -> None:
        self._span = (oldest, last - 1) if self.reverse else (last + 1, newest)

    def page(self) -> None:
        while self._at == len(self.ids):
            batch = next(self._batches, None)
            if batch is None:
                self.more = False
                return
            self.ids, self._at = batch, 0
        wanted = self.ids[self._at:self._at + self.pace.size]
        left = self._take(self._rows(wanted), True)
        self._at += len(wanted) if left is None else wanted.index(left)

    def _rows(self, ids: array[int]) -> List[Any]:
        """Return the rows of these ids: at once where they lie close together, else one by one."""
        sql, limits = schema.BETWEEN[self.what], self.pace.limits
        first, last = sorted((ids[0], ids[-1]))
        if last - first > 2 * len(ids):
            return [row for one in ids for row in self._asked(sql, *limits, one, one, *self._bounds)]
        rows = self._asked(sql, *limits, first, last, *self._bounds)
        return rows[::-1] if self.reverse else rows

    def finish(self) -> None:
        self._connection()

    def _ids_in_batches(self) -> Iterator[array[int]]:
        """Yield, in batches, the ids of a range in the order of insertion, for which it has no index.

        Those of few entries are listed. The first ones of many may lie near that end of the whole order where the walk
        begins. So ever more of the order is looked at from there, as long as the range has yet more entries: else
        these are listed, 8 bytes each, as soon as that is quicker.
        """
        bounds, reverse = self._bounds, self.reverse
        span = self._span or (self._asked(schema.OLDEST)[0][0], self.store.newest(self._connection()))
        ids = self._listed(schema.SOME_IDS, *bounds, *span, NEAR)
        if len(ids) < NEAR:
            yield array('q', sorted(ids, reverse=reverse))
            return
        ends = self._asked(schema.ENDS)[0]  # beyond them much may have been deleted
        span = (max(span[0], ends[0]), min(span[1], ends[1])) if ends[0] is not None else (1, 0)
        span, found = yield from self._ids_near(span)
        if not found:  # who wants one entry needs no list
            first = self._asked(schema.ENDS_WITHIN, *bounds, *span)[0][reverse]
            if first is None:
                return
            yield array('q', [first])
            span = (span[0], first - 1) if reverse else (first + 1, span[1])
        if span[0] <= span[1]:
            yield self._listed(schema.IDS, *bounds, *span)

    def _ids_near(self, span: Span) -> Generator[array[int], None, Tuple[Span, bool]]:
        """Yield the ids that lie near where the walk begins; return the span behind, and whether there were any."""
        near, found = NEAR, False
        while span[0] <= span[1]:
            part, span = _divided(span, near, self.reverse)
            ids = self._listed(schema.IDS_BETWEEN, *part, *self._bounds)
            found = found or bool(ids)
            yield ids
            near *= FURTHER
            if self._asked(schema.ABOUT_SOME, *self._bounds, near * FURTHER)[0][0] < near * FURTHER:
                break
        return span, found

    def _listed(self, sql: str, *arguments: Stored) -> array[int]:
        """Return the ids that a statement finds, which gives them in their order, as the walk meets them."""
        ids = self.store.ids(self._connection(), sql, arguments)
        return ids[::-1] if self.reverse else ids


def require_advance(store: SQLiteStore, before: int, last: int, reverse: bool) -> None:
    """Raise when a page does not lie behind the one before: the ids of a damaged file could run in circles."""
    if (last >= before) if reverse else (last <= before):
        raise VaultCorruptError(f'the order of the entries is damaged: vault {store.file.path}; run check()')


def keys_alone(store: SQLiteStore, rows: List[Any], may_end: bool) -> Page:
    """Return the page of rows without values."""
    keys = [bool(key) if flag else key for _, key, flag in rows]
    return keys[:end_of(keys)] if may_end else keys, (), map(itemgetter(0), rows)


def verified(store: SQLiteStore, rows: List[Any], may_end: bool) -> Page:
    """Return the keys and values of rows whose checksums hold."""
    ids, keys, datas, crcs = zip(*rows)
    if are_intact(keys, datas, crcs):
        return keys, datas, ids
    if may_end:
        end = min(end_of(keys), end_of(datas))
        ids, keys, datas = ids[:end], keys[:end], datas[:end]
    return list(map(store.intact, keys, datas, crcs)), datas, ids


def are_intact(keys: Sequence[Any], datas: Sequence[Any], crcs: Sequence[Any]) -> bool:
    """Tell whether all keys are text and their checksums hold; a page at a time, in C."""
    try:
        return list(map(crc32, datas, map(crc32, map(str.encode, keys), repeat(schema.OF_TEXT)))) == list(crcs)
    except TypeError:
        return False  # other keys than text, a damaged row, or one that ends the page


def _divided(span: Tuple[int, int], size: int, from_end: bool) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """Return so much of a span of ids from one of its ends, and the rest of it."""
    first, last = span
    if from_end:
        return (max(first, last - size + 1), last), (first, last - size)
    return (first, min(last, first + size - 1)), (first + size, last)
