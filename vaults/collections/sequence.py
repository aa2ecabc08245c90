"""Sequences: what lists and columns share: where the items are. Knows neither SQL nor how keys are stored.

Both are trees of chunks (tree.py). An object of these classes holds a place and a key, and nothing of the content but a
few chunks that it has read, so that any number of them, in any thread and process, are the same list.
"""
from __future__ import annotations

from _thread import get_ident
from array import array
from functools import partial
from itertools import islice
from operator import index as as_index

from .._typing import TYPE_CHECKING, MutableSequence, T, overload
from ..codecs import codes
from ..errors import VaultCorruptError, VaultError, plural
from ..place import REPR_LENGTH, Displayed, Place, place_of
from .change import Appender, Change
from .kind import title_of
from .tree import Header, StaleRead, Tree, forbid_cycle, inconsistent, missing, retry_stale

if TYPE_CHECKING:
    from typing import Any, Callable, ClassVar, Iterable, Iterator, Optional, Set, SupportsIndex, Tuple, Union
    from typing import List as PlainList

    from typing_extensions import Self

    from ..stores.base import KeptBack, Made
    from .kind import Kind
    from .leaves import Items

    ChunkSlice = Tuple[bytes, int, int]  # a chunk, and which items of it are meant
    View = Tuple[Optional[bytes], int, Optional[Header]]
    Leaf = Tuple[Optional[Header], int, int, int, bytes]

AHEAD = 16        # leaves that a walk reads at a time
KEPT_BACK, KEPT_BACK_BYTES = 1 << 13, 1 << 18  # items, and bytes of them, that a block keeps back: 64 leaves or so


class _NotWaiting:
    """In place of what waits, where nothing may."""

    thread = deletions = left = most = 0
    rows: PlainList[bytes] = []


NOT_WAITING = _NotWaiting()


