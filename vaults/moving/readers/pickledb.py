"""PickleDB: SQLite, a table (key TEXT, value BLOB NOT NULL), as version 1 makes it, whose values are JSON."""
from __future__ import annotations

from ..tables import TextTables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..tables import Table


class PickleDb(TextTables):
    name = 'pickledb'
    order = 32

    def fits(self, table: Table) -> bool:
        return table.has_text and table.types[1] == 'BLOB' and table.filled[1]
