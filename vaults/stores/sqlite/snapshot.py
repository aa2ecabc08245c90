"""Snapshot: a vault in a folder that cannot be written, read without leaving a file behind.

SQLite reads such a file only as `immutable`, without a lock and without looking whether somebody writes it after all:
then what it answers is pages of two states, or an error of a damaged file. So the file's stamp is compared before and
after each statement, and where it has changed, the file is opened anew.
"""
from __future__ import annotations

import os

from . import WAL_FILE, side_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, List, Optional, Tuple

    from ...files import Stamp
    from .connection import File


def reading(file: File) -> Optional[str]:
    """Decide how to read without leaving a file behind.

    Where the folder can be written, as any other, and SQLite tidies up. Where it cannot and there is no log, nobody has
    the vault open, and the file alone is the vault: `immutable`, as long as it does not change. With a log there is a
    writer, whose shared memory can be read along.
    """
    if os.access(os.path.dirname(file.path), os.W_OK) and os.access(file.path, os.W_OK):
        return None
    file.mode = 'mode=ro'
    return 'immutable'


def _stamp(path: str) -> Tuple[Stamp, bool]:
    """Return what changes when the file does, or when it has a log or has none any more."""
    from ...files import stamp  # here: most vaults never need it
    return stamp(path), os.path.exists(*side_files(path, (WAL_FILE,)))


class _Rows(list):  # type: ignore[type-arg]  # rows already fetched, in a cursor's clothes
    def fetchall(self) -> List[Any]:
        return self


class Snapshot:
    """In place of a connection to a file in a folder that cannot be written: sees to it, before and after each
    statement, that the file is still what was opened, which `immutable` does not."""

    total_changes = 0

    def __init__(self, file: File) -> None:
        self._file = file
        self._open()

    def statements(self) -> Snapshot:
        return self

    def _open(self) -> None:
        self._stamp = _, has_log = _stamp(self._file.path)
        self._raw = self._file.connect('mode=ro' if has_log else 'immutable=1&mode=ro')
        self._raw.execute('PRAGMA query_only = ON')
        self.close = self._raw.close

    @property
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    def changed(self, sql: str, arguments: Tuple[Any, ...] = ()) -> int:
        return self._raw.changed(sql, arguments)  # which only says that nothing can be written

    def many(self, sql: str, rows: Iterable[Any]) -> None:
        self._raw.many(sql, rows)  # as above

    def execute(self, sql: str, arguments: Tuple[Any, ...] = ()) -> _Rows:
        while True:
            if not self._raw.in_transaction and _stamp(self._file.path) != self._stamp:
                self.close()
                self._open()
            inside = self._raw.in_transaction  # what ends a block ends it once
            rows = _Rows(self._raw.execute(sql, arguments).fetchall())
            if inside or self._raw.in_transaction or _stamp(self._file.path) == self._stamp:
                return rows
