"""Trips: a statement goes out by a connection, which is the thread's while a block is open. Knows no SQL of blocks.

The trap: a connection may be lost at any moment. What reads, outside a block, is asked once more; what writes never is:
it may have been done.
"""
from __future__ import annotations

import threading
from weakref import WeakSet

from ..base import Store
from . import failures
from .connecting import Pool
from .session import Session
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, Optional, TypeVar

    from psycopg import pq

    from ...errors import VaultError
    from ..base import Options
    from .schema import Gated
    from .wire import Statement, Values, Wire

    T = TypeVar('T')


class OfThread(threading.local):
    """What a thread has open, and what is still to be told to its functions."""

    session: Optional[Session] = None
    seen = b''      # the server's snapshot, when this thread last asked whether others wrote

    def __init__(self) -> None:
        self.orphans: List[object] = []     # who began blocks that an older one took along
        self.inherited: List[object] = []   # who began those that were open when this child was forked


class Trips(Store):
    """The part of the store that has connections. Safe in any thread."""

    def __init__(self, pool: Pool, gated: Gated, name: str, number: int, options: Options) -> None:
        self.pool, self.gated, self.name, self.number, self.options = pool, gated, name, number, options
        self.server, self.plain = '', True      # what it says it is; whether that is PostgreSQL
        self.address, self.timeout = pool.address, pool.timeout  # for what is done when it is closed
        self.deletions = 0
        self.local = OfThread()
        self.sessions: WeakSet[Session] = WeakSet()

    @property
    def session(self) -> Optional[Session]:
        """What this thread has open. Raises: why it is undone already; once, where nobody else would end it."""
        session = self.local.session
        if session is not None and session.lost is not None:
            if session.is_left:
                self.end(session)
            raise session.lost
        return session

    # --- statements ---

    def read(self, statement: Statement, values: Values) -> pq.abc.PGresult:
        """Return the answer to a statement that changes nothing: outside a block it is repeated once."""
        session = self.session
        if session is not None:
            return session.ask(statement, values)
        try:
            return self._asked(statement, values)
        except (Refused, LostWire) as error:
            if isinstance(error, Refused) and error.code != failures.NO_STATEMENT:
                raise failures.refusal(error, self.name) from error
        self.pool.clear()  # whatever ended this connection has ended those
        try:
            return self._asked(statement, values)
        except Refused as again:
            raise failures.refusal(again, self.name) from again
        except LostWire as again:
            raise failures.lost_reading(again, self.name) from again

    def _asked(self, statement: Statement, values: Values) -> pq.abc.PGresult:
        wire = self.pool.take()
        try:
            answer = wire.ask(statement, values)
        except Refused as error:
            if error.code != failures.NO_STATEMENT:
                self.pool.give(wire)  # whoever keeps the error would keep it, too
            raise
        self.pool.give(wire)
        return answer

    def write(self, statement: Statement, values: Values, counts: bool) -> pq.abc.PGresult:
        """Return the answer to a statement that changes something, and is a transaction of its own. Never repeated."""
        wire = self.pool.take()
        try:
            answer = self.queued(wire, lambda: wire.ask(statement, (*values, wire.slot4) if counts else values))
        except LostWire as error:
            raise failures.unsure(error, self.name) from error
        except Refused as error:
            if error.code == failures.NO_STATEMENT:  # nobody has begun it: it was not known
                return self.write(statement, values, counts)
            self.pool.give(wire)
            raise failures.refusal(error, self.name) from error
        problem = self.not_waited_for(wire)
        self.pool.give(wire)  # from now on another thread may use it
        if problem is not None:
            raise problem
        return answer

    def not_waited_for(self, wire: Wire) -> Optional[VaultError]:
        """Return an error where the server has said of what it did that it no longer waits for a standby."""
        words = [words for code, words in wire.notices if code == failures.WARNING]
        return failures.not_waited_for(words[0], self.name) if words else None

    def end(self, session: Session) -> None:
        """Have no block open; give the connection back, or close it where something is still open in it."""
        self.local.session = None
        session.leave(0)
        if session.lost is None:
            self.pool.give(session.wire)
        else:
            session.wire.close()

    def open_sessions(self) -> List[Session]:
        """Return those of all threads. Where one begins meanwhile, the set has changed, and is looked at again."""
        while True:
            try:
                return list(self.sessions)
            except RuntimeError:
                continue

    def queued(self, wire: Wire, send: Callable[[], T]) -> T:
        """Return what is answered to what waits for the vault, with `thread_safe` while a thread of ours has it."""
        while True:
            try:
                return send()
            except Refused as error:
                if error.code != failures.WAITED_OUT or not self.options.thread_safe or not any(
                        session.blocks for session in self.open_sessions() if session is not self.local.session):
                    raise
            if not wire.is_idle():
                wire.run(b'ROLLBACK')
