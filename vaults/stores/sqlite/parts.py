"""Parts of values that are kept in parts, in a table of their own. Knows nothing of how they make a value.

The trap: a part that no entry needs stays for ever, and one that is missing makes a value that nobody can read. So
triggers in the file free the parts of an entry that is deleted or gets another owner, whoever does that; and because
they take a fifth of the time of an `update`, they and the table are made with the first part: until then there is none.
"""
from __future__ import annotations

from itertools import chain

from ...errors import VaultCorruptError
from . import driver
from .connection import TOGETHER, Connection
from .failures import lacks_parts
from .schema import (
    CREATE_PARTS,
    DELETE_PART,
    DELETE_PARTS,
    GET_BOTH,
    GET_PART,
    PART_NUMBERS,
    PART_OWNERS,
    PUT_PART,
    part_crc,
)
from .statements import Statements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional, Tuple

    from ...keys import Stored


class Parted(Statements):
    """The part of the store that holds parts of values."""

    def get_part(self, owner: bytes, number: int) -> Optional[bytes]:
        c = self.local.c
        try:
            rows = self.rows(c, GET_PART, (owner, number))
        except driver.Error as error:
            if lacks_parts(error):
                return None
            raise self.failed(error) from error
        return self._whole(owner, number, *rows[0]) if rows else None

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        c = self.local.c
        try:
            rows = self.rows(c, GET_BOTH, (owner, number, key))
        except driver.Error as error:
            if lacks_parts(error):
                return self.get(key), None
            raise self.failed(error, key) from error
        if not rows:
            return None, None
        data, crc, part, part_crc = rows[0]
        self.intact(key, data, crc)
        return data, None if part_crc is None else self._whole(owner, number, part, part_crc)

    def _whole(self, owner: bytes, number: int, data: bytes, crc: int) -> bytes:
        """Return a part when it is what was written."""
        if type(data) is bytes and crc == part_crc(owner, number, data):
            return data
        raise VaultCorruptError(f'part {number} of {owner.hex()} is damaged: its checksum does not hold; vault '
                                f'{self.file.path}; run check(), and restore the entry from a backup, or '
                                '`vaults recover` the others')

    def put_parts(self, owner: bytes, parts: Iterable[Tuple[int, bytes]]) -> None:
        c = self.local.c
        self.transact(lambda: self._with_parts(c, lambda: c.raw.many(PUT_PART, _part_rows(c, owner, parts))))

    def delete_parts(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        c = self.local.c
        self.transact(lambda: self._with_parts(c, lambda: c.execute(DELETE_PARTS, (owner,)) if numbers is None else
                                               c.raw.many(DELETE_PART, ((owner, one) for one in numbers))))

    def _with_parts(self, c: Connection, operation: Callable[[], Any]) -> None:
        """Do it where the table is; it is made when the first part is put."""
        try:
            operation()
        except driver.Error as error:
            if not lacks_parts(error):
                raise
            for statement in CREATE_PARTS:
                c.execute(statement)
            operation()

    def part_numbers(self, owner: bytes) -> Iterator[int]:
        return self._listed_parts(PART_NUMBERS, (owner,))

    def part_owners(self) -> Iterator[bytes]:
        return self._listed_parts(PART_OWNERS, ())

    def _listed_parts(self, sql: str, arguments: Tuple[Any, ...]) -> Iterator[Any]:
        c = self.local.c
        try:
            rows = self.rows(c, sql, arguments)
        except driver.Error as error:
            if lacks_parts(error):
                return iter(())
            raise self.failed(error) from error
        return chain.from_iterable(rows)


def _part_rows(c: Connection, owner: bytes, parts: Iterable[Tuple[int, bytes]]) -> Iterator[Tuple[Any, ...]]:
    for number, data in parts:
        c.written += TOGETHER + len(data)
        yield owner, number, data, part_crc(owner, number, data)
