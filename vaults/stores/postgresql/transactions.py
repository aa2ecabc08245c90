"""Transactions of the PostgreSQL store: whose block it is that ends, and how. Knows neither keys nor values.

A block belongs to the thread and, where an event loop runs, to the task that began it. It has a connection of its own,
which nobody else uses until it has ended: so what others read meanwhile is what was committed.

The rules of what ends in the wrong thread, task or order are those of LockedStore, which has one block for all threads.
"""
from __future__ import annotations

import os
from time import monotonic
from weakref import WeakSet

from ...errors import VaultError, VaultNotFoundError, VaultTaskError
from .. import blocks
from ..tasks import Owner, may_run
from . import failures
from .connecting import ClosedPool, Pool
from .schema import ADD_TO_TALLY, READ_ALONE
from .session import Session
from .trips import OfThread, Trips
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, Optional, Tuple, TypeVar

    from ..base import Options
    from .schema import Gated

    T = TypeVar('T')

_stores: WeakSet[WithBlocks] = WeakSet()


class WithBlocks(Trips):
    """The part of the store that has blocks. Safe in any thread."""

    def __init__(self, pool: Pool, gated: Gated, name: str, number: int, options: Options) -> None:
        super().__init__(pool, gated, name, number, options)
        _stores.add(self)

    def begin(self, who: object = None) -> None:
        session = self.session
        depth = 0 if session is None else len(session.blocks)
        try:
            if session is not None:
                session.nest(who)
            else:
                self._begin(who, READ_ALONE if self.options.flag == 'r' else self.gated.begin % self.number)
            session = self.local.session
            if may_run() and session is not None and session.owner is None:
                session.owner = Owner.now(depth, self.name)
        except BaseException:
            session = self.local.session
            if session is not None and len(session.blocks) > depth:
                self._undo(session, depth)
            raise

    def _begin(self, who: object, sql: bytes) -> None:
        """Begin the outermost block. An interrupt leaves a connection that nobody holds, and that is closed."""
        blocks.make_room()
        wire = self.pool.take()
        session = Session(wire, self.name)
        try:
            if not self.queued(wire, lambda: wire.run(sql))[-1].ntuples:
                raise VaultNotFoundError(f'the vault {self.name} was deleted by somebody: open it again')
            session.enter(who)
            self.sessions.add(session)
            self.local.session = session
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

    def commit(self, who: object = None) -> None:
        depth = -1
        try:
            session, depth, problem = self._place(who)
            if problem is not None:
                raise problem
            if session is not None and depth < len(session.blocks):
                if depth:
                    session.release(depth)
                else:
                    self._commit(session)
        except BaseException as error:
            self._broken_off(who, depth, error)
            raise

    def _commit(self, session: Session) -> None:
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

    def rollback(self, who: object = None) -> None:
        depth = -1
        try:
            session, depth, problem = self._place(who)
            if session is not None:
                self._undo(session, depth)
            if isinstance(problem, VaultTaskError):
                return
        except BaseException as error:
            self._broken_off(who, depth, error)
            raise

    def _broken_off(self, who: object, depth: int, error: BaseException) -> None:
        """Undo what was to end. Where its depth is not known yet, an interrupt came first, or it may not end."""
        session = self.local.session
        if session is None:
            return
        if depth >= 0:
            self._undo(session, depth)
        elif not isinstance(error, VaultError):
            self._undo(session, max(session.place(who)[0], 0))

    def transact(self, operation: Callable[[], T]) -> T:
        """Run it, and again as long as the timeout lasts, where it could not be put in line with others."""
        end = monotonic() + self.options.timeout
        while True:
            try:
                return self.once(operation)
            except failures.OutOfLineError:
                if self.local.session is not None or monotonic() > end:
                    raise

    def once(self, operation: Callable[[], T]) -> T:
        session = self.session
        depth = 0 if session is None else len(session.blocks)
        try:  # around `begin` as well: an interrupt may come when it is done
            self.begin(operation)
            result = operation()
            self.commit(operation)
        except BaseException:
            session = self.local.session
            if (session is not None and len(session.blocks) > depth) or _is_in(self.local.orphans, operation):
                self.rollback(operation)
            raise
        return result

    def _undo(self, session: Session, depth: int) -> None:
        """Undo the blocks from `depth` on. The connection of the outermost is given back when that has gone well."""
        self.deletions += 1
        try:
            if depth:
                session.undo(depth)
                return
            session.undo(0)
            if session.lost is None and not session.wire.is_lost():
                session.wire.run(b'ROLLBACK')
        except (Refused, LostWire):
            session.wire.close()  # which undoes it
        finally:
            if not depth:
                self.end(session)

    # --- which block it is that ends ---

    def _place(self, who: object) -> Tuple[Optional[Session], int, Optional[VaultError]]:
        """Return the session, the depth of the block that ends, and why it may not be committed."""
        session = self.local.session
        depth, known = session.place(who) if session is not None else (-1, False)
        if session is not None and known:
            return session, depth, self._refusal(session, depth)
        open_blocks = 0 if session is None else len(session.blocks)
        if _met(self.local.orphans, who):
            return session, open_blocks, blocks.taken_along(self.name)
        if _met(self.local.inherited, who):
            return session, open_blocks, None
        self._require_no_other(who)
        if session is None or depth < 0:
            raise blocks.not_here(self.name)
        return session, depth, self._refusal(session, depth)

    def _refusal(self, session: Session, depth: int) -> Optional[VaultError]:
        if depth < len(session.blocks) - 1:
            self.local.orphans += [one for one in session.blocks[depth + 1:] if one is not None]
            return blocks.out_of_order(self.name)
        try:
            if session.owner is not None:
                session.owner.require()
        except VaultTaskError as error:
            return VaultTaskError(f'{error}; it was rolled back')
        return session.lost

    def _require_no_other(self, who: object) -> None:
        """Raise when it is another thread's block that ends here, which is undone."""
        for session in self.open_sessions():
            if session is not self.local.session and session.place(who)[1]:
                said = blocks.left_elsewhere(self.name, session.thread)
                session.abandon(blocks.undone_since(said), True)
                self.deletions += 1
                raise VaultTaskError(said)

    # --- the end ---

    def ended(self) -> None:
        session = self.local.session
        if session is not None:
            self._undo(session, 0)

    def refuse_others(self) -> None:
        session = self.local.session
        if session is not None and session.owner is not None and not session.owner.is_left():
            session.owner.require()

    def require_outside(self, verb: str) -> None:
        if isinstance(self.pool, ClosedPool):
            raise failures.closed(self.name)
        if self.local.session is not None:
            raise VaultError(f'{verb}() cannot run inside a transaction: leave the block first; vault {self.name}')

    def close(self) -> None:
        """Close all connections; whoever has a block open in one finds it undone."""
        pool, self.pool = self.pool, ClosedPool(self.name)
        pool.clear()
        self.deletions += 1  # a walk looks again, and finds it closed
        for session in self.open_sessions():
            if session.lost is None and session.blocks:
                session.abandon(failures.closed(self.name))

    def forked(self) -> None:
        """Begin anew in a forked child: the connections and the blocks are the parent's."""
        session, inherited = self.local.session, self.local.inherited
        self.local = OfThread()
        self.local.inherited = [*inherited, *(session.blocks if session is not None else ())]
        if session is not None:
            session.epochs.undo(0)
        self.sessions = WeakSet()
        self.pool.forget()
        self.deletions += 1


def _is_in(those: List[object], who: object) -> bool:
    return any(one is who for one in those)


def _met(those: List[object], who: object) -> bool:
    """Tell, once, whether it is one of those, and let go of it."""
    for at, one in enumerate(those):
        if one is who is not None:
            del those[at]
            return True
    return False


def _stores_of_child() -> None:
    for store in list(_stores):
        store.forked()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_stores_of_child)
