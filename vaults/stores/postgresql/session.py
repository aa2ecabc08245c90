"""What a thread has open: a block and those in it, and the connection that is theirs until the outermost has ended.

The trap: an interrupt may come at any moment, and a connection that has been left in the midst of a statement is closed
by its wire. So nothing is to be put right here: a block whose connection is gone is undone, all in it raises until it
has been left, and whoever leaves it finds nothing to do.
"""
from __future__ import annotations

from ..sessions import BlockSession
from . import failures
from .schema import RELEASE_ONE, SAVEPOINT, UNDO_ONE
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, Optional, Protocol, TypeVar

    from psycopg import pq

    from ...errors import VaultError
    from .wire import Statement, Values, Wire

    T = TypeVar('T')

    class Waits(Protocol):
        """Rows of a put_many that wait to be written; see batch.py."""

        def write(self) -> None: ...

        def drop(self) -> None: ...


class Session(BlockSession):
    """The blocks of one thread. To be used by it alone; `abandon` is for the others."""

    def __init__(self, wire: Wire, name: str) -> None:
        super().__init__(name)
        self.wire = wire
        self._marks: List[int] = []         # how many entries had been added when each began
        self.added = 0                      # entries that the tallies do not count yet
        self.waits: Optional[Waits] = None

    def ask(self, statement: Statement, values: Values) -> pq.abc.PGresult:
        """Return the answer to a statement in the block. Raises errors of ours alone."""
        if self.owner is not None:
            self.owner.require()
        if self.waits is not None:
            self.waits.write()
        return self._answered(self.wire.ask, statement, values)

    def write(self, statement: Statement, values: Values) -> pq.abc.PGresult:
        """Return the answer to a statement that changes something."""
        self.wrote = True
        return self.ask(statement, values)

    def run(self, sql: bytes) -> List[pq.abc.PGresult]:
        """Return the answers to statements about the block itself. Raises errors of ours alone."""
        return self._answered(self.wire.run, sql)

    def _answered(self, send: Callable[..., T], *arguments: object) -> T:
        if self.lost is not None:
            raise self.lost
        try:
            return send(*arguments)
        except Refused as error:
            raise failures.refusal(error, self.name) from error
        except LostWire as error:
            raise self.lose(failures.lost_in_block(str(error), self.name)) from error

    def nest(self, who: object) -> None:
        depth = self.require_room()
        if self.waits is not None:
            self.waits.write()
        self.enter(who)
        try:
            self.run(SAVEPOINT % depth)
        except BaseException:
            self.undo(depth)
            raise

    def enter(self, who: object) -> None:
        self._marks.append(self.added)
        super().enter(who)

    def release(self, depth: int) -> None:
        if self.waits is not None:
            self.waits.write()
        self.run(RELEASE_ONE % depth)
        self.leave(depth)

    def undo(self, depth: int) -> None:
        """Undo the blocks from `depth` on; of the outermost, its connection's owner sees to that."""
        if self.waits is not None:
            self.waits.drop()
        self.epochs.undo(depth)
        if depth < len(self.blocks):
            self.added = self._marks[depth]
            try:
                if depth and self.lost is None:
                    self.wire.run(UNDO_ONE % (depth, depth))
            except (Refused, LostWire) as error:
                self.lost = failures.lost_in_block(str(error), self.name)
            finally:
                self.leave(depth)

    def leave(self, depth: int) -> None:
        super().leave(depth)    # first: a block that an interrupt finds open has all that belongs to it
        del self._marks[depth:]

    def abandon(self, why: VaultError, is_left: bool = False) -> None:
        super().abandon(why, is_left)
        self.wire.cut()
