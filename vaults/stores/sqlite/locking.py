"""Stores that lock: threads of one process queue on a lock. Knows of the store what it may do, and no SQL.

SQLite lets waiting writers in by chance and by timeout: among threads that write without a pause, some would meet no
free moment in time, and a vault in memory has one connection for all. So here they queue, from the beginning of a
block to its end.

The trap is Ctrl-C, which may come between any two instructions, and a signal handler or finalizer that uses the vault
itself: a lock that was taken and is never given back stops every other thread for good. So a call holds the lock by
`with`, which C enters and leaves without a gap. A block ends in another call than it began in, and what an interrupt
has left of either nobody can count: so the end of a block gives back all that its thread has, as often as it has taken
it, and a call around it takes the lock again before its `with` gives it back. A signal handler's block that comes in
between has given back that as well, and RLock then says so by an error, which means nothing.
"""
from __future__ import annotations

from _thread import get_ident

from .. import blocks
from ..tasks import Lock, is_alive
from .connection import Shared
from .store import SQLiteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    from .connection import Connection, File

    Method = TypeVar('Method', bound=Callable[..., Any])

NOT_HELD = 'cannot release un-acquired lock',    # what RLock says, in each Python


def locked(method: Method) -> Method:
    """Return a method of the store that holds the store's lock as long as it runs."""
    def holding(self: QueuedStore, *arguments: Any, **options: Any) -> Any:
        lock, result, is_done = self.lock, None, False
        try:
            with lock:
                try:
                    result = method(self, *arguments, **options)
                    is_done = True
                finally:
                    if not lock.is_mine():  # a transaction that ended within has let everybody in
                        lock.acquire()
        except RuntimeError as error:
            if error.args != NOT_HELD:
                raise
            problem = error.__context__  # the method's, unless that is done
            if not is_done and problem is not None:
                raise problem from problem.__cause__
        return result
    holding.__name__, holding.__doc__ = method.__name__, method.__doc__
    return holding  # type: ignore[return-value]  # it takes and returns what the method does


class QueuedStore(SQLiteStore):
    """A store whose writers and blocks queue on a lock, so that no thread times out waiting for another."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        self.lock = Lock()

    put = locked(SQLiteStore.put)
    put_owner_if = locked(SQLiteStore.put_owner_if)
    compact = locked(SQLiteStore.compact)

    def begin(self, who: Any = None) -> None:
        self._queued(super().begin, who)

    def write_alone(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        return self._queued(super().write_alone, operation, *arguments)

    def _queued(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a method does that begins a transaction, and gives the lock back where that ends."""
        blocks.make_room()
        c = self.local.c  # here: another task is not to take the lock, which is its thread's
        try:
            self.lock.acquire()
            return method(*arguments)
        except BaseException:
            if not c.depth:
                self.ended()
            raise

    def _abandon(self, c: Connection, said: str) -> None:
        """Let the next writer in as well, once what the other thread has open is rolled back."""
        super()._abandon(c, said)
        self.lock.free()

    def _depth(self, c: Connection) -> int:
        """Return this thread's depth: one connection may be shared, and then the depth is that of who has the lock."""
        return c.depth if self.lock.is_mine() else 0

    def ended(self) -> None:
        """Let the next writer in, now that no block of this thread is open any more."""
        try:
            while self.lock.is_mine():
                self.lock.release()
        except RuntimeError:
            return  # a signal handler's block has given it back meanwhile


class MemoryStore(QueuedStore):
    """A store in memory. Its one connection serves all threads, so that reading locks as well."""

    local_class = Shared
    is_serial = True

    get = locked(SQLiteStore.get)
    get_chunk = locked(SQLiteStore.get_chunk)
    get_both = locked(SQLiteStore.get_both)
    contains = locked(SQLiteStore.contains)
    count = locked(SQLiteStore.count)
    rows = locked(SQLiteStore.rows)
    ids = locked(SQLiteStore.ids)
    check = locked(SQLiteStore.check)
    backup = locked(SQLiteStore.backup)
    close = locked(SQLiteStore.close)

    def _abandon(self, c: Connection, said: str) -> None:
        """End here what another thread has open, because the connection is everybody's; tell that thread once."""
        thread = c.thread
        self._undo(c, 0)
        execute = c.execute

        def raising(*statement: Any) -> Any:
            if get_ident() != thread:
                return execute(*statement)
            c.execute = execute
            raise blocks.undone_since(said)
        if is_alive(thread):
            c.execute = raising
        self.lock.free()

    def sync(self) -> None:
        """Do nothing: there is no disk to reach."""
        with self.lock:
            self.outside('sync')
