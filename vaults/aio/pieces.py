"""Pieces: large values are loaded piece by piece, so that other threads run between. Knows msgpack, and a place.

msgpack holds the GIL for as long as it unpacks: a thread of its own does not help the event loop. Fed in pieces, with
the GIL given back between, nobody waits for more than a piece. Packing has no such way: it is done in one go.

The trap is the garbage collector. While a value of many objects grows it looks at all of them again and again, each
time in one go: 90 ms for 8 MB of small dicts, which take three times as long by that. So what a piece has made is given
to it as old, which is what it would come to anyway.
"""
from __future__ import annotations

import gc
from functools import partial
from time import sleep

from msgpack import OutOfData, Unpacker

from ..codecs import codes
from ..codecs.codes import BULK, CODE_AT, FROZENSET, SET, TUPLE
from ..place import MISSING, place_of
from ..sections import Section
from ..vault import Vault
from ..views import SortedSlice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from ..keys import Stored
    from ..place import Place

FED = 1 << 16     # bytes
MANY_PARTS = frozenset([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])    # the headers of arrays and maps
GATHERED_AS = {TUPLE: tuple, SET: set, FROZENSET: frozenset}
MOST_SPARED = 50  # values, until the collector has looked at everything again
spared = {'collections': 0, 'values': 0}     # how often it had, and how many values since


def loaded_in_pieces(data: bytes, hook: Callable[[int, bytes], Any]) -> Any:
    """Return what `data` holds. Raises: MALFORMED, for what it does not know as well."""
    code_at = CODE_AT.get(data[0])
    if code_at is not None:
        return _of_ext(data[code_at], data[code_at + 1:], hook)
    if data[0] not in MANY_PARTS:
        raise ValueError('bytes and text are one piece')

    def ext(code: int, payload: bytes) -> Any:
        return hook(code, payload) if len(payload) < BULK else _of_ext(code, payload, hook)
    unpacker = Unpacker(ext_hook=ext, strict_map_key=False, max_buffer_size=len(data))
    view, is_sparing = memoryview(data), _is_sparing()
    for start in range(0, len(data), FED):
        unpacker.feed(view[start:start + FED])
        if is_sparing:  # all that there is becomes old, without being looked at
            gc.freeze()
            gc.unfreeze()
        try:
            value = unpacker.unpack()
        except OutOfData:
            sleep(0)
        else:
            if unpacker.tell() == len(data):
                return value
            break
    raise ValueError('it ends too early or too late')


def _is_sparing() -> bool:
    """Tell whether the collector may be spared a value: unless it is off, or a program has frozen what is its own.

    Cyclic garbage that becomes old is found when the collector looks at everything, which it puts off meanwhile: so
    from time to time a value is loaded as it likes.
    """
    collections = gc.get_stats()[-1]['collections']
    if spared['collections'] != collections:
        spared.update(collections=collections, values=0)
    spared['values'] += 1
    if spared['values'] > MOST_SPARED or not gc.isenabled():
        return False
    if gc.get_freeze_count():  # which counts them one by one, 90 ms for a million: so it is asked no more until then
        spared['values'] = MOST_SPARED
        return False
    return True


def _of_ext(code: int, payload: bytes, hook: Callable[[int, bytes], Any]) -> Any:
    """Return a large tuple or set, whose payload is an array. Raises: ValueError for anything else."""
    kind = GATHERED_AS.get(code)
    if kind is None:
        raise ValueError('not known here')
    return kind(loaded_in_pieces(payload, hook))


def _whole_or_in_pieces(place: Place, data: bytes, whole: Callable[[], Any]) -> Any:
    if len(data) > BULK:
        try:
            return loaded_in_pieces(data, place.codec.ext_hook)
        except codes.MALFORMED:
            pass  # what is not loaded so, or is damaged: which is said there
    return whole()


class _LoadsInPieces:
    """What the walks of vaults and slices do but for a large value, which is a page of its own."""

    __slots__ = ()
    _place: Place

    def _load_many(self, stored: Any, datas: Any) -> Iterator[Any]:
        super_many: Callable[[Any, Any], Iterator[Any]] = super()._load_many  # type: ignore[misc]  # of Walks
        if len(datas) != 1 or type(datas[0]) is not bytes:
            return super_many(stored, datas)

        def whole() -> Any:
            (_, value), = super_many(stored, datas)
            return value
        return iter([(self._place.keys.decode(stored[0]), _whole_or_in_pieces(self._place, datas[0], whole))])


class SliceInPieces(_LoadsInPieces, SortedSlice):
    """A slice, in the threads of tasks."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return sliced(found) if type(key) is slice else found


def sliced(part: SortedSlice[Any, Any]) -> SortedSlice[Any, Any]:
    """Return the same slice, which loads large values in pieces."""
    same = object.__new__(SliceInPieces)
    same.__setstate__(part.__getstate__())
    return same


class _InPieces(_LoadsInPieces):
    """What a vault or section does in the threads of tasks but for large values."""

    __slots__ = ()
    _keys: Any
    _entries: Any

    def _loaded(self, stored: Stored, data: Any) -> Any:
        if type(data) is bytes and len(data) > BULK:
            return _whole_or_in_pieces(self._place, data, partial(super()._loaded, stored, data))  # type: ignore[misc]  # of Vault
        return super()._loaded(stored, data)  # type: ignore[misc]

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            stored = self._keys.encode(key)
        except (TypeError, ValueError):
            self._place.cannot_hold(key)
            return default
        return self.loaded(stored, self._entries.get(stored), default)

    def loaded(self, stored: Stored, data: Any, default: Any) -> Any:
        """Return the value that an entry's bytes are, or the default where there are none."""
        value = MISSING if data is None else self._loaded(stored, data)
        return default if value is MISSING else value

    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice:
            return sliced(super().__getitem__(key))  # type: ignore[misc]  # of Vault
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def prefix(self, prefix: Any) -> Any:
        return sliced(super().prefix(prefix))  # type: ignore[misc]  # of Vault

    def section(self, name: Any, *, value_type: Any = None, validate: Any = None) -> Any:
        return SectionInPieces(place_of(self), name, value_type, validate)


class VaultInPieces(_InPieces, Vault):
    """A vault, in the threads of tasks."""

    __slots__ = ()


class SectionInPieces(_InPieces, Section):
    """A section, in the threads of tasks."""

    __slots__ = ()


VaultInPieces.__name__ = Vault.__name__     # as errors call them
SectionInPieces.__name__ = Section.__name__
SliceInPieces.__name__ = SortedSlice.__name__
