"""A vault of today."""
from __future__ import annotations

from ... import keys
from ...codecs.codes import is_header
from ...collections.kind import kind_of
from ...collections.tree import Header
from ...errors import VaultError
from ...settings import recorded
from ...stores.base import entries_of
from ...stores.sqlite.sources import vault_at
from .. import as_json
from ..packed import Chunked, Packed, of_key
from . import Reader, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional

    from ...stores.base import Store
    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair


class StoredVault(Reader):
    name = 'vault'
    order = 0   # ours come first

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return head.is_vault

    def entries(self, source: Source) -> Iterator[Pair]:
        with vault_at(source.path) as store:
            if store is None:
                unknown(source.path, 'empty')
            serializer = recorded(store)
            for stored, data in entries_of(store.scan()):
                key = keys.decode(stored)
                yield key, self._as_stored(source, store, serializer, of_key(key), data)

    def _as_stored(self, source: Source, store: Store, serializer: Optional[str], where: str, data: bytes) -> Any:
        """Return a value that is still packed, or in chunks."""
        if not is_header(data):
            return Packed(where, data, serializer=serializer if as_json.is_serialized(data) else None)
        header = Header.of(data)
        kind = kind_of(header)

        def content() -> Iterator[Packed]:
            try:
                for items, count in kind.content(store, header):
                    yield Packed(where, b''.join(items), count, False, serializer if kind.is_packed else None)
            except VaultError as error:
                raise source.about(error, where) from error
        return Chunked(kind.name, kind.meta(header), content())
