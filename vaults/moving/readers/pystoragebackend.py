"""PyStorageBackend: SQLite, a table hiddil(uid, dkey, data), whose data are bytes."""
from __future__ import annotations

from ...stores.sqlite.sources import one_state
from ..tables import require_table
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

DOCUMENTS = 'SELECT uid, dkey, data FROM hiddil ORDER BY rowid'


class PyStorageBackend(Reader):
    name = 'pystoragebackend'
    order = 41
    options = ('decode',)

    def recognise(self, head: FirstBytes, path: str) -> bool:
        table = head.tables.get('hiddil')
        return table is not None and table.columns == ['uid', 'dkey', 'data'] and not table.is_computed

    def entries(self, source: Source) -> Iterator[Pair]:
        """Yield the data of documents with keys (uid, key)."""
        with one_state(source.path) as raw:
            require_table(source.path, raw, 'hiddil')
            for uid, name, data in raw.execute(DOCUMENTS):
                yield (uid, name), source.decoded((uid, name), data, source.decode) if source.decode else data
