"""A dbm, of any module that Python has for them (gnu, ndbm, dumb, sqlite3), whose values stay bytes."""
from __future__ import annotations

from ...errors import VaultCorruptError
from ..dbms import dbm_at, dbm_rows, is_dbm
from ..packed import of_key
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair


class Dbm(Reader):
    name = 'dbm'
    order = 22  # behind shelve, whose values are pickles
    options = ('decode',)

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return is_dbm(head)

    def files(self, path: str) -> List[str]:
        return dbm_at(path)[2]

    def entries(self, source: Source) -> Iterator[Pair]:
        source.files = self.files(source.path)
        for stored, data in dbm_rows(source.path):
            key = source.key_text(stored)
            if not isinstance(data, bytes):
                raise source.wrong('the value is missing', of_key(key), 'restore it from a backup', VaultCorruptError)
            yield key, source.decoded(key, data, source.decode) if source.decode else self.value(source, key, data)

    def value(self, source: Source, key: Any, data: bytes) -> Any:
        """Return what the bytes of a value are."""
        return data
