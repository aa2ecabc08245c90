"""Opening: is a file a vault, or to become one, and how is it read and written? Knows neither keys nor values.

The trap: to look at a file can change it. SQLite deletes the log beside an empty file, undoes what another program has
left half done, and makes a database of what has no bytes. So what a file is, is decided by the main file alone and
without a lock, before the first connection that could write, and what is not a vault stays as it was.

The other trap is that many open, and make, one file at the same moment. What makes a file a vault is written in one
transaction, by a rollback journal, so that it is in the main file or nowhere; and who meets another's lock tries again.
"""
from __future__ import annotations

import os

from ... import log
from ...errors import VaultCorruptError, VaultError, VaultFormatError, VaultNotFoundError, VaultReadOnlyError
from ..base import MEMORY
from . import JOURNAL_FILE, WAL_FILE, driver, guard, side_files
from .connection import File
from .fork import all_open, open_stores
from .schema import (
    APPLICATION_ID,
    BEGIN,
    COMMIT,
    CREATE,
    CREATE_MARKER,
    FORMAT,
    KNOWN,
    NO_BUSY_HANDLER,
    PAGE_SIZE,
    ROLLBACK,
    SCHEMA,
    normalized,
)
from .store import SQLiteStore
from .waiting import patiently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Tuple, Type

    from .connection import Connection

OLDEST_SQLITE = (3, 35, 0)  # the first with RETURNING

# What `inspect` finds at a path. Words, because an Enum would take longer to import than a vault to open.
NEW = 'new'                 # nothing, or an empty file: a vault may be made of it
VAULT = 'vault'
UNFINISHED = 'unfinished'   # its first transaction has not ended: somebody is making it, or was killed in doing so


def open_store(path: str, flag: str = 'c', timeout: float = 5.0, synchronous: str = 'NORMAL',
               thread_safe: bool = False) -> SQLiteStore:
    """Open the file at `path` as `flag` says: 'r' to read, 'w' an existing one, 'c' or a new one, 'n' emptied.

    `timeout` is in seconds; `synchronous` is SQLite's word. Any number of threads and processes may open, and create,
    one file at the same moment.

    Raises: VaultNotFoundError, VaultFormatError, VaultReadOnlyError, VaultBusyError, VaultError.
    """
    file = File(path, flag, timeout, synchronous)
    if file.driver.VERSION_INFO < OLDEST_SQLITE:
        raise VaultError(f'vaults needs SQLite 3.35 or newer, {file.driver.NAME} has {file.driver.VERSION}: '
                         'use a newer Python, or one linked to a newer SQLite')
    if path == MEMORY:
        store = _store_class(path, thread_safe)(file)
        _create(store.local.c, file)
        file.journal = 'memory'
    else:
        try:
            store = _opened(_store_class(path, thread_safe), file)
        except driver.error_or(UnicodeError) as error:  # SQLite quotes damaged text in its message
            raise file.explain(error) from error
    open_stores.add(store)
    return store


def _store_class(path: str, thread_safe: bool) -> Type[SQLiteStore]:
    if path != MEMORY and not thread_safe:
        return SQLiteStore
    from .locking import MemoryStore, QueuedStore  # here: most vaults need no locks of this process
    return MemoryStore if path == MEMORY else QueuedStore


# --- what a file is ---

def is_new(file: File) -> bool:
    """Tell whether the file is to be made a vault, once nobody else is making it one."""
    found = inspect(file)
    if found == UNFINISHED:
        return bool(patiently(lambda: _undone(file), file.timeout)) or inspect(file) == NEW
    return found == NEW


def inspect(file: File) -> str:
    """Return NEW, VAULT or UNFINISHED; raise when the file is missing, something else, or must not be opened so.

    Looks at the main file alone and without a lock, so that a foreign file and its log stay untouched: `immutable`
    hides what is in the log, but what makes a file a vault is never only there.
    """
    if not os.path.exists(file.path):
        _require_place(file)
        return NEW
    _require_regular(file.path)
    _require_writable(file)
    if not os.path.getsize(file.path):
        if file.flag != 'n':
            _require_no_log(file)
        return NEW
    try:
        marks = _marks(file)
    except driver.Error:
        if not _is_unfinished(file.path):
            raise
        return UNFINISHED
    _require_marks(file.path, *marks)
    return UNFINISHED if _is_unfinished(file.path) else VAULT


