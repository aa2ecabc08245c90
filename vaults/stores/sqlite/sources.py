"""Sources: an SQLite file, a vault or another, that is read and stays as it is. Knows neither tables nor values.

The trap: SQLite writes where it is to read. In WAL mode it makes a log and shared memory beside the file, writes what a
killed process has left in a log into the file, and deletes the log. To keep it from all that, a file can be declared
`immutable`: that hides the commits in its log, and gives pages of two states where somebody writes after all.
"""
from __future__ import annotations

import os
import shutil
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory

from ...errors import VaultBusyError, VaultError
from ...files import stamps
from . import LOGS, SHARED_FILE, WAL_FILE, driver, side_files
from .connection import File, connected
from .failures import is_locked
from .opening import is_new, require_schema
from .schema import APPLICATION_ID
from .store import SQLiteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, List, Optional, Tuple

    from ...files import Stamp
    from ..base import Store

TIMEOUT = 5.0    # seconds to wait for a writer


def unreadable(path: str, error: Exception, is_held: bool = False) -> VaultError:
    """Return the error about a file that cannot be read; `is_held` says that another program has it open to write."""
    if is_held:
        return VaultBusyError(f'{path} cannot be read ({error}): another program has it open to write, close it there')
    return VaultError(f'{path} cannot be read ({error}): see that you may, and that it is whole; when a program was '
                      'killed as it wrote, open it once with that program')


def is_vault(raw: driver.RawConnection) -> bool:
    """Tell whether the database says that it is a vault."""
    return bool(raw.execute('PRAGMA application_id').fetchall() == [(APPLICATION_ID,)])


@contextmanager
def one_state(path: str) -> Iterator[driver.RawConnection]:
    """Give a connection that sees one state of an SQLite file, which stays as it is."""
    with _left_alone(path) as (place, parameters), closing(
            connected(driver.current(), place, parameters, TIMEOUT)) as raw:
        raw.execute('PRAGMA query_only = ON')
        raw.execute('PRAGMA trusted_schema = OFF')
        raw.execute('BEGIN')  # one state of all its tables
        yield raw


@contextmanager
def vault_at(path: str) -> Iterator[Optional[Store]]:
    """Give a store that sees one state of a vault, which stays as it is; None where the file is empty.

    It reads as Vault(flag='r') does, which would also write a log that a killed process has left into the file.
    """
    with _left_alone(path) as (place, parameters):
        file = File(place, 'r', TIMEOUT, 'NORMAL')
        if is_new(file):
            yield None
            return
        file.mode, file.journal = parameters, 'as it is'
        store = SQLiteStore(file)
        require_schema(store.local.c, file)
        store.begin()
        try:
            yield store
        finally:
            store.rollback()
            store.close()


@contextmanager
def _left_alone(path: str) -> Iterator[Tuple[str, str]]:
    """Give what `_as_it_is` does, and raise a VaultError for what SQLite raises meanwhile."""
    with readable(path), _as_it_is(path) as found:
        yield found


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Raise a VaultError for what SQLite raises meanwhile."""
    try:
        yield
    except driver.error_or(UnicodeDecodeError) as error:
        raise unreadable(path, error, is_locked(error)) from error


@contextmanager
def _as_it_is(path: str) -> Iterator[Tuple[str, str]]:
    """Give the path and the URI parameters by which SQLite reads a file and leaves all that is there as it is.

    A file alone is `immutable`: in WAL mode anything else would make a -wal and a -shm. Commits in a log must be seen,
    which takes a -shm. Where one is, it is read along; where none is, as beside copied files, SQLite would leave a new
    one, and is given copies instead. A journal tells SQLite whether the file can be read without mending it first.
    """
    wal, shared_memory = side_files(path, (WAL_FILE, SHARED_FILE))
    before = _stamps(path)
    logs = [log for log in side_files(path, LOGS) if os.path.exists(log) and os.path.getsize(log)]
    if wal in logs and not os.path.exists(shared_memory):
        with TemporaryDirectory(prefix='vaults-') as folder:
            copy = os.path.join(folder, 'copy')
            shutil.copyfile(path, copy)
            shutil.copyfile(wal, *side_files(copy, (WAL_FILE,)))
            _require_unchanged(path, before)
            yield copy, 'mode=ro'
    elif logs:
        yield path, 'mode=ro&readonly_shm=1'
    else:
        try:
            yield path, 'mode=ro&immutable=1'
        except driver.error_or(VaultError):
            _require_unchanged(path, before)
            raise
        _require_unchanged(path, before)


def _stamps(path: str) -> List[Optional[Stamp]]:
    return stamps([path, *side_files(path, LOGS)])


def _require_unchanged(path: str, before: List[Optional[Stamp]]) -> None:
    if _stamps(path) != before:
        raise VaultBusyError(f'{path} was written while it was read: close it in the other program, and repeat')
