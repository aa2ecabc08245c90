"""Chunks of values that are kept in chunks, in a table of their own. Knows nothing of how they make a value."""
from __future__ import annotations

from itertools import islice

from ...errors import VaultCorruptError
from . import schema
from .forms import CRC_BITS, array_of, as_int, chunk_crc_of, crc_of, damaged, int4, int8, key_bytes
from .transactions import WithBlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator, Optional, Sequence, Tuple

    from psycopg import pq

    from ...keys import Stored
    from ..base import Options
    from ..pool import Pool
    from .session import Session
    from .wire import Statement, Wire

BYTEA, BIGINT = 17, 20      # the numbers that PostgreSQL has for these types: they never change
AT_ONCE = 16                # chunks in a statement, unless that is too much: they may be a megabyte each


class PartsTable(WithBlocks):
    """The part of the store that holds chunks of values."""

    def __init__(self, pool: Pool[Wire], gated: schema.Gated, name: str, number: int, options: Options) -> None:
        super().__init__(pool, gated, name, number, options)
        self.id4 = int4(number)

    def in_block(self) -> Session:
        """Return what this thread has open, of which it is sure."""
        session = self.session
        if session is None:
            raise AssertionError('this is called in a transaction')
        return session

    def own_write(self, statement: Statement, counts: bool, *values: bytes) -> pq.abc.PGresult:
        """Return the answer to a write outside of a block; of one that counts, a slot of the tallies is told, too."""
        return self.write(statement, values, counts)

    def empty(self) -> None:
        """Delete all that the vault has, but not itself."""
        def delete() -> None:
            session = self.in_block()
            session.added = -as_int(self.read(schema.COUNT_TALLIES, (self.id4,)).get_value(0, 0))
            for table in ('parts', 'entries'):
                session.write(schema.EMPTY[table], (self.id4,))
        self.transact(delete)

    def get_chunk(self, owner: bytes, number: int) -> Optional[bytes]:
        answer = self.read(schema.GET_PART, (self.id4, owner, int8(number)))
        if not answer.ntuples:
            return None
        return self.whole_chunk(owner, number, answer.get_value(0, 0), answer.get_value(0, 1))

    def get_chunks(self, owner: bytes, numbers: Sequence[int]) -> Sequence[Optional[bytes]]:
        found = {}
        for at in range(0, len(numbers), AT_ONCE):
            some = array_of(BIGINT, [int8(number) for number in numbers[at:at + AT_ONCE]])
            answer = self.read(schema.GET_PARTS, (self.id4, owner, some))
            for row in range(answer.ntuples):
                number = as_int(answer.get_value(row, 0))
                found[number] = self.whole_chunk(owner, number, answer.get_value(row, 1), answer.get_value(row, 2))
        return [found.get(number) for number in numbers]

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        packed = key_bytes(key)
        answer = self.read(schema.GET_VALUE_AND_PART, (self.id4, packed, owner, int8(number)))
        crc, data, part_crc, part = (answer.get_value(0, at) for at in range(4))
        if data is None:
            return None, None
        if as_int(crc) & CRC_BITS != crc_of(packed, data):
            raise damaged(key, self.name)
        return data, None if part is None else self.whole_chunk(owner, number, part_crc, part)

    def whole_chunk(self, owner: bytes, number: int, crc: Optional[bytes], data: Optional[bytes]) -> bytes:
        """Return a chunk when it is what was put."""
        if data is None or as_int(crc) != chunk_crc_of(owner, number, data):
            raise VaultCorruptError(f'chunk {number} of {owner.hex()} is damaged: its checksum does not hold; vault '
                                    f'{self.name}; run check(), and restore the entry from a backup')
        return data

    def put_chunks(self, owner: bytes, chunks: Iterable[Tuple[int, bytes]]) -> None:
        def put() -> None:
            given = iter(chunks)
            while True:
                some = list(islice(given, AT_ONCE))
                if not some:
                    return
                numbers = [int8(number) for number, _ in some]
                crcs = [int8(chunk_crc_of(owner, number, data)) for number, data in some]
                values = self.id4, owner, array_of(BIGINT, numbers), array_of(BIGINT, crcs)
                self.in_block().write(schema.PUT_PARTS, (*values, array_of(BYTEA, [data for _, data in some])))
        self.once(put)

    def delete_chunks(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        def delete() -> None:
            session = self.in_block()
            if numbers is None:
                session.write(schema.DELETE_ALL_PARTS, (self.id4, owner))
            else:
                some = array_of(BIGINT, [int8(number) for number in numbers])
                session.write(schema.DELETE_PARTS, (self.id4, owner, some))
        self.once(delete)

    def chunk_numbers(self, owner: bytes) -> Iterator[int]:
        answer = self.read(schema.PART_NUMBERS, (self.id4, owner))
        return (as_int(answer.get_value(row, 0)) for row in range(answer.ntuples))

    def chunk_owners(self) -> Iterator[bytes]:
        answer = self.read(schema.PART_OWNERS, (self.id4,))
        return iter([answer.get_value(row, 0) or b'' for row in range(answer.ntuples)])
