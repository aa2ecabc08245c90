"""Failures: what an error of SQLite means, and what to do about it. Knows neither connections nor SQL."""
from __future__ import annotations

import sqlite3

from ...errors import (
    SerializationError,
    VaultBusyError,
    VaultClosedError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultFullError,
    VaultReadOnlyError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Tuple, Type

WAITING = 5, 6          # SQLITE_BUSY and SQLITE_LOCKED, which sqlite3 names from Python 3.11 on
TOO_BIG = ('the value is larger than SQLite stores in one entry, 1 GB: {where}; write bytes and text with open() or '
           'put_file(), numbers to a column(), other items to a list()')
MEANINGS: Tuple[Tuple[str, Type[VaultError], str], ...] = (
    ('locked', VaultBusyError, 'another thread or process was writing for the whole timeout of {timeout} s: {where}; '
                               'wait, make its transactions shorter, or open with a larger timeout'),
    ('readonly', VaultReadOnlyError, "it can only be read: {where}; open it without flag='r', as a user who may write "
                                     'the file and its folder'),
    ('disk is full', VaultFullError, 'the disk is full: {where}; nothing of this call was kept, make room and repeat'),
    ('disk I/O error', VaultFullError, 'the disk is full, a file may not grow so far, or the disk fails '
                                       '({text}): {where}; nothing of this call was kept, make room and repeat'),
    ('malformed', VaultCorruptError, 'the file is damaged ({text}): {where}; run check(), and restore a '
                                       'backup, or `vaults recover` what can be read'),
    ('codec', VaultCorruptError, 'the file is damaged ({text}): {where}; run check(), and restore a '
                                       'backup, or `vaults recover` what can be read'),
    ('decode to UTF-8', VaultCorruptError, 'a stored key is damaged: {where} ({text}); run check()'),
    ('not a database', VaultFormatError, 'the file is not a vault: {where}; give another name or path'),
    ('unable to open', VaultError, 'the file or one beside it cannot be opened ({text}): {where}; check that the '
                                   'folder exists and that you may read and write it'),
    ('closed database', VaultClosedError, 'it was closed meanwhile: {where}; open it again'),
    ('too big', SerializationError, TOO_BIG),
    ('INT_MAX', SerializationError, TOO_BIG),
)


def is_too_big(error: BaseException) -> bool:
    """Tell whether SQLite's module refuses 2 GB or more; other OverflowErrors are the caller's."""
    return isinstance(error, OverflowError) and 'INT_MAX' in str(error)


def is_locked(error: BaseException) -> bool:
    return 'database is locked' in str(error)


def is_failed_sync(error: BaseException) -> bool:
    """Tell whether an fsync failed, or may have: before Python 3.11 every error of the disk is said to be the same."""
    return ('disk I/O error' in str(error)
            and getattr(error, 'sqlite_errorname', 'SQLITE_IOERR_FSYNC') == 'SQLITE_IOERR_FSYNC')


def lacks_parts(error: sqlite3.Error) -> bool:
    return 'no such table: parts' in str(error)
