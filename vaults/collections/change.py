"""Change: runs of items put into a tree, or taken out, at any place. Knows neither stores nor what items are."""
from __future__ import annotations

from ..codecs import codes
from ..errors import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Sequence, Tuple

    from .leaves import Items
    from .tree import Head, Tree

    Piece = Tuple[bytes, int]


class Appender:
    """Puts runs behind what is in a head's tree and tail. For one transaction, at whose end the tree is saved."""

    __slots__ = ('_items', 'head', 'tree')

    def __init__(self, head: Head, tree: Tree, items: Items) -> None:
        self.head, self.tree, self._items = head, tree, items

    def append(self, run: bytes, count: int) -> None:
        """Add a run that fits a leaf: to the tail; when it is full, that becomes a leaf."""
        head, is_full = self.head, self._items.is_full
        waiting = head.size + head.skip - head.inside
        if waiting and is_full(head.tail + run, waiting + count):
            self._seal(head.tail, waiting)
            waiting = 0
        head.size += count
        head.tail = head.tail + run if waiting else run
        if not waiting and is_full(run, count):  # one large item
            self._seal(run, count)

    def _seal(self, run: bytes, count: int) -> None:
        self.tree.append(run, count)
        self.head.tail = b''


class Change(Appender):
    """Puts runs in place of any items, as an Appender puts them behind.

    `leaf(head, at)` returns the run with the item at `at`, its start, stop and number; `damaged(error)` the error about
    bytes that cannot be cut.
    """

    __slots__ = ('_damaged', '_leaf')

    def __init__(self, head: Head, tree: Tree, items: Items, leaf: Callable[[Head, int], Tuple[bytes, int, int, int]],
                 damaged: Callable[[Exception], VaultError]) -> None:
        self.head, self.tree, self._items = head, tree, items
        self._leaf, self._damaged = leaf, damaged

    def replace(self, start: int, stop: int, runs: Sequence[Piece]) -> None:
        """Put runs in place of the items from `start` to `stop`."""
        head = self.head
        try:
            if not start and not runs and stop < head.size:
                self._drop_first(stop)
            elif start + head.skip >= head.inside:
                self._replace_tail(start, stop, runs)
            else:
                self._replace_leaves(start + head.skip, stop + head.skip, runs)
                head.size += sum(count for _, count in runs) - (stop - start)
        except VaultError:
            raise
        except codes.MALFORMED as error:  # of bytes that cannot be cut
            raise self._damaged(error) from error
        if not head.size:
            self.tree.splice(0, head.inside, [])
            head.skip, head.tail = 0, b''

    def _drop_first(self, count: int) -> None:
        """Remove items at the beginning: leaves that hold nothing else, and of the next one by counting."""
        head = self.head
        head.skip, head.size = head.skip + count, head.size - count
        if head.skip >= head.inside:
            waiting = head.size + head.skip - head.inside
            head.tail = self._items.cut(head.tail, waiting, head.skip - head.inside, waiting)
            whole = head.skip = head.inside
        else:
            whole = self.tree.find(head.skip)[1]
        if whole:
            self.tree.splice(0, whole, [])
            head.skip -= whole

    def _replace_tail(self, start: int, stop: int, runs: Sequence[Piece]) -> None:
        """Put runs in place of items of the tail: cut it there, and append the runs and the rest."""
        head, cut = self.head, self._items.cut
        first = head.inside - head.skip
        waiting = head.size - first
        before = cut(head.tail, waiting, 0, start - first)
        after = cut(head.tail, waiting, stop - first, waiting)
        rest, head.size, head.tail = head.size - stop, start, before
        for run, count in runs:
            self.append(run, count)
        if rest:
            self.append(after, rest)

    def _replace_leaves(self, start: int, stop: int, runs: Sequence[Piece]) -> None:
        """Put runs in place of items that begin in the tree; the skipped ones count here."""
        head, cut, is_full = self.head, self._items.cut, self._items.is_full
        run, first, end, _ = self._leaf(head, start)
        joined = [(cut(run, end - first, 0, start - first), start - first), *runs]
        if stop > head.inside:
            waiting = head.size + head.skip - head.inside
            head.tail = cut(head.tail, waiting, stop - head.inside, waiting)
            end = head.inside
        else:
            if stop > end:
                run, begin, end, _ = self._leaf(head, stop - 1)
            else:
                begin = first
            joined.append((cut(run, end - begin, stop - begin, end - begin), end - stop))
        joined = [(run, count) for run, count in joined if count]
        rest, many = b''.join([run for run, _ in joined]), sum(count for _, count in joined)
        if rest and not is_full(2 * rest, 2 * many) and end < head.inside:
            run, begin, after, _ = self._leaf(head, end)
            if not is_full(rest + run, many + after - begin):  # a leaf that has become small takes its neighbour in
                joined, rest, many, end = [*joined, (run, after - begin)], rest + run, many + after - begin, after
        if end == head.inside and not is_full(rest + head.tail, head.size + head.skip - max(stop, end) + many):
            if not first:  # no tree is left, and with it go the items that were skipped at its beginning
                rest, head.skip = cut(rest, many, head.skip, many), 0
            head.tail, joined = rest + head.tail, []  # popping goes on from there
        self.tree.splice(first, end, [self.tree.leaf(*piece) for piece in self._rejoined(joined)])

    def _rejoined(self, runs: Sequence[Piece]) -> Iterator[Piece]:
        """Yield runs that fit leaves, and hold the items of others: short ones are joined, long ones divided."""
        waiting, many = b'', 0
        for run, count in runs:
            if many and self._items.is_full(waiting + run, many + count):
                yield from self._items.pieces(waiting, many)
                waiting, many = b'', 0
            waiting, many = waiting + run, many + count
        if many:
            yield from self._items.pieces(waiting, many)
