"""Chunks of values that are kept in chunks, in a table of their own. Knows nothing of how they make a value.

The trap: a chunk that no entry needs stays for ever, and one that is missing makes a value that nobody can read. So
triggers in the file free the chunks of an entry that is deleted or gets another owner, whoever does that; and because
they take a fifth of the time of an `update`, they and the table are made with the first chunk: until then there is
none.
"""
from __future__ import annotations

from itertools import chain, repeat
from zlib import crc32

from ...errors import VaultCorruptError
from . import driver
from .connection import TOGETHER, Connection
from .failures import is_locked, lacks_chunks
from .schema import (
    CHUNK_NUMBERS,
    CHUNK_OWNERS,
    CHUNKS_AT_ONCE,
    CREATE_CHUNKS,
    DELETE_CHUNK,
    DELETE_CHUNKS,
    DELETE_CHUNKS_FROM,
    GET_BOTH,
    GET_CHUNK,
    GET_CHUNKS,
    GET_SOME_CHUNKS,
    HAS_CHUNKS,
    OF_TEXT,
    PUT_CHUNKS,
    REPLACE,
    checksum,
    chunk_crc,
    chunk_crcs,
    in_statements,
)
from .statements import Statements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored

    Given = Callable[[List[Any]], Iterable[Any]]  # what is to be run of what a statement is to be run with

BUILTIN = type(len)     # of what a cursor has, in C


