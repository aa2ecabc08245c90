"""Chunks: a value too large for one entry, or one that grows, as a tree. Knows neither SQL nor what the items are.

The entry holds a header: what kind of value it is, how many items it has, the root of the tree, and the tail, the last
items, which are in no chunk yet: a short list is one entry and nothing else. Leaves are chunks that hold items, nodes
are chunks that hold the numbers and lengths of up to FANOUT chunks below. A leaf of number 0 is a hole, so many zeros
of a stream, and no chunk. Each chunk is written once. A change writes new leaves and the nodes above them, then the
header, and deletes the old ones, all in one transaction: so whoever reads with an old header finds the old chunks or a
gap, never a mixture, and what was read of a chunk stays true.
"""
from __future__ import annotations

import struct
import time
from bisect import bisect_right
from itertools import accumulate, chain
from operator import sub

from msgpack import ExtType, Packer, unpackb

from ..codecs import codes
from ..errors import VaultCorruptError
from ..stores.base import OWNER, new_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple, TypeVar

    from ..stores.base import Store

    T = TypeVar('T')
    Child = Tuple[int, int]     # the number of a chunk, and how many items are in or below it
    Node = Tuple[Tuple[int, ...], Tuple[int, ...]]  # the numbers of chunks, and how many items end with each

READ_ATTEMPTS = 8        # at reading what others keep changing, before they are kept out
FANOUT = 128
KEPT_NODES = 1024   # 3 MB or so
MANY = 1 << 20      # bytes of leaves written at a time
LARGEST = 1 << 63   # of numbers, and what SQLite takes is smaller
DEEPEST = 64        # of trees: even of nodes that have two children
STAGED = 1 << 31    # beyond it, numbers are seconds since 1970 times this and random bits: see `staged_number`


class StaleRead(Exception):
    """A chunk is not there any more: the value has changed since its header was read."""


def retry_stale(store: Store, read: Callable[[], T], what: str, where: Callable[[], str] = str) -> T:
    """Return what `read` does: again, when somebody changes what it reads; at last while keeping them out.

    Raises: VaultCorruptError when even then a chunk of `what` is missing, which is at `where()`.
    """
    for _ in range(READ_ATTEMPTS):
        try:
            return read()
        except StaleRead:
            continue
    try:
        return store.transact(read)
    except StaleRead:
        raise missing(what, where()) from None


def missing(what: str, where: str = '') -> VaultCorruptError:
    """Return the error about a chunk that is missing, though nobody has changed the value."""
    return VaultCorruptError(f'a chunk of {what} is missing: {_at(where)}run check(), and restore it from a backup')


def inconsistent(what: str = 'a value', where: str = '') -> VaultCorruptError:
    """Return the error about chunks of which each is sound, and that do not belong together."""
    return VaultCorruptError(f'the chunks of {what} do not fit together: {_at(where)}run check()')


def _at(where: str) -> str:
    return where and f'{where}; '


