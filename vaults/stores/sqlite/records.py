"""Records: SQLite's record format, for files that are damaged. Knows bytes, and nothing of pages or vaults.

https://www.sqlite.org/fileformat2.html#record_format describes it. The trap: each length in a record says where the
next thing begins, so that one wrong byte makes nonsense of all behind it. What is cut off or wrong ends the record, and
the columns before it are returned.
"""
from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple

    Record = List[Any]  # the columns, as far as they could be read

SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)  # bytes of a column, by its serial type: integers, a double, 0 and 1


def varint(data: bytes, at: int) -> Tuple[int, int]:
    """Return a number of 1 to 9 bytes, and where it ends."""
    value = 0
    for place in range(at, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def decoded(data: bytes) -> Record:
    """Return the columns of a record; where it is cut off or wrong, those before. Text that is none is None."""
    found: Record = []
    end, at = (data[0], 1) if data[0] < 0x80 else varint(data, 0)
    place = end
    while at < end:
        serial, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at)
        if serial in (10, 11):
            break
        size = SIZES[serial] if serial < 12 else (serial - 12) // 2
        if place + size > len(data):
            break
        found.append(_column(serial, data[place:place + size]))
        place += size
    return found


def _column(serial: int, data: bytes) -> Any:
    if serial in (0, 8, 9):
        return None if not serial else serial - 8
    if serial >= 12:
        return _text(data) if serial & 1 else data
    return struct.unpack('>d', data)[0] if serial == 7 else int.from_bytes(data, 'big', signed=True)


def _text(data: bytes) -> Optional[str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
