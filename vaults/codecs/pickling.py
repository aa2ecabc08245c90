"""Pickling: objects to pickles and back, and the proof that they come back. Imported when a pickle is met.

Knows no rule: who calls has seen to it that pickles may be read and written.
"""
from __future__ import annotations

import pickle
from io import BytesIO
from weakref import WeakSet

from ..errors import SerializationError, VaultError
from .registry import named_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

PROTOCOL = 4  # the newest that every reader from Python 3.4 on knows


def pickled(obj: Any) -> bytes:
    """Return the pickle of an object. Raises: SerializationError."""
    try:
        return pickle.dumps(obj, PROTOCOL)
    except Exception as error:
        raise SerializationError(f'{named_type(obj)} cannot be stored, because it cannot be pickled ({error}): '
                                 'register its type with vaults.register, or store plain data') from error


# Classes of which an object came back from its pickle. Whether it does is decided by the class, but for exceptions,
# whose arguments decide as well. To load every pickle would take half as long again, and run more code of the user's.
proven: WeakSet[type] = WeakSet()
PROVEN_SIZE = 1 << 20  # bytes of a pickle; a larger one would take too long, and too much memory, to look at


def prove(obj: Any, data: bytes) -> None:
    """Load the pickle of an exception, and of the first object of any class. Raises: SerializationError."""
    kind = type(obj)
    if len(data) > PROVEN_SIZE or (kind in proven and not isinstance(obj, BaseException)):
        return
    try:
        pickle.loads(data)
    except Exception as error:
        raise SerializationError(f'{named_type(obj)} cannot be stored, because its pickle cannot be loaded '
                                 f'({error!r}): give the class a __reduce__ that calls it as its __init__ wants, '
                                 'register it with vaults.register, or store plain data') from error
    if kind not in (list, dict):  # which hold themselves, and anything else
        proven.add(kind)


def unpickled(data: bytes) -> Any:
    """Return the object of a pickle, which may run anybody's code. Raises: SerializationError."""
    return _unpickling(lambda: pickle.loads(data))


def unpickled_with(find_class: Callable[[str, str], type], data: bytes) -> Any:
    """Return the object of a pickle for which `find_class(module, name)` finds the classes, or raises.

    Raises: SerializationError, and any VaultError of find_class.
    """
    unpickler = _Unpickler(BytesIO(data))
    unpickler.find = find_class
    return _unpickling(unpickler.load)


class _Unpickler(pickle.Unpickler):
    """Asks somebody else for the classes that a pickle names. For one pickle."""

    find: Callable[[str, str], type]

    def find_class(self, module: str, name: str) -> type:
        return self.find(module, name)


def _unpickling(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except VaultError:
        raise
    except Exception as error:
        raise SerializationError(f'the value holds a pickle that cannot be loaded here ({error!r}): is its class '
                                 'where it was, and importable? An entry need not be read to be deleted') from error
