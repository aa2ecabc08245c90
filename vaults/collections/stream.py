"""Streams: bytes by their position. Knows neither SQL nor how keys are stored, nor what a file object is.

A stream is a header and leaves of STREAM_LEAF bytes, all full but the last, in a tree of chunks (tree.py). The header
holds the first bytes, up to SMALL, while there are no leaves; then those appended last, as many, until they become
leaves. Where nothing but zeros was written there is a hole: whole leaves of which no chunk is kept.

What is written goes into new chunks that belong to nothing yet, a few leaves at a time. Closing makes them the entry's
in one transaction: until then everybody sees what was there before.
"""
from __future__ import annotations

from contextlib import suppress
from itertools import groupby

from ..codecs import codes
from ..codecs.codes import is_header
from ..errors import VaultCorruptError, VaultError, about
from . import load
from .kind import Kind, kind_of, register_kind
from .leaves import SizedItems
from .tree import Header, StaleRead, Tree, inconsistent, missing, retry_stale, staged_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

    from ..codecs.packing import Codec
    from ..place import Place
    from ..stores.base import Store
    from .kind import Batch
    from .kind import Content as Contents
    from .leaves import Items


STREAM_LEAF = 1 << 18  # persisted: positions in a stream are found by it
SMALL = 4000       # bytes that need no chunks: with its header, a row of about a page
FARTHEST = 1 << 40  # bytes: no hole ends beyond it, so that a file made to do harm is not walked for years
HOLLOW = 1 << 30    # bytes of holes in a value that is still loaded as a whole
KEPT_LEAVES = 8    # leaves that are changed in memory before they are staged

# Once this much was given back, glibc keeps as much of what is freed at the end of its heap. Else it gives that of each
# leaf back to the system, SQLite's and Python's, and takes it anew for the next one: a third of the time of get_file.
bytes(2 * STREAM_LEAF)


def content(place: Place, key: Any) -> Any:
    """Return the bytes of a stream, or whatever has taken its place. Raises: KeyError when that is nothing."""
    store, stored = place.store, place.keys.encode(key)

    def read() -> Any:
        data = store.get(stored)
        if data is None:
            raise KeyError(key)
        if not is_header(data) or Header.of(data).code != codes.STREAM:
            return load(place, stored, data)
        header = Header.of(data)
        tree = Tree(store, header)
        leaves = list(tree.leaves(0, header.inside))
        if sum(stop - start for number, start, stop in leaves if not number) > HOLLOW:
            raise VaultError(f'most of the {header.size} bytes are a hole, too large to be loaded: read it with open()')
        whole = b''.join([tree.chunk(number) if number else bytes(stop - start) for number, start, stop in leaves])
        whole += header.tail
        if len(whole) != header.size:
            raise inconsistent('the stream', place.where(key))
        return whole
    return retry_stale(store, read, 'the stream')


class StreamKind(Kind):
    """Streams. Safe in any thread."""

    unit = 'byte'
    is_bytes = is_staged = has_holes = True
    is_packed = False

    def is_mine(self, header: Header) -> bool:
        return header.code == self.code and not header.skip and header.size - header.inside == len(header.tail)

    def title(self, meta: Any) -> str:
        return 'a stream'

    def items(self, meta: Any) -> Items:
        return SizedItems(1)

    def is_sound(self, header: Header, chunk: bytes, count: int, codec: Codec) -> bool:
        return len(chunk) == count

    def hole(self, start: int, stop: int) -> Iterator[Contents]:
        """Yield a hole in leaves. Raises: VaultCorruptError for one that no program has made."""
        if stop - start > FARTHEST:
            raise inconsistent()
        for at in range(start, stop, STREAM_LEAF):
            size = min(STREAM_LEAF, stop - at)
            yield [bytes(size)], size

    def bytes_of(self, store: Store, header: Header) -> int:
        return header.size

    def count(self, meta: Any, data: bytes) -> int:
        return len(data)

    def plain(self, meta: Any, batches: Iterable[Batch]) -> Any:
        return b''.join([data for data, _ in batches])

    def open(self, place: Place, key: Any, header: Header) -> Any:
        return content(place, key)

    def restore(self, place: Place, key: Any, meta: Any, batches: Iterable[Batch]) -> None:
        place.allow_chunks(key)
        made = Content(place, key, None)
        try:
            for data, _ in batches:
                made.put(made.size, data)
            place.store.once(made.save)
        except BaseException:
            made.discard()
            raise


