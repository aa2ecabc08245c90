"""Scans: walks over a vault while everybody writes. Knows the table of entries, and not what keys and values mean.

The trap: a walk must see what was there when it began, and may hold no read transaction open between two pages, for as
long as one is open the log cannot be reset and grows. So nothing but ids tells what is older than the walk: they grow,
and none is given twice. A page begins behind the last row of the one before, whatever was deleted meanwhile, and ends
with the newest id of the beginning.
"""
from __future__ import annotations

from itertools import chain
from operator import itemgetter

from ...errors import VaultCorruptError
from ...keys import HIGHEST, LOWEST, SIGN, all_text
from . import driver, schema
from .walks import Walk, WithinById, are_intact, require_advance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored
    from ..base import Page
    from .store import SQLiteStore


def scan(store: SQLiteStore, low: Stored, high: Stored, by_key: bool, reverse: bool, values: bool,
         at: Optional[Tuple[int, int, int, Stored]] = None) -> Iterator[Page]:
    """Yield the pages of a walk, as Store.scan says, or those that are behind where it stood."""
    store.notice()
    try:
        if by_key:
            walk: Walk = ByKey(store, low, high, reverse, values)
        elif (low, high) == (LOWEST, HIGHEST):
            walk = ById(store, reverse, values)
        else:
            walk = WithinById(store, low, high, reverse, values)
        if at is not None:
            walk.go_to(*at)
        while walk.more:
            walk.page()
            if walk.ready:
                yield walk.ready.pop()
        walk.finish()
    except driver.Error as error:
        raise store.failed(error) from error


class _Indexed(Walk):
    """A walk by one index, whose pages each begin behind the last row of the one before."""

    def __init__(self, store: SQLiteStore, is_all: bool, reverse: bool, values: bool) -> None:
        c = store.local.c
        self._state = store.state(c) if is_all else None  # of a range nobody knows how many there are
        self.newest = store.newest(c)
        self._walked = 0
        super().__init__(store, reverse, values)

    def page(self) -> None:
        size = self.pace.size
        rows = self._rows()
        self.more = len(rows) == size
        left = self._take(rows, self.more)
        self.more = self.more or left is not None
        if rows:
            self._go_behind(rows)
            if self.what == 'keys' and not self._walked and type(rows[-1][1]) is str:
                self.what = 'texts'
            self._walked += len(rows)

    def go_to(self, oldest: int, newest: int, last: int, key: Stored) -> None:
        self._state = None  # it does not see all
        self.newest = newest

    def _rows(self) -> List[Any]:
        raise NotImplementedError

    def _found(self, sql: Dict[str, str], *arguments: Stored) -> List[Any]:
        """Return the rows of a page. If the first ends in text, keys are text, without flags, until some are not."""
        rows = self._asked(sql[self.what], *self.pace.limits, *arguments, self.pace.size)
        if self.what == 'texts':
            self.texts = list(map(itemgetter(1), rows))
            if not all_text(self.texts):
                self.what = 'keys'
                return self._found(sql, *arguments)
        return rows

    def _go_behind(self, rows: List[Any]) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Raise when a walk over all, with nobody writing meanwhile, found fewer or more entries than there are."""
        store = self.store
        c = store.local.c  # raises where the store was closed meanwhile
        if self._state and self._walked != store.count() and store.state(c) == self._state:
            raise VaultCorruptError(f'{self._walked} of {store.count()} entries were found: vault {store.file.path} is '
                                    'damaged, run check()')


class ById(_Indexed):
    """A walk over all entries by insertion, from one end of the ids or the other.

    Where no id is missing, as long as nothing was deleted but the newest, a page is a span of ids, and need not ask for
    them: to make an object of each takes a tenth of the time of a walk over keys.
    """

    def __init__(self, store: SQLiteStore, reverse: bool, values: bool) -> None:
        super().__init__(store, True, reverse, values)
        oldest = self._asked(schema.OLDEST)[0][0] if reverse else 0
        self._position, self._end = (self.newest + 1, oldest) if reverse else (-SIGN, self.newest)
        self._sql, self._of_span = schema.BY_ID_BACK if reverse else schema.BY_ID, schema.OF_SPAN[reverse]
        self._is_span = False   # the page before was one

    def go_to(self, oldest: int, newest: int, last: int, key: Stored) -> None:
        super().go_to(oldest, newest, last, key)
        self._position, self._end = last, oldest if self.reverse else newest

    def page(self) -> None:
        if not self._is_span or self.what == 'keys' or not self._page_of_span():
            super().page()

    def _page_of_span(self) -> bool:
        """Make the page of the next ids, if each of them is there and fits into it; tell whether that is so."""
        step = -1 if self.reverse else 1
        ids = range(self._position + step, self._end + step, step)[:self.pace.size]
        rows = self._asked(self._of_span[self.what], *sorted((ids[0], ids[-1])), *self.pace.limits) if ids else []
        if not ids or len(rows) < len(ids):
            return False
        page = self._page(rows, ids)
        if page is None:
            return False
        self.pace.go_on(page[0], page[1], False)
        self._position, self.more = ids[-1], ids[-1] != self._end
        self._walked += len(ids)
        self.ready.append(page)
        return True

    def _page(self, rows: List[Any], ids: Sequence[int]) -> Optional[Page]:
        if self.what == 'texts':
            texts: List[Any] = list(chain.from_iterable(rows))
            return (texts, (), ids) if all_text(texts) else None
        keys, datas, crcs = zip(*rows)
        if not are_intact(keys, datas, crcs):
            keys = tuple(map(self.store.intact, keys, datas, crcs))
        return keys, datas, ids

    def _rows(self) -> List[Any]:
        return self._found(self._sql, self._position, self._end)

    def _go_behind(self, rows: List[Any]) -> None:
        first, last = rows[0][0], rows[-1][0]
        require_advance(self.store, self._position, last, self.reverse)
        self._position = last
        self._is_span = abs(last - first) == len(rows) - 1


class ByKey(_Indexed):
    """A walk over a range by key, which leaves out what has a higher id than there was when it began."""

    def __init__(self, store: SQLiteStore, low: Stored, high: Stored, reverse: bool, values: bool) -> None:
        super().__init__(store, (low, high) == (LOWEST, HIGHEST), reverse, values)
        self._low, self._high = low, high
        self._sql = schema.BY_KEY_BACK if reverse else schema.BY_KEY

    def go_to(self, oldest: int, newest: int, last: int, key: Stored) -> None:
        super().go_to(oldest, newest, last, key)
        self._behind(key)

    def _rows(self) -> List[Any]:
        return self._found(self._sql, self._low, self._high, self.newest)

    def _go_behind(self, rows: List[Any]) -> None:
        self._behind(rows[-1][1])

    def _behind(self, key: Stored) -> None:
        if self.reverse:
            self._high = key
        else:
            self._low, self._sql = key, schema.BY_KEY_ON