class Header:
    """What the entry of a value in chunks holds. For one thread at a time."""

    __slots__ = ('code', 'data', 'depth', 'inside', 'meta', 'next', 'nodes', 'owner', 'root', 'size', 'skip', 'tail')

    def __init__(self, code: int, meta: Any = None) -> None:
        self.code = code        # one of codes.CHUNKED: see kind.py
        self.meta = meta        # what else the kind needs to know
        self.size = 0           # items
        self.skip = 0           # items at the beginning of the tree that are none any more
        self.inside = 0         # items in the tree, those among them
        self.next = 1           # the number of the next chunk
        self.root = 0           # the number of the root; 0: there is no tree
        self.depth = 0          # of the tree; at 1 the root's children are leaves
        self.tail = b''         # the items behind the tree
        self.owner = new_owner()
        self.nodes: Dict[int, Node] = {}  # of the tree, as far as they were read
        self.data = b''         # the bytes that it was read from

    @classmethod
    def of(cls, data: bytes) -> Header:
        """Return the header that `data`, an entry's value, is, as far as all kinds have it in common: see kind_of().

        Raises: VaultCorruptError when it is none.
        """
        header = cls.__new__(cls)
        header.nodes, header.data = {}, data
        header.code = codes.code_of(data)
        if header.code in codes.CHUNKED:
            at = codes.CODE_AT[data[0]]
            try:
                (header.meta, header.size, header.skip, header.inside, header.next, header.root, header.depth,
                 header.tail, header.owner) = unpackb(data[at + 1:])
                if header._fits_together():
                    return header
            except codes.MALFORMED:
                pass  # as what is well-formed, and no header
        raise codes.no_header()

    def _fits_together(self) -> bool:
        """Tell whether the numbers can be those of a header: whoever made the file could have put anything there."""
        return (type(self.size) is type(self.skip) is type(self.inside) is type(self.next) is type(self.root)
                is type(self.depth) is int and type(self.tail) is type(self.owner) is bytes
                and len(self.owner) == OWNER
                and 0 <= self.skip <= self.inside <= self.size + self.skip < LARGEST
                and 0 < self.next < LARGEST - STAGED and 0 <= self.root < LARGEST and 0 <= self.depth <= DEEPEST
                and bool(self.inside) == bool(self.root) == bool(self.depth))

    def packed(self) -> bytes:
        pack = Packer().pack
        data: bytes = pack(ExtType(self.code, pack([self.meta, self.size, self.skip, self.inside, self.next, self.root,
                                                    self.depth, self.tail, self.owner])))
        return data

    def copied(self) -> Header:
        """Return another one that says the same, to be changed; what is known of the tree is one's and the other's."""
        header = type(self).__new__(type(self))
        header.code, header.meta, header.skip, header.inside = self.code, self.meta, self.skip, self.inside
        header.next, header.root, header.depth, header.owner = self.next, self.root, self.depth, self.owner
        header.size, header.tail, header.nodes = self.size, self.tail, self.nodes
        return header

    def longer(self, chunk: bytes, count: int) -> Header:
        """Return the header with items more in its tail, and its bytes."""
        header = self.copied()
        header.size, header.tail = self.size + count, self.tail + chunk
        header.data = header.packed()
        return header

    def number(self) -> int:
        """Return a number for a new chunk."""
        self.next += 1
        return self.next - 1


def forbid_cycle(number: int, seen: Set[int]) -> None:
    """Raise when a chunk is met again: a tree whose branches grow together could be walked for years."""
    if number in seen:
        raise inconsistent()
    seen.add(number)


def staged_number() -> int:
    """Return a number from which a writer may count whose chunks are to belong to a value only later."""
    from random import getrandbits
    seconds = min(max(int(time.time()), 1), 0xFFFFFFFE)  # what fits, however wrong the clock is
    return seconds * STAGED + getrandbits(31)


