"""Packed: what a reader yields for a value that is not loaded yet, and how errors name an entry. Knows no format."""
from __future__ import annotations

from ..codecs import packing
from ..collections.kind import named_kind
from ..errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional

    from .source import Source


def of_key(key: Any) -> str:
    """Return how an error names the entry of a key."""
    return f'key {shown(key):.200}'


class Packed:
    """Bytes on their way: a packed value, or of a value in chunks some packed items, or plain bytes."""

    __slots__ = ('count', 'data', 'pickled', 'serializer', 'where')

    def __init__(self, where: str, data: bytes, count: int = 1, pickled: bool = False,
                 serializer: Optional[str] = None) -> None:
        self.where, self.data, self.count = where, data, count  # where in the source it stands, for errors
        self.pickled, self.serializer = pickled, serializer     # is there a pickle in it, and who has made it

    def array(self) -> bytes:
        """Return the items as one packed list."""
        return packing.as_array(self.data, self.count)

    def loaded(self, source: Source) -> Any:
        """Return the value."""
        return source.unpacked(self.where, self.data)

    def items(self, source: Source) -> Any:
        """Return the items, in a list."""
        return source.unpacked(self.where, self.array())


class Chunked:
    """A value in chunks on its way: what it is, and its content, which is to be read once, before what follows.

    `kind` is the name of its kind, 'list', 'column' or 'stream' say, `meta` of a column the type of its items.
    """

    __slots__ = ('chunks', 'kind', 'meta')

    def __init__(self, kind: str, meta: Any, chunks: Iterator[Packed]) -> None:
        self.kind, self.meta, self.chunks = kind, meta, chunks

    def loaded(self, source: Source) -> Any:
        """Return a copy of it all: a list, bytes, or of a column what a slice would be."""
        kind = named_kind(self.kind)
        return kind.plain(self.meta, (chunk.items(source) if kind.is_packed else (chunk.data, chunk.count)
                                      for chunk in self.chunks))
