"""Files: streams, and any bytes or text of a vault, as file objects. Knows neither SQL nor how keys are stored.

A stream is a head and leaves of LEAF bytes, all full but the last, in a tree of parts (parts.py). The head holds the
first bytes, up to SMALL, while there are no leaves; then those appended last, as many, until they become leaves. Where
nothing but zeros was written there is a hole: whole leaves of which no part is kept.

What is written goes into new parts that belong to nothing yet, a few leaves at a time. Closing makes them the entry's
in one transaction: until then everybody sees what was there before.
"""
from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import index as as_index

from ..codecs import codes
from ..codecs.codes import is_head
from ..errors import VaultCorruptError, VaultError, VaultExistsError, VaultReadOnlyError
from ..place import about
from . import load
from .kind import Kind, register_kind
from .leaves import SizedItems
from .tree import Gone, Head, Tree, misfit, missing, staged_number, steadily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Type, Union

    from ..codecs.packing import Codec
    from ..place import Place
    from ..stores.base import Progress, Store, StreamProgress
    from ..vault import Vault
    from .kind import Chunk
    from .kind import Content as Contents
    from .leaves import Items


LEAF = 1 << 18     # persisted: positions in a stream are found by it
SMALL = 4000       # bytes that need no parts: with its head, a row of about a page
FARTHEST = 1 << 40  # bytes: no hole ends beyond it, so that a file made to do harm is not walked for years
HOLLOW = 1 << 30    # bytes of holes in a value that is still loaded as a whole
KEPT = 8           # leaves that are changed in memory before they are staged
BUFFER = 1 << 16   # bytes, of the file objects


def content(place: Place, key: Any) -> Any:
    """Return the bytes of a stream, or whatever has taken its place. Raises: KeyError when that is nothing."""
    store, stored = place.store, place.keys.encode(key)

    def read() -> Any:
        data = store.get(stored)
        if data is None:
            raise KeyError(key)
        if not is_head(data) or Head.of(data).code != codes.STREAM:
            return load(place, stored, data)
        head = Head.of(data)
        tree = Tree(store, head)
        leaves = list(tree.leaves(0, head.inside))
        if sum(stop - start for number, start, stop in leaves if not number) > HOLLOW:
            raise VaultError(f'most of the {head.size} bytes are a hole, too large to be loaded: read it with open()')
        whole = b''.join([tree.part(number) if number else bytes(stop - start) for number, start, stop in leaves])
        whole += head.tail
        if len(whole) != head.size:
            raise misfit('the stream', f'key {key!r} of the vault {place.path}')
        return whole
    return steadily(store, read, 'the stream')


class StreamKind(Kind):
    """Streams. Safe in any thread."""

    unit = 'byte'
    is_bytes = is_staged = has_holes = True
    is_packed = False

    def is_mine(self, head: Head) -> bool:
        return head.code == self.code and not head.skip and head.size - head.inside == len(head.tail)

    def title(self, meta: Any) -> str:
        return 'a stream'

    def items(self, meta: Any) -> Items:
        return SizedItems(1)

    def is_sound(self, head: Head, run: bytes, count: int, codec: Codec) -> bool:
        return len(run) == count

    def hole(self, start: int, stop: int) -> Iterator[Contents]:
        """Yield a hole in leaves. Raises: VaultCorruptError for one that no program has made."""
        if stop - start > FARTHEST:
            raise misfit()
        for at in range(start, stop, LEAF):
            size = min(LEAF, stop - at)
            yield [bytes(size)], size

    def bytes_of(self, store: Store, head: Head) -> int:
        return head.size

    def count(self, meta: Any, data: bytes) -> int:
        return len(data)

    def plain(self, meta: Any, chunks: Iterable[Chunk]) -> Any:
        return b''.join([data for data, _ in chunks])

    def open(self, place: Place, key: Any, head: Head) -> Any:
        return content(place, key)


register_kind(StreamKind('stream'))


# --- bytes by position --------------------------------------------------------------------------------------------

