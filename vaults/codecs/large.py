"""Large: payloads of many bytes, packed with one copy of them and read with none or one. Knows headers, and no type.

msgpack's packer copies what it packs twice, into its buffer and out of it, at each depth, and keeps the buffer. So the
bytes of an array or a frame never go through it: it packs a placeholder, and Pieces says what belongs there.
"""
from __future__ import annotations

from msgpack import ExtType, OutOfData, Unpacker

from .codes import BULK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple, Union

    from .registry import Unpack

    Piece = Union[bytes, memoryview]
    Places = List[Tuple[int, List[Piece]]]

LOOKED_THROUGH = 1 << 12  # bytes of a payload in which its long bytes begin, or are not looked for
PLACEHOLDER = ExtType(0, b'')
PLACE = 3        # bytes that it is packed to
BIN = -1         # in place of an ExtType's code, for bytes
IN_LARGE_PAGES = 1 << 22  # bytes that are joined in memory of their own: see memory.py
MOST = 1 << 32   # bytes that msgpack does not pack any more


class Pieces(bytes):
    """Bytes that nobody has joined yet: a bytes object that is empty, with the length that they have."""

    pieces: List[Piece]

    def __len__(self) -> int:
        return sum(map(len, self.pieces))


def pieces_of(pieces: List[Piece]) -> Pieces:
    made = Pieces()
    made.pieces = pieces
    return made


def packed_bytes(data: bytes) -> bytes:
    """Return what msgpack makes of less than 4 GB, with one copy in place of two."""
    size = len(data)
    return b'\xc4%c%b' % (size, data) if size < 256 else joined(with_header(BIN, data))


def uncopied(view: memoryview) -> bytes:
    """Return contiguous bytes for a payload, without a copy where they are many."""
    return pieces_of([view.cast('B')]) if view.nbytes >= BULK else view.tobytes()


def with_header(code: int, payload: bytes) -> List[Piece]:
    """Return the pieces of an ExtType of more than 16 bytes, or of bytes. Raises: OverflowError for 4 GB."""
    size, short = len(payload), 0xC4 if code == BIN else 0xC7
    place = (size >= 1 << 8) + (size >= 1 << 16)
    header = bytes([short + place]) + size.to_bytes(1 << place, 'big')
    pieces = payload.pieces if isinstance(payload, Pieces) else [payload]
    return [header if code == BIN else header + bytes([code]), *pieces]


def joined(pieces: List[Piece]) -> bytes:
    """Return the pieces as one."""
    size = sum(map(len, pieces))
    if size < IN_LARGE_PAGES:
        return b''.join(pieces)
    from ..memory import blank
    file = blank(size)
    file.writelines(pieces)
    return file.getvalue()


def filled(data: bytes, places: Places) -> List[Piece]:
    """Return what has been packed with placeholders, and what these stand for in place of them. Empties `places`."""
    pieces: List[Piece] = []
    start = 0
    for at, large in places:
        pieces += [data[start:at], *large]
        start = at + PLACE
    places.clear()
    return [*pieces, data[start:]]


def viewed(data: Piece, inner: Unpack, at_end: bool = False) -> Tuple[Any, Optional[memoryview]]:
    """Return what a payload holds, with b'' in place of the first long bytes in it, and a view of those; or None.

    With `at_end` only of those that nothing follows.
    """
    place = _long_bytes(data) if len(data) >= BULK else None
    if place is None or (at_end and place[1] != len(data)):
        return inner(data), None  # type: ignore[arg-type]  # msgpack takes both
    at, end = place
    view = memoryview(data)
    return inner(b'\xc4\0'.join((view[:at], view[end:]))), view[at + 5:end]


def _long_bytes(data: Piece) -> Optional[Tuple[int, int]]:
    """Return where the first long bytes of a payload begin with their header, and where they end; or None."""
    unpacker = Unpacker(max_buffer_size=LOOKED_THROUGH)
    unpacker.feed(data[:LOOKED_THROUGH])
    try:
        while True:
            at = unpacker.tell()
            header = data[at]
            if header == 0xC6:
                end = at + 5 + int.from_bytes(data[at + 1:at + 5], 'big')
                return (at, end) if end - at >= BULK and end <= len(data) else None
            if header & 0xF0 == 0x90:  # what is in short arrays and maps comes next
                unpacker.read_array_header()
            elif header & 0xF0 == 0x80:
                unpacker.read_map_header()
            else:
                unpacker.skip()
    except (OutOfData, IndexError):
        return None
