"""Leaves: how items lie in a chunk of a value, and how it is cut. Knows bytes alone, and no vault.

A chunk is the bytes of items, with their number beside it.
"""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from ..codecs import packing
from .tree import inconsistent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, List, Sequence, Tuple, Union

    Items = Union['PackedItems', 'SizedItems']

LEAF = 4000       # bytes: a row of about a page
ITEMS = 128       # packed ones in a leaf: what is before an item is skipped to find it


class PackedItems:
    """Values as msgpack, one after another. Its methods raise what MALFORMED has for bytes that are none."""

    __slots__ = ()

    def cut(self, chunk: bytes, count: int, start: int, stop: int) -> bytes:
        """Return the items from `start` to `stop` of a chunk of `count`."""
        if start == stop:
            return b''
        ends = packing.offsets(chunk, stop)
        return chunk[ends[start]:ends[stop]]

    def split(self, chunk: bytes, count: int, skip: int) -> List[bytes]:
        """Return the bytes of each item, but the first ones."""
        ends = packing.offsets(chunk, count)
        return [chunk[start:stop] for start, stop in zip(ends[skip:], ends[skip + 1:])]

    def can_be(self, chunk: bytes, count: int) -> bool:
        """Tell whether a chunk can have so many items, as far as its length tells."""
        return count <= len(chunk)

    def fits(self, size: int, count: int) -> bool:
        """Tell whether so many items of so many bytes fit a leaf."""
        return size <= LEAF and count <= ITEMS

    def pieces(self, chunk: bytes, count: int) -> Iterator[Tuple[bytes, int]]:
        """Yield a chunk in chunks that fit leaves."""
        if count < 2 or self.fits(len(chunk), count):
            yield chunk, count
            return
        ends, at = packing.offsets(chunk, count), 0
        while at < count:
            upto = min(max(bisect_left(ends, ends[at] + LEAF, at) - 1, at + 1), at + ITEMS, count)
            yield chunk[ends[at]:ends[upto]], upto - at
            at = upto

    def joined(self, items: Sequence[bytes], chunk: bytes, count: int) -> Iterator[Tuple[bytes, int]]:
        """Yield the bytes of single items in chunks that fit leaves; the first one fits behind the chunk given."""
        ends, at = [0, *accumulate(map(len, items))], 0
        left, most = LEAF - len(chunk), ITEMS - count
        while at < len(items):
            upto = min(bisect_right(ends, ends[at] + left, at) - 1, at + most)
            if upto <= at and (left, most) == (LEAF, ITEMS):
                upto = at + 1
            left, most = LEAF, ITEMS
            if upto > at:
                yield b''.join(items[at:upto]), upto - at
                at = upto


class SizedItems:
    """Items of `size` bytes each, `leaf` bytes of which are a leaf."""

    __slots__ = ('leaf', 'size')

    def __init__(self, size: int) -> None:
        self.size, self.leaf = size, max(LEAF // size, 1) * size

    def cut(self, chunk: bytes, count: int, start: int, stop: int) -> bytes:
        """Return the items from `start` to `stop` of a chunk of `count`."""
        return chunk[start * self.size:stop * self.size]

    def split(self, chunk: bytes, count: int, skip: int) -> List[bytes]:
        """Return the bytes of all items but the first ones. Raises: VaultCorruptError when there are not so many."""
        if len(chunk) != count * self.size:
            raise inconsistent()
        return [chunk[skip * self.size:]]

    def can_be(self, chunk: bytes, count: int) -> bool:
        """Tell whether a chunk has so many items."""
        return len(chunk) == count * self.size

    def fits(self, size: int, count: int) -> bool:
        """Tell whether so many items of so many bytes fit a leaf."""
        return size <= self.leaf

    def pieces(self, chunk: bytes, count: int) -> Iterator[Tuple[bytes, int]]:
        """Yield a chunk in chunks that fit leaves."""
        for at in range(0, len(chunk), self.leaf):
            piece = bytes(chunk[at:at + self.leaf])
            yield piece, len(piece) // self.size

    def joined(self, items: Sequence[bytes], chunk: bytes, count: int) -> Iterator[Tuple[bytes, int]]:
        """Yield the bytes of single items in chunks that fit leaves; the first one fits behind the chunk given."""
        data, left = b''.join(items), self.leaf - len(chunk)
        if left > 0:
            yield from self.pieces(data[:left], 0)
        yield from self.pieces(data[max(left, 0):], 0)


PACKED_ITEMS = PackedItems()
