"""Write-back: a store of live objects before another one, written when they have changed. Knows neither SQL nor vaults.

It keeps the objects of the entries used last, and the bytes that each was stored as: what an object packs to now says
whether it has changed.
"""
from __future__ import annotations

import threading
import weakref
from _thread import get_ident
from collections import OrderedDict
from functools import partial
from itertools import islice, repeat
from sys import _getframe, modules

from .. import keys
from ..codecs import codes, registry
from ..errors import (
    VaultBusyError,
    VaultClosedError,
    VaultError,
    VaultTaskError,
)
from ..keys import HIGHEST, LOWEST
from .base import Store, StoreBefore
from .changes import Changes
from .forks import each_in_child
from .journal import Cache, Group, Journal, LiveWalk
from .tasks import Asking, Lock, Owner, is_alive, may_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union

    from ..codecs.packing import Codec
    from ..keys import Stored
    from .base import Checks, Entry, Live, Page, Progress

    T = TypeVar('T')
    Entries = Union[Group, List[Union[Live, bytes, None]]]
    Packed = Tuple[Stored, object, Optional[bytes]]

KEPT = 'it is kept in memory, and all else was written: set it to what can be stored, or delete it'
UNDONE = 'the block was undone'
UNDONE_CALL = 'nothing was set'
LOST = 'it was lost with the vault, and all else was written'
PACKING = ('_write', '_let_groups_go')  # the methods that pack objects, which may use the vault meanwhile
EVICTED = 8  # an eighth of a full cache is written out at once, because a transaction costs more than its entries
COLD: OrderedDict[Stored, Live] = OrderedDict()

_open_stores: weakref.WeakSet[LiveStore] = weakref.WeakSet()


