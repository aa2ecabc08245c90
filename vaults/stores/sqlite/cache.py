"""Read cache: values that were read are given out again, as long as nobody has committed since. Knows no codec.

The trap: a kept value must not be older than the last commit of any process. Each commit changes the header of the
write-ahead log's index, 48 bytes at the beginning of the shared memory, and each reader of SQLite's begins there. So
what is kept is marked with those 48 bytes, and given out only as long as they are the same. Each of this has been seen
to return old values, or would:

- a mark that is taken after the statement: somebody may have committed in between, so it is taken before;
- a part of the header: a log that begins anew counts its frames anew, and a recovery the changes;
- a header that is half written. The file has it twice, one behind the other: what two equal ones do not mark is not
  kept. One that is being written as a kept value is asked for is that of a commit that has not returned yet;
- a statement that is not done, in which a signal handler or finalizer reads: what it reads is as old as that statement;
- the same header in another shared memory, which begins anew when all have closed the vault: so the map is part of the
  mark. It belongs to the guard: to close it would drop SQLite's locks, see there.
"""
from __future__ import annotations

from msgpack import unpackb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Optional, Sequence, Tuple, Union

    from ...keys import Stored
    from ...place import Check, KeyCodec
    from .connection import Connection
    from .store import SQLiteStore

    Kept = Union[bytes, Tuple[Any]]

MARK_BYTES = slice(48)      # of the header, and
SECOND = slice(48, 96)      # where it stands again
LARGEST_KEPT = 4096         # bytes: of a larger value the statement is the smaller part

# What the msgpack of None, bools, numbers, text and bytes begins with: objects that nobody can change.
IMMUTABLE_BYTES = frozenset([*range(0x80), *range(0xA0, 0xC1), *range(0xC2, 0xC7), *range(0xCA, 0xD4),
                             *range(0xD9, 0xDC), *range(0xE0, 0x100)])


class ReadCache:
    """What a vault has in the place of its store, to read by. Safe in any thread.

    `get` returns what the store does or, of what nobody can change, the object alone in a tuple.
    """

    def __init__(self, store: SQLiteStore, size: int) -> None:
        self._store, self._size = store, size
        self.put, self.put_many, self.scan = store.put, store.put_many, store.scan
        # The map, the mark and what it marks are one object: threads change them together.
        self._state: Tuple[Any, bytes, Dict[Stored, Kept]] = object(), b'', {}
        # Now, and as a connection is opened, and not in reading: an interrupt could leave the guard's lock taken.
        store.file.shares = True
        store.local.c.share(store.file)

    def within(self, keys: KeyCodec, validate: Optional[Check]) -> ReadCache:
        """Return what a section reads by: its keys are the vault's."""
        return self

    def get(self, key: Stored) -> Optional[Kept]:
        c = self._store.local.c  # raises when the store is closed, or another task has a block open
        shared, mark, kept = self._state
        if shared is c.shared and not c.depth:
            try:
                if shared[MARK_BYTES] == mark:
                    found = kept.get(key)  # stored keys that are equal are one entry
                    if found is not None:
                        return found
            except ValueError:
                pass  # a signal handler has closed the vault
        return self._read(c, key)

    def get_many(self, keys: Sequence[Stored]) -> Iterable[Optional[Kept]]:
        return map(self.get, keys)

    def _read(self, c: Connection, key: Stored) -> Optional[Kept]:
        shared = c.shared
        if shared is None or c.reading or c.raw.in_transaction:
            return self._store.get(key)
        try:
            mark, second = shared[MARK_BYTES], shared[SECOND]
        except ValueError:
            mark, second = b'', b' '  # as above
        data = self._store.get(key)
        if not data or len(data) > LARGEST_KEPT or mark != second:
            return data
        found: Kept = data
        if data[0] in IMMUTABLE_BYTES:
            try:
                found = unpackb(data),
            except ValueError:
                return data  # who decodes it says what is wrong
        known, last, kept = self._state
        if mark != last or shared is not known or len(kept) >= self._size:
            kept = {}
            self._state = shared, mark, kept
        kept[key] = found
        return found
