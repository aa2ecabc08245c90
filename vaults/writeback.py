"""Write-back: a vault whose values are live objects, written when they have changed. Knows neither SQL nor key order.

A store stands before the vault's own one. It keeps the objects of the entries used last, and the bytes that each was
stored as: what an object packs to now says whether it has changed.
"""
from __future__ import annotations

import os
import sys
import threading
import weakref
from _thread import get_ident
from collections import OrderedDict
from datetime import date, datetime, time, timedelta
from functools import partial
from itertools import islice

from . import keys
from ._typing import TYPE_CHECKING, K, V
from .codecs import codes, packing, pickles, registry
from .codecs.types import PLAIN
from .errors import SerializationError, VaultBusyError, VaultClosedError, VaultCorruptError, VaultError, VaultTaskError
from .keys import HIGHEST, LOWEST
from .place import MISSING, NOWHERE, about
from .stores.base import ClosedStore, Store, StoreBefore
from .stores.tasks import Owner, free, is_alive
from .vault import Vault
from .views import pairs_of

if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

    from .keys import Stored
    from .place import Check, Place
    from .stores.base import Entry, Progress

    Checks = Dict[Tuple[Any, ...], Callable[[Stored, Any], object]]

# Objects of these types change by assignment alone, so they are never packed to find out.
IMMUTABLE = PLAIN | {complex, date, datetime, time, timedelta, range}
KEPT = 'it is kept in memory, and all else was written: set it to what can be stored, or delete it'
UNDONE = 'the block was undone'
UNDONE_CALL = 'nothing was set'
LOST = 'it was lost with the vault, and all else was written'
ATTEMPTS = 10
EVICTED = 8  # an eighth of a full cache is written out at once, because a transaction costs more than its entries

_structure = packing.Codec(pickles.Unread())
_open_stores: weakref.WeakSet[LiveStore] = weakref.WeakSet()


class InParts(Exception):
    """The value is kept in parts: it is no live object here."""


