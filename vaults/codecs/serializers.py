"""Serializers: another pair of functions in place of msgpack for a whole vault. Knows the store, not what a user sees.

Each value is what the functions made of it, in an ExtType, and the serializer's name is in the file: opening the vault
with another one is an error, not a surprise.
"""
from __future__ import annotations

import sys

from msgpack import ExtType, Packer, unpackb

from ..errors import SerializationError, VaultCorruptError, VaultFormatError, VaultTypeError
from ..stores.base import SETTINGS_OWNER
from .codes import SERIALIZED, InParts
from .packing import MALFORMED, Codec, undecodable
from .registry import live_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Optional, Union

    from ..stores.base import Store
    from .pickles import Pickles

class Serializer:
    """A pair of functions with a name. Safe in any thread if they are."""

    def __init__(self, name: str, dumps: Callable[[Any], Union[str, bytes]], loads: Callable[[Any], Any],
                 source: Any = None) -> None:
        if not isinstance(name, str) or not name or not callable(dumps) or not callable(loads):
            raise VaultTypeError('a serializer is a module or an object with the functions dumps and loads and a name, '
                                 f'or the tuple (name, dumps, loads), not {source!r}')
        self.name, self.dumps, self.loads, self._source = name, dumps, loads, source

    @classmethod
    def of(cls, source: Any) -> Serializer:
        """Return what the user has passed as a serializer. Raises: VaultTypeError when it is none."""
        if isinstance(source, Serializer):
            return source
        if isinstance(source, tuple) and len(source) == 3:
            return cls(*source, source)
        names = [getattr(source, name, None) for name in ('name', '__name__')]
        name = names[1] if isinstance(source, type(sys)) else names[0] or names[1]
        return cls(name, getattr(source, 'dumps', None), getattr(source, 'loads', None),  # type: ignore[arg-type]
                   source)

    def __reduce__(self) -> Any:
        """Send a module by its name: it cannot be pickled itself."""
        if isinstance(self._source, type(sys)):
            return _of_module, (self.name,)
        return Serializer.of, (self._source,)


def _of_module(name: str) -> Serializer:
    from importlib import import_module
    return Serializer.of(import_module(name))


class _AsStored(Serializer):
    """For tools, which open any vault whatever its serializer: what that made is left as it is, str or bytes."""

    def __init__(self, name: str = 'none') -> None:
        super().__init__(name, self._refuse, lambda data: data)

    def _refuse(self, obj: Any) -> NoReturn:
        raise SerializationError(f'the values of this vault are made by the serializer {self.name!r}: only a program '
                                 'that opens it with that one can set them')

    def __reduce__(self) -> str:
        return 'AS_STORED'


AS_STORED = _AsStored()


class SerializerCodec(Codec):
    """The codec of a vault with a serializer. Safe in any thread if the functions are."""

    def __init__(self, pickles: Pickles, serializer: Serializer) -> None:
        super().__init__(pickles)
        self._serializer = serializer
        self._plain, self.ext_hook = self.ext_hook, self._load_ext

    def dumps(self, obj: Any) -> bytes:
        """Return what the serializer makes of `obj`, as msgpack. Raises: SerializationError, InParts."""
        if type(obj) in live_types:
            raise InParts
        made = self._guarded('dumps', obj)
        if not isinstance(made, (str, bytes)):
            raise SerializationError(f'dumps of the serializer {self._serializer.name!r} returned '
                                     f'{type(made).__name__}, not str or bytes')
        try:
            data: bytes = Packer().pack(ExtType(SERIALIZED, Packer().pack(made)))
        except ValueError as error:  # lone surrogates, 4 GB
            raise SerializationError(f'what the serializer {self._serializer.name!r} made cannot be stored: '
                                     f'{error}') from error
        return data

    def _load_ext(self, code: int, data: bytes) -> Any:
        return self._guarded('loads', unpackb(data)) if code == SERIALIZED else self._plain(code, data)

    def _guarded(self, verb: str, argument: Any) -> Any:
        try:
            return getattr(self._serializer, verb)(argument)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f'{verb} of the serializer {self._serializer.name!r} failed: {error!r}') from error


def codec_for(store: Store, codec: Codec, wanted: Optional[Serializer], flag: str, path: str) -> Codec:
    """Return the codec of a vault that has just been opened; write the serializer of a new one down.

    Raises: VaultFormatError when the vault was made with another one, or with none.
    """
    if wanted is AS_STORED:
        return _codec_for_tools(store, codec)
    if flag == 'n' or (flag != 'r' and wanted and recorded(store) is None):
        store.transact(lambda: _record(store, wanted, flag))
    name, given = recorded(store), wanted.name if wanted else None
    if name != given:
        raise VaultFormatError(_mismatch(name, given, path))
    return SerializerCodec(codec.pickles, wanted) if wanted else codec


def _codec_for_tools(store: Store, codec: Codec) -> Codec:
    try:
        name = recorded(store)
    except VaultCorruptError:
        name = 'a damaged name'
    return codec if name is None else SerializerCodec(codec.pickles, _AsStored(name))


def _record(store: Store, wanted: Optional[Serializer], flag: str) -> None:
    """Write down the serializer of a vault without entries; a vault begun anew forgets the one it had."""
    name = recorded(store)
    if flag == 'n' and name is not None:
        store.delete_parts(SETTINGS_OWNER)
        name = None
    if wanted and name is None and not store.count():
        store.put_parts(SETTINGS_OWNER, [(0, Packer().pack({'serializer': wanted.name}))])


def recorded(store: Store) -> Optional[str]:
    """Return the name of the serializer that the vault was made with, or None. Raises: VaultCorruptError."""
    data = store.get_part(SETTINGS_OWNER, 0)
    if data is None:
        return None
    try:
        name: Optional[str] = unpackb(data).get('serializer')
    except MALFORMED as error:
        undecodable(error)
    return name


def _mismatch(name: Optional[str], wanted: Optional[str], path: str) -> str:
    """Say which serializer the vault was made with, which one it was opened with, and what to pass."""
    if name is None:
        return (f'the vault at {path} was made without a serializer and is opened with {wanted!r}: leave serializer '
                'out, or begin a new vault with it')
    other = f'opened with {wanted!r}' if wanted else 'opened without one'
    return (f'the vault at {path} was made with the serializer {name!r} and is {other}: pass serializer=..., the '
            f'module or object of that name, or the tuple ({name!r}, dumps, loads)')
