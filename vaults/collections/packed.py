"""Packed sequences: what lists and deques share: items that are any values. Knows neither SQL nor how keys are stored.

A leaf is msgpack, one item after another.
"""
from __future__ import annotations

import operator
from itertools import chain, islice, repeat
from operator import index as as_index

from msgpack import Unpacker

from .._typing import TYPE_CHECKING, T
from ..codecs import codes, packing
from ..errors import VaultError
from . import leaves
from .leaves import PACKED_ITEMS
from .sequence import LiveSequence

if TYPE_CHECKING:
    from typing import Any, Callable, ClassVar, Iterable, Iterator, Tuple
    from typing import List as PlainList

    from typing_extensions import Self

    from .sequence import ChunkSlice


class PackedSequence(LiveSequence[T]):
    """A live sequence of any values. `plain_type`: the type of its copies, with which its operators work."""

    __slots__ = ()
    _items = PACKED_ITEMS
    plain_type: ClassVar[type]

    # --- the operators: with copies in memory, and with others of the kind ---

    def _is_alike(self, other: object) -> bool:
        return isinstance(other, self.plain_type) or (
            isinstance(other, PackedSequence) and other.plain_type is self.plain_type)

    def __add__(self, other: Any) -> Any:
        """Return a copy of both, in memory."""
        if not self._is_alike(other):
            return NotImplemented
        both = self.copy()
        both += other
        return both

    def __radd__(self, other: Any) -> Any:
        return other + self.copy() if isinstance(other, self.plain_type) else NotImplemented

    def __mul__(self, times: int) -> Any:
        """Return a copy in memory, with the items so many times."""
        return self.copy() * times

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Self:
        """Repeat the items in place; atomic between processes."""
        times = as_index(times)

        def multiply() -> None:
            self.extend(chain.from_iterable(repeat(self.copy(), times - 1))) if times > 0 else self.clear()
        self._place.store.transact(multiply)
        return self

    def __lt__(self, other: Any) -> bool:
        return self._compared(other, operator.lt)

    def __le__(self, other: Any) -> bool:
        return self._compared(other, operator.le)

    def __gt__(self, other: Any) -> bool:
        return self._compared(other, operator.gt)

    def __ge__(self, other: Any) -> bool:
        return self._compared(other, operator.ge)

    def _compared(self, other: Any, compare: Callable[[Any, Any], bool]) -> bool:
        """Compare as lists are: by the first items that differ, or else by length. Reads no further."""
        if not self._is_alike(other):
            return NotImplemented  # type: ignore[no-any-return]
        for mine, theirs in zip(self, other):
            if not (mine is theirs or mine == theirs):
                return compare(mine, theirs)
        return compare(len(self), len(other))

    # --- what a leaf is ---

    def _packed(self, items: Iterable[Any]) -> Iterator[Tuple[bytes, int]]:
        """Pack as many items at once as fit a leaf, going by those before; msgpack is quickest so."""
        iterator, size = iter(items), 1
        while True:
            block = list(islice(iterator, size))
            if not block:
                return
            chunk = self._dumped(block)
            if len(chunk) > 2 * leaves.LEAF and len(block) > 1:
                yield from self._pieces(chunk, len(block))
            else:
                yield chunk, len(block)
            size = max(1, min(leaves.ITEMS, 2 * size, leaves.LEAF * len(block) // (len(chunk) + 1)))

    def _pieces(self, chunk: bytes, count: int) -> Iterator[Tuple[bytes, int]]:
        try:
            yield from PACKED_ITEMS.pieces(chunk, count)
        except codes.MALFORMED as error:  # another thread has changed it while it was packed
            raise self._damaged(error) from error

    def _dumped(self, block: PlainList[Any]) -> bytes:
        try:
            return packing.packed_chunk(self._place.codec, block)
        except VaultError as error:
            raise self._about(error) from error

    def _about(self, error: VaultError) -> VaultError:
        return self._place.about(error, self._key)

    def _packed_one(self, item: Any) -> bytes:
        try:
            return self._place.codec.dumps(item)
        except VaultError as error:
            raise self._about(error) from error

    def _one(self, chunk: bytes, at: int) -> Any:
        try:
            return self._from(chunk, at).unpack()
        except codes.MALFORMED:
            return self._singly([(chunk, at, at + 1)])[0]

    def _from(self, chunk: bytes, at: int) -> Any:
        """Return an unpacker that stands at an item: those before are skipped at once, as one array."""
        unpacker = self._unpacker(packing.as_array(chunk, at))
        unpacker.skip()
        return unpacker

    def _unpacker(self, data: bytes) -> Any:
        unpacker = Unpacker(ext_hook=self._place.codec.ext_hook, strict_map_key=False, max_buffer_size=len(data))
        unpacker.feed(data)
        return unpacker

    def _load(self, data: bytes) -> Any:
        try:
            return self._place.codec.loads(data)
        except VaultError as error:
            raise self._about(error) from error

    def _loaded(self, chunks: PlainList[ChunkSlice]) -> PlainList[Any]:
        """Return the items of chunks of which the first may begin before them, and the last go on behind them.

        They are unpacked as one array, in one call.
        """
        if not chunks:
            return []
        try:
            chunk, start, _ = chunks[0]
            first = chunk[self._from(chunk, start).tell() - len(packing.as_array(b'', 0)):] if start else chunk
            data = b''.join([first, *(chunk for chunk, _, _ in chunks[1:])])
            count = sum(stop - start for _, start, stop in chunks)
            return self._unpacker(packing.as_array(data, count)).unpack()  # type: ignore[no-any-return]
        except codes.MALFORMED:
            return self._singly(chunks)

    def _singly(self, chunks: PlainList[ChunkSlice]) -> PlainList[Any]:
        """Load one item after another: the one that cannot be loaded says what is wrong."""
        try:
            items = [item for chunk, start, stop in chunks for item in PACKED_ITEMS.split(chunk, stop, start)]
        except codes.MALFORMED as error:
            raise self._damaged(error) from error
        return [self._load(item) for item in items]

    _listed = _loaded

    def _stepped(self, chunks: PlainList[ChunkSlice], places: Iterable[int]) -> PlainList[Any]:
        items = self._loaded(chunks)
        return [items[at] for at in places]
