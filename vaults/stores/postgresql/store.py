"""The PostgreSQL store: entries in tables of a server, by the words of schema.py. Knows no Python values and no libpq.

An own put or delete is one statement, and one trip. What that cannot do, because chunks go with the entry, is done once
more in a transaction, which has the vault for itself.
"""
from __future__ import annotations

from zlib import crc32

from ...keys import HIGHEST, LOWEST
from . import batch, schema
from . import walks as walking
from .forms import (
    CRC_BITS,
    MOST_OF_KEY,
    PARTED,
    array_of,
    as_int,
    crc_of,
    damaged,
    fitting,
    flags_of,
    int4,
    int8,
    key_bytes,
)
from .parts import BYTEA, PartsTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, ContextManager, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored
    from ..base import Cursor, Entry, Page, Progress
    from .wire import Statement


class PostgreSQLStore(PartsTable):
    """Entries in tables of a PostgreSQL server. Safe in any thread, in any number of processes and machines."""

    is_distant = True
    longest_key = MOST_OF_KEY - 1   # one byte says of which kind it is

    # --- reading ---

    def get(self, key: Stored) -> Optional[bytes]:
        packed = b'\1' + key.encode() if type(key) is str else key_bytes(key)
        answer = self.read(schema.GET_VALUE, (self.id4, packed))
        if not answer.ntuples:
            return None
        data: bytes = answer.get_value(0, 1)  # type: ignore[assignment]  # the column is never null
        if as_int(answer.get_value(0, 0)) & CRC_BITS != crc32(data, crc32(packed)):
            raise damaged(key, self.name)
        return data

    def contains(self, key: Stored) -> bool:
        return bool(self.read(schema.HAS_KEY, (self.id4, key_bytes(key))).ntuples)

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        packed = key_bytes(key)
        answer = self.read(schema.GLANCE, (self.id4, packed, int4(min(most, (1 << 31) - 1))))
        if not answer.ntuples:
            return 0, None
        data = answer.get_value(0, 2)
        if data is not None and as_int(answer.get_value(0, 0)) & CRC_BITS != crc_of(packed, data):
            raise damaged(key, self.name)
        return as_int(answer.get_value(0, 1)), data

    def get_many(self, keys: Sequence[Stored]) -> Sequence[Optional[bytes]]:
        return batch.get_many(self, keys)

    def contains_many(self, keys: Sequence[Stored]) -> Sequence[bool]:
        return batch.contains_many(self, keys)

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        if (low, high) != (LOWEST, HIGHEST):
            return self._number(schema.COUNT_IN, key_bytes(low), key_bytes(high))
        counted = self._number(schema.COUNT_TALLIES)
        session = self.session
        return counted + (session.added if session is not None else 0)

    def recount(self) -> int:
        """Return the number of entries that are there, whatever is counted."""
        return self._number(schema.COUNT_IN, key_bytes(LOWEST), key_bytes(HIGHEST))

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        if (low, high) == (LOWEST, HIGHEST):
            return min(self.count(), most)
        return self._number(schema.COUNT_FEW, key_bytes(low), key_bytes(high), int8(most))

    def _number(self, statement: Statement, *values: bytes) -> int:
        return as_int(self.read(statement, (self.id4, *values)).get_value(0, 0))

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        return walking.walk(self, low, high, by_key, reverse, values)

    def page(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True, cursor: Optional[Cursor] = None) -> Tuple[Page, Optional[Cursor]]:
        oldest, newest, last, _ = self.ends(cursor)
        if by_key or last is None:  # of keys, that narrows the range
            return super().page(low, high, by_key=by_key, reverse=reverse, values=values, cursor=cursor)
        left = (oldest, last - 1) if reverse else (last + 1, newest)
        return self.gathered(walking.walk(self, low, high, False, reverse, values, left), oldest, newest)

    def span(self) -> Tuple[int, int]:
        return walking.span_of(self)

    def alive(self, key: Stored, id: int) -> bool:
        return bool(self.read(schema.IS_SAME, (self.id4, key_bytes(key), int8(id))).ntuples)

    # --- writing ---

    def put(self, key: Stored, data: bytes) -> None:
        packed = fitting(key, data)
        crc = int8(crc32(data, crc32(packed)) | flags_of(key))
        session = self.session
        if session is None:
            if self.own_write(self.gated.put, True, self.id4, crc, packed, data).ntuples:
                return
            self.transact(lambda: self.put(key, data))
            return
        answer = session.write(schema.PUT_ONE, (self.id4, crc, packed, data))
        if not answer.ntuples:  # it has chunks
            session.write(schema.FREE_PARTS, (self.id4, array_of(BYTEA, [packed])))
            answer = session.write(schema.PUT_ONE, (self.id4, crc, packed, data))
        is_new = answer.get_value(0, 0) == b'\1'
        session.added += is_new  # with no call between: a signal handler may put as well

    def put_new(self, key: Stored, data: bytes) -> Optional[bytes]:
        if self.session is not None:
            there = self.get(key)
            if there is None:
                self.put(key, data)
            return there
        packed = fitting(key, data)
        crc = int8(crc_of(packed, data) | flags_of(key))
        answer = self.own_write(self.gated.put_new, True, self.id4, crc, packed, data)
        if not answer.ntuples:  # another has put one meanwhile
            return self.transact(lambda: self.put_new(key, data))
        there = answer.get_value(0, 1)
        if there is not None and as_int(answer.get_value(0, 0)) & CRC_BITS != crc_of(packed, there):
            raise damaged(key, self.name)
        return there

    def put_many(self, pairs: Iterable[Entry]) -> int:
        return self.once(lambda: batch.put_many(self, pairs))

    def put_owner(self, key: Stored, data: bytes) -> None:
        packed = fitting(key, data)
        crc, owner = int8(crc_of(packed, data) | flags_of(key) | PARTED), data[-schema.OWNER_SIZE:]

        def put() -> None:
            session = self.in_block()
            answer = session.write(schema.PUT_PARTED, (self.id4, crc, packed, data, owner))
            is_new = answer.get_value(0, 0) == b'\1'
            session.added += is_new
        self.transact(put)

    def put_owner_if(self, key: Stored, known: bytes, data: bytes) -> bool:
        if known[-schema.OWNER_SIZE:] != data[-schema.OWNER_SIZE:]:
            return super().put_owner_if(key, known, data)
        packed = key_bytes(key)
        values = self.id4, int8(crc_of(packed, data) | PARTED), packed, data, known
        session = self.session
        return bool((self.own_write(self.gated.replace, False, *values) if session is None else
                     session.write(schema.REPLACE_ONE, values)).ntuples)

    def delete(self, key: Stored) -> bool:
        return self._removed(self.gated.delete, schema.DELETE_ONE, key)

    def delete_if(self, key: Stored, known: bytes) -> bool:
        return self._removed(self.gated.delete_if, schema.DELETE_SAME, key, known)

    def _removed(self, alone: Statement, in_block: Statement, key: Stored, *known: bytes) -> bool:
        """Delete an entry, with its chunks, of a known value or of any; tell whether there was one."""
        self.deletions += 1
        values, session = (self.id4, key_bytes(key), *known), self.session
        if session is not None:
            gone = session.write(in_block, values).ntuples
            session.added -= gone
            return bool(gone)
        answer = self.own_write(alone, True, *values)
        if not answer.ntuples:
            return False
        return answer.get_value(0, 0) == b'\1' or self.transact(lambda: self._removed(alone, in_block, key, *known))

    def delete_many(self, keys: Sequence[Stored]) -> Sequence[bool]:
        self.deletions += 1
        return self.transact(lambda: batch.delete_many(self, keys))

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        def delete() -> int:
            session = self.in_block()
            gone = as_int(session.write(schema.DELETE_IN, (self.id4, key_bytes(low), key_bytes(high))).get_value(0, 0))
            session.added -= gone
            return gone
        self.deletions += 1
        return self.transact(delete)

    def move(self, key: Stored, last: bool = True) -> bool:
        self.deletions += 1
        return self.transact(lambda: bool(self.in_block().write(schema.MOVE[last], (self.id4, key_bytes(key))).ntuples))

    # --- the whole ---

    def others_wrote(self) -> bool:
        if not self.plain:
            return True
        found: bytes = self.read(schema.SNAPSHOT, ()).get_value(0, 0)  # type: ignore[assignment]
        seen, self.local.seen = self.local.seen, found
        return seen != found

    def sync(self) -> None:
        self.require_outside('sync')  # a commit is on the disk of the server when it returns, as that is configured

    def compact(self, progress: Progress = None) -> None:
        from .whole import compact_tables  # here, as all that most programs do without
        compact_tables(self)

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        from .whole import problems
        return problems(self, examine, progress)

    def backup(self, path: str, progress: Progress = None) -> None:
        from ..copying import write_backup
        from .walks import marked_entries
        # Nobody but its owner may read it: who may read the vault is not known.
        self.in_snapshot(lambda: write_backup(self, marked_entries(self), path, progress, most=0o600))

    def require_own(self) -> None:
        from .whole import require_deletable
        require_deletable(self)

    def destroy(self) -> None:
        from .whole import destroy_vault
        destroy_vault(self)

    def describe(self) -> Dict[str, object]:
        from .whole import facts
        return facts(self)

    def interruptible(self, interrupted: Callable[[], bool]) -> ContextManager[object]:
        from .whole import Interrupting
        return Interrupting(interrupted)
