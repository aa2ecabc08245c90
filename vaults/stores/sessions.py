"""Sessions: blocks that belong to a thread each, in a store whose threads work at the same time. Knows no entries.

A block belongs to the thread and, where an event loop runs, to the task that began it. What a thread has open is its
session: which blocks, one in the other. An engine says how the outermost begins and ends, and how one in it does; which
one it is that ends, and what is done about one that ends in the wrong thread, task or order, is said here.

The rules are those of LockedStore, which has one block for all threads.
"""
from __future__ import annotations

import threading
from _thread import get_ident
from abc import abstractmethod
from weakref import WeakSet

from .._typing import Generic
from ..errors import VaultError, VaultTaskError
from . import blocks
from .base import Store
from .forks import each_in_child, those_in
from .tasks import Owner, may_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, Optional, Tuple, TypeVar

    from ..errors import VaultClosedError

    T = TypeVar('T')
    Its = TypeVar('Its', bound='BlockSession')  # the sessions of an engine
else:
    Its = object

_session_stores: WeakSet[SessionStore[BlockSession]] = WeakSet()


class BlockSession:
    """The blocks of one thread. To be used by it alone; `abandon` is for the others."""

    def __init__(self, name: str) -> None:
        self.name, self.thread = name, get_ident()
        self.blocks: List[object] = []      # who began each, the outermost first
        self.epochs = blocks.Epochs()
        self.owner: Optional[Owner] = None  # the task whose they are
        self.lost: Optional[VaultError] = None          # why all of it is undone already
        self.is_left = False                # whether another thread has ended it, so that nobody else will
        self.wrote = False

    def nest(self, who: object) -> None:
        """Begin a block in the innermost one. Raises: also when an interrupt comes, and then has begun nothing."""
        raise NotImplementedError

    def release(self, depth: int) -> None:
        """Make what the block at `depth`, the innermost, has done part of what is around it."""
        raise NotImplementedError

    def require_room(self) -> int:
        """Return how many blocks are open. Raises: when another may not begin in them."""
        blocks.make_room()
        if self.owner is not None:
            self.owner.require()
        if len(self.blocks) > blocks.MAX_NESTED:
            raise blocks.too_deep(self.name)
        return len(self.blocks)

    def enter(self, who: object) -> None:
        self.blocks.append(who)

    def leave(self, depth: int) -> None:
        """Have no blocks from `depth` on."""
        del self.blocks[depth:]
        self.epochs.leave(depth)
        if self.owner is not None and depth <= self.owner.depth:
            self.owner = None

    def lose(self, why: VaultError) -> VaultError:
        """Have all of it undone, and return why it is: another thread may have said so meanwhile."""
        if self.lost is None:
            self.lost = why
        return self.lost

    def abandon(self, why: VaultError, is_left: bool = False) -> None:
        """Have all of it undone, from another thread: this one is told at its next call."""
        self.lost, self.is_left = why, is_left
        self.epochs.undo(0)

    def place(self, who: object) -> Tuple[int, bool]:
        """Return how many blocks are around that of `who`, and whether it is there: -1 when it is not."""
        for depth in range(len(self.blocks) - 1, -1, -1):
            if self.blocks[depth] is who is not None:
                return depth, True
        # A frame that nobody knows is that of a stack, or of a subclass's method: it ends the innermost.
        return (len(self.blocks) - 1 if who is None or type(who) is blocks.FRAME_TYPE else -1), False


class OfThread(threading.local, Generic[Its]):
    """What a thread has open, and what is still to be told to its functions."""

    session: Optional[Its] = None
    seen = b''      # of others' writes, where an engine asks for them

    def __init__(self) -> None:
        self.orphans: List[object] = []     # who began blocks that an older one took along
        self.inherited: List[object] = []   # who began those that were open when this child was forked


