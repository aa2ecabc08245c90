"""Serializers: another pair of functions in place of msgpack for a whole vault. Knows no vault and no store.

Each value is what the functions made of it, in an ExtType. settings.py sees to it that a vault is opened with the
serializer that it was made with.
"""
from __future__ import annotations

import sys

from msgpack import ExtType, Packer, unpackb

from ..errors import SerializationError, VaultTypeError
from .codes import SERIALIZED
from .packing import Codec
from .registry import inside_another, live_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, NoReturn, Sequence, TypeVar, Union

    from .pickles import Pickles

    T = TypeVar('T')


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


class AsStored(Serializer):
    """For tools, which open any vault whatever its serializer: what that made is left as it is, str or bytes."""

    def __init__(self, name: str = 'none') -> None:
        super().__init__(name, self._refuse, lambda data: data)

    def _refuse(self, obj: Any) -> NoReturn:
        raise SerializationError(f'the values of this vault are made by the serializer {self.name!r}: only a program '
                                 'that opens it with that one can set them')

    def __reduce__(self) -> str:
        return 'AS_STORED'


AS_STORED = AsStored()

for _pickled in (Serializer, AsStored, _of_module):
    _pickled.__module__ = 'vaults.serializers'  # persisted, in pickles of vaults: it stays, wherever this room is


class SerializerCodec(Codec):
    """The codec of a vault with a serializer. Safe in any thread if the functions are."""

    def __init__(self, pickles: Pickles, serializer: Serializer) -> None:
        super().__init__(pickles)
        self._serializer = serializer
        self._plain, self.ext_hook = self.ext_hook, self._load_ext

    def dumps(self, obj: Any) -> bytes:
        """Return what the serializer makes of `obj`, as msgpack. Raises: SerializationError."""
        if type(obj) in live_types:
            raise inside_another()
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

    def changed(self, keys: Sequence[T], objects: Sequence[Any], datas: Sequence[bytes],
                plain: bool = False) -> List[T]:
        """Return all keys: there is no quicker look than dumps()."""
        return list(keys)

    def _load_ext(self, code: int, data: bytes) -> Any:
        return self._guarded('loads', unpackb(data)) if code == SERIALIZED else self._plain(code, data)

    def _guarded(self, verb: str, argument: Any) -> Any:
        try:
            return getattr(self._serializer, verb)(argument)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f'{verb} of the serializer {self._serializer.name!r} failed: {error!r}') from error
