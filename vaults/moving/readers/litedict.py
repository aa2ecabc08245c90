"""Litedict: SQLite, a table (key TEXT, value) whose values are JSON."""
from __future__ import annotations

from ..tables import TextTables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..tables import Table


class LiteDict(TextTables):
    name = 'litedict'
    order = 33

    def fits(self, table: Table) -> bool:
        return table.has_text and table.types[1] == ''
