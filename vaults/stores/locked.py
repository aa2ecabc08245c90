"""LockedStore: what an engine stands on that is written as if there were one thread. Knows locks and tasks, no entries.

One thread at a time is let in, and a transaction keeps the others out to its end. So an engine says how it reads and
changes entries, how it notes a state and goes back to it, and how it makes what was written durable; whose turn it is,
which blocks are open in which other ones, and what ends in the wrong thread, task or order, is said here.

The trap: what ends a transaction must find out which one it is. Two generators can hold blocks of one thread, and
a block can be left in another thread than it was entered in.

The other one is Ctrl-C, which may come between any two instructions. So the lock is taken once, whatever is nested, and
given back when neither a block nor a turn of its thread is left; what has not got its end is found by the next call.
"""
from __future__ import annotations

import os
from _thread import get_ident
from abc import abstractmethod
from weakref import WeakSet, ref

from ..errors import VaultBusyError, VaultClosedError, VaultError, VaultReadOnlyError, VaultTaskError, VaultTypeError
from . import blocks
from .base import DEFAULT_OPTIONS, Options, Store
from .forks import each_in_child
from .tasks import Lock, Owner, is_alive, may_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, List, NoReturn, Optional, Sequence, Tuple, TypeVar
    from weakref import ReferenceType

    from ..keys import Stored
    from .base import Page, Progress

    Before = Optional[Tuple[int, object]]  # of a write: how many blocks it is in, and the state before
    T = TypeVar('T')
    Kept = Tuple[int, Stored, bytes]  # an entry: its position, its key as it was first put, and its value

PAGE = 1024  # entries that a walk reads at a time

_locked_stores: WeakSet[LockedStore] = WeakSet()


