"""Standalone: values as bytes without a vault. Knows neither keys nor stores."""
from __future__ import annotations

from functools import partial

from ..errors import SerializationError, VaultCorruptError, VaultError
from .codes import MALFORMED, is_header
from .packing import Codec
from .pickles import rule
from .registry import live_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, List, TypeVar

    from .pickles import AllowPickle

    T = TypeVar('T')

_codecs = {allowed: Codec(rule(allowed, lambda: None)) for allowed in (True, False)}


def _codec(allow_pickle: AllowPickle) -> Codec:
    if isinstance(allow_pickle, bool):
        return _codecs[allow_pickle]
    if allow_pickle is None:
        raise TypeError('allow_pickle is True, False or a list of types: bytes have no file that tells who wrote them')
    return Codec(rule(allow_pickle, lambda: None))


def dumps(obj: Any, *, allow_pickle: AllowPickle = True) -> bytes:
    """Return `obj` as msgpack bytes, as a vault would store it.

    >>> import vaults
    >>> vaults.dumps((1, 2)).hex()
    'c70305920102'

    Raises: SerializationError, UntrustedPickleError.
    """
    return _dumped_with(_codec(allow_pickle), obj)


def loads(data: bytes, *, allow_pickle: AllowPickle = False) -> Any:
    """Return the object of `dumps`. Bytes say not who wrote them: pickles are read only when you allow it.

    >>> import vaults
    >>> vaults.loads(vaults.dumps({'point': (1, 2)}))
    {'point': (1, 2)}

    Raises: VaultCorruptError, SerializationError, UntrustedPickleError.
    """
    return _loaded_with(_codec(allow_pickle), data)


def dumps_many(objs: Iterable[Any], *, allow_pickle: AllowPickle = True) -> List[bytes]:
    """Return what `dumps` does for each of the objects.

    Raises: SerializationError, UntrustedPickleError, for the first that cannot be packed.
    """
    codec = _codec(allow_pickle)
    return _each(partial(_dumped_with, codec), objs)


def loads_many(datas: Iterable[bytes], *, allow_pickle: AllowPickle = False) -> List[Any]:
    """Return what `loads` does for each.

    >>> import vaults
    >>> vaults.loads_many(vaults.dumps_many([1, (2, 3)]))
    [1, (2, 3)]

    Raises: VaultCorruptError, SerializationError, UntrustedPickleError, for the first that cannot be read.
    """
    codec, datas = _codec(allow_pickle), list(datas)
    try:
        return codec.loads_many(datas)
    except MALFORMED:  # one of them: singly they tell
        return _each(partial(_loaded_with, codec), datas)


def _dumped_with(codec: Codec, obj: Any) -> bytes:
    try:
        return codec.dumps(obj)
    except SerializationError:
        if type(obj) not in live_types:
            raise
        raise SerializationError('a live list or column lives in its vault: dump list(...) of it') from None


def _loaded_with(codec: Codec, data: bytes) -> Any:
    try:
        return codec.loads(data)
    except VaultCorruptError:
        if not is_header(data):
            raise
        raise SerializationError('the bytes are the header of a value that is kept in chunks in its vault: read it '
                                 'there') from None


def _each(function: Callable[[Any], T], arguments: Iterable[Any]) -> List[T]:
    done: List[T] = []
    for place, argument in enumerate(arguments):
        try:
            done.append(function(argument))
        except VaultError as error:
            raise type(error)(f'element {place}: {error}') from error
    return done
