"""Failures: what an error of SQLite means, and what to do about it. Knows neither connections nor SQL.

The trap: an error's words are not meant for programs. They quote what is in the file, so that a damaged key may read as
a full disk does. And its code is not enough either: SQLITE_ERROR is everything that has no code of its own, and
SQLITE_BUSY is said of another's lock, which will go, and of a statement of one's own that is in progress, which waiting
does not end. So there is one table. A failure is known by its code and, where the code has several meanings, by words
as well; by words alone where nobody tells the code, as before Python 3.11, and of what the driver itself refuses.
"""
from __future__ import annotations

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
from .driver import code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Type


class Failure:
    """What can go wrong: how it is known, and the error of ours that it is.

    `code` is SQLite's result code, primary or extended, or None for what the driver says without asking SQLite.
    `vague` codes have several meanings: then the words decide.
    """

    __slots__ = ('code', 'cure', 'error', 'vague', 'words')

    def __init__(self, code: Optional[int], words: str, error: Type[VaultError], cure: str,
                 vague: bool = False) -> None:
        self.code, self.words, self.error, self.cure, self.vague = code, words, error, cure, vague

    def is_it(self, code: Optional[int], text: str) -> bool:
        """Tell whether an error with this extended code, None when it is not known, and these words is this failure."""
        if code is None:
            return self.words in text
        return self.code in (code, code & 0xFF) and (not self.vague or self.words in text)


FILE_DAMAGED = ('the file is damaged ({text}): {where}; run check(), and restore a backup, or `vaults recover` what '
                'can be read')
DISK = ('the disk is full, a file may not grow so far, or the disk fails ({text}): {where}; nothing of this call was '
        'kept, make room and repeat')
VALUE_TOO_LARGE = ('the value is larger than SQLite stores in one entry, 1 GB: {where}; write bytes and text with '
                   'open() or put_file(), numbers to a column(), other items to a list()')
OTHER = 'SQLite failed ({text}): {where}; nothing of this call was kept, run check()'

KEY_UNDECODED = Failure(None, 'decode to UTF-8', VaultCorruptError,
                        'a stored key is damaged: {where} ({text}); run check()')
MESSAGE_UNDECODED = Failure(None, 'codec', VaultCorruptError, FILE_DAMAGED)  # SQLite's message quotes damaged text
CLOSED = Failure(None, 'closed database', VaultClosedError,
                 'it was closed meanwhile: {where}; open it again')
LET_GO = Failure(None, 'has been closed', VaultClosedError, CLOSED.cure)  # the same, as another driver says it
BEYOND_INT = Failure(None, 'INT_MAX', SerializationError, VALUE_TOO_LARGE)
# What runs Python in the middle of a statement, as a collection of garbage does, may run a signal handler that uses the
# vault, and with it the cursor. Each driver has words of its own for that.
IN_USE = Failure(None, 'Recursive use of cursors', VaultError, OTHER)
RE_ENTERED = Failure(None, 're-entrantly', VaultError, OTHER)
UNANSWERED = Failure(None, 'not enough values to unpack', VaultError, OTHER)  # Python's: the row is gone
NO_SAVEPOINT = Failure(1, 'no such savepoint', VaultError, OTHER, vague=True)
NO_CHUNKS = Failure(1, 'no such table: parts', VaultError, OTHER, vague=True)
IN_PROGRESS = Failure(5, 'statements in progress', VaultError, OTHER, vague=True)
BUSY = Failure(5, 'database is locked', VaultBusyError,
               'another thread or process was writing for the whole timeout of {timeout} s: {where}; wait, make its '
               'transactions shorter, or open with a larger timeout')
LOCKED = Failure(6, 'is locked', VaultBusyError, BUSY.cure)  # by this very connection
READ_ONLY = Failure(8, 'readonly', VaultReadOnlyError,
                    "it can only be read: {where}; open it without flag='r', as a user who may write the file and its "
                    'folder')
# SQLITE_IOERR_FSYNC. Before Python 3.11 every error of the disk is said to be the same, and may be this worst one.
FAILED_SYNC = Failure(1034, 'disk I/O error', VaultFullError, DISK)
FAILED_DISK = Failure(10, 'disk I/O error', VaultFullError, DISK)
CORRUPT = Failure(11, 'malformed', VaultCorruptError, FILE_DAMAGED)
FULL = Failure(13, 'disk is full', VaultFullError,
               'the disk is full: {where}; nothing of this call was kept, make room and repeat')
NOT_OPENED = Failure(14, 'unable to open', VaultError,
                     'the file or one beside it cannot be opened ({text}): {where}; check that the folder exists and '
                     'that you may read and write it')
TOO_BIG = Failure(18, 'too big', SerializationError, VALUE_TOO_LARGE)
NO_DATABASE = Failure(26, 'not a database', VaultFormatError,
                      'the file is not a vault: {where}; give another name or path')
UNKNOWN = Failure(None, '', VaultError, OTHER)

# The first that it is. What quotes comes first, and FAILED_SYNC before what it is a case of.
FAILURES = (KEY_UNDECODED, MESSAGE_UNDECODED, CLOSED, LET_GO, BEYOND_INT, IN_USE, RE_ENTERED, UNANSWERED, NO_SAVEPOINT,
            NO_CHUNKS, IN_PROGRESS, BUSY, LOCKED, READ_ONLY, FAILED_SYNC, FAILED_DISK, CORRUPT, FULL, NOT_OPENED,
            TOO_BIG, NO_DATABASE)
WAITING = BUSY.code, LOCKED.code  # of a step of a backup: nothing was copied


def failure(error: BaseException) -> Failure:
    """Return what an error of the driver's means."""
    known, text = code(error), str(error)
    return next((one for one in FAILURES if one.is_it(known, text)), UNKNOWN)


def is_locked(error: BaseException) -> bool:
    """Tell whether another holds a lock: it can be tried again."""
    return failure(error) is BUSY


def is_in_use(error: BaseException) -> bool:
    """Tell whether the cursor is in the middle of a statement, or has another's rows: another cursor is not."""
    return failure(error) in (IN_USE, RE_ENTERED, UNANSWERED)


def is_too_big(error: BaseException) -> bool:
    """Tell whether the driver refuses 2 GB or more; other OverflowErrors are the caller's."""
    return isinstance(error, OverflowError) and failure(error) is BEYOND_INT


def is_failed_sync(error: BaseException) -> bool:
    """Tell whether an fsync failed, or may have."""
    return failure(error) is FAILED_SYNC


def lacks_chunks(error: BaseException) -> bool:
    """Tell whether the table of chunks is not there: no value in chunks was put yet."""
    return failure(error) is NO_CHUNKS


def lacks_savepoint(error: BaseException) -> bool:
    """Tell whether the savepoint was not begun yet, or just released."""
    return failure(error) is NO_SAVEPOINT