class Content:
    """The bytes of an entry as they were when it was opened, with what was changed since. For one thread at a time.

    A leaf that is changed is a new one: first in memory, then staged, that is put under a number which no tree knows.
    What lies behind the old leaves, and is neither in memory nor staged, is a hole.
    """

    def __init__(self, vault: Vault[Any, Any], key: Any, data: Optional[bytes]) -> None:
        self.vault, self.key, self.data = vault, key, data
        self.changed = data is None
        self._stored = vault._keys.encode(key)
        self._base = b''                            # what there is without a tree
        self._head = self._opened(data)
        self._tree = Tree(vault._store, self._head)
        self._own = not self._head.inside           # the parts belong to no entry yet
        self.size: int = self._head.size if self._head.inside else len(self._base)
        self._low = self.size                       # where the first byte was changed
        self._count = -(-self.size // LEAF)         # of the old leaves, how many still are in their place
        self._dirty: Dict[int, Union[bytes, bytearray]] = {}
        self._staged: Dict[int, int] = {}           # the numbers of changed leaves
        self._dead: List[int] = []                  # staged parts that were changed again
        self._last: Tuple[int, bytes] = (-1, b'')   # the leaf read last
        self._places: Dict[int, int] = {}           # of the old leaves that were read, by number

    def _opened(self, data: Optional[bytes]) -> Head:
        if data is not None and is_head(data):
            head = Head.of(data)
            if head.code == codes.STREAM and head.inside:
                return head
            value: Any = head.tail if head.code == codes.STREAM else load(self.vault._place, self._stored, data)
        else:
            value = b'' if data is None else self.vault._load(self._stored, data)
        if isinstance(value, str):
            value = value.encode('utf-8', 'surrogatepass')
        if not isinstance(value, (bytes, bytearray)):
            raise TypeError(f'only bytes and text are opened as a file, not {type(value).__name__}: key {self.key!r} '
                            f'of the vault {self.vault.db_path}; read it with v[key]')
        self._base = bytes(value)
        return Head(codes.STREAM)

    # --- reading ---

    def leaf(self, index: int) -> Union[bytes, bytearray]:
        """Return a leaf. Raises: VaultError when it went with its entry, or with a block that was rolled back."""
        if index in self._dirty:
            return self._dirty[index]
        if self._last[0] != index:
            try:
                self._last = index, self._fetched(index)
            except Gone:
                raise self._missing(index in self._staged) from None
            except VaultCorruptError as error:
                raise about(error, self.key, self.vault.db_path) from error
        return self._last[1]

    def _fetched(self, index: int) -> bytes:
        if index in self._staged:
            data = self._tree.part(self._staged[index])
        elif index >= self._count:
            data = bytes(min(LEAF, self.size - index * LEAF))
        elif self._head.inside:
            data = self._old_leaf(index)
            if index == (self._head.size - 1) // LEAF:
                data += self._head.tail
        else:
            data = self._base[index * LEAF:(index + 1) * LEAF]
        return data

    def _old_leaf(self, index: int) -> bytes:
        if index * LEAF >= self._head.inside:
            return b''
        number, start, stop = self._tree.find(index * LEAF)
        if not number and not start % LEAF and (not stop % LEAF or stop == self._head.inside):
            return bytes(min(LEAF, stop - index * LEAF))
        data = self._tree.part(number)
        if (start != index * LEAF or not len(data) == stop - start == min(LEAF, self._head.inside - start)
                or self._places.setdefault(number, index) != index):  # one leaf in many places may be endless
            raise misfit()
        return data

    def _missing(self, staged: bool) -> VaultError:
        where = f'key {self.key!r} of the vault {self.vault.db_path}'
        if staged:
            return VaultError(f'what was written is not there any more, because its entry was replaced, the block '
                              f'was rolled back, or it took more than a day: {where}; nothing was changed')
        if self.vault._store.get(self._stored) == self.data:
            return missing('the stream', where)
        return VaultError(f'the stream was replaced or deleted while it was open: {where}; open it again')

    def pieces(self, at: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes between two positions, in pieces that lie in one leaf."""
        while at < min(stop, self.size):
            index, inside = divmod(at, LEAF)
            piece = memoryview(self.leaf(index))[inside:inside + stop - at]
            yield piece
            at += len(piece)

    # --- changing ---

    def hold_end(self) -> None:
        """Have the leaf that is to be continued at hand, also when it is replaced meanwhile."""
        if self.size % LEAF:
            self._dirty[self._count - 1] = self._fetched(self._count - 1)

    def put(self, at: int, data: Any) -> None:
        """Write bytes at a position; one beyond the end is reached with zeros."""
        if at > self.size:
            self._fill(at)
        view, done = memoryview(data), 0
        self.changed, self._low = True, min(self._low, at)
        while done < len(view):
            index, inside = divmod(at + done, LEAF)
            piece = view[done:done + LEAF - inside]
            if len(piece) == LEAF:
                self._keep_whole(index, data if len(data) == LEAF and type(data) is bytes else bytes(piece))
            else:
                self._changeable(index)[inside:inside + len(piece)] = piece
            done += len(piece)
            self.size = max(self.size, at + done)

    def _fill(self, stop: int) -> None:
        """Reach a position beyond the end with zeros: those of the last leaf, and then a hole."""
        last = (self.size - 1) // LEAF
        if self.size % LEAF and not self._is_hole(last):
            leaf = self._changeable(last)
            leaf.extend(bytes(min(LEAF, stop - last * LEAF) - len(leaf)))
        self.changed, self._low, self.size = True, min(self._low, self.size), stop
        self._last = -1, b''

    def _is_hole(self, index: int) -> bool:
        return index >= self._count and index not in self._dirty and index not in self._staged

    def _keep_whole(self, index: int, leaf: bytes) -> None:
        """Take a whole leaf; one of zeros behind the old ones becomes a hole."""
        if index < self._count or leaf[0] or leaf != bytes(LEAF):
            self._keep(index, leaf)
            return
        self._dirty.pop(index, None)
        if index in self._staged:
            self._dead.append(self._staged.pop(index))
        self._last = -1, b''

    def _keep(self, index: int, leaf: Union[bytes, bytearray]) -> None:
        """Take a leaf that is changed; when they are too many, stage the others."""
        if len(self._dirty) >= KEPT and index not in self._dirty:
            self._stage()
        self._dirty[index] = leaf
        if self._last[0] == index:
            self._last = -1, b''

    def _changeable(self, index: int) -> bytearray:
        leaf = self._dirty.get(index)
        if type(leaf) is not bytearray:
            leaf = bytearray(self.leaf(index) if index * LEAF < self.size else b'')
            self._keep(index, leaf)
        return leaf

    def truncate(self, size: int) -> None:
        if size > self.size:
            self._fill(size)
        elif size < self.size:
            count = -(-size // LEAF)
            if size % LEAF and not self._is_hole(count - 1):
                del self._changeable(count - 1)[size % LEAF:]
            for index in [index for index in self._dirty if index >= count]:
                del self._dirty[index]
            self._dead += [self._staged.pop(index) for index in list(self._staged) if index >= count]
            self._count = min(self._count, count)
            self._last = -1, b''
            self.size, self.changed, self._low = size, True, min(self._low, size)

    def _stage(self) -> None:
        """Put the changed leaves into parts of their own, in a transaction of their own."""
        store, owner = self.vault._store, self._head.owner
        if not self._own and not self._staged:
            self._head.next = staged_number()
        numbers = {index: self._head.number() for index in self._dirty}
        dead = self._dead + [self._staged[index] for index in numbers if index in self._staged]

        def stage() -> None:
            store.put_parts(owner, [(number, bytes(self._dirty[index])) for index, number in numbers.items()])
            if dead:
                store.delete_parts(owner, dead)
        store.transact(stage)
        self._staged.update(numbers)
        self._dirty, self._dead = {}, []

    # --- the end ---

    def save(self) -> None:
        """Make it the entry; in a transaction, after which this is not used any more."""
        if self._staged and not set(self._staged.values()) <= set(self.vault._store.part_numbers(self._head.owner)):
            raise self._missing(True)
        head = self._head
        if self.size <= SMALL:
            self._dead += self._staged.values()
            tail = self._bytes(0)
            self._tree.splice(0, head.inside, [])
        elif self._continues():
            tail = self._bytes(head.inside)
        else:
            self._save_leaves()
            tail = b''
        head.size, head.tail = self.size, tail
        if self._dead:
            self.vault._store.delete_parts(head.owner, self._dead)
        self._tree.save()
        self.vault._store.put_owner(self._stored, head.packed())

    def _bytes(self, at: int) -> bytes:
        return b''.join(self.pieces(at, self.size))

    def _continues(self) -> bool:
        """Tell whether no leaf was changed, and what follows the last one is little and within its bounds."""
        inside = self._head.inside
        return (0 < inside <= self._low and not self._staged and self.size - inside <= SMALL
                and inside // LEAF >= (self.size - 1) // LEAF)

    def _save_leaves(self) -> None:
        """Put a new tree above the changed leaves and the old ones."""
        head = self._head
        first = (head.size - 1) // LEAF if head.inside else 0  # what is not in a leaf of its own yet
        for index in range(first if head.tail or not head.inside else self._count, self._count):
            if index not in self._dirty and index not in self._staged:
                self._keep(index, self.leaf(index))
        if self._dirty:
            self._stage()
        if self._count * LEAF < head.inside:
            self._tree.replace(self._count * LEAF, head.inside, [])
        for _, run in groupby(enumerate(sorted(self._staged)), lambda pair: pair[1] - pair[0]):
            indexes = [index for _, index in run]
            self._tree.replace(indexes[0] * LEAF, (indexes[-1] + 1) * LEAF, [
                (self._staged[index], min(LEAF, self.size - index * LEAF)) for index in indexes])
        if head.inside < self.size:
            self._tree.replace(self.size, self.size, [])

    def append_to(self, other: Content, began: int) -> None:
        """Put what is behind `began` at the end of another content, holes as holes."""
        shift = other.size - began
        for index in sorted({*self._dirty, *self._staged}):
            at = max(index * LEAF, began)
            other.put(at + shift, self.leaf(index)[at - index * LEAF:])
        if other.size < self.size + shift:
            other.truncate(self.size + shift)

    def discard(self) -> None:
        """Delete what was staged; what cannot be deleted now, compact() deletes a day later."""
        staged = [*self._staged.values(), *self._dead]
        self._dirty, self._staged, self._dead = {}, {}, []
        if staged:
            with suppress(VaultError):
                self.vault._store.delete_parts(self._head.owner, None if self._own else staged)


# --- file objects -------------------------------------------------------------------------------------------------

class _Whole:
    """What the file objects share: they are written whole, or not at all."""

    raw: Any

    def discard(self) -> None:
        """Close, and write nothing of it."""
        self.raw.discard()

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """Close; after any exception, write nothing."""
        self.close() if kind is None else self.discard()

    if TYPE_CHECKING:
        def close(self) -> None: ...


def _bytes_of(buffer: Any) -> memoryview:
    """Return a view of the bytes of a buffer. Raises: TypeError when it is none, BufferError when it has gaps."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise BufferError('the bytes of a buffer are to lie one behind the other, without gaps')
    return view.cast('B') if view.nbytes else memoryview(b'')


class RawStream(_Whole, io.RawIOBase):
    """An entry as an unbuffered file. Usable by any thread, one at a time; not in a forked child to write."""

    _kind, _both, _dropped = 'r', False, False  # until it is open: when that fails, there is nothing to be written

    def __init__(self, vault: Vault[Any, Any], key: Any, mode: str) -> None:
        """Open it; `mode` is r, w, a or x, with or without +. Raises: as Vault.open."""
        if mode != 'r':
            if vault._place.read_only:
                raise VaultReadOnlyError(f"the vault was opened with flag='r': key {key!r} of {vault.db_path}; open it "
                                         'to write')
            vault._place.allow_parts(key)
        self._vault, self._process, self._truncated = vault, os.getpid(), False
        self.name, self.mode = key, {'w+': 'rb+'}.get(mode, f'{mode[0]}b{mode[1:]}')  # as those of a builtin file
        self._lost: Optional[Tuple[Type[VaultError], str]] = None  # what a write that failed has raised
        self._content = steadily(vault._store, lambda: self._opened(mode[0]), 'the stream')
        self._began = self._content.size  # where appending begins
        self._at = self._began if mode[0] == 'a' else 0
        self._kind, self._both = mode[0], '+' in mode

    def _opened(self, kind: str) -> Content:
        """Return what is to be read or changed."""
        vault, store = self._vault, self._vault._store
        if kind in 'wx':
            if store.contains(vault._keys.encode(self.name)) and kind == 'x':
                raise self._exists()
            return Content(self._vault, self.name, None)
        stored = vault._place.sought(self.name) if kind == 'r' else vault._keys.encode(self.name)
        data = None if stored is None else store.get(stored)
        if data is None and kind == 'r':
            raise KeyError(self.name)
        content = Content(self._vault, self.name, data)
        if kind == 'a':
            content.hold_end()
        return content

    def _exists(self) -> VaultExistsError:
        return VaultExistsError(f"there is something at the key already: {self._where()}; open it with 'w' to replace "
                                'it')

    def _where(self) -> str:
        return f'key {self.name!r} of the vault {self._vault.db_path}'

    def readable(self) -> bool:
        self._require_open()
        return self._both or self._kind == 'r'

    def writable(self) -> bool:
        self._require_open()
        return self._both or self._kind != 'r'

    def seekable(self) -> bool:
        self._require_open()
        return True

    def fileno(self) -> int:
        self._require_open()
        return super().fileno()

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError('I/O operation on closed file')

    def _require(self, able: bool, verb: str) -> None:
        if not able:
            raise io.UnsupportedOperation(f'the file was not opened for {verb}')

    # --- reading ---

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer), 0
        if view.readonly or not view.c_contiguous:
            raise TypeError('readinto() takes a buffer that can be written and has no gaps')
        self._require(self.readable(), 'reading')
        view = _bytes_of(view)
        for piece in self._content.pieces(self._at, self._at + len(view)):
            view[done:done + len(piece)] = piece
            done += len(piece)
        self._at += done
        return done

    def read(self, size: Optional[int] = -1) -> Optional[bytes]:
        """Return up to `size` bytes; all that is left when it is None or negative."""
        return self.readall() if size is None or as_index(size) < 0 else super().read(size)

    def readall(self) -> bytes:
        self._require(self.readable(), 'reading')
        data = b''.join(self._content.pieces(self._at, self._content.size))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        whence = as_index(whence)
        self._require_open()
        if whence not in (0, 1, 2):
            raise OSError(errno.EINVAL, f'whence is 0, 1 or 2, not {whence!r}')
        self._at = at = self._possible(as_index(offset) + (0, self._at, self._content.size)[whence])
        return at

    def _possible(self, at: int) -> int:
        if at < 0:
            raise OSError(errno.EINVAL, 'there is no position before the beginning')
        if at > max(self._content.size, FARTHEST):
            raise OSError(errno.EFBIG, f'position {at} is too far beyond the end: a hole ends at {FARTHEST} at most')
        return at

    def tell(self) -> int:
        self._require_open()
        return self._at

    # --- writing ---

    def write(self, data: Any) -> int:
        view = _bytes_of(data)
        self._require(self.writable(), 'writing')
        size = view.nbytes
        if self._dropped:
            self._content.changed = True  # as far as the warning goes
        elif size:
            self._same_process()
            at = self._content.size if self._kind == 'a' else self._at
            self._change(self._content.put, at, data if type(data) is bytes else view)
            self._at = at + size
        return size

    def truncate(self, size: Optional[int] = None) -> int:
        self._require(self.writable(), 'writing')
        size = self._possible(self._at if size is None else as_index(size))
        self._same_process()
        self._change(self._content.truncate, size)
        self._truncated = self._truncated or size < self._began
        return size

    def _change(self, change: Callable[..., None], *arguments: Any) -> None:
        """Change the content. When that fails, a part may have been changed, and the rest would not fit."""
        self._require_whole()
        try:
            change(*arguments)
        except BaseException as error:
            self._lost = type(error) if isinstance(error, VaultError) else VaultError, f'{error}'
            raise

    def _require_whole(self) -> None:
        if self._lost:
            kind, why = self._lost
            raise kind(f'a write to the file failed, so that nothing of it is kept: {self._where()}; open it '
                       f'again and write all of it ({why})')

    # --- the end ---

    def close(self) -> None:
        """Make what was written the entry; when that raises, nothing of it is kept."""
        if self.closed:
            return
        if self._dropped or getattr(self, '_finalizing', False):
            self._abandon()
            return
        try:
            self._require_whole()
            if self.writable() and self._content.changed:
                self._same_process()
                self._vault._store.transact(self._save)
        except Gone:  # with everybody else kept out
            self.discard()
            raise missing('the stream', self._where()) from None
        except BaseException:
            self.discard()
            raise
        super().close()

    def _same_process(self) -> None:
        if os.getpid() != self._process:
            raise VaultError(f'the stream was opened to write in the process that forked this one: {self._where()}; '
                             'open it here')

    def _save(self) -> None:
        store, stored = self._vault._store, self._vault._keys.encode(self.name)
        if self._kind == 'x' and store.contains(stored):
            raise self._exists()
        if self._kind in 'ra' and store.get(stored) != self._content.data:
            self._save_beside(store.get(stored))
        else:
            self._content.save()

    def _save_beside(self, data: Optional[bytes]) -> None:
        """Append to what somebody else has put meanwhile."""
        if self._kind == 'r' or self._truncated:
            raise VaultError(f'somebody else has changed the stream since it was opened: {self._where()}; nothing was '
                             'written, open it again')
        theirs = Content(self._vault, self.name, data)
        self._content.append_to(theirs, self._began)
        self._content.discard()
        theirs.save()

    def discard(self) -> None:
        """Close, and write nothing of it."""
        if not self.closed:
            if os.getpid() == self._process:
                self._content.discard()
            super().close()

    def _dealloc_warn(self, source: Any) -> None:
        """Learn that a file object above this one was dropped: CPython then calls this before it flushes."""
        self._dropped = True

    def _abandon(self) -> None:
        if self.writable() and self._content.changed and not sys.is_finalizing():
            from ..log import get_logger
            get_logger().warning('a file was dropped without close(), nothing of it was written: key %r of the vault '
                                 '%s', self.name, self._vault.db_path)
            self.discard()
        super().close()


class BufferedStream(_Whole, io.BufferedWriter):
    """What `open_stream` returns to write."""


class RandomStream(_Whole, io.BufferedRandom):
    """What `open_stream` returns to read and write."""


class TextStream(_Whole, io.TextIOWrapper):
    """What `open_stream` returns for text."""

    mode: str

    def discard(self) -> None:
        self.buffer.raw.discard()  # type: ignore[attr-defined]  # it is a RawStream


def open_stream(vault: Vault[Any, Any], key: Any, mode: str, buffering: int, encoding: Optional[str],
                errors: Optional[str], newline: Optional[str]) -> IO[Any]:
    """Do what Vault.open says."""
    _check_types(mode, buffering, encoding, errors, newline)
    kind, text = _parsed(mode)
    _check_options(text, buffering, encoding, errors, newline)
    raw = RawStream(vault, key, kind)
    try:
        if buffering == 0:
            return raw  # type: ignore[return-value]  # an IO in all but name
        size = buffering if buffering > 1 else BUFFER
        cls: Any = RandomStream if '+' in kind else io.BufferedReader if kind == 'r' else BufferedStream
        buffered = cls(raw, size)
        if not text:
            return buffered  # type: ignore[no-any-return]
        file = TextStream(buffered, 'utf-8' if encoding is None else encoding, errors, newline, buffering == 1)
        file.mode = mode
        return file
    except BaseException:
        raw.discard()
        raise


def _parsed(mode: str) -> Tuple[str, bool]:
    """Return r, w, a or x, with + if that is in the mode, and whether it is for text. Raises: as the builtin open."""
    letters = set(mode)
    if letters - set('rwaxbt+') or len(letters) < len(mode):
        raise ValueError(f'invalid mode: {mode!r}')
    if {'b', 't'} <= letters:
        raise ValueError("can't have text and binary mode at once")
    kinds = letters & set('rwax')
    if len(kinds) != 1:
        raise ValueError('must have exactly one of create/read/write/append mode')
    return kinds.pop() + ('+' if '+' in letters else ''), 'b' not in letters


def _check_types(mode: Any, buffering: Any, *texts: Any) -> None:
    as_index(buffering)
    for name, given in zip(('mode', 'encoding', 'errors', 'newline'), (mode, *texts)):
        if not isinstance(given, str) and (given is not None or name == 'mode'):
            raise TypeError(f'{name} is a str, not {type(given).__name__}')


def _check_options(text: bool, buffering: int, encoding: Optional[str], errors: Optional[str],
                   newline: Optional[str]) -> None:
    if buffering == 1 and not text:
        from warnings import warn
        warn("line buffering (buffering=1) isn't supported in binary mode, the default buffer size is used",
             RuntimeWarning, stacklevel=4)  # who called Vault.open
    for name, given in (('encoding', encoding), ('errors', errors), ('newline', newline)):
        if given is not None and not text:
            raise ValueError(f"binary mode doesn't take {'an' if name != 'newline' else 'a'} {name} argument")
    if text and buffering == 0:
        raise ValueError("can't have unbuffered text I/O")


# --- whole files in and out ---------------------------------------------------------------------------------------

def put_file(vault: Vault[Any, Any], key: Any, source: Any, progress: StreamProgress) -> int:
    """Do what Vault.put_file says."""
    with RawStream(vault, key, 'w') as stream, _source(source) as (file, total):
        done = 0
        while True:
            piece = file.read(LEAF)
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f'put_file takes a binary file, and this one gives {type(piece).__name__}: open it '
                                "with 'rb'")
            if not piece:
                break
            done += stream.write(piece)
            if progress:
                progress(done, total)
    return done


