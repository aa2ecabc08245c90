"""LockedStore: what an engine stands on that is written as if there were one thread. Knows locks and tasks, no entries.

One thread at a time is let in, and a transaction keeps the others out to its end. So an engine says how it reads and
changes entries, how it notes a state and goes back to it, and how it makes what was written durable; whose turn it is,
which blocks are open in which other ones, and what ends in the wrong thread, task or order, is said here.

The trap: what ends a transaction must find out which one it is. Two generators can hold blocks of one thread, and
a block can be left in another thread than it was entered in.
"""
from __future__ import annotations

import os
import threading
from _thread import get_ident
from abc import abstractmethod
from weakref import WeakSet

from ..errors import VaultBusyError, VaultClosedError, VaultError, VaultReadOnlyError, VaultTaskError, VaultTypeError
from . import blocks
from .base import PLAIN, Options, Store
from .tasks import Owner, free, is_alive, may_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

    from ..keys import Stored
    from .base import Page

    Kept = Tuple[int, Stored, bytes]  # an entry: its position, its key as it was first put, and its value

PAGE = 1024  # entries that a walk reads at a time

_open_stores: WeakSet[LockedStore] = WeakSet()


class LockedStore(Store):
    """A store that one thread uses at a time. Safe in any thread; a memory of its own in each process.

    An engine on top of it does everything in `with self.reading:` or `with self.writing:`, and has `mark`, `go_back`
    and `keep`. What is in `with self.writing:` is done whole or not at all, in a block or outside one.
    """

    def __init__(self, name: str, options: Options = PLAIN) -> None:
        if not isinstance(options, Options):
            raise VaultTypeError(f'options of an engine are vaults.Options(...), not {type(options).__name__}: '
                                 'where it is, or what it is called, is another argument')
        self.name, self.options = name, options
        self.lock = threading.RLock()
        self._undone = 0            # counts what went back: a walk that began before is of what is no more
        self.reading, self.writing = _Reading(self), _Writing(self)
        self._blocks: List[Tuple[object, object]] = []  # who began each open transaction, and the state before it
        self._thread = 0            # the one whose they are
        self._owner: Optional[Owner] = None             # the task whose they are
        self._orphans: List[object] = []                # who began those that an older one took along
        self._told: Optional[Tuple[int, str]] = None    # a thread whose block was left in another one, and what to say
        self._inherited: List[object] = []              # who began those that were open when this child was forked
        self._closed = False
        _open_stores.add(self)

    @abstractmethod
    def mark(self) -> object:
        """Return the state of all entries, or what is needed to go back to it."""

    @abstractmethod
    def go_back(self, mark: object) -> None:
        """Undo all that was written since the mark was made. Marks are gone back to from the newest on."""

    def keep(self) -> None:  # an engine in memory has nothing to do
        """Make durable what was written since this was last called; when it raises, that is undone."""

    @abstractmethod
    def find(self, key: Stored) -> Optional[Kept]:
        """Return the entry: its position, its key as it was first put, its value. It is this thread's turn."""

    # --- reading ---

    def get(self, key: Stored) -> Optional[bytes]:
        with self.reading:
            found = self.find(key)
        return None if found is None else found[2]

    def contains(self, key: Stored) -> bool:
        with self.reading:
            return self.find(key) is not None

    def pages(self, found: Sequence[Kept], values: bool, began: Optional[int]) -> Iterator[Page]:
        """Yield a walk's pages, given the entries that were there when it began, in order, and what `began_in` said."""
        for at in range(0, len(found), PAGE):
            with self.reading:
                self._require_not_undone(began)
                now = [(entry, self.find(entry[1])) for entry in found[at:at + PAGE]]
                page = [one for entry, one in now if one is not None and one[0] == entry[0]]  # the same entry still
            if page:
                _, keys, datas = zip(*page)
                yield keys, datas if values else (), self._alive({entry[1]: entry for entry in page})
        with self.reading:
            self._require_not_undone(began)

    def _is_there(self, entry: Kept) -> bool:
        """Tell whether it is the same entry still, and not a new one with its key: then it has another position."""
        found = self.find(entry[1])
        return found is not None and found[0] == entry[0]

    def _alive(self, page: Dict[Stored, Kept]) -> Callable[[Stored], bool]:
        def alive(key: Stored) -> bool:
            with self.reading:
                return self._is_there(page[key])
        return alive

    def began_in(self) -> Optional[int]:
        """Return what `pages` is to be told by a walk that begins now: in which transaction, or None."""
        return self._undone if self._blocks else None

    def _require_not_undone(self, began_in: Optional[int]) -> None:
        """Raise in a walk that began in a transaction which was rolled back since."""
        if began_in is not None and began_in != self._undone:
            raise VaultError(f'the transaction this walk began in was rolled back: vault {self.name}; begin a new one')

    def is_in_block(self) -> bool:
        """Tell whether a transaction is open; whoever is in `reading` or `writing` is asked about its own."""
        return bool(self._blocks)

    # --- turns ---

    def enter(self) -> None:
        """Wait for this thread's turn, which `leave` ends. Raises what forbids it to use the store now."""
        if not self.lock.acquire(timeout=-1 if self.options.thread_safe else self.options.timeout):
            raise VaultBusyError(f'another thread has a block open, and has not ended it in {self.options.timeout} s: '
                                 f'vault {self.name}; wait, or make its blocks shorter')
        try:
            if self._closed:
                raise VaultClosedError(f'the vault {self.name} is closed: open it again')
            if self._told:
                self._tell()
            if self._owner is not None:
                self._owner.require()
        except BaseException:
            self.lock.release()
            raise

    def _tell(self) -> None:
        """Raise once in the thread whose block was left in another one, and was undone there."""
        thread, said = self._told or (0, '')
        if thread == get_ident():
            self._told = None
            raise blocks.undone_since(said)

    # --- transactions ---

    def begin(self, who: object = None) -> None:
        with self.reading:
            if len(self._blocks) > blocks.MAX_NESTED:
                raise blocks.too_deep(self.name)
            depth = len(self._blocks)
            try:
                if not depth:
                    self.lock.acquire()
                    self._thread = get_ident()
                self._blocks.append((who, self.mark()))
                if self._owner is None and may_run():
                    self._owner = Owner.now(depth, self.name)
            except BaseException:
                self._leave(depth)
                raise

    def commit(self, who: object = None) -> None:
        depth, problem = self._place(who, True)
        try:
            if problem:
                raise problem
            if not depth and not self.writing.marks and self._blocks:  # a parent's block has nothing to keep here
                self.keep()
        except BaseException:
            self._undo(depth)
            raise
        self._leave(depth)

    def rollback(self, who: object = None) -> None:
        depth, _ = self._place(who, False)
        self._undo(depth)

    def _undo(self, depth: int) -> None:
        """Undo the transactions from `depth` on."""
        try:
            if depth < len(self._blocks):
                self._undone += 1
                self.deletions += 1
                self.go_back(self._blocks[depth][1])
        finally:
            self._leave(depth)

    def _leave(self, depth: int) -> None:
        """Have no transaction open from `depth` on; outside all of them, let the next thread in."""
        del self._blocks[depth:]
        if self._owner is not None and depth <= self._owner.depth:
            self._owner = None
        if not depth and self._thread == get_ident():
            self._thread = 0
            self.lock.release()

    def _place(self, who: object, to_commit: bool) -> Tuple[int, Optional[VaultError]]:
        """Return the depth of the transaction that ends, and why it may not be committed."""
        if self._closed:
            self.ended()
            raise VaultClosedError(f'the vault {self.name} was closed inside the block: open it again')
        if self._thread != get_ident():
            if self._is_inherited(who):
                return len(self._blocks), None
            self._not_here(who)
        depths = [depth for depth, (one, _) in enumerate(self._blocks) if one is who is not None]
        depth = depths[-1] if depths else len(self._blocks) - 1
        if not depths and any(one is who for one in self._orphans):
            return self._orphaned(who)
        if not depths and self._is_inherited(who):
            return len(self._blocks), None
        if not depths and type(who) is not blocks.FRAME_TYPE and who is not None:
            raise blocks.not_here(self.name)
        if depth < len(self._blocks) - 1:
            self._orphans += [one for one, _ in self._blocks[depth + 1:] if one is not None]
            return depth, blocks.out_of_order(self.name)
        try:
            if self._owner is not None:
                self._owner.require()
        except VaultTaskError as error:
            return depth, VaultTaskError(f'{error}; it was rolled back')
        return depth, None

    def _is_inherited(self, who: object) -> bool:
        """Tell, once, whether what ends is a block of the parent's, which is none here, and has nothing to say."""
        for at, one in enumerate(self._inherited):
            if one is who:
                del self._inherited[at]
                return True
        return False

    def _orphaned(self, who: object) -> Tuple[int, VaultError]:
        """Return what a block meets at its end that an older one has taken along."""
        self._orphans[:] = [one for one in self._orphans if one is not who]
        return len(self._blocks), blocks.taken_along(self.name)

    def _not_here(self, who: object) -> NoReturn:
        """Raise because this thread has no transaction; when it is another's that ends here, undo that."""
        if who is None or all(one is not who for one, _ in self._blocks):
            raise blocks.not_here(self.name)
        said = blocks.left_elsewhere(self.name, self._thread)
        self._told = (self._thread, said) if is_alive(self._thread) else None
        self._undone += 1
        self.deletions += 1
        self.go_back(self._blocks[0][1])
        self._blocks.clear()
        self._thread, self._owner = 0, None
        free(self.lock)
        raise VaultTaskError(said)

    def ended(self) -> None:
        if self._thread == get_ident():
            self._leave(0)

    def refuse_others(self) -> None:
        if self._thread == get_ident() and self._owner is not None and not self._owner.is_left():
            self._owner.require()

    def require_outside(self, verb: str) -> None:
        """Raise when what cannot run inside a transaction is called in one of this thread."""
        if self._thread == get_ident():
            raise VaultError(f'{verb}() cannot run inside a transaction: leave the block first; vault {self.name}')

    def sync(self) -> None:
        self.require_outside('sync')

    def close(self) -> None:
        if not self._closed:
            if self._thread == get_ident() and self._blocks:
                self._undo(0)
            self._closed = True
            self.deletions += 1  # a walk looks again, and finds it closed

    def forked(self) -> None:
        """Begin anew in a forked child: no transaction is open here, and no thread is inside."""
        before = [mark for in_block, mark in self.writing.marks if not in_block]  # older than a block that is in it
        before += [mark for _, mark in self._blocks]
        if self._thread == get_ident():
            self._inherited += [who for who, _ in self._blocks]
        self.lock, self._thread, self._owner, self._told = threading.RLock(), 0, None, None
        if before:
            self._undone += 1
            self.go_back(before[0])
        self._blocks.clear()
        self.writing.marks.clear()
        self.deletions += 1


class _Reading:
    """A block in which the store is this thread's."""

    def __init__(self, store: LockedStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store.enter()

    def __exit__(self, *error: object) -> None:
        self._store.lock.release()


class _Writing:
    """A block in which the store is this thread's, to change it: all of it, or when it raises, nothing."""

    def __init__(self, store: LockedStore) -> None:
        self._store = store
        self.marks: List[Tuple[bool, object]] = []  # of each that is open: whether it is in a block; the state before

    def __enter__(self) -> None:
        store = self._store
        store.enter()
        try:
            if store.options.flag == 'r':
                raise VaultReadOnlyError(f"it can only be read: vault {store.name}; open it without flag='r'")
            self.marks.append((store.is_in_block(), store.mark()))
        except BaseException:
            store.lock.release()
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        store, (_, mark) = self._store, self.marks.pop()
        try:
            if kind is not None:
                store.go_back(mark)
            elif not self.marks and not store.is_in_block():
                try:
                    store.keep()
                except BaseException:
                    store.go_back(mark)
                    raise
        finally:
            store.lock.release()


def _after_fork_in_child() -> None:
    for store in list(_open_stores):
        store.forked()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)
