"""Pickles: what a codec does with a leaf that only pickle can carry, under each rule. Knows no file and no format.

Each rule answers for what runs somebody's code as well: registered objects, and what a serializer has made.
"""
from __future__ import annotations

from ..errors import SerializationError, UntrustedPickleError, VaultTypeError
from .registry import Unbuilt, named_type, rebuild

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, Iterable, NoReturn, Optional, Protocol, Union

    AllowPickle = Union[bool, Iterable[type]]

    class Pickles(Protocol):
        """What a codec does with a leaf that only pickle can carry."""

        def dumps(self, obj: Any) -> bytes: ...
        def loads(self, data: bytes) -> Any: ...
        def rebuild(self, name: str, payload: Any) -> Any: ...
        def serialized(self, payload: Any) -> Any: ...


class _Building:
    """Makes registered objects, whatever the rule for pickles: their functions are the program's own."""

    rebuild = staticmethod(rebuild)

    def serialized(self, payload: Any) -> NoReturn:
        raise SerializationError('the value was made by a serializer: only a vault that is opened with the same one, '
                                 'Vault(..., serializer=...), reads it')


class Trusting(_Building):
    """Reads and writes pickles, once `check` has passed; it raises when the place is not to be trusted."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._pickling: Optional[ModuleType] = None  # what makes and reads them, once the check has passed

    def dumps(self, obj: Any) -> bytes:
        try:
            pickling = self._pickling or self.checked()
        except UntrustedPickleError as error:
            raise _untrusted_pickle(obj, error) from None
        data: bytes = pickling.pickled(obj)
        pickling.prove(obj, data)
        return data

    def loads(self, data: bytes) -> Any:
        return (self._pickling or self.checked()).unpickled(data)

    def checked(self) -> ModuleType:
        """Return what makes and reads pickles. Raises: what `check` does, until it passes once."""
        if self._pickling is None:
            self._check()
            from . import pickling
            self._pickling = pickling
        return self._pickling


def _untrusted_pickle(obj: Any, error: UntrustedPickleError) -> UntrustedPickleError:
    """Return what is said of an object that is not pickled, as the place is not trusted.

    Raises: SerializationError for one that cannot be pickled at all, wherever it is.
    """
    from .pickling import pickled
    pickled(obj)
    return UntrustedPickleError(f'{named_type(obj)} would have to be pickled: register its type with vaults.register, '
                                f'or store plain data. Else: {error}')


class Refusing(_Building):
    """Neither reads nor writes pickles."""

    def dumps(self, obj: Any) -> bytes:
        raise UntrustedPickleError(f'{named_type(obj)} would have to be pickled, which allow_pickle=False forbids: '
                                   'register its type with vaults.register, or store plain data')

    def loads(self, data: bytes) -> Any:
        raise UntrustedPickleError('the value holds a pickle, which allow_pickle=False does not read: pass '
                                   'allow_pickle=True, or a list of its types, if you trust who wrote the file')


class Listed(_Building):
    """Reads and writes pickles that name no class or function but the listed types."""

    def __init__(self, types: Iterable[type]) -> None:
        self._types = {(cls.__module__, cls.__qualname__): cls for cls in types}

    def dumps(self, obj: Any) -> bytes:
        from .pickling import pickled
        data = pickled(obj)
        self.loads(data)  # what could not be read again is not written
        return data

    def loads(self, data: bytes) -> Any:
        from .pickling import unpickled_with
        return unpickled_with(self._find, data)

    def _find(self, module: str, name: str) -> type:
        try:
            return self._types[module, name]
        except KeyError:
            raise UntrustedPickleError(f'the value holds a pickle that names {module}.{name}, which is not in '
                                       'allow_pickle: add the type to the list if you trust it') from None


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