class Tree:
    """The tree of a header: finds leaves and replaces them. Changes the header, and writes chunks on `save`."""

    def __init__(self, store: Store, header: Header) -> None:
        self.store, self.header = store, header
        self._fresh: Dict[int, List[Child]] = {}    # nodes to be written, by number
        self._leaves: List[Tuple[int, bytes]] = []  # leaves to be written
        self._waiting = 0                           # bytes of them
        self._added: List[Child] = []               # leaves to be put behind the last one
        self._dead: List[int] = []                  # chunks to be deleted

    # --- reading ---

    def chunk(self, number: int) -> bytes:
        data = self.store.get_chunk(self.header.owner, number)
        if data is None:
            raise StaleRead
        return data

    def chunks(self, numbers: Sequence[int]) -> Sequence[bytes]:
        """Return many chunks, which takes a third of the time of one after another."""
        datas = self.store.get_chunks(self.header.owner, numbers)
        if None in datas:
            raise StaleRead
        return datas  # type: ignore[return-value]  # none is None

    def find(self, at: int, above: int = 0) -> Tuple[int, int, int]:
        """Return the leaf with the item at `at`, of those in the tree: its number, first item, and end.

        Or the node so many levels `above` it.
        """
        number, start, stop = self.header.root, 0, self.header.inside
        for _ in range(self.header.depth - above):
            numbers, ends = self.header.nodes.get(number) or self._node(number)
            child = bisect_right(ends, at - start)
            if child == len(ends) or start + ends[-1] != stop:
                raise inconsistent()
            stop = start + ends[child]
            start += ends[child - 1] if child else 0
            number = numbers[child]
        return number, start, stop

    def leaves(self, start: int, stop: int, seen: Optional[Set[int]] = None) -> Iterator[Tuple[int, int, int]]:
        """Yield the leaves that hold the items from `start` to `stop`, as `find` does; 0 is the number of a hole."""
        seen = set() if seen is None else seen
        while start < stop:
            node, first, end = self.find(start, 1)
            numbers, ends = self.header.nodes.get(node) or self._node(node)
            place = bisect_right(ends, start - first)
            if first + ends[-1] != end:
                raise inconsistent()
            start = first + (ends[place - 1] if place else 0)
            for number, length in zip(numbers[place:], ends[place:]):
                if number:
                    forbid_cycle(number, seen)
                if first + length > start:
                    yield number, start, first + length
                    start = first + length
                if start >= stop:
                    return

    def edge(self) -> Dict[int, Node]:
        """Return the nodes that a leaf behind the last one has above it. Raises: VaultCorruptError, StaleRead."""
        found: Dict[int, Node] = {}
        number, inside = self.header.root, self.header.inside
        for _ in range(self.header.depth):
            numbers, ends = found[number] = self.header.nodes.get(number) or self._node(number)
            if ends[-1] != inside:
                raise inconsistent()
            number, inside = numbers[-1], ends[-1] - (ends[-2] if len(ends) > 1 else 0)
        return found

    def _node(self, number: int) -> Node:
        flat = self._flat(number)
        node = tuple(flat[::2]), tuple(accumulate(flat[1::2]))
        if len(self.header.nodes) >= KEPT_NODES:
            self.header.nodes.clear()
        self.header.nodes[number] = node
        return node

    def _children(self, number: int) -> List[Child]:
        flat = self._flat(number)
        return list(zip(flat[::2], flat[1::2]))

    def _flat(self, number: int) -> Sequence[int]:
        """Return what a node holds: the number of a chunk, how many items it has, the next number, and so on."""
        if number in self._fresh:
            return [*chain.from_iterable(self._fresh[number])]
        known = self.header.nodes.get(number)
        if known is not None:
            return [*chain.from_iterable(zip(known[0], map(sub, known[1], (0, *known[1]))))]
        data = self.chunk(number)
        if not data or len(data) % 16:
            raise inconsistent()
        flat = struct.unpack(f'<{len(data) // 8}Q', data)
        if max(flat) >= LARGEST:
            raise inconsistent()
        return flat

    def numbers(self, number: Optional[int] = None, depth: Optional[int] = None,
                seen: Optional[Set[int]] = None) -> Iterator[int]:
        """Yield the number of every chunk of the tree."""
        number = self.header.root if number is None else number
        depth = self.header.depth if depth is None else depth
        seen = set() if seen is None else seen
        if number:
            forbid_cycle(number, seen)
            yield number
            for child, _ in self._children(number) if depth else ():
                yield from self.numbers(child, depth - 1, seen)

    def free_unused(self, numbers: Iterable[int]) -> None:
        """Delete those of the owner's chunks that are not in the tree. Raises: StaleRead where it is not whole."""
        used = set(self.numbers())
        unused = [number for number in numbers if number not in used]
        if unused:
            self.store.delete_chunks(self.header.owner, unused)

    # --- changing ---

    def leaf(self, data: bytes, count: int) -> Child:
        """Take the bytes of a new leaf with `count` items."""
        number = self.header.number()
        self._leaves.append((number, data))
        self._waiting += len(data)
        if self._waiting > MANY:
            self._flush()
        return number, count

    def _flush(self) -> None:
        if self._leaves:
            self.store.put_chunks(self.header.owner, self._leaves)
            self._leaves, self._waiting = [], 0

    def append(self, data: bytes, count: int) -> None:
        """Add a leaf behind the last one, which nothing but `append` and `save` may follow."""
        self._added.append(self.leaf(data, count))
        self.header.inside += count

    def splice(self, start: int, stop: int, leaves: Sequence[Child]) -> None:
        """Put leaves in place of those with the items from `start` to `stop`, where leaves begin and end."""
        header = self.header
        entries = self._spliced(header.root, header.depth, start, stop, leaves) if header.root else list(leaves)
        depth = header.depth
        while len(entries) > 1 or (entries and not depth):
            entries = self._made(entries, True)
            depth += 1
        header.root, header.depth = (entries[0][0], depth) if entries else (0, 0)
        while header.depth > 1 and len(self._children(header.root)) == 1:
            (only, _), = self._children(header.root)
            self._drop(header.root)
            header.root, header.depth = only, header.depth - 1
        header.inside += sum(count for _, count in leaves) - (stop - start)

    def replace(self, start: int, stop: int, leaves: Sequence[Child]) -> None:
        """Put leaves in place of bytes of a stream: also within a hole, the rest of which stays, and beyond the end."""
        before, after, inside = 0, 0, self.header.inside
        if start > inside:
            before, start = start - inside, inside
        elif start < inside:
            number, first, _ = self.find(start)
            if not number:
                before, start = start - first, first
        if stop < inside:
            number, first, last = self.find(stop)
            if not number and first < stop:
                after, stop = last - stop, last
        self.splice(start, min(stop, inside), [
            *([(0, before)] if before else []), *leaves, *([(0, after)] if after else [])])

    def _spliced(self, number: int, depth: int, start: int, stop: int, leaves: Sequence[Child]) -> List[Child]:
        """Return the nodes that take the place of the node `number` when items in it are replaced."""
        children = self._children(number)
        ends = list(accumulate(count for _, count in children))
        first = bisect_right(ends, start)
        last = bisect_right(ends, stop - 1) + 1 if stop > start else first
        at_end = first == len(children)
        if depth > 1:
            if at_end:
                first, last = first - 1, last
            last = max(last, first + 1)
            middle = self._below(children[first:last], depth, start - (ends[first - 1] if first else 0), stop - start,
                                 leaves)
        else:
            middle = list(leaves)
            for child, _ in children[first:last]:
                self._drop(child)
        self._drop(number)
        children[first:last] = middle
        if depth > 1 and not at_end:
            self._merge(children, first, first + len(middle))
        return self._made(children, at_end)

    def _below(self, children: List[Child], depth: int, start: int, length: int,
               leaves: Sequence[Child]) -> List[Child]:
        """Replace `length` items from `start` on, which lie in all of `children`, nodes one level down."""
        made: List[Child] = []
        for place, (child, count) in enumerate(children):
            inside = min(length, count - start)
            made += self._spliced(child, depth - 1, start, start + inside, leaves if not place else ())
            start, length = 0, length - inside
        return made

    def _merge(self, children: List[Child], first: int, stop: int) -> None:
        """Unite nodes just made that have few children with their neighbours, lest a tree become a list."""
        for place in range(min(stop, len(children)) - 1, first - 1, -1):
            here = self._fresh.get(children[place][0])
            if here is None or len(here) >= FANOUT // 2 or len(children) == 1:
                continue
            pair = slice(place, place + 2) if place + 1 < len(children) else slice(place - 1, place + 1)
            united = [child for number, _ in children[pair] for child in self._children(number)]
            for number, _ in children[pair]:
                self._drop(number)
            children[pair] = self._made(united, False)

    def _made(self, children: List[Child], at_end: bool) -> List[Child]:
        """Return new nodes above the children: full ones where the tree grows at its end, else even ones."""
        size = FANOUT if at_end else -(-len(children) // max(-(-len(children) // FANOUT), 1))
        made = []
        for place in range(0, len(children), max(size, 1)):
            number = self.header.number()
            self._fresh[number] = children[place:place + size]
            made.append((number, sum(count for _, count in self._fresh[number])))
        return made

    def _drop(self, number: int) -> None:
        if number and self._fresh.pop(number, None) is None:
            self._dead.append(number)

    def save(self) -> None:
        """Write the new chunks and delete the old ones; what follows is to put the header."""
        chunks, dead = self.changed()
        if chunks:
            self.store.put_chunks(self.header.owner, chunks)
        if dead:
            self.store.delete_chunks(self.header.owner, dead)

    def changed(self) -> Tuple[List[Tuple[int, bytes]], List[int]]:
        """Return the new chunks that are not written yet, and which are to be deleted, for who saves them itself."""
        if self._added:
            self.header.inside -= sum(count for _, count in self._added)
            self.splice(self.header.inside, self.header.inside, self._added)
        chunks = self._leaves + [(number, struct.pack(f'<{2 * len(children)}Q', *chain.from_iterable(children)))
                                 for number, children in self._fresh.items()]
        dead = self._dead
        self._leaves, self._waiting, self._added, self._fresh, self._dead = [], 0, [], {}, []
        return chunks, dead