class LiveStore(StoreBefore):
    """A store before another one, with the objects of up to `size` entries of it, the least recently used first to go.

    `hold` and `fetch` are for objects; the operations of the contract are for bytes, as everywhere, and write first
    what they would otherwise not see. Safe in any thread: all queue on one lock, which a block holds to its end. Only
    `hot`, the objects while no block is open, is read without it: taking a lock takes as long as all the rest.
    """

    def __init__(self, store: Store, codec: packing.Codec, path: str, size: int, timeout: float,
                 checks: Optional[Checks] = None) -> None:
        self.lock: Any = threading.RLock()
        self._lock: Any = self.lock                # which `lock` is but in the block of a task
        self._idle: Any = self.lock                # what `lock` is outside: tells a thread that its block was ended
        self._store, self._codec, self._path, self._size, self._timeout = store, codec, path, size, timeout
        # Objects, what is stored, and what validates them: of sections, by path; None is the vault's.
        self._live: OrderedDict[Stored, Tuple[Any, Optional[bytes], Optional[Checks]]] = OrderedDict()
        self._checks = checks or {}
        self.hot = self._live
        self._assigned: Dict[Stored, None] = {}    # keys put and not yet written, in the order of their first put
        self._written = 0                          # counts what changes stored entries
        self._foreign = False                      # others have written since the objects were last compared
        self._doomed: Optional[List[Stored]] = None  # keys deleted within transact()
        self._calls = 0                            # put_many() and transact() that are under way, one in another
        self._met: List[Stored] = []               # keys loaded within them
        self._set_aside: Dict[Stored, Any] = {}    # the objects that values in parts have replaced within them
        self._fresh: Dict[Stored, Any] = {}        # the objects that hold_many() has put so far
        self._writing = False                      # objects are being packed
        self._depth = 0                            # of blocks
        self._outside = 0                          # of those around the first of a task
        self._thread = 0                           # the one whose they are
        self.undo: List[Callable[[], object]] = []   # takes back what is to be done at the end
        store.others_wrote()                       # from now on
        _open_stores.add(self)

    # --- objects ---

    def fetch(self, key: Stored, default: Any) -> Any:
        """Return the live object of the entry, or `default` when there is none."""
        with self.lock:
            live = self._live
            known = live.get(key)
            if known is not None:
                live.move_to_end(key)
                return known[0]
            data = self._store.get(key)
            return default if data is None else self._keep(key, data)

    def _keep(self, key: Stored, data: bytes) -> Any:
        if codes.is_head(data):
            raise InParts(data)  # for the vault, which makes something of it
        try:
            value = registry.writable(self._codec.loads, data)
        except VaultError as error:
            raise about(error, keys.decode(key), self._path) from error
        self._make_room()
        self._live[key] = value, data, None
        if self._calls:
            self._met.append(key)
        return value

    def walk(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False,
             reverse: bool = False) -> Iterator[Tuple[Stored, Any]]:
        """Yield keys and live objects, as `scan` yields keys and bytes; by insertion, over all, or by key."""
        with self.lock:
            self._write_assigned()
        pages = self._store.scan(low, high, by_key=by_key, reverse=reverse)
        written, deleted = self._written, self.deletions
        for page, datas, ids in pages:
            for key, data, id in zip(page, datas, ids):
                value = self._object_of(key, data, written)
                if value is not MISSING and (self.deletions == deleted or self._store.alive(key, id)):
                    yield key, value
            del page, datas, ids, data, value
            written, deleted = self._written, self.deletions

    def _object_of(self, key: Stored, data: bytes, written: int) -> Any:
        """Return the live object of an entry of a page, which is out of date when something was written since.

        An InParts stands for what has none.
        """
        with self.lock:
            try:
                if key in self._live or self._written != written:
                    return self.fetch(key, MISSING)
                return self._keep(key, data)
            except InParts as found:
                return InParts(*found.args)  # that one's traceback leads back to the walk: a ring

    def watch(self, key: Stored, checks: Checks) -> None:
        """Hold the entry's live object, if there is one, against these checks as well."""
        with self.lock:
            if key in self._live:
                value, known, others = self._live[key]
                if not checks.items() <= (others or {}).items():  # else a validation that reads would undo its mark
                    self._live[key] = value, known, {**(others or self._checks), **checks}

    def hold(self, key: Stored, value: Any, checks: Optional[Checks] = None) -> None:
        """Set the entry's object, to be written later."""
        with self.lock:
            live = self._live
            known = live.get(key)
            if known is None:
                self._make_room()
            # In this order: an interrupt between the two leaves a mark without a change, which is harmless.
            self._assigned[key] = None
            live[key] = value, known and known[1], checks
            live.move_to_end(key)

    def hold_many(self, pairs: Iterable[Tuple[Stored, Any]], checks: Optional[Checks] = None) -> int:
        """Put all pairs of a key and an object at once or, when anything fails, none; return how many there were.

        The last of them stay as live objects.
        """
        fresh: OrderedDict[Stored, Tuple[Any, bytes, Optional[Checks]]] = OrderedDict()

        def packed() -> Iterator[Entry]:
            for key, value in pairs:
                data = self._dumps(key, value)
                fresh[key] = value, data, checks
                fresh.move_to_end(key)
                if len(fresh) > self._size:
                    fresh.popitem(last=False)
                yield key, data
        with self.lock:
            self._calls += 1  # what leaves the cache now waits: it must not make a call fail that has been written
            outer, self._fresh = self._fresh, fresh
            try:
                done = self.put_many(packed())
                for key, entry in fresh.items():
                    if key not in self._live:  # or it was set or read on the way
                        self._make_room()
                        self._live[key] = entry
            finally:
                self._fresh = outer
                self._called()
            return done

    def _dumps(self, key: Stored, value: Any) -> bytes:
        """Pack an object that other threads hold as well, and may change meanwhile.

        A list that grows while msgpack is in a call of ours for one of its elements has a wrong length before it.
        """
        for _ in range(ATTEMPTS):
            try:
                data = self._codec.dumps(value)
                if not data.translate(codes.IN_LONG).isascii():
                    _structure.loads(data)
                return data
            except (VaultCorruptError, RuntimeError):  # of a dict that grows
                continue
            except VaultError as error:
                raise about(error, keys.decode(key), self._path) from error
        raise about(SerializationError('another thread kept changing it while it was packed'), keys.decode(key),
                    self._path)

    def within(self, coder: Any, validate: Optional[Check]) -> Any:
        """Return the store for a section whose keys `coder` codes and whose values `validate` may refuse."""
        return self if validate is None else _Guarded(self, {coder.path: _check(coder, validate)})

    # --- writing what has changed ---

    def flush(self, outcome: str = KEPT) -> None:
        """Write every entry that has changed, in one transaction; forget those that others have changed.

        Raises: SerializationError or UntrustedPickleError, naming the key, for a value that cannot be packed; the
        others have been written, and it is still there.
        """
        with self.lock:
            failed = self._write([*self._assigned, *self._live])
            self._refresh()
            self._raise(failed, outcome)

    def _write_assigned(self) -> None:
        """Write what was put: keys that the store does not know yet are counted and walked there."""
        if self._assigned:
            self._raise(self._write(list(self._assigned)))

    def _write(self, wanted: List[Stored]) -> Dict[Stored, VaultError]:
        """Write those of the entries that have changed; return why some could not be."""
        if self._writing:
            return {}  # an object that is being packed uses the vault
        self._writing = True
        try:
            self._foreign |= self._store.others_wrote()
            packed, failed = self._packed(dict.fromkeys(wanted))
        finally:
            self._writing = False
        changed = {key: data for key, (_, data) in packed.items() if data is not None}
        if changed:
            self._written += 1
            self._store.put_many(changed.items())
        for key, (entry, data) in packed.items():
            if self._live.get(key) is entry:  # or it was set as another was packed
                if entry and data is not None:
                    self._live[key] = entry[0], data, entry[2]
                self._assigned.pop(key, None)
        return failed

    def _packed(self, wanted: Iterable[Stored]) -> Tuple[Dict[Stored, Tuple[Any, Optional[bytes]]],
                                                         Dict[Stored, VaultError]]:
        """Return by key what is live and the bytes to write, None for none; and why some cannot be written."""
        packed: Dict[Stored, Tuple[Any, Optional[bytes]]] = {}
        failed: Dict[Stored, VaultError] = {}
        for key in wanted:
            entry = self._live.get(key)
            try:
                data = self._changed(key)
                if data is not None:
                    self._validate(key, entry)
                packed[key] = entry, data
            except VaultError as error:
                failed[key] = error
        return packed, failed

    def _validate(self, key: Stored, entry: Any) -> None:
        """Raise SerializationError when a function of the user's refuses what an object has changed into."""
        value, _, checks = entry
        for check in (self._checks if checks is None else checks).values():
            try:
                check(key, value)
            except Exception as error:
                refused = SerializationError(f'validation refused it, {type(error).__name__}: {error}')
                raise about(refused, keys.decode(key), self._path) from error

    def _changed(self, key: Stored) -> Optional[bytes]:
        """Return what the entry packs to when that is not what is stored.

        Loading may order a set or share text otherwise than it was when packed: only when the stored bytes, loaded and
        packed again, differ as well, has the object changed.
        """
        if key not in self._live:
            return None  # an interrupted put
        value, known, _ = self._live[key]
        put = key in self._assigned
        if type(value) in IMMUTABLE and not put:
            return None
        data = self._dumps(key, value)
        if known is None or (put and self._foreign):
            return data
        if data == known or (not put and data == self._codec.dumps(self._codec.loads(known))):
            return None
        return data

    def _raise(self, failed: Dict[Stored, VaultError], outcome: str = KEPT) -> None:
        for error in failed.values():
            raise type(error)(f'{error}; {outcome}') from error.__cause__ or error

    def _make_room(self) -> None:
        """Write out and let go of the entries least recently used, when one more would be too many."""
        if len(self._live) < self._size or self._writing:  # by an object that is being packed
            return
        oldest = list(islice(self._live, max(-(-self._size // EVICTED), len(self._live) - self._size + 1)))
        # In a call that may fail, what is written would be undone. What cannot be written, flush() reports.
        kept = set(filter(self._differs, oldest)) if self._calls else set(self._write([*self._assigned, *oldest]))
        for key in kept:
            self._live.move_to_end(key)
        self._drop(key for key in oldest if key not in kept)

    def _drop(self, dropped: Iterable[Stored]) -> None:
        for key in dropped:
            self._live.pop(key, None)
            self._assigned.pop(key, None)

    def _refresh(self) -> None:
        """Forget the entries that others have written and that are not changed here."""
        self._foreign |= self._store.others_wrote()
        if self._foreign:
            self._written += 1
            theirs = [key for key, (_, known, _) in list(self._live.items()) if self._store.get(key) != known]
            both = [key for key in theirs if self._differs(key)]
            self._drop(set(theirs).difference(both))
            self._foreign = bool(both)  # what could not be written yet may be undone here, and then is theirs

    def _differs(self, key: Stored) -> bool:
        """Tell whether the entry has changed here, even into what cannot be packed."""
        try:
            return self._changed(key) is not None
        except VaultError:
            return True

    def forget(self) -> None:
        """Let go of all objects, changed or not."""
        self._live.clear()
        self._assigned.clear()

    # --- the contract ---

    def get(self, key: Stored) -> Optional[bytes]:
        with self.lock:
            self._raise(self._write([*self._assigned, key]))
            return self._store.get(key)

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        return self._store.glance(key, most)

    def held(self, key: Stored) -> Optional[Tuple[Any]]:
        known = self._live.get(key)
        return known and (known[0],)

    def contains(self, key: Stored) -> bool:
        with self.lock:
            return key in self._live or self._store.contains(key)

    def put(self, key: Stored, data: bytes) -> None:
        self.put_many([(key, data)])

    def put_many(self, pairs: Iterable[Entry]) -> int:
        with self.lock:
            waiting = self._write(list(self._assigned))  # what cannot be packed waits for its own turn
            replaced: Dict[Stored, Any] = {}
            self._written += 1
            self._calls += 1
            try:
                return self._store.put_many(self._replacing(pairs, replaced))
            except BaseException:
                self._undone(waiting, replaced)
                raise
            finally:
                self._called()

    def _replacing(self, pairs: Iterable[Entry], replaced: Dict[Stored, Any]) -> Iterator[Entry]:
        """Pass the pairs on, and take away the objects that they replace, lest one is written over them."""
        for key, data in pairs:
            self._assigned.pop(key, None)
            entry = self._live.pop(key, None)
            if entry is not None:
                replaced.setdefault(key, entry)
            yield key, data

    def _undone(self, waiting: Iterable[Stored], replaced: Dict[Stored, Any]) -> None:
        """Forget what a call that failed has put and loaded; put back what it took and is still stored.

        An interrupt can come when all has been written: the store knows.
        """
        self._drop([key for key in list(self._assigned) if key not in waiting])
        self._drop(self._met)
        for key, entry in {**self._set_aside, **replaced}.items():
            if self._store.get(key) == entry[1]:
                self._live[key] = entry
                if key in waiting:
                    self._assigned[key] = None

    def _called(self) -> None:
        self._calls -= 1
        if not self._calls:
            self._met.clear()
            self._set_aside.clear()

    def delete(self, key: Stored) -> bool:
        with self.lock:
            put = key in self._assigned
            self._written += 1
            if self._doomed is not None:
                self._doomed.append(key)
                return self._store.delete(key) or put
            try:
                deleted = self._store.delete(key)
                self._drop([key])
            except BaseException:
                self._deleted([key])
                raise
            return deleted or put

    def _deleted(self, wanted: Iterable[Stored]) -> None:
        """Forget those that an interrupted call has deleted."""
        self._drop([key for key in wanted if key not in self._assigned and not self._store.contains(key)])

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        first, end = keys.order(low), keys.order(high)
        with self.lock:
            inside = [key for key in list(self._live) if first <= keys.order(key) < end]
            self._written += 1
            try:
                count = self._store.delete_range(low, high)
                self._drop(inside)
            except BaseException:
                self._deleted(inside)
                raise
            return count

    def move(self, key: Stored, last: bool = True) -> bool:
        with self.lock:
            self._write_assigned()
            return self._store.move(key, last)

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        with self.lock:
            self._write_assigned()
            return self._store.count(low, high)

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        with self.lock:
            self._write_assigned()
            return self._store.count_up_to(most, low, high)

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Any]:
        with self.lock:
            self.flush() if values else self._write_assigned()
        yield from self._store.scan(low, high, by_key=by_key, reverse=reverse, values=values)

    def alive(self, key: Stored, id: int) -> bool:
        return self._store.alive(key, id)

    # Values in parts are no live objects of this store: what changes them has written it on return.

    def get_part(self, owner: bytes, number: int) -> Optional[bytes]:
        return self._store.get_part(owner, number)

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        with self.lock:
            self._raise(self._write([*self._assigned, key]))
            return self._store.get_both(key, owner, number)

    def put_parts(self, owner: bytes, parts: Iterable[Tuple[int, bytes]]) -> None:
        with self.lock:
            self._store.put_parts(owner, parts)

    def delete_parts(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        with self.lock:
            self._store.delete_parts(owner, numbers)

    def part_numbers(self, owner: bytes) -> Iterator[int]:
        return self._store.part_numbers(owner)

    def part_owners(self) -> Iterator[bytes]:
        return self._store.part_owners()

    def put_owner(self, key: Stored, data: bytes) -> None:
        with self.lock:
            self._written += 1
            self._store.put_owner(key, data)
            if self._calls and key in self._live:
                self._set_aside.setdefault(key, self._live[key])
            self._fresh.pop(key, None)
            self._drop([key])

    def others_wrote(self) -> bool:
        return self._store.others_wrote()

    # --- transactions ---

    def begin(self, who: Any = None) -> None:
        """Begin a block: write what was changed before it, which its rollback must not undo, and hold the lock."""
        # An interrupt may come as a call returns: as the lock has been taken, too.
        fresh: OrderedDict[Stored, Any] = OrderedDict()
        owned, taken = self._lock._is_owned(), False  # every CPython has it
        try:
            self._acquire('wait, or make its blocks shorter')
            taken = True
            self.flush()
            owner = self._owner_now()
            asking = owner and _Asking(self._lock, owner.require)
            self._store.begin(who)
            self._depth += 1
            self.hot = fresh
            if self._depth == 1:
                self._thread = get_ident()
            if owner:
                self._outside, self.lock = owner.depth, asking
        except BaseException:
            if taken or (not owned and self._lock._is_owned()):
                self.lock.release()
            raise
        try:
            self._refresh()
        except BaseException:
            self.rollback()
            raise

    def _owner_now(self) -> Optional[Owner]:
        """Return the task that begins a block, unless it is in one whose task is known."""
        return Owner.now(self._depth, self._path) if not self._depth or self.lock is self._lock else None

    def commit(self, who: Any = None) -> None:
        try:
            if self._depth and not self._lock._is_owned():
                raise VaultError(f'another thread has the block open: vault {self._path}')
            self.flush(UNDONE)
        except BaseException:
            self.rollback(who)
            raise
        try:
            self._store.commit(who)
        except BaseException:
            self._restore()
            raise
        finally:
            if self._depth:  # not in a forked child; not in a call, which could be interrupted before it begins
                self._depth -= 1
                self.hot = self.hot if self._depth else self._live
                self.lock = self.lock if self._depth > self._outside else self._idle
                self.lock.release()

    def rollback(self, who: Any = None) -> None:
        here = True
        try:
            here = not self._depth or self._lock._is_owned()
            self._store.rollback(who)
        except VaultTaskError as error:
            if not here:
                self._leave(str(error))
            raise
        finally:
            try:
                if here:
                    self._restore()
            finally:
                if here and self._depth:
                    self._depth -= 1
                    self.hot = self.hot if self._depth else self._live
                    self.lock = self.lock if self._depth > self._outside else self._idle
                    self.lock.release()

    def _leave(self, said: str) -> None:
        """End here a block that another thread has begun, which is told at its next call."""
        self._depth, self.hot = 0, self._live
        self._restore()
        if is_alive(self._thread):
            self._idle = _Asking(self._lock, partial(self._tell, self._thread, said))
        self.lock = self._idle
        free(self._lock)

    def _tell(self, thread: int, said: str) -> None:
        """Raise in the thread whose block was left in another one."""
        if get_ident() == thread:
            self.lock = self._idle = self._lock
            while self._lock._is_owned():  # see `free`
                self._lock.release()
            self._store.contains(NOWHERE)  # which raises, as each call in this thread would
            raise VaultError(f'what this thread has done since is undone: {said}')

    def _restore(self) -> None:
        """Forget, after a rollback, every object that is not what is stored now."""
        entries, put = self._live.copy(), self._assigned
        self._assigned = {}
        self._written += 1
        self._live.clear()
        for key, (value, known, checks) in entries.items():
            data = self._store.get(key)
            if data is not None and data == known and key not in put:
                self._live[key] = value, known, checks
        self._drop([key for key in list(self._live) if self._differs(key)])

    def ended(self) -> None:
        self._store.ended()
        self.lock = self._idle
        self._let_go()

    def _let_go(self) -> None:
        while self._depth:
            self._depth -= 1
            self.lock.release()

    def transact(self, operation: Callable[[], Any]) -> Any:
        """As in a plain store, seeing what others have written; without a look at every object first, as begin takes.

        What is deleted within stays at hand until it is certain.
        """
        with self.lock:
            waiting = self._write(list(self._assigned))
            outer, self._doomed = self._doomed, []
            placed: List[Stored] = []
            self._calls += 1
            try:
                result = self._store.transact(lambda: self._transacted(operation, waiting, placed))
                self._drop(self._doomed)
            except BaseException:
                self._drop(placed)
                self._undone(waiting, {})
                self._deleted(self._doomed)
                raise
            finally:
                self._doomed = outer
                self._called()
            return result

    def _transacted(self, operation: Callable[[], Any], waiting: Iterable[Stored], placed: List[Stored]) -> Any:
        self._refresh()
        result = operation()
        placed += [key for key in list(self._assigned) if key not in waiting]
        self._raise(self._write(placed), UNDONE_CALL)
        return result

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

    def finish(self, outcome: str = KEPT) -> None:
        """Write what has changed before the end; what a block of this thread has changed is undone with it."""
        self._acquire('end it before you close')
        try:
            if not self._depth:
                self.flush(outcome)
            self._refuse()
        finally:
            self.lock.release()

    def refuse_others(self) -> None:
        self._store.refuse_others()
        self.lock = self._lock  # who may close it may end the block of a task that will not

    def _acquire(self, cure: str) -> None:
        if not self.lock.acquire(timeout=min(self._timeout, threading.TIMEOUT_MAX)):
            raise VaultBusyError(f'another thread has a block open: vault {self._path}; {cure}')

    def _refuse(self) -> None:
        """Take no object any more: a thread that waited for the lock would put it where nobody writes it."""
        self.forget()
        self._written += 1  # a walk asks the store again
        self._assigned = _Closed(self._path)

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
            self.finish(LOST)
        finally:
            self.close()


class _Asking:
    """The lock of a store while a task has a block open: asks `require` before it lets anybody in.

    A lock that a thread has lets all its tasks through.
    """

    def __init__(self, lock: Any, require: Callable[[], None]) -> None:
        self._lock, self._require = lock, require
        self.release, self._is_owned = lock.release, lock._is_owned

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._require()
        taken: bool = self._lock.acquire(blocking, timeout)
        return taken

    __enter__ = acquire

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class _Closed(Dict[Stored, None] if TYPE_CHECKING else dict):  # type: ignore[misc]  # 3.8 cannot subscript dict
    """In place of the keys put, when the store is closed: takes none."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __setitem__(self, key: Stored, value: None) -> None:
        raise VaultClosedError(f'the vault {self._path!r} is closed: open it again')


class ClosedLiveStore(ClosedStore):
    """What a closed vault has in place of a live store."""

    hot = property(ClosedStore.refuse)
    live = property(ClosedStore.refuse)
    fetch = walk = watch = hold = hold_many = finish = within = ClosedStore.refuse


class _Guarded:
    """The live store for a section that validates: what it returns and is given must pass `checks` to be written."""

    hot: Dict[Stored, Any] = {}  # none: each object goes through fetch

    def __init__(self, store: LiveStore, checks: Checks) -> None:
        self.live, self._checks = store, checks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.live, name)

    def fetch(self, key: Stored, default: Any) -> Any:
        with self.live.lock:
            value = self.live.fetch(key, default)
            self.live.watch(key, self._checks)
            return value

    def walk(self, *bounds: Stored, **options: bool) -> Iterator[Tuple[Stored, Any]]:
        for key, value in self.live.walk(*bounds, **options):
            self.live.watch(key, self._checks)
            yield key, value

    def hold(self, key: Stored, value: Any) -> None:
        self.live.hold(key, value, self._checks)

    def hold_many(self, pairs: Iterable[Tuple[Stored, Any]]) -> int:
        return self.live.hold_many(pairs, self._checks)


class WriteBackVault(Vault[K, V]):
    """A vault with `writeback=True`: the values that it returns and is given are live objects.

    Safe in any thread: one thread at a time uses it, and a block keeps the others waiting. After a fork the child
    begins without objects: what the parent has changed is the parent's to write.
    """

    __slots__ = ()
    _closed = ClosedLiveStore
    _store: Any  # a LiveStore, or a _Guarded before one

    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice:
            return super().__getitem__(key)
        value = WriteBackVault.get(self, key, MISSING)  # and not what a subclass makes of get
        return self._missing(key) if value is MISSING else value

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            stored = self._keys.encode(key)
        except (TypeError, ValueError):
            self._place.cannot_hold(key)
            return default
        hot = self._store.hot
        try:
            value = hot[stored][0]
            hot.move_to_end(stored)  # and not first: what another thread has let go of meanwhile is not live
            return value
        except KeyError:
            try:
                return self._store.fetch(stored, default)
            except InParts as found:
                return self._reread(stored, found.args[0], default)

    def __setitem__(self, key: K, value: V) -> None:
        if type(key) is slice:
            super().__setitem__(key, value)
        if self._validate is not None:
            self._validate(key, value)
        if type(value) in registry.live_types:
            self._assign(key, value)
            return
        self._store.hold(self._keys.encode(key), value)

    def put_many(self, pairs: Any) -> int:
        copied: List[Any] = []
        done = self._store.hold_many(self._to_hold(pairs_of(pairs, {}), copied))
        return done + len(copied)  # type: ignore[no-any-return]

    def _to_hold(self, pairs: Iterator[Tuple[Any, Any]], copied: List[Any]) -> Iterator[Tuple[Stored, Any]]:
        """Yield what the store is to hold; copy live lists and columns in passing, and add their keys to `copied`."""
        encode, check = self._keys.encode, self._validate
        for key, value in pairs:
            if check is not None:
                check(key, value)
            if type(value) in registry.live_types:
                self._assign(key, value)
                copied.append(key)
            else:
                yield encode(key), value

    def _walk_items(self, reverse: bool = False, bounds: Any = None) -> Iterator[Any]:
        low, high = bounds or self._keys.bounds()
        store = self._store
        for stored, value in store.walk(low, high, by_key=bounds is not None, reverse=reverse):
            if type(value) is InParts:
                value = self._reread(stored, value.args[0], MISSING)
                if value is MISSING:  # it was deleted as we read it
                    continue
            yield stored if type(stored) is str else self._keys.decode(stored), value
            if self._store is not store:
                self._store.walk()  # raises: it was closed

    def close(self) -> None:
        """Write what has changed and close, for good. When a value cannot be written, the vault stays open."""
        if isinstance(self._store, LiveStore):
            self._store.refuse_others()
            self._store.finish()
        super().close()

    def delete_vault(self) -> None:
        if isinstance(self._store, LiveStore):
            self._store.refuse_others()
            self._store.forget()
        super().delete_vault()


def _check(coder: Any, validate: Check) -> Callable[[Stored, Any], object]:
    return lambda stored, value: validate(coder.decode(stored), value)


def attach(place: Place, size: int, timeout: float) -> None:
    """Put a place that has just been opened in write-back mode."""
    checks = {} if place.validate is None else {(): _check(place.keys, place.validate)}
    store = LiveStore(place.store, place.codec, place.path, size, timeout, checks)
    place.store = place.entries = store
    place.layers = (WriteBackVault,)
    store.undo.append(weakref.finalize(place, store.end).detach)  # it ends at exit, too
    _end_with_process(store)


def _end_with_process(store: LiveStore) -> None:
    """Have multiprocessing end the store as well: the processes that it forks leave without running exit functions."""
    util = sys.modules.get('multiprocessing.util')
    if util:
        store.undo.append(util.Finalize(None, store.end, exitpriority=0).cancel)


def _after_fork_in_child() -> None:
    for store in list(_open_stores):
        store.lock = store._lock = store._idle = threading.RLock()
        store._depth, store._calls, store._doomed, store._writing, store.hot = 0, 0, None, False, store._live
        store.forget()
        if 'multiprocessing.util' in sys.modules:  # which begins such a process by clearing what is to end with it
            sys.modules['multiprocessing.util'].register_after_fork(store, _end_with_process)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)
