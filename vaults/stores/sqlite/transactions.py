"""Transactions of the SQLite store: begin, commit, rollback and what is made of them. Knows neither keys nor values.

The trap: an interrupt can come between any two instructions of Python, and a signal handler may use the vault there. So
nothing is remembered here that SQLite can be asked: whether a transaction is open, and whether there is a savepoint.
What must be remembered, the depth, is raised before a transaction begins and lowered after it has ended, and names the
savepoint: to undo one undoes what lies within it, even what an interrupt has left open there. So there is one function,
`_undo`, that puts right whatever was left at whatever moment, and finds nothing to do where nothing was.
"""
from __future__ import annotations

from _thread import get_ident
from abc import abstractmethod
from functools import partial

from ...errors import VaultClosedError, VaultError, VaultTaskError
from .. import blocks
from ..base import Store
from ..tasks import Owner, may_run
from . import driver
from .checkpoint import CHECKPOINT
from .connection import ALONE, TOGETHER, Broken, Connection, give_back, put_aside
from .failures import is_too_big, lacks_savepoint
from .fork import own
from .schema import BEGIN, COMMIT, READ, RELEASE, ROLLBACK, SAVE, UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Optional, Tuple

    from ...keys import Stored
    from .connection import File

    Refusal = Optional[Callable[[], VaultError]]  # makes the error of a block that may not be committed


