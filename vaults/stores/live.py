"""Live entries: what the verbs of a vault in write-back mode have in the place of a store and a codec. Knows no vault.

They have a Live where a store has the bytes of an object. What is kept in chunks is no object: its bytes pass.
"""
from __future__ import annotations

import weakref
from itertools import compress
from operator import itemgetter, length_hint

from ..codecs import registry
from ..keys import HIGHEST, LOWEST
from .journal import Group, LiveWalk
from .writeback import LiveStore, end_with_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

    from ..codecs.packing import Codec
    from ..keys import Stored
    from ..place import Check, KeyCodec
    from .base import Checks, Live, Store

VALUE: Callable[[Any], object] = itemgetter(0)


def before(store: Store, coder: KeyCodec, codec: Codec, path: str, size: int, timeout: float,
           validate: Optional[Check], owner: object) -> Tuple[LiveStore, LiveEntries, LiveValues]:
    """Return a store before this one, and what a vault has with it. It ends when its owner is dropped, or at exit."""
    live = LiveStore(store, codec, path, size, timeout)
    live.undo.append(weakref.finalize(owner, live.end).detach)
    end_with_process(live)
    return live, LiveEntries(live, {}).within(coder, validate), LiveValues()


class LiveEntries:
    """The entries of a live store, each a Live, for a vault or section. Safe in any thread."""

    __slots__ = ('_cache', '_checks', '_store')

    def __init__(self, store: LiveStore, checks: Checks) -> None:
        self._store, self._cache, self._checks = store, store.cache, checks

    def within(self, coder: KeyCodec, validate: Optional[Check]) -> LiveEntries:
        """Return the entries for a section whose keys `coder` codes and whose values `validate` may refuse."""
        if validate is None:
            return self
        path = getattr(coder, 'path', ())
        return LiveEntries(self._store, {path: lambda stored, value: validate(coder.decode(stored), value)})

    def get(self, key: Stored) -> Union[Live, bytes, None]:
        """Return the live entry; what is none, as a collection, as it is stored; None when there is nothing."""
        hot = self._store.hot
        try:
            entry = hot[key]
            hot.move_to_end(key)  # what another thread has let go of meanwhile is not live
            if entry[2] is self._checks:
                return entry
        except KeyError:
            pass
        return self._store.fetch(key, self._checks)

    def get_many(self, keys: Sequence[Stored]) -> Iterator[Union[Live, bytes, None]]:
        """Return the live entries, as `get`; each is taken before the next one is asked for."""
        return map(self.get, keys)

    def put(self, key: Stored, value: Any) -> None:
        """Set the entry's object, to be written later."""
        store = self._store
        with store.lock:
            cache = self._cache
            if cache.groups:
                cache.settle()
            live = cache.live
            if key not in live:
                store.make_room()
            journal = cache.journal
            if journal is not None and key not in journal.before:
                cache.note(key)
            # The mark first: an interrupt between the two leaves one without a change, which is harmless. And no call
            # in between, in which a signal handler may have the entry be stored otherwise.
            cache.dirty[key] = None
            live[key] = value, live[key][1] if key in live else None, self._checks
            live.move_to_end(key)

    def put_many(self, pairs: Iterable[Tuple[Stored, Any]]) -> int:
        """Put all pairs of a key and an object at once or, when anything fails, none; return how many there were."""
        return self._store.put_all_live(pairs, self._checks)

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False,
             reverse: bool = False) -> Iterator[Tuple[Sequence[Stored], Met, Iterable[int]]]:
        """Yield pages as `Store.scan` does, of live entries.

        They are no more than may leave the cache at once: what a page gives is live until the next one. The first one
        is of one entry, because there may be no need of others.
        """
        store, walk, size = self._store, LiveWalk(), 1
        for found, datas, ids, writes, deletions in store.pages(walk, low, high, by_key, reverse):
            while found:
                entries = store.fetch_all(walk, found[:size], datas[:size], writes, self._checks)
                keys, now = found[:size], ids[:size]
                if not store.is_current(writes, deletions):
                    there = [entry is not None and store.alive(key, id) for key, id, entry in zip(keys, now, entries)]
                    keys, now = list(compress(keys, there)), list(compress(now, there))
                    entries = list(compress(entries, there))
                yield keys, Met(store, self._checks, keys, entries), now
                found, datas, ids, size = found[size:], datas[size:], ids[size:], min(2 * size, store.share)


class Met:
    """The entries of a page of a walk, each as it is at its turn: it may have been let go of meanwhile, and written."""

    def __init__(self, store: LiveStore, checks: Checks, found: Sequence[Stored],
                 entries: Union[Group, List[Union[Live, bytes, None]]]) -> None:
        self._store, self._checks, self._keys, self._entries = store, checks, found, entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Union[Live, bytes, None]]:
        store, hot, checks, upcoming = self._store, self._store.hot, self._checks, iter(self._keys)
        entry: Union[Live, bytes, None]
        for entry in map(hot.get, upcoming):
            if entry is None or entry[2] is not checks or store.hot is not hot:
                entry = self._at(len(self._keys) - length_hint(upcoming) - 1)
            yield entry

    def _at(self, at: int) -> Union[Live, bytes, None]:
        """Return an entry as it is now, of which the live ones do not tell, or may not be asked without a lock."""
        entry = self._entries[at]
        now = self._store.fetch(self._keys[at], self._checks) if type(entry) is tuple else entry
        return now if type(now) is tuple else entry

    def __getitem__(self, at: Any) -> Any:
        """Return one entry, as it was met; of a slice, all that are in it."""
        if isinstance(at, slice):
            return Met(self._store, self._checks, self._keys[at], self._entries[at])
        return self._entries[at]

    def _of_group(self, group: Group) -> Iterator[object]:
        """Yield the objects of a group and, from when it is none any more, of the entries as they are now."""
        upcoming = iter(group.values)
        for value in upcoming:
            if not group.whole:
                at = len(group) - length_hint(upcoming) - 1
                yield from Met(self._store, self._checks, self._keys[at:], group[at:]).values()
                return
            yield value

    def values(self) -> Iterator[object]:
        """Return the objects. Raises: ValueError where there is an entry without one."""
        if type(self._entries) is Group:
            return self._of_group(self._entries)
        if not {*map(type, self._entries)} <= {tuple}:
            raise ValueError('an entry of the page is no object')
        return map(VALUE, self)


class LiveValues:
    """What a vault has in the place of a codec in write-back mode: it leaves objects alone. Safe in any thread."""

    def dumps(self, value: Any) -> Any:
        """Return the value. Raises: SerializationError for a live list or column, as `Codec.dumps`."""
        if type(value) in registry.live_types:
            raise registry.inside_another()
        return value

    def loads_many(self, datas: Met) -> Iterator[object]:
        """Return the objects of a page, each as it is at its turn. Raises: ValueError where one is none."""
        return datas.values()
