"""Transactions of the PostgreSQL store: how they begin and end there. Knows neither keys nor values.

The outermost block has a connection of its own, which nobody else uses until it has ended: so what others read
meanwhile is what was committed. Whose block it is that ends is said in stores/sessions.py.
"""
from __future__ import annotations

from time import monotonic

from ...errors import VaultError, VaultNotFoundError
from .. import blocks
from . import failures
from .connecting import closed_pool
from .schema import ADD_TO_TALLY, READ_ALONE
from .session import Session
from .trips import Trips
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    T = TypeVar('T')


class WithBlocks(Trips):
    """The part of the store that has blocks. Safe in any thread."""

    def open_block(self, who: object) -> None:
        self._begin(who, READ_ALONE if self.options.flag == 'r' else self.gated.begin % self.number)

    def _begin(self, who: object, sql: bytes) -> None:
        """Begin the outermost block. An interrupt leaves a connection that nobody holds, and that is closed."""
        blocks.make_room()
        wire = self.pool.take()
        session = Session(wire, self.name)
        try:
            if not self.queued(wire, lambda: wire.run(sql))[-1].ntuples:
                raise VaultNotFoundError(f'the vault {self.name} was deleted by somebody: open it again')
            self.begun(session, who)
        except BaseException as error:
            self.local.session = None
            wire.close()
            if isinstance(error, Refused):
                raise failures.refusal(error, self.name) from error
            if isinstance(error, LostWire):
                raise failures.not_connected(str(error), self.name) from error
            raise

    def in_snapshot(self, operation: Callable[[], T]) -> T:
        """Return what `operation()` does, which sees one state of the vault and keeps no writer out."""
        self.require_outside('backup')
        self._begin(operation, READ_ALONE)
        try:
            return operation()
        finally:
            self.rollback(operation)

    def commit_block(self, session: Session) -> None:
        """Make it durable. When the connection is lost meanwhile nobody knows whether it is."""
        if session.waits is not None:
            session.waits.write()
        if session.lost is not None:
            raise session.lost
        tally = ADD_TO_TALLY % (session.added, self.number, session.wire.slot) if session.added else b''
        try:
            answer = session.wire.run(tally + b'COMMIT')[-1]
        except Refused as error:
            raise failures.refusal(error, self.name) from error
        except LostWire as error:
            raise (failures.unsure(error, self.name) if session.wrote else
                   failures.lost_in_block(str(error), self.name)) from error
        if answer.command_status != b'COMMIT':
            raise VaultError(f'an error in the block had undone it, so that nothing of it was kept: vault {self.name}; '
                             'let it leave the block, and repeat the block')
        problem = self.not_waited_for(session.wire) if session.wrote else None
        self.end(session)
        if problem is not None:
            raise problem

    def transact(self, operation: Callable[[], T]) -> T:
        """Run it, and again as long as the timeout lasts, where it could not be put in line with others."""
        end = monotonic() + self.options.timeout
        while True:
            try:
                return self.once(operation)
            except failures.OutOfLineError:
                if self.local.session is not None or monotonic() > end:
                    raise

    def undo_blocks(self, session: Session, depth: int) -> None:
        """Undo them. The connection of the outermost is given back when that has gone well."""
        self.deletions += 1
        try:
            if depth:
                session.undo(depth)
                return
            session.undo(0)
            if session.lost is None and not session.wire.is_gone():
                session.wire.run(b'ROLLBACK')
        except (Refused, LostWire):
            session.wire.close()  # which undoes it
        finally:
            if not depth:
                self.end(session)

    # --- the end ---

    def close(self) -> None:
        """Close all connections; whoever has a block open in one finds it undone."""
        pool, self.pool = self.pool, closed_pool(self.name)
        pool.close()
        super().close()

    def forked(self) -> None:
        super().forked()
        self.pool.forget()