class Transactional(Store):
    """The half of the store that begins and ends transactions.

    It is a half, and neither a function nor an object that the store calls: a block would pay for the call, and between
    the two an interrupt would find nobody who undoes the block. A block with d others around it is SQLite's transaction
    where d is 0, else its savepoint of that number. This is what an interrupt, or an error, leaves at each moment:

    moment                                      depth   in SQLite  what remains, and who sees to it
    ------------------------------------------  ------  ---------  -----------------------------------------------------
    begin, before the depth is raised           d       d          nothing; a store that queues frees its lock
    begin, before BEGIN or SAVEPOINT is done    d+1     d          begin undoes: there is no such savepoint
    begin, after it: whose block it is          d+1     d+1        begin undoes
    after begin, before the body of the block   d+1     d+1        the block stays open, as nothing of ours runs there:
                                                                   until one around it, or the vault, is left
    in the block, perhaps deeper                d+1...  d+1...     __exit__ calls rollback, which undoes all of it
    in the block, SQLite has undone everything  d+1     0          `lost`: all raises until the outermost block is left
    __exit__, before it calls commit            d+1     d+1        as after begin
    commit, before COMMIT or RELEASE is done    d+1     d+1 or 0   commit undoes: nothing of the block is kept
    commit, after it                            d+1     d          commit undoes, and finds nothing: all is kept
    commit, after the depth is lowered          d       d          the same: task and lock are freed once more
    commit, looking after the file              0       0 or 1     all is kept; a checkpoint ends what it has begun
    rollback                                    d, d+1  d, d+1     rollback undoes once more
    transact, between its three steps           d+1     d+1        transact rolls back
    a second one, while the first is undone     0       1          the next block: its BEGIN fails, which undoes

    A signal handler runs at such a moment as well, and its own block has ended when it returns.
    """

    file: File
    local: Any
    inherited = 0  # depth of the transaction that was open when this process was forked

    @abstractmethod
    def run(self, c: Connection, sql: str) -> None:
        """Run a statement that takes the write lock."""

    @abstractmethod
    def failed(self, error: BaseException, key: Optional[Stored] = None) -> VaultError:
        """Explain an error of SQLite's. Where it rolled the whole transaction back, the rest of the block must fail."""

    @abstractmethod
    def _look(self, c: Connection) -> None:
        """Every so many bytes: is the file still the one that was opened, and is it time for a checkpoint?"""

    def begin(self, who: Any = None) -> None:
        blocks.make_room()
        c = self.local.c
        depth = c.depth
        try:
            if depth:
                self._nest(c)
            else:
                self.file.require_same()
                c.depth, c.row, c.begun, c.changes, c.thread = 1, TOGETHER, c.written, c.raw.total_changes, get_ident()
                self.run(c, READ if self.file.flag == 'r' else BEGIN)
            # Last, because a signal handler's block, nested in this one, takes its own away again.
            c.blocks[depth] = who
            if may_run() and c.owner is None:
                put_aside(self.local, c, Owner.now(depth, self.file.path))
        except driver.Error as error:
            raise self._undone(error, self._undo, c, depth) from error
        except BaseException:
            self._undo(c, depth)
            raise

    def _nest(self, c: Connection) -> None:
        if c.lost:
            c.execute(SAVE[0])  # raises
        if c.depth > blocks.MAX_NESTED:
            raise blocks.too_deep(self.file.path)
        c.deepen()
        c.execute(SAVE[c.depth - 1])

    def commit(self, who: Any = None) -> None:
        depth = None
        try:
            c, depth, refusal = self._level(who)
            if refusal:
                raise refusal()
            if depth >= 0:
                c.execute(RELEASE[depth] if depth else COMMIT)
                c.leave(depth)
                if c.owner is not None:
                    give_back(self.local, c)
            if not depth:
                c.row = ALONE
                self.ended()
        except driver.Error as error:
            raise self._undone(error, self._undo, *self._broken_off(who, depth)) from error
        except BaseException:
            self._undo(*self._broken_off(who, depth))
            raise
        if depth < 0:
            self._end_of_another(who)
        elif not depth:
            self._settle(c)

    def _settle(self, c: Connection) -> None:
        """Count what a block has written that was kept, and look after the file: looks within it left that to this."""
        if c.raw.total_changes != c.changes:
            c.written += ALONE  # of a small block, what it takes besides its entries
        if c.written > c.due or c.written - c.checkpointed > CHECKPOINT:
            self._look(c)

    def rollback(self, who: Any = None) -> None:
        depth = None
        try:
            self._still_open()
            c, depth, _ = self._level(who, self._here())  # which has nobody write what waits, perhaps in vain
            self._undo(c, depth) if depth >= 0 else self._end_of_another(who)
        except VaultError:
            raise
        except BaseException:  # an interrupt; what it interrupted is done again
            self._undo(*self._broken_off(who, depth))
            raise

    def once(self, operation: Callable[[], Any]) -> Any:
        c = self.local.c
        depth = self._depth(c)
        try:
            self.begin(operation)
            result = operation()
            self.commit(operation)
        except BaseException as error:
            if isinstance(error, driver.Error) or is_too_big(error):
                raise self._undone(error, self._take_back, c, depth, operation) from error
            self._take_back(c, depth, operation)
            raise
        return result

    def _take_back(self, c: Connection, depth: int, operation: Callable[[], Any]) -> None:
        """Roll back what is open of an operation's transaction; begin and commit have done so where they raised."""
        if c.depth > depth and c.thread == get_ident():
            self.rollback(operation)
        elif not depth:
            self.ended()

    def _depth(self, c: Connection) -> int:
        """Return how deep this thread's transaction is nested."""
        return c.depth

    # --- which block it is that ends ---

    def _level(self, who: Any, here: Optional[Connection] = None) -> Tuple[Connection, int, Refusal]:
        """Return the connection, its depth when the block of `who` has ended, and the error where that is to be undone.

        The depth is -1 where this thread has no such block.
        """
        refusal: Refusal = None
        try:
            c = here or self.local.c
        except VaultTaskError:
            c = self._here()
            refusal = partial(c.owner.refusal, ', where it was rolled back')  # type: ignore[union-attr]  # it refused
        if c.depth and c.blocks[c.depth - 1] is who and c.thread == get_ident():
            return c, c.depth - 1, refusal
        depth, other = self._out_of_order(c, who)
        return c, depth, None if depth < 0 else refusal or other

    def _out_of_order(self, c: Connection, who: Any) -> Tuple[int, Refusal]:
        """Return the same of a block that is not known to be the innermost one.

        It is around others, which it takes along; or was taken along itself, and then there is nothing left to undo. A
        frame that nobody knows is that of a stack, or of a subclass's method: it ends the innermost block, or where all
        were taken along, one of these.
        """
        if c.thread != get_ident():
            return -1, None
        place = c.place(who)
        if place < c.depth - 1:
            c.take_along(place)
            return place, partial(blocks.out_of_order, self.file.path)
        if c.is_undone(who):
            return c.depth, self._was_undone
        if (who is None or type(who) is blocks.FRAME_TYPE) and self.file.holder(who) is None:
            if c.depth or not c.undone:
                return c.depth - 1, None
            c.undone.pop()
            return 0, self._was_undone
        return -1, None

    def _was_undone(self) -> VaultError:
        return blocks.taken_along(self.file.path)

    def _here(self) -> Connection:
        """Return this thread's connection, whichever task has a block open: whoever ends that may do so."""
        return own(self) or self.local.c

    # --- what is to be undone ---

    def _undo(self, c: Connection, depth: int) -> None:
        """Roll back to `depth` what is open deeper; also what is half begun or ended, or was half undone before."""
        self.deletions += 1
        c.changing += 1  # a signal handler keeps nothing back meanwhile
        c.drop_deeper(depth)
        c.renew(self._was_undone)
        try:
            # Also where nothing is said to be open deeper: an interrupt may have met this half-way.
            if depth and c.raw.in_transaction:
                c.raw.execute(UNDO[depth])
                c.raw.execute(RELEASE[depth])
        except driver.Error as error:
            if not lacks_savepoint(error):  # there is none: not yet begun, or released
                raise self.failed(error) from error
        finally:
            try:
                if not depth and c.raw.in_transaction:
                    c.raw.execute(ROLLBACK)
            finally:
                c.forget(depth)  # no sooner: until then the block of a signal handler is nested in it
                if not depth:
                    c.row, c.lost = ALONE, None
                    c.renew(self._was_undone)
                    self.ended()
                give_back(self.local, c)
                c.changing -= 1

    def _undone(self, error: BaseException, undo: Callable[..., None], *arguments: Any) -> VaultError:
        """Undo; return ours for an error of SQLite's: kept in a frame it runs through, it would keep the connection."""
        problem = self.failed(error)
        undo(*arguments)
        return problem

    def _broken_off(self, who: Any, depth: Optional[int]) -> Tuple[Connection, int]:
        """Return what is to be undone where an end was broken off, perhaps before its depth was known."""
        self._still_open()
        c = self._here()
        return c, max(c.place(who) if depth is None else depth, 0)

    def _still_open(self) -> None:
        """Raise when another thread has closed the store, having let the next writer in."""
        if isinstance(self.local, Broken):
            self.ended()
            raise VaultClosedError(f'the vault at {self.file.path} was closed inside the block: open it again')

    # --- blocks of other threads ---

    def _end_of_another(self, who: Any) -> None:
        """End a block that this thread did not begin: in a forked child, one that is the parent's; else it is wrong."""
        if self.inherited:
            self.inherited -= 1
            return
        holder = self.file.holder(who)
        if holder is None:
            names = blocks.thread_names()
            raise blocks.not_here(self.file.path, ', '.join(
                names[c.thread] for c in self.file.elsewhere() if c.depth and c.thread in names))
        said = blocks.left_elsewhere(self.file.path, holder.thread)
        self._abandon(holder, said)
        raise VaultTaskError(said)

    def _abandon(self, c: Connection, said: str) -> None:
        """Roll back what another thread has open. What is Python's of it that thread's next call ends, and raises."""
        def end(*_: Any) -> NoReturn:
            self._undo(c, 0)
            raise blocks.undone_since(said)
        c.lost, c.execute = VaultError(said), end
        if c.batch is not None:
            c.batch.drop()  # so that what is given to it from now on asks for the connection
        try:  # noqa: SIM105  # contextlib is not imported for this
            c.raw.execute(ROLLBACK)
        except driver.Error:
            pass  # it has ended meanwhile