class LockedStore(Store):
    """A store that one thread uses at a time. Safe in any thread; a memory of its own in each process.

    An engine on top of it does everything in `with self.reading:` or `with self.writing:`, and has `mark`, `go_back`
    and `keep`. What is in `with self.writing:` is done whole or not at all, in a block or outside one.
    """

    is_serial = True

    def __init__(self, name: str, options: Options = DEFAULT_OPTIONS) -> None:
        if not isinstance(options, Options):
            raise VaultTypeError(f'options of an engine are vaults.Options(...), not {type(options).__name__}: '
                                 'where it is, or what it is called, is another argument')
        self.name, self.options = name, options
        self.numbering = int.from_bytes(os.urandom(6), 'big')
        self.lock = Lock()
        self._epochs = blocks.Epochs()  # a walk that began in what was rolled back cannot go on
        self.inside: List[Tuple[ReferenceType[_Turn], Before]] = []  # the turns of the thread whose turn it is
        self._blocks: List[Tuple[object, object]] = []  # who began each open transaction, and the state before it
        self._thread = 0            # the one whose they are
        self._owner: Optional[Owner] = None             # the task whose they are
        self._orphans: List[object] = []                # who began those that an older one took along
        self._waiting_error: Optional[Tuple[int, str]] = None  # the thread whose block another one left, and the text
        self._inherited: List[object] = []              # who began those that were open when this child was forked
        # Why it cannot be written, if so: what a write raises.
        self.refusal = f"it can only be read: vault {name}; open it without flag='r'" if options.flag == 'r' else ''
        self._closed = False
        _locked_stores.add(self)

    @abstractmethod
    def mark(self) -> object:
        """Return the state of all entries, or what is needed to go back to it."""

    @abstractmethod
    def go_back(self, mark: object) -> None:
        """Undo all that was written since the mark was made. Marks are gone back to from the newest on."""

    def keep(self) -> None:  # an engine in memory has nothing to do
        """Make durable what was written since this was last called; when it raises, that is undone."""

    def done(self) -> None:
        """Do what is to be done after a write of its own, outside a block: make it durable, as at the end of a block.

        When it raises, that write is undone. An engine for which that takes long may leave it to `sync`.
        """
        self.keep()

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

    def pages(self, found: Sequence[Kept], values: bool, began: Optional[blocks.Epoch]) -> Iterator[Page]:
        """Yield a walk's pages, given the entries that were there when it began, in order, and what `began_in` said."""
        for at in range(0, len(found), PAGE):
            with self.reading:
                self._require(began)
                now = [(entry, self.find(entry[1])) for entry in found[at:at + PAGE]]
                page = [one for entry, one in now if one is not None and one[0] == entry[0]]  # the same one: see alive
            if page:
                positions, keys, datas = zip(*page)
                yield keys, datas if values else (), positions
        with self.reading:
            self._require(began)

    def alive(self, key: Stored, id: int) -> bool:
        with self.reading:
            found = self.find(key)
        return found is not None and found[0] == id  # a new entry with its key has another position

    def began_in(self) -> Optional[blocks.Epoch]:
        """Return what `pages` is to be told by a walk that begins now: in which transaction, or None."""
        return self._epochs.at(len(self._blocks))

    def _require(self, began: Optional[blocks.Epoch]) -> None:
        """Raise in a walk that began in a transaction which was rolled back since."""
        if began is not None:
            began.require(self.name)

    # --- turns ---

    @property
    def reading(self) -> _Turn:
        """A block in which the store is this thread's."""
        return _Turn(self, False)

    @property
    def writing(self) -> _Turn:
        """A block in which the store is this thread's, to change it: all of it, or when it raises, nothing."""
        return _Turn(self, True)

    def is_mine(self) -> bool:
        """Tell whether it is this thread's turn."""
        mine: bool = self.lock.is_mine()
        return mine

    def take_back(self) -> None:
        """Undo what an interrupt has left of turns that this thread is no longer in."""
        while self.inside and self.inside[-1][0]() is None:
            self.finish(len(self.inside) - 1, False)
            self.inside.pop()

    def depth(self) -> int:
        """Return how many blocks are open; whoever is in `reading` or `writing` is asked about its own."""
        return len(self._blocks)

    def enter(self, mine: bool) -> None:
        """Wait for this thread's turn, unless it is `mine`. Raises what forbids it to use the store now."""
        if not mine and not self.lock.acquire(timeout=-1 if self.options.thread_safe else self.options.timeout):
            raise VaultBusyError(f'another thread has a block open, and has not ended it in {self.options.timeout} s: '
                                 f'vault {self.name}; wait, or make its blocks shorter')
        if self._closed:
            raise blocks.closed(self.name)
        if self._waiting_error:
            self._raise_waiting()
        if self._owner is not None:
            self._owner.require()

    def let_in(self) -> None:
        """Let the next thread in, when neither a turn nor a block of this one is open."""
        if not self.inside and self._thread != get_ident():
            while self.is_mine():
                self.lock.release()

    def finish(self, turn: int, done: bool) -> None:
        """Keep what was written in a turn, unless a block or another turn is around it; undo what is not done."""
        who, before = self.inside[turn] if turn < len(self.inside) else (None, None)
        if who is None or before is None:
            return  # it was to read; or another thread, or a fork, has ended it
        _, mark = before
        try:
            if done and not self._blocks and not self._writes(turn):
                self.done()
            elif not done:
                self._restore(mark)
        except BaseException:
            if done:
                self._restore(mark)
            raise
        finally:
            self.inside[turn] = who, None

    def _writes(self, turns: int) -> bool:
        """Tell whether one of the first turns is to write."""
        return any(before for _, before in self.inside[:turns])

    def _raise_waiting(self) -> None:
        """Raise once in the thread whose block was left in another one, and was undone there."""
        thread, said = self._waiting_error or (0, '')
        if thread == get_ident():
            self._waiting_error = None
            raise blocks.undone_since(said)

    # --- transactions ---

    def begin(self, who: object = None) -> None:
        depth = len(self._blocks) if self.is_mine() else 0
        try:
            with self.reading:
                if depth > blocks.MAX_NESTED:
                    raise blocks.too_deep(self.name)
                self._thread = get_ident()
                self._blocks.append((who, self.mark()))
                if self._owner is None and may_run():
                    self._owner = Owner.now(depth, self.name)
        except BaseException:
            if self.is_mine():
                self._leave(depth)
            raise

    def commit(self, who: object = None) -> None:
        depth = -1
        try:
            depth, problem = self._place(who, True)
            if problem:
                raise problem
            if not depth and self._blocks and not self._writes(len(self.inside)):  # not a parent's
                self.keep()
            self._leave(depth)
        except BaseException as error:
            self._broken_off(who, depth, error)
            raise

    def rollback(self, who: object = None) -> None:
        depth = -1
        try:
            depth, _ = self._place(who, False)
            self._undo(depth)
        except BaseException as error:
            self._broken_off(who, depth, error)
            raise

    def _broken_off(self, who: object, depth: int, error: BaseException) -> None:
        """Undo what was to end. Where its depth is not known yet, an interrupt came first, or it may not end."""
        if depth >= 0:
            self._undo(depth)
        elif not isinstance(error, VaultError):
            self._undo(self._place(who, False)[0])

    def once(self, operation: Callable[[], T]) -> T:
        depth = len(self._blocks) if self.is_mine() else 0
        try:  # around `begin` as well: an interrupt may come when it is done
            self.begin(operation)
            result = operation()
            self.commit(operation)
        except BaseException:
            if self.is_mine() and (len(self._blocks) > depth or operation in self._orphans):
                self.rollback(operation)
            raise
        return result

    def _undo(self, depth: int) -> None:
        """Undo the transactions from `depth` on. What an interrupt has met of that is to be done again."""
        try:
            if depth < len(self._blocks):
                self._epochs.undo(depth)
                self.deletions += 1
                self.go_back(self._blocks[depth][1])
        except Exception:
            self._leave(depth)
            raise
        self._leave(depth)

    def _restore(self, mark: object) -> None:
        """Go back to a mark; what an interrupt has met of that is done again."""
        try:
            self.go_back(mark)
        except Exception:
            raise
        except BaseException:
            self.go_back(mark)
            raise

    def _leave(self, depth: int) -> None:
        """Have no transaction open from `depth` on; outside all of them, let the next thread in."""
        del self._blocks[depth:]
        self._epochs.leave(depth)
        if self._owner is not None and depth <= self._owner.depth:
            self._owner = None
        for turn, (who, before) in enumerate(self.inside):
            if before and before[0] > depth:
                self.inside[turn] = who, None  # an interrupt has left it; the block that it was in is no more
        if not depth and self.is_mine():
            self._thread = 0
            self.let_in()

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
        return depth, self._owner.refused_end() if self._owner is not None else None

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
        self._waiting_error = (self._thread, said) if is_alive(self._thread) else None
        self.abandon()
        raise VaultTaskError(said)

    def abandon(self) -> None:
        """Undo the block that another thread has open, and take the store from it."""
        self._undo_all()
        self._thread, self._owner = 0, None
        self.lock.free()

    def ended(self) -> None:
        if self._thread == get_ident():
            self._leave(0)

    def refuse_others(self) -> None:
        if self._thread == get_ident() and self._owner is not None and not self._owner.is_left():
            self._owner.require()

    def require_outside(self, verb: str) -> None:
        """Raise when what cannot run inside a transaction is called in one of this thread, or when it is closed."""
        if self._closed:
            raise blocks.closed(self.name)
        if self._thread == get_ident():
            raise blocks.inside(verb, self.name)

    def sync(self) -> None:
        self.require_outside('sync')

    def compact(self, progress: Progress = None) -> None:
        self.require_outside('compact')

    def close(self) -> None:
        if not self._closed:
            if self._thread == get_ident() and self._blocks:
                self._undo(0)
            self._closed = True
            self.deletions += 1  # a walk looks again, and finds it closed

    def forked(self) -> None:
        """Begin anew in a forked child: no transaction is open here, and no thread is inside."""
        if self._thread == get_ident():
            self._inherited += [who for who, _ in self._blocks]
        self.lock, self._thread, self._owner, self._waiting_error = Lock(), 0, None, None
        self._undo_all()

    def _undo_all(self) -> None:
        """Undo all that has not ended, and have nothing open any more."""
        marks = [before[1] for _, before in self.inside if before and not before[0]]  # older than a block in it
        marks += [mark for _, mark in self._blocks]
        self._epochs.undo(0)
        self.deletions += 1
        if marks:
            self.go_back(marks[0])
        self._blocks.clear()
        self.inside.clear()


