"""TinyDB: JSON, as TinyDB makes it: tables of numbered documents."""
from __future__ import annotations

import re

from ..packed import of_key
from ..texts import JsonText
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

FIRST_TABLE = re.compile(r'\{\s*"_default"\s*:\s*\{')  # the one that TinyDB makes first


class TinyDb(Reader):
    name = 'tinydb'
    order = 50
    options = ('table',)
    is_text = True

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return bool(FIRST_TABLE.match(head.text))

    def entries(self, source: Source) -> Iterator[Pair]:
        """Yield the documents of the table _default by their numbers, those of another by (table, number)."""
        with source.text('\n') as file:
            text = JsonText(source, file)
            found = False
            for table in text.names():
                wanted = source.table in (None, table)
                found |= wanted
                for name in text.names():
                    document = text.value(f'{of_key(name)}, ')
                    number = int(name) if re.fullmatch('[1-9][0-9]{0,17}', name) else name
                    if wanted:
                        yield number if source.table or table == '_default' else (table, number), document
            if text.peek():
                raise text.wrong('something follows')
            if source.table and not found:
                raise source.wrong(f'there is no table {source.table!r}', 'the end', 'pass the table=... that is meant')
