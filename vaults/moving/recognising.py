"""Recognising: which reader claims what is at a path. Knows bytes, texts and tables, and no format.

Nothing of it runs, and nothing is left beside it.
"""
from __future__ import annotations

import os
from itertools import chain

from ..errors import VaultNotFoundError
from ..stores.sqlite.sources import is_vault, one_state
from .dbms import SQLITE, dbm_at, first_bytes
from .readers import all_readers, unknown
from .tables import tables_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Tuple

    from .readers import Reader
    from .tables import Table

HEAD = 1 << 16   # bytes that tell what a text is


class FirstBytes(bytes):
    """The first bytes of what is at a path, b'' of a folder, and what else can be seen of it. For one look at it."""

    path: str
    charset: str                # of texts
    key: Optional[str]          # the field or column that is to hold the keys, if the caller has said which
    dbm: str                    # the module of the dbm that is there, or ''; SQLite's for any database
    _database: Optional[Tuple[bool, Dict[str, Table]]] = None

    @classmethod
    def of(cls, path: str, charset: str, key: Optional[str]) -> FirstBytes:
        """Return those of what is there. Raises: VaultNotFoundError, VaultFormatError for neither file nor folder."""
        dbm = '' if os.path.isdir(path) else dbm_at(path)[0]
        if not dbm:
            require_present(path)
        head = cls(first_bytes(path, HEAD))
        head.path, head.charset, head.key, head.dbm = path, charset, key, dbm
        return head

    @property
    def is_text(self) -> bool:
        """Is it a file, and no dbm or database?"""
        return not self.dbm and not os.path.isdir(self.path)

    @property
    def text(self) -> str:
        """Its beginning as text, without blanks in front; '' of what is none."""
        return self.decode(self.charset, 'replace').lstrip('\ufeff \t\r\n') if self.is_text else ''

    @property
    def is_vault(self) -> bool:
        """Is it a database that says that it is a vault?"""
        return self.startswith(SQLITE) and self._seen()[0]

    @property
    def tables(self) -> Dict[str, Table]:
        """The tables of a database, by their names."""
        return self._seen()[1] if self.startswith(SQLITE) else {}

    def _seen(self) -> Tuple[bool, Dict[str, Table]]:
        if self._database is None:
            with one_state(self.path) as raw:
                self._database = is_vault(raw), tables_of(raw)
        return self._database

    def described(self) -> str:
        """Return what it is, when no reader claims it."""
        if os.path.isdir(self.path):
            folders = [reader for reader in all_readers().values() if reader.folder]
            return 'a folder ' + ', and '.join(f'without {reader.folder}, so no {reader.name}' for reader in folders)
        if self.startswith(SQLITE):
            return 'an SQLite database without a table of any of them'
        if self.text.startswith('['):
            return 'a JSON list without objects, or another text in brackets'
        return 'a file of another sort' if self.text else 'empty'


def recognised(path: str, charset: str, key: Optional[str]) -> Reader:
    """Return the reader that claims what is there; of a text, its suffix decides before its content.

    Raises: VaultNotFoundError, VaultFormatError when there is none.
    """
    head, readers = FirstBytes.of(path, charset, key), all_readers().values()
    suffix = os.path.splitext(path)[1].lower()
    by_suffix = (reader for reader in readers if suffix in reader.suffixes and head.is_text)
    by_content = (reader for reader in readers if reader.recognise(head, path))
    return next(chain(by_suffix, by_content), None) or unknown(path, head.described())


def require_present(path: str) -> None:
    """Raise when there is neither a file nor a folder."""
    if not os.path.lexists(path):
        raise VaultNotFoundError(f'there is nothing at {path}, nor a dbm of that name: check the path')
    if not os.path.isfile(path) and not os.path.isdir(path):
        unknown(path, 'neither file nor folder; to read from a pipe, pass an open text file')
