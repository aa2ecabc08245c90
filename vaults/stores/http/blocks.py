"""Blocks of the engine: what a thread has open, and what of it the server does not know yet. Knows few verbs.

What a block puts waits here until it is read from, or ends: then all goes in one request. One that only puts is a
single request, and begins nothing at the server. The first that reads begins a lease there, which keeps other writers
out until the block ends, or until nothing was asked in it for five seconds.

The trap: what waits here is not known to be possible. Where the server refuses some of it later, the whole block is
undone, and all in it raises until it has been left.
"""
from __future__ import annotations

import os

from ...errors import VaultError, VaultUnreachableError
from ..sessions import BlockSession, SessionStore
from .asking import ANSWER_PATIENCE, RefusedVerb, ServerAsking
from .connecting import LostAnswerError, UnsentError
from .wire import BLOCK_NAME, BYTES_OF_REQUEST, packed_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple

    from .wire import Operation

SCALARS_WAITING = 1 << 15   # of what waits: it is sent then
PARTING = 2.0               # seconds that the end of what is undone may take: the server does it anyway
PUT_VERB, NEST_VERB, RELEASE_VERB, UNDO_VERB = 'put_many', 'nest', 'release', 'undo'
STEPS_OF_VERBS = {NEST_VERB: 1, RELEASE_VERB: -1, UNDO_VERB: -1}     # of how deep blocks are nested


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return os.urandom(12).hex()


class HttpSession(BlockSession):
    """The blocks of one thread. To be used by it alone; `abandon` is for the others."""

    def __init__(self, asking: ServerAsking) -> None:
        super().__init__(asking.shown)
        self.asking = asking
        self._block: Optional[bytes] = None             # what the server calls it, once it has begun there
        self._waiting: List[List[Any]] = []             # verbs that were not sent yet
        self._size = self._scalars = 0                  # of what they hold
        self._flushed = 0                               # how often they were sent
        self._nested = 0                                # blocks in the outermost that the server has open
        self._marks: List[Tuple[int, int]] = [(0, 0)]   # of each block: how often, and how many waited, when it began

    # --- verbs ---

    def put(self, key: Any, data: bytes) -> None:
        """Have an entry put, at the latest when the block ends."""
        self._require()
        if not self._waiting or self._waiting[-1][0] != PUT_VERB:
            self._waiting.append([PUT_VERB])
        self._waiting[-1] += key, data
        self._note(len(data) + (len(key) if isinstance(key, (str, bytes)) else 8), 2)

    def later(self, *operation: Any) -> None:
        """Have a verb done that has no result, as `put` does."""
        self._require()
        self._waiting.append([*operation])
        self._note(sum(len(part) for part in operation if isinstance(part, (str, bytes))), len(operation))

    def _note(self, size: int, scalars: int) -> None:
        self.wrote = True
        self._size += size
        self._scalars += scalars
        if self._size > BYTES_OF_REQUEST or self._scalars > SCALARS_WAITING:
            self._send([])

    def ask(self, *operation: Any, seconds: float = ANSWER_PATIENCE) -> Any:
        """Return the result of a verb, behind all that waits."""
        self._require()
        return self._send([operation], seconds)[-1]

    def _require(self) -> None:
        if self.owner is not None:
            self.owner.require()
        if self.lost is not None:
            raise self.lost

    def _send(self, more: List[Operation], seconds: float = ANSWER_PATIENCE) -> List[Any]:
        """Send what waits, and more. Raises errors of ours alone."""
        first: List[Operation] = [] if self._block else [('begin',)]
        if self._block is None:
            self._block = os.urandom(BLOCK_NAME)
        operations = [*first, *map(tuple, self._waiting), *more]
        try:
            results = self.asking.ask(operations, new_key(), self._block, seconds)
        except RefusedVerb as refused:
            if not more or refused.at < len(operations) - len(more):
                raise self.lose(refused.error) from None
            self._sent()
            raise refused.error from None
        except BaseException as error:
            why = VaultUnreachableError(f'the connection was lost inside a block, of which nothing was kept: {error!r}'
                                        f': vault {self.name}; leave the block, and repeat it')
            if isinstance(error, VaultError) and not isinstance(error, ConnectionError):
                raise self.lose(error) from None
            self.lose(why)
            if isinstance(error, ConnectionError):
                raise self.lost or why from error
            raise
        self._sent()
        return results

    def _sent(self) -> None:
        self._nested += sum(STEPS_OF_VERBS.get(verb, 0) for verb, *_ in self._waiting)
        self._waiting.clear()
        self._size = self._scalars = 0
        self._flushed += 1

    # --- blocks ---

    def nest(self, who: object) -> None:
        self.require_room()
        if self.lost is not None:
            raise self.lost
        self._marks.append((self._flushed, len(self._waiting)))
        self.enter(who)
        self._waiting.append([NEST_VERB])

    def release(self, depth: int) -> None:
        self._require()
        self._waiting.append([RELEASE_VERB])
        self.leave(depth)

    def undo(self, depth: int) -> None:
        """Undo the blocks from `depth` on, none of which is the outermost; the server hears of it with what is next."""
        self.epochs.undo(depth)
        if depth < len(self.blocks):
            flushed, count = self._marks[depth]
            if flushed < self._flushed:  # those around it are known as well: what is open beyond them is undone
                self._waiting = [[UNDO_VERB] for _ in range(self._nested - depth + 1)]
            else:
                del self._waiting[count:]
        self.leave(depth)

    def leave(self, depth: int) -> None:
        super().leave(depth)    # first: an interrupt may come between, and a block has its mark as long as it is open
        del self._marks[max(depth, 1):]

    def commit(self) -> None:
        """Make all of it durable, with what waits."""
        self._require()
        key = new_key()
        if self._block is not None:
            operations: List[Operation] = [*map(tuple, self._waiting), ('commit',)]
        else:
            operations = [tuple(one) for one in self._waiting if one[0] not in (NEST_VERB, RELEASE_VERB)]
        if not operations:
            return
        try:
            self.asking.ask(operations, key, self._block)
        except RefusedVerb as refused:
            raise refused.error from None
        self._block = None  # only now: what was refused before it met the block has left that open, for `part` to end

    def part(self) -> None:
        """Have the server undo what it knows of; where it does not hear of it, it does when the block is idle."""
        block, self._block = self._block, None
        if block is None or self.asking.pool.is_closed:
            return
        try:
            self.asking.once(packed_request(block, None, [('rollback',)]), PARTING)
        except (UnsentError, LostAnswerError):
            return


class WithHttpBlocks(SessionStore[HttpSession]):
    """The part of the store that has blocks. Safe in any thread."""

    def __init__(self, asking: ServerAsking) -> None:
        super().__init__()
        self.asking, self.name = asking, asking.shown

    def open_block(self, who: object) -> None:
        if self.is_closed:
            raise self.closed_error()
        session = HttpSession(self.asking)
        session.require_room()
        self.begun(session, who)

    def commit_block(self, session: HttpSession) -> None:
        session.commit()
        self.end(session)

    def undo_blocks(self, session: HttpSession, depth: int) -> None:
        self.deletions += 1
        if depth:
            session.undo(depth)
            return
        session.epochs.undo(0)
        try:
            session.part()
        finally:
            self.end(session)

    def close(self) -> None:
        for session in self.open_sessions():
            session.part()
        super().close()
        self.asking.pool.close()

    def forked(self) -> None:
        super().forked()
        self.asking.pool.forget()
