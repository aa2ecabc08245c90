"""Transactions: the blocks `v.transaction()` and `v.edit(key)`, and what reads and writes at once, in a block or fewer
trips. Knows a vault as a mapping that has a place.
"""
from __future__ import annotations

from _thread import get_ident
from sys import _getframe

from ._typing import TYPE_CHECKING, Generic, V
from .codecs.codes import is_header
from .codecs.registry import in_memory, live_types, writable
from .errors import VaultError, VaultReadOnlyError, VaultValueError
from .place import MISSING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable, MutableMapping, Optional, Tuple, Type

    from .keys import Stored
    from .place import Place
    from .stores.base import Store

    Loaded = Callable[[Stored, Any], Any]   # what an entry's bytes are; MISSING when it is deleted meanwhile

MOST_SENT = 1 << 16     # bytes of a default that is sent before it is known whether it is wanted
MOST_TRIES = 4          # to pop a value that others change all the time, before they are kept out


class Transaction:
    """A block that is one transaction. It belongs to the thread, and to the task of an event loop, that entered it."""

    __slots__ = ('_store',)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store.begin(with_frame())

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        frame = _getframe().f_back
        self._store.commit(frame) if kind is None else self._store.rollback(frame)


class Edit(Transaction, Generic[V]):
    """A block in which one value is loaded, changed in place, and written back."""

    __slots__ = ('_default', '_encode', '_key', '_thread', '_value', '_vault')

    def __init__(self, vault: MutableMapping[Any, Any], place: Place, key: Any, default: Any) -> None:
        super().__init__(place.store)
        self._vault, self._encode, self._key, self._default = vault, place.keys.encode, key, default

    def __enter__(self) -> V:  # type: ignore[override]  # a block that gives something
        if self._default is not MISSING:
            self._encode(self._key)  # raises for what cannot be put
        frame = with_frame()
        self._store.begin(frame)
        try:
            self._value = writable(self._vault.get, self._key, self._default)
            if self._value is MISSING:
                raise KeyError(self._key)
        except BaseException:
            self._store.rollback(frame)
            raise
        self._thread = get_ident()
        return self._value  # type: ignore[return-value]  # no value but V is in the vault

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        frame = _getframe().f_back
        if kind is None and self._thread == get_ident():  # in another thread it would be no part of the block
            try:
                self._vault[self._key] = self._value
            except BaseException:
                self._store.rollback(frame)
                raise
        # Not super(): an interrupt could come between.
        self._store.commit(frame) if kind is None else self._store.rollback(frame)


def with_frame() -> Any:
    """Return the frame of the `with` whose block an __enter__ begins; that of a subclass comes between."""
    frame = _getframe(1).f_back
    return frame.f_back if frame and frame.f_code.co_name == '__enter__' else frame


# --- what reads and writes at once ----------------------------------------------------------------------------------

def popped(vault: MutableMapping[Any, Any], place: Place, loaded: Loaded, key: Any) -> Any:
    """Remove an entry and return its value; MISSING when there is none."""
    if _counts_trips(vault, place):
        found = _loaded_and_deleted(place, loaded, key)
        if found is not None:
            return found[0]

    def take() -> Any:
        value = in_memory(vault.get(key, MISSING))
        if value is not MISSING:
            place.store.delete(place.keys.encode(key))
        return value
    return place.store.transact(take)


def put_default(vault: MutableMapping[Any, Any], place: Place, loaded: Loaded, key: Any, default: Any) -> Any:
    """Return the value, having set it to the default when there was none."""
    stored = place.keys.encode(key)  # raises for what cannot be put
    if place.validate is None and _counts_trips(vault, place):
        found = _there_or_put(place, loaded, stored, default)
        if found is not None:
            return found[0]
    value = vault.get(key, MISSING)
    if value is not MISSING:
        return value

    def settle() -> Any:
        value = vault.get(key, MISSING)
        if value is MISSING:
            vault[key] = value = default
        return value if type(value) not in live_types else vault[key]
    return place.store.transact(settle)


def _counts_trips(vault: MutableMapping[Any, Any], place: Place) -> bool:
    """Tell whether each call of the store takes long, and nothing stands before it.

    That may be live objects, a cache, or a subclass of a program that gets or sets in its own way.
    """
    store, cls = place.store, type(vault)
    return (store.is_distant and place.entries is store and not place.read_only
            and all(method.__module__.startswith(f'{__package__}.') for method in (cls.get, cls.__setitem__)))


def _loaded_and_deleted(place: Place, loaded: Loaded, key: Any) -> Optional[Tuple[Any]]:
    """Remove an entry in two trips, and return its value alone in a tuple; None where that cannot be.

    One trip would not do: whoever has the entry cannot tell whether the value can be loaded here, say a pickle or a
    type of a program, and one that cannot be is to stay. So it is deleted when it has been loaded, if it is the same
    still. What is kept in chunks takes more trips to read, and others are to be kept out meanwhile.
    """
    stored, store = place.sought(key), place.store
    for _ in range(MOST_TRIES):
        data = None if stored is None else store.get(stored)
        if stored is None or data is None:
            return (MISSING,)
        if is_header(data):
            break
        value = loaded(stored, data)
        if store.delete_if(stored, data):
            return (value,)
    return None


def _there_or_put(place: Place, loaded: Loaded, stored: Stored, default: Any) -> Optional[Tuple[Any]]:
    """Put the default in one trip where there is nothing, and return what is there then, alone in a tuple.

    None where that cannot be: then nothing was put, and all that is wrong is said by who tries it otherwise.
    """
    try:
        data = place.codec.dumps(default)
    except VaultError:  # a live list, or what cannot be stored, which may not be needed
        return None
    if len(data) > MOST_SENT:
        return None
    try:
        there = place.store.put_new(stored, data)
    except (VaultReadOnlyError, VaultValueError):  # who may only read, or send less at once, gets what is there
        return None
    value = default if there is None else loaded(stored, there)
    return None if value is MISSING else (value,)