register_kind(StreamKind('stream'))


class Content:
    """The bytes of an entry as they were when it was opened, with what was changed since. For one thread at a time.

    A leaf that is changed is a new one: first in memory, then staged, that is put under a number which no tree knows.
    What lies behind the old leaves, and is neither in memory nor staged, is a hole.
    """

    def __init__(self, place: Place, key: Any, data: Optional[bytes]) -> None:
        self.place, self.key, self.data = place, key, data
        self.changed = data is None
        self._stored = place.keys.encode(key)
        self._base = b''                            # what there is without a tree
        self._header = self._opened(data)
        self._tree = Tree(place.store, self._header)
        self._own = not self._header.inside           # the chunks belong to no entry yet
        self.size: int = self._header.size if self._header.inside else len(self._base)
        self._low = self.size                       # where the first byte was changed
        self._count = -(-self.size // STREAM_LEAF)         # of the old leaves, how many still are in their place
        self._dirty: Dict[int, Union[bytes, bytearray]] = {}
        self._staged: Dict[int, int] = {}           # the numbers of changed leaves
        self._dead: List[int] = []                  # staged chunks that were changed again
        self._last: Tuple[int, bytes] = (-1, b'')   # the leaf read last
        self._places: Dict[int, int] = {}           # of the old leaves that were read, by number

    def _opened(self, data: Optional[bytes]) -> Header:
        if data is not None and is_header(data):
            header = Header.of(data)
            kind_of(header)  # raises where the numbers do not fit together: they would be read for ever
            if header.code == codes.STREAM and header.inside:
                return header
            value: Any = header.tail if header.code == codes.STREAM else load(self.place, self._stored, data)
        else:
            value = b'' if data is None else load(self.place, self._stored, data)
        if isinstance(value, str):
            value = value.encode('utf-8', 'surrogatepass')
        if not isinstance(value, (bytes, bytearray)):
            raise TypeError(f'only bytes and text are opened as a file, not {type(value).__name__}: '
                            f'{self.place.where(self.key)}; read it with v[key]')
        self._base = bytes(value)
        return Header(codes.STREAM)

    # --- reading ---

    def leaf(self, index: int) -> Union[bytes, bytearray]:
        """Return a leaf. Raises: VaultError when it went with its entry, or with a block that was rolled back."""
        if index in self._dirty:
            return self._dirty[index]
        if self._last[0] != index:
            try:
                self._last = index, self._fetched(index)
            except StaleRead:
                raise self._missing(index in self._staged) from None
            except VaultCorruptError as error:
                raise about(error, self.key, self.place.path) from error
        return self._last[1]

    def _fetched(self, index: int) -> bytes:
        if index in self._staged:
            data = self._tree.chunk(self._staged[index])
        elif index >= self._count:
            data = bytes(min(STREAM_LEAF, self.size - index * STREAM_LEAF))
        elif self._header.inside:
            data = self._old_leaf(index)
            if index == (self._header.size - 1) // STREAM_LEAF:
                data += self._header.tail
        else:
            data = self._base[index * STREAM_LEAF:(index + 1) * STREAM_LEAF]
        return data

    def _old_leaf(self, index: int) -> bytes:
        if index * STREAM_LEAF >= self._header.inside:
            return b''
        number, start, stop = self._tree.find(index * STREAM_LEAF)
        if not number and not start % STREAM_LEAF and (not stop % STREAM_LEAF or stop == self._header.inside):
            return bytes(min(STREAM_LEAF, stop - index * STREAM_LEAF))
        data = self._tree.chunk(number)
        size = min(STREAM_LEAF, self._header.inside - start)
        if (start != index * STREAM_LEAF or not len(data) == stop - start == size
                or self._places.setdefault(number, index) != index):  # one leaf in many places may be endless
            raise inconsistent()
        return data

    def _missing(self, staged: bool) -> VaultError:
        where = self.place.where(self.key)
        if staged:
            return VaultError(f'what was written is not there any more, because its entry was replaced, the block '
                              f'was rolled back, or it took more than a day: {where}; nothing was changed')
        if self.place.store.get(self._stored) == self.data:
            return missing('the stream', where)
        return VaultError(f'the stream was replaced or deleted while it was open: {where}; open it again')

    def pieces(self, at: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes between two positions, in pieces that lie in one leaf."""
        while at < min(stop, self.size):
            index, inside = divmod(at, STREAM_LEAF)
            piece = memoryview(self.leaf(index))[inside:inside + stop - at]
            yield piece
            at += len(piece)

    # --- changing ---

    def hold_end(self) -> None:
        """Have the leaf that is to be continued at hand, also when it is replaced meanwhile."""
        if self.size % STREAM_LEAF:
            self._dirty[self._count - 1] = self._fetched(self._count - 1)

    def put(self, at: int, data: Any) -> None:
        """Write bytes at a position; one beyond the end is reached with zeros."""
        if at > self.size:
            self._fill(at)
        view, done = memoryview(data), 0
        self.changed, self._low = True, min(self._low, at)
        while done < len(view):
            index, inside = divmod(at + done, STREAM_LEAF)
            piece = view[done:done + STREAM_LEAF - inside]
            if len(piece) == STREAM_LEAF:
                self._keep_whole(index, data if len(data) == STREAM_LEAF and type(data) is bytes else bytes(piece))
            else:
                self._changeable(index)[inside:inside + len(piece)] = piece
            done += len(piece)
            self.size = max(self.size, at + done)

    def _fill(self, stop: int) -> None:
        """Reach a position beyond the end with zeros: those of the last leaf, and then a hole."""
        last = (self.size - 1) // STREAM_LEAF
        if self.size % STREAM_LEAF and not self._is_hole(last):
            leaf = self._changeable(last)
            leaf.extend(bytes(min(STREAM_LEAF, stop - last * STREAM_LEAF) - len(leaf)))
        self.changed, self._low, self.size = True, min(self._low, self.size), stop
        self._last = -1, b''

    def _is_hole(self, index: int) -> bool:
        return index >= self._count and index not in self._dirty and index not in self._staged

    def _keep_whole(self, index: int, leaf: bytes) -> None:
        """Take a whole leaf; one of zeros behind the old ones becomes a hole."""
        if index < self._count or leaf[0] or leaf != bytes(STREAM_LEAF):
            self._keep(index, leaf)
            return
        self._dirty.pop(index, None)
        if index in self._staged:
            self._dead.append(self._staged.pop(index))
        self._last = -1, b''

    def _keep(self, index: int, leaf: Union[bytes, bytearray]) -> None:
        """Take a leaf that is changed; when they are too many, stage the others."""
        if len(self._dirty) >= KEPT_LEAVES and index not in self._dirty:
            self._stage()
        self._dirty[index] = leaf
        if self._last[0] == index:
            self._last = -1, b''

    def _changeable(self, index: int) -> bytearray:
        leaf = self._dirty.get(index)
        if type(leaf) is not bytearray:
            leaf = bytearray(self.leaf(index) if index * STREAM_LEAF < self.size else b'')
            self._keep(index, leaf)
        return leaf

    def truncate(self, size: int) -> None:
        if size > self.size:
            self._fill(size)
        elif size < self.size:
            count = -(-size // STREAM_LEAF)
            if size % STREAM_LEAF and not self._is_hole(count - 1):
                del self._changeable(count - 1)[size % STREAM_LEAF:]
            for index in [index for index in self._dirty if index >= count]:
                del self._dirty[index]
            self._dead += [self._staged.pop(index) for index in list(self._staged) if index >= count]
            self._count = min(self._count, count)
            self._last = -1, b''
            self.size, self.changed, self._low = size, True, min(self._low, size)

    def _stage(self) -> None:
        """Put the changed leaves into chunks of their own, in a transaction of their own."""
        store, owner = self.place.store, self._header.owner
        if not self._own and not self._staged:
            self._header.next = staged_number()
        numbers = {index: self._header.number() for index in self._dirty}
        dead = self._dead + [self._staged[index] for index in numbers if index in self._staged]

        def stage() -> None:
            store.put_chunks(owner, [(number, bytes(self._dirty[index])) for index, number in numbers.items()])
            if dead:
                store.delete_chunks(owner, dead)
        store.transact(stage)
        self._staged.update(numbers)
        self._dirty, self._dead = {}, []

    # --- the end ---

    def save(self) -> None:
        """Make it the entry; in a transaction, after which this is not used any more."""
        if self._staged and not set(self._staged.values()) <= set(self.place.store.chunk_numbers(self._header.owner)):
            raise self._missing(True)
        header = self._header
        if self.size <= SMALL:
            self._dead += self._staged.values()
            tail = self._bytes(0)
            self._tree.splice(0, header.inside, [])
        elif self._continues():
            tail = self._bytes(header.inside)
        else:
            self._save_leaves()
            tail = b''
        header.size, header.tail = self.size, tail
        if self._dead:
            self.place.store.delete_chunks(header.owner, self._dead)
        self._tree.save()
        self.place.store.put_owner(self._stored, header.packed())

    def _bytes(self, at: int) -> bytes:
        return b''.join(self.pieces(at, self.size))

    def _continues(self) -> bool:
        """Tell whether no leaf was changed, and what follows the last one is little and within its bounds."""
        inside = self._header.inside
        return (0 < inside <= self._low and not self._staged and self.size - inside <= SMALL
                and inside // STREAM_LEAF >= (self.size - 1) // STREAM_LEAF)

    def _save_leaves(self) -> None:
        """Put a new tree above the changed leaves and the old ones."""
        header = self._header
        first = (header.size - 1) // STREAM_LEAF if header.inside else 0  # what is not in a leaf of its own yet
        for index in range(first if header.tail or not header.inside else self._count, self._count):
            if index not in self._dirty and index not in self._staged:
                self._keep(index, self.leaf(index))
        if self._dirty:
            self._stage()
        if self._count * STREAM_LEAF < header.inside:
            self._tree.replace(self._count * STREAM_LEAF, header.inside, [])
        for _, group in groupby(enumerate(sorted(self._staged)), lambda pair: pair[1] - pair[0]):
            indexes = [index for _, index in group]
            self._tree.replace(indexes[0] * STREAM_LEAF, (indexes[-1] + 1) * STREAM_LEAF, [
                (self._staged[index], min(STREAM_LEAF, self.size - index * STREAM_LEAF)) for index in indexes])
        if header.inside < self.size:
            self._tree.replace(self.size, self.size, [])

    def append_to(self, other: Content, began: int) -> None:
        """Put what is behind `began` at the end of another content, holes as holes."""
        shift = other.size - began
        for index in sorted({*self._dirty, *self._staged}):
            at = max(index * STREAM_LEAF, began)
            other.put(at + shift, self.leaf(index)[at - index * STREAM_LEAF:])
        if other.size < self.size + shift:
            other.truncate(self.size + shift)

    def discard(self) -> None:
        """Delete what was staged; what cannot be deleted now, compact() deletes a day later."""
        staged = [*self._staged.values(), *self._dead]
        self._dirty, self._staged, self._dead = {}, {}, []
        if staged:
            with suppress(VaultError, StaleRead):
                self.place.store.transact(lambda: self._free(staged))

    def _free(self, staged: List[int]) -> None:
        """Delete chunks that no entry uses. One does when an interrupt came after the commit, before it was known."""
        store, owner = self.place.store, self._header.owner
        data = store.get(self._stored)
        header = Header.of(data) if data is not None and is_header(data) else None
        if header is not None and header.owner == owner:
            Tree(store, header).free_unused(staged)
        else:
            store.delete_chunks(owner, None if self._own else staged)