def _require_place(file: File) -> None:
    """Raise unless a vault may be made where there is none."""
    if file.flag in 'rw':
        raise VaultNotFoundError(f'there is no vault at {file.path}: check the name and where vaults are kept, or '
                                 'let it be created')
    folder = os.path.dirname(file.path)
    if not os.path.isdir(folder):
        raise VaultNotFoundError(f'there is no folder {folder} to make a vault in: make it first')


def _require_regular(path: str) -> None:
    if not os.path.isfile(path):
        kind = 'a folder' if os.path.isdir(path) else 'a pipe or the like'
        raise VaultFormatError(f'{path} is {kind}: a vault is a regular file')


def _require_writable(file: File) -> None:
    """Raise unless who opens it to write may write the file, and its folder, where SQLite makes its log."""
    if file.flag != 'r' and not (os.access(file.path, os.W_OK) and os.access(os.path.dirname(file.path), os.W_OK)):
        raise VaultReadOnlyError(f"you may not write {file.path}, or not its folder: open it with flag='r' to read it")


def _require_no_log(file: File) -> None:
    """Raise when an empty file has a log: it was cut off, and SQLite would delete the log as that of an older file."""
    log_path, = side_files(file.path, (WAL_FILE,))
    has_log = os.path.exists(log_path) and os.path.getsize(log_path)
    if has_log and not os.path.getsize(file.path):  # asked again: somebody may just have made the vault
        raise VaultCorruptError(f'the file is empty but its log is not: {file.path}; restore a backup, or `vaults '
                                'recover` what can be read')


def _require_marks(path: str, application: int, version: int) -> None:
    """Raise unless the file is marked as a vault, and as one of this format."""
    if application != APPLICATION_ID:
        raise VaultFormatError(f'the file is not a vault but some other SQLite database: {path}; it was left as '
                               'it was, give another name or path')
    if version != FORMAT:
        raise VaultFormatError(f'the vault at {path} has format {version}, this version reads {FORMAT}: '
                               'install a newer vaults')


def _marks(file: File) -> Tuple[int, int]:
    """Return the application_id and the user_version."""
    raw = file.connect('immutable=1&mode=ro')
    try:
        raw.execute('PRAGMA writable_schema = ON')  # or a file that a checkpoint is just extending counts as damaged
        (application,), = raw.execute('PRAGMA application_id').fetchall()
        (version,), = raw.execute('PRAGMA user_version').fetchall()
        return application, version
    finally:
        raw.close()


def _is_unfinished(path: str) -> bool:
    """Tell whether there is the journal of a file's first transaction, beside which the file holds anything.

    The journal says how many pages the file had (https://www.sqlite.org/fileformat.html#the_rollback_journal).
    """
    journal_path, = side_files(path, (JOURNAL_FILE,))
    try:
        with open(journal_path, 'rb') as journal:  # SQLite has no lock on it that closing could drop
            return journal.read(20)[16:] == bytes(4)
    except OSError:
        return False


def _undone(file: File) -> bool:
    """Have SQLite wait for who is making the file, or undo what a power cut has left; tell whether it is empty then."""
    raw = file.connect()
    try:
        return bool(raw.execute('PRAGMA page_count').fetchall() == [(0,)])
    finally:
        raw.close()


# --- stores ---

def _opened(kind: Type[SQLiteStore], file: File) -> SQLiteStore:
    new = is_new(file)
    if file.flag == 'r':
        return _opened_to_read(kind, file, new)
    return _opened_new(kind, file) if new else _opened_existing(kind, file)



def _opened_to_read(kind: Type[SQLiteStore], file: File, new: bool) -> SQLiteStore:
    """Return the store of a file that nothing is written to. Of one that cannot be written, no other file is made."""
    if new:
        raise VaultFormatError(f"the file is empty, not a vault: {file.path}; open it without flag='r' first")
    from .snapshot import reading
    file.journal = reading(file)
    if file.journal is None:
        return _opened_existing(kind, file)
    store = kind(file)
    patiently(lambda: require_schema(store.local.c, file), file.timeout)
    return store


