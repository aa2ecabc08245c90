"""An earlier vault: SQLite, table dict(key BLOB, value BLOB): each a byte M and msgpack, or P and a pickle."""
from __future__ import annotations

from msgpack import unpackb

from ...stores.sqlite.sources import one_state
from ..packed import of_key
from ..tables import require_table, rows_of
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair


class EarlierVault(Reader):
    name = 'earlier vault'
    order = 20
    cure = 'restore it from a backup'

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return any(table.name == 'dict' and table.has_pairs and not table.has_text and not table.has_bytes
                   for table in head.tables.values())

    def entries(self, source: Source) -> Iterator[Pair]:
        with one_state(source.path) as raw:
            require_table(source.path, raw, 'dict')
            for stored, data in rows_of(raw, 'dict'):
                key = self._object(source, stored, stored, use_list=False)
                yield key, self._object(source, key, data, use_list=True)

    def _object(self, source: Source, key: Any, data: Any, use_list: bool) -> Any:
        mark = data[:1] if isinstance(data, bytes) else b''
        if mark == b'P':
            return source.unpickled(key, data[1:])
        if mark != b'M':
            raise source.wrong('it begins with neither M nor P', of_key(key), self.cure)
        return source.decoded(key, data[1:], lambda packed: unpackb(packed, use_list=use_list, strict_map_key=False))