class _Turn:
    """A block in which the store is this thread's; to change it, all of it, or when it raises, nothing.

    Each has an object of its own, which is gone when the block has been left. So what an interrupt leaves behind that
    meets `__exit__` before its first line, the lock and half of a write, is known for it by the next call.
    """

    __slots__ = ('__weakref__', '_depth', '_store', '_writes')

    def __init__(self, store: LockedStore, writes: bool) -> None:
        self._store, self._writes, self._depth = store, writes, -1

    def __enter__(self) -> None:
        store = self._store
        mine = store.is_mine()
        if mine:
            store.take_back()
        self._depth = len(store.inside) if mine else 0
        try:
            store.enter(mine)
            if self._writes and store.refusal:
                raise VaultReadOnlyError(store.refusal)
            store.inside.append((ref(self), (store.depth(), store.mark()) if self._writes else None))
        except BaseException:
            self._leave()
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if self._writes and self._store.is_mine():
                self._store.finish(self._depth, kind is None)
        finally:
            try:
                self._leave()
            except BaseException:
                self._leave()  # an interrupt has met it
                raise

    def _leave(self) -> None:
        """Let the next thread in, unless a block or another turn of this thread is around this one."""
        store, depth = self._store, self._depth
        if depth >= 0 and store.is_mine():
            del store.inside[depth:]
            store.let_in()


each_in_child(_locked_stores, lambda store: store.forked())
