"""Changes: which live entries pack to other bytes than they are stored as. Knows no store.

An object changes in place without a call, and one that nobody holds any more may have been changed before. So nothing
but what it packs to now says whether it has.
"""
from __future__ import annotations

from datetime import date, datetime, time, timedelta

from .. import keys
from ..codecs import codes, packing, pickles
from ..codecs.types import PLAIN
from ..errors import SerializationError, VaultCorruptError, VaultError, about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from ..keys import Stored
    from .base import Live
    from .journal import Cache, Group

# Objects of these types change by assignment alone, so they are never packed to find out.
IMMUTABLE = PLAIN | {complex, date, datetime, time, timedelta, range}
ATTEMPTS = 10

_structure = packing.Codec(pickles.Unread())


class Changes:
    """What the live entries of a cache pack to. Not safe in threads, as the cache; objects may change in others.

    `foreign`: others have written since the objects were last compared.
    """

    def __init__(self, cache: Cache, codec: packing.Codec, path: str) -> None:
        self._cache, self._codec, self._path = cache, codec, path
        self.foreign = False

    def dumps(self, key: Stored, value: Any) -> bytes:
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
                raise self.about(error, key) from error
        raise self.about(SerializationError('another thread kept changing it while it was packed'), key)

    def about(self, error: VaultError, key: Stored) -> VaultError:
        """Return the error with the entry and the vault that it is about."""
        return about(error, keys.decode(key), self._path)

    def packed(self, key: Stored, entry: Live) -> Optional[bytes]:
        """Return what the entry packs to when that is not what is stored.

        Loading may order a set or share text otherwise than it was when packed: only when the stored bytes, loaded and
        packed again, differ as well, has the object changed.
        """
        value, stored, _ = entry
        was_put = key in self._cache.dirty
        if type(value) in IMMUTABLE and not was_put:
            return None
        data = self.dumps(key, value)
        if stored is None or (was_put and self.foreign):
            return data
        if data == stored or (not was_put and data == self._codec.dumps(self._codec.loads(stored))):
            return None
        return data

    def has(self, key: Stored) -> bool:
        """Tell whether the entry has changed here, even into what cannot be packed."""
        entry = self._cache.live.get(key)
        try:
            return entry is not None and self.packed(key, entry) is not None
        except VaultError:
            return True

    def validate(self, key: Stored, entry: Live) -> None:
        """Raise SerializationError when a function of the user's refuses what an object has changed into."""
        for check in entry[2].values():
            try:
                check(key, entry[0])
            except Exception as error:
                refused = SerializationError(f'validation refused it, {type(error).__name__}: {error}')
                raise self.about(refused, key) from error

    def suspects(self, wanted: List[Stored]) -> List[Stored]:
        """Return which of the entries were put, or do not pack, at a first look, to what is stored.

        What was put is returned once, and first, where it is wanted twice.
        """
        live, dirty = self._cache.live, self._cache.dirty
        put: Dict[Stored, None] = {}
        found, objects, datas = [], [], []
        for key in wanted:
            try:
                value, data, _ = live[key]
            except KeyError:  # a signal handler has had it leave
                continue
            if data is None or key in dirty:
                put[key] = None
            elif type(value) not in IMMUTABLE:
                found.append(key)
                objects.append(value)
                datas.append(data)
        return [*put, *self._codec.changed(found, objects, datas)] if found else [*put]

    def none_in(self, group: Group) -> bool:
        """Tell whether all of a group pack, at a first look, to what is stored."""
        immutable = {*map(type, group.values)} <= IMMUTABLE
        return immutable or not self._codec.changed(group.keys, group.values, group.datas, group.plain)
