"""As JSON: what a vault keeps as JSON and back, exactly: values and keys, and what is kept in chunks. Runs no pickle.

The forms of values and keys are those of codecs/forms.py. A value in chunks has one of its own, which says what it is
and how large, and its content follows in lines. docs/json.md has the whole table.
"""
from __future__ import annotations

from ..codecs.codes import SERIALIZED, code_of, is_header
from ..codecs.forms import as_base64, as_form, as_line, from_base64, from_key, from_packed, to_key, to_value
from ..collections.kind import kind_of, kind_of_form
from ..collections.tree import Header
from ..errors import SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple

    from ..collections.kind import Kind

__all__ = ['as_base64', 'as_line', 'bytes_of', 'from_chunk', 'from_items', 'from_key', 'from_value', 'is_serialized',
           'items_of', 'to_header', 'to_key', 'to_value']


def from_value(data: bytes, serializer: Optional[str] = None) -> Any:
    """Return the JSON form, an object that `json` can write, of a value that is packed in `data`.

    `serializer` is the name of the one that the vault has. Of a value in chunks, it is what comes before the content.

    Raises: VaultCorruptError.
    """
    if is_header(data):
        header = Header.of(data)
        return kind_of(header).to_json(header)
    return from_packed(data, serializer)


def from_chunk(kind: Kind, items: List[bytes], serializer: Optional[str] = None) -> Any:
    """Return the JSON form of some of the content of a value in chunks: packed items, or pieces of bytes."""
    if kind.is_packed:
        return {'items': [from_value(item, serializer) for item in items]}
    return {'bytes': as_base64(b''.join(items))}


def from_items(header: Header, items: List[bytes], serializer: Optional[str] = None) -> List[Any]:
    """Return the JSON forms of some items of a list or column, one each, for people to read."""
    kind = kind_of(header)
    if kind.is_packed:
        return [from_value(item, serializer) for item in items]
    return [as_form(item) for item in kind.listed(kind.meta(header), b''.join(items))]


def to_header(form: Any) -> Optional[Tuple[Kind, Any, int]]:
    """Return the kind, the type of a column, and the size, of a form that is followed by its content; else None.

    Raises: SerializationError when it is not as `from_value` makes it, TypeError for an unknown type of a column.
    """
    try:
        return kind_of_form(form)
    except ValueError:
        raise SerializationError(f'{as_line(form):.80} is not {{"!list": N}}, {{"!column": [TYPE, N]}}, '
                                 '{"!stream": N} or {"!kind": [NAME, META, N]}') from None


def items_of(form: Any) -> List[Any]:
    """Return the forms of a line that continues a list. Raises: SerializationError when it does not."""
    if not isinstance(form, dict) or list(form) != ['items'] or not isinstance(form['items'], list):
        raise SerializationError('{"items": [...]} is expected')
    return form['items']


def bytes_of(form: Any) -> bytes:
    """Return the bytes of a line that continues a column or stream. Raises: SerializationError when it does not."""
    if not isinstance(form, dict) or list(form) != ['bytes'] or not isinstance(form['bytes'], str):
        raise SerializationError('{"bytes": "..."} is expected')
    return from_base64(form['bytes'])


def is_serialized(data: bytes) -> bool:
    """Tell whether a packed value was made by a serializer."""
    return code_of(data) == SERIALIZED