@contextmanager
def _source(source: Any) -> Iterator[Tuple[Any, Optional[int]]]:
    """Open what is read, and tell how many bytes there are."""
    named = isinstance(source, (str, os.PathLike)) or (isinstance(source, bytes) and os.path.exists(source))
    if not named:
        if not hasattr(source, 'read'):
            raise TypeError(f'put_file takes a path or an open binary file, not {type(source).__name__}: v[key] = ... '
                            'puts bytes')
        yield source, _length(source)
        return
    with open(source, 'rb', buffering=0) as file:
        yield file, os.fstat(file.fileno()).st_size


def _length(file: Any) -> Optional[int]:
    """Return how much there is to be read, where that is known without reading it."""
    if not isinstance(file, (io.BytesIO, io.FileIO, io.BufferedReader, io.BufferedRandom)) or not file.seekable():
        return None
    at = file.tell()
    end = file.seek(0, 2)
    file.seek(at)
    return max(end - at, 0)


def get_file(vault: Vault[Any, Any], key: Any, target: Any, progress: Progress) -> int:
    """Do what Vault.get_file says."""
    with RawStream(vault, key, 'r') as stream, _target(target, vault._store.files) as (file, is_new):
        total: int = stream._content.size
        done = 0
        for index in range(-(-total // LEAF)):
            leaf = stream._content.leaf(index)
            if is_new and not leaf[0] and leaf == bytes(len(leaf)):
                done += len(leaf)
                file.truncate(file.seek(done))  # a hole there as well
            else:
                done += _write_all(file, leaf)
            if progress:
                progress(done, total)
    return total


def _write_all(file: Any, piece: Any) -> int:
    """Write a piece, in several where the file takes less at a time; return its length."""
    rest = piece
    while rest:
        count = file.write(rest)
        if not count and isinstance(file, io.RawIOBase):
            raise BlockingIOError(errno.EAGAIN, 'the file takes no more bytes now: give one that waits')
        rest = rest[count:] if isinstance(count, int) else b''
    return len(piece)


@contextmanager
def _target(target: Any, own: Sequence[str]) -> Iterator[Tuple[Any, bool]]:
    """Open what is written, and tell whether it is a new file; `own` are the vault's.

    A path gets it when it is whole, unless it is a device or a pipe.
    """
    if not isinstance(target, (str, bytes, os.PathLike)):
        if isinstance(target, io.TextIOBase):
            raise TypeError("get_file takes a binary file, and this one takes text: open it with 'wb'")
        yield target, False
        return
    path = os.fsdecode(target)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, 'wb', buffering=0) as file:
            yield file, False
        return
    path = os.path.realpath(path)
    if path in map(os.path.realpath, own):
        raise VaultError(f"{path} is the vault's own file: give another path")
    from ..files import NewFile
    with NewFile(path, *own[:1], replaces=True) as new:
        yield new.raw(), True
