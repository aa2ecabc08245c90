"""Stores that lock: threads of one process queue on an RLock. Knows of the store what it may do, and no SQL.

SQLite lets waiting writers in by chance and by timeout: among threads that write without a pause, some would meet no
free moment in time, and a vault in memory has one connection for all. So here they queue, from the beginning of a
block to its end. What makes it hard is Ctrl-C, which may come between any two instructions: a lock that was taken and
is never given back stops every other thread for good. So a call holds it by `with`, which C enters and leaves without
a gap; a block, which ends in another call than it began in, gives back all that its thread has, as often as it takes.
"""
from __future__ import annotations

import threading
from _thread import get_ident

from ...errors import VaultError
from ..tasks import free, is_alive
from .connection import Shared
from .store import SQLiteStore
from .transactions import make_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .connection import Connection, File


def _locked(name: str) -> Any:
    plain = getattr(SQLiteStore, name)

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        with self.lock:  # which an interrupt cannot come into, as it can after acquire()
            try:
                return plain(self, *arguments, **options)
            finally:
                if not self.lock._is_owned():  # a transaction that ended within has let everybody in
                    self.lock.acquire()
    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


class QueuedStore(SQLiteStore):
    """A store whose writers and blocks queue on an RLock, so that no thread times out waiting for another."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        self.lock = threading.RLock()

    put, compact = map(_locked, ('put', 'compact'))

    def begin(self, who: Any = None) -> None:
        make_room()
        c = self._local.c  # here: another task is not to take the lock, which is its thread's
        try:
            self.lock.acquire()
            super().begin(who)
        except BaseException:
            if not c.depth:
                self.ended()
            raise

    def _abandon(self, c: Connection, said: str) -> None:
        """Let the next writer in as well, once what the other thread has open is rolled back."""
        super()._abandon(c, said)
        free(self.lock)

    def _depth(self, c: Connection) -> int:
        """Return this thread's depth: one connection may be shared, and then the depth is that of who has the lock."""
        return c.depth if self.lock._is_owned() else 0  # every CPython has it

    def ended(self) -> None:
        """Let the next writer in, now that no block of this thread is open any more."""
        while self.lock._is_owned():  # every CPython has it
            self.lock.release()


class MemoryStore(QueuedStore):
    """A store in memory. Its one connection serves all threads, so that reading locks as well."""

    local_class = Shared
    private = True

    get, get_part, get_both, contains, count, _page, _ids = map(_locked, (
        'get', 'get_part', 'get_both', 'contains', 'count', '_page', '_ids'))
    check, backup, close = map(_locked, ('check', 'backup', 'close'))

    def _abandon(self, c: Connection, said: str) -> None:
        """End here what another thread has open, because the connection is everybody's; tell that thread once."""
        thread = c.thread
        self._undo(c, 0)
        execute = c.execute

        def told(*statement: Any) -> Any:
            if get_ident() != thread:
                return execute(*statement)
            c.execute = execute
            raise VaultError(f'what this thread has done since is undone: {said}')
        if is_alive(thread):
            c.execute = told
        free(self.lock)

    def sync(self) -> None:
        """Do nothing: there is no disk to reach."""
        with self.lock:
            self._outside('sync')
