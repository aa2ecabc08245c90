"""Checkpoints: when the write-ahead log is moved into the database, and how. Knows neither keys nor values.

The trap: SQLite from 3.7.0 to 3.51.2 can lose pages when one connection begins the log anew while another one
checkpoints (https://www.sqlite.org/wal.html#walresetbug). To begin it anew is a write, and there is none while somebody
else holds the write lock. SQLite's own modes that hold it also wait for readers, and go on without it when they cannot
have it. So its automatic checkpoints are off; one connection holds the lock, and a second one checkpoints in the mode
that never waits.
"""
from __future__ import annotations

import os
import threading
from _thread import get_ident
from time import monotonic, sleep

from . import WAL_FILE
from .connection import ALONE, Connection
from .schema import BEGIN, COMMIT, LOG_KEPT, MOVE_LOG, ROLLBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple

    from .statements import Statements

# The releases with the fix: these, and all from 3.51.3.
WAL_RESET_FIXED = ((3, 44, 6), (3, 50, 7))

# A log of more bytes than it keeps when it begins anew is moved by whoever sees it: its writers are many, or each gone
# before it was its turn.
LONG = LOG_KEPT
TRIES, PAUSE = 10, 0.002  # seconds: who reads for longer must not hold the writers up
TICK = 64 * ALONE         # bytes written between two looks at the file
CHECKPOINT = 16 * TICK    # bytes written between two checkpoints: the log grows to some 2000 pages


def has_wal_reset_race(version: Tuple[int, ...]) -> bool:
    """Tell whether this SQLite can lose pages when two connections write and checkpoint at the same instant."""
    return version < (3, 51, 3) and not any(fixed <= version < (fixed[0], fixed[1] + 1) for fixed in WAL_RESET_FIXED)


def is_long(path: str) -> bool:
    """Tell whether the log of the vault at `path` is longer than it should be."""
    try:
        return os.stat(path + WAL_FILE).st_size > LONG
    except FileNotFoundError:  # another journal, or a vault in memory
        return False


def is_due(c: Connection, path: str) -> bool:
    """Tell whether it is time for a checkpoint, when a look at the file is due."""
    return c.written - c.checkpointed > CHECKPOINT or is_long(path)


class Checkpointer:
    """What moves the log of one store. In any thread: of two at once, the second one leaves it to the first."""

    def __init__(self) -> None:
        self.connection: Optional[Connection] = None  # the second one, opened at the first checkpoint
        self._moving = threading.Lock()
        self._patient_from = 0.0  # seconds, on the monotonic clock

    def move_log(self, store: Statements, c: Connection) -> None:
        """Move the log, if there is one, while holding the write lock, without waiting for any reader."""
        if store.file.journal != 'wal' or not self._moving.acquire(blocking=False):
            return
        try:
            second = self.connection = self.connection or Connection(store.file)
            store.run(c, BEGIN)
            # The block of a signal handler is nested in it: its BEGIN would fail, and undo what is here.
            c.thread, c.depth = get_ident(), 1
            self._checkpoint(second, store.file.path)
            c.execute(COMMIT)  # what a signal handler has written meanwhile, told that it was
        finally:
            if c.raw.in_transaction:
                c.raw.execute(ROLLBACK)
            c.depth = 0
            self._moving.release()

    def _checkpoint(self, second: Connection, path: str) -> None:
        """Checkpoint; a long log again, once a second, until who was reading is done: only then it begins anew."""
        tries = 1
        if is_long(path) and monotonic() > self._patient_from:
            tries, self._patient_from = TRIES, monotonic() + 1
        for left in reversed(range(tries)):
            (_, frames, moved), = second.execute(MOVE_LOG).fetchall()
            if frames == moved:
                return
            if left:
                sleep(PAUSE)