class SessionStore(Store, Generic[Its]):
    """The part of a store that has blocks. Safe in any thread."""

    name: str
    is_closed = False

    if not TYPE_CHECKING:
        def __class_getitem__(cls, _):
            return cls

    def __init__(self) -> None:
        self.deletions = 0
        self.local: OfThread[Its] = OfThread()
        self.sessions: WeakSet[Its] = WeakSet()
        _session_stores.add(self)  # type: ignore[arg-type]  # whatever its sessions are

    # --- what an engine says ---

    @abstractmethod
    def open_block(self, who: object) -> None:
        """Begin the outermost block, in a session that this thread has from then on."""

    @abstractmethod
    def commit_block(self, session: Its) -> None:
        """Make the outermost block durable, and end its session."""

    @abstractmethod
    def undo_blocks(self, session: Its, depth: int) -> None:
        """Undo the blocks from `depth` on; the outermost ends its session."""

    # --- blocks ---

    @property
    def session(self) -> Optional[Its]:
        """What this thread has open. Raises: why it is undone already; once, where nobody else would end it."""
        session = self.local.session
        if session is not None and session.lost is not None:
            if session.is_left:
                self.end(session)
            raise session.lost
        return session

    def begun(self, session: Its, who: object) -> None:
        """Have the thread in a session, whose outermost block has begun."""
        session.enter(who)
        self.sessions.add(session)
        self.local.session = session

    def end(self, session: Its) -> None:
        """Have no block open."""
        self.local.session = None
        session.leave(0)

    def open_sessions(self) -> List[Its]:
        """Return those of all threads."""
        return those_in(self.sessions)

    def begin(self, who: object = None) -> None:
        session = self.session
        depth = 0 if session is None else len(session.blocks)
        try:
            if session is not None:
                session.nest(who)
            else:
                self.open_block(who)
            session = self.local.session
            if may_run() and session is not None and session.owner is None:
                session.owner = Owner.now(depth, self.name)
        except BaseException:
            session = self.local.session
            if session is not None and len(session.blocks) > depth:
                self.undo_blocks(session, depth)
            raise

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
                    self.commit_block(session)
        except BaseException as error:
            self._broken_off(who, depth, error)
            raise

    def rollback(self, who: object = None) -> None:
        depth = -1
        try:
            session, depth, problem = self._place(who)
            if session is not None:
                self.undo_blocks(session, depth)
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
            self.undo_blocks(session, depth)
        elif not isinstance(error, VaultError):
            self.undo_blocks(session, max(session.place(who)[0], 0))

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

    # --- which block it is that ends ---

    def _place(self, who: object) -> Tuple[Optional[Its], int, Optional[VaultError]]:
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

    def _refusal(self, session: Its, depth: int) -> Optional[VaultError]:
        if depth < len(session.blocks) - 1:
            self.local.orphans += [one for one in session.blocks[depth + 1:] if one is not None]
            return blocks.out_of_order(self.name)
        return (session.owner.refused_end() if session.owner is not None else None) or session.lost

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
            self.undo_blocks(session, 0)

    def refuse_others(self) -> None:
        session = self.local.session
        if session is not None and session.owner is not None and not session.owner.is_left():
            session.owner.require()

    def closed_error(self) -> VaultClosedError:
        return blocks.closed(self.name)

    def require_outside(self, verb: str) -> None:
        """Raise when what cannot run inside a block is called in one of this thread, or when it is closed."""
        if self.is_closed:
            raise self.closed_error()
        if self.local.session is not None:
            raise blocks.inside(verb, self.name)

    def close(self) -> None:
        """Whoever has a block open finds it undone."""
        self.is_closed = True
        self.deletions += 1  # a walk looks again, and finds it closed
        for session in self.open_sessions():
            if session.lost is None and session.blocks:
                session.abandon(self.closed_error())

    def forked(self) -> None:
        """Begin anew in a forked child: the blocks are the parent's."""
        session, inherited = self.local.session, self.local.inherited
        self.local = OfThread()
        self.local.inherited = [*inherited, *(session.blocks if session is not None else ())]
        if session is not None:
            session.epochs.undo(0)
        self.sessions = WeakSet()
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


each_in_child(_session_stores, lambda store: store.forked())
