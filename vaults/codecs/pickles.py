"""Pickles: what a codec does with a leaf that only pickle can carry, under each rule. Knows no file and no format."""
from __future__ import annotations

from weakref import WeakSet

from ..errors import SerializationError, UntrustedPickleError, VaultError, VaultTypeError
from .registry import Unbuilt, named_type, rebuild

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, NoReturn, Optional, Protocol, Union

    AllowPickle = Union[bool, Iterable[type]]

    class Pickles(Protocol):
        """What a codec does with a leaf that only pickle can carry."""

        def dumps(self, obj: Any) -> bytes: ...
        def loads(self, data: bytes) -> Any: ...
        def rebuild(self, name: str, payload: Any) -> Any: ...
        def serialized(self, payload: Any) -> Any: ...

PICKLE_PROTOCOL = 4  # the newest that every reader from Python 3.4 on knows

def _serialized(payload: Any) -> NoReturn:
    raise SerializationError('the value was made by a serializer: only a vault that is opened with the same one, '
                             'Vault(..., serializer=...), reads it')


class Trusting:
    """Reads and writes pickles, once `check` has passed; it raises when the place is not to be trusted."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check: Optional[Callable[[], None]] = check

    def dumps(self, obj: Any) -> bytes:
        self.checked()
        data = _pickled(obj)
        _prove(obj, data)
        return data

    def loads(self, data: bytes) -> Any:
        self.checked()
        import pickle
        return _unpickled(lambda: pickle.loads(data))

    rebuild = staticmethod(rebuild)
    serialized = staticmethod(_serialized)

    def checked(self) -> None:
        if self._check is not None:
            self._check()
            self._check = None


class Refusing:
    """Neither reads nor writes pickles."""

    def dumps(self, obj: Any) -> bytes:
        raise UntrustedPickleError(f'{named_type(obj)} would have to be pickled, which allow_pickle=False forbids: '
                                   'register its type with vaults.register, or store plain data')

    def loads(self, data: bytes) -> Any:
        raise UntrustedPickleError('the value holds a pickle, which allow_pickle=False does not read: pass '
                                   'allow_pickle=True, or a list of its types, if you trust who wrote the file')

    rebuild = staticmethod(rebuild)
    serialized = staticmethod(_serialized)


class Listed:
    """Reads and writes pickles that name no class or function but the listed types."""

    def __init__(self, types: Iterable[type]) -> None:
        self._types = {(cls.__module__, cls.__qualname__): cls for cls in types}

    def dumps(self, obj: Any) -> bytes:
        data = _pickled(obj)
        self.loads(data)  # what could not be read again is not written
        return data

    def loads(self, data: bytes) -> Any:
        import io
        import pickle

        class Unpickler(pickle.Unpickler):
            find_class = staticmethod(self._find)
        return _unpickled(Unpickler(io.BytesIO(data)).load)

    def _find(self, module: str, name: str) -> type:
        try:
            return self._types[module, name]
        except KeyError:
            raise UntrustedPickleError(f'the value holds a pickle that names {module}.{name}, which is not in '
                                       'allow_pickle: add the type to the list if you trust it') from None

    rebuild = staticmethod(rebuild)
    serialized = staticmethod(_serialized)


class Unread:
    """Leaves pickles, registered and serialized objects as they are; for a look at the structure that runs no code."""

    def dumps(self, obj: Any) -> bytes:
        raise SerializationError('this codec only reads')

    def loads(self, data: bytes) -> Any:
        return ('pickle', data)

    def rebuild(self, name: str, payload: Any) -> Any:
        return Unbuilt(('registered', name))

    def serialized(self, payload: Any) -> Any:
        return ('serialized', payload)


def rule(allow_pickle: Optional[AllowPickle], check: Callable[[], None]) -> Pickles:
    """Return what `allow_pickle` asks for; `check` is called before the first pickle when it is None.

    Raises: VaultTypeError when it is neither None, a bool nor a collection of types.
    """
    if allow_pickle is None:
        return Trusting(check)
    if isinstance(allow_pickle, bool):
        return Trusting() if allow_pickle else Refusing()
    try:
        types = () if isinstance(allow_pickle, (str, bytes, type)) else tuple(allow_pickle)
    except TypeError:  # a number
        types = ()
    if not types or not all(isinstance(cls, type) for cls in types):
        raise VaultTypeError(f'allow_pickle is True, False, None or a list of types, not {allow_pickle!r}')
    return Listed(types)


def _pickled(obj: Any) -> bytes:
    import pickle
    try:
        return pickle.dumps(obj, PICKLE_PROTOCOL)
    except Exception as error:
        raise SerializationError(f'{named_type(obj)} cannot be stored, because it cannot be pickled ({error}): '
                                 'register its type with vaults.register, or store plain data') from error


# Classes of which an object came back from its pickle. Whether it does is decided by the class, but for exceptions,
# whose arguments decide as well. To load every pickle would take half as long again, and run more code of the user's.
_proven: WeakSet[type] = WeakSet()
PROVEN_SIZE = 1 << 20  # bytes of a pickle; a larger one would take too long, and too much memory, to look at


def _prove(obj: Any, data: bytes) -> None:
    """Load the pickle of an exception, and of the first object of any class. Raises: SerializationError."""
    kind = type(obj)
    if len(data) > PROVEN_SIZE or (kind in _proven and not isinstance(obj, BaseException)):
        return
    import pickle
    try:
        pickle.loads(data)
    except Exception as error:
        raise SerializationError(f'{named_type(obj)} cannot be stored, because its pickle cannot be loaded '
                                 f'({error!r}): give the class a __reduce__ that calls it as its __init__ wants, '
                                 'register it with vaults.register, or store plain data') from error
    if kind not in (list, dict):  # which hold themselves, and anything else
        _proven.add(kind)


def _unpickled(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except VaultError:
        raise
    except Exception as error:
        raise SerializationError(f'the value holds a pickle that cannot be loaded here ({error!r}): is its class '
                                 'where it was, and importable? An entry need not be read to be deleted') from error