class LiveStore(StoreBefore):
    """A store before another one, with the objects of up to `size` entries of it, the least recently used first to go.

    `entries` gives what is for objects; the operations of the contract are for bytes, as everywhere, and write first
    what they would otherwise not see. Safe in any thread: all queue on one lock, which a block holds to its end. Only
    `hot`, the objects while no block is open, is read without it: taking a lock takes as long as all the rest.
    """

    is_serial = True

    def __init__(self, store: Store, codec: Codec, path: str, size: int, timeout: float) -> None:
        self._lock = Lock()                        # which `lock` is but in the block of a task
        self.lock: Union[Lock, Asking] = self._lock
        self._idle: Union[Lock, Asking] = self._lock  # what `lock` is outside: tells a thread that its block was ended
        self._store, self._codec, self._path, self._size = store, codec, path, size
        self._patience = min(timeout, threading.TIMEOUT_MAX)  # seconds to wait for the lock
        self._cache = Cache()
        self._live = self.hot = self._cache.live
        self._changes = Changes(self._cache, codec, path)
        self._packing = False                      # it was said that an object is being packed: see _is_packing
        self._finished = False                     # nobody would write what is put now
        self.share = -(-size // EVICTED)           # of the entries, which leaves a full cache at once
        self._depth = 0                            # of blocks
        self._outside = 0                          # of those around the first of a task
        self._thread = 0                           # the one whose they are
        self.undo: List[Callable[[], object]] = []   # takes back what is to be done at the end
        store.others_wrote()                       # from now on
        _open_stores.add(self)

    @property
    def cache(self) -> Cache:
        """The live entries, each by its key, for who asks for others than those of the page that a walk is at."""
        if self._cache.groups:
            self._cache.settle()
        return self._cache

    # --- live entries ---

    def fetch(self, key: Stored, checks: Checks) -> Union[Live, bytes, None]:
        """Return the live entry; what is none, as a collection, as it is stored; None when there is nothing."""
        with self.lock:
            if self._cache.groups:
                self._cache.settle()
            if key in self._live:
                return self._hit(key, checks)
            data = self._store.get(key)
            return data if data is None or codes.is_header(data) else self._loaded([key], [data], checks)[0]

    def fetch_all(self, walk: LiveWalk, found: Sequence[Stored], datas: Sequence[bytes], writes: int,
                  checks: Checks) -> Entries:
        """Return the same of the entries of a walk's page, which is out of date when something was written since."""
        with self.lock:
            if self._cache.is_stale(found, writes):
                return [self.fetch(key, checks) for key in found]
            group = self._cache.meet(walk, found, datas, checks)
            if group is not None:
                return self._loaded_group(group)
            live = self.cache.live
            if live.keys().isdisjoint(found):
                return self._loaded(found, datas, checks)
            met: List[Union[Live, bytes, None]] = []
            missing: List[int] = []
            try:
                for at, key in enumerate(found):
                    entry: Union[Live, bytes, None] = live.get(key)
                    if entry is None:
                        missing.append(at)
                    elif entry[2] is checks:
                        live.move_to_end(key)
                    else:
                        entry = self._hit(key, checks)
                    met.append(entry)
            except KeyError:  # a signal handler has had one leave
                return [self.fetch(key, checks) for key in found]
            columns = [found[at] for at in missing], [datas[at] for at in missing]
            loaded = iter(self._loaded(*columns, checks) if missing else ())
            return [next(loaded) if entry is None else entry for entry in met]

    def _hit(self, key: Stored, checks: Checks) -> Union[Live, bytes, None]:
        """Return an entry that is live."""
        live = self._live
        try:
            live.move_to_end(key)
            value, stored, known = live[key]
            if known is not checks and not checks.items() <= known.items():
                live[key] = value, stored, {**known, **checks}
            return live[key]
        except KeyError:  # a signal handler has had it leave meanwhile
            return self.fetch(key, checks)

    def _loaded_group(self, group: Group) -> Entries:
        """Return a group with its objects; entries one by one, where the user's code has asked for others meanwhile."""
        try:
            self.make_room(0)
            plain = self._codec.loads_plain(group.datas)
            group.plain = plain is not None
            group.values = plain or registry.writable(self._codec.loads_many, group.datas)
        except codes.MALFORMED:
            self._cache.drop(group)
            return self._loaded(group.keys, group.datas, group.checks)
        except BaseException:
            self._cache.drop(group)
            raise
        if group.whole:
            return group
        self.make_room(len(group.keys))
        return [*self._cache.load(group.keys, group)]

    def _loaded(self, found: Sequence[Stored], datas: Sequence[bytes],
                checks: Checks) -> List[Union[Live, bytes, None]]:
        """Return what is stored as live entries, each also from now on; as it is, what the codec makes no object of."""
        self.make_room(len(found))
        try:
            values = registry.writable(self._codec.loads_many, datas)
        except codes.MALFORMED:
            return [self._loaded_alone(key, data, checks) for key, data in zip(found, datas)]
        return [*self._cache.load(found, zip(values, datas, repeat(checks)))]

    def _loaded_alone(self, key: Stored, data: bytes, checks: Checks) -> Union[Live, bytes]:
        """Return the same of one; the rest the vault makes something of, or says why not."""
        if codes.is_header(data):
            return data
        try:
            value = registry.writable(self._codec.loads, data)
        except VaultError:
            return data
        return next(self.cache.load([key], [(value, data, checks)]))

    def pages(self, walk: LiveWalk, low: Stored, high: Stored, by_key: bool,
              reverse: bool) -> Iterator[Tuple[Sequence[Stored], Sequence[bytes], List[int], int, int]]:
        """Yield a scan's pages, and with each the numbers of writes and deletions when it was read."""
        with self.lock:
            self._write_dirty()
        pages = self._store.scan(low, high, by_key=by_key, reverse=reverse)
        while True:
            with self.lock:
                self._cache.turn(walk)
                page, writes, deletions = next(pages, None), self._cache.writes, self.deletions
            if page is None:
                return
            found, datas, ids = page
            yield found, datas, list(ids), writes, deletions
            del page, found, datas, ids

    def is_current(self, writes: int, deletions: int) -> bool:
        """Tell whether a page that was given with these numbers is not out of date."""
        return self._cache.writes == writes and self.deletions == deletions

    def put_all_live(self, pairs: Iterable[Tuple[Stored, Any]], checks: Checks) -> int:
        """Put all pairs of a key and an object at once or, when anything fails, none; return how many there were."""
        def packed() -> Iterator[Entry]:
            for key, value in pairs:
                data = self._changes.dumps(key, value)
                if key not in self._live:
                    self.make_room()
                self._cache.replace(key, (value, data, checks))
                yield key, data
        with self.lock:
            self._write(list(self.cache.dirty))  # what cannot be packed waits for its own turn
            return self._whole(lambda _: self._store.put_many(packed()))

    def _whole(self, change: Callable[[Journal], T]) -> T:
        """Return what `change` does; when it raises, the live entries are as they were before."""
        cache = self.cache
        journal = Journal(cache.journal)
        try:
            cache.journal = journal
            result = change(journal)
            cache.keep(journal)
        except BaseException:
            cache.undo(journal, self._is_stored)
            raise
        return result

    def _is_stored(self, key: Stored, entry: Live) -> bool:
        """Tell whether the entry is still stored so. It is where nobody can be asked: what raises changes nothing."""
        try:
            return not self._finished and self._store.get(key) == entry[1]
        except VaultError:
            return True

    # --- writing it ---

    def flush(self, outcome: str = KEPT) -> None:
        """Write every entry that has changed, in one transaction; forget those that others have changed.

        Raises: SerializationError or UntrustedPickleError, naming the key, for a value that cannot be packed; the
        others have been written, and it is still there.
        """
        with self.lock:
            failed = self._write_all()
            if self._store.others_wrote() or self._changes.foreign:
                self._forget_theirs()
            self._raise(failed, outcome)

    def _write_all(self) -> Dict[Stored, VaultError]:
        """Write every entry that has changed, and then what was put as these were packed or validated."""
        cache = self._cache
        if cache.groups:
            cache.settle()
        failed = self._write([*cache.dirty, *cache.live])
        put = cache.dirty and [key for key in list(cache.dirty) if key not in failed]
        return {**failed, **self._write(put)} if put else failed

    def _write_dirty(self) -> None:
        """Write what was put: keys that the store does not know yet are counted and walked there."""
        if self._cache.dirty:
            self._raise(self._write(list(self._cache.dirty)), KEPT)

    def _write_first(self, key: Stored) -> None:
        """Write the entry, whose bytes are asked for, and what was put."""
        self._cache.settle()
        self._raise(self._write([*self._cache.dirty, key]), KEPT)

    def _write(self, wanted: List[Stored]) -> Dict[Stored, VaultError]:
        """Write those of the entries that have changed; return why some could not be."""
        if self._packing and self._is_packing():
            return {}  # an object that is being packed uses the vault
        self._packing = True
        try:
            if self._cache.dirty and not self._depth:  # in a block nobody else writes
                self._changes.foreign |= self._store.others_wrote()
            suspects = self._changes.suspects(wanted)
            packed, failed = self._packed(suspects) if suspects else ([], {})
        finally:
            self._packing = False
        changed = []
        for key, _, data in packed:
            if data is not None and key in self._live:  # what the packing of another one has put anew is written later
                changed.append((key, data))
        if len(changed) == 1:
            self._store.put(*changed[0])  # in a block, without one of its own
        elif changed:
            self._store.put_many(changed)
        for key, value, data in packed:
            self._cache.wrote(key, value, data)
        return failed

    def _is_packing(self) -> bool:
        """Tell whether a caller packs an object, which uses the vault: an interrupt may have left `_packing` set."""
        frame = _getframe(1).f_back
        while frame is not None and (frame.f_code.co_name not in PACKING or frame.f_locals.get('self') is not self):
            frame = frame.f_back
        return frame is not None

    def _packed(self, suspects: List[Stored]) -> Tuple[List[Packed], Dict[Stored, VaultError]]:
        """Return keys, objects and what they pack to, None for what is stored; and why some cannot be packed."""
        packed: List[Packed] = []
        failed: Dict[Stored, VaultError] = {}
        for key in suspects:
            entry = self._live.get(key)
            try:
                if entry is not None:  # or the packing of another one has deleted it
                    value, data = entry[0], self._changes.packed(key, entry)
                    if data is not None and entry[2]:
                        self._changes.validate(key, entry)
                    packed.append((key, value, data))
            except VaultError as error:
                failed[key] = error
        return packed, failed

    def _raise(self, failed: Dict[Stored, VaultError], outcome: str) -> None:
        for error in failed.values():
            raise type(error)(f'{error}; {outcome}') from error.__cause__ or error

    def make_room(self, more: int = 1) -> None:
        """Write out and let go of the entries least recently used, when so many more would be too many.

        Raises: VaultClosedError where nobody would write one more: of a thread that waited while the vault was closed.
        """
        if self._finished:
            raise VaultClosedError(f'the vault {self._path!r} is closed: open it again')
        groups = self._cache.groups
        excess = len(self._live) + more - self._size + (sum(map(len, [*groups.values()])) if groups else 0)
        if excess <= 0 or (self._packing and self._is_packing()):
            return
        oldest = list(islice(self._live, max(self.share, excess)))
        if oldest:
            self._let_go(oldest)
        if excess > len(oldest):
            self._let_groups_go(excess - len(oldest))

    def _let_go(self, oldest: List[Stored]) -> None:
        journal = self._cache.journal
        # A call that has given all its entries must not fail for what leaves the cache. What cannot be written, flush()
        # reports.
        if journal is not None and journal.in_call:
            kept = set(filter(self._changes.has, self._changes.suspects(oldest)))
        else:
            kept = set(self._write([*self._cache.dirty, *oldest]))
        if kept:
            for key in kept.intersection(oldest):
                self._live.move_to_end(key)
            oldest = [key for key in oldest if key not in kept]
        self._cache.evict(oldest)

    def _let_groups_go(self, excess: int) -> None:
        """Let go of so many entries of groups, the first one first, as far as they are as they are stored."""
        for group in list(self._cache.groups)[:-1]:  # the last one is being loaded
            if excess > 0:
                self._packing = True
                try:
                    unchanged = self._changes.none_in(group)
                finally:
                    self._packing = False
                if not unchanged:
                    self._cache.settle()
                    self.make_room(0)
                    return
                excess -= len(group)
                self._cache.drop(group)

    def _forget_theirs(self) -> None:
        """Forget the entries that others have written and that are not changed here."""
        self._changes.foreign = True
        theirs = [key for key, entry in list(self.cache.live.items()) if self._store.get(key) != entry[1]]
        both = set(filter(self._changes.has, theirs))
        self.cache.remove([key for key in theirs if key not in both])
        self._changes.foreign = bool(both)  # what could not be written yet may be undone here, and then is theirs

    # --- the contract ---

    def get(self, key: Stored) -> Optional[bytes]:
        with self.lock:
            self._write_first(key)
            return self._store.get(key)

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        return self._store.glance(key, most)

    def held(self, key: Stored) -> Optional[Tuple[object]]:
        return self._cache.held(key)

    def contains(self, key: Stored) -> bool:
        with self.lock:
            return key in self._live or self._store.contains(key)

    def put(self, key: Stored, data: bytes) -> None:
        self.put_many([(key, data)])

    def put_many(self, pairs: Iterable[Entry]) -> int:
        def replacing() -> Iterator[Entry]:
            for key, data in pairs:
                self._cache.remove([key])  # lest its object is written over it
                yield key, data
        with self.lock:
            self._write(list(self.cache.dirty))  # what cannot be packed waits for its own turn
            return self._whole(lambda _: self._store.put_many(replacing()))

    def delete(self, key: Stored) -> bool:
        def delete(_: Journal) -> bool:
            was_put = key in self.cache.dirty
            self.cache.remove([key])
            return self._store.delete(key) or was_put
        with self.lock:
            return self._whole(delete)

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        def delete(_: Journal) -> int:
            self.cache.remove([key for key in list(self.cache.live) if first <= keys.order(key) < end])
            return self._store.delete_range(low, high)
        first, end = keys.order(low), keys.order(high)
        with self.lock:
            return self._whole(delete)

    def move(self, key: Stored, last: bool = True) -> bool:
        with self.lock:
            self._write_dirty()
            return self._store.move(key, last)

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        with self.lock:
            self._write_dirty()
            return self._store.count(low, high)

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        with self.lock:
            self._write_dirty()
            return self._store.count_up_to(most, low, high)

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        with self.lock:
            self.flush() if values else self._write_dirty()
        yield from self._store.scan(low, high, by_key=by_key, reverse=reverse, values=values)

    def alive(self, key: Stored, id: int) -> bool:
        return self._store.alive(key, id)

    # Values in chunks are no live objects of this store: what changes them has written it on return.

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        with self.lock:
            self._write_first(key)
            return self._store.get_both(key, owner, number)

    def put_chunks(self, owner: bytes, chunks: Iterable[Tuple[int, bytes]]) -> None:
        with self.lock:
            self._store.put_chunks(owner, chunks)

    def delete_chunks(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        with self.lock:
            self._store.delete_chunks(owner, numbers)

    def put_owner(self, key: Stored, data: bytes) -> None:
        def put(_: Journal) -> None:
            self.cache.remove([key])
            self._store.put_owner(key, data)
        with self.lock:
            self._whole(put)

    def others_wrote(self) -> bool:
        return self._store.others_wrote()

    # --- transactions ---

    def begin(self, who: object = None) -> None:
        """Begin a block: write what was changed before it, which its rollback must not undo, and hold the lock."""
        # An interrupt may come as a call returns: as the lock has been taken, too.
        owned, taken = self._lock.is_mine(), False
        try:
            taken = self.lock.acquire(timeout=self._patience)
            if not taken:
                raise self._busy('wait, or make its blocks shorter')
            failed = self._write_all()
            if failed:
                self._raise(failed, KEPT)
            owner = self._owner_now() if may_run() else None
            asking = owner and Asking(self._lock, owner.require)
            journal, thread = Journal(self.cache.journal, (who,)), get_ident()
            self._store.begin(who)
            # No call from here on, which an interrupt could come into before the block is known to be open.
            self._depth += 1
            self.hot, self._thread, self._cache.journal = COLD, thread, journal
            if owner and asking:
                self._outside, self.lock = owner.depth, asking
        except BaseException:
            if taken or (not owned and self._lock.is_mine()):
                self.lock.release()
            raise
        try:
            if self._store.others_wrote() or self._changes.foreign:  # in a block too: a signal handler's may be first
                self._forget_theirs()
        except BaseException:
            self.rollback()
            raise

    def _owner_now(self) -> Optional[Owner]:
        """Return the task that begins a block, unless it is in one whose task is known."""
        return Owner.now(self._depth, self._path) if not self._depth or self.lock is self._lock else None

    def commit(self, who: object = None) -> None:
        journal = None
        try:
            if self._depth and not self._lock.is_mine():
                raise VaultError(f'another thread has the block open: vault {self._path}')
            with self.lock:
                failed = self._write_all()
            if failed:
                self._raise(failed, UNDONE)
            journal = self._cache.block_of(who)
        except BaseException:
            self.rollback(who)
            raise
        try:
            self._store.commit(who)
            if journal is not None:
                self._cache.keep(journal)
        except BaseException:
            self._undo_block(journal)
            raise
        finally:
            if self._depth:  # not in a forked child; not in a call, which could be interrupted before it begins
                self._depth -= 1
                self.hot = self.hot if self._depth else self._live
                self.lock = self.lock if self._depth > self._outside else self._idle
                self.lock.release()

    def rollback(self, who: object = None) -> None:
        here, journal = True, None
        try:
            here = not self._depth or self._lock.is_mine()
            journal = self._cache.block_of(who)
            self._store.rollback(who)
        except VaultTaskError as error:
            if not here:
                self._leave(str(error))
            raise
        finally:
            try:
                if here:
                    self._undo_block(journal)
            finally:
                if here and self._depth:
                    self._depth -= 1
                    self.hot = self.hot if self._depth else self._live
                    self.lock = self.lock if self._depth > self._outside else self._idle
                    self.lock.release()

    def _undo_block(self, journal: Optional[Journal]) -> None:
        """Make the entries what they were before a block, after its rollback; forget what changed in place in it."""
        if journal is not None:
            self.cache.undo(journal, self._is_stored)
            self.cache.remove(list(filter(self._changes.has, self._changes.suspects(list(self._live)))))

    def _leave(self, said: str) -> None:
        """End here a block that another thread has begun, which is told at its next call."""
        self._depth, self.hot = 0, self._live
        self._undo_block(self._cache.outermost())
        self._cache.journal = None
        if is_alive(self._thread):
            self._idle = Asking(self._lock, partial(self._tell, self._thread, said))
        self.lock = self._idle
        self._lock.free()

    def _tell(self, thread: int, said: str) -> None:
        """Raise in the thread whose block was left in another one."""
        if get_ident() == thread:
            self.lock = self._idle = self._lock
            while self._lock.is_mine():  # see `Lock.free`
                self._lock.release()
            self._store.contains(keys.encode(None))  # which raises, as each call in this thread would
            raise VaultError(f'what this thread has done since is undone: {said}')

    def ended(self) -> None:
        self._store.ended()
        self.lock = self._idle
        while self._depth:
            self._depth -= 1
            self.lock.release()

    def once(self, operation: Callable[[], T]) -> T:
        """As in a plain store, seeing what others have written; without a look at each object first, as begin takes."""
        def operate(journal: Journal) -> T:
            if self._store.others_wrote() or self._changes.foreign:
                self._forget_theirs()
            result = operation()
            put = [key for key in list(self.cache.dirty) if key in journal.before]
            self._raise(self._write(put), UNDONE_CALL)
            return result
        with self.lock:
            self._write(list(self.cache.dirty))
            return self._whole(lambda journal: self._store.once(lambda: operate(journal)))

    # --- upkeep ---

    def sync(self) -> None:
        with self.lock:
            try:
                self.flush()
            finally:
                self._store.sync()

    def compact(self, progress: Progress = None) -> None:
        with self.lock:
            self.flush()
            self._store.compact(progress)

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        with self.lock:
            self.flush()
            return self._store.check(examine, progress)

    def backup(self, path: str, progress: Progress = None) -> None:
        with self.lock:
            self.flush()
            self._store.backup(path, progress)

    def destroy(self) -> None:
        self._store.destroy()

    def write_last(self, keep: bool = True, outcome: str = KEPT) -> None:
        """Write what has changed before the end; what a block of this thread has changed is undone with it."""
        if not self.lock.acquire(timeout=self._patience):
            raise self._busy('end it before you close')
        try:
            if keep and not self._depth:
                self.flush(outcome)
            self._store.write_last(keep)
            self._refuse()
        finally:
            self.lock.release()

    def refuse_others(self) -> None:
        self._store.refuse_others()
        self.lock = self._lock  # who may close it may end the block of a task that will not

    def _busy(self, cure: str) -> VaultBusyError:
        return VaultBusyError(f'another thread has a block open: vault {self._path}; {cure}')

    def _refuse(self) -> None:
        """Take no object any more: a thread that waited for the lock would put it where nobody writes it."""
        self._finished = True
        self._cache.forget()

    def close(self) -> None:
        self._detach()
        self._refuse()
        self._store.close()

    def _detach(self) -> None:
        """Have nothing else end it: what packs may run the collector, and that may drop the vault meanwhile."""
        while self.undo:
            self.undo.pop()()

    def end(self) -> None:
        """Write and close: what is done when the vault is dropped, or the process ends."""
        self._detach()
        self.lock = self._lock
        try:
            self.write_last(outcome=LOST)
        finally:
            self.close()

    def forked(self) -> None:
        """Begin without objects in a child: what the parent has changed is the parent's to write."""
        self.lock = self._lock = self._idle = Lock()
        self._depth, self._packing, self.hot = 0, False, self._live
        self._cache.forget()
        if 'multiprocessing.util' in modules and not self._finished:  # it begins by clearing what is to end with it
            modules['multiprocessing.util'].register_after_fork(self, end_with_process)


def end_with_process(store: LiveStore) -> None:
    """Have multiprocessing end the store as well: the processes that it forks leave without running exit functions."""
    util = modules.get('multiprocessing.util')
    if util:
        store.undo.append(util.Finalize(None, store.end, exitpriority=0).cancel)


each_in_child(_open_stores, lambda store: store.forked())