class LiveSequence(Displayed, MutableSequence[T]):
    """What lists and columns share: where the items are. How many bytes they take, the subclasses know.

    A chunk is the bytes of items, with their number beside it.
    """

    __slots__ = ('__weakref__', '_key', '_last', '_place', '_stored', '_view', '_waiting')
    kind: ClassVar[Kind]
    _wanted: Any = None     # what the header is to say besides the kind; None: anything
    _items: Items
    equal_to: ClassVar[Tuple[type, ...]] = (list, array)  # what it may be equal to, besides live ones of that sort
    _repr_pretty_ = Displayed._repr_pretty_  # IPython takes it from the class that has __repr__
    if not TYPE_CHECKING:
        def __class_getitem__(cls, _):
            """Return the class: List[...] is for type checkers."""
            return cls

    def __init__(self, place: Place, key: Any) -> None:
        self._place = place = place if type(place) is Place else place_of(place)  # older pickles have a vault
        self._key, self._stored = key, place.keys.encode(key)
        # What was read last: the header with its bytes, and a leaf. Each is replaced as one, for the sake of threads.
        self._view: View = (None, -1, None)         # the bytes, the store's count of deletions, the header
        self._waiting: KeptBack = NOT_WAITING              # what a block has appended that is not written yet
        self._last: Leaf = (None, 0, 0, 0, b'')     # the header, the leaf's number, start, stop and bytes

    # --- what the subclasses know ---

    def _packed(self, items: Iterable[Any]) -> Iterator[Tuple[bytes, int]]:
        """Yield chunks that fit leaves, made of objects."""
        raise NotImplementedError

    def _packed_one(self, item: Any) -> bytes:
        """Return the chunk of one object."""
        raise NotImplementedError

    def _one(self, chunk: bytes, at: int) -> Any:
        """Return the object of one item of a chunk."""
        raise NotImplementedError

    def _loaded(self, chunks: PlainList[ChunkSlice]) -> Any:
        """Return the objects of slices of chunks, in one sequence."""
        raise NotImplementedError

    def _stepped(self, chunks: PlainList[ChunkSlice], places: Iterable[int]) -> Any:
        """Return the objects at some places of slices of chunks, in one sequence."""
        raise NotImplementedError

    def _listed(self, chunks: PlainList[ChunkSlice]) -> PlainList[Any]:
        """Return the objects of slices of chunks, in a list."""
        raise NotImplementedError

    # --- the header ---

    def _header(self) -> Header:
        """Return the header as it is stored now, not to be changed."""
        return self._known(self._place.store.get(self._stored))

    def _known(self, data: Optional[bytes]) -> Header:
        known, seen, header = self._view
        deletions = self._place.store.deletions
        if header is None or data != known or deletions != seen:  # a rollback lets numbers be used again
            header = self._parsed(data)
            self._view = data, deletions, header
        return header

    def _parsed(self, data: Optional[bytes]) -> Header:
        """Return the header that the bytes are, with what is known of its tree unless something was rolled back."""
        if data is None or codes.code_of(data) != self.kind.code:
            raise self._replaced()
        header = Header.of(data)
        if not self.kind.is_mine(header) or (self._wanted is not None and self.kind.meta(header) != self._wanted):
            raise self._replaced()
        _, deletions, known = self._view
        if known is not None and known.owner == header.owner and deletions == self._place.store.deletions:
            header.nodes = known.nodes
        return header

    def _replaced(self) -> VaultError:
        return VaultError(f'the {self.kind.name} was deleted or replaced: {self._where()}; make it anew with the vault')

    def _knowing(self, header: Header) -> Self:
        self._view = header.data, self._place.store.deletions, header
        return self

    def _made(self, meta: Any) -> Self:
        """Put an empty one if there is nothing at the key. Raises: TypeError when there is something else."""
        store = self._place.store
        data = store.get(self._stored)
        if data is None:
            def make() -> bool:
                if store.get(self._stored) is not None:
                    return False
                self._place.allow_chunks(self._key)
                store.put_owner(self._stored, self.kind.header(meta).packed())
                return True
            if store.transact(make):
                return self
            data = store.get(self._stored)
        try:
            self._known(data)
        except VaultError:
            if data is None:  # deleted since
                raise
            there, wanted = title_of(data), f'a live {self.kind.name}' if meta is None else self.kind.title(meta)
            raise TypeError(f'there is {"" if there[:2] == "a " else "a plain "}{there}, not {wanted}, at '
                            f'{self._where()}: take another key, or delete it first') from None
        return self

    # --- reading: with one header, and again when a chunk is missing because somebody has changed it meanwhile ---

    def _read(self, read: Callable[[Header], Any]) -> Any:
        return retry_stale(self._place.store, lambda: read(self._header()), f'the {self.kind.name}', self._where)

    def _where(self) -> str:
        return self._place.where(self._key)

    def _leaf(self, header: Header, at: int) -> Tuple[bytes, int, int, int]:
        """Return the leaf with the item at `at`, the skipped ones counted: its chunk, start, stop and number.

        The tail has the number 0.
        """
        if at >= header.inside:
            return header.tail, header.inside, header.size + header.skip, 0
        last = self._last
        if last[0] is header and last[2] <= at < last[3]:
            return last[4], last[2], last[3], last[1]
        tree = Tree(self._place.store, header)
        number, start, stop = tree.find(at)
        data = self._sound(tree.chunk(number), stop - start)
        self._last = header, number, start, stop, data
        return data, start, stop, number

    def _sound(self, chunk: bytes, count: int) -> bytes:
        """Return the chunk of a leaf when it can have so many items."""
        if not self._items.can_be(chunk, count):
            raise inconsistent(f'the {self.kind.name}', self._where())
        return chunk

    def _damaged(self, error: Exception) -> VaultError:
        return inconsistent(f'the {self.kind.name}', f'{error!r}, {self._where()}')

    def _header_with(self, index: Any) -> Header:
        """Return the header as it is stored now, having read an item's leaf along with it if that can be foreseen."""
        data, deletions, header = self._view
        if header is not None and type(index) is int and deletions == self._place.store.deletions:
            at = index + (header.skip if index >= 0 else header.skip + header.size)
            last = self._last
            if 0 <= at < header.inside and not (last[0] is header and last[2] <= at < last[3]):
                number, start, stop = Tree(self._place.store, header).find(at)
                found, chunk = self._place.store.get_both(self._stored, header.owner, number)
                if found == data and chunk is not None:
                    self._last = header, number, start, stop, self._sound(chunk, stop - start)
                    return header
                return self._known(found)
        return self._header()

    def _chunks(self, header: Header, start: int, stop: int) -> Iterator[ChunkSlice]:
        """Yield the chunks with the items from `start` to `stop`, and where in each these begin and end."""
        at, end, inside, last = start + header.skip, stop + header.skip, header.inside, self._last
        seen: Set[int] = set()
        if last[0] is header and last[2] <= at < last[3]:
            yield last[4], at - last[2], min(end, last[3]) - last[2]
            at = last[3]
            seen.add(last[1])
        if at < min(end, inside):
            yield from self._more_chunks(header, at, end, seen)
        if end > inside and end > at:
            yield header.tail, max(at - inside, 0), end - inside

    def _more_chunks(self, header: Header, at: int, end: int, seen: Set[int]) -> Iterator[ChunkSlice]:
        """Yield the same of leaves that are to be read; the skipped items count here. One is read at once."""
        tree, can_be = Tree(self._place.store, header), self._items.can_be
        some = [tree.find(at)]
        forbid_cycle(some[0][0], seen)
        leaves = tree.leaves(some[0][2], min(end, header.inside), seen)
        if some[0][2] < end:
            some += islice(leaves, AHEAD - 1)
        while some:
            numbers = [leaf[0] for leaf in some]
            if 0 in numbers:
                raise inconsistent(f'the {self.kind.name}', self._where())
            chunks = tree.chunks(numbers) if len(numbers) > 1 else [tree.chunk(numbers[0])]
            for (_, first, after), chunk in zip(some, chunks):
                count = after - first
                if not can_be(chunk, count):
                    self._sound(chunk, count)  # raises
                yield chunk, at - first if at > first else 0, end - first if end < after else count
            self._last = (header, *some[-1], chunks[-1])
            some = list(islice(leaves, AHEAD))

    def __len__(self) -> int:
        return self._header().size

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...

    def __getitem__(self, index: Any) -> Any:
        """Return an item; for a slice, the items in it, a copy."""
        try:
            return self._got(self._header_with(index.start if type(index) is slice else index), index)
        except StaleRead:
            return self._read(lambda header: self._got(header, index))

    def _got(self, header: Header, index: Any) -> Any:
        if not isinstance(index, slice):
            at = self._at(header, index) + header.skip
            chunk, start, _, _ = self._leaf(header, at)
            return self._one(chunk, at - start)
        places = range(*index.indices(header.size))
        if places.step == 1 or not places:
            return self._loaded(list(self._chunks(header, places.start, places.stop)) if places else [])
        start, stop = min(places[0], places[-1]), max(places[0], places[-1]) + 1
        return self._stepped(list(self._chunks(header, start, stop)), [at - start for at in places])

    def _at(self, header: Header, index: Any) -> int:
        at = as_index(index)
        if not -header.size <= at < header.size:
            raise IndexError(f'index {at} is out of range: the {self.kind.name} has {header.size} '
                             f'{plural(header.size, "item")}')
        return at + header.size if at < 0 else at

    def __iter__(self) -> Iterator[T]:
        """Walk by position, as a list does: what is added at the end meanwhile is visited."""
        return self._place.one_by_one(self._batches())

    def _batches(self) -> Iterator[PlainList[T]]:
        at = 0
        while True:
            items = self._read(partial(self._after, at))
            if not items:
                return
            at += len(items)
            yield items
            del items  # before the next ones are read

    def _after(self, at: int, header: Header) -> PlainList[T]:
        """Return the items from `at` to the end of a leaf."""
        return self._listed(list(islice(self._chunks(header, at, header.size), AHEAD)))

    def __reversed__(self) -> Iterator[T]:
        return self._place.one_by_one(self._batches_back())

    def _batches_back(self) -> Iterator[PlainList[T]]:
        at = len(self)
        while at > 0:
            items = self._read(partial(self._before, at))
            at -= len(items)
            if not items:
                return
            yield items
            del items  # as above

    def _before(self, at: int, header: Header) -> PlainList[T]:
        """Return the items from the beginning of a leaf up to `at`, the last one first."""
        if at > header.size:
            return []  # it has become shorter: the walk ends, as a list's does
        _, start, stop, _ = self._leaf(header, at - 1 + header.skip)
        start = max(start - header.skip - AHEAD * (stop - start), 0)
        return self._listed(list(self._chunks(header, start, at)))[::-1]

    def _plain(self, items: Any) -> PlainList[Any]:
        """Return an iterable's items in a list."""
        return list(items)

    def _as_item(self, value: Any) -> Any:
        """Return the value in the form that items have here."""
        return value

    def __contains__(self, item: object) -> bool:
        item = self._as_item(item)
        return any(one is item or one == item for one in self)

    def index(self, value: Any, start: int = 0, stop: Optional[int] = None) -> int:
        """Return the place of the first item equal to `value`. Raises: ValueError when there is none."""
        first, last, _ = slice(start, stop).indices(len(self))
        value, sought = self._as_item(value), value
        for place, item in enumerate(self if not first else self.tolist(first, last), first):
            if place < last and (item is value or item == value):
                return place
        raise ValueError(f'{sought!r} is not in the {self.kind.name}')

    def count(self, value: Any) -> int:
        """Return how many items equal `value`."""
        value = self._as_item(value)
        return sum(item is value or item == value for item in self)

    def copy(self) -> Any:
        """Return a copy in memory."""
        return self[:]

    def __eq__(self, other: Any) -> Any:
        is_live = isinstance(other, LiveSequence)
        if not (other.equal_to == self.equal_to if is_live else isinstance(other, self.equal_to)):
            return NotImplemented
        return len(self) == len(other) and all(mine is theirs or mine == theirs
                                               for mine, theirs in zip(self, map(self._as_item, other)))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        try:
            shown = list(islice(self, REPR_LENGTH + 1))
        except VaultError as error:
            return f'<{type(self).__name__} that cannot be read: {error}>'
        inside = ', '.join(map(repr, shown[:REPR_LENGTH])) + (', ...' if len(shown) > REPR_LENGTH else '')
        return f'{self._shown()}[{inside}])'

    def _caption(self) -> str:
        return f'{type(self).__name__}{self._of()} at {self._key!r}, {len(self):,} {plural(len(self), "item")}'

    def _of(self) -> str:
        """Return what its items are, behind the name of the class."""
        return ''

    def _rows(self) -> Iterator[Tuple[str, T]]:
        return ((str(at), self[at]) for at in range(len(self)))

    def _shown(self) -> str:
        """Return what repr begins with."""
        return f'{type(self).__name__}('

    def __reduce__(self) -> Any:
        return type(self), (self._place, self._key)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    # --- changing: always in a transaction, which excludes every other writer ---

    def _change(self, change: Callable[[Header, Change], Any]) -> Any:
        """Return what `change` does with the header, and put the header and the chunks that it has made."""
        store = self._place.store
        self._place.allow_chunks(self._key)

        def changed() -> Any:
            header = self._parsed(store.get(self._stored))
            tree = Tree(store, header)
            result = change(header, Change(header, tree, self._items, self._leaf, self._damaged))
            tree.save()
            store.put_owner(self._stored, header.packed())
            return result
        try:
            return store.once(changed)
        except StaleRead:  # with everybody else kept out
            raise missing(f'the {self.kind.name}', self._where()) from None

    def append(self, value: T) -> None:
        """Add an item at the end."""
        chunk, waiting = self._packed_one(value), self._waiting
        if waiting.thread == get_ident() and waiting.deletions == self._place.store.deletions:
            left, rows = waiting.left - len(chunk), waiting.rows
            if left >= 0 and len(rows) < waiting.most:
                waiting.left = left
                rows.append(chunk)
                if waiting.thread or not rows:
                    return
                rows.pop()  # a signal handler has ended it just before
        self._append(chunk)

    def _append(self, chunk: bytes) -> None:
        self._place.allow_chunks(self._key)
        _, deletions, header = self._view
        for _ in range(2):  # with the header that is known, and if others came before, with the one that is there
            if header is None:
                deletions, header = self._place.store.deletions, self._header()
            if not self._fits_tail(header, chunk):
                break
            if self._replaced_by(header, chunk, deletions):
                return
            header = None
        self._change(lambda _, change: change.append(chunk, 1))
        self._view = None, -1, None  # what is known is full

    def _fits_tail(self, header: Header, chunk: bytes) -> bool:
        """Tell whether the tail has room for one item more."""
        return self._items.fits(len(header.tail) + len(chunk), header.size + header.skip - header.inside + 1)

    def _replaced_by(self, header: Header, chunk: bytes, deletions: int) -> bool:
        """Add an item to the tail in one statement, where the header is the one that is known."""
        store, longer = self._place.store, header.longer(chunk, 1)
        if not store.put_owner_if(self._stored, header.data, longer.data):
            return False
        self._view = longer.data, deletions, longer

        making = partial(self._making, longer, deletions)
        self._waiting = store.waiting(self._stored, longer.data, making, KEPT_BACK_BYTES, KEPT_BACK) or NOT_WAITING
        return True

    def _making(self, known: Header, deletions: int) -> Optional[Made]:
        """Return what makes the header and the chunks of what waits behind a header; None where its tree is damaged.

        Who fills the tail says so.
        """
        store, waiting = self._place.store, known.size + known.skip - known.inside
        try:
            edge = Tree(store, known).edge()
        except (StaleRead, VaultCorruptError):
            return None

        def made(items: PlainList[bytes]) -> Tuple[bytes, PlainList[Tuple[int, bytes]], PlainList[int]]:
            data = b''.join(items)
            chunks: PlainList[Tuple[int, bytes]] = []
            dead: PlainList[int] = []
            if self._items.fits(len(known.tail) + len(data), waiting + len(items)):  # as a few do
                header = known.longer(data, len(items))
            else:
                header = known.copied()
                header.nodes = edge  # so that the tree asks the store for nothing
                tree = Tree(store, header)
                appender = Appender(header, tree, self._items)
                for chunk, count in self._items.joined(items, known.tail, waiting):
                    appender.append(chunk, count)
                chunks, dead = tree.changed()
                header.data, header.nodes = header.packed(), known.nodes
            self._view = header.data, deletions, header  # if it is: see `_known`
            return header.data, chunks, dead
        return made

    def extend(self, values: Iterable[T]) -> None:
        """Add all items of an iterable at the end or, when it or an item fails, none. It is streamed."""
        def add(_: Header, change: Change) -> None:
            before = self._place.store.get(self._stored)
            for chunk, count in self._packed(values):
                change.append(chunk, count)
            if self._place.store.get(self._stored) != before:
                raise VaultError(f'what the {self.kind.name} was extended by has changed it: {self._where()}; extend '
                                 'it by list(...)')
        if values is self:
            values = self.copy()
        self._change(add)

    def __iadd__(self, values: Iterable[T]) -> Self:
        self.extend(values)
        return self

    def insert(self, index: int, value: T) -> None:
        """Insert an item before `index`, as a list does."""
        chunks = [(self._packed_one(value), 1)]

        def insert(header: Header, change: Change) -> None:
            at = as_index(index)
            at = max(at + header.size, 0) if at < 0 else min(at, header.size)
            change.replace(at, at, chunks)
        self._change(insert)

    def pop(self, index: int = -1) -> T:
        """Remove and return the item at `index`; atomic between processes. Raises: IndexError."""
        def take(header: Header, change: Change) -> Any:
            if not header.size:
                raise IndexError(f'pop from an empty {self.kind.name}')
            at = self._at(header, index)
            chunk, start, _, _ = self._leaf(header, at + header.skip)
            item = self._one(chunk, at + header.skip - start)
            change.replace(at, at + 1, [])
            return item
        return self._change(take)  # type: ignore[no-any-return]

    def remove(self, value: T) -> None:
        """Remove the first item equal to `value`. Raises: ValueError when there is none."""
        self._place.store.transact(lambda: self.__delitem__(self.index(value)))

    def clear(self) -> None:
        """Remove all items."""
        LiveSequence.__delitem__(self, slice(None))

    def reverse(self) -> None:
        """Turn the order round. Reads and writes all items."""
        self._rewrite(lambda items: items[::-1])

    def sort(self, *, key: Optional[Callable[[T], Any]] = None, reverse: bool = False) -> None:
        """Sort in place, as a list does. Reads and writes all items, in one transaction."""
        self._rewrite(lambda items: sorted(items, key=key, reverse=reverse))

    def _rewrite(self, change: Callable[[PlainList[Any]], PlainList[Any]]) -> None:
        store = self._place.store

        def rewrite() -> None:
            before = store.get(self._stored)
            items = change(self.tolist())
            if store.get(self._stored) != before:
                raise ValueError(f'the {self.kind.name} was changed while it was sorted')
            LiveSequence.__setitem__(self, slice(None), items)  # a deque has no slices
        store.transact(rewrite)

    def tolist(self, start: Optional[int] = None, stop: Optional[int] = None) -> PlainList[T]:
        """Return the items from `start` to `stop`, as a slice takes them, as a list of Python objects."""
        def listed(header: Header) -> Any:
            first, last, _ = slice(start, stop).indices(header.size)
            return self._listed(list(self._chunks(header, first, last)))
        try:
            return listed(self._header_with(start))  # type: ignore[no-any-return]
        except StaleRead:
            return self._read(listed)  # type: ignore[no-any-return]

    @overload
    def __setitem__(self, index: SupportsIndex, value: T) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[T]) -> None: ...

    def __setitem__(self, index: Any, value: Any) -> None:
        """Replace an item; for a slice, the items in it, by those of an iterable."""
        if value is self:
            value = self.copy()
        if not isinstance(index, slice):
            chunks = [(self._packed_one(value), 1)]

            def put(header: Header, change: Change) -> None:
                at = self._at(header, index)
                change.replace(at, at + 1, chunks)
            self._change(put)
        elif index.step in (None, 1):
            chunks = list(self._packed(value))
            self._change(lambda header, change: change.replace(*self._ends(header, index), chunks))
        else:
            self._place.store.transact(lambda: self._change_some(index, self._plain(value)))

    def __delitem__(self, index: Union[SupportsIndex, slice]) -> None:
        """Delete an item; for a slice, the items in it."""
        if isinstance(index, slice) and index.step not in (None, 1):
            self._place.store.transact(lambda: self._change_some(index))
        else:
            def delete(header: Header, change: Change) -> None:
                if isinstance(index, slice):
                    change.replace(*self._ends(header, index), [])
                else:
                    at = self._at(header, index)
                    change.replace(at, at + 1, [])
            self._change(delete)

    def _ends(self, header: Header, index: slice) -> Tuple[int, int]:
        start, stop, _ = index.indices(header.size)
        return start, max(start, stop)

    def _change_some(self, index: slice, items: Optional[PlainList[Any]] = None) -> None:
        """Replace or, without `items`, delete every n-th item: what lies between is written again."""
        places = range(*index.indices(len(self)))
        if items is not None and len(items) != len(places):
            raise ValueError(f'{len(items)} items cannot be put in place of {len(places)}')
        if places:
            start, stop = min(places[0], places[-1]), max(places[0], places[-1]) + 1
            between = self.tolist(start, stop)
            inside = slice(places[0] - start, None if places.step < 0 else stop - start, places.step)
            if items is None:
                del between[inside]
            else:
                between[inside] = items
            self[start:stop] = between

    # --- being assigned to a key ---

    def _assign(self, place: Place, key: Any) -> None:
        """Put a copy of this under another key, or in another vault; under its own key it is there already."""
        if place.store is self._place.store and place.keys.encode(key) == self._stored:
            self._header()
            return
        place.allow_chunks(key)

        def copy() -> None:
            header = self.kind.header(self.kind.meta(self._header()))
            made = self.kind.open(place, key, header)
            place.store.put_owner(place.keys.encode(key), header.packed())
            made.extend(self)
        place.store.transact(copy)
