"""DictionaryStore: the plain engine, a dict of entries. The example of an engine; nothing of it outlives the process.

An entry is a tuple of its position, its key as it was first put, and its value, and is never changed, only replaced: so
that a walk knows by identity of position what is still there, and what was there before a write is noted as it was.
"""
from __future__ import annotations

from ..keys import HIGHEST, LOWEST, order
from .base import DEFAULT_OPTIONS, MEMORY, is_of_chunks
from .locked import LockedStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Sequence, Tuple

    from ..keys import Stored
    from .base import Options, Page
    from .locked import Kept


class DictionaryStore(LockedStore):
    """Entries in a dict. Safe in any thread: each call has the store to itself, and a transaction to its end."""

    def __init__(self, options: Options = DEFAULT_OPTIONS, name: str = MEMORY) -> None:
        super().__init__(name, options)
        self.entries: Dict[Stored, Kept] = {}
        self._first = self._last = 0        # the positions given last, at either end
        self._hidden = 0                    # how many of the entries no default bounds reach
        self._before: List[Tuple[Stored, Optional[Kept]]] = []  # what was at each key before it was written

    @property
    def sources(self) -> Sequence[str]:
        return ()

    def find(self, key: Stored) -> Optional[Kept]:
        return self.entries.get(key)

    def put(self, key: Stored, data: bytes) -> None:
        with self.writing:
            position, first, _ = self.entries.get(key) or (self._next(), key, b'')
            self.replace(key, (position, first, data))
            self.free_chunks(key)

    def delete(self, key: Stored) -> bool:
        with self.writing:
            if key not in self.entries:
                return False
            self.deletions += 1
            self.replace(key, None)
            self.free_chunks(key)
            return True

    def move(self, key: Stored, last: bool = True) -> bool:
        with self.writing:
            if key not in self.entries:
                return False
            self.deletions += 1
            _, first, data = self.entries[key]
            self.replace(key, (self._next() if last else self._next_before(), first, data))
            return True

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        with self.reading:
            if (low, high) == (LOWEST, HIGHEST):
                return len(self.entries) - self._hidden
            return len(self._within(low, high))

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        with self.reading:
            began = self.began_in()
            found = self._within(low, high)
        found.sort(key=(lambda entry: order(entry[1])) if by_key else None, reverse=reverse)
        yield from self.pages(found, values, began)

    def _within(self, low: Stored, high: Stored) -> List[Kept]:
        first, end = order(low), order(high)
        return [entry for entry in self.entries.values() if first <= order(entry[1]) < end]

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _next_before(self) -> int:
        self._first -= 1
        return self._first

    def replace(self, key: Stored, entry: Optional[Kept]) -> None:
        """Put the entry in the place of what is at the key, None for nothing; what was there is noted."""
        self._before.append((key, self.entries.get(key)))
        self._set(key, entry)

    def _set(self, key: Stored, entry: Optional[Kept]) -> None:
        before = self.entries.get(key)
        if entry is not None:
            self.entries[key] = entry
        elif before is not None:
            del self.entries[key]
        if is_of_chunks(key):
            self._hidden += (entry is not None) - (before is not None)

    def mark(self) -> int:
        return len(self._before)

    def go_back(self, mark: object) -> None:
        while len(self._before) > mark:  # type: ignore[operator]  # what `mark` gave
            self._set(*self._before[-1])
            del self._before[-1]  # now: an interrupt before would have it done again

    def keep(self) -> None:
        self._before.clear()

    def close(self) -> None:
        super().close()
        self.entries = {}
