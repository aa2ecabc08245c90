"""A shelve: a dbm of any module whose values are pickles."""
from __future__ import annotations

from ..dbms import is_dbm, is_shelve
from .dbm import Dbm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..recognising import FirstBytes
    from ..source import Source


class Shelve(Dbm):
    name = 'shelve'
    order = 21
    cure = "pass kind='dbm' to read the values as bytes, or decode=..."

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return is_dbm(head) and is_shelve(path, head.dbm)

    def value(self, source: Source, key: Any, data: bytes) -> Any:
        return source.unpickled(key, data)
