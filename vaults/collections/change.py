"""Change: chunks of items put into a tree, or taken out, at any place. Knows neither stores nor what items are."""
from __future__ import annotations

from ..codecs import codes
from ..errors import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Sequence, Tuple

    from .leaves import Items
    from .tree import Header, Tree

    Piece = Tuple[bytes, int]


class Appender:
    """Puts chunks behind what is in a header's tree and tail. For one transaction, at whose end the tree is saved."""

    __slots__ = ('_items', 'header', 'tree')

    def __init__(self, header: Header, tree: Tree, items: Items) -> None:
        self.header, self.tree, self._items = header, tree, items

    def append(self, chunk: bytes, count: int) -> None:
        """Add a chunk that fits a leaf: to the tail; when it is full, that becomes a leaf."""
        header, fits = self.header, self._items.fits
        waiting = header.size + header.skip - header.inside
        if waiting and not fits(len(header.tail) + len(chunk), waiting + count):
            self._seal(header.tail, waiting)
            waiting = 0
        header.size += count
        header.tail = header.tail + chunk if waiting else chunk
        if not waiting and not fits(len(chunk), count):  # one large item
            self._seal(chunk, count)

    def _seal(self, chunk: bytes, count: int) -> None:
        self.tree.append(chunk, count)
        self.header.tail = b''


class Change(Appender):
    """Puts chunks in place of any items, as an Appender puts them behind.

    `leaf(header, at)` returns the chunk with the item at `at`, its start, stop and number; `damaged(error)` the error
    about bytes that cannot be cut.
    """

    __slots__ = ('_damaged', '_leaf')

    def __init__(self, header: Header, tree: Tree, items: Items,
                 leaf: Callable[[Header, int], Tuple[bytes, int, int, int]],
                 damaged: Callable[[Exception], VaultError]) -> None:
        self.header, self.tree, self._items = header, tree, items
        self._leaf, self._damaged = leaf, damaged

    def replace(self, start: int, stop: int, chunks: Sequence[Piece]) -> None:
        """Put chunks in place of the items from `start` to `stop`."""
        header = self.header
        try:
            if not start and not chunks and stop < header.size:
                self._drop_first(stop)
            elif start + header.skip >= header.inside:
                self._replace_tail(start, stop, chunks)
            else:
                self._replace_leaves(start + header.skip, stop + header.skip, chunks)
                header.size += sum(count for _, count in chunks) - (stop - start)
        except VaultError:
            raise
        except codes.MALFORMED as error:  # of bytes that cannot be cut
            raise self._damaged(error) from error
        if not header.size:
            self.tree.splice(0, header.inside, [])
            header.skip, header.tail = 0, b''

    def _drop_first(self, count: int) -> None:
        """Remove items at the beginning: leaves that hold nothing else, and of the next one by counting."""
        header = self.header
        header.skip, header.size = header.skip + count, header.size - count
        if header.skip >= header.inside:
            waiting = header.size + header.skip - header.inside
            header.tail = self._items.cut(header.tail, waiting, header.skip - header.inside, waiting)
            whole = header.skip = header.inside
        else:
            whole = self.tree.find(header.skip)[1]
        if whole:
            self.tree.splice(0, whole, [])
            header.skip -= whole

    def _replace_tail(self, start: int, stop: int, chunks: Sequence[Piece]) -> None:
        """Put chunks in place of items of the tail: cut it there, and append the chunks and the rest."""
        header, cut = self.header, self._items.cut
        first = header.inside - header.skip
        waiting = header.size - first
        before = cut(header.tail, waiting, 0, start - first)
        after = cut(header.tail, waiting, stop - first, waiting)
        rest, header.size, header.tail = header.size - stop, start, before
        for chunk, count in chunks:
            self.append(chunk, count)
        if rest:
            self.append(after, rest)

    def _replace_leaves(self, start: int, stop: int, chunks: Sequence[Piece]) -> None:
        """Put chunks in place of items that begin in the tree; the skipped ones count here."""
        header, cut, fits = self.header, self._items.cut, self._items.fits
        chunk, first, end, _ = self._leaf(header, start)
        joined = [(cut(chunk, end - first, 0, start - first), start - first), *chunks]
        if stop > header.inside:
            waiting = header.size + header.skip - header.inside
            header.tail = cut(header.tail, waiting, stop - header.inside, waiting)
            end = header.inside
        else:
            if stop > end:
                chunk, begin, end, _ = self._leaf(header, stop - 1)
            else:
                begin = first
            joined.append((cut(chunk, end - begin, stop - begin, end - begin), end - stop))
        joined = [(chunk, count) for chunk, count in joined if count]
        rest, many = b''.join([chunk for chunk, _ in joined]), sum(count for _, count in joined)
        if rest and fits(2 * len(rest), 2 * many) and end < header.inside:
            chunk, begin, after, _ = self._leaf(header, end)
            if fits(len(rest) + len(chunk), many + after - begin):  # a leaf that became small takes its neighbour in
                joined, rest, many, end = [*joined, (chunk, after - begin)], rest + chunk, many + after - begin, after
        if end == header.inside and fits(len(rest) + len(header.tail),
                                         header.size + header.skip - max(stop, end) + many):
            if not first:  # no tree is left, and with it go the items that were skipped at its beginning
                rest, header.skip = cut(rest, many, header.skip, many), 0
            header.tail, joined = rest + header.tail, []  # popping goes on from there
        self.tree.splice(first, end, [self.tree.leaf(*piece) for piece in self._rejoined(joined)])

    def _rejoined(self, chunks: Sequence[Piece]) -> Iterator[Piece]:
        """Yield chunks that fit leaves, and hold the items of others: short ones are joined, long ones divided."""
        waiting, many = b'', 0
        for chunk, count in chunks:
            if many and not self._items.fits(len(waiting) + len(chunk), many + count):
                yield from self._items.pieces(waiting, many)
                waiting, many = b'', 0
            waiting, many = waiting + chunk, many + count
        if many:
            yield from self._items.pieces(waiting, many)
