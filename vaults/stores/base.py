"""Store: the contract between the dict and an engine. Bytes in, bytes out; knows neither values nor SQL.

Keys are encoded, as keys.py describes: bool, int, float, str or bytes, where equal keys are one entry and the first
form stored is the one that comes back. Their order is keys.order's. Values are bytes. Every entry has a position,
given when its key is first put: positions grow, are kept when the value is replaced, and never return. An entry that
is moved gets another one, behind or before all that were ever given.

Twelve operations (begin, commit and rollback are one) hold the data; `transact` is made of them. Five more keep what is
too large for one value, or grows, in numbered chunks; the rest is upkeep.
"""
from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from itertools import islice

from ..errors import VaultClosedError, VaultError, VaultValueError
from ..keys import HIGHEST, LOWEST, sortable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import (
        Callable,
        ContextManager,
        Dict,
        Iterable,
        Iterator,
        List,
        Mapping,
        NamedTuple,
        NoReturn,
        Optional,
        Protocol,
        Sequence,
        Tuple,
        TypeVar,
    )

    from ..keys import Stored
    from ..place import Entries

    T = TypeVar('T')
    Entry = Tuple[Stored, bytes]
    Page = Tuple[Sequence[Stored], Sequence[bytes], Iterable[int]]  # of a walk, keys, values and ids: see Store.scan
    # Of a walk by pages: the ids of the first and the last entry, where it stands, an id and its key; the numbering.
    Cursor = Tuple[int, int, int, Stored, int]
    # What is called every so often while something takes long: with how much is done, and how much there is in all; in
    # pages, entries or bytes, as whoever takes it says. What it returns is nothing to anybody; what it raises ends it.
    Progress = Optional[Callable[[int, int], object]]
    Checks = Mapping[Tuple[object, ...], Callable[[Stored, object], object]]
    # A live entry, in the place of an entry's bytes in write-back mode: the object that they are loaded to; the bytes
    # that it is stored as, or None; and what validates it when it has changed, by the path of the section whose check
    # it is. A tuple is made in C: a walk makes one of each entry.
    Live = Tuple[object, Optional[bytes], Checks]
    StreamProgress = Optional[Callable[[int, Optional[int]], object]]  # None where nobody knows how much there is
    CountProgress = Optional[Callable[[int], object]]                  # where nobody ever knows
else:
    from collections import namedtuple


MEMORY = ':memory:'         # the name of a vault without a file
OWNER = 12                  # bytes of an owner of chunks
SETTINGS_OWNER = bytes(OWNER)   # of what belongs to the vault itself and to no entry: see settings.py
OWNERS, CHUNKS = HIGHEST + b'o', HIGHEST + b'p'  # what keys begin with where chunks are entries: persisted, as they are
NUMBER_SIZE = 8             # bytes of a chunk's number in them
GATHERED, GATHERED_BYTES = 512, 1 << 19     # with more entries, or bytes of values, a page of `page` is full
MAX_TIMEOUT = 2_000_000.0   # seconds; SQLite counts milliseconds in 32 bits


if TYPE_CHECKING:
    Made = Callable[[List[bytes]], Tuple[bytes, List[Tuple[int, bytes]], List[int]]]  # of what waits: see Store.waiting

    class KeptBack(Protocol):
        """What a block keeps back: see Store.waiting."""

        rows: List[bytes]
        left: int           # bytes
        most: int           # pieces
        thread: int
        deletions: int

    class Options(NamedTuple):
        flag: str = 'c'
        timeout: float = 5.0
        synchronous: str = 'NORMAL'
        thread_safe: bool = False
        token: Optional[str] = None
else:
    class Options(namedtuple('Options', 'flag timeout synchronous thread_safe token',
                             defaults=('c', 5.0, 'NORMAL', False, None))):
        __slots__ = ()

        def __repr__(self):
            """Show all but the token."""
            return f'Options{(*self[:4], None if self.token is None else "...")!r}'

    Options.__doc__ = """How a vault is opened: what `Vault` was told, and an engine is to heed where it can.

    `flag`: 'r' to read, 'w' to write what is there, 'c' to make what is not, 'n' to begin with an empty one.
    `timeout`: seconds to wait for another writer. `synchronous`: 'NORMAL', where a power cut may take the newest
    commits, 'FULL' and 'EXTRA', where it takes none, or 'OFF', where it may take all.
    `thread_safe`: writers of one process are to wait for each other in a queue, however long it takes.
    `token`: what shows a server who asks. It is secret: an engine that has no use for it refuses it.
    """


