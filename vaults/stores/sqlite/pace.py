"""Pace: how many entries the next page of a walk may hold. Knows sizes, and neither SQL nor what is in an entry.

The trap: no average tells how large the next page is. A thousand small entries may be followed by one of a gigabyte,
and behind it by a thousand more, so a page that grew by what it had met would take all memory at once.
"""
from __future__ import annotations

import sys

from ...keys import SIGN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Sequence, Tuple

    from ...keys import Stored

FIRST_PAGE, LAST_PAGE = 32, 1024    # entries in a walk's first page, and at most
PAGE_BYTES = 1 << 20                # of a page, unless one entry has more
SMALL_BYTES = 8192      # in a walk's first page: half of it for a value, which is on one of SQLite's pages then


class Pace:
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


def end_of(columns: Sequence[Any]) -> int:
    """Return where the first None is, or the end."""
    return columns.index(None) if type(None) in set(map(type, columns)) else len(columns)
