"""Sqlitedict: SQLite, tables (key TEXT, value BLOB), where a BLOB is a pickle and TEXT is JSON."""
from __future__ import annotations

from ..tables import TextTables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..source import Source
    from ..tables import Table


class SqliteDict(TextTables):
    name = 'sqlitedict'
    order = 31

    def fits(self, table: Table) -> bool:
        return table.has_text and table.types[1] == 'BLOB' and not table.filled[1]

    def value(self, source: Source, key: Any, data: Any) -> Any:
        return source.unpickled(key, data) if isinstance(data, bytes) else super().value(source, key, data)
