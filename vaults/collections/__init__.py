"""Collections: values that grow, each kind a room of this folder, and the tree of chunks under them.

What the rest of the house knows of them is here: whether bytes are a value or what is kept in chunks, and what a live
object is, is asked of this room alone.
"""
from __future__ import annotations

from ..codecs.codes import is_header
from ..errors import VaultError
from .kind import Kind, SequenceKind, kind_of, register_kind, title_of
from .tree import Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Type, TypeVar

    from ..keys import Stored
    from ..place import Place

    T = TypeVar('T')

__all__ = ['Kind', 'SequenceKind', 'assign', 'described', 'kind_of', 'live', 'load', 'register_kind', 'title_of']


def load(place: Place, stored: Stored, data: bytes, *default: Any) -> Any:
    """Return what an entry's bytes are: the value, or of what is kept in chunks the live object or a stream's bytes.

    A stream that was deleted meanwhile is the default.

    Raises: KeyError for that one without a default, VaultError.
    """
    if not is_header(data):
        return place.load(stored, data)
    key = place.keys.decode(stored)
    try:
        header = Header.of(data)
        return kind_of(header).open(place, key, header)
    except KeyError:
        if not default:
            raise
        return default[0]
    except VaultError as error:
        raise place.about(error, key) from error


def described(data: bytes) -> str:
    """Return what is kept in chunks, and how much of it, in words for people. Raises: VaultCorruptError."""
    header = Header.of(data)
    return kind_of(header).describe(header, ',')


def live(place: Place, cls: Type[T], key: Any, options: Mapping[str, Any]) -> T:
    """Return the live object of a class at the key, made if there is nothing.

    Raises: TypeError when there is something else, or when the class or the options are wrong.
    """
    kind = getattr(cls, 'kind', None)
    if not isinstance(kind, Kind) or kind.cls is not cls:
        raise TypeError(f'live() takes a class of live objects, as vaults.List, or one that was given to '
                        f'vaults.collections.register_kind, not {cls!r}')
    found: T = kind.at(place, key, **options)
    return found


def assign(place: Place, key: Any, value: Any) -> None:
    """Make the entry a copy of a live object; what is the entry's own stays as it is."""
    value.kind.assign(value, place, key)
