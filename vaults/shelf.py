"""Shelf: shelve's interface over a vault, so that `import vaults as shelve` is the whole migration."""
from __future__ import annotations

import os

from ._typing import TYPE_CHECKING, K, Self, V
from .errors import VaultFormatError, VaultTypeError
from .opening import ExactPath
from .stores import scheme_of
from .stores.base import MEMORY
from .vault import Vault

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable, Optional, Type, Union

    from .opening import Flag

    Path = Union[str, bytes, os.PathLike[str], os.PathLike[bytes]]

SUFFIXES = ('.db', '.dat', '.dir', '.pag')  # what a dbm may add to the name that it is given


class Shelf(Vault[K, V]):
    """A vault that is opened and closed as a shelf of shelve is.

    It is a whole Vault besides. Each write is durable against a killed process on return (with `writeback`, each
    sync()), and `with` closes at the end; `with shelf.transaction():` is all or nothing. Safe in any thread, in any
    number of processes, and over forks.
    """

    __slots__ = ()

    def __init__(self, filename: Path, flag: Flag = 'c', protocol: Optional[int] = None, writeback: bool = False, *,
                 serializer: Any = None, deserializer: Optional[Callable[[bytes], Any]] = None,
                 **options: Any) -> None:
        """Open the file `filename`, exactly that, or make it; a str 'scheme://...' is what the engine of it makes.

        `flag`: 'c' to write and create, 'w' to write, 'r' to read, 'n' to begin with an empty one.
        `protocol` is there for shelve's sake, and is what a `serializer` gets: without one values are msgpack, and what
        must be pickled has protocol 4.
        `serializer`, `deserializer`: two functions in place of msgpack, as in shelve: of an object and the protocol the
        first makes bytes, of which the second makes the object. A `serializer` alone is what Vault takes.
        `writeback`: see Vault, as for the other `options`: timeout, synchronous, thread_safe, allow_pickle, cache_size,
        read_cache.

        Raises: VaultFormatError, which says how to move it, when there is a shelve or dbm file of that name; and
        whatever Vault raises.
        """
        if not isinstance(filename, (str, bytes, os.PathLike)):
            raise VaultTypeError(f'a Shelf stands on a file: give its path, not {type(filename).__name__}')
        path = os.fspath(filename)
        is_file = path != MEMORY and not (isinstance(filename, str) and scheme_of(filename))
        if flag != 'n' and is_file and not os.path.exists(path):
            _refuse_older(os.fsdecode(path))
        writeback = bool(writeback) if isinstance(writeback, int) else writeback  # shelve takes 1 as well
        super().__init__(ExactPath(path) if is_file else path, flag=flag,  # type: ignore[arg-type]
                         writeback=writeback, serializer=_as_serializer(serializer, deserializer, protocol),
                         **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """Close the shelf; what was written stays, as in shelve."""
        self.close()


def open(filename: Path, flag: Flag = 'c', protocol: Optional[int] = None, writeback: bool = False, *,
         serializer: Any = None, deserializer: Optional[Callable[[bytes], Any]] = None) -> Shelf[Any, Any]:
    """Open a shelf, as shelve.open does: a persistent dict in the file `filename`, which gets no suffix.

    A str 'scheme://...' is a vault of the engine of that scheme.

    Raises: VaultFormatError for a file of shelve or dbm, with the command that moves it.
    """
    return Shelf(filename, flag, protocol, writeback, serializer=serializer, deserializer=deserializer)


class _WithProtocol:
    """A function of an object and a protocol that makes bytes, as one of an object alone. Pickled if that can be."""

    def __init__(self, serializer: Callable[[Any, int], Any], protocol: int) -> None:
        self._serializer, self._protocol = serializer, protocol

    def __call__(self, obj: Any) -> Any:
        made = self._serializer(obj, self._protocol)
        if isinstance(made, str):  # which a dbm encodes
            return made.encode()
        return bytes(made) if isinstance(made, (bytearray, memoryview)) else made


def _as_serializer(serializer: Any, deserializer: Any, protocol: Optional[int]) -> Any:
    """Return the serializer for Vault that shelve's two functions are."""
    if deserializer is None and (not callable(serializer) or hasattr(serializer, 'dumps')):
        return serializer
    if not (callable(serializer) and callable(deserializer)):
        raise VaultTypeError('serializer and deserializer go together, two functions: serializer(obj, protocol) makes '
                             f'bytes and deserializer(bytes) the object, not {serializer!r} and {deserializer!r}')
    from pickle import DEFAULT_PROTOCOL
    adapted = _WithProtocol(serializer, DEFAULT_PROTOCOL if protocol is None else protocol)
    return 'shelve', adapted, deserializer  # one name for all: a function may be renamed, or have none


def _refuse_older(path: str) -> None:
    """Raise when a dbm has files of that name with a suffix: an empty shelf beside them would seem to have lost all."""
    if any(os.path.isfile(path + suffix) for suffix in SUFFIXES):
        from .moving.source import cure
        move = cure(path)
        if move:
            raise VaultFormatError(f'there is no vault at {path}, but an older file with a suffix{move}')