class ChunkTable(Statements):
    """The part of the store that holds chunks of values."""

    def get_chunk(self, owner: bytes, number: int) -> Optional[bytes]:
        c = self.local.c
        try:
            rows = self.rows(c, GET_CHUNK, (owner, number))
        except driver.Error as error:
            if lacks_chunks(error):
                return None
            raise self.failed(error) from error
        return self._whole(owner, number, *rows[0]) if rows else None

    def get_chunks(self, owner: bytes, numbers: Sequence[int]) -> Sequence[Optional[bytes]]:
        if len(numbers) < 2:
            return super().get_chunks(owner, numbers)
        rows = self._rows_of(owner, numbers)
        found, datas, crcs = zip(*rows) if rows else ((), (), ())
        try:
            if found == tuple(numbers) and crcs == tuple(chunk_crcs(owner, numbers, datas)):
                return datas
        except TypeError:
            pass  # a damaged row: as below
        chunks = {number: self._whole(owner, number, data, crc) for number, data, crc in rows}
        return [chunks.get(number) for number in numbers]

    def _rows_of(self, owner: bytes, numbers: Sequence[int]) -> List[Tuple[int, bytes, int]]:
        c = self.local.c
        rows: List[Tuple[int, bytes, int]] = []
        try:
            if numbers[-1] - numbers[0] == len(numbers) - 1 and [*numbers] == [*range(numbers[0], numbers[-1] + 1)]:
                return self.rows(c, GET_CHUNKS, (owner, numbers[0], numbers[-1]))
            for at in range(0, len(numbers), CHUNKS_AT_ONCE):
                some = numbers[at:at + CHUNKS_AT_ONCE]
                rows += self.rows(c, GET_SOME_CHUNKS, (owner, *some, *[some[-1]] * (CHUNKS_AT_ONCE - len(some))))
        except driver.Error as error:
            if not lacks_chunks(error):
                raise self.failed(error) from error
        return rows

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        c = self.local.c
        try:
            rows = self.rows(c, GET_BOTH, (owner, number, key))
        except driver.Error as error:
            if lacks_chunks(error):
                return self.get(key), None
            raise self.failed(error, key) from error
        if not rows:
            return None, None
        data, crc, chunk, chunk_crc = rows[0]
        if type(key) is not str or type(data) is not bytes or (
                crc != crc32(data, crc32(key.encode(), OF_TEXT)) | HAS_CHUNKS):  # the common case in line, as in get
            self.intact(key, data, crc)
        return data, None if chunk_crc is None else self._whole(owner, number, chunk, chunk_crc)

    def _whole(self, owner: bytes, number: int, data: bytes, crc: int) -> bytes:
        """Return a chunk when it is what was written."""
        if type(data) is bytes and crc == chunk_crc(owner, number, data):
            return data
        raise VaultCorruptError(f'chunk {number} of {owner.hex()} is damaged: its checksum does not hold; vault '
                                f'{self.file.path}; run check(), and restore the entry from a backup, or '
                                '`vaults recover` the others')

    def put_chunks(self, owner: bytes, chunks: Iterable[Tuple[int, bytes]]) -> None:
        c = self.local.c
        self.once(lambda: self._put_chunks(c, owner, list(chunks)))

    def replace_chunks(self, c: Connection, owner: bytes, chunks: List[Tuple[int, bytes]], given: Given) -> None:
        """Put chunks in place of those that have the first one's number, or a higher one."""
        self._run_many(c, DELETE_CHUNKS_FROM, [(owner, chunks[0][0])], given)
        self._put_chunks(c, owner, chunks, given)

    def _put_chunks(self, c: Connection, owner: bytes, chunks: List[Tuple[int, bytes]], given: Given = iter) -> None:
        """Put chunks many in a statement, which takes 0.8 of the time."""
        numbers, datas = [number for number, _ in chunks], [data for _, data in chunks]
        size = sum(map(len, datas))
        flat = list(chain.from_iterable(zip(repeat(owner), numbers, datas, chunk_crcs(owner, numbers, datas))))
        for sql, statements in in_statements(PUT_CHUNKS, flat, 4):
            self._run_many(c, sql, statements, given)
        c.written += size + TOGETHER * len(chunks)

    def _run_many(self, c: Connection, sql: str, values: List[Any], given: Given) -> None:
        self._with_chunks(c, lambda: c.raw.many(sql, given(values)))

    def put_owner_if(self, key: Stored, known: bytes, data: bytes) -> bool:
        c = self.local.c
        if type(c.execute) is not BUILTIN:  # something stands in its place, which refuses
            return super().put_owner_if(key, known, data)
        try:
            done = self.replaced(c, key, known, data)
        except driver.error_or(OverflowError) as error:
            if c.depth or not is_locked(error):
                raise self.failed(error, key) from error
            return super().put_owner_if(key, known, data)  # waits
        if done:
            c.written += c.row + len(data)
            if c.written > c.due:
                self._look(c)
        return done

    def replaced(self, c: Connection, key: Stored, known: bytes, data: bytes) -> bool:
        """Put a header in the place of the one that is known, in one statement; tell whether that was there."""
        return bool(c.raw.changed(REPLACE, (data, checksum(key, data) | HAS_CHUNKS, key, known)))

    def delete_chunks(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        c = self.local.c
        self.transact(lambda: self._with_chunks(c, lambda: c.execute(DELETE_CHUNKS, (owner,)) if numbers is None else
                                                c.raw.many(DELETE_CHUNK, ((owner, one) for one in numbers))))

    def _with_chunks(self, c: Connection, operation: Callable[[], Any]) -> None:
        """Do it where the table is; it is made when the first chunk is put."""
        try:
            operation()
        except driver.Error as error:
            if not lacks_chunks(error):
                raise
            for statement in CREATE_CHUNKS:
                c.execute(statement)
            operation()

    def chunk_numbers(self, owner: bytes) -> Iterator[int]:
        return self._listed_chunks(CHUNK_NUMBERS, (owner,))

    def chunk_owners(self) -> Iterator[bytes]:
        return self._listed_chunks(CHUNK_OWNERS, ())

    def _listed_chunks(self, sql: str, arguments: Tuple[Any, ...]) -> Iterator[Any]:
        c = self.local.c
        try:
            rows = self.rows(c, sql, arguments)
        except driver.Error as error:
            if lacks_chunks(error):
                return iter(())
            raise self.failed(error) from error
        return chain.from_iterable(rows)
