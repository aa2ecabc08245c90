"""Tables: databases of SQLite that others have made, a table at a time. Knows no vault, and no format."""
from __future__ import annotations

import json

from ..errors import VaultFormatError
from ..stores.sqlite.sources import one_state
from .readers import Reader, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Tuple

    from ..stores.sqlite.driver import RawConnection
    from .readers import Pair
    from .recognising import FirstBytes
    from .source import Source

TABLE_NAMES = """SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'
 ORDER BY rowid"""  # a virtual one may need a module that is not here
TABLE_COLUMNS = 'SELECT name, upper(type), "notnull", hidden FROM pragma_table_xinfo(?)'
OF_NAME = 'SELECT type FROM sqlite_master WHERE lower(name) = lower(?)'
PAIRS = 'SELECT key, value FROM {} ORDER BY rowid'


class Table:
    """A table of somebody's database: the names of its columns, their types, and which are never NULL. A value."""

    __slots__ = ('columns', 'filled', 'has_pairs', 'is_computed', 'name', 'types')

    def __init__(self, name: str, columns: List[Tuple[str, str, int, int]]) -> None:
        self.name = name
        self.columns, self.types = [column[0] for column in columns], [column[1] for column in columns]
        self.filled = [bool(column[2]) for column in columns]
        self.is_computed = any(column[3] for column in columns)  # some column is: then it is a program
        self.has_pairs = self.columns == ['key', 'value'] and not self.is_computed

    @property
    def has_text(self) -> bool:
        """Has it keys of text, and values as a BLOB or of no type?"""
        return self.has_pairs and self.types in (['TEXT', 'BLOB'], ['TEXT', ''])

    @property
    def has_bytes(self) -> bool:
        """Has it keys and values of bytes, none of them NULL?"""
        return self.has_pairs and self.types == ['BLOB', 'BLOB'] and all(self.filled)


def tables_of(raw: RawConnection) -> Dict[str, Table]:
    """Return the tables of a database by their names, in their order."""
    names = [name for name, in raw.execute(TABLE_NAMES).fetchall()]
    return {name: Table(name, raw.execute(TABLE_COLUMNS, (name,)).fetchall()) for name in names}


def require_table(path: str, raw: RawConnection, table: str) -> None:
    """Raise when there is a view in place of the table, or a column is computed: these are programs."""
    kinds = {kind for kind, in raw.execute(OF_NAME, (table,)).fetchall()}
    if 'view' in kinds or Table(table, raw.execute(TABLE_COLUMNS, (table,)).fetchall()).is_computed:
        unknown(path, f'an SQLite database whose table {table} is computed')


def rows_of(raw: RawConnection, table: str) -> Iterator[Pair]:
    """Yield what stands in the columns key and value."""
    yield from raw.execute(PAIRS.format(quoted(table)))


def quoted(name: str) -> str:
    """Return a name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


class TextTables(Reader):
    """Formats that are tables with keys of text. Of several, the keys are (table, key)."""

    options = ('table', 'decode')

    def fits(self, table: Table) -> bool:
        """Tell whether a table is of the format."""
        raise NotImplementedError

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return any(map(self.fits, head.tables.values()))

    def entries(self, source: Source) -> Iterator[Pair]:
        with one_state(source.path) as raw:
            names = [name for name, table in tables_of(raw).items() if table.has_text]
            wanted = [name for name in names if source.table in (None, name)]
            if not wanted:
                raise VaultFormatError(f'{source.path} has no table {source.table or "(key TEXT, value BLOB)"!r}; of '
                                       f'that kind are {names}')
            for name in wanted:
                for stored, data in rows_of(raw, name):
                    key = stored if len(wanted) == 1 else (name, stored)
                    yield key, source.decoded(key, data, source.decode) if source.decode else self.value(
                        source, key, data)

    def value(self, source: Source, key: Any, data: Any) -> Any:
        """Return the object that stands in a table: text and bytes are JSON."""
        return source.decoded(key, data, json.loads) if isinstance(data, (bytes, str)) else data