def _opened_new(kind: Type[SQLiteStore], file: File) -> SQLiteStore:
    """Return the store of a file that is made a vault, by this process or by another one at the same moment."""
    store = kind(file)
    c = store.local.c
    c.execute(NO_BUSY_HANDLER)
    patiently(lambda: _create(c, file), file.timeout)
    return _prepared(store)


def _opened_existing(kind: Type[SQLiteStore], file: File) -> SQLiteStore:
    store = kind(file)
    store.local.c.execute(NO_BUSY_HANDLER)
    return _prepared(store)


def _prepared(store: SQLiteStore) -> SQLiteStore:
    """Return the store once its tables are sound, its journal is chosen, and its file guarded, and emptied for 'n'."""
    c, file = store.local.c, store.file
    patiently(lambda: require_schema(c, file), file.timeout)
    file.journal = patiently(lambda: _choose_journal(c, file), file.timeout)
    if file.journal != 'wal':
        c.execute(f'PRAGMA busy_timeout = {int(file.timeout * 1000)}')
    file.mode = 'mode=rw'  # a connection made later must not make a file anew
    file.identity = file.stat()
    if file.journal == 'wal' and not c.guard:
        c.shield(file)
    if file.flag == 'n':
        store.delete_range()
    store.expect_large(c)
    return store


def is_open_here(path: str) -> bool:
    """Tell whether this process has the file open: then nothing here may open and close it (guard.py says why)."""
    status = os.stat(path)
    identity = status.st_dev, status.st_ino
    return guard.is_on(identity) or any(store.file.identity == identity and store.file.journal != 'immutable'
                                            for store in all_open())


def _create(c: Connection, file: File) -> None:
    """Make an empty file a vault, in a rollback journal: what marks it must be in the main file from the start."""
    c.execute(PAGE_SIZE)
    c.execute(BEGIN)
    try:
        if c.execute('PRAGMA application_id').fetchall() != [(APPLICATION_ID,)]:
            c.execute(f'PRAGMA application_id = {APPLICATION_ID}')
            c.execute(f'PRAGMA user_version = {FORMAT}')
            c.execute(CREATE)
            c.execute(CREATE_MARKER)
        c.execute(COMMIT)
    except BaseException:
        if c.raw.in_transaction:
            c.execute(ROLLBACK)
        raise


def require_schema(c: Any, file: File) -> None:
    """Raise when the tables are not those of a vault, or something else in the file reaches into them."""
    found = [normalized(str(sql)) for sql, in c.execute(SCHEMA).fetchall()]
    if not KNOWN.issuperset(found):
        raise VaultFormatError(f"something in the file reaches into the vault's tables, and is not of a vault "
                               f'({next(sql for sql in found if sql not in KNOWN):.200}): {file.path}; drop it with '
                               'the program that made it, or use another file')
    if normalized(CREATE) not in found:
        raise VaultCorruptError(f'the table of entries is missing: vault {file.path}; restore a backup, or `vaults '
                                'recover` what can be read')


def _choose_journal(c: Connection, file: File) -> str:
    """Use a write-ahead log where there can be one: it lets readers read while a writer writes."""
    if file.flag == 'r':
        return str(c.execute('PRAGMA journal_mode').fetchall()[0][0])
    mode = c.execute('PRAGMA journal_mode = WAL').fetchall()[0][0]
    if mode == 'wal':
        return 'wal'
    log.get_logger().warning('no write-ahead log is possible for %s: using a rollback journal, where readers and '
                             'writers wait for each other', file.path)
    # Without a write-ahead log NORMAL is not safe in a power cut. A commit is the end of its journal: FULL does not
    # sync the folder, so that the newest journal can come back, undo its commit, and miss pages that VACUUM has since
    # cut off. EXTRA does.
    file.synchronous = 'PRAGMA synchronous = EXTRA'
    c.execute(file.synchronous)
    return str(mode)
