"""Deques that live in a vault: items that come and go at both ends. Knows neither SQL nor how keys are stored.

A kind without a code of its own: it stands by its name in the header, beside the number of items that it may have. Its
leaves are those of a list.
"""
from __future__ import annotations

from collections import deque
from operator import index as as_index

from .._typing import TYPE_CHECKING, T
from .kind import SequenceKind, register_kind
from .packed import PackedSequence

if TYPE_CHECKING:
    from typing import Any, ClassVar, Iterable, Optional, SupportsIndex, Tuple

    from ..place import Place
    from .kind import Batch
    from .tree import Header


class DequeKind(SequenceKind):
    """Deques; a header says their `maxlen`, or None. Safe in any thread."""

    def title(self, meta: Any) -> str:
        return 'a deque' if meta is None else f'a deque of at most {meta}'

    def is_mine(self, header: Header) -> bool:
        return super().is_mine(header) and _is_within(header.size, self.meta(header))

    def from_json(self, body: Any) -> Tuple[Any, int]:
        meta, size = super().from_json(body)
        if not _is_within(size, meta):
            raise ValueError(f'a deque of {size} items cannot have the maxlen {meta!r}')
        return meta, size

    def plain(self, meta: Any, batches: Iterable[Batch]) -> Any:
        return deque(super().plain(meta, batches), meta)

    def new_meta(self, maxlen: Optional[int] = None, **options: Any) -> Any:
        super().new_meta(**options)
        return deque(maxlen=maxlen).maxlen  # which raises for what is no such number

    def at(self, place: Place, key: Any, maxlen: Optional[int] = None, **options: Any) -> Any:
        """Return the deque, made if there is nothing. Raises: TypeError, ValueError; without `maxlen` any will do."""
        found = super().at(place, key, maxlen=maxlen, **options)
        if maxlen is not None and found.maxlen != maxlen:
            raise TypeError(f'the deque has the maxlen {found.maxlen}, not {maxlen}, at {place.where(key)}: leave it '
                            'out, take another key, or delete the deque first')
        return found


def _is_within(size: int, maxlen: Any) -> bool:
    """Tell whether a deque of that `maxlen` may have so many items, and whether it is one."""
    return maxlen is None or (type(maxlen) is int and size <= maxlen)


class Deque(PackedSequence[T]):
    """A deque that lives in a vault: v.live(vaults.Deque, key, maxlen=None). What collections.deque has, it has.

    >>> import vaults
    >>> v = vaults.Vault(':memory:')
    >>> jobs = v.live(vaults.Deque, 'jobs')
    >>> jobs.extend(['a', 'b', 'c'])
    >>> jobs.popleft()
    'a'
    >>> v['jobs'].appendleft('first')
    >>> jobs
    Deque(['first', 'b', 'c'])

    Each call is a transaction of its own, so that two processes never take one item. Both ends are as quick at any
    length. With `maxlen`, what is too much falls out at the other end. A walk sees what others put meanwhile, as that
    of a live list does. Safe in any thread and any number of processes.
    """

    __slots__ = ()
    kind: ClassVar[DequeKind]
    plain_type = deque
    equal_to = (deque,)

    @property
    def maxlen(self) -> Optional[int]:
        """How many items it may have; None is any number."""
        return self.kind.meta(self._header())  # type: ignore[no-any-return]  # `is_mine` has looked at it

    # --- one item: a deque has no slices ---

    def __getitem__(self, index: SupportsIndex) -> T:  # type: ignore[override]  # no slices
        """Return an item."""
        return super().__getitem__(as_index(index))

    def __setitem__(self, index: SupportsIndex, value: T) -> None:  # type: ignore[override]  # no slices
        """Replace an item."""
        super().__setitem__(as_index(index), value)

    def __delitem__(self, index: SupportsIndex) -> None:  # type: ignore[override]  # no slices
        """Delete an item."""
        super().__delitem__(as_index(index))

    def insert(self, index: int, value: T) -> None:
        """Insert an item before `index`, as a list does. Raises: IndexError when there are `maxlen` items."""
        def insert() -> None:
            if len(self) == self.maxlen:
                raise IndexError(f'the deque has its maxlen of items, {self.maxlen}: {self._where()}; take one out '
                                 'first')
            super(Deque, self).insert(index, value)
        self._place.store.transact(insert)

    # --- the ends ---

    def append(self, value: T) -> None:
        """Add an item at the right end."""
        def add() -> None:
            if self._has_room(1):
                super(Deque, self).append(value)
        self._place.store.transact(add)

    def appendleft(self, value: T) -> None:
        """Add an item at the left end."""
        self.extendleft((value,))

    def extend(self, values: Iterable[T]) -> None:
        """Add all items of an iterable at the right end or, when it or an item fails, none."""
        def add() -> None:
            maxlen = self.maxlen
            if maxlen is None:
                super(Deque, self).extend(values)
                return
            items = deque(values, maxlen)
            if self._has_room(len(items)):
                super(Deque, self).extend(items)
        if values is self:
            values = self.copy()
        self._place.store.once(add)

    def extendleft(self, values: Iterable[T]) -> None:
        """Add all items of an iterable at the left end, one after another, so that they come to stand in reverse."""
        def add() -> None:
            items = deque(values, self.maxlen)
            items.reverse()
            if self._has_room(len(items), left=True):
                self._put_left(items)
        if values is self:
            values = self.copy()
        self._place.store.once(add)

    def _has_room(self, count: int, left: bool = False) -> bool:
        """Let items fall out at the other end, so that as many fit; tell whether there are any to be added."""
        maxlen = self.maxlen
        excess = 0 if maxlen is None else len(self) + count - maxlen
        if excess > 0:
            self._cut_off(excess, right=left)
        return count > 0 and maxlen != 0

    def _cut_off(self, count: int, right: bool) -> None:
        """Remove so many items at an end."""
        def cut(header: Header, change: Any) -> None:
            many = min(count, header.size)
            change.replace(header.size - many if right else 0, header.size if right else many, [])
        self._change(cut)

    def _put_left(self, items: Iterable[T]) -> None:
        """Put items, in their order, before the first one."""
        chunks = list(self._packed(items))
        self._change(lambda header, change: change.replace(0, 0, chunks))

    def pop(self) -> T:  # type: ignore[override]  # at an end alone
        """Remove and return the item at the right end; atomic between processes. Raises: IndexError."""
        return super().pop()

    def popleft(self) -> T:
        """Remove and return the item at the left end; atomic between processes. Raises: IndexError."""
        return super().pop(0)

    def rotate(self, n: int = 1) -> None:
        """Move the last item to the left end, and so `n` times; with a negative `n`, the first to the right end."""
        steps = as_index(n)

        def rotate() -> None:
            size = len(self)
            over = steps % size if size else 0
            if 2 * over > size:
                moved = self.tolist(0, size - over)
                self._cut_off(size - over, right=False)
                super(Deque, self).extend(moved)
            elif over:
                moved = self.tolist(size - over)
                self._cut_off(over, right=True)
                self._put_left(moved)
        self._place.store.transact(rotate)

    # --- the whole ---

    def copy(self) -> Any:
        """Return a copy in memory, a collections.deque."""
        return self._read(lambda header: self.kind.plain(
            self.kind.meta(header), [self._listed(list(self._chunks(header, 0, header.size)))]))

    def __repr__(self) -> str:
        text, header = super().__repr__(), self._view[2]  # what that has read
        maxlen = None if header is None or text[:1] == '<' else self.kind.meta(header)
        return text if maxlen is None else f'{text[:-1]}, maxlen={maxlen})'


register_kind(DequeKind('deque', Deque))
