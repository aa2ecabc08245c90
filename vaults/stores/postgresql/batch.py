"""Batches: many entries in few statements. Knows the table of entries, and neither values nor what keys mean.

A statement takes each key once, so what is given twice is put once: with the last value, in the first place and form.

The trap: what gives the entries may use the vault, and has to find what was given so far, though it waits here for its
statement. So whoever asks the session for anything has the rows written first.
"""
from __future__ import annotations

from zlib import crc32

from . import schema
from .forms import CRC_BITS, array_of, as_int, damaged, fitting, flags_of, int8, key_bytes
from .parts import BIGINT, BYTEA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored
    from ..base import Entry
    from .session import Session, Waits
    from .store import PostgreSQLStore

MOST_AT_ONCE = 4096             # entries that wait; of twice as many each takes as long
MOST_BYTES_AT_ONCE = 4 << 20    # of their values, unless one has more
KEYS_AT_ONCE = 65536            # of keys that are looked for


class Rows:
    """The rows of one put_many that wait to be written. For the thread of the block that they are put in."""

    def __init__(self, store: PostgreSQLStore, session: Session) -> None:
        self._store, self._session = store, session
        self._rows: Dict[bytes, Tuple[int, bytes]] = {}    # by the bytes of their keys: form and value
        self.around: Optional[Waits] = session.waits       # of another call, whose entries this one is a part of giving

    def put(self, pairs: Iterable[Entry]) -> int:
        rows, count, size = self._rows, 0, 0
        for key, data in pairs:
            packed = fitting(key, data)
            before = rows.get(packed)
            rows[packed] = (flags_of(key) if before is None else before[0]), data
            count += 1
            size += len(data)
            if len(rows) >= MOST_AT_ONCE or size > MOST_BYTES_AT_ONCE:
                self.write()
                size = 0
        self.write()
        return count

    def drop(self) -> None:
        """Forget the rows: what they were put in is undone."""
        self._rows.clear()

    def write(self) -> None:
        """Write the rows that wait."""
        if not self._rows:
            return
        rows = dict(self._rows)
        self._rows.clear()
        session, keys = self._session, list(rows)
        datas = [data for _, data in rows.values()]
        crcs = [int8(crc32(data, crc32(key)) | form) for key, (form, data) in rows.items()]
        values = (self._store.id4, array_of(BIGINT, crcs), array_of(BYTEA, keys), array_of(BYTEA, datas))
        if session.waits is self:
            session.waits = self.around
        try:
            while True:
                answer = session.write(schema.PUT_MANY, values)
                done, added = (as_int(answer.get_value(0, at)) for at in (0, 1))
                session.added += added
                if done == len(rows):
                    break
                session.write(schema.FREE_PARTS, (self._store.id4, array_of(BYTEA, keys)))  # some have chunks
        finally:
            session.waits = self


def put_many(store: PostgreSQLStore, pairs: Iterable[Entry]) -> int:
    """Put all pairs and return how many there were. Where that fails, the block around it is to be undone."""
    session = store.in_block()
    if session.waits is not None:
        session.waits.write()
    rows = Rows(store, session)
    session.waits = rows
    try:
        return rows.put(pairs)
    finally:
        session.waits = rows.around


def _in_statements(keys: Sequence[Stored]) -> Iterator[Tuple[List[bytes], bytes]]:
    """Yield the bytes of keys, as many as go into one statement, and these as an array."""
    for at in range(0, len(keys), KEYS_AT_ONCE):
        packed = [key_bytes(key) for key in keys[at:at + KEYS_AT_ONCE]]
        yield packed, array_of(BYTEA, packed)


def get_many(store: PostgreSQLStore, keys: Sequence[Stored]) -> Sequence[Optional[bytes]]:
    """Return the value of each key, or None."""
    found: List[Optional[bytes]] = []
    for packed, array in _in_statements(keys):
        answer = store.read(schema.GET_VALUES, (store.id4, array))
        datas: Dict[bytes, bytes] = {}
        for row in range(answer.ntuples):
            key, crc, data = answer.get_value(row, 0), answer.get_value(row, 1), answer.get_value(row, 2)
            if key is None or data is None or as_int(crc) & CRC_BITS != crc32(data, crc32(key)):
                raise damaged(keys[len(found) + packed.index(key or b'')], store.name)
            datas[key] = data
        found += map(datas.get, packed)
    return found


def contains_many(store: PostgreSQLStore, keys: Sequence[Stored]) -> Sequence[bool]:
    """Tell of each key whether it is there."""
    found: List[bool] = []
    for packed, array in _in_statements(keys):
        answer = store.read(schema.HAS_KEYS, (store.id4, array))
        there = {answer.get_value(row, 0) for row in range(answer.ntuples)}
        found += [key in there for key in packed]
    return found


def delete_many(store: PostgreSQLStore, keys: Sequence[Stored]) -> Sequence[bool]:
    """Remove the entries of these keys; tell of each whether it was there, and had not been given before."""
    session = store.in_block()
    found: List[bool] = []
    for packed, array in _in_statements(keys):
        answer = session.write(schema.DELETE_THESE, (store.id4, array))
        gone = {answer.get_value(row, 0) for row in range(answer.ntuples)}
        count = len(gone)
        session.added -= count
        for key in packed:
            found.append(key in gone)
            gone.discard(key)
    return found
