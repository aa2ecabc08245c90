"""Forks: what becomes of the open stores in a child. Imports none of them: who is open registers itself.

SQLite may not carry a connection over a fork, so the child forgets what it inherited and opens its own. Its copy of
the library still counts the inherited connections' locks as taken in this process, though. So the forking thread's
connections, which no call is using, are rolled back and closed in the child; POSIX locks are not inherited, so the
parent loses none. A rollback is private to the child while nothing of the transaction is in the file and the parent
holds its write lock, which is why the parent waits until the child has done it.
"""
from __future__ import annotations

import os
import threading
from weakref import WeakSet

from ..base import MEMORY
from . import guard
from .checkpoint import Checkpointer
from .connection import give_back
from .schema import CACHE, ROLLBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

    from .connection import Connection, File
    from .store import SQLiteStore
    from .transactions import Transactional

FEW_ROWS = 256          # entries a transaction may have written for a fork to be sure that they are in memory alone
HANDSHAKE_TIMEOUT = 10.0  # seconds; the child needs microseconds

open_stores: WeakSet[SQLiteStore] = WeakSet()


def all_open() -> List[SQLiteStore]:
    """Return the open stores. Where another thread opens one meanwhile, the set has changed, and is looked at again."""
    while True:
        try:
            return list(open_stores)
        except RuntimeError:
            continue


def own(store: Transactional) -> Optional[Connection]:
    """Return the connection of this thread, unless the store has none any more, or none yet in a forked child.

    Asks for no task: whichever has a block open.
    """
    held: Optional[Connection] = store.local.held
    return held


class _Fork(threading.local):
    """What a thread that forks holds from before to after."""

    pipe: Tuple[int, ...] = ()
    queued: Tuple[SQLiteStore, ...] = ()


_fork = _Fork()


class _Later:
    """In place of the connections in a forked child, until it first asks for one."""

    held = None

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    @property
    def c(self) -> Connection:
        local = self._store.local = self._store.local_class(self._store.file)
        c: Connection = local.c
        return c


def _in_transaction(store: SQLiteStore) -> bool:
    connection = own(store)
    return connection is not None and store.file.path != MEMORY and connection.raw.in_transaction


def _before_fork() -> None:
    stores = all_open()
    _fork.queued = tuple(store for store in stores if store.lock and store.lock.acquire(timeout=store.file.timeout))
    _fork.pipe = os.pipe() if any(map(_in_transaction, stores)) else ()


def _after_fork_in_parent() -> None:
    if _fork.pipe:
        import select
        read, write = _fork.pipe
        os.close(write)
        select.select([read], [], [], HANDSHAKE_TIMEOUT)  # readable when the child, or its end, has closed the pipe
        os.close(read)
    for store in _fork.queued:
        store.lock.release()
    _fork.pipe = _fork.queued = ()


def _stores_in_child() -> None:
    guard.forget()
    for store in all_open():
        _orphan(store)
    for end in _fork.pipe:
        os.close(end)
    _fork.pipe = _fork.queued = ()


def _orphan(store: SQLiteStore) -> None:
    c = own(store)
    second, store._checkpointer = store._checkpointer.connection, Checkpointer()
    if store.lock:
        store.lock = type(store.lock)()
    store.inherited = c.depth if c else 0
    store.kept = None
    store.deletions += 1  # what was read in the parent's transaction is none of the child's
    store.file.connections.clear()
    if store.file.path == MEMORY:
        if c and c.raw.in_transaction:
            c.raw.execute(ROLLBACK)
        if c:
            c.drop_deeper(0)
            c.forget(0)
            c.undone = []
            give_back(store.local, c)
        return
    for connection in (c, second):
        if connection is not None:
            _let_go(connection, store.file)
    store.local = _Later(store)


def _let_go(c: Connection, file: File) -> None:
    """Close an inherited connection of the forking thread, unless its rollback could reach the parent's file."""
    c.guard = None
    small = c.written - c.begun < CACHE // 16 and c.raw.total_changes - c.changes < FEW_ROWS and file.journal == 'wal'
    if not c.raw.in_transaction or small:
        c.pid = os.getpid()
        if c.raw.in_transaction:
            c.raw.execute(ROLLBACK)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_stores_in_child)
