"""Transactions: the blocks `v.transaction()` and `v.edit(key)`. Knows a vault as a mapping that has a place."""
from __future__ import annotations

from _thread import get_ident
from sys import _getframe

from ._typing import TYPE_CHECKING, Generic, V
from .codecs.registry import writable
from .place import MISSING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, MutableMapping, Optional, Type

    from .place import Place
    from .stores.base import Store


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