DEFAULT_OPTIONS = Options()


class Store(ABC):
    """An ordered, transactional map of encoded keys to bytes. Safe in any thread.

    A transaction belongs to the thread and, where an event loop runs, to the task that began it: every use by another
    task of the thread raises VaultTaskError, and disturbs nothing.

    Every method raises errors of errors.py alone, and changes nothing when it does; but an error inside a transaction
    may undo it from its innermost `begin` on, and then all that comes before that ends raises as well. Outside of
    them each call is its own, and survives a killed process once it has returned; of one that raises VaultUnsureError,
    nobody can tell. An engine may have limits, which it says with SerializationError: `longest_key` is that of keys.
    """

    longest_key: Optional[int] = None   # bytes of a key that is text or bytes, as UTF-8; None for as many as of a value
    is_distant = False  # whether each call takes long, as over a network: what can be one is then one
    is_serial = False   # whether all threads take turns, so that who reads waits for the block of another one

    numbering = 0  # an engine that numbers its entries anew each time it is opened has another number each time
    deletions = 0  # counts what may have deleted entries: a walk looks at it at every step

    @abstractmethod
    def get(self, key: Stored) -> Optional[bytes]:
        """Return the value, or None. Raises VaultCorruptError rather than return a value that was not put."""

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        """Return how many bytes the value has, and it unless they are more than `most`; 0 and None without one.

        An empty value, which no vault puts, may look as if there were none.
        """
        data = self.get(key)
        return (0, None) if data is None else (len(data), data if len(data) <= most else None)

    def held(self, key: Stored) -> Optional[Tuple[object]]:
        """Return the object that is kept for the entry, alone in a tuple; None when there is none."""
        return None

    def cached(self, size: int) -> Entries:
        """Return what reads up to `size` entries from memory, as long as nobody has committed since; else the store.

        Its `get` may return an object alone in a tuple, of those that nobody can change.
        """
        return self

    def contains(self, key: Stored) -> bool:
        """Tell whether the key is there. A store need not read its value then."""
        return self.get(key) is not None

    def get_many(self, keys: Sequence[Stored]) -> Iterable[Optional[bytes]]:
        """Return the values, None for each that is not there, to be walked over once, and at once.

        What is raised may come at any step. A store that finds many at once is quicker.
        """
        return map(self.get, keys)

    def contains_many(self, keys: Sequence[Stored]) -> Iterable[bool]:
        """Tell of each key whether it is there; as `get_many`."""
        return map(self.contains, keys)

    @abstractmethod
    def put(self, key: Stored, data: bytes) -> None:
        """Set the value; a new key comes last in insertion order, an old one keeps its place and its form.

        In the same transaction it lets go of the chunks of what was there: `free_chunks`.
        """

    def put_many(self, pairs: Iterable[Entry]) -> int:
        """Put all pairs or, when the iterable or a pair fails, none. Returns how many there were.

        The iterable may use the store, and sees the pairs that it has given so far.
        """
        def put_all() -> int:
            done = 0
            for key, data in pairs:
                self.put(key, data)
                done += 1
            return done
        return self.once(put_all)

    def put_new(self, key: Stored, data: bytes) -> Optional[bytes]:
        """Put the value where there is none, and return None; else return the one that is there, which stays.

        A distant store does so in one trip, and keeps nobody out, and waits for nobody, where there is one already.
        """
        def put() -> Optional[bytes]:
            there = self.get(key)
            if there is None:
                self.put(key, data)
            return there
        return self.transact(put)

    @abstractmethod
    def delete(self, key: Stored) -> bool:
        """Remove the entry, and in the same transaction its chunks: `free_chunks`; tell whether there was one."""

    def delete_if(self, key: Stored, known: bytes) -> bool:
        """Remove the entry as `delete` does, if its value is what is `known`; false when that is not there.

        A distant store does so in one trip.
        """
        return self.transact(lambda: self.get(key) == known and self.delete(key))

    def delete_many(self, keys: Sequence[Stored]) -> Sequence[bool]:
        """Remove these entries, all or when one cannot be, none; tell of each whether there was one."""
        return self.transact(lambda: list(map(self.delete, keys)))

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        """Remove all keys in [low, high), all or none; returns how many. All keys by default."""
        def delete_all() -> int:
            found = [key for keys, _, _ in self.scan(low, high, values=False) for key in keys]
            return sum(map(self.delete, found))
        return self.transact(delete_all)

    @abstractmethod
    def move(self, key: Stored, last: bool = True) -> bool:
        """Put the entry at the end of the insertion order, or at its beginning; tell whether there is one.

        A walk under way does not visit it twice; one that has not come to it may leave it out, as if it were deleted.
        """

    @abstractmethod
    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        """Return the number of keys in [low, high); of all keys in time that does not grow with their number."""

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        """Return the number of keys in [low, high), or `most` when there are more. A store need not count them then."""
        return min(self.count(low, high), most)

    @abstractmethod
    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        """Yield pages (keys, values, ids); by insertion, or by key. Without `values` there are none of them.

        Keys and values are sequences; the ids are to be walked over once, because most walks never look at them. An id
        tells an entry from a later one under its key, as its position does: `alive(key, id)` tells whether the entry is
        still there, and `deletions` changes when this process may have deleted one.

        Safe while writing: it yields what was there when it began, save what was deleted before its page was read;
        nothing put since; what others are putting as it begins may be in it. A replaced value is seen as it was at some
        time since it began. Between pages no transaction is
        open. A walk begun in a transaction that was rolled back raises VaultError, and one that finds fewer entries
        than there are, VaultCorruptError.
        """

    def page(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True, cursor: Optional[Cursor] = None) -> Tuple[Page, Optional[Cursor]]:
        """Return a page of such a walk, and the cursor from which the next one is read; None behind the last.

        A cursor is data, which another process can go on with, at any time: nothing is held between pages. It goes with
        the other arguments, and says what was there when the walk began; of a transaction that was rolled back, it says
        nothing. A page has some thousand entries and about 1 MB at most, or one entry.

        A store that finds where the cursor stands is quicker than this, which walks there.

        Raises: VaultValueError for the cursor of an engine that has numbered its entries anew since.
        """
        oldest, newest, last, key = self.ends(cursor)
        if cursor and by_key:
            low, high = (low, key) if reverse else (key, high)  # type: ignore[assignment]  # no None is in a cursor
        pages = self.scan(low, high, by_key=by_key, reverse=reverse, values=values)

        def is_due(key: Stored, id: int) -> bool:
            return oldest <= id <= newest and (last is None or (id != last and (by_key or (id < last) == reverse)))
        return self.gathered(pages_of(pages, is_due, values), oldest, newest)

    def ends(self, cursor: Optional[Cursor]) -> Tuple[int, int, Optional[int], Optional[Stored]]:
        """Return the ids of the first and last entry when a walk by pages began; where it stands, an id and its key."""
        if cursor is None:
            return (*self.span(), None, None)
        oldest, newest, last, key, numbering = cursor
        if numbering != self.numbering:
            raise VaultValueError('the cursor is of a walk that began before the vault was last opened, since when its '
                                  'entries are numbered anew: begin the walk again')
        return oldest, newest, last, key

    def gathered(self, pages: Iterator[Page], oldest: int, newest: int) -> Tuple[Page, Optional[Cursor]]:
        """Return the first pages of a scan as one, and the cursor behind it."""
        found: List[Stored] = []
        values: List[bytes] = []
        places: List[int] = []
        size = 0
        for keys, datas, ids in pages:
            found += keys
            values += datas
            places += ids
            size += sum(map(len, datas))
            if len(found) > GATHERED or size > GATHERED_BYTES:
                return (found, values, places), (oldest, newest, places[-1], found[-1], self.numbering)
        return (found, values, places), None

    def span(self) -> Tuple[int, int]:
        """Return the ids of the first and the last entry by insertion; 1 and 0 when there is none."""
        ends = [next(iter(ids)) for reverse in (False, True)
                for _, _, ids in islice(self.scan(values=False, reverse=reverse), 1)]
        return (ends[0], ends[-1]) if ends else (1, 0)

    @abstractmethod
    def alive(self, key: Stored, id: int) -> bool:
        """Tell whether the entry that a walk has met under this id is still there: it, and not a new one of its key."""

    @abstractmethod
    def begin(self, who: object = None) -> None:
        """Begin this thread's transaction, which excludes other writers; within one, begin a nested one.

        Or it behaves as if it excluded them: where it cannot be put in line with others, any call in it or its commit
        raises VaultBusyError, and it is rolled back. `who` begins it, an object or a frame, and is to be named when it
        ends.

        Raises: VaultBusyError after `timeout` seconds.
        """

    @abstractmethod
    def commit(self, who: object = None) -> None:
        """Make the innermost transaction's writes part of what is around it; the outermost makes them durable.

        When it raises, the transaction has been rolled back; so it has, with those inside it, when it is another one
        that `who` began, or when another task than its own ends it. Of VaultUnsureError alone nobody can tell.
        """

    @abstractmethod
    def rollback(self, who: object = None) -> None:
        """Undo the innermost transaction's writes, or those of the one that `who` began, and of those inside it."""

    def transact(self, operation: Callable[[], T]) -> T:
        """Return what `operation()` does, in a transaction of its own or a nested one; undone when it raises.

        An engine whose transactions cannot always be put in line with others may run it again, from its beginning: so
        it takes nothing from outside that it could not take twice. Blocks are never run again.
        """
        return self.once(operation)

    def once(self, operation: Callable[[], T]) -> T:
        """As `transact`, but never run again: for what takes from an iterator, or changes what is in memory."""
        self.begin(operation)
        try:
            result = operation()
        except BaseException:
            self.rollback(operation)
            raise
        self.commit(operation)
        return result

    # Chunks are numbered bytes that belong to an owner, 12 bytes that nobody else has had (`new_owner`), and through it
    # to the entry that was put for it. They are written once, under a number that is not used again: so what was read
    # of them can be kept, and a reader that misses one knows that its entry has changed.

    #
    # A store that does nothing about them keeps them as entries under keys from HIGHEST on, which its default bounds
    # leave out: each chunk, and for each entry that has chunks their owner.

    def get_chunk(self, owner: bytes, number: int) -> Optional[bytes]:
        """Return a chunk, or None. Raises VaultCorruptError rather than return what was not put."""
        return self.get(chunk_key(owner, number))

    def get_chunks(self, owner: bytes, numbers: Sequence[int]) -> Sequence[Optional[bytes]]:
        """Return chunks, and None for each that is not there. A store that finds many at once is quicker."""
        return [self.get_chunk(owner, number) for number in numbers]

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        """Return a value and a chunk, which may be None without one. A store that answers both at once is quicker."""
        return self.get(key), self.get_chunk(owner, number)

    def put_chunks(self, owner: bytes, chunks: Iterable[Tuple[int, bytes]]) -> None:
        """Put all chunks, whose numbers are new, or when the iterable or one fails, none."""
        self.put_many((chunk_key(owner, number), data) for number, data in chunks)

    def delete_chunks(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        """Remove those chunks of the owner; all of them by default."""
        def delete_all() -> None:
            for number in list(self.chunk_numbers(owner)) if numbers is None else numbers:
                self.delete(chunk_key(owner, number))
        self.once(delete_all)

    def chunk_numbers(self, owner: bytes) -> Iterator[int]:
        """Yield the numbers of the owner's chunks, in order."""
        for key in self._chunk_keys(CHUNKS + owner):
            yield int.from_bytes(key[-NUMBER_SIZE:], 'big')

    def chunk_owners(self) -> Iterator[bytes]:
        """Yield all owners of chunks, in order."""
        last = b''
        for key in self._chunk_keys(CHUNKS):
            owner = key[len(CHUNKS):-NUMBER_SIZE]
            if owner != last:
                yield owner
            last = owner

    def _chunk_keys(self, start: bytes) -> Iterator[bytes]:
        for keys, _, _ in self.scan(start, start + b'\xff' * (OWNER + NUMBER_SIZE), by_key=True, values=False):
            yield from keys  # type: ignore[misc]  # those in this range are bytes

    def put_owner(self, key: Stored, data: bytes) -> None:
        """Put an entry that has chunks: its last 12 bytes are their owner.

        They are removed with the entry, and when anything is put in its place that has not the same owner.
        """
        owner, known = data[-OWNER:], OWNERS + sortable(key)

        def put() -> None:
            if self.get(known) == owner:
                self.delete(known)  # lest `put` removes the chunks
            self.put(key, data)
            self.put(known, owner)
        self.transact(put)

    def put_owner_if(self, key: Stored, known: bytes, data: bytes) -> bool:
        """Put an entry with chunks of the same owner in the place of what is `known`; false when that is not there.

        A store that compares and puts in one statement is quicker.
        """
        def put() -> bool:
            if self.get(key) != known:
                return False
            self.put_owner(key, data)
            return True
        return self.transact(put)

    def waiting(self, key: Stored, known: bytes, making: Callable[[], Optional[Made]], size: int, many: int,
                ) -> Optional[KeptBack]:
        """Return where this thread's block may leave what it appends to a value, or None: then it is put at once.

        There is room for so many pieces of so many bytes. It ends when anybody uses the store in this thread, which is
        at the end of the block at last: then `thread` is 0, and what is made of all that waits is put as by
        `put_owner_if`, in the place of the `known` value: a value, new chunks, and none any more under other numbers.
        `making` may ask the store, and returns what makes them, which does not.
        """
        return None

    def free_chunks(self, key: Stored) -> None:
        """Remove the chunks of an entry that is being replaced or deleted.

        It is what `put` and `delete` of an engine call, in their transaction, unless it keeps chunks in its own way.
        """
        if is_of_chunks(key):
            return
        known = OWNERS + sortable(key)
        owner = self.get(known)
        if owner is not None:
            self.delete_chunks(owner)
            self.delete(known)

    def others_wrote(self) -> bool:
        """Tell whether anybody else may have written since this thread last asked; true the first time."""
        return True

    def flush(self) -> None:  # noqa: B027  # an engine that keeps nothing back has nothing to do
        """Write what is kept back in memory, so that others see it."""

    def write_last(self, keep: bool) -> None:  # noqa: B027  # as above
        """Write what is kept back for the last time, or unless it is to be kept let go of it, and keep nothing more.

        Raises: as `flush`; then nothing has ended.
        """

    def ended(self) -> None:  # noqa: B027  # an engine that holds no lock of this process has nothing to let go of
        """Do what is to be done when this thread's transaction has ended, or its store was closed in it."""

    def refuse_others(self) -> None:  # noqa: B027  # an engine whose transactions are no task's
        """Raise VaultTaskError when another task, which can go on, has a transaction open that closing would undo."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back; an open transaction is rolled back. May be called twice."""

    def sync(self) -> None:  # noqa: B027  # an engine that is durable on commit has nothing to do
        """Make all commits so far survive a power cut."""

    def compact(self, progress: Progress = None) -> None:  # noqa: B027  # not every engine has slack to give back
        """Give unused space back."""

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        """Return the problems found: the engine's, and what `examine` says of each entry."""
        return [problem for entry in entries_of(self.scan()) for problem in [examine(*entry)] if problem]

    def require_own(self) -> None:  # noqa: B027  # an engine whose place nobody else can take
        """Raise when what lies where the store was opened is somebody else's by now, or may not be destroyed.

        It is called before the store is closed to be destroyed: what is refused then has changed nothing.
        """

    def require_writable(self) -> None:  # noqa: B027  # what may not be written is mostly said by the first write
        """Raise VaultReadOnlyError when all that writes would be refused, as far as that costs nothing to know.

        It is called before what is written in many pieces, as a stream is.
        """

    def backup(self, path: str, progress: Progress = None) -> None:
        """Write a copy of the last commit to a new file at `path`."""
        raise VaultError(f'{type(self).__name__} cannot be backed up to a file: copy its entries into a vault in one, '
                         'with update(), or export them')

    def destroy(self) -> None:  # noqa: B027  # an engine may keep nothing that outlives it
        """Delete what the store, which was closed, has kept: for good.

        Raises: VaultError where it cannot be.
        """

    @property
    def files(self) -> Sequence[str]:
        """The paths of all files that belong to the vault, the main one first, whether they are there or not."""
        return ()

    @property
    def sources(self) -> Optional[Sequence[str]]:
        """The files that entries are read from: whoever may write one of them may have planted a pickle.

        None are, (), where nobody but this process can have written; None says that it is not known. Then pickles are
        neither read nor written, unless the vault is opened with `allow_pickle`.
        """
        return None

    def describe(self) -> Dict[str, object]:
        """Return plain facts for `vaults info`, by name: 'engine' always; 'format', 'bytes', versions and the like.

        A store that was closed still tells them, and its files.
        """
        return {'engine': type(self).__name__}

    def interruptible(self, interrupted: Callable[[], bool]) -> ContextManager[object]:
        """Return a block in which a long call of this thread ends, with an error, once `interrupted()` is true.

        It is for an engine whose calls Python cannot interrupt by itself: it asks every so often. What it raises is
        not to be shown, because whoever makes `interrupted` true knows why.
        """
        from contextlib import nullcontext  # here: it takes a tenth of `import vaults`
        return nullcontext()


def is_of_chunks(key: Stored) -> bool:
    """Tell whether a key is one under which chunks are kept, which no default bounds reach."""
    return isinstance(key, bytes) and key >= HIGHEST


def chunk_key(owner: bytes, number: int) -> bytes:
    """Return the key of a chunk where chunks are entries."""
    return CHUNKS + owner + number.to_bytes(NUMBER_SIZE, 'big')


def entries_of(pages: Iterable[Page]) -> Iterator[Entry]:
    """Yield the keys and values of a scan's pages; a page is let go of before the next one is read."""
    for page, datas, ids in pages:
        yield from zip(page, datas)
        del page, datas, ids


def pages_of(pages: Iterable[Page], is_wanted: Callable[[Stored, int], bool], values: bool) -> Iterator[Page]:
    """Yield those entries of a scan's pages that are wanted."""
    for keys, datas, ids in pages:
        rows = [row for row in zip(keys, datas if values else keys, ids) if is_wanted(row[0], row[2])]
        if rows:
            keys, datas, ids = zip(*rows)
            yield keys, datas if values else (), ids


def new_owner() -> bytes:
    """Return an owner for chunks: the time in seconds, 4 bytes, so that they lie together, and 8 random ones."""
    return (int(time.time()) & 0xFFFFFFFF).to_bytes(4, 'big') + os.urandom(8)


class StoreBefore(Store):
    """A store that stands before another one, whose files, facts and chunks are that one's. The rest it says itself."""

    _store: Store

    @property
    def longest_key(self) -> Optional[int]:  # type: ignore[override]  # as below
        return self._store.longest_key

    @property
    def is_distant(self) -> bool:  # type: ignore[override]  # as below
        return self._store.is_distant

    @property
    def is_serial(self) -> bool:  # type: ignore[override]  # as below
        return self._store.is_serial

    @property
    def numbering(self) -> int:  # type: ignore[override]  # as below
        return self._store.numbering

    @property
    def deletions(self) -> int:  # type: ignore[override]  # an attribute of other stores
        return self._store.deletions

    def get_chunk(self, owner: bytes, number: int) -> Optional[bytes]:
        return self._store.get_chunk(owner, number)

    def get_chunks(self, owner: bytes, numbers: Sequence[int]) -> Sequence[Optional[bytes]]:
        return self._store.get_chunks(owner, numbers)

    def chunk_numbers(self, owner: bytes) -> Iterator[int]:
        return self._store.chunk_numbers(owner)

    def chunk_owners(self) -> Iterator[bytes]:
        return self._store.chunk_owners()

    def flush(self) -> None:
        self._store.flush()

    def write_last(self, keep: bool) -> None:
        self._store.write_last(keep)

    def require_own(self) -> None:
        self._store.require_own()

    def require_writable(self) -> None:
        self._store.require_writable()

    @property
    def files(self) -> Sequence[str]:
        return self._store.files

    @property
    def sources(self) -> Optional[Sequence[str]]:
        return self._store.sources

    def describe(self) -> Dict[str, object]:
        return self._store.describe()

    def interruptible(self, interrupted: Callable[[], bool]) -> ContextManager[object]:
        return self._store.interruptible(interrupted)


class ClosedStore(Store):
    """What a closed vault has in place of its store: everything raises, so that nothing has to ask."""

    def __init__(self, name: str, ended: Callable[[], object] = lambda: None, store: Optional[Store] = None) -> None:
        self._name, self._end = name, ended
        self.closed_store = store  # what was closed, if anything was: it can still be destroyed

    def commit(self, who: object = None) -> NoReturn:
        """End a block that was open when another thread closed the vault."""
        self._end()
        self.refuse()

    rollback = commit

    def refuse(self, *_: object, **__: object) -> NoReturn:
        raise VaultClosedError(f'the vault {self._name!r} is closed: open it again')

    get = get_many = glance = held = cached = contains = contains_many = put = put_many = refuse
    put_new = delete = delete_if = delete_many = delete_range = free_chunks = move = refuse
    count = count_up_to = scan = page = span = ends = gathered = alive = begin = transact = once = others_wrote = refuse
    longest_key = numbering = is_distant = is_serial = property(refuse)
    get_chunk = get_chunks = get_both = put_chunks = delete_chunks = chunk_numbers = chunk_owners = put_owner = refuse
    put_owner_if = waiting = refuse
    ended = refuse_others = write_last = close = flush = sync = compact = check = require_own = backup = refuse
    require_writable = destroy = describe = interruptible = refuse
    files = property(refuse)
    sources = property(refuse)
    deletions = property(refuse)  # an attribute of other stores
