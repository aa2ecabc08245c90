"""Trips: a statement goes out by a connection, which is the thread's while a block is open. Knows no SQL of blocks.

The trap: a connection may be lost at any moment. What reads, outside a block, is asked once more; what writes never is:
it may have been done.
"""
from __future__ import annotations

from ..sessions import SessionStore
from . import failures
from .session import Session
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional, TypeVar

    from psycopg import pq

    from ...errors import VaultError
    from ..base import Options
    from ..pool import Pool
    from .schema import Gated
    from .wire import Statement, Values, Wire

    T = TypeVar('T')


class Trips(SessionStore[Session]):
    """The part of the store that has connections. Safe in any thread."""

    def __init__(self, pool: Pool[Wire], gated: Gated, name: str, number: int, options: Options) -> None:
        super().__init__()
        self.pool, self.gated, self.name, self.number, self.options = pool, gated, name, number, options
        self.server, self.plain = '', True      # what it says it is; whether that is PostgreSQL
        self.connect = pool.connect     # for what is done when it is closed

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
        """Give the connection back as well, or close it where something is still open in it."""
        super().end(session)
        if session.lost is None:
            self.pool.give(session.wire)
        else:
            session.wire.close()

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
